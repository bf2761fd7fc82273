"""Classifiers of several seeds, trained and judged side by side."""

import math
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from experiments.kit import record
from experiments.vowels.classifier import init, logits, loss


def batches(config, split):
    """Indices (S, B) without end: each classifier's own order, all utterances in each epoch."""
    rngs, n = [np.random.default_rng(seed) for seed in split.seeds], split.learns.shape[1]
    while True:
        orders = np.stack([rng.permutation(n) for rng in rngs])
        for start in range(0, n - config.batch + 1, config.batch):
            yield np.take_along_axis(split.learns, orders[:, start : start + config.batch], 1)


def train(config, training, labels, split, scale, directory):
    """All classifiers side by side; their parameters, stacked."""
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps)),
    )
    D, V = training.xs.shape[-1], len(labels)

    def update(params, opt_state, scale, *batch):
        xs, lengths, speakers = batch
        nats, dparams = jax.value_and_grad(loss)(params, standardise(xs, scale), lengths, speakers)
        with jax.numpy_dtype_promotion("standard"):  # as training.make_update has it
            updates, opt_state = optimizer.update(dparams, opt_state, params)
            return optax.apply_updates(params, updates), opt_state, nats

    @jax.jit
    def fresh(seeds):
        params = jax.vmap(lambda seed: init(jax.random.key(seed), D, config.hidden, V))(seeds)
        return params, jax.vmap(optimizer.init)(params)

    updates = jax.jit(jax.vmap(update, in_axes=(0, 0, 0, 1, 0, 0)), donate_argnums=(0, 1))
    params, opt_state = fresh(jnp.asarray(split.seeds))
    metrics, recent = directory / "metrics.jsonl", []
    with tqdm(total=config.steps, unit="step", disable=None) as bar:
        for step, chosen in zip(range(1, config.steps + 1), batches(config, split), strict=False):
            began = time.perf_counter()
            batch = (
                training.xs[:, chosen],
                training.lengths[chosen],
                training.speakers[chosen],
            )
            params, opt_state, nats = updates(params, opt_state, scale, *batch)
            nats = np.asarray(nats).tolist()
            if not all(map(math.isfinite, nats)):
                raise FloatingPointError(f"a loss is {nats}; try a lower --learning-rate")
            record.append(
                metrics, kind="step", step=step, nats=nats, seconds=time.perf_counter() - began
            )
            recent = [*recent[-19:], sum(nats) / len(nats)]
            bar.set_postfix_str(f"{sum(recent) / len(recent):.4f} nats", refresh=False)
            bar.update()
            if step % max(config.steps // 5, 1) == 0:
                tqdm.write(f"step {step}/{config.steps}: {sum(recent) / len(recent):.4f} nats")
    return params


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
