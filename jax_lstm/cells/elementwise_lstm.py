"""The LSTM with element-wise recurrence (eLSTM): c sees itself through vectors, h does not recur.

    a = x W + b                                                               (1)
    f, g = sigmoid(a_f + u_f ⊙ c_prev), tanh(a_g + u_g ⊙ c_prev)              (16), (2)
    c = f ⊙ c_prev + (1 - f) ⊙ g                                              (19)
    h = o ⊙ c,  o = sigmoid(a_o + c V)                                        (1), (2), (16)

Parameters: 3 (D H + H) + H² + 2 H. What a unit's c depends on is its own past, so real-time
recurrent learning is cheap; V reads c of the same step only. The cotangent of h_{t-1} is zero.

Source: Irie, Gopalakrishnan & Schmidhuber (2024), "Exploring the promise and limits of real-time
recurrent learning"; the equations as in torchrecurrent's elstm_cell.py, which was read.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm.cells import packed
from jax_lstm.cells.initial import make_init
from jax_lstm.cells.lstm import LSTMState
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.sharding import vary_together
from jax_lstm.stages import (
    align,
    bias,
    bias_bwd,
    blend,
    blend_bwd,
    fork_bwd,
    linear,
    linear_bwd_input,
    linear_bwd_weight,
    product,
    product_bwd,
    sigmoid,
    sigmoid_bwd,
    tanh,
    tanh_bwd,
)

__all__ = ["ELEMENTWISE_LSTM", "ElementwiseLSTMParams"]
__all__ += ["init_elementwise_lstm", "init_elementwise_lstm_state"]
__all__ += ["elementwise_lstm", "elementwise_lstm_autodiff"]
__all__ += ["elementwise_lstm_cell", "elementwise_lstm_cell_autodiff"]


class ElementwiseLSTMParams(NamedTuple):
    """W (D, 3H), b (3H,): blocks f, g, o side by side; u (2H,): f, g; V (H, H)."""

    W: jax.Array
    b: jax.Array
    u: jax.Array
    V: jax.Array


def project(w, xs):
    return bias(linear(xs, w.W), w.b)  # (1)


def step(w, prev, a):
    a_f, a_g, a_o = packed.blocks_of(a, 3)
    u_f, u_g = packed.blocks_of(align(w.u, a).astype(a.dtype), 2)
    f, g = sigmoid(a_f + u_f * prev.c), tanh(a_g + u_g * prev.c)  # (16), (2)
    c = blend(f, prev.c, g)  # (19)
    o = sigmoid(a_o + linear(c.astype(w.V.dtype), w.V))  # (1), (2)
    return LSTMState(product(o, c).astype(prev.h.dtype), c), (f, g, o)  # (16)


def slopes(w, prevs, saved):
    """By dh: to o's block and to c. By dc: to the blocks f, g and to c_{t-1}."""
    f, g, o = saved
    one = jnp.ones_like(f)
    u_f, u_g = packed.blocks_of(align(w.u, f).astype(f.dtype), 2)
    do, dc = product_bwd((o, blend(f, prevs.c, g)), one)  # (16')
    df, dold, dg = blend_bwd((f, prevs.c, g), one)  # (19')
    da_f, da_g = sigmoid_bwd(f, df), tanh_bwd(g, dg)  # (2')
    dc_prev, _ = fork_bwd(None, (dold, da_f * u_f, da_g * u_g))  # (F') at c_{t-1}
    return sigmoid_bwd(o, do), dc, packed.side_by_side(da_f, da_g), dc_prev


def step_bwd(w, prev, slopes, dstate):
    da_o, dc, da, dc_prev = slopes
    da_o = da_o * dstate.h
    dc, _ = fork_bwd(None, (dstate.c, dstate.h * dc, linear_bwd_input(w.V, da_o)))  # (F') at c_t
    da = packed.side_by_side(packed.in_every_block(da, dc), da_o)
    dh_prev, _ = vary_together((jnp.zeros_like(dstate.h), dc))
    return LSTMState(dh_prev, dc * dc_prev), da


def weights_bwd(w, xs, prevs, saved, das):
    dW, db, dxs = packed.input_bwd(w, xs, das)
    da_f, da_g, da_o = packed.blocks_of(das, 3)
    du = [bias_bwd(None, da * prevs.c)[1] for da in (da_f, da_g)]  # (16')
    f, g, _ = saved
    c = blend(f, prevs.c, g).astype(w.V.dtype)
    return ElementwiseLSTMParams(dW, db, jnp.concatenate(du), linear_bwd_weight(c, da_o)), dxs


SHAPES = (("W", "D,3H"), ("b", "3H"), ("u", "2H"), ("V", "H,H"))
init_elementwise_lstm = make_init("elementwise_lstm", ElementwiseLSTMParams, SHAPES)
ELEMENTWISE_LSTM = Cell(
    name="elementwise_lstm",
    params=ElementwiseLSTMParams,
    state=LSTMState,
    shapes=SHAPES,
    fields=(("h", "H"), ("c", "wide H")),
    gates=("f", "g", "o"),
    init=init_elementwise_lstm,
    project=project,
    step=step,
    slopes=slopes,
    step_bwd=step_bwd,
    weights_bwd=weights_bwd,
    diagonal=("c",),
)
init_elementwise_lstm_state = make_init_state(ELEMENTWISE_LSTM)
(
    elementwise_lstm_cell,
    elementwise_lstm_cell_autodiff,
    elementwise_lstm,
    elementwise_lstm_autodiff,
) = routes(ELEMENTWISE_LSTM, "the LSTM with element-wise recurrence")
