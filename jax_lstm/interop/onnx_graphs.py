"""ONNX models: a graph of recurrent operators run here and differentiated, and a stack written.

A graph is run node by node. The operators LSTM, GRU and RNN are those of onnx_operators.py; around
them stand the ones that move numbers about. What is known before the run, shapes and constants,
stays NumPy's, so that a whole model can stand under `jax.jit`. Any other operator is refused by its
name, before anything is run.

Source: the documentation of ONNX's operators; onnx itself is imported when it is needed.
"""

import itertools
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jax_lstm.cells.family import (
    CoupledLSTMParams,
    ElmanParams,
    GRUParams,
    GRUResetBeforeParams,
    LSTMCIFGParams,
    LSTMParams,
    PeepholeLSTMParams,
)
from jax_lstm.doors import as_array, check_path, check_range, describe, refuse
from jax_lstm.interop import onnx_operators as operators
from jax_lstm.networks.sizes import StackParams

OPSET = 17  # of what is written

# The operators ----------------------------------------------------------------------------------


def numbers_of(*arrays):
    """NumPy where all is known, else jax.numpy."""
    return np if all(x is None or isinstance(x, np.ndarray) for x in arrays) else jnp


def ints(x):
    """What must be known before the run: axes, shapes, places."""
    if isinstance(x, Tracer):
        raise ValueError("shapes and axes of an ONNX graph must not depend on its inputs' numbers")
    return [int(n) for n in np.asarray(x).reshape(-1)]


def axes_of(told, given):
    """Axes as an input, as newer versions have them, or as an attribute."""
    return told.get("axes") if given is None else ints(given)


def squeeze(told, x, axes=None):
    axes = axes_of(told, axes)
    return numbers_of(x).squeeze(x, None if axes is None else tuple(axes))


def unsqueeze(told, x, axes=None):
    return numbers_of(x).expand_dims(x, tuple(axes_of(told, axes)))


def transpose(told, x):
    return numbers_of(x).transpose(x, told.get("perm"))


def reshape(told, x, shape):
    """A 0 stands for the size that was there, unless `allowzero`."""
    sizes = ints(shape)
    if not told.get("allowzero", 0):
        sizes = [x.shape[n] if size == 0 else size for n, size in enumerate(sizes)]
    return numbers_of(x).reshape(x, sizes)


def concat(told, *xs):
    return numbers_of(*xs).concatenate(xs, axis=told["axis"])


def cut(told, x, starts=None, ends=None, axes=None, steps=None):
    """The operator Slice; Python clips places as ONNX does, but for a last -1 going down."""
    starts, ends = (
        told[name] if given is None else ints(given)
        for name, given in (("starts", starts), ("ends", ends))
    )
    axes = axes_of(told, axes) or range(len(starts))
    steps = [1] * len(starts) if steps is None else ints(steps)
    places: list[slice] = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        beyond = step < 0 and end < -x.shape[axis]
        places[axis] = slice(start, None if beyond else end, step)
    return x[tuple(places)]


def gather(told, x, places):
    axis = told.get("axis", 0)
    xp = numbers_of(x, places)
    places = xp.where(places < 0, places + x.shape[axis], places)
    check_range("indices", places, x.shape[axis] - 1, f"an axis of {x.shape[axis]}, of Gather")
    return xp.take(x, places, axis=axis)


def shape(told, x):
    return np.array(x.shape[told.get("start", 0) : told.get("end")], np.int64)


def cast(told, x):
    from onnx import helper

    return x.astype(helper.tensor_dtype_to_np_dtype(told["to"]))


def constant(told):
    """A tensor, or numbers, by whichever attribute it has."""
    ((name, value),) = told.items()
    kinds = {"value_int": np.int64, "value_ints": np.int64}
    kinds |= {"value_float": np.float32, "value_floats": np.float32}
    if name == "value":
        return value
    if name not in kinds:
        raise ValueError(f"a Constant must be a tensor or numbers; got the attribute {name}")
    return np.array(value, kinds[name])


def constant_of_shape(told, sizes):
    value = told.get("value", np.zeros(1, np.float32))
    return np.full(ints(sizes), value.reshape(()), value.dtype)


def expand(told, x, sizes):
    return numbers_of(x).broadcast_to(x, np.broadcast_shapes(x.shape, tuple(ints(sizes))))


def identity(told, x):
    return x


def recurrent(operator: Callable[..., Any]) -> Callable[..., Any]:
    def run(told, *arrays):
        if told.get("output_sequence", 0):  # of the first version
            raise ValueError("`output_sequence` is not known; give an opset of 7 or later")
        told = {"hidden_size": arrays[2].shape[-1], **told}  # which a model may leave out
        return operator(*(None if x is None else jnp.asarray(x) for x in arrays), **told)

    return run


