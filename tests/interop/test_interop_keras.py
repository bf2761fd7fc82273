"""Keras 3 on JAX, live: weights of layers in our form and back; outputs and all gradients."""

import contextlib
import functools
import os
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm.files import inspect as inspection
from jax_lstm.interop import keras as interop
from jax_lstm.networks.stack import stack
from tests.tables import QUICK, assert_close, assert_same, normal_like, pullback, relaxed, within

TOLERANCE = {"float64": 1e-11, "float32": 1e-5}
T, B, D, H = 7, 4, 3, 5
LENGTHS = (3, 7, 1, 5)

# layer, layers, bidirectional, masked, bias, dtype
CASES = {
    "LSTM": ("LSTM", 1, False, False, True, "float64"),
    "LSTM, 2 layers, two directions, masked": ("LSTM", 2, True, True, True, "float64"),
    "LSTM, masked, float32": ("LSTM", 1, False, True, True, "float32"),
    "LSTM, two directions, no bias": ("LSTM", 1, True, False, False, "float64"),
    "SimpleRNN, two directions, masked": ("SimpleRNN", 1, True, True, True, "float64"),
}
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")
over_cases = pytest.mark.parametrize("case", CASES)


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    reason = "Keras is the peer of this test: install jax_lstm[peers]"
    keras = pytest.importorskip("keras", reason=reason)
    # somebody's KERAS_BACKEND; where none is set it is jax, and nothing is skipped
    if keras.backend.backend() != "jax":
        pytest.skip(f"Keras runs on {keras.backend.backend()} here, this test needs jax")
    return keras


def layers_of(keras, kind, layers, bidirectional, masked, bias, dtype):
    """Layers that were built, their random weights set."""
    made, features = [], D
    for n in range(layers):
        one = getattr(keras.layers, kind)(
            H, return_sequences=True, return_state=True, use_bias=bias, dtype=dtype
        )
        layer = keras.layers.Bidirectional(one, dtype=dtype) if bidirectional else one
        layer.build((B, T, features))
        layer.set_weights([np.array(x) for x in normal_like(n, tree_of(layer), 0.5)])
        made.append(layer)
        features = H * (2 if bidirectional else 1)
    return made


def tree_of(layer):
    return [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in layer.get_weights()]


@contextlib.contextmanager
def in_float64():
    """Keras computes with float32 on JAX whatever the layer's dtype, by a table of its own."""
    from keras.src.backend.common import dtypes

    same = {"float64": "float64"}
    with mock.patch.dict(dtypes.BIT64_TO_BIT32_DTYPE, same), relaxed("Keras"):
        yield


def seeds(layer):
    """Of its dropout, at rate 0: Keras wants them with the weights."""
    return [v.value for v in layer.non_trainable_variables]


@functools.cache
def compare(keras, case):
    """(layers, theirs, ours, their gradient): outputs and cotangents along both ways."""
    kind, _, bidirectional, masked, bias, dtype = CASES[case]
    with in_float64():
        layers = layers_of(keras, *CASES[case])
    weights = [[jnp.asarray(x) for x in layer.get_weights()] for layer in layers]
    one = [jax.ShapeDtypeStruct((B, H), jnp.dtype(dtype))] * (2 if kind == "LSTM" else 1)
    first = normal_like(2, [one * (2 if bidirectional else 1) for _ in layers], 0.7)
    xs = normal_like(3, jax.ShapeDtypeStruct((T, B, D), jnp.dtype(dtype)))
    lengths = jnp.asarray(LENGTHS) if masked else None
    valid = within(LENGTHS if masked else [T] * B, T)

    def theirs(weights, first, xs):
        last, x = [], jnp.swapaxes(xs, 0, 1)
        for layer, w, states in zip(layers, weights, first, strict=True):
            (x, *states), _ = layer.stateless_call(
                w, seeds(layer), x, initial_state=states, mask=valid.T if masked else None
            )
            last.append(states)
        return last, jnp.where(valid[..., None], jnp.swapaxes(x, 0, 1), 0)

    def ours(params, states, xs):
        sequence = jl.lstm if kind == "LSTM" else jl.elman
        return stack(params, states, xs, lengths=lengths, sequence=sequence)

    def states(lists):
        n = len(one)
        return tuple(
            tuple(interop.from_states(x[k : k + n]) for k in range(0, len(x), n)) for x in lists
        )

    args = (weights, first, xs)
    with in_float64():
        dy = normal_like(4, jax.eval_shape(theirs, *args))
        (last, hs), (dweights, dfirst, dxs) = pullback(theirs, args, dy, QUICK)
    params = interop.from_weights(weights)
    y, (dparams, *rest) = pullback(ours, (params, states(first), xs), (states(dy[0]), dy[1]), QUICK)
    theirs = ((states(last), hs), (dweights, states(dfirst), dxs))
    dparams = interop.to_weights(drop_bias(dparams, bias), use_bias=bias)
    return layers, theirs, (y, (dparams, *rest)), dweights


