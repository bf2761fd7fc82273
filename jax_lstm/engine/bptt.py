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
is needed twice. What is kept is written in place into arrays that the loop carries (loops.py).
Where JAX differentiates once more, each loop has a tangent of its own (tangents.py).

What is kept for the backward (`residuals`):
    "full"   every step's state and what `step` saved: fast.
    K        the state at the border of every K steps; each segment is run again: frugal.
    "auto"   K near sqrt(T).
    "log"    the state at the border of every block of blocks of segments (levels.py): frugal at any
             length.

What a cell hands over is a `Cell` (cell.py). What a user gets is made of it in routes.py: one step
and a sequence, each with its twin `..._autodiff`, the same equations, differentiated by JAX.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jax_lstm.engine.levels import back_over_levels, by_segments
from jax_lstm.engine.loops import (
    all_of,
    blocks_of_segment,
    every_step,
    fork_of_h,
    h_of,
    kept_of_rows,
    nothing,
    one_step,
    open_steps,
    run_segment,
    zeros_of_weights,
)
from jax_lstm.engine.ragged import (
    first_rows,
    over_live_rows,
    put_rows,
    put_steps,
    steps_of_rows,
    weights_of_rows,
)
from jax_lstm.engine.segments import (
    Levels,
    Steps,
    cast_like,
    clear_masked,
    cut,
    flatten_steps,
    join,
    over_segments,
    segment_length,
    segment_of,
    time_of,
    widen,
    zeros_like,
)
from jax_lstm.engine.tangents import loop_back, only_the_loops, run, run_again
from jax_lstm.rules import with_rule
from jax_lstm.sharding import vary_together

# Forward --------------------------------------------------------------------------------------


def forward(plan, params, consts, fresh, state, steps):
    """All steps forward: the last state and the outputs, and what is kept for the backward."""
    keep = all_of if plan.residuals == "full" else h_of
    return run_and_keep(plan, keep, params, consts, fresh, state, steps)


def run_and_keep(plan, keep, params, consts, fresh, state, steps):
    consts, steps = lax.stop_gradient(consts), steps._replace(xs=hold_masks(plan.cell, steps.xs))
    last, kept, firsts = run(plan, keep, params, consts, fresh, state, steps)
    hs, kept = (kept[0][0], kept) if keep is all_of else (kept, None)
    return (last, clear_masked(steps.mask, hs)), (params, consts, fresh, steps, firsts, kept)


def open_run(plan, params, consts, fresh, state, steps):
    """A whole run, opened: the last state, the state after every step, w, and Opened."""
    last, kept, _ = run(plan, all_of, params, consts, fresh, state, steps)
    w = plan.cell.prepare(params, consts)
    return last, kept[0], w, open_steps(plan, w, fresh, state, kept, steps)


# Backward -------------------------------------------------------------------------------------


def segment_bwd(plan, params, w, fresh, steps, first, kept, dcarry, dhs):
    """K steps in reverse order, then the weight products of all K at once."""
    cell = plan.cell
    if kept is None:
        kept = run_again(plan, params, w, fresh, first, steps)
    opened = open_steps(plan, w, fresh, first, kept, steps, jnp.ones_like)
    now = (every_step(opened), clear_masked(steps.mask, dhs))
    dcarry, deltas = loop_back(plan, w, now, dcarry)
    xs = opened.steps.xs
    dparams, dxs = cell.weights_bwd(w, xs, opened.seen, opened.saved, deltas)
    return dcarry, dparams, cast_like(dxs, xs)


def backward(plan, residual, dy):
    """All steps in reverse order: cotangents of params, consts, fresh, state and steps.

    Where nobody looks at an output its cotangent is a symbolic zero, and no array is made of it.
    """
    _, _, _, _, firsts, _ = residual
    some_state = jax.tree.map(lambda first: first[0], firsts[0])
    dstate, dhs = dy
    dstate = jax.tree.map(lambda d, s: jnp.zeros_like(s) if is_zero(d) else d, dstate, some_state)
    dhs = jax.tree.map(lambda dh: None if is_zero(dh) else dh, dhs)
    return back(plan, *residual, dstate, dhs)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def back(plan, params, consts, fresh, steps, firsts, kept, dstate, dhs):
    """`backward` with arrays for cotangents; None where nobody looks at hs."""
    if plan.sort:
        return back_over_live_rows(plan, params, consts, fresh, steps, firsts, kept, dstate, dhs)
    return back_over(None, plan, params, consts, fresh, steps, firsts, kept, dstate, dhs)


