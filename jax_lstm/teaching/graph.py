"""The picture of a trace: the network unrolled, each stage a node, each fork a dot.

    c ──(x)──(+)────────●── c of t+1        on every edge the value that goes forward, and the
         f   i(x)g     tanh                 cotangent that comes back; at a fork the sum of what
         a_f a_i a_g a_o (x)●── h of t+1    comes back along its branches
         x and h_prev: buses, four taps        the Elman network: a, tanh, and the fork at h

Needs matplotlib: pip install 'jax_lstm[experiments]'. Colours: Okabe & Ito, for every reader.
"""

import io
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

from jax_lstm.teaching.equations import number
from jax_lstm.teaching.paper import TooLarge

FORWARD, BACK, FORK, LINE, NAN = "#0072B2", "#D55E00", "#009E73", "#333333", "#CC79A7"
WRONG, WRONG_BOX = "#8B1A62", "#FBE9F4"
STEPS, INPUTS, UNITS = 4, 3, 2  # what fits into a picture
WIDE, DIGITS, SIZE = 11.0, 4, 13  # inches of a step; digits of a number; points of its letters
F, I, G, O, Q = 1.9, 3.5, 5.1, 6.7, 8.95  # columns: the gates, and where c and h fork
C_LINE, PRODUCT, GATE, NET, H_BUS, X_BUS, OUTSIDE = 8.3, 6.7, 5.0, 3.5, 1.2, 0.3, -0.9
MIDDLE = (I + G) / 2


class Pen(NamedTuple):
    """Axes, the numbers of the example that is drawn, and where its step begins."""

    axes: Any
    traced: Any
    row: int
    t: int
    x: float

    def text(self, name):
        """The numbers of a name at this step, one below the other."""
        t, d = self.t, self.traced
        values = (d.forward if name in d.forward else d.backward)[name][t]
        return lines(np.atleast_2d(values)[self.row])


def svg(traced, title="", *, row=0, mistake=None):
    """The picture as text.

    Args:
      traced: a Traced of an LSTM or an Elman network.
      title: above it.
      row: which example of the batch.
      mistake: a Beside of the same; its numbers are drawn where they differ from the truth.

    Raises:
      ValueError: nothing recurs, no such example, or more than fits into a picture.
    """
    picture = figure(traced, title, row, mistake)
    text = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "jax_lstm"}):
        picture.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue().rstrip("\n")


def figure(traced, title="", row=0, mistake=None):
    """The picture, as a matplotlib Figure."""
    if "h_prev" not in traced.forward:
        raise ValueError(
            "the graph is that of a recurrent network; pass --html FILE, whose graph is of any "
            "example, or --json or --csv"
        )
    T = len(traced.forward["h"])
    D, H = (traced.forward[k].shape[-1] for k in "xh")
    if T > STEPS or D > INPUTS or H > UNITS:
        raise TooLarge(
            f"too large to draw: T={T}, D={D}, H={H}, and a picture holds {STEPS} steps, {INPUTS} "
            f"inputs and {UNITS} units; pass --html FILE, whose graph folds the rest, a smaller "
            "--size such as 3,1,2,1, or --json FILE or --csv FILE, which hold everything"
        )
    examples = np.atleast_2d(traced.forward["x"][0]).shape[0]
    if not 0 <= row < examples:
        raise ValueError(f"`row` must be an example of the batch, 0 to {examples - 1}; got {row}")
    draw_step, top = (draw_lstm, C_LINE) if "c" in traced.forward else (draw_elman, H_BUS + 0.7)
    width, low, high = T * WIDE + 1.4, OUTSIDE - 0.8 - 2.6 * bool(mistake), top + 2.3
    picture = Figure(figsize=(width, high - low))
    axes = picture.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-1.2, width - 1.2)
    axes.set_ylim(low, high)
    legend(axes, title, width, high)
    for t in range(T):
        pen = Pen(axes, traced, row, t, t * WIDE)
        frame(pen, top)
        draw_step(pen, t == T - 1)
        if mistake:
            draw_mistake(pen, mistake, MARKS if "c" in traced.forward else ELMAN_MARKS, low)
    if mistake:
        says = f"≠ with the mistake: {mistake.says}\n{mistake.sentence()}"
        axes.text(-1.0, low + 1.75, says, fontsize=SIZE + 1, color=WRONG, weight="bold")
    return picture


def frame(pen, top):
    pen.axes.add_patch(
        Rectangle(
            (pen.x + 0.12, OUTSIDE - 0.6), WIDE - 0.24, top - OUTSIDE + 1.85,
            facecolor="none", edgecolor="#CCCCCC", lw=1.0, zorder=0,
        )
    )  # fmt: skip
    pen.axes.text(pen.x + 0.35, top + 0.85, f"t = {pen.t}", fontsize=SIZE + 4, color=LINE)


