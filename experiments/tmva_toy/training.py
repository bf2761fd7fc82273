"""LSTM(10) at every step -> flatten -> 64 tanh -> 1, as a Task: with its state remembered, and not.

A state is remembered as TMVA means it: the state after a batch is the one before the next, row by
row, though the events have nothing to do with each other. No gradient goes from a batch into the
one before.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jax_lstm
from experiments.kit.clipping import clipping, limited
from experiments.kit.routes import ROUTES
from experiments.kit.task import Task, guarded
from experiments.tmva_toy import events
from jax_lstm import init_dense, init_lstm, init_lstm_state
from jax_lstm.cells.lstm import LSTMParams
from jax_lstm.stages import losses
from jax_lstm.stages.readout import DenseParams

EXAMPLES = (1, 0)  # axes of the events in xs, targets


class Network(NamedTuple):
    """The LSTM, W (T H, 64) and b of the tanh, W (64, 1) and b of the answer."""

    lstm: LSTMParams
    hidden: DenseParams
    readout: DenseParams


def init(config, key):
    keys = jax.random.split(key, 3)
    return Network(
        init_lstm(keys[0], events.BINS, config.hidden),
        init_dense(keys[1], events.T * config.hidden, config.dense),
        init_dense(keys[2], config.dense, 1),
    )


def logits(params, state, xs, route):
    """y (B, 1) of xs (T, B, D), and the state after the last step."""
    state, hs = route.sequence(params.lstm, state, xs)
    flat = jnp.moveaxis(hs, 0, 1).reshape(hs.shape[1], -1)
    return route.dense(params.readout, jnp.tanh(route.dense(params.hidden, flat))), state


def loss_of(gradient, remembered, sequence=None):
    """`loss(params, state, xs, targets) -> (nats, state)`; without a memory the state is ()."""
    route = ROUTES[gradient]
    route = route if sequence is None else route._replace(sequence=sequence)
    by_hand = gradient != "auto"
    each = losses.binary_cross_entropy_with_logits
    each = each if by_hand else losses.binary_cross_entropy_with_logits_autodiff

    def loss(params, state, xs, targets):
        before = state if remembered else init_lstm_state(params.lstm, xs.shape[1:-1])
        y, after = logits(params, before, xs, route)
        return each(y, targets).mean(), after if remembered else state

    return loss


def batches(config, training):
    """(xs, targets) without end: all events in each epoch, but for a rest, in an order anew."""
    rng, n = np.random.default_rng(config.seed), len(training.targets)
    while True:
        order = rng.permutation(n)
        for start in range(0, n - config.batch + 1, config.batch):
            chosen = order[start : start + config.batch]
            yield training.xs[:, chosen], training.targets[chosen]


def task_of(config, found, remembered, folder):
    """A network's training; the parameters that are best on validation stand in its folder."""
    optimizer = optax.chain(clipping(config), optax.adam(config.learning_rate))
    loss = loss_of(config.gradient, remembered, limited(config))
    optimizer, update = guarded(config, optimizer, loss, EXAMPLES)

    def start():
        params = init(config, jax.random.key(config.seed))
        state = init_lstm_state(params.lstm, (config.batch,)) if remembered else ()
        return params, optimizer.init(params), state

    def evaluate(params, check):
        check()
        y, targets = scores(config, params, found["validation"], remembered), found["validation"][1]
        return float(np.logaddexp(0, np.where(targets[:, 0] > 0, -y, y)).mean())

    def keep(params, step, nats):
        notes = {"step": step, "validation_nats": nats}
        jax_lstm.save(folder / "params.safetensors", params, notes=notes)

    return Task(
        start,
        update,
        batches=lambda: batches(config, found["training"]),
        numbers=lambda nats: {"nats": nats},
        say=lambda nats: f"{nats:.4f} nats",
        examples=EXAMPLES,
        evaluate=evaluate,
        keep=keep,
        size=config.batch,
        unit="event",
    )


def scores(config, params, part, remembered):
    """The answer for each event, (N,), batch by batch, in order; the state goes on or does not.

    The last batch is filled up with the first events, whose second answer is not looked at.
    """
    N, B = len(part.targets), config.batch
    xs = np.resize(np.arange(N), -(-N // B) * B)
    xs = part.xs[:, xs].reshape(events.T, -1, B, events.BINS)
    state = init_lstm_state(params.lstm, (B,))
    return np.asarray(answers(params, state, np.moveaxis(xs, 1, 0), remembered)).ravel()[:N]


@jax.jit
def answers(params, state, xs, remembered):
    def batch(before, x):
        y, after = logits(params, before, x, ROUTES["manual"])
        keep = lambda new, old: jnp.where(remembered, new, old)
        return jax.tree.map(keep, after, before), y[:, 0]

    return jax.lax.scan(batch, state, xs)[1]
