"""A trace on paper: each equation with its numbers, as tables, JSON and CSV.

    c = f * c_prev + i * g = 0.85195*0 + 0.96083*0.81775                     = 0.78573

Numbers are printed with five digits and computed with all of theirs. The equations are those of
trace.py; here they are only read, and every name is replaced by the number it stands for.
"""

import csv
import io
import json
import re
import textwrap

import numpy as np

from jax_lstm.teaching.trace import NAME, WEIGHT

DIGITS = 5
WIDTH = 84  # of the equations; their values stand behind it
EACH = 6  # elements of an array that are worked out one by one
COLUMNS = 7  # numbers of a row side by side
TERMS = 16  # of a sum that are written down
PRINTED = 5_000  # numbers that a reader may get
KEPT = 5_000_000  # numbers that a file may hold
LEGEND = (
    "dX is dL/dX; the first step is t = 0, and x(t=1) is x of step 1. `@` is the matrix product, "
    "`.T` the transpose, `^2` the square, `sum` adds what is there (examples; for the loss, units "
    "as well); the rest is element by element. Where something is used twice is a FORK, and what "
    f"comes back from its branches is added. Printed with {DIGITS} digits, computed with all."
)
TOKEN = re.compile(
    r"(?P<left>\w+)(?P<turned>\.T)? @ (?P<right>\w+)(?P<transpose>\.T)?"
    r"|(?P<function>sigmoid|softmax)\((?P<of>\w+)\)"
    r"|(?P<name>\b(?!tanh\b|log\b|exp\b)[A-Za-z]\w*(?:\(t=\d+\))?)"
)


def number(x, digits=DIGITS):
    """Five digits, as one would copy them: 0.85195, -0.0016459, 0."""
    return f"{float(x) + 0.0:.{digits}g}"


# An equation with its numbers -----------------------------------------------------------------


def signed(x, first=False):
    """A number inside an expression: the negative ones in parentheses."""
    text = number(x)
    return f"({text})" if text.startswith("-") and not first else text


def element(x, index):
    """Of an array that may have fewer axes than the result, the number that counts."""
    x = np.asarray(x)
    return x[tuple(index[len(index) - x.ndim :])] if x.ndim <= len(index) else x[index]


def added(terms):
    if len(terms) > TERMS:
        terms = [*terms[:3], "...", terms[-1]]
    return " + ".join(terms) or "0"


def worked(equation, of, index):
    """The equation with the numbers of one element.

    Args:
      equation: as in trace.py; "" for what is given.
      of: {name: array}.
      index: of the element in the result.
    """
    start = equation.find("sum(")
    if start >= 0:
        end = closing(equation, start + 3)
        inner, rest = equation[start + 4 : end], (equation[:start], equation[end + 1 :])
        x = next(np.asarray(of[name]) for name in NAME.findall(inner) if name in of)
        places = (
            [(n, *index) for n in range(len(x))]
            if index
            else [tuple(n) for n in np.ndindex(x.shape)]
        )
        terms = added([worked(inner, of, place) for place in places])
        terms = f"({terms})" if len(places) > 1 and (rest[0] or rest[1]) else terms
        return f"{rest[0]}{terms}{rest[1]}"

    def numbers(match):
        first = equation[: match.start()][-1:] in ("", "(")
        first = first and not equation[match.end() :].startswith("^")
        if match["name"]:
            return signed(element(of[match["name"]], index), first)
        if match["function"]:
            return squashed(match["function"], np.asarray(of[match["of"]]), index)
        return product(of, match, index, first)

    return TOKEN.sub(numbers, equation).replace(" * ", "*")


def squashed(function, x, index):
    """sigmoid and softmax, by exp: what a pocket calculator has."""
    if function == "sigmoid":
        return f"1 / (1 + exp({number(-element(x, index))}))"
    every = added([f"exp({number(v)})" for v in x[index[:-1]]])
    return f"exp({number(x[index])}) / ({every})"


def product(of, match, index, first):
    """A row times a column."""
    left, right = (np.asarray(of[match[k]]) for k in ("left", "right"))
    left = left.T if match["turned"] else left
    right = right.T if match["transpose"] else right
    pairs = zip(left[index[0]], right[:, index[1]], strict=True)
    return added([f"{signed(a, first and n == 0)}*{signed(b)}" for n, (a, b) in enumerate(pairs)])


