"""A trace on paper: each equation with its numbers, as tables, JSON and CSV.

    c = f * c_prev + i * g = 0.85195*0 + 0.96083*0.81775                     = 0.78573

Numbers are printed with five digits and computed with all of theirs. The equations are those of
trace.py; equations.py replaces every name by the number it stands for.
"""

import textwrap
from typing import NamedTuple

import numpy as np

from jax_lstm import printing
from jax_lstm.printing import fit, pad, wrap
from jax_lstm.teaching.equations import DIGITS, fill, number, write
from jax_lstm.teaching.trace import WEIGHT

WIDTH = 84  # of the equations on paper; their values stand behind it
VALUES = 16  # characters of " = ", a value, and the blanks before it
EACH = 6  # elements of an array that are worked out one by one
ROOM = 24  # characters that a row of numbers needs to hang below its first
PRINTED = 5_000  # numbers that a reader may get
KEPT = 5_000_000  # numbers that a file may hold
LEGEND = (
    "dX is dL/dX; the first step is t = 0, and x(t=1) is x of step 1. `@` is the matrix product, "
    "`.T` the transpose, `^2` the square, `sum` adds what is there (examples; for the loss, units "
    "as well); the rest is element by element. Where something is used twice is a FORK, and what "
    f"comes back from its branches is added. Printed with {DIGITS} digits, computed with all."
)


class TooLarge(ValueError):
    """More numbers than anybody would read, or than a picture holds."""


class Page(NamedTuple):
    """How wide the lines are, and which of them are shown.

    width: at most so many characters. None is paper: equations and values within 100, and in the
      margin what somebody else printed.
    margin: characters of the width that are kept free for that.
    parts, steps, names: "forward", "backward", "over time"; time steps; names of stages. Empty: all
      of them.
    """

    width: int | None = None
    margin: int = 0
    parts: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()
    names: tuple[str, ...] = ()

    def equations(self):
        """Characters of the equations."""
        return WIDTH if self.width is None else self.width - VALUES - self.margin

    def text(self):
        """Characters of everything else."""
        return WIDTH + 12 if self.width is None else self.width - 4

    def with_margin(self, remarks):
        """The same page with room for remarks, where enough is left for the equations."""
        margin = 3 + max(map(len, remarks), default=-3)
        room = self.width is not None and self.width - margin >= printing.NARROWEST
        return self._replace(margin=margin) if room else self

    def is_whole(self):
        return not (self.parts or self.steps or self.names)

    def shows(self, part, t, name):
        return (
            (not self.parts or part in self.parts)
            and (not self.steps or t in self.steps)
            and (not self.names or name in self.names)
        )


PAPER = Page()


def check_shown(page, lines):
    """Complain about parts, steps and stages that nobody has.

    Args:
      page: a Page.
      lines: (part, t, name) of all that could be shown.

    Raises:
      ValueError: what is asked for is not there, or not together.
    """
    lines = list(lines)
    parts, steps, names = (list(dict.fromkeys(column)) for column in zip(*lines, strict=True))
    steps = [t for t in steps if t is not None]
    asked = {"part": page.parts, "step": page.steps, "stage": page.names}
    for (kind, wanted), there in zip(asked.items(), (parts, steps, names), strict=True):
        for one in wanted:
            if one not in there:
                known = ", ".join(map(str, sorted(there) if kind == "step" else there))
                raise ValueError(
                    f"--{kind} {one}: no such {kind} here; there are: {known or 'none'}"
                )
    if not any(page.shows(*line) for line in lines):
        said = " ".join(f"--{k} {','.join(map(str, v))}" for k, v in asked.items() if v)
        places = {f"{name} is in {part}": None for part, _, name in lines if name in page.names}
        where = ", ".join(places) or "what is in over time has no step"
        raise ValueError(f"{said} together leave nothing to show; {where}")


# Tables ---------------------------------------------------------------------------------------


