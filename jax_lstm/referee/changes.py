"""What is done to a finished gradient: the wrong sign, a mean for a sum, clipping.

A gradient here is {leaf: (settings, ...)}. Some changes have a number that nobody knows, the
threshold of clipping; it is fitted to the gradient that is to be explained. One number must account
for two facts or more, or anything could be explained: the same factor of two leaves, the same
threshold of two clipped leaves or numbers. A leaf that repeats another is no fact of its own.
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
    several = [x for r in (1, 2, 3) for x in itertools.combinations(sizes, r)]
    for axes in several:
        n, over = float(np.prod([sizes[k] for k in axes])), " and ".join(axes)
        if n > 1:
            table[f"mean over {over}"] = (f"the mean over {over}, not the sum", times(1 / n, None))
    for axes in several:
        n, over = float(np.prod([sizes[k] for k in axes])), " and ".join(axes)
        if n > 1:
            table[f"sum over {over}"] = (f"the sum over {over}, not the mean", times(n, None))
    table["no half"] = ("twice the loss (the ½ of the squared error left out)", times(2.0, None))
    table["half"] = ("half the loss (the ½ of the squared error where none is)", times(0.5, None))
    table["weights sign"] = "the sign of the weights' gradients", times(-1.0, weights)
    for over, n in means(sizes):
        says = f"the weights' gradients averaged over {over}, not summed"
        table[f"weights averaged over {over}"] = says, times(1 / n, weights)
    return table


def means(sizes):
    """[("time and batch", how many)]: what a gradient of weights is a sum over."""
    over = [("time",), ("batch",), ("time", "batch")]
    found = [(" and ".join(axes), float(np.prod([sizes[k] for k in axes]))) for axes in over]
    both = min(sizes["time"], sizes["batch"]) > 1
    return [(text, n) for text, n in found if n > 1 and ("and" not in text or both)]


def leaf_means(leaf, sizes):
    """{name: (sentence, change)}: one leaf averaged where it is a sum, or the other way."""
    table = {}
    for over, n in sizes:
        says = f"the mean over {over}, not the sum, in {leaf} alone"
        table[f"{leaf} averaged over {over}"] = says, times(1 / n, (leaf,))
        says = f"the sum over {over}, not the mean, in {leaf} alone"
        table[f"{leaf} summed over {over}"] = says, times(n, (leaf,))
    return table


def times(factor, leaves):
    return functools.partial(scale, factor=factor, leaves=leaves)


def scale(gradient, factor, leaves=None):
    """A factor (settings,) or a number, on the named leaves or on all."""

    def by(x):
        return x * np.reshape(factor, (-1, *(1,) * (x.ndim - 1)))

    return {k: by(x) if leaves is None or k in leaves else x for k, x in gradient.items()}


FITTED = dict.fromkeys(  # how many numbers each fits
    (
        "clip by value",
        "clip weights by value",
        "clip by norm",
        "clip weights by norm",
        "clip each by norm",
        "clip each weight by norm",
        "update",
        "weights update",
        "weight decay",
        "weight decay but of biases",
    ),
    1,
)
MANY = 12  # numbers that one factor accounts for
SHRUNK = 1 - 1e-6  # what is nearer to 1 is no shrinking


def clippings(weights):
    """{name: (sentence with a {}, fit)}; `fit(gradient, given) -> gradient, number`, a number per
    setting, NaN where it does not account for more facts than itself."""
    return {
        "clip by value": ("clipping by value at {}", functools.partial(clip, leaves=None)),
        "clip weights by value": (
            "clipping by value at {} of the weights' gradients alone",
            functools.partial(clip, leaves=weights),
        ),
        "clip by norm": (
            "all of it times {} (by norm clipped, or a factor on the loss)",
            functools.partial(shrink, leaves=None),
        ),
        "clip weights by norm": (
            "the weights' gradients times {} (by norm clipped, or scaled)",
            functools.partial(shrink, leaves=weights),
        ),
        "clip each by norm": (
            "clipping by norm at {}, leaf by leaf",
            functools.partial(shrink_each, leaves=None),
        ),
        "clip each weight by norm": (
            "clipping by norm at {} of the weights' gradients alone, leaf by leaf",
            functools.partial(shrink_each, leaves=weights),
        ),
        "update": (
            "all of it times {} (an update: minus the learning rate)",
            functools.partial(shrink, leaves=None, sign=-1),
        ),
        "weights update": (
            "the weights' gradients times {} (an update: minus the learning rate)",
            functools.partial(shrink, leaves=weights, sign=-1),
        ),
    }


def decays(weights):
    """Likewise, of weight decay. weights: {leaf: value of the weight}."""
    matrices = {k: w for k, w in weights.items() if np.ndim(w) > 1}
    return {
        "weight decay": (
            "{} w added to every weight's gradient",
            functools.partial(decay, of=weights),
        ),
        "weight decay but of biases": (
            "{} w added to every matrix's gradient, and to no bias's",
            functools.partial(decay, of=matrices),
        ),
    }


def decay(gradient, given, of):
    """The factor is that of least squares; two leaves or more, or MANY numbers, have it."""
    n = len(next(iter(gradient.values())))
    mine = [g for g in among(given, of, gradient) if g.leaf in of]
    dot, square, numbers = np.zeros(n), 0.0, 0
    for g in mine:
        w = of[g.leaf][g.known]
        dot = dot + (g.values[g.known] - gradient[g.leaf][:, g.known]) @ w
        square, numbers = square + w @ w, numbers + np.count_nonzero(w)
    enough = square > 0 and numbers >= MANY
    factor = dot / square if enough else np.full(n, np.nan)
    add = lambda x, w: x + np.reshape(factor, (-1, *(1,) * w.ndim)) * w
    return {k: add(x, of[k]) if k in of else x for k, x in gradient.items()}, factor


def clip(gradient, given, leaves):
    """The threshold is the largest number of what is given; two numbers or more were beyond it."""
    mine = among(given, leaves, gradient)
    top = max((np.abs(g.values[g.known]).max(initial=0) for g in mine), default=0.0)
    clipped = {
        k: np.clip(x, -top, top) if leaves is None or k in leaves else x
        for k, x in gradient.items()
    }
    n = len(next(iter(gradient.values())))
    sizes = [np.abs(gradient[g.leaf][:, g.known]) for g in mine]
    sizes = np.concatenate([np.zeros((n, 1)), *sizes], axis=1)
    beyond = sizes > top / SHRUNK
    least = np.min(sizes, 1, where=beyond, initial=np.inf)
    several = least < SHRUNK * np.max(sizes, 1, where=beyond, initial=-np.inf)
    return clipped, np.where(several & (top > 0), top, np.nan)


def shrink(gradient, given, leaves, sign=1):
    """The factor is that of least squares, and not 1 or -1; two leaves or more have it."""
    mine = among(given, leaves, gradient)
    factor, square = fit_factor(gradient, mine)
    size = sign * factor
    scaled = (size > 0) & ((size < SHRUNK) | (size * SHRUNK > 1))
    factor = np.where(scaled & ((square > 0).sum(0) > 1), factor, np.nan)
    return scale(gradient, factor, leaves), factor


def shrink_each(gradient, given, leaves):
    """The threshold is the norm that two leaves or more were shrunk to; the others are below it.

    A leaf is what its owner has: where they have a matrix for each gate, that.
    """
    n, thresholds = len(next(iter(gradient.values()))), []
    for part in parts_of(among(given, leaves, gradient)).values():
        factor, _ = fit_factor(gradient, [g._replace(known=g.known & at) for g, at in part])
        shrunk = (factor > 0) & (factor < SHRUNK)
        thresholds.append(np.where(shrunk, factor * norm_of(gradient, part), 0.0))
    shrunk = np.count_nonzero(thresholds, axis=0)
    threshold = np.sum(thresholds, axis=0) / np.where(shrunk > 1, shrunk, np.nan)
    threshold, found = threshold * np.ones(n), {k: x.copy() for k, x in gradient.items()}
    for part in parts_of([g for g in given if leaves is None or g.leaf in leaves]).values():
        norm = norm_of(gradient, part)
        factor = np.minimum(1.0, threshold / np.where(norm > 0, norm, np.inf))
        factor = np.where(norm > 0, factor, 1.0)
        for g, at in part:
            found[g.leaf][:, at] *= factor[:, None]
    return found, threshold


def parts_of(given):
    """{part: [(what is given, booleans: where it is of that part)]}: their owner's arrays."""
    found: dict[Any, list[Any]] = {}
    for g in given:
        of = np.full(g.known.shape, -1) if g.part is None else g.part
        for k in np.unique(of):
            found.setdefault(g.leaf if k == -1 else int(k), []).append((g, of == k))
    return found


def norm_of(gradient, part):
    """Per setting."""
    return np.sqrt(sum(np.square(gradient[g.leaf][:, at]).sum(1) for g, at in part))


def fit_factor(gradient, given):
    """‖given‖ / ‖gradient‖ per setting, by least squares; and ‖gradient‖² per leaf and setting."""
    n = len(next(iter(gradient.values())))
    dot, square = np.zeros(n), np.zeros((len(given), n))
    for k, g in enumerate(given):
        x = gradient[g.leaf][:, g.known]
        dot, square[k] = dot + x @ g.values[g.known], (x * x).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return dot / square.sum(0), square


def among(given, leaves, gradient):
    """What belongs to these leaves, without those that repeat another."""
    found: list[Any] = []
    for g in given:
        new = not any(
            np.array_equal(gradient[g.leaf], gradient[f.leaf], equal_nan=True) for f in found
        )
        found += [g] if new and (leaves is None or g.leaf in leaves) else []
    return found
