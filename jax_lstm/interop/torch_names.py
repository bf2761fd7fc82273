"""THE NAMES of torch's other LSTMs, as those of torch.nn.LSTM: LSTMCell, and weight norm.

    torch.nn.LSTMCell, RNNCell          weight_ih, ...              layer 0
    torch.nn.utils.weight_norm          weight_hh_l0_g, ..._v       w = g v / ‖v‖
    ....parametrizations.weight_norm    parametrizations.weight_hh_l0.original0, .original1

‖v‖ is over the axes that g has not: over all but one, or over all. What else torch and others make
of a weight is told by its names, and not computed.

Source: torch.nn.utils.weight_norm's documentation; tests/interop/test_interop_torch_names.py.
"""

import re
from typing import Any

import numpy as np

from jax_lstm.notation import wide

WEIGHT = r"(?:weight_[ih]h|weight_hr|bias_[ih]h)(?:_l\d+(?:_reverse)?)?"
PLAIN = re.compile(rf"(.*[./])?({WEIGHT})")
PARTS = (
    re.compile(rf"(?P<above>.*[./])?(?P<name>{WEIGHT})_(?P<part>g|v|u|orig|mask|raw)"),
    re.compile(
        rf"(?P<above>.*[./])?parametrizations[./](?P<name>{WEIGHT})[./](?P<part>original[01]?)"
    ),
)
NORMS = ({"g", "v"}, {"original0", "original1"})
OTHERS = {
    "u": "spectral norm",
    "mask": "pruning",
    "raw": "dropped weights",
    "original": "a parametrization other than weight norm",
}


def plain_names(arrays: dict[str, Any]) -> dict[str, Any]:
    """The arrays under the names that torch.nn.LSTM has; of a weight norm (g, v) for a weight, see
    `weight_of_norm`. Names that are none of these stay."""
    whole = {
        part: name
        for name, found in parts_of(arrays).items()
        if set(found) in NORMS and name not in arrays
        for part in found.values()
    }
    plain: dict[str, Any] = {}
    for part in sorted(whole):  # g before v, original0 before original1
        plain.setdefault(with_layer(whole[part], arrays), []).append(arrays[part])
    plain = {name: tuple(norm) for name, norm in plain.items()}
    return plain | {with_layer(k, arrays): x for k, x in arrays.items() if k not in whole}


def parts_of(arrays):
    """{name of a weight: {"g": name of its part, ...}} of weights that stand in parts."""
    parts: dict[str, dict[str, str]] = {}
    for name in arrays:
        match = next((m for part in PARTS if (m := part.fullmatch(name))), None)
        if match:
            above, plain, part = match.group("above", "name", "part")
            parts.setdefault(f"{above or ''}{plain}", {})[part] = name
    return parts


def with_layer(name, arrays):
    """An LSTMCell's name, as that of layer 0."""
    match = PLAIN.fullmatch(name)
    cell = match and not re.search(r"_l\d+(_reverse)?$", name) and f"{name}_l0" not in arrays
    return f"{name}_l0" if cell else name


def what_else(arrays) -> str:
    """What the parts of weights are that are no weight norm: for complaints."""
    for name, found in parts_of(arrays).items():
        kind = next((OTHERS[part] for part in found if part in OTHERS), None)
        if kind:
            own = name.rpartition(".")[2]
            return (
                f"; {', '.join(sorted(found.values()))} are of {kind}: give what the module "
                f"computes, {{..., {own!r}: module.{own}}}"
            )
    return ""


def weight_of_norm(name, g, v):
    """w = g v / ‖v‖, in their dtype."""
    same = g.dtype == v.dtype and g.ndim in (0, v.ndim)
    if not same or any(n not in (1, m) for n, m in zip(g.shape, v.shape, strict=False)):
        raise ValueError(
            f"`{name}` must be weight-normed: g of ‖v‖'s shape, and of v's dtype; got "
            f"{g.dtype} {g.shape} and {v.dtype} {v.shape}"
        )
    axes = tuple(n for n, size in enumerate(g.shape) if size == 1) if g.ndim else None
    to = wide(v.dtype)
    g, w = g.astype(to), v.astype(to)
    with np.errstate(all="ignore"):  # ‖v‖ = 0 is NaN, as in torch
        return (w * (g / np.sqrt(np.square(w).sum(axes, keepdims=g.ndim > 0)))).astype(v.dtype)
