"""The picture of a run of an experiment of memory, from what it wrote."""

import numpy as np

from experiments.kit import plots, record

COLOURS = (plots.HAND, plots.AUTO, plots.TRUTH, "#7048e8", "#f08c00", "#495057")


def draw(directory):
    """curves.png: the loss of each training over its updates, and of its test over T."""
    summary = record.read_json(directory / "summary.json")
    curves = {}
    for point in summary["points"]:
        name = f"T{point['T']}_{point['forget_bias']}"
        lines = record.read_lines(directory / name / "metrics.jsonl", kind="step")
        curves[point["T"], point["forget_bias"]] = plots.column(lines, "loss")
    plots.save(directory / "curves.png", draw_all, summary, curves)


def draw_all(figure, summary, curves):
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    names = list(dict.fromkeys(point["forget_bias"] for point in summary["points"]))
    times = list(dict.fromkeys(point["T"] for point in summary["points"]))
    colour = dict(zip(names, COLOURS * len(names), strict=False))
    dashes = dict(zip(times, ("-", "--", ":", "-.") * len(times), strict=False))
    for (T, name), losses in curves.items():
        n = max(len(losses) // 100, 1)
        for k, seed in enumerate(losses.T):
            label = f"T = {T}, forget bias {name}" if k == 0 else None
            y = plots.smooth(seed, n)
            left.semilogy(y, dashes[T], color=colour[name], linewidth=1, alpha=0.8, label=label)
    left.legend(frameon=False, fontsize=8)
    plots.tidy(left, "Unseen sequences while it trains", "update", summary["measure"])
    for k, name in enumerate(names):
        mine = [point for point in summary["points"] if point["forget_bias"] == name]
        at = [times.index(p["T"]) + 0.12 * (k - (len(names) - 1) / 2) for p in mine]
        for x, point in zip(at, mine, strict=True):
            right.plot([x] * len(point["loss"]), point["loss"], "o", color=colour[name], alpha=0.6)
        medians = [float(np.median(point["loss"])) for point in mine]
        right.plot(at, medians, color=colour[name], linewidth=1, label=f"forget bias {name}")
    for key, style in (("guess", "--"), ("bar", ":")):
        level = [next(p[key] for p in summary["points"] if p["T"] == T) for T in times]
        label = "nothing kept" if key == "guess" else "the bar"
        for k, y in enumerate(level):
            ends = (k - 0.4, k + 0.4)
            right.plot(
                ends, (y, y), style, color="black", linewidth=1, label=label if not k else ""
            )
    right.set_yscale("log")
    right.set_xticks(range(len(times)), times)
    right.legend(frameon=False, fontsize=8)
    plots.tidy(right, "The test, each network and the median", "T", summary["measure"])
