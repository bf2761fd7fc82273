"""Every state and gate of a cell, step by step: what the engine keeps, for a reader.

For any cell, at any size, under jit. Every number of a small LSTM, deltas too, with its equation:
teaching/trace.py.
"""

from typing import Any, NamedTuple

from jax_lstm.engine import bptt, segments
from jax_lstm.engine import routes as make


class Trace(NamedTuple):
    """hs (T, ..., H); states, the cell's state after every step, each field (T, ..., H); saved,
    what its step saved, for the LSTM the gates (i, f, g, o). Zero where a step is no step."""

    hs: Any
    states: Any
    saved: Any


def make_trace(cell, name="trace", title="Every state and gate of a cell, over a whole sequence."):
    """A whole-sequence function that shows what happens inside. Derivatives are JAX's.

    Args:
      cell: a `Cell`, `jax_lstm.LSTM` for example.
      name, title: of the function, and the first line of its docstring.

    Returns:
      trace: `(params, state, xs, **options) -> (state, Trace)`, options as of `jax_lstm.lstm`;
      `residuals` is ignored. In a stack: `stack(..., sequence=make_trace(LSTM), every=True)`.

    Source: the engine's own forward, see jax_lstm/engine/bptt.py.
    """
    return make.bind(make._rnn, (cell, traced), name, f"{title} Differentiated by JAX.")


def traced(plan, params, consts, fresh, state, steps):
    """What the engine keeps for the backward is what a reader wants."""
    w = plan.cell.prepare(params)
    last, kept, _ = bptt.run(plan, w, consts, fresh, bptt.all_of, state, steps)
    states, saved = kept
    return last, segments.cleared(steps.mask, Trace(states[0], states, saved))
