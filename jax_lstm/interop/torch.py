"""torch.nn.LSTM and torch.nn.RNN: weights, gradients and states, both ways, without torch.

    weight_ih_l{k}[_reverse]  (4H, D); above layer 0 (4H, directions H), with proj_size (4H, ... R)
    weight_hh_l{k}[_reverse]  (4H, H), with proj_size (4H, R)      W x, blocks i, f, g, o
    weight_hr_l{k}[_reverse]  (R, H), with proj_size only
    bias_ih_l{k}, bias_hh_l{k}[_reverse]  (4H,) each; their sum is b

Weights and gradients do not go the same way. Two biases that are added are one fork more:
b = b_ih + b_hh, hence db_ih = db and db_hh = db. A weight b goes to b_ih, with zeros in b_hh; a
gradient db goes to both. (So a step of plain gradient descent on the two moves their sum by twice
what it moves our b.)

    params = from_state_dict(module.state_dict())
    dparams = gradient_from_state_dict({k: p.grad for k, p in module.named_parameters()})

What a state_dict does not say, it cannot tell: the dropout and batch_first of the module, and
whether a torch.nn.RNN has tanh (ours) or relu.

Source: torch.nn.LSTM's and torch.nn.RNN's documentation; tests/interop/ runs both.
"""

import importlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm.doors import check_flag, check_text, describe
from jax_lstm.interop.convert import (
    READERS,
    TORCH_NAME,
    array_of,
    arrays_of,
    as_layers,
    cell_of,
    cells_among,
    join_parts,
    layers_of,
    state_of,
)
from jax_lstm.interop.layouts import WEIGHTS
from jax_lstm.interop.torch_names import plain_names, what_else
from jax_lstm.networks.functions import AnyLayers, Layers
from jax_lstm.networks.sizes import DIRECTIONS, StackParams
from jax_lstm.notation import Tree
from jax_lstm.printing import listing


def from_state_dict(d: Mapping[str, Any], *, prefix: str = "") -> StackParams:
    """The parameters of a stack from the state_dict of a torch.nn.LSTM or torch.nn.RNN.

        W = weight_ihᵀ    U = weight_hhᵀ    b = bias_ih + bias_hh    P = weight_hrᵀ

    Args:
      d: {name: array}, of NumPy, JAX or torch; shapes as above, one floating dtype, bfloat16 and
        float16 too. Of a torch.nn.LSTMCell or RNNCell it is one layer. Weight-normed weights, of
        either of torch's weight_norm, are joined: w = g v / ‖v‖, in their dtype.
      prefix: what the names begin with, "encoder.lstm" say. Only those are read; without a prefix
        there must be no other.

    Returns:
      StackParams for `jax_lstm.stack`, dtype of d: LSTMParams; LSTMPParams where there are
      weight_hr, to run with `sequence=lstmp`; ElmanParams of a torch.nn.RNN. Without biases, b is
      zero.

    Raises:
      ValueError: names or shapes that do not belong together; float64 with JAX's x64 off.

    Source: this file's.
    """
    return read(d, prefix, None, join_parts)


def gradient_from_state_dict(d: Mapping[str, Any], *, prefix: str = "") -> StackParams:
    """The gradient of those parameters from torch's: db is the gradient of either bias.

    Args:
      d: {name: gradient}, as `from_state_dict` has it for weights.
      prefix: likewise.

    Returns:
      StackParams of cotangents. Without biases db is zero: b is not trained there.

    Raises:
      ValueError: also where the gradients of the two biases differ by more than rounding: then
        they are none, or something was done to one of them.

    Source: this file's.
    """
    return read(d, prefix, join_gradients, refuse_parts)


def to_state_dict(params: Tree, *, bias: bool = True, prefix: str = "") -> dict[str, np.ndarray]:
    """A state_dict for a torch.nn.LSTM or torch.nn.RNN that computes what these parameters do.

    Args:
      params: StackParams with one H and as many directions in every layer, merged by "concat" and
        nothing between the layers; or the parameters of one cell.
      bias: False for a module that has none; b must then be zero.
      prefix: what the names shall begin with, "encoder.lstm" say.

    Returns:
      {name: NumPy array}, in torch's order, dtype of params: b in bias_ih, zeros in bias_hh. As
      `module.load_state_dict(to_tensors(d))`; for a torch.nn.LSTMCell without "_l0" in the names.

    Raises:
      ValueError: parameters that no torch module has.

    Source: this file's.
    """
    return write(params, bias, prefix, None)


def gradient_to_state_dict(
    dparams: Tree, *, bias: bool = True, prefix: str = ""
) -> dict[str, np.ndarray]:
    """The gradient of a torch module's parameters from ours: db for each of its two biases.

    Args:
      dparams: cotangents in the form of params.
      bias: False for a module that has none; db is left out.
      prefix: as in `to_state_dict`.

    Returns:
      {name: NumPy array}, by `to_tensors` for `p.grad` of each of `module.named_parameters()`.

    Raises:
      ValueError: as `to_state_dict`.

    Source: this file's.
    """
    return write(dparams, bias, prefix, np.copy)


