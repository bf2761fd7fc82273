"""Two routes to one gradient, side by side: the value, and every leaf of every cotangent.

A route is a function `(args, dy) -> (y, dargs)`. `pullback(f)` makes one of a function that JAX can
differentiate, `twins(stage, stage_bwd)` of a pair written by hand.

One random cotangent is one direction, and a lucky rounding error of one number proves nothing: each
comparison pools several random cotangents, on every output at once, into one error per leaf and one
per element.

The verdict has no knob. By dtype of the arguments (the least precise one):
    float64     the referee is the truth: ‖got - want‖ <= 1e-12 ‖want‖, and every element of a
                cotangent within 1e-11 of its own size.
    float32     the truth is the referee in float64 at the same (rounded) inputs and cotangents:
                the error by norm is at most twice the referee's own in float32, plus 4 eps.
    16 bits     likewise, plus 1 eps.
Calibrated on 25 seeds, T = 1 to 200, H = 1 to 31: what was seen is a quarter of this or less.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm.referee.doors import check_callables, check_functions, check_judged
from jax_lstm.referee.report import EMPTY, Report, Row, failure, first_line

Tree: TypeAlias = Any  # a pytree of arrays
AnyCell: TypeAlias = Any  # a record as engine/cell.py has it: no cell is known here
Route: TypeAlias = Callable[[Any, Any], tuple[Tree, Any]]  # (args, dy) -> (y, dargs)

PRECISION = "highest"  # of matrix products; a GPU's default for float32 is TF32
DRAWS = 8
FACTOR = 2.0  # times the referee's own error
EPS = {32: 4.0, 16: 1.0}  # and so many eps, by bits


class Tolerances(NamedTuple):
    """In float64: relative to the norm of a leaf, and to the size of each element."""

    relative: float
    worst: float


ROUNDING = Tolerances(relative=1e-12, worst=1e-11)


def compare(
    functions: Mapping[str, Callable[..., Tree]],
    *args: Tree,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> Report:
    """Compare the gradients of functions that should compute the same.

    Args:
      functions: {name: f}, at least two; the last one is the referee. Each maps args to a pytree of
        floating-point arrays.
      args: pytrees of arrays; the cotangent of every floating-point leaf is compared.
      names: of the arguments, for the rows; default args[0], args[1], ...
      seed: of the random cotangents.

    Returns:
      Report: for each function but the last, a row for the value and one per leaf; true only when
      all agree. A row's `verdict()` says it in words: as exact as autodiff, worse by a factor, or
      a different gradient.

    Raises:
      ValueError: fewer than two functions, no floating-point argument, or float64 arguments where
        JAX has float64 switched off.
    """
    check_functions("functions", functions)
    check_judged(args, names, seed)
    routes = {name: pullback(f) for name, f in functions.items()}
    return Report(tuple(compare_routes(routes, args, names=names, seed=seed)))


def compare_routes(
    routes: Mapping[str, Route],
    args: tuple[Tree, ...],
    *,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> Iterator[Row]:
    """As `compare`, for routes `(args, dy) -> (y, dargs)`; yields rows as they are ready."""
    check_functions("routes", routes)
    check_judged(args, names, seed)
    *_, against = routes
    dys = random_cotangents(lambda *args: routes[against](args, None)[0], args, seed)
    yield from judge_routes(routes, args, dys, args, leaf_names(args, names))


def judge_routes(routes, args, directions, like, names, value="value"):
    """Every route but the last beside it, along all directions at once: a row for the first of what
    a route returns, and one per array of the second, which are those of `like`."""
    *others, against = routes
    dtype = lowest_dtype(args)
    own = along(routes[against], args, directions, like)
    with precisely():
        want = along(routes[against], exactly(args), exactly(directions), exactly(like))
    for name in others:
        try:
            got = along(routes[name], args, directions, like)
        except Exception as error:  # a broken rule may raise anything: it is the one on trial
            yield failure(name, "all", against, str(dtype), first_line(error))
            continue
        judged = {"route": name, "against": against, "dtype": dtype}
        one = ROUNDING._replace(worst=np.inf)  # it has one draw: an element may be 0 by chance
        yield from judge([value], got[:1], want[:1], own[:1], one, **judged)
        yield from judge(names, got[1:], want[1:], own[1:], ROUNDING, **judged)


# Routes ---------------------------------------------------------------------------------------


def pullback(f: Callable[..., Tree]) -> Route:
    """The route of JAX: `jax.vjp`, which uses the rules of `custom_vjp` where f has any."""
    check_callables(f=f)

    def route(args, dy):
        leaves, rebuild = floating(args)
        y, vjp = jax.vjp(lambda leaves: f(*rebuild(leaves)), leaves)
        return y, None if dy is None else vjp(dy)[0]

    return route


def twins(stage: Callable[..., Tree], stage_bwd: Callable[..., Tree]) -> Route:
    """The route of a stage and its twin: `stage(*args)`, `stage_bwd(args, y, dy)`.

    No rule is registered with JAX on the way. The cotangents come in the order of the arguments,
    None for what has no derivative; a stage of one argument may return its cotangent bare.
    """
    check_callables(stage=stage, stage_bwd=stage_bwd)

    def route(args, dy):
        y = stage(*copies(args))
        return y, None if dy is None else jax.tree.leaves(stage_bwd(copies(args), y, dy))

    return route


def along(route, args, dys, like=None):
    """Value and cotangents along every dy: a list (value, *leaves) of numpy (draws, ...).

    like: whose shapes and dtypes the cotangents have; None: args.

    Raises:
      ValueError: a cotangent has another shape than its array, or fewer bits.
    """
    route = quick_jit(route)
    runs = [route(args, dy) for dy in dys]
    wanted, found = floating(args if like is None else like)[0], runs[0][1]
    got, want = [[np.shape(x) for x in leaves] for leaves in (found, wanted)]
    if got != want:
        raise ValueError(f"cotangents have shapes {got}; their arrays have {want}")
    got, want = [[jnp.finfo(x.dtype).bits for x in leaves] for leaves in (found, wanted)]
    if any(g < w for g, w in zip(got, want, strict=True)):
        raise ValueError(f"cotangents have {got} bits; their arrays have {want}")
    value = [np.concatenate([flat(leaf) for leaf in jax.tree.leaves(y)]) for y, _ in runs]
    by_leaf = zip(*(dargs for _, dargs in runs), strict=True)
    return [np.stack(value), *(np.stack([host(x) for x in leaf]) for leaf in by_leaf)]


def quick_jit(f, **options):
    """`jax.jit`; on a CPU without the dear passes of LLVM, which take longer than all the rest."""
    quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    quick = quick if jax.default_backend() == "cpu" else None
    return jax.jit(f, compiler_options=quick, **options)


@contextlib.contextmanager
def precisely() -> Iterator[None]:
    """float64 exists, and matrix products are exact to rounding."""
    with jax.enable_x64(True), jax.default_matmul_precision(PRECISION):
        yield


# Verdicts -------------------------------------------------------------------------------------


def judge(names, got, want, own, tolerances, *, route, against, dtype):
    """A row per array. `want` is the truth; `own`, what the referee itself gets at this dtype."""
    kind = jnp.finfo(dtype)
    every = np.sqrt(sum(np.sum(w**2) for w in want))
    for name, g, w, o in zip(names, got, want, own, strict=True):
        max_abs, relative, worst = distance(g, w, every, dtype)
        if kind.bits == 64:
            beside, allowed = None, tolerances.relative
        else:
            _, beside, _ = distance(o, w, every, dtype)
            allowed = FACTOR * beside + EPS[kind.bits] * float(kind.eps)
        agrees = relative <= allowed and (kind.bits < 64 or worst <= tolerances.worst)
        errors = (max_abs, relative, worst, allowed, beside)
        note, shape = "" if w.size else EMPTY, (worst_place(g, w), *angle(g, w))
        yield Row(route, name, against, str(dtype), *errors, agrees, note, *shape)


def distance(got, want, every, dtype):
    """Largest absolute error, relative error by norm, and that of the worst element.

    An element's size is its norm over the draws: it is small where the derivative is, not by the
    chance of one cotangent. A leaf that is zero is measured by the norm of `every` leaf, a zero
    element by its leaf's. What is too close to the smallest number of the dtype to have full
    precision counts as zero.
    """
    if want.size == 0:
        return 0.0, 0.0, 0.0
    if not (np.isfinite(got).all() and np.isfinite(want).all()):
        return np.nan, np.nan, np.nan
    kind = jnp.finfo(jnp.float64 if jnp.finfo(dtype).bits == 64 else jnp.float32)
    tiny = float(kind.tiny) / float(kind.eps)

    def size(x, otherwise):
        return np.where(x > tiny, x, max(otherwise, tiny))

    error = np.abs(got - want)
    leaf = size(np.linalg.norm(want), every)
    relative = np.linalg.norm(error) / leaf
    elements = np.linalg.norm(error, axis=0) / size(np.linalg.norm(want, axis=0), leaf)
    return float(error.max()), float(relative), float(elements.max())


def worst_place(got, want):
    """Where the largest error is, relative to the element's size over the draws."""
    if want.size == 0:
        return ()
    size = np.linalg.norm(want, axis=0)
    error = np.linalg.norm(got - want, axis=0) / np.where(size > 0, size, size.max() or 1.0)
    first = np.argmax(np.where(np.isnan(error), np.inf, error))
    return tuple(int(n) for n in np.unravel_index(first, error.shape))