OPERATORS = {
    "LSTM": recurrent(operators.lstm),
    "GRU": recurrent(operators.gru),
    "RNN": recurrent(operators.rnn),
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Reshape": reshape,
    "Concat": concat,
    "Slice": cut,
    "Gather": gather,
    "Shape": shape,
    "Cast": cast,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Expand": expand,
    "Identity": identity,
}


# A model, run -----------------------------------------------------------------------------------


def run_model(model: Any, inputs: Mapping[str, Any]) -> dict[str, jax.Array]:
    """The outputs of an ONNX model, differentiable by the hand-written rules.

    Args:
      model: a path of a model, or an `onnx.ModelProto`.
      inputs: {name: array} of the graph's inputs. A name of one of its initialisers is as good, and
        takes its place: so its weights are differentiated.

    Returns:
      {name: array} of the graph's outputs.

    Raises:
      ValueError: an operator other than LSTM, GRU, RNN, Squeeze, Unsqueeze, Transpose, Reshape,
        Concat, Slice, Gather, Shape, Cast, Constant, ConstantOfShape, Expand, Identity; inputs that
        are missing or unknown; what the operators refuse.

    Source: this file's.
    """
    import onnx

    if isinstance(model, str | os.PathLike):
        check_path("model", model)
        model = onnx.load(model)
    if not isinstance(model, onnx.ModelProto):
        refuse("model", "a path or an onnx.ModelProto", model)
    graph = model.graph
    for node in graph.node:
        if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
            raise ValueError(
                f"the operator {node.op_type} of {node.name or 'a node'} is none of those that are "
                f"run here: {', '.join(OPERATORS)}"
            )
    values: dict[str, Any] = {x.name: onnx.numpy_helper.to_array(x) for x in graph.initializer}
    values |= check_inputs(inputs, {x.name for x in graph.input}, set(values))
    for node in graph.node:
        told = {a.name: attribute(onnx, a) for a in node.attribute}
        found = OPERATORS[node.op_type](told, *(values[k] if k else None for k in node.input))
        found = found if isinstance(found, tuple) else (found,)
        values |= {k: x for k, x in zip(node.output, found, strict=False) if k}
    return {x.name: jnp.asarray(values[x.name]) for x in graph.output}


def attribute(onnx, a):
    """An attribute as Python and NumPy have it."""
    value = onnx.helper.get_attribute_value(a)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, int | float):
        return value
    return [x.decode() if isinstance(x, bytes) else x for x in value]


def check_inputs(inputs, names, weights):
    if not isinstance(inputs, Mapping):
        refuse("inputs", "a dict from names to arrays", inputs)
    lacking, unknown = names - weights - set(inputs), set(inputs) - names - weights
    if lacking or unknown:
        words = [f"lacks {', '.join(sorted(lacking))}"] * bool(lacking)
        words += [f"has the unknown {', '.join(map(str, sorted(unknown)))}"] * bool(unknown)
        raise ValueError(f"`inputs` {' and '.join(words)}; the graph has {', '.join(names)}")
    return {k: as_array(f"inputs[{k!r}]", x, float, "an array") for k, x in inputs.items()}


# A stack, written -------------------------------------------------------------------------------

BLOCKS = {  # {type: (operator, our blocks in ONNX's order; None: zeros, attributes)}
    LSTMParams: ("LSTM", (0, 3, 1, 2), {}),
    PeepholeLSTMParams: ("LSTM", (0, 3, 1, 2), {}),
    LSTMCIFGParams: ("LSTM", (0, 2, None, 1), {"input_forget": 1}),
    CoupledLSTMParams: ("LSTM", (0, 2, None, 1), {"input_forget": 1}),
    GRUParams: ("GRU", (1, 0, 2), {"linear_before_reset": 1}),
    GRUResetBeforeParams: ("GRU", (1, 0, 2), {"linear_before_reset": 0}),
    ElmanParams: ("RNN", (0,), {}),
}


