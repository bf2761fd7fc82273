"""Which mistake was made: a gradient beside the truth, and beside each gradient of a table.

    truth, then every mistake alone, then every two of them;  the first that agrees to rounding
    names it. Several can agree (at T = 1 nothing is carried anyway): the answer is their set, the
    simplest first.

The table comes from outside; no cell is known here. Where nothing agrees, the answer is the nearest
gradient of the table and the first place, in backward order, that differs from the truth.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jax_lstm import printing
from jax_lstm.doors import check_dtype, check_flag, refuse
from jax_lstm.referee.changes import FITTED, clippings

NOISE = 8.0  # times the rounding error that the truth itself makes,
EPS = 64.0  # and so many eps
SHOWN = 3  # explanations of a sentence
LOST = 0.0099  # of the whole gradient: a table's noise ends at a hundredth
FEW = 512  # settings looked at together


class Given(NamedTuple):
    """An array of the gradient on trial.

    name: as its owner calls it. leaf: whose place in a gradient of the table it has. values:
    float64. known: booleans, False where nothing is known. unit: the rounding of printed digits.
    """

    name: str
    leaf: str
    values: Any
    known: Any
    unit: float = 0.0


class Table(NamedTuple):
    """The truth, and the mistakes known.

    inside: {name: sentence} of mistakes within the computation; gradients(settings), settings a
      list of tuples of names, gives {leaf: (settings, ...)}, () being the truth.
    after: {name: (sentence, change)} of changes to a finished gradient.
    clash(a, b): whether two mistakes within exclude each other.
    noise: {leaf: float}, norm of the truth's own rounding error, for an eps of 1.
    weights, steps: leaves of the weights; leaves with time on axis 0, in the order of the backward.
    blocks: {leaf: names along its last axis}.
    through: {leaf of steps: {block: matrix}}: an error of one block reaches the leaf by this.
    large: two mistakes at once would take long.
    """

    inside: dict[str, str]
    gradients: Callable[..., Any]
    after: dict[str, Any]
    clash: Callable[[str, str], bool]
    noise: dict[str, float]
    weights: tuple[str, ...]
    steps: tuple[str, ...]
    blocks: dict[str, tuple[str, ...]]
    through: dict[str, dict[str, Any]]
    large: bool = False


class Explanation(NamedTuple):
    """Names of mistakes, none for the truth, a sentence, and how far off it is.

    max_abs: the largest difference. relative: 0 where all agrees, near 1 where nothing does.
    fitted: how many numbers were fitted to the gradient; each counts like one more mistake.
    """

    names: tuple[str, ...]
    says: str
    max_abs: float
    relative: float
    fitted: int = 0

    def cost(self) -> int:
        return len(self.names) + self.fitted


class Diagnosis(NamedTuple):
    """What a gradient is. True only when it is right.

    explanations: all that agree to rounding, the simplest first; empty when nothing does.
    nearest: of the truth and the single mistakes without a number to fit.
    first: where the truth is left first, in backward order.
    leaves: (name, largest error, relative error, agrees) per array, beside the truth.
    rounding: the dtype to whose rounding was judged. dtype: that of the arrays. pairs: whether two
      mistakes at once were tried. lost: the dtype's rounding alone changes the truth so much that
      nothing can be said.
    """

    right: bool
    explanations: tuple[Explanation, ...]
    nearest: Explanation
    first: str
    leaves: tuple[tuple[str, float, float, bool], ...]
    rounding: str
    dtype: str
    pairs: bool
    lost: bool = False

    def __bool__(self) -> bool:
        return self.right

    def sentence(self) -> str:
        if self.explanations:
            best, *others = self.explanations
            fewest = [e for e in others if e.cost() == best.cost()]
            text = f"{best.says}: largest difference {best.max_abs:.0e}"
            if self.rounding != self.dtype:
                text += f", which is the rounding of {self.rounding}, not of {self.dtype}"
            if self.right:
                return f"right: {text}"
            for other in fewest[:SHOWN]:
                text += f"\nas well: {other.says}: largest difference {other.max_abs:.0e}"
            if len(fewest) > SHOWN:
                text += f"\nand {len(fewest) - SHOWN} more that cannot be told apart here"
            return text
        if self.lost:
            return (
                f"cannot be judged: the rounding of {self.rounding} alone changes this gradient by "
                "a hundredth or more; bring it in float64"
            )
        near = self.nearest.says.removeprefix("equals ")
        alone = "" if self.pairs else " (alone; two at once were not tried: ask for pairs)"
        return (
            f"no known mistake explains it{alone}; nearest is {near} "
            f"({self.nearest.relative:.2g} of it differs); first disagreement {self.first}"
        )

    __str__ = printing.page
    _repr_html_ = printing.html

    def tables(self) -> list[printing.Sheet]:
        """Each array beside the truth."""
        rows = tuple((*errors, "agrees" if ok else "differs") for *errors, ok in self.leaves)
        head = "array", "max abs", "relative", ""
        return [printing.Sheet(head, rows, form=".1e", rule=True)]

    def table(self) -> str:
        return str(self.tables()[0])

    def to_json(self, **facts: Any) -> str:
        names = "array", "max_abs", "relative", "agrees"
        found = {
            "right": self.right,
            "sentence": self.sentence(),
            "explanations": self.explanations,
            "nearest": self.nearest,
            "first_disagreement": self.first,
            "rounding": self.rounding,
            "dtype": self.dtype,
            "leaves": [dict(zip(names, x, strict=True)) for x in self.leaves],
            "facts": facts,
        }
        return printing.to_json(found)


@np.errstate(all="ignore")  # a mutant may overflow: what is not finite explains nothing
def diagnose(
    given: Sequence[Given], table: Table, *, dtype: str = "float64", pairs: bool | None = None
) -> Diagnosis:
    """Say what a gradient is: right, a known mistake, two of them, or unknown.

    Args:
      given: a list of Given.
      table: a Table.
      dtype: what the gradient was computed in; agreement is judged by its rounding. Where nothing
        agrees at float64, float32's is tried: arrays often pass through it on their way.
      pairs: whether two mistakes at once are tried. None: only where no single one explains, and
        the table is not large.

    Returns:
      Diagnosis.
    """
    if not isinstance(given, tuple | list) or not all(isinstance(g, Given) for g in given):
        refuse("given", "a list of jax_lstm.referee.Given", given)
    if not isinstance(table, Table):
        refuse("table", "a jax_lstm.referee.Table", table)
    check_dtype("dtype", dtype)
    check_flag("pairs", bool(pairs) if pairs is None else pairs)
    right = table.gradients([()])
    found, nearest, rounding = [], None, dtype
    for rounding in dict.fromkeys((dtype, "float32" if dtype == "float64" else dtype)):
        judge = judge_for(given, table.noise, eps_of(rounding))
        found, nearest = search(given, table, judge, right, pairs)
        if found:
            break
    assert nearest is not None  # the truth at least was tried
    tried = pairs is True or (pairs is None and not found and not table.large)
    correct, eps = bool(found) and found[0].names == (), eps_of(rounding)
    first = "" if correct else first_disagreement(given, table, right, eps)
    leaves = []
    for g in given:
        ok, max_abs, relative = (x[0] for x in judge_for([g], table.noise, eps)(right))
        leaves.append((g.name, float(max_abs), float(relative), bool(ok)))
    lost = not found and is_lost(table.noise, right, eps_of(dtype))
    leaves = tuple(leaves)
    return Diagnosis(correct, tuple(found), nearest, first, leaves, rounding, dtype, tried, lost)


def is_lost(noise, right, eps):
    whole = np.sqrt(sum(np.sum(right[leaf] ** 2) for leaf in noise if leaf in right))
    return bool(max(noise.values(), default=0.0) * eps >= LOST * whole)


def eps_of(dtype):
    return 2.0**-7 if dtype == "bfloat16" else float(np.finfo(dtype).eps)


def search(given, table, judge, right, pairs):
    """All explanations in the order of the candidates, and the nearest single mistake."""
    found, nearest, plain = [], None, set(table.inside) | set(table.after)
    for names, gradient, says in candidates(given, table, right):
        if not names:  # all single mistakes were tried
            exact = any(not e.fitted for e in found)
            if pairs is False or (pairs is None and (exact or table.large)):
                break
            continue
        ok, max_abs, relative = judge(gradient)
        for k in np.flatnonzero(ok):
            numbers = sum(FITTED.get(name, 0) for name in names[k])
            found.append(
                Explanation(names[k], says(k), float(max_abs[k]), float(relative[k]), numbers)
            )
        k = int(np.argmin(relative))
        if len(names[k]) > 1 or not plain >= set(names[k]):
            continue
        if nearest is None or relative[k] < nearest.relative:
            nearest = Explanation(names[k], says(k), float(max_abs[k]), float(relative[k]))
    return sorted(found, key=Explanation.cost), nearest


def candidates(given, table, right):
    """(names, gradients, says(k)): the truth, every mistake; an empty row; every two of them."""
    fits = clippings(table.weights) if sum(g.known.sum() for g in given) >= 12 else {}
    says = table.inside | {k: v for k, (v, _) in table.after.items()}
    inside = [(k,) for k in table.inside]

    def plain(names, gradient):
        return names, gradient, lambda k: sentence([says[name] for name in names[k]])

    def fit_all(names, gradient):
        for name, (template, fit) in fits.items():
            changed, number = fit(gradient, given)
            off = np.isnan(number)
            changed = {leaf: np.where(column(off, x), np.nan, x) for leaf, x in changed.items()}
            yield (
                [(*before, name) for before in names],
                changed,
                lambda k, n=number, t=template: sentence(
                    [*(says[x] for x in names[k]), t.format(f"{n[k]:.4g}")]
                ),
            )

    def after(names, gradient):
        for name, (_, change) in table.after.items():
            yield [(*before, name) for before in names], change(gradient)

    yield plain([()], right)
    alone = table.gradients(inside)
    yield plain(inside, alone)
    changed = list(after([()], right))
    yield from itertools.starmap(plain, changed)
    yield from fit_all([()], right)
    yield [], {}, str
    two = [(*a, *b) for a, b in itertools.combinations(inside, 2) if not table.clash(*a, *b)]
    for part in (two[n : n + FEW] for n in range(0, len(two), FEW)):
        yield plain(part, table.gradients(part))
    for names, gradient in after(inside, alone):
        yield plain(names, gradient)
    order = list(table.after)
    for (name,), gradient in ((n[0], g) for n, g in changed):
        for names, twice in after([(name,)], gradient):
            if order.index(names[0][1]) > order.index(name):
                yield plain(names, twice)
    yield from fit_all(inside, alone)
    for names, gradient in changed:
        yield from fit_all(names, gradient)


def sentence(parts):
    return "equals BPTT" + (" with " + " and with ".join(parts) if parts else "")


def column(flags, x):
    return flags.reshape((-1, *(1,) * (x.ndim - 1)))


# Agreement ------------------------------------------------------------------------------------


def judge_for(given, noise, eps):
    """judge(gradient) -> agrees, largest error, relative error: an array over settings each."""

    def judge(gradient):
        n = len(gradient[given[0].leaf])
        agrees, largest = np.ones(n, bool), np.zeros(n)
        parts = []
        for g in given:
            max_abs, relative, error, size = distances(g, gradient)
            allowed = eps * (NOISE * noise[g.leaf] + EPS * size)
            allowed = allowed + g.unit * np.sqrt(g.known.sum())
            agrees &= error <= allowed
            largest = np.maximum(largest, max_abs)
            parts.append(relative)
        far = np.sqrt(np.mean(np.square(parts), axis=0))
        return agrees, largest, np.where(np.isfinite(far), far, np.inf)

    return judge


def distances(g, gradient):
    """Per setting: largest error, relative error, the error's norm, the norm of the candidate."""
    every = gradient[g.leaf]
    got, want = g.values[g.known], every[:, g.known]
    with np.errstate(invalid="ignore", over="ignore"):
        error = want - got
        norm, size = np.linalg.norm(error, axis=1), np.linalg.norm(want, axis=1)
        whole = np.linalg.norm(every.reshape(len(every), -1), axis=1)
        both = np.sqrt(size**2 + np.linalg.norm(got) ** 2)
        relative = np.where(both == 0, 0.0, norm / np.where(both == 0, 1, both))
    return np.abs(error).max(1, initial=0), relative, norm, whole


