"""The sLSTM of the xLSTM: exponential gates, a normaliser and a stabiliser.

    a = x W + h_prev U + b                                                    (1)
    i, f, m = exponential gates of a_i, a_f, m_prev; see exponential.py       (22) to (24)
    z = tanh(a_z);  o = sigmoid(a_o)                                          (2)
    c = f * c_prev + i * z;  n = f * n_prev + i                               (3)
    h = o * c / n                                                             (25)

Parameters: 4 (D H + H² + H), one head. n sums the same gates as c, so that h is o times a mean of
the z, in (-1, 1). zoneout may hold h alone: c, n and m belong together.

Source: Beck et al. (2024), "xLSTM: Extended long short-term memory"; the step as in slstm.py of
NX-AI/xlstm, which was read. The forget gate's offset begins at 1.
"""

from typing import NamedTuple

import jax

from jax_lstm.cells import packed
from jax_lstm.cells.exponential import exponential_gates, exponential_gates_bwd, with_beginning
from jax_lstm.cells.initial import make_init, ones_in_block
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.stages import (
    cell_state,
    cell_state_bwd,
    fork_bwd,
    linear_bwd_input,
    sigmoid,
    sigmoid_bwd,
    tanh,
    tanh_bwd,
)

__all__ = ["SLSTM", "SLSTMParams", "SLSTMState", "init_slstm", "init_slstm_state"]
__all__ += ["slstm", "slstm_autodiff", "slstm_cell", "slstm_cell_autodiff"]


class SLSTMParams(NamedTuple):
    """W (D, 4H), U (H, 4H), b (4H,): blocks i, f, z, o side by side."""

    W: jax.Array
    U: jax.Array
    b: jax.Array


class SLSTMState(NamedTuple):
    """h (..., H) in the parameters' dtype; c, the normaliser n and the stabiliser m (..., H) in
    float32 when that has 16 bits."""

    h: jax.Array
    c: jax.Array
    n: jax.Array
    m: jax.Array


def step(w, prev, x_W):
    a_i, a_f, a_z, a_o = packed.blocks_of(packed.net_input(w, prev.h, x_W), 4)  # (1)
    i, f, m, branch = exponential_gates(a_i, a_f, prev.m)  # (22) to (24)
    z, o = tanh(a_z), sigmoid(a_o)  # (2)
    c, n = cell_state(f, prev.c, i, z), f * prev.n + i  # (3)
    return SLSTMState((o * c / n).astype(prev.h.dtype), c, n, m), (i, f, z, o, branch)  # (25)


def slopes(w, prevs, saved):
    """By dh: to o's block, to c and to n. c and n are recomputed."""
    i, f, z, o, branch = saved
    n = f * prevs.n + i
    h = cell_state(f, prevs.c, i, z) / n
    return i, f, z, branch, sigmoid_bwd(o, h), o / n, -o * h / n  # (25'), (2')


def step_bwd(w, prev, slopes, dstate):
    i, f, z, branch, da_o, dc, dn = slopes
    dh, dc_next, dn_next, dm = dstate
    dc, _ = fork_bwd(None, (dc_next, dh * dc))  # (25'), (F') at c_t
    dn, _ = fork_bwd(None, (dn_next, dh * dn))  # (25'), (F') at n_t
    df, dc_prev, di, dz = cell_state_bwd((f, prev.c, i, z), dc)  # (3')
    di, _ = fork_bwd(None, (di, dn))  # (F') at i
    df, _ = fork_bwd(None, (df, dn * prev.n))  # (F') at f
    da_i, da_f, dm_prev = exponential_gates_bwd((i, f, branch), di, df, dm)
    da = packed.side_by_side(da_i, da_f, tanh_bwd(z, dz), dh * da_o)  # (2')
    return SLSTMState(linear_bwd_input(w.U, da), dc_prev, dn * f, dm_prev), da  # (1'x)


SHAPES = (("W", "D,4H"), ("U", "H,4H"), ("b", "4H"))
init_slstm = make_init("slstm", SLSTMParams, SHAPES, b=ones_in_block(4, 1))
SLSTM = with_beginning(
    Cell(
        name="slstm",
        params=SLSTMParams,
        state=SLSTMState,
        shapes=SHAPES,
        fields=(("h", "H"), ("c", "wide H"), ("n", "wide H"), ("m", "wide H")),
        gates=("i", "f", "z", "o"),
        init=init_slstm,
        project=packed.project,
        step=step,
        slopes=slopes,
        step_bwd=step_bwd,
        weights_bwd=packed.weights_of(SLSTMParams),
        kept=("h",),
    )
)
init_slstm_state = make_init_state(SLSTM)
slstm_cell, slstm_cell_autodiff, slstm, slstm_autodiff = routes(SLSTM, "the sLSTM of the xLSTM")
