"""WHERE A TABLE IS PRINTED: one table for people, one JSON and one CSV for programs.

print(table(("array", "norm"), [("W", 1.5), ("b", None)]))    names to the left, numbers right
print(report)                                                 its sentence, then its tables
to_json(report)                                               a row of numbers is one line
to_csv(("t", "h"), [(0, 0.5)])                                numbers in full

A report is a NamedTuple with `sentence()`, what it found, and `tables()`, the evidence as a list of
Sheet. With `__str__ = page` and `_repr_html_ = html` it prints both, in a notebook as HTML.
"""

import csv
import dataclasses
import html as markup
import io
import json
import math
import re
import shutil
import textwrap
from typing import Any, NamedTuple

import numpy as np

GAP = "  "  # between two columns
MOST_NAMES, LONGEST = 8, 120  # names in a complaint, characters of a stranger's name
WORDS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}  # what JSON has no number for


def table(
    head,
    rows,
    *,
    form: str | tuple[str, ...] = ".4g",
    sides="",
    widths: tuple[int, ...] = (),
    rule=False,
):
    """Columns for people, two blanks apart, each as wide as its widest cell.

    Args:
      head: the names of the columns; () prints no head.
      rows: tuples of cells, one per column: texts, numbers, None for nothing.
      form: how numbers are written, one format for all columns or a tuple with one for each: ".1e",
        ".3f", ".4g" leave integers alone, "," does not.
      sides: "<" or ">" per column, say "<>>". Default: numbers to the right, all else to the left.
      widths: of columns, at least. What is printed row by row needs them, and `sides`.
      rule: whether a line stands below the head.

    Returns:
      str: lines without trailing blanks, and no newline at the end.

    Raises:
      ValueError: rows, formats or sides that are not one per column.
    """
    rows = [tuple(row) for row in rows]
    count = len(head) or len(sides) or (len(rows[0]) if rows else 0)
    forms = (form,) * count if isinstance(form, str) else form
    texts = [tuple(head)] if head else []
    texts += [tuple(text_of(x, f) for x, f in zip(row, forms, strict=True)) for row in rows]
    sides = sides or [side([row[n] for row in rows]) for n in range(count)]
    least = [*widths, *(0,) * (count - len(widths))]
    wide = [max([w, *(len(row[n]) for row in texts)]) for n, w in enumerate(least)]
    lines = [
        GAP.join(f"{x:{s}{w}}" for x, s, w in zip(row, sides, wide, strict=True)).rstrip()
        for row in texts
    ]
    if rule:
        lines.insert(len(head) > 0, "-" * (sum(wide) + len(GAP) * (count - 1)))
    return "\n".join(lines)


def is_number(x):
    return isinstance(x, int | float | np.integer | np.floating) and not isinstance(x, bool)


def side(cells):
    """Where a column goes: to the right if it has numbers and nothing else."""
    cells = [x for x in cells if not (x is None or x == "")]
    return ">" if cells and all(map(is_number, cells)) else "<"


def text_of(x, form):
    """A cell: `form` is for numbers, and one with a point for floats alone."""
    if x is None or not is_number(x):
        return "" if x is None else printable(str(x))
    return str(x) if isinstance(x, int | np.integer) and "." in form else format(x, form)


def printable(text: str) -> str:
    r"""A text without what a terminal would obey: \x1b for an escape code, \n for a new line."""
    if text.isprintable():
        return text
    escaped = lambda x: x.encode("unicode_escape").decode("ascii")
    return "".join(x if x.isprintable() else escaped(x) for x in text)


def shorten(text, most=LONGEST):
    """A text that may be anybody's: its two ends, where it is longer than so many characters."""
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"


def listing(names):
    """`a, b, c and 5 more`"""
    names = list(names)
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return (", ".join(shorten(str(x)) for x in names[:MOST_NAMES]) + more) or "nothing"


def pad(text, width):
    """The text and blanks behind it, up to so many characters."""
    return f"{text:<{width}}"


# Reports --------------------------------------------------------------------------------------


class Sheet(NamedTuple):
    """A table that is not laid out yet: what `table` takes, and lines above and below it.

    notes: {n: text}, what is said below row n.
    """

    head: tuple[Any, ...]
    rows: tuple[Any, ...]
    above: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    form: str | tuple[str, ...] = ".4g"
    sides: str = ""
    widths: tuple[int, ...] = ()
    rule: bool = False
    notes: dict[int, str] | None = None

    def __str__(self):
        options = {"form": self.form, "sides": self.sides, "widths": self.widths}
        lines = table(self.head, self.rows, rule=self.rule, **options).split("\n")
        for n, note in sorted((self.notes or {}).items(), reverse=True):
            lines.insert(n + 1 + bool(self.head) + self.rule, f"    {note}")
        return "\n".join([*self.above, *(lines if self.head or self.rows else ()), *self.below])


def page(self) -> str:
    """A report for people, as its `__str__`: its sentence, then its tables, a line apart."""
    return "\n\n".join([self.sentence(), *(str(t) for t in self.tables())])


def html(self) -> str:
    """A report for a notebook, as its `_repr_html_`: the same as HTML, every text escaped."""
    parts = [paragraph(self.sentence().split("\n"))]
    for t in self.tables():
        parts += [paragraph(t.above), html_table(t), paragraph(t.below)]
    return "\n".join(part for part in parts if part)


