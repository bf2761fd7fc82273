"""DOORS that every level shares: complaints before anything is traced, in the reader's letters.

Each says which argument, what to pass, and what was given: "`name` must be ...; got ...".
"""

import contextlib
import inspect
import math
import operator
import os
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.export import is_symbolic_dim

BACKWARD = "its hand-written rule, which goes backward only"
MOST = 2**31 - 1  # of a size: XLA and Python would complain of more in words of their own
NO_NUMBERS = "OSUMm"  # kinds of dtypes: objects, words, times
TOLERATED = 8  # eps beyond the ends of an interval: a mean of ones may round to more than 1


# Words ----------------------------------------------------------------------------------------


def describe(x):
    """An array by its dtype and shape, a function by its name, what is short as it prints."""
    if is_array(x):
        return f"{'a traced ' if isinstance(x, Tracer) else ''}{x.dtype} {x.shape}"
    if hasattr(x, "dtype"):  # torch's, say: it prints all of its numbers
        return f"{type(x).__module__.partition('.')[0]}.{type(x).__name__}"
    if callable(x) and hasattr(x, "__name__"):
        return f"{'the class' if isinstance(x, type) else 'the function'} {x.__name__}"
    try:
        words = repr(x)
    except Exception:  # what is passed by mistake may be half made
        return type(x).__name__
    return words if len(words) <= 40 else type(x).__name__


def refuse(name: str, want: str, x: object, hint: str = "") -> NoReturn:
    """The one form of a complaint."""
    raise ValueError(f"`{name}` must be {want}; got {describe(x)}{hint}")


@contextlib.contextmanager
def forward_mode_of_the_twin(name, twin=""):
    """JAX says that a rule by hand has no forward mode; this says where there is one."""
    try:
        yield
    except TypeError as error:
        if "custom_vjp" not in str(error) and BACKWARD not in str(error):
            raise
        raise TypeError(  # of a stack, not of its layer
            f"{name}() is differentiated by {BACKWARD}; for jax.jvp, jax.jacfwd or jax.linearize "
            f"take {twin or f'its twin, {name}_autodiff'}"
        ) from None


# Arrays ---------------------------------------------------------------------------------------


def unlike_a_number(found):
    """What `jax.eval_shape` found, in words, where it is not one real number; else None."""
    if getattr(found, "shape", None) == () and jnp.issubdtype(found.dtype, jnp.floating):
        return None
    return " and ".join(f"{x.dtype} {x.shape}" for x in jax.tree.leaves(found)) or "nothing"


def is_array(x):
    """Whether x is an array as NumPy and JAX have them. Other libraries' dtypes are none to JAX, a
    `jax.ShapeDtypeStruct` has no numbers."""
    numbers = hasattr(x, "shape") and not isinstance(x, jax.ShapeDtypeStruct)
    return numbers and isinstance(getattr(x, "dtype", None), np.dtype)


def as_jax_would(x):
    """How to make an array of what is one elsewhere."""
    return "; jnp.asarray(tensor.numpy()) makes one of it" if hasattr(x, "numpy") else ""


def check_array(name, x, want="an array"):
    if not is_array(x) or x.dtype.kind in NO_NUMBERS:
        kind = describe(x) if hasattr(x, "dtype") else type(x).__name__
        raise ValueError(f"`{name}` must be {want}; got {kind}{as_jax_would(x)}")


def check_arrays(name, tree, want="arrays"):
    """A tree of at least one array, and of nothing else: None is no leaf of it."""
    for leaf in jax.tree.leaves(tree, is_leaf=lambda leaf: leaf is None) or [None]:
        check_array(name, leaf, want)


def check_range(name, values, highest, legend):
    """Complain about integers outside [0, highest]. Under jit their values cannot be looked at, and
    a symbolic size is above all of them."""
    if isinstance(values, Tracer) or np.size(values) == 0:
        return
    values = np.asarray(values)
    if values.min() < 0 or (not is_symbolic_dim(highest) and values.max() > highest):
        raise ValueError(f"`{name}` must lie in {legend}; got {values.min()} to {values.max()}")


def check_interval(name, values):
    """Complain about floats outside [0, 1], by more than rounding. NaN lies nowhere, and passes."""
    if isinstance(values, Tracer) or values.size == 0:
        return
    beyond = TOLERATED * float(jnp.finfo(values.dtype).eps)
    least, most = (float(f(np.asarray(values, np.float64))) for f in (np.min, np.max))
    if least < -beyond or most > 1 + beyond:
        raise ValueError(f"`{name}` must lie in [0, 1]; got {least:g} to {most:g}")


def check_floats(name, x, form, least):
    """Complain about what is no real floating point array with at least so many axes."""
    check_array(name, x)
    if not jnp.issubdtype(x.dtype, jnp.floating) or x.ndim < least:
        raise ValueError(f"`{name}` must be floating point {form}; got {x.dtype} {x.shape}")


