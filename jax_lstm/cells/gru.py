"""The gated recurrent unit (GRU), with the reset gate after the recurrent product.

    a = x W + b,  u = h_prev U + c                     (1)
    r, z = sigmoid(a_r + u_r, a_z + u_z)               (2)
    n = tanh(a_n + r * u_n)                            (16), (2)
    h = n + z * d,  d = h_prev - n                     (14), (16)

The second offset c has a gradient of its own only in the candidate: there it goes through r. What
the step leaves behind for the weights is therefore two deltas, da for W and b, and du for U and c;
they differ in the candidate, du_n = da_n * r. This form is one product per step: cuDNN's, torch's.

Sources: Cho et al. (2014), "Learning Phrase Representations using RNN Encoder-Decoder"; the order
of reset and product: torch.nn.GRU's documentation, `reset_after` of keras.layers.GRU.
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
    add,
    add_bwd,
    bias,
    bias_bwd,
    fork_bwd,
    linear,
    linear_bwd_input,
    linear_bwd_weight,
    product,
    product_bwd,
    sigmoid,
    sigmoid_bwd,
    tanh,
    tanh_bwd,
)

__all__ = [
    "GRU",
    "GRUParams",
    "GRUState",
    "gru",
    "gru_autodiff",
    "gru_cell",
    "gru_cell_autodiff",
    "init_gru",
    "init_gru_state",
]


class GRUParams(NamedTuple):
    """W (D, 3H), U (H, 3H), b (3H,), c (3H,): blocks r, z, n side by side."""

    W: jax.Array
    U: jax.Array
    b: jax.Array
    c: jax.Array


class GRUState(NamedTuple):
    """h (..., H) in the parameters' dtype."""

    h: jax.Array


def init_gru(
    key: jax.Array, input_size: int, hidden_size: int, *, dtype: DTypeLike = jnp.float32
) -> GRUParams:
    """Parameters drawn as those of `init_lstm`.

    Args:
      key: a key of `jax.random.key`.
      input_size, hidden_size: D and H, whole numbers >= 1.
      dtype: of all four.

    Returns:
      GRUParams: W lecun-normal (D, 3H), U orthogonal per gate (H, 3H), b and c zero (3H,).

    Raises:
      ValueError: what is no key, a size that is no whole number >= 1, a dtype that is not floating
        point.
    """
    D, H = check_init(key, dtype, input_size=input_size, hidden_size=hidden_size)
    key_W, key_U = jax.random.split(key)
    W = jax.nn.initializers.lecun_normal()(key_W, (D, 3 * H), wide(dtype))
    orthogonal = jax.nn.initializers.orthogonal()
    U = [orthogonal(k, (H, H), wide(dtype)) for k in jax.random.split(key_U, 3)]
    U = jnp.concatenate(U, axis=1)
    zeros = jnp.zeros((3 * H,), dtype)
    return GRUParams(W.astype(dtype), U.astype(dtype), zeros, zeros)


# A step, and the chain rule through it --------------------------------------------------------


def project(w, xs):
    """x W + b: the part of (1) that does not depend on the state."""
    return bias(linear(xs, w.W), w.b)


def cut(y):
    """The blocks r, z, n of (..., 3H): (..., H) each."""
    return jnp.split(y, 3, axis=-1)


def step(w, prev, a):
    u_r, u_z, u_n = cut(bias(linear(prev.h, w.U), w.c))  # (1)
    a_r, a_z, a_n = cut(a)
    r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)  # (2)
    n = tanh(a_n + product(r, u_n))  # (16), (2)
    h = add(n, product(z, prev.h.astype(z.dtype) - n))  # (16), (14): z h_prev + (1 - z) n
    return GRUState(h.astype(prev.h.dtype)), (r, z, n, u_n)


def slopes(w, prevs, saved):
    """The twins of a step at the cotangent 1, for any number of steps at once: what dh is going to
    be multiplied with on its way to da, to the candidate's du and to h_{t-1}."""
    r, z, n, u_n = saved
    one = jnp.ones_like(z)
    dn, dzd = add_bwd(None, one)  # (14')
    dz, dd = product_bwd((z, prevs.h.astype(z.dtype) - n), dzd)  # (16')
    dn, _ = fork_bwd(None, (dn, -dd))  # (F') at n: into h, and into d = h_prev - n
    da_n = tanh_bwd(n, dn)  # (2')
    dr, du_n = product_bwd((r, u_n), da_n)  # (16')
    da = [sigmoid_bwd(r, dr), sigmoid_bwd(z, dz), da_n]  # (2')
    return jnp.concatenate(da, axis=-1), du_n, dd


def step_bwd(w, prev, slopes, dstate):
    """The chain rule: the forward read bottom-up, products with the local derivatives."""
    da, du_n, dh_kept = slopes
    dh = dstate.h
    da = da * jnp.concatenate([dh, dh, dh], axis=-1)  # (14'), (16'), (2')
    du = jnp.concatenate([*cut(da)[:2], du_n * dh], axis=-1)
    dh_prev, _ = fork_bwd(None, (dh_kept * dh, linear_bwd_input(w.U, du)))  # (F') at h_{t-1}
    return GRUState(dh_prev), (da, du)


def weights_bwd(w, xs, prevs, saved, deltas):
    """dW, dU, db, dc summed over steps and examples, and dx for every step."""
    das, dus = deltas
    _, db = bias_bwd(None, das)  # (1'b)
    _, dc = bias_bwd(None, dus)  # (1'b)
    dW, dU = linear_bwd_weight(xs, das), linear_bwd_weight(prevs.h, dus)  # (1'W)
    return GRUParams(dW, dU, db, dc), linear_bwd_input(w.W, das)  # (1'x)


# What people call -----------------------------------------------------------------------------

GRU = Cell(
    name="gru",
    params=GRUParams,
    state=GRUState,
    shapes=(("W", "D,3H"), ("U", "H,3H"), ("b", "3H"), ("c", "3H")),
    fields=(("h", "H"),),
    gates=("r", "z", "n"),
    init=init_gru,
    project=project,
    step=step,
    slopes=slopes,
    step_bwd=step_bwd,
    weights_bwd=weights_bwd,
)
init_gru_state = make_init_state(GRU)
gru_cell, gru_cell_autodiff, gru, gru_autodiff = routes(
    GRU, "the gated recurrent unit, equations (1), (2), (14) and (16)"
)
