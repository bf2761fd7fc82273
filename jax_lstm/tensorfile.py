"""THE FORMAT of safetensors, as it is: eight bytes, a header, and the numbers.

    n: 8 bytes, little-endian    header: n bytes of JSON    data: the arrays, one after the other
    header = {name: {"dtype": "F32", "shape": [...], "data_offsets": [start, end]}, ...,
              "__metadata__": {text: text}}

Forty lines, so that no package is needed to bring weights home, and so that a damaged file can be
told by the name of the array that is damaged. tests/test_files.py holds it against the package
`safetensors`, both ways.

Source: the format's description at huggingface.co/docs/safetensors.
"""

import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

DTYPES = (
    {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16}
    | {"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8}
    | {"U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8}
    | {"BOOL": np.bool_, "F8_E4M3": jnp.float8_e4m3fn, "F8_E5M2": jnp.float8_e5m2}
)
KINDS = {np.dtype(dtype): kind for kind, dtype in DTYPES.items()}
META = "__metadata__"


class Tensors(NamedTuple):
    """arrays by name, metadata {text: text}, and the header as it stood there."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]
    header: dict[str, Any]


def layout(arrays, metadata):
    """(header, names in the order of the data): wide numbers first, so that all are aligned."""
    for name, x in arrays.items():
        if x.dtype not in KINDS:
            raise ValueError(f"`{name}` is {x.dtype}; safetensors has {', '.join(DTYPES)}")
    order = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    header, end = ({META: metadata} if metadata else {}), 0
    for name in order:
        x = arrays[name]
        start, end = end, end + x.nbytes
        entry = {"dtype": KINDS[x.dtype], "shape": list(x.shape), "data_offsets": [start, end]}
        header[name] = entry
    return header, order


def encode(arrays, metadata):
    """The bytes of a file. arrays: {name: NumPy array}; metadata: {text: text}."""
    header, order = layout(arrays, metadata)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *(arrays[k].tobytes() for k in order)])


def read(path):
    """Tensors of a file; ValueError names the array at which a file was cut off."""
    data = Path(path).read_bytes()
    n = int.from_bytes(data[:8], "little")
    if len(data) < 8 + max(n, 2):
        says = f"it announces a header of {n} bytes" if len(data) >= 8 else "too short for a header"
        raise ValueError(
            f"{path} is no .safetensors file, or was cut off in its header: {says}, the file has "
            f"{len(data)} bytes"
        )
    try:
        header = json.loads(data[8 : 8 + n].decode())
        entries = {k: v for k, v in header.items() if k != META}
        places = sorted((tuple(v["data_offsets"]), k) for k, v in entries.items())
        for (_, _), name in places:
            check_entry(name, entries[name])
        metadata = header.get(META, {})
        if not all(isinstance(v, str) for v in metadata.values()):
            raise ValueError(f"{META} must hold texts")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is no .safetensors file: its header says {error!s:.200}"
        ) from None
    data, end, arrays = data[8 + n :], 0, {}
    for (start, stop), name in places:
        if start != end:
            raise ValueError(
                f"{path}: its header is wrong: `{name}` begins at byte {start}, the array before "
                f"it ends at {end}"
            )
        end = stop
        if end > len(data):
            raise ValueError(
                f"{path} was cut off in `{name}`: its header announces {places[-1][0][1]} bytes of "
                f"numbers, the file has {len(data)}"
            )
        entry = entries[name]
        flat = np.frombuffer(data[start:stop], DTYPES[entry["dtype"]])
        arrays[name] = flat.reshape(entry["shape"])
    if end != len(data):
        raise ValueError(f"{path} has {len(data) - end} bytes after its last array")
    return Tensors({k: arrays[k] for k in entries}, metadata, header)


def check_entry(name, entry):
    start, stop = entry["data_offsets"]
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"`{name}` is {entry['dtype']}; known are {', '.join(DTYPES)}")
    shape = entry["shape"]
    if not all(isinstance(n, int) and n >= 0 for n in (*shape, start, stop)):
        raise ValueError(f"`{name}` has shape {shape} from byte {start} to {stop}")
    size = math.prod(shape) * np.dtype(DTYPES[entry["dtype"]]).itemsize
    if stop - start != size:
        raise ValueError(f"`{name}` is {entry['dtype']} {shape}, {size} bytes; got {stop - start}")


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
