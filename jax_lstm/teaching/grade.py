"""Which twins of an exercise are right, which are missing, and what the wrong ones got wrong.

Every twin is called by itself at random numbers and compared, answer by answer, with the twin of
stages/step.py; where it differs, with a table of classic mistakes. The loop over time is graded by
itself as well: with right twins in the place of those that are not, its gradient goes to diagnose.

The file is run in this process: grade only what you would run.
"""

import contextlib
import dis
import types
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm import printing, referee, stages, textbook
from jax_lstm.diagnosis.diagnose import diagnose
from jax_lstm.stages import TWINS, twins
from jax_lstm.teaching.exercise import EXERCISED
from jax_lstm.teaching.mistakes import WRONG_BY_STAGE, anywhere

T, B, D, H, M = 4, 3, 2, 5, 6  # all different, so that no transposed axis can pass
RIGHT, WRONG, MISSING = "right", "WRONG", "missing"
LOOP = "backward"
EPS = 64.0  # times eps of the dtype and the largest number: the rounding of a twin
LOOP_EPS = 4096.0  # likewise, of a few steps


class Grade(NamedTuple):
    """A twin's name; RIGHT, WRONG or MISSING; and what is to be said about it."""

    name: str
    verdict: str
    says: str = ""


class Grades(tuple[Grade, ...]):
    """A Grade for each twin and one for the loop over time. True only when all are right."""

    __str__ = printing.page
    _repr_html_ = printing.html

    def __bool__(self):
        return len(self) > 0 and all(g.verdict == RIGHT for g in self)

    def sentence(self):
        count = {v: sum(g.verdict == v for g in self) for v in (RIGHT, WRONG, MISSING)}
        parts = [f"{count[RIGHT]} of {len(self)} right"]
        parts += [f"{n} {v.lower()}" for v, n in count.items() if n and v != RIGHT]
        return ", ".join(parts)

    def tables(self):
        return [printing.Sheet((), tuple(map(tuple, self)), sides="<<<", widths=(16, 7))]

    def table(self):
        return str(self.tables()[0])


# Grading --------------------------------------------------------------------------------------


def grade(path):
    """Grade a file of `python -m jax_lstm exercise`, filled in or not. The file is run.

    Args:
      path: of a Python file.

    Returns:
      Grades: a Grade for each twin, and one for the loop over time.

    Raises:
      ValueError: a file that cannot be run, or with nothing of the exercise in it.
    """
    module = load_module(Path(path))
    names = [f"{k}_bwd" for k in EXERCISED]
    if not any(callable(getattr(module, k, None)) for k in (*names, LOOP)):
        raise ValueError(f"{path} has no function of the exercise, such as {names[0]} or {LOOP}")
    with referee.precisely():
        grades = [twin_grade(module, name) for name in EXERCISED]
        wrong = [g.name for g in grades if g.verdict != RIGHT]
        return Grades([*grades, loop_grade(module, wrong)])


def table(grades):
    """All grades for people, and their sum."""
    grades = Grades(grades)
    return f"{grades.table()}\n\n{grades.sentence()}"


def load_module(path):
    """The file as a module."""
    try:
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except SyntaxError as error:
        where = f", line {error.lineno}" if error.lineno else ""
        raise ValueError(f"{path} is not Python{where}: {error.msg}") from None
    except ValueError as error:
        raise ValueError(f"{path} is not Python: {error}") from None
    module = types.ModuleType(path.stem)
    module.__file__ = str(path)
    try:
        exec(code, module.__dict__)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{path} cannot be run: {referee.first_line(error)}") from None
    return module


def twin_grade(module, name):
    row, answers = twins.without_time(TWINS[name]), twins.answers(TWINS[name])
    function, title = getattr(module, f"{name}_bwd", None), f"{name}_bwd"
    rng = np.random.default_rng(0)
    sizes = {"B": B, "D": D, "H": H, "M": M}
    args = twins.draw(row, sizes, rng, lambda shape: rng.uniform(0.2, 0.9, shape))
    y = jax.tree.map(np.asarray, row.stage(*args))
    dy = jax.tree.map(lambda x: rng.standard_normal(x.shape), y)
    right = zip(answers, twins.cotangents(row, args, y, dy), strict=True)
    truths = {k: np.asarray(x) for k, x in right if k}
    given = jax.tree.map(array_of(module), (twins.residual_of(row, args, y), dy))
    with right_twins(module, [f"{k}_bwd" for k in EXERCISED if k != name]):  # it may use them
        verdict, found = call(function, *given)
    if verdict:
        return Grade(title, verdict, found)
    found = (found,) if len(answers) == 1 else found
    if not isinstance(found, tuple | list) or len(found) != len(answers):
        got = len(found) if isinstance(found, tuple | list) else type(found).__name__
        return Grade(title, WRONG, f"must return {', '.join(map(str, answers))}; got {got} of them")
    table = WRONG_BY_STAGE[name](args, y, dy)
    says = [
        said
        for answer, x in zip(answers, found, strict=True)
        if answer and (said := fault(answer, x, truths, table.get(answer, {})))
    ]
    return Grade(title, WRONG if says else RIGHT, "; ".join(says))


