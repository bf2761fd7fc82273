"""Where a gradient agrees with another, to rounding: array by array, step by step, block by block.

Many candidates are judged at once: they stand on the first axis of each leaf.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

NOISE = 8.0  # times the rounding error that the truth itself makes,
EPS = 64.0  # and so many eps
ALONE = 1e-6  # of an error: what is left of it where one block made it


class Given(NamedTuple):
    """An array of the gradient on trial.

    name: as its owner calls it. leaf: whose place in a gradient of the table it has. values:
    float64. known: booleans, False where nothing is known. unit: the rounding of printed digits.
    part: whole numbers, which of its owner's arrays each number is from; None: all from one.
    """

    name: str
    leaf: str
    values: Any
    known: Any
    unit: float = 0.0
    part: Any = None


class Distances(NamedTuple):
    """What is given beside candidates: max_abs and relative (candidates,), the rest per leaf.

    error: norms of the differences, (leaves, candidates). scale: what one eps allows of them.
    printed: what printed digits allow, (leaves, 1).
    """

    max_abs: Any
    relative: Any
    error: Any
    scale: Any
    printed: Any

    def agrees(self, eps: float) -> Any:
        """(leaves, candidates) booleans."""
        return self.error <= eps * self.scale + self.printed


def distances(
    given: Sequence[Given], noise: Mapping[str, float], gradient: Mapping[str, Any]
) -> Distances:
    """The distance of what is given from every candidate of `gradient`, {leaf: (candidates, ...)}.

    noise: {leaf: norm of the truth's own rounding error, for an eps of 1}.
    """
    parts = [leaf_distances(g, noise[g.leaf], gradient[g.leaf]) for g in given]
    max_abs, relative, error, scale = (np.stack(x) for x in zip(*parts, strict=True))
    far = np.sqrt(np.mean(np.square(relative), axis=0))
    printed = np.array([[g.unit * np.sqrt(g.known.sum())] for g in given])
    relative = np.where(np.isfinite(far), far, np.inf)
    return Distances(max_abs.max(0), relative, error, scale, printed)


def leaf_distances(g, noise, every):
    """Per candidate: largest error, relative error, the error's norm, what one eps allows."""
    flat, known = every.reshape(len(every), -1), g.known.reshape(-1)
    got, want = g.values.reshape(-1), flat
    if not known.all():
        got, want = got[known], flat[:, known]
    with np.errstate(invalid="ignore", over="ignore"):
        error = want - got
        norm, size, whole = (np.linalg.norm(x, axis=1) for x in (error, want, flat))
        both = np.sqrt(size**2 + np.linalg.norm(got) ** 2)
        relative = np.where(both == 0, 0.0, norm / np.where(both == 0, 1, both))
    return np.abs(error).max(1, initial=0), relative, norm, NOISE * noise + EPS * whole


# Places ---------------------------------------------------------------------------------------


class Places(NamedTuple):
    """What is needed to say where a gradient leaves the truth.

    steps, blocks, through: as in the Table. wrong(g, index): whether this part of it disagrees.
    """

    steps: list[Given]
    weights: list[Given]
    blocks: dict[str, tuple[str, ...]]
    through: dict[str, dict[str, Any]]
    right: dict[str, Any]
    wrong: Callable[..., bool]

    def wrong_blocks(self, g, index=(...,)):
        names = self.blocks[g.leaf]
        size = g.values.shape[-1] // len(names)
        spans = [slice(n * size, (n + 1) * size) for n in range(len(names))]
        return [k for k, s in zip(names, spans, strict=True) if self.wrong(g, (*index, s))]


def first_disagreement(given, table, right, eps):
    """Where the truth is left first, in backward order: time step, then array, then block."""

    def wrong(g, index=(...,)):
        part = np.zeros(g.known.shape, bool)
        part[index] = g.known[index]
        found = distances([g._replace(known=part)], table.noise, right)
        return bool(part.any()) and not found.agrees(eps)[0, 0]

    steps = [g for leaf in table.steps for g in given if g.leaf == leaf]
    weights = [g for g in given if g.leaf in table.blocks and g not in steps]
    places = Places(steps, weights, table.blocks, table.through, right, wrong)
    for t in reversed(range(max((len(g.values) for g in steps), default=0))):
        for g in steps:
            if wrong(g, (t, ...)):
                return step_place(places, g, t)
    bad = [g for g in given if g not in steps and wrong(g)]
    agree = f"; {' and '.join(g.name for g in steps)} right at every step" if steps else ""
    for g in bad:
        if g.leaf in table.blocks:
            found = places.wrong_blocks(g)
            every = 1 < len(table.blocks[g.leaf]) == len(found)
            return (
                f"in {g.name}, {'the blocks of every gate' if every else ', '.join(found)}{agree}"
            )
    return f"in {', '.join(g.name for g in bad)}{agree}" if bad else "nowhere"


def step_place(places, g, t):
    """A step's array, and the blocks of it that are wrong, or that alone could have made it so.

    What goes through a matrix hides its blocks: only one that no other could replace is named.
    Blocks that the weights' gradients show to be right are out of the question.
    """
    if g.leaf in places.blocks:
        found = places.wrong_blocks(g, (t, ...))
        every = 1 < len(places.blocks[g.leaf]) == len(found)
        return f"at t={t}, {'every gate' if every else ', '.join(found)}, in {g.name}"
    through = places.through.get(g.leaf, {})
    error, whole = (g.values - places.right[g.leaf][0])[t], g.known[t].all()
    possible = [k for k, matrix in through.items() if not whole or reaches(matrix, error)]
    if through and places.weights:
        wrong = {k for w in places.weights for k in places.wrong_blocks(w)}
        if not wrong:
            names = ", ".join(w.name for w in places.weights)
            return f"at t={t}, in {g.name}; {names} right: look at {g.name} itself"
        possible = [k for k in possible if k in wrong]
    if len(possible) == 1:
        return f"at t={t}, {possible[0]}, in {g.name}"
    if 1 < len(possible) < len(through):
        return f"at t={t}, in {g.name}: one of {', '.join(possible)}, or several of them"
    unknown = ", which cannot tell one gate from another" if possible else ""
    return f"at t={t}, in {g.name}{unknown}"


def reaches(matrix, error):
    """Whether an error of one block, through its matrix, could be this one."""
    fit, *_ = np.linalg.lstsq(matrix.T, error.T)
    left = np.linalg.norm(matrix.T @ fit - error.T)
    return left < ALONE * np.linalg.norm(error)


def multiples(given, table, right, eps):
    """[(name, factor)] of arrays that are wrong, but right up to a factor; else of their blocks."""
    found = []
    for g in given:
        parts = [[g], in_blocks(g, table.blocks.get(g.leaf, ()))]
        every = ([multiple_of(x, table.noise, right, eps) for x in part] for part in parts)
        found += next((x for x in every if any(factor for _, factor in x)), [])
    return [(name, factor) for name, factor in found if factor]


def multiple_of(g, noise, right, eps):
    """(name, factor); 0 where there is none."""
    want = right[g.leaf][0][g.known]
    square = np.vdot(want, want)
    factor = float(np.vdot(want, g.values[g.known]) / square) if square > 0 else 0.0
    if np.count_nonzero(want) < 2 or factor in (0.0, 1.0) or not np.isfinite(factor):
        return g.name, 0.0
    as_it_is, scaled = (
        distances([g], noise, {g.leaf: right[g.leaf] * f}).agrees(eps)[0, 0] for f in (1.0, factor)
    )
    return g.name, factor if scaled and not as_it_is else 0.0


def in_blocks(g, names):
    """What is known of each block by itself."""
    where = np.repeat(np.arange(len(names)), g.values.shape[-1] // max(len(names), 1))
    return [
        g._replace(name=f"{g.name}, {name},", known=g.known & (where == n))
        for n, name in enumerate(names)
    ]
