"""Does the hand-written gradient train a language model, and is it the one JAX would compute?

    python -m experiments.char_lm

Characters in, the next character out: embedding, LSTM, dense, softmax cross-entropy. Before the
training every gradient on the real model and first batch, by hand and by `jax.grad`. After it the
first steps once more, by hand and by autodiff in turn.

Writes results/char_lm/<run>/:
    config.json          what was asked for, the text's sha256, the vocabulary, versions
    metrics.jsonl        every number as it came, by kind: gradient, compiled, step, validation,
                         repeat
    params.safetensors   the best on held-out text so far, with the vocabulary
    sample.txt, summary.json, curves.png, gradients.png
"""

import dataclasses
import functools
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import jax_lstm
from experiments.kit import command, gradients, plots, record, report, text
from experiments.kit.command import BadInput, option
from jax_lstm import init_lstm_state, lstm, lstm_cell, over_devices
from jax_lstm.stages.readout import dense, embedding
from jax_lstm.training.update import (
    AUTODIFF,
    BITS,
    BY_HAND,
    LanguageModel,
    init_language_model,
    language_model_loss,
    make_update,
)

LOWEST = 0.01  # learning rate at the first and at the last step, relative to its peak


@dataclass(frozen=True)
class Config:
    text: str | None = option(
        None,
        "a UTF-8 text file (default: the sources of this Python's standard library)",
        metavar="FILE",
    )
    megabytes: float = option(
        2.0, "without --text: so many million characters of the library's sources", above=0
    )
    held_out: float = option(
        0.1, "the last part of the text, as a fraction, for validation only", above=0, below=1
    )
    hidden: int = option(256, "H, hidden units of the LSTM", low=1)
    embedding: int = option(64, "D, size of a character's vector", low=1)
    window: int = option(
        64, "T, time steps of a window: the state goes on after it, the gradient ends", low=1
    )
    streams: int = option(32, "B, pieces of the text that are read side by side", low=1)
    restart: float = option(
        0.02,
        "probability that a stream's state is set to zero before a window: it teaches the model to "
        "begin anywhere, which validation and sample rely on",
        low=0,
        below=1,
    )
    steps: int = option(1000, "updates; each reads T x B characters", low=1)
    learning_rate: float = option(8e-3, "Adam's, at its peak", above=0)
    warm_up: float = option(
        0.05,
        "fraction of the steps in which the learning rate rises from a hundredth of its peak; "
        "then it falls to a hundredth along a cosine",
        low=0,
        below=1,
    )
    clip: float = option(1.0, "bound on the global norm of the gradient", above=0)
    residuals: str = option(
        "full",
        "what the hand-written gradient keeps of the forward: 'full' every step; 'auto', or a "
        "number K, the state every K steps, and the rest is computed again",
        metavar="WHAT",
    )
    devices: int = option(
        1,
        "host devices that the hand-written LSTM splits its batch over, where that pays: at least "
        "8 streams for each, and H up to 256",
        low=1,
    )
    evaluate_every: int = option(
        200, "steps between validations; the best parameters so far are kept", low=1
    )
    compare_steps: int = option(
        100, "first steps repeated at the end, by hand and by autodiff in turn; 0: none", low=0
    )
    temperature: float = option(
        0.8, "of the sample: below 1 likely characters get likelier", above=0
    )
    sample_length: int = option(1000, "characters to generate", low=0)
    prompt: str | None = option(
        None,
        "what the sample begins with (default: the first 40 characters held out)",
        metavar="TEXT",
    )
    seed: int = option(
        0, "of the parameters, the offsets of epochs and the sample", low=0, below=2**63
    )
    results: str = option("results", "where char_lm/<run> is written", metavar="FOLDER")
    run: str | None = option(None, "name of a new run (default: date and time)")

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
            evaluate_every=20,
            compare_steps=20,
            sample_length=200,
        )


class Data(NamedTuple):
    """Symbols in order, and both parts of the text as streams (N, B)."""

    vocabulary: str
    training: np.ndarray
    held_out: np.ndarray


class Compiled(NamedTuple):
    """A compiled update, and what it costs before and while it runs."""

    update: Callable
    seconds: float
    temp_bytes: int


def run(config):
    """The experiment, from a Config to its summary; everything else is in the folder it names."""
    command.check(config)
    routes = {"by_hand": by_hand(config.residuals, config.devices), "autodiff": AUTODIFF}
    if config.text is None:
        source = text.from_standard_library(config.megabytes)
    else:
        source = text.from_file(config.text)
    data = cut(config, source.characters)
    prompt = prompt_of(config, data.vocabulary, source.characters)
    directory = record.new_directory(config.results, "char_lm", config.run)
    with record.telling_where(directory):
        return experiment(config, routes, source.about, data, prompt, directory)


