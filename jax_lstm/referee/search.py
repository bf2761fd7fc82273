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
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jax_lstm.doors import check_dtype, check_flag, refuse
from jax_lstm.referee.agreement import Given, distances, first_disagreement, multiples
from jax_lstm.referee.changes import FITTED, clippings, decays
from jax_lstm.referee.verdict import Diagnosis, Explanation, Table

LOST = 0.0099  # of the whole gradient: a table's noise ends at a hundredth
FEW = 512  # settings looked at together
FEWEST = 12  # numbers from which something is fitted to them
GRID, ROUNDS = 25, 14  # numbers looked at together, and how often more finely


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
    right = finished(table, copied(table.gradients([()])))
    roundings = tuple(dict.fromkeys((dtype, "float32" if dtype == "float64" else dtype)))
    every, nearest, cut = search(given, table, roundings, pairs)
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
    return Diagnosis(*told, times, cut and not found)


def needed_of(found):
    """Whether an explanation with a number needs all of its names: no other has fewer of them."""
    every = [set(e.names) for e in found]
    return lambda e: not e.fitted or not any(names < set(e.names) for names in every)


def is_lost(noise, right, eps):
    whole = np.sqrt(sum(np.sum(right[leaf] ** 2) for leaf in noise if leaf in right))
    return bool(max(noise.values(), default=0.0) * eps >= LOST * whole)


def eps_of(dtype):
    return 2.0**-7 if dtype == "bfloat16" else float(np.finfo(dtype).eps)


OF_WEIGHTS = ("clip weights by value", "clip weights by norm", "clip each weight by norm")
OF_WEIGHTS += ("weights update",)


class Batch(NamedTuple):
    """Candidates: a tuple of names each, {leaf: (candidates, ...)}, says(k) what the k-th is.

    fitted: each of them has a number that was fitted. finished: `finish` was done to it.
    """

    names: list[tuple[str, ...]]
    gradient: dict[str, Any]
    says: Callable[[int], str]
    fitted: bool = False
    finished: bool = False


def finished(table, gradient):
    return table.finish(gradient) if table.finish else gradient


def finish(table, batch):
    """The batch, with what is done to every gradient at the end."""
    if batch.finished or not table.finish:
        return batch
    return batch._replace(gradient=finished(table, batch.gradient), finished=True)


def search(given, table, roundings, pairs):
    """All explanations by rounding, in the order of the candidates, the nearest single one, and
    whether some two mistakes were left out."""
    found: dict[str, list[Explanation]] = {k: [] for k in roundings}
    nearest = Explanation((), "equals BPTT", np.nan, np.inf)

    def look(batch):
        nonlocal nearest
        batch = finish(table, batch)
        apart = distances(given, table.noise, batch.gradient)

        def explanation(k):
            numbers = sum(FITTED.get(name, name in table.inner) for name in batch.names[k])
            errors = float(apart.max_abs[k]), float(apart.relative[k])
            return Explanation(batch.names[k], batch.says(k), *errors, numbers)

        for rounding, all_of_it in found.items():
            agrees = apart.agrees(eps_of(rounding)).all(0)
            all_of_it += [explanation(k) for k in np.flatnonzero(agrees)]
        k = int(np.argmin(apart.relative))
        if not batch.fitted and len(batch.names[k]) < 2 and apart.relative[k] < nearest.relative:
            nearest = explanation(k)

    single = singles(table, copied(table.gradients([()])))
    of_finish = (
        Batch([(name,)], change(copied(single.truth.gradient)), one_sentence(says), finished=True)
        for name, (says, change) in table.finishes.items()
    )
    batches = single.truth, single.inside, single.after, *of_finish
    for batch in (*batches, *fitted(single.truth, given, table)):
        if batch.names:
            look(batch)
    exact = any(not e.fitted for e in found[roundings[0]])
    if table.inner and not any(found.values()):
        for batch in inner(given, table):
            look(batch)
    cut = False
    if pairs or (pairs is None and not exact and not table.large):
        apart = distances(given, table.noise, finish(table, single.inside).gradient)
        agree = dict.fromkeys((g.leaf for g in given), True)  # who is right in a leaf
        eps = max(map(eps_of, roundings))
        for g, right_in in zip(given, apart.agrees(eps), strict=True):
            agree[g.leaf] = agree[g.leaf] & right_in
        left = table.most if table.most and not pairs else np.inf
        for batch in doubles(given, table, single, agree):
            cut = left <= 0
            if cut:
                break
            look(batch)
            left -= len(batch.names)
    return found, nearest, cut


def one_sentence(says):
    return lambda k: sentence([says])


def inner(given, table):
    """Mistakes within that have a number: the best of a grid, and then finer ones around it."""
    for name, (template, gradients) in table.inner.items():
        numbers, before, best = np.geomspace(1e-4, 1e3, GRID), np.inf, 1.0
        for n in range(ROUNDS):
            gradient = finished(table, gradients(numbers))
            facts = gradient.pop("facts")
            apart = distances(given, table.noise, gradient)
            far = np.where(facts > 1, np.linalg.norm(apart.error / apart.scale, axis=0), np.inf)
            k = int(np.argmin(far))
            if not np.isfinite(far[k]) or (n > 2 and far[k] > before / 2 and far[k] > 1):
                break
            ends = numbers[max(k - 1, 0)], numbers[min(k + 1, len(numbers) - 1)]
            best, before, numbers = numbers[k], far[k], np.linspace(*ends, GRID)
        else:
            one = gradients(np.array([best]))
            one.pop("facts")
            yield Batch([(name,)], one, one_sentence(template.format(f"{best:.4g}")), fitted=True)


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
    batch = finish(table, batch)
    changes = clippings(table.weights) | (decays(table.decayed) if table.decayed else {})
    for name, (template, fit) in (changes if enough else {}).items():
        if name in OF_WEIGHTS and all(g.leaf in table.weights for g in given):
            continue  # of all that is given
        gradient, number = fit(batch.gradient, given)
        off = np.isnan(number)
        gradient = {leaf: np.where(column(off, x), np.nan, x) for leaf, x in gradient.items()}

        def says(k, template=template, number=number):
            return f"{batch.says(k)} {'and ' * bool(batch.names[k])}with " + template.format(
                f"{number[k]:.4g}"
            )

        yield Batch([(*names, name) for names in batch.names], gradient, says, True, True)


def doubles(given, table, single, agree) -> Iterator[Batch]:
    """Every two mistakes, but those of which a leaf shows that they cannot be; the usual first."""
    two = [
        (*a, *b)
        for (m, a), (n, b) in itertools.combinations(enumerate(single.inside.names), 2)
        if not table.clash(*a, *b) and could_be(table, agree, (*a, *b), (m, n))
    ]
    usual = [names for names in two if not any(k in table.rare for k in names)]
    rare = [names for names in two if any(k in table.rare for k in names)]
    yield from in_parts(table, usual)
    for batch in (single.inside, single.after):
        if batch.names:
            yield from fitted(batch, given, table)
    for names, gradient in changed(single.inside, table):
        yield plain(table, names, gradient)
    order = {name: n for n, name in enumerate(table.after)}
    for names, gradient in changed(single.after, table):
        later = [n for n, (first, second) in enumerate(names) if order[first] < order[second]]
        if later:
            later_of = {k: x[later] for k, x in gradient.items()}
            yield plain(table, [names[n] for n in later], later_of)
    yield from in_parts(table, rare)


def in_parts(table, two):
    for part in (two[n : n + FEW] for n in range(0, len(two), FEW)):
        yield plain(table, part, table.gradients(list(part)))


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
