"""The chaos-free network (CFN): without input h decays to 0, whatever the parameters are.

    a = x W + b;  a_f, a_i = a_f + h_prev U_f, a_i + h_prev U_i               (1)
    f, i = sigmoid(a_f), sigmoid(a_i);  g = tanh(a_g)                         (2)
    h = f ⊙ tanh(h_prev) + i ⊙ g                                              (2), (3)

Parameters: 3 (D H + H) + 2 H². h_{t-1} goes into two gates and through a tanh into h_t. The forget
gate's offset begins at 1.

Source: Laurent & von Brecht (2017), "A recurrent neural network without chaos"; the equations as in
torchrecurrent's cfn_cell.py, which was read.
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
    bias,
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

__all__ = ["CFN", "CFNParams", "cfn", "cfn_autodiff", "cfn_cell", "cfn_cell_autodiff"]
__all__ += ["init_cfn", "init_cfn_state"]


class CFNParams(NamedTuple):
    """W (D, 3H), b (3H,): blocks f, i, g side by side; U (H, 2H): blocks f, i."""

    W: jax.Array
    U: jax.Array
    b: jax.Array


def project(w, xs):
    return bias(linear(xs, w.W), w.b)  # (1)


def step(w, prev, a):
    a_f, a_i, a_g = packed.blocks_of(a, 3)
    u_f, u_i = packed.blocks_of(linear(prev.h, w.U), 2)  # (1)
    f, i, g = sigmoid(a_f + u_f), sigmoid(a_i + u_i), tanh(a_g)  # (2)
    h = cell_state(f, tanh(prev.h.astype(f.dtype)), i, g)  # (2), (3)
    return HiddenState(h.astype(prev.h.dtype)), (f, i, g)


def slopes(w, prevs, saved):
    f, i, g = saved
    old = tanh(prevs.h.astype(f.dtype))
    df, dold, di, dg = cell_state_bwd((f, old, i, g), jnp.ones_like(f))  # (3')
    da = packed.side_by_side(sigmoid_bwd(f, df), sigmoid_bwd(i, di), tanh_bwd(g, dg))  # (2')
    return da, tanh_bwd(old, dold)  # (2')


def step_bwd(w, prev, slopes, dstate):
    da, kept = slopes
    da = packed.in_every_block(da, dstate.h)
    dh_gates = linear_bwd_input(w.U, packed.gates_of(da))  # (1'x)
    return HiddenState(fork_bwd(None, (kept * dstate.h, dh_gates))[0]), da  # (F')


def weights_bwd(w, xs, prevs, saved, das):
    dW, db, dxs = packed.input_bwd(w, xs, das)
    return CFNParams(dW, linear_bwd_weight(prevs.h, packed.gates_of(das)), db), dxs  # (1'W)


SHAPES = (("W", "D,3H"), ("U", "H,2H"), ("b", "3H"))
init_cfn = make_init("cfn", CFNParams, SHAPES, b=ones_in_block(3, 0))
CFN = Cell(
    name="cfn",
    params=CFNParams,
    state=HiddenState,
    shapes=SHAPES,
    fields=(("h", "H"),),
    gates=("f", "i", "g"),
    init=init_cfn,
    project=project,
    step=step,
    slopes=slopes,
    step_bwd=step_bwd,
    weights_bwd=weights_bwd,
)
init_cfn_state = make_init_state(CFN)
cfn_cell, cfn_cell_autodiff, cfn, cfn_autodiff = routes(CFN, "the network without chaos")
