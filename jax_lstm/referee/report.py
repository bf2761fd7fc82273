"""What a comparison found: rows, a table for people, JSON for programs, one truth value."""

import json
import math
from typing import NamedTuple

EMPTY = "nothing to compare: an axis has size 0"
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}


class Row(NamedTuple):
    """One array of one route beside the same array of its referee.

    relative: ‖got - want‖ / ‖want‖. Where want is zero, relative to everything that was compared.
    worst: the largest |got - want| / |want| of one element, and `worst_at`, where that is.
    allowed: what `relative` may be. beside: what the referee's own `relative` is at this dtype,
    when both are judged by a third, more precise answer; else None.
    ratio: ‖got‖ / ‖want‖. cosine: of the angle between them; both 1 for the same gradient.
    """

    route: str
    array: str
    against: str
    dtype: str
    max_abs: float
    relative: float
    worst: float
    allowed: float
    beside: float | None
    ok: bool
    note: str = ""
    worst_at: tuple[int, ...] = ()
    ratio: float = math.nan
    cosine: float = math.nan

    def verdict(self):
        """In words, by precision: what is off by less than half of the digits is not different."""
        if self.note == EMPTY:
            return "nothing to compare"
        if self.ok:
            return "as exact as autodiff"
        eps = EPS.get(self.dtype, math.nan)
        if self.relative < math.sqrt(eps):
            factor = self.relative / max(self.beside or 0.0, eps)
            return f"worse than autodiff by a factor of {factor:.2g}"
        return "a different gradient"

    def line(self):
        numbers = (f"{x:8.1e}" for x in (self.max_abs, self.relative, self.worst, self.allowed))
        verdict = "EMPTY" if self.note == EMPTY else "PASS" if self.ok else "FAIL"
        text = f"{self.route:24} {self.array:14} {self.against:12} {self.dtype:8} "
        note = f"\n    {self.note}" if self.note not in ("", EMPTY) else ""
        return f"{text}{' '.join(numbers)} {verdict}{note}"


def header():
    """The names of the columns of `Row.line`, and a rule below them."""
    names = f"{'route':24} {'array':14} {'against':12} {'dtype':8} "
    names += " ".join(f"{x:>8}" for x in ("max abs", "relative", "worst", "allowed"))
    return f"{names}\n{'-' * (len(names) + 5)}"


def failure(route, array, against, dtype, note):
    """The row of something that could not be compared at all: a FAIL that says why."""
    nan = math.nan
    return Row(route, array, against, dtype, nan, nan, nan, nan, None, False, note)


def first_line(error):
    return f"{type(error).__name__}: {error}".splitlines()[0]


class Report(NamedTuple):
    """All rows of a comparison. True only when something was compared and every row agrees."""

    rows: tuple[Row, ...]

    def __bool__(self):
        compared = any(row.note != EMPTY for row in self.rows)
        return compared and all(row.ok for row in self.rows)

    def failures(self):
        return tuple(row for row in self.rows if not row.ok)

    def empty(self):
        return tuple(row for row in self.rows if row.note == EMPTY)

    def table(self):
        return "\n".join((header(), *(row.line() for row in self.rows), *self.verdicts()))

    def verdicts(self):
        """A sentence per route, about the array that is furthest off."""
        for route in dict.fromkeys(row.route for row in self.rows):
            rows = [row for row in self.rows if row.route == route]
            bad = [row for row in rows if not row.ok] or rows
            worst = max(bad, key=lambda r: -1.0 if math.isnan(r.relative) else r.relative)
            where = f"{worst.array} {list(worst.worst_at)}" if worst.worst_at else worst.array
            yield (
                f"{route}: {worst.verdict()}; furthest off at {where}: relative error "
                f"{worst.relative:.1e}, norm ratio {worst.ratio:.6g}, cosine {worst.cosine:.6g}"
            )

    def to_json(self, **facts):
        """A JSON object: `ok`, `facts` (whatever is passed in) and `rows`. NaN and infinities,
        which JSON does not have, become null."""
        rows = [
            {k: finite(v) for k, v in row._asdict().items()} | {"verdict": row.verdict()}
            for row in self.rows
        ]
        return json.dumps({"ok": bool(self), "facts": facts, "rows": rows}, indent=1)


def finite(x):
    return None if isinstance(x, float) and not math.isfinite(x) else x