def call(function: Any, *args: Any) -> tuple[str, Any]:
    """("", result), or a verdict and why."""
    if not callable(function):
        return MISSING, ""
    try:
        with np.errstate(all="ignore"):
            found = function(*args)
    except NotImplementedError:
        return MISSING, ""
    except KeyError as error:
        key = str(error.args[0]) if error.args else ""
        hint = (
            f': d["{key}"] was not put into d' if key in deltas_by(textbook, a_problem())[0] else ""
        )
        return WRONG, f"raises {referee.first_line(error)}{hint}"
    except (Exception, SystemExit) as error:
        return WRONG, f"raises {referee.first_line(error)}"
    if found is None:
        return (
            (MISSING, "") if is_blank(function) else (WRONG, "returns None: is `return` missing?")
        )
    return "", found


def is_blank(function):
    """Whether nothing stands in it but words, `pass` and `...`."""
    nothing = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST", "COPY_FREE_VARS"}
    try:
        return {step.opname for step in dis.get_instructions(function)} <= nothing
    except TypeError:
        return False


def array_of(module):
    """The arrays of the file: JAX's, unless it knows NumPy alone."""
    return jnp.asarray if {"jnp", "jax"} & set(vars(module)) else np.array


def fault(answer, x, truths, table):
    """What is wrong with one answer; nothing when it is right."""
    truth = truths[answer]
    try:
        kind = np.asarray(x).dtype
        x = np.asarray(x, np.float64)
    except (TypeError, ValueError):
        return f"{answer} must be an array; got {type(x).__name__}"
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


def loop_grade(module, wrong_twins):
    """The gradient of `backward` by itself, to diagnose."""
    function = getattr(module, LOOP, None)
    problem, with_right = a_problem(), ""
    if callable(function) and (said := forward_fault(module, problem)):
        return Grade(LOOP, WRONG, said)
    if wrong_twins:
        with_right = f"with the right {', '.join(wrong_twins)} in place: "
        if len(wrong_twins) == len(EXERCISED):
            with_right = "with all twins right: "
    with right_twins(module, wrong_twins):
        verdict, found = call(gradient_by(module, function), problem)
        if verdict:
            said = f"{with_right}{found}" if found else ""
            return Grade(LOOP, verdict, said)
        try:
            diagnosis = diagnose(gradient_by(module, function), problem)
        except (Exception, SystemExit) as error:
            return Grade(LOOP, WRONG, with_right + str(error).splitlines()[0])
        if diagnosis and (said := deltas_fault(module, problem)):
            return Grade(LOOP, WRONG, with_right + said)
    if diagnosis:
        return Grade(LOOP, RIGHT, with_right.removesuffix(": "))
    return Grade(LOOP, WRONG, with_right + diagnosis.sentence().replace("\n", "; "))


def a_problem():
    """Random numbers everywhere, also in what is remembered and in the last cotangents."""
    rng = np.random.default_rng(1)
    shapes = {"W": (D, 4 * H), "U": (H, 4 * H), "b": (4 * H,), "xs": (T, B, D), "dhs": (T, B, H)}
    shapes |= dict.fromkeys(("h0", "c0", "dh_T", "dc_T"), (B, H))
    return {k: rng.standard_normal(shape) for k, shape in shapes.items()}


def forward_by(module, arrays):
    """The parameters as the file has them, a matrix for each gate, and its steps."""
    form = array_of(module)
    each = [x for k in ("W", "U", "b") for x in np.split(arrays[k], 4, axis=-1)]
    params = module.Params(*map(form, each))
    return params, module.forward(params, *(form(arrays[k]) for k in ("xs", "h0", "c0")))


