"""SECOND ORDER: Pearlmutter's R-operator on backpropagation through time. No gate is known.

ẋ is the derivative of x along one direction of params, state and xs, and x_dot in the code. The
tangent of a linear loop is the same loop, driven by what its coefficients' tangents put in:

    forward     state_t, saved_t      = step(state_{t-1}, z_t)
                state_dot_t           = step_jvp(state_dot_{t-1}, δ̇_t)                 δ̇ beforehand
    backward    dstate_{t-1}, d_t     = step_bwd(slopes_t, dstate_t + dy_t)
                dstate_dot_{t-1}, ḋ_t = step_bwd(slopes_t, dstate_dot_t + dy_dot_t) + force_t
                force_t               = step_bwd_jvp(slopes_t, dstate_t, slopes_dot_t)   afterwards
    weights     dparams, dparams_dot  = Σ weights_bwd(...), Σ weights_bwd_jvp(...)

One pass forward, one pass back, each a segment of K steps at a time: first the values of its steps
and then their tangents. In the four loops over steps stands what stands in those of the gradient;
`force` and everything else is of a whole segment at once. Masks, lengths, resets, direction and
`residuals` are those of bptt.py.

A cell may bring the tangents of its backward, `Second` of cell.py; the LSTM does, and nothing of it
is differentiated here. Of other cells JAX takes the tangents of the hand-written functions
`slopes`, `step_bwd` and `weights_bwd`; the loops are the same.

Source: Pearlmutter (1994), "Fast exact multiplication by the Hessian"; Schraudolph (2002), "Fast
curvature matrix-vector products", for the passes of Gauss-Newton and Fisher.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jax_lstm.engine.bptt import (
    all_of,
    backward,
    every_step,
    fork_of_h,
    open_steps,
    room,
    run_segment,
    step_back,
    through_prepare,
    zeros_of_weights,
)
from jax_lstm.engine.cell import Second
from jax_lstm.engine.forward_mode import some_delta, step_jvp, transposed, weights_jvp
from jax_lstm.engine.segments import (
    Steps,
    cast_like,
    clear_masked,
    cut,
    flatten_steps,
    join,
    over_segments,
    segment_length,
    segment_of,
    shift,
    where,
    widen,
    zeros_like,
)

# The tangents of a cell's backward ------------------------------------------------------------


def second_of(cell):
    """The cell's own, by hand; or JAX's tangents of its hand-written functions."""
    if cell.second is not None:
        return cell.second
    return Second(
        functools.partial(prepare_jvp, cell),
        functools.partial(slopes_jvp, cell),
        functools.partial(step_bwd_jvp, cell),
        functools.partial(weights_bwd_jvp, cell),
    )


def tangent_of(function, args, dots):
    """The tangent of a function of trees, cast to what JAX wants it to be."""
    return jax.jvp(function, args, cast_like(dots, args))[1]


def prepare_jvp(cell, params, params_dot, consts):
    return tangent_of(lambda params: cell.prepare(params, consts), (params,), (params_dot,))


def slopes_jvp(cell, w, xs, prevs, saved, w_dot, xs_dot, prevs_dot, delta_dots):
    def run(w, xs, prevs):
        _, saved = jax.vmap(cell.step, (None, 0, 0))(w, prevs, cell.project(w, xs))
        return saved, cell.slopes(w, prevs, saved)

    return tangent_of(run, (w, xs, prevs), (w_dot, xs_dot, prevs_dot))


def step_bwd_jvp(cell, w, prevs, slopes, dstates, w_dot, prevs_dot, slopes_dot):
    def run(w, prevs, slopes):
        return jax.vmap(cell.step_bwd, (None, 0, 0, 0))(w, prevs, slopes, dstates)

    return tangent_of(run, (w, prevs, slopes), (w_dot, prevs_dot, slopes_dot))


def weights_bwd_jvp(cell, *given):
    return tangent_of(cell.weights_bwd, given[:5], given[5:])


def forced(cell):
    """The cell with a loop back that is driven: its slopes are (slopes, force)."""

    def step_bwd(w, prev, slopes, dstate):
        slopes, force = slopes
        return jax.tree.map(jnp.add, cell.step_bwd(w, prev, slopes, dstate), force)

    return cell._replace(step_bwd=step_bwd)


# Forward --------------------------------------------------------------------------------------


class Weights(NamedTuple):
    """What every step sees, and its tangents; dw_dot is like the parameters' cotangent."""

    w: Any
    w_dot: Any
    dw_dot: Any
    fresh: Any
    fresh_dot: Any


