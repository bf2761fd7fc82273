"""Pictures of a result of experiments.gradient_flow, from its flow.json; PNG and SVG."""

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from experiments.kit import plots, record

# Okabe and Ito's colours, told apart with any kind of colour vision; the first is the Elman network
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#0072B2", "#CC79A7", "#009E73", "#D55E00")
MOST = len(COLOURS)
LOWEST = 1e-15  # what is below leaves the picture
GREY = "#666666"
STABLE = {"svg.hashsalt": "jax_lstm"}  # the same bytes from the same JSON
SAVE = {"png": {"pil_kwargs": {"optimize": True}}, "svg": {"metadata": {"Date": None}}}


def draw(directory):
    """flow and gates, each as .png and .svg; returns what was drawn."""
    found = record.read_json(directory / "flow.json")
    drawn = []
    for name, picture in (("flow", flow), ("gates", gates)):
        figure = picture(found)
        for kind, options in SAVE.items():
            drawn.append(directory / f"{name}.{kind}")
            with matplotlib.rc_context(STABLE):
                plots.write_picture(drawn[-1], figure, **options)
    return drawn


def heading(found):
    """What was looked at, for people."""
    config, source = found["config"], found["text"]
    where = source.get("file") or source.get("source")
    return (
        f"H = {config['hidden']}, geometric mean of the examples, float64; "
        f"text: {where.rsplit('/')[-1]}"
    )


# Jacobians and the gradient ---------------------------------------------------------------------


def flow(found):
    """A column for each situation: both Jacobians, then the gradient of the last loss."""
    situations = found["situations"]
    figure = Figure(figsize=(2.8 * len(situations) + 0.5, 6.9), layout="constrained", dpi=80)
    networks = [network for situation in situations for network in situation["networks"]]
    how, worst = networks[0]["by"], max(network["residual"] for network in networks)
    how += r", $\|J^TJv - \sigma^2v\|\,/\,\sigma^2$ at most " + f"{worst:.1g}" if worst else ""
    title = f"What the last step feels of each step before it ({how})\n{heading(found)}"
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(3, len(situations), sharex="col", sharey="row", squeeze=False)
    for column, situation in zip(grid.T, situations, strict=True):
        for network, colour in zip(situation["networks"], COLOURS, strict=False):
            jacobian(column[0], network, "h", colour)
            jacobian(column[1], network, "c", colour)
            gradient(column[2], network, colour)
        plots.tidy(column[0], situation["name"], "", "")
        plots.tidy(column[1], "", "", "")
        plots.tidy(column[2], "", "steps back from the last,  T − t", "")
        column[2].xaxis.set_major_locator(MaxNLocator(5, integer=True))
    names = (
        r"$\|\partial h_T\,/\,\partial h_t\|_2$",
        r"$\|\partial c_T\,/\,\partial c_t\|_2$",
        r"$\|dL_T/dh_t\|$,  $\|dL_T/dc_t\|$",
    )
    for row, name, (low, high) in zip(grid, names, ranges(situations), strict=True):
        row[0].set_yscale("log")
        row[0].set_ylim(low, high)
        row[0].yaxis.set_major_locator(LogLocator(1000 if high > 1e6 * low else 10, numticks=12))
        row[0].yaxis.set_minor_locator(NullLocator())
        row[0].set_ylabel(name)
    figure.legend(
        handles=legend(situations[0]),
        loc="outside lower center",
        ncols=2,
        fontsize=8,
        frameon=False,
    )
    return figure


def ranges(situations):
    """The lowest and highest of each row that are worth the room; bounds may leave the picture."""
    for kind, fields in (("jacobian", "h"), ("jacobian", "c"), ("gradient", "hc")):
        shown = [
            x
            for situation in situations
            for network in situation["networks"]
            for field in fields
            for x in values_of(network[kind].get(field, []))
        ]
        low, high = min(shown, default=LOWEST), max(shown, default=1.0)
        yield max(low / 3, LOWEST), 6 * high


def values_of(field):
    return [*field["mean"], *field["least"], *field["most"]] if isinstance(field, dict) else field