def html_table(t: Sheet) -> str:
    """One table as HTML: the cells that `table` prints, on the same sides; notes below their rows.

    Args:
      t: a Sheet.

    Returns:
      str: a `<table>`; "" if it has neither head nor rows.
    """
    count = len(t.head) or max((len(row) for row in t.rows), default=0)
    if not count:
        return ""
    forms = (t.form,) * count if isinstance(t.form, str) else t.form
    sides = t.sides or [side([row[n] for row in t.rows]) for n in range(count)]

    def line(tag, texts):
        styles = [f' style="text-align: {"right" if s == ">" else "left"}"' for s in sides]
        cells = zip(styles, texts, strict=True)
        return f"<tr>{''.join(f'<{tag}{s}>{escape(x.strip())}</{tag}>' for s, x in cells)}</tr>"

    lines = [f"<thead>{line('th', t.head)}</thead>"] if t.head else []
    for n, row in enumerate(t.rows):
        lines.append(line("td", [text_of(x, f) for x, f in zip(row, forms, strict=True)]))
        if n in (t.notes or {}):
            note = escape((t.notes or {})[n])
            lines.append(f'<tr><td colspan="{count}" style="text-align: left">{note}</td></tr>')
    return "\n".join(["<table>", *lines, "</table>"])


def paragraph(lines):
    texts = [escape(line.strip()) for line in lines if line.strip()]
    return f"<p>{'<br>'.join(texts)}</p>" if texts else ""


def escape(text):
    return markup.escape(str(text))


# The terminal ---------------------------------------------------------------------------------

NARROWEST, WIDEST = 60, 120  # columns that are made use of


def terminal_width() -> int | None:
    """Columns of the terminal, at least 60, at most 120; None where there is no terminal."""
    columns = shutil.get_terminal_size((0, 0)).columns
    return min(max(columns, NARROWEST), WIDEST) if columns else None


def fit(text: str, width: int | None) -> str:
    """Lines that are too long go on below, indented by four more; a word is never broken.

    Args:
      text: lines.
      width: characters of a line; None: whatever they are.

    Returns:
      str: the same words.
    """
    if width is None:
        return text
    lines = []
    for line in text.split("\n"):
        if len(line) > width:  # blanks that stood for a column go first
            line = re.sub(r"(?<=\S) {4,}", " ", line)
        lines += wrap(line, width) if len(line) > width else [line]
    return "\n".join(lines)


def wrap(line, width, first=None, below=None):
    """One line as several: whole words, none broken at its sign; `first` and `below` begin them."""
    if first is None:
        first = line[: len(line) - len(line.lstrip())]
        line = line.lstrip()
    wrapper = textwrap.TextWrapper(width, first, first + "    " if below is None else below)
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return wrapper.wrap(line)


# JSON -----------------------------------------------------------------------------------------


def to_json(tree, *, indent: int | None = 1):
    """A tree as JSON, in full, a list of numbers or texts on one line.

    Args:
      tree: dicts, lists and tuples of texts, numbers, truth values, None, arrays of NumPy and JAX,
        NamedTuples and dataclasses; the last two become objects.
      indent: blanks per level; None for one line.

    Returns:
      str: JSON that every reader takes. It has no NaN and no infinity; they become the texts "NaN",
      "Infinity" and "-Infinity", which Python's `float` and JavaScript's `Number` read.

    Raises:
      TypeError: the tree holds something else.
    """
    tree = plain(tree)
    return dump(tree) if indent is None else laid_out(tree, " " * indent, "\n")


def plain(x):
    """The same tree of dicts, lists, texts, numbers, truth values and None."""
    if isinstance(x, dict):
        return {str(k): plain(v) for k, v in x.items()}
    if hasattr(x, "_asdict"):
        return plain(x._asdict())
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return {field.name: plain(getattr(x, field.name)) for field in dataclasses.fields(x)}
    if isinstance(x, list | tuple):
        return [plain(v) for v in x]
    if hasattr(x, "__array__"):
        x = np.asarray(x)
        return plain((x if x.dtype.kind in "biufSU" else x.astype(np.float64)).tolist())
    return WORDS[str(float(x))] if isinstance(x, float) and not math.isfinite(x) else x


def laid_out(x, step, newline):
    """A line per entry, but a list that holds no other list and no object is one line."""
    inner = newline + step
    if isinstance(x, dict) and x:
        parts = [f"{dump(k)}: {laid_out(v, step, inner)}" for k, v in x.items()]
        return f"{{{inner}{f',{inner}'.join(parts)}{newline}}}"
    if isinstance(x, list) and any(isinstance(v, list | dict) for v in x):
        parts = [laid_out(v, step, inner) for v in x]
        return f"[{inner}{f',{inner}'.join(parts)}{newline}]"
    return dump(x)


def dump(x):
    """On one line; what cannot be printed as JSON escapes it, which every reader takes."""
    text = json.dumps(x, ensure_ascii=False, allow_nan=False)
    if text.isprintable():
        return text
    return "".join(x if x.isprintable() else json.dumps(x)[1:-1] for x in text)


# CSV ------------------------------------------------------------------------------------------


def to_csv(head, rows):
    """Lines of values, the first of them the names; floats in full, None as nothing.

    Args:
      head: the names of the columns.
      rows: tuples of texts, numbers and None.

    Returns:
      str: without a newline at the end.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(
        [repr(float(x)) if isinstance(x, float | np.floating) else x for x in row] for row in rows
    )
    return text.getvalue().rstrip("\n")
