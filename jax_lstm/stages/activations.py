"""NONLINEARITIES that a gate may have, each with the derivative from its own output, and clipping.

The names and the letters alpha and beta are those of ONNX's LSTM, GRU and RNN. Where a value is
chosen by its size, complex numbers go by their real part, so that complex steps take the derivative
of the branch. At a corner the derivative is that of the flatter side.

alpha and beta are numbers of Python: they have no cotangent.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jax_lstm.stages.gated import relu, relu_bwd
from jax_lstm.stages.step import sigmoid, sigmoid_bwd, tanh, tanh_bwd
from jax_lstm.stages.twins import row


def hard_sigmoid(a: Array, alpha: float, beta: float) -> Array:
    """A straight line, cut off at 0 and at 1.

        y = min(max(alpha a + beta, 0), 1)                                    (29)

    Args:
      a: any shape.
      alpha, beta: slope and offset; ONNX has 0.2 and 0.5.

    Returns:
      y: in [0, 1], shape and dtype of a.
    """
    u = alpha * a + beta
    beyond = (jnp.real(u) <= 0) | (jnp.real(u) >= 1)  # NaN is not, and stays
    end = jnp.where(jnp.real(u) <= 0, jnp.zeros_like(u), jnp.ones_like(u))
    return jnp.where(beyond, end, u)


def hard_sigmoid_bwd(residual: tuple[Array, float, float], dy: Array) -> tuple[Array, None, None]:
    """da = alpha dy where 0 < y < 1, 0 elsewhere                             (29')"""
    y, alpha, _ = residual
    return jnp.where((y > 0) & (y < 1), alpha * dy, jnp.zeros_like(dy)), None, None


def hard_sigmoid_jvp(
    residual: tuple[Array, float, float], a_dot: Array, alpha: float, beta: float
) -> Array:
    """ẏ = alpha ȧ where 0 < y < 1, 0 elsewhere                               (29t)"""
    return hard_sigmoid_bwd(residual, a_dot)[0]


def softsign(a: Array) -> Array:
    """A tanh whose ends are slow.

        y = a / (1 + |a|)                                                     (30)

    Args:
      a: any shape.

    Returns:
      y: in (-1, 1), shape and dtype of a.
    """
    return a / (1 + jnp.where(jnp.real(a) < 0, -a, a))


def softsign_bwd(y: Array, dy: Array) -> Array:
    """da = dy ⊙ (1 - |y|)²                                                   (30')"""
    flat = 1 - jnp.abs(y)
    return dy * flat * flat


def softsign_jvp(y: Array, a_dot: Array) -> Array:
    """ẏ = ȧ ⊙ (1 - |y|)²                                                     (30t)"""
    return softsign_bwd(y, a_dot)


def softplus(a: Array) -> Array:
    """A rectifier with a round corner.

        y = log(1 + exp(a))                                                   (31)

    Args:
      a: any shape.

    Returns:
      y: above 0, shape and dtype of a.
    """
    low = jnp.real(a) < 0
    return jnp.where(low, jnp.zeros_like(a), a) + jnp.log1p(jnp.exp(jnp.where(low, a, -a)))


def softplus_bwd(y: Array, dy: Array) -> Array:
    """da = dy ⊙ (1 - exp(-y))                                                (31')"""
    return -dy * jnp.expm1(-y)


def softplus_jvp(y: Array, a_dot: Array) -> Array:
    """ẏ = ȧ ⊙ (1 - exp(-y))                                                  (31t)"""
    return softplus_bwd(y, a_dot)


def elu(a: Array, alpha: float) -> Array:
    """A rectifier that goes down to -alpha.

        y = a where a > 0, alpha (exp(a) - 1) elsewhere                       (32)

    Args:
      a: any shape.
      alpha: ONNX has 1. Below 0 the output does not tell the branch: see cells/activated.py.

    Returns:
      y: shape and dtype of a.

    Source: Clevert et al. (2016), "Fast and accurate deep network learning by exponential linear
    units".
    """
    high = jnp.real(a) > 0
    return jnp.where(high, a, alpha * jnp.expm1(jnp.where(high, jnp.zeros_like(a), a)))


def elu_bwd(residual: tuple[Array, float], dy: Array) -> tuple[Array, None]:
    """da = dy where y > 0, dy ⊙ (y + alpha) elsewhere                        (32')"""
    y, alpha = residual
    return jnp.where(y > 0, dy, dy * (y + alpha)), None


def elu_jvp(residual: tuple[Array, float], a_dot: Array, alpha: float) -> Array:
    """ẏ = ȧ where y > 0, ȧ ⊙ (y + alpha) elsewhere                           (32t)"""
    return elu_bwd(residual, a_dot)[0]


def leaky_relu(a: Array, alpha: float) -> Array:
    """A rectifier that leaks.

        y = a where a > 0, alpha a elsewhere                                  (33)

    Args:
      a: any shape.
      alpha: ONNX has 0.01. Below 0 the output does not tell the branch: see cells/activated.py.

    Returns:
      y: shape and dtype of a.
    """
    return jnp.where(jnp.real(a) > 0, a, alpha * a)


def leaky_relu_bwd(residual: tuple[Array, float], dy: Array) -> tuple[Array, None]:
    """da = dy where y > 0, alpha dy elsewhere                                (33')"""
    y, alpha = residual
    return jnp.where(y > 0, dy, alpha * dy), None


def leaky_relu_jvp(residual: tuple[Array, float], a_dot: Array, alpha: float) -> Array:
    """ẏ = ȧ where y > 0, alpha ȧ elsewhere                                   (33t)"""
    return leaky_relu_bwd(residual, a_dot)[0]


def thresholded_relu(a: Array, alpha: float) -> Array:
    """The identity above a threshold.

        y = a where a > alpha, 0 elsewhere                                    (34)

    Args:
      a: any shape.
      alpha: ONNX has 1. Below 0 the output does not tell the branch: see cells/activated.py.

    Returns:
      y: shape and dtype of a.

    Source: Konda, Memisevic & Krueger (2015), "Zero-bias autoencoders and the benefits of
    co-adapting features".
    """
    return jnp.where(jnp.real(a) <= alpha, jnp.zeros_like(a), a)  # NaN stays NaN


def thresholded_relu_bwd(residual: tuple[Array, float], dy: Array) -> tuple[Array, None]:
    """da = dy where y > alpha, 0 elsewhere                                   (34')"""
    y, alpha = residual
    return jnp.where(y > alpha, dy, jnp.zeros_like(dy)), None


def thresholded_relu_jvp(residual: tuple[Array, float], a_dot: Array, alpha: float) -> Array:
    """ẏ = ȧ where y > alpha, 0 elsewhere                                     (34t)"""
    return thresholded_relu_bwd(residual, a_dot)[0]


def scaled_tanh(a: Array, alpha: float, beta: float) -> Array:
    """A tanh of another height and width.

        y = alpha tanh(beta a)                                                (35)

    Args:
      a: any shape.
      alpha, beta: ONNX names no numbers; those of LeCun are 1.7159 and 2/3.

    Returns:
      y: shape and dtype of a.

    Source: LeCun et al. (1998), "Efficient BackProp".
    """
    return alpha * tanh(beta * a)


def scaled_tanh_bwd(residual: tuple[Array, float, float], dy: Array) -> tuple[Array, None, None]:
    """da = alpha beta dy ⊙ (1 - t²),  t = y / alpha                          (35')"""
    y, alpha, beta = residual
    t = y / (alpha + (alpha == 0))  # of alpha = 0 all is 0
    return tanh_bwd(t, alpha * beta * dy), None, None


def scaled_tanh_jvp(
    residual: tuple[Array, float, float], a_dot: Array, alpha: float, beta: float
) -> Array:
    """ẏ = alpha beta ȧ ⊙ (1 - t²),  t = y / alpha                            (35t)"""
    return scaled_tanh_bwd(residual, a_dot)[0]


def affine(a: Array, alpha: float, beta: float) -> Array:
    """No nonlinearity: a straight line. alpha = 1 and beta = 0 is none at all.

        y = alpha a + beta                                                    (36)

    Args:
      a: any shape.
      alpha, beta: slope and offset; ONNX has 1 and 0.

    Returns:
      y: shape and dtype of a.
    """
    return alpha * a + beta


def affine_bwd(residual: tuple[Array, float, float], dy: Array) -> tuple[Array, None, None]:
    """da = alpha dy                                                          (36')"""
    _, alpha, _ = residual
    return alpha * dy, None, None


def affine_jvp(
    residual: tuple[Array, float, float], a_dot: Array, alpha: float, beta: float
) -> Array:
    """ẏ = alpha ȧ                                                            (36t)"""
    return alpha * a_dot


def clip(a: Array, bound: float) -> Array:
    """Numbers that may not leave an interval: of a net input, or of a cell state.

        y = min(max(a, -bound), bound)                                        (37)

    Args:
      a: any shape.
      bound: above 0.

    Returns:
      y: in [-bound, bound], shape and dtype of a.

    Source: Sak, Senior & Beaufays (2014) clip cell states; ONNX clips net inputs.
    """
    beyond, end = jnp.abs(jnp.real(a)) >= bound, jnp.full_like(a, bound)  # NaN is not, and stays
    return jnp.where(beyond, jnp.where(jnp.real(a) < 0, -end, end), a)


def clip_bwd(residual: tuple[Array, float], dy: Array) -> tuple[Array, None]:
    """da = dy where |y| < bound, 0 elsewhere                                 (37')"""
    y, bound = residual
    return jnp.where(jnp.abs(y) < bound, dy, jnp.zeros_like(dy)), None


def clip_jvp(residual: tuple[Array, float], a_dot: Array, bound: float) -> Array:
    """ẏ = ȧ where |y| < bound, 0 elsewhere                                   (37t)"""
    return clip_bwd(residual, a_dot)[0]


# The tables -------------------------------------------------------------------------------------


class Nonlinearity(NamedTuple):
    """A nonlinearity and its twin, and what its alpha and beta are where nobody says."""

    stage: Callable[..., Array]
    stage_bwd: Callable[..., Any]
    defaults: tuple[float, ...] = ()


ACTIVATIONS = {
    "sigmoid": Nonlinearity(sigmoid, sigmoid_bwd),
    "tanh": Nonlinearity(tanh, tanh_bwd),
    "relu": Nonlinearity(relu, relu_bwd),
    "hard_sigmoid": Nonlinearity(hard_sigmoid, hard_sigmoid_bwd, (0.2, 0.5)),
    "softsign": Nonlinearity(softsign, softsign_bwd),
    "softplus": Nonlinearity(softplus, softplus_bwd),
    "elu": Nonlinearity(elu, elu_bwd, (1.0,)),
    "leaky_relu": Nonlinearity(leaky_relu, leaky_relu_bwd, (0.01,)),
    "thresholded_relu": Nonlinearity(thresholded_relu, thresholded_relu_bwd, (1.0,)),
    "scaled_tanh": Nonlinearity(scaled_tanh, scaled_tanh_bwd, (1.0, 1.0)),
    "affine": Nonlinearity(affine, affine_bwd, (1.0, 0.0)),
}


ROWS = {
    "hard_sigmoid": row(
        hard_sigmoid,
        hard_sigmoid_bwd,
        hard_sigmoid_jvp,
        "a:T,B,H",
        "output alpha beta",
        alpha=0.3,
        beta=0.4,
    ),
    "softsign": row(softsign, softsign_bwd, softsign_jvp, "a:T,B,H", "output"),
    "softplus": row(softplus, softplus_bwd, softplus_jvp, "a:T,B,H", "output"),
    "elu": row(elu, elu_bwd, elu_jvp, "a:T,B,H", "output alpha", alpha=0.7),
    "leaky_relu": row(
        leaky_relu, leaky_relu_bwd, leaky_relu_jvp, "a:T,B,H", "output alpha", alpha=0.2
    ),
    "thresholded_relu": row(
        thresholded_relu,
        thresholded_relu_bwd,
        thresholded_relu_jvp,
        "a:T,B,H",
        "output alpha",
        alpha=0.3,
    ),
    "scaled_tanh": row(
        scaled_tanh,
        scaled_tanh_bwd,
        scaled_tanh_jvp,
        "a:T,B,H",
        "output alpha beta",
        alpha=1.7,
        beta=0.6,
    ),
    "affine": row(
        affine, affine_bwd, affine_jvp, "a:T,B,H", "output alpha beta", alpha=0.8, beta=0.3
    ),
    "clip": row(clip, clip_bwd, clip_jvp, "a:T,B,H", "output bound", bound=0.8),
}
