"""A character model in training, for every experiment that trains one: options, data, updates.

Characters in, the next character out: embedding, LSTM, dense, softmax cross-entropy. The text is
read as streams, window by window; the state goes on from window to window, the gradient ends.
"""

import functools
import math
import time
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jax_lstm
from experiments.kit import text, windows
from experiments.kit.clipping import clipping
from experiments.kit.config import (
    BadInput,
    BaseConfig,
    Count,
    Fraction,
    FractionOrZero,
    OptionalFile,
    Positive,
    check_memory,
)
from experiments.kit.routes import ROUTES, sequence_of
from experiments.kit.task import Task, guarded
from experiments.kit.timing import compiled
from jax_lstm import init_lstm_state
from jax_lstm.training.update import (
    BITS,
    LanguageModel,
    init_language_model,
    language_model_loss,
    make_update,
)

LOWEST = 0.01  # learning rate at the first and at the last step, relative to its peak


@dataclass(frozen=True)
class LanguageModelConfig(BaseConfig):
    """A text, a model and its training."""

    text: OptionalFile = None
    """a UTF-8 text file (default: the sources of this Python's standard library)"""
    megabytes: Positive = 2.0
    """without --text: so many million characters of the library's sources"""
    held_out: Fraction = 0.1
    """the last part of the text, as a fraction, which no training sees"""
    hidden: Count = 256
    """H, hidden units of the LSTM"""
    embedding: Count = 64
    """D, size of a character's vector"""
    window: Count = 64
    """T, time steps of a window: the state goes on after it, the gradient ends"""
    streams: Count = 32
    """B, pieces of the text that are read side by side"""
    restart: FractionOrZero = 0.02
    """probability that a stream's state is set to zero before a window: it teaches the model to
    begin anywhere, which validation and samples rely on"""
    steps: Count = 1000
    """updates; each reads T x B characters"""
    learning_rate: Positive = 8e-3
    """Adam's, at its peak"""
    warm_up: FractionOrZero = 0.05
    """fraction of the steps in which the learning rate rises from a hundredth of its peak; then it
    falls to a hundredth along a cosine"""
    clip: Positive = 1.0
    """bound on the global norm of the gradient"""

    @classmethod
    def tiny(cls):
        return cls(
            megabytes=0.03,
            hidden=24,
            embedding=8,
            window=16,
            streams=8,
            steps=60,
            learning_rate=2e-2,
        )


class Data(NamedTuple):
    """Symbols in order, and the parts of the text as streams (N, B); the test part is one stream,
    or None."""

    vocabulary: str
    training: np.ndarray
    held_out: np.ndarray
    test: np.ndarray | None = None


class Parts(NamedTuple):
    """Of a text: what is for training, what is held out, what is for the test."""

    training: slice
    held_out: slice
    test: slice


# The text -------------------------------------------------------------------------------------


def read_text(config):
    """The Text that was asked for."""
    if config.text is None:
        return text.from_standard_library(config.megabytes)
    return text.from_file(config.text)


def length_option(config):
    """The option to blame for a text that is too short."""
    return "--megabytes" if config.text is None else "--text"


def test_fraction(config):
    """Of --test, which not every Config has."""
    return getattr(config, "test", 0)


def parts_of(config, characters):
    """The Parts of a text. The last one is the test part, where there is one, and what is held out
    is then the first: training goes up to where the test begins, as it does in print."""
    n = len(characters)
    held_out, test = round(config.held_out * n), round(test_fraction(config) * n)
    if test:
        return Parts(slice(held_out, n - test), slice(held_out), slice(n - test, n))
    return Parts(slice(n - held_out), slice(n - held_out, n), slice(n, n))


def held_out_of(config, characters):
    """The part that is held out."""
    return characters[parts_of(config, characters).held_out]


