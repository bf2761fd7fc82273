"""What the tests of teaching share: fixtures, the command, files as others bring them."""

import json
import pathlib

import numpy as np

from jax_lstm.commands.main import main

HERE = pathlib.Path(__file__).parents[1]
PAGE = HERE.parent / "docs" / "trace.md"
GRAPH = HERE.parent / "docs" / "gomez.svg"
SIZE = (3, 2, 4, 5)  # T, B, D, H


def fixture(name):
    return json.loads((HERE / "fixtures" / f"{name}.json").read_text())


def status(*arguments):
    """Of the command, whoever it is that complains."""
    try:
        return main(["trace", *map(str, arguments)])
    except SystemExit as error:
        return error.code


def digits(x):
    """As printed: five digits, and no sign on zero."""
    return [f"{v + 0.0:.5g}" for v in np.ravel(x)]


def bring(p, layout, tmp_path, change=lambda d: d):
    """A Problem in two files, weights and the rest, as somebody else has them."""
    weights, rest = dict(p.params), {"xs": p.xs, "ys": p.ys, "h0": p.state["h"], "c0": p.state["c"]}
    if layout == "torch":
        weights = {f"weight_{a}_l0": p.params[k].T for a, k in (("ih", "W"), ("hh", "U"))}
        weights["bias_ih_l0"] = p.params["b"]
        rest = {"input": p.xs, "target": p.ys, "h_0": rest["h0"][None], "c_0": rest["c0"][None]}
    files = tmp_path / "params.npz", tmp_path / "input.json"
    np.savez(files[0], **weights)
    rest = {k: np.asarray(x).tolist() for k, x in change(rest).items()}
    files[1].write_text(json.dumps({"layout": layout, "problem": rest}))
    return files


def put_nan(rest):
    xs = rest["xs"].copy()
    xs[1, 0, 2] = np.nan
    return rest | {"xs": xs}
