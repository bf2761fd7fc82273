"""A result of experiments.speed as Markdown: ratios round by round, median (of least times).

`at_a_glance` is README's table. `tables` are those of docs/speed.md: time, the honest claim / A1
first, and memory. `goals` holds every row that was wanted beside what was reached, where the result
has the numbers for it.
"""

import math
from typing import NamedTuple

import numpy as np

from experiments.speed import profile as speed_profile

S1_TO_S4 = ("S1", "S2", "S3", "S4")
HEADS = ("wanted", "in the end", "reached", "met")
OTHERS = ("A1", "A0", "F", "P", "G")


def everything(result):
    plain = plain_cases(result)
    parts = [at_a_glance(result), tables(result)] if plain else []
    parts += [in_cpp(plain)] if any("kernel" in c["contestants"] for c in plain.values()) else []
    parts += [everyone(case) for case in result["cases"]]
    parts += [
        speed_profile.table(label(case), case["profiles"])
        for case in result["cases"]
        if "profiles" in case
    ]
    parts += [skipped] if (skipped := absences(result)) else []
    parts += [jobs(result["end_to_end"])] if "end_to_end" in result else []
    return "\n\n".join([*parts, goals(result)])


def at_a_glance(result):
    """Ours over those that people know, for README: median time round by round, and memory."""
    heads = ("T, B, D = H", "`lstm`, ms", "/ `jax.grad`", "/ `jax.grad`, x W first")
    heads += ("/ flax", "/ torch", "memory / `jax.grad`")
    lines = [line(*heads), "|---" * len(heads) + "|"]
    for case in plain_cases(result).values():
        rows = case["contestants"]
        ratios = [pair(rows, "lstm", other) for other in ("A0", "A1", "F", "P")]
        cells = ["" if ratio is None else f"{ratio[0]:.2f}" for ratio in ratios]
        least, memory = fastest(rows, "lstm", "gradient"), over(rows, "lstm", "A0", "temp_bytes")
        cells.append("" if memory is None else f"{memory:.2f}")
        sizes = ", ".join(str(case[letter]) for letter in "TBH")
        lines.append(line(sizes, "" if least is None else f"{1e3 * least:.1f}", *cells))
    return "\n".join(lines)


def tables(result):
    """Time of the gradient as ratios, then memory: the tables of docs/speed.md."""
    plain = plain_cases(result)
    lines = [
        "| (T, B, D = H) | rounds | ms of `lstm` | of peak | "
        + " | ".join(f"/ {o}" for o in OTHERS)
        + " | forward / F | frugal / `lstm` |",
        "|---" * (len(OTHERS) + 6) + "|",
    ]
    for case in plain.values():
        rows = case["contestants"]
        seconds = rows.get("lstm", {}).get("gradient", {}).get("seconds")
        cells = [both(pair(rows, "lstm", other)) for other in OTHERS]
        cells.append(both(pair(rows, "lstm", "F", "forward")))
        cells.append(both(pair(rows, "frugal", "lstm")))
        own = [f"{len(seconds)}", f"{1e3 * min(seconds):.2f}"] if seconds else ["", ""]
        least = least_seconds(result, case)
        own.append(f"{least / min(seconds):.0%}" if least and seconds else "")
        lines.append(line(label(case), *own, *cells))
    names = ["A0", "A1", "A2", "F", "lstm", "frugal"]
    lines += ["", line("temporary MB", *names), "|---" * (len(names) + 1) + "|"]
    for case in plain.values():
        temp = [fact(case["contestants"], name, "temp_bytes") for name in names]
        lines.append(line(label(case), *("" if b is None else f"{b / 1e6:.1f}" for b in temp)))
    return "\n".join(lines)


def in_cpp(plain):
    """The loops in C++ over those that people know: the table of docs/kernels.md."""
    others = ("lstm", "A1", "P")
    lines = [line("(T, B, D = H)", "rounds", "ms of `kernel`", *(f"/ {o}" for o in others))]
    lines.append("|---" * (len(others) + 3) + "|")
    for case in plain.values():
        rows = case["contestants"]
        seconds = rows.get("kernel", {}).get("gradient", {}).get("seconds")
        if seconds:
            own = label(case), str(len(seconds)), f"{1e3 * min(seconds):.2f}"
            lines.append(line(*own, *(both(pair(rows, "kernel", other)) for other in others)))
    return "\n".join(lines)


