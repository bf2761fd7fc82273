"""Who is speaking? Sequences of different lengths, in two directions, in padded batches.

    python -m experiments.vowels --data FOLDER

JapaneseVowels (Kudo, Toyama & Shimbo 1999; UCI, CC BY 4.0; as .ts files at
timeseriesclassification.com): nine men say "ae"; 7 to 29 steps of 12
coefficients; 270 utterances to train on, 370 to test on. One LSTM reads a padded batch forward, one
in reverse, both with `lengths`; the mean of their outputs over an utterance's own steps is read
out. What padding holds is never looked at, and no number depends on how much of it there is: equal
to the bit on a CPU, since padding only adds zeros to sums whose order stays the same.

`--folds 5` cross-validates a setting on the training utterances and does not open the test file.
So were chosen: means rather than last states, and neither noise nor dropout. Means and deviations
of the channels are those of the utterances that are learnt from.

Writes results/vowels/<run>/:
    config.json          what was asked for, sha256 of the files, versions
    metrics.jsonl        every number as it came, by kind: gradient, compiled, step, nonfinite,
                         accuracy
    checkpoints/         what --resume goes on from
    params.safetensors   of all seeds, stacked, with the means and deviations of the channels
    summary.json, curves.png
"""

import time
from dataclasses import dataclass
from typing import Annotated

import jax
import numpy as np
from tyro.conf import arg

import jax_lstm
from experiments.kit import (
    check_gradients,
    command,
    machines,
    record,
    report,
    training,
)
from experiments.kit.config import (
    Bounds,
    Count,
    CountOrZero,
    Positive,
    Size,
    TrainingConfig,
    check_memory,
)
from experiments.vowels import plots
from experiments.vowels.classifier import SEGMENT
from experiments.vowels.training import judge, loss_of, task_of
from experiments.vowels.utterances import FILES, pad, read, scales, split_utterances


@dataclass(frozen=True)
class Config(TrainingConfig):
    """The options of vowels."""

    data: Annotated[
        str | None,
        arg(
            help=f"a folder with {' and '.join(FILES.values())}; needed",
            constructor=str,
            metavar="FOLDER",
            help_behavior_hint="",
        ),
    ] = None
    pad: Annotated[
        int | None,
        Bounds(low=1),
        Size,
        arg(
            help="steps that every batch is padded to, rounded up to a multiple of "
            f"{SEGMENT}; it changes no result (default: the longest utterance)",
            constructor=int,
            metavar="INT",
            help_behavior_hint="",
        ),
    ] = None
    seeds: Count = 5
    """classifiers, trained side by side: one for each of so many seeds in a row"""
    folds: CountOrZero = 0
    """if not 0, cross-validate a setting on the training utterances, in so many parts; the test
    utterances are not read"""
    hidden: Count = 64
    """H, hidden units in each direction"""
    steps: Count = 300
    """updates"""
    batch: Count = 30
    """B, utterances of an update"""
    learning_rate: Positive = 5e-3
    """Adam's, at its start; a cosine ends at zero"""
    clip: Positive = 1.0
    """bound on the global norm of the gradient"""

    @classmethod
    def tiny(cls):
        """two small classifiers in a few steps, done in seconds"""
        return cls(seeds=2, hidden=8, steps=30, batch=12, learning_rate=2e-2)


def run(config):
    """The experiment, from a Config to its summary; everything else is in the folder it names."""
    training.start(config)
    names = ["training"] if config.folds else list(FILES)
    files = {name: read(config.data, FILES[name]) for name in names}
    labels = files["training"].labels
    data = {name: pad(config, file, labels) for name, file in files.items()}
    split = split_utterances(config, data["training"])
    numbers = 8 * config.hidden * (config.hidden + data["training"].xs.shape[-1] + 1)
    size = 16 * len(split.seeds) * numbers  # with the gradient and Adam's two
    check_memory("--hidden", size, f"training {len(split.seeds)} classifiers")
    with training.folder(config, "vowels") as directory:
        return experiment(config, files, data, split, directory)


def experiment(config, files, data, split, directory):
    began = time.perf_counter()
    facts = {
        "files": {FILES[name]: file.about for name, file in files.items()},
        "T": len(data["training"].xs),
        **report.machine(),
    }
    record.write_config(directory, config, "vowels", **facts)
    print(
        f"{sum(len(d.speakers) for d in data.values())} utterances, padded to T = {facts['T']}; "
        f"{len(split.seeds)} classifiers with H = {config.hidden} in each direction, "
        f"{config.steps} steps of {config.batch}; writing {directory}"
    )
    scale = scales(data["training"], split)
    labels = files["training"].labels
    task = task_of(config, data["training"], labels, split, scale)

    def check(params, carry, batch):
        """The first classifier's gradient on its first batch, by hand beside jax.grad."""
        hand = "step" if config.gradient == "step" else "manual"
        losses = {"by_hand": loss_of(hand), "autodiff": loss_of("auto")}
        first, (scale, xs, *rest) = jax.tree.map(lambda x: x[0], params), batch
        of_first = (scale[0], xs[:, 0], *(x[0] for x in rest))
        check_gradients.check(losses, directory, first, carry, *of_first)

    params = training.carry_out(config, task, directory, check)
    if not machines.is_first():
        return None
    notes = {"seeds": split.seeds, "labels": labels}
    tree = {"params": params, "scale": scale}
    jax_lstm.save(directory / "params.safetensors", tree, notes=notes)
    for name, right in judge(config, data, split, scale, params).items():
        for seed, each in zip(split.seeds, right, strict=True):
            record.append(
                directory / "metrics.jsonl",
                kind="accuracy",
                utterances=name,
                seed=seed,
                right=int(each.sum()),
                of=each.size,
                wrong=np.flatnonzero(~each).tolist(),
            )
    summary = summarise(directory, time.perf_counter() - began)
    record.write_json(directory / "summary.json", summary)
    plots.draw(directory)
    print(summary_table(summary))
    print(f"\n{record.name_files(directory)}")
    return summary


def summarise(directory, seconds):
    """The run in numbers, from its metrics.jsonl."""
    lines = record.read_lines(directory / "metrics.jsonl")
    steps = [line for line in lines if line["kind"] == "step"]
    accuracies = {}
    for line in lines:
        if line["kind"] == "accuracy":
            accuracies.setdefault(line["utterances"], []).append(line["right"] / line["of"])
    return {
        "accuracy": {
            name: {"mean": sum(a) / len(a), "least": min(a), "most": max(a), "each": a}
            for name, a in accuracies.items()
        },
        "nats": steps[-1]["nats"],
        "steps": len(steps),
        "T": record.read_json(directory / "config.json")["T"],
        "seconds": seconds,
    }


def summary_table(summary):
    lines = [f"\n{'accuracy, %':12} {'mean':>7} {'least':>7} {'most':>7}   each"]
    for name, a in summary["accuracy"].items():
        numbers = " ".join(f"{100 * a[key]:7.2f}" for key in ("mean", "least", "most"))
        lines.append(f"{name:12} {numbers}   {', '.join(f'{100 * x:.2f}' for x in a['each'])}")
    return "\n".join([*lines, f"all of it took {summary['seconds']:.0f} seconds"])


def main(argv=None):
    return command.main(Config, run, "python -m experiments.vowels", __doc__, argv)
