"""flax's trees, linen's and nnx's: weights, gradients and carries, both ways, without flax.

    linen  LSTMCell, OptimizedLSTMCell   ii, if, ig, io: kernel (D, H); hi, ...: kernel (H, H), bias
           SimpleCell                    i: kernel (D, H), bias (H,); h: kernel (H, H)
    nnx    LSTMCell                      the same, with if_ for if
           OptimizedLSTMCell             dense_i: kernel (D, 4H); dense_h: kernel (H, 4H), bias
           SimpleCell                    dense_i: kernel (D, H), bias (H,); dense_h: kernel (H, H)

x W throughout, gates i, f, g, o, one bias: nothing is added and nothing shared, so a gradient goes
the same way as weights: `from_linen(dvariables["params"])` is the gradient in our form.

A tree says nothing of `activation_fn`, and nothing of `residual`: ours is tanh, without.

Source: flax.linen.recurrent and flax.nnx.nn.recurrent; tests/interop/ runs both.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from jax_lstm.doors import describe
from jax_lstm.interop.convert import (
    CellState,
    array_of,
    arrays_of,
    as_layers,
    cell_of,
    cells_among,
    check_state,
    flatten,
    layers_of,
    state_of,
)
from jax_lstm.interop.layouts import WEIGHTS
from jax_lstm.interop.order import check_chain
from jax_lstm.networks.functions import Layers
from jax_lstm.networks.sizes import StackParams
from jax_lstm.notation import Tree
from jax_lstm.printing import listing

BOTH = ("forward_rnn", "backward_rnn")  # of flax's Bidirectional
NNX_TREES = {"OptimizedLSTMCell": 0, "LSTMCell": 1}  # of nnx, with trees of their own


def from_linen(tree: Tree) -> StackParams:
    """The parameters, or their gradient, from the trees of flax.linen's cells.

    Args:
      tree: of a cell; of an RNN, {"cell": ...}; of a Bidirectional, {"forward_rnn": ...,
        "backward_rnn": ...}; each also as {"params": ...}. For more layers a list of these, or
        [(forward[, reverse]), ...]: which cell of a model is which layer its names do not say.

    Returns:
      StackParams for `jax_lstm.stack` of LSTMParams or, from SimpleCell, ElmanParams; dtype kept.

    Raises:
      ValueError: names or shapes that do not belong together; float64 with JAX's x64 off.

    Source: this file's.
    """
    return read(tree, WEIGHTS["linen"])


def to_linen(params: Tree) -> Layers:
    """The trees of flax.linen's cells, from parameters or from their gradient.

    Args:
      params: StackParams of LSTMParams or ElmanParams, or the parameters of one cell.

    Returns:
      trees[l][direction], {"ii": {"kernel": ...}, ...}, NumPy arrays in the dtype of params: what
      stands below "params" for a cell, below "cell" for an RNN.

    Raises:
      ValueError: parameters that no flax cell has, a projection say.

    Source: this file's.
    """
    return write(params, WEIGHTS["linen"])


def from_nnx(tree: Tree) -> StackParams:
    """The parameters, or their gradient, from the states of flax.nnx's cells.

    Args:
      tree: as for `from_linen`, of `nnx.state(module, nnx.Param)`, of `nnx.to_pure_dict` of it, or
        of what `nnx.grad` returns. OptimizedLSTMCell, LSTMCell or SimpleCell: the names tell.

    Returns:
      StackParams, see `from_linen`.

    Raises:
      ValueError: likewise.

    Source: this file's.
    """
    return read(tree, WEIGHTS["nnx"])


def to_nnx(
    params: Tree, *, cell: Literal["OptimizedLSTMCell", "LSTMCell"] = "OptimizedLSTMCell"
) -> Layers:
    """The pure states of flax.nnx's cells, from parameters or from their gradient.

    Args:
      params: StackParams of LSTMParams or ElmanParams, or the parameters of one cell.
      cell: which tree LSTMParams become, "OptimizedLSTMCell" or "LSTMCell"; ElmanParams become
        that of SimpleCell.

    Returns:
      trees[l][direction], NumPy arrays in the dtype of params: for `nnx.replace_by_pure_dict(
      nnx.state(module.cell), tree)`.

    Raises:
      ValueError: parameters that no flax cell has.

    Source: this file's.
    """
    if not isinstance(cell, str) or cell not in NNX_TREES:
        raise ValueError(f"`cell` must be {' or '.join(NNX_TREES)}; got {describe(cell)}")
    forms = WEIGHTS["nnx"]
    return write(params, (forms[NNX_TREES[cell]], *forms[2:]))


def from_carry(carry: Tree) -> CellState:
    """The state of a cell from flax's carry: (c, h), which is the other way round.

    Args:
      carry: (c, h), each (..., H), or h of a SimpleCell. In a stack, one for each cell.

    Returns:
      LSTMState(h, c), c float32 where it had 16 bits; or ElmanState(h).

    Source: flax.linen.LSTMCell.
    """
    pair = isinstance(carry, tuple | list) and len(carry) == 2
    if not pair and (not hasattr(carry, "shape") or not np.ndim(carry)):
        raise ValueError(
            f"`carry` must be (c, h), or h of a SimpleCell; got {type(carry).__name__}"
        )
    return state_of("carry", *(carry[::-1] if pair else (carry,)))


def to_carry(state: Tree) -> Tree:
    """flax's carry, (c, h) or h, from the state of a cell; arrays as they are."""
    check_state(state)
    return (state.c, state.h) if len(state) == 2 else state.h


# In and out -----------------------------------------------------------------------------------


def read(tree, forms):
    layers = []
    for n, layer in enumerate(as_layers("tree", tree, lambda x: isinstance(x, Mapping))):
        opened = [open_tree(one) for one in layer]
        if len(opened) == 2 and any(isinstance(one, tuple) for one in opened):
            raise ValueError(f"tree[{n}] must hold cells; a Bidirectional is a layer by itself")
        cells = opened[0] if isinstance(opened[0], tuple) else tuple(opened)
        layers.append(tuple(read_cell(x, forms, f"layer {n}") for x in cells))
    return StackParams(check_chain(tuple(layers), "read each by itself, or in their order"))


def open_tree(tree):
    """A cell's own tree of what holds it; (forward, reverse) of a Bidirectional's."""
    for name in ("params", "cell"):
        if set(tree) == {name}:
            return open_tree(tree[name])
    kept = {k: x for k, x in tree.items() if k not in ("rngs", "carry_rng")}
    if set(kept) == set(BOTH):
        return tuple(open_tree(kept[k]) for k in BOTH)
    if set(kept) == {"cell"}:
        return open_tree(kept["cell"])
    return kept


def read_cell(tree, forms, where):
    arrays = {k: array_of(k, x) for k, x in flatten(tree).items()}
    found, rest = cells_among(arrays)
    if any(f.where for f in found):
        places = ", ".join(repr(f.where) for f in found)
        raise ValueError(
            f"the tree of {where} must be that of one cell; found cells at {places}"
            + (f", beside {listing(rest)}" if rest else "")
            + "; give them as [(forward[, reverse]), ...], lowest layer first"
        )
    return cell_of(arrays, forms, where)


def write(params, forms):
    def tree(p):
        nested = {}
        for name, x in arrays_of(p, forms).items():
            part, leaf = name.split("/")
            nested.setdefault(part, {})[leaf] = x
        return nested

    return tuple(tuple(tree(p) for p in layer) for layer in layers_of(params))
