"""ONNX's operators and models at the door: what is refused, in words, and what may be left out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm.interop import onnx as ours

onnx = pytest.importorskip("onnx", reason="pip install -e '.[peers]'")


def finished(node, ins, outs):
    graph = onnx.helper.make_graph([node], "one", ins, outs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


BAD = {
    "W": (
        {"W": np.zeros((1, 15, 2))},
        {},
        r"`W` must be float64 \(1, 16, 2\), that is \(N, 4H, D\)",
    ),
    "dtype": ({"R": np.zeros((1, 16, 4), np.float32)}, {}, "`R` must be float64"),
    "direction": ({}, {"direction": "both"}, "`direction` must be one of forward, reverse"),
    "activations": ({}, {"activations": ["Tanh"]}, "`activations` must be 3 of"),
    "a number too many": (
        {},
        {"activation_alpha": [1.0]},
        "`activation_alpha` must be a number for",
    ),
    "layout": ({}, {"layout": 2}, "`layout` must be 0 or 1; got 2"),
    "clip": ({}, {"clip": -1.0}, "`clip` must be None or a number above 0"),
    "clip 0": ({}, {"clip": 0}, "`clip` must be None or a number above 0"),
    "our names": ({}, {"activations": ["hard_sigmoid"] * 3}, "3 of .*, HardSigmoid, .*ScaledTanh"),
    "lengths": ({"sequence_lens": [6, 1, 1]}, {}, "`sequence_lens` must lie in"),
    "X": ({"X": np.zeros((5, 3, 2), int)}, {}, r"`X` must be float32 or float64 \(T, B, D\)"),
}


@pytest.mark.parametrize("bad", BAD)
def test_complaints(bad):
    given, told, says = BAD[bad]
    right = {"X": np.zeros((5, 3, 2)), "W": np.zeros((1, 16, 2)), "R": np.zeros((1, 16, 4))}
    with pytest.raises(ValueError, match=says):
        ours.lstm(**right | given, **{"hidden_size": 4} | told)


def test_models_that_cannot_be_written_or_run():
    zeros = lambda tree: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)
    draw = lambda key, **more: jl.init_stack(key, 3, (4, 4), bidirectional=True, **more)
    summed = zeros(jax.eval_shape(lambda: draw(jax.random.key(0), merge="sum")))
    with pytest.raises(ValueError, match="reads 4 numbers above one that gives 8"):
        ours.to_onnx(summed)
    few = zeros(jax.eval_shape(lambda: jl.init_lstm(jax.random.key(0), 3, 4, dtype=jnp.bfloat16)))
    with pytest.raises(ValueError, match="of a dtype that the operators of ONNX have"):
        ours.to_onnx(few)
    info, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    node = onnx.helper.make_node("Gather", ["x", "i"], ["y"])
    places = info("i", onnx.TensorProto.INT64, (1,))
    model = finished(node, [info("x", kind, (3,)), places], [info("y", kind, None)])
    with pytest.raises(ValueError, match="`indices` must lie in an axis of 3, of Gather"):
        ours.run_model(model, {"x": np.zeros(3, np.float32), "i": np.array([-4])})
    with pytest.raises(ValueError, match=r"`inputs\['x'\]` must be an array"):
        ours.run_model(model, {"x": "words", "i": np.array([0])})


def test_a_model_may_leave_out_the_hidden_size():
    info, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    node = onnx.helper.make_node("RNN", ["X", "W", "R"], ["", "h"])
    shapes = {"X": (3, 2, 2), "W": (1, 4, 2), "R": (1, 4, 4)}
    model = finished(node, [info(k, kind, s) for k, s in shapes.items()], [info("h", kind, None)])
    found = ours.run_model(model, {k: np.ones(s, np.float32) for k, s in shapes.items()})
    assert found["h"].shape == (1, 2, 4)
