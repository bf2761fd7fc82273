"""From a cell's record to the functions people call: doors first, the engine behind them.

A door complains before anything is traced, as a ValueError in the reader's letters. Behind it there
are no checks.
"""

import functools
import inspect

import jax
import jax.numpy as jnp

from jax_lstm.engine import bptt, segments
from jax_lstm.engine.doors import (
    check_cell,
    check_consts,
    check_options,
    check_reset_state,
    check_steps,
    valid_steps,
)
from jax_lstm.sharding import vary_together


def make_rnn(cell, name="rnn", title="A cell of one's own, over a whole sequence.", *, plain=None):
    """A whole-sequence function for a cell, with a hand-written gradient and with JAX's.

    Args:
      cell: a `Cell` (see jax_lstm/engine/bptt.py): six pure functions of one time step. `step` and
        `step_bwd` are twins; time, masks, resets, direction and segments are the engine's.
      name, title: of the function, and the first line of its docstring.
      plain: the same cell for JAX to differentiate, where `cell` has a step that is fast as it
        stands and slow once JAX has differentiated it.

    Returns:
      rnn, rnn_autodiff: `(params, state, xs, **options) -> (state, hs)`, see `jax_lstm.lstm`.
      The first is differentiated by `cell.step_bwd` and `cell.weights_bwd`, the second by JAX.
    """
    by_jax = (plain or cell, bptt.autodiff)
    return (
        bind(_rnn, (cell, bptt.by_hand), name, f"{title} Differentiated by its hand-written rule."),
        bind(_rnn, by_jax, f"{name}_autodiff", f"{title} Differentiated by JAX."),
    )


def make_cell(cell, name="cell", title="One step of a cell of one's own.", *, plain=None):
    """One step of a cell, with a hand-written gradient and with JAX's.

    Args:
      cell, name, title, plain: see `make_rnn`.
      title: first line of the docstring.

    Returns:
      cell_fn, cell_autodiff: `(params, state, x) -> (state, h)`, see `jax_lstm.lstm_cell`.
    """
    by_jax = (plain or cell, bptt.step)
    return (
        bind(_cell, (cell, bptt.step_by_hand), name, f"{title} Differentiated by its own rule."),
        bind(_cell, by_jax, f"{name}_autodiff", f"{title} Differentiated by JAX."),
    )


def bind(function, given, name, title):
    """The function with its first arguments given, and a name and docstring of its own."""
    parameters = list(inspect.signature(function).parameters.values())[len(given) :]
    signature = inspect.Signature(parameters)

    @functools.wraps(function)
    def bound(*args, **options):
        try:
            signature.bind(*args, **options)
        except TypeError as error:  # by the name that people call
            raise TypeError(f"{name}() {error}; it takes {signature}") from None
        return function(*given, *args, **options)

    vars(bound)["__signature__"] = signature
    bound.__name__ = bound.__qualname__ = name
    bound.__doc__ = f"{title}\n\n{inspect.getdoc(function)}"
    return bound


def _cell(cell, route, params, state, x, *, consts=None):
    """`functools.partial(f, params)` is a body for `jax.lax.scan`: (carry, x) -> (carry, y).

    Args:
      params: the cell's parameters, one dtype.
      state: the state before the step, (..., H) per field; see the cell's `init_..._state`.
      x: (..., D), dtype of params; any number of batch axes, also none.
      consts: what a cell of one's own wants to see at every step; it gets a zero cotangent.

    Returns:
      state: the state after the step.
      h: its first field, (..., H).

    Raises:
      ValueError: shapes or dtypes that do not belong together, before tracing.
      TypeError: by JAX, for `jax.jvp` of the hand-written rule: a `custom_vjp` has no forward mode.
        The `..._autodiff` twin has.
    """
    check_cell(cell, params, state, x, "x", "(..., D)", 0)
    check_consts(cell, consts)
    params, state, x, consts = vary_together((params, state, x, consts))
    return route(cell, params, consts, state, x)


def _rnn(
    cell,
    route,
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
    residuals="full",
    unroll=1,
):
    """Cotangents are accepted for every output and returned for params, state and xs.

    Args:
      params: the cell's parameters, one dtype.
      state: the state before the first step, (..., H) per field; see `init_..._state`.
      xs: (T, ..., D), dtype of params, time first; any number of batch axes, also none. T = 0 and
        an empty batch work.
      consts: what a cell of one's own wants to see at every step; it gets a zero cotangent.
      lengths: integers (...) of any dtype, or a list: the number of valid steps of each example, in
        [0, T]. Under jit, where values cannot be looked at, a length beyond T counts as T, a
        negative one as 0.
      mask: booleans (T, ...): where False, the step is skipped: the state is carried through, h is
        zero, and nothing xs holds there, NaN included, reaches an output or a gradient. Holes are
        allowed; with `lengths` both must hold.
      resets: booleans (T, ...): where True, the state is replaced by `reset_state` BEFORE the step,
        so for data with done_t that ends an episode at step t, pass done_{t-1}. With reverse=True
        "before" is in the direction of the run. A reset acts in masked steps too, and beyond
        `lengths`, so that no end of an episode is lost in a hole: where it must not, clear it.
      reset_state: like `state`; zeros if not given. It gets its cotangent, summed over resets.
        lengths, mask and resets are constants: their cotangents are zero.
      reverse: run from the last step to the first, as `jax.lax.scan(reverse=True)`; hs[t] belongs
        to xs[t]. With lengths only the valid part is run over.
      residuals: what is kept for the backward. "full": every step (fast). K: the state at the
        border of every K steps, the segments are run again. "auto": K near sqrt(T). Same gradient.
        The autodiff twin ignores it.
      unroll: steps per iteration of the loop, as in `jax.lax.scan`.

    Returns:
      state: the state after the last step.
      hs: its first field at every step, (T, ..., H).

    Raises:
      ValueError: shapes, dtypes or options that do not belong together, before tracing.
      TypeError: by JAX, for `jax.jvp` of the hand-written rule: a `custom_vjp` has no forward mode.
        The `..._autodiff` twin has. Reverse mode, and forward over reverse, work.
      ShardingTypeError: by JAX, for arrays split over an Explicit axis of a mesh, which
        `jax.make_mesh` gives by default: make the mesh with `axis_types=(AxisType.Auto,)`, or hand
        the training step to `jax.shard_map` or to `jax.sharding.auto_axes(step, out_sharding=...)`.

    Source: Werbos (1990), "Backpropagation through time"; the equations of the cell's file.
    """
    check_cell(cell, params, state, xs, "xs", "(T, ..., D)", 1)
    check_options(residuals, unroll, reverse)
    check_consts(cell, consts)
    T, *batch = jax.tree.leaves(xs)[0].shape[: jax.tree.leaves(state)[0].ndim]
    mask = valid_steps(lengths, mask, T, batch)
    resets = check_steps("resets", resets, T, batch)
    check_reset_state(reset_state, state, resets)
    fresh = None
    if resets is not None:
        fresh = jax.tree.map(jnp.zeros_like, state) if reset_state is None else reset_state
    plan = segments.Plan(cell, reverse, residuals, unroll)
    steps = segments.Steps(xs, mask, resets)
    return route(plan, *vary_together((params, consts, fresh, state, steps)))
