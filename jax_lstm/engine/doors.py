"""The doors of a sequence: complaints before anything is traced, in the reader's letters."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jax_lstm.doors import as_array, check_range
from jax_lstm.notation import wide

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
