"""What is done to the leaves of a finished gradient, and to its blocks of gates: mixed up, turned,
counted twice, left at zero.
"""

import functools
from typing import Any

import numpy as np

from jax_lstm.diagnosis.catalogue import NAMES, PERMUTED
from jax_lstm.diagnosis.head import rows
from jax_lstm.notation import GATES
from jax_lstm.referee.changes import leaf_means, means, scale


def blocks(x, order):
    """The blocks of the last axis in another order; order[n] is the block that comes n-th."""
    parts = np.split(x, len(order), -1)
    return np.concatenate([parts[n] for n in order], -1)


def after_lstm(problem):
    """Layout: blocks in another order, transposed, the offset counted twice, leaves mixed up."""
    H = problem.params["b"].size // 4
    table: dict[str, Any] = {
        f"gradient in order {name}": (
            f"the gates' blocks in the order {name}",
            functools.partial(reorder, order=order),
        )
        for name, order in PERMUTED.items()
    }
    table |= gate_means(problem)
    if problem.params["U"].shape[0] == H:
        table["dU transposed"] = (
            "dU transposed, gate by gate",
            functools.partial(transpose_leaf, leaf="dU"),
        )
    if problem.params["W"].shape[0] == H:
        table["dW transposed"] = (
            "dW transposed, gate by gate",
            functools.partial(transpose_leaf, leaf="dW"),
        )
    if "P" in problem.params and len(set(problem.params["P"].shape)) == 1:
        table["dP transposed"] = "dP transposed", lambda d: d | {"dP": rows(d["dP"])}
    if problem.state["h"].shape == problem.state["c"].shape:
        table["dh0 and dc0 swapped"] = (
            "dh0 and dc0 swapped (the others' order of the state)",
            lambda d: d | {"dh0": d["dc0"], "dc0": d["dh0"]},
        )
    return table | after_any(problem)


def gate_means(problem):
    """A mean for the sum of one gate's block: some have an array for each of them."""
    T, B, _ = problem.xs.shape
    table: dict[str, Any] = {}
    for over, n in means({"time": T, "batch": B}):
        says = f"the mean over {over}, not the sum, in dW and dU alone"
        whole = functools.partial(scale, factor=1 / n, leaves=("dW", "dU"))
        table[f"dW and dU averaged over {over}"] = says, whole
        for leaves in (("dW",), ("dU",), ("db",), ("dW", "dU")):
            for k, gate in NAMES.items():
                whose = f"{' and '.join(leaves)} of the {gate}"
                table[f"{' and '.join(leaves)} {k} averaged over {over}"] = (
                    f"the mean over {over}, not the sum, in {whose} alone",
                    functools.partial(scale_block, leaves=leaves, at=GATES.index(k), factor=1 / n),
                )
    return table


def scale_block(d, leaves, at, factor):
    factors = np.where(np.arange(len(GATES)) == at, factor, 1.0)
    return d | {k: d[k] * np.repeat(factors, d[k].shape[-1] // len(GATES)) for k in leaves}


def reorder(d, order):
    leaves = [k for k in ("dW", "dU", "db", "das") if k in d]
    return d | {k: blocks(d[k], order) for k in leaves}


def transpose_leaf(d, leaf):
    return d | {leaf: transpose_blocks(d[leaf])}


def transpose_blocks(x):
    """Square blocks side by side, each transposed; anything else as it is."""
    rest = x.shape[-1] % x.shape[-2]
    parts = [] if rest else np.split(x, x.shape[-1] // x.shape[-2], -1)
    return x if rest else np.concatenate([rows(part) for part in parts], -1)


def after_any(problem):
    """What can happen to the gradient of a cell with W, U and b."""
    gates = problem.params["b"].size // problem.state.get("c", problem.state["h"]).shape[-1]
    return {
        "b doubled": (
            "db doubled (two biases, one gradient)",
            lambda d: d | {"db": 2 * d["db"]},
        ),
        "b halved": ("db halved", lambda d: d | {"db": d["db"] / 2}),
    } | after_leaves(problem, gates)


def after_leaves(problem, gates=1):
    """What can happen to any leaf: its sign, zeros, a mean for a sum."""
    leaves = [f"d{k}" for k in problem.params] + ["dxs"] + [f"d{k}0" for k in problem.state]
    ends = [f"d{k}0" for k in problem.state]
    T, B, _ = problem.xs.shape
    over = means({"time": T, "batch": B})
    averaged: dict[str, Any] = {}
    for k in leaves:
        mine = [(text, n) for text, n in over if k not in ends or text == "batch"]
        averaged |= leaf_means(k, mine)
    averaged |= leaf_means("dxs", [("gates", gates)] if gates > 1 else [])
    turned: dict[str, Any] = {
        "dxs reversed": (
            "dxs in reverse order of time",
            lambda d: d | {"dxs": d["dxs"][:, ::-1]},
        ),
    }
    signs = {
        f"sign of {k}": (f"the sign of {k}", functools.partial(negate, leaf=k)) for k in leaves
    }
    zeros = {
        f"{k} zero": (f"{k} left at zero", functools.partial(zero_leaf, leaf=k)) for k in leaves
    }
    return turned | signs | zeros | averaged


def negate(d, leaf):
    return d | {leaf: -d[leaf]}


def zero_leaf(d, leaf):
    return d | {leaf: 0 * d[leaf]}


def after_elman(problem):
    table: dict[str, Any] = {}
    H = problem.params["b"].size
    for k in "WU":
        if problem.params[k].shape == (H, H):
            table[f"d{k} transposed"] = (
                f"d{k} transposed",
                functools.partial(transpose_leaf, leaf=f"d{k}"),
            )
    return table | after_any(problem)
