"""Which digit is this signal? The one model that MNIST-1D's table lacks: the LSTM.

    python -m experiments.mnist1d --seeds 3

MNIST-1D (Greydanus & Kobak 2024; Apache-2.0): ten templates, moved, scaled, sheared and in noise,
40 steps of one number; 4000 signals to learn from and 1000 to test on, made by the package mnist1d
with its seed. The published GRU reads both directions with six units each, and all of its outputs
are read out, (480, 10); so are ours.

`--folds 4` cross-validates a setting on the training signals and judges no test signal. The
defaults are those of the digits, and nothing was chosen.

Writes results/mnist1d/<run>/, and a row of results/evidence/mnist1d.json:
    config.json          what was asked for, sha256 of the signals, versions
    metrics.jsonl        every number as it came, by kind: gradient, compiled, step, nonfinite,
                         accuracy
    checkpoints/         what --resume goes on from
    params.safetensors   of all seeds, stacked, with the mean and deviation of the signals
    summary.json, curves.png
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from tyro.conf import arg

from experiments.kit import classification, command, evidence, training
from experiments.kit.classifier import ClassifierConfig, check_size, split_sequences
from experiments.kit.config import Count, FractionOrZero, Positive
from experiments.mnist1d import signals

ASKS = (
    "Which of ten digits is this signal of 40 steps? 4000 to learn from and 1000 to test on. The "
    "table of MNIST-1D has no LSTM: this is its accuracy, with its spread over seeds."
)
ROW = evidence.Row(
    name="LSTM",
    metric="test accuracy, %",
    better="higher",
    floor=None,
    floor_how="",
    published=91.0,
    source="the GRU of Greydanus & Kobak 2024, Scaling down deep learning with MNIST-1D; there a "
    "linear model has 32, an MLP 68, a CNN 94, and there is no LSTM",
    digits=2,
)


@dataclass(frozen=True)
class Config(ClassifierConfig):
    """The options of mnist1d."""

    readout: Annotated[Literal["mean", "all"], arg(metavar="WHAT")] = "all"
    hidden: Count = 32
    steps: Count = 1500
    batch: Count = 100
    learning_rate: Positive = 5e-3
    drop_outputs: FractionOrZero = 0.2

    @classmethod
    def tiny(cls):
        """two small classifiers in a few steps, done in seconds"""
        return cls(seeds=2, hidden=6, steps=4, batch=16)


def run(config):
    """The experiment, from a Config to its summary; everything else is in the folder it names."""
    training.start(config)
    data, about = signals.read()
    if config.folds:
        del data["test"]
    split = split_sequences(config, data["training"])
    check_size(config, split, 1)
    labels = list(np.unique(data["training"].classes))
    question = classification.Question("mnist1d", ASKS, ROW, data, labels, split, about)
    with training.folder(config, "mnist1d") as directory:
        return classification.experiment(config, question, directory)


def main(argv=None):
    return command.main(Config, run, "python -m experiments.mnist1d", __doc__, argv)