class Kept(NamedTuple):
    """Of every step: its state and what `step` saved, and the tangents of the state and of what
    the weights and xs put in. None: these steps are run again."""

    steps: Any
    states_dot: Any
    delta_dots: Any


def weights_of(plan, params, consts, fresh, state, steps, params_dot, fresh_dot):
    """The weights and their tangents, before the loop."""
    cell = plan.cell
    w, dw_dot = cell.prepare(params, consts), params_dot
    if cell.prepare_bwd is not None:
        dw = jax.eval_shape(lambda: zeros_of_weights(cell, params, w, state, steps.xs))
        dw_dot = transposed(lambda dw: through_prepare(cell, params, dw), dw, params_dot)
    w_dot = second_of(cell).prepare_jvp(params, params_dot, consts)
    return Weights(w, w_dot, dw_dot, fresh, fresh_dot)


def run_tangents(plan, at, carry, steps, xs_dot):
    """K steps forward, and then their tangents."""
    cell, (state, state_dot) = plan.cell, carry
    ks = jnp.arange(jax.tree.leaves(steps.xs)[0].shape[0])
    carry = state, room(cell, at.w, all_of, state, steps.xs)
    after, kept = run_segment(plan, at.w, at.fresh, all_of, carry, ks, steps)
    opened = open_steps(plan, at.w, at.fresh, state, kept, steps)
    one = jax.tree.map(lambda x: x[0], (opened.seen, opened.slopes))
    deltas = jax.tree.map(
        lambda d: jax.ShapeDtypeStruct((ks.size, *d.shape), d.dtype), some_delta(cell, at.w, *one)
    )
    delta_dots = weights_jvp(cell, at.w, opened, deltas, at.dw_dot, clear_masked(steps.mask, xs_dot))

    def body(state_dot, now):
        (seen, slopes, mask, reset), delta_dot = now
        seen_dot = state_dot if reset is None else where(reset, at.fresh_dot, state_dot)
        new = step_jvp(cell, at.w, seen, slopes, seen_dot, delta_dot)
        new = where(mask, cast_like(new, state_dot), seen_dot)
        return new, new

    now = every_step(opened), delta_dots
    after_dot, states_dot = lax.scan(
        body, state_dot, now, reverse=plan.reverse, unroll=plan.unroll
    )
    return (after, after_dot), Kept(kept, states_dot, delta_dots)


def forward(plan, params, consts, fresh, state, steps, dots):
    """The outputs and their tangents, and what the way back wants."""
    params_dot, fresh_dot, state_dot, xs_dot = dots
    if plan.cell.beside:  # masks beside xs are constants
        xs_dot = xs_dot[0], zeros_like(xs_dot[1])
    widened = widen(fresh_dot)
    at = weights_of(plan, params, consts, fresh, state, steps, params_dot, widened)

    def segment(carry, piece):
        after, kept = run_tangents(plan, at, carry, *segment_of((steps, xs_dot), piece))
        hs = flatten_steps((kept.steps[0][0], kept.states_dot[0]))
        return after, (hs, carry, kept if plan.residuals == "full" else None)

    pieces = cut((steps, xs_dot), segment_length(plan, at.w, steps.xs))
    carry = state, widen(state_dot)
    (last, last_dot), outs = over_segments(segment, carry, pieces, plan.reverse)
    hs, hs_dot = join([hs for hs, _, _ in outs], (state[0], widen(state[0])))
    hs, hs_dot = clear_masked(steps.mask, (hs, cast_like(hs_dot, hs)))
    residual = params, params_dot, consts, at, steps, xs_dot, [out[1:] for out in outs]
    return (last, hs), (cast_like(last_dot, state), hs_dot), residual


# Backward -------------------------------------------------------------------------------------


