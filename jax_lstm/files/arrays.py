"""FILES of safetensors and .npz: arrays by name and texts, bounded in memory, judged before use.

The package `safetensors` judges what is read. What is written is laid out here, so that the same
arrays are the same bytes: the package orders a header as it comes.

    n: 8 bytes, little-endian    header: n bytes of JSON    data: the arrays, one after the other
    header = {"__metadata__": {text: text}, name: {"dtype": "F32", "shape": [...],
              "data_offsets": [start, end]}, ...}

Of a .npz archive the announced sizes are held against the bytes before anything is unpacked.

Source: the format's description at huggingface.co/docs/safetensors.
"""

import json
import math
import zipfile
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jax_lstm.files.disk import check_size, open_regular, read, reading, write
from jax_lstm.interop.order import by_number

DTYPES: dict[str, Any] = (
    {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16}
    | {"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8}
    | {"U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8}
    | {"BOOL": np.bool_, "F8_E4M3": jnp.float8_e4m3fn, "F8_E5M2": jnp.float8_e5m2}
)
META = "__metadata__"
LARGEST_HEADER = 100_000_000  # bytes, for the package

MOST = 4 * 2**30  # bytes of a file, and of what it unpacks to, where nothing else is said
SMALL, RATIO = 64 * 2**20, 100  # and what unpacks to more than SMALL grows at most so many times


PIECE = 2**20  # bytes that are unpacked at once


class Tensors(NamedTuple):
    """arrays by name, metadata {text: text}."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]


def read_tensors(path, most=None):
    """Tensors of a file, by name; ValueError names the array at which a file was cut off.

    most: bytes that the file may have; None: any number.
    """
    import safetensors  # late: `import jax_lstm` needs jax and numpy alone

    data = read(path, most)
    with reading(path):
        try:
            entries = safetensors.deserialize(data)
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
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return Tensors(arrays, header.get(META) or {})


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
    """The bytes of a file: the same for the same arrays. arrays: {name: NumPy array}; metadata:
    {text: text}."""
    kinds = {np.dtype(dtype): kind for kind, dtype in DTYPES.items()}
    header: dict[str, Any] = {META: dict(sorted(metadata.items()))} if metadata else {}
    parts, end = [], 0
    for name, x in sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        if x.dtype not in kinds:
            raise ValueError(f"`{name}` is {x.dtype}; safetensors has {', '.join(DTYPES)}")
        offsets = [end, end := end + x.nbytes]
        header[name] = {"dtype": kinds[x.dtype], "shape": list(x.shape), "data_offsets": offsets}
        parts.append(np.asarray(x, order="C").reshape(-1).view(np.uint8))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the widest arrays come first, and each begins at its width
    if len(text) > LARGEST_HEADER:
        raise ValueError(
            f"names and notes take {len(text):,} bytes; a file has at most {LARGEST_HEADER:,}"
        )
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def write_tensors(path, arrays, metadata):
    """A file as a whole, or the one that was there."""
    write(path, encode_tensors(arrays, metadata))


TORCH_SAVE = (
    "; what torch.save wrote fits after safetensors.torch.save_file(module.state_dict(), FILE)"
)


def arrays_of_npz(path, most=None):
    """{name: array}, or what is wrong with the file.

    most: bytes that the file and its arrays may have; None: MOST, and what unpacks to a hundred
    times the file is taken for an attack.
    """
    with open_regular(path) as (file, size), reading(path):
        check_size(path, size, MOST if most is None else most)
        return arrays_of_archive(file, path, size, most)


def arrays_of_archive(file, path, size, most=None):
    """{name: array} of an opened .npz archive of so many bytes; it is called `path`."""
    try:
        archive = zipfile.ZipFile(file)
    except Exception as error:  # zipfile raises whatever a wrong byte leads it to
        raise ValueError(f"{path} is no .npz archive: {error!s:.300}") from None
    with archive:
        members = archive.infolist()
        check_unpacked(path, size, sum(member.file_size for member in members), most)
        arrays = {}
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in arrays:
                raise ValueError(f"{path} holds two arrays that are called `{name}`")
            try:
                arrays[name] = array_of_member(archive, member)
            except NotAnArray as error:
                raise ValueError(f"{path} {error}") from None
            except Exception as error:  # and so does NumPy
                raise ValueError(
                    f"{path} is no .npz archive of arrays: `{name}`: {error!s:.300}"
                ) from None
    return arrays


def check_unpacked(path, size, unpacked, most):
    """Complain about an archive that grows too large."""
    allowed = MOST if most is None else most
    if unpacked > allowed:
        raise ValueError(f"{path} unpacks to {unpacked:,} bytes; at most {allowed:,} are read")
    if most is None and unpacked > max(SMALL, RATIO * size):
        raise ValueError(
            f"{path} has {size:,} bytes and unpacks to {unpacked:,}, {unpacked // max(size, 1)} "
            f"times as many: more than {RATIO} times are not read unless somebody asks for them"
        )


class NotAnArray(ValueError):
    """A member of an archive that is none."""


def array_of_member(archive, member):
    """The array, whose announced size is that of its bytes."""
    name = member.filename.removesuffix(".npy")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("it is compressed as NumPy compresses nothing")
    with archive.open(member) as file:
        if file.read(6) != b"\x93NUMPY":
            raise NotAnArray(f"must hold arrays; {name} is none{TORCH_SAVE}")
    with archive.open(member) as file:
        return read_npy(file, member.file_size)


def array_of_npy(path, most=MOST):
    """The array of a .npy file."""
    with open_regular(path) as (file, size), reading(path):
        check_size(path, size, most)
        return read_npy(file, size)


HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npy(file, size):
    """The array of a .npy file of so many bytes; nothing is allocated before they are counted."""
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"version {version} of .npy is for tables, not for arrays of numbers")
    shape, turned, dtype = HEADERS[version](file)
    if dtype.hasobject:
        raise NotAnArray("holds pickled objects, which are not loaded")
    announced, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if announced != there or min(shape, default=0) < 0:
        raise ValueError(f"it announces {announced:,} bytes of numbers and holds {there:,}")
    numbers = memoryview(bytearray(there))
    for n in range(0, there, PIECE):
        piece = numbers[n : n + PIECE]
        if file.readinto(piece) != len(piece):
            raise ValueError("it ends in the middle of its numbers")
    file.read(1)  # at its end its sum is checked
    return np.frombuffer(numbers, dtype).reshape(shape, order="F" if turned else "C")