def table(traced, title="", note="", *, row=0, beside=None, page=PAPER):
    """The trace on paper: forward, then in reverse, then the sums over time.

    Args:
      traced: a Traced.
      title, note: above it.
      row: which example of the batch is shown; products over examples have all.
      beside: {(name, t): text}, what to print beside a line: somebody else's digits.
      page: a Page. Of a part, title and lines are printed, and no legend and no loss.

    Returns:
      One text of many lines.

    Raises:
      ValueError: more numbers than anybody would read, or no such row.
    """
    examples = len(traced.stages[0].value)  # x, a row per example
    if not 0 <= row < examples:
        raise ValueError(f"`row` must be an example of the batch, 0 to {examples - 1}; got {row}")
    stages = [s for s in traced.stages if page.shows(s.part, s.t, s.name)]
    many = count_printed(stages)
    if many > PRINTED:
        raise TooLarge(
            f"too large to print: {many:,} numbers, and at most {PRINTED:,} are; pass fewer steps "
            "or units (--size), ask for a part (--step, --stage, --part), or pass --json FILE or "
            "--csv FILE, which hold everything"
        )
    lines = [title]
    for text in (note, LEGEND) if page.is_whole() else ():
        lines += ["", *textwrap.wrap(text, page.text())] if text else []
    if examples > 1:
        lines += [
            "",
            f"Of {examples} examples, example {row} is shown; weights add up all of them.",
        ]
    bad = find_nan(traced)
    if bad:
        lines += ["", f"NaN: {bad}. Every number that it reaches is marked."]
    page = page.with_margin((beside or {}).values())
    part: tuple[str, int | None] | None = None
    for s in stages:
        if (s.part, s.t) != part:
            part = s.part, s.t
            lines += ["", heading(s)]
        lines += stage_lines(s, row, (beside or {}).get((s.name, s.t), ""), page)
    if traced.loss is not None and page.is_whole():
        lines += ["", f"loss = {number(traced.loss)}{mark(traced.loss)}"]
    return fit("\n".join(lines).strip("\n"), page.width)


def heading(s):
    note = ": a weight goes into every step, a fork, and its shares are added"
    return s.part + (f", t = {s.t}" if s.t is not None else note if s.branches else "")


def stage_lines(s, row, beside, page):
    """A stage, its numbers, and at a fork what each branch is worth."""
    value, places = np.asarray(s.value), elements(s, row)
    shown = value[row] if value.ndim == 2 and not WEIGHT.fullmatch(s.name) else value
    few = places[:EACH] if s.equation else []
    of = {k: np.asarray(x) for k, x in s.of.items()}
    numbers = [write(fill(s.equation, of, place)) for place in few]
    plain = all(text == number(value[place]) for text, place in zip(numbers, few, strict=True))
    if len(places) == 1:
        text = join(s.name, s.equation, "" if plain else numbers[0])
        yield from write_value("  ", text, value[places[0]], beside, page)
    elif plain and len(places) <= EACH and shown.ndim == 1:  # given, or handed on as it is
        yield from hang("  ", join(s.name, s.equation, vector(s, row)), page)
    else:
        *before, last = wrap(join(s.name, s.equation), page.text() + 4, "  ", " " * 6)
        yield from [*before, *with_remark(last, beside, page)]
        worked_out = [] if plain else numbers if len(places) <= EACH else numbers[:1]
        for place, text in zip(places, worked_out, strict=False):
            text = f"{label(s, place)} {text}"
            yield from write_value("    ", text, value[place], page=page)
        if plain or len(places) > EACH:
            yield from grid(s, shown, page)
    if s.branches and s.part != "over time":
        yield from fork_lines(s, row, page)


def join(*parts):
    return " = ".join(part for part in parts if part)


def write_value(indent, text, value, beside="", page=PAPER):
    """Text, wrapped, and its value in the column behind it."""
    *before, last = wrap(text, page.equations() + 2, indent, indent + "    ")
    yield from before
    value = f"{pad(number(value), 11)}{mark(value)}"
    if page.width is not None and not page.margin:
        value = " ".join(value.split())
    yield from with_remark(f"{pad(last, page.equations() + 2)} = {value}", beside, page)


def with_remark(line, beside, page):
    """The line and what somebody else printed: beside it, or below where that is too long."""
    whole = f"{line}   {beside}" if beside else line.rstrip()
    if not beside or page.width is None or len(whole) <= page.width:
        yield whole
    else:
        yield from (line.rstrip(), *wrap(beside, page.width, " " * 8, " " * 12))


def hang(indent, text, page):
    """A line that ends in a row of numbers, wrapped below the first of them."""
    start, wide = len(indent) + text.rfind("[") + 1, page.text()
    if page.width is not None and "nan" in text:  # room for its mark
        wide -= 5
    below = start if start <= wide - ROOM else len(indent) + 4
    for line in wrap(text, wide, indent, " " * below):
        yield line + "  <-- NaN" * ("nan" in line)


