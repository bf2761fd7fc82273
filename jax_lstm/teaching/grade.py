"""Which twins of an exercise are right, which are missing, and what the wrong ones got wrong.

Every twin is called by itself at random numbers and compared, answer by answer, with the twin of
stages/step.py; where it differs, with a table of classic mistakes. The loop over time is graded by
itself as well: with right twins in the place of those that are not, its gradient goes to diagnose.

The file is run in a process of its own, with bounds on its time and memory: apart.py. It is given
inputs and returns numbers, and they are compared here. It is no sandbox: grade only what you would
run.
"""

import re
from typing import NamedTuple

import jax
import numpy as np

from jax_lstm import printing, referee, textbook
from jax_lstm.diagnosis.diagnose import diagnose
from jax_lstm.printing import printable
from jax_lstm.stages import TWINS, twins
from jax_lstm.teaching.apart import SECONDS, Apart
from jax_lstm.teaching.exercise import EXERCISED
from jax_lstm.teaching.mistakes import WRONG_BY_STAGE, anywhere
from jax_lstm.teaching.student import DELTAS, LOOP, MISSING, WRONG, deltas_of, forward_of

T, B, D, H, M = 4, 3, 2, 5, 6  # all different, so that no transposed axis can pass
RIGHT = "right"
EPS = 64.0  # times eps of the dtype and the largest number: the rounding of a twin
LOOP_EPS = 4096.0  # likewise, of a few steps


LOOP_POINTS = 3  # of the loop; a twin has one


class Grade(NamedTuple):
    """A twin's name; RIGHT, WRONG or MISSING; and what is to be said about it.

    mistake: of a loop that makes mistakes of the table, the first one's name, for `trace --mutant`.
    """

    name: str
    verdict: str
    says: str = ""
    mistake: str = ""

    def worth(self):
        """Points for a right one."""
        return LOOP_POINTS if self.name == LOOP else 1


class Grades(tuple[Grade, ...]):
    """A Grade for each twin and one for the loop over time. True only when all are right."""

    __str__ = printing.page
    _repr_html_ = printing.html

    def __bool__(self):
        return len(self) > 0 and all(g.verdict == RIGHT for g in self)

    def points(self):
        """(points, of how many): one for a twin, three for the loop over time."""
        return sum(g.worth() for g in self if g.verdict == RIGHT), sum(g.worth() for g in self)

    def mistake(self):
        """The name of the loop's mistake, for `trace --mutant`; "" where none is known."""
        return next((g.mistake for g in self if g.mistake), "")

    def sentence(self):
        count = {v: sum(g.verdict == v for g in self) for v in (RIGHT, WRONG, MISSING)}
        parts = [f"{count[RIGHT]} of {len(self)} right"]
        parts += [f"{n} {v.lower()}" for v, n in count.items() if n and v != RIGHT]
        return ", ".join(parts)

    def tables(self):
        return [printing.Sheet((), tuple(g[:3] for g in self), sides="<<<", widths=(16, 7))]

    def table(self):
        return str(self.tables()[0])


# Grading --------------------------------------------------------------------------------------


def grade(path, *, seconds=SECONDS):
    """Grade a file of `python -m jax_lstm exercise`, filled in or not. The file is run, apart.

    Args:
      path: of a Python file.
      seconds: what all of its functions may take together; one of them a third of it.

    Returns:
      Grades: a Grade for each twin, and one for the loop over time.

    Raises:
      ValueError: a file that cannot be run to its end, or with nothing of the exercise in it.
    """
    names = [f"{k}_bwd" for k in EXERCISED]
    with Apart(path, (*names, LOOP), seconds) as ask:
        if not ask.names:
            raise ValueError(
                f"{path} has no function of the exercise, such as {names[0]} or {LOOP}"
            )
        return grades_by(ask)


def grades_by(ask):
    """Grades of what `ask(question, names, given)` answers, as student.py says it."""
    with referee.precisely():
        grades = [twin_grade(ask, name) for name in EXERCISED]
        wrong = [g.name for g in grades if g.verdict != RIGHT]
        return Grades([*grades, loop_grade(ask, wrong)])


def table(grades):
    """All grades for people, and their sum."""
    grades = Grades(grades)
    return f"{grades.table()}\n\n{grades.sentence()}"


