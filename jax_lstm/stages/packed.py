"""(2) in one loop: all four gates of a packed array (..., 4H), blocks i, f, g, o side by side."""

from typing import TypeAlias

import jax.numpy as jnp
from jax import Array, lax

from jax_lstm.notation import GATES
from jax_lstm.stages.step import (
    sigmoid,
    sigmoid_bwd,
    sigmoid_bwd_jvp,
    sigmoid_jvp,
    tanh,
    tanh_bwd,
    tanh_bwd_jvp,
    tanh_jvp,
)
from jax_lstm.stages.twins import row

Gates: TypeAlias = tuple[Array, Array, Array, Array]


def blocks(y: Array) -> Gates:
    """The blocks i, f, g, o of a packed array (..., 4H): (..., H) each."""
    i, f, g, o = jnp.split(y, 4, axis=-1)
    return i, f, g, o


def plain_gates(a: Array) -> Gates:
    """`gates`, one after the other, for JAX to differentiate: of the one loop of `packed_gates` its
    autodiff would keep every intermediate."""
    i, f, g, o = blocks(a)
    return sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)


def packed_gates(a: Array) -> Array:
    """(2) as one array: blocks i, f, g, o side by side, (..., 4H).

        sigmoid(a) = 1 / (1 + e),  e = exp(-a)      tanh(a) = (1 - e) / (1 + e),  e = exp(-2a)
        a < 0:          e / (1 + e),  e = exp(a)              (e - 1) / (1 + e),  e = exp(2a)

    One loop with one exponential and one division per number, which XLA keeps as one kernel; three
    sigmoids and a tanh over slices are four, and not even vectorised where nothing is saved. Near
    0, where 1 - e loses digits, tanh is its continued fraction (Lambert 1761), cut after the term
    13: with it the error is at most that of `jnp.tanh`, in float32 and in float64. e is never above
    1, so that no derivative that JAX takes overflows.
    """
    if jnp.iscomplexobj(a):  # complex-step differences: there is no < for complex numbers
        return jnp.concatenate(plain_gates(a), axis=-1)
    H = a.shape[-1] // 4
    block = lax.broadcasted_iota(jnp.int32, a.shape, a.ndim - 1) // max(H, 1)
    candidate = block == GATES.index("g")
    x = jnp.where(candidate, 2 * a, a)
    low = x < 0
    e = jnp.exp(jnp.where(low, x, -x))
    s = jnp.minimum(a * a, 0.25)
    near = candidate & (s < 0.25)
    top = a * (135135 + s * (17325 + s * (378 + s)))
    bottom = 135135 + s * (62370 + s * (3150 + s * 28))
    far = jnp.where(candidate, 1 - e, jnp.ones_like(e))
    far = jnp.where(low, jnp.where(candidate, e - 1, e), far)
    return jnp.where(near, top, far) / jnp.where(near, bottom, 1 + e)


def gates(a: Array) -> Gates:
    """Three gates that open and close, and the candidate that may be written.

        i, f, o = sigmoid(a_i, a_f, a_o)        g = tanh(a_g)                 (2)

    Args:
      a: net input, (..., 4H), blocks i, f, g, o.

    Returns:
      i, f, g, o: (..., H) each.

    Source: Gers, Schmidhuber & Cummins (2000), with tanh for the candidate.
    """
    return blocks(packed_gates(a))


def gates_bwd(residual: Gates, dgates: Gates) -> Array:
    """da = [di, df, dg, do], each through the derivative of its nonlinearity (2')"""
    i, f, g, o = residual
    di, df, dg, do = dgates
    return jnp.concatenate(
        [sigmoid_bwd(i, di), sigmoid_bwd(f, df), tanh_bwd(g, dg), sigmoid_bwd(o, do)], axis=-1
    )


def gates_jvp(residual: Gates, a_dot: Array) -> Gates:
    """i̇, ḟ, ġ, ȯ, each through the derivative of its nonlinearity            (2t)"""
    i, f, g, o = residual
    i_dot, f_dot, g_dot, o_dot = blocks(a_dot)
    return (
        sigmoid_jvp(i, i_dot),
        sigmoid_jvp(f, f_dot),
        tanh_jvp(g, g_dot),
        sigmoid_jvp(o, o_dot),
    )


def gates_bwd_jvp(residual: Gates, dgates: Gates, residual_dot: Gates, dgates_dot: Gates) -> Array:
    """da_dot, each block through the tangent of its nonlinearity's twin      (2't)"""
    i, f, g, o = zip(residual, dgates, residual_dot, dgates_dot, strict=True)
    return jnp.concatenate(
        [sigmoid_bwd_jvp(*i), sigmoid_bwd_jvp(*f), tanh_bwd_jvp(*g), sigmoid_bwd_jvp(*o)], axis=-1
    )


ROWS = {"gates": row(gates, gates_bwd, gates_jvp, "a:T,B,M", "output")}
