"""SECOND ORDER: Pearlmutter's R-operator on backpropagation through time. No gate is known.

ẋ is the derivative of x along one direction of params, state and xs, and x_dot in the code. The
pass back of bptt.py, with the tangent of everything beside it:

    forward     state_t, saved_t      = step(state_{t-1}, z_t)
                state_dot_t           = step_jvp(state_dot_{t-1}, δ̇_t)
                slopes, slopes_dot    = slopes(...), slopes_jvp(...)            a segment at once
    backward    dstate_{t-1}, d_t     = step_bwd(slopes_t, dstate_t + dy_t)     and the tangent of
                                        it, with slopes_dot_t and dstate_dot_t + dy_dot_t
    weights     dparams, dparams_dot  = Σ weights_bwd(...), Σ weights_bwd_jvp(...)

One pass forward, one pass back, each a segment of K steps at a time. Masks, lengths, resets,
direction and `residuals` are those of bptt.py.

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
from jax.export import is_symbolic_dim

from jax_lstm.engine.bptt import through_prepare
from jax_lstm.engine.cell import Second
from jax_lstm.engine.loops import (
    every_step,
    fork_of_h,
    open_steps,
    run_alone,
    seen_of,
    zeros_of_weights,
)
from jax_lstm.engine.segments import (
    SEGMENT_STEPS,
    cast_like,
    clear_masked,
    cut,
    divisor_near,
    flatten_steps,
    join,
    over_segments,
    segment_length,
    segment_of,
    where,
    widen,
    zeros_like,
)
from jax_lstm.engine.tangents import (
    deltas_of,
    loop_jvp,
    step_alone_jvp,
    transposed,
    weights_jvp,
)

# The tangents of a cell's backward ------------------------------------------------------------


def second_of(cell):
    """The cell's own, by hand; or JAX's tangents of its hand-written functions."""
    if cell.second is not None:
        return cell.second
    own = prepare_jvp, step_alone_jvp, slopes_jvp, step_bwd_jvp, weights_bwd_jvp
    return Second(*(functools.partial(tangent, cell) for tangent in own))


def pair_of(function, args, dots):
    """A function of trees, and its tangent along dots in the dtypes that JAX wants."""
    return jax.jvp(function, args, cast_like(dots, args))


def prepare_jvp(cell, params, params_dot, consts):
    return pair_of(lambda params: cell.prepare(params, consts), (params,), (params_dot,))[1]


def slopes_jvp(cell, w, xs, prevs, saved, w_dot, xs_dot, prevs_dot, more_dots):
    def run(w, xs, prevs):
        _, saved = jax.vmap(cell.step, (None, 0, 0))(w, prevs, cell.project(w, xs))
        return saved, cell.slopes(w, prevs, saved)

    return pair_of(run, (w, xs, prevs), (w_dot, xs_dot, prevs_dot))[1]


def step_bwd_jvp(cell, *given):
    return pair_of(cell.step_bwd, given[:4], given[4:])


def weights_bwd_jvp(cell, *given):
    return pair_of(cell.weights_bwd, given[:5], given[5:])[1]


def step_back_jvp(cell, at, now, now_dot, dstate, dstate_dot):
    """`step_back` of loops.py, and its tangent: (dprev, delta, dfresh) of each."""
    seen, slopes, mask, reset = now
    given = at.w, seen, slopes, dstate, at.w_dot, *now_dot, dstate_dot
    found = []
    for (dseen, delta), held in zip(
        second_of(cell).step_bwd_jvp(*given), (dstate, dstate_dot), strict=True
    ):
        dseen, delta = where(mask, dseen, held), clear_masked(mask, delta)
        stays = None if reset is None else clear_masked(reset, dseen)
        found.append((dseen if reset is None else clear_masked(~reset, dseen), delta, stays))
    return found


# Forward --------------------------------------------------------------------------------------


class Weights(NamedTuple):
    """What every step sees, and its tangents; dw_dot is like the parameters' cotangent."""

    w: Any
    w_dot: Any
    dw_dot: Any
    fresh: Any
    fresh_dot: Any


class Kept(NamedTuple):
    """Of every step: its state and what `step` saved, and what the tangent's step returned."""

    steps: Any
    states_dot: Any
    more_dots: Any


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
    after, kept = run_alone(plan, at.w, at.fresh, state, steps)
    opened = open_steps(plan, at.w, at.fresh, state, kept, steps)
    given = opened.steps.xs, opened.seen, opened.saved
    xs_dot = clear_masked(steps.mask, xs_dot)
    deltas = deltas_of(cell, at.w, opened.seen, opened.slopes)
    delta_dots = weights_jvp(cell, at.w, given, deltas, at.dw_dot, xs_dot)
    dots = at.fresh_dot, state_dot, delta_dots
    after_dot, (_, *dots) = loop_jvp(plan, at.w, opened, *dots, second_of(cell).step_jvp)
    return (after, after_dot), Kept(kept, *dots)


