"""Who is speaking? Sequences of different lengths, in two directions, in padded batches.

    python -m experiments.vowels --seeds 3

JapaneseVowels (Kudo, Toyama & Shimbo 1999; UCI, CC BY 4.0; as .ts files at
timeseriesclassification.com, and in the packages aeon and sktime): nine men say "ae"; 7 to 29 steps
of 12 coefficients; 270 utterances to train on, 370 to test on. One LSTM reads a padded batch
forward, one in reverse, both with `lengths`; the mean of their outputs over an utterance's own
steps is read out. What padding holds is never looked at, and no number depends on how much of it
there is: equal to the bit on a CPU, since padding only adds zeros to sums whose order stays the
same.

`--folds 5` cross-validates a setting on the training utterances and does not open the test file.
So were chosen: means rather than last states, noise, and dropout of the outputs. Means and
deviations of the channels are those of the utterances that are learnt from.

Writes results/vowels/<run>/, and a row of results/evidence/vowels.json:
    config.json          what was asked for, sha256 of the files, versions
    metrics.jsonl        every number as it came, by kind: gradient, compiled, step, nonfinite,
                         accuracy
    checkpoints/         what --resume goes on from
    params.safetensors   of all seeds, stacked, with the means and deviations of the channels
    summary.json, curves.png
"""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from experiments.kit import classification, command, evidence, training
from experiments.kit.classifier import SEGMENT, ClassifierConfig, check_size, split_sequences
from experiments.kit.config import Bounds, Count, FractionOrZero, Positive, PositiveOrZero, Size
from experiments.vowels.utterances import FILES, PACKAGES, folder_or_shipped, pad, read

ASKS = (
    "Who is speaking? 270 utterances of nine men to learn from and 370 to test on, of 7 to 29 "
    "steps; an LSTM in each direction over a padded batch, and the mean of their outputs over an "
    "utterance's own steps."
)
ROW = evidence.Row(
    name="Japanese vowels",
    metric="test accuracy, %",
    better="higher",
    floor=None,
    floor_how="",
    published=99.3,
    source="the FCN of Ismail Fawaz et al. 2019, Deep learning for time series classification, on "
    "the same two parts; their ResNet has 99.2, their MLP 97.6, and no LSTM is in that table",
    bar=99.0,
    digits=2,
)


@dataclass(frozen=True)
class Config(ClassifierConfig):
    """The options of vowels."""

    data: Annotated[
        str | None,
        arg(
            help=f"a folder with {' and '.join(FILES.values())} (default: that of the package "
            f"{' or '.join(PACKAGES)}, which ship them)",
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
    steps: Count = 600
    batch: Count = 30
    learning_rate: Positive = 5e-3
    drop_outputs: FractionOrZero = 0.5
    noise: PositiveOrZero = 0.6

    @classmethod
    def tiny(cls):
        """two small classifiers in a few steps, done in seconds"""
        quiet = {"noise": 0.0, "drop_outputs": 0.0}
        return cls(seeds=2, hidden=8, steps=30, batch=12, learning_rate=2e-2, **quiet)


def run(config):
    """The experiment, from a Config to its summary; everything else is in the folder it names."""
    training.start(config)
    names = ["training"] if config.folds else list(FILES)
    folder = folder_or_shipped(config.data)
    files = {name: read(folder, FILES[name]) for name in names}
    labels = files["training"].labels
    data = {name: pad(config, file, labels) for name, file in files.items()}
    split = split_sequences(config, data["training"])
    check_size(config, split, data["training"].xs.shape[-1])
    about = {FILES[name]: file.about for name, file in files.items()}
    question = classification.Question(
        "vowels", ASKS, ROW, data, labels, split, about, places=("data", "pad")
    )
    with training.folder(config, "vowels") as directory:
        return classification.experiment(config, question, directory)


def main(argv=None):
    return command.main(Config, run, "python -m experiments.vowels", __doc__, argv)
