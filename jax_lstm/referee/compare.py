"""Two routes to one gradient, side by side: the value, and every leaf of every cotangent.

A route is a function `(args, dy) -> (y, dargs)`. `pullback(f)` makes one of a function that JAX can
differentiate, `twins(stage, stage_bwd)` of a pair written by hand.

One random cotangent is one direction, and a lucky rounding error of one number proves nothing: each
comparison pools several random cotangents (on every output at once) into one error per leaf.

The verdict has no knob.
    float64     the referee is the truth.     ‖got - want‖ <= 1e-12 ‖want‖, and no element off by
                                              more than 1e-6 of itself.
    narrower    the truth is the referee in float64, at the same (rounded) inputs and cotangents.
                                              error <= 2 x the referee's own error + 8 eps.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm.referee.report import Report, Row, failure, first_line

DRAWS = 8


class Tolerances(NamedTuple):
    """By norm and element by element in float64; beside the referee's own error elsewhere."""

    relative: float
    worst: float
    factor: float = 2.0
    eps: float = 8.0


ROUNDING = Tolerances(relative=1e-12, worst=1e-6)


def compare(functions, *args, names=None, seed=0):
    """Compare the gradients of functions that should compute the same.

    Args:
      functions: {name: f}, at least two; the last one is the referee. Each maps args to a pytree.
      args: pytrees of arrays; the cotangent of every floating-point leaf is compared.
      names: of the arguments, for the rows; default args[0], args[1], ...
      seed: of the random cotangents.

    Returns:
      Report: for each function but the last, a row for the value and one per leaf.

    Raises:
      ValueError: fewer than two functions, or an argument without a floating-point leaf.
    """
    routes = {name: pullback(f) for name, f in functions.items()}
    return Report(tuple(compare_routes(routes, args, names=names, seed=seed)))


def compare_routes(routes, args, *, names=None, seed=0):
    """As `compare`, for routes `(args, dy) -> (y, dargs)`; yields rows as they are ready."""
    if len(routes) < 2:
        raise ValueError(f"`functions` must be at least two, the last the referee; got {routes}")
    *others, against = routes
    names, dtype = leaf_names(args, names), lowest_dtype(args)
    dys = random_cotangents(lambda *args: routes[against](args, None)[0], args, seed)
    own = along(routes[against], args, dys)
    want = along(routes[against], exactly(args), exactly(dys))
    for name in others:
        try:
            got = along(routes[name], args, dys)
        except Exception as error:  # a broken rule may raise anything: it is the one on trial
            yield failure(name, "all", against, str(dtype), first_line(error))
            continue
        yield from judge(
            ("value", *names), got, want, own, ROUNDING, route=name, against=against, dtype=dtype
        )


def jitted(f, **options):
    """`jax.jit`; on a CPU without the dear passes of LLVM, which take longer than all the rest."""
    quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    quick = quick if jax.default_backend() == "cpu" else None
    return jax.jit(f, compiler_options=quick, **options)


# Routes ---------------------------------------------------------------------------------------


def pullback(f):
    """The route of JAX: `jax.vjp`, which uses the rules of `custom_vjp` where f has any."""

    def route(args, dy):
        leaves, rebuild = floating(args)
        y, vjp = jax.vjp(lambda leaves: f(*rebuild(leaves)), leaves)
        return y, None if dy is None else vjp(dy)[0]

    return route


def twins(stage, stage_bwd):
    """The route of a stage and its twin: `stage(*args)`, `stage_bwd(args, y, dy)`.

    No rule is registered with JAX on the way. The cotangents come in the order of the arguments,
    None for what has no derivative; a stage of one argument may return its cotangent bare.
    """

    def route(args, dy):
        y = stage(*args)
        return y, None if dy is None else jax.tree.leaves(stage_bwd(args, y, dy))

    return route