def twin_grade(ask, name):
    row, answers = twins.without_time(TWINS[name]), twins.answers(TWINS[name])
    title, others = f"{name}_bwd", [f"{k}_bwd" for k in EXERCISED if k != name]
    rng = np.random.default_rng(0)
    sizes = {"B": B, "D": D, "H": H, "M": M}
    args = twins.draw(row, sizes, rng, lambda shape: rng.uniform(0.2, 0.9, shape))
    y = jax.tree.map(np.asarray, row.stage(*args))
    dy = jax.tree.map(lambda x: rng.standard_normal(x.shape), y)
    right = zip(answers, twins.cotangents(row, args, y, dy), strict=True)
    truths = {k: np.asarray(x) for k, x in right if k}
    given = jax.tree.map(np.asarray, (twins.residual_of(row, args, y), dy))
    verdict, found = ask(title, others, given)  # it may use them
    if verdict:
        return Grade(title, verdict, printable(found))
    found = (found,) if len(answers) == 1 else found
    if not isinstance(found, tuple | list) or len(found) != len(answers):
        got = f"{len(found)} of them" if isinstance(found, tuple | list) else kind_of(found)
        return Grade(title, WRONG, f"must return {', '.join(map(str, answers))}; got {got}")
    table = WRONG_BY_STAGE[name](args, y, dy)
    says = [
        said
        for answer, x in zip(answers, found, strict=True)
        if answer and (said := fault(answer, x, truths, table.get(answer, {})))
    ]
    return Grade(title, WRONG if says else RIGHT, "; ".join(says))


def is_numbers(x):
    return isinstance(x, np.ndarray) and x.dtype.kind in "fiub"


def kind_of(x):
    """The type of an answer; the name of one that is no array came in its place."""
    return printable(x) if isinstance(x, str) else type(x).__name__


def fault(answer, x, truths, table):
    """What is wrong with one answer; nothing when it is right."""
    truth = truths[answer]
    if not (x is None or is_numbers(x)):
        return f"{answer} must be an array of numbers; got {kind_of(x)}"
    kind, x = np.asarray(x).dtype, np.asarray(x, np.float64)
    eps = np.finfo(kind if kind in (np.float32, np.float16) else np.float64).eps

    def off(candidate):
        same = candidate.shape == x.shape
        return np.abs(candidate - x).max() if same else np.inf

    def is_right(candidate):
        return off(candidate) <= EPS * eps * max(1.0, np.abs(candidate).max())

    if not np.isfinite(x).all():
        first = tuple(int(n) for n in np.argwhere(~np.isfinite(x))[0])
        return f"{answer} has {x[first]}, first at {list(first)}"
    if is_right(truth):
        return ""
    for says, wrong in (table | anywhere(answer, truths, B)).items():
        if is_right(wrong):
            return f"{answer}: {says}: largest difference {off(wrong):.0e}"
    if x.shape != truth.shape:
        flipped = "; it is transposed" if x.T.shape == truth.shape and is_right(truth.T) else ""
        return f"{answer} must have the shape {truth.shape}; got {x.shape}{flipped}"
    at = [int(n) for n in np.unravel_index(np.abs(truth - x).argmax(), x.shape)]
    return (
        f"{answer}: no known mistake explains it; it is off by up to {off(truth):.2g}, at {at}, "
        f"where {x[tuple(at)]:.6g} must be {truth[tuple(at)]:.6g}"
    )


# The loop over time ---------------------------------------------------------------------------


