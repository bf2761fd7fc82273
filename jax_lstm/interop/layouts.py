"""The layouts of others: gate orders, transpositions and biases, as rows of one description.

    ours          W (D, 4H), U (H, 4H), b (4H,), blocks i f g o; time first            x @ W
    torch         weight_ih_l0 (4H, D), weight_hh_l0 (4H, H), two biases; i f g o      W x
    keras         kernel (D, 4H), recurrent_kernel (H, 4H), bias; i f c o; batch first x @ W
    coursera      Wf, Wi, Wc, Wo (H, H + D) on [a_prev; x_t]; arrays (n, m, T)         W z
    tmva          Wi, Wf, Wc, Wo (H, D), Ui, ... (H, H), bi, ... (H,); (B, T, D)       W x
    cs231n        Wx (D, 4H), Wh (H, 4H), b; i f o g; batch first                      x @ W
    numpy-ml      Wf, Wu, Wc, Wo (H + D, H) on [A_prev, Xt]; (B, D, T)                 z @ W
    dlfs2         Wx (D, 4H), Wh (H, 4H), b; f g i o; batch first                      x @ W
    karpathy      WLSTM (1 + D + H, 4H) on [1, x, h]; i f o g; time first              z @ W
    nicodjimenez  wg, wi, wf, wo (H, D + H) on [x, h]; no tanh at the output           W z
    linen         ii, if, ig, io (D, H), hi, ... (H, H) with a bias each               x @ W
    nnx           as linen with if_, or dense_i (D, 4H), dense_h (H, 4H); i f g o      x @ W

Sources, read: torch.nn.LSTM; keras.layers.LSTM; flax's nn.LSTMCell, nnx.OptimizedLSTMCell; the
exercise of "Sequence Models", week 1, on Coursera; TMVA's LSTMLayer, whose order of weights is
input, forget, candidate, output; assignment 3 of CS231n; ddbourgin/numpy-ml;
oreilly-japan/deep-learning-from-scratch-2; the gist of a batched LSTM by Karpathy;
nicodjimenez/lstm.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jax_lstm.cells import CELLS
from jax_lstm.engine.shapes import axes_of
from jax_lstm.interop.described import Layout, describe, merge, rename, transpose


def drop_missing(**arrays):
    return {k: x for k, x in arrays.items() if x is not None}


def join_gates(d, names, change):
    """One matrix of a matrix per gate; None if one is missing."""
    return np.concatenate([change(d[k]) for k in names], -1) if all(k in d for k in names) else None


# Ours -----------------------------------------------------------------------------------------


def our_layout(cell):
    """Our own layout for a cell: nothing to do but names."""
    params = dict(cell.shapes)
    state = {name: ",".join(("B", *axes_of(text))) for name, text in cell.fields}
    h = ",".join(axes_of(cell.fields[0][1]))
    problem = params | {f"{k}0": v for k, v in state.items()}
    problem |= {"xs": "T,B,D", "dhs": f"T,B,{h}", "ys": f"T,B,{h}"}
    problem |= {f"d{k}_T": v for k, v in state.items()}
    gradient = {f"d{k}": v for k, v in params.items()} | {"dxs": "T,B,D"}
    gradient |= {f"d{k}0": v for k, v in state.items()}
    gradient["das"] = f"T,B,{len(cell.gates) if len(cell.gates) > 1 else ''}H"
    gradient |= {f"d{k}s": f"T,{v}" for k, v in state.items()}
    optional = ("dhs", "ys", "b", *(f"{k}0" for k in state), *(f"d{k}_T" for k in state))
    needed = tuple(f"d{k}" for k in params)
    about = "time first, rows are examples"
    return Layout(about, problem, optional, gradient, needed, {}, dict, dict)


# Others, in words -------------------------------------------------------------------------------

_torch_names = {"W": "weight_ih_l0", "U": "weight_hh_l0", "b": "bias_ih_l0"}
_torch_names |= {"b again": "bias_hh_l0", "xs": "input", "dhs": "doutput", "ys": "target"}
_torch_names |= {"h0": "h_0", "c0": "c_0", "dh_T": "dh_n", "dc_T": "dc_n", "hs": "output"}
_batch_first = {"xs": "x", "dhs": "dy", "ys": "target", "dh_T": "dh_T", "dc_T": "dc_T"}
_coursera = {"xs": "x", "h0": "a0", "dhs": "da", "ys": "y", "dh_T": "da_T", "hs": "a", "cs": "c"}

OTHERS = {
    "torch": describe(
        "torch.nn.LSTM of one layer, batch_first=False",
        rows="outputs",
        state="1,B,H",
        names=_torch_names,
    ),
    "keras": describe(
        "keras.layers.LSTM with return_sequences, batch first",
        order="ifco",
        axes="B,T,D",
        names=_batch_first | {"W": "kernel", "U": "recurrent_kernel", "b": "bias"},
    ),
    "coursera": describe(
        "the exercise of Coursera's 'Sequence Models': (n, m, T), weights on [a_prev; x_t]",
        order="fico",
        weights="per gate, concat [h, x]",
        rows="outputs",
        axes="D,B,T",
        bias="H,1",
        names=_coursera,
        labels={"dU": "dW* for a_prev"},
    ),
    "tmva": describe(
        "TMVA's LSTMLayer: W then U then b, each i, f, c, o; B x T x D",
        order="ifco",
        weights="per gate",
        rows="outputs",
        axes="B,T,D",
        names=_batch_first,
    ),
    "cs231n": describe(
        "the assignment of Stanford's CS231n: Wx, Wh, b; blocks i, f, o, g; batch first",
        order="ifog",
        axes="B,T,D",
        names={"W": "Wx", "U": "Wh", "xs": "x", "dhs": "dh", "hs": "h"},
    ),
    "numpy-ml": describe(
        "numpy-ml's LSTM: Wf, Wu, Wc, Wo on [A_prev, Xt]; (n_ex, n_in, n_t)",
        order="fuco",
        weights="per gate, concat [h, x]",
        axes="B,D,T",
        bias="1,H",
        names={"xs": "X", "dxs": "dLdX", "dhs": "dLdA", "hs": "A", "cs": "C"},
    ),
    "dlfs2": describe(
        "the TimeLSTM of 'Deep Learning from Scratch 2': Wx, Wh, b; blocks f, g, i, o; batch first",
        order="fgio",
        axes="B,T,D",
        names={"W": "Wx", "U": "Wh"},
    ),
    "karpathy": describe(
        "Karpathy's batched LSTM: WLSTM on [1, x, h], blocks i, f, o, g",
        order="ifog",
        weights="concat [1, x, h]",
        names={"W": "WLSTM", "xs": "X", "dhs": "dHout", "dh_T": "dhn", "dc_T": "dcn"}
        | {"hs": "Hout", "cs": "C"},
    ),
    "nicodjimenez": describe(
        "nicodjimenez/lstm: wg, wi, wf, wo on [x, h]; no tanh at the output",
        order="gifo",
        weights="per gate, concat [x, h]",
        rows="outputs",
        names={"W": "w*", "dW": "w*_diff", "db": "b*_diff", "xs": "x", "dhs": "dh"}
        | {"hs": "h", "cs": "s"},
        forward=("no tanh at the output",),
    ),
}

LAYOUTS = {name: {"ours": our_layout(cell)} for name, cell in CELLS.items()}
LAYOUTS["lstm"] |= OTHERS


# Weights alone, of one cell: what files and other frameworks hold -----------------------------


class WeightLayout(NamedTuple):
    """The weights of one cell in a system.

    about: what it is called there.   cell: what it is called here, a key of LAYOUTS.
    shapes: {name: shape in letters}. A name in `optional` may be missing, all of them together.
    to_ours({name: array}) -> {"W": ..., "U": ..., "b": ..., perhaps "b again", "P"}.
    """

    about: str
    cell: str
    shapes: dict[str, str]
    optional: tuple[str, ...]
    to_ours: Callable[[dict[str, Any]], dict[str, Any]]


def from_gates(W, U, b):
    """To ours from a matrix per gate, each given by the names of its four, in the order i f g o."""

    def to_ours(d):
        parts = {"W": W, "U": U, "b": b}
        return drop_missing(**{k: join_gates(d, names, lambda x: x) for k, names in parts.items()})

    return to_ours


def flax_layout(about, f):
    """flax's kernel per gate; the one for the forget gate's input is called `f`."""
    W = [f"{k}/kernel" for k in ("ii", f, "ig", "io")]
    U = [f"h{k}/kernel" for k in "ifgo"]
    b = [f"h{k}/bias" for k in "ifgo"]
    shapes = dict.fromkeys(W, "D,H") | dict.fromkeys(U, "H,H") | dict.fromkeys(b, "H")
    return WeightLayout(about, "lstm", shapes, (), from_gates(W, U, b))


def plain_layout(about, cell, names, optional=()):
    """Arrays that lie as ours do: {their name: ours}."""
    shapes = {k: LAYOUTS[cell]["ours"].problem[name] for k, name in names.items()}
    return WeightLayout(about, cell, shapes, optional, rename(names))


from_torch = merge(
    rename({"weight_ih_l0": "W", "weight_hh_l0": "U", "weight_hr_l0": "P"}, transpose),
    rename({"bias_ih_l0": "b", "bias_hh_l0": "b again"}),
)
_biases = ("bias_ih_l0", "bias_hh_l0")
_torch_weights = {"weight_ih_l0": "4H,D", "weight_hh_l0": "4H,H"} | dict.fromkeys(_biases, "4H")
_rnn = {"weight_ih_l0": "H,D", "weight_hh_l0": "H,H"} | dict.fromkeys(_biases, "H")
_projected = _torch_weights | {"weight_hh_l0": "4H,R", "weight_hr_l0": "R,H"}
_kernels = {"kernel": "W", "recurrent_kernel": "U", "bias": "b"}
_dense = {"dense_i/kernel": "W", "dense_h/kernel": "U"}

WEIGHTS = {
    "ours": tuple(
        plain_layout(f"jax_lstm.{cell.params.__name__}", name, {k: k for k, _ in cell.shapes})
        for name, cell in CELLS.items()
    ),
    "torch": (
        WeightLayout("torch.nn.LSTM", "lstm", _torch_weights, _biases, from_torch),
        WeightLayout("torch.nn.LSTM with proj_size", "lstmp", _projected, _biases, from_torch),
        WeightLayout("torch.nn.RNN", "elman", _rnn, _biases, from_torch),
    ),
    "linen": (
        flax_layout("flax.linen's LSTMCell or OptimizedLSTMCell", "if"),
        plain_layout(
            "flax.linen.SimpleCell", "elman", {"i/kernel": "W", "h/kernel": "U", "i/bias": "b"}
        ),
    ),
    "nnx": (
        plain_layout("flax.nnx.OptimizedLSTMCell", "lstm", _dense | {"dense_h/bias": "b"}),
        flax_layout("flax.nnx.LSTMCell", "if_"),
        plain_layout("flax.nnx.SimpleCell", "elman", _dense | {"dense_i/bias": "b"}),
    ),
    "keras": (
        plain_layout("keras.layers.LSTM", "lstm", _kernels, ("bias",)),
        plain_layout("keras.layers.SimpleRNN", "elman", _kernels, ("bias",)),
    ),
}
