"""FastGRNN: a gate and a candidate that share one product.

    a = x W + h_prev U                                                        (1)
    z = sigmoid(a + b_z);  n = tanh(a + b_n)                                  (1), (2)
    h = z ⊙ h_prev + (s(ζ) (1 - z) + s(ν)) ⊙ n,  s = sigmoid                  (16), (14)

Parameters: D H + H² + 2 H + 2. The net input is a fork into both. The paper's low rank of W and U
is left out: it is a factorisation of these, for whoever draws them.

Source: Kusupati et al. (2018), "FastGRNN: A fast, accurate, stable and tiny kilobyte sized gated
recurrent neural network"; the equations as in EdgeML's FastGRNNCell, which was read: ζ begins at 1,
ν at -4, the offsets at 1.
"""

from typing import NamedTuple

import jax

from jax_lstm.cells import packed
from jax_lstm.cells.initial import make_init, ones
from jax_lstm.cells.packed import HiddenState
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.stages import (
    align,
    bias_bwd,
    fork_bwd,
    linear,
    linear_bwd_input,
    linear_bwd_weight,
    sigmoid,
    sigmoid_bwd,
    tanh,
    tanh_bwd,
)

__all__ = ["FAST_GRNN", "FastGRNNParams", "init_fast_grnn", "init_fast_grnn_state"]
__all__ += ["fast_grnn", "fast_grnn_autodiff", "fast_grnn_cell", "fast_grnn_cell_autodiff"]


class FastGRNNParams(NamedTuple):
    """W (D, H), U (H, H), b (2H,): offsets of z and n side by side, zeta (1,), nu (1,)."""

    W: jax.Array
    U: jax.Array
    b: jax.Array
    zeta: jax.Array
    nu: jax.Array


def scales(w, like):
    """s(ζ), s(ν), with as many axes as what they scale."""
    return tuple(sigmoid(align(x, like).astype(like.dtype)) for x in (w.zeta, w.nu))


def step(w, prev, x_W):
    a = x_W + linear(prev.h, w.U)  # (1)
    b_z, b_n = packed.blocks_of(align(w.b, a).astype(a.dtype), 2)
    z, n = sigmoid(a + b_z), tanh(a + b_n)  # (1), (2)
    zeta, nu = scales(w, a)
    h = z * prev.h.astype(a.dtype) + (zeta * (1 - z) + nu) * n  # (16), (14)
    return HiddenState(h.astype(prev.h.dtype)), (z, n)


def slopes(w, prevs, saved):
    z, n = saved
    zeta, nu = scales(w, z)
    dz = prevs.h.astype(z.dtype) - zeta * n  # (F') at z: it keeps, and 1 - z writes
    return sigmoid_bwd(z, dz), tanh_bwd(n, zeta * (1 - z) + nu), z  # (2')


def step_bwd(w, prev, slopes, dstate):
    da_z, da_n, kept = slopes
    dh = dstate.h
    da_z, da_n = da_z * dh, da_n * dh
    da, _ = fork_bwd(None, (da_z, da_n))  # (F') at the net input
    dh_prev, _ = fork_bwd(None, (kept * dh, linear_bwd_input(w.U, da)))  # (1'x), (F')
    return HiddenState(dh_prev), (packed.side_by_side(da_z, da_n), dh)


def weights_bwd(w, xs, prevs, saved, deltas):
    """W and U see the sum of both blocks, b each; ζ and ν are forks over every number of h."""
    das, dhs = deltas
    z, n = saved
    da, _ = fork_bwd(None, packed.blocks_of(das, 2))
    dW, _, dxs = packed.input_bwd(w, xs, da)
    _, db = bias_bwd(None, das)  # (1'b)
    reads = zip(
        scales(w, w.zeta.astype(z.dtype)), (dhs * (1 - z) * n, dhs * n), strict=True
    )  # (16')
    dscales = [sigmoid_bwd(scale, read.sum().reshape(1)) for scale, read in reads]  # (2')
    return FastGRNNParams(dW, linear_bwd_weight(prevs.h, da), db, *dscales), dxs


SHAPES = (("W", "D,H"), ("U", "H,H"), ("b", "2H"), ("zeta", "1"), ("nu", "1"))
init_fast_grnn = make_init(
    "fast_grnn",
    FastGRNNParams,
    SHAPES,
    b=ones,
    zeta=ones,
    nu=jax.nn.initializers.constant(-4.0),
)
FAST_GRNN = Cell(
    name="fast_grnn",
    params=FastGRNNParams,
    state=HiddenState,
    shapes=SHAPES,
    fields=(("h", "H"),),
    init=init_fast_grnn,
    project=packed.project,
    step=step,
    slopes=slopes,
    step_bwd=step_bwd,
    weights_bwd=weights_bwd,
)
init_fast_grnn_state = make_init_state(FAST_GRNN)
fast_grnn_cell, fast_grnn_cell_autodiff, fast_grnn, fast_grnn_autodiff = routes(
    FAST_GRNN, "FastGRNN"
)
