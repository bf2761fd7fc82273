"""The light gated recurrent unit: a GRU without reset gate, with a rectifier.

    a = x W + h_prev U + b                                                    (1)
    z = sigmoid(a_z);  n = relu(a_n)                                          (2), (21)
    h = z ⊙ h_prev + (1 - z) ⊙ n                                              (19)

Parameters: 2 (D H + H² + H). The paper also normalises x W over the batch, which ties examples
together; whoever wants that does it before the network.

Source: Ravanelli et al. (2018), "Light gated recurrent units for speech recognition"; the equations
as in torchrecurrent's ligru_cell.py, which was read.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm.cells import packed
from jax_lstm.cells.initial import make_init
from jax_lstm.cells.packed import HiddenState
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.stages import blend, blend_bwd, relu, relu_bwd, sigmoid, sigmoid_bwd

__all__ = ["LIGHT_GRU", "LightGRUParams", "init_light_gru", "init_light_gru_state"]
__all__ += ["light_gru", "light_gru_autodiff", "light_gru_cell", "light_gru_cell_autodiff"]


class LightGRUParams(NamedTuple):
    """W (D, 2H), U (H, 2H), b (2H,): blocks z, n side by side."""

    W: jax.Array
    U: jax.Array
    b: jax.Array


def step(w, prev, x_W):
    a_z, a_n = packed.blocks_of(packed.net_input(w, prev.h, x_W), 2)  # (1)
    z, n = sigmoid(a_z), relu(a_n)  # (2), (21)
    h = blend(z, prev.h.astype(z.dtype), n)  # (19)
    return HiddenState(h.astype(prev.h.dtype)), (z, n)


def slopes(w, prevs, saved):
    z, n = saved
    dz, dold, dn = blend_bwd((z, prevs.h.astype(z.dtype), n), jnp.ones_like(z))  # (19')
    return packed.side_by_side(sigmoid_bwd(z, dz), relu_bwd(n, dn)), dold  # (2'), (21')


SHAPES = (("W", "D,2H"), ("U", "H,2H"), ("b", "2H"))
init_light_gru = make_init("light_gru", LightGRUParams, SHAPES)
LIGHT_GRU = Cell(
    name="light_gru",
    params=LightGRUParams,
    state=HiddenState,
    shapes=SHAPES,
    fields=(("h", "H"),),
    gates=("z", "n"),
    init=init_light_gru,
    project=packed.project,
    step=step,
    slopes=slopes,
    step_bwd=packed.step_bwd,
    weights_bwd=packed.weights_of(LightGRUParams),
)
init_light_gru_state = make_init_state(LIGHT_GRU)
light_gru_cell, light_gru_cell_autodiff, light_gru, light_gru_autodiff = routes(
    LIGHT_GRU, "the light gated recurrent unit"
)
