"""DOORS of the referee: complaints about functions and arrays, before any function is called."""

from collections.abc import Mapping

import jax

from jax_lstm.doors import (
    check_array,
    check_arrays,
    check_function,
    check_size,
    check_texts,
    refuse,
    whole_number,
)

OF_A_CELL = ("prepare", "project", "step", "slopes", "step_bwd", "weights_bwd")


def check_functions(name, functions, least=2, most=None):
    """{name: function}, the last one the referee."""
    if not isinstance(functions, Mapping) or not all(map(callable, functions.values())):
        refuse(name, "{name: function}, the last the referee", functions)
    if len(functions) < least or len(functions) > (most or len(functions)):
        number = f"{least}" if least == most else f"{least} or more"
        raise ValueError(f"`{name}` must be {number}, the last the referee; got {list(functions)}")


def check_judged(args, names, seed):
    """What a function is judged at: arrays, perhaps their names, and where chance begins."""
    if not isinstance(args, tuple | list):
        refuse("args", "a tuple of arrays or of trees of them", args)
    check_arrays("args", args)
    if names is not None:
        check_texts("names", names, "None or a text per argument")
    check_size("seed", seed, 0)


def check_record(cell, seed, **trees):
    """A cell by what it can do, and the arrays that it is run with."""
    lacking = [name for name in OF_A_CELL if not callable(getattr(cell, name, None))]
    if lacking:
        refuse("cell", f"a Cell, a record such as jax_lstm.LSTM with {', '.join(lacking)}", cell)
    for name, tree in trees.items():
        check_arrays(name, tree)
        if name != "xs" and not hasattr(tree, "_fields"):
            refuse(name, "a NamedTuple of arrays", tree)
        if name == "xs" and not all(leaf.ndim for leaf in jax.tree.leaves(tree)):
            refuse(name, "(T, ..., D), time on axis 0", tree)
    check_size("seed", seed, 0)


def check_callables(**functions):
    for name, function in functions.items():
        check_function(name, function)


def check_check(f, args, reference, names, batch, carry, mask, constants, seed):
    """What `check` is told of a function: every sequence has one entry per argument."""
    check_callables(f=f, **({} if reference is None else {"reference": reference}))
    check_judged(args, names, seed)
    for name, entries in (("names", names), ("batch", batch), ("mask", mask)):
        if entries is not None and (
            not isinstance(entries, tuple | list) or len(entries) != len(args)
        ):
            refuse(
                name, f"None, or a tuple with an entry for each of {len(args)} arguments", entries
            )
    leaves = [jax.tree.leaves(arg) for arg in args]
    for axis, of in zip(batch or [None] * len(args), leaves, strict=True):
        if axis is None:
            continue
        axis = whole_number(axis)
        if axis is None or any(not -x.ndim <= axis < x.ndim for x in of):
            refuse("batch", "per argument the axis of its examples, or None", batch)
    if batch is not None and all(axis is None for axis in batch):
        refuse("batch", "the axis of examples of one argument at least", batch)
    for known, of in zip(mask or [None] * len(args), leaves, strict=True):
        if known is None:
            continue
        check_array("mask", known, "per argument booleans over its leading axes, or None")
        if known.dtype != bool or any(known.shape != x.shape[: known.ndim] for x in of):
            refuse("mask", "per argument booleans over its leading axes, or None", known)
    if carry is not None:
        pair = carry if isinstance(carry, tuple | list) and len(carry) == 2 else (None, -1)
        argument, output = whole_number(pair[0]), pair[1]
        wrong = argument is None or not 0 <= argument < len(args)
        if wrong or (output is not None and (whole_number(output) or 0) < 0):
            refuse("carry", "None or (argument, output), two whole numbers", carry)
    check_texts("constants", constants, "names of arguments")
