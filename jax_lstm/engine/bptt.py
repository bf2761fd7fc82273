"""TIME: backpropagation through time, written once, for every cell. This file knows no gate.

    forward     state_t, saved_t   = step(state_{t-1}, z_t)                 t = 1 ... T
                local              = linearize(states_prev, saved)          a segment at once
    backward    dstate_{t-1}, d_t  = step_bwd(state_{t-1}, local_t, dstate_t + dy_t)   t = T ... 1
    weights     dparams, dxs       = Σ over segments of weights_bwd(xs, states_prev, saved, deltas)

The sum in the third line is the fork at h_t (F): what goes to the outside, and what goes to t+1.
The sum in the fourth is the fork at the weights: they go into every time step.

A sequence is walked in segments of K steps. In the loop over steps stands only what is sequential;
the product x W, the derivatives that need no cotangent (`linearize`) and the weight products happen
once per segment. Its input and its deltas then stay in cache, and no array of the size (T, B, 4H)
is needed twice. What is kept is written in place into arrays that the loop carries: a gradient of
the gradient by reverse mode pays for that, forward over reverse does not.

What is kept for the backward (`residuals`):
    "full"   every step's state and what `step` saved: fast.
    K        the state at the border of every K steps; each segment is run again: frugal.
    "auto"   K near sqrt(T).

What a cell hands over is a `Cell`. What a user gets is made of it in routes.py: one step and a
sequence, each with its twin `..._autodiff`, the same equations, differentiated by JAX.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero, custom_vjp_primal_tree_values

from jax_lstm.engine.segments import (
    Steps,
    cleared,
    cut,
    join,
    like,
    merged,
    over_segments,
    segment_length,
    segment_of,
    shifted,
    where,
    widened,
    zeros_like,
)
from jax_lstm.sharding import vary_together

# Forward --------------------------------------------------------------------------------------


def one_step(cell, w, consts, fresh, state, z, mask, reset):
    """A step between two choices: the state it sees, and the state it leaves behind."""
    seen = state if reset is None else where(reset, fresh, state)
    state, saved = cell.step(w, consts, seen, z)
    return where(mask, state, seen), saved


def run_segment(plan, w, consts, fresh, keep, carry, ts, steps):
    """K steps forward: one projection, then only what is sequential.

    What `keep(state, saved)` picks of step t is written to place t of what is carried: in place.
    Stacked by `lax.scan` it would be copied once more, from the segment into the sequence.
    """
    zs = plan.cell.project(w, cleared(steps.mask, steps.xs))

    def body(carry, now):
        state, kept = carry
        t, *now = now
        state, saved = one_step(plan.cell, w, consts, fresh, state, *now)
        return (state, written(kept, keep(state, saved), t)), None

    now = (ts, zs, steps.mask, steps.resets)
    return lax.scan(body, carry, now, reverse=plan.reverse, unroll=plan.unroll)[0]


def all_of(state, saved):
    return state, saved


def h_of(state, saved):
    return state[0]


def written(arrays, new, t):
    """The arrays with `new` at place t of their first axis."""

    def write(x, new):
        if not x.shape[0]:  # where there is no step there is no place
            return x
        return lax.dynamic_update_index_in_dim(x, new, t, 0, allow_negative_indices=False)

    return jax.tree.map(write, arrays, new)


def room(cell, w, consts, keep, state, xs):
    """Zeros for what `keep` picks of every step of xs, varying over a mesh as the state does."""

    def step(w, consts, state, xs):
        x = jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), xs)
        return keep(*cell.step(w, consts, state, cell.project(w, x)))

    T = jax.tree.leaves(xs)[0].shape[0]
    kept = jax.eval_shape(step, w, consts, state, xs)
    zeros = jax.tree.map(lambda x: jnp.zeros((T, *x.shape), x.dtype), kept)
    return vary_together((zeros, state))[0]


def run(plan, w, consts, fresh, keep, state, steps):
    """All steps: the last state, what `keep` picks of each, the first states of all segments."""
    ts = jnp.arange(jax.tree.leaves(steps.xs)[0].shape[0])

    def segment(carry, piece):
        first, _ = carry
        carry = run_segment(plan, w, consts, fresh, keep, carry, *segment_of((ts, steps), piece))
        return carry, first

    pieces = cut((ts, steps), segment_length(plan, w, steps.xs))
    carry = (state, room(plan.cell, w, consts, keep, state, steps.xs))
    (last, kept), firsts = over_segments(segment, carry, pieces, plan.reverse)
    return last, kept, firsts


def forward(plan, params, consts, fresh, state, steps):
    """All steps forward: the last state and the outputs, and what is kept for the backward."""
    full = plan.residuals == "full"
    w = plan.cell.prepare(params)
    last, kept, firsts = run(plan, w, consts, fresh, all_of if full else h_of, state, steps)
    hs, kept = (kept[0][0], kept) if full else (kept, None)
    return (last, cleared(steps.mask, hs)), (params, consts, fresh, steps, firsts, kept)


# Backward -------------------------------------------------------------------------------------


def segment_bwd(plan, params, w, consts, fresh, steps, first, kept, dcarry, dhs):
    """K steps in reverse order, then the weight products of all K at once."""
    cell = plan.cell
    if kept is None:
        carry = (first, room(cell, w, consts, all_of, first, steps.xs))
        ks = jnp.arange(jax.tree.leaves(steps.xs)[0].shape[0])
        _, kept = run_segment(plan, w, consts, fresh, all_of, carry, ks, steps)
    states, saved = kept
    seen = shifted(first, states, plan.reverse)
    if steps.resets is not None:
        seen = where(steps.resets, jax.tree.map(lambda x: x[None], fresh), seen)
    seen, saved, dhs = cleared(steps.mask, (seen, saved, dhs))

    def body(dcarry, now):
        dstate, dfresh = dcarry
        seen, local, dh, mask, reset = now
        dstate = fork_of_h(dstate, dh)
        dseen, delta = cell.step_bwd(w, consts, seen, local, dstate)
        dseen, delta = where(mask, dseen, dstate), cleared(mask, delta)
        if reset is not None:
            dfresh = jax.tree.map(jnp.add, dfresh, cleared(reset, dseen))
            dseen = cleared(~reset, dseen)
        return (dseen, dfresh), delta

    now = (seen, cell.linearize(w, consts, seen, saved), dhs, steps.mask, steps.resets)
    dcarry, deltas = lax.scan(body, dcarry, now, reverse=not plan.reverse, unroll=plan.unroll)
    xs = cleared(steps.mask, steps.xs)
    dparams, dxs = cell.weights_bwd(params, consts, xs, seen, saved, deltas)
    return dcarry, dparams, like(dxs, xs)


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
    w = plan.cell.prepare(params)

    def segment(carry, now):
        dcarry, dparams = carry
        piece, first = now
        now, dh, seen = segment_of((steps, dhs, kept), piece)
        dcarry, more, dx = segment_bwd(plan, params, w, consts, fresh, now, first, seen, dcarry, dh)
        return (dcarry, jax.tree.map(jnp.add, dparams, more)), merged(dx)

    dfresh = None if steps.resets is None else widened(zeros_like(fresh))
    carry = ((widened(dstate), dfresh), widened(zeros_like(params)))
    pieces = cut((steps, dhs, kept), segment_length(plan, w, steps.xs))
    pieces = list(zip(pieces, firsts, strict=True))
    ((dfirst, dfresh), dparams), dxs = over_segments(segment, carry, pieces, not plan.reverse)
    dfresh = None if fresh is None else like(dfresh, fresh)
    x = jax.eval_shape(lambda xs: jax.tree.map(lambda x: x.sum(0), xs), steps.xs)
    dsteps = Steps(join(dxs, x), None, None)
    return like(dparams, params), None, dfresh, like(dfirst, dstate), dsteps


def is_zero(dy):
    return isinstance(dy, SymbolicZero)


# One step, and the routes to a gradient -------------------------------------------------------


def step_forward(cell, params, consts, state_prev, x):
    """One step: the state, the output (which is the state's first field), and what is kept."""
    w = cell.prepare(params)
    state, saved = cell.step(w, consts, state_prev, cell.project(w, x))
    return (state, state[0]), (params, consts, state_prev, x, saved)


def step_backward(cell, residual, dy):
    """One step in reverse: cotangents of params, consts, state_prev and x."""
    params, consts, state_prev, x, saved = residual
    dstate, dh = dy
    w = cell.prepare(params)
    local = cell.linearize(w, consts, state_prev, saved)
    dstate = fork_of_h(widened(dstate), dh)
    dstate_prev, delta = cell.step_bwd(w, consts, state_prev, local, dstate)
    now = jax.tree.map(lambda leaf: leaf[None], (x, state_prev, saved, delta))
    dparams, dxs = cell.weights_bwd(params, consts, *now)
    dx = jax.tree.map(lambda dx: dx[0], dxs)
    return like(dparams, params), None, like(dstate_prev, state_prev), like(dx, x)


def autodiff(plan, params, consts, fresh, state, steps):
    """The plain scan of the plain step, for JAX to differentiate: the referee's forward."""
    w, consts = plan.cell.prepare(params), lax.stop_gradient(consts)

    def body(state, now):
        x, mask, reset = now
        z = plan.cell.project(w, cleared(mask, x))
        state, _ = one_step(plan.cell, w, consts, fresh, state, z, mask, reset)
        return state, cleared(mask, state[0])

    return lax.scan(body, state, tuple(steps), reverse=plan.reverse, unroll=plan.unroll)


def sequence(plan, params, consts, fresh, state, steps):
    return forward(plan, params, consts, fresh, state, steps)[0]


def step(cell, params, consts, state_prev, x):
    return step_forward(cell, params, lax.stop_gradient(consts), state_prev, x)[0]


by_hand = jax.custom_vjp(sequence, nondiff_argnums=(0,))
by_hand.defvjp(
    lambda plan, *args: forward(plan, *custom_vjp_primal_tree_values(args)),
    backward,
    symbolic_zeros=True,
)
step_by_hand = jax.custom_vjp(step, nondiff_argnums=(0,))
step_by_hand.defvjp(step_forward, step_backward)