def drop_bias(params, bias):
    """No b where Keras has none: nobody asks for its gradient."""
    clear = lambda p: p if bias else p._replace(b=jnp.zeros_like(p.b))
    return params._replace(layers=tuple(tuple(map(clear, layer)) for layer in params.layers))


@pytest.mark.half
@over_cases
def test_outputs_and_all_gradients(keras, case):
    _, theirs, ours, _ = compare(keras, case)
    assert_close(ours, theirs, TOLERANCE[CASES[case][-1]])


@over_cases
def test_there_and_back_at_exact_equality(keras, case):
    layers, *_, dweights = compare(keras, case)
    *_, bias, dtype = CASES[case]
    weights = [layer.get_weights() for layer in layers]
    for given in (weights, dweights):
        params = interop.from_weights(given)
        assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
        got = interop.to_weights(params, use_bias=bias)
        assert_same(got, given)
        assert {x.dtype for x in jax.tree.leaves(got)} == {np.dtype(dtype)}
        assert_same(interop.from_weights(got), params)
    random = drop_bias(normal_like(7, params), bias)
    assert_same(interop.from_weights(interop.to_weights(random, use_bias=bias)), random)
    named = {v.path: v for layer in layers for v in layer.weights}
    params = interop.from_weights(weights)
    if len(named) == sum(len(w) for w in weights):
        assert_same(interop.from_weights(named), params)
    for layer, given in zip(layers, interop.to_weights(params, use_bias=bias), strict=True):
        layer.set_weights(given)
    assert_same(interop.from_weights(layers[0].get_weights()).layers, params.layers[:1])


@pytest.mark.parametrize("gates", [(0, 1), (1, 2), (2, 3), (0, 3)], ids=str)
@pytest.mark.parametrize("leaf", range(3), ids=interop.KERAS_NAMES.__getitem__)
def test_swapped_gates_are_rejected(keras, leaf, gates):
    """The comparison above can fail: columns of two gates in each other's places."""
    _, theirs, (y, (dweights, *rest)), _ = compare(keras, "LSTM")
    blocks = np.split(dweights[0][leaf], 4, axis=-1)
    a, b = gates
    blocks[a], blocks[b] = blocks[b], blocks[a]
    wrong = [list(dweights[0])]
    wrong[0][leaf] = np.concatenate(blocks, -1)
    with pytest.raises(AssertionError):
        assert_close((y, (wrong, *rest)), theirs, TOLERANCE["float64"])


# Without Keras --------------------------------------------------------------------------------


def weights(blocks=4, features=D):
    n = blocks * H
    return [np.ones((features, n)), np.ones((H, n)), np.ones(n)]


def name_variables(where="", **options):
    return {f"{where}{k}": x for k, x in zip(interop.KERAS_NAMES, weights(**options), strict=True)}


def test_names_tell_layers_and_directions():
    params = interop.from_weights(
        name_variables("m/lstm/lstm_cell/")
        | name_variables("m/bidirectional/forward_lstm_1/lstm_cell/", features=H)
        | name_variables("m/bidirectional/backward_lstm_1/lstm_cell/", features=H)
    )
    assert [len(layer) for layer in params.layers] == [1, 2]
    assert_same(interop.to_weights(params), [weights(), weights(features=H) * 2])
    forward, backward = (
        {f"{d}_lstm/{k}": n * x for k, x in name_variables().items()}
        for d, n in (("forward", 1), ("backward", 2))
    )
    (layer,) = interop.from_weights(backward | forward).layers  # as files sort names
    assert [p.b[0] for p in layer] == [1, 2]
    assert_same(interop.from_weights(name_variables()), interop.from_weights(weights()))


def stack_of(names, sizes):
    """Layers by name, sorted as files sort them; b says which was meant to be which."""
    variables = {}
    for n, (name, (reads, hands_on)) in enumerate(zip(names, sizes, strict=True)):
        shapes = (reads, 4 * hands_on), (hands_on, 4 * hands_on), (4 * hands_on,)
        arrays = [np.full(shape, float(n)) for shape in shapes]
        variables |= {f"{name}/{k}": x for k, x in zip(interop.KERAS_NAMES, arrays, strict=True)}
    return dict(sorted(variables.items()))


ORDERS = {
    "Keras' numbers": ["m/lstm/lstm_cell", *(f"m/lstm_{n}/lstm_cell" for n in range(1, 12))],
    "numbers from 9": ["lstm_9", "lstm_10", "lstm_11"],
    "numbers that are parts": [f"layers.{n}.cell" for n in range(8, 12)],
    "more digits than int() reads": ["lstm", "lstm_9", "lstm_1" + "0" * 5000],
    "numbers in numbers": ["b2/lstm_9", "b2/lstm_10", "b10/lstm_2"],
    "cells of one layer": ["rnn/lstm_cell", "rnn/lstm_cell_1", "rnn/lstm_cell_2"],
    "no numbers, and sizes of one order": ["z", "y", "x"],
}


