"""FILES of safetensors: arrays by name and texts, read and written by the package `safetensors`.

Ours is what surrounds it: a file is written as a whole or not at all, and one that was cut off is
told by the name of the array in which it ends.

    n: 8 bytes, little-endian    header: n bytes of JSON    data: the arrays, one after the other
    header = {name: {"dtype": "F32", "shape": [...], "data_offsets": [start, end]}, ...,
              "__metadata__": {text: text}}

Source: the format's description at huggingface.co/docs/safetensors.
"""

import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jax_lstm.interop.order import by_number

DTYPES: dict[str, Any] = (
    {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16}
    | {"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8}
    | {"U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8}
    | {"BOOL": np.bool_, "F8_E4M3": jnp.float8_e4m3fn, "F8_E5M2": jnp.float8_e5m2}
)
META = "__metadata__"


class Tensors(NamedTuple):
    """arrays by name, metadata {text: text}."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]


def read_tensors(path):
    """Tensors of a file, by name; ValueError names the array at which a file was cut off."""
    import safetensors  # late: `import jax_lstm` needs jax and numpy alone

    data = Path(path).read_bytes()
    try:
        entries = safetensors.deserialize(data)
        with safetensors.safe_open(path, "np") as file:
            metadata = file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} {what_is_wrong(data, error)}") from None
    arrays = {}  # the package gives them in no order
    for name, entry in sorted(entries, key=lambda entry: by_number(entry[0])):
        dtype = DTYPES.get(entry["dtype"])
        if dtype is None:
            raise ValueError(
                f"`{name}` of {path} is {entry['dtype']}; known are {', '.join(DTYPES)}"
            )
        arrays[name] = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    return Tensors(arrays, metadata)


def what_is_wrong(data, error):
    """Where a file that the package refused ends, as far as its header can be read."""
    n = int.from_bytes(data[:8], "little")
    if len(data) < 8 + max(n, 2):
        says = f"it announces a header of {n} bytes" if len(data) >= 8 else "too short for a header"
        return (
            f"is no .safetensors file, or was cut off in its header: {says}, the file has "
            f"{len(data)} bytes"
        )
    try:
        header = json.loads(data[8 : 8 + n])
        ends = sorted((v["data_offsets"][1], k) for k, v in header.items() if k != META)
        (end, _), there = ends[-1], len(data) - 8 - n
        if end < there:
            return f"has {there - end} bytes after its last array"
        name = next(k for stop, k in ends if stop > there)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, StopIteration):
        return f"is no .safetensors file: {error!s:.300}"
    return (
        f"was cut off in `{name}`: its header announces {end} bytes of numbers, the file has "
        f"{there}"
    )


def encode_tensors(arrays, metadata):
    """The bytes of a file. arrays: {name: NumPy array}; metadata: {text: text}."""
    from safetensors.numpy import save  # late, as above

    for name, x in arrays.items():
        if not any(x.dtype == dtype for dtype in DTYPES.values()):
            raise ValueError(f"`{name}` is {x.dtype}; safetensors has {', '.join(DTYPES)}")
    return save({name: np.asarray(x, order="C") for name, x in arrays.items()}, metadata or None)


def write(path, data):
    """The bytes as a whole, or the file as it was: written beside it, then moved into its place."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


TORCH_SAVE = (
    "; what torch.save wrote fits after safetensors.torch.save_file(module.state_dict(), FILE)"
)


def arrays_of_npz(path):
    """{name: array}, or what is wrong with the file."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no .npz archive")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {k: file[k] for k in file.files}
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        if "pickle" in str(error):
            raise ValueError(f"{path} holds pickled objects, which are not loaded") from None
        raise ValueError(f"{path} is no .npz archive of arrays: {error}") from None
    strange = [k for k, x in arrays.items() if not isinstance(x, np.ndarray)]
    if strange:
        raise ValueError(f"{path} must hold arrays; {strange[0]} is none{TORCH_SAVE}")
    return arrays
