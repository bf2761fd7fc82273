"""What was wanted of the speed, and what a result reached: a row each, where it has the numbers."""

import math
from typing import NamedTuple

from experiments.speed.reading import (
    fact,
    fastest,
    least_seconds,
    line,
    over,
    pair,
    plain_cases,
)

S1_TO_S4 = ("S1", "S2", "S3", "S4")
HEADS = ("wanted", "in the end", "reached", "met")


class Goal(NamedTuple):
    """now, end: bounds; values: name -> number, {} where nothing was measured; mean: a geometric
    mean is what is held to the bound, and no single one may be above 1; beyond: names where the
    products alone, at the machine's peak, take longer than `now` asks for."""

    number: int
    what: str
    now: float
    end: float
    values: dict
    mean: bool = False
    least: bool = False  # a lower bound and not an upper one
    beyond: tuple = ()

    def met(self):
        numbers = list(self.values.values())
        if self.mean:
            return geometric_mean(numbers) <= self.now and max(numbers) <= 1
        return all(n >= self.now if self.least else n <= self.now for n in numbers)


def geometric_mean(numbers):
    return math.exp(sum(map(math.log, numbers)) / len(numbers))


def table(result):
    """A line for each row that was wanted: the medians round by round that were reached."""
    sign = lambda goal: ">=" if goal.least else "<="
    lines = [
        line("#", "ours / other, forward + backward unless said", *HEADS),
        "|---" * 6 + "|",
    ]
    for goal in list_goals(result):
        text = ", ".join(f"{k} {v:.2f}" for k, v in goal.values.items())
        if goal.mean and goal.values:
            text = f"**{geometric_mean(goal.values.values()):.2f}** = mean of {text}"
        bounds = (f"{sign(goal)} {bound:g}" for bound in (goal.now, goal.end))
        met = ("yes" if goal.met() else "no") if goal.values else ""
        if goal.beyond:
            met += f"; {', '.join(goal.beyond)}: beyond the fastest product seen"
        lines.append(line(str(goal.number), goal.what, *bounds, text or "not measured", met))
    return "\n".join(lines)


def list_goals(result):
    """Rows 1 to 17, row 2 first."""
    plain = {size: case["contestants"] for size, case in plain_cases(result).items()}

    def times(other, sizes=S1_TO_S4, ours="lstm", kind="gradient"):
        found = {s: pair(plain[s], ours, other, kind) for s in sizes if s in plain}
        return {s: numbers[0] for s, numbers in found.items() if numbers}

    def beyond(other, bound, kind="gradient"):
        """Where bound times the other's least time is less than the products can take."""
        found = []
        for size, case in plain_cases(result).items():
            took = fastest(plain[size], other, kind)
            least = least_seconds(result, case, kind)
            if size in S1_TO_S4 and took and least and bound * took < least:
                found.append(size)
        return tuple(found)

    def facts(key, ours, other, sizes=("S3",)):
        found = {s: over(plain[s], ours, other, key) for s in sizes if s in plain}
        return {s: number for s, number in found.items() if number is not None}

    inside = {
        f"{size} {name}": fact(rows, name, "products_inside")
        for size, rows in plain.items()
        for name in ("lstm", "frugal")
        if size in S1_TO_S4 and fact(rows, name, "products_inside") is not None
    }
    split = next((n for rows in plain.values() for n in rows if n.startswith("lstm on ")), None)
    found = [
        Goal(2, "/ A1, S1-S4", 0.75, 0.60, times("A1"), beyond=beyond("A1", 0.75)),
        Goal(1, "/ A0, S1-S4", 0.70, 0.45, times("A0"), mean=True),
        Goal(3, "/ F, S1-S4", 0.60, 0.40, times("F"), beyond=beyond("F", 0.60)),
        Goal(4, "/ P at its better thread count, S2-S4", 1.10, 0.90, times("P", S1_TO_S4[1:])),
        Goal(4, "the same, S1", 0.60, 0.60, times("P", S1_TO_S4[:1])),
    ]
    if split:
        by_two = times("P", S1_TO_S4[1:], ours=split)
        found.append(Goal(4, f"`{split}` devices / P, S2-S4", 1.10, 0.90, by_two))
    return [
        *found,
        Goal(5, "/ G, S3-S4", 1.5, 1.2, times("G", ("S3", "S4"))),
        Goal(
            *(6, "forward alone / F", 0.6, 0.45, times("F", kind="forward")),
            beyond=beyond("F", 0.6, "forward"),
        ),
        Goal(7, "temp bytes / A0, S3", 0.80, 0.55, facts("temp_bytes", "lstm", "A0")),
        Goal(
            *(8, "temp bytes, frugal / A2, S3 and S5", 0.65, 0.50),
            facts("temp_bytes", "frugal", "A2", ("S3", "S5")),
        ),
        Goal(9, "time, frugal / fast, S3 and S5", 1.5, 1.25, times("lstm", ("S3", "S5"), "frugal")),
        *end_to_end_goals(result.get("end_to_end", {}))[:1],
        Goal(11, "kernels per step / A0", 0.55, 0.36, facts("kernels", "lstm", "A0", S1_TO_S4)),
        Goal(12, "weight-shaped products in innermost loop bodies", 0, 0, inside),
        Goal(13, "compile time / A0, S3", 1.0, 0.6, facts("compile_seconds", "lstm", "A0")),
        *end_to_end_goals(result.get("end_to_end", {}))[1:],
        Goal(17, "GPU, XLA route / cuDNN", 2, 0.8, times("C", ("N1", "N2", "N3"))),
    ]


def end_to_end_goals(parts):
    """Rows 10, 14, 15 and 16."""
    growth, rounding = parts.get("growth", {}), parts.get("rounding", {})
    models, split = {}, {}
    for name, model in parts.get("char_lm", {}).items():
        rows = {k: {"gradient": v} for k, v in model["routes"].items()}
        models[name] = 1 / pair(rows, "lstm", "F")[0]
        for k in rows:
            if k.startswith("lstm on "):
                split[name] = 1 / pair(rows, k, "F")[0]
    largest = {
        f"{size}, {loss}, {mode}": {o: found[mode][size] / found[o][size] for o in ("F", "A2")}
        for loss, found in parts.get("largest", {}).get("losses", {}).items()
        for size in ("T", "B")
        for mode in ("lstm", "frugal")
        if {mode, "F", "A2"} <= set(found)
    }
    by = lambda other: {
        k: v[other] for k, v in largest.items() if k.startswith("T") and "frugal" in k
    }
    return [
        Goal(
            *(10, "temp bytes at 4T / at T, frugal, S6 and a quarter of it, loss on h_T", 2.2, 1.3),
            {"S6": growth["bytes"][1] / growth["bytes"][0]} if growth else {},
        ),
        Goal(
            *(14, "error against float64 / A0's, worst leaf; median element", 1.2, 1.0),
            rounding.get("ratios", {}),
        ),
        Goal(15, "char_lm, characters per second / F", 1.5, 2.5, models, least=True),
        *(
            [
                Goal(
                    15,
                    "the same, `over_devices` by its rule, flax on one",
                    1.5,
                    2.5,
                    split,
                    least=True,
                )
            ]
            if split
            else []
        ),
        Goal(16, "largest T at equal memory / F", 3, 10, by("F"), least=True),
        Goal(16, "the same / A2", 1.3, 2, by("A2"), least=True),
    ]
