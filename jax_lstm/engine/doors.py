"""The doors of a sequence and of a step, derived from a cell's record.

They complain before anything is traced, in the reader's letters. Behind them there are no checks.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.export import is_symbolic_dim

from jax_lstm.doors import (
    as_array,
    broadcasts,
    check_array,
    check_arrays,
    check_flag,
    check_range,
    check_text,
    describe,
    is_array,
    refuse,
    whole_number,
)
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.shapes import axes_of, form_of, found_at, is_wide, letters_of, shape_of
from jax_lstm.notation import wide

WORDS = ("full", "auto", "log")  # of `residuals`


def check_cell(cell, params, state, x, name, leading):
    """The arguments of a cell: kinds of all, then shapes and dtypes where its record says them.

    Args:
      cell: a `Cell`.
      params, state, x: what the user gave.
      name, leading: "xs" and 1 for a sequence, "x" and 0 for one step.
    """
    for what, tree, kind in (("params", params, cell.params), ("state", state, cell.state)):
        check_fields(what, tree, kind)
    check_arrays(name, x)
    for path, leaf in jax.tree.leaves_with_path(x):
        here = name + jax.tree_util.keystr(path)
        if leaf.ndim < leading + 1:
            raise ValueError(f"`{here}` must be {form(leading)}; got shape {leaf.shape}")
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise ValueError(f"`{here}` must be floating point; got {leaf.dtype}")
    x, masks = check_pair(cell, x, name) if cell.beside else (x, ())
    sizes = check_params(cell, params) if cell.shapes else {}
    if cell.shapes:
        check_input(sizes, params, x, name, leading)
    if cell.fields:
        check_state(cell, sizes, params, state, x, name, leading)
    if cell.beside:
        check_beside(cell, state, x, masks, leading)


def check_fields(what, tree, kind):
    """A NamedTuple of arrays; `kind` is that of the cell, for whoever has none."""
    check_arrays(what, tree)
    if not hasattr(tree, "_fields"):
        example = f"{kind.__name__}({', '.join(kind._fields)})" if hasattr(kind, "_fields") else ""
        raise ValueError(
            f"`{what}` must be a NamedTuple of arrays; got {type(tree).__name__}"
            + (f"; give {example}" if example else "")
        )


def check_record(name, cell):
    """A cell is its record. Of a function that was made of one, the record has the name."""
    if not isinstance(cell, Cell):
        raise ValueError(
            f"`{name}` must be a Cell, a record such as jax_lstm.LSTM and not its functions; got "
            f"{describe(cell)}"
        )


def check_named(cell, **texts):
    """The arguments of what makes functions of a cell: a record, and texts."""
    check_record("cell", cell)
    for name, text in texts.items():
        check_text(name, text)


def form(leading):
    return "(T, ..., D)" if leading else "(..., D)"


def check_names(what, tree, wanted, kind):
    """The fields a cell reckons with. What comes back has the cell's own type: of another's, with
    the same fields, JAX would complain in a loop or on the way back."""
    names = tuple(name for name, _ in wanted)
    got = f"{type(tree).__name__}({', '.join(tree._fields)})"
    if tree._fields != names:
        raise ValueError(f"`{what}` must have the fields {', '.join(names)}; got {got}")
    if isinstance(kind, type) and not isinstance(tree, kind):
        raise ValueError(f"`{what}` must be {kind.__name__}({', '.join(names)}); got {got}")


def check_params(cell, params):
    """{letter: (size, where it was read off)}, or which array does not fit."""
    check_names("params", params, cell.shapes, cell.params)
    arrays = params._asdict()
    if any(np.ndim(arrays[name]) != len(axes_of(text)) for name, text in cell.shapes):
        want = ", ".join(f"{name} {form_of(text)}" for name, text in cell.shapes)
        got = ", ".join(f"{name} {np.shape(x)}" for name, x in arrays.items())
        raise ValueError(f"`params` must be {want}; got {got}")
    found = found_at(cell.shapes, arrays)
    sizes = {letter: size for letter, (size, _, _) in found.items()}
    sources = {
        letter: (size, f"{letter} = {size} ({place(np.ndim(arrays[key]), n)}params.{key})")
        for letter, (size, key, n) in found.items()
    }
    first, dtype = cell.shapes[0][0], params[0].dtype
    if not jnp.issubdtype(dtype, jnp.inexact):  # complex numbers: for complex steps
        raise ValueError(f"`params` must be floating point; {first} is {dtype}")
    for name, text in cell.shapes:
        lacking = [letter for letter in letters_of(text) if letter not in sizes]
        if lacking:
            raise ValueError(
                f"the size {lacking[0]} of `params.{name}` {form_of(text)} can be read off no "
                f"shape of the cell {cell.name}"
            )
        x, want = arrays[name], shape_of(text, sizes)
        if x.shape != want:
            legend = ", ".join(sources[letter][1] for letter in letters_of(text))
            raise ValueError(
                f"`params.{name}` must be {want}, that is {form_of(text)} with {legend}; got shape "
                f"{x.shape}"
            )
        if x.dtype != dtype:
            raise ValueError(
                f"params must share one dtype; {first} is {dtype}, {name} is {x.dtype}"
            )
    return sources


def place(axes, n):
    """Where a size was read off: "rows of ", "columns of ", or nothing for the one axis."""
    return {(2, 0): "rows of ", (2, 1): "columns of "}.get((axes, n), f"axis {n} of ") * (axes > 1)


def check_input(sizes, params, x, name, leading):
    """x is one array of D features, in the dtype of params."""
    if not hasattr(x, "shape"):
        raise ValueError(
            f"`{name}` must be one array; got {type(x).__name__}. A pair ({name}, masks) is for a "
            "cell that takes one, say make_rnn(zoneout(LSTM)); in a stack, by `sequence=`"
        )
    if "D" in sizes and x.shape[-1] != sizes["D"][0]:
        raise ValueError(
            f"`{name}` must be {form(leading)} with {sizes['D'][1]}; got shape {x.shape}"
        )
    dtype = params[0].dtype
    if x.dtype != dtype:
        raise ValueError(
            f"`{name}` and params must share one dtype; got {x.dtype} and {dtype}. "
            f"Convert one of them: {name}.astype(...)"
        )


def check_state(cell, sizes, params, state, x, name, leading):
    """Each field has the batch axes of x, then its own; h the dtype of params, others perhaps the
    wide one."""
    check_names("state", state, cell.fields, cell.state)
    dtype = params[0].dtype
    batch = jax.tree.leaves(x)[0].shape[leading:-1]
    for (key, text), got in zip(cell.fields, state, strict=True):
        if not hasattr(got, "shape"):
            raise ValueError(f"`state.{key}` must be one array; got {type(got).__name__}")
        letters = letters_of(text)
        if all(letter in sizes for letter in letters):
            shape = (*batch, *shape_of(text, {k: size for k, (size, _) in sizes.items()}))
            legend = ", ".join(sizes[letter][1] for letter in letters) or form_of(text)
            if got.shape != shape:
                raise ValueError(
                    f"`state.{key}` must be {shape}: the batch axes of {name} "
                    f"{jax.tree.leaves(x)[0].shape}, then {legend}; got shape {got.shape}"
                )
        want = wide(dtype) if is_wide(text) else dtype
        if got.dtype != want:
            raise ValueError(f"`state.{key}` must be {want} for {dtype} {name}; got {got.dtype}")


# What comes beside ----------------------------------------------------------------------------


def check_pair(cell, x, name):
    if not isinstance(x, tuple) or len(x) != 2:
        raise ValueError(
            f"`{name}` of a {cell.name} cell must be a pair ({name}, masks), see "
            "jax_lstm.zoneout_masks"
        )
    return x


def check_beside(cell, state, x, masks, leading):
    """One mask per step for each field that is held, broadcastable to it."""
    if not isinstance(masks, tuple) or len(masks) != len(cell.beside):
        raise ValueError(
            f"`masks` must be a tuple of {len(cell.beside)}, for {', '.join(cell.beside)}: one per "
            "field of the state"
        )
    for field, mask in zip(cell.beside, masks, strict=True):
        check_array(f"masks.{field}", mask)
        want = (*x.shape[:leading], *getattr(state, field).shape)
        fits = len(want) == mask.ndim and all(
            m in (1, n) for m, n in zip(mask.shape[leading:], want[leading:], strict=True)
        )
        if not fits or mask.shape[:leading] != want[:leading]:
            raise ValueError(
                f"the mask of `{field}` must be broadcastable to {want}; got {mask.shape}"
            )


def check_consts(cell, state, consts):
    """Refused where they would be ignored: a mask of recurrent dropout given to the plain cell."""
    if cell.consts is None and consts is not None:
        raise ValueError(
            "`consts` is not used by this cell; make_rnn(recurrent_dropout(LSTM)) makes one that "
            "does"
        )
    if cell.consts in (None, "any"):
        return
    h = getattr(state, cell.consts)
    if not is_array(consts) or not broadcasts(consts, h):
        shape = getattr(consts, "shape", None)
        given = f"shape {shape}" if is_array(consts) else type(consts).__name__
        raise ValueError(
            f"`consts` of a {cell.name} cell must be its mask {h.shape}, see "
            f"jax_lstm.recurrent_dropout_masks; got {given}"
        )


def check_options(residuals: Any, unroll: Any, reverse: Any = False) -> tuple[Any, Any]:
    """residuals and unroll, whole numbers as Python's."""
    steps = None if isinstance(residuals, str) else whole_number(residuals)
    if (steps or 0) < 1 and not (isinstance(residuals, str) and residuals in WORDS):
        words = ", ".join(f'"{word}"' for word in WORDS)
        refuse("residuals", f"{words} or a number of steps K >= 1", residuals)
    times = None if isinstance(unroll, str) else whole_number(unroll)
    if (times or 0) < 1 and not (isinstance(unroll, str) and unroll == "auto"):
        refuse("unroll", 'an integer >= 1 or "auto"', unroll)
    check_flag("reverse", reverse)
    return steps or residuals, times or unroll


