"""WHAT IS IN A FILE of weights: whose layout it seems to be, and how its recurrent cells stand.

    norm      of a gate's columns of W and U, and of its part of b (of torch's two: of their sum)
    mean b    of the gate's part; that of f is the forget bias
    radius    largest |eigenvalue| of the gate's recurrent block U_k (H, H); with a projection that
              of P U_k, which leads from o tanh(c) of one step to the net input of the next

The layout is told by the names of the arrays and held against their shapes. Reads any .safetensors
and .npz file; of one that `jax_lstm.save` wrote, every sum is checked first.
"""

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jax_lstm import printing
from jax_lstm.cells import CELLS
from jax_lstm.doors import check_path, check_size
from jax_lstm.engine.shapes import axes_of, sizes_of
from jax_lstm.files.arrays import MOST, TORCH_SAVE, arrays_of_npz, read_tensors
from jax_lstm.files.checkpoint import cells_of, check_sums, notes_of
from jax_lstm.files.disk import MOST_SAID, reading
from jax_lstm.interop import keras
from jax_lstm.interop.convert import READERS, FoundCell, cells_among, complaint, form_of
from jax_lstm.interop.layouts import WEIGHTS
from jax_lstm.interop.order import in_order
from jax_lstm.notation import GATES
from jax_lstm.printing import printable, shorten

WIDE = 60  # characters of a note that are shown
PIECE = 2**20  # numbers of an array that are looked at together


class Array(NamedTuple):
    """An array as it stands in the file. norm, least and largest are None for what has no numbers;
    NaN where it holds NaN."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    norm: float | None
    least: float | None
    largest: float | None
    nans: int
    infinities: int


class Gate(NamedTuple):
    """One gate of a cell. See the top of the file; None for what the cell has not."""

    gate: str
    W: float | None
    U: float | None
    b: float | None
    mean_b: float | None
    radius: float | None


class Recurrent(NamedTuple):
    """A recurrent cell of the file; `problem` says why its gates are not shown."""

    where: str
    layer: int | None
    direction: str | None
    layout: str
    about: str
    cell: str | None
    sizes: dict[str, int]
    gates: tuple[Gate, ...]
    notes: tuple[str, ...]
    problem: str | None


class Inspection(NamedTuple):
    """A file: arrays and recurrent cells, and the layouts they seem to have, keys of WEIGHTS.

    order: why the reader would not put the cells in an order by their names; "" if it would. The
    cells stand in the reader's."""

    file: str
    format: str
    notes: Any
    layouts: tuple[str, ...]
    arrays: tuple[Array, ...]
    cells: tuple[Recurrent, ...]
    order: str = ""

    __str__ = printing.page
    _repr_html_ = printing.html

    def sentence(self):
        """How much there is and whose layout it seems to be; what is not finite."""
        return verdict(self)

    def tables(self):
        """The arrays, then the gates of each recurrent cell."""
        return [arrays_of(self), *map(gates_table, self.cells)]

    def table(self):
        return "\n\n".join([*map(str, self.tables()), self.sentence()])

    def to_json(self):
        """Numbers that JSON has not are the texts "NaN", "Infinity" and "-Infinity"."""
        return printing.to_json(self)


def inspect(path, *, max_bytes=None):
    """Say what is in a file of weights.

    Args:
      path: a .safetensors or .npz file: of `jax_lstm.save`, of a torch state_dict, of the trees of
        flax's cells with names joined by "/" or ".", of Keras' variables by path, or of
        `np.savez(file, *layer.get_weights())`.
      max_bytes: what the file may have, and what it may unpack to. None: 4 GiB, and no archive
        unpacks to a hundred times its size.

    Returns:
      Inspection.

    Raises:
      ValueError: no such file, one that was cut off or altered, or a larger one.

    Source: this file's.
    """
    check_path("path", path)
    max_bytes = None if max_bytes is None else check_size("max_bytes", max_bytes, 1)
    most = MOST if max_bytes is None else max_bytes
    with reading(path):
        arrays, form, notes, said = open_file(Path(path), max_bytes)
        cells, _ = cells_among({k: x for k, x in arrays.items() if numeric(x)}, said)
        cells, order = keras_order(cells)
        with np.errstate(all="ignore"):  # what is not finite is shown
            cells = tuple(recurrent(found, most) for found in cells or numbered_cells(arrays))
            rows = tuple(array(name, x) for name, x in arrays.items())
        layouts = tuple(dict.fromkeys(c.layout for c in cells))
        return Inspection(str(path), form, notes, layouts, rows, cells, order)


