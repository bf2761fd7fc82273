"""What people bring: arrays in .json, .npz and .safetensors files, and how exact their numbers are.

No object is ever unpickled, and a file is what its content says it is. Numbers of a text are as
exact as they were printed: 0.0697 is 0.0697 ± 0.00005.
"""

import json
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jax_lstm.files.arrays import MOST, arrays_of_npz, read_tensors
from jax_lstm.files.disk import read as read_bytes
from jax_lstm.files.disk import reading

FEWEST = 4  # decimal places; where no number of an array has as many, they are taken as exact
EXACT = 1000
MOST_TEXT = 64 * 2**20  # bytes of JSON: its numbers take fifty times as many in Python


def read(path):
    """{"problem": ..., "gradient": ..., "layout": ...} of a file; by its ending, then its content.

    A .npz or .safetensors file may hold a gradient alone; names of its arrays are then those of the
    layout. With both, they are named "problem/..." and "gradient/...".
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    readers = {".json": read_json, ".npz": read_npz, ".safetensors": read_safetensors}
    if path.suffix not in readers:
        raise ValueError(f"{path} must end in {', '.join(readers)}")
    with reading(path):
        return readers[path.suffix](path)


def read_json(path):
    data = read_bytes(path, MOST_TEXT)
    try:
        found = json.loads(data.decode("utf-8"), parse_float=read_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold an object; got {type(found).__name__}")
    known = {"about", "layout", "cell", "problem", "gradient"}
    if not known & set(found):
        found = {"gradient": found}
    strange = set(found) - known
    if strange:
        raise ValueError(
            f"{path} must hold {', '.join(sorted(known))}; got {', '.join(sorted(strange))}"
        )
    return found


def read_npz(path):
    return sort_out(arrays_of_npz(path))


def read_safetensors(path):
    return sort_out(read_tensors(path, MOST).arrays)


def sort_out(arrays):
    """Flat names with a slash, as the parts of a file; words as text."""
    found: dict[str, Any] = {}
    for name, x in arrays.items():
        part, _, rest = name.rpartition("/")
        x = str(x) if x.dtype.kind in "US" and x.ndim == 0 else x
        x = x.item() if isinstance(x, np.ndarray) and rest == "scale" and x.ndim == 0 else x
        if part not in ("", "problem", "gradient") or (
            not part and rest in ("problem", "gradient")
        ):
            raise ValueError(f"`{name}`: names are NAME, problem/NAME or gradient/NAME")
        if not part and rest in ("layout", "cell"):
            found[rest] = x
        else:
            found.setdefault(part or "gradient", {})[rest] = x
    return found


# Numbers -----------------------------------------------------------------------------------


def numbers(x, name):
    """(float64 array, what of it is known, absolute rounding of its printed digits)."""
    if isinstance(x, np.ndarray) or hasattr(x, "__array__"):
        x = np.asarray(x)
        if x.dtype == object:
            raise ValueError(f"`{name}` holds Python objects; it must hold numbers")
        if x.dtype.kind not in "fiu" and not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"`{name}` must hold real numbers; got {x.dtype}")
        return x.astype(np.float64), np.ones(x.shape, bool), 0.0
    try:
        boxed = np.array(x, dtype=object)
        known = np.vectorize(lambda v: v is not None, otypes=[bool])(boxed)
        values = np.where(known, boxed, 0.0).astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"`{name}` must be numbers in lists of equal lengths") from None
    places = [v.places for v in boxed[known].reshape(-1) if isinstance(v, Typed)]
    longest = max(places, default=0)
    return values, known, 0.5 * 10.0**-longest if FEWEST <= longest < EXACT else 0.0


def dtype_of(x, values):
    """What the numbers were computed in, as far as they show it."""
    x = getattr(x, "dtype", np.dtype(float))
    if jnp.issubdtype(x, jnp.floating) and jnp.finfo(x).bits < 64:
        return str(x)
    with np.errstate(over="ignore"):
        narrow = values.size > 0 and (values.astype(np.float32) == values).all()
    return "float32" if narrow and values.any() else "float64"


class Typed(float):
    """A number of a text, and its decimal places: what printing rounded away. A whole float64 has
    fifteen significant digits or more, and then EXACT of them count."""

    places = 0


def read_number(text):
    """A Typed number, or a ValueError for one whose exponent nobody means."""
    try:
        number, digits = Typed(text), Decimal(text).as_tuple()
    except InvalidOperation:
        raise ValueError(f"{text:.60} has an exponent that no float64 has") from None
    number.places = EXACT if len(digits.digits) >= 15 else -int(digits.exponent)
    return number