def closing(text, at):
    """Where the parenthesis that opens at `at` closes."""
    depth = 0
    for n in range(at, len(text)):
        depth += {"(": 1, ")": -1}.get(text[n], 0)
        if depth == 0:
            return n
    raise ValueError(f"unbalanced: {text}")


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
    many = printed_count(traced)
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
    bad = not_numbers(traced)
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
    numbers = [worked(s.equation, s.of, place) for place in places[:EACH]]
    plain = all(text in ("", number(value[n])) for text, n in zip(numbers, places, strict=False))
    said = joined(s.name, s.equation) + (f"   {beside}" if beside else "")
    if len(places) == 1:
        text = joined(s.name, s.equation, "" if plain else numbers[0])
        yield from valued("  ", text, value[places[0]], beside)
    elif plain and len(places) <= EACH and shown.ndim == 1:  # given, or handed on as it is
        yield from hung("  ", joined(s.name, s.equation, vector(s, row)))
    else:
        yield f"  {said}"
        worked_out = [] if plain else numbers if len(places) <= EACH else numbers[:1]
        for place, text in zip(places, worked_out, strict=False):
            yield from valued("    ", f"{label(s, place)} {text}", value[place], "")
        if plain or len(places) > EACH:
            yield from grid(s, shown)
    if s.branches and s.part != "over time":
        yield from fork_lines(s, row)


def joined(*parts):
    return " = ".join(part for part in parts if part)


def valued(indent, text, value, beside):
    """Text, wrapped, and its value in the column behind it."""
    *before, last = wrapped(text, WIDTH + 2, indent, indent + "    ")
    yield from before
    end = f"   {beside}" if beside else ""
    yield f"{last:<{WIDTH + 2}} = {number(value):<11}{mark(value)}{end}".rstrip()


def wrapped(text, width, first, then):
    """Lines of whole numbers: none is broken, not at its sign either."""
    wrapper = textwrap.TextWrapper(width, first, then)
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return wrapper.wrap(text)


def hung(indent, text):
    """A line that ends in a row of numbers, wrapped below the first of them."""
    below = " " * (len(indent) + text.rfind("[") + 1)
    for line in wrapped(text, WIDTH + 12, indent, below):
        yield line + "  <-- NaN" * ("nan" in line)


def fork_lines(s, row):
    """The branches that meet here, and the sum without each of them."""
    text = f"FORK: {s.note}. Their sum is {s.name}."
    yield from textwrap.wrap(text, WIDTH + 12, initial_indent=" " * 6, subsequent_indent=" " * 8)
    for name in s.branches:
        others = np.sum([np.asarray(s.of[k]) for k in s.branches if k != name], axis=0)
        rest = s._replace(value=others)
        yield from hung(" " * 8, f"without {name + ':':<17} {s.name} = {vector(rest, row)}")


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
    block = np.atleast_2d(shown)
    for n, row in enumerate(block):
        for start in range(0, len(row), COLUMNS):
            part = row[start : start + COLUMNS]
            head = f"[{n}]" if len(block) > 1 and not start else ""
            yield f"    {head:4}" + " ".join(f"{number(v):>11}" for v in part) + mark(part)


def mark(value):
    return "  <-- NaN" if np.isnan(value).any() else ""


def printed_count(traced):
    return sum(
        len(elements(s, 0)) for s in traced.stages if s.t is None or not WEIGHT.fullmatch(s.name)
    )


def not_numbers(traced):
    """Where NaN came in: the first given arrays that have one."""
    for s in traced.stages:
        for name, x in s.of.items() if s.equation else [(s.name, s.value)]:
            x = np.asarray(x)
            if np.isnan(x).any():
                where = brackets(np.argwhere(np.isnan(x))[0]) if x.ndim else ""
                return f"{name}{where}" + ("" if s.t is None else f" at t={s.t}, {s.part}")
    return ""


# Files ----------------------------------------------------------------------------------------


def plain(x):
    """For JSON: arrays as lists, and what JSON has no number for as a word."""
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [plain(v) for v in x]
    if hasattr(x, "shape"):
        return plain(np.asarray(x).tolist())
    if isinstance(x, float) and not np.isfinite(x):
        return {"inf": "Infinity", "-inf": "-Infinity"}.get(str(x), "NaN")
    return x


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
    text = json.dumps({"runs": plain(found)}, indent=1, allow_nan=False)
    return re.sub(r"\[[^\[\]{}\"]*\]", lambda row: " ".join(row[0].split()), text)  # a row, a line


def to_csv(runs):
    """A line per number: run, part, t, name, element, equation, value; see `to_json`."""
    rows = (
        (title, s.part, "" if s.t is None else s.t, s.name, brackets(place), s.equation, value)
        for title, traced in runs
        for s in traced.stages
        for place, value in np.ndenumerate(np.asarray(s.value))
    )
    return csv_text(["run", "part", "t", "name", "element", "equation", "value"], rows)


def csv_text(names, rows):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([repr(float(v)) if isinstance(v, float) else v for v in r] for r in rows)
    return text.getvalue().rstrip("\n")


def check_size(T, B, D, H, gates):
    """Complain about a trace that fits nowhere, before it is made: every step has its own dW."""
    numbers = T * (B * (H * (6 * gates + 12) + D * (gates + 2)) + gates * H * (D + H + 1))
    if numbers > KEPT:
        raise ValueError(
            f"T={T}, B={B}, D={D}, H={H} make {numbers:,} numbers, and a trace keeps at most "
            f"{KEPT:,}: every step has its own dW. Pass fewer steps, or a smaller network"
        )