def experiment(config, routes, about, data, prompt, directory):
    began, metrics = time.perf_counter(), directory / "metrics.jsonl"
    params, _, state = fresh(config, data)
    facts = report.facts(about, data, params)
    record.write_json(
        directory / "config.json",
        {"config": dataclasses.asdict(config), **facts, "vocabulary": data.vocabulary},
    )
    print(report.header(config, facts, directory))

    batch = next(batches(config, data))[1:]
    rows = gradients.compare(routes, params, state, *batch)
    for row in rows:
        record.append(metrics, kind="gradient", **row)
    print(f"{gradients.table(rows)}\n")

    names = ["by_hand", *(["autodiff"] if config.compare_steps else [])]
    updates = {name: compiled(config, routes[name], data, batch) for name in names}
    for name, (_, seconds, temp_bytes) in updates.items():
        record.append(metrics, kind="compiled", route=name, seconds=seconds, temp_bytes=temp_bytes)
    train(config, updates["by_hand"].update, data, directory)

    params, _ = load(directory / "params.safetensors")
    sampled = prompt + sample(config, params, data.vocabulary, prompt)
    record.write(directory / "sample.txt", sampled.encode())
    print(f"\nA sample at temperature {config.temperature:g}, from the best parameters:\n")
    print("\n".join(f"    {line}" for line in sampled[:600].splitlines()), "\n")

    if config.compare_steps:
        repeat(config, updates, data, metrics)
    summary = report.summarise(directory, time.perf_counter() - began)
    record.write_json(directory / "summary.json", summary)
    plots.char_lm(directory)
    print(report.table(summary))
    print(f"\n{directory}: {', '.join(sorted(p.name for p in directory.iterdir()))}")
    return summary


# What the user gave ---------------------------------------------------------------------------


def by_hand(residuals, devices=1):
    """The hand-written route, keeping `residuals` for its backward; its batch over devices."""
    if residuals not in ("full", "auto"):
        if not residuals.isdecimal() or int(residuals) == 0:
            raise BadInput("--residuals", f"must be full, auto or a number >= 1; got {residuals!r}")
        residuals = int(residuals)
    command.host_devices(devices)
    sequence = functools.partial(lstm, residuals=residuals)
    return BY_HAND._replace(sequence=over_devices(sequence, devices=jax.devices()[:devices]))


def cut(config, characters):
    """Data: the vocabulary of the whole text; the last part of the text is held out."""
    T, B = config.window, config.streams
    n = len(characters) - round(config.held_out * len(characters))
    for part, length, needed in (
        ("for training", n, B * (T + 1)),
        ("held out", len(characters) - n, T + 1),
    ):
        if length < needed:
            raise BadInput(
                "--megabytes" if config.text is None else "--text",
                f"{length} of its {len(characters)} characters are {part}, one batch needs "
                f"{needed}; a longer text, or a smaller --streams (now {B}) or --window (now {T})",
            )
    vocabulary = "".join(sorted(set(characters)))
    tokens, V = text.tokens_of(characters, vocabulary), len(vocabulary)
    B_held_out = min(B, (len(characters) - n) // (T + 1))
    return Data(vocabulary, text.streams(tokens[:n], B, V), text.streams(tokens[n:], B_held_out, V))


def prompt_of(config, vocabulary, characters):
    if config.prompt is None:
        return characters[len(characters) - round(config.held_out * len(characters)) :][:40]
    for character in config.prompt:
        if character not in vocabulary:
            raise BadInput("--prompt", f"{character!r} does not occur in the text")
    if not config.prompt:
        raise BadInput("--prompt", "must not be empty")
    return config.prompt


# Training -------------------------------------------------------------------------------------


def make_optimizer(config):
    """Adam; learning rate up a line and down a cosine; the gradient's global norm is bounded."""
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=LOWEST * config.learning_rate,
        peak_value=config.learning_rate,
        warmup_steps=1 + int(config.warm_up * config.steps),
        decay_steps=1 + config.steps,
        end_value=LOWEST * config.learning_rate,
    )
    return optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(schedule))


def fresh(config, data):
    """What training starts from: params, opt_state, state."""
    key, V = jax.random.key(config.seed), len(data.vocabulary)
    params = init_language_model(key, V, config.embedding, config.hidden)
    return params, make_optimizer(config).init(params), zeros(params, config.streams)


def zeros(params, B):
    return init_lstm_state(params.lstm, (B,))


def compiled(config, route, data, batch):
    """One update along a route, compiled. Its first three arguments are donated."""
    loss = functools.partial(language_model_loss, route=route)
    update = jax.jit(make_update(make_optimizer(config), loss), donate_argnums=(0, 1, 2))
    began = time.perf_counter()
    program = update.lower(*fresh(config, data), *batch).compile()
    seconds = time.perf_counter() - began
    return Compiled(program, seconds, program.memory_analysis().temp_size_in_bytes)


def batches(config, data):
    return text.epochs(data.training, config.window, config.seed, config.restart)


@jax.jit
def begun(state, anew):
    """The state, with zeros for the streams that start anew."""
    return jax.tree.map(lambda x: jnp.where(anew[:, None], jnp.zeros_like(x), x), state)