def forward_fault(module, problem):
    """What was given must be as it was: the forward, and Params."""

    def hs_by(module):
        return [np.asarray(step["h"], np.float64) for step in forward_by(module, problem)[1]]

    right = hs_by(textbook)
    verdict, found = call(hs_by, module)
    if verdict:
        return f"`forward`, which was given, {found or 'is missing'}"
    if len(found) != len(right) or any(h.shape != right[0].shape for h in found):
        return "`forward`, which was given, was changed: its steps are not those it had"
    for t, (a, b) in enumerate(zip(found, right, strict=True)):
        # h is within (-1, 1): float32's rounding of a few steps, and far from any change of (1)-(4)
        if not np.allclose(a, b, rtol=0, atol=1e-5):
            return f"`forward`, which was given, was changed: h differs from t={t} on"
    return ""


def deltas_by(module, arrays):
    """What the backward of a file says of every step."""
    params, steps = forward_by(module, arrays)
    form = array_of(module)
    return module.backward(
        params, steps, *(form(arrays[k]) for k in ("dhs", "dh_T", "dc_T"))
    ).deltas


def deltas_fault(module, problem):
    """Every delta that the docstring of `backward` names must be there, and be right.

    What a loop in NumPy wrote into after it had put it there holds another delta by now: that is no
    fault of the gradient.
    """
    right = deltas_by(textbook, problem)
    with right_twins(module, [f"{k}_bwd" for k in EXERCISED]):  # which write into nothing
        verdict, found = call(deltas_by, module, problem)
    if verdict:
        return found
    if not isinstance(found, list | tuple) or len(found) != len(right):
        return f"its `deltas` must be a dict for each of the {len(right)} steps"
    for t in reversed(range(len(right))):
        if not isinstance(found[t], dict):
            return f"its `deltas` must be dicts; got {type(found[t]).__name__} at t={t}"
        if missing := [k for k in right[t] if k not in found[t]]:
            return f"the gradient is right, but the deltas of t={t} lack {', '.join(missing)}"
        for k, want in right[t].items():
            later = [right[n][name] for n in (t, t - 1) if n >= 0 for name in ("dh", "dc", "dx")]
            may_be = [want, *(later if array_of(module) is np.array else ())]
            if not any(is_near(found[t][k], x) for x in may_be):
                return f"the gradient is right, but the delta {k} of t={t} is not"
    return ""


def is_near(x, truth):
    """To the rounding of a few steps."""
    try:
        kind = np.asarray(x).dtype
        off = np.asarray(x, np.float64) - truth
    except (TypeError, ValueError):
        return False
    eps = np.finfo(kind if kind in (np.float32, np.float16) else np.float64).eps
    same = off.shape == truth.shape == np.shape(x)
    return same and bool(np.abs(off).max() <= LOOP_EPS * eps * max(1.0, np.abs(truth).max()))


def gradient_by(module: Any, function: Any) -> Any:
    """A function of the problem's arrays by the forward and the backward of the file."""
    if not callable(function):
        return None

    def gradient(arrays):
        arrays = {k: np.asarray(x) for k, x in arrays.items()}
        form, zeros = array_of(module), np.zeros_like(arrays["h0"])
        params, steps = forward_by(module, arrays)
        last = [form(arrays.get(f"d{k}_T", zeros)) for k in "hc"]
        found: Any = function(params, steps, form(arrays["dhs"]), *last)
        if found is None and is_blank(function):
            raise NotImplementedError
        if found is None:
            return None
        packed = [np.asarray(x) for x in found.dparams]
        dW, dU, db = (np.concatenate(packed[n : n + 4], axis=-1) for n in (0, 4, 8))
        rest = {k: np.asarray(getattr(found, k)) for k in ("dxs", "dh0", "dc0")}
        return {"dW": dW, "dU": dU, "db": db} | rest

    return gradient


@contextlib.contextmanager
def right_twins(module, names):
    """The twins of stages/step.py in the place of these."""
    form = array_of(module)

    def right(name):
        return lambda *given: jax.tree.map(
            lambda x: form(np.asarray(x)), getattr(stages, name)(*given)
        )

    before = {name: vars(module)[name] for name in names if name in vars(module)}
    vars(module).update({name: right(name) for name in names})
    try:
        yield
    finally:
        for name in names:
            del vars(module)[name]
        vars(module).update(before)