# Reading --------------------------------------------------------------------------------------


def open_file(path, max_bytes=None):
    """(arrays by name, what the file is, its notes, {where: cell} if it says so)."""
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    if path.suffix == ".npz":
        return arrays_of_npz(path, max_bytes), "NumPy's .npz", None, {}
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} must end in .safetensors or .npz{TORCH_SAVE}")
    arrays, metadata = read_tensors(path, MOST if max_bytes is None else max_bytes)
    if metadata.get("format") != "jax_lstm":
        return arrays, "safetensors", metadata or None, {}
    arrays, metadata = check_sums(path, arrays, metadata)
    form = f"jax_lstm.save, version {metadata['version']}, every sum right"
    return arrays, form, notes_of(metadata, path), cells_of(metadata, path)


def keras_order(cells):
    """(the cells in the order of Keras' reader, why it would refuse them)."""
    whole = [f for f in cells if f.layout == "keras" and f.form is not None]
    layers: dict[str, Any] = {}
    for f in whole:
        sizes = f.arrays["kernel"].shape[0], f.arrays["recurrent_kernel"].shape[0]
        layers.setdefault(keras.place_of(f.where), {})["backward_" in f.where] = sizes
    if len(whole) < len(cells) or not cells:
        return cells, ""
    try:
        keras.check_pairs(layers, [f.where for f in cells])
        names = in_order({k: list(sizes.values()) for k, sizes in layers.items()}, keras.HOW)
    except ValueError as error:
        return cells, str(error)
    place = {name: n for n, name in enumerate(names)}
    return sorted(cells, key=lambda f: place[keras.place_of(f.where)]), ""


def numbered_cells(arrays):
    """Cells among arr_0, arr_1, ... of `np.savez`: Keras' order, where the shapes are those."""
    if not all(re.fullmatch(r"arr_\d+", name) for name in arrays):
        return []
    names, found, forms = sorted(arrays, key=lambda name: int(name[4:])), [], WEIGHTS["keras"]
    while names:
        for n in (3, 2, 1):
            keys = ("kernel", "recurrent_kernel", "bias")[:n]
            own = {k: arrays[name] for k, name in zip(keys, names[:n], strict=False)}
            form = form_of(own, forms)
            if form is not None or n == 1:
                break
        if form is not None:
            found.append(FoundCell("keras", f"{names[0]} to {names[n - 1]}", 0, 0, own, form))
        names = names[n:]
    return found


def numeric(x):
    return x.dtype.kind in "fiub" or jnp.issubdtype(x.dtype, jnp.floating)


def array(name, x):
    """The facts of an array, piece by piece: whole in float64 it might be eight times as large."""
    if not numeric(x):
        return Array(name, str(x.dtype), x.shape, None, None, None, 0, 0)
    flat = x.reshape(-1) if x.flags.c_contiguous else x.T.reshape(-1)
    facts = [piece_of(flat[n : n + PIECE]) for n in range(0, flat.size, PIECE)]
    norms, least, largest, nans, infinities = zip(*facts, strict=True) if facts else ((),) * 5
    ends = (float(np.min(least)), float(np.max(largest))) if facts else (None, None)
    whole = norm(np.array(norms))
    return Array(name, str(x.dtype), x.shape, whole, *ends, sum(nans), sum(infinities))


