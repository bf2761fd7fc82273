"""The picture of a search, from its summary."""

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from experiments.kit import plots, record


def draw(directory):
    """variants.png: the test loss of all trials over their learning rates, and the differences."""
    summary = record.read_json(directory / "summary.json")
    plots.save(directory / "variants.png", draw_all, summary, size=(12, 5.2))


def draw_all(figure, summary):
    left, right = figure.subplots(1, 2)
    names = list(summary["variants"])
    for k, name in enumerate(names):
        trials = sorted(summary["variants"][name]["trials"], key=lambda t: t["learning_rate"])
        rates = plots.column(trials, "learning_rate")
        line = {"color": f"C{k}", "linewidth": 1, "markersize": 3, "alpha": 0.8}
        left.semilogx(rates, plots.column(trials, "test"), "o-", label=name, **line)
    left.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.xaxis.set_major_formatter("{x:g}")
    left.xaxis.set_minor_formatter(NullFormatter())
    lowest = min(t["test"] for v in summary["variants"].values() for t in v["trials"])
    left.set_ylim(lowest - 0.1, lowest + 2.5)
    left.legend(frameon=False, fontsize=8, ncols=2)
    plots.tidy(left, "Every trial", "learning rate", "nats per frame of the test part")
    found = summary["findings"]
    for y, own in enumerate(found.values()):
        color = plots.HAND if own["holds"] else plots.AUTO
        right.plot(own["interval"], (y, y), color=color, linewidth=2)
        right.plot([own["difference"]], [y], "o", color=color)
    right.set_yticks(np.arange(len(found)), [f"{n}\npaper: {x['paper']}" for n, x in found.items()])
    right.invert_yaxis()
    right.axvline(0, color="black", linewidth=1, linestyle="--")
    title = "Beside the LSTM with peepholes; blue: as the paper finds"
    plots.tidy(right, title, "nats per frame, 95 % intervals", "")
