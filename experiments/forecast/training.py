"""LSTMs one above the other, dropout behind each, a dense layer on the last output; as a Task."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jax_lstm
from experiments.forecast.series import rmse, windows
from experiments.kit.clipping import clipping, limited
from experiments.kit.routes import ROUTES
from experiments.kit.task import Task, guarded
from jax_lstm import (
    dropout_mask,
    init_dense,
    init_stack,
    init_stack_state,
    stack,
    stack_autodiff,
)
from jax_lstm.networks.sizes import StackParams
from jax_lstm.stages import losses
from jax_lstm.stages.readout import DenseParams

EXAMPLES = (1, 0, None)  # axes of the windows in xs, targets, key


class Network(NamedTuple):
    """The LSTMs, and W (H, 1), b (1,)."""

    layers: StackParams
    readout: DenseParams


def init(config, key):
    key_layers, key_readout = jax.random.split(key)
    return Network(
        init_stack(key_layers, 1, [config.hidden] * config.layers),
        init_dense(key_readout, config.hidden, 1),
    )


def count(params):
    """Numbers of a network: 71,051 of the tutorial's four layers of 50."""
    return sum(x.size for x in jax.tree.leaves(params))


def predict(params, xs, route, key=None, rate=0.0, layers=stack):
    """y (B, 1) of xs (T, B, 1); without a key nothing is dropped."""
    T, B, _ = xs.shape
    L, H = len(params.layers.layers), params.readout.W.shape[0]
    between, top = None, jnp.ones((), xs.dtype)
    if key is not None:
        *keys, key_top = jax.random.split(key, L)
        between = tuple(dropout_mask(k, rate, (T, B, H), xs.dtype) for k in keys)
        top = dropout_mask(key_top, rate, (B, H), xs.dtype)
    states = init_stack_state(params.layers, (B,))
    _, hs = layers(params.layers, states, xs, between=between, sequence=route.sequence)
    return route.dense(params.readout, hs[-1] * top)


def loss_of(config, gradient, sequence=None):
    """`loss(params, carry, xs, targets, key) -> (squared error, carry)`, of the scaled values."""
    route = ROUTES[gradient]
    route = route if sequence is None else route._replace(sequence=sequence)
    by_hand = gradient != "auto"
    layers = stack if by_hand else stack_autodiff
    half = losses.squared_error if by_hand else losses.squared_error_autodiff

    def loss(params, carry, xs, targets, key):
        key = jax.random.wrap_key_data(key) if config.dropout else None
        y = predict(params, xs, route, key, config.dropout, layers)
        return 2 * half(y, targets).mean(), carry

    return loss


def batches(config, values, protocol):
    """(xs (T, B, 1), targets (B, 1), key) without end; an epoch has all windows, but for a rest."""
    rng, training = np.random.default_rng(config.seed), protocol.training
    scaled = ((values - protocol.low) / protocol.span).astype(np.float32)
    while True:
        order = rng.permutation(training)
        for start in range(0, len(order) - config.batch + 1, config.batch):
            targets = order[start : start + config.batch]
            xs = windows(scaled, targets, config.window).T[..., None]
            yield xs, scaled[targets, None], rng.integers(2**32, size=2, dtype=np.uint32)


def forecast(config, params, values, protocol, targets):
    """(n,) in the series' own units."""
    scaled = ((values - protocol.low) / protocol.span).astype(np.float32)
    y = answers(params, windows(scaled, targets, config.window).T[..., None])
    return np.asarray(y, np.float64)[:, 0] * protocol.span + protocol.low


@jax.jit
def answers(params, xs):
    return predict(params, xs, ROUTES["manual"])


def task_of(config, values, protocol, folder):
    """The training of a protocol; the parameters best on its validation stand in its folder."""
    optimizer = optax.chain(clipping(config), optax.adam(config.learning_rate))
    loss = loss_of(config, config.gradient, limited(config))
    optimizer, update = guarded(config, optimizer, loss, EXAMPLES)

    def start():
        params = init(config, jax.random.key(config.seed))
        return params, optimizer.init(params), ()

    def evaluate(params, check):
        check()
        held_out = protocol.validation
        return rmse(forecast(config, params, values, protocol, held_out), values, held_out)

    def keep(params, step, error):
        notes = {"step": step, "validation_rmse": error}
        jax_lstm.save(folder / "params.safetensors", params, notes=notes)

    return Task(
        start,
        update,
        batches=lambda: batches(config, values, protocol),
        numbers=lambda error: {"error": error},
        say=lambda error: f"error {error:.4g}",
        examples=EXAMPLES,
        evaluate=evaluate,
        keep=keep,
        size=config.batch,
        unit="window",
    )
