"""Text as streams of symbols: where it comes from, and how it is cut."""

import functools
import hashlib
import os
import platform
import sysconfig
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.kit.config import BadInput
from jax_lstm.doors import check_range
from jax_lstm.files import disk

# Not part of every installation, and not written by hand for it
NOT_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}


class Text(NamedTuple):
    """The characters, and where they come from."""

    characters: str
    about: dict


def make_text(characters, **source):
    sha256 = hashlib.sha256(characters.encode()).hexdigest()
    return Text(characters, {**source, "characters": len(characters), "sha256": sha256})


def from_file(path, option="--text"):
    """A UTF-8 file as it is; `option` is the one to blame."""
    try:
        data = disk.read(path)
    except OSError as error:
        raise BadInput(option, f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # a device has no end
        raise BadInput(option, str(error)) from None
    if not data:
        raise BadInput(option, f"{path} is empty")
    try:
        return make_text(data.decode("utf-8"), file=str(path))
    except UnicodeDecodeError as error:
        raise BadInput(option, f"{path} is not UTF-8: {error}") from None


def from_standard_library(megabytes):
    """The source files of the running Python's standard library, sorted by name, joined, cut.

    Tests and installed packages are left out. So are files that are not UTF-8, which are counted.
    """
    root = Path(sysconfig.get_path("stdlib"))
    wanted, pieces, files, skipped = round(megabytes * 1e6), [], [], []
    for name in sorted(python_files(root)):
        try:
            pieces.append((root / name).read_bytes().decode("utf-8"))
            files.append(name)
        except (OSError, UnicodeDecodeError):
            skipped.append(name)
        if sum(map(len, pieces)) >= wanted:
            break
    if not any(pieces):
        raise BadInput(
            "--text", f"this Python keeps no sources of its library in {root}; name a text file"
        )
    python = f"standard library of Python {platform.python_version()}"
    return make_text("".join(pieces)[:wanted], source=python, files=len(files), skipped=skipped)


def python_files(root):
    """Names below root, with slashes on every system."""
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if name not in NOT_LIBRARY]
        here = Path(folder).relative_to(root)
        yield from ((here / name).as_posix() for name in names if name.endswith(".py"))


def tokens_of(characters, vocabulary):
    """Each character's place in the sorted vocabulary, int32."""
    points = np.frombuffer(characters.encode("utf-32-le"), np.uint32)
    known = np.frombuffer("".join(vocabulary).encode("utf-32-le"), np.uint32)
    tokens = np.searchsorted(known, points).astype(np.int32)
    for place in np.flatnonzero(known[np.minimum(tokens, len(known) - 1)] != points)[:1]:
        raise ValueError(f"{characters[place]!r} is not in the vocabulary")
    return tokens


def streams(tokens, B, V):
    """B contiguous streams, (N, B): stream b is the b-th piece of the text. The rest is dropped."""
    check_range("tokens", tokens, V - 1, f"[0, V = {V})")
    N = len(tokens) // B
    return tokens[: N * B].reshape(B, N).T


def windows(streams, T, start=0):
    """(tokens, targets), (T, B) each, in order along the streams; the last may be shorter."""
    for t in range(start, len(streams) - 1, T):
        targets = streams[t + 1 : t + 1 + T]
        yield streams[t : t + len(targets)], targets


def whole_windows(streams, T, start=0):
    """The windows of T steps."""
    return ((x, y) for x, y in windows(streams, T, start) if len(x) == T)


def epochs(streams, T, seed, restart=0.0, cut=None):
    """Windows without end: (anew, *window), anew (B,) where a stream starts anew.

    `cut(start)` are the windows of an epoch, say of `windows.cutter`; None: the full ones of T
    steps, (tokens, targets).

    An epoch starts at a random offset below T, so that the borders between windows, where the
    gradient is cut, fall elsewhere each time. All streams start there. If that were all, the model
    would see a start so rarely that it may never recover from one, so a stream also starts anew at
    any other window with the probability `restart`.
    """
    rng, cut = np.random.default_rng(seed), cut or functools.partial(whole_windows, streams, T)
    N, B = streams.shape
    while True:
        anew = np.ones(B, bool)
        for window in cut(int(rng.integers(min(T, N - T)))):
            yield anew, *window
            anew = rng.random(B) < restart
