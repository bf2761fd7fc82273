"""The picture of a run of tmva_toy, from what it wrote."""

import numpy as np

from experiments.kit import plots, record

STATES = ("off", "on")


def draw(directory):
    """roc.png: the ROC curves of all classifiers, and how the two networks learned."""
    losses = {}
    for part in STATES:
        metrics = directory / part / "metrics.jsonl"
        if metrics.exists():
            losses[part] = record.read_lines(metrics)
    found = directory / "roc.json"
    curves = record.read_json(found) if found.exists() else {}
    plots.save(directory / "roc.png", picture, curves, losses)


def picture(figure, curves, losses):
    left, right = figure.subplots(1, 2)
    for name, each in curves.items():
        label = f"{name}: {each['auc']:.4f} ± {each['error']:.4f}"
        left.plot(each["background"], each["signal"], linewidth=1.2, label=label)
    left.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle="--")
    if curves:
        left.legend(frameon=False, fontsize=8, loc="lower right")
    plots.tidy(left, "ROC on the test part, AUC ± DeLong's error", "background kept", "signal kept")
    for (part, lines), color in zip(losses.items(), (plots.HAND, plots.AUTO), strict=False):
        steps = [line for line in lines if line["kind"] == "step"]
        held_out = [line for line in lines if line["kind"] == "validation"]
        n = max(len(steps) // 20, 1)
        nats = plots.smooth(np.nan_to_num(plots.column(steps, "nats")), n)
        right.plot(plots.column(steps, "step"), nats, color=color, linewidth=0.8, alpha=0.5)
        step, nats = plots.column(held_out, "step"), plots.column(held_out, "nats")
        right.plot(step, nats, "o-", color=color, markersize=3, label=f"state {part}, validation")
    if losses:
        right.legend(frameon=False, fontsize=8)
    plots.tidy(right, "Cross-entropy; pale: training", "step", "nats per event")
