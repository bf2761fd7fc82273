"""What a comparison found: rows, a table for people, JSON for programs, one truth value."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from jax_lstm import printing

EMPTY = "nothing to compare: an axis has size 0"
NOT_ANALYTIC = "nothing to compare: complex steps do not continue these values (a maximum?)"
UNCOMPARED = (EMPTY, NOT_ANALYTIC)
HEAD = ("route", "array", "against", "dtype", "max abs", "relative", "worst", "allowed", "")
# of fixed widths: rows are printed as they are ready
WIDTHS = (24, 14, 12, 8, 7, 8, 7, 7, 5)


def columns(head, rows):
    """A Sheet of Rows."""
    cells = tuple(row.cells() for row in rows)
    notes = {n: row.note for n, row in enumerate(rows) if row.note not in ("", EMPTY)}
    found = printing.Sheet(head, cells, form=".1e", sides="<<<<>>>><", widths=WIDTHS)
    return found._replace(rule=bool(head), notes=notes)


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

    def verdict(self) -> str:
        """In words, by precision: what is off by less than half of the digits is not different."""
        if self.note in UNCOMPARED:
            return "nothing to compare"
        if self.ok:
            return "as exact as autodiff"
        eps = EPS.get(self.dtype, math.nan)
        if self.relative < math.sqrt(eps):
            factor = self.relative / max(self.beside or 0.0, eps)
            return f"worse than autodiff by a factor of {factor:.2g}"
        return "a different gradient"

    def cells(self) -> tuple[Any, ...]:
        """What stands in the columns of the table."""
        errors = self.max_abs, self.relative, self.worst, self.allowed
        verdict = "EMPTY" if self.note in UNCOMPARED else "PASS" if self.ok else "FAIL"
        return self.route, self.array, self.against, self.dtype, *errors, verdict

    def line(self) -> str:
        """A line of the table, and a note below it where there is one."""
        return str(columns((), [self]))


def header() -> str:
    """The names of the columns of `Row.line`, and a rule below them."""
    return str(columns(HEAD, ()))


def failure(route: str, array: str, against: str, dtype: str, note: str) -> Row:
    """The row of something that could not be compared at all: a FAIL that says why."""
    nan = math.nan
    return Row(route, array, against, dtype, nan, nan, nan, nan, None, False, note)


def first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


class Report(NamedTuple):
    """All rows of a comparison. True only when something was compared and every row agrees."""

    rows: tuple[Row, ...]

    def __bool__(self) -> bool:
        compared = any(row.note not in UNCOMPARED for row in self.rows)
        return compared and all(row.ok for row in self.rows)

    def failures(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if not row.ok)

    def empty(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.note in UNCOMPARED)

    __str__ = printing.page
    _repr_html_ = printing.html

    def tables(self) -> list[printing.Sheet]:
        return [columns(HEAD, self.rows)]

    def table(self) -> str:
        return "\n".join([*map(str, self.tables()), *self.verdicts()])

    def sentence(self) -> str:
        """A line per route, about the array that is furthest off."""
        return "\n".join(self.verdicts()) or "nothing was compared"

    def verdicts(self) -> Iterator[str]:
        """The lines of `sentence`, one by one."""
        for route in dict.fromkeys(row.route for row in self.rows):
            rows = [row for row in self.rows if row.route == route]
            bad = [row for row in rows if not row.ok] or rows
            worst = max(bad, key=lambda r: -1.0 if math.isnan(r.relative) else r.relative)
            where = f"{worst.array} {list(worst.worst_at)}" if worst.worst_at else worst.array
            yield (
                f"{route}: {worst.verdict()}; furthest off at {where}: relative error "
                f"{worst.relative:.1e}, norm ratio {worst.ratio:.6g}, cosine {worst.cosine:.6g}"
            )

    def to_json(self, **facts: Any) -> str:
        """A JSON object: `ok`, `facts` (whatever is passed in) and `rows`. NaN and infinities,
        which JSON does not have, become the texts "NaN", "Infinity" and "-Infinity"."""
        rows = [row._asdict() | {"verdict": row.verdict()} for row in self.rows]
        return printing.to_json({"ok": bool(self), "facts": facts, "rows": rows})
