"""What other cells than the LSTM are made of: a gate between two values, layer normalisation, and
two more nonlinearities. Where a value is chosen by its sign, complex numbers go by their real part,
so that complex steps take the derivative of the branch."""

import jax.numpy as jnp
from jax import Array

from jax_lstm.stages.step import align
from jax_lstm.stages.twins import row

EPSILON = 1e-5  # added to a variance


def blend(z: Array, old: Array, new: Array) -> Array:
    """A gate between two values: the state of a GRU.

        y = z ⊙ old + (1 - z) ⊙ new                                          (19)

    Args:
      z: gate in (0, 1), (..., H).
      old, new: (..., H).

    Returns:
      y: (..., H).

    Source: Cho et al. (2014).
    """
    return new + z * (old - new)


def blend_bwd(residual: tuple[Array, Array, Array], dy: Array) -> tuple[Array, Array, Array]:
    """dz = dy ⊙ (old - new)      dold = dy ⊙ z      dnew = dy ⊙ (1 - z)      (19')"""
    z, old, new = residual
    return dy * (old - new), dy * z, dy * (1 - z)


def normalise(x: Array) -> tuple[Array, Array]:
    """(x - mean) / s over the last axis, and 1 / s with s = sqrt(variance + EPSILON)."""
    centred = x - x.mean(-1, keepdims=True)
    scale = 1 / jnp.sqrt((centred * centred).mean(-1, keepdims=True) + EPSILON)
    return centred * scale, scale


def layer_norm(x: Array, gain: Array) -> Array:
    """Each example's features with mean 0 and variance 1, and a gain; the offset is `bias`.

        y = gain ⊙ n,  n = (x - mean(x)) / s,  s = sqrt(var(x) + 1e-5)        (20)

    Args:
      x: (..., M).
      gain: (M,).

    Returns:
      y: (..., M), dtype of x.

    Source: Ba, Kiros & Hinton (2016), "Layer normalization".
    """
    return normalise(x)[0] * align(gain, x).astype(x.dtype)


def layer_norm_bwd(residual: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    """dx = (dn - mean(dn) - n ⊙ mean(dn ⊙ n)) / s,  dn = dy ⊙ gain
    dgain = Σ_examples dy ⊙ n                      (two halves)              (20')"""
    x, gain = residual
    normal = normalise(x)
    return layer_norm_bwd_input(normal, gain, dy), layer_norm_bwd_gain(normal, dy)


def layer_norm_bwd_input(normal: tuple[Array, Array], gain: Array, dy: Array) -> Array:
    """dx           the input half: sequential, of what `normalise` returned (20'x)"""
    n, scale = normal
    dn = dy * align(gain, dy).astype(dy.dtype)
    mean = dn.mean(-1, keepdims=True)
    return scale * (dn - mean - n * (dn * n).mean(-1, keepdims=True))


def layer_norm_bwd_gain(normal: tuple[Array, Array], dy: Array) -> Array:
    """dgain        the half of the gain: one sum for any number of steps    (20'g)"""
    return (dy * normal[0]).reshape((-1, dy.shape[-1])).sum(0)


def relu(a: Array) -> Array:
    """The positive part.

        y = max(a, 0)                                                         (21)

    Args:
      a: any shape.

    Returns:
      y: shape and dtype of a; at 0 its derivative is 0.
    """
    return jnp.where(jnp.real(a) <= 0, jnp.zeros_like(a), a)  # NaN stays NaN


def relu_bwd(y: Array, dy: Array) -> Array:
    """da = 0 where y = 0, dy elsewhere                                       (21')"""
    return jnp.where(y <= 0, jnp.zeros_like(dy), dy)


def log_sigmoid(a: Array) -> Array:
    """The logarithm of a gate, exact also where the gate is closed.

        y = log(1 / (1 + exp(-a)))                                            (22)

    Args:
      a: any shape.

    Returns:
      y: in (-inf, 0), shape and dtype of a.
    """
    low = jnp.real(a) < 0
    return jnp.where(low, a, jnp.zeros_like(a)) - jnp.log1p(jnp.exp(jnp.where(low, a, -a)))


def log_sigmoid_bwd(y: Array, dy: Array) -> Array:
    """da = dy ⊙ (1 - exp(y))                                                 (22')"""
    return -dy * jnp.expm1(y)


ROWS = {
    "blend": row(blend, blend_bwd, "z:T,B,H old:T,B,H new:T,B,H", "z old new"),
    "layer_norm": row(layer_norm, layer_norm_bwd, "x:T,B,M gain:M", "x gain"),
    "relu": row(relu, relu_bwd, "a:T,B,H", "output"),
    "log_sigmoid": row(log_sigmoid, log_sigmoid_bwd, "a:T,B,H", "output"),
}