def lines(values):
    return "\n".join(number(v, DIGITS) for v in np.ravel(values))


def legend(axes, title, width, high):
    axes.text(-1.0, high - 0.35, title, fontsize=SIZE + 4, va="center", color=LINE)
    items = [
        (FORWARD, "value, going forward"),
        (BACK, "cotangent dX = dL/dX, coming back"),
        (FORK, "● fork: what comes back along its branches is added"),
    ]
    x = -1.0
    for color, text in items:
        axes.text(x, high - 0.8, text, fontsize=SIZE + 1, va="center", color=color, weight="bold")
        x += 0.128 * len(text) + 0.5


# Parts ----------------------------------------------------------------------------------------


def node(pen, x, y, text, color="white"):
    """A stage."""
    wide = 0.34 if len(text) < 3 else 0.46
    pen.axes.add_patch(
        FancyBboxPatch(
            (pen.x + x - wide, y - 0.26), 2 * wide, 0.52, zorder=3,
            boxstyle="round,pad=0,rounding_size=0.12", facecolor=color, edgecolor=LINE, lw=1.3,
        )
    )  # fmt: skip
    pen.axes.text(
        pen.x + x, y - 0.02, text, ha="center", va="center", fontsize=SIZE + 2, zorder=4, color=LINE
    )


def operation(pen, x, y, sign):
    """A product or a sum of two."""
    pen.axes.add_patch(
        Circle((pen.x + x, y), 0.24, facecolor="#F0E442", edgecolor=LINE, lw=1.3, zorder=3)
    )
    pen.axes.text(
        pen.x + x, y - 0.02, sign, ha="center", va="center", fontsize=SIZE + 4, zorder=4, color=LINE
    )


def draw_fork(pen, x, y):
    pen.axes.add_patch(Circle((pen.x + x, y), 0.1, facecolor=FORK, edgecolor=FORK, zorder=5))


