"""TANGENTS of the loops of loops.py: what JAX makes of them where it differentiates once more.

A loop that writes in place what it keeps is the fastest for a first derivative; of a second one JAX
would carry each array that is written through every step. Here each loop has its tangent, to be
read forward by `jax.jvp` and transposed by `jax.grad`. In its loop stands only what is sequential:

    forward    state_dot_t = step_jvp(state_dot_{t-1}, δ̇_t)            δ̇ = weights_jvp(...), at once
    back       dstate_dot_{t-1}, delta_dot_t = step_bwd(dstate_dot_t) + force_t

force_t is the derivative of `step_bwd` by all but its cotangent, which it is linear in: every step
at once. A segment is opened again where its tangent is transposed (`jax.checkpoint`), so that what
the loops made is kept and nothing besides.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jax_lstm.engine import loops
from jax_lstm.engine.loops import all_of, open_steps, room, run_segment
from jax_lstm.engine.segments import (
    cast_like,
    clear_masked,
    cut,
    flatten_steps,
    join,
    over_segments,
    segment_length,
    segment_of,
    where,
    widen,
)

LOOP_BACK = ("dstates", "deltas")

# The tangent of a cell's step, where it brings none: its twins, read from the other side ---------


def transposed(linear, at, y):
    """The transpose of `linear` at inputs like `at`, for the cotangent y, in `linear`'s dtypes."""
    y = cast_like(y, jax.eval_shape(linear, at))
    (x,) = jax.linear_transpose(linear, at)(y)
    return x


def weights_jvp(cell, w, opened, deltas, w_dot, xs_dot):
    """δ̇ of a segment: what the directions of the weights and of xs put into each step."""
    given = w, opened.steps.xs, opened.seen, opened.saved
    if cell.weights_jvp is not None:
        return cell.weights_jvp(*given, w_dot, xs_dot)

    def twin(deltas):
        dw, dxs = cell.weights_bwd(*given, deltas)
        return dw, dxs[0] if cell.beside else dxs  # masks beside xs are constants

    return transposed(twin, deltas, (w_dot, xs_dot[0] if cell.beside else xs_dot))


def step_jvp(cell, w, seen, slopes, seen_dot, delta_dot):
    """state_dot_t of one step, of seen_dot and δ̇_t."""
    if cell.step_jvp is not None:
        return cell.step_jvp(w, seen, slopes, seen_dot, delta_dot)
    at = widen(seen_dot)
    return transposed(lambda d: cell.step_bwd(w, seen, slopes, d), at, (at, delta_dot))


def deltas_of(cell, w, opened):
    """The shapes of the deltas of some steps."""
    at = lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
    seen, slopes = jax.tree.map(at, (opened.seen, opened.slopes))
    delta = lambda seen, slopes: cell.step_bwd(w, seen, slopes, widen(seen))[1]
    T = jax.tree.leaves(opened.seen)[0].shape[0]
    like = lambda d: jax.ShapeDtypeStruct((T, *d.shape), d.dtype)
    return jax.tree.map(like, jax.eval_shape(delta, seen, slopes))


def direction_of_weights(cell, params, params_dot, dw):
    """What `weights_jvp` wants: the direction of params, or of what `prepare` makes of them, dw
    being like what `prepare_bwd` is given."""
    if cell.prepare_bwd is None:
        return params_dot
    return transposed(lambda dw: cell.prepare_bwd(params, dw)[0], dw, params_dot)


# The loop forward -----------------------------------------------------------------------------


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def run(plan, keep, params, consts, fresh, state, steps):
    """See loops.py."""
    return loops.run(plan, keep, params, consts, fresh, state, steps)


