"""The recurrent additive network (RAN): an LSTM whose candidate is linear in x and sees no h.

    a = x W;  a_i, a_f = a_i + h_prev U + b                                   (1)
    i, f = sigmoid(a_i), sigmoid(a_f)                                         (2)
    c = f ⊙ c_prev + i ⊙ a_g                                                  (3)
    h = tanh(c)                                                               (2)

Parameters: 3 D H + 2 (H² + H). c is a weighted sum of the inputs seen so far; h only weighs them.
The forget gate's offset begins at 1.

Source: Lee, Levy & Zettlemoyer (2017), "Recurrent additive networks"; the equations as in
torchrecurrent's ran_cell.py, which was read.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm.cells import packed
from jax_lstm.cells.initial import make_init, ones_in_block
from jax_lstm.cells.lstm import LSTMState
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.stages import (
    bias,
    bias_bwd,
    cell_state,
    cell_state_bwd,
    fork_bwd,
    linear,
    linear_bwd_input,
    linear_bwd_weight,
    sigmoid,
    sigmoid_bwd,
    tanh,
    tanh_bwd,
)

__all__ = ["RAN", "RANParams", "init_ran", "init_ran_state"]
__all__ += ["ran", "ran_autodiff", "ran_cell", "ran_cell_autodiff"]


class RANParams(NamedTuple):
    """W (D, 3H): blocks i, f, g side by side; U (H, 2H), b (2H,): blocks i, f."""

    W: jax.Array
    U: jax.Array
    b: jax.Array


def step(w, prev, x_W):
    a_i, a_f, g = packed.blocks_of(x_W, 3)
    u_i, u_f = packed.blocks_of(bias(linear(prev.h, w.U), w.b), 2)  # (1)
    i, f = sigmoid(a_i + u_i), sigmoid(a_f + u_f)  # (2)
    c = cell_state(f, prev.c, i, g)  # (3)
    return LSTMState(tanh(c).astype(prev.h.dtype), c), (i, f, g)  # (2)


def slopes(w, prevs, saved):
    """By dc: to every block and to c_{t-1}; by dh: to c_t, which is made again."""
    i, f, g = saved
    c = cell_state(f, prevs.c, i, g)
    one = jnp.ones_like(c)
    df, dc_prev, di, dg = cell_state_bwd((f, prevs.c, i, g), one)  # (3')
    da = packed.side_by_side(sigmoid_bwd(i, di), sigmoid_bwd(f, df), dg)  # (2')
    return da, tanh_bwd(tanh(c), one), dc_prev


def step_bwd(w, prev, slopes, dstate):
    da, dc, dc_prev = slopes
    dc, _ = fork_bwd(None, (dstate.c, dstate.h * dc))  # (2'), (F') at c_t
    da = packed.in_every_block(da, dc)
    dh_prev = linear_bwd_input(w.U, packed.gates_of(da))  # (1'x)
    return LSTMState(dh_prev, dc * dc_prev), da


def weights_bwd(w, xs, prevs, saved, das):
    gates = packed.gates_of(das)
    _, db = bias_bwd(None, gates)  # (1'b)
    dW, dU = linear_bwd_weight(xs, das), linear_bwd_weight(prevs.h, gates)  # (1'W)
    return RANParams(dW, dU, db), linear_bwd_input(w.W, das)  # (1'x)


SHAPES = (("W", "D,3H"), ("U", "H,2H"), ("b", "2H"))
init_ran = make_init("ran", RANParams, SHAPES, b=ones_in_block(2, 1))
RAN = Cell(
    name="ran",
    params=RANParams,
    state=LSTMState,
    shapes=SHAPES,
    fields=(("h", "H"), ("c", "wide H")),
    gates=("i", "f", "g"),
    init=init_ran,
    project=packed.project,
    step=step,
    slopes=slopes,
    step_bwd=step_bwd,
    weights_bwd=weights_bwd,
)
init_ran_state = make_init_state(RAN)
ran_cell, ran_cell_autodiff, ran, ran_autodiff = routes(RAN, "the recurrent additive network")
