"""What a check of somebody's function found: a row per question, one table, one verdict."""

import math
from typing import Any, NamedTuple

from jax_lstm import printing

RIGHT, WRONG, NOISY = "right", "WRONG", "too noisy to say"
REFUSED, UNTRIED = "does not work", "not tried"
STATUS = {RIGHT: 0, WRONG: 1, NOISY: 3}  # of a process; 2 is bad input
HEAD = ("what was asked", "array", "against", "relative", "known to", "verdict")


class Answer(NamedTuple):
    """One question about one array.

    asked: which cotangents were given, or which transformation was applied. against: whose numbers
    are the truth. relative: ‖got - want‖ / ‖want‖. known: to what the truth itself is known,
    likewise. says: the evidence.
    """

    asked: str
    array: str
    against: str
    relative: float
    known: float
    verdict: str
    says: str = ""


def wordless(asked, verdict, says):
    """An Answer of no numbers: something was refused, raised or not tried."""
    return Answer(asked, "", "", math.nan, math.nan, verdict, says)


def failed(asked, why):
    """An Answer of what raised."""
    return wordless(asked, WRONG, f"raises {why}")


class CheckReport(NamedTuple):
    """What `check` found. True only when something was judged and everything judged is right.

    first: what was done with the arguments. answers: a row per question and array.
    """

    first: str
    answers: tuple[Answer, ...]

    def __bool__(self) -> bool:
        return self.verdict() == RIGHT

    def verdict(self) -> str:
        """ "right", "WRONG" or "too noisy to say", of the whole."""
        found = {a.verdict for a in self.answers}
        if WRONG in found:
            return WRONG
        return RIGHT if found >= {RIGHT} and NOISY not in found else NOISY

    def status(self) -> int:
        """0 right, 1 wrong, 3 too noisy to say: the exit status of `jax-lstm check FILE:NAME`."""
        return STATUS[self.verdict()]

    def wrong(self) -> tuple[Answer, ...]:
        """The rows that are wrong, in the order of the questions."""
        return tuple(a for a in self.answers if a.verdict == WRONG)

    def sentence(self) -> str:
        """What was done with the arguments, then the verdict with its first evidence."""
        return f"{self.first}\n{self.verdict()}: {self.evidence()}"

    def evidence(self) -> str:
        verdict = self.verdict()
        rows = [a for a in self.answers if a.verdict == verdict]
        if verdict == RIGHT:
            refused = [a.asked for a in self.answers if a.verdict == REFUSED]
            worst = max((a.relative for a in rows if not math.isnan(a.relative)), default=0.0)
            beside = f"; does not work: {', '.join(refused)}" if refused else ""
            return f"{len(rows)} answers agree, the furthest off by {worst:.1e}{beside}"
        if not rows:
            return "nothing was judged"
        one = rows[0]
        more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        where = ", ".join(x for x in (one.asked, one.array) if x)
        return f"{where}: {one.says or f'relative error {one.relative:.1e}'}{more}"

    __str__ = printing.page
    _repr_html_ = printing.html

    def tables(self) -> list[printing.Sheet]:
        rows = tuple(
            (
                a.asked,
                a.array,
                a.against,
                None if math.isnan(a.relative) else a.relative,
                None if math.isnan(a.known) else a.known,
                a.verdict,
            )
            for a in self.answers
        )
        notes = {n: a.says for n, a in enumerate(self.answers) if a.says}
        return [printing.Sheet(HEAD, rows, form=".1e", sides="<<<>><", rule=True, notes=notes)]

    def table(self) -> str:
        return str(self.tables()[0])

    def to_json(self, **facts: Any) -> str:
        found = {"ok": bool(self), "verdict": self.verdict(), "sentence": self.sentence()}
        return printing.to_json(found | {"facts": facts, "answers": self.answers})