def back(network, values):
    """Steps back from the last one, beside the values at them."""
    at = np.array(network["at"] if len(values) == len(network["at"]) else range(len(values)))
    return at[-1] - at, np.maximum(values, LOWEST / 1000)


def jacobian(axes, network, field, colour):
    """The norm, between the least and the most of the examples, and what the gates alone say."""
    norms = network["jacobian"].get(field)
    if norms is None:
        return
    x, mean = back(network, norms["mean"])
    least, most = (back(network, norms[k])[1] for k in ("least", "most"))
    axes.fill_between(x, least, most, color=colour, alpha=0.2, lw=0)
    axes.plot(x, mean, color=colour, lw=1.8)
    if field == list(network["jacobian"])[-1]:  # c of an LSTM, h of the Elman network
        axes.plot(*back(network, network["bound"]), color=colour, lw=1.1, ls="--")


def gradient(axes, network, colour):
    for field, style in (("h", "-"), ("c", ":")):
        if field in network["gradient"]:
            axes.plot(*back(network, network["gradient"][field]), color=colour, lw=1.5, ls=style)


def legend(situation):
    networks = zip(situation["networks"], COLOURS, strict=False)
    lines = [Line2D([], [], color=c, lw=1.8, label=n["name"]) for n, c in networks]
    return [
        *lines,
        Patch(color=GREY, alpha=0.25, lw=0, label="least to most of the examples"),
        Line2D([], [], color=GREY, ls="--", label=r"middle row: gates alone, $\max\,\prod f$"),
        Line2D(
            [],
            [],
            color=GREY,
            ls="--",
            label=r"top row: Elman at most, $\prod\,\|U\|\,\max(1-h^2)$",
        ),
        Line2D([], [], color=GREY, ls=":", label=r"bottom row: $\|dL_T/dc_t\|$"),
    ]


# Time x gate ------------------------------------------------------------------------------------


def gates(found):
    """‖da_t‖ by gate and step, a row for each network and a column for each situation."""
    situations = found["situations"]
    names = [network["name"] for network in situations[0]["networks"]]
    deltas = [
        [np.array(list(network["delta"].values())) for network in situation["networks"]]
        for situation in situations
    ]
    sizes = [len(delta) for delta in deltas[0]]
    figure = Figure(
        figsize=(3.1 * len(situations) + 1.2, 0.24 * sum(sizes) + 0.42 * len(sizes) + 1.1),
        layout="constrained",
        dpi=80,
    )
    title = r"$\|da_t\|$ of each gate, for the loss at the last step; white: zero, since $c_0 = 0$"
    figure.suptitle(f"{title}\n{heading(found)}", fontsize=9)
    every = np.concatenate([delta.ravel() for column in deltas for delta in column])
    positive = every[every > 0] if (every > 0).any() else np.ones(1)
    norm = LogNorm(max(LOWEST, positive.min()), max(positive.max(), 2 * LOWEST))
    grid = figure.subplots(
        len(sizes), len(situations), sharex="col", sharey="row", squeeze=False, height_ratios=sizes
    )
    image = None
    for column, situation, shown in zip(grid.T, situations, deltas, strict=True):
        for axes, network, name, delta in zip(
            column, situation["networks"], names, shown, strict=True
        ):
            image = axes.imshow(
                np.ma.masked_equal(np.where(delta > 0, np.maximum(delta, norm.vmin), 0), 0),
                norm=norm,
                cmap="viridis",
                aspect="auto",
                interpolation="nearest",
                extent=(0.5, delta.shape[1] + 0.5, len(delta) - 0.5, -0.5),
            )
            labels = [f"$a_{gate}$" if len(delta) > 1 else "$a$" for gate in network["delta"]]
            axes.set_yticks(range(len(delta)), labels)
            axes.set_title(name, fontsize=8, loc="left", pad=3)
        column[0].set_title(f"{situation['name']}\n", fontsize=11, loc="left", pad=3)
        column[0].text(0, 1.08, names[0], fontsize=8, transform=column[0].transAxes, va="bottom")
        column[-1].set_xlabel("time step t")
        column[-1].xaxis.set_major_locator(MaxNLocator(5, integer=True))
    figure.colorbar(image, ax=grid, label=r"$\|da_t\|$", shrink=0.9, extend="min")
    return figure