def edge(pen, *points, arrow=True):
    """A line along points, with an arrow at its end: the direction of the forward."""
    xs, ys = ([pen.x + p[0] for p in points], [p[1] for p in points])
    pen.axes.plot(xs, ys, color=LINE, lw=1.3, zorder=2, solid_capstyle="butt")
    if arrow:
        pen.axes.annotate(
            "", (xs[-1], ys[-1]), (xs[-2], ys[-2]), zorder=2,
            arrowprops={"arrowstyle": "-|>", "color": LINE, "lw": 1.3, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip


def write(pen, x, y, text, color, ha, va):
    box = {"facecolor": NAN if "nan" in text else "white", "edgecolor": "none", "pad": 1.2}
    pen.axes.text(
        pen.x + x, y, text, color="black" if "nan" in text else color, ha=ha, va=va,
        fontsize=SIZE, zorder=6, bbox=box, linespacing=1.05,
    )  # fmt: skip


def write_along(pen, x, y, value, back, above="", below=""):
    """On a horizontal edge: the value above it, the cotangent below; names in front."""
    write(pen, x, y + 0.07, equate(above, value), FORWARD, "center", "bottom")
    write(pen, x, y - 0.09, equate(below, back), BACK, "center", "top")


def write_beside(pen, x, y, value, back):
    """On a vertical edge, to its right: the value, below it the cotangent."""
    write(pen, x + 0.1, y + 0.02, value, FORWARD, "left", "bottom")
    write(pen, x + 0.1, y - 0.02, back, BACK, "left", "top")


def equate(name, numbers):
    """ "c = 0.7857"; of several numbers, one line each."""
    return f"{name} = {numbers}" if name and "\n" not in numbers else numbers


def write_sum(pen, x, y, name, branches, ha="center", va="center"):
    """At a fork: the sum, and the branches it is the sum of."""
    parts = [pen.text(k).split("\n") for k in (name, *branches)]
    text = "\n".join(
        f"d{name[1:]} = " * (n == 0)
        + " + ".join(f"({v})" if v.startswith("-") and m else v for m, v in enumerate(row[1:]))
        + f" = {row[0]}"
        for n, row in enumerate(zip(*parts, strict=True))
    )
    box = {"facecolor": NAN if "nan" in text else "#E2F4EE", "edgecolor": FORK, "pad": 3}
    pen.axes.text(
        pen.x + x,
        y,
        text,
        color="black" if "nan" in text else BACK,
        ha=ha,
        va=va,
        fontsize=SIZE,
        zorder=6,
        bbox=box,
    )


# A step: the forward read from left to right and from the bottom to the top -------------------


def draw_elman(pen, last):
    """x and h_prev into a, tanh, and the fork at h."""
    text = pen.text
    edge(pen, (-0.35, H_BUS), (I - 0.46, H_BUS))
    if pen.t == 0:
        draw_h0(pen)
    edge(pen, (I, OUTSIDE), (I, H_BUS - 0.26))
    write_beside(pen, I, (H_BUS + OUTSIDE) / 2, text("x"), text("dx"))
    node(pen, I, OUTSIDE, "x")
    node(pen, I, H_BUS, "a")
    edge(pen, (I, H_BUS), (O - 0.46, H_BUS))
    write_along(pen, (I + O) / 2, H_BUS, text("a"), text("da"))
    node(pen, O, H_BUS, "tanh", "#DCEBF5")
    edge(pen, (O, H_BUS), (Q, H_BUS), arrow=False)
    write_along(pen, (O + Q) / 2 + 0.1, H_BUS, text("h"), text("dh"))
    draw_fork_at_h(pen, last)


def draw_h0(pen):
    """Where h comes from before the first step."""
    edge(pen, (-0.75, H_BUS), (-0.35, H_BUS), arrow=False)
    write_along(pen, 0.5, H_BUS, pen.text("h_prev"), pen.text("dh_prev"), "h0", "dh0")


def draw_lstm(pen, last):
    """The gates, the line of c and the line of h."""
    text = pen.text
    draw_buses(pen)
    for k, x in zip("figo", (F, I, G, O), strict=True):
        edge(pen, (x, NET), (x, GATE - 0.26))
        write_beside(pen, x, (NET + GATE) / 2, text(f"a_{k}"), text(f"da_{k}"))
        node(pen, x, NET, f"a_{k}")
        node(pen, x, GATE, "tanh" if k == "g" else "σ", "#DCEBF5")
        pen.axes.text(pen.x + x - 0.65, GATE, k, fontsize=SIZE + 3, ha="center", va="center")
    edge(pen, (F, GATE), (F, C_LINE - 0.24))
    write_beside(pen, F, (GATE + C_LINE) / 2, text("f"), text("df"))
    for k, x in (("i", I), ("g", G)):
        edge(pen, (x, GATE), (x, PRODUCT), (MIDDLE + (0.24 if k == "g" else -0.24), PRODUCT))
        write_beside(pen, x, (GATE + PRODUCT) / 2, text(k), text(f"d{k}"))
    operation(pen, MIDDLE, PRODUCT, "×")
    edge(pen, (MIDDLE, PRODUCT), (MIDDLE, C_LINE - 0.24))
    f, c_prev, i, g, o, dh = (
        np.atleast_2d((pen.traced.backward if k == "dh" else pen.traced.forward)[k][pen.t])[pen.row]
        for k in ("f", "c_prev", "i", "g", "o", "dh")
    )
    write_beside(pen, MIDDLE, (PRODUCT + C_LINE) / 2, lines(i * g), text("dc"))
    draw_c(pen, last, lines(f * c_prev))
    draw_h(pen, last, lines(dh * o))


def draw_buses(pen):
    """x_t and h_{t-1}, each a fork into four gates."""
    text = pen.text
    for y, shift, share in ((X_BUS, -0.2, "dx"), (H_BUS, 0.2, "dh_prev")):
        start = (-0.35, H_BUS) if share == "dh_prev" else (F - 1.0, OUTSIDE)
        edge(pen, start, (start[0], y), (O + shift, y), arrow=False)
        for k, x in zip("figo", (F, I, G, O), strict=True):
            edge(pen, (x + shift, y), (x + shift, NET - 0.26))
            draw_fork(pen, x + shift, y)
            where = (x - 0.26, 1.85, "right") if share == "dx" else (x + 0.26, 2.72, "left")
            write(pen, *where[:2], text(f"{share}_{k}"), BACK, where[2], "center")
    node(pen, F - 1.0, OUTSIDE, "x")
    write(pen, F - 0.55, OUTSIDE + 0.17, text("x").replace("\n", ", "), FORWARD, "left", "center")
    total_of = "dx = " + text("dx").replace("\n", ", ")
    write(pen, F - 0.55, OUTSIDE - 0.17, total_of, BACK, "left", "center")
    if pen.t == 0:
        draw_h0(pen)
        edge(pen, (-0.75, C_LINE), (F - 0.24, C_LINE))
        write_along(pen, 0.5, C_LINE, text("c_prev"), text("dc_prev"), "c0", "dc0")


def draw_c(pen, last, kept):
    """The line of c: forget, add, fork."""
    text = pen.text
    operation(pen, F, C_LINE, "×")
    edge(pen, (F, C_LINE), (MIDDLE - 0.24, C_LINE))
    write_along(pen, (F + MIDDLE) / 2, C_LINE, kept, text("dc"))
    operation(pen, MIDDLE, C_LINE, "+")
    edge(pen, (MIDDLE, C_LINE), (Q, C_LINE), arrow=False)
    write_along(pen, (MIDDLE + Q) / 2, C_LINE, text("c"), text("dc"), "c", "dc")
    draw_fork(pen, Q, C_LINE)
    write_sum(pen, Q, C_LINE + 0.8, "dc", ("dc_from_h", "dc_from_next"), va="center")
    end = Q + 1.75 if last else WIDE + F - 0.24
    edge(pen, (Q, C_LINE), (end, C_LINE))
    write_along(pen, Q + (1.2 if last else 1.9), C_LINE, text("c"), text("dc_from_next"))
    edge(pen, (Q, C_LINE), (Q, PRODUCT + 0.26))
    write_beside(pen, Q, (PRODUCT + C_LINE) / 2, text("c"), text("dc_from_h"))


def draw_h(pen, last, back):
    """tanh, the output gate, and the fork at h."""
    text = pen.text
    node(pen, Q, PRODUCT, "tanh", "#DCEBF5")
    edge(pen, (Q, PRODUCT), (Q, GATE + 0.24))
    write_beside(pen, Q, (PRODUCT + GATE) / 2, text("tanh_c"), back)
    operation(pen, Q, GATE, "×")
    edge(pen, (O, GATE), (Q - 0.24, GATE))
    write_along(pen, (O + Q) / 2 + 0.25, GATE, text("o"), text("do"))
    edge(pen, (Q, GATE), (Q, H_BUS), arrow=False)
    write_beside(pen, Q, (GATE + 2.2) / 2, text("h"), text("dh"))
    draw_fork_at_h(pen, last)


def draw_fork_at_h(pen, last):
    """h goes outside and into the next step; what comes back is added."""
    text = pen.text
    draw_fork(pen, Q, H_BUS)
    write_sum(pen, Q + 0.02, 2.0, "dh", ("dh_from_outside", "dh_from_next"))
    end = Q + 1.75 if last else WIDE - 0.35
    edge(pen, (Q, H_BUS), (end, H_BUS), arrow=last)
    write_along(pen, Q + 0.85, H_BUS, text("h"), text("dh_from_next"))
    edge(pen, (Q, H_BUS), (Q, OUTSIDE + 0.26))
    write_beside(pen, Q, (H_BUS + OUTSIDE) / 2 - 0.05, text("h"), text("dh_from_outside"))
    node(pen, Q, OUTSIDE, "loss" if "y" in pen.traced.forward else "out")


# A mistake beside the truth: a mark where its numbers differ, and the numbers below the step ----

MARKS = {  # name: where its cotangent or its value stands
    "dh": (Q - 0.3, 1.45), "dc": (Q - 0.35, C_LINE + 0.3), "dx": (F - 1.3, OUTSIDE - 0.2),
    "c": (MIDDLE + 0.6, C_LINE + 0.3), "h": (Q - 0.3, 4.0),
} | {
    f"{d}{k}": (x - 0.25, (y + z) / 2)
    for k, x in zip("figo", (F, I, G, O), strict=True)
    for d, y, z in (("da_", NET, GATE), ("", GATE, PRODUCT))
} | {"o": (O + 0.62, GATE + 0.3)}  # fmt: skip
ELMAN_MARKS = {
    "dh": (Q - 0.3, H_BUS - 0.3), "da": (O - 0.9, H_BUS - 0.3), "dx": (I - 0.3, 0.1),
    "h": (Q - 0.3, H_BUS + 0.3),
}  # fmt: skip
ROWS, COLUMN = 5, 3.6  # of the numbers below a step


def differing(mistake, t, row, places):
    """{name: its numbers at this step}, of what differs and has a place in the picture."""
    found: dict[str, list[Any]] = {}
    for pair in mistake.pairs:
        name, *index = pair.name.replace("]", "").split("[")
        if pair.t == t and name in places and (len(index) < 2 or int(index[0]) == row):
            found.setdefault(name, []).append(pair)
    return {k: pairs for k, pairs in found.items() if any(pair.differs for pair in pairs)}


def draw_mistake(pen, mistake, places, low):
    """A mark for every name that differs, and below the step what the mistake makes of it."""
    found = differing(mistake, pen.t, pen.row, places)
    for n, (name, pairs) in enumerate(found.items()):
        first = any(pair is mistake.first() for pair in pairs)
        box = {"facecolor": WRONG_BOX, "edgecolor": WRONG, "pad": 2, "lw": 2.5 if first else 0.6}
        style = {"color": WRONG, "va": "center", "fontsize": SIZE, "zorder": 8}
        x, y = places[name]
        pen.axes.text(pen.x + x, y, "≠", ha="center", bbox=box, **style)
        text = f"{name} ≠ {', '.join(number(pair.mistake, DIGITS) for pair in pairs)}"
        x, y = 0.3 + COLUMN * (n // ROWS), low + 1.4 - 0.3 * (n % ROWS)
        pen.axes.text(pen.x + x, y, text + "   starts here" * first, ha="left", **style)
