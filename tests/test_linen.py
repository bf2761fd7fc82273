"""flax.linen's cells and RNN, and ours in their place."""

import functools

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import optax
import pytest
from flax_cases import (
    CASES,
    OVER_STEPS,
    B,
    Case,
    D,
    H,
    T,
    assert_same_numbers,
    call_options,
    cell_options,
    inputs,
    products_in_loops,
    results,
)
from jax_lstm.interop import flax_time, linen
from tables import QUICK, assert_close, assert_same, normal_like

CELLS = ("OptimizedLSTMCell", "LSTMCell", "SimpleCell")


def layer(case, RNN, house):
    return RNN(getattr(house, case.name)(H, **cell_options(case)), **case.rnn)


@functools.cache
def some_params(name, dtype):
    case = Case(name, dtype=dtype)
    tree = jax.eval_shape(layer(case, nn.RNN, nn).init, jax.random.key(0), inputs(case)[1])
    return normal_like(4, tree, 0.5)


def apply(case, rnn):
    def run(params, carry, xs):
        return rnn.apply(params, xs, initial_carry=carry, **call_options(case))

    return results(case, run, some_params(case.name, case.dtype))


@functools.cache
def by_flax(key):
    return apply(CASES[key], layer(CASES[key], nn.RNN, nn))


@pytest.mark.parametrize("key", CASES)
def test_the_sequence_as_a_whole(key):
    """Outputs, last carry, and gradients in params, carry and inputs."""
    rnn = layer(CASES[key], linen.RNN, linen)
    assert rnn.by_engine()
    assert_same_numbers(CASES[key], apply(CASES[key], rnn), by_flax(key))


@pytest.mark.parametrize("key", OVER_STEPS)
def test_our_step_in_the_loop_of_flax(key):
    assert_same_numbers(
        CASES[key], apply(CASES[key], layer(CASES[key], nn.RNN, linen)), by_flax(key)
    )
