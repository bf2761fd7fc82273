"""DOORS that every level shares: complaints before anything is traced, in the reader's letters."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.export import is_symbolic_dim


def check_range(name, values, highest, legend):
    """Complain about integers outside [0, highest]. Under jit their values cannot be looked at, and
    a symbolic size is above all of them."""
    if isinstance(values, Tracer) or np.size(values) == 0:
        return
    values = np.asarray(values)
    if values.min() < 0 or (not is_symbolic_dim(highest) and values.max() > highest):
        raise ValueError(f"`{name}` must lie in {legend}; got {values.min()} to {values.max()}")


def check_floats(name, x, form, least):
    """Complain about what is no floating point array with at least so many axes."""
    if not hasattr(x, "dtype"):
        raise ValueError(f"`{name}` must be an array; got {type(x).__name__}")
    if not jnp.issubdtype(x.dtype, jnp.inexact) or x.ndim < least:
        raise ValueError(f"`{name}` must be floating point {form}; got {x.dtype} {x.shape}")


def check_size(name, size, least):
    """The size as a Python integer (NumPy's would wrap in 4H), or a complaint."""
    try:
        whole = operator.index(size)
    except TypeError:
        whole = None
    if whole is None or isinstance(size, bool) or whole < least:
        raise ValueError(f"`{name}` must be a whole number >= {least}; got {size!r}")
    return whole


def check_function(name, function):
    if not callable(function):
        raise ValueError(f"`{name}` must be a function; got {function!r}")


def as_array(name, given, dtype, want):
    """An array of what is one, or of lists; an empty list has `dtype`. Words have none."""
    parts = jax.tree.leaves(given)
    try:
        if any(isinstance(part, str | bytes) for part in parts):  # "f" would be taken for a dtype
            raise TypeError
        return jnp.asarray(given, None if parts else dtype)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"`{name}` must be {want}; got {given!r}") from None


def broadcasts(mask, x):
    """Whether the mask can be broadcast to x, which keeps its shape."""
    padded = (1,) * (x.ndim - mask.ndim) + mask.shape
    return mask.ndim <= x.ndim and all(m in (1, n) for m, n in zip(padded, x.shape, strict=True))
