"""The layer-normalised LSTM: the net inputs of x and of h, and c on its way out, normalised.

    a = LN(x W) + LN(h_prev U) + b                                            (1), (20)
    i, f, o = sigmoid(a_i, a_f, a_o);  g = tanh(a_g)                          (2)
    c = f * c_prev + i * g                                                    (3)
    h = o * tanh(LN(c) + shift)                                               (4), (20), (1)

Parameters: 4 (D H + H² + 3 H) + 2 H. Each LN has a gain of its own, over all four blocks together;
the two offsets of the net input are one, b. What is kept in the state is c as it is, so that the
forget product stays what it is. h_{t-1} goes back through the derivative of LN(h U).

Source: Ba, Kiros & Hinton (2016), "Layer normalization"; the step as in a LayerNormLSTMCell of
torch users, which was read. The forget gate's offset begins at 1, gains at 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm.cells import packed
from jax_lstm.cells.initial import make_init, ones, ones_in_block
from jax_lstm.cells.lstm import LSTMState
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.notation import GATES
from jax_lstm.stages import (
    align,
    bias,
    bias_bwd,
    cell_state,
    cell_state_bwd,
    fork_bwd,
    gates_bwd,
    hidden_state_bwd,
    layer_norm,
    layer_norm_bwd,
    layer_norm_bwd_gain,
    layer_norm_bwd_input,
    linear,
    linear_bwd_input,
    linear_bwd_weight,
    normalise,
    plain_gates,
    product,
    tanh,
)

__all__ = ["LAYER_NORM_LSTM", "LayerNormLSTMParams"]
__all__ += ["init_layer_norm_lstm", "init_layer_norm_lstm_state"]
__all__ += ["layer_norm_lstm", "layer_norm_lstm_autodiff"]
__all__ += ["layer_norm_lstm_cell", "layer_norm_lstm_cell_autodiff"]


class LayerNormLSTMParams(NamedTuple):
    """W (D, 4H), U (H, 4H), b, gain_x, gain_h (4H,): blocks i, f, g, o side by side; gain_c and
    shift_c (H,)."""

    W: jax.Array
    U: jax.Array
    b: jax.Array
    gain_x: jax.Array
    gain_h: jax.Array
    gain_c: jax.Array
    shift_c: jax.Array


def project(w, xs):
    """LN(x W) + b: the part of (1) that does not depend on the state."""
    return bias(layer_norm(linear(xs, w.W), w.gain_x), w.b)


def step(w, prev, z):
    u = linear(prev.h, w.U)
    i, f, g, o = plain_gates(z + layer_norm(u, w.gain_h))  # (20), (1), (2)
    c = cell_state(f, prev.c, i, g)  # (3)
    h = product(o, tanh(bias(layer_norm(c, w.gain_c), w.shift_c)))  # (20), (4)
    return LSTMState(h.astype(prev.h.dtype), c), (i, f, g, o, u)


def slopes(w, prevs, saved):
    """By dh: to o's block and to what LN(c) is. By dc: to the other blocks and c_{t-1}. And the
    normalised h U and c, of which the derivative of LN is made."""
    i, f, g, o, u = saved
    c = cell_state(f, prevs.c, i, g)
    normal_c = normalise(c)
    out = bias(normal_c[0] * align(w.gain_c, c).astype(c.dtype), w.shift_c)
    one = jnp.ones_like(c)
    do, dout = hidden_state_bwd((o, out), one)  # (4')
    df, dc_prev, di, dg = cell_state_bwd((f, prevs.c, i, g), one)  # (3')
    return gates_bwd((i, f, g, o), (di, df, dg, do)), dout, dc_prev, normal_c, normalise(u)


def step_bwd(w, prev, slopes, dstate):
    da, dout, dc_prev, normal_c, normal_u = slopes
    dout = dstate.h * dout  # (4')
    dc_out = layer_norm_bwd_input(normal_c, w.gain_c, dout)  # (20'x)
    dc, _ = fork_bwd(None, (dstate.c, dc_out))  # (F') at c_t
    da = da * packed.side_by_side(dc, dc, dc, dstate.h)  # (3'), (2')
    du = layer_norm_bwd_input(normal_u, w.gain_h, da)  # (20'x)
    return LSTMState(linear_bwd_input(w.U, du), dc * dc_prev), (da, du, dout)  # (1'x)


def weights_bwd(w, xs, prevs, saved, deltas):
    """The derivative of LN(x W) is that of all steps at once."""
    das, dus, douts = deltas
    i, f, g, _, u = saved
    _, db = bias_bwd(None, das)  # (1'b)
    dx_W, dgain_x = layer_norm_bwd((linear(xs, w.W), w.gain_x), das)  # (20')
    dgain_h = layer_norm_bwd_gain(normalise(u), das)  # (20'g)
    dgain_c = layer_norm_bwd_gain(normalise(cell_state(f, prevs.c, i, g)), douts)  # (20'g)
    _, dshift_c = bias_bwd(None, douts)  # (1'b)
    dW, dU = linear_bwd_weight(xs, dx_W), linear_bwd_weight(prevs.h, dus)  # (1'W)
    dparams = LayerNormLSTMParams(dW, dU, db, dgain_x, dgain_h, dgain_c, dshift_c)
    return dparams, linear_bwd_input(w.W, dx_W)  # (1'x)


SHAPES = (
    ("W", "D,4H"),
    ("U", "H,4H"),
    ("b", "4H"),
    ("gain_x", "4H"),
    ("gain_h", "4H"),
    ("gain_c", "H"),
    ("shift_c", "H"),
)
init_layer_norm_lstm = make_init(
    "layer_norm_lstm",
    LayerNormLSTMParams,
    SHAPES,
    b=ones_in_block(4, 1),
    gain_x=ones,
    gain_h=ones,
    gain_c=ones,
)
LAYER_NORM_LSTM = Cell(
    name="layer_norm_lstm",
    params=LayerNormLSTMParams,
    state=LSTMState,
    shapes=SHAPES,
    fields=(("h", "H"), ("c", "wide H")),
    gates=GATES,
    init=init_layer_norm_lstm,
    project=project,
    step=step,
    slopes=slopes,
    step_bwd=step_bwd,
    weights_bwd=weights_bwd,
)
init_layer_norm_lstm_state = make_init_state(LAYER_NORM_LSTM)
layer_norm_lstm_cell, layer_norm_lstm_cell_autodiff, layer_norm_lstm, layer_norm_lstm_autodiff = (
    routes(LAYER_NORM_LSTM, "the layer-normalised LSTM")
)
