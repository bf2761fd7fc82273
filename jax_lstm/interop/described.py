"""A LAYOUT IN WORDS: the order of the gates, how the weights lie, which axis is which.

    order     "ifgo": the gates as they lie, or the letters in the names of a gate's own arrays
    weights   "separate", "concat [h, x]", "concat [1, x, h]" (the bias is a row or column of it);
              with "per gate, " in front: an array for each gate
    rows      "inputs": x @ W;  "outputs": W x
    axes      of a sequence: "T,B,D", "B,T,D", "D,B,T"; a state has them without T; "T,D" has no
          examples, and "T" is tokens of one

From these follow names, shapes, and the way to ours. Nothing is added or rounded on it, so a mask
of what is known can go the same way.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jax_lstm.engine.shapes import axes_of, shape_of
from jax_lstm.notation import GATES
from jax_lstm.printing import listing

LETTERS = {"i": "iu", "f": "f", "g": "gcjaz", "o": "o"}  # what people call our gates
PARTS = {"1": "1", "x": "D", "h": "H"}  # of a joined matrix, and how many rows each has
OURS = {k: k for k in ("W", "U", "b", "xs", "dhs", "ys", "h0", "c0", "dh_T", "dc_T", "hs", "cs")}
OURS |= {k: k for k in ("Wy", "by", "E", "tokens")}


class Layout(NamedTuple):
    """Names and shapes of a system's arrays, and the way to ours.

    problem: {name: shape in letters}: weights, states, inputs, and what is known of the loss, its
      cotangents or its targets. A name in `optional` may be missing.
    gradient: likewise. A name in `needed` may not be missing, where its weight is in the problem.
    labels: {our leaf: theirs}, for reports.
    to_ours(arrays) -> {our name: array}: for problems.
    gradient_to_ours(arrays) -> {our leaf: array}: for gradients, dX the gradient of X.
    named: {our name: theirs}. axes, rows: as above. forward: mistakes of the catalogue that this
      system's forward makes and its gradient answers for.
    """

    about: str
    problem: dict[str, str]
    optional: tuple[str, ...]
    gradient: dict[str, str]
    needed: tuple[str, ...]
    labels: dict[str, str]
    to_ours: Callable[[dict[str, Any]], dict[str, Any]]
    gradient_to_ours: Callable[[dict[str, Any]], dict[str, Any]]
    named: Mapping[str, str] = OURS
    axes: str = "T,B,D"
    rows: str = "inputs"
    forward: tuple[str, ...] = ()


def rename(names, change=lambda x: x):
    """A function of arrays by name: those that are there, under our names and changed."""
    return lambda d: {ours: change(d[theirs]) for theirs, ours in names.items() if theirs in d}


def merge(*parts):
    """One function of arrays by name: what each of the parts returns, together."""
    return lambda d: {k: v for part in parts for k, v in part(d).items()}


def transpose(x):
    return np.swapaxes(x, -1, -2)


# Words ------------------------------------------------------------------------------------------


class Words(NamedTuple):
    """A description, read. letters: of our gates, in their order. parts: of a joined matrix, or
    nothing."""

    letters: tuple[str, ...]
    order: tuple[int, ...]
    each: bool
    parts: tuple[str, ...]
    rows: str
    axes: tuple[str, ...]


def read(order="ifgo", weights="separate", rows="inputs", axes="T,B,D"):
    """Words, or a ValueError that says which word is none of these."""
    known = [next((k for k, v in LETTERS.items() if letter in v), None) for letter in order]
    if sorted(map(str, known)) != sorted(GATES):
        among = ", ".join(f"{k} ({' '.join(v)})" for k, v in LETTERS.items())
        raise ValueError(f"`order` of a layout must have each gate once, {among}; got {order!r}")
    each = weights.startswith("per gate")
    rest = re.sub(r"^per gate[, ]*", "", weights.strip()) or "separate"
    joined = re.fullmatch(r"(?:concat *)?\[([^\]]*)\]", rest)
    parts = tuple(re.split(r"[,; ]+", joined[1].strip())) if joined else ()
    if not (rest == "separate" or (joined and {"x", "h"} <= set(parts) <= set(PARTS))):
        raise ValueError(
            '`weights` of a layout must be "separate" or "concat [h, x]" (x, h and perhaps 1, in '
            f'their order), "per gate" or "per gate, concat ..."; got {weights!r}'
        )
    if rows not in ("inputs", "outputs"):
        raise ValueError(f'`rows` of a layout must be "inputs" or "outputs"; got {rows!r}')
    found = axes_of(axes)
    found = found if "B" in found else (*found[:1], "B", *found[1:])  # one example
    found = found if "D" in found else (*found, "D")  # tokens
    if sorted(found) != ["B", "D", "T"]:
        raise ValueError(f"`axes` of a layout must be T, B and D in their order; got {axes!r}")
    letters = tuple(order[known.index(k)] for k in GATES)
    return Words(letters, tuple(known.index(k) for k in GATES), each, parts, rows, found)


def of_features(axes, letter):
    """The axes of another sequence, or without T of a state."""
    return [letter if k == "D" else k for k in axes]


def fill(name, letters):
    """A name for each gate: "W*" is Wi, Wf, ..."""
    return [name.replace("*", k) for k in letters] if "*" in name else [name]


def matrix(words, name, rows):
    """{their name: shape}, in the order in which they lie."""
    gates, names = "H" if words.each else "4H", fill(name, sorted_letters(words))
    shape = f"{rows},{gates}" if words.rows == "inputs" else f"{gates},{rows}"
    return dict.fromkeys(names, shape)


def sorted_letters(words):
    """The letters in the order in which they were said."""
    return [words.letters[n] for n in np.argsort(words.order)]


def join(words, d, name, lone):
    """One matrix (rows, 4H) in our order, of one or of a matrix per gate; None if one is missing.

    lone: a bias, which has no rows.
    """
    if not all(k in d for k in fill(name, words.letters)):
        return None
    turn = transpose if words.rows == "outputs" and not lone else lambda x: x
    if words.each:
        parts = [turn(d[k]).reshape(-1) if lone else turn(d[k]) for k in fill(name, words.letters)]
    else:
        x = d[name].reshape(-1) if lone else turn(d[name])
        blocks = np.split(x, len(GATES), -1)
        parts = [blocks[n] for n in words.order]
    return np.concatenate(parts, -1)


def split_rows(words, x):
    """{"W": ..., "U": ..., perhaps "b": ...} of a joined matrix."""
    H = x.shape[-1] // len(GATES)
    sizes = {"1": 1, "h": H, "x": x.shape[0] - H - ("1" in words.parts)}
    ends = np.cumsum([sizes[k] for k in words.parts])[:-1]
    found = dict(zip(words.parts, np.split(x, ends, 0), strict=True))
    return {
        {"x": "W", "h": "U", "1": "b"}[k]: part[0] if k == "1" else part
        for k, part in found.items()
    }


def weights_of(words, names):
    """A function of arrays by name: W, U and b of what is there."""

    def to_ours(d):
        found: dict[str, Any] = {}
        for role in ("W", "U", "b", "b again"):
            x = join(words, d, names[role], role[0] == "b") if role in names else None
            joined = words.parts and role == "W" and x is not None
            found |= split_rows(words, x) if joined else {} if x is None else {role: x}
        return found

    return to_ours


def describe(
    about: str = "a layout by description",
    *,
    order: str = "ifgo",
    weights: str = "separate",
    rows: str = "inputs",
    axes: str = "T,B,D",
    names: Mapping[str, str] | None = None,
    bias: str | None = None,
    state: str | None = None,
    labels: Mapping[str, str] | None = None,
    forward: tuple[str, ...] = (),
) -> Layout:
    """A Layout of words.

    Args:
      about: a line for people.
      order, weights, rows, axes: see above.
      names: {ours: theirs}; "*" stands for a gate's letter. {"dW": ...} is the name of a gradient,
        which is theirs with a d before it where nothing is said.
      bias, state: shapes in letters, where they are not (4H,), (H,) of a gate, and `axes`.
      labels: {our leaf: theirs}, for reports.
      forward: mistakes of the catalogue that are this system's forward.

    Returns:
      Layout.

    Raises:
      ValueError: a word that is none of these.
    """
    for key, x in {"order": order, "weights": weights, "rows": rows, "axes": axes}.items():
        if not isinstance(x, str):
            raise ValueError(f"`{key}` of a layout must be a text; got {x!r}")
    words, said = read(order, weights, rows, axes), dict(names or {})
    if not all(isinstance(x, str) for x in (*said, *said.values())):
        raise ValueError(f"`names` of a layout must be texts, {{ours: theirs}}; got {names!r}")
    known = {*OURS, "b again"}
    strange = [k for k in said if k not in known and k.removeprefix("d") not in known]
    if strange:
        raise ValueError(
            f"`names` of a layout knows no {listing(strange)}; it knows {listing(OURS)}"
        )
    star = "*" if words.each else ""
    mine = {k: v + star * (k in "WUb") for k, v in OURS.items()} | said
    roles = ["W", *(() if words.parts else ("U",)), *(() if "1" in words.parts else ("b",))]
    roles += [k for k in ("b again",) if k in said]
    theirs = {k: mine[k] for k in roles}
    grads = {k: said.get(f"d{k}", f"d{v}") for k, v in mine.items()}
    lengths = {"W": "D", "U": "H"} | (
        {"W": "+".join(PARTS[k] for k in words.parts)} if words.parts else {}
    )
    one = bias or ("H" if words.each else "4H")

    def shapes(of):
        found: dict[str, str] = {}
        for k in roles:
            b = dict.fromkeys(fill(of[k], sorted_letters(words)), one)
            found |= b if k[0] == "b" else matrix(words, of[k], lengths[k])
        return found

    states = state or ",".join(of_features([k for k in words.axes if k != "T"], "H"))
    sequence = {k: ",".join(of_features(words.axes, k)) for k in "DH"}
    problem = shapes(theirs) | {mine[k]: states for k in ("h0", "c0")}
    problem |= {mine["xs"]: sequence["D"]} | {mine[k]: sequence["H"] for k in ("dhs", "ys")}
    problem |= {mine[k]: states for k in ("dh_T", "dc_T")}
    must = {*shapes(theirs), mine["xs"]} - flat(words, theirs)
    gradient = shapes(grads) | {grads["xs"]: sequence["D"]}
    gradient |= {grads[k]: states for k in ("h0", "c0")}
    told = {f"d{k}": grads[k] for k in ("W", "U", "b", "b again", "xs", "h0", "c0") if k in grads}
    if words.parts:
        told |= {"dW": f"{grads['W']} for x_t", "dU": f"{grads['W']} for h_{{t-1}}"}
        told |= {"db": f"{grads['W']} for 1"} if "1" in words.parts else {}
    grads_of = {k: grads[k] for k in roles}
    to_order = [words.axes.index(k) for k in "TBD"]
    series = lambda x: np.transpose(x, to_order[: x.ndim])

    def remembered(x):
        axes = axes_of(states)
        x = np.take(x, 0, axes.index("1")) if "1" in axes else x
        return transpose(x) if [k for k in axes if k != "1"] == ["H", "B"] else x

    ends = ("h0", "c0", "dh_T", "dc_T")
    return Layout(
        about,
        problem,
        tuple(k for k in problem if k not in must),
        gradient,
        tuple(shapes(grads)),
        {k: v for k, v in told.items() if k != v} | dict(labels or {}),
        merge(
            weights_of(words, theirs),
            rename({mine[k]: k for k in ("xs", "dhs", "ys")}, series),
            rename({mine[k]: k for k in ends}, remembered),
        ),
        merge(
            lambda d: {f"d{k}": x for k, x in weights_of(words, grads_of)(d).items()},
            rename({grads["xs"]: "dxs"}, series),
            rename({grads[k]: f"d{k}" for k in ("h0", "c0")}, remembered),
        ),
        {**mine, **{f"d{k}": v for k, v in grads.items()}},
        ",".join(words.axes),
        words.rows,
        tuple(forward),
    )


def flat(words, theirs):
    """The names of the biases: there may be none."""
    return {k for role in ("b", "b again") for k in fill(theirs.get(role, ""), words.letters) if k}


def from_ours(to_ours, shapes, sizes, arrays, dtype: Any = np.float64):
    """Arrays of a layout from ours: its way to ours, walked by places instead of numbers.

    Args:
      to_ours, shapes: of a Layout, for its problem or its gradient.
      sizes: {"T": 7, ...}.
      arrays: {our name: array}; what is missing becomes zero.
      dtype: of what comes back.
    """
    full = {k: shape_of(letters, sizes) for k, letters in shapes.items()}
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in full.values())])
    spans = {k: slice(a, b) for k, a, b in zip(full, ends[:-1], ends[1:], strict=True)}
    places = {k: np.arange(ends[-1])[spans[k]].reshape(shape) for k, shape in full.items()}
    flat = np.zeros(ends[-1], dtype)
    for k, where in to_ours(places).items():
        flat[where] = arrays.get(k, 0.0)
    return {k: flat[spans[k]].reshape(shape) for k, shape in full.items()}
