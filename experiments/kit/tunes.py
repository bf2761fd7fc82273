"""Tunes: piano rolls of MATLAB's files, and streams of whole tunes one behind the other."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.io

from experiments.kit.config import BadInput

PITCHES = 88
FILES = {"jsb": "JSB_Chorales.mat", "nottingham": "Nottingham.mat"}
FLOOR_HOW = "each pitch at its own rate, always"
PARTS = {"training": "traindata", "validation": "validdata", "test": "testdata"}


class Streams(NamedTuple):
    """Tunes one behind the other in B streams, and what is to be said of each frame.

    frames (T, B, 88), of which frame t is read and targets[t] is said: uint8. anew (T, B): a tune
    begins here. weights (T, B) float32: 0 at the last frame of a tune and behind the last tune.
    """

    frames: np.ndarray
    targets: np.ndarray
    anew: np.ndarray
    weights: np.ndarray


def read(folder, name):
    """({part: [tune (T_n, 88)]}, what is to be said of the file), of MATLAB's cells.

    Raises:
      BadInput: no folder, no such file, or one that holds no such tunes.
    """
    if folder is None:
        raise BadInput("--data", f"must name the folder with {FILES[name]}")
    path = Path(folder) / FILES[name]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput("--data", f"cannot read {path}: {error.strerror}") from None
    try:
        found = scipy.io.loadmat(path)
    except Exception as error:  # of a damaged file: scipy and zlib have many, and no common class
        raise BadInput("--data", f"{path} is no MATLAB file: {error!s:.200}") from None
    tunes = {part: tunes_of(path, key, found.get(key)) for part, key in PARTS.items()}
    about = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "tunes": {part: len(all_of) for part, all_of in tunes.items()},
        "frames": {part: sum(map(len, all_of)) for part, all_of in tunes.items()},
    }
    return tunes, about


def tunes_of(path, key, cells):
    """Those of one variable, each of zeros and ones."""
    if not isinstance(cells, np.ndarray) or cells.dtype != object or not cells.size:
        raise BadInput("--data", f"{path} has no cells {key!r}")
    tunes = []
    for n, tune in enumerate(cells.reshape(-1), 1):
        if not isinstance(tune, np.ndarray) or tune.ndim != 2 or tune.shape[1] != PITCHES:
            raise BadInput("--data", f"{path}, {key} {n}: not frames of {PITCHES} pitches")
        if len(tune) < 2 or not np.isin(tune, (0, 1)).all():
            raise BadInput("--data", f"{path}, {key} {n}: not two frames or more of 0 and 1")
        tunes.append(tune.astype(np.uint8))
    return tunes


def pack(tunes, B, window):
    """Streams of whole tunes: each tune where there is least so far; T a multiple of `window`."""
    streams, lengths = [[] for _ in range(B)], [0] * B
    for tune in tunes:
        shortest = int(np.argmin(lengths))
        streams[shortest].append(tune)
        lengths[shortest] += len(tune)
    T = -(-max(lengths) // window) * window
    frames = np.zeros((T + 1, B, PITCHES), np.uint8)
    anew, weights = np.zeros((T, B), bool), np.zeros((T, B), np.float32)
    for b, stream in enumerate(streams):
        start = 0
        for tune in stream:
            end = start + len(tune)
            frames[start:end, b] = tune
            anew[start, b] = True
            weights[start : end - 1, b] = 1
            start = end
    return Streams(frames[:-1], frames[1:], anew, weights)


def windows(streams, window):
    """Streams of `window` steps each, in order."""
    for start in range(0, len(streams.frames), window):
        yield Streams(*(x[start : start + window] for x in streams))


def by_length(tunes):
    """The longest first, so that the streams end at about the same step."""
    return sorted(tunes, key=len, reverse=True)


def endless(tunes, rng, B, window):
    """Windows without end: all tunes in each epoch, shuffled; the weights' mean is 1, so that a
    loss is a mean over the frames that count. Where the streams end, what is left is passed over:
    an update from a few frames would be as large as one from all."""
    while True:
        shuffled = [tunes[n] for n in rng.permutation(len(tunes))]
        every = list(windows(pack(shuffled, B, window), window))
        shares = [now.weights.mean(dtype=np.float64) for now in every]
        for now, share in zip(every, shares, strict=True):
            if share >= max(shares) / 2:
                yield now._replace(weights=(now.weights / share).astype(np.float32))


def rates_of(tunes):
    """How often each pitch sounds, (88,), with one frame that has it and one that has not."""
    frames = sum(map(len, tunes))
    return ((sum(t.sum(0, dtype=np.int64) for t in tunes) + 1) / (frames + 2)).astype(np.float32)


def floor_of(training, test):
    """Nats per frame of the test part where each pitch has its rate of the training part."""
    p = rates_of(training).astype(np.float64)
    frames = np.concatenate([tune[1:] for tune in test])
    return float(-(frames * np.log(p) + (1 - frames) * np.log1p(-p)).sum(1).mean())
