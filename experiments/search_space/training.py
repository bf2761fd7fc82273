"""The networks of a variant side by side: several searches, several trials of each."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.kit import tunes
from experiments.kit.clipping import clipping
from experiments.kit.task import Task, guarded
from jax_lstm import init_dense
from jax_lstm.engine.routes import init_state, make_rnn
from jax_lstm.stages.losses import binary_cross_entropy_with_logits
from jax_lstm.stages.readout import DenseParams, dense

EXAMPLES = (1, 1, 1, 1)  # axes of the streams in frames, targets, anew, weights
STREAMS = 24  # of a judgement, whose numbers do not depend on them but for rounding


class Model(NamedTuple):
    """A cell's parameters, and W (H, 88), b (88,) for its outputs."""

    cell: Any
    readout: DenseParams


def init(cell, H, key, rates):
    """A model whose readout begins at the logits of how often each pitch sounds, `rates` (88,)."""
    one, other = jax.random.split(key)
    readout = init_dense(other, H, tunes.PITCHES)
    readout = readout._replace(b=jnp.log(rates / (1 - rates)))
    return Model(cell.init(one, tunes.PITCHES, H), readout)


def loss_of(cell, gradient):
    """`loss(params, states, frames, targets, anew, weights) -> (nats, states)` of one network: the
    sum over the pitches of the binary cross-entropy, by the weights' mean over frames."""
    sequence = make_rnn(cell, cell.name)[gradient == "auto"]

    def loss(params, states, frames, targets, anew, weights):
        dtype = params.readout.b.dtype
        states, hs = sequence(params.cell, states, frames.astype(dtype), resets=anew)
        logits = dense(params.readout, hs)
        nats = binary_cross_entropy_with_logits(logits, targets.astype(dtype))
        return (nats * weights.astype(dtype)).mean(), states

    return loss


def scale_by_own_rate(rate=None):
    """Updates times minus the learning rate that lies in the state, of each network its own."""

    def update(updates, state, params=None):
        return jax.tree.map(lambda u: -state * u, updates), state

    return optax.GradientTransformation(lambda params: rate, update)


def optimizer_of(config, rate=None):
    """Adam behind a bound on the gradient; a cosine takes the rate down to zero."""
    down = optax.scale_by_schedule(optax.cosine_decay_schedule(1.0, config.steps))
    return optax.chain(clipping(config), optax.scale_by_adam(), down, scale_by_own_rate(rate))


def rates_drawn(config):
    """Learning rates (searches, trials), log-uniform: the same for every variant."""
    drawn = [
        np.random.default_rng(config.seed + n).uniform(
            np.log(config.slowest), np.log(config.fastest), config.trials
        )
        for n in range(config.seeds)
    ]
    return np.exp(drawn).astype(np.float32)


def task_of(config, cell, training):
    """All networks of a variant as a Task; each has its place (search, trial) in front."""
    loss, rates = loss_of(cell, config.gradient), rates_drawn(config)
    own = guarded(config, optimizer_of(config), loss, EXAMPLES)[1]
    seeds = [config.seed + n for n in range(config.seeds)]
    keys = jnp.stack([jax.random.split(jax.random.key(seed), config.trials) for seed in seeds])
    pitches = tunes.rates_of(training)

    def begin(key, rate):
        params = init(cell, config.hidden, key, pitches)
        optimizer, _ = guarded(config, optimizer_of(config, rate), loss, EXAMPLES)
        return params, optimizer.init(params), init_state(cell, params.cell, (config.batch,))

    @jax.jit
    def start():
        return jax.vmap(jax.vmap(begin))(keys, rates)

    def batches():
        rngs = [np.random.default_rng(seed) for seed in seeds]
        ones = [tunes.endless(training, rng, config.batch, config.window) for rng in rngs]
        for each in zip(*ones, strict=True):
            yield tuple(np.stack(x) for x in zip(*each, strict=True))

    trials = jax.vmap(own, in_axes=(0, 0, 0, *(None,) * 4))
    return Task(
        start=start,
        update=jax.vmap(trials),
        batches=batches,
        numbers=lambda nats: {"nats": nats},
        say=lambda nats: f"{nats:.3f} nats per frame",
        examples=tuple(axis + 1 for axis in EXAMPLES),  # behind the searches
        size=config.window * config.batch * config.seeds,
        unit="frame",
    )


def judge(config, cell, params, all_of):
    """Nats per frame of each network, (searches, trials): of whole tunes, all frames but the first
    of each."""
    streams = tunes.pack(tunes.by_length(all_of), min(STREAMS, len(all_of)), 1)
    loss, weight = loss_of(cell, "manual"), streams.weights.mean(dtype=np.float64)

    def of_one(params):
        states = init_state(cell, params.cell, streams.frames.shape[1:2])
        return loss(params, states, *streams)[0]

    return np.asarray(jax.jit(jax.vmap(jax.vmap(of_one)))(params), np.float64) / weight
