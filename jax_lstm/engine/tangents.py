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
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jax_lstm.engine import loops
from jax_lstm.engine.levels import before_blocks, by_segments
from jax_lstm.engine.loops import all_of, open_steps
from jax_lstm.engine.segments import (
    Levels,
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
from jax_lstm.sharding import vary_together

STATES, DSTATES = "states", "dstates"  # what the loops make, and nothing else can
only_the_loops = jax.checkpoint_policies.save_only_these_names(STATES, DSTATES)

# The tangent of a cell's step, where it brings none: its twins, read from the other side ---------


def transposed(linear, at, y):
    """The transpose of `linear` at inputs like `at`, for the cotangent y, in `linear`'s dtypes."""
    at = jax.eval_shape(lambda *both: vary_together(both)[0], at, y)  # x is where y is
    y = cast_like(y, jax.eval_shape(linear, at))
    (x,) = jax.linear_transpose(linear, at)(y)
    return x


def weights_jvp(cell, w, steps, deltas, w_dot, xs_dot):
    """δ̇ of some steps, what the directions of the weights and of xs put into each: of xs, of the
    states the steps saw, of what they saved; the deltas have these shapes."""
    given = w, *steps
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


def step_alone_jvp(cell, *given):
    """`step_jvp` as a `Second` has it, of a cell that keeps nothing more of a step."""
    return step_jvp(cell, *given), None


def deltas_of(cell, w, seen, slopes):
    """The shapes of the deltas of some steps."""
    at = lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
    T = jax.tree.leaves(seen)[0].shape[0]
    like = lambda d: jax.ShapeDtypeStruct((T, *d.shape), d.dtype)
    return jax.tree.map(like, delta_of(cell, w, *jax.tree.map(at, (seen, slopes))))


def delta_of(cell, w, seen, slopes):
    """The shape of the delta of one step."""
    delta = lambda seen, slopes: cell.step_bwd(w, seen, slopes, widen(seen))[1]
    return jax.eval_shape(delta, seen, slopes)


def direction_of_weights(cell, params, params_dot, w, state, xs):
    """What `weights_jvp` wants: the direction of params, or of what `prepare` makes of them."""
    if cell.prepare_bwd is None:
        return params_dot
    dw = jax.eval_shape(lambda *args: loops.zeros_of_weights(cell, *args), params, w, state, xs)
    return transposed(lambda dw: cell.prepare_bwd(params, dw)[0], dw, params_dot)


# The loop forward -----------------------------------------------------------------------------


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def run(plan, keep, params, consts, fresh, state, steps):
    """See loops.py."""
    return loops.run(plan, keep, params, consts, fresh, state, steps)


@run.defjvp
def run_jvp(plan, keep, primals, tangents):
    """Segment by segment; the tangents of what is kept of each step are stacked."""
    if isinstance(plan.residuals, Levels):
        return jax.jvp(functools.partial(run_by_segments, plan, keep), primals, tangents)
    cell, full = plan.cell, keep is all_of
    params, consts, fresh, state, steps = primals
    params_dot, _, fresh_dot, state_dot, steps_dot = tangents
    out: Any = run(plan, keep, *primals)
    _, kept, firsts = out
    w, w_dot = jax.jvp(lambda p: cell.prepare(p, consts), (params,), (params_dot,))
    direction = direction_of_weights(cell, params, params_dot, w, state, steps.xs)

    @functools.partial(jax.checkpoint, policy=only_the_loops)
    def segment(carry, now):
        first_dot, (piece, first) = carry, now
        now, xs_dot, seen = segment_of((steps, steps_dot.xs, kept if full else None), piece)
        seen = kept_again(plan, w, fresh, first, now) if seen is None else seen
        opened = open_steps(plan, w, fresh, first, seen, now, jnp.ones_like)
        dots = w_dot, direction, fresh_dot, first_dot, xs_dot
        last_dot, dots = segment_jvp(plan, w, opened, *dots)
        dots = loops.pack(cell, dots) if full else dots[0][0]
        return last_dot, flatten_steps(cast_like(dots, keep(*seen)))

    def with_first(carry, now):
        after, out = segment(carry, now)
        return after, (carry, out)

    pieces = cut((steps, steps_dot.xs, kept if full else None), segment_length(plan, w, steps.xs))
    pieces = list(zip(pieces, firsts, strict=True))
    outs: Any
    last_dot, outs = over_segments(with_first, widen(state_dot), pieces, plan.reverse)
    firsts_dot = [cast_like(first, like) for (first, _), like in zip(outs, firsts, strict=True)]
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), kept)
    kept_dot = join([dots for _, dots in outs], one)
    return out, (cast_like(last_dot, state), kept_dot, firsts_dot)


def run_by_segments(plan, keep, *args):
    """The run of a plan with `Levels`, of which every segment's first state is made."""
    xs = args[-1].xs
    last, kept, firsts = run(by_segments(plan, xs), keep, *args)
    return last, kept, before_blocks(plan.residuals, xs, firsts, plan.reverse)


