"""TIME: backpropagation through time, written once, for every cell. This file knows no gate.

    forward     state_t, saved_t   = step(state_{t-1}, z_t)                 t = 1 ... T
                slopes             = slopes(states_prev, saved)             a segment at once
    backward    dstate_{t-1}, d_t  = step_bwd(state_{t-1}, slopes_t, dstate_t + dy_t)  t = T ... 1
    weights     dparams, dxs       = Σ over segments of weights_bwd(xs, states_prev, saved, deltas)

The sum in the third line is the fork at h_t (F): what goes to the outside, and what goes to t+1.
The sum in the fourth is the fork at the weights: they go into every time step.

A sequence is walked in segments of K steps. In the loop over steps stands only what is sequential;
the product x W, the derivatives that need no cotangent (`slopes`) and the weight products happen
once per segment. Its input and its deltas then stay in cache, and no array of the size (T, B, 4H)
is needed twice. What is kept is written in place into arrays that the loop carries: a gradient of
the gradient by reverse mode pays for that, forward over reverse does not.

What is kept for the backward (`residuals`):
    "full"   every step's state and what `step` saved: fast.
    K        the state at the border of every K steps; each segment is run again: frugal.
    "auto"   K near sqrt(T).

What a cell hands over is a `Cell` (cell.py). What a user gets is made of it in routes.py: one step
and a sequence, each with its twin `..._autodiff`, the same equations, differentiated by JAX.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

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
from jax_lstm.rules import with_rule
from jax_lstm.sharding import vary_together

# Forward --------------------------------------------------------------------------------------


def one_step(step, w, fresh, state, z, mask, reset):
    """A step between two choices: the state it sees, and the state it leaves behind."""
    seen = state if reset is None else where(reset, fresh, state)
    state, saved = step(w, seen, z)
    return where(mask, state, seen), saved


def run_segment(plan, w, fresh, keep, carry, ts, steps):
    """K steps forward: one projection, then only what is sequential.

    What `keep(state, saved)` picks of step t is written to place t of what is carried: in place.
    Stacked by `lax.scan` it would be copied once more, from the segment into the sequence.
    """
    zs = plan.cell.project(w, clear_masked(steps.mask, steps.xs))

    def body(carry, now):
        state, kept = carry
        t, *now = now
        state, saved = one_step(plan.cell.step, w, fresh, state, *now)
        return (state, write(kept, keep(state, saved), t)), None

    now = (ts, zs, steps.mask, steps.resets)
    return lax.scan(body, carry, now, reverse=plan.reverse, unroll=plan.unroll)[0]


def all_of(state, saved):
    return state, saved


def h_of(state, saved):
    return state[0]


def write(arrays, new, t):
    """The arrays with `new` at place t of their first axis."""

    def at(x, new):
        if not x.shape[0]:  # where there is no step there is no place
            return x
        return lax.dynamic_update_index_in_dim(x, new, t, 0, allow_negative_indices=False)

    return jax.tree.map(at, arrays, new)


def room(cell, w, keep, state, xs):
    """Zeros for what `keep` picks of every step of xs, varying over a mesh as the state does."""

    def step(w, state, xs):
        x = jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), xs)
        return keep(*cell.step(w, state, cell.project(w, x)))

    T = jax.tree.leaves(xs)[0].shape[0]
    kept = jax.eval_shape(step, w, state, xs)
    zeros = jax.tree.map(lambda x: jnp.zeros((T, *x.shape), x.dtype), kept)
    return vary_together((zeros, state))[0]


def run(plan, w, fresh, keep, state, steps):
    """All steps: the last state, what `keep` picks of each, the first states of all segments."""
    ts = jnp.arange(jax.tree.leaves(steps.xs)[0].shape[0])

    def segment(carry, piece):
        first, _ = carry
        carry = run_segment(plan, w, fresh, keep, carry, *segment_of((ts, steps), piece))
        return carry, first

    pieces = cut((ts, steps), segment_length(plan, w, steps.xs))
    carry = (state, room(plan.cell, w, keep, state, steps.xs))
    (last, kept), firsts = over_segments(segment, carry, pieces, plan.reverse)
    return last, kept, firsts


def forward(plan, params, consts, fresh, state, steps):
    """All steps forward: the last state and the outputs, and what is kept for the backward."""
    full = plan.residuals == "full"
    w = plan.cell.prepare(params, consts)
    last, kept, firsts = run(plan, w, fresh, all_of if full else h_of, state, steps)
    hs, kept = (kept[0][0], kept) if full else (kept, None)
    return (last, clear_masked(steps.mask, hs)), (params, consts, fresh, steps, firsts, kept)


# A run, opened: what every step saw, and its derivative ---------------------------------------


class Opened(NamedTuple):
    """Some steps and the derivative of each, time on axis 0. Zeros where a step is no step.

    steps: xs, mask, resets.   seen: the state before each step, after a reset.
    saved, slopes: see `Cell`.
    """

    steps: Steps
    seen: Any
    saved: Any
    slopes: Any


def open_steps(plan, w, fresh, first, kept, steps):
    """Steps that were run, from the state before them and what `all_of` kept of each."""
    states, saved = kept
    seen = shift(first, states, plan.reverse)
    if steps.resets is not None:
        seen = where(steps.resets, jax.tree.map(lambda x: x[None], fresh), seen)
    seen, saved, xs = clear_masked(steps.mask, (seen, saved, steps.xs))
    return Opened(steps._replace(xs=xs), seen, saved, plan.cell.slopes(w, seen, saved))


def open_run(plan, params, consts, fresh, state, steps):
    """A whole run, opened: the last state, the state after every step, w, and Opened."""
    w = plan.cell.prepare(params, consts)
    last, kept, _ = run(plan, w, fresh, all_of, state, steps)
    return last, kept[0], w, open_steps(plan, w, fresh, state, kept, steps)


def every_step(opened):
    """What `step_back` wants of each step, for `lax.scan`."""
    return opened.seen, opened.slopes, opened.steps.mask, opened.steps.resets


def step_back(cell, w, now, dstate):
    """dstate_t -> dstate_{t-1}, delta_t, dfresh: linear in dstate_t. A masked step hands on what it
    got; nothing goes back beyond a reset, it goes to the state that the reset led to."""
    seen, slopes, mask, reset = now
    dseen, delta = cell.step_bwd(w, seen, slopes, dstate)
    dseen, delta = where(mask, dseen, dstate), clear_masked(mask, delta)
    if reset is None:
        return dseen, delta, None
    return clear_masked(~reset, dseen), delta, clear_masked(reset, dseen)


# Backward -------------------------------------------------------------------------------------


def segment_bwd(plan, w, fresh, steps, first, kept, dcarry, dhs):
    """K steps in reverse order, then the weight products of all K at once."""
    cell = plan.cell
    if kept is None:
        carry = (first, room(cell, w, all_of, first, steps.xs))
        ks = jnp.arange(jax.tree.leaves(steps.xs)[0].shape[0])
        _, kept = run_segment(plan, w, fresh, all_of, carry, ks, steps)
    opened = open_steps(plan, w, fresh, first, kept, steps)

    def body(dcarry, now):
        dstate, dfresh = dcarry
        now, dh = now
        dstate, delta, more = step_back(cell, w, now, fork_of_h(dstate, dh))
        dfresh = jax.tree.map(jnp.add, dfresh, more)
        return (dstate, dfresh), delta

    now = (every_step(opened), clear_masked(steps.mask, dhs))
    dcarry, deltas = lax.scan(body, dcarry, now, reverse=not plan.reverse, unroll=plan.unroll)
    xs = opened.steps.xs
    dparams, dxs = cell.weights_bwd(w, xs, opened.seen, opened.saved, deltas)
    return dcarry, dparams, cast_like(dxs, xs)


def fork_of_h(dstate, dh):
    """dh_t = dh from t+1, and dh from the outside: the fork at h, for every cell         (F')"""
    h, *rest = dstate

    def add(h, dh):  # None: nobody outside looks at it
        return h if dh is None else h + dh.astype(h.dtype)

    return type(dstate)(jax.tree.map(add, h, dh), *rest)


def backward(plan, residual, dy):
    """All steps in reverse order: cotangents of params, consts, fresh, state and steps.

    Where nobody looks at an output its cotangent is a symbolic zero, and no array is made of it.
    """
    params, consts, fresh, steps, firsts, kept = residual
    some_state = jax.tree.map(lambda first: first[0], firsts[0])
    dstate, dhs = dy
    dstate = jax.tree.map(lambda d, s: jnp.zeros_like(s) if is_zero(d) else d, dstate, some_state)
    dhs = jax.tree.map(lambda dh: None if is_zero(dh) else dh, dhs)
    w = plan.cell.prepare(params, consts)

    def segment(carry, now):
        dcarry, dparams = carry
        piece, first = now
        now, dh, seen = segment_of((steps, dhs, kept), piece)
        dcarry, more, dx = segment_bwd(plan, w, fresh, now, first, seen, dcarry, dh)
        return (dcarry, jax.tree.map(jnp.add, dparams, more)), flatten_steps(dx)

    dfresh = None if steps.resets is None else widen(zeros_like(fresh))
    carry = ((widen(dstate), dfresh), zeros_of_weights(plan.cell, params, w, dstate, steps.xs))
    pieces = cut((steps, dhs, kept), segment_length(plan, w, steps.xs))
    pieces = list(zip(pieces, firsts, strict=True))
    ((dfirst, dfresh), dparams), dxs = over_segments(segment, carry, pieces, not plan.reverse)
    dfresh = None if fresh is None else cast_like(dfresh, fresh)
    x = jax.eval_shape(lambda xs: jax.tree.map(lambda x: x.sum(0), xs), steps.xs)
    dsteps = Steps(join(dxs, x), None, None)
    return of_params(plan.cell, params, dparams), None, dfresh, cast_like(dfirst, dstate), dsteps


def zeros_of_weights(cell, params, w, state, xs):
    """Where the weights' cotangents are summed: like params, or what `prepare_bwd` is given."""
    if cell.prepare_bwd is None:
        return widen(zeros_like(params))

    def one_step_bwd(w, state, xs):
        x = jax.tree.map(lambda x: jnp.zeros((1, *x.shape[1:]), x.dtype), xs)
        prevs = jax.tree.map(lambda x: x[None], state)
        after, saved = cell.step(w, prevs, cell.project(w, x))
        _, delta = cell.step_bwd(w, prevs, cell.slopes(w, prevs, saved), widen(after))
        return cell.weights_bwd(w, x, prevs, saved, delta)[0]

    shapes = jax.eval_shape(one_step_bwd, w, state, xs)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return vary_together((zeros, state))[0]


def of_params(cell, params, dw):
    """dparams in the dtypes of params; back through `prepare` where that is a stage."""
    return cast_like(through_prepare(cell, params, dw), params)


def through_prepare(cell, params, dw):
    """What `weights_bwd` returned, back through `prepare` where that is a stage."""
    return dw if cell.prepare_bwd is None else cell.prepare_bwd(params, dw)[0]


def is_zero(dy):
    return isinstance(dy, SymbolicZero)


# One step, and the routes to a gradient -------------------------------------------------------


def step_forward(cell, params, consts, state_prev, x):
    """One step: the state, the output (which is the state's first field), and what is kept."""
    w = cell.prepare(params, consts)
    state, saved = cell.step(w, state_prev, cell.project(w, x))
    return (state, state[0]), (params, consts, state_prev, x, saved)


def step_backward(cell, residual, dy):
    """One step in reverse: cotangents of params, consts, state_prev and x."""
    params, consts, state_prev, x, saved = residual
    dstate, dh = dy
    w = cell.prepare(params, consts)
    slopes = cell.slopes(w, state_prev, saved)
    dstate = fork_of_h(widen(dstate), dh)
    dstate_prev, delta = cell.step_bwd(w, state_prev, slopes, dstate)
    now = jax.tree.map(lambda leaf: leaf[None], (x, state_prev, saved, delta))
    dw, dxs = cell.weights_bwd(w, *now)
    dx = jax.tree.map(lambda dx: dx[0], dxs)
    dparams = of_params(cell, params, dw)
    return dparams, None, cast_like(dstate_prev, state_prev), cast_like(dx, x)


def autodiff(plan, params, consts, fresh, state, steps):
    """The plain scan of the plain step, for JAX to differentiate: the referee's forward."""
    cell = plan.cell
    w, step = cell.prepare(params, lax.stop_gradient(consts)), cell.step_for_jax or cell.step
    steps = steps._replace(xs=hold_masks(cell, steps.xs))

    def body(state, now):
        x, mask, reset = now
        z = cell.project(w, clear_masked(mask, x))
        state, _ = one_step(step, w, fresh, state, z, mask, reset)
        return state, clear_masked(mask, state[0])

    return lax.scan(body, state, tuple(steps), reverse=plan.reverse, unroll=plan.unroll)


def hold_masks(cell, xs):
    """Masks beside xs are constants. Held before the loop: in it JAX would keep a copy of each."""
    return (xs[0], lax.stop_gradient(xs[1])) if cell.beside else xs


def sequence(plan, params, consts, fresh, state, steps):
    return forward(plan, params, consts, fresh, state, steps)[0]


def step(cell, params, consts, state_prev, x):
    return step_forward(cell, params, consts, state_prev, x)[0]


def step_autodiff(cell, params, consts, state_prev, x):
    """One plain step, for JAX to differentiate."""
    w, step = cell.prepare(params, lax.stop_gradient(consts)), cell.step_for_jax or cell.step
    state, _ = step(w, state_prev, cell.project(w, hold_masks(cell, x)))
    return state, state[0]


by_hand = with_rule(sequence, forward, backward, static=(0,), symbolic_zeros=True)
step_by_hand = with_rule(step, step_forward, step_backward, static=(0,))
