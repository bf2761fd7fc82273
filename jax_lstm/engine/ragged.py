"""RAGGED batches: padding that costs little, also under jit, where lengths are traced. No gate.

`sort=True`. The rows of a batch are its examples. They are sorted by their last step, the longest
first, and what comes out is put back into the user's order. The rows that are not over in a segment
of K steps are then the first so many, and fewer with every segment. There is a loop over segments
for each of a few numbers of rows b, and each begins where the one before it ended:

    rows(n)    how many end after the first step of segment n
    b          N, 3N/4, N/2, N/4: b rows are run in segments with N/4 fewer < rows(n) <= b

A row that is left out keeps its state, which is what a masked step does; so does its cotangent.

Source: the packed sequences of torch, which have as many rows at each step as are not over.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_lstm.engine.segments import Steps, fill_up
from jax_lstm.rules import with_rule
from jax_lstm.sharding import vary_together

PARTS = 4  # of a batch: so many loops

# Rows of a batch --------------------------------------------------------------------------------


def first_rows(tree, b):
    """The first b rows of each leaf."""
    return jax.tree.map(lambda x: x[:b], tree)


def put_rows(tree, new):
    """The tree with new first rows: the first axis is that of the rows."""
    return jax.tree.map(lambda x, y: jnp.concatenate([y, x[y.shape[0] :]]), tree, new)


def steps_of_rows(tree, t, K, b):
    """K steps from step t on, of the first b rows."""

    def read(x):
        at, sizes = (t, *[0] * (x.ndim - 1)), (K, b, *x.shape[2:])
        return lax.dynamic_slice(x, at, sizes, allow_negative_indices=False)

    return jax.tree.map(read, tree)


def put_steps(tree, new, t):
    """The tree with new steps from step t on, of its first rows."""

    def put(x, new):
        at = (t, *[0] * (x.ndim - 1))
        return lax.dynamic_update_slice(x, new, at, allow_negative_indices=False)

    return jax.tree.map(put, tree, new)


def row_counts(rows):
    """Pairs (least, most) of numbers of rows with a loop of their own, the largest first."""
    counts = sorted({-(-rows * n // PARTS) for n in range(PARTS + 1)})
    return list(itertools.pairwise(counts))[::-1]


def over_live_rows(segment, carry, steps, K, backwards):
    """`segment(b, carry, n)` for all segments of K steps in order, or backwards: the carry. Where
    all rows are over nothing is run."""
    T, rows = steps.mask.shape
    live = jnp.sum(ends_of(steps)[None] > K * jnp.arange(T // K)[:, None], 1)
    counts = row_counts(rows)
    for fewer, b in reversed(counts) if backwards else counts:
        first, end = jnp.sum(live > b), jnp.sum(live > fewer)

        def turn(n, carry, first=first, end=end, b=b):
            return segment(b, carry, first + end - 1 - n if backwards else n)

        carry = lax.fori_loop(first, end, turn, carry)
    return carry


def ends_of(steps):
    """The number of steps up to the last that does something to a row's state."""
    busy = steps.mask if steps.resets is None else steps.mask | steps.resets
    return jnp.max(jnp.where(busy, jnp.arange(1, busy.shape[0] + 1)[:, None], 0), 0)


def weights_of_rows(cell, params, consts, w):
    """b -> what `prepare` makes for the first b rows: consts may have a row for each example."""
    of_rows = np.ndim(consts) > 1
    return lambda b: cell.prepare(params, first_rows(consts, b)) if of_rows else w


# Sorted -----------------------------------------------------------------------------------------


def reorder(axis, tree, order, inverse):
    """Rows in another order, along their axis; `inverse` is the way back."""

    def take(x):
        at = x.at[(*[slice(None)] * axis, order)]
        return at.get(mode="promise_in_bounds", unique_indices=True)

    return jax.tree.map(take, tree)


def reorder_forward(axis, tree, order, inverse):
    return reorder(axis, tree, order, inverse), (order, inverse)


def reorder_backward(axis, residual, dtree):
    order, inverse = residual
    return reorder(axis, dtree, inverse, order), None, None


reorder_by_hand = with_rule(reorder, reorder_forward, reorder_backward, static=(0,))


def merge_batch(tree, batch, axis):
    """The axes of the examples as one; what has an axis of size 1 in their place is repeated."""

    def merge(x):
        before, after = x.shape[:axis], x.shape[axis + len(batch) :]
        whole = jnp.broadcast_to(x, (*before, *batch, *after))
        return whole.reshape((*before, math.prod(batch), *after))

    return jax.tree.map(merge, tree)


def split_batch(tree, batch, axis):
    """The inverse of `merge_batch`."""
    return jax.tree.map(lambda x: x.reshape((*x.shape[:axis], *batch, *x.shape[axis + 1 :])), tree)


def in_order_of_length(run, batch, plan, params, consts, fresh, state, steps):
    """`run` with the rows sorted by their last step, and its results in the order that was given.

    batch: the sizes of the examples' axes, which are one for `run`.
    """
    if of_rows := np.ndim(consts) > 1:
        missing = tuple(range(len(batch) + 1 - np.ndim(consts)))
        consts = merge_batch(jnp.expand_dims(consts, missing), batch, 0)
    fresh, state = merge_batch((fresh, state), batch, 0)
    steps = merge_batch(steps, batch, 1)
    T = steps.mask.shape[0]
    order = jnp.argsort(-ends_of(steps))
    inverse = jnp.argsort(order)
    fresh, state = reorder_by_hand(0, (fresh, state), order, inverse)
    xs = reorder_by_hand(1, steps.xs, order, inverse)
    flags = reorder(1, (steps.mask, steps.resets), order, inverse)
    consts = reorder(0, consts, order, inverse) if of_rows else consts
    whole = fill_up(Steps(xs, *flags), -T % plan.sort)
    last, hs = run(plan, params, consts, fresh, state, vary_together((whole, state))[0])
    hs = jax.tree.map(lambda h: h[:T], hs)
    last = split_batch(reorder_by_hand(0, last, inverse, order), batch, 0)
    return last, split_batch(reorder_by_hand(1, hs, inverse, order), batch, 1)
