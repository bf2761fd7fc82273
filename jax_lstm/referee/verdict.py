"""What a search is given and what it found: the truth and the mistakes known, and a verdict."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from jax_lstm import printing

SHOWN = 3  # explanations of a sentence
NEAR = 0.1  # of the truth's distance, and of the whole: what is further off is not near


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
    decayed: {leaf: value} of the weights, for weight decay.
    finish: what is done to every gradient at the end, as its owner says: clipping, weight decay.
      finishes: {name: (sentence, likewise)} of mistakes in it.
    inner: {name: (sentence with a {}, gradients)} of mistakes within that have a number to fit;
      gradients(numbers) is like the other, and its leaf "facts" says how many each accounts for.
    rare: mistakes within of which two at once are tried last. most: how many two are tried where
      nobody asks for all; 0 for all.
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
    decayed: Mapping[str, Any] = MappingProxyType({})
    finish: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    finishes: Mapping[str, Any] = MappingProxyType({})
    inner: Mapping[str, Any] = MappingProxyType({})
    rare: frozenset[str] = frozenset()
    most: int = 0


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
      mistakes at once were tried; cut: as far as time allows. lost: the dtype's rounding alone
      changes the truth so much that nothing can be said.
    notes: what else was found, a sentence each: how the forward was judged, say.
    hint: what more could be brought, where nothing explains it; or nothing.
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
    cut: bool = False
    notes: tuple[str, ...] = ()
    hint: str = ""

    def __bool__(self) -> bool:
        return self.right

    def sentence(self) -> str:
        return "\n".join([*self.notes, self.verdict(), *([self.hint] if self.hint else [])])

    def verdict(self) -> str:
        """The sentence without notes."""
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
        alone = " (two at once: the usual ones were tried; ask for pairs)" if self.cut else alone
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
            "notes": self.notes,
            "hint": self.hint,
            "rounding": self.rounding,
            "dtype": self.dtype,
            "leaves": [dict(zip(names, x, strict=True)) for x in self.leaves],
            "facts": facts,
        }
        return printing.to_json(found)
