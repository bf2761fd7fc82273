"""What stands around a step and between layers: masks, sums, products, and forks into examples."""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from jax_lstm.notation import wide
from jax_lstm.stages.step import align
from jax_lstm.stages.twins import row


def keep(mask: Array, old: Array, new: Array) -> Array:
    """Keep part of the old value, take the rest from the new one: zoneout.

        y = m ⊙ old + (1 - m) ⊙ new                                          (11)

    Args:
      mask: m in [0, 1], 1 where the old value stays; its probability for the expectation.
      old, new: (..., H).

    Returns:
      y: (..., H).

    Source: Krueger et al. (2017), "Zoneout".
    """
    mask = align(mask, new)
    return mask * old + (1 - mask) * new


def keep_bwd(mask: Array, dy: Array) -> tuple[None, Array, Array]:
    """dold = m ⊙ dy        dnew = (1 - m) ⊙ dy       the mask is a constant  (11')"""
    mask = align(mask, dy)
    return None, mask * dy, (1 - mask) * dy


def keep_jvp(mask: Array, tangents: tuple[None, Array, Array]) -> Array:
    """ẏ = m ⊙ ȯld + (1 - m) ⊙ ṅew                the mask is a constant      (11t)"""
    _, old_dot, new_dot = tangents
    return keep(mask, old_dot, new_dot)


def drop(x: Array, mask: Array) -> Array:
    """Dropout with a mask drawn outside: zero, or 1 / (1 - rate).

        y = x ⊙ m                                                            (12)

    Args:
      x: any shape.
      mask: m, broadcastable to x, dtype of x.

    Returns:
      y: shape and dtype of x.

    Source: Srivastava et al. (2014).
    """
    return x * align(mask, x)


def drop_bwd(mask: Array, dy: Array) -> tuple[Array, None]:
    """dx = dy ⊙ m                                the mask is a constant      (12')"""
    return dy * align(mask, dy), None


def drop_jvp(mask: Array, tangents: tuple[Array, None]) -> Array:
    """ẏ = ẋ ⊙ m                                  the mask is a constant      (12t)"""
    return drop(tangents[0], mask)


# Between layers -------------------------------------------------------------------------------


def concatenate(*xs: Array) -> Array:
    """Features side by side.

        y = [x_1, x_2, ... x_n]                                              (13)

    Args:
      xs: (..., D_1), (..., D_2), ... of one dtype.

    Returns:
      y: (..., D_1 + D_2 + ...).

    Source: Schuster & Paliwal (1997) for two directions, Graves (2013) for skip connections.
    """
    return jnp.concatenate(xs, axis=-1)


def concatenate_bwd(xs: Sequence[Array], dy: Array) -> tuple[Array, ...]:
    """dx_1, dx_2, ... dx_n = dy, cut where the features meet                (13')"""
    ends = list(itertools.accumulate(x.shape[-1] for x in xs))
    return tuple(jnp.split(dy, ends[:-1], axis=-1))


def concatenate_jvp(xs: Sequence[Array], tangents: tuple[Array, ...]) -> Array:
    """ẏ = [ẋ_1, ẋ_2, ... ẋ_n]                                               (13t)"""
    return concatenate(*tangents)


def add(x: Array, y: Array) -> Array:
    """A sum: two directions, or a layer and the way around it.

        z = x + y                                                            (14)

    Args:
      x, y: (..., H).

    Returns:
      z: (..., H).

    Source: He et al. (2016) for residual connections.
    """
    return x + y


def add_bwd(residual: object, dz: Array) -> tuple[Array, Array]:
    """dx = dz      dy = dz      a fork, read from right to left             (14')"""
    return dz, dz


def add_jvp(residual: object, tangents: tuple[Array, Array]) -> Array:
    """ż = ẋ + ẏ                                                             (14t)"""
    return add(*tangents)


def mean(x: Array, y: Array) -> Array:
    """Half of each.

        z = (x + y) / 2                                                      (15)

    Args:
      x, y: (..., H).

    Returns:
      z: (..., H).
    """
    return (x + y) / 2


