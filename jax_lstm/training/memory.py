"""What is kept for the backward, and what it costs: compile the choices, read their bytes.

Nothing is run and nothing is estimated: every number is what XLA says of a compiled gradient
(`memory_analysis`) on the device that is there. A sequence's share of a training step is

    arguments    params, state, xs, and the cotangents from above (dhs and that of the last state)
    outputs      the last state, hs, and the cotangents of params, state and xs
    temporaries  what is kept between forward and backward, and what the loops need

and all of it must fit. The moments of an optimiser, and the layers above and below, are not the
sequence's: take them off the budget first.
"""

import itertools
import math
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jax_lstm import printing
from jax_lstm.cells.lstm import init_lstm, init_lstm_state, lstm
from jax_lstm.doors import (
    check_dtype,
    check_flag,
    check_function,
    check_number,
    check_size,
    refuse,
)
from jax_lstm.engine import levels
from jax_lstm.engine.doors import check_options
from jax_lstm.engine.functions import Residuals
from jax_lstm.notation import Tree

ARGUMENTS = {"sequence": 3, "init": 3, "init_state": 2, "progress": 1}
CLOSE = 1.03  # the largest T and B are found to this ratio


class MemoryRow(NamedTuple):
    """One choice of residuals: bytes at the T and B asked for, and how far it goes.

    total = arguments + outputs + temporaries, and fits if it is at most the budget. largest_T has
    B as asked for and largest_B has T as asked for; both were compiled and fit, and 3 % more did
    not, or was more than `limit` times what was asked for. 0: not even one. Of other T than
    asked for only those are tried that are cut without a rest: squares for "auto", multiples of K,
    of 32 for "log".
    """

    residuals: Residuals
    arguments: int
    outputs: int
    temporaries: int
    total: int
    fits: bool
    largest_T: int
    largest_B: int


class MemoryPlan(NamedTuple):
    """What to use, and how far it goes.

    residuals: for `lstm(..., residuals=...)`; None if nothing fits.
    largest_T, largest_B: of that choice; if nothing fits, the most that any choice reaches.
    says: what to use and how far it goes, in a sentence or two.
    rows: every choice, in the order it was given.
    budget: in bytes.
    """

    residuals: Residuals | None
    largest_T: int
    largest_B: int
    says: str
    rows: tuple[MemoryRow, ...]
    budget: int

    __str__ = printing.page
    _repr_html_ = printing.html

    def sentence(self) -> str:
        return self.says

    def tables(self) -> list[printing.Sheet]:
        """A line per choice of residuals."""
        return [choices(self.rows)]

    def table(self) -> str:
        return str(self.tables()[0])

    @property
    def words(self):
        """All of it for people: what `print(plan)` prints."""
        return str(self)


