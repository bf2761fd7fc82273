"""FORWARD MODE: the tangent of a run, through the same segments, for every cell. No gate is known.

ẋ is the derivative of x along a direction that the caller chose, and x_dot in the code.

    forward    state_t, saved_t = step(state_{t-1}, z_t)                    t = 1 ... K
               slopes           = slopes(states_prev, saved)                a segment at once
               δ̇                = weights_jvp(params_dot, xs_dot)           a segment at once
               state_dot_t      = step_jvp(state_dot_{t-1}, δ̇_t)            t = 1 ... K

δ̇_t is what the directions of the weights and of x_t put into the step; only what is sequential
stands in the loop. Of a segment nothing is kept but its outputs, so that memory does not grow with
what a backward would need.

A cell may bring both functions. Where it does not, each is the transpose of its twin: `step_bwd`
and `weights_bwd` are linear in the cotangent, hand-written products with local derivatives, and the
same products read from the other side are the tangent (Jᵀ and J). Nothing is differentiated.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jax_lstm.doors import check_text, refuse
from jax_lstm.engine.bptt import all_of, open_steps, room, run_segment, zeros_of_weights
from jax_lstm.engine.cell import AnyCell
from jax_lstm.engine.doors import check_record
from jax_lstm.engine.functions import Residuals
from jax_lstm.engine.made import Made
from jax_lstm.engine.programs import in_one_program
from jax_lstm.engine.routes import prepare_run
from jax_lstm.engine.segments import (
    cast_like,
    clear_masked,
    cut,
    flatten_steps,
    join,
    over_segments,
    segment_length,
    segment_of,
    where,
    widen,
    zeros_like,
)
from jax_lstm.sharding import over_auto_axes, vary_together


def make_jvp(cell: AnyCell, name: str = "rnn_jvp") -> Callable[..., Any]:
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
        unroll: int = 1,
    ) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """((state, hs), (state_dot, hs_dot)) of a sequence, for one direction of its arguments."""
        flags = (lengths, mask, resets, reset_state)
        plan, arrays = prepare_run(
            cell, params, state, xs, consts, *flags, reverse, residuals, unroll
        )
        params, _, fresh, state, steps = arrays
        dots = check_tangents(tangents, params, fresh, state, steps.xs)
        arrays, dots = vary_together((arrays, dots))
        return in_one_program(run_forward_mode, (plan,), arrays, dots)

    run.__name__ = run.__qualname__ = name
    return Made(run, make_jvp, (cell, name))


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
        if dot is not None and kinds_of(dot) != kinds_of(x):
            raise ValueError(f"`{name}` must be like `{like}`, {kinds_of(x)}; got {kinds_of(dot)}")
        found.append(None if x is None else zeros_like(x) if dot is None else dot)
    return tuple(found)


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


def transposed(linear, at, y):
    """The transpose of `linear` at inputs like `at`, for the cotangent y, in `linear`'s dtypes."""
    y = cast_like(y, jax.eval_shape(linear, at))
    (x,) = jax.linear_transpose(linear, at)(y)
    return x


def weights_jvp(cell, w, opened, deltas, w_dot, xs_dot):
    """δ̇ of a segment: what the directions of the weights and of xs put into each step."""
    given = w, opened.steps.xs, opened.seen, opened.saved
    if cell.weights_jvp is not None:
        return cell.weights_jvp(*given, w_dot, xs_dot)

    def twin(deltas):
        dw, dxs = cell.weights_bwd(*given, deltas)
        return dw, dxs[0] if cell.beside else dxs  # masks beside xs are constants

    return transposed(twin, deltas, (w_dot, xs_dot[0] if cell.beside else xs_dot))


def step_jvp(cell, w, seen, slopes, seen_dot, delta_dot):
    """state_dot_t of one step, of seen_dot and δ̇_t."""
    if cell.step_jvp is not None:
        return cell.step_jvp(w, seen, slopes, seen_dot, delta_dot)
    at = widen(seen_dot)
    return transposed(lambda d: cell.step_bwd(w, seen, slopes, d), at, (at, delta_dot))


def some_delta(cell, w, seen, slopes):
    """The shape of one step's delta."""
    return jax.eval_shape(lambda d: cell.step_bwd(w, seen, slopes, d)[1], widen(seen))


def segment_jvp(plan, w, w_dot, fresh, fresh_dot, carry, steps, xs_dot):
    """K steps: forward, opened, and then their tangents."""
    cell, (state, state_dot) = plan.cell, carry
    kept = room(cell, w, all_of, state, steps.xs)
    ks = jnp.arange(jax.tree.leaves(steps.xs)[0].shape[0])
    after, kept = run_segment(plan, w, fresh, all_of, (state, kept), ks, steps)
    opened = open_steps(plan, w, fresh, state, kept, steps)
    zeros = lambda x: jnp.zeros(x.shape[1:], x.dtype)  # there may be no step
    one = jax.tree.map(zeros, (opened.seen, opened.slopes))
    deltas = jax.tree.map(
        lambda d: jax.ShapeDtypeStruct((ks.size, *d.shape), d.dtype), some_delta(cell, w, *one)
    )
    xs_dot = clear_masked(steps.mask, xs_dot)
    delta_dots = weights_jvp(cell, w, opened, deltas, w_dot, xs_dot)

    def body(state_dot, now):
        seen, slopes, delta_dot, mask, reset = now
        seen_dot = state_dot if reset is None else where(reset, fresh_dot, state_dot)
        new = step_jvp(cell, w, seen, slopes, seen_dot, delta_dot)
        new = where(mask, cast_like(new, state_dot), seen_dot)
        return new, clear_masked(mask, new[0])

    now = (opened.seen, opened.slopes, delta_dots, steps.mask, steps.resets)
    state_dot, hs_dot = lax.scan(body, state_dot, now, reverse=plan.reverse, unroll=plan.unroll)
    return (after, state_dot), (clear_masked(steps.mask, kept[0][0]), hs_dot)


def forward_mode(plan, params, consts, fresh, state, steps, dots):
    """((last, hs), (last_dot, hs_dot)) for the directions of params, fresh, state and xs."""
    params_dot, fresh_dot, state_dot, xs_dot = dots
    cell = plan.cell
    w = cell.prepare(params, consts)
    w_dot: Any = params_dot
    if cell.prepare_bwd is not None:
        back = cell.prepare_bwd
        dw = jax.eval_shape(lambda: zeros_of_weights(cell, params, w, state, steps.xs))
        w_dot = transposed(lambda dw: back(params, dw)[0], dw, params_dot)

    def segment(carry, piece):
        now, now_dot = segment_of((steps, xs_dot), piece)
        carry, out = segment_jvp(plan, w, w_dot, fresh, fresh_dot, carry, now, now_dot)
        return carry, flatten_steps(out)

    pieces = cut((steps, xs_dot), segment_length(plan, w, steps.xs))
    carry = (state, widen(state_dot))
    (last, last_dot), outs = over_segments(segment, carry, pieces, plan.reverse)
    h = state[0]
    hs, hs_dot = join(outs, (h, widen(h)))
    return (last, hs), (cast_like(last_dot, state), cast_like(hs_dot, hs))
