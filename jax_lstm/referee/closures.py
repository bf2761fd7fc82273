"""What a function brings with it besides its arguments, and how exact it is inside."""

import contextlib
import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jaxprs

from jax_lstm.doors import is_array

DEEPEST = 6  # functions in functions


def closed_over(function: Any) -> dict[str, Any]:
    """{name: array} of what a function sees without being given it: closures, globals, defaults.

    Looks through `custom_vjp`, `custom_jvp`, `jit`, `partial` and bound methods.
    """
    found: dict[str, Any] = {}
    walk(function, found, set(), DEEPEST)
    return found


def walk(function, found, seen, deeper):
    if id(function) in seen or not deeper:
        return
    seen.add(id(function))
    if isinstance(function, functools.partial):
        things = {str(n): x for n, x in enumerate(function.args)} | function.keywords
        note(things | {function_name(function.func): function.func}, found, seen, deeper)
        return
    inner = {
        k: getattr(function, k, None)
        for k in ("fun", "fwd", "bwd", "jvp", "__wrapped__", "__func__")
    }
    for x in inner.values():
        if callable(x):
            walk(x, found, seen, deeper)
    owner = getattr(function, "__self__", None)
    if owner is not None and not inspect.ismodule(owner):
        note(dict(getattr(owner, "__dict__", {})), found, seen, deeper)
    if not inspect.isfunction(function):
        return
    note(seen_by(function, function.__code__), found, seen, deeper)


def seen_by(function, code):
    """{name: thing} of what its code names, and that of the functions that are written in it."""
    things = {k: function.__globals__[k] for k in code.co_names if k in function.__globals__}
    for cell_of, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        with contextlib.suppress(ValueError):  # an empty cell: the name has no value yet
            things[cell_of] = cell.cell_contents
    for part in code.co_consts:
        if inspect.iscode(part):
            things |= {
                k: x for k, x in seen_by(function, part).items() if k not in part.co_freevars
            }
    return things


def note(things, found, seen, deeper):
    for name, x in things.items():
        if inspect.isfunction(x) or isinstance(x, functools.partial) or hasattr(x, "defvjp"):
            walk(x, found, seen, deeper - 1)
        elif not (inspect.ismodule(x) or inspect.isclass(x) or callable(x)):
            try:
                leaves = jax.tree.leaves_with_path(x)
            except Exception:  # somebody's class flattens itself, and may raise anything: what is
                continue  # no tree of arrays has none to name, and no verdict needs it
            for path, leaf in leaves:
                if is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating):
                    found.setdefault(f"{name}{jax.tree_util.keystr(path)}", leaf)


def function_name(function):
    return getattr(function, "__name__", type(function).__name__)


def inside(function, args):
    """What its program shows: the largest eps of a floating-point value, and whether it has a loop
    that runs until its numbers say so."""
    found, loops = [0.0], [False]

    def look(jaxpr):
        for equation in jaxpr.eqns:
            loops.append(equation.primitive.name == "while")
            for value in equation.outvars:
                aval = getattr(value.aval, "inner_aval", value.aval)
                dtype = getattr(aval, "dtype", np.dtype(bool))
                if jnp.issubdtype(dtype, jnp.floating):
                    found.append(float(jnp.finfo(dtype).eps))
            for part in jax.tree.leaves(equation.params, is_leaf=is_program):
                if is_program(part):
                    look(getattr(part, "jaxpr", part))

    look(jax.make_jaxpr(function)(*args).jaxpr)
    return max(found), any(loops)


def is_program(x):
    return isinstance(x, jaxprs.Jaxpr | jaxprs.ClosedJaxpr)
