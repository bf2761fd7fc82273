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
    metrics.jsonl        every number as it came, by kind: step, accuracy
    params.safetensors   of all seeds, stacked, with the means and deviations of the channels
    summary.json, curves.png
"""

import dataclasses
import hashlib
import math
import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import jax_lstm
from experiments.kit import command, plots, record
from experiments.kit.command import BadInput, option
from jax_lstm import init_dense, init_lstm, init_lstm_state, lstm
from jax_lstm.cells.lstm import LSTMParams
from jax_lstm.stages.losses import softmax_cross_entropy
from jax_lstm.stages.readout import DenseParams, dense

FILES = {"training": "JapaneseVowels_TRAIN.ts", "test": "JapaneseVowels_TEST.ts"}
SEGMENT = 16  # steps that share a weight product: sums over time are the same for any padding


@dataclass(frozen=True)
class Config:
    data: str | None = option(
        None, f"a folder with {' and '.join(FILES.values())}; needed", metavar="FOLDER"
    )
    pad: int | None = option(
        None,
        f"steps that every batch is padded to, rounded up to a multiple of {SEGMENT}; it changes "
        "no result (default: the longest utterance)",
        low=1,
    )
    seeds: int = option(
        5, "classifiers, one for each of so many seeds, trained side by side", low=1
    )
    folds: int = option(
        0,
        "if not 0, cross-validate a setting on the training utterances, in so many parts; the test "
        "utterances are not read",
        low=0,
    )
    hidden: int = option(64, "H, hidden units in each direction", low=1)
    steps: int = option(300, "updates", low=1)
    batch: int = option(30, "B, utterances of an update", low=1)
    learning_rate: float = option(5e-3, "Adam's, at its start; a cosine ends at zero", above=0)
    clip: float = option(1.0, "bound on the global norm of the gradient", above=0)
    seed: int = option(0, "the first seed: of parameters, batches and folds", low=0, below=2**63)
    results: str = option("results", "where vowels/<run> is written", metavar="FOLDER")
    run: str | None = option(None, "name of a new run (default: date and time)")

    @classmethod
    def tiny(cls):
        return cls(seeds=2, hidden=8, steps=30, batch=12, learning_rate=2e-2)


class Utterances(NamedTuple):
    """xs (T, N, D) padded with NaN, lengths (N,), speakers (N,) in [0, V)."""

    xs: np.ndarray
    lengths: np.ndarray
    speakers: np.ndarray


class Classifier(NamedTuple):
    """Two LSTMs, and W (2H, V), b (V,) for the means of their outputs."""

    forward: LSTMParams
    reverse: LSTMParams
    readout: DenseParams


class Split(NamedTuple):
    """For each classifier: its seed, and the training utterances it learns from, (n,) each."""

    seeds: list[int]
    learns: np.ndarray


def run(config):
    """The experiment, from a Config to its summary; everything else is in the folder it names."""
    command.check(config)
    names = ["training"] if config.folds else list(FILES)
    files = {name: read(config.data, FILES[name]) for name in names}
    labels = files["training"].labels
    data = {name: padded(config, file, labels) for name, file in files.items()}
    split = splits(config, data["training"])
    directory = record.new_directory(config.results, "vowels", config.run)
    with record.telling_where(directory):
        return experiment(config, files, data, split, directory)


def experiment(config, files, data, split, directory):
    began = time.perf_counter()
    facts = {
        "files": {FILES[name]: file.about for name, file in files.items()},
        "T": len(data["training"].xs),
        "device": f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "optax": optax.__version__,
        },
    }
    record.write_json(directory / "config.json", {"config": dataclasses.asdict(config), **facts})
    print(
        f"{sum(len(d.speakers) for d in data.values())} utterances, padded to T = {facts['T']}; "
        f"{len(split.seeds)} classifiers with H = {config.hidden} in each direction, "
        f"{config.steps} steps of {config.batch}; writing {directory}"
    )
    scale = scales(data["training"], split)
    labels = files["training"].labels
    params = train(config, data["training"], labels, split, scale, directory)
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
    draw(directory)
    print(summary_table(summary))
    print(f"\n{directory}: {', '.join(sorted(p.name for p in directory.iterdir()))}")
    return summary


# What the user gave ---------------------------------------------------------------------------


class File(NamedTuple):
    """Sequences (T_n, D) and their labels as they stand in a .ts file."""

    sequences: list[np.ndarray]
    speakers: list[str]
    labels: list[str]
    about: dict


def read(folder, name):
    """A file of the UEA archive: channels apart by colons, the label last."""
    if folder is None:
        raise BadInput("--data", f"must name the folder with {' and '.join(FILES.values())}")
    path = Path(folder) / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput("--data", f"cannot read {path}: {error.strerror}") from None
    sequences, speakers, labels, inside = [], [], [], False
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        words = line.split()
        if inside and words:
            *channels, label = line.strip().split(":")
            try:
                xs = np.array([c.split(",") for c in channels], np.float32).T
            except ValueError:
                xs = np.zeros(0)
            same = not sequences or xs.shape[-1:] == sequences[0].shape[-1:]
            if xs.ndim != 2 or not len(xs) or not same or not np.isfinite(xs).all():
                raise BadInput("--data", f"{path}, line {number}: not channels of numbers")
            if label not in labels:
                raise BadInput("--data", f"{path}, line {number}: no such class, {label!r}")
            sequences.append(xs)
            speakers.append(label)
        elif words and words[0].lower() == "@classlabel":
            labels = words[2:]
        inside = inside or (bool(words) and words[0].lower() == "@data")
    if not sequences:
        raise BadInput("--data", f"{path} holds no sequences after @data")
    lengths = [len(xs) for xs in sequences]
    about = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "utterances": len(sequences),
        "lengths": [min(lengths), max(lengths)],
    }
    return File(sequences, speakers, labels, about)


def padded(config, file, labels):
    """NaN in padding: whoever looks at it will notice."""
    lengths = np.array([len(xs) for xs in file.sequences], np.int32)
    if config.pad is not None and config.pad < lengths.max():
        raise BadInput(
            "--pad", f"must be >= {lengths.max()}, the longest utterance; got {config.pad}"
        )
    if file.labels != labels:
        raise BadInput("--data", f"the two files have different classes: {labels}, {file.labels}")
    T = math.ceil((config.pad or lengths.max()) / SEGMENT) * SEGMENT
    T = max(T, 2 * SEGMENT)  # a single segment would be another program
    xs = np.full((T, len(lengths), file.sequences[0].shape[1]), np.nan, np.float32)
    for n, x in enumerate(file.sequences):
        xs[: len(x), n] = x
    return Utterances(xs, lengths, np.array([labels.index(s) for s in file.speakers], np.int32))


def splits(config, training):
    """Each classifier learns from all training utterances, or each from all parts but its own."""
    N, folds = len(training.speakers), config.folds
    if not folds:
        seeds = [config.seed + n for n in range(config.seeds)]
        learns = np.tile(np.arange(N), (len(seeds), 1))
    else:
        if folds == 1 or folds > N:
            raise BadInput("--folds", f"must be 0 or between 2 and {N}; got {folds}")
        rng, part = np.random.default_rng(config.seed), np.zeros(N, int)
        order = np.lexsort((rng.random(N), training.speakers))  # speaker by speaker, shuffled
        part[order] = np.arange(N) % folds
        seeds = [config.seed + n for n in range(folds)]
        n = min(np.count_nonzero(part != k) for k in range(folds))
        learns = np.stack([np.flatnonzero(part != k)[:n] for k in range(folds)])
    if learns.shape[1] < config.batch:
        raise BadInput("--batch", f"must be <= {learns.shape[1]}, what there is to learn from")
    return Split(seeds, learns)


def scales(training, split):
    """Mean and deviation of each channel over what each classifier learns from, (S, 2, D)."""
    found = []
    for learns in split.learns:
        xs = training.xs[:, learns].astype(np.float64)
        valid = xs[np.arange(len(xs))[:, None] < training.lengths[learns]]
        deviation = valid.std(0)
        found.append([valid.mean(0), np.where(deviation > 0, deviation, 1)])
    return np.array(found, np.float32)


# The classifier -------------------------------------------------------------------------------


def init(key, D, H, V):
    keys = jax.random.split(key, 3)
    return Classifier(
        init_lstm(keys[0], D, H), init_lstm(keys[1], D, H), init_dense(keys[2], 2 * H, V)
    )


def logits(params, xs, lengths):
    """y = mean over an utterance's own steps of [forward; reverse], times W, plus b.

    Segments of a fixed length, and padding to a multiple of it: every sum over time has the same
    terms in the same order for any padding, but for zeros.
    """
    state = init_lstm_state(params.forward, xs.shape[1:-1])
    options = {"lengths": lengths, "residuals": SEGMENT}
    _, forward = lstm(params.forward, state, xs, **options)
    _, reverse = lstm(params.reverse, state, xs, reverse=True, **options)
    hs = jnp.concatenate([forward, reverse], axis=-1)
    parts = hs.reshape((-1, SEGMENT, *hs.shape[1:])).sum(1)
    return dense(params.readout, parts.sum(0) / lengths.astype(hs.dtype)[:, None])


def loss(params, xs, lengths, speakers):
    return softmax_cross_entropy(logits(params, xs, lengths), speakers).mean()


@jax.jit
def right(params, scale, xs, lengths, speakers):
    """Which utterances each classifier gets right, (S, N)."""

    def each(params, scale):
        guessed = jnp.argmax(logits(params, (xs - scale[0]) / scale[1], lengths), axis=-1)
        return guessed.astype(speakers.dtype) == speakers

    return jax.vmap(each)(params, scale)


def judge(config, data, split, scale, params):
    """Which utterances each classifier gets right: of training, and of test or its own fold."""
    found = {}
    for name, now in data.items():
        found[name] = np.asarray(right(params, scale, now.xs, now.lengths, now.speakers))
    learnt = found["training"]
    every = np.arange(learnt.shape[1])
    found["training"] = np.stack([r[n] for r, n in zip(learnt, split.learns, strict=True)])
    if config.folds:
        own = [np.setdiff1d(every, n) for n in split.learns]
        found["held out"] = [r[n] for r, n in zip(learnt, own, strict=True)]
    return found


# Training -------------------------------------------------------------------------------------


def batches(config, split):
    """Indices (S, B) without end: each classifier's own order, all utterances in each epoch."""
    rngs, n = [np.random.default_rng(seed) for seed in split.seeds], split.learns.shape[1]
    while True:
        orders = np.stack([rng.permutation(n) for rng in rngs])
        for start in range(0, n - config.batch + 1, config.batch):
            yield np.take_along_axis(split.learns, orders[:, start : start + config.batch], 1)


