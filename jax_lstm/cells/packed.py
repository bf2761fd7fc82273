"""What cells share whose net input is one array of blocks: a = x W + h U + b.

project     z = x W                                                       (1)
net_input   a = z + h_prev U + b                                          (1)
step_bwd    where h_t is all of the state, and slopes are (da, kept):
            da_t = da ⊙ dh_t in every block,  dh_{t-1} = kept ⊙ dh_t + da_t Uᵀ
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm.stages import (
    bias,
    bias_bwd,
    fork_bwd,
    linear,
    linear_bwd_input,
    linear_bwd_weight,
)

__all__ = ["HiddenState"]


class HiddenState(NamedTuple):
    """h (..., H) in the parameters' dtype: the state of cells that have no other."""

    h: jax.Array


def project(w, xs):
    return linear(xs, w.W)


def net_input(w, h_prev, z):
    return bias(z + linear(h_prev, w.U), w.b)  # (1)


def blocks_of(a, n):
    """(..., H) each, of (..., nH)."""
    return jnp.split(a, n, axis=-1)


def side_by_side(*blocks):
    return jnp.concatenate(blocks, axis=-1)


def in_every_block(da, dh):
    """The chain rule where every block of da is a derivative of h alone."""
    return da * side_by_side(*[dh] * (da.shape[-1] // dh.shape[-1]))


def gates_of(da):
    """Of two gates and a candidate side by side, the gates: they alone see h_{t-1}."""
    return da[..., : da.shape[-1] // 3 * 2]


def step_bwd(w, prev, slopes, dstate):
    da, kept = slopes
    da = in_every_block(da, dstate.h)
    dh_prev, _ = fork_bwd(None, (kept * dstate.h, linear_bwd_input(w.U, da)))  # (1'x), (F')
    return HiddenState(dh_prev), da


def input_bwd(w, xs, das):
    """dW and db, and dx for every step: what does not ask for the state."""
    _, db = bias_bwd(None, das)  # (1'b)
    return linear_bwd_weight(xs, das), db, linear_bwd_input(w.W, das)  # (1'W), (1'x)


def weights_of(kind: type[Any]) -> Callable[..., Any]:
    """`weights_bwd` of a cell whose parameters are W, U, b alone."""

    def weights_bwd(w, xs, prevs, saved, das):
        dW, db, dxs = input_bwd(w, xs, das)
        return kind(dW, linear_bwd_weight(prevs.h, das), db), dxs  # (1'W)

    return weights_bwd
