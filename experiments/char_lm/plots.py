"""Pictures of a run of char_lm, finished or interrupted, from its config.json and metrics.jsonl."""

import numpy as np

from experiments.kit import record
from experiments.kit.plots import AUTO, HAND, TRUTH, column, plot_steps_and_mean, save, tidy
from jax_lstm.training.update import BITS


def draw(directory):
    """curves.png and gradients.png."""
    lines = record.read_lines(directory / "metrics.jsonl")
    kinds = {line["kind"]: [x for x in lines if x["kind"] == line["kind"]] for line in lines}
    config = record.read_json(directory / "config.json")["config"]
    if "step" in kinds:
        save(directory / "curves.png", curves, kinds)
    if "gradient" in kinds:
        save(directory / "gradients.png", gradients, kinds, config["clip"])


def curves(figure, kinds):
    """Left, the loss of the whole run; right, its first steps by hand and by autodiff, if those
    were repeated."""
    repeats = kinds.get("repeat", [])
    hand, auto = ([x for x in repeats if x["route"] == r] for r in ("by_hand", "autodiff"))
    left, right = figure.subfigures(1, 2) if auto else (figure, None)
    axes = left.subplots()
    steps, bits = column(kinds["step"], "step"), column(kinds["step"], "bits")
    plot_steps_and_mean(axes.plot, steps, bits, "training")
    held_out = kinds.get("validation", [])
    x, y = column(held_out, "step"), column(held_out, "bits")
    axes.plot(x, y, "o-", color=TRUTH, label="held-out text")
    tests = kinds.get("test", [])
    at, judged = column(tests, "step"), column(tests, "bits")
    if tests:
        axes.plot(at, judged, "*", color=AUTO, ms=12, label="test text")
    low, high = min([*bits, *y, *judged]), np.quantile(bits, 0.99)  # without the first steps
    axes.set_ylim(low - 0.1 * (high - low), high + 0.05 * (high - low))
    axes.legend(frameon=False)
    tidy(axes, "Trained with the gradient by hand", "step", "bits per character")

    if right is None:
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
    plot_steps_and_mean(right.plot, x, norms, "norm")
    top = np.quantile(norms, 0.99)
    right.set_ylim(0, 1.1 * max(top, min(clip, 2 * top)) or 1.0)
    right.axhline(clip, color=AUTO, linewidth=1, linestyle="--", label="clipped above")
    right.legend(frameon=False)
    tidy(right, "Norm of the gradient in training", "step", "global norm before clipping")
