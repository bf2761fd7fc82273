"""Models of several seeds, trained side by side on streams of tunes and judged on whole tunes."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jax_lstm
from experiments.kit import tunes
from experiments.kit.layers import key_data, key_of, make_optimizer, route_of, run_layers
from experiments.kit.task import Task, guarded
from experiments.kit.tunes import PITCHES, rates_of
from jax_lstm import init_dense, init_stack, init_stack_state
from jax_lstm.networks.sizes import StackParams
from jax_lstm.stages.losses import (
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_autodiff,
)
from jax_lstm.stages.readout import DenseParams, dense, dense_autodiff

EXAMPLES = (1, 1, 1, 1, None)  # axes of the streams in frames, targets, anew, weights, key
FILE = "params.safetensors"
STREAMS, WINDOW = 24, 128  # of a judgement, whose numbers do not depend on them but for rounding


class Model(NamedTuple):
    """Layers of LSTMs, and W (H, 88), b (88,) for the outputs of the last one."""

    layers: StackParams
    readout: DenseParams


def init(config, key, rates):
    """A model whose readout begins at the logits of how often each pitch sounds, `rates` (88,)."""
    one, other = jax.random.split(key)
    layers = init_stack(one, PITCHES, (config.hidden,) * config.layers)
    readout = init_dense(other, config.hidden, PITCHES)
    return Model(layers, readout._replace(b=jnp.log(rates / (1 - rates))))


def loss_of(config, gradient):
    """`loss(params, states, frames, targets, anew, weights, key) -> (nats, states)` of one model:
    the sum over the pitches of the binary cross-entropy, by the weights' mean over frames."""
    route = route_of(config, gradient)
    auto = gradient == "auto"
    read_out = dense_autodiff if auto else dense
    entropy = (
        binary_cross_entropy_with_logits_autodiff if auto else binary_cross_entropy_with_logits
    )

    def loss(params, states, frames, targets, anew, weights, key=None):
        dtype = params.readout.b.dtype
        xs, targets = frames.astype(dtype), targets.astype(dtype)
        key = None if key is None else key_of(key, config)
        states, hs = run_layers(config, route, params.layers, xs, key, states, resets=anew)
        nats = entropy(read_out(params.readout, hs), targets)
        return (nats * weights.astype(dtype)).mean(), states

    return loss


def batches_of_one(config, training, seed):
    """Streams of a window and a key, without end."""
    rng = np.random.default_rng(seed)
    for now in tunes.endless(training, rng, config.batch, config.window):
        yield *now, key_data(rng)


def batches(config, training, seeds):
    """Those of every seed side by side, along a first axis."""
    for each in zip(*(batches_of_one(config, training, seed) for seed in seeds), strict=True):
        yield tuple(np.stack(x) for x in zip(*each, strict=True))


def task_of(config, data, directory):
    """All models side by side as a Task; everything has them along its first axis."""
    optimizer, seeds = make_optimizer(config), config.seeds_in_a_row()
    optimizer, update = guarded(config, optimizer, loss_of(config, config.gradient), EXAMPLES)
    rates = rates_of(data["training"])

    @jax.jit
    def start(seeds):
        params = jax.vmap(lambda seed: init(config, jax.random.key(seed), rates))(seeds)
        states = jax.vmap(lambda p: init_stack_state(p.layers, (config.batch,)))(params)
        return params, jax.vmap(optimizer.init)(params), states

    validation = packed(data["validation"])

    def keep(params, step, nats):
        notes = {"seeds": seeds, "step": step, "validation_nats": nats}
        jax_lstm.save(directory / FILE, params._asdict(), notes=notes)

    return Task(
        start=lambda: start(jnp.asarray(seeds)),
        update=jax.vmap(update),
        batches=lambda: batches(config, data["training"], seeds),
        numbers=lambda nats: {"nats": nats},
        say=lambda nats: f"{nats:.3f} nats per frame",
        examples=(2, 2, 2, 2, None),  # behind the models
        evaluate=lambda params, check: float(judge(config, params, validation, check).mean()),
        keep=keep,
        size=config.window * config.batch * len(seeds),
        unit="frame",
    )


def best_of(directory):
    """The models of a run that were best on the validation part."""
    tree, _ = jax_lstm.load(directory / FILE)
    return Model(**tree)


def packed(all_of):
    """Whole tunes for a judgement: each is read from its first frame to its last."""
    return tunes.pack(tunes.by_length(all_of), min(STREAMS, len(all_of)), WINDOW)


@functools.cache
def window_program(config):
    """(sums of nats (S,), states) of a window, by models side by side."""
    return jax.jit(jax.vmap(loss_of(config, "manual"), in_axes=(0, 0, *(None,) * 4)))


def judge(config, params, streams, check=lambda: None):
    """Nats per frame of each model, (S,): the mean over all frames but the first of each tune."""
    B = streams.frames.shape[1]
    states = jax.vmap(lambda p: init_stack_state(p.layers, (B,)))(params)
    total = np.zeros(len(params.readout.b))
    for window in tunes.windows(streams, WINDOW):
        check()
        nats, states = window_program(config)(params, states, *window)
        total += np.asarray(nats, np.float64) * window.weights.size
    return total / streams.weights.sum(dtype=np.float64)
