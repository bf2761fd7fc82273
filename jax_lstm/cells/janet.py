"""JANET, "just another network": an LSTM that has the forget gate alone.

    a = x W + h_prev U + b                                                    (1)
    f, w = sigmoid(a_f), sigmoid(β - a_f);  g = tanh(a_g)                     (2)
    h = f ⊙ h_prev + w ⊙ g                                                    (3)

Parameters: 2 (D H + H² + H). β = 1 opens the writing a little more than 1 - f, so that a value is
kept and added to; w = 1 - sigmoid(a_f - β). The forget gate's offset begins at 1; the paper draws
it by the longest dependency expected (chrono initialisation), which is the caller's to know.

Source: van der Westhuizen & Lasenby (2018), "The unreasonable effectiveness of the forget gate";
the equations as in torchrecurrent's janet_cell.py, which was read, with β fixed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm.cells import packed
from jax_lstm.cells.initial import make_init, ones_in_block
from jax_lstm.cells.packed import HiddenState
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.stages import (
    cell_state,
    cell_state_bwd,
    fork_bwd,
    sigmoid,
    sigmoid_bwd,
    tanh,
    tanh_bwd,
)

__all__ = ["JANET", "JANETParams", "init_janet", "init_janet_state"]
__all__ += ["janet", "janet_autodiff", "janet_cell", "janet_cell_autodiff"]

BETA = 1.0


class JANETParams(NamedTuple):
    """W (D, 2H), U (H, 2H), b (2H,): blocks f, g side by side."""

    W: jax.Array
    U: jax.Array
    b: jax.Array


def step(w, prev, x_W):
    a_f, a_g = packed.blocks_of(packed.net_input(w, prev.h, x_W), 2)  # (1)
    f, write, g = sigmoid(a_f), sigmoid(BETA - a_f), tanh(a_g)  # (2)
    h = cell_state(f, prev.h.astype(f.dtype), write, g)  # (3)
    return HiddenState(h.astype(prev.h.dtype)), (f, write, g)


def slopes(w, prevs, saved):
    f, write, g = saved
    one = jnp.ones_like(f)
    df, kept, dwrite, dg = cell_state_bwd((f, prevs.h.astype(f.dtype), write, g), one)  # (3')
    da_f, _ = fork_bwd(None, (sigmoid_bwd(f, df), -sigmoid_bwd(write, dwrite)))  # (2'), (F')
    return packed.side_by_side(da_f, tanh_bwd(g, dg)), kept


SHAPES = (("W", "D,2H"), ("U", "H,2H"), ("b", "2H"))
init_janet = make_init("janet", JANETParams, SHAPES, b=ones_in_block(2, 0))
JANET = Cell(
    name="janet",
    params=JANETParams,
    state=HiddenState,
    shapes=SHAPES,
    fields=(("h", "H"),),
    gates=("f", "g"),
    init=init_janet,
    project=packed.project,
    step=step,
    slopes=slopes,
    step_bwd=packed.step_bwd,
    weights_bwd=packed.weights_of(JANETParams),
)
init_janet_state = make_init_state(JANET)
janet_cell, janet_cell_autodiff, janet, janet_autodiff = routes(
    JANET, "JANET, which has the forget gate alone"
)