def everyone(case):
    """One case, every contestant: least and median ms, and ours over theirs."""
    lines = [
        line(
            f"{label(case)} {case['variant']}",
            *("ms, least", "ms, median", "`lstm` / it", "forward ms, least", "`lstm` / it"),
            *("compile s", "temp MB", "kernels", "apart"),
        ),
        "|---" * 10 + "|",
    ]
    rows = case["contestants"]
    for name, row in rows.items():
        gradient, forward = (row.get(kind, {}) for kind in ("gradient", "forward"))
        times = [1e3 * np.asarray(kind.get("seconds", [])) for kind in (gradient, forward)]
        least = [f"{t.min():.2f}" if t.size else "" for t in times]
        temp, compile_s, kernels = (
            fact(rows, name, key) for key in ("temp_bytes", "compile_seconds", "kernels")
        )
        apart = [kind["error"] for kind in (gradient, forward) if "error" in kind]
        lines.append(
            line(
                name,
                least[0],
                f"{np.median(times[0]):.2f}" if times[0].size else "",
                both(pair(rows, "lstm", name)),
                least[1],
                both(pair(rows, "lstm", name, "forward")),
                "" if compile_s is None else f"{compile_s:.2f}",
                "" if temp is None else f"{temp / 1e6:.1f}",
                "" if kernels is None else str(kernels),
                f"{max(apart):.0e}" if apart else "",
            )
        )
    return "\n".join(lines)


def jobs(parts):
    """Whole jobs: a language model's training, and what fits into memory."""
    blocks = []
    if models := parts.get("char_lm"):
        names = list(next(iter(models.values()))["routes"])
        lines = [line("char_lm, characters per second", *names), "|---" * (len(names) + 1) + "|"]
        for title, model in models.items():
            size, routes = model["T"] * model["B"], model["routes"]
            speeds = [f"{size / np.median(routes[n]['seconds']):,.0f}" for n in names]
            lines.append(line(title, *speeds))
        blocks.append("\n".join(lines))
    if largest := parts.get("largest"):
        asked, losses = largest["asked"], largest["losses"]
        names = list(next(iter(losses.values())))
        title = f"in {largest['budget'] / 2**20:,.0f} MiB, D = H = {asked['H']}"
        lines = [line(title, *names), "|---" * (len(names) + 1) + "|"]
        for loss, found in losses.items():
            for size, other in (("T", "B"), ("B", "T")):
                most = [f"{found[name][size]:,}" for name in names]
                lines.append(line(f"largest {size} at {other} {asked[other]}, {loss}", *most))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def milliseconds(case):
    """One case in a line, while the others run."""
    found = [
        f"{name} {1e3 * min(row['gradient']['seconds']):.2f}"
        for name, row in case["contestants"].items()
        if "gradient" in row
    ]
    return f"{label(case)} {case['variant']}: least ms of the gradient: {', '.join(found)}"


def absences(result):
    """Who did not run, where and why."""
    found = {}
    for case in result["cases"]:
        for name, why in case["absent"].items():
            found.setdefault((name, why), []).append(f"{case['size']} {case['variant']}")
    lines = [f"{name} did not run ({why}): {', '.join(w)}" for (name, why), w in found.items()]
    return "\n".join(lines)


# Reading a result -------------------------------------------------------------------------------


def plain_cases(result):
    return {case["size"]: case for case in result["cases"] if case["variant"] == "plain"}


def pair(rows, name, other, kind="gradient"):
    """(median, least) of ours over theirs, round by round; None where one is missing.

    P is torch at its better thread count: the one with the least time.
    """
    other = best_of(rows, other, kind)
    if any("seconds" not in rows.get(n, {}).get(kind, {}) for n in (name, other)):
        return None
    a, b = (np.asarray(rows[n][kind]["seconds"]) for n in (name, other))
    return float(np.median(a / b)), float(a.min() / b.min())


def best_of(rows, name, kind):
    """P is torch at its better thread count."""
    names = [n for n in rows if n[0] == "P" and kind in rows[n]] if name == "P" else []
    return min(names, key=lambda n: min(rows[n][kind]["seconds"]), default=name)


def fastest(rows, name, kind):
    """The least seconds, or None where it was not timed."""
    return min(
        rows.get(best_of(rows, name, kind), {}).get(kind, {}).get("seconds", []), default=None
    )


def fact(rows, name, key):
    """What the compiler said of a contestant's gradient, or None."""
    return rows.get(name, {}).get("gradient", {}).get(key)


def least_seconds(result, case, kind="gradient"):
    """What the products alone need at the fastest product that was seen; None if none was timed.

    8 H (D + H) flop for a step of an example forward, twice as many backward.
    """
    if "peak" not in result:
        return None
    flop = 8 * case["H"] * 2 * case["H"] * case["T"] * case["B"] * case["layers"]
    return flop * (3 if kind == "gradient" else 1) / result["peak"]


def over(rows, name, other, key):
    a, b = (fact(rows, n, key) for n in (name, other))
    return None if a is None or b is None else a / b


def both(numbers):
    return "" if numbers is None else "{:.2f} ({:.2f})".format(*numbers)


def label(case):
    return f"{case['size']} ({case['T']}, {case['B']}, {case['H']})"


def line(*cells):
    return f"| {' | '.join(cells)} |"


# What was wanted --------------------------------------------------------------------------------


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


def goals(result):
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
            [Goal(15, "the same, `--devices`, flax on one", 1.5, 2.5, split, least=True)]
            if split
            else []
        ),
        Goal(16, "largest T at equal memory / F", 3, 10, by("F"), least=True),
        Goal(16, "the same / A2", 1.3, 2, by("A2"), least=True),
    ]
