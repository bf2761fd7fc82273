"""What a cell says about its inside, and what its taps found: a cotangent per step and name."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax_lstm import printing


class Taps(NamedTuple):
    """What a cell says about its own inside, so that a disagreement has a name. All optional.

    gates: names of the equal blocks of delta's last axis, for a cell whose delta is the cotangent
      of what `project` returns, one array that enters the net inputs as a summand.
    step(w, prev, z, tap) -> state: the cell's step once more, in which intermediates
      go through `value = tap("name", value)`, an identity.
    deltas(delta) -> {"name": array}: which cotangents `step_bwd` hands over, by these names.
    step_bwd(w, prev, slopes, dstate, tap) -> dprev, delta: the rule, where it
      tells more: `dc = tap("c", dc)` for the cotangent of what `step` calls "c".
    says: {"name": text}: the stage or gate of a name, for the report.
    blame(names) -> text or None: what it means that these disagree together at one step.
    """

    gates: tuple[str, ...] = ()
    step: Callable[..., Any] | None = None
    deltas: Callable[..., Any] | None = None
    step_bwd: Callable[..., Any] | None = None
    says: dict[str, str] | None = None
    blame: Callable[..., Any] | None = None


class Tap(NamedTuple):
    """One cotangent of one time step: by hand beside by JAX. relative: by norm, over all draws."""

    t: int
    name: str
    says: str
    max_abs: float
    relative: float
    allowed: float
    ok: bool


class TapReport(NamedTuple):
    """Every tap in backward order. True only when all agree.

    unordered: names within a step of which none is known to come before another.
    """

    taps: tuple[Tap, ...]
    dtype: str
    blame: str
    unordered: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.taps) and all(tap.ok for tap in self.taps)

    def failures(self) -> tuple[Tap, ...]:
        return tuple(tap for tap in self.taps if not tap.ok)

    def first(self) -> Tap | None:
        """The first disagreement in backward order, None if there is none."""
        return next(iter(self.failures()), None)

    def sentence(self) -> str:
        first = self.first()
        if first is None:
            return f"all {len(self.taps)} taps agree to the rounding of {self.dtype}"
        says = f", {first.says}" if first.says else ""
        blame = f"; {self.blame}" if self.blame else ""
        also = [
            f"{tap.name} ({tap.relative:.1e})"
            for tap in self.failures()
            if tap.t == first.t and tap != first and {tap.name, first.name} <= set(self.unordered)
        ]
        beside = f" beside {', '.join(also)}, whose order is not told" if also else ""
        return (
            f"first disagreement at t={first.t}: {first.name}{says} "
            f"(relative error {first.relative:.1e}){beside}{blame}"
        )

    __str__ = printing.page
    _repr_html_ = printing.html

    def tables(self) -> list[printing.Sheet]:
        """A line per name, a column per time step, later steps first: the order of the backward."""
        times = sorted({tap.t for tap in self.taps}, reverse=True)
        said = {
            (tap.name, tap.t): f"{tap.relative:.0e}{' ' if tap.ok else '!'}" for tap in self.taps
        }
        names = dict.fromkeys(tap.name for tap in self.taps)
        rows = tuple((name, *(said.get((name, t)) for t in times)) for name in names)
        head = "relative error", *(f"t={t} " for t in times)
        return [printing.Sheet(head, rows, sides="<" + ">" * len(times))]

    def table(self) -> str:
        return f"{self.tables()[0]}\n{self.sentence()}"

    def to_json(self, **facts: Any) -> str:
        found = {"ok": bool(self), "sentence": self.sentence(), "facts": facts}
        return printing.to_json(found | {"taps": self.taps})
