"""The simple (Elman) recurrent network: h_t = tanh(x_t W + h_{t-1} U + b).

It has no gate and no cell state, and runs on the same engine. Source: Elman (1990); the numbers of
the WildML tutorial are this cell without bias.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm.doors import check_size
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.doors import check_gated
from jax_lstm.engine.routes import make_cell, make_rnn
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


class ElmanParams(NamedTuple):
    """W (D, H), U (H, H), b (H,)."""

    W: jax.Array
    U: jax.Array
    b: jax.Array


class ElmanState(NamedTuple):
    """h (..., H) in the parameters' dtype."""

    h: jax.Array


def init_elman(key, input_size, hidden_size, *, dtype=jnp.float32):
    """ElmanParams: W lecun-normal (D, H), U orthogonal (H, H), b zero (H,)."""
    D = check_size("input_size", input_size, 1)
    H = check_size("hidden_size", hidden_size, 1)
    key_W, key_U = jax.random.split(key)
    W = jax.nn.initializers.lecun_normal()(key_W, (D, H), wide(dtype))
    U = jax.nn.initializers.orthogonal()(key_U, (H, H), wide(dtype))
    return ElmanParams(W.astype(dtype), U.astype(dtype), jnp.zeros((H,), dtype))


def init_elman_state(params, batch_shape=()):
    """ElmanState of zeros: h (*batch_shape, H)."""
    return ElmanState(jnp.zeros((*batch_shape, params.U.shape[0]), params.U.dtype))


def prepare(params):
    return params


def project(w, xs):
    """z = x W: the part of (1) that does not depend on the state."""
    return linear(xs, w.W)


def step(w, consts, state_prev, z):
    h = tanh(bias(z + linear(state_prev.h, w.U), w.b))  # (1), (2)
    return ElmanState(h.astype(state_prev.h.dtype)), h


def step_bwd(w, consts, state_prev, h, dstate):
    da = tanh_bwd(h, dstate.h)  # (2')
    return ElmanState(linear_bwd_input(w.U, da)), da  # (1'x)


def weights_bwd(params, consts, xs, states_prev, saved, das):
    dW = linear_bwd_weight(xs, das)  # (1'W)
    dU = linear_bwd_weight(states_prev.h, das)  # (1'W)
    _, db = bias_bwd(das)  # (1'b)
    return ElmanParams(dW, dU, db), linear_bwd_input(params.W, das)  # (1'x)


check = functools.partial(check_gated, 1, ("same",))
ELMAN = Cell(
    init_elman_state, prepare, project, step, step_bwd, weights_bwd, check, takes_consts=False
)

elman_cell, elman_cell_autodiff = make_cell(
    ELMAN, "elman_cell", "One step of the simple (Elman) network."
)
elman, elman_autodiff = make_rnn(
    ELMAN, "elman", "The simple (Elman) network over a whole sequence."
)