def first_disagreement(given, table, right, eps):
    """Where the truth is left first, in backward order: time step, then array, then block."""
    steps = [g for leaf in table.steps for g in given if g.leaf == leaf]
    weights = [g for g in given if g.leaf in table.blocks and g not in steps]

    def wrong(g, index=(...,)):
        part = np.zeros(g.known.shape, bool)
        part[index] = g.known[index]
        judge = judge_for([g._replace(known=part)], table.noise, eps)
        return bool(part.any()) and not judge(right)[0][0]

    def blocks(g, index=(...,)):
        names = table.blocks[g.leaf]
        size = g.values.shape[-1] // len(names)
        spans = [slice(n * size, (n + 1) * size) for n in range(len(names))]
        return [k for k, s in zip(names, spans, strict=True) if wrong(g, (*index, s))]

    def name_all(found):
        every = max(len(names) for names in table.blocks.values())
        return "every gate" if 1 < every == len(found) else ", ".join(found)

    for t in reversed(range(max((len(g.values) for g in steps), default=0))):
        for g in (g for g in steps if wrong(g, (t, ...))):
            if g.leaf in table.blocks:
                found = blocks(g, (t, ...))
            else:
                error = np.where(g.known, g.values - right[g.leaf][0], 0.0)[t]
                found = alone(error, table.through.get(g.leaf, {}))
                found = found or list(dict.fromkeys(k for w in weights for k in blocks(w)))
            return f"at t={t}, " + (f"{name_all(found)}, in {g.name}" if found else f"in {g.name}")
    bad = [g for g in given if g not in steps and wrong(g)]
    agree = f"; {' and '.join(g.name for g in steps)} right at every step" if steps else ""
    for g in bad:
        if g.leaf in table.blocks:
            return f"in {g.name}, {name_all(blocks(g))}{agree}"
    return f"in {', '.join(g.name for g in bad)}{agree}" if bad else "nowhere"


def alone(error, through):
    """[the one block that alone could have made this error]; [] if several could, or none."""
    possible = []
    for block, matrix in through.items():
        fit, *_ = np.linalg.lstsq(matrix.T, error.T)
        left = np.linalg.norm(matrix.T @ fit - error.T)
        possible += [block] if left < 1e-6 * np.linalg.norm(error) else []
    return possible if len(possible) == 1 else []
