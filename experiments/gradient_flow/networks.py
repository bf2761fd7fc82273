"""The networks that are compared, and their training as language models."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import jax_lstm as jl
from experiments.gradient_flow.plots import MOST
from experiments.kit import language_model as lm
from experiments.kit.config import BadInput
from jax_lstm.training.update import (
    BITS,
    BY_HAND,
    init_language_model,
    language_model_loss,
    make_update,
)


class Network(NamedTuple):
    """A cell under the name it has in the figure. bound(linear) -> (T, B)."""

    name: str
    init: Callable[..., Any]
    init_state: Callable[..., Any]
    sequence: Callable[..., Any]
    linearised: Callable[..., Any]
    bound: Callable[..., Any]


def networks_of(config):
    """The Elman network, and an LSTM for each forget bias."""
    elman = Network(
        "Elman RNN",
        jl.init_elman,
        jl.init_elman_state,
        jl.elman,
        jl.linearised_elman,
        jl.elman_bounds,
    )
    networks = [elman]
    for part in config.forget_biases.split(","):
        try:
            bias = float(part)
        except ValueError:
            bias = math.nan
        if not math.isfinite(bias):
            raise BadInput("--forget-biases", f"must be numbers, such as 0,1,3; got {part!r}")
        networks.append(
            Network(
                f"LSTM, forget bias {bias:g}",
                functools.partial(jl.init_lstm, forget_bias=bias),
                jl.init_lstm_state,
                jl.lstm,
                jl.linearised_lstm,
                largest_forget_product,
            )
        )
    if len(networks) > MOST:
        raise BadInput("--forget-biases", f"must be at most {MOST - 1} numbers")
    return networks


def largest_forget_product(linear):
    """max_k Π f_k"""
    return jl.forget_products(linear).max(-1)


def model_of(config, network, V, D):
    """A language model with the network's cell; of the same seed, so that readouts are equal."""
    model = init_language_model(jax.random.key(config.seed), V, D, config.hidden)
    return model._replace(lstm=network.init(jax.random.key(config.seed + 1), D, config.hidden))


@functools.cache
def update_of(config, sequence):
    """One update, compiled once for all LSTMs."""
    loss = functools.partial(language_model_loss, route=BY_HAND._replace(sequence=sequence))
    return jax.jit(make_update(lm.make_optimizer(config), loss))


def train(config, network, params, data):
    """The model after the updates, and its bits per character over the last tenth of them."""
    update = update_of(config, network.sequence)
    opt_state = lm.make_optimizer(config).init(params)
    state, nats = network.init_state(params.lstm, (config.streams,)), []
    batches = lm.batches(config, data)
    for anew, tokens, targets in itertools.islice(batches, config.steps):
        state = lm.restart(state, anew)
        params, opt_state, state, loss, _ = update(params, opt_state, state, tokens, targets)
        nats.append(float(loss))
    bits = BITS * np.mean(nats[-max(1, config.steps // 10) :])
    if not math.isfinite(bits):
        raise FloatingPointError(f"the loss is {bits}; try a lower --learning-rate")
    print(f"{network.name}: {bits:.2f} bits per character after {config.steps} updates")
    return params, float(bits)


def embed_tokens(tokens):
    return lambda params: np.asarray(params.embedding)[tokens]