def cut(config, characters):
    """Data: the vocabulary of the whole text, and its parts as `parts_of` cuts them."""
    T, B = windows.widest(config), config.streams
    parts = parts_of(config, characters)
    for part, where, needed in (
        ("for training", parts.training, B * (T + 1)),
        ("held out", parts.held_out, T + 1),
        ("for the test", parts.test, (T + 1) * (test_fraction(config) > 0)),
    ):
        length = len(characters[where])
        if length < needed:
            raise BadInput(
                length_option(config),
                f"{length} of its {len(characters)} characters are {part}, one batch needs "
                f"{needed}; a longer text, or a smaller --streams (now {B}) or --window (now {T})",
            )
    vocabulary = "".join(sorted(set(characters)))
    check_room(config, len(vocabulary))
    tokens, V = text.tokens_of(characters, vocabulary), len(vocabulary)
    training, held_out, test = (tokens[where] for where in parts)
    return Data(
        vocabulary,
        text.streams(training, B, V),
        text.streams(held_out, min(B, len(held_out) // (T + 1)), V),
        text.streams(test, 1, V) if len(test) else None,
    )


def unigram_nats(data):
    """What the frequencies of the training part give on the test part, nats per character: the
    floor. One is added to each count, so that no symbol has the probability zero."""
    counts = np.bincount(data.training.ravel(), minlength=len(data.vocabulary)) + 1
    return float(-np.log(counts / counts.sum())[data.test[1:]].mean())


def check_room(config, V):
    """Complain about a model that the machine's memory does not hold in training."""
    T, B, D, H = windows.widest(config), config.streams, config.embedding, config.hidden
    numbers = V * D + 4 * H * (D + H + 1) + (H + 1) * V
    needed = 4 * (4 * numbers + 6 * T * B * H)  # the gradient and Adam's two; gates, c and h
    option = "--hidden" if H >= D else "--embedding"
    check_memory(option, needed, f"training a model of {numbers:,} numbers")


def batches(config, data):
    """(anew, tokens, targets, *drawn) without end, in an order that the seed decides; see
    windows.py for what is drawn."""
    cut = windows.cutter(config, data.training)
    return text.epochs(data.training, config.window, config.seed, config.restart, cut)


# Updates --------------------------------------------------------------------------------------


def make_optimizer(config, clip=None):
    """Adam; learning rate up a line and down a cosine; the gradient's global norm is bounded, or
    what `clip` bounds."""
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=LOWEST * config.learning_rate,
        peak_value=config.learning_rate,
        warmup_steps=1 + int(config.warm_up * config.steps),
        decay_steps=1 + config.steps,
        end_value=LOWEST * config.learning_rate,
    )
    clip = optax.clip_by_global_norm(config.clip) if clip is None else clip
    return optax.chain(clip, optax.adam(schedule))


def init_training(config, data):
    """What training starts from: params, opt_state, state."""
    key, V = jax.random.key(config.seed), len(data.vocabulary)
    params = init_language_model(key, V, config.embedding, config.hidden)
    return params, make_optimizer(config).init(params), init_state(params, config.streams)


def init_state(params, B):
    return init_lstm_state(params.lstm, (B,))


def compile_update(config, route, data, batch):
    """One update along a route, Compiled. Its first three arguments are donated."""
    loss = functools.partial(language_model_loss, route=route)
    update = jax.jit(make_update(make_optimizer(config), loss), donate_argnums=(0, 1, 2))
    return compiled(update, *init_training(config, data), *batch)


@jax.jit
def restart(state, anew):
    """The state, with zeros for the streams that start anew."""
    return jax.tree.map(lambda x: jnp.where(anew[:, None], jnp.zeros_like(x), x), state)


def updates_of(config, update, data):
    """Update after update from the seed: (params, nats, gradient norm, seconds) of each."""
    params, opt_state, state = init_training(config, data)
    for anew, tokens, targets in batches(config, data):
        state = restart(state, anew)
        began = time.perf_counter()
        params, opt_state, state, loss, norm = update(params, opt_state, state, tokens, targets)
        nats = float(loss)
        seconds = time.perf_counter() - began
        if not math.isfinite(nats):
            raise FloatingPointError(f"the loss is {nats}; try a lower --learning-rate")
        yield params, nats, float(norm), seconds


# On the core ----------------------------------------------------------------------------------


def examples(config):
    """Axes of the streams in anew, tokens, targets, and in what is drawn for a window."""
    return windows.examples(config, 0, 1, 1)


def loss_of(config, route):
    """`loss(params, state, anew, tokens, targets, *drawn) -> (nats, state)` of one window of the
    streams, some of which start anew."""

    def loss(params, state, anew, tokens, targets, *drawn):
        here = windows.of_window(config, route, drawn)
        return language_model_loss(params, restart(state, anew), tokens, targets, route=here)

    return loss


def route_of(config):
    """The stages whose derivatives --gradient asks for, with the sequence of other options."""
    route, own = ROUTES[config.gradient], sequence_of(config)
    return route if own is None else route._replace(sequence=own)


def window_update(config, route):
    """(optimiser, update) on one window of the streams."""
    optimizer, rate = make_optimizer(config, clipping(config)), windows.rate_of(config)
    return guarded(config, optimizer, loss_of(config, route), examples(config), rate=rate)


def task_of(config, data, directory, route=None):
    """The training of a character model as a Task; the best so far is in params.safetensors."""
    optimizer, update = window_update(config, route or route_of(config))

    def start():
        params, _, state = init_training(config, data)
        return params, optimizer.init(params), state

    def keep(params, step, nats):
        notes = {"vocabulary": data.vocabulary, "step": step, "validation_nats": nats}
        jax_lstm.save(directory / "params.safetensors", params._asdict(), notes=notes)

    return Task(
        start,
        update,
        batches=lambda: batches(config, data),
        numbers=lambda nats: {"nats": nats, "bits": nats * BITS},
        say=lambda nats: f"{nats * BITS:.3f} bits ({nats:.3f} nats) per character",
        examples=examples(config),
        evaluate=lambda params, check: validate(params, data.held_out, config.window, check),
        keep=keep,
        size=config.window * config.streams,
        unit="character",
    )


@jax.jit
def window_loss(params, state, tokens, targets):
    return language_model_loss(params, state, tokens, targets)


def validate(params, held_out, T, check=lambda: None):
    """Nats per character on all of the streams, (N, B), the state carried along them."""
    state, total = init_state(params, held_out.shape[1]), 0.0
    for tokens, targets in text.windows(held_out, T):
        check()
        nats, state = window_loss(params, state, tokens, targets)
        total += float(nats) * targets.size
    return total / (held_out.size - held_out.shape[1])


# Parameters on disk ---------------------------------------------------------------------------


def load(path):
    """(LanguageModel, notes: vocabulary, step, validation_nats) from params.safetensors."""
    tree, notes = jax_lstm.load(path)
    if not isinstance(tree, dict) or set(tree) != set(LanguageModel._fields):
        raise ValueError(f"{path} must hold {', '.join(LanguageModel._fields)} of a LanguageModel")
    return LanguageModel(**tree), notes
