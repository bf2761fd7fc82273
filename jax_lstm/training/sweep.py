"""THE SWEEP: a gradient by its distance from the end of the block whose errors it is of.

Errors of block j, the outputs up to step e_j, go back together, λ^j. So the gradient is a sum over
blocks and steps, and the truncated one is the part of it that lies within the windows:

    g = Σ_j Σ_{s <= e_j} B_sᵀ λ^j_s          B_s = ∂state_s / ∂params at fixed state_{s-1}
    λ^j_{s-1} = J_sᵀ λ^j_s + dh_{s-1}, if s-1 is in block j       J_s = ∂state_s / ∂state_{s-1}
    A(d) = Σ_j B_sᵀ λ^j_s at s = e_j - d
    TBPTT(k1, k2) = Σ_{d < k2} A(d)           g - TBPTT(k1, k2) = Σ_{d >= k2} A(d)

The last sum is added up as it stands: nothing is subtracted, so that a small error has digits.

The sweep carries the λ^j of the last k2/k1 + 1 blocks apart, and those of all older ones as a sum,
as they go back by the same linear function. Time goes by in chunks. The state before each is kept
of some, and the others are run again (`backwards`). So the memory is that of a chunk, of the λ^j
and of a gradient for each k2, whatever T is.

The bound is that of analysis/reach.py for each λ^j from its cut on, the state before its window:

    ‖g - TBPTT(k1, k2)‖  <=  Σ_j Σ_examples ‖λ^j at the cut‖ Σ_g ‖P_g‖ Π_chunks ‖product of J_g'‖

over groups g before the cut, and the groups g' between the two, chunk by chunk.

Sources: Williams & Peng (1990), "An efficient gradient-based algorithm", for the truncation;
Griewank (1992), "Achieving logarithmic growth of temporal and spatial complexity in reverse
automatic differentiation", for what is run again when.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_lstm.analysis.reach import norm_of_states, reach, times
from jax_lstm.engine import bptt
from jax_lstm.engine.loops import every_step, fork_of_h, step_back, zeros_of_weights
from jax_lstm.engine.programs import in_one_program
from jax_lstm.engine.segments import cast_like, clear_masked, widen, zeros_like
from jax_lstm.notation import Tree

ROUNDING = 8  # eps per step, by which a bound is rounded up


class Sweep(NamedTuple):
    """What goes back from chunk to chunk.

    recent: λ of the last blocks, the youngest first, (N, B, ...) in the fields of a state; ends:
    their last steps e_j, (N,). older: the sum of all others, (B, ...).
    parts: Σ A(d) from one k2 to the next, (n + 1, ...) like what `weights_bwd` returns.
    cut, bound: Σ ‖λ^j at the cut‖ Π ‖J‖ so far, (n, B), and the bound's sum, (n,).
    """

    recent: Tree
    ends: jax.Array
    older: Tree
    parts: Tree
    cut: jax.Array
    bound: jax.Array


class Cuts(NamedTuple):
    """The static part of a sweep. Hashable."""

    k1: int
    k2: tuple[int, ...]
    stride: int
    bound: bool
    apart: int  # blocks whose errors go back apart


def measure(plan, question, back, params, fresh, state, dstate, sizes, cut, snapshots):
    """The sweep over all chunks, the last one first: parts of the gradient, and the bounds.

    Args:
      back: `go_back` with its first three arguments given.
      sizes: steps of each chunk.
      cut: `cut(n) -> (Steps, given)` of the n-th, examples on one axis.
      snapshots: see `backwards`.

    Returns:
      parts: Σ A(d) from one k2 to the next, (n + 1, ...) in the fields of params; bounds (n,).
    """
    ends = np.cumsum([0, *sizes])
    T = int(ends[-1])
    go = functools.partial(in_one_program, go_on, (plan,))
    on = lambda n, state: go(params, fresh, state, cut(n)[0])
    sweep = in_one_program(begin, (plan, question), params, state, dstate, cut(0)[0].xs, T)
    for n, before in backwards(len(sizes), state, on, snapshots):
        steps, given = cut(n)
        sweep = back(params, fresh, before, steps, given, int(ends[n]), T, sweep)
    parts = in_one_program(into_params, (plan.cell,), params, sweep.parts)
    up = 1 + ROUNDING * T * float(jnp.finfo(sweep.bound.dtype).eps)
    return parts, sweep.bound * up


def backwards(n, state, on, snapshots):
    """(k, the state before chunk k) for k = n-1 ... 0, by `on(k, state)` that runs chunk k.

    At most `snapshots` states besides the first and the one at hand are kept: binomial
    checkpointing, see Griewank (1992).
    """

    def between(low, high, state, free):
        while high - low > 1:
            middle, later = low + share(high - low, free), state
            for k in range(low, middle):
                later = on(k, later)
            yield from between(middle, high, later, max(free - 1, 0))
            high = middle
        yield low, state

    return between(0, n, state, snapshots)


def share(n, free):
    """How many of n chunks come before the next snapshot, where `free` may be kept."""
    if not free:
        return n - 1
    times = next(r for r in range(1, n + 1) if math.comb(free + r, free) >= n)
    return min(n - 1, math.comb(free + times - 1, free))


def go_on(plan, params, fresh, state, steps):
    """The state after some steps."""
    return bptt.sequence(plan._replace(residuals="auto"), params, None, fresh, state, steps)[0]


def begin(plan, question, params, state, dstate, xs, T):
    """The Sweep before the last step: the last block's error is that of the last state."""
    N, n = question.apart, len(question.k2)
    none = widen(zeros_like(state))
    many = lambda count, tree: jax.tree.map(lambda x: jnp.zeros((count, *x.shape), x.dtype), tree)
    recent = many(N, none)
    if dstate is not None:
        recent = jax.tree.map(lambda x, d: x.at[0].set(d.astype(x.dtype)), recent, dstate)
    w = plan.cell.prepare(params, None)
    parts = many(n + 1, zeros_of_weights(plan.cell, params, w, state, xs))
    number = none[0].dtype
    cut = jnp.zeros((n, none[0].shape[0]), number)
    return Sweep(recent, jnp.full(N, T, int), none, parts, cut, jnp.zeros(n, number))


