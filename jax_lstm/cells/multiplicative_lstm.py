"""The multiplicative LSTM (mLSTM): another recurrent matrix for every input.

    m = (x M) ⊙ (h_prev R)                                                    (1), (16)
    a = x W + m U + b                                                         (1)
    i, f, o = sigmoid(a_i, a_f, a_o);  g = tanh(a_g)                          (2)
    c = f * c_prev + i * g;  h = o * tanh(c)                                  (3), (4)

Parameters: 4 (D H + H² + H) + D H + H². A step is a step of the LSTM that sees m in place of
h_prev. `mlstm` is another cell, that of the xLSTM.

Source: Krause et al. (2017), "Multiplicative LSTM for sequence modelling"; the equations as in
torchrecurrent's multiplicativelstm_cell.py, which was read, with no offsets in m. The forget gate's
offset begins at 1.
"""

from typing import NamedTuple

import jax

from jax_lstm.cells import lstm
from jax_lstm.cells.initial import make_init, ones_in_block
from jax_lstm.cells.lstm import LSTMState
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.notation import GATES, wide
from jax_lstm.stages import (
    fork_bwd,
    linear,
    linear_bwd_input,
    linear_bwd_weight,
    product,
    product_bwd,
)

__all__ = ["MULTIPLICATIVE_LSTM", "MultiplicativeLSTMParams"]
__all__ += ["init_multiplicative_lstm", "init_multiplicative_lstm_state"]
__all__ += ["multiplicative_lstm", "multiplicative_lstm_autodiff"]
__all__ += ["multiplicative_lstm_cell", "multiplicative_lstm_cell_autodiff"]


class MultiplicativeLSTMParams(NamedTuple):
    """W (D, 4H), U (H, 4H), b (4H,): blocks i, f, g, o side by side; M (D, H), R (H, H)."""

    W: jax.Array
    U: jax.Array
    b: jax.Array
    M: jax.Array
    R: jax.Array


class MultiplicativeLSTMWeights(NamedTuple):
    """What the loop over steps sees, see cells/lstm.py: also UT = Uᵀ, wide."""

    W: jax.Array
    U: jax.Array
    b: jax.Array
    UT: jax.Array
    M: jax.Array
    R: jax.Array


def prepare(params, consts=None):
    W, U, b, M, R = params
    return MultiplicativeLSTMWeights(W, U, b, U.T.astype(wide(U.dtype)), M, R)


def project(w, xs):
    return linear(xs, w.W), linear(xs, w.M)  # (1)


def step(w, prev, z):
    x_W, x_M = z
    h_R = linear(prev.h, w.R)  # (1)
    m = product(x_M, h_R).astype(prev.h.dtype)  # (16)
    (h, c), saved = lstm.plain_step(w, LSTMState(m, prev.c), x_W)  # (1) to (4)
    return LSTMState(h, c), (saved, x_M, h_R)


def slopes(w, prevs, saved):
    gates, x_M, h_R = saved
    return lstm.slopes(w, prevs, gates), x_M, h_R


def step_bwd(w, prev, slopes, dstate):
    factors, x_M, h_R = slopes
    (dm, dc_prev), da = lstm.step_bwd(w, prev, factors, dstate)
    dx_M, dh_R = product_bwd((x_M, h_R), dm)  # (16')
    dh_prev = linear_bwd_input(w.R, dh_R)  # (1'x): h_{t-1} goes into m alone
    return LSTMState(dh_prev, dc_prev), (da, dx_M, dh_R)


def weights_bwd(w, xs, prevs, saved, deltas):
    das, dx_M, dh_R = deltas
    gates, x_M, h_R = saved
    ms = product(x_M, h_R).astype(prevs.h.dtype)
    dparams, dxs = lstm.weights_bwd(w, xs, LSTMState(ms, prevs.c), gates, das)
    dM, dR = linear_bwd_weight(xs, dx_M), linear_bwd_weight(prevs.h, dh_R)  # (1'W)
    dxs, _ = fork_bwd(None, (dxs, linear_bwd_input(w.M, dx_M)))  # (1'x), (F') at x
    return MultiplicativeLSTMParams(*dparams, dM, dR), dxs


SHAPES = (("W", "D,4H"), ("U", "H,4H"), ("b", "4H"), ("M", "D,H"), ("R", "H,H"))
init_multiplicative_lstm = make_init(
    "multiplicative_lstm", MultiplicativeLSTMParams, SHAPES, b=ones_in_block(4, 1)
)
MULTIPLICATIVE_LSTM = Cell(
    name="multiplicative_lstm",
    params=MultiplicativeLSTMParams,
    state=LSTMState,
    shapes=SHAPES,
    fields=(("h", "H"), ("c", "wide H")),
    gates=GATES,
    init=init_multiplicative_lstm,
    prepare=prepare,
    project=project,
    step=step,
    slopes=slopes,
    step_bwd=step_bwd,
    weights_bwd=weights_bwd,
)
init_multiplicative_lstm_state = make_init_state(MULTIPLICATIVE_LSTM)
(
    multiplicative_lstm_cell,
    multiplicative_lstm_cell_autodiff,
    multiplicative_lstm,
    multiplicative_lstm_autodiff,
) = routes(MULTIPLICATIVE_LSTM, "the multiplicative LSTM")
