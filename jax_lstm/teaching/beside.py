"""Truth and mistake side by side: one classic mistake, and where its first number differs.

The backward in which each mistake is a switch is diagnosis/slow_backward.py; here its numbers are
laid beside those of the truth, in the order in which a backward makes them.
"""

import difflib
import itertools
from typing import Any, NamedTuple

import numpy as np

from jax_lstm import printing, referee
from jax_lstm.diagnosis.slow_backward import MUTANTS, elman_forward, lstm_forward
from jax_lstm.diagnosis.switches import is_forward
from jax_lstm.notation import GATES
from jax_lstm.teaching.equations import number
from jax_lstm.teaching.paper import EACH, PAPER, mark

SAME = 1e-12  # relative to the largest number of the array
FORWARD = {  # what runs it, and where its numbers stand in a step
    "lstm": (
        lstm_forward,
        {"h_prev": 0, "c_prev": 1, "i": 2, "f": 3, "g": 4, "o": 5, "c": 6, "h": 8},
    ),
    "elman": (elman_forward, {"h_prev": 0, "h": 1}),
}
NAMES = {"dhs": "dh", "dcs": "dc", "das": "da", "dxs": "dx"}


class Pair(NamedTuple):
    """One number twice. part: "forward", "backward" or "over time"; t: its time step, if any."""

    part: str
    t: int | None
    name: str
    truth: float
    mistake: float
    differs: bool


class Beside(NamedTuple):
    """All pairs in the order of the work; `says` is the mistake in a sentence."""

    name: str
    says: str
    pairs: tuple[Pair, ...]

    def first(self):
        """The first pair that differs, None if none does."""
        return next((pair for pair in self.pairs if pair.differs), None)

    def sentence(self):
        first = self.first()
        if first is None:
            return "no number differs: here this mistake makes no difference"
        where = first.part if first.t is None else f"{first.part} at t={first.t}"
        return (
            f"first difference, {where}: {first.name} is {number(first.truth)}, and "
            f"{number(first.mistake)} with the mistake"
        )

    __str__ = printing.page
    _repr_html_ = printing.html

    def tables(self, every=EACH, page=PAPER):
        """Truth and mistake in columns; of larger arrays, the number that differs most.

        Args:
          every: arrays of at most so many numbers are shown whole.
          page: a Page of paper.py.

        Returns:
          A printing.Sheet per part and step; the mistake stands above the first.
        """
        above, first, found = (f"{self.name}: {self.says}", ""), self.first(), []
        shown = list(self.choose(every))
        if len(shown) < len(self.pairs):
            few = f"Of an array of more than {every} numbers, the one that differs most is shown."
            above += f"{few} --json and --csv have all.", ""
        wide = min(24, (page.width or 100) - 50)  # of the names
        shown = [p for p in shown if page.shows(*place_of(p))]
        for (part, t), pairs in itertools.groupby(shown, lambda pair: (pair.part, pair.t)):
            head = part + ("" if t is None else f", t = {t}")
            rows = tuple(
                (f"  {p.name}", number(p.truth), number(p.mistake), remark(p, first, wide < 24))
                for p in pairs
            )
            names = head, "truth", "mistake", ""
            found.append(printing.Sheet(names, rows, sides="<>><", widths=(wide, 11, 11)))
        found = found or [printing.Sheet((), ())]
        return [found[0]._replace(above=above), *found[1:]]

    def table(self, every=EACH, page=PAPER):
        """`tables` as text, and the sentence."""
        text = "\n\n".join([*map(str, self.tables(every, page)), self.sentence()])
        return printing.fit(text, page.width)

    def choose(self, every):
        """Of larger arrays, the number that differs first or most."""
        groups: dict[Any, list[Pair]] = {}
        for pair in self.pairs:
            groups.setdefault(place_of(pair), []).append(pair)
        for pairs in groups.values():
            first = [pair for pair in pairs if pair is self.first()]
            far = max(pairs, key=lambda pair: abs(pair.truth - pair.mistake))
            yield from pairs if len(pairs) <= every else first or [far]


def place_of(pair):
    """Part, step, and the array that the number belongs to."""
    return pair.part, pair.t, pair.name.split("[")[0]


def remark(pair, first, short):
    """What stands behind the two numbers."""
    difference = f"<-- FIRST{'' if short else ' DIFFERENCE'}" if pair is first else "*"
    return (difference * pair.differs + mark([pair.truth, pair.mistake])).strip()


