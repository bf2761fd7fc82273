"""Words as tokens: a folder of three parts, or any text cut into them."""

import collections
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.kit import text, windows
from experiments.kit.config import BadInput

END, UNKNOWN = "<eos>", "<unk>"
PARTS = ("train", "valid", "test")


class Corpus(NamedTuple):
    """The words that are known, the most frequent first; each part's tokens (n,), int32."""

    vocabulary: list[str]
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    about: dict


def words_of(characters):
    """Words between spaces; the end of a line is one of them."""
    return characters.replace("\n", f" {END} ").split()


def read(config):
    """The Corpus of --data, or of --text, or of the standard library's sources."""
    if config.data is not None:
        parts = {part: text.from_file(file_of(config.data, part), "--data") for part in PARTS}
        about = {part: found.about for part, found in parts.items()}
        words = {part: words_of(found.characters) for part, found in parts.items()}
    else:
        if config.text is None:
            found = text.from_standard_library(config.megabytes)
        else:
            found = text.from_file(config.text)
        about, every = found.about, words_of(found.characters)
        ends = [round(0.8 * len(every)), round(0.9 * len(every))]
        cut = every[: ends[0]], every[ends[0] : ends[1]], every[ends[1] :]
        words = dict(zip(PARTS, cut, strict=True))
    counted = collections.Counter(words["train"])
    ordered = sorted(counted, key=lambda word: (-counted[word], word))
    known = ordered[: config.vocabulary]
    if UNKNOWN not in known:
        known = [*known[: config.vocabulary - 1], UNKNOWN]
    place = {word: n for n, word in enumerate(known)}
    tokens = {
        part: np.array([place.get(word, place[UNKNOWN]) for word in found], np.int32)
        for part, found in words.items()
    }
    about = {"source": about, "words": {part: len(x) for part, x in tokens.items()}}
    return Corpus(known, **tokens, about=about)


def file_of(folder, part):
    """ptb.train.txt, say: the one file of a folder whose name ends so."""
    found = sorted(Path(folder).glob(f"*{part}.txt")) if Path(folder).is_dir() else []
    if len(found) != 1:
        raise BadInput("--data", f"{folder} must hold one file *{part}.txt; found {len(found)}")
    return str(found[0])


def streams(config, tokens, part, B):
    """(N, B); complain where that is not one window."""
    T = windows.widest(config)
    if len(tokens) // B < T + 1:
        raise BadInput(
            "--data" if config.data is not None else "--text",
            f"{len(tokens)} words of its part {part!r} are too few for {B} streams of {T + 1}",
        )
    return text.streams(tokens, B, config.vocabulary)
