"""The structurally constrained network (SCRN): a slow context s beside an ordinary h.

    s = (1 - α) x B + α s_prev                                                (1), (14)
    a = x A + s P + h_prev R + b                                              (1)
    h = sigmoid(a)                                                            (2)

Parameters: 2 D H + 2 H² + H. s is a leaky mean of the inputs, and its memory is as long as α is
near 1; it goes into s_{t+1} and into h_t. h is handed on; the published readout sees s as well.

`make_scrn(alpha)` gives others. The default is ours.

Source: Mikolov et al. (2015), "Learning longer memory in recurrent neural networks"; s and h as in
the documentation of torchrecurrent's scrn_cell.py, which was read, with α fixed.
"""

import functools
from typing import NamedTuple

import jax

from jax_lstm.cells import packed
from jax_lstm.cells.initial import make_init
from jax_lstm.doors import check_number
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.made import partial
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.stages import (
    bias,
    bias_bwd,
    fork_bwd,
    linear,
    linear_bwd_input,
    linear_bwd_weight,
    sigmoid,
    sigmoid_bwd,
)

__all__ = ["SCRN", "SCRNParams", "SCRNState", "init_scrn", "init_scrn_state", "make_scrn"]
__all__ += ["scrn", "scrn_autodiff", "scrn_cell", "scrn_cell_autodiff"]


class SCRNParams(NamedTuple):
    """A (D, H) and B (D, H) of x, to h and to s; P (H, H) of s, R (H, H) of h, b (H,)."""

    A: jax.Array
    B: jax.Array
    P: jax.Array
    R: jax.Array
    b: jax.Array


class SCRNState(NamedTuple):
    """h (..., H) in the parameters' dtype, s (..., H) in float32 when that has 16 bits."""

    h: jax.Array
    s: jax.Array


def project(w, xs):
    return linear(xs, w.A), linear(xs, w.B)  # (1)


def step(alpha, w, prev, z):
    x_A, x_B = z
    s = (1 - alpha) * x_B + alpha * prev.s  # (14)
    seen = s.astype(w.P.dtype)
    h = sigmoid(bias(x_A + linear(seen, w.P) + linear(prev.h, w.R), w.b))  # (1), (2)
    return SCRNState(h.astype(prev.h.dtype), s), (h, seen)


def step_bwd(alpha, w, prev, saved, dstate):
    h, _ = saved
    da = sigmoid_bwd(h, dstate.h)  # (2')
    ds, _ = fork_bwd(None, (dstate.s, linear_bwd_input(w.P, da)))  # (1'x), (F') at s_t
    return SCRNState(linear_bwd_input(w.R, da), alpha * ds), packed.side_by_side(da, ds)


def weights_bwd(alpha, w, xs, prevs, saved, deltas):
    das, dss = packed.blocks_of(deltas, 2)
    dss = (1 - alpha) * dss  # (14')
    _, db = bias_bwd(None, das)  # (1'b)
    dA, dB = linear_bwd_weight(xs, das), linear_bwd_weight(xs, dss)  # (1'W)
    dP, dR = linear_bwd_weight(saved[1], das), linear_bwd_weight(prevs.h, das)  # (1'W)
    dxs, _ = fork_bwd(None, (linear_bwd_input(w.A, das), linear_bwd_input(w.B, dss)))  # (F') at x
    return SCRNParams(dA, dB, dP, dR, db), dxs


SHAPES = (("A", "D,H"), ("B", "D,H"), ("P", "H,H"), ("R", "H,H"), ("b", "H"))
init_scrn = make_init("scrn", SCRNParams, SHAPES)


def make_scrn(alpha: float = 0.95) -> Cell[SCRNParams, SCRNState]:
    """The record with another share α in [0, 1] of the context that is kept; see `make_rnn`.

    Raises:
      ValueError: an alpha that is no number.
    """
    check_number("alpha", alpha)
    return record(alpha)


@functools.cache
def record(alpha: float) -> Cell[SCRNParams, SCRNState]:
    return Cell(
        name="scrn",
        params=SCRNParams,
        state=SCRNState,
        shapes=SHAPES,
        fields=(("h", "H"), ("s", "wide H")),
        gates=("a", "s"),
        init=init_scrn,
        project=project,
        step=partial(step, alpha),
        step_bwd=partial(step_bwd, alpha),
        weights_bwd=partial(weights_bwd, alpha),
        options=(("alpha", alpha),),
    )


SCRN = make_scrn()
init_scrn_state = make_init_state(SCRN)
scrn_cell, scrn_cell_autodiff, scrn, scrn_autodiff = routes(
    SCRN, "the structurally constrained network"
)
