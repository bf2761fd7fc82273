"""Does the hand-written gradient train a language model, and is it the one JAX would compute?

    python -m experiments.char_lm
    python -m experiments.char_lm --chosen --text tinyshakespeare.txt --seeds 3

Characters in, the next character out: embedding, LSTM, dense, softmax cross-entropy. Before the
training every gradient on the real model and first batch, by hand and by `jax.grad`. After it the
first steps once more, by hand and by autodiff in turn.

With --test the last part of the text is a test part, which neither training nor validation reads.
It is judged once, after the last step, as one stream, by the parameters that were best on the
held-out part, which is then the first of the text. `--choose` leaves it closed, for whoever tries
options.

Writes results/char_lm/<run>/:
    config.json          what was asked for, the text's sha256, the vocabulary, versions
    metrics.jsonl        every number as it came, by kind: gradient, compiled, step, validation,
                         nonfinite, test, repeat
    params.safetensors   the best on held-out text so far, with the vocabulary
    checkpoints/         what --resume goes on from
    sample.txt, summary.json, curves.png, gradients.png
and with --test its row into results/evidence/char_lm.json.
"""

import dataclasses
import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from experiments.char_lm import plots
from experiments.char_lm.sample import prompt_of, sample
from experiments.char_lm.summary import summarise, summary_table
from experiments.kit import (
    check_gradients,
    command,
    events,
    evidence,
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
    FractionOrZero,
    FreeSwitch,
    OptionalText,
    Positive,
)
from experiments.kit.routes import ROUTES, sequence_of
from experiments.kit.windows import WindowsConfig
from jax_lstm import lstm
from jax_lstm.training.update import AUTODIFF, BITS, BY_HAND

QUESTION = """
How well does a character model of one LSTM predict a text that it has not seen, with a setting that
was chosen without it? The text is a file's; what is judged is its last part.
"""
TINYSHAKESPEARE = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"  # sha256
BAR = 1.47  # nats per character of the last 10 % of that text


@dataclass(frozen=True)
class Config(lm.LanguageModelConfig, WindowsConfig):
    """The options of char_lm."""

    seeds: Count = 1
    """runs, one for each of so many seeds from --seed on, one after the other"""
    test: FractionOrZero = 0.0
    """the last part of the text, as a fraction, which is judged once at the end; --held-out is then
    the first part. 0: there is none"""
    choose: FreeSwitch = False
    """a setting is being chosen: the test part is not read, and no row is written"""
    drop_outputs: FractionOrZero = 0.0
    """probability that an output of the LSTM is dropped in training, for a window"""
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

    @classmethod
    def chosen(cls):
        """the setting of docs/evidence.md, for tinyshakespeare"""
        return cls(
            test=0.1,
            held_out=0.02,
            hidden=384,
            steps=4000,
            learning_rate=6e-3,
            evaluate_every=400,
            compare_steps=0,
        )

    def sizes(self):
        """Of the plain update by hand."""
        other = (self.dh, self.detach, self.random_windows, self.drop_outputs)
        if self.gradient != "manual" or self.clip_by == "example" or any(other):
            return None
        return self.window, self.streams, self.embedding, self.hidden

    def __post_init__(self):
        super().__post_init__()
        if self.held_out + self.test >= 1:
            raise BadInput(
                "--test",
                f"must leave something for training beside --held-out {self.held_out:g}; got "
                f"{self.test:g}",
            )


def run(config):
    """The experiment, from a Config to a summary of each seed; everything else is in the folders
    that it names."""
    training.start(config)
    routes = routes_of(config)
    source = lm.read_text(config)
    data = lm.cut(config, source.characters)
    prompt = prompt_of(config, data.vocabulary, source.characters)
    summaries, several = [], config.seeds > 1  # a single run has the name that it is given
    for one in evidence.each_seed(config) if several else [config]:
        with training.folder(one, "char_lm") as directory:
            summaries += [run_seed(one, routes, source.about, data, prompt, directory)]
    return summaries


def run_seed(config, routes, about, data, prompt, directory):
    began, metrics = time.perf_counter(), directory / "metrics.jsonl"
    params, _, state = lm.init_training(config, data)
    facts = report.facts(about, data, params) | {"devices used": machines.devices_of(config)}
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

    params, notes = lm.load(directory / "params.safetensors")
    if config.test and not config.choose:
        nats = lm.validate(params, data.test, config.window)
        found = {"step": notes["step"], "nats": nats, "bits": nats * BITS}
        record.append(metrics, kind="test", **found, floor_nats=lm.unigram_nats(data))
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
    if "test_nats" in summary:
        add_row(config, about, summary, directory)
    print(f"\n{record.name_files(directory)}")
    return summary


def add_row(config, about, summary, directory):
    """Nats per character of the test part, into the experiment's evidence, and the curves."""
    bar = BAR if about["sha256"] == TINYSHAKESPEARE and config.test == 0.1 else None
    name = Path(about["file"]).name if "file" in about else about["source"]
    row = evidence.Row(
        name=f"{name}, LSTM H = {config.hidden}, last {100 * config.test:g} %",
        metric="nats per character of the test",
        better="lower",
        floor=summary["floor_nats"],
        floor_how="the frequencies of the training part's characters, one added to each count",
        bar=bar,
    )
    nats, minutes = summary["test_nats"], record.minutes(directory / "metrics.jsonl")
    more = {"validation": summary["validation_nats"], "sha256": about["sha256"]}
    path = evidence.add(config, "char_lm", QUESTION, row, nats, minutes, ("text",), **more)
    evidence.add_picture(config, path, "curves", directory / "curves.png")


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
        if any(found["gradients_agree"] is False for found in run(config)):
            raise command.Failed("the gradient by hand is not that of jax.grad")

    return command.main(Config, run_and_judge, "python -m experiments.char_lm", __doc__, argv)