def go_back(plan, question, cotangent, params, fresh, state, steps, given, start, T, sweep):
    """The sweep over one chunk, the steps after `start`, the last one first."""
    cell, (k1, k2s, stride, bound, _) = plan.cell, question
    k2 = jnp.array(np.minimum(k2s, np.iinfo(np.int32).max))
    _, states, w, opened = bptt.open_run(plan, params, None, fresh, state, steps)
    hs = clear_masked(steps.mask, states[0])
    dhs = clear_masked(steps.mask, given if cotangent is None else cotangent(hs, given))

    def body(carry, now):
        recent, ends, older = carry
        now, dh, t = now
        ended = (t % k1 == 0) & (t != T)
        old = jax.tree.map(lambda o, x: jnp.where(ended, o + x[-1], o), older, recent)
        new = jax.tree.map(lambda x: jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]]), recent)
        recent = jax.tree.map(lambda n, x: jnp.where(ended, n, x), new, recent)
        ends = jnp.where(ended, jnp.concatenate([t[None], ends[:-1]]), ends)
        first = fork_of_h(jax.tree.map(lambda x: x[0], recent), dh)
        recent = jax.tree.map(lambda x, f: x.at[0].set(f), recent, first)
        away = ends - t
        norms = norm_of_states(recent, 2)
        leaving = jnp.where((away[None] == k2[:, None])[..., None], norms[None], 0 * norms[None])
        every = jax.tree.map(lambda x, o: jnp.concatenate([x, o[None]]), recent, old)
        every, deltas = jax.vmap(lambda d: step_back(cell, w, now, d)[:2])(every)
        part = jnp.append((k2[:, None] <= away[None]).sum(0), len(k2s))
        of_part = (jnp.arange(len(k2s) + 1)[:, None] == part[None]).astype(norms.dtype)
        deltas = jax.tree.map(lambda d: jnp.tensordot(of_part.astype(d.dtype), d, 1), deltas)
        recent = jax.tree.map(lambda x: x[:-1], every)
        older = jax.tree.map(lambda x: x[-1], every)
        return (recent, ends, older), (deltas, leaving.sum(1))

    ts = start + 1 + jnp.arange(len(dhs))
    now = every_step(opened), dhs, ts
    carry = sweep.recent, sweep.ends, sweep.older
    carry, (deltas, leaving) = lax.scan(body, carry, now, reverse=True)
    given = w, opened.steps.xs, opened.seen, opened.saved
    more = jax.vmap(lambda d: cell.weights_bwd(*given, d)[0], 1)(deltas)
    parts = jax.tree.map(jnp.add, sweep.parts, cast_like(more, sweep.parts))
    cut, most = sweep.cut, sweep.bound
    if bound and len(dhs):
        reached = reach(cell, params, w, opened, stride)
        cut, most = grow(reached, leaving[stride - 1 :: stride], cut, most)
    return Sweep(*carry, parts, cut, most)


def grow(reached, leaving, cut, most):
    """The bound over a chunk: of what comes from after it, and of what leaves a window in it, which
    is at the end of a group."""
    said, left = reached
    arrived = leaving.at[-1].add(cut)
    most = most + times(said[:, None], arrived).sum((0, 2))
    return times(left[:, None], arrived).sum(0), most


def into_params(cell, params, parts):
    """Parts of the gradient, back through `prepare` where that is a stage."""
    return jax.vmap(lambda dw: bptt.through_prepare(cell, params, dw))(parts)
