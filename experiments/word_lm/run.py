"""How many words does it hesitate between? Zaremba, Sutskever & Vinyals' language model.

    python -m experiments.word_lm --data FOLDER

FOLDER has ptb.train.txt, ptb.valid.txt and ptb.test.txt, or others whose names end so. The default
is the small setting of "Recurrent neural network regularization" (2014): two layers of 200, 20
streams of windows of 20 words, every parameter from U(-0.1, 0.1), no dropout, SGD at rate 1, halved
at the end of each epoch after the fourth, the gradient clipped by norm 5, 13 epochs. Published on
the Penn Treebank: validation 120.7, test 114.5. --medium is the medium one: two layers of 650 with
dropout, 39 epochs; published 86.2, 82.7.

Validation is read as streams after every epoch; the test part once, as one stream, with the
parameters that were best on validation.

Writes results/word_lm/<run>/:
    config.json          what was asked for, sha256 of the files, the vocabulary, versions
    metrics.jsonl        every number as it came, by kind: gradient, compiled, step, validation,
                         nonfinite, test
    params.safetensors   the best on validation so far
    checkpoints/         what --resume goes on from
    summary.json, curves.png
"""

import dataclasses
import time
from dataclasses import dataclass

import jax

import jax_lstm
from experiments.kit import (
    check_gradients,
    command,
    machines,
    record,
    report,
    training,
    windows,
)
from experiments.kit.config import (
    Count,
    CountOrZero,
    FractionOrZero,
    OptionalData,
    OptionalFile,
    Positive,
    check_memory,
)
from experiments.kit.windows import WindowsConfig
from experiments.word_lm import plots, words
from experiments.word_lm.training import evaluate, loss_of, perplexity, task_of, windows_per_epoch


@dataclass(frozen=True)
class Config(WindowsConfig):
    """The options of word_lm."""

    data: OptionalData = None
    """a folder with one file each of *train.txt, *valid.txt and *test.txt"""
    text: OptionalFile = None
    """without --data: a UTF-8 text file, cut into 80, 10 and 10 per cent (default: the sources of
    this Python's standard library)"""
    megabytes: Positive = 2.0
    """without both: so many million characters of the library's sources"""
    vocabulary: Count = 10_000
    """V, the most frequent words of the training part; all others are <unk>"""
    layers: Count = 2
    """LSTMs one above the other"""
    hidden: Count = 200
    """H, hidden units of each, and size of a word's vector"""
    window: Count = 20
    """T, words of a window: the state goes on after it, the gradient ends"""
    streams: Count = 20
    """B, pieces of the text that are read side by side"""
    scale: Positive = 0.1
    """every parameter is drawn between minus and plus this"""
    dropout: FractionOrZero = 0.0
    """probability that a number is dropped, where nothing recurs"""
    epochs: Count = 13
    """how often the training part is read"""
    steps: CountOrZero = 0
    """updates, if not as many as the epochs have"""
    learning_rate: Positive = 1.0
    """of SGD, for the sum of the loss over a window's steps"""
    flat_epochs: CountOrZero = 4
    """epochs after which the rate begins to fall"""
    decay: Positive = 2.0
    """what the rate is divided by at the end of each later epoch"""
    clip: Positive = 5.0
    """bound on the norm of the gradient of the sum of the loss over a window's steps"""
    checkpoint_every: CountOrZero = 1000

    @classmethod
    def tiny(cls):
        """a small text and a small model, done in seconds"""
        return cls(
            megabytes=0.05, vocabulary=150, hidden=8, window=6, streams=4, epochs=2, steps=60
        )

    @classmethod
    def medium(cls):
        """the medium setting of the source"""
        return cls(
            hidden=650,
            window=35,
            scale=0.05,
            dropout=0.5,
            epochs=39,
            flat_epochs=6,
            decay=1.2,
        )


def run(config):
    """The experiment, from a Config to its summary; everything else is in the folder it names."""
    training.start(config)
    H, V = config.hidden, config.vocabulary
    numbers = 2 * V * H + V + 8 * config.layers * H * (H + 1)
    needed = 4 * (3 * numbers + 2 * windows.widest(config) * config.streams * V)
    check_memory("--hidden", needed, f"training a model of {numbers:,} numbers")
    corpus = words.read(config)
    one = {"train": config.streams, "valid": config.streams, "test": 1}
    streams = {k: words.streams(config, getattr(corpus, k), k, B) for k, B in one.items()}
    with training.folder(config, "word_lm") as directory:
        return experiment(config, corpus, streams, directory)


def experiment(config, corpus, streams, directory):
    began, per_epoch = time.perf_counter(), windows_per_epoch(config, streams["train"])
    facts = {"text": corpus.about, "vocabulary": corpus.vocabulary, **report.machine()}
    record.write_config(directory, config, "word_lm", **facts)
    config = dataclasses.replace(config, steps=config.steps or config.epochs * per_epoch)
    task = task_of(config, corpus, streams, directory)
    print(
        f"words    {corpus.about['words']}, {len(corpus.vocabulary)} of them known\n"
        f"model    {config.layers} layers, H = {config.hidden}; {config.steps} steps of "
        f"{config.window} x {config.streams} words, {per_epoch} an epoch\nwriting  {directory}\n"
    )

    def check(params, carry, batch):
        whole = dataclasses.replace(config, dropout=0)  # masks of float64 are others
        losses = {
            "by_hand": loss_of(whole, "step" if config.gradient == "step" else "manual"),
            "autodiff": loss_of(whole, "auto"),
        }
        check_gradients.check(losses, directory, params, carry, *batch)

    training.carry_out(config, task, directory, check, per_epoch)
    if not machines.is_first():
        return None
    params, _ = jax_lstm.load(directory / "params.safetensors")
    nats = evaluate(params, streams["test"])
    record.append(directory / "metrics.jsonl", kind="test", nats=nats, perplexity=perplexity(nats))
    summary = summarise(directory, time.perf_counter() - began)
    summary["parameters"] = sum(x.size for x in jax.tree.leaves(params))
    record.write_json(directory / "summary.json", summary)
    plots.draw(directory)
    print(
        f"\nvalidation perplexity {summary['validation_perplexity']:.2f} after step "
        f"{summary['validation_step']}, test perplexity {summary['test_perplexity']:.2f}; "
        f"all of it took {report.clock(summary['seconds'])} minutes"
    )
    print(f"\n{record.name_files(directory)}")
    return summary


def summarise(directory, seconds):
    """The run in numbers, from its metrics.jsonl."""
    lines = record.read_lines(directory / "metrics.jsonl")
    steps = [line for line in lines if line["kind"] == "step"]
    validations = [line for line in lines if line["kind"] == "validation"]
    best = min(validations, key=lambda line: line["nats"])
    test = next(line for line in lines if line["kind"] == "test")
    return {
        "steps": len(steps),
        "validation_perplexity": best["perplexity"],
        "validation_step": best["step"],
        "last_validation_perplexity": validations[-1]["perplexity"],
        "test_perplexity": test["perplexity"],
        "seconds_of_steps": sum(line["seconds"] for line in steps),
        "seconds": seconds,
    }


def main(argv=None):
    return command.main(Config, run, "python -m experiments.word_lm", __doc__, argv)