def memory_plan(
    budget: float,
    *,
    T: int,
    B: int,
    D: int,
    H: int,
    sequence: Callable[..., Tree] = lstm,
    init: Callable[..., Tree] = init_lstm,
    init_state: Callable[..., Tree] = init_lstm_state,
    dtype: DTypeLike = jnp.float32,
    residuals: Sequence[Residuals] = ("full", "auto", 16, 64, "log"),
    last_only: bool = False,
    limit: int = 16,
    progress: Callable[[str], None] | None = None,
) -> MemoryPlan:
    """Which `residuals` to use so that a sequence's forward and backward fit into a budget.

    "full" runs the forward once, "auto" and K twice, "log" twice and beyond 6,144 steps three times
    or more (jax_lstm/engine/levels.py). Of those that fit the answer is what runs it least often,
    and of these the one with the fewest bytes.

    Args:
      budget: bytes.
      T, B, D, H: sizes of the sequence; see notation.py.
      sequence, init, init_state: of the cell, say `elman, init_elman, init_elman_state`, or `lstmp,
        lambda key, D, H, dtype: init_lstmp(key, D, H, R, dtype=dtype), init_lstmp_state`.
        `sequence` takes `residuals=`; an autodiff twin ignores it, and all of its rows are equal.
      dtype: of params, xs and h.
      residuals: the choices to compare.
      last_only: the loss looks at the last state alone, not at hs: two arrays of (T, B, H) fewer.
      limit: largest_T and largest_B are looked for up to so many times what is asked for.
      progress: called with a line of text before each program is compiled: which, and of which
        choice. Default: such a line on standard error, written over by the next one and cleared in
        the end, where that is a terminal; nothing elsewhere.

    Returns:
      MemoryPlan: `print(plan)`, `lstm(..., residuals=plan.residuals)`. Compiling takes about eight
      programs for each choice.

    Raises:
      ValueError: sizes, budget, choices or a dtype that cannot be; before anything is compiled.
    """
    sizes = {"T": T, "B": B, "D": D, "H": H, "limit": limit}
    functions = {"sequence": sequence, "init": init, "init_state": init_state}
    functions |= {} if progress is None else {"progress": progress}
    check(budget, sizes, functions, residuals, dtype)
    check_flag("last_only", last_only)
    T, B, D, H, limit = map(int, sizes.values())
    residuals = tuple(check_options(kept, 1)[0] for kept in residuals)
    programs = itertools.count(1)
    tell = terminal_line() if progress is None else progress

    def measure(n, kept):
        def bytes_at(T, B):
            tell(
                f"memory_plan: residuals={kept!r} ({n} of {len(residuals)}), T = {T:,}, B = {B:,}: "
                f"compiling program {next(programs)}"
            )
            args = shapes(init, init_state, T, B, D, H, jnp.dtype(dtype))
            return bytes_of(gradient(sequence, kept, last_only), args, last_only)

        asked = bytes_at(T, B)
        total = sum(asked)
        most_T = largest(lambda n: sum(bytes_at(n, B)), T, total, budget, limit, next_T(kept))
        most_B = largest(lambda n: sum(bytes_at(T, n)), B, total, budget, limit, next_T(1))
        return MemoryRow(kept, *asked, total, total <= budget, most_T, most_B)

    try:
        rows = tuple(measure(n, kept) for n, kept in enumerate(residuals, 1))
    finally:
        if progress is None:
            tell("")
    best = choose(rows, T)
    reach = rows if best is None else (best,)
    most_T, most_B = max(row.largest_T for row in reach), max(row.largest_B for row in reach)
    says = describe(budget, T, B, D, H, rows, best, limit)
    return MemoryPlan(best and best.residuals, most_T, most_B, says, rows, int(budget))


def choose(rows, T):
    """The row to use, or None."""
    fitting = [row for row in rows if row.fits]
    return min(fitting, key=lambda row: (runs(row.residuals, T), row.total), default=None)


def runs(residuals, T):
    """How often the forward is run."""
    return 1 if residuals == "full" else 1 + (levels.depth(T) if residuals == "log" else 1)


# Bytes ----------------------------------------------------------------------------------------


def shapes(init, init_state, T, B, D, H, dtype):
    """Shapes of params, state and xs."""
    params = jax.eval_shape(lambda: init(jax.random.key(0), D, H, dtype=dtype))
    state = jax.eval_shape(lambda params: init_state(params, (B,)), params)
    return params, state, jax.ShapeDtypeStruct((T, B, D), dtype)


def gradient(sequence, residuals, last_only):
    """What a training step asks of a sequence: its outputs, and with their cotangents its own."""

    def forward(*args):
        state, hs = sequence(*args, residuals=residuals)
        return state if last_only else (state, hs)

    def both(args, dy):
        y, back = jax.vjp(forward, *args)
        return y, back(dy)

    return both


def bytes_of(both, args, last_only):
    """(arguments, outputs, temporaries) of the compiled gradient."""
    _, state, xs = args
    dy = state
    if not last_only:
        h = state[0]
        dy = (state, jax.ShapeDtypeStruct((xs.shape[0], *h.shape), h.dtype))
    stats = jax.jit(both).lower(args, dy).compile().memory_analysis()
    if stats is None:
        raise RuntimeError(f"{jax.default_backend()} does not say what a program needs")
    return stats.argument_size_in_bytes, stats.output_size_in_bytes, stats.temp_size_in_bytes


def largest(total, n, now, budget, limit, step):
    """The most of n that fits, found by compiling; `now` is total(n).

    A line through the two last points says where to look. Numbers are steps of the grid: for others
    a frugal run has segments of two lengths, and memory would not grow smoothly.
    """
    low, high = (0, limit * n + 1) if now <= budget else (0, n)
    low = n if now <= budget else low
    known = [(0, 0.0), (n, float(now))]
    while (nearest := step(max(low, int(low * CLOSE)))) < high:
        (n0, bytes0), (n1, bytes1) = known[-2:]
        slope = (bytes1 - bytes0) / (n1 - n0)
        aim = int(0.99 * (n0 + (budget - bytes0) / slope)) if slope else 0
        guess = max(nearest, step(min(aim, high - 1) - 1))
        guess = nearest if guess >= high else guess
        known.append((guess, float(total(guess))))
        low, high = (guess, high) if known[-1][1] <= budget else (low, guess)
    return low