def angle(got, want):
    """‖got‖ / ‖want‖, and the cosine of the angle between them; NaN where one is zero."""
    got, want = got.reshape(-1), want.reshape(-1)
    a, b = np.linalg.norm(got), np.linalg.norm(want)
    if not (a > 0 and b > 0):
        return math.nan if b == 0 else float(a / b), math.nan
    return float(a / b), float(got / a @ (want / b))


# Trees ----------------------------------------------------------------------------------------


def copies(tree):
    """The tree with arrays of its own: a function on trial may write into what it is given."""
    return jax.tree.map(lambda x: x.copy() if isinstance(x, np.ndarray) else x, tree)


def floating(tree):
    """The floating-point leaves of a tree, and how to put others in their place, beside copies of
    the rest."""
    leaves, structure = jax.tree.flatten(tree)
    which = [jnp.issubdtype(x.dtype, jnp.inexact) for x in leaves]

    def rebuild(new):
        new = iter(new)
        return jax.tree.unflatten(
            structure, [next(new) if w else copies(x) for w, x in zip(which, leaves, strict=True)]
        )

    return [x for w, x in zip(which, leaves, strict=True) if w], rebuild


def leaf_names(args, names=None):
    """A name for the cotangent of each floating-point leaf: dparams.W, dxs."""
    names = names or [f"args[{k}]" for k in range(len(args))]
    if len(names) != len(args):
        raise ValueError(f"`names` must be one per argument, {len(args)}; got {names}")
    found = []
    for name, arg in zip(names, args, strict=True):
        for path, leaf in jax.tree.leaves_with_path(arg):
            if not hasattr(leaf, "dtype"):
                raise ValueError(f"`args` must hold arrays; {name} holds a {type(leaf).__name__}")
            if jnp.issubdtype(leaf.dtype, jnp.inexact):
                found.append(f"d{name}{jax.tree_util.keystr(path)}")
    if not found:
        raise ValueError("`args` must have a floating-point array to differentiate by")
    return found


