"""One gate, which blends the old h with a new one: the update gate network, the light GRU.

    a = x W + h_prev U + b                                                    (1)
    ugrnn           z = sigmoid(a_z);  n = tanh(a_n)                          (2)
    light_gru       z = sigmoid(a_z);  n = relu(a_n)                          (2), (21)
    h = z ⊙ h_prev + (1 - z) ⊙ n                                              (19)

Parameters: 2 (D H + H² + H). The light GRU's paper also normalises x W over the batch, which ties
examples together; whoever wants that does it before the network.

Sources: Collins, Sohl-Dickstein & Sussillo (2017), "Capacity and trainability in recurrent neural
networks", and Ravanelli et al. (2018), "Light gated recurrent units for speech recognition"; the
equations as in torchrecurrent's ugrnn_cell.py and ligru_cell.py, which were read.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm.cells import packed
from jax_lstm.cells.initial import make_init
from jax_lstm.cells.packed import HiddenState
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.made import partial
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.stages import blend, blend_bwd, relu, relu_bwd, sigmoid, sigmoid_bwd, tanh, tanh_bwd

__all__ = ["LIGHT_GRU", "LightGRUParams", "init_light_gru", "init_light_gru_state"]
__all__ += ["light_gru", "light_gru_autodiff", "light_gru_cell", "light_gru_cell_autodiff"]
__all__ += ["UGRNN", "UGRNNParams", "init_ugrnn", "init_ugrnn_state"]
__all__ += ["ugrnn", "ugrnn_autodiff", "ugrnn_cell", "ugrnn_cell_autodiff"]


class LightGRUParams(NamedTuple):
    """W (D, 2H), U (H, 2H), b (2H,): blocks z, n side by side."""

    W: jax.Array
    U: jax.Array
    b: jax.Array


class UGRNNParams(NamedTuple):
    """W (D, 2H), U (H, 2H), b (2H,): blocks z, n side by side."""

    W: jax.Array
    U: jax.Array
    b: jax.Array


def step(nonlinearity, w, prev, x_W):
    a_z, a_n = packed.blocks_of(packed.net_input(w, prev.h, x_W), 2)  # (1)
    z, n = sigmoid(a_z), nonlinearity(a_n)  # (2), (21)
    h = blend(z, prev.h.astype(z.dtype), n)  # (19)
    return HiddenState(h.astype(prev.h.dtype)), (z, n)


def slopes(nonlinearity_bwd, w, prevs, saved):
    z, n = saved
    dz, dold, dn = blend_bwd((z, prevs.h.astype(z.dtype), n), jnp.ones_like(z))  # (19')
    return packed.side_by_side(sigmoid_bwd(z, dz), nonlinearity_bwd(n, dn)), dold  # (2'), (21')


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
    step=partial(step, relu),
    slopes=partial(slopes, relu_bwd),
    step_bwd=packed.step_bwd,
    weights_bwd=packed.weights_of(LightGRUParams),
)
init_light_gru_state = make_init_state(LIGHT_GRU)
light_gru_cell, light_gru_cell_autodiff, light_gru, light_gru_autodiff = routes(
    LIGHT_GRU, "the light gated recurrent unit"
)

init_ugrnn = make_init("ugrnn", UGRNNParams, SHAPES)
UGRNN = LIGHT_GRU._replace(
    name="ugrnn",
    params=UGRNNParams,
    init=init_ugrnn,
    step=partial(step, tanh),
    slopes=partial(slopes, tanh_bwd),
    weights_bwd=packed.weights_of(UGRNNParams),
)
init_ugrnn_state = make_init_state(UGRNN)
ugrnn_cell, ugrnn_cell_autodiff, ugrnn, ugrnn_autodiff = routes(UGRNN, "the update gate network")
