"""FORWARD MODE: the tangent of a run, in one loop with the run, for every cell. No gate is known.

ẋ is the derivative of x along a direction that the caller chose, and x_dot in the code.

    state_t, saved_t = step(state_{t-1}, z_t)                               t = 1 ... T
    slopes_t         = slopes(state_{t-1}, saved_t)
    δ̇_t              = weights_jvp(params_dot, x_dot_t)
    state_dot_t      = step_jvp(state_dot_{t-1}, δ̇_t)

A derivative that goes forward asks for nothing that has been: no step keeps anything but its
outputs, and `residuals` has no meaning here.

A cell may bring both functions. Where it does not, each is the transpose of its twin: `step_bwd`
and `weights_bwd` are linear in the cotangent, hand-written products with local derivatives, and the
same products read from the other side are the tangent (Jᵀ and J). Nothing is differentiated.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jax_lstm.doors import check_text, refuse
from jax_lstm.engine.cell import Cell, Params, State
from jax_lstm.engine.doors import check_record
from jax_lstm.engine.functions import Residuals, TangentFunction, Unroll
from jax_lstm.engine.made import Made
from jax_lstm.engine.programs import in_one_program
from jax_lstm.engine.routes import prepare_run
from jax_lstm.engine.segments import cast_like, clear_masked, where, widen, zeros_like
from jax_lstm.engine.tangents import deltas_of, direction_of_weights, step_jvp, weights_jvp
from jax_lstm.sharding import over_auto_axes, vary_together


def make_jvp(cell: Cell[Params, State], name: str = "rnn_jvp") -> TangentFunction[Params, State]:
    """Forward mode for a cell: a sequence and its derivative along a direction, hand-written.

    Args:
      cell: a `Cell`.
      name: of the function.

    Returns:
      `rnn_jvp(params, state, xs, tangents, **options) -> ((state, hs), (state_dot, hs_dot))`, with
      the options of `jax_lstm.lstm`. `tangents` is (params_dot, state_dot, xs_dot), or those and
      reset_state_dot; each like what it is the direction of, or None for zeros. What comes out is
      the same as of `jax.jvp` over the `..._autodiff` twin.

    Raises:
      ValueError: as `jax_lstm.lstm`, and for tangents unlike what they belong to.

    Source: Wengert (1964); Pearlmutter (1994) for the directional derivative of a network.
    """
    check_record("cell", cell)
    check_text("name", name)

    def run(
        params: Any,
        state: Any,
        xs: Any,
        tangents: tuple[Any, ...],
        *,
        consts: Any = None,
        lengths: Any = None,
        mask: Any = None,
        resets: Any = None,
        reset_state: Any = None,
        reverse: bool = False,
        residuals: Residuals = "full",
        unroll: Unroll = 1,
    ) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        flags = (lengths, mask, resets, reset_state)
        given = (params, state, xs, consts, *flags, reverse, residuals, unroll)
        plan, arrays, dots = prepare_tangents(tangents, cell, *given)
        return in_one_program(run_forward_mode, (plan,), arrays, dots)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = ABOUT.format(cell.name)
    return Made(run, make_jvp, (cell, name))


ABOUT = """{}, over a sequence, and its derivative along a direction: forward mode by hand.

    state_dot_t = ∂state_t/∂state_{{t-1}} state_dot_{{t-1}} + ∂state_t/∂x_t x_dot_t + ...

Run and tangent go forward in one loop, and no step keeps anything but its outputs: for few
directions and many outputs, or for a sequence too long to go back through.

Args:
  params, state, xs: of the cell; xs (T, ..., D).
  tangents: (params_dot, state_dot, xs_dot), or those and reset_state_dot: the direction, each like
    what it is the direction of, in shape and dtype, or None for zeros.
  consts, lengths, mask, resets, reset_state, reverse, unroll: see `jax_lstm.lstm`; constants, but
    for reset_state.
  residuals: what a backward would keep; without meaning here.

Returns:
  (state, hs): as the cell's own function.
  (state_dot, hs_dot): their tangents, of the same shapes and dtypes.

Raises:
  ValueError: as `jax_lstm.lstm`; tangents unlike what they belong to.

