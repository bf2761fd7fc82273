"""The picture of a run of the zoo, from its metrics.jsonl."""

import math

import numpy as np

from experiments.kit import plots, record
from experiments.zoo.adding import GUESS

COLUMNS = 5


def draw(directory):
    """learning.png: a picture per cell that is done, its error on unseen sequences by seed."""
    metrics = directory / "metrics.jsonl"
    done = {x["cell"] for x in record.read_lines(metrics, kind="done", part="training")}
    read = [x for x in record.read_lines(metrics, kind="judged") if x["cell"] in done]
    lines = list({(line["cell"], line["step"]): line for line in read}.values())  # the last of each
    if lines:
        names = list(dict.fromkeys(line["cell"] for line in lines))
        rows = math.ceil(len(names) / COLUMNS)
        plots.save(directory / "learning.png", learning, lines, names, size=(11, 1 + 1.5 * rows))


def learning(figure, lines, names):
    columns = min(COLUMNS, len(names))
    grid = figure.subplots(
        math.ceil(len(names) / columns), columns, sharex=True, sharey=True, squeeze=False
    )
    for axes, name in zip(grid.flat, names, strict=False):
        mine = [line for line in lines if line["cell"] == name]
        steps, errors = plots.column(mine, "step"), plots.column(mine, "error")
        axes.semilogy(steps, np.maximum(errors, 1e-7), color=plots.HAND, linewidth=1, alpha=0.8)
        axes.axhline(GUESS, color=plots.AUTO, linewidth=1, linestyle="--")
        axes.text(0.97, 0.93, name, transform=axes.transAxes, ha="right", va="top", fontsize=8)
        axes.grid(alpha=0.25)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    figure.supxlabel("step", fontsize=9)
    figure.supylabel("squared error on unseen sequences; dashed: always 1", fontsize=9)
