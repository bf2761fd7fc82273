"""THE MUTANTS: one slow backward per cell, in which each classic mistake is a named switch.

Written apart from the engine, in NumPy, so that it can accuse and be believed.

    forward     a = x W + h_prev U + b;  i, f, g, o;  c = f c_prev + i g;  h = o tanh(c)  (times P)
    backward    the same bottom-up, see textbook.py; `pick(name, wrong, right)` is the switch

What is done to a finished gradient (the wrong sign, a mean for a sum, clipping) knows no cell and
stands in referee/changes.py; what is done to its blocks of gates stands here, below each backward.
"""

import functools
from typing import Any

import numpy as np

from jax_lstm.diagnosis.catalogue import (
    ELMAN_GATES,
    NAMES,
    PERMUTED,
    Mutants,
    elman_inside,
    local_to_leaves,
    lstm_inside,
)
from jax_lstm.diagnosis.switches import (
    begin,
    carry,
    factors,
    from_outside,
    gate_masks,
    in_groups,
    is_forward,
    join,
    over_time,
    per_setting,
    rows,
    share,
    share_masks,
    sigmoid,
    switch,
    total,
)
from jax_lstm.notation import GATES
from jax_lstm.referee.changes import leaf_means, means

# The LSTM, with and without projection --------------------------------------------------------


def blocks(x, order):
    """The blocks of the last axis in another order; order[n] is the block that comes n-th."""
    parts = np.split(x, len(order), -1)
    return np.concatenate([parts[n] for n in order], -1)


def columns(settings, H):
    """Where each column of a wrong order comes from, and where it goes: (settings, 4H) each."""
    orders = [
        next(
            (PERMUTED[k.rsplit("order ", 1)[-1]] for k in names if k.startswith("forward in")),
            GATES,
        )
        for names in settings
    ]
    orders = np.array([[0, 1, 2, 3] if order == GATES else order for order in orders])
    return [
        (order[:, :, None] * H + np.arange(H)).reshape(len(settings), -1)
        for order in (np.argsort(orders, -1), orders)
    ]