def updates_of(config, update, data):
    """Update after update from the seed: (params, nats, gradient norm, seconds) of each."""
    params, opt_state, state = fresh(config, data)
    for anew, tokens, targets in batches(config, data):
        state = begun(state, anew)
        began = time.perf_counter()
        params, opt_state, state, loss, norm = update(params, opt_state, state, tokens, targets)
        nats = float(loss)
        seconds = time.perf_counter() - began
        if not math.isfinite(nats):
            raise FloatingPointError(f"the loss is {nats}; try a lower --learning-rate")
        yield params, nats, float(norm), seconds


def train(config, update, data, directory):
    """All updates by hand. The best parameters are in params.safetensors from the first moment."""
    metrics, size = directory / "metrics.jsonl", config.window * config.streams
    best, began = math.inf, time.perf_counter()

    def validated(step, params):
        nats = validate(params, data.held_out, config.window)
        if nats < best:
            notes = {"vocabulary": data.vocabulary, "step": step, "validation_nats": nats}
            jax_lstm.save(directory / "params.safetensors", params._asdict(), notes=notes)
        record.append(metrics, kind="validation", step=step, nats=nats, bits=nats * BITS)
        return nats

    best = validated(0, fresh(config, data)[0])
    print(f"step 0: {best * BITS:.3f} bits per character on held-out text")
    recent, spent = [], 0.0
    with tqdm(total=config.steps * size, unit="char", unit_scale=True, disable=None) as bar:
        steps = zip(range(1, config.steps + 1), updates_of(config, update, data), strict=False)
        for step, (params, nats, norm, seconds) in steps:
            recent, spent = [*recent[1 - config.evaluate_every :], nats], spent + seconds
            record.append(
                metrics,
                kind="step",
                step=step,
                nats=nats,
                bits=nats * BITS,
                gradient_norm=norm,
                seconds=seconds,
            )
            bar.set_postfix_str(f"{nats * BITS:.3f} bits per character", refresh=False)
            bar.update(size)
            if step % config.evaluate_every and step < config.steps:
                continue
            now = validated(step, params)
            left = (time.perf_counter() - began) / step * (config.steps - step)
            tqdm.write(
                f"step {step}/{config.steps}: {sum(recent) / len(recent) * BITS:.3f} bits per "
                f"character in training, {now * BITS:.3f} ({now:.3f} nats) on held-out text"
                f"{' - the best' if now < best else ''}; "
                f"{step * size / spent:,.0f} characters per second, {report.clock(left)} left"
            )
            best = min(best, now)


@jax.jit
def window_loss(params, state, tokens, targets):
    return language_model_loss(params, state, tokens, targets)


def validate(params, held_out, T):
    """Nats per character on all of the held-out streams, the state carried along them."""
    state, total = zeros(params, held_out.shape[1]), 0.0
    for tokens, targets in text.windows(held_out, T):
        nats, state = window_loss(params, state, tokens, targets)
        total += float(nats) * targets.size
    return total / (held_out.size - held_out.shape[1])


def repeat(config, updates, data, metrics):
    """The first steps from the same seed, each by hand and then by autodiff: losses and times."""
    steps = min(config.compare_steps, config.steps)
    runs = [updates_of(config, updates[name].update, data) for name in updates]
    for step, both in zip(range(1, steps + 1), zip(*runs, strict=True), strict=False):
        for name, (_, nats, _, seconds) in zip(updates, both, strict=True):
            record.append(metrics, kind="repeat", route=name, step=step, nats=nats, seconds=seconds)


# Afterwards -----------------------------------------------------------------------------------


def load(path):
    """(LanguageModel, notes: vocabulary, step, validation_nats) from params.safetensors."""
    tree, notes = jax_lstm.load(path)
    if not isinstance(tree, dict) or set(tree) != set(LanguageModel._fields):
        raise ValueError(f"{path} must hold {', '.join(LanguageModel._fields)} of a LanguageModel")
    return LanguageModel(**tree), notes


@jax.jit
def generate(params, tokens, temperature, keys):
    """Read the tokens (n,), then draw one token per key, each from softmax(y / temperature)."""
    xs = embedding(params.embedding, tokens)
    state, hs = lstm(params.lstm, init_lstm_state(params.lstm), xs)

    def body(carry, key):
        state, h = carry
        y = dense(params.readout, h) / temperature
        token = jax.random.categorical(key, y).astype(tokens.dtype)
        return lstm_cell(params.lstm, state, embedding(params.embedding, token)), token

    return jax.lax.scan(body, (state, hs[-1]), keys)[1]


def sample(config, params, vocabulary, prompt):
    """The text that the model writes after the prompt."""
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    keys = jax.random.split(key, config.sample_length)
    temperature = jnp.asarray(config.temperature, params.embedding.dtype)
    tokens = generate(params, text.tokens_of(prompt, vocabulary), temperature, keys)
    return "".join(vocabulary[token] for token in tokens.tolist())


def main(argv=None):
    return command.main(Config, run, "python -m experiments.char_lm", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
