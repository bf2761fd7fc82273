"""The training of word_lm as a Task: windows of an epoch in order, SGD, one evaluation an epoch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jax_lstm
from experiments.kit import text, windows
from experiments.kit.clipping import clipping
from experiments.kit.language_model import restart
from experiments.kit.routes import ROUTES, sequence_of
from experiments.kit.task import Task, guarded
from experiments.word_lm import model
from jax_lstm.training.update import BITS


def make_optimizer(config, per_epoch):
    """SGD; its rate falls by --decay at the end of every epoch after the fourth, say.

    The source's gradient is that of the sum over the T steps of a window, ours that of their mean:
    T times the rate and the bound over T are the same updates.
    """

    def rate(step):
        late = jnp.maximum(step // per_epoch - config.flat_epochs, 0)
        return config.learning_rate * config.window / config.decay**late

    return optax.chain(clipping(config, config.clip / config.window), optax.sgd(rate))


def loss_of(config, gradient, sequence=None):
    """`loss(params, states, anew, tokens, targets, key, *drawn) -> (nats, states)`"""
    route = ROUTES[gradient]
    route = route if sequence is None else route._replace(sequence=sequence)

    def loss(params, states, anew, tokens, targets, key, *drawn):
        key = jax.random.wrap_key_data(key) if config.dropout else None
        states, here = restart(states, anew), windows.of_window(config, route, drawn)
        return model.loss(params, states, tokens, targets, here, key, config.dropout)

    return loss


def windows_per_epoch(config, streams):
    return (len(streams) - 1) // config.window


def batches(config, streams):
    """(anew, tokens, targets, key, *drawn) without end; the states start from zero in each epoch,
    and see windows.py for what is drawn."""
    rng, cut = np.random.default_rng(config.seed), windows.cutter(config, streams)
    B = streams.shape[1]
    while True:
        anew = np.ones(B, bool)
        for tokens, targets, *drawn in cut(0):
            yield anew, tokens, targets, rng.integers(2**32, size=2, dtype=np.uint32), *drawn
            anew = np.zeros(B, bool)


def task_of(config, corpus, streams, directory):
    optimizer = make_optimizer(config, windows_per_epoch(config, streams["train"]))
    loss = loss_of(config, config.gradient, sequence_of(config))
    bound, examples = config.clip / config.window, windows.examples(config, 0, 1, 1, None)
    rate = windows.rate_of(config)
    optimizer, update = guarded(config, optimizer, loss, examples, bound, rate)
    V, H = len(corpus.vocabulary), config.hidden

    def start():
        params = model.init(jax.random.key(config.seed), V, H, config.layers, config.scale)
        return params, optimizer.init(params), model.init_state(params, config.streams)

    def keep(params, step, nats):
        notes = {"vocabulary": corpus.vocabulary, "step": step, "validation_nats": nats}
        jax_lstm.save(directory / "params.safetensors", params, notes=notes)

    return Task(
        start,
        update,
        batches=lambda: batches(config, streams["train"]),
        numbers=lambda nats: {"nats": nats, "bits": nats * BITS, "perplexity": perplexity(nats)},
        say=lambda nats: f"perplexity {perplexity(nats):.2f}",
        examples=examples,
        evaluate=lambda params, check: evaluate(params, streams["valid"], check),
        keep=keep,
        size=config.window * config.streams,
        unit="word",
    )


def perplexity(nats):
    with np.errstate(over="ignore"):
        return float(np.exp(np.float64(nats)))


@functools.partial(jax.jit, donate_argnums=1)
def window_loss(params, states, tokens, targets):
    return model.loss(params, states, tokens, targets, ROUTES["manual"])


WINDOW = 64  # of evaluations, whose numbers do not depend on it but for rounding


def evaluate(params, streams, check=lambda: None):
    """Nats per word on all of the streams, the states carried along them."""
    states, total = model.init_state(params, streams.shape[1]), 0.0
    for tokens, targets in text.windows(streams, WINDOW):
        check()
        nats, states = window_loss(params, states, tokens, targets)
        total += float(nats) * targets.size
    return total / (streams.size - streams.shape[1])