def piece_of(x):
    """(norm, least, largest, how many NaN, how many infinities) of some numbers."""
    x = x.astype(np.float64)
    return norm(x), x.min(), x.max(), int(np.isnan(x).sum()), int(np.isinf(x).sum())


def norm(x):
    """sqrt Σ x², without overflow on the way."""
    scale = float(np.abs(x).max(initial=0.0))
    if not math.isfinite(scale) or scale == 0:
        return scale
    return scale * float(np.sqrt(np.sum((x / scale) ** 2)))


def recurrent(found, most):
    """A cell's gates, in our layout whatever its own is. most: its bytes in float64."""
    torch = found.layout == "torch"
    place = (found.layer, "reverse" if found.direction else "forward") if torch else (None, None)
    size = 8 * sum(x.size for x in found.arrays.values())
    if found.form is None or size > most:
        why = f"as float64 it has {size:,} bytes; at most {most:,} are read"
        if found.form is None:
            why = complaint(found.arrays, WEIGHTS[found.layout])
        about = READ_AS[found.layout]
        return Recurrent(found.where, *place, found.layout, about, None, {}, (), (), why)
    ours = found.form.to_ours({k: np.asarray(x, np.float64) for k, x in found.arrays.items()})
    cell = CELLS[found.form.cell]
    sizes = sizes_of(cell.shapes, ours)
    sizes = {k: sizes[k] for k in ("D", "H") if k in sizes} | sizes
    gates = tuple(gates_of(cell, ours))
    about, notes = found.form.about, order(gates) if cell.gates == GATES else ()
    return Recurrent(found.where, *place, found.layout, about, cell.name, sizes, gates, notes, None)


def gates_of(cell, ours):
    """A Gate for each block that the weights have side by side, by the cell's shapes: what reads x,
    what reads the state, and the offset b; of two biases that are added, their sum."""
    n = len(cell.gates) or 1
    kinds: dict[str, list[Any]] = {"input": [], "state": [], "offset": []}
    for name, text in cell.shapes:
        axes = list(axes_of(text))
        if name in ours and axes and re.fullmatch(rf"{n if n > 1 else ''}[A-Za-z]", axes[-1]):
            kind = "input" if axes[0] == "D" else "state"
            if len(axes) > 1 or name == "b":
                kinds["offset" if len(axes) == 1 else kind].append(np.split(ours[name], n, axis=-1))
    if "b again" in ours:
        kinds["offset"].append(np.split(ours["b again"], n, axis=-1))
    for k, gate in enumerate(cell.gates or ("a",)):
        W, U, b = ([blocks[k] for blocks in found] for found in kinds.values())
        square: Any = U[0] if U else None
        if square is not None and square.shape[0] != square.shape[1]:  # through a projection
            back = [x for x in ours.values() if x.shape == square.shape[::-1]]
            square = square @ back[0] if back else None  # R x R: the eigenvalues of P U_k
        offset: Any = np.sum(b, axis=0) if b else None
        yield Gate(
            gate,
            norm(np.concatenate(W)) if W else None,
            norm(np.concatenate(U)) if U else None,
            None if offset is None else norm(offset),
            None if offset is None else float(offset.mean()) if offset.size else 0.0,
            None if square is None else radius(square),
        )


READ_AS = {layout: forms[0].about for layout, forms in WEIGHTS.items()}


def radius(square):
    """The largest |eigenvalue|; NaN where there is NaN or an infinity."""
    if not np.isfinite(square).all():
        return math.nan
    return float(np.abs(np.linalg.eigvals(square)).max(initial=0.0))


def order(gates):
    """A forget bias in another gate's block: the order of the gates may be another."""
    means = [g.mean_b for g in gates]
    if None in means:  # the cell has no bias
        return ()
    most = max(range(4), key=means.__getitem__)
    rest = [abs(m) for n, m in enumerate(means) if n != most]
    if GATES[most] == "f" or means[most] < 0.5 or max(rest) > 0.25:
        return ()
    return (
        f"only the block of {GATES[most]} has a bias with a mean of {means[most]:.2f}: if that is "
        "the forget bias, the order of the gates is not i, f, g, o",
    )


