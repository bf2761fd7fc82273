"""The cells beside each other: a run, one that goes on, and the page that is made of it."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

import jax_lstm as jl
from experiments.kit import checkpoints, record
from experiments.kit.config import BadInput
from experiments.zoo import adding, page, words
from experiments.zoo import run as zoo

ROOT = Path(__file__).parents[2]


def test_the_adding_problem():
    """Two marks, one in each half; the answer is the sum of what they mark."""
    xs, sums = adding.draw(jax.random.key(0), 9, 200)
    numbers, marks = np.moveaxis(np.asarray(xs), -1, 0)
    assert (marks[:4].sum(0) == 1).all()
    assert (marks[4:].sum(0) == 1).all()
    np.testing.assert_array_equal((numbers * marks).sum(0), sums)
    assert abs(np.var(sums) - adding.GUESS) < 0.03
    assert not np.array_equal(xs, adding.draw(jax.random.key(1), 9, 200)[0])


@pytest.mark.slow
def test_a_run_goes_on_and_makes_a_page(tmp_path, capsys):
    """The parts of a run in two calls; nothing is done twice, and it learns."""
    config = dataclasses.replace(zoo.Config.tiny(), results=str(tmp_path), run="tiny")
    directory = tmp_path / "zoo" / "tiny"
    with jax.enable_x64(False):
        zoo.run(dataclasses.replace(config, parts="cost"))
        goes_on = zoo.Config(resume=str(directory), cells=config.cells)
        summary = zoo.run(goes_on)
    assert {path.name for path in directory.iterdir()} == {
        *("config.json", "metrics.jsonl", "summary.json", "learning.png")
    }
    assert record.read_json(directory / "summary.json") == json.loads(json.dumps(summary))
    lines = record.read_lines(directory / "metrics.jsonl")
    for name in ("elman", "min_gru"):
        mine = [line for line in lines if line["cell"] == name]
        kinds = [line["kind"] for line in mine]
        assert kinds.count("cost") == 1
        assert [line["step"] for line in mine if line["kind"] == "judged"] == [20, 40, 60]
        assert len(summary["cells"][name]["error"]) == 2
        assert summary["cells"][name]["temp_bytes"]["hand"] > 0
    assert max(summary["cells"]["elman"]["error"]) < adding.GUESS
    assert zoo.run(goes_on) == summary
    capsys.readouterr()
    zoo.run(zoo.Config(page=str(directory)))
    assert capsys.readouterr().out == page.of_run(directory)


def test_a_folder_that_cannot_go_on(tmp_path):
    """One that is none, and one that another run writes in."""
    resume = zoo.Config(resume=str(tmp_path))
    with pytest.raises(BadInput, match="argument --resume: cannot read"):
        zoo.run(resume)
    asked = dataclasses.asdict(zoo.Config.tiny())
    record.write_json(tmp_path / "config.json", {"experiment": "zoo", "config": asked})
    with checkpoints.locked(tmp_path), pytest.raises(BadInput, match="another run is writing"):
        zoo.run(resume)


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"cells": "lstm,none"}, "argument --cells: there is no cell 'none'"),
        ({"size": "1,2,3"}, "argument --size: must be four whole numbers"),
        ({"time": 1}, "argument --time: must be >= 2"),
        ({"parts": "all"}, "argument --parts: must be of cost, training; got 'all'"),
    ],
)
def test_bad_input(asked, match):
    with pytest.raises(BadInput, match=match):
        zoo.Config(**asked)


def test_every_cell_has_words_equations_and_a_count():
    """What stands on the page follows from the records, and the counts are those of arrays."""
    assert set(words.USES) == set(jl.CELLS)
    assert set(words.EQUATIONS) <= set(jl.CELLS)
    assert page.count(jl.LSTM) == "4DH + 4H² + 4H"
    for name, cell in jl.CELLS.items():
        assert "(1)" in page.equations(cell), name
        assert page.source(cell).endswith("."), name


def test_the_page_in_docs_is_the_run_s():
    """docs/zoo.md is made by a command, of the numbers that are committed."""
    directory = Path("experiments/results/zoo/two_cores")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert (ROOT / "docs" / "zoo.md").read_text() == page.of_run(directory)
