"""From a cell's record to the functions people call: doors first, the engine behind them."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar, cast, overload

import jax
import jax.numpy as jnp

from jax_lstm.doors import check_shape, forward_mode_of_the_twin
from jax_lstm.engine import bptt
from jax_lstm.engine.cell import Cell, Params, State
from jax_lstm.engine.doors import (
    check_cell,
    check_consts,
    check_fields,
    check_named,
    check_options,
    check_params,
    check_reset_state,
    check_resets,
    valid_steps,
)
from jax_lstm.engine.functions import (
    InitState,
    Residuals,
    SequenceFunction,
    StepFunction,
    Unroll,
)
from jax_lstm.engine.made import Made
from jax_lstm.engine.plans import batch_axes, plan_run
from jax_lstm.engine.programs import in_one_program
from jax_lstm.engine.ragged import in_order_of_length
from jax_lstm.engine.segments import (
    Steps,
    where,
    whole_segments,
    zeros_like,
)
from jax_lstm.engine.shapes import is_wide, letters_of, shape_of, sizes_of
from jax_lstm.notation import wide
from jax_lstm.sharding import over_auto_axes, vary_together

First = TypeVar("First")
Second = TypeVar("Second")
Result = TypeVar("Result")
Options = ParamSpec("Options")
MadeBy: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], int | None]
Routes: TypeAlias = tuple[
    StepFunction[Params, State],
    StepFunction[Params, State],
    SequenceFunction[Params, State],
    SequenceFunction[Params, State],
]


def routes(cell: Cell[Params, State], about: str) -> Routes[Params, State]:
    """One step and a sequence of a cell, each by its hand-written rule and by JAX.

    Args:
      cell: a `Cell`; the functions are called by its name.
      about: what it is, for the docstrings: "the LSTM, equations (1) to (4)".

    Returns:
      cell_fn, cell_autodiff, rnn, rnn_autodiff: see `make_cell` and `make_rnn`.
    """
    check_named(cell, about=about)
    steps = make_cell(cell, f"{cell.name}_cell", f"One step of {about}.")
    return (*steps, *make_rnn(cell, cell.name, f"{about[:1].upper()}{about[1:]}, over a sequence."))


def make_rnn(
    cell: Cell[Params, State],
    name: str = "rnn",
    title: str = "A cell of one's own, over a whole sequence.",
) -> tuple[SequenceFunction[Params, State], SequenceFunction[Params, State]]:
    """A whole-sequence function for a cell, with a hand-written gradient and with JAX's.

    Args:
      cell: a `Cell` (see jax_lstm/engine/cell.py): pure functions of one time step. `step` and
        `step_bwd` are twins; time, masks, resets, direction and segments are the engine's.
      name, title: of the function, and the first line of its docstring.

    Returns:
      rnn, rnn_autodiff: `(params, state, xs, **options) -> (state, hs)`, see `jax_lstm.lstm`. Made
      anew of an equal cell they are equal, so that JAX compiles once. They are pickled as what to
      make again, where the cell's functions can be: those at the top of a module.
      The first is differentiated by `cell.step_bwd` and `cell.weights_bwd`, the second by JAX,
      through `cell.step_for_jax` where there is one.
    """
    check_named(cell, name=name, title=title)
    ours, by_jax = (cell, by_hand), (cell, bptt.autodiff)
    made = (make_rnn, (cell, name, title))
    rule, twin = "Differentiated by its hand-written rule.", "Differentiated by JAX."
    return (
        bind(run_cell, ours, name, f"{title} {rule}", (*made, 0)),
        bind(run_cell, by_jax, f"{name}_autodiff", f"{title} {twin}", (*made, 1)),
    )


def make_cell(
    cell: Cell[Params, State], name: str = "cell", title: str = "One step of a cell of one's own."
) -> tuple[StepFunction[Params, State], StepFunction[Params, State]]:
    """One step of a cell, with a hand-written gradient and with JAX's.

    Args:
      cell, name, title: see `make_rnn`.

    Returns:
      cell_fn, cell_autodiff: `(params, state, x) -> (state, h)`, see `jax_lstm.lstm_cell`.
    """
    check_named(cell, name=name, title=title)
    by_hand, by_jax = (cell, bptt.step_by_hand), (cell, bptt.step_autodiff)
    made = (make_cell, (cell, name, title))
    rule, twin = "Differentiated by its own rule.", "Differentiated by JAX."
    return (
        bind(step_cell, by_hand, name, f"{title} {rule}", (*made, 0)),
        bind(step_cell, by_jax, f"{name}_autodiff", f"{title} {twin}", (*made, 1)),
    )


def make_init_state(cell: Cell[Params, State]) -> InitState[Params, State]:
    """The state before the first step of a cell, `(params, batch_shape=()) -> state`."""
    name = f"init_{cell.name}_state"
    title = f"{cell.state.__name__} before the first step."
    return bind(init_state, (cell,), name, title, (make_init_state, (cell,), None))


def init_state(cell, params, batch_shape=()):
    """Zeros, unless the cell says otherwise.

    Args:
      params: the cell's parameters.
      batch_shape: of the examples, say (B,).

    Returns:
      The cell's state, fields (*batch_shape, ...): h in the dtype of params, a cell state in the
      wide one.

    Raises:
      ValueError: parameters of another cell; a batch_shape that is no tuple of sizes.
    """
    check_fields("params", params, cell.params)
    if cell.shapes:
        check_params(cell, params)
    batch_shape = check_shape("batch_shape", batch_shape)
    if cell.init_state is not None:
        return cell.init_state(params, batch_shape)
    if not cell.fields or not cell.shapes:
        raise ValueError(
            f"the cell {cell.name} says neither `init_state` nor `shapes` and `fields`"
        )
    sizes, dtype = sizes_of(cell.shapes, params._asdict()), params[0].dtype
    lacking = {k for _, text in cell.fields for k in letters_of(text)} - set(sizes)
    if lacking:
        raise ValueError(
            f"{', '.join(sorted(lacking))} in the fields of the cell {cell.name} stands in no "
            "shape of its parameters: it must bring `init_state`"
        )
    fields = (
        jnp.zeros((*batch_shape, *shape_of(text, sizes)), wide(dtype) if is_wide(text) else dtype)
        for _, text in cell.fields
    )
    return cell.state(*fields)


@overload
def bind(
    function: Callable[Concatenate[First, Options], Result],
    given: tuple[First],
    name: str,
    title: str,
    made: MadeBy | None = None,
) -> Callable[Options, Result]: ...
@overload
def bind(
    function: Callable[Concatenate[First, Second, Options], Result],
    given: tuple[First, Second],
    name: str,
    title: str,
    made: MadeBy | None = None,
) -> Callable[Options, Result]: ...
def bind(
    function: Callable[..., Any],
    given: tuple[Any, ...],
    name: str,
    title: str,
    made: MadeBy | None = None,
) -> Callable[..., Any]:
    """The function with its first arguments given, and a name and docstring of its own.

    Its signature has no types: complaints that print it stay short. `made` is what a user called
    for it, if it was not this function: (maker, arguments, which part of what it returns).
    """
    parameters = list(inspect.signature(function).parameters.values())[len(given) :]
    whole = function is run_cell and isinstance(given[0], Cell)
    forward = f"{name}_jvp (make_jvp of its cell), or its twin, {name}_autodiff" if whole else ""
    signature = inspect.Signature([p.replace(annotation=p.empty) for p in parameters])

    @functools.wraps(function)
    def bound(*args, **options):
        try:
            signature.bind(*args, **options)
        except TypeError as error:  # by the name that people call
            raise TypeError(f"{name}() {error}; it takes {signature}") from None
        with forward_mode_of_the_twin(name, forward):
            return function(*given, *args, **options)

    vars(bound)["__signature__"] = signature
    bound.__name__ = bound.__qualname__ = name
    bound.__doc__ = f"{title}\n\n{inspect.getdoc(function)}"
    maker, args, part = made or (bind, (function, given, name, title), None)
    return Made(bound, maker, args, part=part)


def step_cell(cell, route, params, state, x, *, consts=None, resets=None, reset_state=None):
    """`functools.partial(f, params)` is a body for `jax.lax.scan`: (carry, x) -> (carry, y).

    Args:
      params: the cell's parameters, one dtype.
      state: the state before the step, (..., H) per field; see the cell's `init_..._state`.
      x: (..., D), dtype of params; any number of batch axes, also none.
      consts: what the cell takes besides, a mask of recurrent dropout say: a constant, whose
        cotangent is zero.
      resets: booleans (...) or 0 and 1: where True, `reset_state` takes the place of the state
        BEFORE the step, as in a sequence: pass done_{t-1}. Trailing batch axes may be left out.
      reset_state: like `state`; zeros if not given.

    Returns:
      state: the state after the step.
      h: its first field, (..., H).

    Raises:
      ValueError: shapes or dtypes that do not belong together, before tracing.
      TypeError: by JAX, for `jax.jvp` of the hand-written rule: a `custom_vjp` has no forward mode.
        The `..._autodiff` twin has.
    """
    check_cell(cell, params, state, x, "x", 0)
    check_consts(cell, state, consts)
    batch = jax.tree.leaves(x)[0].shape[: batch_axes(cell, state)]
    resets = check_resets(resets, (), batch)
    fresh = fresh_state(reset_state, state, resets)
    args = (params, state, x, consts, fresh, resets)
    params, state, x, consts, fresh, resets = vary_together(args)
    state = state if resets is None else cast(Any, where(resets, fresh, state))
    one = jax.tree.map(lambda x: x[None], x)
    run = over_auto_axes(
        functools.partial(route, cell),
        state,
        one,
        lambda state_at, _: (state_at(state), state_at(state[0])),
    )
    return run(params, consts, state, x)


def run_cell(
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
    residuals: Residuals = "full",
    unroll: Unroll = 1,
    sort=False,
):
    """Cotangents are accepted for every output and returned for params, state and xs.

    Args:
      params: the cell's parameters, one dtype.
      state: the state before the first step, (..., H) per field; see `init_..._state`.
      xs: (T, ..., D), dtype of params, time first; any number of batch axes, also none. T = 0 and
        an empty batch work. Under `jax.export` T and the batch may be symbolic, see docs/files.md.
      consts: what the cell takes for the whole sequence, a mask of recurrent dropout say: a
        constant, whose cotangent is zero.
      lengths: integers (...) of any dtype, or a list: the number of valid steps of each example, in
        [0, T]. Under jit, where values cannot be looked at, a length beyond T counts as T, a
        negative one as 0.
      mask: booleans (T, ...): where False, the step is skipped: the state is carried through, h is
        zero, and nothing xs holds there, NaN included, reaches an output or a gradient. Holes are
        allowed; with `lengths` both must hold.
      resets: booleans (T, ...): where True, the state is replaced by `reset_state` BEFORE the step,
        so for data with done_t that ends an episode at step t, pass done_{t-1}. Integers and floats
        that are 0 or 1 are as good (under jit, where values cannot be looked at, all but 0 count as
        1), and trailing batch axes may be left out: (T, B) for agents (T, B, A, D). With
        reverse=True "before" is in the direction of the run. A reset acts in masked steps too, and
        beyond `lengths`, so that no end of an episode is lost in a hole: where it must not, clear
        it.
      reset_state: like `state`; zeros if not given. It gets its cotangent, summed over resets.
        lengths, mask and resets are constants: their cotangents are zero.
      reverse: run from the last step to the first, as `jax.lax.scan(reverse=True)`; hs[t] belongs
        to xs[t]. With lengths only the valid part is run over.
      residuals: what is kept for the backward. "full": every step (fast). K: the state at the
        border of every K steps, the segments are run again. "auto": K near sqrt(T). "log": states
        at borders of blocks of segments, and blocks of blocks, so that memory grows as log T; up to
        6,144 steps the forward runs twice, up to a million three times. Same gradient. A second
        derivative keeps with "log" what it keeps with K = 32. The autodiff twin ignores it.
      unroll: steps per iteration of the loop, as in `jax.lax.scan`.
      sort: whether the examples are sorted by their last step, of `lengths` or `mask`, so that a
        segment of time is run for those alone that are not over, see docs/speed.md. Same results,
        in the order of xs. Without lengths or a mask, and for symbolic sizes, it changes nothing;
        nor does it in the autodiff twin. It compiles five programs for one.

    Returns:
      state: the state after the last step.
      hs: its first field at every step, (T, ..., H).

    Raises:
      ValueError: shapes, dtypes or options that do not belong together, before tracing.
      TypeError: by JAX, for `jax.jvp` of the hand-written rule: a `custom_vjp` has no forward mode.
        The function `..._jvp` is that mode by hand; the twin `..._autodiff` has both modes, and so
        has what `jax_lstm.experimental` makes. Reverse and forward over reverse work.

    Source: Werbos (1990), "Backpropagation through time"; the equations of the cell's file.
    """
    flags = (lengths, mask, resets, reset_state)
    how = (reverse, residuals, unroll, sort)
    plan, arrays = prepare_run(cell, params, state, xs, consts, *flags, *how)
    plan = plan if route is by_hand else plan._replace(sort=0)  # others take the batch as it is
    return in_one_program(run_route, (route, plan), *vary_together(arrays))


def prepare_run(
    cell,
    params,
    state,
    xs,
    consts,
    lengths,
    mask,
    resets,
    reset_state,
    reverse,
    residuals,
    unroll,
    sort=False,
):
    """Through the doors: the plan, and the arrays (params, consts, fresh, state, steps)."""
    check_cell(cell, params, state, xs, "xs", 1)
    residuals, unroll = check_options(residuals, unroll, reverse)
    check_consts(cell, state, consts)
    T, *batch = jax.tree.leaves(xs)[0].shape[: batch_axes(cell, state) + 1]
    mask = valid_steps(lengths, mask, T, batch)
    resets = check_resets(resets, (T,), batch)
    fresh = fresh_state(reset_state, state, resets)
    plan = plan_run(cell, params, xs, consts, mask, (T, *batch), reverse, residuals, unroll, sort)
    return plan, (
        params,
        consts,
        fresh,
        state,
        Steps(xs, mask, resets),
    )


def run_route(route, plan, params, consts, fresh, state, steps):
    """(last state, what has time first), on a mesh of any kind of axes."""
    run = over_auto_axes(
        functools.partial(route, plan),
        state,
        steps,
        lambda state_at, hs_at: (state_at(state), hs_at),
    )
    return run(params, consts, fresh, state, steps)


def fresh_state(reset_state, state, resets):
    """Where resets lead to: what is given, or zeros; None where there are no resets."""
    check_reset_state(reset_state, state, resets)
    return zeros_like(state) if reset_state is None and resets is not None else reset_state


def by_hand(plan, *args):
    """The hand-written rule."""
    run = functools.partial(in_whole_segments, bptt.by_hand)
    if not plan.sort:
        return run(plan, *args)
    state = args[-2]
    batch = jax.tree.leaves(state)[0].shape[: batch_axes(plan.cell, state)]
    return in_order_of_length(run, batch, plan, *args)


def in_whole_segments(run, plan, params, consts, fresh, state, steps):
    """The run; a symbolic T is filled up to whole segments, and cut again."""
    batch = jax.tree.leaves(state)[0].shape[: batch_axes(plan.cell, state)]
    whole = whole_segments(plan.residuals, batch, steps)
    last, hs = run(plan, params, consts, fresh, state, vary_together((whole, state))[0])
    if whole is steps:
        return last, hs
    T = jax.tree.leaves(steps.xs)[0].shape[0]
    return last, jax.tree.map(lambda h: h[:T], hs)