def from_hx(hx: Tree, *, bidirectional: bool = False) -> Layers:
    """States of a stack from torch's (h_0, c_0), or h_0 alone: axis 0 counts layers and directions.

    Args:
      hx: (h_0 (L·D, B, H or R), c_0 (L·D, B, H)), or h_0; without batch, (L·D, H). Of a
        torch.nn.LSTMCell, whose states have no axis of layers, (h[None], c[None]).
      bidirectional: whether D, the number of directions, is 2.

    Returns:
      states[l][direction]: LSTMState, LSTMPState or ElmanState. c is float32 where it had 16 bits.

    Raises:
      ValueError: shapes that do not belong together.

    Source: this file's.
    """
    check_flag("bidirectional", bidirectional)
    given = hx if isinstance(hx, tuple | list) else (hx,)
    names = ("h_0 of hx", "c_0 of hx")
    fields = [array_of(name, x) for name, x in zip(names, given, strict=False)]
    directions = 2 if bidirectional else 1
    sizes = {x.shape[:-1] for x in fields}
    n = fields[0].shape[0] if fields and fields[0].ndim > 1 else 0
    if len(given) not in (1, 2) or len(sizes) != 1 or n == 0 or n % directions:
        raise ValueError(
            f"`hx` must be (h_0, c_0), each ({'2L' if bidirectional else 'L'}, B, ...), or h_0; "
            f"got {', '.join(str(x.shape) for x in fields) or 'nothing'}"
        )
    states = [state_of(f"hx[:, {k}]", *(x[k] for x in fields)) for k in range(n)]
    return tuple(tuple(states[k : k + directions]) for k in range(0, n, directions))


def to_hx(states: AnyLayers, *, dtype: Any = None) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """torch's (h_0, c_0), or h_0 where there is no c, from states[l][direction].

    Args:
      states: as `jax_lstm.init_stack_state` has them.
      dtype: of what comes back, jnp.bfloat16 or torch.bfloat16 say. None: kept. For 16-bit
        parameters our c is float32, and torch wants all alike: there give theirs, to which c is
        then rounded. A c that came by `from_hx` goes back as it was.

    Returns:
      NumPy arrays (layers x directions, B, ...), forward before reverse; by `to_tensors` for torch.

    Raises:
      ValueError: states of several sizes; arrays that are none; a dtype that is no floating one.

    Source: this file's.
    """
    layers = as_layers("states", states, lambda x: hasattr(x, "_fields"))
    each = [state for layer in layers for state in layer]
    kinds = {(type(s).__name__, *(np.shape(x) for x in s)) for s in each}
    if len(kinds) != 1:
        raise ValueError(f"torch has one H for all layers; got states {sorted(kinds)}")
    fields = tuple(np.stack([array_of("state", x) for x in xs]) for xs in zip(*each, strict=True))
    fields = fields if dtype is None else tuple(x.astype(floating(dtype)) for x in fields)
    return fields if len(fields) == 2 else fields[0]


def to_tensors(tree: Tree) -> Tree:
    """torch's tensors for the arrays of a tree, to the bit, bfloat16 and float16 too.

        module.load_state_dict(to_tensors(to_state_dict(params)))
        module(x, to_tensors(to_hx(states, dtype=jnp.bfloat16)))

    `torch.from_numpy` refuses the bfloat16 that NumPy has from JAX. This is the one function of the
    file that needs torch.

    Args:
      tree: arrays of NumPy or JAX, floating point, in any tree: what the functions above return.

    Returns:
      The tree, of new tensors on the CPU, dtype kept.

    Raises:
      ImportError: without torch.
      ValueError: what is no array of floating point.
    """
    try:
        torch = importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise ImportError("jax_lstm.interop.torch.to_tensors needs torch") from error

    def tensor(x):
        x = np.array(array_of("tree", x), order="C")  # a copy: JAX's arrays are not to be written
        if x.dtype != jnp.bfloat16:
            return torch.from_numpy(x)
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)

    return jax.tree.map(tensor, tree)


def floating(dtype):
    """A floating dtype of NumPy, by whatever name, torch's own included."""
    try:
        said = str(dtype)
        found = jnp.dtype(said.removeprefix("torch.") if said.startswith("torch.") else dtype)
    except Exception:  # NumPy's, or of what is put into its words
        found = jnp.dtype(bool)
    if isinstance(dtype, jax.ShapeDtypeStruct) or not jnp.issubdtype(found, jnp.floating):
        raise ValueError(
            f"`dtype` must be a floating dtype, say jnp.bfloat16; got {describe(dtype)}"
        )
    return found


# In and out -----------------------------------------------------------------------------------


