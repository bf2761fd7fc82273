"""The pictures of a run of forecast, from what it wrote."""

import numpy as np

from experiments.forecast.series import PROTOCOLS
from experiments.kit import plots, record


def draw(directory):
    """forecast.png: the test part and who foresaw it, what leaks promise, and how they learned."""
    found = directory / "forecasts.json"
    forecasts = record.read_json(found) if found.exists() else None
    lines = {}
    for part in PROTOCOLS:
        metrics = directory / part / "metrics.jsonl"
        if metrics.exists():
            lines[part] = record.read_lines(metrics, kind="validation")
    plots.save(directory / "forecast.png", picture, forecasts, lines, size=(11, 7))


def picture(figure, forecasts, lines):
    grid = figure.add_gridspec(2, 2)
    above, left, right = (figure.add_subplot(x) for x in (grid[0, :], grid[1, 0], grid[1, 1]))
    if forecasts is not None:
        above.plot(forecasts["t"], forecasts["values"], color="0.3", label="the series")
        colors = {"LSTM": plots.HAND, "linear autoregression": plots.AUTO}
        for name, color in colors.items():
            values = forecasts["forecasts"][name]
            above.plot(forecasts["t"], values, color=color, linewidth=1.2, label=name)
        above.legend(frameon=False, fontsize=8, ncols=3)
        named = forecasts["relative"]
        places = range(len(named))
        shades = [plots.PALE if "looks" in name else plots.HAND for name in named]
        left.barh(places, list(named.values()), color=shades)
        left.axvline(1, color=plots.AUTO, linewidth=1, linestyle="--")
        left.set_yticks(places, list(named), fontsize=8)
        left.invert_yaxis()
    plots.tidy(above, "One step ahead on the test part", "place in the series", "")
    plots.tidy(left, "Error over that of the last value; pale: what a leak shows", "", "")
    for part, each in lines.items():
        error = np.maximum(plots.column(each, "error"), 1e-9)
        right.semilogy(plots.column(each, "step"), error, linewidth=1, label=part)
    if lines:
        right.legend(frameon=False, fontsize=8)
    plots.tidy(right, "RMSE on each protocol's validation", "step", "")