def segment_bwd(plan, at, first, kept, steps, xs_dot, carry, dhs, dhs_dot):
    """K steps in reverse order, then their tangents, then the weights' products of all K at once.

    carry: (dstate, dfresh) and its tangent.
    """
    cell, second = plan.cell, second_of(plan.cell)
    if kept is None:
        _, kept = run_tangents(plan, at, first, steps, xs_dot)
    (state, state_dot), (dcarry, dcarry_dot) = first, carry
    opened = open_steps(plan, at.w, at.fresh, state, kept.steps, steps)
    seen_dot = shift(state_dot, kept.states_dot, plan.reverse)
    if steps.resets is not None:
        fresh_dot = jax.tree.map(lambda x: x[None], at.fresh_dot)
        seen_dot = where(steps.resets, fresh_dot, seen_dot)
    seen_dot, xs_dot = clear_masked(steps.mask, (seen_dot, xs_dot))
    xs, seen, saved = opened.steps.xs, opened.seen, opened.saved
    saved_dot, slopes_dot = clear_masked(
        steps.mask,
        second.slopes_jvp(at.w, xs, seen, saved, at.w_dot, xs_dot, seen_dot, kept.delta_dots),
    )

    def body(cell):
        def back(dcarry, now):
            dstate, dfresh = dcarry
            now, dh = now
            dstate = fork_of_h(dstate, dh)
            dprev, delta, more = step_back(cell, at.w, now, dstate)
            return (dprev, jax.tree.map(jnp.add, dfresh, more)), (dstate, delta)

        return back

    def over_steps(cell, dcarry, slopes, dhs):
        now = every_step(opened._replace(slopes=slopes)), clear_masked(steps.mask, dhs)
        return lax.scan(body(cell), dcarry, now, reverse=not plan.reverse, unroll=plan.unroll)

    dcarry, (dstates, deltas) = over_steps(cell, dcarry, opened.slopes, dhs)
    moved = at.w_dot, seen_dot, slopes_dot
    force = second.step_bwd_jvp(at.w, seen, opened.slopes, dstates, *moved)
    driven = opened.slopes, force
    dcarry_dot, (_, deltas_dot) = over_steps(forced(cell), dcarry_dot, driven, dhs_dot)
    given = at.w, xs, seen, saved, deltas
    dots = at.w_dot, xs_dot, seen_dot, saved_dot, deltas_dot
    (dw, dxs), (dw_dot, dxs_dot) = cell.weights_bwd(*given), second.weights_bwd_jvp(*given, *dots)
    return (dcarry, dcarry_dot), (dw, dw_dot), cast_like((dxs, dxs_dot), (xs, xs))


def backward_pair(plan, residual, dys, dys_dot):
    """Cotangents of (params, fresh, state, xs) and their tangents."""
    params, params_dot, consts, at, steps, xs_dot, kept = residual
    cell, firsts = plan.cell, [first for first, _ in kept]
    (dstate, dhs), (dstate_dot, dhs_dot) = dys, dys_dot
    dfresh = None if steps.resets is None else widen(zeros_like(at.fresh))

    def segment(carry, now):
        dcarry, dw = carry
        piece, (first, kept) = now
        now, xs_dot_now, *dh = segment_of((steps, xs_dot, dhs, dhs_dot), piece)
        dcarry, more, dxs = segment_bwd(plan, at, first, kept, now, xs_dot_now, dcarry, *dh)
        return (dcarry, jax.tree.map(jnp.add, dw, more)), flatten_steps(dxs)

    zeros = zeros_of_weights(cell, params, at.w, dstate, steps.xs)
    carry = ((widen(dstate), dfresh), (widen(dstate_dot), dfresh)), (zeros, zeros)
    pieces = cut((steps, xs_dot, dhs, dhs_dot), segment_length(plan, at.w, steps.xs))
    pieces = list(zip(pieces, kept, strict=True))
    (dcarry, (dw, dw_dot)), dxs = over_segments(segment, carry, pieces, not plan.reverse)
    x = jax.eval_shape(lambda xs: jax.tree.map(lambda x: x.sum(0), xs), steps.xs)
    dxs, dxs_dot = join(dxs, (x, x))
    dparams, dparams_dot = dw, dw_dot
    if cell.prepare_bwd is not None:
        through = functools.partial(through_prepare, cell)
        args = params, dw
        dparams, dparams_dot = jax.jvp(through, args, cast_like((params_dot, dw_dot), args))

    def whole(dparams, dcarry, dxs):
        dfirst, dfresh = dcarry
        dfresh = None if dfresh is None else cast_like(dfresh, at.fresh)
        return cast_like(dparams, params), dfresh, cast_like(dfirst, dstate), dxs

    return whole(dparams, dcarry[0], dxs), whole(dparams_dot, dcarry[1], dxs_dot)
