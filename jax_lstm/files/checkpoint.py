"""FILES OF OUR OWN: parameters, states, an optimizer's state and notes, as safetensors.

    save("model.safetensors", {"params": params, "state": state}, notes={"step": 200})
    tree, notes = load("model.safetensors")

Any program that reads safetensors reads the arrays, by names such as "params.layers.0.1.W". The
header also holds, as texts, for whoever opens the file without us:

    format, version     "jax_lstm", "1"
    gates               their order, and on which side the weights stand
    cells               {where: {"cell": "lstm", "D": ..., "H": ...}}
    tree                tuples, lists, dicts and NamedTuples around the names of the leaves
    sha256              {leaf: of its dtype, shape and bytes}
    notes               whatever JSON can say
    header              sha256 of all of the above

The same tree and notes are the same bytes. A file that was cut off or altered is refused, and the
leaf is named. Nothing in a file is executed.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jax_lstm.cells import CELLS
from jax_lstm.doors import as_jax_would, check_path
from jax_lstm.engine.shapes import sizes_of
from jax_lstm.files.arrays import META, read_tensors, write_tensors
from jax_lstm.files.disk import reading
from jax_lstm.interop.convert import to_jax
from jax_lstm.networks.sizes import StackParams
from jax_lstm.notation import GATES, Tree
from jax_lstm.printing import listing
from jax_lstm.stages.readout import DenseParams

Json: TypeAlias = Any  # what JSON can say

VERSION = 1
DEEPEST = 100  # levels of a tree, and of notes
OURS = (
    *(kind for cell in CELLS.values() for kind in (cell.params, cell.state)),
    *(StackParams, DenseParams),
)
ORDER = f"{' '.join(GATES)}, blocks side by side; x @ W with W (D, 4H), U (H, 4H), b (4H,)"


class Saved(NamedTuple):
    """What `load` returns: the tree that was saved, and its notes."""

    tree: Tree
    notes: Json


def save(path: str | Path, tree: Tree, *, notes: Json = None) -> None:
    """Write a tree of arrays to a .safetensors file, as a whole or not at all.

    Args:
      path: of the file; what stood there is replaced at the last moment, atomically, and keeps its
        mode. A link is followed.
      tree: arrays of any dtype in NamedTuples, tuples, lists and dicts with text for keys: params,
        states, `{"params": ..., "opt_state": ...}`.
      notes: what JSON can say: a vocabulary, the step, a configuration. JSON has no tuples: they
        come back as lists.

    Raises:
      ValueError: what is no array, notes that are no JSON or would come back as others, or a path
        where no regular file stands; nothing is written then.

    Source: this file's.
    """
    check_path("path", path)
    arrays, cells = {}, {}
    shape = describe(tree, "", arrays, cells)
    check_notes(notes)
    try:
        said = json.dumps(notes, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`notes` must be what JSON can say: {error}") from None
    metadata = {
        "format": "jax_lstm",
        "version": str(VERSION),
        "gates": ORDER,
        "cells": json.dumps(cells),
        "tree": json.dumps(shape),
        "sha256": json.dumps({name: digest(x) for name, x in arrays.items()}),
        "notes": said,
    }
    metadata["header"] = digest_of_header(metadata)
    write_tensors(path, arrays, metadata)


def load(path: str | Path, *, like: Tree = None) -> Saved:
    """The tree of a file that `save` wrote, and its notes.

    Args:
      path: of the file.
      like: a tree of the same form, dtypes and shapes: of arrays, or of `jax.eval_shape`. It brings
        NamedTuples that are not this package's, an optimizer's state say, and a file of another
        form is refused.

    Returns:
      Saved(tree, notes), JAX arrays.

    Raises:
      ValueError: no file of ours, or of a later version; a file that was cut off or altered, with
        the leaf's name; float64 with JAX's x64 off; what differs from `like`.

    Source: this file's.
    """
    check_path("path", path)
    with reading(path):
        arrays, metadata = read_checkpoint(path)
        types = {kind.__name__: kind for kind in OURS} | types_of(like)
        arrays = {name: to_jax(name, x) for name, x in arrays.items()}
        try:
            tree = rebuild(said_in(metadata, "tree", path), arrays, types, path, like)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} says of its tree what is none: {error!r}") from None
        if like is not None:
            check_like(tree, like, path)
        return Saved(tree, notes_of(metadata, path))


def read_checkpoint(path, most=None):
    """(arrays by name, metadata) of a file that `save` wrote, every sum of it checked."""
    found = read_tensors(path, most)
    with reading(path):
        return check_sums(path, *found)


def check_sums(path, arrays, metadata):
    """(arrays by name, metadata), or what was altered."""
    if metadata.get("format") != "jax_lstm":
        raise ValueError(
            f"{path} was not written by jax_lstm.save; it holds {listing(arrays)}. `python -m "
            "jax_lstm inspect` shows what is in it, jax_lstm.interop reads other systems' weights"
        )
    if metadata.get("version") != str(VERSION):
        raise ValueError(
            f"{path} is of version {metadata.get('version')}; this jax_lstm reads {VERSION}"
        )
    if metadata.get("header") != digest_of_header(metadata):
        raise ValueError(f"{path} was altered in its header: its sha256 is another")
    sums = said_in(metadata, "sha256", path)
    if not isinstance(sums, dict):
        raise ValueError(f"`sha256` in the header of {path} must be a sum for each leaf")
    if set(arrays) != set(sums):
        raise ValueError(
            f"{path} was altered in its header: it names {listing(set(arrays) - set(sums))}, where "
            f"{listing(set(sums) - set(arrays))} was written"
        )
    bad = [name for name in sums if digest(arrays[name]) != sums[name]]
    if bad:
        raise ValueError(
            f"{path} is damaged in {listing(f'`{name}`' for name in bad)}: not the bytes, dtype "
            "and shape that were written, by their sha256"
        )
    for key in ("cells", "tree", "notes"):
        said_in(metadata, key, path)
    return {name: arrays[name] for name in sums}, metadata


def said_in(metadata, key, path):
    """What the header says under a key, of JSON."""
    if key not in metadata:
        raise ValueError(f"the header of {path} lacks `{key}`")
    try:
        return json.loads(metadata[key])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"`{key}` in the header of {path} is no JSON: {error!s:.300}") from None


def cells_of(metadata, path):
    """{where: name of the cell}, as `save` wrote it."""
    try:
        return {where: said["cell"] for where, said in said_in(metadata, "cells", path).items()}
    except (AttributeError, TypeError, KeyError):
        raise ValueError(
            f"`cells` in the header of {path} must be the cell of each place"
        ) from None


def notes_of(metadata, path: Any = "the file"):
    return said_in(metadata, "notes", path)


# Sums -----------------------------------------------------------------------------------------


def digest(x):
    """Of dtype, shape and bytes."""
    what = hashlib.sha256(f"{x.dtype} {x.shape} ".encode())
    what.update(x.tobytes())
    return what.hexdigest()


def digest_of_header(metadata):
    """Of all texts but itself; the sums among them answer for names, dtypes and shapes."""
    said = {k: v for k, v in metadata.items() if k != "header"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


# Trees ----------------------------------------------------------------------------------------


def check_leaf(name, node):
    """An array that has numbers."""
    if isinstance(node, Tracer):
        raise ValueError(f"`{name}` is traced, and has no numbers yet; save it outside of jax.jit")
    if isinstance(node, jax.Array) and jnp.issubdtype(node.dtype, jax.dtypes.prng_key):
        raise ValueError(f"`{name}` is a key; save jax.random.key_data of it")
    if not isinstance(node, jax.Array | np.ndarray | np.generic):
        raise ValueError(
            f"`{name}` must be an array, in NamedTuples, tuples, lists and dicts; got "
            f"{type(node).__name__}{as_jax_would(node)}"
        )
    if isinstance(node, np.ma.MaskedArray):
        raise ValueError(f"`{name}` is a masked array, whose mask a file has no place for")


def describe(node, where, arrays, cells, depth=0):
    """The form of a tree as JSON can say it; fills `arrays` with its leaves, and `cells`."""

    def inside(key, x):
        return describe(x, f"{where}.{key}" if where else str(key), arrays, cells, depth + 1)

    if depth > DEEPEST:
        raise ValueError(f"the tree has more than {DEEPEST} levels, at `{where:.60}...`")
    if node is None:
        return None
    if hasattr(node, "_fields"):
        fields = dict(zip(node._fields, node, strict=True))
        found = {
            "type": type(node).__name__,
            "fields": {k: inside(k, x) for k, x in fields.items()},
        }
        for cell in CELLS.values():
            if type(node) is cell.params:
                cells.setdefault(where, {"cell": cell.name} | sizes_of(cell.shapes, fields))
        return found
    if isinstance(node, tuple | list):
        kind = "tuple" if isinstance(node, tuple) else "list"
        return {kind: [inside(n, x) for n, x in enumerate(node)]}
    if isinstance(node, dict):
        if not all(isinstance(key, str) for key in node):
            raise ValueError(f"the keys of {where or 'a dict'} must be texts; got {listing(node)}")
        keys = sorted(node) if type(node) is dict else node  # as JAX: equal dicts are equal bytes
        return {"dict": {key: inside(key, node[key]) for key in keys}}
    check_leaf(where or "tree", node)
    name = where or "array"
    if not is_text(name):
        raise ValueError(f"the name {name!r} holds half a letter, which a file cannot")
    if name in arrays or name == META:
        raise ValueError(f"two leaves would be called `{name}`; rename a key")
    arrays[name] = np.asarray(node)
    return name


def is_text(name):
    """Whether UTF-8 has it: Python's texts may hold half a letter."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_notes(node, where="notes", depth=0):
    """Complain about what JSON would make something else of, by its place."""
    if depth > DEEPEST:
        raise ValueError(f"`notes` have more than {DEEPEST} levels, at `{where:.60}...`")
    if isinstance(node, dict):
        for key, x in node.items():
            if not isinstance(key, str):
                raise ValueError(
                    f"the keys of `{where}` must be texts; got {key!r}, which JSON turns into one"
                )
            check_notes(x, f"{where}.{key}", depth + 1)
    elif isinstance(node, list | tuple):
        for n, x in enumerate(node):
            check_notes(x, f"{where}.{n}", depth + 1)
    elif isinstance(node, float) and not math.isfinite(node):
        raise ValueError(f"`notes` must be what JSON can say: `{where}` is {node}")


