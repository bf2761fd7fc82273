"""Pictures of a result of experiments.speed: bars by size, and the floor G as a line."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiments.kit import plots, record
from experiments.speed.cases import BOTH
from experiments.speed.contestants import OURS
from experiments.speed.reading import names_with

# Okabe and Ito's colours, told apart with any kind of colour vision.
OUR, THEIR, TORCH, FLOOR, PALE = "#0072B2", "#999999", "#E69F00", "#000000", 0.45
WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # behind numbers
WORDS = {
    "lstm": "ours",
    "frugal": "ours, frugal",
    "log": "ours, log T",
    "kernel": "ours, in C++",
    "no-lengths": "ours, no lengths",
    "A0": "A0 plain scan",
    "AJ": "AJ plain scan in jit",
    "A1": "A1 x W hoisted",
    "A2": "A2 checkpoint",
    "F": "F flax",
    "FR": "FR flax, our RNN",
    "FC": "FC flax, our cell",
    "K": "K haiku",
    "E": "E equinox",
    "S": "S Keras on JAX",
    "C": "C cuDNN",
}


def draw(directory):
    """Of a run's folder: speed.png for the plain cases, speed_VARIANT.png for others."""
    return draw_file(directory / "speed.json")


def draw_file(file):
    """Pictures beside a result, of its name; returns what was drawn."""
    result = record.read_json(file)
    drawn = []
    for variant in dict.fromkeys(case["variant"] for case in result["cases"]):
        cases = [case for case in result["cases"] if case["variant"] == variant]
        path = file.with_name(f"{file.stem}{'' if variant == 'plain' else f'_{variant}'}.png")
        picture(path, cases, variant, result["environment"]["hardware"])
        drawn.append(path)
    return drawn


def picture(path, cases, variant, hardware):
    """A panel for each size: the median of each contestant, its least as a tick, G as lines."""
    columns = min(len(cases), 2 if len(cases) < 5 else 3)
    rows = -(-len(cases) // columns)
    most = max(len(names_with(case["contestants"], BOTH)) for case in cases)
    figure = Figure(
        figsize=(4.8 * columns + 0.6, rows * (0.34 * most + 1.1) + 0.9),
        layout="constrained",
        dpi=120,
    )
    title = "" if variant == "plain" else f" ({variant})"
    figure.suptitle(f"Milliseconds of a recurrent layer{title} on {hardware}", fontsize=11)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, case in zip(axes, cases, strict=False):
        panel(axis, case)
    for axis in axes[len(cases) :]:
        axis.set_axis_off()
    handles = [
        Patch(color=THEIR, label="forward + backward, median"),
        Patch(color=THEIR, alpha=PALE, label="forward alone, median"),
        Line2D([], [], color=FLOOR, marker="|", linestyle="", ms=7, label="least"),
        Line2D([], [], color=FLOOR, label="floor G, the bare products"),
        Line2D([], [], color=FLOOR, linestyle=":", label="floor G, forward"),
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=5 if columns > 1 else 2, fontsize=8
    )
    plots.write_picture(path, figure)


def panel(axes, case):
    """Bars that leave the others far behind are cut off; every bar has its number."""
    rows = case["contestants"]
    names = [name for name in names_with(rows, BOTH) if name != "G"][::-1]
    bars = [
        (y + shift, 1e3 * np.asarray(rows[name][kind]["seconds"]), color_of(name), alpha)
        for y, name in enumerate(names)
        for kind, shift, alpha in (("gradient", 0.2, 1.0), ("forward", -0.2, PALE))
        if "seconds" in rows[name].get(kind, {})
    ]
    if not bars:
        axes.set_axis_off()
        return
    medians = [np.median(times) for _, times, _, _ in bars]
    end = min(max(medians), 4 * np.median(medians)) * 1.22
    for (y, times, color, alpha), median in zip(bars, medians, strict=True):
        axes.barh(y, median, 0.38, color=color, alpha=alpha)
        axes.plot(times.min(), y, "|", color=FLOOR, ms=7, mew=1)
        x = min(median, end / 1.22) + 0.01 * end
        number = f"{median:,.0f}" if median >= 100 else f"{median:.3g}"
        axes.text(x, y, number, va="center", fontsize=7, bbox=WHITE)
    for kind, style in (("gradient", "-"), ("forward", ":")):
        if "seconds" in rows.get("G", {}).get(kind, {}):
            floor = 1e3 * np.median(rows["G"][kind]["seconds"])
            axes.axvline(floor, color=FLOOR, linestyle=style, linewidth=1)
    axes.set_xlim(0, end)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_yticks(range(len(names)), [word(name) for name in names], fontsize=8)
    plots.tidy(axes, f"{case['size']}: T {case['T']}, B {case['B']}, D = H {case['H']}", "ms", "")
    axes.grid(axis="y", visible=False)


def color_of(name):
    return OUR if name.split(" on ")[0] in OURS else TORCH if name[0] == "P" else THEIR


def word(name):
    base, _, n = name.partition(" on ")
    text = f"P torch, threads: {name[1:]}" if name[0] == "P" else WORDS[base]
    return f"{text}, {n} devices" if n else text
