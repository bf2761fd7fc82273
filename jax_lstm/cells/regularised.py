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

from jax_lstm.doors import broadcasts
from jax_lstm.stages import drop as drop_autodiff
from jax_lstm.stages import keep, keep_bwd


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


def check_mask_of_h(h, mask):
    if not hasattr(mask, "dtype") or not broadcasts(mask, h):
        got = f"shape {mask.shape}" if hasattr(mask, "dtype") else type(mask).__name__
        raise ValueError(
            f"`consts` of a cell with recurrent dropout must be its mask {h.shape}, see "
            f"jax_lstm.recurrent_dropout_masks; got {got}"
        )
