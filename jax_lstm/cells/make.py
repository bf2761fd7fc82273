"""From a cell's record to the functions people call: doors first, the engine behind them.

A door complains before anything is traced, as a ValueError in the reader's letters. Behind it there
are no checks.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jax_lstm import bptt
from jax_lstm.notation import check_range, vary_together, wide


def make_rnn(cell, name="rnn", title="A cell of one's own, over a whole sequence.", *, plain=None):
    """A whole-sequence function for a cell, with a hand-written gradient and with JAX's.

    Args:
      cell: a `Cell` (see jax_lstm/bptt.py): six pure functions of one time step. `step` and
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
    plan = bptt.Plan(cell, reverse, residuals, unroll)
    steps = bptt.Steps(xs, mask, resets)
    return route(plan, *vary_together((params, consts, fresh, state, steps)))


# Doors ----------------------------------------------------------------------------------------


def check_cell(cell, params, state, x, name, form, leading):
    """The arguments every cell has; `cell.check` then knows which sizes belong together."""
    for what, tree in (("params", params), ("state", state), (name, x)):
        for leaf in jax.tree.leaves(tree, is_leaf=lambda leaf: leaf is None) or [None]:
            if not hasattr(leaf, "dtype"):
                raise ValueError(f"`{what}` must be arrays; got {type(leaf).__name__}")
    for what, tree in (("params", params), ("state", state)):
        if not hasattr(tree, "_fields"):
            raise ValueError(f"`{what}` must be a NamedTuple of arrays; got {type(tree).__name__}")
    for path, leaf in jax.tree.leaves_with_path(x):
        here = name + jax.tree_util.keystr(path)
        if leaf.ndim < leading + 1:
            raise ValueError(f"`{here}` must be {form}; got shape {leaf.shape}")
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise ValueError(f"`{here}` must be floating point; got {leaf.dtype}")
    if cell.check is not None:
        cell.check(params, state, x, name, leading)


def check_gated(blocks, kinds, params, state, x, name, leading):
    """The door of cells with W (D, nH), U (H, nH), b (nH,) and a state of (..., H) each.

    Args:
      blocks: n, the number of net inputs per hidden unit.
      kinds: dtypes of the state's fields: "same" as the parameters, or "wide".
      params, state, x, name, leading: see `check_fields`.
    """
    check_ranks(params, "WUb", (2, 2, 1), f"W (D, {blocks}H), U (H, {blocks}H), b ({blocks}H,)")
    check_names("state", state, "hc"[: len(kinds)])
    D, H = params.W.shape[0], params.U.shape[0]
    wanted = {"W": (D, blocks * H), "U": (H, blocks * H), "b": (blocks * H,)}
    sizes = {
        key: (H, f"H = {H} (rows of params.U)", kind)
        for key, kind in zip("hc", kinds, strict=False)
    }
    legend = f"with H = {H} (rows of params.U) and {blocks} block(s)"
    check_fields(wanted, legend, sizes, params, state, x, name, leading)


def check_names(what, tree, names):
    """The fields a cell reckons with, by their one-letter names."""
    if tree._fields != tuple(names):
        raise ValueError(
            f"`{what}` must have the fields {', '.join(names)}; got {type(tree).__name__}"
            f"({', '.join(tree._fields)})"
        )


def check_ranks(params, names, ranks, form):
    check_names("params", params, names)
    if tuple(np.ndim(p) for p in params) != ranks:
        shapes = ", ".join(f"{k} {np.shape(p)}" for k, p in zip(names, params, strict=True))
        raise ValueError(f"`params` must be {form}; got {shapes}")


def check_fields(wanted, legend, sizes, params, state, x, name, leading):
    """The door of cells whose params have a W (D, ...), when all sizes are known.

    Args:
      wanted: shape of each field of params; `legend` says where the letters come from.
      sizes: for each field of the state: features, where they come from, "same" or "wide" dtype.
      params, state, x: what the user gave.
      name, leading: "xs" and 1 for a sequence, "x" and 0 for one step.
    """
    D, dtype = params.W.shape[0], params.W.dtype
    if not hasattr(x, "shape"):
        raise ValueError(
            f"`{name}` must be one array; got {type(x).__name__}. A pair ({name}, masks) is for a "
            "cell that takes one, say make_rnn(zoneout(LSTM)); in a stack, by `sequence=`"
        )
    for key, shape in wanted.items():
        got = getattr(params, key)
        if got.shape != shape:
            raise ValueError(f"`params.{key}` must be {shape} {legend}; got shape {got.shape}")
        if got.dtype != dtype:
            raise ValueError(f"params must share one dtype; W is {dtype}, {key} is {got.dtype}")
    if x.shape[-1] != D:
        form = "(T, ..., D)" if leading else "(..., D)"
        raise ValueError(
            f"`{name}` must be {form} with D = {D} (rows of params.W); got shape {x.shape}"
        )
    if x.dtype != dtype:
        raise ValueError(
            f"`{name}` and params must share one dtype; got {x.dtype} and {dtype}. "
            f"Convert one of them: {name}.astype(...)"
        )
    for key, (size, source, kind) in sizes.items():
        got, shape = getattr(state, key), (*x.shape[leading:-1], size)
        if got.shape != shape:
            raise ValueError(
                f"`state.{key}` must be {shape}: the batch axes of {name} {x.shape}, then "
                f"{source}; got shape {got.shape}"
            )
        want = wide(dtype) if kind == "wide" else dtype
        if got.dtype != want:
            raise ValueError(f"`state.{key}` must be {want} for {dtype} {name}; got {got.dtype}")


