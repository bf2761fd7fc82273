"""What is done to a finished gradient: the wrong sign, a mean for a sum, clipping.

A gradient here is {leaf: (settings, ...)}. Some changes have a number that nobody knows, the
threshold of clipping; it is fitted to the gradient that is to be explained.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from jax_lstm.doors import check_size, check_texts, refuse

Change: TypeAlias = tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]  # what it says, and does


def scalings(sizes: Mapping[str, int], weights: Sequence[str]) -> dict[str, Change]:
    """{name: (sentence, change)}: everything times a number, or the weights' leaves alone.

    Args:
      sizes: {"time": T, "batch": B, "features": H}, over which one may take a mean.
      weights: the leaves that belong to weights.
    """
    whole = isinstance(sizes, Mapping) and all(isinstance(k, str) for k in sizes)
    if not whole or not {"time", "batch"} <= set(sizes):
        refuse("sizes", 'a dict of sizes, {"time": T, "batch": B, ...}', sizes)
    for n in sizes.values():
        check_size("sizes", n, 0)
    check_texts("weights", weights, "the names of the weights' leaves, a tuple of texts")
    table = {"sign": ("the sign", times(-1.0, None))}
    several = itertools.chain(*(itertools.combinations(sizes, r) for r in (1, 2, 3)))
    for axes in several:
        n, over = float(np.prod([sizes[k] for k in axes])), " and ".join(axes)
        if n > 1:
            table[f"mean over {over}"] = (f"the mean over {over}, not the sum", times(1 / n, None))
    for over, n in sizes.items():
        if n > 1:
            table[f"sum over {over}"] = (f"the sum over {over}, not the mean", times(n, None))
    table["no half"] = ("twice the loss (the ½ of the squared error left out)", times(2.0, None))
    table["half"] = ("half the loss (the ½ of the squared error where none is)", times(0.5, None))
    for over in ("time", "batch"):
        if sizes[over] > 1:
            says = f"the weights' gradients averaged over {over}, not summed"
            table[f"weights averaged over {over}"] = says, times(1 / sizes[over], weights)
    return table


def times(factor, leaves):
    return functools.partial(scale, factor=factor, leaves=leaves)


def scale(gradient, factor, leaves=None):
    """A factor (settings,) or a number, on the named leaves or on all."""

    def by(x):
        return x * np.reshape(factor, (-1, *(1,) * (x.ndim - 1)))

    return {k: by(x) if leaves is None or k in leaves else x for k, x in gradient.items()}


FITTED = {  # how many numbers each fits; leaf by leaf it is one each, whatever was done to them
    "clip by value": 1,
    "clip weights by value": 1,
    "clip by norm": 1,
    "clip weights by norm": 1,
    "clip each by norm": 2,
}


def clippings(weights):
    """{name: (sentence with a {}, fit)}; `fit(gradient, given) -> gradient, number`."""
    only = "of the weights' gradients alone"
    return {
        "clip by value": ("clipping by value at {}", functools.partial(clip, leaves=None)),
        "clip weights by value": (
            f"clipping by value at {{}} {only}",
            functools.partial(clip, leaves=weights),
        ),
        "clip by norm": ("clipping by norm, to {} of it", functools.partial(shrink, leaves=None)),
        "clip weights by norm": (
            f"clipping by norm, to {{}} of it, {only}",
            functools.partial(shrink, leaves=weights),
        ),
        "clip each by norm": (
            "clipping by norm, leaf by leaf, the smallest to {} of it",
            shrink_each,
        ),
    }


def clip(gradient, given, leaves):
    """The threshold is the largest number of what is given."""
    mine = among(given, leaves)
    top = max((np.abs(g.values[g.known]).max(initial=0) for g in mine), default=0.0)
    n = len(next(iter(gradient.values())))
    largest = np.zeros(n)
    for g in mine:
        largest = np.maximum(largest, np.abs(gradient[g.leaf][:, g.known]).max(1, initial=0))
    clipped = {
        k: np.clip(x, -top, top) if leaves is None or k in leaves else x
        for k, x in gradient.items()
    }
    return clipped, np.where(largest > top * (1 + 1e-6), top, np.nan)


def shrink(gradient, given, leaves):
    """The factor is that of least squares, and less than 1."""
    factor = fit_factor(gradient, among(given, leaves))
    return scale(gradient, factor, leaves), factor


def shrink_each(gradient, given):
    factors, least = {}, np.full(len(next(iter(gradient.values()))), np.inf)
    for leaf in dict.fromkeys(g.leaf for g in given):
        factor = fit_factor(gradient, [g for g in given if g.leaf == leaf], top=1 + 1e-6)
        factors[leaf], least = factor, np.minimum(least, factor)
    least = np.where(least < 1 - 1e-6, least, np.nan)
    return {k: scale({k: x}, factors.get(k, 1.0))[k] for k, x in gradient.items()}, least


def fit_factor(gradient, given, top=1 - 1e-6):
    """‖given‖ / ‖gradient‖ per setting; NaN where it is no shrinking."""
    dot, square = 0.0, 0.0
    for g in given:
        x = gradient[g.leaf][:, g.known]
        dot, square = dot + x @ g.values[g.known], square + (x * x).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.asarray(dot / square)
    return np.where((factor > 0) & (factor < top), factor, np.nan)


def among(given, leaves):
    return [g for g in given if leaves is None or g.leaf in leaves]
