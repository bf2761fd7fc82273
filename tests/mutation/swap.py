"""A mutant in place of the right function, without importing anything again.

The code object of a living function is exchanged: whoever holds the function runs the mutant, and
the right code comes back afterwards.
"""

import contextlib
import functools
import gc
import types

from jax._src import util


@functools.cache
def functions_of(file):
    """{(name, line): functions} of a file, those that were made by other functions included."""
    found = {}
    for f in gc.get_objects():
        if isinstance(f, types.FunctionType) and f.__code__.co_filename == file:
            found.setdefault(key_of(f.__code__), []).append(f)
    return found


def key_of(code):
    return code.co_qualname, code.co_firstlineno


def codes_of(code):
    """{(name, line): code} of all functions in a code object."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return {key_of(c): c for c in inner} | {k: v for c in inner for k, v in codes_of(c).items()}


class Untouched(Exception):
    """No living function has this code."""


@contextlib.contextmanager
def in_place(file, right, tree):
    """The file's functions as in `tree`, an `ast.Module`; `right` is the module's right one."""
    old, new = (codes_of(compile(t, file, "exec", dont_inherit=True)) for t in (right, tree))
    changed = {k: code for k, code in new.items() if code != old[k]}
    living = [(f, changed[k]) for k in changed for f in functions_of(file).get(k, ())]
    if not living:
        raise Untouched
    before = [f.__code__ for f, _ in living]
    try:
        for f, code in living:
            f.__code__ = code
        yield
    finally:
        for (f, _), code in zip(living, before, strict=True):
            f.__code__ = code


def forget():
    """All that JAX knows by a function's identity, but for its programs of single operations."""
    for cache, what in list(util._caches.items()):
        if "xla_primitive_callable" not in what:
            cache.cache_clear()