def steps_in_cache(plan, w, xs):
    """Steps per segment. There are some ten arrays of a step's size here, where the gradient has
    two, so that "full" has an eighth of its steps."""
    K = segment_length(plan, w, xs)
    if plan.residuals != "full" or is_symbolic_dim(K):
        return K
    return divisor_near(jax.tree.leaves(xs)[0].shape[0], max(SEGMENT_STEPS, K // 8))


def forward(plan, params, consts, fresh, state, steps, dots):
    """The outputs and their tangents, and what the way back wants."""
    params_dot, fresh_dot, state_dot, xs_dot = dots
    if xs_dot is None and plan.cell.second is None:
        xs_dot = zeros_like(steps.xs)
    if plan.cell.beside and xs_dot is not None:  # masks beside xs are constants
        xs_dot = xs_dot[0], zeros_like(xs_dot[1])
    widened = widen(fresh_dot)
    at = weights_of(plan, params, consts, fresh, state, steps, params_dot, widened)

    def segment(carry, piece):
        after, kept = run_tangents(plan, at, carry, *segment_of((steps, xs_dot), piece))
        hs = flatten_steps((kept.steps[0][0], kept.states_dot[0]))
        return after, (hs, carry, kept if plan.residuals == "full" else None)

    pieces = cut((steps, xs_dot), steps_in_cache(plan, at.w, steps.xs))
    carry = state, widen(state_dot)
    outs: Any
    (last, last_dot), outs = over_segments(segment, carry, pieces, plan.reverse)
    hs, hs_dot = join([hs for hs, _, _ in outs], (state[0], widen(state[0])))
    hs, hs_dot = clear_masked(steps.mask, (hs, cast_like(hs_dot, hs)))
    residual = params, params_dot, at, steps, xs_dot, [out[1:] for out in outs]
    return (last, hs), (cast_like(last_dot, state), hs_dot), residual


# Backward -------------------------------------------------------------------------------------


def segment_bwd(plan, at, first, kept, steps, xs_dot, carry, dhs, dhs_dot):
    """K steps in reverse order, then the weights' products of all K at once.

    carry: (dstate, dfresh) and its tangent.
    """
    cell, second = plan.cell, second_of(plan.cell)
    if kept is None:
        _, kept = run_tangents(plan, at, first, steps, xs_dot)
    state, state_dot = first
    opened = open_steps(plan, at.w, at.fresh, state, kept.steps, steps)
    seen_dot = seen_of(plan, state_dot, kept.states_dot, at.fresh_dot, steps.resets)
    seen_dot, xs_dot = clear_masked(steps.mask, (seen_dot, xs_dot))
    xs, seen, saved = opened.steps.xs, opened.seen, opened.saved
    saved_dot, slopes_dot = clear_masked(
        steps.mask,
        second.slopes_jvp(at.w, xs, seen, saved, at.w_dot, xs_dot, seen_dot, kept.more_dots),
    )

    def body(carry, now):
        (dstate, dfresh), (dstate_dot, dfresh_dot) = carry
        now, now_dot, dh, dh_dot = now
        given = fork_of_h(dstate, dh), fork_of_h(dstate_dot, dh_dot)
        (dprev, delta, more), (dprev_dot, delta_dot, more_dot) = step_back_jvp(
            cell, at, now, now_dot, *given
        )
        dfresh, dfresh_dot = jax.tree.map(jnp.add, (dfresh, dfresh_dot), (more, more_dot))
        return ((dprev, dfresh), (dprev_dot, dfresh_dot)), (delta, delta_dot)

    dhs, dhs_dot = clear_masked(steps.mask, (dhs, dhs_dot))
    now = every_step(opened), (seen_dot, slopes_dot), dhs, dhs_dot
    carry, (deltas, deltas_dot) = lax.scan(
        body, carry, now, reverse=not plan.reverse, unroll=plan.unroll
    )
    given = at.w, xs, seen, saved, deltas
    dots = at.w_dot, xs_dot, seen_dot, saved_dot, deltas_dot
    (dw, dxs), (dw_dot, dxs_dot) = cell.weights_bwd(*given), second.weights_bwd_jvp(*given, *dots)
    return carry, (dw, dw_dot), cast_like((dxs, dxs_dot), (xs, xs))


def backward_pair(plan, residual, dys, dys_dot):
    """Cotangents of (params, fresh, state, xs) and their tangents."""
    params, params_dot, at, steps, xs_dot, kept = residual
    cell = plan.cell
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
    pieces = cut((steps, xs_dot, dhs, dhs_dot), steps_in_cache(plan, at.w, steps.xs))
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