def read(d, prefix, join, whole):
    """StackParams; `join` makes one bias of two, `whole` one weight of its parts."""
    cells = group_by_cell(d, prefix, whole)
    L, directions = 1 + max(k for k, _ in cells), 1 + max(r for _, r in cells)
    layers = []
    for k in range(L):
        found = []
        for r in range(directions):
            where = f"layer {k}, {DIRECTIONS[r]} direction"
            if (k, r) not in cells:
                raise ValueError(
                    f"the {where} is missing: weight_ih_l{k}{'_reverse' * r}; torch has as many "
                    f"directions in each of its layers; found {listing(d)}"
                )
            found.append(cell_of(cells[k, r], WEIGHTS["torch"], where, join))
        layers.append(tuple(found))
    check_fit(layers)
    return StackParams(tuple(layers))


def group_by_cell(d, prefix, whole):
    """{(layer, direction): {name of layer 0: array}} of the names below the prefix."""
    if not isinstance(d, Mapping) or not d:
        got = f"{type(d).__name__}; give its state_dict()"
        got = got if hasattr(d, "state_dict") else f"{type(d).__name__} {describe(d):.40}"
        raise ValueError(f"`d` is none: a state_dict must be {{name: array}}; got {got}")
    check_text("prefix", prefix)
    cells, strange, start = {}, [], f"{prefix.removesuffix('.')}." if prefix else ""
    below = {str(k): x for k, x in d.items() if str(k).startswith(start)}
    for name, x in plain_names(below).items():
        match = TORCH_NAME.fullmatch(name[len(start) :])
        if match is None or match[1]:
            strange.append(name if name in below else name.removesuffix("_l0"))
            continue
        _, kind, layer, reverse = match.groups()
        group = cells.setdefault((int(layer), 1 if reverse else 0), {})
        group[f"{kind}0"] = array_of(name, whole(name, x))
    if strange or not cells:
        raise ValueError(strangers(d, prefix, strange))
    return cells


def strangers(d, prefix, strange):
    """What there is instead, and how it could be read."""
    found, _ = cells_among(d)
    places = [f.where for f in found if f.layout == "torch" and f.form]
    prefixes = dict.fromkeys(f"prefix={where!r}" for where in places if where)
    others = dict.fromkeys(READERS[f.layout] for f in found if f.layout != "torch")
    says = f"below {prefix!r} " if prefix else ""
    return (
        f"a state_dict {says}must hold weight_ih_l0, weight_hh_l0, ... and nothing else; "
        f"found {listing(strange or d)}"
        + (f"; LSTMs are there with {' or '.join(prefixes)}" if prefixes else "")
        + ("; an LSTM is there without a prefix: give its arrays alone" if "" in places else "")
        + (f"; some would fit {', '.join(others)}" if others else "")
        + what_else({str(k): x for k, x in d.items()})
    )


def refuse_parts(name, x):
    """Gradients of a weight norm's g and v do not make that of the weight: v's has lost a part."""
    if isinstance(x, tuple):
        raise ValueError(
            f"`{name}` is weight-normed: the gradients of its two parts are not the weight's"
        )
    return x


def join_gradients(b, again):
    """The one gradient of two biases; sums in another order may differ by rounding."""
    scale = max(np.abs(b).max(initial=0), np.abs(again).max(initial=0))
    apart = np.abs(b - again).max(initial=0)
    if apart > float(jnp.finfo(b.dtype).eps) ** 0.5 * scale:
        raise ValueError(
            "bias_ih and bias_hh are added, so they have one gradient; these are "
            f"{float(apart):.3g} apart. Weights go through from_state_dict"
        )
    return b


def check_fit(layers):
    """What torch's layers have in common: H, and each reads all directions of the one below."""
    kinds = {type(p).__name__ for layer in layers for p in layer}
    sizes = [tuple(p.U.shape for p in layer) for layer in layers]
    if len(kinds) > 1 or len({s for layer in sizes for s in layer}) > 1:
        raise ValueError(f"torch has one cell and one H for all layers; got {kinds}, U {sizes}")
    if len({len(layer) for layer in layers}) > 1:
        got = [len(layer) for layer in layers]
        raise ValueError(f"torch has as many directions in each of its layers; got {got}")
    for k, layer in enumerate(layers):
        features = layers[0][0].U.shape[0] * len(layer) if k else layers[0][0].W.shape[0]
        for p in layer:
            if p.W.shape[0] != features:
                below = f"what layer {k - 1} hands on" if k else "as its forward direction"
                raise ValueError(
                    f"layer {k} must read {features} features, {below}; W is {p.W.shape}"
                )


def write(params, bias, prefix, again):
    """{name: array} in torch's order; `again` makes the second bias of the first."""
    check_flag("bias", bias)
    check_text("prefix", prefix)
    name = "params" if again is None else "dparams"
    layers = layers_of(params)
    start = f"{prefix.removesuffix('.')}." if prefix else ""
    d = {}
    for k, layer in enumerate(layers):
        for r, p in enumerate(layer):
            if not bias and again is not None and hasattr(p, "b"):
                p = p._replace(b=np.zeros_like(p.b))
            arrays = arrays_of(p, WEIGHTS["torch"], bias, again, name)
            d |= {f"{start}{key[:-1]}{k}{'_reverse' * r}": x for key, x in arrays.items()}
    check_fit(layers)
    return d
