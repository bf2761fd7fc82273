"""Is a run slower than an older one? Paired ratios, then and now; never the times of two runs.

    r = our seconds / theirs, within a round; theirs: A0 and G
    slowdown = median of r now / median of r then

This library does not change the LSTM's A0, nor G. Another cell's A0 is its own plain twin, made of
our `step_for_jax` or `step`: a change there moves both sides, and can hide a slowdown or look like
one. The table says so where it holds such a cell.

Slower means: against every one of A0 and G that both runs hold, the slowdown is beyond 1 +
threshold, and by a bootstrap over rounds it is above 1 in 99 of 100 draws. What has
no G is compared with A0 alone, and the table says so.
"""

from typing import NamedTuple

import numpy as np
import scipy.stats

from experiments.speed.cases import OF_CELLS
from experiments.speed.contestants import OURS

BASES = ("A0", "G")
DRAWS = 2000
DOUBT = 0.01  # of the draws may say that nothing got slower
NOTE = "A0 of a cell other than the LSTM is this library's own plain twin: it can change too."
FEWEST = 5  # rounds, then and now


class Row(NamedTuple):
    """What was compared; the least slowdown over the bases, its base, and the bootstrap's low end.
    `slower` is None where there are too few rounds for a judgement."""

    what: str
    base: str
    slowdown: float
    low: float
    slower: bool | None


def compare(old, new, threshold):
    """A Row for everything that both runs hold; [] if that is nothing."""
    then = {(case["size"], case["variant"]): case["contestants"] for case in old["cases"]}
    rows = []
    for case in new["cases"]:
        before = then.get((case["size"], case["variant"]), {})
        for name in ours_in(case["contestants"]):
            for kind in case["contestants"][name]:
                found = [
                    compare_with(before, case["contestants"], name, base, kind)
                    for base in BASES
                    if holds(before, name, base, kind)
                    and holds(case["contestants"], name, base, kind)
                ]
                if found:
                    base, least, low, rounds = min(found, key=lambda row: row[1])
                    lowest = min(row[2] for row in found)
                    slower = least > 1 + threshold and lowest > 1
                    what = f"{case['size']} {case['variant']}, {name}, {kind}"
                    base = base if len(found) > 1 else f"{base} alone"
                    rows.append(Row(what, base, least, low, slower if rounds >= FEWEST else None))
    return rows


def ours_in(contestants):
    return [name for name in contestants if name.split(" on ")[0] in OURS]


def holds(contestants, name, base, kind):
    return all("seconds" in contestants.get(n, {}).get(kind, {}) for n in (name, base))


def compare_with(before, now, name, base, kind):
    """(base, slowdown, its low end, the fewer rounds of the two)."""
    pairs = [np.divide(*(rows[n][kind]["seconds"] for n in (name, base))) for rows in (before, now)]
    found, fewest = float(slowdown(*pairs)), min(map(len, pairs))
    if fewest < 2:  # a single round can only be drawn again
        return base, found, found, fewest
    doubt = scipy.stats.bootstrap(
        pairs,
        slowdown,
        n_resamples=DRAWS,
        confidence_level=1 - DOUBT,
        alternative="greater",
        method="percentile",
        rng=0,
    )
    return base, found, float(doubt.confidence_interval.low), fewest


def slowdown(then, now, axis=-1):
    """median of r now / median of r then"""
    return np.median(now, axis) / np.median(then, axis)


def table(rows, threshold):
    """For people."""
    words = {True: "SLOWER", False: "", None: f"fewer than {FEWEST} rounds"}
    lines = [
        f"| ours / theirs, now / then (flagged: > {1 + threshold:.2f} against all of "
        f"{', '.join(BASES)}) | against | slowdown | 99 % above | |",
        "|---|---|---|---|---|",
    ]
    note = ["", NOTE] if any(r.what.split()[1].strip(",") in OF_CELLS for r in rows) else []
    return "\n".join(
        lines
        + [
            f"| {r.what} | {r.base} | {r.slowdown:.3f} | {r.low:.3f} | {words[r.slower]} |"
            for r in rows
        ]
        + note
    )
