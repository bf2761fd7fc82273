"""Full gate recurrence: the LSTM with peepholes whose gates also see the gates of step t-1.

    a = x W + h_prev U + b;  [e_i, e_f, e_o] = q_prev V                       (1)
    i, f = sigmoid(a_i + e_i + p_i ⊙ c_prev, a_f + e_f + p_f ⊙ c_prev)        (16), (2)
    c = f * c_prev + i * g,  g = tanh(a_g)                                    (2), (3)
    h = o * tanh(c),  o = sigmoid(a_o + e_o + p_o ⊙ c);  q = [i, f, o]        (4), (16), (2)

Parameters: 4 (D H + H² + H) + 3 H + 9 H²; V holds the nine recurrent matrices between the gates.
Each gate is a fork: into its product of this step, and through V into three gates of the next.

Source: Greff et al. (2017), "LSTM: A Search Space Odyssey", variant FGR; that a gate's net input is
of x, h, c and all three gates as in the code of RNNLayers (lstm_fgr_cell), which was read. The
forget gate's offset begins at 1. The others of the study: odyssey.py.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm.cells import odyssey, packed
from jax_lstm.cells.initial import make_init, ones_in_block, orthogonal
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.notation import GATES
from jax_lstm.stages import (
    fork_bwd,
    linear,
    linear_bwd_input,
    linear_bwd_weight,
    sigmoid_bwd,
)

__all__ = ["LSTM_FGR", "LSTMFGRParams", "LSTMFGRState", "init_lstm_fgr", "init_lstm_fgr_state"]
__all__ += ["lstm_fgr", "lstm_fgr_autodiff", "lstm_fgr_cell", "lstm_fgr_cell_autodiff"]

VANILLA = odyssey.Variant()


class LSTMFGRParams(NamedTuple):
    """W (D, 4H), U (H, 4H), b (4H,): blocks i, f, g, o side by side; p (3H,): i, f, o; V (3H, 3H):
    rows i, f, o of step t-1, columns i, f, o."""

    W: jax.Array
    U: jax.Array
    b: jax.Array
    p: jax.Array
    V: jax.Array


class LSTMFGRState(NamedTuple):
    """h (..., H), q (..., 3H): the gates i, f, o, in the parameters' dtype; c (..., H) in float32
    when that has 16 bits."""

    h: jax.Array
    c: jax.Array
    q: jax.Array


SHAPES = (("W", "D,4H"), ("U", "H,4H"), ("b", "4H"), ("p", "3H"), ("V", "3H,3H"))
init_lstm_fgr = make_init("lstm_fgr", LSTMFGRParams, SHAPES, b=ones_in_block(4, 1), V=orthogonal)


def three_of(blocks):
    """The gates of [i, f, g, o], side by side."""
    i, f, _, o = blocks
    return packed.side_by_side(i, f, o)


def among_blocks(gates):
    """[i, f, 0, o] of the gates side by side."""
    i, f, o = packed.blocks_of(gates, 3)
    return packed.side_by_side(i, f, jnp.zeros_like(i), o)


def step(w, prev, z):
    a = packed.net_input(w, prev.h, z) + among_blocks(linear(prev.q, w.V))  # (1)
    h, c, gates = odyssey.step_from(VANILLA, w, prev, a)
    return LSTMFGRState(h, c, three_of(gates).astype(h.dtype)), gates


def slopes(w, prevs, gates):
    """The factors of odyssey.py, and those of each gate by itself."""
    own = three_of([sigmoid_bwd(k, jnp.ones_like(k)) for k in gates])  # (2')
    return *odyssey.slopes(VANILLA, w, prevs, gates), own


def step_bwd(w, prev, slopes, dstate):
    *factors, own = slopes
    dq = dstate.q * own  # (2'): what step t+1 said of the gates, at their net inputs
    p = odyssey.peepholes(VANILLA, w, dstate.c)
    dq_i, dq_f, dq_o = packed.blocks_of(dq, 3)
    dc, _ = fork_bwd(None, (dstate.c, p["o"] * dq_o))  # (F') at c_t
    da, dc_prev = odyssey.net_input_bwd(VANILLA, factors, dstate._replace(c=dc))
    dc_prev, _ = fork_bwd(None, (dc_prev, p["i"] * dq_i, p["f"] * dq_f))  # (F') at c_{t-1}
    da, _ = fork_bwd(None, (da, among_blocks(dq)))  # (F') at the gates
    dh_prev = linear_bwd_input(w.U, da)  # (1'x)
    dq_prev = linear_bwd_input(w.V, three_of(packed.blocks_of(da, 4)))  # (1'x)
    return LSTMFGRState(dh_prev, dc_prev, dq_prev), da


def tuple_of(*parts):
    return parts


def weights_bwd(w, xs, prevs, gates, das):
    (dW, dU, db, dp), dxs = odyssey.weights_bwd(VANILLA, tuple_of, w, xs, prevs, gates, das)
    dV = linear_bwd_weight(prevs.q, three_of(packed.blocks_of(das, 4)))  # (1'W)
    return LSTMFGRParams(dW, dU, db, dp, dV), dxs


LSTM_FGR = Cell(
    name="lstm_fgr",
    params=LSTMFGRParams,
    state=LSTMFGRState,
    shapes=SHAPES,
    fields=(("h", "H"), ("c", "wide H"), ("q", "3H")),
    gates=GATES,
    init=init_lstm_fgr,
    project=packed.project,
    step=step,
    slopes=slopes,
    step_bwd=step_bwd,
    weights_bwd=weights_bwd,
    kept=("h", "c"),
)
init_lstm_fgr_state = make_init_state(LSTM_FGR)
lstm_fgr_cell, lstm_fgr_cell_autodiff, lstm_fgr, lstm_fgr_autodiff = routes(
    LSTM_FGR, "the LSTM with full gate recurrence"
)
