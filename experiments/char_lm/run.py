"""Does the hand-written gradient train a language model, and is it the one JAX would compute?

    python -m experiments.char_lm

Characters in, the next character out: embedding, LSTM, dense, softmax cross-entropy. Before the
training every gradient on the real model and first batch, by hand and by `jax.grad`. After it the
first steps once more, by hand and by autodiff in turn.

Writes results/char_lm/<run>/:
    config.json          what was asked for, the text's sha256, the vocabulary, versions
    metrics.jsonl        every number as it came, by kind: gradient, compiled, step, validation,
                         nonfinite, repeat
    params.safetensors   the best on held-out text so far, with the vocabulary
    checkpoints/         what --resume goes on from
    sample.txt, summary.json, curves.png, gradients.png
"""

import dataclasses
import functools
import time
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from experiments.char_lm import plots
from experiments.char_lm.sample import prompt_of, sample
from experiments.char_lm.summary import summarise, summary_table
from experiments.kit import (
    check_gradients,
    command,
    events,
    machines,
    record,
    report,
    training,
)
from experiments.kit import language_model as lm
from experiments.kit.config import (
    BadInput,
    Count,
    CountOrZero,
    OptionalText,
    Positive,
)
from experiments.kit.routes import ROUTES, sequence_of
from experiments.kit.windows import WindowsConfig
from jax_lstm import lstm
from jax_lstm.training.update import AUTODIFF, BY_HAND


@dataclass(frozen=True)
class Config(lm.LanguageModelConfig, WindowsConfig):
    """The options of char_lm."""

    residuals: Annotated[str, arg(metavar="WHAT")] = "full"
    """what the hand-written gradient keeps of the forward: 'full' every step; 'auto', or a number
    K, the state every K steps, and the rest is computed again"""
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
    training.start(config)
    routes = routes_of(config)
    source = lm.read_text(config)
    data = lm.cut(config, source.characters)
    prompt = prompt_of(config, data.vocabulary, source.characters)
    with training.folder(config, "char_lm") as directory:
        return experiment(config, routes, source.about, data, prompt, directory)


def experiment(config, routes, about, data, prompt, directory):
    began, metrics = time.perf_counter(), directory / "metrics.jsonl"
    params, _, state = lm.init_training(config, data)
    facts = report.facts(about, data, params)
    record.write_config(directory, config, "char_lm", **facts, vocabulary=data.vocabulary)
    print(report.header(config, facts, directory))

    trained = "autodiff" if config.gradient == "auto" else "by_hand"
    tasks = {k: lm.task_of(config, data, directory, route) for k, route in routes.items()}
    batch = next(lm.batches(config, data))
    if not config.compare_steps:
        tasks = {trained: tasks[trained]}
    begun = training.begin(config, tasks[trained], directory)
    if begun.fresh and not config.skip_check:
        losses = {k: lm.loss_of(config, route) for k, route in routes.items()}
        rows = check_gradients.compare(losses, params, state, *batch)
        record.append_lines(metrics, [{"kind": "gradient", **row} for row in rows])
        print(f"{check_gradients.table(rows)}\n")
    updates = {name: training.compile_updates(config, task, batch) for name, task in tasks.items()}
    if begun.fresh:
        for name, (_, seconds, temp_bytes) in updates.items():
            told = {"route": name, "seconds": seconds, "temp_bytes": temp_bytes}
            record.append(metrics, kind="compiled", **told)
    programs = {name: compiled.program for name, compiled in updates.items()}
    with events.opened(config, directory, begun.step) as written:
        training.train(
            config,
            tasks[trained],
            directory,
            begun,
            programs[trained],
            config.evaluate_every,
            written,
        )

    if not machines.is_first():
        return {"gradients_agree": None}

    params, _ = lm.load(directory / "params.safetensors")
    sampled = prompt + sample(config, params, data.vocabulary, prompt)
    record.write(directory / "sample.txt", sampled.encode())
    print(f"\nA sample at temperature {config.temperature:g}, from the best parameters:\n")
    print("\n".join(f"    {line}" for line in sampled[:600].splitlines()), "\n")

    if config.compare_steps and config.processes == 1:
        training.repeat(config, tasks, programs, metrics)
    summary = summarise(directory, time.perf_counter() - began)
    record.write_json(directory / "summary.json", summary)
    plots.draw(directory)
    print(summary_table(summary))
    print(f"\n{record.name_files(directory)}")
    return summary


# What the user gave ---------------------------------------------------------------------------


def routes_of(config):
    """{"by_hand": Route, "autodiff": Route}"""
    hand = by_hand(config.residuals, sequence_of(config) or lstm)
    return {"by_hand": ROUTES["step"] if config.gradient == "step" else hand, "autodiff": AUTODIFF}


def by_hand(residuals, sequence=lstm):
    """The hand-written route, keeping `residuals` for its backward."""
    if residuals not in ("full", "auto"):
        if not residuals.isdecimal() or int(residuals) == 0:
            raise BadInput("--residuals", f"must be full, auto or a number >= 1; got {residuals!r}")
        residuals = int(residuals)
    return BY_HAND._replace(sequence=functools.partial(sequence, residuals=residuals))


def main(argv=None):
    """The command: exit status 1 where the gradients disagree, so that a check can run it."""

    def run_and_judge(config):
        if run(config)["gradients_agree"] is False:
            raise command.Failed("the gradient by hand is not that of jax.grad")

    return command.main(Config, run_and_judge, "python -m experiments.char_lm", __doc__, argv)
