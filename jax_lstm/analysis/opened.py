"""A sequence and the derivative of each of its steps: what attribution.py and flow.py look into.

The loop back of the engine (engine/bptt.py) adds up what it meets and throws it away. Here it is
opened: the forward is run, every step is linearised at the state that it saw, and a caller goes
back through the steps with whatever cotangents he likes.

    dstate_{t-1}, delta_t = step_back(dstate_t)          linear in dstate_t

`step_back` is the engine's own, around the cell's hand-written `step_bwd`, with masks and resets.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from jax_lstm.cells.elman import ELMAN
from jax_lstm.cells.lstm import LSTM
from jax_lstm.doors import check_function, check_texts, describe, is_array
from jax_lstm.engine import bptt, loops
from jax_lstm.engine.cell import AnyCell, Cell, Params, State
from jax_lstm.engine.doors import check_named
from jax_lstm.engine.functions import RunFunction
from jax_lstm.engine.routes import bind, run_cell
from jax_lstm.engine.segments import Steps, widen, zeros_like
from jax_lstm.engine.shapes import axes_of, size_of, sizes_of
from jax_lstm.notation import Tree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Linearised:
    """A run of a cell over a sequence, linearised. Time is axis 0, (T, ...), of steps and below.

    cell, gates, reverse: what ran, the names of its delta's blocks, and in which direction.
    params, w, state: what it started from; see `Cell` for w.
    states: after each step.
    steps: xs, zero where masked; mask and resets, or None.
    seen: the state before each step, after a reset. saved, slopes: see `Cell`.
    factors: for each field of the state after h, how h_t moves with it: dh/dc, (T, ..., H).
    """

    cell: AnyCell = field(metadata={"static": True})
    gates: tuple[str, ...] = field(metadata={"static": True})
    reverse: bool = field(metadata={"static": True})
    params: Tree
    w: Tree
    state: Tree
    states: Tree
    steps: Steps
    seen: Tree
    saved: Tree
    slopes: Tree
    factors: Tree


def make_linearised(
    cell: Cell[Params, State],
    gates: Sequence[str] | None = None,
    follows: Callable[[Tree], tuple[Tree, ...]] | None = None,
    name: str = "linearised",
) -> RunFunction[Params, State, Linearised]:
    """A function that runs a cell over a sequence and keeps the derivative of each step.

    Args:
      cell: a `Cell` (see jax_lstm/engine/cell.py) whose state has fields (..., H).
      gates: names of the blocks, side by side, of its delta (of the first array, if it has more).
        None: the cell's own, where all of the delta has these blocks; else "a", all together.
      follows: `follows(slopes) -> factors`, a tuple: for each field of the state after h, by how
        much h_t moves with it within step t, (..., H); `slopes` is what the cell made. None: that
        of FOLLOWS; without one, derivatives by such a field are taken with h_t held.
      name: of the function.

    Returns:
      linearised: `(params, state, xs, **options) -> Linearised`, options as of `jax_lstm.lstm`;
      `residuals` and `unroll` are ignored. For `attribute`, `gradient_norms`, `jacobians`,
      `jacobian_norms`.

    Source: the engine's own loop, jax_lstm/engine/bptt.py.
    """
    check_named(cell, name=name)
    if gates is not None:
        check_texts("gates", gates, "None or the names of the delta's blocks, a tuple of texts")
    if follows is not None:
        check_function("follows", follows, 1)
    gates = gates and tuple(gates)
    made = (make_linearised, (cell, gates, follows, name), None)
    follows = follows or FOLLOWS.get(cell.name, lambda slopes: ())
    route = functools.partial(linearise, gates, follows)
    return bind(run_cell, (cell, route), name, TITLE, made)


TITLE = """A whole sequence, and the derivative of each of its steps: a Linearised.

    dstate_{t-1}, delta_t = step_bwd(dstate_t)      at the state that step t saw

