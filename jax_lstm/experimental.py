"""BOTH MODES IN ONE FUNCTION: forward and reverse by our rules, on what JAX has for that today.

    from jax_lstm import experimental

    experimental.lstm(params, state, xs)       # jvp, jacfwd, linearize, grad, hessian: all of it
    experimental.make_both(cell)               # the same of any cell

A `jax.custom_vjp` has no forward mode, and a `jax.custom_jvp` no reverse mode of its own.
`jax.experimental.hijax` has a primitive that takes both rules. It moves from release to release:
hence this file, which nothing imports but who wants it.

    reverse    bptt.py        forward    forward_mode.py        what is made of either: tangents.py
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_lstm.cells.lstm import LSTM
from jax_lstm.engine import bptt
from jax_lstm.engine.cell import Cell, Params, State
from jax_lstm.engine.doors import check_record
from jax_lstm.engine.forward_mode import forward_mode
from jax_lstm.engine.functions import SequenceFunction
from jax_lstm.engine.routes import bind, in_whole_segments, run_cell

try:
    from jax.experimental.hijax import VJPHiPrimitive, Zero, instantiate_zeros
except ImportError as error:
    raise ImportError(
        "jax_lstm.experimental needs `VJPHiPrimitive` of jax.experimental.hijax, as JAX 0.10.2 has "
        f"it; this is JAX {jax.__version__}. `jax_lstm.lstm` is the reverse mode, "
        "`jax_lstm.lstm_jvp` the forward mode, and the twin `jax_lstm.lstm_autodiff` has both"
    ) from error

__all__ = ["lstm", "make_both"]


def make_both(cell: Cell[Params, State], name: str = "rnn") -> SequenceFunction[Params, State]:
    """A whole-sequence function for a cell, with forward and reverse mode, both hand-written.

    Args:
      cell: a `Cell`.
      name: of the function.

    Returns:
      `rnn(params, state, xs, **options) -> (state, hs)`, see `jax_lstm.lstm`.

    Raises:
      ValueError: what is no cell.

    Source: jax.experimental.hijax.
    """
    check_record("cell", cell)
    title = f"{cell.name}, over a sequence. Differentiated by its hand-written rules, both ways."
    return bind(run_cell, (cell, by_both), name, title, (make_both, (cell, name), None))


def by_both(plan, *args):
    """The route: one primitive."""
    return in_whole_segments(both, plan, *args)


def both(plan, *args):
    return Both(plan, (), jax.tree.map(jax.typeof, args))(*args)


class Both(VJPHiPrimitive):
    """A run, its tangent, and its cotangents.

    maps: of each `jax.vmap` around it, the innermost first, the axis of each leaf, or None.
    """

    def __init__(self, plan, maps, in_avals):
        self.in_avals = in_avals
        leaves, tree = jax.tree.flatten(in_avals)
        self.params = {"plan": plan, "maps": maps, "leaves": tuple(leaves), "tree": tree}
        self.plan, self.maps = plan, maps
        made = jax.make_jaxpr(self.expand, return_shape=True)(*in_avals)
        self.out_aval = jax.tree.unflatten(jax.tree.structure(made[1]), made[0].out_avals)
        super().__init__()

    def levels(self):
        """The axes of the arguments, for each `jax.vmap`."""
        return [jax.tree.unflatten(jax.tree.structure(self.in_avals), m) for m in self.maps]

    def expand(self, *args):
        run = functools.partial(bptt.sequence, self.plan)
        for axes in self.levels():
            run = jax.vmap(run, in_axes=axes)
        return run(*args)

    # Reverse mode -----------------------------------------------------------------------------

    def vjp_fwd(self, nzs_in, /, *args):
        def run(*args):
            out, (*_, firsts, kept) = bptt.forward(self.plan, *args)
            return out, (firsts, kept)

        for axes in self.levels():
            run = jax.vmap(run, in_axes=axes)
        out, kept = run(*args)
        return out, (args, kept)

    def vjp_bwd_retval(self, residual, dy):
        args, kept = residual

        def run(args, kept, dy):
            params, consts, fresh, _, steps = args
            return directions(bptt.backward(self.plan, (params, consts, fresh, steps, *kept), dy))

        back: Callable[..., Any] = run
        for axes in self.levels():
            back = summed(jax.vmap(back, in_axes=(axes, 0, 0)), directions(axes))
        dparams, dfresh, dstate, dxs = back(args, kept, whole(dy))
        nothing = jax.tree.map(lambda _: None, args)
        steps = nothing[-1]._replace(xs=dxs)
        return dparams, nothing[1], dfresh, dstate, steps

    # Forward mode -----------------------------------------------------------------------------

    def jvp(self, primals, tangents):
        def run(args, dots):
            params, consts, fresh, state, steps = args
            return forward_mode(self.plan, params, consts, fresh, state, steps, dots)

        for axes in self.levels():
            run = jax.vmap(run, in_axes=(axes, directions(axes)))
        return run(primals, whole(directions(tangents)))

    def lin(self, nzs_in, *primals):
        return self(*primals), primals

    def linearized(self, residuals, *tangents):
        return self.jvp(residuals, tangents)[1]

    # Many at once -----------------------------------------------------------------------------

    def batch(self, axis_data, args, dims):
        axes = tuple(jax.tree.structure(self.in_avals).flatten_up_to(dims))
        mapped = Both(self.plan, (*self.maps, axes), jax.tree.map(jax.typeof, args))
        return mapped(*args), jax.tree.map(lambda _: 0, mapped.out_aval)


def directions(args):
    """Of (params, consts, fresh, state, steps) what has a direction, as `forward_mode` wants it."""
    params, _, fresh, state, steps = args
    return params, fresh, state, steps.xs


def whole(tree):
    """Zeros for what JAX knows to be zero."""
    return jax.tree.map(instantiate_zeros, tree, is_leaf=lambda x: isinstance(x, Zero))


def summed(run, axes):
    """Cotangents of what `jax.vmap` maps, where it maps them; of what all share, their sum."""

    def back(x, axis):
        return x.sum(0) if axis is None else jnp.moveaxis(x, 0, axis)

    def mapped(*args):
        found = run(*args)
        flat, tree = jax.tree.flatten(found)
        return tree.unflatten(map(back, flat, tree.flatten_up_to(axes)))

    return mapped


lstm = make_both(LSTM, "lstm")