def to_json(runs):
    """{"runs": [...]}, numbers in full.

    Args:
      runs: [(title, Beside), ...].
    """
    found = [
        {"title": title, "mutant": b.name, "says": b.says, "sentence": b.sentence()}
        | {"rows": b.pairs}
        for title, b in runs
    ]
    return printing.to_json({"runs": found})


def to_csv(runs):
    """A line per number: run, part, t, name, truth, mistake."""
    rows = [(title, *pair[:-1]) for title, b in runs for pair in b.pairs]
    return printing.to_csv(("run", *Pair._fields[:-1]), rows)


def put_beside(problem, cell, name):
    """The truth beside one mistake.

    Args:
      problem: a Problem of diagnosis/catalogue.py.
      cell: "lstm" or "elman".
      name: of the mistake, as in diagnosis/catalogue.py: "dc not carried".

    Returns:
      Beside: `.table()`, `.first()`, `.sentence()`.

    Raises:
      ValueError: no such mistake of this problem.
    """
    kind, (inside, after) = MUTANTS[cell], mistakes_of(problem, cell)
    T = len(problem.xs)
    check_name(name, [*inside, *after])
    (truth,) = split(kind.gradients(problem, [()]))
    if name in inside:
        says, (wrong,) = inside[name], split(kind.gradients(problem, [(name,)]))
    else:
        says, change = after[name]
        (wrong,) = split(change(kind.gradients(problem, [()])))
    found = [*forward_pairs(problem, cell, name), *backward_pairs(truth, wrong, T, cell)]
    return Beside(name, says, tuple(found))


def mistakes_of(problem, cell):
    """What can be set beside the truth: those inside a backward, and those of a finished gradient.

    Returns:
      {name: sentence}, and {name: (sentence, change)}.
    """
    kind = MUTANTS[cell]
    (T, B, _), H = problem.xs.shape, problem.state["h"].shape[-1]
    scalings = referee.scalings({"time": T, "batch": B, "features": H}, kind.weights)
    return kind.inside(problem), kind.after(problem) | scalings


def check_name(name, known):
    """Complain about a mistake that nobody knows."""
    if name not in known:
        close = difflib.get_close_matches(name, known, 3, 0.4)
        near = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
        raise ValueError(f"no mistake {name!r}; {near}Among them: {', '.join(list(known)[:24])}")


def forward_pairs(problem, cell, name):
    """Gates and states, where the mistake is already in the forward."""
    if not is_forward(name):
        return
    run, names = FORWARD[cell]
    steps, wrong = (run(problem, [names])[-1] for names in ((), (name,)))
    for t, (a, b) in enumerate(zip(steps, wrong, strict=True)):
        for k, n in names.items():
            yield from pairs("forward", t, k, a[n], b[n].reshape(a[n].shape), a[n], cell)


def split(gradient):
    """One dict per setting."""
    n = len(next(iter(gradient.values())))
    return [{k: np.asarray(x[m], np.float64) for k, x in gradient.items()} for m in range(n)]


def backward_pairs(truth, wrong, T, cell):
    """In backward order: dh, dc, da, dx of each step, and then what is left."""
    steps = [k for k in NAMES if k in truth]
    for t in reversed(range(T)):
        for k in steps:
            yield from pairs("backward", t, NAMES[k], truth[k][t], wrong[k][t], truth[k], cell)
    for k in ("dh0", "dc0", "dW", "dU", "db"):
        if k in truth:
            yield from pairs("over time", None, k, truth[k], wrong[k], truth[k], cell)


def pairs(part, t, name, truth, wrong, every, cell):
    """An array number by number; blocks of gates by their letters."""
    gated = cell == "lstm" and name in ("da", "dW", "dU", "db")
    H = truth.shape[-1] // (len(GATES) if gated else 1)
    scale = np.max(np.abs(every[np.isfinite(every)]), initial=0.0)
    for place in sorted(np.ndindex(truth.shape), key=lambda n: n[-1] // H):
        block, last = divmod(place[-1], H)
        a, b = float(truth[place]), float(wrong[place])
        lone = truth.size == (len(GATES) if gated else 1)
        index = "" if lone else "".join(f"[{n}]" for n in (*place[:-1], last))
        same = a == b or abs(a - b) <= SAME * scale or (np.isnan(a) and np.isnan(b))
        letter = f"_{GATES[block]}" if gated else ""
        yield Pair(part, t, name + letter + index, a, b, not same)