# Showing --------------------------------------------------------------------------------------


def arrays_of(found):
    """The file's arrays, below its notes."""
    head = ("array", "dtype", "shape", "norm", "least", "largest", "")
    rows = ((shorten(x.name), *x[1:6], marks(x)) for x in found.arrays)
    above = (printable(f"{found.file}: {found.format}"), *says(found.notes), "")
    return printing.Sheet(head, tuple(rows), above, sides="<<<>>><")


def gates_table(c):
    """The gates of a recurrent cell, or why they are not shown."""
    sizes = ", ".join(f"{k} = {n}" for k, n in c.sizes.items())
    above = (f"{place(c)}: {c.about}{f', {sizes}' if sizes else ''}",)
    if c.problem:
        return printing.Sheet(
            (), (), above, (f"  not read: {printable(shorten(c.problem, MOST_SAID))}",)
        )
    rows = tuple((f"  {g.gate}", *g[1:], "" if finite(g) else "<-") for g in c.gates)
    head = ("  gate", "|W|", "|U|", "|b|", "mean b", "radius U", "")
    below = tuple(f"  {note}" for note in c.notes)
    if [g.gate for g in c.gates] == list(GATES) and c.gates[1].mean_b is not None:
        below = (f"  forget bias, mean: {c.gates[1].mean_b:.4g}", *below)
    return printing.Sheet(head, rows, above, below)


def verdict(found):
    """The guess, and below it what is not finite."""
    bad = [shown(x.name) for x in found.arrays if x.nans or x.infinities]
    return guess(found) + (f"\nNOT FINITE: {', '.join(bad)}" if bad else "")


def guess(found):
    """How much there is, whose layout it seems to be, and what its names leave open."""
    total = sum(math.prod(x.shape) for x in found.arrays)
    size = f"{len(found.arrays)} arrays, {total:,} numbers"
    if not found.cells:
        known = "; ".join(f"{k}: {', '.join(list(f[0].shapes)[:3])}" for k, f in WEIGHTS.items())
        return f"{size}; no recurrent cell by its names. Known are {known}"
    seems = []
    for layout in found.layouts:
        whole = all(c.problem is None for c in found.cells if c.layout == layout)
        ours = layout == "ours" and found.format.startswith("jax_lstm")
        reader = "jax_lstm.load" if ours else READERS[layout]
        seems.append(f"{layout} ({reader})" if whole else f"{layout} by its names, not its shapes")
    word = "cell" if len(found.cells) == 1 else "cells"
    seems = "; ".join(seems)
    order = f"\n{printable(found.order)}" if found.order else ""
    return f"{size}, {len(found.cells)} recurrent {word}; the layout seems to be {seems}{order}"


def place(c):
    at = f"layer {c.layer}, {c.direction}" if c.layer is not None else ""
    return ": ".join(part for part in (shown(c.where), at) if part) or "the cell"


def shown(name):
    """A stranger's name on a page; JSON has it whole."""
    return printable(shorten(name))


def says(notes):
    """Notes on lines of their own, cut where they are long."""
    if notes is None:
        return []
    if not isinstance(notes, dict):
        notes = {"notes": notes}
    texts = {shown(k): printing.to_json(v, indent=None) for k, v in notes.items()}
    return [f"  {k}: {v if len(v) <= WIDE else v[:WIDE] + '...'}" for k, v in texts.items()]


def marks(x):
    words = [f"{x.nans} NaN"] * bool(x.nans) + [f"{x.infinities} inf"] * bool(x.infinities)
    return f"<- {', '.join(words)}" if words else ""


def finite(gate):
    return all(math.isfinite(x) for x in gate[1:] if x is not None)
