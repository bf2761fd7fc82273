"""Masks, drawn outside the loop: of dropout and of zoneout, for a state or for a stack of them."""

from collections.abc import Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike

from jax_lstm.doors import (
    broadcasts,
    check_array,
    check_arrays,
    check_dtype,
    check_flag,
    check_floats,
    check_key,
    check_number,
    check_shape,
    check_size,
    check_texts,
)
from jax_lstm.notation import ArrayOrList, Numbers, Tree
from jax_lstm.stages import TWINS
from jax_lstm.stages.twins import as_jax_sees_it, named, with_twin


def dropout_mask(
    key: jax.Array, rate: ArrayLike, shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> jax.Array:
    """0 with probability `rate`, else 1 / (1 - rate).

    Args:
      key: a key of `jax.random.key`.
      rate: in [0, 1). Under jit it may be an argument, whose value cannot be looked at.
      shape: of the mask. (T, B, H) is a mask per step, (B, H) one for the whole sequence, (V, 1)
        drops rows of an embedding table, and U's shape is weight drop.
      dtype: of what it multiplies.

    Raises:
      ValueError: a rate outside [0, 1); what is no key, shape, dtype or tree of states.
    """
    rate, shape = check_mask(key, rate, shape, dtype)
    return jax.random.bernoulli(key, 1 - rate, shape).astype(dtype) / jnp.asarray(1 - rate, dtype)


def zoneout_mask(
    key: jax.Array,
    rate: ArrayLike,
    shape: Sequence[int],
    dtype: DTypeLike = jnp.float32,
    *,
    train: bool = True,
) -> jax.Array:
    """1 with probability `rate` in training, the expectation `rate` everywhere at test time.

    Args:
      key: a key of `jax.random.key`.
      rate: probability that a unit keeps its old value, in [0, 1).
      shape: (T, ..., H) in training; at test time (T, 1, ..., 1) will do and costs no memory.
      dtype: of the state's field it is for.
      train: whether to sample.

    Raises:
      ValueError: a rate outside [0, 1); what is no key, shape, dtype or tree of states.
    """
    rate, shape = check_mask(key, rate, shape, dtype)
    check_flag("train", train)
    sampled = jax.random.bernoulli(key, rate, shape).astype(dtype)
    return sampled if train else jnp.full(shape, rate, dtype)


def recurrent_dropout_masks(key: jax.Array, rate: ArrayLike, states: Tree) -> Tree:
    """One mask (..., H) for each state, as `consts` of a `recurrent_dropout` cell.

    Args:
      key: a key of `jax.random.key`.
      rate: in [0, 1).
      states: a state (h, ...), or a tree of them, say the states of a stack.

    Returns:
      The tree, with a mask in place of each state, in the shape and dtype of its h.

    Raises:
      ValueError: a rate outside [0, 1); what is no key, shape, dtype or tree of states.
    """

    check_key("key", key)
    check_rate(rate)

    def mask(key, state):
        return dropout_mask(key, rate, state[0].shape, state[0].dtype)

    return for_each_state(mask, key, states)


def zoneout_masks(
    key: jax.Array,
    rate: ArrayOrList,
    states: Tree,
    T: int,
    *,
    train: bool = True,
    fields: Sequence[str] | None = None,
) -> Tree:
    """Masks for each state, one per field, as a `zoneout` cell reads them beside xs.

    Args:
      key: a key of `jax.random.key`.
      rate: probability that a unit keeps its old value, in [0, 1): for all fields of a state, or
        a tuple with one per field, for the LSTM of h and of c.
      states: a state, or a tree of them, say the states of a stack.
      T: the number of steps.
      train: whether to sample. If not, every mask is the expectation, `rate`.
      fields: the fields that are held, the cell's `kept`; None: all of a state.

    Returns:
      The tree, with a tuple of masks in place of each state: (T, ..., H), or (T, 1, ..., 1) if not
      sampled.

    Raises:
      ValueError: a rate outside [0, 1), or not one per field; what is no key, state, number of
        steps or field.
    """

    check_key("key", key)
    T = check_size("T", T, 0)
    check_flag("train", train)
    if fields is not None:
        check_texts("fields", fields, 'None or a tuple of texts, say ("h",)')

    def masks(key, state):
        lacking = [name for name in fields or () if name not in state._fields]
        if lacking:
            raise ValueError(f"`fields` must be among {state._fields}; got {lacking[0]!r}")
        held = [getattr(state, name) for name in fields or state._fields]
        rates = rate if isinstance(rate, tuple | list) else (rate,) * len(held)
        for one in rates:
            check_rate(one)
        if len(rates) != len(held):
            names = fields or state._fields
            raise ValueError(f"`rate` must be one number, or one per field of {names}")
        each = zip(jax.random.split(key, len(held)), rates, held, strict=True)
        shape = lambda x: (T, *x.shape) if train else (T, *(1,) * x.ndim)
        return tuple(zoneout_mask(k, r, shape(x), x.dtype, train=train) for k, r, x in each)

    return for_each_state(masks, key, states)


def for_each_state(draw, key, states):
    """`draw(key, state)` for every state of a tree, each with a key of its own."""
    found, tree = jax.tree.flatten(states, is_leaf=lambda x: hasattr(x, "_fields") or x is None)
    if not found or not all(hasattr(x, "_fields") for x in found):
        raise ValueError("`states` must be a state, or a tree of states; see jax_lstm.LSTMState")
    for state in found:
        check_arrays("states", state, "a state, arrays (..., H)")
    keys = jax.random.split(key, len(found))
    return tree.unflatten([draw(k, state) for k, state in zip(keys, found, strict=True)])


def check_rate(rate):
    """The rate. Under jit it may be an argument, and cannot be looked at."""
    rate = check_number("rate", rate, "a number in [0, 1)")
    if not isinstance(rate, Tracer) and not 0 <= rate < 1:
        raise ValueError(f"`rate` must lie in [0, 1); got {rate}")
    return rate


def check_mask(key, rate, shape, dtype):
    """The door of what draws a mask: the rate, and its shape as Python integers."""
    check_key("key", key)
    rate = check_rate(rate)
    check_dtype("dtype", dtype)
    return rate, check_shape("shape", shape)


def check_drop(x, mask):
    check_floats("x", x, "(...)", 0)
    check_array("mask", mask)
    if x.dtype != mask.dtype or not broadcasts(mask, x):
        raise ValueError(
            f"`mask` must be {x.dtype}, broadcastable to {x.shape}; got {mask.dtype} {mask.shape}"
        )


class Drop(Protocol):
    """Dropout with a mask drawn outside, see `jax_lstm.drop`."""

    def __call__(self, x: Numbers, mask: Numbers) -> jax.Array: ...


# `drop` with its twin, `drop_autodiff` as JAX sees it.
drop: Drop = named(with_twin(TWINS["drop"], check_drop), "drop", __name__)
drop_autodiff: Drop = named(as_jax_sees_it(TWINS["drop"], check_drop), "drop_autodiff", __name__)