def along(route, args, dys):
    """Values and cotangents along every dy, as numpy: a list (value, *leaves) of (draws, ...)."""
    route = jitted(route)
    runs = [route(args, dy) for dy in dys]
    wanted = floating(args)[0]
    for _, dargs in runs[:1]:
        got, want = [[np.shape(x) for x in leaves] for leaves in (dargs, wanted)]
        if got != want:
            raise ValueError(f"cotangents have shapes {got}; their arrays have {want}")
        got, want = [[jnp.finfo(x.dtype).bits for x in leaves] for leaves in (dargs, wanted)]
        if any(g < w for g, w in zip(got, want, strict=True)):
            raise ValueError(f"cotangents have {got} bits; their arrays have {want}")
    value = [np.concatenate([flat(leaf) for leaf in jax.tree.leaves(y)]) for y, _ in runs]
    by_leaf = zip(*(dargs for _, dargs in runs), strict=True)
    return [np.stack(value), *(np.stack([host(x) for x in leaf]) for leaf in by_leaf)]


# Verdicts -------------------------------------------------------------------------------------


def judge(names, got, want, own, tolerances, *, route, against, dtype):
    """A row per array. `want` is the truth; `own`, what the referee itself gets at this dtype."""
    scale = np.sqrt(sum(np.sum(w**2) for w in want)) or 1.0
    narrow = jnp.finfo(dtype).bits < 64
    for name, g, w, o in zip(names, got, want, own, strict=True):
        max_abs, relative, worst = distance(g, w, scale)
        beside = distance(o, w, scale)[1] if narrow else None
        if beside is None:
            allowed = tolerances.relative
        else:
            allowed = tolerances.factor * beside + tolerances.eps * float(jnp.finfo(dtype).eps)
        # `not >` would let NaN pass
        ok = relative <= allowed and (narrow or worst <= tolerances.worst)
        yield Row(
            route, name, against, str(dtype), max_abs, relative, worst, allowed, beside, bool(ok)
        )


def distance(got, want, scale):
    """Largest absolute error, relative error by norm, largest relative error of an element."""
    if want.size == 0:
        return 0.0, 0.0, 0.0
    if not (np.isfinite(got).all() and np.isfinite(want).all()):
        return np.nan, np.nan, np.nan
    error = np.abs(got - want)
    norm = np.linalg.norm(want) or scale
    own_size = np.where(want == 0, norm, np.abs(want))
    relative = np.linalg.norm(error) / norm
    return float(error.max()), float(relative), float((error / own_size).max())


# Trees ----------------------------------------------------------------------------------------


def floating(tree):
    """The floating-point leaves of a tree, and how to put others in their place."""
    leaves, structure = jax.tree.flatten(tree)
    which = [jnp.issubdtype(x.dtype, jnp.inexact) for x in leaves]

    def rebuild(new):
        new = iter(new)
        return jax.tree.unflatten(
            structure, [next(new) if w else x for w, x in zip(which, leaves, strict=True)]
        )

    return [x for w, x in zip(which, leaves, strict=True) if w], rebuild


def leaf_names(args, names=None):
    """A name for the cotangent of each floating-point leaf: dparams.W, dxs."""
    names = names or [f"args[{k}]" for k in range(len(args))]
    found = []
    for name, arg in zip(names, args, strict=True):
        for path, leaf in jax.tree.leaves_with_path(arg):
            if jnp.issubdtype(leaf.dtype, jnp.inexact):
                found.append(f"d{name}{jax.tree_util.keystr(path)}")
    if not found:
        raise ValueError("`args` must have a floating-point leaf to differentiate by")
    return found


def lowest_dtype(args):
    """The dtype with the fewest digits: it decides what can be asked of the whole."""
    return max((x.dtype for x in floating(args)[0]), key=lambda dtype: float(jnp.finfo(dtype).eps))


def exactly(tree):
    """The same numbers in float64."""
    leaves, rebuild = floating(tree)
    return rebuild([host(x) for x in leaves])


def random_cotangents(f, args, seed):
    """DRAWS times standard normal numbers in the shapes and dtypes of what f returns."""
    rng, ys = np.random.default_rng(seed), jax.eval_shape(f, *args)

    def draw(y):
        return np.asarray(rng.standard_normal(y.shape), y.dtype)

    return [jax.tree.map(draw, ys) for _ in range(DRAWS)]


def host(x):
    return np.asarray(x).astype(np.float64)


def flat(x):
    return host(x).reshape(-1)
