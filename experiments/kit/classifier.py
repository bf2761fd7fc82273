"""Classifiers of sequences of any lengths: layers of LSTMs, whose outputs are read out.

    mean    y = mean over a sequence's own steps of h_t, times W (F, V), plus b
    all     y = sum over the steps of h_t W_t, plus b: W (T F, V), and zero beyond a sequence's end

Several are trained side by side: everything has them along its first axis.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import arg

from experiments.kit.config import BadInput, Bounds, CountOrZero, PositiveOrZero, check_memory
from experiments.kit.layers import (
    LayersConfig,
    key_data,
    key_of,
    make_optimizer,
    route_of,
    run_layers,
)
from experiments.kit.task import Task, guarded
from jax_lstm import init_dense, init_stack
from jax_lstm.networks.sizes import StackParams
from jax_lstm.stages.losses import softmax_cross_entropy
from jax_lstm.stages.readout import DenseParams, dense

SEGMENT = 16  # steps that share a weight product: sums over time are the same for any padding
EXAMPLES = (None, 1, 0, 0, None)  # axes of the sequences in scale, xs, lengths, classes, key


@dataclass(frozen=True)
class ClassifierConfig(LayersConfig):
    """What every classifier can be asked for."""

    folds: CountOrZero = 0
    """if not 0, cross-validate a setting on the training sequences, in so many parts; the test
    sequences are not read"""
    directions: Annotated[int, Bounds(low=1, below=3)] = 2
    """1: every layer reads forward; 2: one part of it reads in reverse"""
    readout: Annotated[Literal["mean", "all"], arg(metavar="WHAT")] = "mean"
    """of the last layer's outputs: their 'mean' over a sequence's steps, or 'all' of them, each
    step with weights of its own"""
    noise: PositiveOrZero = 0.0
    """deviation of the noise that is added to the inputs in training, whose own is 1"""


class Sequences(NamedTuple):
    """xs (T, N, D) padded with NaN, lengths (N,), classes (N,) in [0, V)."""

    xs: np.ndarray
    lengths: np.ndarray
    classes: np.ndarray


class Split(NamedTuple):
    """For each classifier: its seed, and the training sequences it learns from, (n,) each."""

    seeds: list[int]
    learns: np.ndarray


class Classifier(NamedTuple):
    """Layers of LSTMs, and W (features, V), b (V,) for what is read out of their outputs."""

    layers: StackParams
    readout: DenseParams


# Data ---------------------------------------------------------------------------------------------


def padded(sequences, classes, T=0, option="--data"):
    """Sequences of arrays (T_n, D): T, or the longest of them, is made a multiple of SEGMENT. NaN
    in padding: whoever looks at it will notice."""
    lengths = np.array([len(xs) for xs in sequences], np.int32)
    T = math.ceil(max(T, lengths.max()) / SEGMENT) * SEGMENT
    T = max(T, 2 * SEGMENT)  # a single segment would be another program
    D = sequences[0].shape[1]
    check_memory(option, 4 * T * len(lengths) * D, f"padding to {T} steps")
    xs = np.full((T, len(lengths), D), np.nan, np.float32)
    for n, x in enumerate(sequences):
        xs[: len(x), n] = x
    return Sequences(xs, lengths, np.asarray(classes, np.int32))


def split_sequences(config, training):
    """Each classifier learns from all training sequences, or each from all parts but its own."""
    N, folds = len(training.classes), config.folds
    if not folds:
        seeds = config.seeds_in_a_row()
        learns = np.tile(np.arange(N), (len(seeds), 1))
    else:
        if folds == 1 or folds > N:
            raise BadInput("--folds", f"must be 0 or between 2 and {N}; got {folds}")
        rng, part = np.random.default_rng(config.seed), np.zeros(N, int)
        order = np.lexsort((rng.random(N), training.classes))  # class by class, shuffled
        part[order] = np.arange(N) % folds
        seeds = [config.seed + n for n in range(folds)]
        n = min(np.count_nonzero(part != k) for k in range(folds))
        learns = np.stack([np.flatnonzero(part != k)[:n] for k in range(folds)])
    if learns.shape[1] < config.batch:
        raise BadInput("--batch", f"must be <= {learns.shape[1]}, what there is to learn from")
    return Split(seeds, learns)


def scales(training, split):
    """Mean and deviation of each channel over what each classifier learns from, (S, 2, D)."""
    found = []
    for learns in split.learns:
        xs = training.xs[:, learns].astype(np.float64)
        valid = xs[np.arange(len(xs))[:, None] < training.lengths[learns]]
        deviation = valid.std(0)
        found.append([valid.mean(0), np.where(deviation > 0, deviation, 1)])
    return np.array(found, np.float32)


def check_size(config, split, D):
    """Complain about models that this machine has no memory for."""
    directions = config.directions
    width = max(D, directions * config.hidden * (config.layers > 1))
    numbers = 4 * directions * config.layers * config.hidden * (config.hidden + width + 1)
    size = 16 * len(split.seeds) * numbers  # with the gradient and Adam's two
    check_memory("--hidden", size, f"training {len(split.seeds)} classifiers")


# The model --------------------------------------------------------------------------------------


def init(config, key, T, D, V):
    one, other = jax.random.split(key)
    sizes = (config.hidden,) * config.layers
    width = config.hidden * config.directions * (T if config.readout == "all" else 1)
    layers = init_stack(one, D, sizes, bidirectional=config.directions == 2)
    return Classifier(layers, init_dense(other, width, V))


def logits(config, params, xs, lengths, gradient="manual", key=None):
    """y (B, V), see the top of the file.

    Segments of a fixed length, and padding to a multiple of it: every sum over time has the same
    terms in the same order for any padding, but for zeros; so a mean's y is the same to the bit.
    """
    route = route_of(config, gradient)
    options = {"lengths": lengths, "residuals": SEGMENT}
    _, hs = run_layers(config, route, params.layers, xs, key, **options)
    if config.readout == "all":
        return dense(params.readout, hs.swapaxes(0, 1).reshape(hs.shape[1], -1))
    parts = hs.reshape((-1, SEGMENT, *hs.shape[1:])).sum(1)
    return dense(params.readout, parts.sum(0) / lengths.astype(hs.dtype)[:, None])


def standardise(xs, scale):
    """Mean 0 and variance 1 by feature: xs (T, B, D), scale a pair (D,)."""
    mean, deviation = (x[None, None] for x in scale)
    return (xs - mean) / deviation


def loss_of(config, gradient):
    """`loss(params, carry, scale, xs, lengths, classes, key) -> (nats, carry)` of one of them."""

    def loss(params, carry, scale, xs, lengths, classes, key):
        xs, key = standardise(xs, scale), key_of(key, config, config.noise)
        if config.noise:
            noise_key, key = jax.random.split(key)
            xs = xs + config.noise * jax.random.normal(noise_key, xs.shape, xs.dtype)
        y = logits(config, params, xs, lengths, gradient, key)
        return softmax_cross_entropy(y, classes).mean(), carry

    return loss


# Training and judgement -------------------------------------------------------------------------


def batches(config, training, split, scale, augment=None):
    """Without end: each classifier's own order, all of its sequences in each epoch.

    augment: (rng, xs (T, B, D)) -> xs of the same shape, or None.
    """
    rngs, n = [np.random.default_rng(seed) for seed in split.seeds], split.learns.shape[1]
    while True:
        orders = np.stack([rng.permutation(n) for rng in rngs])
        for start in range(0, n - config.batch + 1, config.batch):
            chosen = np.take_along_axis(split.learns, orders[:, start : start + config.batch], 1)
            xs = training.xs[:, chosen]
            if augment is not None:
                each = [augment(rng, xs[:, s]) for s, rng in enumerate(rngs)]
                xs = np.stack(each, axis=1)
            keys = np.stack([key_data(rng) for rng in rngs])
            yield scale, xs, training.lengths[chosen], training.classes[chosen], keys


def task_of(config, training, V, split, scale, augment=None):
    """All classifiers side by side as a Task; V is the number of classes."""
    optimizer, loss = make_optimizer(config), loss_of(config, config.gradient)
    optimizer, update = guarded(config, optimizer, loss, EXAMPLES)
    T, D = training.xs.shape[0], training.xs.shape[-1]

    @jax.jit
    def start(seeds):
        params = jax.vmap(lambda seed: init(config, jax.random.key(seed), T, D, V))(seeds)
        return params, jax.vmap(optimizer.init)(params), ()

    return Task(
        start=lambda: start(jnp.asarray(split.seeds)),
        update=jax.vmap(update, in_axes=(0, 0, None, 0, 1, 0, 0, 0)),
        batches=lambda: batches(config, training, split, scale, augment),
        numbers=lambda nats: {"nats": nats},
        say=lambda nats: f"{nats:.4f} nats",
        examples=(None, 2, 1, 1, None),  # behind the classifiers
    )


def make_judgement(config):
    """A function: which sequences each classifier gets right, (S, N)."""

    @jax.jit
    def is_right(params, scale, xs, lengths, classes):
        def each(params, scale):
            y = logits(config, params, standardise(xs, scale), lengths)
            return jnp.argmax(y, axis=-1).astype(classes.dtype) == classes

        return jax.vmap(each)(params, scale)

    return is_right


def judge(config, data, split, scale, params):
    """Which sequences each classifier gets right: of training, and of test or its own fold."""
    is_right, found = make_judgement(config), {}
    for name, now in data.items():
        found[name] = np.asarray(is_right(params, scale, *now))
    learnt = found["training"]
    every = np.arange(learnt.shape[1])
    found["training"] = np.stack([r[n] for r, n in zip(learnt, split.learns, strict=True)])
    if config.folds:
        own = [np.setdiff1d(every, n) for n in split.learns]
        found["held out"] = [r[n] for r, n in zip(learnt, own, strict=True)]
    return found
