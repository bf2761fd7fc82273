"""Equations: every one that is printed is computed again."""

import math
import re

import numpy as np
import pytest

from jax_lstm.teaching import equations, paper, trace
from tests.tables import assert_close

FUNCTIONS = {
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "tanh": np.tanh,
    "log": np.log,
    "softmax": lambda y: np.exp(y) / np.exp(y).sum(-1, keepdims=True),
}
EVERY = ["gomez", "coursera", "mazur", "wildml", "random", "elman"]


@pytest.mark.parametrize("example", EVERY)
def test_every_equation_is_true(runs, example):
    """The text of each line, evaluated by NumPy on what it names, is the value it stands for."""
    for run in runs[example]:
        counted = 0
        for s in run.traced.stages:
            if not s.equation:
                continue
            value = np.asarray(s.value)
            names = {re.sub(r"\W", "_", k): np.asarray(x) for k, x in s.of.items()}
            text = re.sub(r"\(t=(\d+)\)", r"_t_\1_", s.equation).replace("^", "**")
            known = {"sum": (lambda x: x.sum(0)) if value.ndim else np.sum}
            got = eval(text, FUNCTIONS | known | names)
            assert_close(np.broadcast_to(got, value.shape), value)
            counted += 1
        assert counted > 10


def last_digit(x):
    """Half a unit of the fifth digit: what printing may have rounded away."""
    return 0.5 * 10.0 ** (math.floor(math.log10(abs(x))) - 4) if x else 0.0


def compute(text):
    """As a pocket calculator does, and how far the rounding of its numbers may carry."""
    calculator = {"exp": math.exp, "tanh": math.tanh, "log": math.log, "__builtins__": {}}
    text = text.replace("^", "**")
    got, room = eval(text, calculator), 0.0
    for m in re.finditer(r"\d[\d.]*(?:e[-+]?\d+)?", text.replace("**2", "   ")):
        if m[0] not in ("1", "2"):
            other = str(float(m[0]) + last_digit(float(m[0])))
            room += abs(eval(text[: m.start()] + other + text[m.end() :], calculator) - got)
    return got, room


@pytest.mark.parametrize("example", EVERY)
def test_every_line_can_be_followed_with_a_pocket_calculator(runs, example):
    """The numbers of a line, computed as they are printed, give the value that is printed."""
    run = runs[example][-1]
    for s in run.traced.stages:
        places = paper.elements(s, 0) if s.equation else []
        for place in places[: paper.EACH]:
            text = equations.write(equations.fill(s.equation, s.of, place))
            assert "..." not in text
            got, room = compute(text)
            assert equations.evaluate(equations.read(text)) == pytest.approx(got, rel=1e-12)
            want = float(f"{float(s.value[place]):.5g}")
            assert abs(got - want) <= 1.5 * room + 1.01 * last_digit(want) + 1e-12, (s.name, text)


@pytest.mark.parametrize("example", ["gomez", "random", "elman", "wildml"])
def test_a_fork_is_the_sum_of_its_branches(runs, example):
    (run, *_), seen = runs[example], set()
    for s in run.traced.stages:
        if s.branches:
            seen.add(s.name)
            assert_close(sum(s.of[k] for k in s.branches), s.value)
            assert s.note
    assert {"dh", "dU" if "a" in run.traced.forward else "dU_f"} <= seen


# Reading and writing --------------------------------------------------------------------------

