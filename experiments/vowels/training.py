"""Classifiers of several seeds, trained and judged side by side."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.kit.clipping import clipping
from experiments.kit.routes import SEQUENCES, sequence_of
from experiments.kit.task import Task, guarded
from experiments.vowels.classifier import init, logits, loss

EXAMPLES = (None, 1, 0, 0)  # axes of the utterances in scale, xs, lengths, speakers


def batches(config, split):
    """Indices (S, B) without end: each classifier's own order, all utterances in each epoch."""
    rngs, n = [np.random.default_rng(seed) for seed in split.seeds], split.learns.shape[1]
    while True:
        orders = np.stack([rng.permutation(n) for rng in rngs])
        for start in range(0, n - config.batch + 1, config.batch):
            yield np.take_along_axis(split.learns, orders[:, start : start + config.batch], 1)


def loss_of(gradient, sequence=None):
    """`loss(params, carry, scale, *batch) -> (nats, carry)` of one classifier."""
    sequence = sequence or SEQUENCES[gradient]

    def on_utterances(params, carry, scale, xs, lengths, speakers):
        xs = standardise(xs, scale)
        return loss(params, xs, lengths, speakers, sequence), carry

    return on_utterances


def task_of(config, training, labels, split, scale):
    """All classifiers side by side as a Task; everything has them along its first axis."""
    optimizer = optax.chain(
        clipping(config),
        optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps)),
    )
    loss = loss_of(config.gradient, sequence_of(config))
    optimizer, update = guarded(config, optimizer, loss, EXAMPLES)
    D, V = training.xs.shape[-1], len(labels)

    @jax.jit
    def start(seeds):
        params = jax.vmap(lambda seed: init(jax.random.key(seed), D, config.hidden, V))(seeds)
        return params, jax.vmap(optimizer.init)(params), ()

    def drawn():
        for chosen in batches(config, split):
            xs, lengths = training.xs[:, chosen], training.lengths[chosen]
            yield scale, xs, lengths, training.speakers[chosen]

    return Task(
        start=lambda: start(jnp.asarray(split.seeds)),
        update=jax.vmap(update, in_axes=(0, 0, None, 0, 1, 0, 0)),
        batches=drawn,
        numbers=lambda nats: {"nats": nats},
        say=lambda nats: f"{nats:.4f} nats",
        examples=(None, 2, 1, 1),  # behind the classifiers
    )


def standardise(xs, scale):
    """Mean 0 and variance 1 by feature: xs (T, B, D), scale a pair (D,)."""
    mean, deviation = (x[None, None] for x in scale)
    return (xs - mean) / deviation


@jax.jit
def is_right(params, scale, xs, lengths, speakers):
    """Which utterances each classifier gets right, (S, N)."""

    def each(params, scale):
        guessed = jnp.argmax(logits(params, standardise(xs, scale), lengths), axis=-1)
        return guessed.astype(speakers.dtype) == speakers

    return jax.vmap(each)(params, scale)


def judge(config, data, split, scale, params):
    """Which utterances each classifier gets right: of training, and of test or its own fold."""
    found = {}
    for name, now in data.items():
        found[name] = np.asarray(is_right(params, scale, now.xs, now.lengths, now.speakers))
    learnt = found["training"]
    every = np.arange(learnt.shape[1])
    found["training"] = np.stack([r[n] for r, n in zip(learnt, split.learns, strict=True)])
    if config.folds:
        own = [np.setdiff1d(every, n) for n in split.learns]
        found["held out"] = [r[n] for r, n in zip(learnt, own, strict=True)]
    return found