Source: Wengert (1964); jax_lstm/engine/forward_mode.py.
"""


def prepare_tangents(tangents, cell, *given):
    """Through the doors, `given` as `prepare_run` takes it: the plan, the arrays, and a direction
    of each that has one."""
    plan, arrays = prepare_run(cell, *given)
    params, _, fresh, state, steps = arrays
    dots = check_tangents(tangents, params, fresh, state, steps.xs)
    return plan, *vary_together((arrays, dots))


def check_tangents(tangents, params, fresh, state, xs):
    """Directions of (params, fresh, state, xs), zeros where there is none."""
    if type(tangents) is not tuple or len(tangents) not in (3, 4):
        refuse("tangents", "(params_dot, state_dot, xs_dot) or also reset_state_dot", tangents)
    if len(tangents) == 4 and fresh is None:
        raise ValueError("`tangents[3]` is the direction of `reset_state`; no `resets` are given")
    params_dot, state_dot, xs_dot, *rest = tangents
    given = (params_dot, rest[0] if rest else None, state_dot, xs_dot)
    names = ("tangents[0]", "tangents[3]", "tangents[1]", "tangents[2]")
    likes = ("params", "reset_state", "state", "xs")
    found = []
    for name, like, dot, x in zip(names, likes, given, (params, fresh, state, xs), strict=True):
        if dot is not None and not like_each_other(dot, x):
            raise ValueError(f"`{name}` must be like `{like}`, {kinds_of(x)}; got {kinds_of(dot)}")
        found.append(None if x is None else zeros_like(x) if dot is None else dot)
    return tuple(found)


def like_each_other(dot, x):
    """Also in type: a plain tuple equals a NamedTuple, and has no field that a cell asks for."""
    return jax.tree.structure(dot) == jax.tree.structure(x) and kinds_of(dot) == kinds_of(x)


def kinds_of(tree):
    """Shapes and dtypes, to be compared and printed."""
    return jax.tree.map(lambda x: (jnp.shape(x), str(getattr(x, "dtype", type(x).__name__))), tree)


def run_forward_mode(plan, arrays, dots):
    """On a mesh of any kind of axes."""
    state, steps = arrays[-2:]

    def outputs(state_at, hs_at):
        return ((state_at(state), hs_at),) * 2

    run = over_auto_axes(functools.partial(forward_mode, plan), state, steps, outputs)
    return run(*arrays, dots)


def forward_mode(plan, params, consts, fresh, state, steps, dots):
    """((last, hs), (last_dot, hs_dot)) for the directions of params, fresh, state and xs."""
    params_dot, fresh_dot, state_dot, xs_dot = dots
    cell = plan.cell
    step = cell.step_for_jax or cell.step  # which is the faster one beside its tangent
    w = cell.prepare(params, consts)
    w_dot = direction_of_weights(cell, params, params_dot, w, state, steps.xs)
    fresh_dot = None if fresh is None else widen(fresh_dot)

    def body(carry, now):
        (state, state_dot), (x, x_dot, mask, reset) = carry, now
        x, x_dot = clear_masked(mask, (x, x_dot))
        seen, seen_dot = state, state_dot
        if reset is not None:
            seen, seen_dot = where(reset, (fresh, fresh_dot), (state, state_dot))
        new, saved = step(w, seen, cell.project(w, x))
        new_dot = one_step_jvp(cell, w, w_dot, (x, seen, saved), seen_dot, x_dot)
        new_dot = cast_like(new_dot, state_dot)
        new, new_dot = where(mask, (new, new_dot), (seen, seen_dot))
        h_dot = cast_like(new_dot[0], new[0])
        return (new, new_dot), clear_masked(mask, (new[0], h_dot))

    now = (steps.xs, xs_dot, steps.mask, steps.resets)
    carry = (state, widen(state_dot))
    carry, hs = lax.scan(body, carry, now, reverse=plan.reverse, unroll=plan.unroll)
    last, last_dot = carry
    return (last, hs[0]), (cast_like(last_dot, state), hs[1])


def one_step_jvp(cell, w, w_dot, step, seen_dot, x_dot):
    """state_dot_t of a step, step being what it was given, what it saw and what it saved."""
    one = lambda tree: jax.tree.map(lambda x: x[None], tree)
    _, seen, saved = step
    slopes = cell.slopes(w, seen, saved)
    delta = deltas_of(cell, w, *one((seen, slopes)))
    delta_dot = weights_jvp(cell, w, one(step), delta, w_dot, one(x_dot))
    delta_dot = jax.tree.map(lambda d: d[0], delta_dot)
    return step_jvp(cell, w, seen, slopes, seen_dot, delta_dot)
