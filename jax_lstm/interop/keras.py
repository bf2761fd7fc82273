"""Keras 3: weights, gradients and states of LSTM, SimpleRNN and Bidirectional, without Keras.

    kernel (D, 4H), recurrent_kernel (H, 4H), bias (4H,); x W, blocks i, f, c (our g), o; for a
    SimpleRNN (D, H), (H, H), (H,). A Bidirectional has those of its forward layer, then of its
    backward one.

Our layout, with other names: nothing is added and nothing shared, so a gradient goes the same way
as weights. A layer's weights do not say its activations; ours are tanh and sigmoid, Keras'
defaults. The forget bias of 1 (`unit_forget_bias`) is stored, not added.

Source: keras.layers.LSTM; tests/interop/test_interop_keras.py runs it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jax_lstm.doors import check_flag
from jax_lstm.interop.convert import (
    READERS,
    CellState,
    array_of,
    arrays_of,
    cell_of,
    cells_among,
    check_state,
    layers_of,
    state_of,
)
from jax_lstm.interop.layouts import WEIGHTS
from jax_lstm.interop.order import check_chain, in_order, sizes_of
from jax_lstm.networks.sizes import StackParams
from jax_lstm.notation import Tree
from jax_lstm.printing import listing

KERAS_NAMES = ("kernel", "recurrent_kernel", "bias")
HOW = "give [layer.get_weights(), ...], lowest first"


def from_weights(weights: Sequence[Any] | Mapping[str, Any]) -> StackParams:
    """The parameters of a stack, or their gradient, from `layer.get_weights()`.

    Args:
      weights: arrays of one layer: 3 of an LSTM or SimpleRNN, 6 of a Bidirectional; 2 or 4 without
        bias. For more layers a list of such lists, lowest first. Or {name: array} of one cell, or
        of the variables' paths, `{v.path: v for v in model.weights}`. Their order means nothing,
        as files sort names: numbers in the names tell the order of the layers (lstm, lstm_1, ...,
        lstm_10), or sizes that fit in one order only.

    Returns:
      StackParams for `jax_lstm.stack` of LSTMParams or ElmanParams; dtype kept. Without bias, b is
      zero.

    Raises:
      ValueError: names or shapes that do not belong together; names that do not tell the order of
        the layers; float64 with JAX's x64 off.

    Source: this file's.
    """
    if isinstance(weights, Mapping):
        return StackParams(layers_by_path(weights))
    if isinstance(weights, Sequence) and weights and isinstance(weights[0], tuple | list):
        layers = [split_directions(one, f"layer {n}") for n, one in enumerate(weights)]
    else:
        layers = [split_directions(weights, "layer 0")]
    params = tuple(
        tuple(cell_of(arrays, WEIGHTS["keras"], f"layer {n}") for arrays in layer)
        for n, layer in enumerate(layers)
    )
    return StackParams(check_chain(params, "read each by itself, or in their order"))


def to_weights(params: Tree, *, use_bias: bool = True) -> list[list[np.ndarray]]:
    """What `layer.set_weights` takes, a list for each layer, from parameters or their gradient.

    Args:
      params: StackParams of LSTMParams or ElmanParams, or the parameters of one cell.
      use_bias: False for layers that have none; b must then be zero.

    Returns:
      [weights of layer 0, ...]: NumPy arrays in Keras' order, dtype of params.

    Raises:
      ValueError: parameters that no Keras layer has, a projection say.

    Source: this file's.
    """
    check_flag("use_bias", use_bias)
    return [
        [x for p in layer for x in arrays_of(p, WEIGHTS["keras"], use_bias).values()]
        for layer in layers_of(params)
    ]


def from_states(states: Sequence[Any]) -> CellState:
    """The state of a cell from Keras' list, [h, c] or [h].

    Args:
      states: arrays (B, H): [h, c] of an LSTM, [h] of a SimpleRNN. A Bidirectional has those of its
        forward layer, then of its backward one: give each half.

    Returns:
      LSTMState(h, c), c float32 where it had 16 bits; or ElmanState(h).

    Source: keras.layers.LSTM.
    """
    if not isinstance(states, Sequence) or len(states) not in (1, 2):
        n = f" {len(states)}" if isinstance(states, Sequence) else ""
        raise ValueError(
            f"`states` must be [h, c] or [h], of one direction; got {type(states).__name__}{n}"
        )
    return state_of("states", *states)


def to_states(state: Tree) -> list[Tree]:
    """Keras' list, [h, c] or [h], from the state of a cell; arrays as they are."""
    check_state(state)
    return list(state)


# In -------------------------------------------------------------------------------------------


def split_directions(weights, where):
    """[{name: array}] for each direction of a layer, from the list of get_weights."""
    if not isinstance(weights, Sequence) or len(weights) not in (2, 3, 4, 6):
        n = len(weights) if isinstance(weights, Sequence) else type(weights).__name__
        raise ValueError(
            f"the weights of {where} must be 3 arrays, {', '.join(KERAS_NAMES)}, or 6 of two "
            f"directions (2 or 4 without bias), or a list of such lists; got {n}"
        )
    n = 2 if len(weights) in (2, 4) else 3
    arrays = [array_of(f"weights[{k}]", x) for k, x in enumerate(weights)]
    return [
        dict(zip(KERAS_NAMES[:n], arrays[k : k + n], strict=True)) for k in range(0, len(arrays), n)
    ]


def layers_by_path(weights):
    """layers[l][direction], in the order that the names tell."""
    layers = {
        place: tuple(cell_of(arrays, WEIGHTS["keras"], place) for arrays in cells)
        for place, cells in group_by_path(weights).items()
    }
    sizes = {place: sizes_of(layer) for place, layer in layers.items()}
    return tuple(layers[place] for place in in_order(sizes, HOW))


def group_by_path(weights):
    """{place: its cells, forward first}: a backward_... cell belongs to its forward_... one."""
    found, rest = cells_among(weights)
    wrong = [f for f in found if f.layout != "keras"]
    if rest or wrong or not found:
        other = "".join(f"; some would fit {READERS[f.layout]}" for f in wrong[:1])
        raise ValueError(
            f"weights must be {', '.join(KERAS_NAMES)} of each cell, below any name, and nothing "
            f"else; found {listing(rest or weights)}{other}"
        )
    layers = {}
    for f in found:
        arrays = {k: array_of(f"{f.where}/{k}", x) for k, x in f.arrays.items()}
        arrays = {k: arrays[k] for k in KERAS_NAMES if k in arrays}
        layers.setdefault(place_of(f.where), {})["backward_" in f.where] = arrays
    check_pairs(layers, [f.where for f in found])
    return {place: [cells[r] for r in sorted(cells)] for place, cells in layers.items()}


def check_pairs(layers, names):
    """Complain about {place: {whether it runs backward: its cell}} where a direction is missing."""
    for place, cells in layers.items():
        if ("forward_" in place) != (len(cells) == 2):
            there, missing = ("backward", "forward") if True in cells else ("forward", "backward")
            raise ValueError(
                f"of {place.replace('forward_', f'{there}_')} the {missing} direction is missing, "
                f"{place.replace('forward_', f'{missing}_')}; where it has another name, give "
                f"[layer.get_weights(), ...]; found {listing(names)}"
            )


def place_of(where):
    """The layer of a cell, by the name of its forward direction."""
    return where.replace("backward_", "forward_")
