"""ONLINE: the exact gradient of a stream that never ends, for cells whose units see their own past
alone. Real-time recurrent learning. This file knows no gate.

Of such a cell the derivative of a unit's state by the parameters is small: only the unit's own
columns of W, u, b count. So it is kept, the influence S, one number per parameter, example and
field of the state through which a step sees the past (`diagonal` of the record):

    S_t = J_t ⊙ S_{t-1} + ∂state_t/∂params at fixed state_{t-1}          a factor per unit, J_t
    dparams_t = dstate_{t-1} ⊙ S_{t-1} + the parameters' share of step t

J_t and the share of step t are `step_bwd` and `weights_bwd` for a cotangent of ones: each unit has
columns of its own, so one pass gives the rows of all units at once. A chunk of T steps is as good
as one: the first line is then a pass back over the chunk, and the products are those of a segment.
With chunks of one step it is the recursion as published. Memory is that of S and of one chunk.

Sources: Williams & Zipser (1989), "A learning algorithm for continually running fully recurrent
neural networks"; Irie, Gopalakrishnan & Schmidhuber (2024), "Exploring the promise and limits of
real-time recurrent learning", for the element-wise LSTM.
"""

import re
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jax_lstm.doors import check_array, forward_mode_of_the_twin, refuse
from jax_lstm.engine.bptt import open_run
from jax_lstm.engine.cell import AnyCell
from jax_lstm.engine.doors import (
    check_cell,
    check_fields,
    check_params,
    check_record,
    check_reset_state,
    check_resets,
    check_steps,
)
from jax_lstm.engine.loops import every_step, loop_back
from jax_lstm.engine.made import Made
from jax_lstm.engine.programs import in_one_program
from jax_lstm.engine.segments import Plan, Steps, cast_like, clear_masked, widen, zeros_like
from jax_lstm.engine.shapes import axes_of, sizes_of
from jax_lstm.notation import ArrayOrList, Tree, wide
from jax_lstm.rules import with_rule
from jax_lstm.sharding import vary_together


class Online(NamedTuple):
    """What an online stream carries, of constant size. Constants to a gradient.

    state: the state after all steps so far.
    influence: {field: {name: (..., *shape of the parameter)}}, its derivative, example by example;
      wide. Of parameters that cells of other units share there is none: they have no past.
    """

    state: Any
    influence: dict[str, dict[str, jax.Array]]


class BeginOnline(Protocol):
    """A stream before its first step, see `make_online`."""

    def __call__(self, params: Tree, state: Tree) -> Online: ...


class AdvanceOnline(Protocol):
    """A chunk of a stream, see `make_online`."""

    def __call__(
        self,
        params: Tree,
        online: Online,
        xs: jax.Array,
        *,
        mask: ArrayOrList | None = None,
        resets: ArrayOrList | None = None,
        reset_state: Tree = None,
    ) -> tuple[Online, jax.Array]: ...


class OnlineStream(NamedTuple):
    """begin(params, state) -> online, and advance(params, online, xs) -> (online, hs)."""

    begin: BeginOnline
    advance: AdvanceOnline


def make_online(cell: AnyCell) -> OnlineStream:
    """A stream whose every gradient is exact, through all of its past, in constant memory.

    A step of training is a gradient of a loss of one chunk's outputs, say of one step's:

        begin, advance = jl.make_online(jl.IND_RNN)
        online = begin(params, state)
        def loss(params, online, xs, ys):
            online, hs = advance(params, online, xs)
            return ((hs - ys) ** 2).sum(), online
        dparams, online = jax.grad(loss, has_aux=True)(params, online, xs, ys)

    The sum of dparams over all chunks is the gradient of the sum of their losses by
    backpropagation through all of time. Where params change on the way, it is as published: the
    influence is that of the parameters that were.

    Args:
      cell: a `Cell` whose record says `diagonal`: `IND_RNN`, `INDY_LSTM`, `ELEMENTWISE_LSTM`,
        `MIN_GRU`, `MIN_LSTM`, or one of your own.

    Returns:
      begin: `begin(params, state) -> Online`, before the first step. The state is a constant.
      advance: `advance(params, online, xs, *, mask=None, resets=None, reset_state=None) -> (Online,
        hs)`, xs (T, ..., D) of any T >= 0, the options as of `jax_lstm.lstm`. Cotangents are
        accepted for hs, and returned for params, through all of the past, and for xs, through
        this chunk. The online state and reset_state are constants: so a second derivative by params
        is that of this chunk alone, and is no Hessian of the stream.

    Raises:
      ValueError: a cell whose units see each other; by what is made, as `jax_lstm.lstm`.

    Source: Williams & Zipser (1989), real-time recurrent learning.
    """
    check_record("cell", cell)
    if not cell.diagonal or not cell.shapes or cell.prepare_bwd or cell.consts or cell.beside:
        refuse("cell", "a Cell whose units see their own past alone, `diagonal`", cell.name)

    def begin(params, state):
        check_fields("params", params, cell.params)
        check_fields("state", state, cell.state)
        check_params(cell, params)
        batch = jnp.shape(state[0])[:-1]
        D = sizes_of(cell.shapes, params._asdict())["D"]
        check_cell(cell, params, state, jnp.zeros((*batch, D), params[0].dtype), "x", 0)
        return Online(state, no_influence(cell, params, batch))

    def advance(params, online, xs, *, mask=None, resets=None, reset_state=None):
        check_online(cell, params, online, xs)
        T, *batch = xs.shape[:-1]
        mask, resets = check_steps("mask", mask, T, batch), check_resets(resets, (T,), batch)
        check_reset_state(reset_state, online.state, resets)
        if reset_state is None and resets is not None:
            reset_state = zeros_like(online.state)
        args = vary_together((params, reset_state, online, Steps(xs, mask, resets)))
        with forward_mode_of_the_twin("advance"):
            return in_one_program(by_hand, (Plan(cell, False, "full", 1),), *args)

    made = (make_online, (cell,), ())
    return OnlineStream(Made(begin, *made, part=0), Made(advance, *made, part=1))