def loop_jvp(plan, w, opened, fresh_dot, state_dot, delta_dots, one):
    """K steps of a tangent: that of the state after them; and of each those of what it saw, of the
    state after it, and what else `one`, a `step_jvp` of `Second`, returned."""

    def body(state_dot, now):
        delta_dot, (seen, slopes, mask, reset) = now
        seen_dot = state_dot if reset is None else where(reset, fresh_dot, state_dot)
        new, more = one(w, seen, slopes, seen_dot, delta_dot)
        new = where(mask, cast_like(new, state_dot), seen_dot)
        return new, (seen_dot, new, more)

    now = delta_dots, loops.every_step(opened)
    return lax.scan(body, state_dot, now, reverse=plan.reverse, unroll=plan.unroll)


def segment_jvp(plan, w, opened, w_dot, direction, fresh_dot, state_dot, xs_dot):
    """The tangents of K steps: of the state after them, and of what `all_of` picks of each."""
    cell, mask = plan.cell, opened.steps.mask
    xs_dot = clear_masked(mask, xs_dot)
    deltas = deltas_of(cell, w, opened.seen, opened.slopes)
    steps = opened.steps.xs, opened.seen, opened.saved
    delta_dots = weights_jvp(cell, w, steps, deltas, direction, xs_dot)
    one = functools.partial(step_alone_jvp, cell)
    last_dot, (seen_dots, dots, _) = loop_jvp(
        plan, w, opened, fresh_dot, state_dot, delta_dots, one
    )
    seen_dots = clear_masked(mask, seen_dots)
    if cell.saved_jvp is not None:
        saved_dots = cell.saved_jvp(w, opened.seen, opened.saved, seen_dots, delta_dots)
        return last_dot, (dots, clear_masked(mask, saved_dots))
    given = w, opened.seen, opened.steps.xs
    saved = functools.partial(saved_of, cell.step_for_jax or cell.step, cell.project)
    _, saved_dots = jax.jvp(saved, given, (w_dot, cast_like(seen_dots, opened.seen), xs_dot))
    return last_dot, (dots, clear_masked(mask, saved_dots))


def saved_of(step, project, w, seen, xs):
    """What K steps save of the states they see, at once."""
    return jax.vmap(lambda prev, z: step(w, prev, z)[1])(seen, project(w, xs))


def kept_again(plan, w, fresh, first, steps):
    """What `all_of` picks of the steps of a segment: each by itself, as not all is wanted."""
    _, kept = loops.run_alone(plan, w, fresh, first, steps)
    return checkpoint_name(loops.unpack(plan.cell, kept), STATES)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def run_again(plan, params, w, fresh, first, steps):
    """All that `all_of` picks of the steps of a segment, w being what `prepare` made of params."""
    return loops.unpack(plan.cell, loops.run_alone(plan, w, fresh, first, steps)[1])


@run_again.defjvp
def run_again_jvp(plan, primals, tangents):
    """As `run_jvp`, of one segment."""
    params, w, fresh, first, steps = primals
    params_dot, w_dot, fresh_dot, first_dot, steps_dot = tangents
    kept = kept_again(plan, w, fresh, first, steps)
    opened = open_steps(plan, w, fresh, first, kept, steps, jnp.ones_like)
    direction = direction_of_weights(plan.cell, params, params_dot, w, first, steps.xs)
    dots = w_dot, direction, fresh_dot, widen(first_dot), steps_dot.xs
    _, kept_dot = segment_jvp(plan, w, opened, *dots)
    return kept, cast_like(kept_dot, kept)


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
        before, _, more = loops.step_back(cell, w, each, dstate)
        return (before, jax.tree.map(jnp.add, dfresh, more)), dstate

    scan = functools.partial(lax.scan, reverse=not plan.reverse, unroll=plan.unroll)
    after, dstates = scan(body, dcarry, now)
    dstates = checkpoint_name(dstates, DSTATES)
    back = jax.vmap(cell.step_bwd, (None, 0, 0, 0))
    at = lambda w, seen, slopes: back(w, seen, slopes, clear_masked(mask, dstates))
    (_, deltas), force = jax.jvp(at, (w, seen, slopes), (w_dot, *each_dot[:2]))
    deltas, force = clear_masked(mask, (deltas, force))

    def body_dot(dcarry, now):
        dstate, dfresh = dcarry
        each, dh, force = now
        dstate, delta, more = loops.step_back(cell, w, each, loops.fork_of_h(dstate, dh), force)
        return (dstate, jax.tree.map(jnp.add, dfresh, more)), delta

    after_dot, deltas_dot = scan(body_dot, dcarry_dot, (each, dhs_dot, force))
    return (after, deltas), (after_dot, deltas_dot)
