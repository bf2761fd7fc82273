"""Derivatives without any autodiff: move one element of one input, and look at the outputs.

    central      (f(x + s e) - f(x - s e)) / 2s, four steps s, extrapolated to s = 0 (Richardson)
    complex      Im f(x + i s e) / s with s = 1e-30: no difference is taken, so no digit is lost

Both walk over every element of every floating-point input: for tiny sizes only. A complex step
needs a function that admits complex numbers and is analytic (no |x|, no max).
Sources: Richardson (1911); Squire & Trapp (1998), "Using complex variables to estimate derivatives
of real functions".
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm.referee.comparison import (
    Route,
    Tolerances,
    Tree,
    along,
    exactly,
    flat,
    floating,
    judge,
    leaf_names,
    lowest_dtype,
    precisely,
    quick_jit,
    random_cotangents,
)
from jax_lstm.referee.doors import check_callables, check_functions, check_judged
from jax_lstm.referee.report import NOT_ANALYTIC, Row, failure

STEP = 2.0**-9
LEVELS = 4
IMAGINARY = 1e-30
LOST = 1e-4  # of the largest derivative: complex steps that are further off are none
CENTRAL = Tolerances(relative=1e-10, worst=np.inf)
COMPLEX = Tolerances(relative=1e-11, worst=np.inf)


def compare_differences(
    routes: Mapping[str, Route],
    function: Callable[..., Tree],
    analytic: Callable[..., Tree],
    args: tuple[Tree, ...],
    *,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> Iterator[Row]:
    """A hand-written gradient beside differences of values: no autodiff in the truth.

    Args:
      routes: {name: route, referee: route}, see comparison.py. What is on trial, and what says
        which error is usual at a narrow dtype.
      function: the values, for central differences.
      analytic: the same values, also for complex numbers. Where they do not continue the values
        analytically, so that complex steps and central differences part, its row is EMPTY and says
        so; central differences judge alone.
      args, names, seed: as in `compare`, of a tiny size.

    Yields:
      a row per leaf and kind of difference. Differences are taken in float64 at any dtype.
    """
    check_functions("routes", routes, most=2)
    check_callables(function=function, analytic=analytic)
    check_judged(args, names, seed)
    (name, route), (_, referee) = routes.items()
    names, dtype = leaf_names(args, names), lowest_dtype(args)
    dys = random_cotangents(function, args, seed)
    (_, *got), (_, *own) = along(route, args, dys), along(referee, args, dys)
    central = None
    for against, f, derivatives, tolerances in (
        ("central", function, central_differences, CENTRAL),
        ("complex step", analytic, complex_step, COMPLEX),
    ):
        with precisely():
            J = derivatives(f, *exactly(args))
            if central is not None and not continues(J, central):
                nothing = failure(name, "all", against, str(dtype), NOT_ANALYTIC)
                yield nothing._replace(ok=True)  # EMPTY in the table, and counted as such
                continue
            central, want = J, contract(J, args, dys)
        yield from judge(
            names, got, want, own, tolerances, route=name, against=against, dtype=dtype
        )


def continues(J, central):
    """Whether complex steps saw an analytic function: not a maximum, nor a logarithm of one."""
    return np.abs(J - central).max(initial=0) <= LOST * np.abs(central).max(initial=1)


def central_differences(f, *args):
    """Every derivative of every output of f, by central differences of the forward alone.

    The error of one central difference is a_1 s² + a_2 s⁴ + ...; halving s and combining removes
    one power after the other:

        D_{k+1}(s) = (4^k D_k(s/2) - D_k(s)) / (4^k - 1)

    Args:
      f: maps args to a pytree of real arrays.
      args: pytrees of arrays; floating-point leaves in float64.

    Returns:
      J: numpy (inputs, outputs), elements of all floating-point leaves by elements of all outputs.
    """
    outputs, x = flat_function(f, args)
    table = []
    for s in STEP / 2.0 ** np.arange(LEVELS):
        steps = s * np.eye(x.size)
        table.append((outputs(x + steps) - outputs(x - steps)) / (2 * s))
    for k in range(1, LEVELS):
        table = [(4**k * fine - coarse) / (4**k - 1) for coarse, fine in itertools.pairwise(table)]
    return table[0]


def complex_step(f, *args):
    """Every derivative of every output of f, exact to rounding, from its values at x + i 1e-30 e.

    Args, returns: as `central_differences`; f must admit complex128 for every float64 leaf.
    """
    outputs, x = flat_function(f, args)
    return np.imag(outputs(x + 1j * IMAGINARY * np.eye(x.size))) / IMAGINARY


def contract(J, args, dys):
    """Cotangents Jᵀ dy in the shapes of the floating-point leaves: a list of (draws, ...)."""
    dy = np.stack([np.concatenate([flat(x) for x in jax.tree.leaves(tree)]) for tree in dys])
    leaves, _ = floating(args)
    borders = np.cumsum([x.size for x in leaves])[:-1]
    parts = np.split(dy @ J.T, borders, axis=1)
    return [p.reshape((len(dys), *np.shape(x))) for p, x in zip(parts, leaves, strict=True)]


def flat_function(f, args):
    """f as a map of rows (points, inputs) -> (points, outputs), and where it is looked at."""
    x = np.concatenate([flat(x) for x in floating(args)[0]])
    return lambda points: np.asarray(quick_jit(values, static_argnums=0)(f, args, points)), x


def values(f, args, points):
    leaves, rebuild = floating(args)
    borders = np.cumsum([x.size for x in leaves])[:-1]

    def at(point):
        parts = jnp.split(point, borders)
        y = f(*rebuild([p.reshape(x.shape) for p, x in zip(parts, leaves, strict=True)]))
        return jnp.concatenate([x.reshape(-1) for x in jax.tree.leaves(y)])

    return jax.lax.map(at, points)
