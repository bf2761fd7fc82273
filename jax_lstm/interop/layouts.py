"""The layouts of others: gate orders, transpositions and biases, as tables and pure permutations.

A layout names its arrays, says their shapes in the letters of notation.py, and turns problem and
gradient into ours: nothing is added or rounded, so a mask of what is known can go the same way.

    ours        W (D, 4H), U (H, 4H), b (4H,), blocks i f g o; time first            x @ W
    torch       weight_ih_l0 (4H, D), weight_hh_l0 (4H, H), two biases; i f g o      W x
    keras       kernel (D, 4H), recurrent_kernel (H, 4H), bias; i f c o; batch first x @ W
    coursera    Wf, Wi, Wc, Wo (H, H + D) on [a_prev; x_t]; arrays (n, m, T)         W z
    tmva        Wi, Wf, Wc, Wo (H, D), Ui, ... (H, H), bi, ... (H,); (B, T, D)       W x
    linen       ii, if, ig, io (D, H), hi, ... (H, H) with a bias each               x @ W
    nnx         as linen with if_, or dense_i (D, 4H), dense_h (H, 4H); i f g o      x @ W

Sources: torch.nn.LSTM; keras.layers.LSTM; flax's nn.LSTMCell, nnx.OptimizedLSTMCell;
the exercise of "Sequence Models", week 1, on Coursera;
TMVA's LSTMLayer, whose order of weights is input, forget, candidate, output.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jax_lstm.cells import CELLS
from jax_lstm.engine.shapes import axes_of, shape_of


class Layout(NamedTuple):
    """Names and shapes of a system's arrays, and the way to ours.

    problem: {name: shape in letters}: weights, states, inputs, and what is known of the loss, its
      cotangents or its targets. A name in `optional` may be missing.
    gradient: likewise. A name in `needed` may not be missing.
    labels: {our leaf: theirs}, for reports.
    to_ours(arrays) -> {our name: array}: for problems.
    gradient_to_ours(arrays) -> {our leaf: array}: for gradients, dX the gradient of X.
    """

    about: str
    problem: dict[str, str]
    optional: tuple[str, ...]
    gradient: dict[str, str]
    needed: tuple[str, ...]
    labels: dict[str, str]
    to_ours: Callable[[dict[str, Any]], dict[str, Any]]
    gradient_to_ours: Callable[[dict[str, Any]], dict[str, Any]]


def rename(names, change=lambda x: x):
    """A function of arrays by name: those that are there, under our names and changed."""
    return lambda d: {ours: change(d[theirs]) for theirs, ours in names.items() if theirs in d}


def merge(*parts):
    """One function of arrays by name: what each of the parts returns, together."""
    return lambda d: {k: v for part in parts for k, v in part(d).items()}


def transpose(x):
    return np.swapaxes(x, -1, -2)


def from_batch_first(x):
    """(B, T, ...) to (T, B, ...)."""
    return np.swapaxes(x, 0, 1)


def from_features_first(x):
    """(n, m, T) to (T, m, n)."""
    return np.transpose(x, (2, 1, 0))


def join_gates(d, names, change):
    """One matrix of a matrix per gate; None if one is missing."""
    return np.concatenate([change(d[k]) for k in names], -1) if all(k in d for k in names) else None


def drop_missing(**arrays):
    return {k: x for k, x in arrays.items() if x is not None}


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
    optional = ("dhs", "ys", *(f"{k}0" for k in state), *(f"d{k}_T" for k in state))
    needed = tuple(f"d{k}" for k in params)
    about = "time first, rows are examples"
    return Layout(about, problem, optional, gradient, needed, {}, dict, dict)


# torch: two biases that are added; the state has an axis of layers ----------------------------


def from_torch(d):
    return merge(
        rename({"weight_ih_l0": "W", "weight_hh_l0": "U", "weight_hr_l0": "P"}, transpose),
        rename({"bias_ih_l0": "b", "bias_hh_l0": "b again"}),
        rename({"input": "xs", "doutput": "dhs", "target": "ys"}),
        rename({"h_0": "h0", "c_0": "c0", "dh_n": "dh_T", "dc_n": "dc_T"}, lambda x: x[0]),
    )(d)


gradient_from_torch = merge(
    rename({"dweight_ih_l0": "dW", "dweight_hh_l0": "dU"}, transpose),
    rename({"dbias_ih_l0": "db", "dbias_hh_l0": "db again", "dinput": "dxs"}),
    rename({"dh_0": "dh0", "dc_0": "dc0"}, lambda x: x[0]),
)
_torch_weights = {
    "weight_ih_l0": "4H,D",
    "weight_hh_l0": "4H,H",
    "bias_ih_l0": "4H",
    "bias_hh_l0": "4H",
}
_torch_state = {"h_0": "1,B,H", "c_0": "1,B,H"}
TORCH_LAYOUT = Layout(
    "torch.nn.LSTM of one layer, batch_first=False",
    _torch_weights
    | _torch_state
    | {"input": "T,B,D", "doutput": "T,B,H", "target": "T,B,H", "dh_n": "1,B,H", "dc_n": "1,B,H"},
    ("bias_ih_l0", "bias_hh_l0", "h_0", "c_0", "doutput", "target", "dh_n", "dc_n"),
    {f"d{k}": v for k, v in (_torch_weights | _torch_state).items()} | {"dinput": "T,B,D"},
    ("dweight_ih_l0", "dweight_hh_l0"),
    {"dW": "dweight_ih_l0", "dU": "dweight_hh_l0", "db": "dbias_ih_l0"}
    | {"db again": "dbias_hh_l0", "dxs": "dinput", "dh0": "dh_0", "dc0": "dc_0"},
    from_torch,
    gradient_from_torch,
)


# keras: batch first ---------------------------------------------------------------------------

_keras_weights = {"kernel": "D,4H", "recurrent_kernel": "H,4H", "bias": "4H"}
_keras_state = {"h0": "B,H", "c0": "B,H"}
KERAS_LAYOUT = Layout(
    "keras.layers.LSTM with return_sequences, batch first",
    _keras_weights
    | _keras_state
    | {"x": "B,T,D", "dy": "B,T,H", "target": "B,T,H", "dh_T": "B,H", "dc_T": "B,H"},
    ("h0", "c0", "dy", "target", "dh_T", "dc_T"),
    {f"d{k}": v for k, v in (_keras_weights | _keras_state).items()} | {"dx": "B,T,D"},
    ("dkernel", "drecurrent_kernel", "dbias"),
    {"dW": "dkernel", "dU": "drecurrent_kernel", "db": "dbias", "dxs": "dx"},
    merge(
        rename({"kernel": "W", "recurrent_kernel": "U", "bias": "b"}),
        rename({k: k for k in ("h0", "c0", "dh_T", "dc_T")}),
        rename({"x": "xs", "dy": "dhs", "target": "ys"}, from_batch_first),
    ),
    merge(
        rename({"dkernel": "dW", "drecurrent_kernel": "dU", "dbias": "db"}),
        rename({"dh0": "dh0", "dc0": "dc0"}),
        rename({"dx": "dxs"}, from_batch_first),
    ),
)


# Coursera: a matrix per gate on [a_prev; x_t], features first ---------------------------------


def from_coursera(d, d_=""):
    """Weights; with d_="d", their gradients. The columns of W are those of a_prev, then of x_t."""
    H = next((len(d[f"{d_}W{k}"]) for k in "ifco" if f"{d_}W{k}" in d), 0)
    names = [f"{d_}W{k}" for k in "ifco"]
    return drop_missing(
        **{
            f"{d_}W": join_gates(d, names, lambda W: W[:, H:].T),
            f"{d_}U": join_gates(d, names, lambda W: W[:, :H].T),
            f"{d_}b": join_gates(d, [f"{d_}b{k}" for k in "ifco"], lambda b: b[:, 0]),
        }
    )


_coursera_weights = {f"W{k}": "H,H+D" for k in "fico"} | {f"b{k}": "H,1" for k in "fico"}
COURSERA_LAYOUT = Layout(
    "the exercise of Coursera's 'Sequence Models': (n, m, T), weights on [a_prev; x_t]",
    _coursera_weights
    | {"x": "D,B,T", "a0": "H,B", "c0": "H,B", "da": "H,B,T", "y": "H,B,T"}
    | {"da_T": "H,B", "dc_T": "H,B"},
    ("a0", "c0", "da", "y", "da_T", "dc_T"),
    {f"d{k}": v for k, v in _coursera_weights.items()}
    | {"dx": "D,B,T", "da0": "H,B", "dc0": "H,B"},
    tuple(f"d{k}" for k in _coursera_weights),
    {"dW": "dW* for x_t", "dU": "dW* for a_prev", "db": "db*", "dxs": "dx", "dh0": "da0"},
    merge(
        from_coursera,
        rename({"x": "xs", "da": "dhs", "y": "ys"}, from_features_first),
        rename({"a0": "h0", "c0": "c0", "da_T": "dh_T", "dc_T": "dc_T"}, transpose),
    ),
    merge(
        lambda d: from_coursera(d, "d"),
        rename({"dx": "dxs"}, from_features_first),
        rename({"da0": "dh0", "dc0": "dc0"}, transpose),
    ),
)


# TMVA: a W, a U and a bias per gate, batch first ----------------------------------------------


def from_tmva(d, d_=""):
    return drop_missing(
        **{
            f"{d_}W": join_gates(d, [f"{d_}W{k}" for k in "ifco"], transpose),
            f"{d_}U": join_gates(d, [f"{d_}U{k}" for k in "ifco"], transpose),
            f"{d_}b": join_gates(d, [f"{d_}b{k}" for k in "ifco"], lambda b: b),
        }
    )


_tmva_weights = {
    f"{m}{k}": shape for m, shape in (("W", "H,D"), ("U", "H,H"), ("b", "H")) for k in "ifco"
}
TMVA_LAYOUT = Layout(
    "TMVA's LSTMLayer: W then U then b, each i, f, c, o; B x T x D",
    _tmva_weights
    | {"x": "B,T,D", "h0": "B,H", "c0": "B,H", "dy": "B,T,H", "target": "B,T,H"}
    | {"dh_T": "B,H", "dc_T": "B,H"},
    ("h0", "c0", "dy", "target", "dh_T", "dc_T"),
    {f"d{k}": v for k, v in _tmva_weights.items()} | {"dx": "B,T,D", "dh0": "B,H", "dc0": "B,H"},
    tuple(f"d{k}" for k in _tmva_weights),
    {"dW": "dW*", "dU": "dU*", "db": "db*", "dxs": "dx"},
    merge(
        from_tmva,
        rename({"x": "xs", "dy": "dhs", "target": "ys"}, from_batch_first),
        rename({k: k for k in ("h0", "c0", "dh_T", "dc_T")}),
    ),
    merge(
        lambda d: from_tmva(d, "d"),
        rename({"dx": "dxs"}, from_batch_first),
        rename({"dh0": "dh0", "dc0": "dc0"}),
    ),
)

LAYOUTS = {name: {"ours": our_layout(cell)} for name, cell in CELLS.items()}
LAYOUTS["lstm"] |= {
    "torch": TORCH_LAYOUT,
    "keras": KERAS_LAYOUT,
    "coursera": COURSERA_LAYOUT,
    "tmva": TMVA_LAYOUT,
}


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


_biases = ("bias_ih_l0", "bias_hh_l0")
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


# The other way --------------------------------------------------------------------------------


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
