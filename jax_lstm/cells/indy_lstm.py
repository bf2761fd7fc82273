"""The LSTM with diagonal recurrent weights (IndyLSTM): each unit sees its own h alone.

    a = x W + u ⊙ [h, h, h, h]_prev + b                                       (1), (16)
    i, f, o = sigmoid(a_i, a_f, a_o);  g = tanh(a_g)                          (2)
    c = f * c_prev + i * g;  h = o * tanh(c)                                  (3), (4)

Parameters: 4 (D H + 2 H). h_{t-1} is a fork into four numbers of the own unit.

Source: Gonnet & Deselaers (2020), "IndyLSTMs: Independently recurrent LSTMs"; the equations as in
the documentation of tf.contrib.rnn.IndyLSTMCell, which was read. The forget gate's offset begins at
1, u at 0.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm.cells import lstm, packed
from jax_lstm.cells.initial import make_init, ones_in_block
from jax_lstm.cells.lstm import LSTMState
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.notation import GATES
from jax_lstm.stages import (
    align,
    bias,
    bias_bwd,
    cell_state,
    fork_bwd,
    hidden_state,
    plain_gates,
)

__all__ = ["INDY_LSTM", "IndyLSTMParams", "init_indy_lstm", "init_indy_lstm_state"]
__all__ += ["indy_lstm", "indy_lstm_autodiff", "indy_lstm_cell", "indy_lstm_cell_autodiff"]


class IndyLSTMParams(NamedTuple):
    """W (D, 4H), u (4H,), b (4H,): blocks i, f, g, o side by side."""

    W: jax.Array
    u: jax.Array
    b: jax.Array


def in_four_blocks(h, u):
    """[h, h, h, h] ⊙ u: one h for JAX to keep, not four."""
    blocks = h.astype(u.dtype)[..., None, :]
    blocks = blocks * align(u.reshape((4, h.shape[-1])), blocks)  # (16)
    return blocks.reshape((*h.shape[:-1], u.shape[0]))


def step(w, prev, z):
    a = bias(z + in_four_blocks(prev.h, w.u.astype(z.dtype)), w.b)  # (1)
    i, f, g, o = plain_gates(a)  # (2)
    c = cell_state(f, prev.c, i, g)  # (3)
    return LSTMState(hidden_state(o, c).astype(prev.h.dtype), c), (i, f, g, o)  # (4)


def step_bwd(w, prev, slopes, dstate):
    da, dc, dc_prev = slopes
    dc, _ = fork_bwd(None, (dstate.c, dstate.h * dc))  # (4'), (F') at c_t
    da = da * packed.side_by_side(dc, dc, dc, dstate.h)  # (3'), (2')
    dh_prev, _ = fork_bwd(
        None, packed.blocks_of(da * align(w.u, da).astype(da.dtype), 4)
    )  # (16'), (F')
    return LSTMState(dh_prev, dc * dc_prev), da


def weights_bwd(w, xs, prevs, saved, das):
    dW, db, dxs = packed.input_bwd(w, xs, das)
    _, du = bias_bwd(None, in_four_blocks(prevs.h, jnp.ones_like(w.u, das.dtype)) * das)  # (16')
    return IndyLSTMParams(dW, du, db), dxs


SHAPES = (("W", "D,4H"), ("u", "4H"), ("b", "4H"))
init_indy_lstm = make_init("indy_lstm", IndyLSTMParams, SHAPES, b=ones_in_block(4, 1))
INDY_LSTM = Cell(
    name="indy_lstm",
    params=IndyLSTMParams,
    state=LSTMState,
    shapes=SHAPES,
    fields=(("h", "H"), ("c", "wide H")),
    gates=GATES,
    init=init_indy_lstm,
    project=packed.project,
    step=step,
    slopes=lstm.slopes,
    step_bwd=step_bwd,
    weights_bwd=weights_bwd,
    diagonal=("h", "c"),
)
init_indy_lstm_state = make_init_state(INDY_LSTM)
indy_lstm_cell, indy_lstm_cell_autodiff, indy_lstm, indy_lstm_autodiff = routes(
    INDY_LSTM, "the LSTM with diagonal recurrent weights"
)
