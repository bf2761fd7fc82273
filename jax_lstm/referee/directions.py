"""Tangents and Hessian-vector products that somebody brings, judged as a gradient is judged.

    jvp(args, tangents) -> y, y_dot                   beside `jax.jvp` of a function
    hvp(args, tangents) -> gradient, product          beside `jax.jvp` of `jax.grad` of a loss

Both are tried along several random directions of every floating-point argument at once. The verdict
is that of comparison.py, with its tolerances.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm.doors import refuse
from jax_lstm.referee.comparison import (
    Route,
    Tree,
    copies,
    floating,
    judge_routes,
    leaf_names,
    lowest_dtype,
    random_cotangents,
)
from jax_lstm.referee.doors import check_functions, check_judged
from jax_lstm.referee.report import Report, Row

JVP, HVP = "jvp", "hvp"


def compare_jvp(
    functions: Mapping[str, Callable[..., Any]],
    *args: Tree,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> Report:
    """Compare tangents that somebody brings with `jax.jvp`.

    Args:
      functions: {name: jvp}, and last {name: function}, the referee's. `jvp(args, tangents) -> y,
        y_dot` as `jax.jvp` takes and returns them: tuples like args, and trees like what the
        function returns. The function maps args to a pytree of floating-point arrays.
      args: pytrees of arrays. Tangents are random for floating-point leaves, float0 for others.
      names: of the arguments, for complaints.
      seed: of the random tangents.

    Returns:
      Report: for each jvp a row for the value, and one per array of the output.

    Raises:
      ValueError: fewer than two functions, no floating-point argument, or float64 arguments where
        JAX has float64 switched off.
    """
    return report(JVP, functions, args, names, seed)


def compare_hvp(
    functions: Mapping[str, Callable[..., Any]],
    *args: Tree,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> Report:
    """Compare Hessian-vector products that somebody brings with JAX's forward over reverse.

    Args:
      functions: {name: hvp}, and last {name: loss}, the referee's. `hvp(args, tangents) ->
        gradient, product`, tuples like args. The loss maps args to one real number.
      args, seed: see `compare_jvp`.
      names: of the arguments, for the rows; default args[0], args[1], ...

    Returns:
      Report: for each hvp a row for the gradient, and one per leaf of the product.

    Raises:
      ValueError: as `compare_jvp`.
    """
    return report(HVP, functions, args, names, seed)


def report(kind, functions, args, names, seed):
    return Report(tuple(compare_directions(kind, functions, args, names=names, seed=seed)))


def compare_directions(
    kind: str,
    functions: Mapping[str, Callable[..., Any]],
    args: tuple[Tree, ...],
    *,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> Iterator[Row]:
    """As `compare_jvp` and `compare_hvp`, by kind "jvp" or "hvp"; yields rows as they are ready."""
    if not isinstance(kind, str) or kind not in (JVP, HVP):
        refuse("kind", '"jvp" or "hvp"', kind)
    check_functions("functions", functions)
    check_judged(args, names, seed)
    of_args = leaf_names(args, names)
    lowest_dtype(args)
    *others, against = functions
    function = functions[against]
    given = {name: brought_route(kind, functions[name]) for name in others}
    given[against] = pushforward(function) if kind == JVP else second(function)
    leaves = floating(args)[0]
    draws = random_cotangents(lambda: [np.zeros(x.shape, x.dtype) for x in leaves], (), seed)
    if kind == JVP:
        shapes = jax.eval_shape(function, *args)
        y = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(y)]
        yield from judge_routes(given, args, draws, y, [f"y_dot{path}" for path in paths])
    else:
        rows = [f"H {name.removeprefix('d')}" for name in of_args]
        yield from judge_routes(given, args, draws, args, rows, "gradient")


# Routes ---------------------------------------------------------------------------------------


def like_args(args, leaves):
    """Tangents like args: the given ones, and float0 for what is not floating point."""
    new = iter(leaves)
    zeros = lambda x: np.zeros(np.shape(x), jax.dtypes.float0)
    return jax.tree.map(lambda x: next(new) if is_floating(x) else zeros(x), args)


def is_floating(x):
    return jnp.issubdtype(x.dtype, jnp.inexact)


def brought_route(kind: str, function: Callable[..., Any]) -> Route:
    """The route of what somebody brings."""

    def route(args, leaves):
        first, dots = function(copies(args), like_args(args, leaves))
        if kind == JVP:
            return first, jax.tree.leaves(dots)
        return floating_of(args, first), floating_of(args, dots)

    return route


def floating_of(args, tree):
    """The leaves of a tree like args that belong to floating-point ones."""
    leaves = jax.tree.structure(args).flatten_up_to(tree)
    every = zip(jax.tree.leaves(args), leaves, strict=True)
    return [x for a, x in every if is_floating(a)]


def pushforward(f: Callable[..., Tree]) -> Route:
    """The route of JAX's forward mode."""

    def route(args, dots):
        leaves, rebuild = floating(args)
        y, y_dot = jax.jvp(lambda leaves: f(*rebuild(leaves)), (leaves,), (dots,))
        return y, jax.tree.leaves(y_dot)

    return route


def second(f: Callable[..., Tree]) -> Route:
    """The route of JAX's forward over reverse."""

    def route(args, dots):
        leaves, rebuild = floating(args)
        return jax.jvp(jax.grad(lambda leaves: f(*rebuild(leaves))), (leaves,), (dots,))

    return route
