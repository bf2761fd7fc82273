"""What the pictures of all runs have in common."""

import io

import numpy as np
from matplotlib.figure import Figure

from jax_lstm.files.disk import write

HAND, AUTO, TRUTH, PALE = "#1f6feb", "#d9480f", "#2b8a3e", "#a9c7f7"


def save(path, picture, *args, size=(11, 4.6)):
    figure = Figure(figsize=size, layout="constrained", dpi=120)
    picture(figure, *args)
    write_picture(path, figure)


def write_picture(path, figure, **options):
    """The picture as a whole, or the one that was there."""
    data = io.BytesIO()
    figure.savefig(data, format=path.suffix[1:], **options)
    write(path, data.getvalue())


def column(lines, key):
    """Numbers of the lines; what is none, null, is NaN."""
    return np.array([line[key] for line in lines], float)


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


def plot_steps_and_mean(plot, x, y, name):
    """Thin, each step; thick, the mean of a hundredth of them."""
    n = len(x) // 100
    if n < 2:
        plot(x, y, color=HAND, linewidth=1, label=name)
        return
    plot(x, y, color=PALE, linewidth=0.7, label=f"{name}, each step")
    plot(x, smooth(y, n), color=HAND, label=f"{name}, mean of {n} steps")
