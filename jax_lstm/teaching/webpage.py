"""The page: a trace as one HTML file in which one steps forward, and then backward.

The file is page/page.html, built of page/src by page/build.mjs and kept here as it was built; what
is put in is what a trace was given, its weights, inputs and targets, and the page computes the
rest. `python -m jax_lstm.teaching.webpage` writes page/examples.json, the examples inside it.
"""

import base64
import html as markup
import json
from pathlib import Path
from typing import Any

import numpy as np

from jax_lstm import printing
from jax_lstm.diagnosis.catalogue import Problem, not_drawn
from jax_lstm.notation import GATES
from jax_lstm.teaching import beside, examples
from jax_lstm.teaching.examples import Run

PAGE = Path(__file__).parent / "page"
OWN = 'id="own">null<'  # what a file of one's own replaces
HEIGHT = 900  # pixels in a notebook
# The page computes every mistake anew, so that numbers can be changed in it; mistakes.ts and
# changes.ts have no switch for these yet.
NOT_DRAWN = frozenset(not_drawn())
SQUARES = "squares"  # L = ½ Σ (h - y)²
IDS = {"gomez": ("gomez", "gomez-remembered")}  # an example may have several runs


def html(runs, *, mistake="", row=0):
    """The page, with its own styles, script and numbers: it needs no network and no other file.

    Args:
      runs: [Run, ...] of examples.py; the first is shown, the others can be chosen.
      mistake: which one of the catalogue is set beside the truth at first; "" is none.
      row: which example of the batch is shown at first.

    Returns:
      str: HTML.

    Raises:
      ValueError: the page knows no such network, the batch no such row, or the run no such mistake.
    """
    inside = {x["id"]: x for x in json.loads((PAGE / "examples.json").read_text("utf-8"))}
    own, ids = [], []
    for run in runs:
        packed = pack(run, f"own-{len(own)}" if own else "own")
        same = next((k for k, x in inside.items() if x | {"id": packed["id"]} == packed), None)
        ids.append(same or packed["id"])
        own += [] if same else [packed]
    first = next(x for x in [*own, *inside.values()] if x["id"] == ids[0])
    if mistake:
        beside.check_name(mistake, first["mistakes"])
    many = first["arrays"]["x"]["shape"][-2]
    if not 0 <= row < many:
        raise ValueError(f"`row` must be an example of the batch, 0 to {many - 1}; got {row}")
    data = {"runs": own, "start": {"example": ids[0], "mistake": mistake, "row": row}}
    return (PAGE / "page.html").read_text("utf-8").replace(OWN, OWN.replace("null", embed(data)), 1)


def html_of(traced, title="a trace"):
    """The page of a Traced alone."""
    return html([Run(title, traced)])


def notebook(traced):
    """For a notebook's cell: the page, and below it the tables; of another network these alone."""
    tables = printing.html(traced)
    try:
        page = html_of(traced)
    except ValueError:
        return tables
    return f"{frame(page)}\n<details><summary>as tables</summary>{tables}</details>"


def frame(page):
    return (
        f'<iframe srcdoc="{markup.escape(page)}" title="the page" '
        f'style="width: 100%; height: {HEIGHT}px; border: 0"></iframe>'
    )


def embed(data):
    """JSON that may stand in a script element."""
    return printing.to_json(data, indent=None).replace("<", "\\u003c")


def pack(run, name):
    """A Run as the page reads it.

    Raises:
      ValueError: it is neither an LSTM, an Elman network nor Mazur's layers.
    """
    arrays, order = given(run.traced)
    cell = cell_of(run.traced)
    outside, scale = "cotangents", 1.0
    if "V" in arrays:
        outside = "readout"
    elif "y" in arrays or cell == "dense":
        outside = SQUARES
    elif run.problem is not None and run.problem.ys is not None:
        outside, scale = run.problem.loss, float(run.problem.scale)
        arrays |= {"y": run.problem.ys}
        del arrays["dh_from_outside"]
    problem = None if cell == "dense" else problem_of(arrays, cell, outside, scale)
    inside, after = beside.mistakes_of(problem, cell) if problem else ({}, {})
    mistakes = inside | {k: says for k, (says, _) in after.items()}
    mistakes = {k: says for k, says in mistakes.items() if k not in NOT_DRAWN}
    numbers = (np.asarray(s.value) for s in run.traced.stages[:1])
    return {
        "id": name,
        "title": run.title,
        "cell": cell,
        "order": order,
        "outside": outside,
        "scale": scale,
        "single": any(x.dtype == np.float32 for x in numbers),
        "note": run.note,
        "beside": [[name, t, text] for (name, t), text in (run.beside or {}).items()],
        "below": list(run.below),
        "arrays": {k: pack_array(x) for k, x in arrays.items()},
        "mistakes": mistakes,
    }


def pack_array(x):
    """Its shape, and its numbers as float64, little-endian, in base64: none loses a digit."""
    x = np.ascontiguousarray(x, "<f8")
    return {"shape": list(x.shape), "data": base64.b64encode(x.tobytes()).decode()}


def cell_of(traced):
    names = traced.forward
    for cell, needed in (("lstm", "c_prev"), ("dense", "W1"), ("elman", "h_prev")):
        if needed in names:
            return cell
    raise ValueError(
        "the page is of an LSTM, an Elman network or Mazur's layers; pass one of these"
    )


def given(traced):
    """What a trace was given, by name: from the lines without equation, and from what these name.

    Returns:
      arrays: {"x": (T, B, D), "W_i": (D, H), "h0": (B, H), ...}; order: of the gates.
    """
    steps: dict[str, dict[int, Any]] = {}
    found, made = {}, {s.name for s in traced.stages if s.equation}
    for s in traced.stages:
        if not s.equation and s.t is not None:
            steps.setdefault(s.name, {})[s.t] = s.value
        elif not s.equation:
            found[s.name] = s.value
        found |= {k: x for k, x in s.of.items() if k not in made and "(" not in k}
    found |= {k: np.stack([x[t] for t in sorted(x)]) for k, x in steps.items()}
    gates = (s.name[2:] for s in traced.stages if s.name.startswith("a_"))
    return {k: np.asarray(x) for k, x in found.items()}, list(dict.fromkeys(gates))


def problem_of(arrays, cell, outside, scale):
    """The Problem whose catalogue of mistakes the page has."""
    gates = [""] if cell == "elman" else [f"_{k}" for k in GATES]
    params = {w: np.concatenate([arrays[f"{w}{k}"] for k in gates], -1) for w in "WUb"}
    fields = "h" if cell == "elman" else "hc"
    state, last = {k: arrays[f"{k}0"] for k in fields}, {k: arrays[f"d{k}_T"] for k in fields}
    known = outside not in (SQUARES, "readout")
    loss = outside if known else "squared_error" if outside == SQUARES else "cotangents"
    dhs, ys = arrays.get("dh_from_outside"), arrays.get("y")
    return Problem(params, state, arrays["x"], loss, dhs, ys, scale, last)


def write_examples():
    """page/examples.json, of all examples; page/build.mjs puts it into page.html."""
    found = []
    for name in examples.EXAMPLES:
        ids = IDS.get(name, (name,))
        found += [pack(run, k) for k, run in zip(ids, examples.runs(name), strict=True)]
    lines = ",\n".join(map(embed, found))
    return f"[\n{lines}\n]\n"


if __name__ == "__main__":
    import jax

    jax.config.update("jax_enable_x64", True)
    (PAGE / "examples.json").write_text(write_examples(), encoding="utf-8")
