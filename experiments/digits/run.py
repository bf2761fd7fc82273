"""Which digit is it, one pixel a step? Row by row, and in an order that has no rows.

    python -m experiments.digits --seeds 3

scikit-learn's digits (a part of Alpaydin & Kaynak 1998; UCI, CC BY 4.0): 1797 images of 8 x 8
pixels. An LSTM in each direction reads 64 steps of one pixel, row by row or in one fixed
permutation (Le, Jaitly & Hinton 2015 ask the same of 784 steps, in one direction and with the last
output alone). The outputs of all steps are read out, as those of MNIST-1D's GRU are; `--readout
mean` reads out their mean, and `--directions 1` forward alone. A fifth of each class is the test
part, always the same. In training an image is shifted by a pixel or so along each side, also where
its pixels are permuted afterwards.

`--folds 4` cross-validates a setting on the training images and judges no test image. The defaults
are from what training loss there is; experiments/results/evidence/digits.md says so.

Writes results/digits/<run>/ for each order, and its row of results/evidence/digits.json:
    config.json          what was asked for, sha256 of the images, versions
    metrics.jsonl        every number as it came, by kind: gradient, compiled, step, nonfinite,
                         accuracy
    checkpoints/         what --resume goes on from
    params.safetensors   of all seeds, stacked, with the mean and deviation of the pixels
    summary.json, curves.png
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from tyro.conf import arg

from experiments.digits import images
from experiments.kit import classification, command, evidence, training
from experiments.kit.classifier import ClassifierConfig, check_size, split_sequences
from experiments.kit.config import BadInput, Count, CountOrZero, FractionOrZero, Positive

ASKS = (
    "Which of ten digits is it, one pixel a step? 64 steps, read in both directions, row by row or "
    "in one fixed permutation, and the outputs of all steps are read out; 1433 images to learn "
    "from and 364 to test on."
)
NAMES = {"rows": "pixel by pixel", "permuted": "permuted pixels"}
ROW = evidence.Row(
    name="",
    metric="test accuracy, %",
    better="higher",
    floor=None,
    floor_how="",
    published=None,
    source="nobody's table for these 8 x 8 images read pixel by pixel, as far as we know",
    bar=97.0,
    digits=2,
)


@dataclass(frozen=True)
class Config(ClassifierConfig):
    """The options of digits."""

    orders: Annotated[str, arg(metavar="NAMES")] = ",".join(images.ORDERS)
    """of the pixels, apart by commas: each is a training of its own"""
    shift: CountOrZero = 1
    """pixels that an image of a batch is shifted by, at most, along each side"""
    readout: Annotated[Literal["mean", "all"], arg(metavar="WHAT")] = "all"
    hidden: Count = 32
    steps: Count = 1200
    batch: Count = 64
    learning_rate: Positive = 5e-3
    drop_outputs: FractionOrZero = 0.2

    @classmethod
    def tiny(cls):
        """two small classifiers in a few steps, done in seconds"""
        return cls(orders="rows", seeds=2, hidden=6, steps=4, batch=16)

    def __post_init__(self):
        super().__post_init__()
        command.names_in(self, "orders", images.ORDERS)
        if self.shift >= images.SIDE:
            raise BadInput("--shift", f"must be < {images.SIDE}, the side; got {self.shift}")


def run(config):
    """The experiment, from a Config to {order: summary}; the rest is in the folders it names."""
    training.start(config)
    read = images.read()
    ones = command.one_by_one(config, "orders", images.ORDERS)
    return {one.orders: run_one(one, read) for one in ones}


def run_one(one, read):
    """A training for one order of the pixels."""
    pixels, classes, about = read
    parts, order = images.parts_of(classes), images.order_of(one.orders)
    if one.folds:
        del parts["test"]
    data = {k: images.sequences_of(pixels[n], classes[n], order) for k, n in parts.items()}
    split = split_sequences(one, data["training"])
    check_size(one, split, 1)
    question = classification.Question(
        "digits",
        ASKS,
        ROW._replace(name=NAMES[one.orders]),
        data,
        list(np.unique(classes)),
        split,
        about,
        ("orders",),
        images.make_augment(order, one.shift),
    )
    with training.folder(one, "digits") as directory:
        asked = dataclasses.replace(one, orders=",".join(images.ORDERS))
        return classification.experiment(one, question, directory, asked)


def main(argv=None):
    return command.main(Config, run, "python -m experiments.digits", __doc__, argv)