def loop_grade(ask, wrong_twins):
    """The gradient of `backward` by itself, to diagnose."""
    problem, with_right = a_problem(), ""
    if LOOP in ask.names and (said := forward_fault(ask, problem)):
        return Grade(LOOP, WRONG, said)
    if wrong_twins:
        with_right = f"with the right {', '.join(wrong_twins)} in place: "
        if len(wrong_twins) == len(EXERCISED):
            with_right = "with all twins right: "

    def gradient(arrays):
        arrays = {k: np.asarray(x) for k, x in arrays.items()}
        verdict, found = ask(LOOP, wrong_twins, arrays)
        if verdict:
            raise NoGradient(verdict, printable(found))
        return found

    try:
        gradient(problem)
        diagnosis = diagnose(gradient, problem)
    except NoGradient as error:
        verdict, said = error.args
        return Grade(LOOP, verdict, f"{with_right}{hinted(said, problem)}" if said else "")
    except Exception as error:  # what a student's gradient leads `diagnose` to, it is the verdict
        return Grade(LOOP, WRONG, printable(with_right + str(error).split("\n")[0]))
    if diagnosis and (said := deltas_fault(ask, problem)):
        return Grade(LOOP, WRONG, f"{with_right}{said}")
    if diagnosis:
        return Grade(LOOP, RIGHT, with_right.removesuffix(": "))
    said = with_right + diagnosis.sentence().replace("\n", "; ")
    names = diagnosis.explanations[0].names if diagnosis.explanations else ()
    return Grade(LOOP, WRONG, said, names[0] if names else "")


def hinted(said, problem):
    """The same, and more of a KeyError whose key is a delta."""
    key = re.fullmatch(r"(raises KeyError: '(\w+)')(.*)", said)
    known = key and key[2] in deltas_of(textbook, problem)[1][0]
    return f'{key[1]}: d["{key[2]}"] was not put into d{key[3]}' if key and known else said


class NoGradient(Exception):
    """A verdict, and what is to be said about it."""


def a_problem():
    """Random numbers everywhere, also in what is remembered and in the last cotangents."""
    rng = np.random.default_rng(1)
    shapes = {"W": (D, 4 * H), "U": (H, 4 * H), "b": (4 * H,), "xs": (T, B, D), "dhs": (T, B, H)}
    shapes |= dict.fromkeys(("h0", "c0", "dh_T", "dc_T"), (B, H))
    return {k: rng.standard_normal(shape) for k, shape in shapes.items()}


def forward_fault(ask, problem):
    """What was given must be as it was: the forward, and Params."""
    right = forward_of(textbook, problem)
    verdict, found = ask("forward", (), problem)
    if verdict:
        return f"`forward`, which was given, {printable(found) or 'is missing'}"
    if (
        not isinstance(found, tuple)
        or len(found) != len(right)
        or not all(is_numbers(h) and h.shape == right[0].shape for h in found)
    ):
        return "`forward`, which was given, was changed: its steps are not those it had"
    for t, (a, b) in enumerate(zip(found, right, strict=True)):
        # h is within (-1, 1): float32's rounding of a few steps, and far from any change of (1)-(4)
        if not np.allclose(a, b, rtol=0, atol=1e-5):
            return f"`forward`, which was given, was changed: h differs from t={t} on"
    return ""


def deltas_fault(ask, problem):
    """Every delta that the docstring of `backward` names must be there, and be right.

    What a loop in NumPy wrote into after it had put it there holds another delta by now: that is no
    fault of the gradient.
    """
    _, right = deltas_of(textbook, problem)
    verdict, found = ask(DELTAS, [f"{k}_bwd" for k in EXERCISED], problem)  # which write nowhere
    if verdict:
        return printable(found)
    in_numpy, found = found if isinstance(found, tuple) and len(found) == 2 else (False, None)
    if not isinstance(found, tuple) or len(found) != len(right):
        return f"its `deltas` must be a dict for each of the {len(right)} steps"
    for t in reversed(range(len(right))):
        if not isinstance(found[t], dict):
            return f"its `deltas` must be dicts; got {kind_of(found[t])} at t={t}"
        if missing := [k for k in right[t] if k not in found[t]]:
            return f"the gradient is right, but the deltas of t={t} lack {', '.join(missing)}"
        for k, want in right[t].items():
            later = [right[n][name] for n in (t, t - 1) if n >= 0 for name in ("dh", "dc", "dx")]
            if not any(is_near(found[t][k], x) for x in [want, *(later if in_numpy else ())]):
                return f"the gradient is right, but the delta {k} of t={t} is not"
    return ""


def is_near(x, truth):
    """To the rounding of a few steps."""
    if not is_numbers(x) or x.shape != truth.shape:
        return False
    eps = np.finfo(x.dtype if x.dtype in (np.float32, np.float16) else np.float64).eps
    off = np.abs(x.astype(np.float64) - truth).max()
    return bool(off <= LOOP_EPS * eps * max(1.0, np.abs(truth).max()))
