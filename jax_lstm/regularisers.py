"""Regularisers: masks drawn outside the loop, and cells that use them.

A mask is an explicit input, so that the hand-written and the automatic route see the same bits, and
a constant: its cotangent is zero. Each of these is a cell made of a cell, and knows no gate:

    recurrent_dropout(cell)   one mask per sequence on h_{t-1}, as `consts`   Gal & Ghahramani 2016
    zoneout(cell)             units keep their old value, a mask per step     Krueger et al. 2017

`recurrent_dropout_masks` and `zoneout_masks` draw them for a state, or for all states of a stack.

The others are a product with a mask before the sequence starts (`drop`): dropout between layers,
variational dropout on the input (a mask without time axis), weight drop on U (Merity et al. 2018),
embedding dropout (a mask (V, 1) on the rows of the table).
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from jax_lstm.notation import with_twin
from jax_lstm.stages import drop as drop_autodiff
from jax_lstm.stages import drop_bwd, keep, keep_bwd


def dropout_mask(key, rate, shape, dtype=jnp.float32):
    """0 with probability `rate`, else 1 / (1 - rate).

    Args:
      key: a key of `jax.random.key`.
      rate: in [0, 1). Under jit it may be an argument, whose value cannot be looked at.
      shape: of the mask. (T, B, H) is a mask per step, (B, H) one for the whole sequence, (V, 1)
        drops rows of an embedding table, and U's shape is weight drop.
      dtype: of what it multiplies.

    Raises:
      ValueError: a rate outside [0, 1).
    """
    check_rate(rate)
    return jax.random.bernoulli(key, 1 - rate, shape).astype(dtype) / jnp.asarray(1 - rate, dtype)


def zoneout_mask(key, rate, shape, dtype=jnp.float32, *, train=True):
    """1 with probability `rate` in training, the expectation `rate` everywhere at test time.

    Args:
      key: a key of `jax.random.key`.
      rate: probability that a unit keeps its old value, in [0, 1).
      shape: (T, ..., H) in training; at test time (T, 1, ..., 1) will do and costs no memory.
      dtype: of the state's field it is for.
      train: whether to sample.

    Raises:
      ValueError: a rate outside [0, 1).
    """
    check_rate(rate)
    sampled = jax.random.bernoulli(key, rate, shape).astype(dtype)
    return sampled if train else jnp.full(shape, rate, dtype)


def recurrent_dropout_masks(key, rate, states):
    """One mask (..., H) for each state, as `consts` of a `recurrent_dropout` cell.

    Args:
      key: a key of `jax.random.key`.
      rate: in [0, 1).
      states: a state (h, ...), or a tree of them, say the states of a stack.

    Returns:
      The tree, with a mask in place of each state, in the shape and dtype of its h.

    Raises:
      ValueError: a rate outside [0, 1).
    """

    def mask(key, state):
        return dropout_mask(key, rate, state[0].shape, state[0].dtype)

    return for_each_state(mask, key, states)


def zoneout_masks(key, rate, states, T, *, train=True):
    """Masks for each state, one per field, as a `zoneout` cell reads them beside xs.

    Args:
      key: a key of `jax.random.key`.
      rate: probability that a unit keeps its old value, in [0, 1): for all fields of a state, or
        a tuple with one per field, for the LSTM of h and of c.
      states: a state, or a tree of them, say the states of a stack.
      T: the number of steps.
      train: whether to sample. If not, every mask is the expectation, `rate`.

    Returns:
      The tree, with a tuple of masks in place of each state: (T, ..., H), or (T, 1, ..., 1) if not
      sampled.

    Raises:
      ValueError: a rate outside [0, 1), or not one per field.
    """

    def masks(key, state):
        rates = rate if isinstance(rate, tuple | list) else (rate,) * len(state)
        if len(rates) != len(state):
            raise ValueError(f"`rate` must be one number, or one per field of {state._fields}")
        fields = zip(jax.random.split(key, len(state)), rates, state, strict=True)
        shape = lambda x: (T, *x.shape) if train else (T, *(1,) * x.ndim)
        return tuple(zoneout_mask(k, r, shape(x), x.dtype, train=train) for k, r, x in fields)

    return for_each_state(masks, key, states)


def for_each_state(draw, key, states):
    """`draw(key, state)` for every state of a tree, each with a key of its own."""
    found, tree = jax.tree.flatten(states, is_leaf=lambda x: hasattr(x, "_fields"))
    if not all(hasattr(x, "_fields") for x in found):
        raise ValueError("`states` must be a state, or a tree of states; see jax_lstm.LSTMState")
    keys = jax.random.split(key, len(found))
    return tree.unflatten([draw(k, state) for k, state in zip(keys, found, strict=True)])


def check_rate(rate):
    """Under jit a rate may be an argument, and cannot be looked at."""
    if not isinstance(rate, Tracer) and not 0 <= rate < 1:
        raise ValueError(f"`rate` must lie in [0, 1); got {rate}")


def recurrent_dropout(cell):
    """The cell, seeing h_{t-1} ⊙ m in every step, with one mask for the whole sequence.

    Only for cells whose first field enters through products with weights, as the LSTM's h does.
    With zoneout, which keeps some of h_{t-1} itself: `zoneout(recurrent_dropout(cell))`.

    Args:
      cell: a `Cell`.

    Returns:
      A `Cell` whose `consts` is the mask (..., H); see `recurrent_dropout_masks`.

    Raises:
      ValueError: by what is made of it, if `consts` is no mask of that shape.

    Source: Gal & Ghahramani (2016), "A theoretically grounded application of dropout in RNNs".
    """

    def dropped(state, mask):
        h, *rest = state
        return type(state)(drop_autodiff(h, mask.astype(h.dtype)), *rest)

    def step(w, mask, prev, z):
        check_mask_of_h(prev[0], mask)
        return cell.step(w, None, dropped(prev, mask), z)

    def linearize(w, mask, prevs, saved):
        return cell.linearize(w, None, dropped(prevs, mask), saved)

    def step_bwd(w, mask, prev, local, dstate):
        dprev, delta = cell.step_bwd(w, None, dropped(prev, mask), local, dstate)
        return dropped(dprev, mask), delta  # dh_prev ⊙ m, by (12')

    def weights_bwd(params, mask, xs, prevs, saved, deltas):
        return cell.weights_bwd(params, None, xs, dropped(prevs, mask), saved, deltas)

    return cell._replace(
        step=step,
        linearize=linearize,
        step_bwd=step_bwd,
        weights_bwd=weights_bwd,
        takes_consts=True,
    )


def zoneout(cell):
    """The cell, where masked units of each field of the state keep their value of step t-1.

    The new h is the cell's own, so for the LSTM it is o ⊙ tanh(c) of the c before zoneout.

    Args:
      cell: a `Cell`.

    Returns:
      A `Cell` whose xs are a pair (xs, masks): masks a tuple with one array (T, ..., H) per field
      of the state, broadcastable to it; see `zoneout_masks`. Their cotangents are zero. In a stack
      they go `beside` the features.

    Source: Krueger et al. (2017), "Zoneout: regularizing RNNs by randomly preserving hidden
    activations".
    """

    def mixed(masks, old, new):
        fields = zip(masks, old, new, strict=True)
        return type(old)(*(keep(m.astype(n.dtype), o, n) for m, o, n in fields))

    def project(w, xs_and_masks):
        xs, masks = xs_and_masks
        return cell.project(w, xs), lax.stop_gradient(masks)

    def step(w, consts, prev, z_and_masks):
        z, masks = z_and_masks
        new, saved = cell.step(w, consts, prev, z)
        return mixed(masks, prev, new), (saved, masks)

    def linearize(w, consts, prevs, saved_and_masks):
        saved, masks = saved_and_masks
        return cell.linearize(w, consts, prevs, saved), masks

    def step_bwd(w, consts, prev, local_and_masks, dstate):
        local, masks = local_and_masks
        both = [keep_bwd(m.astype(d.dtype), d) for m, d in zip(masks, dstate, strict=True)]
        dold, dnew = zip(*both, strict=True)
        dprev, delta = cell.step_bwd(w, consts, prev, local, type(dstate)(*dnew))
        return jax.tree.map(jnp.add, dprev, type(dprev)(*dold)), delta  # (F') at the old state

    def weights_bwd(params, consts, xs_and_masks, prevs, saved_and_masks, deltas):
        xs, masks = xs_and_masks
        dparams, dxs = cell.weights_bwd(params, consts, xs, prevs, saved_and_masks[0], deltas)
        return dparams, (dxs, jax.tree.map(jnp.zeros_like, masks))

    def check(params, state, xs_and_masks, name, leading):
        if not isinstance(xs_and_masks, tuple) or len(xs_and_masks) != 2:
            raise ValueError(
                f"`{name}` of a zoneout cell must be a pair ({name}, masks), see "
                "jax_lstm.zoneout_masks"
            )
        xs, masks = xs_and_masks
        if cell.check is not None:
            cell.check(params, state, xs, name, leading)
        if not isinstance(masks, tuple) or len(masks) != len(state):
            raise ValueError(f"`masks` must be a tuple of {len(state)}: one per field of the state")
        for field, mask, leaf in zip(type(state)._fields, masks, state, strict=True):
            want = (*xs.shape[:leading], *leaf.shape)
            fits = len(want) == mask.ndim and all(
                m in (1, n) for m, n in zip(mask.shape[leading:], want[leading:], strict=True)
            )
            if not fits or mask.shape[:leading] != want[:leading]:
                raise ValueError(
                    f"the mask of `{field}` must be broadcastable to {want}; got {mask.shape}"
                )

    return cell._replace(
        project=project,
        step=step,
        linearize=linearize,
        step_bwd=step_bwd,
        weights_bwd=weights_bwd,
        check=check,
    )


def broadcasts(mask, x):
    """Whether the mask can be broadcast to x, which keeps its shape."""
    padded = (1,) * (x.ndim - mask.ndim) + mask.shape
    return mask.ndim <= x.ndim and all(m in (1, n) for m, n in zip(padded, x.shape, strict=True))


def check_mask_of_h(h, mask):
    if not hasattr(mask, "dtype") or not broadcasts(mask, h):
        got = f"shape {mask.shape}" if hasattr(mask, "dtype") else type(mask).__name__
        raise ValueError(
            f"`consts` of a cell with recurrent dropout must be its mask {h.shape}, see "
            f"jax_lstm.recurrent_dropout_masks; got {got}"
        )


def check_drop(x, mask):
    if x.dtype != mask.dtype or not broadcasts(mask, x):
        raise ValueError(
            f"`mask` must be {x.dtype}, broadcastable to {x.shape}; got {mask.dtype} {mask.shape}"
        )


# Decorated last: `drop` with its twin, `drop_autodiff` as JAX sees it.
drop = with_twin(
    drop_autodiff, lambda args, dy: (drop_bwd(args[1], dy), jnp.zeros_like(args[1])), check_drop
)
