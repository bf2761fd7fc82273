"""Where the cells can be tapped: the names of their intermediates, for `referee.taps`.

A step is told once more, each net input by itself; what `step_bwd` hands to the weights is their
cotangent. `blame` reads which stage it was from which of these disagree together.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from jax_lstm.cells.elman import ElmanState
from jax_lstm.cells.lstm import LSTMState
from jax_lstm.cells.lstmp import LSTMPState
from jax_lstm.diagnosis.catalogue import NAMES
from jax_lstm.notation import GATES
from jax_lstm.stages import bias, cell_state, hidden_state, linear, sigmoid, tanh


class Inside(NamedTuple):
    """`referee.Taps`, see there; a cell does not import its judge."""

    step: Callable[..., Any]
    deltas: Callable[..., Any]
    says: dict[str, str]
    blame: Callable[..., Any]
    gates: tuple[str, ...] = ()
    step_bwd: None = None


def lstm_step(w, prev, z, tap):
    h_prev, c_prev = prev
    a = jnp.split(bias(z + linear(h_prev, w.U), w.b), 4, axis=-1)  # (1)
    a_i, a_f, a_g, a_o = (tap(f"a_{k}", x) for k, x in zip(GATES, a, strict=True))
    i, f, g, o = sigmoid(a_i), sigmoid(a_f), tanh(a_g), sigmoid(a_o)  # (2)
    c = tap("c", cell_state(f, c_prev, i, g))  # (3)
    return LSTMState(tap("o tanh(c)", hidden_state(o, c)).astype(h_prev.dtype), c)  # (4)


def lstm_deltas(da):
    """Blocks of da, in the order of the backward."""
    a_i, a_f, a_g, a_o = jnp.split(da, 4, axis=-1)
    return {"a_o": a_o, "a_f": a_f, "a_i": a_i, "a_g": a_g}


def lstm_blame(names):
    """Of da_o, dc and the others, which stage of the step: the first in backward order."""
    inner = {"da_i", "da_f", "da_g"}
    if {"dh from t+1", "dc from t+1", "dh"} & names:
        return None
    if "do tanh(c)" in names:
        return "stage linear (10'x), the projection"
    if inner <= names:
        return "stage hidden_state (4'), or the fork at c (F')"
    wrong = [k for k in GATES if f"da_{k}" in names]
    if wrong:
        stage = "hidden_state (4')" if wrong == ["o"] else "cell_state (3')"
        return f"stage {stage} or gates (2'), {', '.join(NAMES[k] for k in wrong)}"
    if "dc_prev" in names:
        return "stage cell_state (3'), dc_prev"
    if "dh_prev" in names:
        return "stage linear (1'x), into h_{t-1}"
    return "stage linear (1'), after the loop" if names else None


def elman_step(w, prev, z, tap):
    a = tap("a", bias(z + linear(prev.h, w.U), w.b))  # (1)
    return ElmanState(tanh(a).astype(prev.h.dtype))  # (2)


def elman_blame(names):
    if {"dh from t+1", "dh"} & names:
        return None
    if "da" in names:
        return "stage tanh (2')"
    if "dh_prev" in names:
        return "stage linear (1'x), into h_{t-1}"
    return "stage linear (1'), after the loop" if names else None


def lstmp_step(w, prev, z, tap):
    m, c = lstm_step(w, prev, z, tap)
    return LSTMPState(linear(m, w.P).astype(m.dtype), c)  # (10)


SAYS = {f"da_{k}": name for k, name in NAMES.items()}
TAPS = {
    "lstm": Inside(lstm_step, lstm_deltas, SAYS, lstm_blame),
    "lstmp": Inside(lstmp_step, lambda delta: lstm_deltas(delta[0]), SAYS, lstm_blame),
    "elman": Inside(elman_step, lambda da: {"a": da}, {"da": "the net input"}, elman_blame),
}
