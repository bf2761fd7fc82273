"""Files to fill in, and to try: a template of each layout, and gradients that were published."""

from pathlib import Path

import numpy as np

from jax_lstm import printing
from jax_lstm.diagnosis.forms import find_layout
from jax_lstm.engine.shapes import shape_of

PUBLISHED = Path(__file__).parent / "examples"


def template(layout, cell="lstm", seed=0):
    """A file to fill in, as JSON: a small problem, and a gradient of which nothing is known yet."""
    form, rng = find_layout(layout, cell), np.random.default_rng(seed)
    sizes = {"T": 3, "B": 2, "D": 2, "H": 3, "R": 2}
    drop = {"ys", "y", "target"}
    problem = {
        k: rng.standard_normal(shape_of(letters, sizes)).round(6).tolist()
        for k, letters in form.problem.items()
        if k not in drop
    }
    blank = {
        k: np.full(shape_of(letters, sizes), None).tolist()
        for k, letters in form.gradient.items()
        if k not in ("das", "dhs", "dcs")
    }
    about = (
        "Put your problem and your gradient here. null stands for what you do not know; a single "
        'number may stand as NAME[row][column]. Instead of cotangents of h_t, targets and "loss".'
    )
    said = {"about": about, "layout": layout, "cell": cell}
    return printing.to_json(said | {"problem": problem, "gradient": blank})


def examples():
    """{name: path} of the examples that come with the package."""
    return {path.stem: path for path in sorted(PUBLISHED.glob("*.json"))}