def lstm_forward(problem, settings=((),)):
    """All steps, the params they were made with, and the columns of the gradient, or None.

    Where a setting makes the forward wrong, arrays have the axes (settings, 1) in front.
    """
    pick, p, order = switch(settings), dict(problem.params), None
    h, c = problem.state["h"], problem.state["c"]
    H = p["b"].size // 4
    if any(map(is_forward, (k for names in settings for k in names))):
        cols, order = columns(settings, H)
        p |= {k: np.moveaxis(np.atleast_2d(p[k])[:, cols], 1, 0)[:, None] for k in "WUb"}
        p["b"] = pick(
            "forget offset", p["b"] + (np.arange(4 * H) // H == 1).astype(h.dtype), p["b"]
        )
    for name in ("h0 zero", "state zero"):
        h = pick(name, 0 * h, h)
    for name in ("c0 zero", "state zero"):
        c = pick(name, 0 * c, c)
    steps = []
    for x in problem.xs:
        h_prev, c_prev = h, c
        a_i, a_f, a_g, a_o = np.split(x @ p["W"] + h_prev @ p["U"] + p["b"], 4, -1)  # (1)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)  # (2)
        c = f * c_prev + i * g  # (3)
        m = o * np.tanh(c)  # (4)
        h = m @ p["P"] if "P" in p else m  # (10)
        steps.append((h_prev, c_prev, i, f, g, o, c, m, h))
    return p, order, steps


def lstm_states(problem):
    _, _, steps = lstm_forward(problem)
    return [{"h": step[0], "c": step[1]} for step in steps]


def slope_of(pick, k, y):
    """s'(a) = s (1 - s), or 1 - tanh², from the output."""
    squash, slope = (np.tanh, lambda y: 1 - y * y) if k == "g" else (sigmoid, lambda y: y * (1 - y))
    one = np.ones_like(y)
    right = pick("slopes at the outputs", slope(squash(y)), slope(y))
    right = right if k == "g" else pick("slope of the sigmoids", one, right)
    return pick(f"slope of {k}", one, pick("slope of every gate", one, right))


def lstm_run(problem, through, settings):
    """All steps in reverse; every `pick` is one place where people went wrong."""
    n, pick = len(settings), switch(settings)
    p, order, steps = lstm_forward(problem, settings)
    hs, H = [step[-1] for step in steps], problem.params["b"].size // 4
    recurrent, entering = gate_masks(settings, GATES, H, hs[0])
    left = share_masks(settings, problem, GATES, H)
    dh_next, dc_next = (begin(problem, through, pick, k) for k in "hc")
    dh_prev, dc_prev = dh_next, dc_next  # of no step at all
    U = pick("U for its transpose", transpose_blocks(p["U"]), p["U"])
    weights: dict[str, Any] = {f"d{k}": np.zeros_like(x) for k, x in problem.params.items()}
    every: list[Any] = [None] * len(steps)
    for t in reversed(range(len(steps))):
        h_prev, c_prev, i, f, g, o, c, m, h = steps[t]
        dh_outside = from_outside(problem, hs, pick, t)
        dh = (
            np.where(through.enters[:, :, t, None, None], dh_outside, 0 * dh_outside) + dh_next
        )  # (F')
        dm = dh @ p["P"].T if "P" in p else dh  # (10')
        s = pick("tanh of c of t-1", np.tanh(c_prev), np.tanh(c))
        s = pick("c for tanh(c)", c, s)
        slope = pick("no slope of tanh(c)", np.ones_like(s), 1 - s * s)
        do, dc_from_h = dm * s, dm * o * slope  # (4')
        dc = pick("dc only carried", 0 * dc_from_h, dc_from_h) + dc_next  # (F')
        c_before = c_prev
        if t == 0:
            c_before = pick("c0 zero in backward", 0 * c_before, c_before)
            c_before = pick("state zero in backward", 0 * c_before, c_before)
        c_before = pick("c of t", c, c_before)
        df = dc * pick("state of t", c, c_before)  # (3')
        di, dg = dc * pick("i and g swapped", i, g), dc * pick("i and g swapped", g, i)
        keeps = pick("1 - f", 1 - f, pick("f of t-1", steps[t - 1][3] if t else f, f))
        dc_prev = dc * keeps
        outputs = dict(zip(GATES, (i, f, g, o), strict=True))
        dgates = zip(GATES, (di, df, dg, do), strict=True)
        da = join([d * slope_of(pick, k, outputs[k]) for k, d in dgates])  # (2')
        dh_prev = (recurrent * da) @ rows(U)  # (1')
        dx = total(entering * da) @ rows(p["W"])
        x, h_before = factors(problem, pick, t, problem.xs, h, h_prev)
        weights["dW"] = weights["dW"] + rows(x) @ share(left, "dW", t, total(da))  # (F')
        weights["dU"] = weights["dU"] + rows(h_before) @ share(left, "dU", t, total(da))
        weights["db"] = weights["db"] + share(left, "db", t, total(da)).sum(-2, keepdims=True)
        if "P" in p:
            weights["dP"] = weights["dP"] + rows(m) @ share(left, "dP", t, total(dh))
        every[t] = dx, total(da), total(dh), total(dc)
        if t:
            dh_next = carry(through, pick, t - 1, dh_prev, "dh not carried")
            dc_next = carry(through, pick, t - 1, dc_prev, "dc not carried")
    weights["db"] = weights["db"].reshape((-1, 1, problem.params["b"].size))
    found = {k: per_setting(n, x) for k, x in weights.items()}
    found["db"] = found["db"][:, 0]
    if order is not None:
        found |= {k: in_columns(found[k], order) for k in ("dW", "dU", "db")}
    found |= {"dh0": per_setting(n, total(dh_prev)), "dc0": per_setting(n, total(dc_prev))}
    dxs, das, dhs, dcs = (over_time(n, x) for x in zip(*every, strict=True))
    das = das if order is None else in_columns(das, order)
    return found | {"dxs": dxs, "das": das, "dhs": dhs, "dcs": dcs}


def in_columns(x, order):
    """Each setting's last axis in its own order, (settings, columns)."""
    order = order.reshape((len(order), *(1,) * (x.ndim - 2), -1))
    return np.take_along_axis(x, np.broadcast_to(order, x.shape), -1)


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
    """What can happen to the gradient of any cell."""
    leaves = [f"d{k}" for k in problem.params] + ["dxs"] + [f"d{k}0" for k in problem.state]
    ends = [f"d{k}0" for k in problem.state]
    T, B, _ = problem.xs.shape
    over = means({"time": T, "batch": B})
    averaged: dict[str, Any] = {}
    for k in leaves:
        mine = [(text, n) for text, n in over if k not in ends or text == "batch"]
        averaged |= leaf_means(k, mine)
    gates = problem.params["b"].size // problem.state.get("c", problem.state["h"]).shape[-1]
    averaged |= leaf_means("dxs", [("gates", gates)] if gates > 1 else [])
    return (
        {
            "b doubled": (
                "db doubled (two biases, one gradient)",
                lambda d: d | {"db": 2 * d["db"]},
            ),
            "b halved": ("db halved", lambda d: d | {"db": d["db"] / 2}),
            "dxs reversed": (
                "dxs in reverse order of time",
                lambda d: d | {"dxs": d["dxs"][:, ::-1]},
            ),
        }
        | {f"sign of {k}": (f"the sign of {k}", functools.partial(negate, leaf=k)) for k in leaves}
        | {f"{k} zero": (f"{k} left at zero", functools.partial(zero_leaf, leaf=k)) for k in leaves}
        | averaged
    )


def negate(d, leaf):
    return d | {leaf: -d[leaf]}


def zero_leaf(d, leaf):
    return d | {leaf: 0 * d[leaf]}


# Elman's network ------------------------------------------------------------------------------


def elman_forward(problem, settings=((),)):
    p, h = problem.params, problem.state["h"]
    h = switch(settings)("h0 zero", 0 * h, h)
    steps = []
    for x in problem.xs:
        h_prev, h = h, np.tanh(x @ p["W"] + h @ p["U"] + p["b"])
        steps.append((h_prev, h))
    return p, steps


def elman_states(problem):
    _, steps = elman_forward(problem)
    return [{"h": h_prev} for h_prev, _ in steps]


def elman_run(problem, through, settings):
    n, pick = len(settings), switch(settings)
    p, steps = elman_forward(problem, settings)
    hs = [h for _, h in steps]
    recurrent, entering = gate_masks(settings, tuple(ELMAN_GATES), hs[0].shape[-1], hs[0])
    left = share_masks(settings, problem, tuple(ELMAN_GATES), hs[0].shape[-1])
    U = pick("U for its transpose", transpose_blocks(p["U"]), p["U"])
    dh_next = dh_prev = begin(problem, through, pick, "h")
    weights: dict[str, Any] = {f"d{k}": np.zeros_like(x) for k, x in problem.params.items()}
    every: list[Any] = [None] * len(steps)
    for t in reversed(range(len(steps))):
        h_prev, h = steps[t]
        dh_outside = from_outside(problem, hs, pick, t)
        dh = (
            np.where(through.enters[:, :, t, None, None], dh_outside, 0 * dh_outside) + dh_next
        )  # (F')
        da = dh * pick("slope of a", np.ones_like(h), 1 - h * h)  # (2')
        dh_prev = (recurrent * da) @ rows(U)  # (1')
        dx = total(entering * da) @ p["W"].T
        x, h_before = factors(problem, pick, t, problem.xs, h, h_prev)
        weights["dW"] = weights["dW"] + rows(x) @ share(left, "dW", t, total(da))  # (F')
        weights["dU"] = weights["dU"] + rows(h_before) @ share(left, "dU", t, total(da))
        weights["db"] = weights["db"] + share(left, "db", t, total(da)).sum(-2, keepdims=True)
        every[t] = dx, total(da), total(dh)
        if t:
            dh_next = carry(through, pick, t - 1, dh_prev, "dh not carried")
    weights["db"] = weights["db"].reshape((-1, 1, problem.params["b"].size))
    found = {k: per_setting(n, x) for k, x in weights.items()}
    found["db"] = found["db"][:, 0]
    dxs, das, dhs = (over_time(n, x) for x in zip(*every, strict=True))
    found["dh0"] = per_setting(n, total(dh_prev))
    return found | {"dxs": dxs, "das": das, "dhs": dhs}


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


GATED = ("dW", "dU", "db", "das")  # leaves with a block per gate
BLOCKS: dict[str, tuple[str, ...]] = dict.fromkeys(GATED, tuple(NAMES.values()))
PLAIN: dict[str, tuple[str, ...]] = dict.fromkeys(GATED, ("tanh",))
STEPS = ("dhs", "dcs", "das", "dxs")  # in the order of the backward
WEIGHTS = ("dW", "dU", "db")


def table_of_gates(*more):
    """The table of a cell with four gates; `more` are its weights beside W, U and b."""
    local, gradients = functools.partial(local_to_leaves, gates=NAMES), in_groups(lstm_run)
    weights = *WEIGHTS, *more
    return Mutants(lstm_inside, local, gradients, after_lstm, lstm_states, weights, STEPS, BLOCKS)


MUTANTS = {
    "lstm": table_of_gates(),
    "lstmp": table_of_gates("dP"),
    "elman": Mutants(
        elman_inside,
        functools.partial(local_to_leaves, gates=ELMAN_GATES),
        in_groups(elman_run),
        after_elman,
        elman_states,
        WEIGHTS,
        STEPS,
        PLAIN,
    ),
}