def next_T(residuals):
    """The next number of steps that is cut without a rest: squares for "auto", multiples of K, or
    of the segments of "log".

    Fewer than K are one segment.
    """
    if residuals == "auto":
        return lambda n: (math.isqrt(max(n, 0)) + 1) ** 2
    K = levels.LOG.steps if residuals == "log" else residuals if isinstance(residuals, int) else 1
    return lambda n: n + 1 if n < K else (n // K + 1) * K


# Words ----------------------------------------------------------------------------------------


def describe(budget, T, B, D, H, rows, best, limit):
    """The plan for people: a sentence or two."""
    device = jax.devices()[0]
    asked = f"T = {T:,}, B = {B:,}, D = {D:,}, H = {H:,} in {megabytes(budget)}"
    if best is None:
        least = min(rows, key=lambda row: row.total)
        far = max(rows, key=lambda row: row.largest_T)
        wide = max(rows, key=lambda row: row.largest_B)
        said = [
            f"Nothing fits {asked}.",
            f"The least is residuals={least.residuals!r} with {megabytes(least.total)}.",
            f"What fits: T = {far.largest_T:,} (residuals={far.residuals!r}), or B = "
            f"{wide.largest_B:,} (residuals={wide.residuals!r})."
            if far.largest_T or wide.largest_B
            else "Not even one step, and not even one example, fits.",
        ]
    else:
        why = "the fastest, and it fits" if best.residuals == "full" else "the fewest bytes"
        if best.residuals != "full" and any(row.fits and row.total < best.total for row in rows):
            why = "the fewest bytes of what runs the forward twice"
        said = [
            f"Use residuals={best.residuals!r} for {asked}: {why} ({megabytes(best.total)}).",
            f"It fits up to T = {best.largest_T:,}{more(best.largest_T, T, limit)}, or up to B = "
            f"{best.largest_B:,}{more(best.largest_B, B, limit)}.",
        ]
    return " ".join([*said, f"As compiled for {device.device_kind}."])


def choices(rows):
    """A line per choice of residuals."""
    names = "arguments", "outputs", "temporaries", "total"
    sizes = [[getattr(row, name) for name in names] for row in rows]
    least = [min(column) for column in zip(*sizes, strict=True)]  # one unit per column
    head = "residuals", *names, "fits", "largest T", "largest B"
    cells = tuple(
        (
            str(row.residuals),
            *map(megabytes, numbers, least),
            "yes" if row.fits else "no",
            row.largest_T,
            row.largest_B,
        )
        for row, numbers in zip(rows, sizes, strict=True)
    )
    return printing.Sheet(head, cells, form=",", sides=">" * len(head))


def terminal_line():
    """A function that writes a text over the one before, on standard error if that is a terminal;
    "" clears it. Elsewhere the function does nothing."""
    if sys.stderr is None or not sys.stderr.isatty():
        return lambda text: None
    wide, before = (printing.terminal_width() or printing.NARROWEST) - 1, [0]

    def tell(text):
        blanks = " " * (before[0] - len(text[:wide]))
        before[0] = len(text[:wide])
        back = "" if text else "\r"
        sys.stderr.write(f"\r{text[:wide]}{blanks}{back}")
        sys.stderr.flush()

    return tell


def more(found, asked, limit):
    return " and more (as far as was tried)" if found * CLOSE > limit * asked else ""


def megabytes(n, least=None):
    """MiB, or bytes where they, or the least of those beside them, would be 0.0 MiB."""
    enough = (n if least is None else least) >= 2**17
    return f"{n / 2**20:,.1f} MiB" if enough else f"{n:,.0f} B"


def check(budget, sizes, functions, residuals, dtype):
    for name, n in sizes.items():
        check_size(name, n, 1)
    for name, function in functions.items():
        check_function(name, function, ARGUMENTS[name])
    check_number("budget", budget, "a number of bytes > 0", traced=False)
    if not budget > 0:
        refuse("budget", "a number of bytes > 0", budget)
    if not isinstance(residuals, tuple | list) or not residuals:
        refuse("residuals", 'choices, say ("full", "auto", 16)', residuals)
    for kept in residuals:
        check_options(kept, 1)
    check_dtype("dtype", dtype)
