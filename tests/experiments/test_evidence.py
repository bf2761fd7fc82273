"""The rows of evidence: added seed by seed, read back, and made into the page that is committed."""

import dataclasses
import statistics
from dataclasses import dataclass
from pathlib import Path

import pytest

from experiments import evidence as page
from experiments.kit import evidence, record
from experiments.kit.config import BadInput, Count, Failed, OptionalFile, TrainingConfig

ROOT = Path(__file__).parents[2]
ROW = evidence.Row("all of it", "accuracy, %", "higher", 10.0, "one class in ten", bar=90.0)


@dataclass(frozen=True)
class Toy(TrainingConfig):
    """The options of toy."""

    seeds: Count = 3
    """networks"""
    data: OptionalFile = None
    """a file"""
    wide: bool = False
    """a switch"""


def add(config, value, row=ROW, **more):
    return evidence.add(config, "toy", "Does it?", row, value, 0.5, ("data",), **more)


def test_seeds_are_added_one_by_one_and_replaced(tmp_path):
    """One by one, in any order and again; words are the last ones; a switch is another file."""
    config = Toy(results=str(tmp_path), run="a", data="here.csv")
    ones = list(evidence.each_seed(config))
    assert [(c.seed, c.seeds, c.run) for c in ones] == [
        (0, 3, "a_seed0"),
        (1, 2, "a_seed1"),
        (2, 1, "a_seed2"),
    ]
    left = list(evidence.each_seed(dataclasses.replace(ones[1], resume="there", force=True)))
    assert [(c.seed, c.seeds, c.run, c.resume) for c in left] == [
        (1, 2, "a_seed1", "there"),
        (2, 1, "a_seed2", None),
    ]
    for one, value in zip([*ones[::-1], ones[1]], (93.0, 10.0, 90.5, 91.0), strict=True):
        path = add(one, value, error=0.25)
    path = add(ones[0], 0.3, ROW._replace(name="chance", bar=50.0, published=0.5, source="Aye"))
    assert path == tmp_path / "evidence" / "toy.json"
    file = evidence.read(path)
    assert file["command"] == "python -m experiments.toy --data DATA"
    for one in (ones[1], ones[0], ones[2]):  # the lowest seed's stays
        (tmp_path / "drawn.png").write_text(f"seed {one.seed}")
        evidence.add_picture(one, path, "curves", tmp_path / "drawn.png")
    assert path.with_suffix(".curves.png").read_text() == "seed 0"
    first, second = file["rows"]
    assert [(v["seed"], v["value"], v["error"]) for v in first["values"]] == [
        (0, 90.5, 0.25),
        (1, 91.0, 0.25),
        (2, 93.0, 0.25),
    ]
    mean, deviation, n = evidence.spread(first)
    assert (mean, n) == (91.5, 3)
    assert deviation == pytest.approx(statistics.stdev([90.5, 91, 93]))
    assert evidence.spread(second) == (0.3, None, 1)
    assert (evidence.is_met(first), evidence.is_met(second)) == (True, False)
    assert evidence.is_met(first | {"better": "lower"}) is False
    assert evidence.is_met(first | {"bar": None}) is None
    other = add(dataclasses.replace(ones[0], wide=True, dispatch=2), 1.0)
    assert other.stem.startswith("toy-")
    assert evidence.read(other)["command"] == "python -m experiments.toy --data DATA --wide"
    assert [path for path, _ in evidence.read_all(tmp_path)] == [other, path]


def test_what_is_no_number_and_what_is_no_file(tmp_path):
    config = Toy(results=str(tmp_path))
    with pytest.raises(Failed, match="toy, all of it, seed 0: accuracy, % is nan"):
        add(config, float("nan"))
    path = add(config, 1.0)
    record.write_json(path, [1])
    with pytest.raises(BadInput, match=r"--results: .*toy\.json is no file of evidence"):
        add(config, 1.0)
    path.write_text("{")
    with pytest.raises(SystemExit) as ended:
        page.main(["--results", str(tmp_path)])
    assert ended.value.code == 2


def test_the_table_the_page_and_the_picture(tmp_path, capsys):
    config = Toy(results=str(tmp_path))
    for one in evidence.each_seed(config):
        path = add(one, 80.0 + one.seed, error=0.5)
    path.with_suffix(".md").write_text("What was tried: " + "much, " * 40 + "in vain.\n")
    path.with_suffix(".roc.png").write_bytes(b"")
    assert page.main(["--results", str(tmp_path), "--figures"]) == 0
    said = capsys.readouterr().out
    for cell in (
        "toy: all of it; accuracy, %",
        "81.000 ± 1.000 (3), each ± 0.500",
        "≥ 90.000",
        "NO",
        "1.5",
    ):
        assert cell in said
    text = page.page(tmp_path)
    assert (
        "| [toy](#toy): all of it; accuracy, % | none | 10.000 | 81.000 ± 1.000 (3), each" in text
    )
    assert "`python -m experiments.toy --seeds 3` | 1.5 |" in text
    assert "Nothing published. Floor: one class in ten." in text
    assert "in vain." in text
    assert text.index("evidence/toy.png)") < text.index("evidence/toy.roc.png)")
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit) as ended:
        page.main(["--results", str(tmp_path / "none")])
    assert ended.value.code == 2


def test_the_page_in_docs_is_made_of_the_committed_rows():
    """docs/evidence.md is `python -m experiments.evidence --write`; a row that lacks seeds says so
    in place of whether its bar is met."""
    results = ROOT / "experiments" / "results"
    text = page.page(results)
    assert (ROOT / "docs" / "evidence.md").read_text() == text
    for path, file in evidence.read_all(results):
        assert path.with_suffix(".png").exists(), path
        for row in file["rows"]:
            (line,) = (
                line
                for line in text.splitlines()
                if line.startswith(
                    f"| [{path.stem}](#{path.stem}): {row['name']}; {row['metric']} |"
                )
            )
            n = len(row["values"])
            assert (f"| {n} of 3 seeds |" in line) == (n < 3)
