"""A trace on paper: each equation with its numbers, as tables, JSON and CSV.

    c = f * c_prev + i * g = 0.85195*0 + 0.96083*0.81775                     = 0.78573

Numbers are printed with five digits and computed with all of theirs. The equations are those of
trace.py; equations.py replaces every name by the number it stands for.
"""

import textwrap

import numpy as np

from jax_lstm import printing
from jax_lstm.teaching.equations import DIGITS, fill, number, write
from jax_lstm.teaching.trace import WEIGHT

WIDTH = 84  # of the equations; their values stand behind it
EACH = 6  # elements of an array that are worked out one by one
COLUMNS = 7  # numbers of a row side by side
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


# Tables ---------------------------------------------------------------------------------------


def table(traced, title="", note="", *, row=0, beside=None):
    """The trace on paper: forward, then in reverse, then the sums over time.

    Args:
      traced: a Traced.
      title, note: above it.
      row: which example of the batch is shown; products over examples have all.
      beside: {(name, t): text}, what to print beside a line: somebody else's digits.

    Returns:
      One text of many lines.

    Raises:
      ValueError: more numbers than anybody would read, or no such row.
    """
    examples = len(traced.stages[0].value)  # x, a row per example
    if not 0 <= row < examples:
        raise ValueError(f"`row` must be an example of the batch, 0 to {examples - 1}; got {row}")
    many = count_printed(traced)
    if many > PRINTED:
        raise TooLarge(
            f"too large to print: {many:,} numbers, and at most {PRINTED:,} are; pass fewer steps "
            "or units (--size), or --json FILE or --csv FILE, which hold everything"
        )
    lines = [title]
    for text in (note, LEGEND):
        lines += ["", *textwrap.wrap(text, WIDTH + 12)] if text else []
    if examples > 1:
        lines += [
            "",
            f"Of {examples} examples, example {row} is shown; weights add up all of them.",
        ]
    bad = find_nan(traced)
    if bad:
        lines += ["", f"NaN: {bad}. Every number that it reaches is marked."]
    part: tuple[str, int | None] | None = None
    for s in traced.stages:
        if (s.part, s.t) != part:
            part = s.part, s.t
            lines += ["", heading(s)]
        lines += stage_lines(s, row, (beside or {}).get((s.name, s.t), ""))
    if traced.loss is not None:
        lines += ["", f"loss = {number(traced.loss)}{mark(traced.loss)}"]
    return "\n".join(lines).strip("\n")


def heading(s):
    note = ": a weight goes into every step, a fork, and its shares are added"
    return s.part + (f", t = {s.t}" if s.t is not None else note if s.branches else "")


def stage_lines(s, row, beside):
    """A stage, its numbers, and at a fork what each branch is worth."""
    value, places = np.asarray(s.value), elements(s, row)
    shown = value[row] if value.ndim == 2 and not WEIGHT.fullmatch(s.name) else value
    few = places[:EACH] if s.equation else []
    of = {k: np.asarray(x) for k, x in s.of.items()}
    numbers = [write(fill(s.equation, of, place)) for place in few]
    plain = all(text == number(value[place]) for text, place in zip(numbers, few, strict=True))
    said = join(s.name, s.equation) + (f"   {beside}" if beside else "")
    if len(places) == 1:
        text = join(s.name, s.equation, "" if plain else numbers[0])
        yield from write_value("  ", text, value[places[0]], beside)
    elif plain and len(places) <= EACH and shown.ndim == 1:  # given, or handed on as it is
        yield from hang("  ", join(s.name, s.equation, vector(s, row)))
    else:
        yield f"  {said}"
        worked_out = [] if plain else numbers if len(places) <= EACH else numbers[:1]
        for place, text in zip(places, worked_out, strict=False):
            yield from write_value("    ", f"{label(s, place)} {text}", value[place])
        if plain or len(places) > EACH:
            yield from grid(s, shown)
    if s.branches and s.part != "over time":
        yield from fork_lines(s, row)


def join(*parts):
    return " = ".join(part for part in parts if part)


def write_value(indent, text, value, beside=""):
    """Text, wrapped, and its value in the column behind it."""
    *before, last = wrap(text, WIDTH + 2, indent, indent + "    ")
    yield from before
    end = f"   {beside}" if beside else ""
    yield f"{last:<{WIDTH + 2}} = {number(value):<11}{mark(value)}{end}".rstrip()


def wrap(text, width, first, then):
    """Lines of whole numbers: none is broken, not at its sign either."""
    wrapper = textwrap.TextWrapper(width, first, then)
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return wrapper.wrap(text)


def hang(indent, text):
    """A line that ends in a row of numbers, wrapped below the first of them."""
    below = " " * (len(indent) + text.rfind("[") + 1)
    for line in wrap(text, WIDTH + 12, indent, below):
        yield line + "  <-- NaN" * ("nan" in line)


def fork_lines(s, row):
    """The branches that meet here, and the sum without each of them."""
    text = f"FORK: {s.note}. Their sum is {s.name}."
    yield from textwrap.wrap(text, WIDTH + 12, initial_indent=" " * 6, subsequent_indent=" " * 8)
    for name in s.branches:
        others = np.sum([np.asarray(s.of[k]) for k in s.branches if k != name], axis=0)
        rest = s._replace(value=others)
        yield from hang(" " * 8, f"without {name + ':':<17} {s.name} = {vector(rest, row)}")


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


def grid(s, shown):
    """All numbers in rows; of a weight's share at one step, how many there are."""
    if s.t is not None and WEIGHT.fullmatch(s.name) and shown.size > EACH:
        yield f"    ... {shown.size} numbers; --json and --csv have them all{mark(shown)}"
        return
    block, lines = np.atleast_2d(shown), []
    for n, row in enumerate(block):
        for start in range(0, len(row), COLUMNS):
            part = row[start : start + COLUMNS]
            head = f"[{n}]" if len(block) > 1 and not start else ""
            empty = [""] * (COLUMNS - len(part))
            lines.append((head, *map(number, part), *empty, mark(part).strip()))
    sides, widths = "<" + ">" * COLUMNS + "<", (3, *(10,) * COLUMNS)
    text = printing.table((), lines, sides=sides, widths=widths)
    yield from textwrap.indent(text, "    ").split("\n")


def mark(value):
    return "  <-- NaN" if np.isnan(value).any() else ""


def count_printed(traced):
    return sum(
        len(elements(s, 0)) for s in traced.stages if s.t is None or not WEIGHT.fullmatch(s.name)
    )


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