@pytest.mark.parametrize("names", ORDERS.values(), ids=ORDERS)
def test_files_sort_names_as_text_and_the_layers_stand_by_number(names, tmp_path):
    """Of equal sizes but where the names have no numbers; the reader and `inspect` agree."""
    numbers = any(c.isdecimal() for c in names[0] + names[1])
    sizes = [(D if n == 0 else H, H) if numbers else (D + n, D + n + 1) for n in range(len(names))]
    given = stack_of(names, sizes)
    assert [layer[0].b[0] for layer in interop.from_weights(given).layers] == [*range(len(names))]
    np.savez(tmp_path / "a.npz", **given)
    found = inspection.inspect(tmp_path / "a.npz")
    assert ([c.where for c in found.cells], found.order) == (names, "")


@pytest.mark.parametrize(
    ("names", "sizes", "match"),
    [
        (["encoder", "decoder"], [(H, H)] * 2, "decoder, encoder, and their sizes fit in more tha"),
        (["first", "lstm_2"], [(H, H)] * 2, "more than one order: give .layer.get_weights"),
        (["a_1/lstm_2", "a_2/lstm_1"], [(H, H)] * 2, "do not tell the order of the layers a_1/"),
        (["lstm", "lstm_0"], [(H, H)] * 2, "do not tell the order"),
        (["encoder", "decoder"], [(3, 5), (4, 5)], "their sizes fit in no order"),
        (["a/forward_b"], [(3, 5)], "the backward direction is missing, a/backward_b"),
        (["forward_b", "backward_b"], [(3, 5), (4, 5)], "of forward_b read 3 and 4 features"),
        ([*"abcdefg"], [(n, n + 1) for n in range(3, 10)], "more than 6 layers are not tried"),
        (["lstm_\u0661", "lstm"], [(H, H)] * 2, "more than one order"),  # a digit, and none of ours
        (["lstm_10", "lstm_9"], [(3, 5), (5, 5)], "lstm_10 reads 3 features, and lstm_9 before it"),
    ],
    ids=range(10),
)
def test_an_order_that_is_not_told_is_refused_and_inspect_says_so(names, sizes, match, tmp_path):
    given = stack_of(names, sizes)
    with pytest.raises(ValueError, match=match) as refused:
        interop.from_weights(given)
    np.savez(tmp_path / "a.npz", **given)
    found = inspection.inspect(tmp_path / "a.npz")
    assert found.order == str(refused.value)
    assert found.order in found.table()


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (
            [weights(), weights(features=4)],
            "layer 1 reads 4 features, and layer 0 hands on 5: they",
        ),
        (
            weights(3),
            r"= \(5, 20\), as keras.layers.LSTM has it; got \(5, 15\): 3 block.*a GRU has",
        ),
        (weights()[:1], "3 arrays, kernel, recurrent_kernel, bias, or 6 of two .*; got 1"),
        ([weights(), weights()[:1]], "the weights of layer 1 must be 3 arrays"),
        ([*weights()[:2], None], r"`weights\[2\]` must be an array; got NoneType"),
        ([x.T for x in weights()], "fit keras.layers.LSTM when they are transposed; got kern"),
        (3, "or a list of such lists; got int"),
        ({}, "found nothing"),
        (
            name_variables() | {"dense/kernel": np.ones((H, 2))},
            "and nothing else; found dense/kernel",
        ),
        (
            {"weight_ih_l0": np.ones((4 * H, D)), "weight_hh_l0": np.ones((4 * H, H))},
            "some would fit jax_lstm.interop.torch.from_state_dict",
        ),
        (
            name_variables("a/forward_lstm/lstm_cell/") | name_variables("a/lstm_1/lstm_cell/"),
            "the backward direction is missing, a/backward_lstm/lstm_cell; .*found a/forw.*, a/lst",
        ),
        (
            name_variables("backward_lstm/"),
            "of backward_lstm the forward direction is missing, forward_ls",
        ),
    ],
    ids=range(12),
)
def test_bad_weights_are_explained(given, match):
    with pytest.raises(ValueError, match=match):
        interop.from_weights(given)


def test_states():
    h, c = np.zeros((B, H)), np.ones((B, H))
    assert_same(interop.from_states([h, c]), jl.LSTMState(h, c))
    assert_same(interop.to_states(interop.from_states([h])), [h])
    with pytest.raises(
        ValueError, match=r"must be \[h, c\] or \[h\], of one direction; got list 4"
    ):
        interop.from_states([h, c] * 2)
    with pytest.raises(ValueError, match="take LSTMParams, ElmanParams; got LSTMPParams"):
        interop.to_weights(jl.init_lstmp(jax.random.key(0), D, H, 2))
    with pytest.raises(ValueError, match="b must be zero where there is no bias"):
        interop.to_weights(interop.from_weights(weights()), use_bias=False)
