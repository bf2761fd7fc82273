"""The data: .ts files, padded batches, and who learns from which utterances."""

import hashlib
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.kit.config import BadInput, check_memory
from experiments.vowels.classifier import SEGMENT

FILES = {"training": "JapaneseVowels_TRAIN.ts", "test": "JapaneseVowels_TEST.ts"}


class File(NamedTuple):
    """Sequences (T_n, D) and their labels as they stand in a .ts file."""

    sequences: list[np.ndarray]
    speakers: list[str]
    labels: list[str]
    about: dict


class Utterances(NamedTuple):
    """xs (T, N, D) padded with NaN, lengths (N,), speakers (N,) in [0, V)."""

    xs: np.ndarray
    lengths: np.ndarray
    speakers: np.ndarray


class Split(NamedTuple):
    """For each classifier: its seed, and the training utterances it learns from, (n,) each."""

    seeds: list[int]
    learns: np.ndarray


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


def pad(config, file, labels):
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
    channels = file.sequences[0].shape[1]
    check_memory("--pad", 4 * T * len(lengths) * channels, f"padding to {T} steps")
    xs = np.full((T, len(lengths), channels), np.nan, np.float32)
    for n, x in enumerate(file.sequences):
        xs[: len(x), n] = x
    return Utterances(xs, lengths, np.array([labels.index(s) for s in file.speakers], np.int32))


def split_utterances(config, training):
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
