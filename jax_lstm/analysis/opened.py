"""A sequence and the derivative of each of its steps: what attribution.py and flow.py look into.

The loop back of the engine (bptt.py) adds up what it meets and throws it away. Here it is opened:
the forward is run, every step is linearised at the state that it saw, and a caller goes back
through the steps with whatever cotangents he likes.

    dstate_{t-1}, delta_t = step_back(dstate_t)          linear in dstate_t

`step_back` is the cell's own `step_bwd`, the hand-written rule, with the engine's masks and resets.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from jax_lstm.cells.elman import ELMAN
from jax_lstm.cells.lstm import LSTM
from jax_lstm.engine import bptt, segments
from jax_lstm.engine import routes as make
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.segments import cleared, where, zeros_like
from jax_lstm.notation import GATES


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Linearised:
    """A run of a cell over a sequence, linearised. Time is axis 0, (T, ...), of steps and below.

    cell, gates, reverse: what ran, the names of its delta's blocks, and in which direction.
    params, w, consts, state: what it started from; see `Cell` for w.
    steps: xs, cleared where masked; mask and resets, or None.
    states: after each step. seen: before it, after a reset. saved, local: see `Cell`.
    factors: for each field of the state after h, how h_t moves with it: dh/dc, (T, ..., H).
    """

    cell: Cell = field(metadata={"static": True})
    gates: tuple[str, ...] = field(metadata={"static": True})
    reverse: bool = field(metadata={"static": True})
    params: Any
    w: Any
    consts: Any
    state: Any
    steps: segments.Steps
    states: Any
    seen: Any
    saved: Any
    local: Any
    factors: Any


def make_linearised(cell, gates=("a",), follows=None, name="linearised"):
    """A function that runs a cell over a sequence and keeps the derivative of each step.

    Args:
      cell: a `Cell` (see jax_lstm/engine/bptt.py) whose state has fields (..., H).
      gates: names of the blocks, side by side, of its delta (of the first array, if it has more).
      follows: `follows(local) -> factors`, a tuple: for each field of the state after h, by how
        much h_t moves with it within step t, (..., H); `local` is what the cell's `linearize` made.
        Without it derivatives by such a field are taken with h_t held.
      name: of the function.

    Returns:
      linearised: `(params, state, xs, **options) -> Linearised`, see `linearised_lstm`.
    """
    title = "A whole sequence, and the derivative of each of its steps."
    record = (cell, tuple(gates), follows or (lambda local: ()))
    return make.bind(_linearised, record, name, title)


def _linearised(
    cell: Cell,
    gates: tuple[str, ...],
    follows: Callable[..., Any],
    params,
    state,
    xs,
    *,
    consts=None,
    lengths=None,
    mask=None,
    resets=None,
    reset_state=None,
    reverse=False,
):
    """
        dstate_{t-1}, delta_t = step_bwd(dstate_t)      at the state that step t saw

    Args:
      params, state, xs: as for `jax_lstm.lstm`, and so are the options.

    Returns:
      Linearised: for `attribute`, `gradient_norms`, `jacobians`, `jacobian_norms`. It keeps for
      every step what the backward of `residuals="full"` keeps, the state it saw, and the local
      derivatives: (T, ..., 15 H) numbers for the LSTM.

    Raises:
      ValueError: as `jax_lstm.lstm`.

    Source: the engine's own loop, jax_lstm/engine/bptt.py.
    """

    def route(plan, params, consts, fresh, state, steps):
        w = cell.prepare(params)
        _, (states, saved), _ = bptt.run(plan, w, consts, fresh, bptt.all_of, state, steps)
        seen = segments.shifted(state, states, reverse)
        if steps.resets is not None:
            seen = where(steps.resets, jax.tree.map(lambda x: x[None], fresh), seen)
        seen, saved, xs = cleared(steps.mask, (seen, saved, steps.xs))
        local = cell.linearize(w, consts, seen, saved)
        begin = (cell, gates, reverse, params, w, consts, state, steps._replace(xs=xs))
        return Linearised(*begin, states, seen, saved, local, follows(local))

    return make._rnn(
        cell,
        route,
        params,
        state,
        xs,
        consts=consts,
        lengths=lengths,
        mask=mask,
        resets=resets,
        reset_state=reset_state,
        reverse=reverse,
    )


# Back through a step --------------------------------------------------------------------------


def every_step(linear):
    """What `step_back` and `node` want of each step, for `lax.scan`."""
    return linear.seen, linear.local, linear.factors, linear.steps.mask, linear.steps.resets


def step_back(linear, now, dstate):
    """dstate_t -> dstate_{t-1}, delta_t, linear in dstate_t. A masked step hands on what it got,
    and nothing goes back beyond a reset."""
    seen, local, _, mask, reset = now
    dseen, delta = linear.cell.step_bwd(linear.w, linear.consts, seen, local, dstate)
    dseen, delta = where(mask, dseen, dstate), cleared(mask, delta)
    return (dseen if reset is None else cleared(~reset, dseen)), delta


def node(now, dstate):
    """dL/dh_t and dL/dc_t, of the cotangent of a state: c_t is a fork, and h_t its other branch.

    dh_t = dh        dc_t = dc + dh ⊙ ∂h_t/∂c_t                           (F'), (4')
    """
    factors = now[2]
    h, *rest = dstate
    factors = (*factors, *(None for _ in rest[len(factors) :]))
    rest = [d if by is None else d + h * by for d, by in zip(rest, factors, strict=True)]
    return type(dstate)(h, *rest)


def check_cotangents(linear, dhs, dstate):
    """The door for what the loss says of hs and of the last state; zeros if not given."""
    h = linear.states[0]
    if not hasattr(dhs, "dtype") or dhs.shape != h.shape or dhs.dtype != h.dtype:
        got = f"{dhs.dtype} {dhs.shape}" if hasattr(dhs, "dtype") else type(dhs).__name__
        raise ValueError(f"`dhs` must be (T, ..., H) = {h.shape} and {h.dtype}; got {got}")
    if dstate is None:
        return zeros_like(linear.state)
    kind = lambda tree: [f"{jnp.result_type(x)} {jnp.shape(x)}" for x in jax.tree.leaves(tree)]
    if type(dstate) is not type(linear.state) or kind(dstate) != kind(linear.state):
        raise ValueError(
            f"`dstate` must be like `state`, {type(linear.state).__name__} of "
            f"{kind(linear.state)}; got {type(dstate).__name__} of {kind(dstate)}"
        )
    return dstate


def length(x):
    """‖x‖ over the last axis. Scaled: in float32 the square of 1e-23 is zero."""
    top = jnp.abs(x).max(-1, initial=0)
    return top * jnp.sqrt(jnp.square(x / nonzero(top)[..., None]).sum(-1))


def nonzero(x):
    return jnp.where(x > 0, x, jnp.ones_like(x))


def factor_of_dh(local):
    """o ⊙ (1 - tanh²(c)): the second of what the LSTM's `linearize` makes."""
    return (local[1],)


linearised_lstm = make_linearised(LSTM, GATES, factor_of_dh, "linearised_lstm")
linearised_elman = make_linearised(ELMAN, name="linearised_elman")