def back_over(around, plan, params, consts, fresh, steps, firsts, kept, dstate, dhs):
    """`back`, with `around` around the function of a segment; None: nothing is."""
    w = plan.cell.prepare(params, consts)
    pieced, saved, halves = kept, None, None
    if around is None and kept is not None and plan.cell.halves is not None:
        (pieced, saved), halves = kept, plan.cell.halves
    ts = jnp.arange(time_of(steps))

    def segment(carry, now):
        dcarry, dparams = carry
        piece, first = now
        now, dh, seen, t = segment_of((steps, dhs, pieced, ts), piece)
        if halves is not None:
            seen = seen, blocks_of_segment(saved, t, halves.blocks)
        dcarry, more, dx = segment_bwd(plan, params, w, fresh, now, first, seen, dcarry, dh)
        return (dcarry, jax.tree.map(jnp.add, dparams, more)), flatten_steps(dx)

    segment = segment if around is None else around(segment)

    def again(carry, piece):
        ks = jnp.arange(time_of(piece))
        return run_segment(plan, w, fresh, nothing, carry, ks, segment_of(steps, piece[0])), None

    carry = begin_back(plan, params, w, fresh, steps, dstate)
    x = jax.eval_shape(lambda xs: jax.tree.map(lambda x: x.sum(0), xs), steps.xs)
    if isinstance(plan.residuals, Levels):
        whole = (steps, dhs, pieced, ts), firsts, plan.residuals, plan.reverse
        carry, dxs = back_over_levels(again, segment, carry, *whole)
    else:
        pieces = cut((steps, dhs, pieced, ts), segment_length(plan, w, steps.xs))
        pieces = list(zip(pieces, firsts, strict=True))
        carry, dxs = over_segments(segment, carry, pieces, not plan.reverse)
    return finish_back(plan, params, fresh, dstate, carry, join(dxs, x))


def begin_back(plan, params, w, fresh, steps, dstate):
    """What the loops back carry: (dstate, dfresh) and dparams."""
    dfresh = None if steps.resets is None else widen(zeros_like(fresh))
    return (widen(dstate), dfresh), zeros_of_weights(plan.cell, params, w, dstate, steps.xs)


def finish_back(plan, params, fresh, dstate, carry, dxs):
    """The cotangents of `back`, of what its loops carried and of dxs."""
    (dfirst, dfresh), dparams = carry
    dfresh = None if fresh is None else cast_like(dfresh, fresh)
    dsteps = Steps(dxs, None, None)
    return of_params(plan.cell, params, dparams), None, dfresh, cast_like(dfirst, dstate), dsteps


def back_over_live_rows(plan, params, consts, fresh, steps, firsts, kept, dstate, dhs):
    """`back` of a batch sorted by length: of the rows that are not over."""
    w, K = plan.cell.prepare(params, consts), plan.sort
    weights = weights_of_rows(plan.cell, params, consts, w)

    def segment(b, carry, n):
        dcarry, dparams, dxs = carry
        now, dh = steps_of_rows((steps, dhs), n * K, K, b)
        seen = kept_of_rows(plan.cell, kept, n * K, K, b)
        first = jax.tree.map(lambda x: x[n], firsts[0])
        fresh_b, first, some = first_rows((fresh, first, dcarry), b)
        given = plan, params, weights(b), fresh_b, now, first, seen, some, dh
        after, more, dx = segment_bwd(*given)
        dparams = jax.tree.map(jnp.add, dparams, more)
        return put_rows(dcarry, after), dparams, put_steps(dxs, dx, n * K)

    carry = begin_back(plan, params, w, fresh, steps, dstate)
    carry = *carry, vary_together((zeros_like(steps.xs), dstate))[0]
    *carry, dxs = over_live_rows(segment, carry, steps, K, not plan.reverse)
    return finish_back(plan, params, fresh, dstate, carry, dxs)


@back.defjvp
def back_jvp(plan, primals, tangents):
    """JAX's, of the same segments: of each what its loops made is kept, and nothing besides."""
    if isinstance(plan.residuals, Levels):
        return jax.jvp(functools.partial(back_by_segments, plan), primals, tangents)
    again = functools.partial(jax.checkpoint, policy=only_the_loops)
    return jax.jvp(functools.partial(back_over, again, plan), primals, tangents)


def back_by_segments(plan, params, consts, fresh, steps, firsts, kept, dstate, dhs):
    """`back` of a plan with `Levels`, by the state before every segment, made again."""
    first = jax.tree.map(lambda x: x[-1] if plan.reverse else x[0], firsts[-plan.reverse])
    plan = by_segments(plan, steps.xs)
    _, _, firsts = run(plan, h_of, params, consts, fresh, first, steps)
    return back(plan, params, consts, fresh, steps, firsts, kept, dstate, dhs)


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
    """`forward` where nobody goes back: nothing is kept but the outputs."""
    return run_and_keep(plan, h_of, params, consts, fresh, state, steps)[0]


def step(cell, params, consts, state_prev, x):
    return step_forward(cell, params, consts, state_prev, x)[0]


def step_autodiff(cell, params, consts, state_prev, x):
    """One plain step, for JAX to differentiate."""
    w, step = cell.prepare(params, lax.stop_gradient(consts)), cell.step_for_jax or cell.step
    state, _ = step(w, state_prev, cell.project(w, hold_masks(cell, x)))
    return state, state[0]


by_hand = with_rule(sequence, forward, backward, static=(0,), symbolic_zeros=True)
step_by_hand = with_rule(step, step_forward, step_backward, static=(0,))
