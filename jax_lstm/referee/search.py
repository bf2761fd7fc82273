"""Which mistake was made: a gradient beside the truth, and beside each gradient of a table.

    truth, then every mistake alone, then every two of them;  the first that agrees to rounding
    names it. Several can agree (at T = 1 nothing is carried anyway): the answer is their set, the
    simplest first.

The table comes from outside; no cell is known here. Where nothing agrees, the answer is the first
place, in backward order, that differs from the truth, and the nearest gradient of the table where
that explains most of the error.

Some changes have a number that is fitted to what is given. Such a change explains nothing unless it
accounts for more facts than it has numbers: see changes.py.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from jax_lstm import printing
from jax_lstm.doors import check_dtype, check_flag, refuse
from jax_lstm.referee.agreement import Given, distances, first_disagreement, multiples
from jax_lstm.referee.changes import FITTED, clippings

SHOWN = 3  # explanations of a sentence
NEAR = 0.1  # of the truth's distance, and of the whole: what is further off is not near
LOST = 0.0099  # of the whole gradient: a table's noise ends at a hundredth
FEW = 512  # settings looked at together
FEWEST = 12  # numbers from which something is fitted to them


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
    local: {name within: leaves} of mistakes that leave every other leaf as it is, also beside
      another mistake.
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
    local: Mapping[str, tuple[str, ...]] = MappingProxyType({})


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
    multiples: (name, factor) of arrays that are the truth but for a factor.
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
    multiples: tuple[tuple[str, float], ...] = ()

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
        alone = "" if self.pairs else " (alone; two at once were not tried: ask for pairs)"
        parts = [f"no known mistake explains it{alone}"]
        if self.is_near():
            near = self.nearest.says.removeprefix("equals ")
            parts += [f"nearest is {near} ({self.nearest.relative:.2g} of it differs)"]
        parts += [f"{k} is {factor:.6g} times the right one" for k, factor in self.multiples]
        return "; ".join([*parts, f"first disagreement {self.first}"])

    def is_near(self) -> bool:
        """Whether the nearest mistake explains most of what differs from the truth."""
        every = np.array([relative for _, _, relative, _ in self.leaves])
        own = np.sqrt(np.mean(np.square(every)))
        return self.nearest.relative <= NEAR * (own if self.nearest.names else 1.0)

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
            "multiples": [{"array": k, "factor": factor} for k, factor in self.multiples],
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
    right = copied(table.gradients([()]))
    roundings = tuple(dict.fromkeys((dtype, "float32" if dtype == "float64" else dtype)))
    every, nearest = search(given, table, right, roundings, pairs)
    rounding = next((k for k in roundings if every[k]), roundings[-1])
    found = sorted(filter(needed_of(every[rounding]), every[rounding]), key=Explanation.cost)
    tried = pairs is True or (pairs is None and not found and not table.large)
    correct, eps = bool(found) and found[0].names == (), eps_of(rounding)
    first = "" if correct else first_disagreement(given, table, right, eps)
    times = () if found else tuple(multiples(given, table, right, eps))
    leaves = []
    for g in given:
        apart = distances([g], table.noise, right)
        max_abs, relative = float(apart.max_abs[0]), float(apart.relative[0])
        leaves.append((g.name, max_abs, relative, bool(apart.agrees(eps)[0, 0])))
    lost = not found and is_lost(table.noise, right, eps_of(dtype))
    told = correct, tuple(found), nearest, first, tuple(leaves), rounding, dtype, tried, lost
    return Diagnosis(*told, times)


def needed_of(found):
    """Whether an explanation with a number needs all of its names: no other has fewer of them."""
    every = [set(e.names) for e in found]
    return lambda e: not e.fitted or not any(names < set(e.names) for names in every)


def is_lost(noise, right, eps):
    whole = np.sqrt(sum(np.sum(right[leaf] ** 2) for leaf in noise if leaf in right))
    return bool(max(noise.values(), default=0.0) * eps >= LOST * whole)


def eps_of(dtype):
    return 2.0**-7 if dtype == "bfloat16" else float(np.finfo(dtype).eps)


class Batch(NamedTuple):
    """Candidates: a tuple of names each, {leaf: (candidates, ...)}, says(k) what the k-th is.

    fitted: each of them has a number that was fitted.
    """

    names: list[tuple[str, ...]]
    gradient: dict[str, Any]
    says: Callable[[int], str]
    fitted: bool = False


def search(given, table, right, roundings, pairs):
    """All explanations by rounding, in the order of the candidates, and the nearest single one."""
    found: dict[str, list[Explanation]] = {k: [] for k in roundings}
    nearest = Explanation((), "equals BPTT", np.nan, np.inf)

    def look(batch):
        nonlocal nearest
        apart = distances(given, table.noise, batch.gradient)

        def explanation(k):
            numbers = sum(FITTED.get(name, 0) for name in batch.names[k])
            errors = float(apart.max_abs[k]), float(apart.relative[k])
            return Explanation(batch.names[k], batch.says(k), *errors, numbers)

        for rounding, all_of_it in found.items():
            agrees = apart.agrees(eps_of(rounding)).all(0)
            all_of_it += [explanation(k) for k in np.flatnonzero(agrees)]
        k = int(np.argmin(apart.relative))
        if not batch.fitted and len(batch.names[k]) < 2 and apart.relative[k] < nearest.relative:
            nearest = explanation(k)

    single = singles(table, right)
    for batch in (single.truth, single.inside, single.after, *fitted(single.truth, given, table)):
        if batch.names:
            look(batch)
    exact = any(not e.fitted for e in found[roundings[0]])
    if pairs or (pairs is None and not exact and not table.large):
        apart = distances(given, table.noise, single.inside.gradient)
        agree = dict.fromkeys((g.leaf for g in given), True)  # who is right in a leaf
        eps = max(map(eps_of, roundings))
        for g, right_in in zip(given, apart.agrees(eps), strict=True):
            agree[g.leaf] = agree[g.leaf] & right_in
        for batch in doubles(given, table, single, agree):
            look(batch)
    return found, nearest


class Singles(NamedTuple):
    """The truth, and every mistake alone."""

    truth: Batch
    inside: Batch
    after: Batch


def singles(table, right):
    truth = plain(table, [()], right)
    inside = [(k,) for k in table.inside]
    names, parts = [], []
    for part, gradient in changed(truth, table):
        names, parts = [*names, *part], [*parts, gradient]
    after = {k: np.concatenate([d[k] for d in parts]) for k in right} if parts else {}
    alone = plain(table, inside, table.gradients(list(inside)))
    return Singles(truth, alone, plain(table, names, after))


def plain(table, names, gradient):
    """A Batch of mistakes without a number."""
    says = table.inside | {k: v for k, (v, _) in table.after.items()}
    return Batch(names, gradient, lambda k: sentence([says[name] for name in names[k]]))


def changed(batch, table):
    """Each change to a finished gradient, done to all of a batch: names and gradient."""
    for name, (_, change) in table.after.items():
        if batch.names:
            yield [(*names, name) for names in batch.names], change(copied(batch.gradient))


def copied(gradient):
    """A change may write into what it is given."""
    return {k: x.copy() for k, x in gradient.items()}


def fitted(batch, given, table):
    """What has a number: fitted for every candidate of a batch."""
    enough = sum(g.known.sum() for g in given) >= FEWEST
    for name, (template, fit) in (clippings(table.weights) if enough else {}).items():
        if "weight" in name and all(g.leaf in table.weights for g in given):
            continue  # of all that is given
        gradient, number = fit(batch.gradient, given)
        off = np.isnan(number)
        gradient = {leaf: np.where(column(off, x), np.nan, x) for leaf, x in gradient.items()}

        def says(k, template=template, number=number):
            return f"{batch.says(k)} {'and ' * bool(batch.names[k])}with " + template.format(
                f"{number[k]:.4g}"
            )

        yield Batch([(*names, name) for names in batch.names], gradient, says, fitted=True)


def doubles(given, table, single, agree) -> Iterator[Batch]:
    """Every two mistakes, but those of which a leaf shows that they cannot be."""
    two = [
        (*a, *b)
        for (m, a), (n, b) in itertools.combinations(enumerate(single.inside.names), 2)
        if not table.clash(*a, *b) and could_be(table, agree, (*a, *b), (m, n))
    ]
    for part in (two[n : n + FEW] for n in range(0, len(two), FEW)):
        yield plain(table, part, table.gradients(list(part)))
    for names, gradient in changed(single.inside, table):
        yield plain(table, names, gradient)
    order = {name: n for n, name in enumerate(table.after)}
    for names, gradient in changed(single.after, table):
        later = [n for n, (first, second) in enumerate(names) if order[first] < order[second]]
        if later:
            later_of = {k: x[later] for k, x in gradient.items()}
            yield plain(table, [names[n] for n in later], later_of)
    for batch in (single.inside, single.after):
        if batch.names:
            yield from fitted(batch, given, table)


def could_be(table, agree, names, places):
    """A mistake that is local to a leaf leaves the others to its partner, which must be right."""
    for name, partner in zip(names, reversed(places), strict=True):
        leaves = table.local.get(name)
        if leaves and not all(ok[partner] for leaf, ok in agree.items() if leaf not in leaves):
            return False
    return True


def sentence(parts):
    return "equals BPTT" + (" with " + " and with ".join(parts) if parts else "")


def column(flags, x):
    return flags.reshape((-1, *(1,) * (x.ndim - 1)))
