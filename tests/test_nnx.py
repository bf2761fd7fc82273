"""flax.nnx's cells and RNN, and ours in their place."""

import functools

import pytest
from flax import nnx
from flax_cases import (
    CASES,
    OVER_STEPS,
    D,
    H,
    assert_same_numbers,
    call_options,
    cell_options,
    results,
)
from jax_lstm.interop import nnx as ours
from tables import normal_like


def layer(case, RNN, house):
    cell = getattr(house, case.name)(D, H, **cell_options(case), rngs=nnx.Rngs(0))
    return RNN(cell, **case.rnn)


def apply(case, rnn):
    graph, params, rest = nnx.split(rnn, nnx.Param, ...)

    def run(params, carry, xs):
        rnn = nnx.merge(graph, params, rest)
        return rnn(xs, initial_carry=carry, **call_options(case))

    return results(case, run, normal_like(4, params, 0.5))


@functools.cache
def by_flax(key):
    return apply(CASES[key], layer(CASES[key], nnx.RNN, nnx))


@pytest.mark.parametrize("key", CASES)
def test_the_sequence_as_a_whole(key):
    """Outputs, last carry, and gradients in params, carry and inputs."""
    rnn = layer(CASES[key], ours.RNN, ours)
    assert rnn.by_engine()
    assert_same_numbers(CASES[key], apply(CASES[key], rnn), by_flax(key))


@pytest.mark.parametrize("key", OVER_STEPS)
def test_our_step_in_the_loop_of_flax(key):
    assert_same_numbers(
        CASES[key], apply(CASES[key], layer(CASES[key], nnx.RNN, ours)), by_flax(key)
    )
