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
import time
from dataclasses import dataclass
from typing import Annotated

import jax
from tqdm import tqdm
from tyro.conf import arg

import jax_lstm
from experiments.char_lm import check_gradients, plots
from experiments.char_lm.sample import prompt_of, sample
from experiments.char_lm.summary import summarise, summary_table
from experiments.kit import command, record, report
from experiments.kit import language_model as lm
from experiments.kit.config import BadInput, Count, CountOrZero, OptionalText, Positive
from jax_lstm import lstm, over_devices
from jax_lstm.training.update import AUTODIFF, BITS, BY_HAND, LanguageModel


@dataclass(frozen=True)
class Config(lm.LanguageModelConfig):
    """The options of char_lm."""

    residuals: Annotated[str, arg(metavar="WHAT")] = "full"
    """what the hand-written gradient keeps of the forward: 'full' every step; 'auto', or a number
    K, the state every K steps, and the rest is computed again"""
    devices: Count = 1
    """host devices that the hand-written LSTM splits its batch over, where that pays: at least 8
    streams for each, and H up to 256"""
    evaluate_every: Count = 200
    """steps between validations; the best parameters so far are kept"""
    compare_steps: CountOrZero = 100
    """first steps repeated at the end, by hand and by autodiff in turn; 0: none"""
    temperature: Positive = 0.8
    """of the sample: below 1 likely characters get likelier"""
    sample_length: CountOrZero = 1000
    """characters to generate"""
    prompt: OptionalText = None
    """what the sample begins with (default: the first 40 characters held out)"""

    @classmethod
    def tiny(cls):
        """a small text and a small model, done in seconds"""
        return dataclasses.replace(
            super().tiny(), evaluate_every=20, compare_steps=20, sample_length=200
        )


def run(config):
    """The experiment, from a Config to its summary; everything else is in the folder it names."""
    routes = {"by_hand": by_hand(config.residuals, config.devices), "autodiff": AUTODIFF}
    source = lm.read_text(config)
    data = lm.cut(config, source.characters)
    prompt = prompt_of(config, data.vocabulary, source.characters)
    directory = record.new_directory(config.results, "char_lm", config.run)
    with record.explain_interruption(directory):
        return experiment(config, routes, source.about, data, prompt, directory)


def experiment(config, routes, about, data, prompt, directory):
    began, metrics = time.perf_counter(), directory / "metrics.jsonl"
    params, _, state = lm.init_training(config, data)
    facts = report.facts(about, data, params)
    record.write_json(
        directory / "config.json",
        {"config": dataclasses.asdict(config), **facts, "vocabulary": data.vocabulary},
    )
    print(report.header(config, facts, directory))

    batch = next(lm.batches(config, data))[1:]
    rows = check_gradients.compare(routes, params, state, *batch)
    for row in rows:
        record.append(metrics, kind="gradient", **row)
    print(f"{check_gradients.table(rows)}\n")

    names = ["by_hand", *(["autodiff"] if config.compare_steps else [])]
    updates = {name: lm.compile_update(config, routes[name], data, batch) for name in names}
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
    summary = summarise(directory, time.perf_counter() - began)
    record.write_json(directory / "summary.json", summary)
    plots.draw(directory)
    print(summary_table(summary))
    print(f"\n{record.name_files(directory)}")
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


# Training -------------------------------------------------------------------------------------


def train(config, update, data, directory):
    """All updates by hand. The best parameters are in params.safetensors from the first moment."""
    metrics, size = directory / "metrics.jsonl", config.window * config.streams
    best, began = math.inf, time.perf_counter()

    def validate_and_save(step, params):
        nats = lm.validate(params, data.held_out, config.window)
        if nats < best:
            notes = {"vocabulary": data.vocabulary, "step": step, "validation_nats": nats}
            jax_lstm.save(directory / "params.safetensors", params._asdict(), notes=notes)
        record.append(metrics, kind="validation", step=step, nats=nats, bits=nats * BITS)
        return nats

    best = validate_and_save(0, lm.init_training(config, data)[0])
    print(f"step 0: {best * BITS:.3f} bits per character on held-out text")
    recent, spent = [], 0.0
    with tqdm(total=config.steps * size, unit="char", unit_scale=True, disable=None) as bar:
        steps = zip(range(1, config.steps + 1), lm.updates_of(config, update, data), strict=False)
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
            now = validate_and_save(step, params)
            left = (time.perf_counter() - began) / step * (config.steps - step)
            tqdm.write(
                f"step {step}/{config.steps}: {sum(recent) / len(recent) * BITS:.3f} bits per "
                f"character in training, {now * BITS:.3f} ({now:.3f} nats) on held-out text"
                f"{' - the best' if now < best else ''}; "
                f"{step * size / spent:,.0f} characters per second, {report.clock(left)} left"
            )
            best = min(best, now)


def repeat(config, updates, data, metrics):
    """The first steps from the same seed, each by hand and then by autodiff: losses and times."""
    steps = min(config.compare_steps, config.steps)
    runs = [lm.updates_of(config, updates[name].update, data) for name in updates]
    for step, both in zip(range(1, steps + 1), zip(*runs, strict=True), strict=False):
        for name, (_, nats, _, seconds) in zip(updates, both, strict=True):
            record.append(metrics, kind="repeat", route=name, step=step, nats=nats, seconds=seconds)


def load(path):
    """(LanguageModel, notes: vocabulary, step, validation_nats) from params.safetensors."""
    tree, notes = jax_lstm.load(path)
    if not isinstance(tree, dict) or set(tree) != set(LanguageModel._fields):
        raise ValueError(f"{path} must hold {', '.join(LanguageModel._fields)} of a LanguageModel")
    return LanguageModel(**tree), notes


def main(argv=None):
    """The command: exit status 1 where the gradients disagree, so that a check can run it."""

    def run_and_judge(config):
        if not run(config)["gradients_agree"]:
            raise command.Failed("the gradient by hand is not that of jax.grad")

    return command.main(Config, run_and_judge, "python -m experiments.char_lm", __doc__, argv)
