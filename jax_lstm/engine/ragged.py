"""RAGGED batches: padding that costs little, also under jit, where lengths are traced. No gate.

`sort=True`. The rows of a batch are its examples. They are sorted by their last step, the longest
first, and what comes out is put back into the user's order. The rows that a segment of K steps is
about are then the first so many of the batch. Programs for a few numbers of rows are compiled, and
each segment takes the least that is enough:

    rows        of a segment: 1 + the last that has a valid step, or a reset, within it
    b           0, N/4, N/2, 3N/4 or N, the least that is not below it

A row that is left out keeps its state, which is what a masked step does; its cotangents too.

Source: the packed sequences of torch, which have as many rows at each step as are alive.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from jax_lstm.rules import with_rule

PARTS = 4  # of a batch: so many programs

# Rows of a batch --------------------------------------------------------------------------------


def first_rows(tree, b, axis):
    """The first b rows of each leaf."""
    return jax.tree.map(lambda x: lax.slice_in_dim(x, 0, b, axis=axis), tree)


def put_rows(tree, new):
    """The tree with new first rows: the first axis is that of the rows."""
    return jax.tree.map(lambda x, y: jnp.concatenate([y, x[y.shape[0] :]]), tree, new)


def fill_rows(tree, rows):
    """Steps of the first rows, with zeros for the others: the second axis is that of the rows."""

    def fill(x):
        return jnp.pad(x, [(0, 0), (0, rows - x.shape[1]), *[(0, 0)] * (x.ndim - 2)])

    return jax.tree.map(fill, tree)


def row_counts(rows):
    """How many rows there are programs for, beginning with none."""
    return tuple(sorted({-(-rows * n // PARTS) for n in range(PARTS + 1)}))


def over_live_rows(function, steps):
    """`function(b)` for the least count b that has all rows with something to do in these steps."""
    rows = steps.mask.shape[1]
    counts = row_counts(rows)
    live = jnp.max(jnp.where(busy(steps).any(0), jnp.arange(1, rows + 1), 0), initial=0)
    which = jnp.sum(live > jnp.asarray(counts))
    return lax.switch(which, [functools.partial(function, b) for b in counts])


def busy(steps):
    """Where a step does something to a state."""
    return steps.mask if steps.resets is None else steps.mask | steps.resets


def weights_of_rows(cell, params, consts, w):
    """b -> what `prepare` makes for the first b rows: consts may have a row for each example."""
    of_rows = consts is not None and jnp.ndim(consts) > 1
    return lambda b: cell.prepare(params, first_rows(consts, b, 0)) if of_rows else w


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


def in_order_of_length(run, plan, params, consts, fresh, state, steps, batch):
    """`run` with the rows sorted by their last step, and its results in the order that was given.

    batch: the sizes of the examples' axes, which are one for `run`.
    """
    if jnp.ndim(consts) > len(batch):
        consts = merge_batch(consts, batch, 0)
    fresh, state = merge_batch((fresh, state), batch, 0)
    steps = merge_batch(steps, batch, 1)
    T = steps.mask.shape[0]
    ends = jnp.max(jnp.where(busy(steps), jnp.arange(1, T + 1)[:, None], 0), 0, initial=0)
    order = jnp.argsort(-ends)
    inverse = jnp.argsort(order)
    fresh, state = reorder_by_hand(0, (fresh, state), order, inverse)
    xs = reorder_by_hand(1, steps.xs, order, inverse)
    flags = reorder(1, (steps.mask, steps.resets), order, inverse)
    consts = reorder(0, consts, order, inverse) if jnp.ndim(consts) > 1 else consts
    last, hs = run(plan, params, consts, fresh, state, type(steps)(xs, *flags))
    last = split_batch(reorder_by_hand(0, last, inverse, order), batch, 0)
    return last, split_batch(reorder_by_hand(1, hs, inverse, order), batch, 1)
