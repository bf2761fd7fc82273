"""The trace in a terminal: as wide as it is, and of what is asked for."""

import re

import numpy as np
import pytest

from jax_lstm.teaching import beside, paper
from tests.teaching.kit import bring, put_nan, status


def words(text):
    """Without blanks: where a line ends does not matter."""
    return "".join(text.split())


@pytest.fixture
def columns(monkeypatch):
    """Say how wide the terminal is."""

    def say(n):
        monkeypatch.setenv("COLUMNS", str(n))
        monkeypatch.setenv("LINES", "24")

    return say


# Width ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 100, 120])
@pytest.mark.parametrize("example", ["gomez", "coursera", "mazur", "wildml", "random", "elman"])
def test_no_line_is_wider_than_the_terminal_and_no_word_is_lost(runs, example, width):
    for run in runs[example]:
        text = run.table(0, paper.Page(width))
        assert max(map(len, text.split("\n"))) <= width
        assert words(text) == words(run.table(0))


def test_the_command_asks_the_terminal(runs, columns, capsys):
    columns(72)
    assert status("--example", "wildml") == 0
    printed = capsys.readouterr().out
    assert printed == runs["wildml"][0].table(0, paper.Page(72)) + "\n"
    columns(20)
    assert status("--example", "wildml") == 0
    assert capsys.readouterr().out == runs["wildml"][0].table(0, paper.Page(60)) + "\n"


def test_lines_go_on_indented_and_values_keep_their_column(runs):
    lines = runs["wildml"][0].table(0, paper.Page(60)).split("\n")
    start = lines.index("forward, t = 0")
    values = {line.rindex(" = ") for line in lines[start:] if re.search(r" {2,}= \S+$", line)}
    assert values == {60 - paper.VALUES + 2}
    heads = [x for x in lines[start:] if x and x[0] != " "]
    assert all(re.match("forward|backward|over time|loss", x) for x in heads)
    stages = [x for x in lines[start:] if re.match(r" {2}\S", x)]
    assert all(re.match(r"  \w+( = |$)", x) for x in stages)


def test_what_others_printed_stands_below_where_it_is_too_long(runs):
    lines = runs["gomez"][0].table(0, paper.Page(75)).split("\n")
    at = lines.index("        Gomez: a_0 = 0.81775")
    assert lines[at - 1].endswith("= 0.81775")
    wide = runs["gomez"][0].table(0, paper.Page(90))
    found = {line.index("Gomez: ") for line in wide.split("\n") if " Gomez: " in line}
    assert found == {90 - len("Gomez: state_0 = 0.78572")}


def test_nan_is_marked_within_the_width(runs, tmp_path, columns, capsys):
    columns(60)
    params, given = bring(runs["random"][0].problem, "ours", tmp_path, put_nan)
    assert status("--params", params, "--input", given) == 2
    lines = capsys.readouterr().out.split("\n")
    assert max(map(len, lines[2:])) <= 60  # the first is the file's name
    marked = [x for x in lines if "<-- NaN" in x]
    assert len(marked) > 50
    assert all("<-- NaN" in x for x in lines if re.search(r"= nan( |$)|= \[.*nan", x))


@pytest.mark.parametrize("mistake", ["dc not carried", "forget offset"])
def test_truth_and_mistake_fit_too(mistake, columns, capsys):
    columns(60)
    assert status("--mutant", mistake) == 0
    narrow = capsys.readouterr().out
    assert max(map(len, narrow.split("\n"))) <= 60
    columns(100)
    assert status("--mutant", mistake) == 0
    wide = capsys.readouterr().out
    assert words(narrow) == words(wide).replace("FIRSTDIFFERENCE", "FIRST")


# A part ---------------------------------------------------------------------------------------


def told(text):
    """(part, t, name) of every stage on a page."""
    part, t = "", None
    for line in text.split("\n"):
        head = re.fullmatch(r"(forward|backward|over time)(?:, t = (\d+)|: .*)?", line)
        stage = re.match(r"  (\w+)( = |$)", line)
        if head:
            part, t = head[1], int(head[2]) if head[2] else None
        elif stage:
            yield part, t, stage[1]


