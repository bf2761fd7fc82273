"""THE REFEREE FOR ANYONE: a function with a rule of its own, judged from all sides in one call.

The truth is the gradient of a reference, if there is one; else derivatives by values alone, complex
steps where the function continues to complex numbers, and central differences whose steps are
chosen by the rounding that the values show. A verdict is "right", "WRONG" or "too noisy to say".
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm.printing import listing
from jax_lstm.referee.asked import Asked, ask, floats, run
from jax_lstm.referee.checked import (
    REFUSED,
    RIGHT,
    UNTRIED,
    WRONG,
    Answer,
    CheckReport,
    failed,
    wordless,
)
from jax_lstm.referee.comparison import (
    Tree,
    compare_routes,
    leaf_names,
    lowest_dtype,
    precisely,
    pullback,
    quick_jit,
)
from jax_lstm.referee.doors import check_check
from jax_lstm.referee.ladder import along_all, derivatives, directions_of, offsets, rungs
from jax_lstm.referee.report import first_line
from jax_lstm.referee.setting import EPS, EXACT, find_setting, look, names_of, raises
from jax_lstm.referee.survival import everywhere, where_told
from jax_lstm.referee.verdicts import SURE, judged

MOST = 192  # elements that are moved one by one; of more, random directions are
IMAGINARY = 1e-30
SURELY = 1e-3  # complex steps are believed where central differences are so good


def check(
    f: Callable[..., Tree],
    *args: Tree,
    reference: Callable[..., Tree] | None = None,
    names: Sequence[str] | None = None,
    batch: Sequence[int | None] | None = None,
    carry: tuple[int, int | None] | None = None,
    mask: Sequence[Any] | None = None,
    constants: Sequence[str] = (),
    seed: int = 0,
) -> CheckReport:
    """Judge the gradient of any function that JAX differentiates by a rule of its own.

    Every cotangent is judged, of every output by itself and of all together. Then: jit, remat, one
    argument at a time, grad of grad, a second call's bits, arguments left as they were.

    Args:
      f: of args; returns a pytree of real arrays. With custom_vjp, custom_jvp, a kernel, or
        another library's layer inside.
      args: pytrees of arrays. They are run in float64 where f takes it; an array of whole numbers
        must have the cotangent float0.
      reference: what f should be, which JAX differentiates; then rounding in 32 and 16 bits is
        judged as well, beside its own. None: derivatives by values alone.
      names: of the arguments; default: those of f's signature.
      batch: per argument, its axis of examples or None; then vmap, a batch of one and shard_map are
        tried.
      carry: (argument, output), which output takes the place of which argument at the next step;
        output None: all of it. Then scan is tried.
      mask: per argument, booleans over its leading axes, False where there is padding, or None;
        then NaN is put there.
      constants: names of arguments whose cotangent must be zero.
      seed: of the random cotangents.

    Returns:
      CheckReport: true only when all is right; `.verdict()`, `.status()`, `.table()`, `.to_json()`.

    Raises:
      ValueError: f cannot be run at these arguments, returns nothing of floating point, or what is
        said of the arguments does not fit them.
    """
    check_check(f, args, reference, names, batch, carry, mask, constants, seed)
    with precisely():
        lowest_dtype(args)
    names = names_of(f, args, names)
    unknown = [name for name in constants if name not in names]
    if unknown:
        raise ValueError(f"`constants` must be among {listing(names)}; got {listing(unknown)}")
    rng = np.random.default_rng(seed)
    setting = find_setting(f, args, names)
    with setting.context():
        at = look(setting, f, reference, rng)
        asked = ask(f, setting.args, leaf_names(setting.args, names), rng)
        answers = [*value(at, asked), *gradient(at, asked)]
        if not answers or answers[0].verdict != WRONG or len(answers) > 1:
            answers += [*everywhere(at, asked), *where_told(at, asked, batch, carry, mask)]
            answers += batch_of_one(at, asked, batch) if batch is not None else ()
        answers += none_at_all(at, asked, names, constants)
    answers += rounding(f, reference, args, names, seed)
    if setting.refused:
        answers.append(failed("the arguments as they are", setting.refused))
    return CheckReport(at.first, tuple(answers))


# The gradient ---------------------------------------------------------------------------------


def value(at, asked: Asked) -> Iterator[Answer]:
    """The values beside those of the reference."""
    if at.reference is None:
        return
    args = at.setting.args
    why = raises(lambda: jax.eval_shape(at.reference, *args))
    if why:
        raise ValueError(f"`reference` cannot be run at these arguments: {why}")
    got, want = (floats(jax.tree.map(np.asarray, g(*args))) for g in (asked.f, at.reference))
    if [x.shape for x in got] != [x.shape for x in want]:
        shapes = [[x.shape for x in ys] for ys in (got, want)]
        raise ValueError(f"`f` returns the shapes {shapes[0]}, `reference` {shapes[1]}")
    flat = lambda xs: np.concatenate([np.asarray(x, np.float64).reshape(-1) for x in xs])[None]
    a, b = flat(got), flat(want)
    yield judged("values", "", "reference", a, b, 0 * b, at.tolerance("reference"), 1.0)


def rows_of(found):
    """{draw: [leaf]} as a list of (draws, elements) per leaf."""
    return [
        np.stack([np.asarray(x, np.float64).reshape(-1) for x in leaf])
        for leaf in zip(*found, strict=True)
    ]


def gradient(at, asked: Asked, prefix="") -> Iterator[Answer]:
    """Every cotangent for every question, beside the truth."""
    pieces = {
        q.asked: lambda leaves, dys, q=q: [asked.cotangents(leaves, q, dy) for dy in dys]
        for q in asked.questions
    }
    found, again, why = run(pieces, asked.leaves, asked.dys)
    for q in asked.questions:
        if q.asked in why:
            yield failed(prefix + q.asked, why[q.asked])
    if not found:
        return
    got = {k: rows_of(x) for k, x in found.items()}
    shaken = shaking(at, asked, pieces, got)
    for q, n, truth in truths(at, asked):
        if q.asked not in got:
            continue
        V, against, want, error = truth
        mine = got[q.asked][n] @ V.T if V is not None else got[q.asked][n]
        if q.asked in shaken:
            noise = shaken[q.asked][n]
            error = error + np.abs(noise @ V.T if V is not None else noise)
        every = [float(np.sqrt(np.mean(x**2))) for x in got[q.asked] if x.size]
        every = max([x for x in every if np.isfinite(x)], default=1.0) or 1.0
        yield judged(
            prefix + q.asked,
            asked.names[n],
            against,
            mine,
            want,
            error,
            at.tolerance(against),
            every,
            V is None,
        )
    if not prefix:
        same = all(
            np.array_equal(a, b, equal_nan=True)
            for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(again), strict=True)
        )
        says = "" if same else "another call with the same arguments gave other bits"
        yield wordless("the same bits again", RIGHT if same else WRONG, says)


def shaking(at, asked, pieces, got):
    """{question: [how far a cotangent moves]} where arguments move by their last digit: the
    rounding that a rule must have which is coarser inside than its arguments."""
    coarse = max(at.eps, at.own)
    if coarse <= EPS:
        return {}
    moves = [1 + coarse * at.rng.uniform(-0.5, 0.5, x.shape) for x in asked.leaves]
    near = [np.asarray(x * m).astype(x.dtype) for x, m in zip(asked.leaves, moves, strict=True)]
    found, _, _ = run(pieces, near, asked.dys)
    return {
        k: [np.abs(a - b) for a, b in zip(rows_of(x), got[k], strict=True)]
        for k, x in found.items()
        if k in got
    }


def truths(at, asked: Asked):
    """(question, leaf, (directions or None, against, want, error)), arrays of (draws, ...)."""
    if at.reference is not None:
        pieces = {
            q.asked: lambda leaves, dys, q=q: [
                asked.cotangents(leaves, q, dy, at.reference) for dy in dys
            ]
            for q in asked.questions
        }
        found, _, why = run(pieces, asked.leaves, asked.dys)
        if why:
            raise ValueError(f"`reference` cannot be differentiated: {next(iter(why.values()))}")
        for q in asked.questions:
            for n, want in enumerate(rows_of(found[q.asked])):
                yield q, n, (None, "reference", want, 0 * want)
        return
    V, whose, single = directions_of(asked.leaves, MOST, at.rng)
    want, error, against = by_values(at, asked, V)
    draws = len(asked.dys)
    borders = np.cumsum([0, *(x.size for x in asked.leaves)])
    for m, q in enumerate(asked.questions):
        for n in range(len(asked.leaves)):
            mine, columns = whose == n, slice(m * draws, (m + 1) * draws)
            part = V[mine][:, borders[n] : borders[n + 1]]
            w, e = want[mine, columns].T, error[mine, columns].T
            if single:
                scale = np.diag(part)
                yield q, n, (None, against, w / scale, e / scale)
            else:
                yield q, n, (part, against, w, e)


def by_values(at, asked: Asked, V):
    """Derivatives along V, (directions, numbers), how far off they may be, and by what."""
    coarse = max(at.eps, at.own)
    steps = rungs(coarse)
    points = jnp.asarray(offsets(steps))
    program = quick_jit(lambda leaves, V: along_all(asked.numbers, leaves, V, points))
    values = np.asarray(program(asked.leaves, jnp.asarray(V)), np.float64)
    values = values.reshape(len(V), len(steps), -1, values.shape[-1])
    found, error = derivatives(values, steps, coarse)
    if coarse > EPS:
        return found, error, "differences"
    exact = by_complex_steps(asked, V)
    if exact is None:
        return found, error, "differences"
    size = np.abs(values).max((0, 1, 2))
    near = np.abs(exact - found) <= SURE * error + EXACT["differences"] * (np.abs(found) + size)
    if near[np.isfinite(error)].all():
        sure = error <= SURELY * np.abs(found) + 1e-6 * size  # elsewhere is a kink, say
        fine = np.minimum(error, 64 * EPS * (np.abs(exact) + size))
        return np.where(sure, exact, found), np.where(sure, fine, error), "complex steps"
    return found, error, "differences"


def by_complex_steps(asked: Asked, V):
    """The same derivatives, or None where f does not continue to complex numbers."""
    shift = jnp.asarray([1j * IMAGINARY])
    program = quick_jit(lambda leaves, V: along_all(asked.numbers, leaves, V, shift))
    with warnings.catch_warnings():
        # f is made for real numbers, and may make such of these: the derivatives are then far from
        # the differences, and the caller drops them
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        try:
            shifted = np.asarray(program(asked.leaves, jnp.asarray(V)))
        except Exception:  # or raise anything: it never promised to continue. Its real values have
            return None  # just run, and are the truth
    exact = np.imag(shifted[:, 0]) / IMAGINARY
    return exact if np.isfinite(exact).all() else None


def batch_of_one(at, asked: Asked, batch):
    """The first example alone, beside a truth of its own."""
    name = "a batch of one, "

    def first(arg, axis):
        if axis is None:
            return arg
        return jax.tree.map(lambda x: np.take(np.asarray(x), [0], axis), arg)

    one = tuple(first(arg, axis) for arg, axis in zip(at.setting.args, batch, strict=True))
    try:
        alone = ask(asked.f, one, asked.names, at.rng, every=False)
    except Exception as error:  # somebody's function may raise anything: that is the verdict
        yield failed(name.strip(", "), first_line(error))
        return
    yield from gradient(at, alone, name)


# The rest --------------------------------------------------------------------------------------


def none_at_all(at, asked: Asked, names, constants) -> Iterator[Answer]:
    """Whole numbers must have the cotangent float0; constants, zeros."""
    args = at.setting.args
    whole = [
        f"d{name}"
        for name, arg in zip(names, args, strict=True)
        if any(not jnp.issubdtype(x.dtype, jnp.inexact) for x in jax.tree.leaves(arg))
    ]
    if not whole and not constants:
        return
    try:
        ys, vjp = jax.vjp(lambda *args: floats(asked.f(*args)), *args)
        found = vjp([jnp.asarray(dy) for dy in asked.dys[0][: len(ys)]])
    except Exception as error:  # likewise
        yield failed("cotangents of whole numbers", first_line(error))
        return
    pairs = zip(jax.tree.leaves(args), jax.tree.leaves(found), strict=True)
    ints = [d for x, d in pairs if not jnp.issubdtype(x.dtype, jnp.inexact)]
    if whole:
        good = all(d.dtype == jax.dtypes.float0 for d in ints)
        says = "" if good else f"must be float0; got {', '.join(str(d.dtype) for d in ints)}"
        asked_of = f"cotangents of whole numbers, {listing(whole)}"
        yield wordless(asked_of, RIGHT if good else WRONG, says)
    for name in constants:
        d = floats(found[names.index(name)])
        zero = all(not np.asarray(x).any() for x in d)
        says = "" if zero else "`constants` names it, and its cotangent is not zero"
        yield wordless(f"d{name} must be none", RIGHT if zero else WRONG, says)


def rounding(f, reference, args, names, seed) -> Iterator[Answer]:
    """In float32 and bfloat16, beside the reference's own error."""
    if reference is None:
        yield wordless(
            "rounding", UNTRIED, "there is no `reference` whose own it could stand beside"
        )
        return
    routes = {"f": pullback(lambda *a: floats(f(*a)))}
    routes["reference"] = pullback(lambda *a: floats(reference(*a)))
    for kind in (jnp.float32, jnp.bfloat16):
        name = f"rounding in {jnp.dtype(kind)}"
        low = jax.tree.map(
            lambda x, kind=kind: (
                np.asarray(x).astype(kind) if jnp.issubdtype(x.dtype, jnp.floating) else x
            ),
            args,
        )
        try:
            rows = [*compare_routes(routes, low, names=names, seed=seed)]
        except Exception as error:  # the reference may raise anything; of f a row of them tells
            yield wordless(name, REFUSED, first_line(error))
            continue
        for row in rows[1:] if len(rows) > 1 else rows:
            own = row.beside or 0.0
            ratio = f"{row.relative / own:.2f} times" if own else "where there is none in"
            says = row.note or f"{ratio} the reference's own rounding"
            verdict = RIGHT if row.ok else REFUSED if row.note else WRONG
            yield Answer(name, row.array, "reference", row.relative, own, verdict, says)
