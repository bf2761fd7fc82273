"""TIME IN PARALLEL: a second route for cells whose step is affine in h, h_t = a_t h_{t-1} + b_t.

    forward     (a_2, b_2) after (a_1, b_1) = (a_2 a_1, a_2 b_1 + b_2): associative, so a scan of
                log T rounds gives every h_t
    backward    g_t = dh_t + a_{t+1} g_{t+1}: a scan of the same kind, the other way
    weights     `step_bwd` of every step at once, then `weights_bwd`

A masked step is a = 1, b = 0; a reset is a = 0, and b as if h_prev were what it leads to. Both
scans add and multiply in another order than the loop of bptt.py: equal to rounding, not to the bit.
This file knows no gate. Source: Blelloch (1990), "Prefix sums and their applications", by way of
`jax.lax.associative_scan`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jax_lstm.doors import check_text
from jax_lstm.engine.bptt import of_params
from jax_lstm.engine.cell import AnyCell
from jax_lstm.engine.doors import (
    check_cell,
    check_options,
    check_record,
    check_reset_state,
    check_steps,
    valid_steps,
)
from jax_lstm.engine.made import Made
from jax_lstm.engine.plans import batch_axes
from jax_lstm.engine.segments import Steps, cast_like, clear_masked, shift, where, widen
from jax_lstm.sharding import vary_together


def make_parallel_rnn(cell: AnyCell, name: str = "parallel_rnn") -> Callable[..., Any]:
    """A whole-sequence function for a cell with `affine`, by a parallel scan.

    Args:
      cell: a `Cell` whose state is h alone and whose step is h = a h_prev + b by `affine`.
      name: of the function.

    Returns:
      `(params, state, xs, *, lengths, mask, resets, reset_state, reverse) -> (state, hs)`, see
      `jax_lstm.lstm` for the options; differentiated by a parallel scan as well.

    Raises:
      ValueError: the cell says no `affine`, or has more than one field in its state.
    """
    check_record("cell", cell)
    check_text("name", name)
    if cell.affine is None or len(cell.state._fields) != 1:
        raise ValueError(f"the cell {cell.name} must say `affine` of a state that is h alone")

    def run(
        params: Any,
        state: Any,
        xs: jax.Array,
        *,
        lengths: Any = None,
        mask: Any = None,
        resets: Any = None,
        reset_state: Any = None,
        reverse: bool = False,
    ) -> tuple[Any, jax.Array]:
        """A sequence by a parallel scan over time, and its gradient by another."""
        check_cell(cell, params, state, xs, "xs", 1)
        check_options("full", 1, reverse)
        T, *batch = xs.shape[: batch_axes(cell, state) + 1]
        mask = valid_steps(lengths, mask, T, batch)
        resets = check_steps("resets", resets, T, batch)
        check_reset_state(reset_state, state, resets)
        fresh = jax.tree.map(jnp.zeros_like, state) if reset_state is None else reset_state
        args = vary_together((params, fresh, state, Steps(xs, mask, resets)))
        return by_scan((cell, reverse), *args)

    run.__name__ = run.__qualname__ = name
    return Made(run, make_parallel_rnn, (cell, name))


def coefficients(cell, w, fresh, steps):
    """a, b of every step, masks and resets in them; zs; and a before resets."""
    zs = cell.project(w, clear_masked(steps.mask, steps.xs))
    a, b = cell.affine(w, zs)
    a, b = where(steps.mask, (a, b), (jnp.ones_like(a), jnp.zeros_like(b)))
    kept = a
    if steps.resets is not None:
        h = fresh[0][None].astype(a.dtype)
        a, b = where(steps.resets, (jnp.zeros_like(a), b + a * h), (a, b))
    return a, b, zs, kept


def affine_scan(a, b, first, reverse):
    """Every h_t of h_t = a_t h_{t-1} + b_t, time on axis 0."""

    def after(one, two):
        return two[0] * one[0], two[0] * one[1] + two[1]

    if not a.shape[0]:
        return b
    a, b = lax.associative_scan(after, (a, b), reverse=reverse)
    return a * first[None] + b


def last_of(hs, first, reverse):
    return (hs[0] if reverse else hs[-1]) if hs.shape[0] else first


def forward(plan, params, fresh, state, steps):
    cell, reverse = plan
    w = cell.prepare(params, None)
    a, b, _, _ = coefficients(cell, w, fresh, steps)
    hs = affine_scan(a, b, state[0].astype(a.dtype), reverse).astype(state[0].dtype)
    last = type(state)(last_of(hs, state[0], reverse))
    return (last, clear_masked(steps.mask, hs)), (params, fresh, state, steps, hs)


def backward(plan, residual, dy):
    """Cotangents of params, fresh, state and steps, as the loop of bptt.py finds them."""
    (cell, reverse), (params, fresh, state, steps, hs) = plan, residual
    dlast, dhs = dy
    w = cell.prepare(params, None)
    a, _, zs, kept = coefficients(cell, w, fresh, steps)
    after = jnp.concatenate([a[1:], jnp.ones_like(a[:1])])
    if reverse:
        after = jnp.concatenate([jnp.ones_like(a[:1]), a[:-1]])
    dhs = clear_masked(steps.mask, dhs).astype(a.dtype)
    gs = affine_scan(after, dhs, dlast[0].astype(a.dtype), not reverse)  # (F') at every h_t
    dprevs = kept * gs
    seen = type(state)(shift(state[0], hs, reverse))
    dfresh = jax.tree.map(jnp.zeros_like, fresh)
    if steps.resets is not None:
        dh = clear_masked(steps.resets, dprevs).sum(0)
        every = jax.tree.map(lambda x: x[None], fresh)
        seen, dfresh = where(steps.resets, every, seen), cast_like(type(fresh)(dh), fresh)
        dprevs = clear_masked(~steps.resets, dprevs)
    dfirst = last_of(dprevs, dlast[0], not reverse)
    seen, xs = clear_masked(steps.mask, (seen, steps.xs))
    _, saved = cell.step(w, seen, zs)
    slopes = cell.slopes(w, seen, saved)
    _, deltas = cell.step_bwd(w, seen, slopes, type(state)(gs))
    deltas = clear_masked(steps.mask, deltas)
    dw, dxs = cell.weights_bwd(w, xs, seen, saved, widen(deltas))
    dstate = cast_like(type(state)(dfirst), state)
    return of_params(cell, params, dw), dfresh, dstate, Steps(cast_like(dxs, xs), None, None)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def by_scan(plan, params, fresh, state, steps):
    return forward(plan, params, fresh, state, steps)[0]


by_scan.defvjp(forward, backward)
