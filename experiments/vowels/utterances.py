"""The data: .ts files of the UEA archive, from a folder or from a package that ships them."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.kit.classifier import padded
from experiments.kit.config import BadInput
from experiments.kit.installed import folder_of

FILES = {"training": "JapaneseVowels_TRAIN.ts", "test": "JapaneseVowels_TEST.ts"}
PACKAGES = ("aeon", "sktime")
INSIDE = ("datasets", "data", "JapaneseVowels")


class File(NamedTuple):
    """Sequences (T_n, D) and their labels as they stand in a .ts file."""

    sequences: list[np.ndarray]
    speakers: list[str]
    labels: list[str]
    about: dict


def folder_or_shipped(folder):
    """The folder of --data; without one, that of a package which is installed."""
    found = folder_of(PACKAGES, *INSIDE) if folder is None else Path(folder)
    if found is None:
        raise BadInput(
            "--data",
            f"must name the folder with {' and '.join(FILES.values())}: neither "
            f"{' nor '.join(PACKAGES)} is installed with them (pip install -e '.[evidence]')",
        )
    return found


def read(folder, name):
    """A file of the UEA archive: channels apart by colons, the label last."""
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
    """Sequences of a file, as long as --pad says or as the longest utterance."""
    longest = max(map(len, file.sequences))
    if config.pad is not None and config.pad < longest:
        raise BadInput("--pad", f"must be >= {longest}, the longest utterance; got {config.pad}")
    if file.labels != labels:
        raise BadInput("--data", f"the two files have different classes: {labels}, {file.labels}")
    classes = [labels.index(s) for s in file.speakers]
    return padded(file.sequences, classes, config.pad or 0, "--pad")
