"""A result of experiments.speed as Markdown: ratios round by round, median (of least times).

`at_a_glance` is README's table. `tables` are those of docs/speed.md: time, the honest claim / A1
first, and memory; `variants` and `more_passes` are beside them.
"""

import numpy as np

from experiments.speed import goals
from experiments.speed import profile as speed_profile
from experiments.speed.cases import BOTH, MORE
from experiments.speed.reading import (
    both,
    fact,
    fastest,
    label,
    least_seconds,
    line,
    names_with,
    over,
    pair,
    plain_cases,
)

OTHERS = ("A1", "A0", "F", "P", "G")
MODES = ("frugal", "log")  # ours, that keep less


def everything(result):
    plain = plain_cases(result)
    parts = [at_a_glance(result), tables(result)] if plain else []
    parts += [table for table in (variants(result), more_passes(result)) if table]
    parts += [in_cpp(plain)] if any("kernel" in c["contestants"] for c in plain.values()) else []
    parts += [everyone(case) for case in result["cases"]]
    parts += [
        speed_profile.table(label(case), case["profiles"])
        for case in result["cases"]
        if "profiles" in case
    ]
    parts += [skipped] if (skipped := absences(result)) else []
    parts += [jobs(result["end_to_end"])] if "end_to_end" in result else []
    return "\n\n".join([*parts, goals.table(result)])


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
        + " | forward / F | "
        + " | ".join(f"{mode} / `lstm`" for mode in MODES)
        + " |",
        "|---" * (len(OTHERS) + len(MODES) + 5) + "|",
    ]
    for case in plain.values():
        rows = case["contestants"]
        seconds = rows.get("lstm", {}).get("gradient", {}).get("seconds")
        cells = [both(pair(rows, "lstm", other)) for other in OTHERS]
        cells.append(both(pair(rows, "lstm", "F", "forward")))
        cells += [both(pair(rows, mode, "lstm")) for mode in MODES]
        own = [f"{len(seconds)}", f"{1e3 * min(seconds):.2f}"] if seconds else ["", ""]
        least = least_seconds(result, case)
        own.append(f"{least / min(seconds):.0%}" if least and seconds else "")
        lines.append(line(label(case), *own, *cells))
    names = ["A0", "A1", "A2", "F", "lstm", *MODES]
    lines += ["", line("temporary MB", *names), "|---" * (len(names) + 1) + "|"]
    for case in plain.values():
        temp = [fact(case["contestants"], name, "temp_bytes") for name in names]
        lines.append(line(label(case), *("" if b is None else f"{b / 1e6:.1f}" for b in temp)))
    return "\n".join(lines)


def variants(result):
    """The gradient of every case that is not plain; "" where there is none."""
    rows = [
        (case["variant"], label(case), case["contestants"], "gradient")
        for case in result["cases"]
        if case["variant"] != "plain"
    ]
    return beside_ours(("variant",), rows, OTHERS, MODES)


def more_passes(result):
    """What was timed beside gradient and forward; "" where there is nothing."""
    rows = [
        (f"{kind}, {case['variant']}", label(case), case["contestants"], kind)
        for kind in MORE
        for case in result["cases"]
        if kind in case["contestants"].get("lstm", {})
    ]
    return beside_ours(("pass, variant",), rows, ("A0", "A1", "AJ"), ("frugal",))


def beside_ours(heads, rows, others, modes):
    """Rounds, ours in ms, ours over others, and our other modes over ours."""
    if not rows:
        return ""
    heads = (*heads, "(T, B, D = H)", "rounds", "ms of `lstm`", *(f"/ {o}" for o in others))
    heads += tuple(f"{mode} / `lstm`" for mode in modes)
    lines = [line(*heads), "|---" * len(heads) + "|"]
    for name, size, found, kind in rows:
        seconds = found.get("lstm", {}).get(kind, {}).get("seconds")
        own = [str(len(seconds)), f"{1e3 * min(seconds):.2f}"] if seconds else ["", ""]
        cells = [both(pair(found, "lstm", other, kind)) for other in others]
        cells += [both(pair(found, mode, "lstm", kind)) for mode in modes]
        lines.append(line(name, size, *own, *cells))
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
    for name in names_with(rows, BOTH):
        gradient, forward = (rows[name].get(kind, {}) for kind in BOTH)
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
    """One case, a line for each pass, while the others run."""
    kinds = {kind: None for row in case["contestants"].values() for kind in row}
    return "\n".join(
        f"{label(case)} {case['variant']}: least ms of {kind}: "
        + ", ".join(
            f"{name} {1e3 * min(row[kind]['seconds']):.2f}"
            for name, row in case["contestants"].items()
            if kind in row
        )
        for kind in kinds
        if kind != "forward"
    )


def absences(result):
    """Who did not run, where and why."""
    found = {}
    for case in result["cases"]:
        for name, reasons in case["absent"].items():
            for why in dict.fromkeys(reasons.values()):
                found.setdefault((name, why), []).append(f"{case['size']} {case['variant']}")
    lines = [f"{name} did not run ({why}): {', '.join(w)}" for (name, why), w in found.items()]
    return "\n".join(lines)
