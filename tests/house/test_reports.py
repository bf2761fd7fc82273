"""Every report prints as its sentence and its tables, in a terminal and in a notebook."""

import importlib
import inspect
import math
import pkgutil
import re

import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm import printing, referee
from jax_lstm.files.inspect import Array, Gate, Inspection, Recurrent
from jax_lstm.referee.report import EMPTY
from jax_lstm.teaching.beside import Beside, Pair
from jax_lstm.teaching.grade import Grade, Grades
from jax_lstm.teaching.trace import Stage, Traced

ROW = referee.Row("lstm", "dW", "jax.vjp", "float64", 1e-3, 2e-2, 3.0, 1e-12, None, False)
NONE = referee.failure("lstm", "all", "jax.vjp", "float64", "TypeError: <b> & c")
TAP = referee.Tap(1, "dc", "cell state", 1e-3, 2e-2, 1e-12, False)
LEFT = Stage("over time", None, "dU", "dU(t=0) + ...", {}, np.ones((3, 3)), ("dU(t=0)",) * 3)
REPORTS = {
    "Report": referee.Report(
        (ROW._replace(worst_at=(0, 2), ratio=2.0, cosine=0.5), NONE, ROW._replace(note=EMPTY))
    ),
    "CheckReport": referee.CheckReport(
        "x (float32) are run in float64",
        (
            referee.Answer("<all>", "dx", "reference", 0.5, 1e-9, "WRONG", "element 0 of 3: <b>"),
            referee.Answer("jit", "", "without it", 0.0, 0.0, "right"),
            referee.Answer("scan", "", "", math.nan, math.nan, "not tried", "`carry` is missing"),
        ),
    ),
    "TapReport": referee.TapReport((TAP, TAP._replace(t=0, name="dh")), "float64", "<a fork>"),
    "MutationReport": referee.MutationReport(
        True, (referee.Mutant("delta[0]: sign", True, ("dW",), 2.0),), "float64"
    ),
    "SlopeReport": referee.SlopeReport(
        (referee.Slope(1.99, True, (0.5, 0.1)), referee.Slope(1.01, False, (0.5, 0.2)))
    ),
    "Diagnosis": referee.Diagnosis(
        False,
        (referee.Explanation(("dc",), "equals BPTT with <dc> dropped", 1e-12, 0.0),),
        referee.Explanation((), "equals BPTT", 1.0, 0.5),
        "at t=1",
        (("dW", 0.5, 0.1, False), ("db", 0.0, 0.0, True)),
        "float64",
        "float64",
        False,
    ),
    "MemoryPlan": jl.MemoryPlan(
        "full", 8, 2, "Use residuals='full'.", (jl.MemoryRow("full", 1, 2, 3, 6, True, 8, 2),), 99
    ),
    "Inspection": Inspection(
        "<a>.npz",
        "NumPy's .npz",
        {"step": 3},
        ("ours",),
        (Array("W", "float32", (3, 4), 1.0, -1.0, math.nan, 1, 0),),
        (
            Recurrent("", None, None, "ours", "a cell", "elman", {"D": 3},
                      (Gate("a", 1.0, 2.0, None, None, 0.5),), ("a note",), None),
            Recurrent("x", None, None, "ours", "a cell", None, {}, (), (), "U is missing"),
        ),
    ),
    "Grades": Grades([Grade("tanh_bwd", "right"), Grade("gates_bwd", "WRONG", "da: <sign>")]),
    "Beside": Beside("dc", "the fork <c> dropped", (Pair("backward", 1, "dc[0]", 1.0, 2.0, True),)),
    "Traced": Traced(
        {"c": np.ones((2, 1, 3))},
        {"dc": 2 * np.ones((2, 1, 3))},
        {"dU": np.ones((3, 3))},
        0.25,
        (
            Stage("forward", 0, "c", "f * c_prev + i * g", {}, np.ones((1, 3))),
            Stage("forward", 1, "c", "f * c_prev + i * g", {}, np.ones((1, 3))),
            LEFT,
        ),
    ),
}  # fmt: skip


def classes():
    """Every class of the package that has tables."""
    for module in pkgutil.walk_packages(jl.__path__, "jax_lstm."):
        if "interop" in module.name or module.name.endswith("__main__"):
            continue  # it may need a framework that is not there
        for name, x in vars(importlib.import_module(module.name)).items():
            if inspect.isclass(x) and x.__module__ == module.name and hasattr(x, "table"):
                yield name, x


def test_whoever_has_a_table_is_a_report():
    found = dict(classes())
    del found["Run"]  # of an example: a Traced with what stands beside it
    assert {name: type(x) for name, x in REPORTS.items()} == found
    for name, x in found.items():
        assert x.__str__ is printing.page
        if name != "Traced":  # a notebook shows its page above them
            assert x._repr_html_ is printing.html


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_prints_as_its_sentence_and_its_tables(name):
    report = REPORTS[name]
    sentence, *tables = report.sentence(), *map(str, report.tables())
    assert sentence.strip()
    assert str(report) == "\n\n".join([sentence, *tables])
    assert repr(report) != str(report)
    assert report.table().startswith(tables[0])
    assert "NamedTuple" not in str(report)
    cells = [x for t in report.tables() for row in t.rows for x in row if isinstance(x, str)]
    assert cells
    page = report._repr_html_()
    for cell in cells:
        assert cell in str(report)
        assert printing.escape(cell.strip()) in page
    assert page.count("<table>") == sum(bool(t.rows) for t in report.tables())
    tags = set(re.findall(r"<(/?\w+)", page))
    assert {tag.strip("/") for tag in tags} <= {"p", "br", "table", "thead", "tr", "th", "td"}
    assert page.startswith("<p>" + printing.escape(sentence.split("\n")[0]))


@pytest.mark.parametrize("name", ["Report", "TapReport", "MutationReport", "Inspection", "Beside"])
def test_what_a_table_said_of_the_whole_it_says_still(name):
    report = REPORTS[name]
    assert report.table().endswith(report.sentence())


def test_old_names_of_the_sentence():
    report, plan = REPORTS["Report"], REPORTS["MemoryPlan"]
    assert "\n".join(report.verdicts()) == report.sentence()
    assert plan.words == str(plan)


def test_a_sentence_where_nothing_was_done():
    assert referee.Report(()).sentence() == "nothing was compared"
    assert referee.SlopeReport(()).sentence() == "no direction was tried"
    assert not Grades([])


@pytest.mark.parametrize(
    ("slopes", "says"),
    [
        (
            (2.0, 1.95),
            "right: in all 2 directions the remainder shrinks as t²; smallest slope 1.95",
        ),
        ((math.inf, math.inf), "right: in all 2 directions the function is linear"),
        ((2.0, 1.0, 1.5), "a different gradient: in 2 of 3 directions"),
        ((1.0, math.nan), "smallest slope nan, and 1.9 is asked for"),
    ],
)
def test_the_sentence_of_slopes(slopes, says):
    rows = tuple(referee.Slope(s, s >= 1.9, (1.0, 0.5)) for s in slopes)
    assert says in referee.SlopeReport(rows).sentence()


def test_grades_are_true_when_all_is_right():
    right = Grade("tanh_bwd", "right")
    assert Grades([right])
    assert not REPORTS["Grades"]
    assert REPORTS["Grades"].sentence() == "1 of 2 right, 1 wrong"


def test_a_sum_over_many_steps_is_told_by_its_ends():
    assert "dU(t=0) + ... + dU(t=0)" in str(REPORTS["Traced"])
    assert REPORTS["Traced"].sentence() == "a trace of 2 steps, 3 stages; loss = 0.25"