def fork_lines(s, row, page):
    """The branches that meet here, and the sum without each of them."""
    text = f"FORK: {s.note}. Their sum is {s.name}."
    yield from textwrap.wrap(text, page.text(), initial_indent=" " * 6, subsequent_indent=" " * 8)
    for name in s.branches:
        others = np.sum([np.asarray(s.of[k]) for k in s.branches if k != name], axis=0)
        rest = s._replace(value=others)
        text = f"without {pad(name + ':', 17)} {s.name} = {vector(rest, row)}"
        yield from hang(" " * 8, text, page)


def elements(s, row):
    """Indices of what is shown of a stage's value."""
    value = np.asarray(s.value)
    if value.ndim == 2 and not WEIGHT.fullmatch(s.name):
        return [(row, n) for n in range(value.shape[1])]
    return list(np.ndindex(value.shape))


def label(s, place):
    return brackets(place if WEIGHT.fullmatch(s.name) else place[-1:])


def brackets(place):
    return "".join(f"[{n}]" for n in place)


def vector(s, row):
    """All numbers of one example: 0.5, or [0.5, 3]."""
    value = np.asarray(s.value)
    found = [number(value[place]) for place in elements(s, row)]
    return found[0] if len(found) == 1 else f"[{', '.join(found)}]"


def grid(s, shown, page):
    """All numbers in rows; of a weight's share at one step, how many there are."""
    if s.t is not None and WEIGHT.fullmatch(s.name) and shown.size > EACH:
        yield f"    ... {shown.size} numbers; --json and --csv have them all{mark(shown)}"
        return
    block, lines, count = np.atleast_2d(shown), [], page.text() // 12 - 1  # side by side
    for n, row in enumerate(block):
        for start in range(0, len(row), count):
            part = row[start : start + count]
            head = f"[{n}]" if len(block) > 1 and not start else ""
            empty = [""] * (count - len(part))
            lines.append((head, *map(number, part), *empty, mark(part).strip()))
    sides, widths = "<" + ">" * count + "<", (3, *(10,) * count)
    text = printing.table((), lines, sides=sides, widths=widths)
    yield from textwrap.indent(text, "    ").split("\n")


def mark(value):
    return "  <-- NaN" if np.isnan(value).any() else ""


def count_printed(stages):
    return sum(len(elements(s, 0)) for s in stages if s.t is None or not WEIGHT.fullmatch(s.name))


def find_nan(traced):
    """Where NaN came in: the first given arrays that have one."""
    for s in traced.stages:
        for name, x in s.of.items() if s.equation else [(s.name, s.value)]:
            x = np.asarray(x)
            if np.isnan(x).any():
                where = brackets(np.argwhere(np.isnan(x))[0]) if x.ndim else ""
                return f"{name}{where}" + ("" if s.t is None else f" at t={s.t}, {s.part}")
    return ""


# Files ----------------------------------------------------------------------------------------


def to_json(runs):
    """{"runs": [...]}: the arrays by name, time first, in full; and the lines they come from.

    Args:
      runs: [(title, Traced), ...].
    """
    found = [
        {
            "title": title,
            "loss": traced.loss,
            "forward": traced.forward,
            "backward": traced.backward,
            "gradients": traced.gradients,
            "stages": [
                {"part": s.part, "t": s.t, "name": s.name, "equation": s.equation}
                | ({"branches": s.branches, "note": s.note} if s.branches else {})
                for s in traced.stages
            ],
        }
        for title, traced in runs
    ]
    return printing.to_json({"runs": found})


def to_csv(runs):
    """A line per number: run, part, t, name, element, equation, value; see `to_json`."""
    rows = (
        (title, s.part, s.t, s.name, brackets(place), s.equation, value)
        for title, traced in runs
        for s in traced.stages
        for place, value in np.ndenumerate(np.asarray(s.value))
    )
    head = ("run", "part", "t", "name", "element", "equation", "value")
    return printing.to_csv(head, rows)


def check_size(T, B, D, H, gates):
    """Complain about a trace that fits nowhere, before it is made: every step has its own dW."""
    numbers = T * (B * (H * (6 * gates + 12) + D * (gates + 2)) + gates * H * (D + H + 1))
    if numbers > KEPT:
        raise ValueError(
            f"T={T}, B={B}, D={D}, H={H} make {numbers:,} numbers, and a trace keeps at most "
            f"{KEPT:,}: every step has its own dW. Pass fewer steps, or a smaller network"
        )