@pytest.mark.parametrize(
    "asked",
    [
        {"steps": (1,)},
        {"names": ("c", "dc", "dW_f")},
        {"parts": ("over time",)},
        {"parts": ("forward", "backward"), "steps": (0, 2)},
        {"parts": ("backward",), "steps": (2,), "names": ("dc", "dh")},
    ],
    ids=str,
)
def test_a_part_is_the_lines_of_the_whole(runs, asked):
    (run,), page = runs["random"], paper.Page(**asked)
    whole, text = run.table(1), run.table(1, page)
    parts, steps, names = (asked.get(k) for k in ("parts", "steps", "names"))
    want = [
        (part, t, name)
        for part, t, name in told(whole)
        if (not parts or part in parts) and (not steps or t in steps)
        if not names or name in names
    ]
    assert list(told(text)) == want
    assert want
    title, _, said, *lines = text.split("\n")
    assert title == run.title
    assert said == "Of 2 examples, example 1 is shown; weights add up all of them."
    assert set(lines) <= set(whole.split("\n"))


def test_the_command_shows_a_part(columns, capsys):
    assert status("--example", "coursera", "--step", "2,3", "--stage", "c, dc") == 0
    assert list(told(capsys.readouterr().out)) == [
        *(("forward", t, "c") for t in (2, 3)),
        *(("backward", t, "dc") for t in (3, 2)),
    ]
    assert status("--part", "over-time", "--stage", "dU_i") == 0
    out = capsys.readouterr().out
    assert list(told(out)) == [("over time", None, "dU_i")] * 2
    assert "loss" not in out


def test_a_part_of_truth_and_mistake(runs, columns, capsys):
    columns(100)
    assert status("--mutant", "dc not carried", "--step", 0, "--stage", "dc,da_i") == 0
    out = capsys.readouterr().out
    shown = re.findall(r"^  (\w+) ", out, re.M)
    assert shown == ["dc", "da_i"] * 2
    assert out.count("dc not carried: the fork at c dropped") == 2
    got = beside.put_beside(runs["gomez"][0].problem, "lstm", "dc not carried")
    assert got.sentence() in out


def test_a_part_of_what_is_too_large_to_print_whole(tmp_path, capsys):
    file = tmp_path / "t.csv"
    large = "--example", "random", "--size", "30,2,4,5"
    assert status(*large, "--step", 29, "--csv", file) == 0
    out = capsys.readouterr().out
    assert {t for _, t, _ in told(out)} == {29}
    whole = tmp_path / "w.csv"
    assert status(*large, "--csv", whole) == 0
    assert file.read_text() == whole.read_text()  # files are whole


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--stage", "dq"], "--stage dq: no such stage here; there are: x, h_prev, c_prev, a_g, g"),
        (["--stage", "c,"], "--stage : no such stage here"),
        (["--step", "2"], "--step 2: no such step here; there are: 0, 1"),
        (["--step", "1,x"], "must be a whole number >= 0; got 'x'"),
        (["--step", "-1"], "--step"),
        (
            ["--part", "sums"],
            "--part sums: no such part here; there are: forward, backward, over t",
        ),
        (
            ["--part", "forward", "--stage", "dc"],
            "together leave nothing to show; dc is in backward",
        ),
        (["--part", "over time", "--step", "1"], "what is in over time has no step"),
        (["--example", "mazur", "--step", "0"], "--step 0: no such step here; there are: none"),
        (
            ["--mutant", "1 - f", "--stage", "dh_prev"],
            "no such stage here; there are: dh, dc, da_i",
        ),
    ],
)
def test_what_is_not_there_is_exit_status_2(arguments, says, capsys, tmp_path):
    file = tmp_path / "t.json"
    assert status(*arguments, "--json", file) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.out == ""
    assert not file.exists()


def test_what_is_asked_for_may_stand_in_one_run_alone():
    lines = [("forward", 0, "c"), ("over time", None, "dW")]
    paper.check_shown(paper.Page(names=("dW",)), lines)
    with pytest.raises(ValueError, match=r"there are: 0$"):
        paper.check_shown(paper.Page(steps=(np.int64(3),)), lines)