def as_array(name, given, dtype, want):
    """An array of what is one, or of lists; an empty list has `dtype`. Words have none."""
    parts = jax.tree.leaves(given)
    try:
        for part in parts:  # "f" would be taken for a dtype
            if isinstance(part, str | bytes) or (hasattr(part, "dtype") and not is_array(part)):
                raise TypeError
        if jnp.issubdtype(dtype, jnp.integer) and any(isinstance(p, bool | np.bool) for p in parts):
            raise TypeError
        if any(is_array(p) and p.dtype.kind in NO_NUMBERS for p in parts):  # times become numbers
            raise TypeError
        with jax.numpy_dtype_promotion("standard"):  # lists of numbers of several kinds
            return jnp.asarray(given, None if parts else dtype)
    except Exception:  # whatever it is to NumPy and to JAX, also while they put it into words
        raise ValueError(f"`{name}` must be {want}; got {describe(given)}") from None


def broadcasts(mask, x):
    """Whether the mask can be broadcast to x, which keeps its shape."""
    padded = (1,) * (x.ndim - mask.ndim) + mask.shape
    return mask.ndim <= x.ndim and all(m in (1, n) for m, n in zip(padded, x.shape, strict=True))


# Numbers, flags, words ------------------------------------------------------------------------


def whole_number(x):
    """x as a Python integer, or None: truth values and traced numbers are none."""
    if isinstance(x, bool) or (is_array(x) and x.dtype.kind == "b"):
        return None
    try:
        return operator.index(x)
    except TypeError:
        return None


def check_size(name, size, least):
    """The size as a Python integer (NumPy's would wrap in 4H), or a complaint."""
    whole = whole_number(size)
    if whole is None or whole < least:
        refuse(name, f"a whole number >= {least}", size)
    if whole > MOST:
        refuse(name, f"a whole number <= {MOST}", size)
    return whole


def check_shape(
    name: str, shape: Any, want: str = "a tuple of whole numbers >= 0, say (3,)"
) -> tuple[Any, ...]:
    """The shape as a tuple of Python integers, or a complaint."""
    if not isinstance(shape, tuple | list):
        refuse(name, want, shape)
    sizes = tuple(n if is_symbolic_dim(n) else whole_number(n) for n in shape)
    if any(n is None or (not is_symbolic_dim(n) and n < 0) for n in sizes):
        refuse(name, want, shape)
    return sizes


def check_number(name: str, x: Any, want: str = "a number", traced: bool = True) -> Any:
    """The number, an integer as a float; or a complaint: it must be one real number, finite where
    it can be looked at, which it must be if not `traced`."""
    given: Any = x
    if isinstance(given, int) and not isinstance(given, bool):
        with contextlib.suppress(OverflowError):
            x = float(given)
    if is_array(x):
        real = x.dtype.kind not in NO_NUMBERS and jnp.issubdtype(x.dtype, np.number)
        real = real and x.shape == () and not jnp.issubdtype(x.dtype, jnp.complexfloating)
    else:
        real = isinstance(x, float)
    if not real or (not traced if isinstance(x, Tracer) else not math.isfinite(x)):
        refuse(name, want, given)
    whole = is_array(x) and jnp.issubdtype(x.dtype, jnp.integer)
    return jnp.asarray(x).astype(float) if whole else x


def check_flag(name, flag):
    if not isinstance(flag, bool | np.bool):
        refuse(name, "True or False", flag)


def check_text(name, text, want="a text"):
    if not isinstance(text, str):
        refuse(name, want, text)


def check_path(name, path):
    if not isinstance(path, str | os.PathLike):
        refuse(name, "the path of a file", path)


def check_texts(name, texts, want="a tuple of texts"):
    if not isinstance(texts, tuple | list) or not all(isinstance(text, str) for text in texts):
        refuse(name, want, texts)


def check_function(name, function, n=None):
    """A function with room for n arguments."""
    if not callable(function):
        refuse(name, "a function", function)
    if n is not None and not takes(function, n):
        refuse(name, f"a function of {n} argument{'s' * (n > 1)}", function)


def takes(function, n):
    """Whether it has room for n arguments; more may come by name. A function of C may not say."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind_partial(*range(n))
    except TypeError:
        return False
    return True


def check_dtype(name, dtype):
    """A real floating point dtype. None is none: NumPy would take it for float64."""
    none = dtype is None or is_array(dtype) or isinstance(dtype, jax.ShapeDtypeStruct)
    try:
        kind = None if none else jnp.dtype(dtype)
    except Exception:  # NumPy's, or of what is put into its words
        kind = None
    if kind is None or not jnp.issubdtype(kind, jnp.floating):
        given = dtype if kind is None or isinstance(dtype, str) else kind.name
        refuse(name, "floating point", given, "; jnp.float32 is one")


# Random keys, and what is drawn by them -------------------------------------------------------


def check_key(name, key):
    """One key of `jax.random.key`, or one as `jax.random.PRNGKey` has them."""
    keys = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    old = is_array(key) and key.dtype == np.uint32
    if (keys and key.shape == ()) or (old and key.shape in ((2,), (4,))):
        return
    kind = f"keys {key.shape}" if keys else describe(key)
    raise ValueError(f"`{name}` must be one key, say jax.random.key(0); got {kind}")


def check_init(key, dtype, **sizes):
    """The door of what draws parameters: the sizes as Python integers, in the order given."""
    check_key("key", key)
    found = [check_size(name, size, 1) for name, size in sizes.items()]
    check_dtype("dtype", dtype)
    if jnp.dtype(dtype).itemsize < 2:  # JAX draws none
        refuse("dtype", "floating point of 16 bits or more", jnp.dtype(dtype).name)
    return found
