"""Pictures of what a run wrote: `python -m experiments.plots results/char_lm/<run>`.

Reads config.json and metrics.jsonl, also those of an interrupted run, and draws what is there.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments import record
from jax_lstm.training import BITS

HAND, AUTO, TRUTH, PALE = "#1f6feb", "#d9480f", "#2b8a3e", "#a9c7f7"


def char_lm(directory):
    """curves.png and gradients.png."""
    lines = record.read_lines(directory / "metrics.jsonl")
    kinds = {line["kind"]: [x for x in lines if x["kind"] == line["kind"]] for line in lines}
    config = record.read_json(directory / "config.json")["config"]
    if "step" in kinds:
        draw(directory / "curves.png", curves, kinds)
    if "gradient" in kinds:
        draw(directory / "gradients.png", gradients, kinds, config["clip"])


def draw(path, picture, *args):
    figure = Figure(figsize=(11, 4.6), layout="constrained", dpi=120)
    picture(figure, *args)
    figure.savefig(path)


def column(lines, key):
    return np.array([line[key] for line in lines])


def smooth(values, n):
    """Mean of the last n, or of as many as there are."""
    sums = np.cumsum([0.0, *values])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - n, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def tidy(axes, title, x, y):
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def curves(figure, kinds):
    """Left, the loss of the whole run; right, its first steps by hand and by autodiff."""
    left, right = figure.subplots(1, 2)
    steps, bits = column(kinds["step"], "step"), column(kinds["step"], "bits")
    n = max(len(steps) // 50, 1)
    left.plot(steps, bits, color=PALE, linewidth=0.7, label="training, each step")
    left.plot(steps, smooth(bits, n), color=HAND, label=f"training, mean of {n}")
    held_out = kinds.get("validation", [])
    left.plot(
        column(held_out, "step"), column(held_out, "bits"), "o-", color=TRUTH, label="held-out text"
    )
    low = min(bits.min(), *column(held_out, "bits"))
    left.set_ylim(low - 0.1 * (bits[0] - low), bits[0] * 1.02)
    left.legend(frameon=False)
    tidy(left, "Trained with the gradient by hand", "step", "bits per character")

    repeats = kinds.get("repeat", [])
    if not repeats:
        right.set_axis_off()
        return
    hand, auto = ([x for x in repeats if x["route"] == r] for r in ("by_hand", "autodiff"))
    hand, auto = hand[: len(auto)], auto[: len(hand)]
    x, a, b = column(hand, "step"), *(BITS * column(r, "nats") for r in (hand, auto))
    right.plot(x, a, color=HAND, linewidth=4, alpha=0.35, label="by hand")
    right.plot(x, b, "--", color=AUTO, label="autodiff")
    tidy(right, "The same steps from the same seed", "step", "bits per character")
    apart = right.twinx()
    difference = np.abs(a - b)
    apart.semilogy(x, np.where(difference > 0, difference, np.nan), ".", color="#666666", ms=4)
    apart.set_ylabel("distance of the two, bits (dots)")
    apart.spines[["top"]].set_visible(False)
    right.legend(frameon=False)


def gradients(figure, kinds, clip):
    """Left, errors per leaf in roundings; right, the gradient's norm in training."""
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    rows = kinds["gradient"]
    y = np.arange(len(rows))[::-1]
    eps = np.finfo(np.float32).eps
    for key, label, color, marker in (
        ("relative", "by hand - autodiff, float32", "#444444", "D"),
        ("by_hand_64", "by hand - truth, float32", HAND, "o"),
        ("autodiff_64", "autodiff - truth, float32", AUTO, "x"),
        ("float64", "by hand - autodiff, float64", TRUTH, "s"),
    ):
        left.plot(np.maximum(column(rows, key), 1e-18), y, marker, color=color, label=label, ms=6)
    left.set_xscale("log")
    left.axvline(eps, color="#999999", linewidth=0.8)
    left.axvline(np.finfo(np.float64).eps, color="#999999", linewidth=0.8)
    left.set_yticks(y, [row["leaf"] for row in rows])
    left.legend(frameon=False, loc="center")
    tidy(left, "First batch: error of each gradient", "relative error by norm", "")

    steps = kinds.get("step", [])
    if not steps:
        right.set_axis_off()
        return
    norms = column(steps, "gradient_norm")
    right.semilogy(column(steps, "step"), norms, color=PALE, linewidth=0.7, label="each step")
    n = max(len(norms) // 50, 1)
    right.semilogy(column(steps, "step"), smooth(norms, n), color=HAND, label=f"mean of {n}")
    right.axhline(clip, color=AUTO, linewidth=1, linestyle="--", label="clipped above")
    right.legend(frameon=False)
    tidy(right, "Norm of the gradient in training", "step", "global norm before clipping")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        char_lm(Path(name))
