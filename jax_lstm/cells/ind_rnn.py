"""The independently recurrent network (IndRNN): each unit sees its own past alone.

    a = x W + u ⊙ h_prev + b                                                  (1), (16)
    h = relu(a)                                                               (21)

Parameters: D H + 2 H. u is a diagonal U, so a step has no product but x W, and the gradient through
time of a unit is a product of numbers. |u| below 2^(1/T) keeps it from exploding over T steps; u
begins at 1.

Source: Li et al. (2018), "Independently recurrent neural network (IndRNN): Building a longer and
deeper RNN"; the equations as in torchrecurrent's indrnn_cell.py, which was read, with the paper's
rectifier.
"""

from typing import NamedTuple

import jax

from jax_lstm.cells import packed
from jax_lstm.cells.initial import make_init, ones
from jax_lstm.cells.packed import HiddenState
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.stages import align, bias, bias_bwd, relu, relu_bwd

__all__ = ["IND_RNN", "IndRNNParams", "init_ind_rnn", "init_ind_rnn_state"]
__all__ += ["ind_rnn", "ind_rnn_autodiff", "ind_rnn_cell", "ind_rnn_cell_autodiff"]


class IndRNNParams(NamedTuple):
    """W (D, H), u (H,), b (H,)."""

    W: jax.Array
    u: jax.Array
    b: jax.Array


def step(w, prev, z):
    h = relu(
        bias(z + align(w.u, z).astype(z.dtype) * prev.h.astype(z.dtype), w.b)
    )  # (1), (16), (21)
    return HiddenState(h.astype(prev.h.dtype)), h


def step_bwd(w, prev, h, dstate):
    da = relu_bwd(h, dstate.h)  # (21')
    return HiddenState(da * align(w.u, da).astype(da.dtype)), da  # (16'): the half of the state


def weights_bwd(w, xs, prevs, saved, das):
    """du is a fork over steps and examples, as db is."""
    dW, db, dxs = packed.input_bwd(w, xs, das)
    _, du = bias_bwd(None, das * prevs.h.astype(das.dtype))  # (16'): the half of u
    return IndRNNParams(dW, du, db), dxs


SHAPES = (("W", "D,H"), ("u", "H"), ("b", "H"))
init_ind_rnn = make_init("ind_rnn", IndRNNParams, SHAPES, u=ones)
IND_RNN = Cell(
    name="ind_rnn",
    params=IndRNNParams,
    state=HiddenState,
    shapes=SHAPES,
    fields=(("h", "H"),),
    gates=("a",),
    init=init_ind_rnn,
    project=packed.project,
    step=step,
    step_bwd=step_bwd,
    weights_bwd=weights_bwd,
    diagonal=("h",),
)
init_ind_rnn_state = make_init_state(IND_RNN)
ind_rnn_cell, ind_rnn_cell_autodiff, ind_rnn, ind_rnn_autodiff = routes(
    IND_RNN, "the independently recurrent network"
)