@run.defjvp
def run_jvp(plan, keep, primals, tangents):
    """Segment by segment: the tangents of the states, then of what the steps saved, at once."""
    cell, full = plan.cell, keep is all_of
    params, consts, fresh, state, steps = primals
    params_dot, _, fresh_dot, state_dot, steps_dot = tangents
    out = run(plan, keep, *primals)
    _, kept, firsts = out
    w, prepared_dot = jax.jvp(lambda p: cell.prepare(p, consts), (params,), (params_dot,))
    dw = cell.prepare_bwd and jax.eval_shape(
        functools.partial(loops.zeros_of_weights, cell), params, w, state, steps.xs
    )
    w_dot = direction_of_weights(cell, params, params_dot, dw)

    @jax.checkpoint
    def segment(carry, now):
        first_dot, (piece, first) = carry, now
        now, xs_dot, seen = segment_of((steps, steps_dot.xs, kept if full else None), piece)
        if seen is None:
            seen = run_again(plan, w, fresh, first, now)
        opened = open_steps(plan, w, fresh, first, seen, now)
        xs_dot = clear_masked(now.mask, xs_dot)
        deltas = deltas_of(cell, w, opened)
        delta_dots = weights_jvp(cell, w, opened, deltas, w_dot, xs_dot)
        each = (opened.seen, opened.slopes, delta_dots, now.mask, now.resets)
        last_dot, (seen_dots, dots) = loop_jvp(plan, w, fresh_dot, first_dot, each)
        if not full:
            return last_dot, flatten_steps(dots[0])
        saved_dots = saved_jvp(cell, w, opened, prepared_dot, seen_dots, xs_dot)
        dots = cast_like(dots, seen[0]), clear_masked(now.mask, saved_dots)
        return last_dot, (flatten_steps(dots))

    pieces = cut((steps, steps_dot.xs, kept if full else None), segment_length(plan, w, steps.xs))
    pieces = list(zip(pieces, firsts, strict=True))

    def with_first(carry, now):
        after, out = segment(carry, now)
        return after, (carry, out)

    last_dot, outs = over_segments(with_first, widen(state_dot), pieces, plan.reverse)
    firsts_dot = [cast_like(first, like) for (first, _), like in zip(outs, firsts, strict=True)]
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), kept)
    kept_dot = join([dots for _, dots in outs], one)
    return out, (cast_like(last_dot, state), cast_like(kept_dot, kept), firsts_dot)


def run_again(plan, w, fresh, first, steps):
    """All that `all_of` picks of the steps of a segment."""
    ks = jnp.arange(jax.tree.leaves(steps.xs)[0].shape[0])
    carry = (first, room(plan.cell, w, all_of, first, steps.xs))
    return run_segment(plan, w, fresh, all_of, carry, ks, steps)[1]


def loop_jvp(plan, w, fresh_dot, state_dot, each):
    """The tangents of K states: the last, and of each step what it saw and what it left."""

    def body(state_dot, now):
        seen, slopes, delta_dot, mask, reset = now
        seen_dot = state_dot if reset is None else where(reset, fresh_dot, state_dot)
        new = step_jvp(plan.cell, w, seen, slopes, seen_dot, delta_dot)
        new = where(mask, cast_like(new, state_dot), seen_dot)
        return new, (seen_dot, new)

    return lax.scan(body, state_dot, each, reverse=plan.reverse, unroll=plan.unroll)


def saved_jvp(cell, w, opened, w_dot, seen_dots, xs_dot):
    """The tangents of what K steps saved, at once."""
    step = cell.step_for_jax or cell.step

    def saved(w, seen, xs):
        every = jax.vmap(lambda seen, z: step(w, seen, z)[1])
        return every(seen, cell.project(w, xs))

    seen_dots = cast_like(seen_dots, opened.seen)
    given = (w, opened.seen, opened.steps.xs)
    return jax.jvp(saved, given, (w_dot, seen_dots, xs_dot))[1]


# The loop back --------------------------------------------------------------------------------


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def loop_back(plan, w, now, dcarry):
    """See loops.py."""
    return loops.loop_back(plan, w, now, dcarry)


@loop_back.defjvp
def loop_back_jvp(plan, primals, tangents):
    """`step_bwd` is linear in the cotangent, and goes on with its tangent; the force at once."""
    cell, (w, now, dcarry) = plan.cell, primals
    w_dot, (each_dot, dhs_dot), dcarry_dot = tangents
    each, _ = now
    seen, slopes, mask, _ = each

    def body(dcarry, now):
        dstate, dfresh = dcarry
        each, dh = now
        dstate = loops.fork_of_h(dstate, dh)
        before, delta, more = loops.step_back(cell, w, each, dstate)
        return (before, jax.tree.map(jnp.add, dfresh, more)), (dstate, delta)

    scan = functools.partial(lax.scan, reverse=not plan.reverse, unroll=plan.unroll)
    after, (dstates, deltas) = scan(body, dcarry, now)
    dstates = checkpoint_name(clear_masked(mask, dstates), LOOP_BACK[0])
    deltas = checkpoint_name(deltas, LOOP_BACK[1])
    every = jax.vmap(cell.step_bwd, (None, 0, 0, 0))
    at = lambda w, seen, slopes: every(w, seen, slopes, dstates)
    _, force = jax.jvp(at, (w, seen, slopes), (w_dot, *each_dot[:2]))
    force = clear_masked(mask, force)

    def body_dot(dcarry, now):
        dstate, dfresh = dcarry
        each, dh, force = now
        dstate, delta, more = loops.step_back(cell, w, each, loops.fork_of_h(dstate, dh), force)
        return (dstate, jax.tree.map(jnp.add, dfresh, more)), delta

    after_dot, deltas_dot = scan(body_dot, dcarry_dot, (each, dhs_dot, force))
    return (after, deltas), (after_dot, deltas_dot)
