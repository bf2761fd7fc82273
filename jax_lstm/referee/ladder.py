"""Derivatives by values alone, where nobody knows how exact the values are.

At every step s of a ladder, s = 1/4, 1/16, ... times the size of the input, seven values

    φ(x - 3 s v), ..., φ(x + 3 s v)

give the derivative along v by the stencils of fourth and of sixth order, whose distance is the
error of cutting the series, and the fifth and sixth differences, which are rounding where they no
longer shrink as s⁵ does. The step whose two errors together are least is chosen, number by number.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

RUNGS, QUARTER = 8, 0.25
REACH = 3  # values on either side
FOURTH = np.array([0, 1, -8, 0, 8, -1, 0]) / 12.0
SIXTH = np.array([-1, 9, -45, 0, 45, -9, 1]) / 60.0
ROUGH = (  # the sixth difference and the fifth: of noise alone, as large as it is
    np.array([1, -6, 15, -20, 15, -6, 1]) / np.sqrt(924.0),
    np.array([-1, 4, -5, 0, 5, -4, 1]) / np.sqrt(84.0),
)
GAIN = 1.1  # of noise, by SIXTH
STILL = 2.5  # a high difference that shrinks by less from rung to rung is noise,
SMOOTH = 30.0  # and one that shrinks by more is none
EPS = 2.0**-52
SHALLOWEST = 0.45  # power of eps: shorter steps see rounding alone
NOTHING, LEAST_SIZE = 1e-5, 0.03  # of an input that is nearly zero, for its steps


def rungs(eps):
    """Steps, the longest first, none so short that the values' eps hides what they do."""
    steps = QUARTER ** np.arange(1, RUNGS + 1)
    return steps[: max(2, int((steps >= eps**SHALLOWEST).sum()))]


def offsets(steps):
    """All that an input is moved by: (steps, 7), flat."""
    return (steps[:, None] * np.arange(-REACH, REACH + 1)).reshape(-1)


def derivatives(values: Any, steps: Any, eps: float) -> tuple[Any, Any]:
    """Derivatives along directions, and how far off they may be.

    Args:
      values: (directions, steps, 7, k), k numbers at every point.
      steps: as `rungs` has them.
      eps: relative rounding of the values, at least.

    Returns:
      derivative, error: (directions, k) each; the error is infinite where no step has values.
    """
    with np.errstate(all="ignore"):
        by = [np.einsum("nspk,p->nsk", values, w) for w in (FOURTH, SIXTH, *ROUGH)]
        size = np.abs(values).max(2)
        noise = np.maximum(noise_floor(np.maximum(*np.abs(by[2:])), size), eps * size)
        s = steps[None, :, None]
        error = np.abs(by[1] - by[0]) / s + GAIN * noise / s
        found = by[1] / s
        error = np.fmax(np.fmax(error, beside(found)), contradicted(found, error))
        error = np.where(np.isfinite(found) & np.isfinite(error), error, np.inf)
    best = error.argmin(1)[:, None]
    pick = lambda x: np.take_along_axis(x, best, 1)[:, 0]
    return np.where(np.isfinite(pick(error)), pick(found), 0.0), pick(error)


def beside(found):
    """How far each rung's derivative is from the nearer one of the rungs next to it."""
    gaps = np.abs(np.diff(found, axis=1))
    return np.fmin(np.concatenate([gaps[:, :1], gaps], 1), np.concatenate([gaps, gaps[:, -1:]], 1))


def contradicted(found, error):
    """How far each rung's derivative is outside of what any shorter step allows."""
    worst = np.zeros_like(found)
    for n in range(1, found.shape[1]):
        off = np.abs(found[:, :n] - found[:, n : n + 1]) - 3 * error[:, n : n + 1]
        worst[:, :n] = np.fmax(worst[:, :n], off)
    return worst


def noise_floor(rough, size):
    """Noise per step, of high differences (directions, steps, k).

    What stays when s shrinks is noise for all shorter steps too: values that a coarse rounding
    makes equal show none. Where it then shrinks as s⁵ does, it was a wave that long steps jump.
    """
    own, floor = np.where(np.isfinite(rough), rough, 0.0), np.zeros_like(rough[:, 0])
    own = np.fmax(own, np.median(own, axis=0, keepdims=True))
    noise = own.copy()
    for n in range(1, rough.shape[1]):
        before, here = own[:, n - 1], own[:, n]
        floor = np.where(here * STILL > before, np.fmax(floor, here), floor)
        smooth = (here * SMOOTH < before) & (here > 16 * EPS * size[:, n])
        floor = np.where(smooth, 0.0, floor)
        noise[:, n] = np.fmax(here, floor)
    return np.where(np.isfinite(rough), noise, np.inf)


def directions_of(leaves, most, rng):
    """Directions in which the inputs are moved, and the leaf of each.

    One per element where all leaves together have at most so many; else a share of random ones per
    leaf. Each is as long as what it moves is large.

    Returns:
      V: (directions, all elements). whose: (directions,). single: whether each moves one element.
    """
    sizes = [x.size for x in leaves]
    total, rows, whose = sum(sizes), [], []
    single = total <= most
    for n, x in enumerate(leaves):
        flat = np.abs(np.asarray(x, np.float64).reshape(-1))
        usual = float(np.sqrt(np.mean(flat**2))) if x.size else 0.0
        scale = np.maximum(flat, 0.1 * usual if usual > NOTHING else LEAST_SIZE)
        if single:
            part = np.diag(scale)
        else:
            share = max(4, most // (8 * len(leaves)))
            part = rng.standard_normal((share, x.size)) * scale / np.sqrt(max(x.size, 1))
        before, after = sum(sizes[:n]), sum(sizes[n + 1 :])
        rows.append(np.pad(part, ((0, 0), (before, after))))
        whose += [n] * len(part)
    return np.concatenate(rows), np.array(whose), single


def moved(leaves, point):
    """The leaves with what a flat vector adds to them, each in its dtype."""
    borders = np.cumsum([x.size for x in leaves])[:-1]
    parts = [p.reshape(x.shape) for p, x in zip(jnp.split(point, borders), leaves, strict=True)]
    if jnp.issubdtype(point.dtype, jnp.complexfloating):
        return [jnp.asarray(x).astype(point.dtype) + p for p, x in zip(parts, leaves, strict=True)]
    return [x + p.astype(x.dtype) for p, x in zip(parts, leaves, strict=True)]


def along_all(phi, leaves, V, shifts):
    """φ(leaves + s v) for every direction and shift: (directions, shifts, k), as one program."""

    def at(v):
        return jax.lax.map(lambda s: phi(moved(leaves, s * v)), shifts)

    return jax.lax.map(at, V)
