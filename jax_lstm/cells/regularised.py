"""CELLS MADE OF CELLS: what stands around a step, for any cell. This file knows no gate.

    seen        = enter(mask, prev)                    enter_bwd(mask, dseen) -> dprev
    new, saved  = the cell's step(w, seen, z)
    state       = leave(now, prev, new)                leave_bwd(now, dstate) -> dold, dnew

    recurrent_dropout(cell)   h_{t-1} ⊙ m, one mask per sequence    Gal & Ghahramani 2016
    zoneout(cell)             units keep their old value, a mask per step    Krueger et al. 2017

A mask is an explicit input, so that the hand-written and the automatic route see the same bits, and
a constant: its cotangent is zero. networks/masks.py draws them. The same cell makes the same record
each time, so that JAX compiles it once.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp

from jax_lstm.engine.cell import AnyCell, Cell, Params, State
from jax_lstm.engine.doors import check_record
from jax_lstm.engine.made import make_comparable
from jax_lstm.stages import drop, drop_bwd, keep, keep_bwd

Make = TypeVar("Make", bound=Callable[..., Any])


class Wrapped(NamedTuple):
    """What the loop over steps sees: the inner cell's w, and the mask of the whole sequence."""

    cell: Any
    mask: Any


class Around(NamedTuple):
    """Two stages and their twins, before and after a step; see the top of the file.

    enter may be None: the step sees the state as it is; leave likewise. `mask` are the cell's own
    consts, `now` is what comes beside x at this step. dold may be None: nothing of prev is kept.
    """

    enter: Callable[..., Any] | None = None
    enter_bwd: Callable[..., Any] | None = None
    leave: Callable[..., Any] | None = None
    leave_bwd: Callable[..., Any] | None = None


def surround(cell: AnyCell, around: Around, **changes: Any) -> AnyCell:
    """A cell made of a cell: its step between two stages, its twin between their twins.

    Args:
      cell: a `Cell`.
      around: Around.
      changes: of the record: `name` at least; `consts` where `enter` has a mask; `beside` where
        `leave` has one per step: xs are then a pair (xs, masks).

    Returns:
      A `Cell`. `step_for_jax` is wrapped as `step` is.
    """
    own_consts, beside = changes.get("consts") is not None, bool(changes.get("beside"))
    if (own_consts and cell.consts is not None) or (beside and cell.beside):
        raise ValueError(f"the cell {cell.name} has such masks already")
    enter = around.enter or (lambda mask, prev: prev)

    def prepare(params, consts):
        inner, mask = (None, consts) if own_consts else (consts, None)
        return Wrapped(cell.prepare(params, inner), mask)

    def both(pair):
        return pair if beside else (pair, None)

    def project(w, xs):
        xs, now = both(xs)
        return cell.project(w.cell, xs), now

    def wrap(inner):
        def step(w, prev, z):
            z, now = z
            new, saved = inner(w.cell, enter(w.mask, prev), z)
            state = new if around.leave is None else around.leave(now, prev, new)
            return state, (saved, now)

        return step

    def slopes(w, prevs, saved):
        saved, now = saved
        return cell.slopes(w.cell, enter(w.mask, prevs), saved), now

    def step_bwd(w, prev, slopes, dstate):
        slopes, now = slopes
        dold, dnew = (None, dstate) if around.leave_bwd is None else around.leave_bwd(now, dstate)
        dseen, delta = cell.step_bwd(w.cell, enter(w.mask, prev), slopes, dnew)
        dprev = dseen if around.enter_bwd is None else around.enter_bwd(w.mask, dseen)
        dprev = dprev if dold is None else jax.tree.map(jnp.add, dprev, dold)  # (F') at the old
        return dprev, delta

    def weights_bwd(w, xs, prevs, saved, deltas):
        xs, now = both(xs)
        dparams, dxs = cell.weights_bwd(w.cell, xs, enter(w.mask, prevs), saved[0], deltas)
        return dparams, (dxs, jax.tree.map(jnp.zeros_like, now)) if beside else dxs

    return cell._replace(
        prepare=prepare,
        project=project,
        step=wrap(cell.step),
        slopes=slopes,
        step_bwd=step_bwd,
        weights_bwd=weights_bwd,
        step_for_jax=cell.step_for_jax and wrap(cell.step_for_jax),
        affine=None,
        diagonal=None,
        **changes,
    )


def fields_of(cell: AnyCell) -> tuple[str, ...]:
    return cell.state._fields


def remember(make: Make) -> Make:
    """`functools.cache`, which would lose the types; and what it makes can be pickled. In front of
    it is a door: a cache hashes what it is given."""

    @functools.wraps(make)
    def remembered(cell):
        check_record("cell", cell)
        return kept(cell)

    kept = functools.cache(lambda cell: make_comparable(make, remembered, cell))
    return cast(Make, remembered)


@remember
def recurrent_dropout(cell: Cell[Params, State]) -> Cell[Params, State]:
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

    def enter(mask, prev):
        h, *rest = prev
        return type(prev)(drop(h, mask.astype(h.dtype)), *rest)

    def enter_bwd(mask, dseen):
        dh, *rest = dseen
        return type(dseen)(drop_bwd(mask.astype(dh.dtype), dh)[0], *rest)  # (12')

    h = fields_of(cell)[0]
    name = f"{cell.name} with recurrent dropout"
    return surround(cell, Around(enter, enter_bwd), name=name, consts=h)


@remember
def zoneout(cell: Cell[Params, State]) -> Cell[Params, State]:
    """The cell, where masked units of each field of the state keep their value of step t-1.

    The new h is the cell's own, so for the LSTM it is o ⊙ tanh(c) of the c before zoneout. Of a
    cell that says `kept` only those fields are held: a clock or a normaliser goes on.

    Args:
      cell: a `Cell`.

    Returns:
      A `Cell` whose xs are a pair (xs, masks): masks a tuple with one array (T, ..., H) per field
      that is held, broadcastable to it; see `zoneout_masks`. Their cotangents are zero. In a stack
      they go `beside` the features.

    Source: Krueger et al. (2017), "Zoneout: regularizing RNNs by randomly preserving hidden
    activations".
    """
    held = fields_of(cell) if cell.kept is None else cell.kept

    def leave(now, prev, new):
        masks = dict(zip(held, now, strict=True))
        olds = zip(new._fields, prev, new, strict=True)
        return type(new)(
            *(keep(masks[k].astype(n.dtype), o, n) if k in masks else n for k, o, n in olds)
        )

    def leave_bwd(now, dstate):
        masks, old, new = dict(zip(held, now, strict=True)), [], []
        for k, d in zip(dstate._fields, dstate, strict=True):
            dold, dnew = jnp.zeros_like(d), d
            if k in masks:
                _, dold, dnew = keep_bwd(masks[k].astype(d.dtype), d)  # (11')
            old.append(dold)
            new.append(dnew)
        return type(dstate)(*old), type(dstate)(*new)

    name = f"{cell.name} with zoneout"
    return surround(cell, Around(leave=leave, leave_bwd=leave_bwd), name=name, beside=held)