def check_consts(cell, consts):
    """Refused where they would be ignored: a mask of recurrent dropout given to the plain cell."""
    if consts is not None and not cell.takes_consts:
        raise ValueError(
            "`consts` is not used by this cell; make_rnn(recurrent_dropout(LSTM)) makes one that "
            "does"
        )


def check_options(residuals, unroll, reverse=False):
    frugal = isinstance(residuals, int) and not isinstance(residuals, bool) and residuals > 0
    if residuals not in ("full", "auto") and not frugal:
        raise ValueError(
            f'`residuals` must be "full", "auto" or a number of steps K >= 1; got {residuals!r}'
        )
    if not isinstance(unroll, int) or isinstance(unroll, bool) or unroll < 1:
        raise ValueError(f"`unroll` must be an integer >= 1; got {unroll!r}")
    if not isinstance(reverse, bool):
        raise ValueError(f"`reverse` must be True or False; got {reverse!r}")


def check_function(name, function):
    if not callable(function):
        raise ValueError(f"`{name}` must be a function; got {function!r}")


def valid_steps(lengths, mask, T, batch):
    """The steps to be run, booleans (T, ...), or None for all of them.

    Times are counted in a dtype that holds T: in the lengths' own, uint8 say, they would wrap.
    """
    mask = check_steps("mask", mask, T, batch)
    if lengths is None:
        return mask
    lengths = check_lengths(lengths, T, batch)
    lengths = jnp.clip(lengths, 0, min(T, jnp.iinfo(lengths.dtype).max)).astype(jnp.int32)
    valid = jnp.arange(T, dtype=jnp.int32).reshape((T, *(1,) * len(batch))) < lengths
    return valid if mask is None else mask & valid


def check_steps(name, flags, T, batch):
    """A boolean per step and example, (T, ...), or None."""
    if flags is None:
        return None
    want = f"boolean (T, ...) = {(T, *batch)}"
    flags = as_array(name, flags, bool, want)
    if flags.dtype != bool or flags.shape != (T, *batch):
        raise ValueError(f"`{name}` must be {want}; got {flags.dtype} {flags.shape}")
    return flags


def check_lengths(lengths, T, batch):
    """Whole numbers in [0, T], one per example. Under jit the values cannot be looked at: a length
    beyond T then counts as T, a negative one as 0."""
    want = f"integers {tuple(batch)}"
    given, lengths = lengths, as_array("lengths", lengths, jnp.int32, want)
    if not jnp.issubdtype(lengths.dtype, jnp.integer) or lengths.shape != tuple(batch):
        raise ValueError(f"`lengths` must be {want}; got {lengths.dtype} {lengths.shape}")
    traced = any(isinstance(x, Tracer) for x in jax.tree.leaves(given))
    check_range("lengths", lengths if traced else given, T, f"[0, T = {T}]")
    return lengths


def as_array(name, given, dtype, want):
    """An array of what is one, or of lists; an empty list has `dtype`. Words have none."""
    parts = jax.tree.leaves(given)
    try:
        if any(isinstance(part, str | bytes) for part in parts):  # "f" would be taken for a dtype
            raise TypeError
        return jnp.asarray(given, None if parts else dtype)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"`{name}` must be {want}; got {given!r}") from None


def check_reset_state(reset_state, state, resets):
    """Where `resets` lead to: the same fields, shapes and dtypes as the state."""
    if reset_state is None:
        return
    if resets is None:
        raise ValueError("`reset_state` is where `resets` lead to; `resets` is not given")

    def kind(tree):
        return jax.tree.map(lambda x: (np.shape(x), str(getattr(x, "dtype", type(x)))), tree)

    if type(reset_state) is not type(state) or kind(reset_state) != kind(state):
        raise ValueError(
            f"`reset_state` must be like `state`, {kind(state)}; got {kind(reset_state)}"
        )