def types_of(tree):
    """{name: type} of the NamedTuples in a tree."""
    if isinstance(tree, dict):
        return types_of(tuple(tree.values()))
    if not isinstance(tree, tuple | list):
        return {}
    found = {type(tree).__name__: type(tree)} if hasattr(tree, "_fields") else {}
    return found | {k: kind for x in tree for k, kind in types_of(x).items()}


def rebuild(node, arrays, types, path, like=None):
    """The tree of its description. `like`, the same place of another, knows its NamedTuples."""

    def inside(x, key):
        return rebuild(x, arrays, types, path, child(like, key))

    if node is None:
        return None
    if isinstance(node, str):
        return arrays[node]
    if "type" not in node:
        ((kind, parts),) = node.items()
        return (
            {key: inside(x, key) for key, x in parts.items()}
            if kind == "dict"
            else {"tuple": tuple, "list": list}[kind](inside(x, n) for n, x in enumerate(parts))
        )
    kind = type(like) if type(like).__name__ == node["type"] else types.get(node["type"])
    if kind is None or set(getattr(kind, "_fields", ())) != set(node["fields"]):
        raise ValueError(
            f"{path} holds a {node['type']}({', '.join(node['fields'])}), which is not jax_lstm's: "
            "give a tree of the same form, load(path, like=...)"
        )
    return kind(**{key: inside(x, key) for key, x in node["fields"].items()})


def child(like, key):
    """What stands there in another tree, if it has such a place."""
    if hasattr(like, "_fields"):
        return getattr(like, str(key), None) if key in like._fields else None
    if isinstance(like, dict):
        return like.get(key)
    return like[key] if isinstance(like, tuple | list) and key in range(len(like)) else None


def check_like(tree, like, path):
    got, want = jax.tree.structure(tree), jax.tree.structure(like)
    if got != want:
        raise ValueError(f"{path} has another form than `like`: it is {got}, `like` is {want}")
    wanted = jax.tree.leaves(like)
    for (place, x), y in zip(jax.tree.leaves_with_path(tree), wanted, strict=True):
        name = jax.tree_util.keystr(place, simple=True, separator=".")
        if not (hasattr(y, "shape") and hasattr(y, "dtype")):
            raise ValueError(f"`{name}` of `like` must be an array; got {type(y).__name__}")
        if (x.shape, x.dtype) != (y.shape, y.dtype):
            raise ValueError(
                f"`{name}` of {path} is {x.dtype} {x.shape}; `like` has {y.dtype} {y.shape}"
            )
