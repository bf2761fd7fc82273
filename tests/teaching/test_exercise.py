"""The exercise as a student would have it: blank, half done, wrong, and solved."""

import subprocess
import sys

import pytest

from jax_lstm.commands import main as command
from jax_lstm.teaching import grade as grades
from jax_lstm.teaching import student
from jax_lstm.teaching.exercise import EXERCISED, IN_NUMPY, SHORTER, exercise
from tests.tables import relaxed

NAMES = [*(f"{name}_bwd" for name in EXERCISED), "backward"]
KINDS = pytest.mark.parametrize("numpy", [False, True], ids=["jax", "numpy"])


class Here:
    """A file that is run in this process: what it is asked is the same."""

    def __init__(self, text):
        self.module = student.load_module(text.encode(), "my_lstm.py")
        self.solution = student.load_module(exercise(numpy=True, solution=True).encode(), "right")
        self.names = [name for name in NAMES if callable(vars(self.module).get(name))]

    def __call__(self, *asked):
        return student.answer(self.module, self.solution, *asked)


@relaxed("what people write")
def graded(text):
    return {g.name: g for g in grades.grades_by(Here(text))}


def solution(*changes):
    """The solution in NumPy, broken on purpose."""
    text = exercise(numpy=True, solution=True)
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
        text = text.replace(old, new)
    return text


@KINDS
def test_nothing_is_right_in_the_blank(numpy):
    blank = exercise(numpy=numpy)
    found = graded(blank)
    assert [(g.name, g.verdict, g.says) for g in found.values()] == [
        (name, "missing", "") for name in NAMES
    ]
    assert grades.table(found.values()).endswith("\n0 of 8 right, 8 missing")


@KINDS
def test_all_is_right_in_the_solution(numpy):
    found = graded(exercise(numpy=numpy, solution=True))
    assert {g.verdict for g in found.values()} == {"right"}
    assert grades.table(found.values()).endswith("\n8 of 8 right")


@KINDS
def test_the_blank_gives_no_answer_away(numpy):
    blank, solved = exercise(numpy=numpy), exercise(numpy=numpy, solution=True)
    for text in (blank, solved):
        assert ("jnp" in text) != numpy
        assert "jax" not in text.replace("-m jax_lstm", "") or not numpy
        assert not any(old in text for old in SHORTER | (IN_NUMPY if numpy else {}))
        assert all(len(line) <= 100 for line in text.splitlines())
    assert blank.count("raise NotImplementedError") == len(NAMES)
    assert "raise NotImplementedError" not in solved
    answers = [line for line in solved.splitlines() if "(F')" in line or "_bwd((" in line]
    kept = [line for line in answers if line in blank]
    assert len(answers) > 8
    assert all("dparams = " in line for line in kept)


def test_what_is_rewritten_for_the_student_still_stands_in_the_source():
    text = exercise(solution=True)
    assert "x @ W" in text
    assert all(old in text for old in IN_NUMPY)


# The mutants: what was written, what for, who is wrong, and what is said ------------------------