def lowest_dtype(args):
    """The dtype with the fewest digits: it decides what can be asked of the whole."""
    dtypes = {jnp.dtype(x.dtype) for x in floating(args)[0]}
    for dtype in dtypes:
        if jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(f"`args` must be real; got {dtype}")
        if dtype == jnp.float64 and jnp.result_type(float) != jnp.float64:
            raise ValueError("`args` has float64 arrays, and JAX would round them: jax_enable_x64")
    if not dtypes:
        raise ValueError("`args` must have a floating-point array to differentiate by")
    return max(dtypes, key=lambda dtype: float(jnp.finfo(dtype).eps))


def exactly(tree):
    """The same numbers in float64, as numpy."""
    leaves, rebuild = floating(tree)
    return rebuild([host(x) for x in leaves])


def random_cotangents(f, args, seed):
    """DRAWS times standard normal numbers in the shapes and dtypes of what f returns."""
    rng, ys = np.random.default_rng(seed), jax.eval_shape(f, *args)

    def draw(y):
        return np.asarray(rng.standard_normal(y.shape)).astype(y.dtype)

    return [jax.tree.map(draw, ys) for _ in range(DRAWS)]


def host(x):
    return np.asarray(x).astype(np.float64)


def flat(x):
    return host(x).reshape(-1)
