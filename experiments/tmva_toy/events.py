"""The toy of TMVA's tutorial: ten histograms an event, whose centre and width move along a sine in
one class and along a cosine in the other.

    n_j ~ multinomial(1000, shares of the bins under N(m_j, s_j) on [0, 10])
    x_j = n_j + N(0, 10) in each bin
    background: m_j = 5 + .2 sin(πj/T), s_j = 4 + .3 sin(πj/T);    signal: cos in place of sin

A histogram of 1000 draws is one draw of a multinomial. All of the 1000 fall into [0, 10], as those
of ROOT's FillRandom do. Source: tutorials/tmva/TMVA_RNN_Classification.C of root-project/root,
MakeTimeData (L. Moneta).
"""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

T, BINS, DRAWS, NOISE = 10, 30, 1000, 10.0


class Part(NamedTuple):
    """xs (T, N, BINS) float32, and which events are signal, (N, 1) float32."""

    xs: np.ndarray
    targets: np.ndarray


def shares(wave):
    """Of a class's draws that fall into each bin, (T, BINS): wave is np.sin or np.cos."""
    angle = np.pi * np.arange(T) / T
    mean, sigma = 5 + 0.2 * wave(angle), 4 + 0.3 * wave(angle)
    below = ndtr((np.linspace(0, 10, BINS + 1) - mean[:, None]) / sigma[:, None])
    inside = np.diff(below, axis=1)
    return inside / inside.sum(1, keepdims=True)


def draw(rng, events, wave):
    """xs (T, events, BINS) of one class."""
    counts = np.stack([rng.multinomial(DRAWS, p, events) for p in shares(wave)])
    return (counts + NOISE * rng.normal(size=counts.shape)).astype(np.float32)


def parts(seed, events):
    """{"training", "validation", "test": Part}: 64, 16 and 20 of 100 events of each class.

    The source splits 80 and 20, and holds 20 of 100 of the former back for validation.
    """
    rng = np.random.default_rng(seed)
    classes = [draw(rng, events, wave) for wave in (np.sin, np.cos)]
    held_out = [round(events * share) for share in (0.64, 0.8)]
    pieces = [np.split(xs, held_out, axis=1) for xs in classes]
    found = {}
    for name, *both in zip(("training", "validation", "test"), *pieces, strict=True):
        targets = np.repeat([0, 1], [xs.shape[1] for xs in both]).astype(np.float32)
        order = rng.permutation(len(targets))
        xs = np.concatenate(both, axis=1)
        found[name] = Part(xs[:, order], targets[order, None])
    return found


def standardised(found):
    """Every bin with mean 0 and variance 1 over the training part."""
    xs = found["training"].xs
    mean, deviation = xs.mean(1, keepdims=True), xs.std(1, keepdims=True)
    return {name: p._replace(xs=(p.xs - mean) / deviation) for name, p in found.items()}


def log_likelihood_ratio(xs):
    """Of signal to background, (N,), by one who knows how events are made.

    A step's counts and noise are taken for one Gaussian, with the multinomial's covariance between
    bins; but for that no score separates the classes better.
    """
    ratio = np.zeros(xs.shape[1])
    for sign, wave in ((-1, np.sin), (1, np.cos)):
        for x, p in zip(xs.astype(np.float64), shares(wave), strict=True):
            covariance = NOISE**2 * np.eye(BINS) + DRAWS * (np.diag(p) - np.outer(p, p))
            away = x - DRAWS * p
            distance = (away * np.linalg.solve(covariance, away.T).T).sum(1)
            ratio -= sign * 0.5 * (distance + np.linalg.slogdet(covariance)[1])
    return ratio