DW = "return x.reshape((-1, x.shape[-1])).T @ dy.reshape((-1, dy.shape[-1]))"
CELL = "return dc * c_prev, dc * f, dc * g, dc * i"
HIDDEN = "return dh * s, tanh_bwd(s, dh * o)"
FORK = "return sum(rest, start=first), None"
CARRY = 'dh_from_next, dc_from_next = d["dh_prev"], dc_prev'
DO = '"dh": dh, "do": do}'
DX = 'd["dx"], _ = fork_bwd(None, [d["dx_" + k] for k in GATES])'
MUTANTS = [
    ("linear_bwd", DW, "return -np.matmul(x.T, dy)", "dW: the sign"),
    ("linear_bwd", DW, "return np.matmul(x.T, dy) / len(x)", "dW: the mean over the examples"),
    (
        "linear_bwd",
        DW,
        "return x[..., None] * dy[:, None]",
        "dW: the sum over the examples missing",
    ),
    (
        "linear_bwd",
        DW,
        "return np.matmul(dy.T, x)",
        "dW must have the shape (2, 6); got (6, 2); it",
    ),
    (
        "linear_bwd",
        "return linear_bwd_input(W, dy), linear_bwd_weight(x, dy)",
        "return linear_bwd_weight(x, dy), linear_bwd_input(W, dy)",
        "dx: dW in its place: the answers in another order",
    ),
    (
        "bias_bwd",
        "return da, da.sum(",
        "return da, da #",
        "db: the sum over the examples missing",
    ),
    (
        "bias_bwd",
        "return da, da.sum(",
        "return da, da.mean(",
        "db: the mean over the examples",
    ),
    ("sigmoid_bwd", "ds * s * (1 - s)", "ds * s", "da: the factor 1 - s missing"),
    ("sigmoid_bwd", "ds * s * (1 - s)", "ds * sigmoid(s) * (1 - sigmoid(s))", "sigmoid once more"),
    ("sigmoid_bwd", "ds * s * (1 - s)", "ds", "da: the derivative factor missing"),
    ("tanh_bwd", "dt * (1 + t) * (1 - t)", "dt * (1 - t)", "da: t for t²"),
    ("tanh_bwd", "dt * (1 + t) * (1 - t)", "-dt * (1 - t * t)", "da: the sign"),
    ("tanh_bwd", "dt * (1 + t) * (1 - t)", "dt * (1 - t**2) / 2", "da: half of it"),
    (
        "cell_state_bwd",
        CELL,
        "return dc * c_prev, dc * (1 - f), dc * g, dc * i",
        "1 - f for f in dc",
    ),
    ("cell_state_bwd", CELL, "return dc * c_prev, dc * f, dc * i, dc * g", "the factors i and g"),
    ("cell_state_bwd", CELL, "return dc * f, dc * c_prev, dc * g, dc * i", "df: f for c_prev"),
    (
        "cell_state_bwd",
        CELL,
        "return dc * c_prev, dc * f, dc * g",
        "must return df, dc_prev, di, dg",
    ),
    ("cell_state_bwd", CELL, "return dc * c_prev, dc * f, dc * g, dc", "dg: the factor i missing"),
    ("hidden_state_bwd", HIDDEN, "return dh * s, dh * o", "the factor 1 - tanh²(c) missing in dc"),
    ("hidden_state_bwd", HIDDEN, "return dh * c, tanh_bwd(s, dh * o)", "c where tanh(c) belongs"),
    ("hidden_state_bwd", HIDDEN, "return dh * s, tanh_bwd(s, dh)", "the factor o missing in dc"),
    ("fork_bwd", FORK, "return first, None", "dx: the first branch alone"),
    (
        "fork_bwd",
        FORK,
        "return sum(dxs) / len(dxs), None",
        "dx: the mean of the branches",
    ),
    ("fork_bwd", FORK, "return first / 0, None", "inf, first at [0, 0]"),
    ("fork_bwd", FORK, "return no_such_name, None", "is not defined, line "),
    ("fork_bwd", FORK, "return fork_bwd(None, dxs)", "raises RecursionError"),
    ("fork_bwd", FORK, "exit(3)", "raises SystemExit"),
    ("fork_bwd", FORK, "return 'dx', None", "dx must be an array of numbers; got str"),
    (
        "fork_bwd",
        FORK,
        "return np.array([[{}]]), None",
        "dx must be an array of numbers; got ndarray of object",
    ),
    ("tanh_bwd", "dt * (1 + t) * (1 - t)", "dt * t**5", "no known mistake explains it; it is off"),
    (
        "backward",
        "dc, _ = fork_bwd(None, (dc_from_h, dc_from_next))",
        "dc = dc_from_h",
        "equals BPTT with the fork at c dropped (dc not carried to t-1)",
    ),
    (
        "backward",
        "dh, _ = fork_bwd(None, (dhs[t], dh_from_next))",
        "dh = dhs[t]",
        "the fork at h dropped (dh not carried to t-1) and with the cotangent of the last h",
    ),
    (
        "backward",
        CARRY,
        f'{CARRY}; dh_from_next = 0 * d["dh_prev"]',
        "the fork at h dropped (dh not carried to t-1) and",
    ),
    (
        "backward",
        'sigmoid_bwd(s["i"], di)',
        "di",
        "the derivative factor of the input gate missing",
    ),
    (
        "backward",
        "return Gradients(Params(*dparams), ",
        "return (Params(*dparams), ",
        "raises AttributeError",
    ),
    ("backward", DO, DO.replace(', "do": do', ""), "but the deltas of t=3 lack do"),
    ("backward", DO, DO.replace("do}", "0 * do}"), "but the delta do of t=3 is not"),
    ("backward", DX, DX.replace('d["dx"]', "dx"), """'dx': d["dx"] was not put into d"""),
    ("backward", "    return Gradients(", "    Gradients(", "returns None: is `return` missing?"),
    ("sigmoid_bwd", "return ds * s", "ds * s", "returns None: is `return` missing?"),
    (
        "backward",
        "h = hidden_state(o, c_to_tanh)",
        "h = o * c_to_tanh",
        "`forward`, which was given",
    ),
]


