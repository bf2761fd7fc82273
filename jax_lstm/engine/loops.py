"""THE LOOPS over steps, forward and back: only what is sequential stands in them. No gate is known.

What is kept of a step is written in place into arrays that the loop carries; tangents.py says what
the derivative of such a loop is.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jax.export import is_symbolic_dim

from jax_lstm.engine.levels import over_levels
from jax_lstm.engine.ragged import (
    first_rows,
    over_live_rows,
    put_rows,
    steps_of_rows,
    weights_of_rows,
)
from jax_lstm.engine.segments import (
    Levels,
    Steps,
    clear_masked,
    cut,
    over_segments,
    segment_length,
    segment_of,
    shift,
    time_of,
    where,
    widen,
    zeros_like,
)
from jax_lstm.sharding import may_be_split, vary_together

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
    cell, all_kept = plan.cell, keep is all_of
    ahead = not all_kept and by_blocks(cell, zs)

    def body(carry, k, now, z):
        state, kept = carry
        t, mask, reset = now
        if all_kept and cell.halves is not None:
            return one_step_in_halves(cell.halves, w, fresh, state, z, mask, reset, kept, t)
        state, saved = one_step(cell.step, w, fresh, state, z, mask, reset)
        return state, write(kept, keep(state, saved), t)

    now = (ts, steps.mask, steps.resets)
    return over_steps(body, carry, now, zs, plan.reverse, plan.unroll, ahead)


def by_blocks(cell, zs):
    """Whether a step reads its z block by block: of a piece of a longer array XLA makes one loop of
    it all, which is not vectorised. Steps with `halves` read it as one array."""
    return len(jax.tree.leaves(zs)) == 1 and len(cell.gates) > 1 and cell.halves is None


def one_step_in_halves(halves, w, fresh, state, z, mask, reset, kept, t):
    """`one_step`, and what `all_of` picks of it at place t of what is kept."""
    seen = state if reset is None else where(reset, fresh, state)
    states, saved = kept
    new = halves.save(w, seen, z)
    saved = write(saved, new, t)
    blocks = read_blocks(saved, t, (1, *new.shape), halves.blocks)
    new = halves.follow(seen, tuple(block[0] for block in blocks))
    state = where(mask, new, seen)
    return state, (write(states, state, t), saved)


def read_blocks(array, t, shape, n):
    """An array of this shape from place t of an array on, in n blocks. Each is read where it
    stands: of one piece with all of them XLA would make loops that are not vectorised."""
    *some, M = *shape[:-1], shape[-1] // n

    def block(k):
        at = (t, *[0] * (len(shape) - 2), k * M)
        return lax.dynamic_slice(array, at, (*some, M), allow_negative_indices=False)

    return tuple(block(k) for k in range(n))


def blocks_of_segment(saved, ts, n):
    """`read_blocks` of the steps at the places ts, which follow each other."""
    start = ts[0] if time_of(ts) else 0
    return read_blocks(saved, start, (*ts.shape, *saved.shape[1:]), n)


def kept_of_rows(cell, kept, t, K, b):
    """What the loops kept of K steps from place t on, of the first b rows, for `unpack`."""
    if kept is None or cell.halves is None:
        return steps_of_rows(kept, t, K, b)
    states, saved = kept
    blocks = read_blocks(saved, t, (K, b, *saved.shape[2:]), cell.halves.blocks)
    return steps_of_rows(states, t, K, b), blocks


def all_of(state, saved):
    """What the backward wants of a step. Of a cell with `halves` the loops keep saved as one array:
    see `pack` and `unpack`."""
    return state, saved


def pack(cell, kept):
    """What `all_of` picks, as the loops keep it."""
    state, saved = kept
    return kept if cell.halves is None else (state, jnp.concatenate(saved, axis=-1))


def unpack(cell, kept):
    """What the loops kept, as `all_of` picks it; or what `read_blocks` made of it, as it is."""
    state, saved = kept
    if cell.halves is None or isinstance(saved, tuple):
        return kept
    return state, tuple(jnp.split(saved, cell.halves.blocks, axis=-1))


def h_of(state, saved):
    return state[0]


def nothing(state, saved):
    return ()


def write(arrays, new, t):
    """The arrays with `new` at place t of their first axis."""

    def at(x, new):
        return lax.dynamic_update_index_in_dim(x, new, t, 0, allow_negative_indices=False)

    return jax.tree.map(at, arrays, new)


def read(arrays, t):
    """What stands at place t of their first axis."""
    at = lambda x: lax.dynamic_index_in_dim(x, t, keepdims=False, allow_negative_indices=False)
    return jax.tree.map(at, arrays)


def over_steps(body, carry, now, zs, reverse, unroll, ahead=False):
    """`lax.scan` of a body that writes what it makes in place: `body(carry, k, now_k, zs_k)` is the
    carry. What of it nobody looks at is then not made at all.

    ahead: z of the next step is read before that step, and so is an array by itself.
    """
    K = time_of((now, zs))
    if not is_symbolic_dim(K) and K == 0:
        return carry
    ks = jnp.arange(K)
    if not ahead or unroll != 1 or is_symbolic_dim(K):
        one = lambda carry, now: (body(carry, *now), None)
        return lax.scan(one, carry, (ks, now, zs), reverse=reverse, unroll=unroll)[0]

    last = int(K) - 1

    def one(carry, now):
        (carry, z), (k, now) = carry, now
        beyond = jnp.maximum(k - 1, 0) if reverse else jnp.minimum(k + 1, last)
        return (body(carry, k, now, z), read(zs, beyond)), None

    start = carry, read(zs, last if reverse else 0)
    return lax.scan(one, start, (ks, now), reverse=reverse)[0][0]


def over_few_kernels(body, carry, now, zs, reverse, unroll):
    """`over_steps` where all that is made is wanted, in a kernel less. The counter moves on when
    all else is done: before that XLA would need a copy of it for a CPU, and a body of more than
    eight kernels is no longer run in plain sequence."""
    K, some = time_of((now, zs)), jax.tree.leaves(carry)[0]
    if unroll != 1 or is_symbolic_dim(K) or may_be_split(some) or K == 0:
        return over_steps(body, carry, now, zs, reverse, unroll)
    first, last, by = (K - 1, 0, -1) if reverse else (0, K - 1, 1)

    def one(at):
        k, carry = at
        carry = body(carry, k, *read((now, zs), k))
        return lax.platform_dependent(k, carry, cpu=when_made, default=lambda k, _: k) + by, carry

    more = lambda at: at[0] >= last if reverse else at[0] <= last
    return lax.while_loop(more, one, vary_together((jnp.int32(first), carry)))[1]


@custom_vmap
def when_made(k, made):
    """k, once everything is made: k plus a zero that is read off it. Of a number's bits none is
    left when all are shifted out; shifted out in one step, XLA would see that."""

    def zero(x):
        size = 8 * x.dtype.itemsize
        bits = lax.bitcast_convert_type(x[(0,) * x.ndim], f"uint{size}")
        return ((bits >> (size - 1)) >> 1).astype(k.dtype)

    floats = [x for x in jax.tree.leaves(made) if jnp.issubdtype(x.dtype, jnp.floating) and x.size]
    return sum((zero(x) for x in floats), k)


@when_made.def_vmap
def when_all_are_made(n, mapped, k, made):
    """The counter of all examples is one."""
    first = lambda x, own: x[0] if own else x
    return when_made(k, jax.tree.map(first, made, mapped[1])) if n else k, False


def room(cell, w, keep, state, xs):
    """Zeros for what `keep` picks of every step of xs, varying over a mesh as the state does."""

    def step(w, state, xs):
        x = jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), xs)
        kept = keep(*cell.step(w, state, cell.project(w, x)))
        return pack(cell, kept) if keep is all_of else kept

    return places(time_of(xs), jax.eval_shape(step, w, state, xs), state)


def places(n, tree, like):
    """Zeros, n times the tree, varying over a mesh as another tree does."""
    zeros = jax.tree.map(lambda x: jnp.zeros((n, *x.shape), x.dtype), tree)
    return vary_together((zeros, like))[0]


def run(plan, keep, params, consts, fresh, state, steps):
    """All steps: the last state, what `keep` picks of each, the first states of all segments, or of
    the blocks of `Levels`."""
    w = plan.cell.prepare(params, consts)
    ts = jnp.arange(jax.tree.leaves(steps.xs)[0].shape[0])
    carry = (state, room(plan.cell, w, keep, state, steps.xs))
    if plan.sort:
        weights = weights_of_rows(plan.cell, params, consts, w)
        return run_live_rows(plan, keep, weights, fresh, carry, steps)

    def segment(carry, piece):
        first, _ = carry
        carry = run_segment(plan, w, fresh, keep, carry, *segment_of((ts, steps), piece))
        return carry, first

    if isinstance(plan.residuals, Levels):
        whole = over_levels(segment, carry, (ts, steps), plan.residuals, plan.reverse)
    else:
        pieces = cut((ts, steps), segment_length(plan, w, steps.xs))
        whole = over_segments(segment, carry, pieces, plan.reverse)
    (last, kept), firsts = whole
    return last, kept, firsts


def run_live_rows(plan, keep, weights, fresh, carry, steps):
    """`run` of a batch sorted by length: of the rows that are not over."""
    K, state = plan.sort, carry[0]
    n = steps.mask.shape[0] // K

    def segment(b, carry, n):
        first, kept, firsts = carry
        ts, now = n * K + jnp.arange(K), steps_of_rows(steps, n * K, K, b)
        some, fresh_of_some = first_rows((first, fresh), b)
        after, kept = run_segment(plan, weights(b), fresh_of_some, keep, (some, kept), ts, now)
        return put_rows(first, after), kept, write(firsts, first, n)

    carry = *carry, places(n, state, state)
    last, kept, firsts = over_live_rows(segment, carry, steps, K, plan.reverse)
    return last, kept, [firsts]


# A run, opened: what every step saw, and its derivative ---------------------------------------


class Opened(NamedTuple):
    """Some steps and the derivative of each, time on axis 0. Zeros where a step is no step, or
    ones.

    steps: xs, mask, resets.   seen: the state before each step, after a reset.
    saved, slopes: see `Cell`.
    """

    steps: Steps
    seen: Any
    saved: Any
    slopes: Any


def run_alone(plan, w, fresh, first, steps):
    """A segment from its first state: the state after it, and what `all_of` picks of each step."""
    ks = jnp.arange(jax.tree.leaves(steps.xs)[0].shape[0])
    carry = (first, room(plan.cell, w, all_of, first, steps.xs))
    return run_segment(plan, w, fresh, all_of, carry, ks, steps)


def seen_of(plan, first, states, fresh, resets):
    """The state that each step saw, of the state before all of them and of those after each."""
    seen = shift(first, states, plan.reverse)
    return seen if resets is None else where(resets, jax.tree.map(lambda x: x[None], fresh), seen)


def open_steps(plan, w, fresh, first, kept, steps, idle=jnp.zeros_like):
    """Steps that were run, from the state before them and what `all_of` kept of each. `idle` makes
    what stands where a step is no step. Of zeros a slope may be infinite, 1/n say; where somebody
    may differentiate once more they are ones, for 0 times infinity is NaN."""
    states, saved = unpack(plan.cell, kept)
    seen = seen_of(plan, first, states, fresh, steps.resets)
    xs = clear_masked(steps.mask, steps.xs)
    seen, saved = clear_masked(steps.mask, (seen, saved), idle)
    return Opened(steps._replace(xs=xs), seen, saved, plan.cell.slopes(w, seen, saved))


# Back -----------------------------------------------------------------------------------------


def fork_of_h(dstate, dh):
    """dh_t = dh from t+1, and dh from the outside: the fork at h, for every cell         (F')"""
    h, *rest = dstate

    def add(h, dh):  # None: nobody outside looks at it
        return h if dh is None else h + dh.astype(h.dtype)

    return type(dstate)(jax.tree.map(add, h, dh), *rest)


def every_step(opened):
    """What `step_back` wants of each step, for `lax.scan`."""
    return opened.seen, opened.slopes, opened.steps.mask, opened.steps.resets


def step_back(cell, w, now, dstate, more=None):
    """dstate_t -> dstate_{t-1}, delta_t, dfresh: linear in dstate_t. A masked step hands on what it
    got; nothing goes back beyond a reset, it goes to the state that the reset led to. `more` is
    added to what `step_bwd` answers."""
    seen, slopes, mask, reset = now
    dseen, delta = cell.step_bwd(w, seen, slopes, dstate)
    if more is not None:
        dseen, delta = jax.tree.map(jnp.add, (dseen, delta), more)
    dseen, delta = where(mask, dseen, dstate), clear_masked(mask, delta)
    if reset is None:
        return dseen, delta, None
    return clear_masked(~reset, dseen), delta, clear_masked(reset, dseen)


def loop_back(plan, w, now, dcarry):
    """K steps in reverse order: (dstate, dfresh) of the first of them, and the delta of each."""

    def step(dcarry, now):
        dstate, dfresh = dcarry
        now, dh = now
        dstate, delta, more = step_back(plan.cell, w, now, fork_of_h(dstate, dh))
        return (dstate, jax.tree.map(jnp.add, dfresh, more)), delta

    def body(carry, k, now, dh):
        dcarry, deltas = carry
        dcarry, delta = step(dcarry, (now, dh))
        return dcarry, write(deltas, delta, k)

    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), now)
    _, delta = jax.eval_shape(step, dcarry, one)
    carry = dcarry, places(time_of(now), delta, dcarry)
    each, dhs = now
    return over_few_kernels(body, carry, each, dhs, not plan.reverse, plan.unroll)


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
