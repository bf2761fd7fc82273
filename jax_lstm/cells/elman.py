"""The simple (Elman) recurrent network: h_t = tanh(x_t W + h_{t-1} U + b).

It has no gate and no cell state, and runs on the same engine. Source: Elman (1990); the numbers of
the WildML tutorial are this cell without bias.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jax_lstm.doors import check_init
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.notation import wide
from jax_lstm.stages import (
    bias,
    bias_bwd,
    linear,
    linear_bwd_input,
    linear_bwd_weight,
    tanh,
    tanh_bwd,
)

__all__ = [
    "ELMAN",
    "ElmanParams",
    "ElmanState",
    "elman",
    "elman_autodiff",
    "elman_cell",
    "elman_cell_autodiff",
    "init_elman",
    "init_elman_state",
]


class ElmanParams(NamedTuple):
    """W (D, H), U (H, H), b (H,)."""

    W: jax.Array
    U: jax.Array
    b: jax.Array


class ElmanState(NamedTuple):
    """h (..., H) in the parameters' dtype."""

    h: jax.Array


def init_elman(
    key: jax.Array, input_size: int, hidden_size: int, *, dtype: DTypeLike = jnp.float32
) -> ElmanParams:
    """ElmanParams: W lecun-normal (D, H), U orthogonal (H, H), b zero (H,).

    Raises:
      ValueError: what is no key, a size that is no whole number >= 1, a dtype that is not floating
        point.
    """
    D, H = check_init(key, dtype, input_size=input_size, hidden_size=hidden_size)
    key_W, key_U = jax.random.split(key)
    W = jax.nn.initializers.lecun_normal()(key_W, (D, H), wide(dtype))
    U = jax.nn.initializers.orthogonal()(key_U, (H, H), wide(dtype))
    return ElmanParams(W.astype(dtype), U.astype(dtype), jnp.zeros((H,), dtype))


def project(w, xs):
    """z = x W: the part of (1) that does not depend on the state."""
    return linear(xs, w.W)


def step(w, prev, z):
    h = tanh(bias(z + linear(prev.h, w.U), w.b))  # (1), (2)
    return ElmanState(h.astype(prev.h.dtype)), h


def step_bwd(w, prev, h, dstate):
    da = tanh_bwd(h, dstate.h)  # (2')
    return ElmanState(linear_bwd_input(w.U, da)), da  # (1'x)


def weights_bwd(w, xs, prevs, saved, das):
    dW = linear_bwd_weight(xs, das)  # (1'W)
    dU = linear_bwd_weight(prevs.h, das)  # (1'W)
    _, db = bias_bwd(None, das)  # (1'b)
    return ElmanParams(dW, dU, db), linear_bwd_input(w.W, das)  # (1'x)


ELMAN = Cell(
    name="elman",
    params=ElmanParams,
    state=ElmanState,
    shapes=(("W", "D,H"), ("U", "H,H"), ("b", "H")),
    fields=(("h", "H"),),
    gates=("a",),
    init=init_elman,
    project=project,
    step=step,
    step_bwd=step_bwd,
    weights_bwd=weights_bwd,
)
init_elman_state = make_init_state(ELMAN)
elman_cell, elman_cell_autodiff, elman, elman_autodiff = routes(ELMAN, "the simple (Elman) network")
