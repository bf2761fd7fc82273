"""The data: scikit-learn's 1797 digits of 8 x 8 pixels, one pixel a step."""

import hashlib

import numpy as np

from experiments.kit import evidence
from experiments.kit.classifier import padded

SIDE, LEVELS = 8, 16  # pixels a side; the brightest is 16
ORDERS = ("rows", "permuted")
TEST_PART = 5  # every so many-th image of a shuffled class is one to test on
OF_THE_PARTS, OF_THE_ORDER = 20261128, 1  # seeds that never change: the protocol's


def read():
    """(pixels (N, 64) in [0, 1] float32, classes (N,), what is to be said of them).

    Raises:
      Failed: the package is not installed.
    """
    found = evidence.needed("sklearn.datasets", "scikit-learn").load_digits()
    pixels = (found.data / LEVELS).astype(np.float32)
    about = {"sha256": hashlib.sha256(pixels.tobytes()).hexdigest(), "images": len(pixels)}
    return pixels, found.target.astype(np.int32), about


def parts_of(classes):
    """{"training": indices, "test": indices}, a fifth of each class to test on: always the same."""
    rng = np.random.default_rng(OF_THE_PARTS)
    test = [rng.permutation(np.flatnonzero(classes == v))[::TEST_PART] for v in np.unique(classes)]
    test = np.sort(np.concatenate(test))
    return {"training": np.setdiff1d(np.arange(len(classes)), test), "test": test}


def order_of(name):
    """The pixel that is read at each step: row by row, or one fixed permutation of that."""
    rows = np.arange(SIDE * SIDE)
    return rows if name == "rows" else np.random.default_rng(OF_THE_ORDER).permutation(rows)


def sequences_of(pixels, classes, order):
    """Sequences of 64 steps of one pixel."""
    return padded(list(pixels[:, order, None]), classes)


def shifted(images, by):
    """Each image (B, 8, 8) by its own (B, 2) pixels down and to the right; zeros come in."""
    reach = int(np.abs(by).max(initial=0))
    wide = np.pad(images, ((0, 0), (reach, reach), (reach, reach)))
    rows = np.arange(SIDE) + reach - by[:, :1]
    columns = np.arange(SIDE) + reach - by[:, 1:]
    return wide[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]


def make_augment(order, shift):
    """(rng, xs (64, B, 1)) -> the same images, each shifted by up to `shift` pixels a side."""
    back = np.argsort(order)

    def augment(rng, xs):
        images = xs[back, :, 0].T.reshape(-1, SIDE, SIDE)
        by = rng.integers(-shift, shift, (len(images), 2), endpoint=True)
        return shifted(images, by).reshape(len(images), -1).T[order, :, None]

    return augment if shift else None
