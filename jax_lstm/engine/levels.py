"""LEVELS: time as blocks of blocks of segments, so that memory grows as log T. No gate is known.

`residuals="log"`. T steps are n = T / K segments of K steps. A segment is a block of level 1, a
block of level l + 1 is m blocks of level l, and L levels hold all segments: m^L >= n.

    forward    all steps; kept is the state before each block of level L
    back       the last block first. It is run again, and the state before each of its blocks of
               the level below is kept; and so on down. A segment is run again, and every step of
               it is kept.

    memory     L m states, of which m = n^(1/L) <= M, and K steps opened:    O(log T)
    time       1 + L times the forward, once the backward

L is the least that leaves no block with more than M parts, or twice as many where they then are
equal: it grows as log T / log M. With K and M of `LOG` a sequence of 6,144 steps has one level,
which is `residuals=K`, and one of a million has two.

Source: Griewank (1992), "Achieving logarithmic growth of temporal and spatial complexity in reverse
automatic differentiation"; Chen et al. (2016), "Training deep nets with sublinear memory cost".
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jax_lstm.engine.segments import (
    Levels,
    divisor_near,
    flatten_steps,
    near_root,
    over_segments,
    time_of,
)
from jax_lstm.sharding import vary_together

LOG = Levels(steps=32, parts=192)


class Span(NamedTuple):
    """Blocks of one length, side by side: the first step, how many, and the steps of such a block
    and of its blocks at each level below."""

    start: Any
    blocks: int
    sizes: tuple[int, ...]


def spans_of(levels, tree):
    """Time as blocks: of the largest as many as there are, of the next what is left, and so on;
    in the end, if need be, a longer segment, as `cut` has it."""
    T = time_of(tree)
    sizes = block_sizes(T, near_root(T, levels.steps), levels.parts)
    K = sizes[-1]
    n = max(T // K, 1)
    whole = n if n * K == T else n - 1
    spans, start = [], 0
    for level, size in enumerate(sizes):
        blocks = (whole * K - start) // size
        spans += [Span(start, blocks, sizes[level:])] if blocks else []
        start += blocks * size
    return spans if whole == n else [*spans, Span(start, 1, (T - start,))]


def block_sizes(T, K, parts):
    """Steps of a block at each level, the highest first; K is the last."""
    n = max(T // K, 1)
    sizes = [K]
    while (left := levels_of(n, parts)) > 1:
        root = next(m for m in range(1, n + 1) if m**left >= n)
        width = divisor_near(n, root)
        sizes.append(sizes[-1] * width)
        n //= width
    return tuple(reversed(sizes))


def levels_of(n, parts):
    """The least L for which blocks of so many parts hold n segments."""
    return next(L for L in range(1, n + 1) if parts**L >= n)


def depth(T):
    """How many levels `residuals="log"` has for T steps: the forward runs once more than that."""
    return levels_of(max(T // near_root(T, LOG.steps), 1), LOG.parts)


def blocks_of(span):
    """The first step of each block, for `over_segments`."""
    return span.start + span.sizes[0] * jnp.arange(span.blocks)


def parts_of(span, start):
    """The block of a span that begins there, as a span of the level below; None: a segment."""
    size, *below = span.sizes
    return Span(start, size // below[0], tuple(below)) if below else None


def steps_of(tree, start, K):
    """K steps, as pieces have them, read where they stand."""

    def read(x):
        at, sizes = (start, *[0] * (x.ndim - 1)), (K, *x.shape[1:])
        return lax.dynamic_slice(x, at, sizes, allow_negative_indices=False)

    return jax.tree.map(read, tree)


# Forward --------------------------------------------------------------------------------------


def over_levels(segment, carry, tree, levels, reverse):
    """`over_segments` of `segment(carry, piece)`: the carry, and its state before each block."""
    flat, spans = flatten_steps(tree), spans_of(levels, tree)
    firsts = [None] * len(spans)
    order = range(len(spans))
    for p in reversed(order) if reverse else order:
        carry, firsts[p] = walk(segment, carry, flat, spans[p], reverse)
    return carry, firsts


def walk(segment, carry, flat, span, reverse):
    """The blocks of a span: the carry, and its state before each."""

    def block(carry, start):
        first, _ = carry
        parts = parts_of(span, start)
        if parts is None:
            carry, _ = segment(carry, steps_of(flat, start, span.sizes[0]))
        else:
            carry, _ = walk(segment, carry, flat, parts, reverse)
        return carry, first

    carry, (firsts,) = over_segments(block, carry, [blocks_of(span)], reverse)
    return carry, firsts


# Back -----------------------------------------------------------------------------------------


def back_over_levels(again, segment, carry, tree, firsts, levels, reverse):
    """`over_segments` of `segment(carry, (piece, first))`, the last block first: the carry, and
    what each segment gave, which is like its xs, written where it belongs: one piece.

    again: `(carry, piece) -> (carry, _)`, which runs a segment and keeps nothing.
    """
    flat, spans = flatten_steps(tree), spans_of(levels, tree)
    room = jax.tree.map(jnp.zeros_like, flat[0].xs)
    carry = carry, vary_together((room, firsts))[0]
    order = range(len(spans))
    for p in order if reverse else reversed(order):
        carry = walk_back(again, segment, carry, flat, spans[p], firsts[p], reverse)
    carry, given = carry
    return carry, [jax.tree.map(lambda x: x[None], given)]


def walk_back(again, segment, carry, flat, span, firsts, reverse):
    """The blocks of a span in reverse, of the states before them."""

    def block(carry, now):
        start, first = now
        parts = parts_of(span, start)
        if parts is None:
            return back_one(segment, carry, flat, start, span.sizes[0], first), None
        _, inner = walk(again, (first, ()), flat, parts, reverse)
        return walk_back(again, segment, carry, flat, parts, inner, reverse), None

    return over_segments(block, carry, [(blocks_of(span), firsts)], not reverse)[0]


def back_one(segment, carry, flat, start, K, first):
    """A segment in reverse, and what it gave written to its steps."""
    carry, given = carry
    carry, new = segment(carry, (steps_of(flat, start, K), first))

    def write(x, new):
        return lax.dynamic_update_slice(x, new, (start, 0), allow_negative_indices=False)

    return carry, jax.tree.map(write, given, new)


# The same segments without levels, for second derivatives ---------------------------------------


def by_segments(plan, tree):
    """The plan of a run over the same segments that keeps the state before each of them."""
    return plan._replace(residuals=near_root(time_of(tree), plan.residuals.steps))


def before_blocks(levels, tree, firsts, reverse):
    """Of the states before all segments those before the blocks of each span: in reverse a run
    comes to the last segment of a block first."""
    K = near_root(time_of(tree), levels.steps)
    every = jax.tree.map(lambda *pieces: jnp.concatenate(pieces), *firsts)

    def of_span(span):
        width = max(span.sizes[0] // K, 1)
        at = slice(span.start // K + (width - 1 if reverse else 0), None, width)
        return jax.tree.map(lambda x: x[at][: span.blocks], every)

    return [of_span(span) for span in spans_of(levels, tree)]
