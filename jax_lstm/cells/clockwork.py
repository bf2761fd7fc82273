"""The clockwork network: modules of one simple network, each with a period of its own.

    a = x W + h_prev (U ⊙ M) + b                                              (1)
    n = tanh(a)                                                               (2)
    h = n where t mod P = 0, else h_prev                                      (11)

Parameters: D H + H² + H, of which U ⊙ M reads about half of U. Unit k of H belongs to module
⌊k G / H⌋ of G, and P is its module's period. M is 1 where a unit is read by one whose period is not
longer than its own: the slow tell the fast. t counts the steps of a sequence from 0 in a field of
the state, through which no gradient comes to h; a reset sets it to that of the state it leads to.

`make_clockwork(periods)` gives others.

Source: Koutník et al. (2014), "A clockwork RNN"; the rule of activity and the direction of the
connections as in the README of pranv/clockwork_rnn, which was read.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm.cells import packed
from jax_lstm.cells.initial import make_init
from jax_lstm.doors import refuse
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.made import partial
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.stages import keep, keep_bwd, linear_bwd_weight, tanh, tanh_bwd

__all__ = ["CLOCKWORK", "ClockworkParams", "ClockworkState", "make_clockwork"]
__all__ += ["clockwork", "clockwork_autodiff", "clockwork_cell", "clockwork_cell_autodiff"]
__all__ += ["init_clockwork", "init_clockwork_state"]


class ClockworkParams(NamedTuple):
    """W (D, H), U (H, H), b (H,)."""

    W: jax.Array
    U: jax.Array
    b: jax.Array


class ClockworkState(NamedTuple):
    """h (..., H) in the parameters' dtype; t (..., 1), steps so far, in float32 or wider."""

    h: jax.Array
    t: jax.Array


def of_units(periods, H):
    """The period of each unit, (H,)."""
    return np.asarray(periods)[np.arange(H) * len(periods) // H]


def connected(periods, U):
    """M (H, H): row k reads into column j where k's period is not shorter."""
    of = of_units(periods, U.shape[0])
    return jnp.asarray(of[:, None] >= of[None], U.dtype)


def prepare(periods, params, consts=None):
    return params._replace(U=params.U * connected(periods, params.U))


def rests(periods, t, n):
    """1 where a unit keeps its h in this step, else 0, in shape and dtype of n (..., H)."""
    H = n.shape[-1]
    period = jnp.asarray(of_units(periods, H), t.dtype)
    asleep = jnp.real(t) % period.reshape((1,) * (t.ndim - 1) + (H,)) != 0
    return asleep.astype(n.dtype)


def choose(mask, old, new):
    """`keep` for JAX to differentiate: of a product its autodiff would keep every factor."""
    return jnp.where(mask == 1, old, new)


def step(periods, w, prev, x_W, keep=keep):
    n = tanh(packed.net_input(w, prev.h, x_W))  # (1), (2)
    h = keep(rests(periods, prev.t, n), prev.h.astype(n.dtype), n)  # (11)
    return ClockworkState(h.astype(prev.h.dtype), prev.t + 1), n


def slopes(periods, w, prevs, n):
    _, kept, dn = keep_bwd(rests(periods, prevs.t, n), jnp.ones_like(n))  # (11')
    return tanh_bwd(n, dn), kept  # (2')


def step_bwd(w, prev, slopes, dstate):
    before, da = packed.step_bwd(w, prev, slopes, dstate)
    return ClockworkState(before.h, dstate.t), da  # t decides, and nothing grows with it


def weights_bwd(periods, w, xs, prevs, saved, das):
    dW, db, dxs = packed.input_bwd(w, xs, das)
    dU = linear_bwd_weight(prevs.h, das)  # (1'W)
    return ClockworkParams(dW, dU * connected(periods, dU), db), dxs


SHAPES = (("W", "D,H"), ("U", "H,H"), ("b", "H"))
init_clockwork = make_init("clockwork", ClockworkParams, SHAPES)


def make_clockwork(
    periods: Sequence[int] = (1, 2, 4, 8),
) -> Cell[ClockworkParams, ClockworkState]:
    """The record with periods of one's own, one per module; see `make_rnn`.

    Args:
      periods: whole numbers >= 1. The published ones are powers of two.

    Raises:
      ValueError: no periods, or what is no whole number >= 1 among them.
    """
    want = "whole numbers >= 1, one per module"
    if not isinstance(periods, list | tuple) or not periods:
        refuse("periods", want, periods)
    for period in periods:
        if isinstance(period, bool) or not isinstance(period, int) or period < 1:
            refuse("periods", want, periods)
    return record(tuple(periods))


@functools.cache
def record(periods: tuple[int, ...]) -> Cell[ClockworkParams, ClockworkState]:
    return Cell(
        name="clockwork",
        params=ClockworkParams,
        state=ClockworkState,
        shapes=SHAPES,
        fields=(("h", "H"), ("t", "wide 1")),
        gates=("a",),
        init=init_clockwork,
        prepare=partial(prepare, periods),
        project=packed.project,
        step=partial(step, periods),
        step_for_jax=partial(step, periods, keep=choose),
        slopes=partial(slopes, periods),
        step_bwd=step_bwd,
        weights_bwd=partial(weights_bwd, periods),
        kept=("h",),
        options=(("periods", periods),),
    )


CLOCKWORK = make_clockwork()
init_clockwork_state = make_init_state(CLOCKWORK)
clockwork_cell, clockwork_cell_autodiff, clockwork, clockwork_autodiff = routes(
    CLOCKWORK, "the clockwork network"
)