def check_online(cell, params, online, xs):
    """The carry of a stream, and a chunk."""
    if not isinstance(online, Online):
        refuse("online", "an Online, see `begin`", online)
    check_cell(cell, params, online.state, xs, "xs", 1)
    want = jax.eval_shape(lambda: no_influence(cell, params, xs.shape[1:-1]))
    given: Any = online.influence
    for field, arrays in want.items():
        for name, x in arrays.items():
            got: Any = given.get(field, {}).get(name) if isinstance(given, dict) else None
            check_array(f"online.influence[{field!r}][{name!r}]", got)
            if (got.shape, got.dtype) != (x.shape, x.dtype):
                refuse(f"online.influence[{field!r}][{name!r}]", f"{x.dtype} {x.shape}", got)


# Influence --------------------------------------------------------------------------------------


def owned(cell):
    """{name: blocks} of the parameters whose last axis alone counts units: each unit has its own
    columns, in so many blocks."""
    found = {}
    for name, text in cell.shapes:
        axes = axes_of(text)
        match = re.fullmatch(r"(\d*)H", axes[-1]) if axes else None
        if match and not any("H" in axis for axis in axes[:-1]):
            found[name] = int(match[1] or 1)
    return found


def no_influence(cell, params, batch):
    def zeros(x):
        return jnp.zeros((*batch, *x.shape), wide(x.dtype))

    return {k: {name: zeros(getattr(params, name)) for name in owned(cell)} for k in cell.diagonal}


def per_column(factor, blocks, like):
    """A factor (..., H) of each unit at all of its columns, broadcastable to (..., n, mH)."""
    tiled = jnp.concatenate([factor] * blocks, axis=-1)
    inner = like.ndim - factor.ndim
    return tiled.reshape((*tiled.shape[:-1], *(1,) * inner, tiled.shape[-1]))


def of_the_past(cell, dstate, influence):
    """{name: (..., *shape)}: what a cotangent of the state says of the parameters, per example."""

    def share(k, name, blocks):
        past = influence[k][name]
        return per_column(getattr(dstate, k), blocks, past) * past

    return {
        name: fork_of_fields([share(k, name, blocks) for k in cell.diagonal])
        for name, blocks in owned(cell).items()
    }


def fork_of_fields(shares):
    """A parameter goes into every field of the past; what each says is added."""
    first, *rest = shares
    return sum(rest, start=first)


def per_example(cell, w, opened, deltas):
    """{name: (..., *shape)}: the weight products of a chunk, for each example."""

    def one(xs, seen, saved, deltas):
        dw, _ = cell.weights_bwd(w, xs, seen, saved, deltas)
        return {name: getattr(dw, name) for name in owned(cell)}

    each = one
    for _ in range(opened.steps.xs.ndim - 2):
        each = jax.vmap(each, 1, 0)
    return each(opened.steps.xs, opened.seen, opened.saved, deltas)


def back_over(plan, w, opened, dstate, dhs=None):
    """dstate before a chunk, and the deltas of its steps. What goes to reset_state, a constant, is
    of no use."""
    dfresh = None if opened.steps.resets is None else widen(zeros_like(dstate))
    (dfirst, _), deltas = loop_back(plan, w, (every_step(opened), dhs), (dstate, dfresh))
    return dfirst, deltas


def influence_after(plan, w, opened, online):
    """S after a chunk: a pass back for each field that a step sees, with a cotangent of ones."""
    cell, found = plan.cell, {}
    for k in cell.diagonal:
        none = widen(zeros_like(online.state))
        ones = none._replace(**{k: jnp.ones_like(getattr(none, k))})
        dfirst, deltas = back_over(plan, w, opened, ones)
        past = of_the_past(cell, dfirst, online.influence)
        now = per_example(cell, w, opened, deltas)
        found[k] = {name: past[name] + now[name].astype(past[name].dtype) for name in past}
    return found


# The rule ---------------------------------------------------------------------------------------


def forward(plan, params, fresh, online, steps):
    last, states, w, opened = open_run(plan, params, None, fresh, online.state, steps)
    after = Online(last, influence_after(plan, w, opened, online))
    hs = clear_masked(steps.mask, states[0])
    return (after, hs), (params, w, opened, online)


def backward(plan, residual, dy):
    """The chunk in reverse, and beyond its first state the influence."""
    (params, w, opened, online), (_, dhs), cell = residual, dy, plan.cell
    none, dhs = widen(zeros_like(online.state)), clear_masked(opened.steps.mask, dhs)
    dfirst, deltas = back_over(plan, w, opened, none, dhs)
    dparams, dxs = cell.weights_bwd(w, opened.steps.xs, opened.seen, opened.saved, deltas)
    past = of_the_past(cell, dfirst, online.influence)
    examples = range(none[0].ndim - 1)
    sums = {name: getattr(dparams, name) + x.sum(tuple(examples)) for name, x in past.items()}
    dparams = cast_like(dparams._replace(**sums), params)
    xs = opened.steps.xs
    return dparams, None, None, Steps(cast_like(dxs, xs), None, None)


def sequence(plan, params, fresh, online, steps):
    return forward(plan, params, fresh, online, steps)[0]


by_hand = with_rule(sequence, forward, backward, static=(0,))
