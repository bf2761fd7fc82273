"""The picture of a run of truncation, from truncation.json."""

import numpy as np

from experiments.kit import plots, record


def draw(directory):
    """truncation.png: the error and its bound by k2, and by array of the parameters."""
    found = directory / "truncation.json"
    if found.exists():
        plots.save(directory / "truncation.png", picture, record.read_json(found))


def picture(figure, found):
    left, right = figure.subplots(1, 2)
    k2 = np.array(found["k2"])
    bound = np.array(found["bound"], float)
    if np.isfinite(bound).any():
        left.loglog(k2, bound, "s--", color=plots.AUTO, label="bound")
    left.loglog(k2, found["error"], "o-", color=plots.HAND, label=f"TBPTT({found['k1']}, k2)")
    side = found["side_by_side"]
    left.loglog(side["k2"], side["error"], "^:", color=plots.TRUTH, label="TBPTT(k2, k2)")
    title = f"Error of the truncated gradient, T = {found['T']}"
    plots.tidy(left, title, "k2, steps back", "‖g_k2 - g‖ / ‖g‖")
    for (name, errors), mark in zip(found["fields"].items(), "osv", strict=True):
        right.loglog(k2, errors, f"{mark}-", markersize=4, label=name)
    plots.tidy(right, "The same, array by array", "k2, steps back", "of the array's own norm")
    for axes in (left, right):
        axes.set_xticks(k2, k2, fontsize=8)
        axes.minorticks_off()
        axes.legend(frameon=False)
