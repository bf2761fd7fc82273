"""What pictures of a run have in common, and those of a training run by hand and by JAX.

Reads config.json and metrics.jsonl, also those of an interrupted run, and draws what is there.
"""

import numpy as np
from matplotlib.figure import Figure

from experiments.kit import record
from jax_lstm.training.update import BITS

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
    left, right = figure.subfigures(1, 2)
    axes = left.subplots()
    steps, bits = column(kinds["step"], "step"), column(kinds["step"], "bits")
    every_step_and_mean(axes.plot, steps, bits, "training")
    held_out = kinds.get("validation", [])
    x, y = column(held_out, "step"), column(held_out, "bits")
    axes.plot(x, y, "o-", color=TRUTH, label="held-out text")
    low, high = min([*bits, *y]), np.quantile(bits, 0.99)  # a long run's first steps are cut off
    axes.set_ylim(low - 0.1 * (high - low), high + 0.05 * (high - low))
    axes.legend(frameon=False)
    tidy(axes, "Trained with the gradient by hand", "step", "bits per character")

    repeats = kinds.get("repeat", [])
    hand, auto = ([x for x in repeats if x["route"] == r] for r in ("by_hand", "autodiff"))
    if not auto:
        return
    hand = hand[: len(auto)]
    x, a, b = column(hand, "step"), *(BITS * column(r, "nats") for r in (hand, auto))
    above, below = right.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    above.plot(x, a, color=HAND, linewidth=4, alpha=0.35, label="by hand")
    above.plot(x, b, "--", color=AUTO, label="autodiff")
    above.legend(frameon=False)
    tidy(above, "The same steps from the same seed", "", "bits per character")
    apart = np.abs(a - b)
    if apart.any():
        x, apart = x[apart > 0], apart[apart > 0]
        below.semilogy(x, apart, ".", color="#666666", ms=4)
        decades = np.log10([apart.min(), apart.max()])
        below.set_ylim(10.0 ** np.floor(decades[0]), 10.0 ** np.ceil(decades[1]))
    else:
        below.text(0.5, 0.5, "equal to the bit", ha="center", transform=below.transAxes)
    tidy(below, "", "step", "bits apart")


def gradients(figure, kinds, clip):
    """Errors per leaf in roundings, in float32 and in float64; the gradient's norm in training."""
    single, double, right = figure.subplots(1, 3, width_ratios=(1.2, 0.8, 1.6))
    rows = kinds["gradient"]
    y = np.arange(len(rows))[::-1]
    for axes, dtype, series in (
        (
            single,
            np.float32,
            (
                ("by_hand_64", "by hand, from float64", HAND, "o"),
                ("autodiff_64", "autodiff, from float64", AUTO, "x"),
                ("relative", "one from the other", "#444444", "|"),
            ),
        ),
        (double, np.float64, (("float64", "one from the other", "#444444", "|"),)),
    ):
        for key, label, color, marker in series:
            errors = column(rows, key) / np.finfo(dtype).eps
            axes.plot(errors, y, marker, color=color, label=label, ms=8, mew=2, alpha=0.8)
        axes.set_xlim(left=0)
        axes.set_ylim(-3, len(rows) - 0.5)
        axes.legend(frameon=False, loc="lower left", fontsize=8)
        axes.set_yticks(y, [row["leaf"] for row in rows] if axes is single else [])
        tidy(axes, np.dtype(dtype).name, f"error / {np.finfo(dtype).eps:.1e}", "")
    single.set_title("First batch, error by norm: float32", loc="left", fontsize=11)

    steps = kinds.get("step", [])
    if not steps:
        right.set_axis_off()
        return
    x, norms = column(steps, "step"), column(steps, "gradient_norm")
    every_step_and_mean(right.plot, x, norms, "norm")
    top = np.quantile(norms, 0.99)
    right.set_ylim(0, 1.1 * max(top, min(clip, 2 * top)) or 1.0)
    right.axhline(clip, color=AUTO, linewidth=1, linestyle="--", label="clipped above")
    right.legend(frameon=False)
    tidy(right, "Norm of the gradient in training", "step", "global norm before clipping")


def every_step_and_mean(plot, x, y, name):
    """Thin, each step; thick, the mean of a hundredth of them."""
    n = len(x) // 100
    if n < 2:
        plot(x, y, color=HAND, linewidth=1, label=name)
        return
    plot(x, y, color=PALE, linewidth=0.7, label=f"{name}, each step")
    plot(x, smooth(y, n), color=HAND, label=f"{name}, mean of {n} steps")