def to_onnx(params: Any, path: Any = None, *, reverse: bool = False) -> Any:
    """A model of a cell or of a stack, for ONNX Runtime and others.

    Args:
      params: LSTMParams, PeepholeLSTMParams, LSTMCIFGParams, CoupledLSTMParams, GRUParams,
        GRUResetBeforeParams or ElmanParams; or StackParams of such, whose directions are
        concatenated.
      path: where to write it; None: nowhere.
      reverse: of one cell: it runs from the last step to the first.

    Returns:
      `onnx.ModelProto` with the input xs (T, B, D), from states of zeros, and the outputs hs (T, B,
      NH), h and, of an LSTM, c (layers times directions, B, H): the last states.

    Raises:
      ValueError: other parameters, bfloat16, skips, summed directions or learnt states of a stack.
        That a stack has residual connections, its parameters do not tell: they are not written.

    Source: ONNX's operators LSTM, GRU and RNN.
    """
    import onnx

    layers = check_stack(params)
    if layers[0][0].W.dtype == jnp.bfloat16:
        refuse("params", "of a dtype that the operators of ONNX have, float32 say", layers[0][0].W)
    direction = "reverse" if reverse else "forward"
    nodes, weights, now = [], [], "xs"
    ends: dict[str, list[str]] = {"h": [], "c": []}
    for n, layer in enumerate(layers):
        operator, _, attributes = BLOCKS[type(layer[0])]
        arrays = in_their_layout(layer)
        weights += [onnx.numpy_helper.from_array(x, f"{k}_{n}") for k, x in arrays.items()]
        ins = [now, *(f"{k}_{n}" for k in ("W", "R", "B"))]
        if "P" in arrays:
            ins += ["", "", "", f"P_{n}"]
        fields = ("h", "c") if operator == "LSTM" else ("h",)
        outs = [f"Y_{n}", *(f"{k}_{n}" for k in fields)]
        both = "bidirectional" if len(layer) == 2 else direction
        told = {"hidden_size": arrays["R"].shape[2], "direction": both, **attributes}
        nodes.append(onnx.helper.make_node(operator, ins, outs, **told))
        now = "hs" if n == len(layers) - 1 else f"hs_{n}"
        turned = f"turned_{n}"
        nodes.append(onnx.helper.make_node("Transpose", [f"Y_{n}"], [turned], perm=(0, 2, 1, 3)))
        nodes.append(onnx.helper.make_node("Reshape", [turned, "flat"], [now]))
        for k in fields:
            ends[k].append(f"{k}_{n}")
    weights.append(onnx.numpy_helper.from_array(np.array([0, 0, -1], np.int64), "flat"))
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(layers[0][0].W.dtype))
    shapes = {"xs": ("T", "B", layers[0][0].W.shape[0]), "hs": ("T", "B", None)}
    for k, parts in ends.items():
        if parts:
            nodes.append(onnx.helper.make_node("Concat", parts, [k], axis=0))
            shapes[k] = (None, "B", None)
    info = {k: onnx.helper.make_tensor_value_info(k, kind, s) for k, s in shapes.items()}
    ins, outs = [info.pop("xs")], list(info.values())
    graph = onnx.helper.make_graph(nodes, "jax_lstm", ins, outs, weights)
    opset = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(graph, producer_name="jax_lstm", opset_imports=opset)
    model.ir_version = 8  # which the opset came with
    onnx.checker.check_model(model)
    if path is not None:
        check_path("path", path)
        onnx.save(model, path)
    return model


def check_stack(params):
    """Layers of directions."""
    if type(params) in BLOCKS:
        return ((params,),)
    want = f"StackParams, or one of {', '.join(kind.__name__ for kind in BLOCKS)}"
    if not isinstance(params, StackParams):
        refuse("params", want, params)
    if any(x is not None for x in params[1:]):
        refuse("params", "a stack without learnt states or skips", params)
    for layer in params.layers:
        for one in layer:
            if type(one) not in BLOCKS:
                raise ValueError(f"`params` must be {want}; a layer has {describe(type(one))}")
    for below, layer in itertools.pairwise(params.layers):
        wide, want = layer[0].W.shape[0], sum(one.U.shape[0] for one in below)
        if wide != want:  # summed directions, say
            raise ValueError(
                "`params` must be a stack without skips whose directions are concatenated; got a "
                f"layer that reads {wide} numbers above one that gives {want}"
            )
    return params.layers


def in_their_layout(layer):
    """W, R, B, P of a layer's directions."""
    found: dict[str, list[np.ndarray]] = {"W": [], "R": [], "B": [], "P": []}
    for one in layer:
        _, order, _ = BLOCKS[type(one)]
        H = one.U.shape[0]

        def blocks(x, order=order, H=H):
            x = np.asarray(x)
            parts = [x[..., :H] * 0 if k is None else x[..., k * H : (k + 1) * H] for k in order]
            return np.concatenate(parts, axis=-1)

        found["W"].append(blocks(one.W).T)
        found["R"].append(blocks(one.U).T)
        beside = blocks(one.c) if isinstance(one, GRUParams) else np.zeros_like(blocks(one.b))
        found["B"].append(np.concatenate([blocks(one.b), beside]))
        if isinstance(one, PeepholeLSTMParams | LSTMCIFGParams):
            coupled = isinstance(one, LSTMCIFGParams)
            found["P"].append(blocks(one.p, (0, 1, None) if coupled else (0, 2, 1)))
    return {k: np.stack(x) for k, x in found.items() if x}
