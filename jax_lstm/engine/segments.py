"""Time in segments, and flags per example: trees of arrays with time on axis 0."""

import functools
import math
from collections.abc import Hashable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.export import is_symbolic_dim

from jax_lstm.engine.cell import AnyCell
from jax_lstm.notation import Tree, wide

SEGMENT_STEPS = 16  # at least so many steps share one weight product
SEGMENT_BYTES = 2**21  # and as many as keep the projected input of a segment within a core's cache
SORTED_SEGMENTS = 16  # a batch sorted by length sheds rows at so many places


class Plan(NamedTuple):
    """The static part of a run: hashable, so that JAX compiles once per plan."""

    cell: AnyCell
    reverse: bool
    residuals: Hashable
    unroll: int
    sort: int = 0  # the steps of a segment of a batch sorted by length, see ragged.py; 0: as given


class Levels(NamedTuple):
    """`residuals` of a run in blocks of blocks of segments (levels.py): the steps of a segment, or
    the next divisor of T, and the parts of a block."""

    steps: int
    parts: int


class Steps(NamedTuple):
    """What comes in per time step. xs is an array or a pytree of arrays with time on axis 0.

    `mask` and `resets` may be None and then cost nothing.
    """

    xs: Tree
    mask: jax.Array | None
    resets: jax.Array | None


# Time in segments -----------------------------------------------------------------------------