@pytest.mark.half
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m[0]}: {m[3]}")
def test_a_mutant_is_named_and_nothing_else_is_accused(mutant):
    name, old, new, says = mutant
    found = graded(solution((old, new)))
    assert says in found[name].says
    wrong = {g.name for g in found.values() if g.verdict == "WRONG"}
    assert wrong == {name}
    assert "\n" not in found[name].says


def test_half_done():
    """One twin written; the loop, which is right, is not blamed for the twins that are not."""
    text = solution(
        ("return ds * s * (1 - s)", "raise NotImplementedError"),
        (f"    f, c_prev, i, g = residual\n    {CELL}", "    pass"),
    )
    text = text.replace("def bias_bwd", "def my_bias_bwd")
    found = graded(text)
    missing = [g.name for g in found.values() if g.verdict == "missing"]
    assert missing == ["bias_bwd", "sigmoid_bwd", "cell_state_bwd"]
    assert found["backward"].verdict == "right"
    assert found["backward"].says == f"with the right {', '.join(missing)} in place"
    assert grades.table(found.values()).endswith("\n5 of 8 right, 3 missing")


def test_who_writes_into_what_was_given_is_not_accused():
    """NumPy's `d = dhs[t]; d += dh_next`, and likewise in twins and forks."""
    text = solution(
        ("dh, _ = fork_bwd(None, (dhs[t], dh_from_next))", "dh = dhs[t]; dh += dh_from_next"),
        ("dc, _ = fork_bwd(None, (dc_from_h, dc_from_next))", "dc = dc_from_next; dc += dc_from_h"),
        ("return ds * s * (1 - s)", "ds *= s * (1 - s); return ds"),
        ("return dt * (1 + t) * (1 - t)", "dt *= 1 - t * t; return dt"),
    )
    found = graded(text)
    assert {g.verdict for g in found.values()} == {"right"}, found


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("def forward(*args): return 3", "raises TypeError"),
        ("def forward(params, xs, h0, c0): return [{}]", "raises KeyError"),
        ("def forward(params, xs, h0, c0): return [{'h': h0}]", "its steps are not those it had"),
        ("del forward", "raises AttributeError"),
        ("def backward(*args): return 4", "raises AttributeError"),
        ("def backward(*args): raise ValueError('two\\nlines')", "raises ValueError: two"),
    ],
)
def test_what_surrounds_the_blanks_may_be_broken_too(more, says):
    found = graded(f"{solution()}\n{more}\n")
    assert [g.name for g in found.values() if g.verdict != "right"] == ["backward"]
    assert says in found["backward"].says
    assert "\n" not in found["backward"].says


# The commands -----------------------------------------------------------------------------------


def test_from_the_blank_to_the_grade(tmp_path, capsys):
    assert command.main(["exercise", "--numpy"]) == 0
    blank = capsys.readouterr().out
    assert blank == exercise(numpy=True)
    file = tmp_path / "my_lstm.py"
    file.write_text(blank, encoding="utf-8")
    assert command.main(["grade", str(file)]) == 1
    assert "0 of 8 right, 8 missing" in capsys.readouterr().out
    assert command.main(["exercise", "--numpy", "--solution"]) == 0
    file.write_text(capsys.readouterr().out, encoding="utf-8")
    assert command.main(["grade", str(file)]) == 0
    assert "8 of 8 right" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read: No such file"),
        ("def f(:", "is not Python, line 1: "),
        ("x = 1\0", "is not Python"),
        ("x = 1", "has no function of the exercise"),
        ("import no_such_module", "cannot be run: ModuleNotFoundError"),
        ("raise SystemExit(0)", "cannot be run: SystemExit"),
        ("x = '\udcff'", "is not Python"),
    ],
    ids=["no file", "syntax", "null", "another file", "import", "exit", "not text"],
)
def test_bad_input_is_one_line_and_status_2(text, says, tmp_path, capsys):
    file = tmp_path / "my_lstm.py"
    if text is not None:
        file.write_bytes(text.encode(errors="surrogateescape"))
    assert command.main(["grade", str(file)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


def test_a_terminal_without_these_letters(tmp_path):
    """The file is UTF-8 wherever it is written."""
    got = subprocess.run(
        [sys.executable, "-m", "jax_lstm", "exercise"],
        capture_output=True,
        env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path)},
        check=True,
    )
    assert got.stdout.decode("utf-8") == exercise()
