"""Pictures of a result of experiments.gradient_flow, from its flow.json; PNG and SVG."""

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiments import plots, record

# Okabe and Ito's colours, told apart with any kind of colour vision; the first is the Elman network
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#0072B2", "#CC79A7", "#009E73", "#D55E00")
MOST = len(COLOURS)
LOWEST = 1e-16  # what is below is drawn at the lower edge
STABLE = {"svg.hashsalt": "jax_lstm", "svg.fonttype": "none"}  # the same bytes from the same JSON


def draw(directory):
    """flow and gates, each as .png and .svg; returns what was drawn."""
    found = record.read_json(directory / "flow.json")
    drawn = []
    for name, picture in (("flow", flow), ("gates", gates)):
        figure = picture(found)
        for kind, options in (("png", {}), ("svg", {"metadata": {"Date": None}})):
            drawn.append(directory / f"{name}.{kind}")
            with matplotlib.rc_context(STABLE):
                figure.savefig(drawn[-1], **options)
    return drawn


def flow(found):
    """A column for each situation: both Jacobians, then the gradient of the last loss."""
    situations = found["situations"]
    figure = Figure(figsize=(3.6 * len(situations) + 0.6, 8.2), layout="constrained", dpi=100)
    grid = figure.subplots(3, len(situations), sharex="col", sharey="row", squeeze=False)
    for column, situation in zip(grid.T, situations, strict=True):
        for network, colour in zip(situation["networks"], COLOURS, strict=False):
            for axes, field in zip(column, "hc", strict=False):
                jacobian(axes, network, field, colour)
            gradient(column[2], network, colour)
        plots.tidy(column[0], situation["name"], "", "")
        plots.tidy(column[1], "", "", "")
        plots.tidy(column[2], "", "steps back from the last, T - t", "")
    names = ("‖∂h_T / ∂h_t‖", "‖∂c_T / ∂c_t‖", "‖dL_T/dh_t‖, ‖dL_T/dc_t‖")
    for row, name in zip(grid, names, strict=True):
        row[0].set_yscale("log")
        row[0].set_ylabel(name)
        low, high = row[0].get_ylim()
        row[0].set_ylim(max(low, LOWEST), high)
    figure.legend(handles=legend(situations[0]), loc="outside lower center", ncols=3, fontsize=9)
    return figure


def back(network, values):
    """Steps back from the last one, beside the values at them."""
    at = np.array(network["at"] if len(values) == len(network["at"]) else range(len(values)))
    return at[-1] - at, np.maximum(values, LOWEST / 10)


def jacobian(axes, network, field, colour):
    if field in network["jacobian"]:
        norms = network["jacobian"][field]
        x, mean = back(network, norms["mean"])
        axes.fill_between(
            x,
            *(back(network, norms[k])[1] for k in ("least", "most")),
            color=colour,
            alpha=0.2,
            lw=0,
        )
        axes.plot(x, mean, color=colour, lw=1.8)
    if (field == "c") == ("c" in network["jacobian"]):  # the bound of what this row shows
        axes.plot(*back(network, network["bound"]["mean"]), color=colour, lw=1.1, ls="--")


def gradient(axes, network, colour):
    for field, style in (("h", "-"), ("c", ":")):
        if field in network["gradient"]:
            axes.plot(*back(network, network["gradient"][field]), color=colour, lw=1.5, ls=style)


def legend(situation):
    networks = situation["networks"]
    grey = "#666666"
    return [
        *(
            Line2D([], [], color=c, label=n["name"])
            for n, c in zip(networks, COLOURS, strict=False)
        ),
        Patch(color=grey, alpha=0.25, lw=0, label="least to most of the examples"),
        Line2D(
            [],
            [],
            color=grey,
            ls="--",
            label="by the gates alone: max Π f; Elman: Π ‖U‖ max(1 - h²)",
        ),
        Line2D([], [], color=grey, ls=":", label="‖dL_T/dc_t‖ (below)"),
    ]


def gates(found):
    """Time x gate of ‖da_t‖, a row for each network and a column for each situation."""
    situations = found["situations"]
    networks = situations[0]["networks"]
    sizes = [len(network["delta"]) for network in networks]
    figure = Figure(
        figsize=(3.6 * len(situations) + 1.4, 0.3 * sum(sizes) + 0.45 * len(sizes) + 1.2),
        layout="constrained",
        dpi=100,
    )
    grid = figure.subplots(
        len(networks), len(situations), sharex="col", squeeze=False, height_ratios=sizes
    )
    deltas = [
        [np.array(list(n["delta"].values())) for n in situation["networks"]]
        for situation in situations
    ]
    top = max(d.max() for column in deltas for d in column)
    norm = LogNorm(max(LOWEST, min(d[d > 0].min() for c in deltas for d in c)), top)
    image = None
    for column, situation, ds in zip(grid.T, situations, deltas, strict=True):
        for axes, network, delta in zip(column, situation["networks"], ds, strict=True):
            T = delta.shape[1]
            image = axes.imshow(
                np.maximum(delta, norm.vmin),
                norm=norm,
                cmap="viridis",
                aspect="auto",
                interpolation="nearest",
                extent=(0.5, T + 0.5, len(delta) - 0.5, -0.5),
            )
            axes.set_yticks(
                range(len(delta)), [f"da_{k}" if k != "a" else "da" for k in network["delta"]]
            )
            axes.set_title(network["name"], fontsize=9, loc="left")
        column[0].set_title(f"{situation['name']}\n{networks[0]['name']}", fontsize=9, loc="left")
        column[-1].set_xlabel("time step t")
    figure.colorbar(image, ax=grid, label="‖da_t‖ of the loss at the last step", shrink=0.8)
    return figure