It keeps for every step what the backward of `residuals="full"` keeps, the state it saw, and the
local derivatives: (T, ..., 15 H) numbers for the LSTM. It has no gradient rule of its own."""


def linearise(gates, follows, plan, params, consts, fresh, state, steps):
    """A route of the engine: the run, opened, as the readers of this folder want it."""
    _, states, w, opened = bptt.open_run(plan, params, consts, fresh, state, steps)
    gates = gates or gates_of(plan.cell, params, w, opened)
    begin = (plan.cell, gates, plan.reverse, params, w, state, states)
    return Linearised(*begin, *opened, follows(opened.slopes))


def gates_of(cell, params, w, opened):
    """The cell's gates, if every array of its delta is these blocks side by side: as wide as the
    weights whose last axis is so many of one letter, "4H"."""
    at = lambda tree: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), tree)
    seen, slopes = at(opened.seen), at(opened.slopes)
    dstate = jax.eval_shape(widen, seen)
    _, delta = jax.eval_shape(cell.step_bwd, w, seen, slopes, dstate)
    widths = {leaf.shape[-1] for leaf in jax.tree.leaves(delta)}
    n, sizes = len(cell.gates), sizes_of(cell.shapes, params._asdict())
    ends = [axes[-1] for _, text in cell.shapes if (axes := list(axes_of(text)))]
    blocks = {size_of(end, sizes) for end in ends if end.isalnum() and end.startswith(str(n))}
    return cell.gates if len(widths) == 1 and (n == 1 or widths <= blocks) else ("a",)


# Back through a step --------------------------------------------------------------------------


def every_step(run):
    """What `step_back` and `node` want of each step, for `lax.scan`."""
    return loops.every_step(run), run.factors


def step_back(run, now, dstate):
    """dstate_t -> dstate_{t-1}, delta_t, linear in dstate_t. A masked step hands on what it got,
    and nothing goes back beyond a reset."""
    return loops.step_back(run.cell, run.w, now[0], dstate)[:2]


def node(now, dstate):
    """dL/dh_t and dL/dc_t, of the cotangent of a state: c_t is a fork, and h_t its other branch.

    dh_t = dh        dc_t = dc + dh ⊙ ∂h_t/∂c_t                           (F'), (4')
    """
    factors = now[1]
    h, *rest = dstate
    factors = (*factors, *(None for _ in rest[len(factors) :]))
    rest = [d if by is None else d + h * by for d, by in zip(rest, factors, strict=True)]
    return type(dstate)(h, *rest)


def check_run(run):
    """What the readers of this folder read."""
    if not isinstance(run, Linearised):
        kind = describe(run) if is_array(run) else type(run).__name__
        raise ValueError(
            "`run` must be a Linearised, say of linearised_lstm(params, state, xs); got " + kind
        )


def check_cotangents(run, dhs, dstate):
    """The door for what the loss says of hs and of the last state; zeros if not given."""
    check_run(run)
    h = run.states[0]
    if not is_array(dhs) or dhs.shape != h.shape or dhs.dtype != h.dtype:
        given = describe(dhs) if hasattr(dhs, "dtype") else type(dhs).__name__
        raise ValueError(f"`dhs` must be (T, ..., H) = {h.shape} and {h.dtype}; got {given}")
    if dstate is None:
        return zeros_like(run.state)
    kind = lambda tree: [describe(x) for x in jax.tree.leaves(tree)]
    if type(dstate) is not type(run.state) or kind(dstate) != kind(run.state):
        raise ValueError(
            f"`dstate` must be like `state`, {type(run.state).__name__} of "
            f"{kind(run.state)}; got {type(dstate).__name__} of {kind(dstate)}"
        )
    return dstate


def length(x):
    """‖x‖ over the last axis. Scaled: in float32 the square of 1e-23 is zero."""
    top = jnp.abs(x).max(-1, initial=0)
    return top * jnp.sqrt(jnp.square(x / nonzero(top)[..., None]).sum(-1))


def nonzero(x):
    return jnp.where(x > 0, x, jnp.ones_like(x))


def factor_of_dh(slopes):
    """o ⊙ (1 - tanh²(c)): the second of what the LSTM's `slopes` makes."""
    return (slopes[1],)


FOLLOWS = {"lstm": factor_of_dh}  # by the cell's name, see `make_linearised`
linearised_lstm = make_linearised(LSTM, name="linearised_lstm")
linearised_elman = make_linearised(ELMAN, name="linearised_elman")
