"""`jax-lstm trace`: the files that it writes and reads, and bad input."""

import json
import re
import shlex
import shutil

import numpy as np
import pytest

from tests.teaching.kit import GRAPH, PAGE, SIZE, bring, put_nan, status

# Files ----------------------------------------------------------------------------------------


def test_json_and_csv_hold_every_number_in_full(runs, tmp_path):
    files = tmp_path / "t.json", tmp_path / "t.csv"
    size = ",".join(map(str, SIZE))
    assert status(
        *("--example", "random", "--size", size, "--seed", 3, "--json", files[0], "--csv", files[1])
    ) == 0  # fmt: skip
    (found,), traced = json.loads(files[0].read_text())["runs"], runs["random"][0].traced
    for part in ("forward", "backward", "gradients"):
        for k, x in getattr(traced, part).items():
            np.testing.assert_array_equal(np.asarray(found[part][k]), np.asarray(x))
    forks = {s["name"]: s["branches"] for s in found["stages"] if "branches" in s}
    assert forks["dc"] == ["dc_from_h", "dc_from_next"]
    lines = files[1].read_text().strip().split("\n")
    assert len(lines) == 1 + sum(np.size(s.value) for s in traced.stages)
    value = float(np.asarray(traced.backward["dc"])[1, 1, 2])
    assert any(f",backward,1,dc,[1][2],dc_from_h + dc_from_next,{value!r}" in x for x in lines)


@pytest.mark.parametrize("layout", ["ours", "torch"])
def test_a_network_of_ones_own(runs, layout, tmp_path, capsys):
    (run,) = runs["random"]
    params, given = bring(run.problem, layout, tmp_path)
    assert status("--params", params, "--input", given, "--row", 1) == 0
    printed = capsys.readouterr().out
    assert f"params.npz, lstm, layout {layout}" in printed
    assert "Of 2 examples, example 1 is shown" in printed
    assert printed.split("step 1.")[1] == (run.table(1) + "\n").split("step 1.")[1]


def test_nan_is_shown_and_marked(runs, tmp_path, capsys):
    params, given = bring(runs["random"][0].problem, "ours", tmp_path, put_nan)
    assert status("--params", params, "--input", given, "--json", tmp_path / "n.json") == 2
    out, err = capsys.readouterr()
    assert "NaN: x[0][2] at t=1, forward. Every number that it reaches is marked." in out
    assert "NaN: x[0][2] at t=1, forward" in err
    before, after = out.split("forward, t = 1")
    assert "<-- NaN" not in before
    lines = after.split("\n")
    assert all("<-- NaN" in x for x in lines if re.search(r"= nan( |$)|= \[.*nan", x))
    assert sum("<-- NaN" in x for x in lines) > 50
    found = json.loads((tmp_path / "n.json").read_text())["runs"][0]
    assert found["forward"]["x"][1][0][2] == "NaN"
    assert isinstance(found["forward"]["c"][0][0][0], float)


# Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--example", "random", "--size", "0,1,2,2"], "T=0"),
        (["--example", "random", "--size", "3,1,2"], "four whole numbers"),
        (["--example", "random", "--size", "3,1,2,x"], "four whole numbers"),
        (["--example", "random", "--size", "30,2,4,5"], "too large to print"),
        (["--example", "random", "--size", "30,2,4,5"], "--csv FILE"),
        (["--example", "random", "--size", "9999,1,99,999"], "a trace keeps at most 5,000,000"),
        (["--example", "random", "--size", "5,1,2,1", "--svg", "{}/a.svg"], "4 steps, 3 inputs"),
        (["--example", "mazur", "--svg", "{}/a.svg"], "whose graph is of any example"),
        (["--example", "coursera", "--svg", "{}/a.svg"], "pass --html FILE"),
        (["--svg", "{}/a.png"], "name it .svg"),
        (["--json", "{}/no/such/folder.json"], "cannot be written"),
        (["--json", "{}"], "cannot be written"),
        (["--json", "{}/kept.json"], "--force"),
        (["--example", "gomez", "--size", "3,1,2,2"], "--size"),
        (["--example", "gomez", "--params", "{}/kept.json"], "leave --example"),
        (["--params", "{}/nothing.json"], "is no file"),
        (["--params", "{}/kept.json"], "no JSON"),
        (["--params", "{}/empty.npz"], "size 0"),
        (["--params", "{}/half.json"], "lacks"),
        (["--example", "gomes"], "invalid choice"),
        (["--row", "1"], "`row` must be an example of the batch, 0 to 0"),
        (["--mutant", ""], "no mistake ''"),
        (["--mutant", "1 - f", "--row", "0"], "leave --row out"),
        (["--seed", "3"], "--seed belongs to --example random"),
        (["--layout", "torch"], "--layout belongs to --params"),
        (["--cell", "elman"], "--cell belongs to --example random or --params"),
        (["--json", "{}/a.json", "--csv", "{}/a.json"], "must name different files"),
        (["--params", ""], "is no file"),
        (["--params", "{}/list.json"], "list.json must hold arrays by name; got list"),
        (["--params", "{}/torch.json", "--input", "{}/keras.json"], "two layouts, keras and torch"),
    ],
)
def test_bad_input_is_exit_status_2(runs, arguments, says, tmp_path, capsys):
    kept = tmp_path / "kept.json"
    kept.write_text("mine")
    whole = {k: x.tolist() for k, x in runs["random"][0].problem.params.items()}
    (tmp_path / "half.json").write_text(json.dumps({"problem": whole}))
    (tmp_path / "list.json").write_text('{"problem": [1, 2]}')
    for layout in ("torch", "keras"):
        (tmp_path / f"{layout}.json").write_text(json.dumps({"layout": layout, "problem": whole}))
    np.savez(tmp_path / "empty.npz", **whole, xs=np.zeros((0, 2, 4)), dhs=np.zeros((0, 2, 5)))
    assert status(*(x.format(tmp_path) for x in arguments)) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.out == ""
    assert kept.read_text() == "mine"


def test_force_writes_over_a_file(tmp_path, capsys):
    file = tmp_path / "kept.json"
    file.write_text("mine")
    assert status("--json", file, "--force") == 0
    assert json.loads(file.read_text())["runs"][1]["title"].startswith("Gomez")


def test_what_is_too_large_to_print_is_written_all_the_same(tmp_path, capsys):
    file = tmp_path / "t.csv"
    assert status("--example", "random", "--size", "30,2,4,5", "--csv", file) == 0
    said = capsys.readouterr()
    assert "too large to print" in said.err
    assert said.out == ""
    assert len(file.read_text().split("\n")) > 10_000


def test_without_matplotlib_the_picture_is_a_clear_message(monkeypatch, tmp_path, capsys):
    found = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *a: None if name == "matplotlib" else found(name, *a),
    )
    assert status("--svg", tmp_path / "a.svg") == 2
    assert "pip install 'jax_lstm[experiments]'" in capsys.readouterr().err
    assert not (tmp_path / "a.svg").exists()


# docs/trace.md --------------------------------------------------------------------------------


def test_the_page_s_commands_run_where_the_files_are_already(tmp_path, monkeypatch, capsys):
    commands = re.findall(r"`\.venv/bin/python -m jax_lstm trace( [^`]*)?`", PAGE.read_text())
    assert any("--svg docs/gomez.svg" in command for command in commands)
    (tmp_path / "docs").mkdir()
    shutil.copy(GRAPH, tmp_path / "docs")
    monkeypatch.chdir(tmp_path)
    for command in commands:
        assert status(*shlex.split(command)) == 0