ARRAYS = {
    "x": np.array([[1.0, -2.0]]),
    "W": np.array([[0.5], [-3.0]]),
    "b": np.array([-0.25]),
    "h(t=1)": np.array([[3.0]]),
    "one": np.array([[0.25]]),
    "wide": np.arange(20.0)[None],
}
WRITTEN = [  # equation, its numbers, what they are
    ("x @ W + b", "1*0.5 + (-2)*(-3) + (-0.25)", 6.25),
    ("b * (x @ W)", "-0.25*(1*0.5 + (-2)*(-3))", -1.625),
    ("h(t=1) - W.T @ x.T", "3 - (0.5*1 + (-3)*(-2))", -3.5),
    ("h(t=1) * (1 - b^2)", "3*(1 - (-0.25)^2)", 2.8125),
    ("sigmoid(b)", "1 / (1 + exp(0.25))", 1 / (1 + math.exp(0.25))),
    ("softmax(x)", "exp(1) / (exp(1) + exp(-2))", 1 / (1 + math.exp(-3))),
    ("tanh(b) * log(h(t=1))", "tanh(-0.25)*log(3)", math.tanh(-0.25) * math.log(3)),
    ("b[0] - 0.1 * h(t=1)", "-0.25 - 0.1*3", -0.55),
    ("b - (h(t=1) - b)", "-0.25 - (3 - (-0.25))", -3.5),
    ("b - (h(t=1) + b)", "-0.25 - (3 + (-0.25))", -3.0),
    ("b - -b", "-0.25 - (-(-0.25))", -0.5),
    ("2 / (b * h(t=1))", "2 / (-0.25*3)", -8 / 3),
    ("(-b)^2", "(-(-0.25))^2", 0.0625),
    ("-b^2", "-(-0.25)^2", -0.0625),
    ("(2^2)^h(t=1)", "(2^2)^3", 64.0),
    ("2^2^h(t=1)", "2^2^3", 256.0),
    ("2^(h(t=1) - 1)", "2^(3 - 1)", 4.0),
    ("sum(x^2)", "1^2", 1.0),
    ("wide @ wide.T", "0*0 + 1*1 + 2*2 + ... + 19*19", 2470.0),
]


@pytest.mark.parametrize(("equation", "written", "value"), WRITTEN)
def test_an_equation_is_written_as_it_is_evaluated(equation, written, value):
    filled = equations.fill(equation, ARRAYS, (0, 0) if "sum" not in equation else (0,))
    assert equations.write(filled) == written
    assert equations.evaluate(filled) == pytest.approx(value, rel=1e-15)
    if "..." not in written:
        assert equations.evaluate(equations.read(written)) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("whole", ["-sum(x * log(x^2)) / 2", "sum((x - x^2)^2) / 2"])
def test_a_sum_over_everything(whole):
    x = ARRAYS["x"]
    want = {"-": -(x * np.log(x**2)).sum() / 2, "s": ((x - x**2) ** 2).sum() / 2}[whole[0]]
    filled = equations.fill(whole, ARRAYS, ())
    assert equations.evaluate(filled) == pytest.approx(want, rel=1e-15)
    assert equations.evaluate(equations.read(equations.write(filled))) == pytest.approx(want)


@pytest.mark.parametrize(
    "text",
    [
        *("open('x')", "b.__class__", "b if b else b", "b[b]", "lambda: 1", "1j", "'a'", "b <"),
        *("x.T", "b // b", "sum(b, b)", "sum(b, start=b)", "h(t=b)", "b and b", "[b]", "~b"),
        *("b.T.x @ b", ""),
    ],
)
def test_nothing_else_is_an_equation(text):
    with pytest.raises(ValueError, match="equation"):
        equations.fill(text, ARRAYS, (0, 0))


@pytest.mark.parametrize("text", ["x", "x @ x", "sigmoid(1)", "open(1)", "1 // 2", "not 1", "'a'"])
def test_nothing_else_is_on_a_pocket_calculator(text):
    for f in (equations.evaluate, equations.write):
        with pytest.raises(ValueError, match="pocket calculator has no"):
            f(equations.read(text))


def test_names_from_left_to_right():
    found = equations.names("-tanh(c)^2 * h(t=1) + x.T @ sum(h) - c + W[0] + h(t=12)")
    assert found == ["c", "h(t=1)", "x", "h", "W", "h(t=12)"]


def test_what_is_no_number_stays_that():
    arrays = {"x": np.array([[np.nan, 0.0, -np.inf]])}
    found = [equations.fill(e, arrays, (0, n)) for n, e in enumerate(["1 - x", "log(x)", "1 / x"])]
    assert list(map(equations.write, found)) == ["1 - nan", "log(0)", "1 / (-inf)"]
    assert str(list(map(equations.evaluate, found))) == "[nan, -inf, -0.0]"


def test_a_long_time_is_a_long_sum():
    """Deeper than Python recurs, in `tell_sums` and here."""
    (stage,) = trace.tell_sums(["W"], [{"dW": np.ones(())}] * 5000)
    assert len(stage.branches) == 5000
    assert stage.value == 5000
    (stage,) = trace.tell_sums(["W"], [{"dW": np.ones(())}] * 800)
    assert equations.names(stage.equation) == list(stage.branches)
    filled = equations.fill(stage.equation, stage.of, ())
    assert equations.evaluate(filled) == 800
    assert equations.write(filled) == " + ".join(["1"] * 800)
