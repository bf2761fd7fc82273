"""The dtypes of our nnx cells are flax's; what they complain of, in flax's words."""

import jax
import jax.numpy as jnp
import pytest

pytest.importorskip("flax", reason="flax is the peer of this test: install jax_lstm[flax]")
from flax import nnx

from jax_lstm.interop import nnx as ours
from tests.interop.flax_cases import (
    CELLS,
    B,
    D,
    H,
    T,
)
from tests.tables import relaxed


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize(
    ("options", "x_dtype"),
    [({"dtype": "bfloat16"}, "float32"), ({"param_dtype": "float64"}, "float32"), ({}, "int32")],
    ids=str,
)
def test_dtypes_are_those_of_flax(name, options, x_dtype):
    """Of a step."""
    x = jnp.ones((B, D), x_dtype)

    def step(house):
        cell = getattr(house, name)(D, H, **options, rngs=nnx.Rngs(0))
        carry = cell.initialize_carry(x.shape, nnx.Rngs(0))
        return jax.eval_shape(lambda x: cell(carry, x), x)

    with relaxed("flax"):
        assert step(ours) == step(nnx)


def lstm(**options):
    return ours.OptimizedLSTMCell(D, H, **options, rngs=nnx.Rngs(0))


def put_dense(layer):
    cell = lstm()
    cell.dense_i = layer
    return cell


def precise():
    return nnx.Linear(D, 4 * H, precision="highest", rngs=nnx.Rngs(0))


xs, carry = jnp.ones((B, T, D)), (jnp.ones((B, H)),) * 2
BAD = {
    "gate": (
        lambda: lstm(gate_fn=nnx.hard_sigmoid)(carry, xs[:, 0]),
        "`gate_fn` must be sigmoid, .*; got .*. For any other take flax's own OptimizedLSTMCell",
    ),
    "features": (
        lambda: ours.RNN(lstm())(xs[..., :2], initial_carry=carry),
        r"`inputs` must have in_features = 3 features; got shape \(7, 2, 2\)",
    ),
    "another layer": (
        lambda: put_dense(nnx.LoRALinear(D, 4 * H, lora_rank=1, rngs=nnx.Rngs(0)))(carry, xs[:, 0]),
        "`dense_i` must be a plain nnx.Linear, as flax makes it; got LoRALinear",
    ),
    "a layer with options": (
        lambda: put_dense(precise())(carry, xs[:, 0]),
        "`dense_i` must be a plain nnx.Linear, .*; got Linear with options of its own",
    ),
    "no rngs": (
        lambda: ours.RNN(lstm(), rngs=False)(xs),
        "RNGs must be provided to initialize the cell carry",
    ),
    "carry": (
        lambda: ours.RNN(lstm())(xs, initial_carry=carry[0]),
        r"`initial_carry` must be a pair \(c, h\), each \(2, 5\)",
    ),
    "lengths": (
        lambda: ours.RNN(lstm())(xs, seq_lengths=[3, 8]),
        r"`seq_lengths` must lie in \[0, T = 7\]; got 3 to 8",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()