def segment_length(plan, w, xs):
    """Steps per segment: asked for (`residuals=K`), near sqrt(T), or by the size of a step's z.

    Symbolic sizes have no divisors: of a symbolic T "full" is one segment; "auto", and "full" of a
    symbolic batch, go by SEGMENT_STEPS.
    """
    T = time_of(xs)
    if plan.sort:
        return plan.sort
    if isinstance(plan.residuals, int):
        return plan.residuals
    if isinstance(plan.residuals, Levels):
        return near_root(T, plan.residuals.steps)
    if is_symbolic_dim(T):
        return T if plan.residuals == "full" else SEGMENT_STEPS
    if plan.residuals == "auto":
        return near_root(T)
    step_bytes = bytes_of_step(plan.cell.project, w, xs)
    if is_symbolic_dim(step_bytes):
        return divisor_near(T, SEGMENT_STEPS)
    return divisor_near(T, max(SEGMENT_STEPS, SEGMENT_BYTES // max(step_bytes, 1)))


def bytes_of_step(project, w, xs):
    """Those of one step's projected input z, all examples together."""
    x = jax.tree.map(lambda x: x[:1], xs)
    z = jax.eval_shape(project, w, x)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(z))


def sorted_segment_length(plan, w, xs):
    """Steps per segment of a batch sorted by length: so few that it sheds rows at many places."""
    T = time_of(xs)
    K, most = min(segment_length(plan, w, xs), T), max(SEGMENT_STEPS, T // SORTED_SEGMENTS)
    return K if plan.residuals != "full" or most >= K else divisor_near(T, most)


def whole_segments(residuals, batch, steps):
    """A symbolic T filled up to whole segments with steps that are no steps: a loop must run at
    least once, and of the rest of T / K nobody knows that. Other sequences come back as they are.
    """
    T = jax.tree.leaves(steps.xs)[0].shape[0]
    K = SEGMENT_STEPS if residuals == "auto" else residuals
    if not is_symbolic_dim(T) or K == "full" or T % K == 0:
        return steps
    mask = jnp.ones((T, *batch), bool) if steps.mask is None else steps.mask
    return fill_up(steps._replace(mask=mask), (T + K - 1) // K * K - T)


def fill_up(steps, more):
    """Steps, and behind them more that are no steps: zeros."""

    def fill(x):
        return jnp.concatenate([x, jnp.zeros((more, *x.shape[1:]), x.dtype)])

    return jax.tree.map(fill, steps) if is_symbolic_dim(more) or more else steps


def near_root(T, most=None):
    """Steps per segment near sqrt(T), where that is not above `most`, or near that."""
    root = max(math.isqrt(T), 1)
    return divisor_near(T, root if most is None else min(root, most))


def time_of(tree):
    return jax.tree.leaves(tree)[0].shape[0]


def divisor_near(T, K):
    """The first divisor of T in [K, 2K], or K: equal segments need no copy of the sequence."""
    return next((k for k in range(K, min(2 * K, T) + 1) if T % k == 0), K)


def cut(tree, K):
    """Time as pieces (n, K, size of a step): n equal segments and, if need be, a longer last one.

    The last piece has between K and 2K - 1 steps, so that no weight product serves fewer than K.
    The axes of a step are merged: around an axis of size 1 XLA would copy the whole sequence.
    """
    T = jax.tree.leaves(tree)[0].shape[0]
    n = max(T // K, 1)
    whole = n if n * K == T else n - 1
    spans = [(0, whole, K)] if whole else []
    if whole < n:
        spans.append((whole * K, 1, T - whole * K))

    def piece(x, start, n, K):
        x = x if n * K == x.shape[0] else x[start : start + n * K]
        return x.reshape((n, K, math.prod(x.shape[1:])))

    return [jax.tree.map(functools.partial(piece, start=s, n=n, K=K), tree) for s, n, K in spans]


def segment_of(tree, piece):
    """One segment of a piece, with the axes that a step has in the tree."""
    return jax.tree.map(lambda x, s: s.reshape((s.shape[0], *x.shape[1:])), tree, piece)


def flatten_steps(tree):
    """A segment (K, ...) with the axes of a step merged, as pieces have them."""
    return jax.tree.map(lambda x: x.reshape((x.shape[0], math.prod(x.shape[1:]))), tree)


def join(pieces, tree):
    """The inverse of `cut`: (T, ...), where a step has the axes of the tree's leaves."""

    def whole(x, *parts):
        flat = [p.reshape((p.shape[0] * p.shape[1], *x.shape)) for p in parts]
        return flat[0] if len(flat) == 1 else jnp.concatenate(flat)

    return jax.tree.map(whole, tree, *pieces)


def over_segments(body, carry, pieces, reverse):
    """`lax.scan` of `body(carry, segment)` over pieces of time; outputs come back as pieces."""
    outputs = [None] * len(pieces)
    order = range(len(pieces))
    for p in reversed(order) if reverse else order:
        if jax.tree.leaves(pieces[p])[0].shape[0] == 1:
            carry, out = body(carry, jax.tree.map(lambda x: x[0], pieces[p]))
            outputs[p] = jax.tree.map(lambda x: x[None], out)
        else:
            carry, outputs[p] = lax.scan(body, carry, pieces[p], reverse=reverse)
    return carry, outputs


# Masks and resets -----------------------------------------------------------------------------


def where(flag, yes, no):
    """`jnp.where` leaf by leaf, with a flag per example. No flag: yes, and nothing is traced."""
    if flag is None:
        return yes
    return jax.tree.map(lambda y, n: jnp.where(per_leaf(flag, y), y, n), yes, no)


def clear_masked(mask, tree, by=jnp.zeros_like):
    """Zero wherever the mask is False, so that NaN in padding has no way in; or ones.

    What all examples share (an axis of size 1 in place of theirs) is left alone.
    """
    if mask is None:
        return tree

    def clear(x):
        flag = per_leaf(mask, x)
        own = jnp.broadcast_shapes(flag.shape, x.shape) == x.shape
        return jnp.where(flag, x, by(x)) if own else x

    return jax.tree.map(clear, tree)


def per_leaf(flag, x):
    """A flag per example, with axes of size 1 for what a leaf has besides."""
    return flag.reshape(flag.shape + (1,) * (x.ndim - flag.ndim))


def zeros_like(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def widen(tree):
    return jax.tree.map(lambda x: x.astype(wide(x.dtype)), tree)


def cast_like(tree, other):
    """The tree in the dtypes of the other one: dX has the dtype of X."""
    return jax.tree.map(lambda x, y: x.astype(y.dtype), tree, other)


def shift(first, states, reverse):
    """The state before each step of a segment: a copy of one segment, never of the sequence."""

    def before(x0, x):
        both = [x[1:], x0[None]] if reverse else [x0[None], x[:-1]]
        return jnp.concatenate(both)[: x.shape[0]]

    return jax.tree.map(before, first, states)
