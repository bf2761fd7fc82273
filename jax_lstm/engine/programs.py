"""PROGRAMS, compiled once where nobody wrote `jax.jit`, and again only for new shapes.

A loop whose body is a function made anew is compiled anew, each time, and what was compiled before
stays. So a run is one program here, told by what is static in it: a plan, a sequence function. In a
program of somebody else's it is a part of that.

A sequence function is told by its value where that is possible: a `functools.partial` by what it
holds, its arrays being arguments of the program. A function that closes over what may change
between two calls, arrays or an object with parameters, is traced again at each call, as ever.
"""

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jax_lstm.engine.made import Made


@functools.partial(jax.jit, static_argnums=(0, 1))
def in_one_program(function: Callable[..., Any], static: tuple[Any, ...], *arrays: Any) -> Any:
    """`function(*static, *arrays)`."""
    return function(*static, *arrays)


def with_sequence(
    function: Callable[..., Any],
    static: tuple[Any, ...],
    sequence: Callable[..., Any],
    *arrays: Any,
) -> Any:
    """`function(*static, sequence, *arrays)`: in a program that stays, where the sequence can be
    told; else in one of this call."""
    held: list[Any] = []
    try:
        told = tell(sequence, held)
    except Untold:
        return jax.jit(functools.partial(function, *static, sequence))(*arrays)
    return in_one_program(put_together, (function, static, told), held, *arrays)


def put_together(function, static, told, held, *arrays):
    return function(*static, untell(told, iter(held)), *arrays)


# A function, told by its value ----------------------------------------------------------------


class Untold(Exception):
    """What may change between two calls, and nobody would see it."""


class Partial(NamedTuple):
    """A `functools.partial`: its function, and its arguments, told one by one. Hashable."""

    function: Any
    tree: Any
    leaves: tuple[Any, ...]


class Value(NamedTuple):
    """Of a type of its own: True is not 1."""

    kind: type
    value: Any


ARRAY = "an array"
PLAIN = (bool, int, float, complex, str, bytes, type, type(None), inspect.Signature)


def tell(value, held):
    """What the value is, hashable; its arrays are appended to `held`. Raises Untold."""
    if isinstance(value, functools.partial):
        leaves, tree = jax.tree.flatten((value.args, value.keywords))
        told = tuple(tell(leaf, held) for leaf in leaves)
        return Partial(tell(value.func, held), tree, told)
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        held.append(value)
        return ARRAY
    if not is_constant(value, set()):
        raise Untold
    return Value(type(value), value)


def untell(told, held):
    """The inverse of `tell`."""
    if isinstance(told, Partial):
        leaves = [untell(leaf, held) for leaf in told.leaves]
        args, keywords = jax.tree.unflatten(told.tree, leaves)
        return functools.partial(untell(told.function, held), *args, **keywords)
    return next(held) if told is ARRAY else told.value


def is_constant(value, seen):
    """Whether a value is numbers, words and functions that close over such alone."""
    if id(value) in seen or isinstance(value, (*PLAIN, jax.stages.Wrapped)):
        return True
    seen.add(id(value))
    if isinstance(value, tuple):
        parts = value
    elif isinstance(value, functools.partial):
        parts = (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, Made):
        parts = (value.function, *value.made[1:])
    elif isinstance(value, types.FunctionType):
        try:
            parts = [cell.cell_contents for cell in value.__closure__ or ()]
        except ValueError:  # a variable that has no value yet
            return False
        parts += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    elif isinstance(value, jax.custom_vjp | jax.custom_jvp):
        parts = (value.fun,)
    else:
        return False
    return all(is_constant(part, seen) for part in parts)
