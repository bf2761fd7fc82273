"""DOORS of the referee: complaints about functions and arrays, before any function is called."""

from collections.abc import Mapping

import jax

from jax_lstm.doors import check_arrays, check_function, check_size, check_texts, refuse

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