def check_forward(name, sequence):
    """Refused: a sequence that runs in reverse by `functools.partial`, around it or inside."""
    given = getattr(sequence, "keywords", {})
    if given.get("reverse"):
        raise ValueError(f"`{name}` must run forward in time; for the other way turn xs round")
    for inner in (given.get("sequence"), getattr(sequence, "func", None)):
        if inner is not None:
            check_forward(name, inner)


def valid_steps(lengths, mask, T, batch):
    """The steps to be run, booleans (T, ...), or None for all of them.

    Times are counted in a dtype that holds T: in the lengths' own, uint8 say, they would wrap.
    """
    mask = check_steps("mask", mask, T, batch)
    if lengths is None:
        return mask
    lengths = check_lengths(lengths, T, batch)
    highest = jnp.iinfo(jnp.int32).max if is_symbolic_dim(T) else T
    lengths = jnp.clip(lengths, 0, min(highest, jnp.iinfo(lengths.dtype).max)).astype(jnp.int32)
    valid = jnp.arange(T, dtype=jnp.int32).reshape((T, *(1,) * len(batch))) < lengths[None]
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


def check_resets(resets, time, batch):
    """A boolean per step and example, or None. Numbers that are 0 or 1 are as good, dones of an
    environment say; under jit, where values cannot be looked at, all but 0 count as 1. Trailing
    batch axes may be left out, but not the first one: the agents of an environment share its end.

    Args:
      resets: what the user gave.
      time, batch: (T,) and (B, ...) for a sequence, () and (B, ...) for one step.
    """
    if resets is None:
        return None
    whole = (*time, *batch)
    want = f"boolean {'(T, ...)' if time else '(...)'} = {whole}"
    given, flags = resets, as_array("resets", resets, bool, want)
    numbers = any(jnp.issubdtype(flags.dtype, kind) for kind in (jnp.integer, jnp.floating))
    least = len(time) + min(1, len(batch))
    fits = least <= flags.ndim <= len(whole) and flags.shape == whole[: flags.ndim]
    if not (fits and (numbers or flags.dtype == bool)):
        raise ValueError(f"`resets` must be {want}; got {flags.dtype} {flags.shape}")
    if numbers and not any(isinstance(x, Tracer) for x in jax.tree.leaves(given)):
        values = np.asarray(given)
        strange = values[(values != 0) & (values != 1)]
        if strange.size:
            raise ValueError(f"`resets` must be boolean, or 0 and 1; got {strange[0]}")
    flags = flags.astype(bool).reshape(flags.shape + (1,) * (len(whole) - flags.ndim))
    return flags if flags.shape == whole else jnp.broadcast_to(flags, whole)


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
