"""Closed forms and counts."""

import itertools
import math

import jax
import jax.numpy as jnp
import pytest

import jax_lstm as jl
from tests.cells.literature.routes import load


def count(init, *sizes):
    params = jax.eval_shape(lambda key: init(key, *sizes), jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_parameter_counts():
    keras = load("known_values")["keras_stock_parameters"]
    sizes = [keras["input"], *keras["layers"].tolist()]
    layers = [count(jl.init_lstm, D, H) for D, H in itertools.pairwise(sizes)]
    assert layers == [keras["first"], keras["next"], keras["next"], keras["next"]]
    assert sum(layers) + count(jl.init_dense, sizes[-1], keras["dense"]) == keras["total"]
    tmva = load("known_values")["tmva_lstm_parameters"]
    assert count(jl.init_lstm, tmva["input"], tmva["hidden"]) == tmva["total"]


@pytest.mark.parametrize("entropy", ["softmax_cross_entropy", "softmax_cross_entropy_autodiff"])
def test_a_uniform_answer_costs_log_V_per_step(entropy):
    known = load("known_values")
    entropy = getattr(jl, entropy)
    for T, V, want in [
        (11, 27, known["uniform_27_over_11_steps"]["cross_entropy"]),
        (1, 8000, known["wildml_random_loss_8000"]),
    ]:
        got = entropy(jnp.zeros((T, V)), jnp.arange(T)).sum()
        assert math.isclose(got, want, rel_tol=1e-15)


@pytest.mark.parametrize(
    "entropy", ["binary_cross_entropy_with_logits", "binary_cross_entropy_with_logits_autodiff"]
)
def test_a_uniform_answer_element_by_element(entropy):
    """sigmoid(y) = 1/27 for each of 27 symbols, one of which is right, in 11 steps."""
    want = load("known_values")["uniform_27_over_11_steps"]["elementwise_bce"]
    logits = jnp.full((11, 27), -math.log(26))
    got = getattr(jl, entropy)(logits, jax.nn.one_hot(jnp.arange(11), 27, dtype=logits.dtype)).sum()
    assert math.isclose(got, want, rel_tol=1e-15)