def train(config, training, labels, split, scale, directory):
    """All classifiers side by side; their parameters, stacked."""
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps)),
    )
    D, V = training.xs.shape[-1], len(labels)

    def update(params, opt_state, scale, *batch):
        xs, lengths, speakers = batch
        nats, dparams = jax.value_and_grad(loss)(
            params, (xs - scale[0]) / scale[1], lengths, speakers
        )
        with jax.numpy_dtype_promotion("standard"):  # as training.make_update has it
            updates, opt_state = optimizer.update(dparams, opt_state, params)
            return optax.apply_updates(params, updates), opt_state, nats

    @jax.jit
    def fresh(seeds):
        params = jax.vmap(lambda seed: init(jax.random.key(seed), D, config.hidden, V))(seeds)
        return params, jax.vmap(optimizer.init)(params)

    updates = jax.jit(jax.vmap(update, in_axes=(0, 0, 0, 1, 0, 0)), donate_argnums=(0, 1))
    params, opt_state = fresh(jnp.asarray(split.seeds))
    metrics, recent = directory / "metrics.jsonl", []
    with tqdm(total=config.steps, unit="step", disable=None) as bar:
        for step, chosen in zip(range(1, config.steps + 1), batches(config, split), strict=False):
            began = time.perf_counter()
            batch = (
                training.xs[:, chosen],
                training.lengths[chosen],
                training.speakers[chosen],
            )
            params, opt_state, nats = updates(params, opt_state, scale, *batch)
            nats = np.asarray(nats).tolist()
            if not all(map(math.isfinite, nats)):
                raise FloatingPointError(f"a loss is {nats}; try a lower --learning-rate")
            record.append(
                metrics, kind="step", step=step, nats=nats, seconds=time.perf_counter() - began
            )
            recent = [*recent[-19:], sum(nats) / len(nats)]
            bar.set_postfix_str(f"{sum(recent) / len(recent):.4f} nats", refresh=False)
            bar.update()
            if step % max(config.steps // 5, 1) == 0:
                tqdm.write(f"step {step}/{config.steps}: {sum(recent) / len(recent):.4f} nats")
    return params


# Afterwards -----------------------------------------------------------------------------------


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


def draw(directory):
    """curves.png: the loss, mean over the classifiers, and what each gets wrong."""
    lines = record.read_lines(directory / "metrics.jsonl")
    plots.draw(directory / "curves.png", curves, lines)


def curves(figure, lines):
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    steps = [line for line in lines if line["kind"] == "step"]
    nats = plots.column(steps, "nats").mean(1)
    plots.every_step_and_mean(left.semilogy, plots.column(steps, "step"), nats, "training")
    left.legend(frameon=False)
    plots.tidy(left, "Mean over the classifiers", "step", "nats per utterance")
    judged = [line for line in lines if line["kind"] == "accuracy"]
    names = list(dict.fromkeys(line["utterances"] for line in judged))
    for k, name in enumerate(names):
        wrong = [1 - x["right"] / x["of"] for x in judged if x["utterances"] == name]
        right.plot([k] * len(wrong), [100 * w for w in wrong], "o", color=plots.HAND, alpha=0.6)
    right.axhline(4, color=plots.AUTO, linewidth=1, linestyle="--", label="4 %")
    right.set_xticks(range(len(names)), names)
    right.set_xlim(-0.5, max(len(names), 1) - 0.5)
    right.set_ylim(bottom=0)
    right.legend(frameon=False)
    plots.tidy(right, "Each classifier", "", "utterances wrong, %")


def main(argv=None):
    assert __doc__ is not None
    return command.main(Config, run, "python -m experiments.vowels", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
