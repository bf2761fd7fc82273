"""Every state and gate of a cell, step by step: what the engine keeps, for a reader.

For any cell, at any size, under jit. Every number of a small LSTM, deltas too, with its equation:
teaching/trace.py.
"""

from typing import NamedTuple

import jax

from jax_lstm.engine import bptt
from jax_lstm.engine.cell import Cell, Params, State
from jax_lstm.engine.doors import check_named
from jax_lstm.engine.functions import RunFunction
from jax_lstm.engine.routes import bind, run_cell
from jax_lstm.engine.segments import clear_masked
from jax_lstm.notation import Tree


class States(NamedTuple):
    """hs (T, ..., H); states, the cell's state after every step, each field (T, ..., H); saved,
    what its step saved, for the LSTM the gates (i, f, g, o). Zero where a step is no step."""

    hs: jax.Array
    states: Tree
    saved: Tree


def make_states(
    cell: Cell[Params, State],
    name: str = "states",
    title: str = "Every state and gate of a cell, over a sequence.",
) -> RunFunction[Params, State, tuple[State, States]]:
    """A whole-sequence function that shows what happens inside. Derivatives are JAX's.

    Args:
      cell: a `Cell`, `jax_lstm.LSTM` for example.
      name, title: of the function, and the first line of its docstring.

    Returns:
      states: `(params, state, xs, **options) -> (state, States)`, options as of `jax_lstm.lstm`;
      `residuals` is ignored. In a stack: `stack(..., sequence=make_states(LSTM), every=True)`.

    Source: the engine's own forward, see jax_lstm/engine/bptt.py.
    """
    check_named(cell, name=name, title=title)
    made = (make_states, (cell, name, title), None)
    return bind(run_cell, (cell, show), name, f"{title} Differentiated by JAX.", made)


def show(plan, params, consts, fresh, state, steps):
    """What the engine keeps for the backward is what a reader wants."""
    last, states, _, opened = bptt.open_run(plan, params, consts, fresh, state, steps)
    hs, states = clear_masked(steps.mask, (states[0], states))
    return last, States(hs, states, opened.saved)


make_trace, Trace = make_states, States  # the names of before; `trace` is that of teaching/