def mean_bwd(residual: object, dz: Array) -> tuple[Array, Array]:
    """dx = dz / 2      dy = dz / 2                                          (15')"""
    return dz / 2, dz / 2


def mean_jvp(residual: object, tangents: tuple[Array, Array]) -> Array:
    """ż = (ẋ + ẏ) / 2                                                       (15t)"""
    return mean(*tangents)


def product(x: Array, y: Array) -> Array:
    """Each a gate for the other.

        z = x ⊙ y                                                            (16)

    Args:
      x, y: (..., H).

    Returns:
      z: (..., H).
    """
    return x * y


def product_bwd(residual: tuple[Array, Array], dz: Array) -> tuple[Array, Array]:
    """dx = dz ⊙ y      dy = dz ⊙ x                                          (16')"""
    x, y = residual
    return dz * y, dz * x


def product_jvp(residual: tuple[Array, Array], tangents: tuple[Array, Array]) -> Array:
    """ż = ẋ ⊙ y + x ⊙ ẏ                                                     (16t)"""
    (x, y), (x_dot, y_dot) = residual, tangents
    return x_dot * y + x * y_dot


def clear(valid: Array, x: Array) -> Array:
    """Zero where a step is no step. Chosen, not multiplied: 0 times NaN is NaN.

        y = x where valid, 0 elsewhere                                       (17)

    Args:
      valid: booleans (...).
      x: (..., D).

    Returns:
      y: shape and dtype of x.
    """
    return jnp.where(valid[..., None], x, jnp.zeros_like(x))


def clear_bwd(valid: Array, dy: Array) -> tuple[None, Array]:
    """dx = dy where valid, 0 elsewhere                                      (17')"""
    return None, clear(valid, dy)


def clear_jvp(valid: Array, tangents: tuple[None, Array]) -> Array:
    """ẏ = ẋ where valid, 0 elsewhere                                        (17t)"""
    return clear(valid, tangents[1])


def repeat(x: Array, batch_shape: tuple[int, ...]) -> Array:
    """The same for every example: a fork into all of them, as (F) for a learnt initial state.

        x_n = x for every example n                                          (18)

    Args:
      x: (...).
      batch_shape: of the examples.

    Returns:
      xs: (*batch_shape, ...).
    """
    return jnp.broadcast_to(x, (*batch_shape, *x.shape))


def repeat_bwd(x: Array, dxs: Array) -> tuple[Array, None]:
    """dx = Σ_n dx_n                                                         (18')"""
    axes = tuple(range(dxs.ndim - x.ndim))
    return dxs.astype(wide(x.dtype)).sum(axes).astype(x.dtype), None


def repeat_jvp(x: Array, x_dot: Array, batch_shape: tuple[int, ...]) -> Array:
    """ẋ_n = ẋ for every example n                                           (18t)"""
    return repeat(x_dot, batch_shape)


ROWS = {
    "keep": row(keep, keep_bwd, keep_jvp, "mask:constant_T,B,H old:T,B,H new:T,B,H", "mask"),
    "drop": row(drop, drop_bwd, drop_jvp, "x:T,B,H mask:constant_T,B,H", "mask"),
    "concatenate": row(concatenate, concatenate_bwd, concatenate_jvp, "x:T,B,D y:T,B,H", "x y"),
    "add": row(add, add_bwd, add_jvp, "x:T,B,H y:T,B,H"),
    "mean": row(mean, mean_bwd, mean_jvp, "x:T,B,H y:T,B,H"),
    "product": row(product, product_bwd, product_jvp, "x:T,B,H y:T,B,H", "x y"),
    "clear": row(clear, clear_bwd, clear_jvp, "valid:boolean_T,B x:T,B,D", "valid"),
    "repeat": row(repeat, repeat_bwd, repeat_jvp, "x:H", "x", batch_shape=(3, 2)),
}
