"""Every printed equation, of every example and row: read from the page and evaluated in full."""

import re
from typing import NamedTuple

import numpy as np
import pytest

from jax_lstm.teaching import equations, paper
from tests.tables import assert_close
from tests.teaching.kit import digits

NUMBER = r"-?\d[\d.]*(?:e[+-]\d+)?"
KINDS = {  # how a line begins; the first that fits
    "heading": r"(forward|backward|over time)(?:, t = (\d+)|: .*)?$",
    "grid": rf" {{4}}(?:\[\d+\]| {{3}}) *(?: +{NUMBER})+$",
    "stage": r" {2}\w",
    "element": r" {4}(?:\[\d+\])+ ",
    "more": r" {4}\.\.\. \d+ numbers; --json and --csv have them all$",
    "fork": r" {6}FORK: ",
    "without": r" {8}without ",
    "empty": r"$",
}


class Said(NamedTuple):
    """What a page says of a stage: the texts between the signs `=` of its line, and what follows.

    elements: {place: (numbers, value)}. grid: numbers in rows. more: that there are more.
    without: {branch of a fork: values}.
    """

    texts: list[str]
    elements: dict[tuple[int, ...], tuple[str, str]]
    grid: list[str]
    more: list[str]
    without: dict[str, list[str]]


def whole_lines(page):
    """(kind, text) of each line, with those that it was wrapped into."""
    found = []
    for line in page.split("\n"):
        line = re.sub(r" +(?:Gomez|Mazur): .*", "", line)
        kind = next((k for k, start in KINDS.items() if re.match(start, line)), "")
        if kind:
            found.append([kind, line])
        else:
            assert line.startswith(" " * 6), line
            found[-1][1] += line
    return [(kind, " ".join(line.split())) for kind, line in found]


def values_of(text):
    return text.strip("[]").split(", ")


def read_page(page):
    """{(part, t, name): Said} of a table."""
    found, part, t = {}, "", None
    for kind, text in whole_lines(page):
        texts = text.split(" = ")
        if kind == "heading":
            head = re.match(KINDS["heading"], text)
            part, t = head[1], int(head[2]) if head[2] else None
        elif kind == "stage":
            assert (part, t, texts[0]) not in found
            said = found[part, t, texts[0]] = Said(texts, {}, [], [], {})
        elif kind == "element":
            (label, numbers), value = texts[0].split(" ", 1), texts[1]
            said.elements[tuple(map(int, re.findall(r"\d+", label)))] = (numbers, value)
        elif kind == "grid":
            said.grid.extend(re.sub(r"^\[\d+\]", "", text).split())
        elif kind == "more":
            said.more.append(text.split()[1])
        elif kind == "without":
            branch = re.fullmatch(rf"without (.+): +{re.escape(said.texts[0])}", texts[0])[1]
            said.without[branch] = values_of(texts[1])
    return found


def fill(equation, s, places):
    of = {k: np.asarray(x) for k, x in s.of.items()}
    return [equations.fill(equation, of, place) for place in places]


def evaluate(filled):
    """With all digits, of numbers with all digits."""
    return np.asarray([equations.evaluate(x) for x in filled])


def check_stage(s, said, row):
    """What the page says of a stage is what its equation is."""
    places = paper.elements(s, row)
    name, *rest = said.texts
    equation = rest.pop(0) if s.equation else ""
    assert (name, equation) == (s.name, s.equation)
    values = values_of(rest[-1]) if rest else said.grid
    if not s.equation:
        assert values == digits([float(s.value[place]) for place in places])
        return
    filled = fill(equation, s, places)
    got, value = evaluate(filled), np.asarray(s.value)
    assert_close(got, np.asarray([value[place] for place in places]))
    numbers = [equations.write(x) for x in filled]
    if len(rest) == 2:
        assert [rest[0]] == numbers
    labels = [place if paper.WEIGHT.fullmatch(name) else place[-1:] for place in places]
    for label, (text, value) in said.elements.items():
        n = labels.index(label)
        assert (text, [value]) == (numbers[n], digits(got[n]))
    if said.more:
        assert said.more == [str(len(places))]
        assert len(places) > paper.EACH
    elif values:
        assert values == digits(got)
    else:
        assert list(said.elements) == labels
    if s.branches and s.part != "over time":
        assert tuple(said.without) == s.branches
    for branch, values in said.without.items():
        others = " + ".join(k for k in s.branches if k != branch)
        assert values == digits(evaluate(fill(others, s, places)))


def check_descent(run, below):
    """One step of gradient descent, and no other equation below the table."""
    lines = re.findall(rf"^  (.+\S) +(= {NUMBER})(?: +Mazur: .*)?$", below, re.M)
    assert len(lines) == len(run.descent)
    for s, (text, value) in zip(run.descent, lines, strict=True):
        (place,) = np.ndindex(np.shape(s.value))
        (filled,) = fill(s.equation, s, [place])
        got = evaluate([filled])
        assert_close(got, np.ravel(s.value))
        first, *rest = f"{text} {value}".split(" = ")
        assert first in (s.equation, s.name)
        assert rest == [equations.write(filled), *digits(got)]


def check_table(run, row, table):
    start = re.search("^forward", table, re.M).start()
    page, *after = table[start:].split("\n\nloss = ")
    if run.traced.loss is None:
        page, *after = page.split("\n\n" + run.below[0])
    said, stages = read_page(page), run.traced.stages
    assert list(said) == [(s.part, s.t, s.name) for s in stages]
    for s, one in zip(stages, said.values(), strict=True):
        check_stage(s, one, row)
    loss, _, below = after[0].partition("\n")
    losses = [float(s.value) for s in stages if s.name == "loss"]
    assert [loss] == (digits(sum(losses)) if losses else [""])
    check_descent(run, below)


@pytest.mark.half
@pytest.mark.parametrize("example", ["gomez", "coursera", "mazur", "wildml", "random", "elman"])
def test_every_printed_equation(runs, example):
    """Equal to the printed digits, and to 1e-12 to the traced arrays; no line is passed over."""
    for run in runs[example]:
        for row in range(len(run.traced.stages[0].value)):
            check_table(run, row, run.table(row))


@pytest.mark.slow
def test_what_guessing_would_lose(runs):
    """The one equation that stands in a note."""
    found = re.findall(r"(\d \* log\(\d\)) = (\S+)\.$", runs["wildml"][0].note)
    ((equation, value),) = found
    assert digits(equations.evaluate(equations.read(equation))) == [value]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.0084015 + (-0.061885)", "0.0084015 + (-0.061886)"),
        ("= -0.053484", "= -0.053485"),
        ("dc_from_next:     dc = 0.0084015", "dc_from_next:     dc = 0.0084016"),
        ("dc_from_h + dc_from_next =", "dc_from_h - dc_from_next ="),
        ("= 0.95022", "= 0.95023"),
        ("loss = 0.11491", "loss = 0.11492"),
        ("  c = f * c_prev", "  k = f * c_prev"),
    ],
)
def test_a_misprint_is_seen(runs, old, new):
    run = runs["gomez"][0]
    table = run.table()
    assert old in table
    with pytest.raises(AssertionError):
        check_table(run, 0, table.replace(old, new))
