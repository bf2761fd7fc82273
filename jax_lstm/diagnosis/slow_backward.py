"""THE MUTANTS: one slow backward per cell, in which each classic mistake is a named switch.

Written apart from the engine, in NumPy, so that it can accuse and be believed.

    forward     a = x W + h_prev U + b;  i, f, g, o;  c = f c_prev + i g;  h = o tanh(c)  (times P)
    backward    the same bottom-up, see textbook.py; `pick(name, wrong, right)` is the switch

What is done to a finished gradient (the wrong sign, a mean for a sum, clipping) knows no cell and
stands in referee/changes.py; what is done to its leaves and blocks of gates, in misplaced.py.
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
from jax_lstm.diagnosis.factors import CELL, HIDDEN_C, HIDDEN_O, PARTNERS, SIGMOID, TANH, sigmoid
from jax_lstm.diagnosis.head import (
    embedding_bwd,
    from_outside,
    loss_value,
    readout_bwd,
    rows,
    share,
)
from jax_lstm.diagnosis.misplaced import after_elman, after_lstm, transpose_blocks
from jax_lstm.diagnosis.sentences import INNER
from jax_lstm.diagnosis.switches import (
    among,
    begin,
    carry,
    clipper,
    gate_masks,
    in_groups,
    is_forward,
    join,
    multiplied,
    of_backward,
    of_forward,
    over_time,
    per_setting,
    share_masks,
    switch,
    total,
)
from jax_lstm.notation import GATES

# The LSTM, with and without projection --------------------------------------------------------


def in_order(da, order):
    """The blocks of every gate in each setting's order."""
    if order is None:
        return da
    da = np.broadcast_to(da, (len(order), *da.shape[1:]))
    return np.take_along_axis(da, np.broadcast_to(order[:, None, None], da.shape), -1)


def sum_at_h(problem, hs, through, pick, t, dh_next):
    """dh_t, the fork at h: from outside and from t+1."""
    dh = from_outside(problem, hs, pick, t)
    outside = np.where(through.enters[:, :, t, None, None], dh, 0 * dh)
    dh = outside + dh_next
    dh = pick("dh_next twice", dh + dh_next, pick("dh outside twice", dh + outside, dh))
    dh = pick("dh of the outside alone", outside, dh)
    return pick("mean at h", dh / 2, dh)


def columns(settings, H, form="forward in"):
    """Where each column of a wrong order comes from, and where it goes: (settings, 4H) each."""
    orders = [
        next(
            (PERMUTED[k.rsplit("order ", 1)[-1]] for k in names if k.startswith(form)),
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
    settings = of_forward(problem, settings)
    pick, p, order = switch(settings), dict(problem.params), None
    h, c = problem.state["h"], problem.state["c"]
    H = p["b"].size // 4
    if any(map(is_forward, (k for names in settings for k in names))):
        cols, order = columns(settings, H)
        p |= {k: np.moveaxis(np.atleast_2d(p[k])[:, cols], 1, 0)[:, None] for k in "WUb"}
        p["b"] = pick(
            "forget offset", p["b"] + (np.arange(4 * H) // H == 1).astype(h.dtype), p["b"]
        )
        p["b"] = pick("b left out", 0 * p["b"], p["b"])
        h, c = pick("h and c swapped", c, h), pick("h and c swapped", h, c)
    for name in ("h0 zero", "state zero"):
        h = pick(name, 0 * h, h)
    for name in ("c0 zero", "state zero"):
        c = pick(name, 0 * c, c)
    steps = []
    for x in problem.xs:
        h_prev, c_prev = h, c
        a_i, a_f, a_g, a_o = np.split(x @ p["W"] + h_prev @ p["U"] + p["b"], 4, -1)  # (1)
        i, f, o = (gate(pick, a) for a in (a_i, a_f, a_o))  # (2)
        g = pick("no tanh in g", a_g, pick("sigmoid in g", lambda a=a_g: sigmoid(a), np.tanh(a_g)))
        i, f = pick("no input gate", 1 + 0 * i, i), pick("no forget gate", 1 + 0 * f, f)
        i, f = pick("coupled i", 1 - f, i), pick("coupled f", 1 - i, f)
        o = pick("no output gate", 1 + 0 * o, o)
        c = f * c_prev + i * g  # (3)
        m = o * output(pick, c)  # (4)
        h = m @ p["P"] if "P" in p else m  # (10)
        steps.append((h_prev, c_prev, i, f, g, o, c, m, h))
    return p, order, steps


def gate(pick, a):
    """sigmoid(a), or what a forward has in its place."""
    s = pick("tanh(a/2) for the sigmoid", lambda: np.tanh(0.5 * a), sigmoid(a))
    return pick("hard sigmoid", lambda: np.clip(0.2 * a + 0.5, 0, 1), s)


def output(pick, c):
    """tanh(c), or what a forward has in its place."""
    s = pick("sigmoid at the output", lambda: sigmoid(c), np.tanh(c))
    return pick("no tanh at the output", c, s)


def output_slope(pick, s):
    """Its derivative, from the output."""
    slope = pick("sigmoid at the output", lambda: s * (1 - s), 1 - s * s)
    return pick("no tanh at the output", np.ones_like(s), slope)


def lstm_states(problem):
    _, _, steps = lstm_forward(problem)
    return [{"h": step[0], "c": step[1]} for step in steps]


def lstm_values(problem, settings):
    """hs, cs and the loss, per setting."""
    _, _, steps = lstm_forward(problem, settings)
    return values_of(problem, len(settings), [s[-1] for s in steps], [s[6] for s in steps])


def values_of(problem, n, hs, cs=None):
    found = {"hs": over_time(n, hs)} | ({} if cs is None else {"cs": over_time(n, cs)})
    loss = loss_value(problem, hs)
    return found | (
        {}
        if loss is None
        else {"loss": np.broadcast_to(np.reshape(loss, (-1, 1, 1, 1)), (n, 1, 1, 1))}
    )


CUT = {"i": ("no input gate", "coupled i"), "f": ("no forget gate", "coupled f")}
CUT |= {"g": (), "o": ("no output gate",)}


def slope_of(pick, k, y):
    """s'(a) = s (1 - s), or 1 - tanh², from the output; and what people take for it."""
    squash, slope = (np.tanh, lambda y: 1 - y * y) if k == "g" else (sigmoid, lambda y: y * (1 - y))
    one, right = np.ones_like(y), slope(y)
    if k == "g":
        right = pick("sigmoid in g", lambda: y * (1 - y), pick("no tanh in g", one, right))
        right = among(pick, TANH, "{} in g", right, y)
    else:
        right = pick("tanh(a/2) for the sigmoid", lambda: (1 - y * y) / 2, right)
        right = pick("hard sigmoid", lambda: np.where((y > 0) & (y < 1), 0.2, 0.0), right)
        right = among(pick, SIGMOID, "{} in the sigmoids", right, y)
        right = among(pick, SIGMOID, f"{{}} in {k}", right, y)
        right = pick("slope of the sigmoids", one, right)
    right = pick("slopes at the outputs", lambda: slope(squash(y)), right)
    right = pick("slopes twice", lambda: right * right, right)
    right = pick(f"slope of {k}", one, pick("slope of every gate", one, right))
    for name in CUT[k]:
        right = pick(name, 0 * y, right)
    return right


def lstm_run(problem, through, settings):
    """All steps in reverse; every `pick` is one place where people went wrong."""
    n, pick = len(settings), switch(of_backward(problem, settings))
    p, order, steps = lstm_forward(problem, settings)
    hs, H = [step[-1] for step in steps], problem.params["b"].size // 4
    recurrent, entering = gate_masks(settings, GATES, H, hs[0])
    left = share_masks(settings, problem, GATES, H)
    dh_next, dc_next = (begin(problem, through, pick, k) for k in "hc")
    dh_prev, dc_prev = dh_next, dc_next  # of no step at all
    U = pick("U for its transpose", transpose_blocks(p["U"]), p["U"])
    weights: dict[str, Any] = {f"d{k}": np.zeros_like(x) for k, x in problem.params.items()}
    weights |= readout_bwd(problem, hs, [step[0] for step in steps], pick, left)
    every: list[Any] = [None] * len(steps)
    clip, facts = clipper(settings)
    wrongly = [k for names in settings for k in names if k.startswith("deltas in")]
    placed = columns(settings, H, "deltas in")[1] if wrongly else None
    (h0, c0), (c_last, _, h_last) = steps[0][:2], steps[-1][-3:]
    for t in reversed(range(len(steps))):
        late = zip(steps[-1], steps[t], strict=True)
        now = (pick("cache of the last step", x, y) for x, y in late)
        h_prev, c_prev, i, f, g, o, c, m, h = now
        h_older, c_older = (h_last, c_last) if t == 0 else (steps[t - 1][0], steps[t - 1][1])
        dh = sum_at_h(problem, hs, through, pick, t, dh_next)  # (F')
        dh = clip("dh", dh)
        dm = dh @ p["P"].T if "P" in p else dh  # (10')
        s = pick("tanh of c of t-1", output(pick, c_prev), output(pick, c))
        s = pick("c for tanh(c)", c, s)
        slope = pick("no slope of tanh(c)", np.ones_like(s), output_slope(pick, s))
        hidden = among(pick, HIDDEN_O, "{} in do", pick("tanh(c) in do", np.tanh(c), s), o, c, s)
        slope = pick("o (1 - tanh²(c)) in dc", lambda c=c: 1 - np.tanh(c) ** 2, slope)
        slope = among(pick, HIDDEN_C, "{} in dc", o * slope, o, c, s)
        do, dc_from_h = dm * hidden, pick("dc bare", slope, dm * slope)  # (4')
        dc = pick("dc only carried", 0 * dc_from_h, dc_from_h) + dc_next  # (F')
        dc = pick("dc of h alone", dc_from_h, pick("dc_next twice", dc + dc_next, dc))
        dc = clip("dc", pick("mean at c", dc / 2, dc))
        do = pick("do bare", hidden, pick("dc for dh in do", lambda dc=dc, s=hidden: dc * s, do))
        dcs = dict.fromkeys(PARTNERS, pick("no dc_next in the gates", dc_from_h, dc))
        dcs["dc_prev"] = pick("dc_prev from dc_next alone", dc_next, dc)
        dcs["dc_prev"] = pick("dc_prev from h alone", dc_from_h, dcs["dc_prev"])
        c_before = pick("c0 for every c", c0, c_prev)
        c_before = pick("c of t-2", c_older, pick("state of t-2", c_older, c_before))
        if t == 0:
            c_before = pick("c wrapped", c_last, pick("state wrapped", c_last, c_before))
            c_before = pick("c0 zero in backward", 0 * c_before, c_before)
            c_before = pick("state zero in backward", 0 * c_before, c_before)
        c_before = pick("state of t", c, pick("c of t", c, c_before))
        keeps = pick("1 - f", 1 - f, pick("f of t-1", steps[t - 1][3] if t else f, f))
        swapped = pick("i and g swapped", i, g), pick("i and g swapped", g, i)
        right = {"df": c_before, "dc_prev": keeps, "di": swapped[0], "dg": swapped[1]}
        factor = {
            k: among(pick, CELL[k], f"{{}} for {PARTNERS[k]} in {k}", x, f, c_prev, i, g)
            for k, x in right.items()
        }
        df, dc_prev, di, dg = (
            pick(f"{k} bare", factor[k], dcs[k] * factor[k]) for k in PARTNERS
        )  # (3')
        di, df = pick("coupled f", di - df, di), pick("coupled i", df - di, df)
        outputs = dict(zip(GATES, (i, f, g, o), strict=True))
        dgates = dict(zip(GATES, (di, df, dg, do), strict=True))
        slopes = {k: slope_of(pick, k, outputs[k]) for k in GATES}
        das = [pick(f"da_{k} bare", slopes[k], d * slopes[k]) for k, d in dgates.items()]
        da = clip("da", in_order(join(das), placed))  # (2')
        bare = lambda dgates=dgates: join([*dgates.values()])
        back, down = (pick(f"no slope in {k}", bare, da) for k in ("dh", "dx"))
        back, down = (pick("no slope in dx and dh", bare, d) for d in (back, down))
        dh_prev = clip("carried dh", (recurrent * back) @ rows(U))  # (1')
        dc_prev = clip("carried dc", dc_prev)
        dx = total(entering * down) @ rows(p["W"])
        xs = [pick("cache of the last step", problem.xs[-1], x) for x in problem.xs]
        x, h_before = multiplied(pick, t, xs, h0, h_last, h_older, h, h_prev)
        weights["dW"] = weights["dW"] + rows(x) @ share(left, "dW", t, total(da))  # (F')
        weights["dU"] = weights["dU"] + rows(h_before) @ share(left, "dU", t, total(da))
        weights["db"] = weights["db"] + share(left, "db", t, total(da)).sum(-2, keepdims=True)
        if "P" in p:
            weights["dP"] = weights["dP"] + rows(m) @ share(left, "dP", t, total(dh))
        every[t] = dx, total(da), total(dh), total(dc)
        if t:
            dh_next = carry(through, pick, t - 1, dh_prev, "dh not carried")
            dc_next = carry(through, pick, t - 1, dc_prev, "dc not carried")
    found = summed(problem, n, weights)
    if order is not None:
        found |= {k: in_columns(found[k], order) for k in ("dW", "dU", "db")}
    dh0, dc0 = pick("h and c swapped", dc_prev, dh_prev), pick("h and c swapped", dh_prev, dc_prev)
    found |= {"dh0": per_setting(n, total(dh0)), "dc0": per_setting(n, total(dc0))}
    dxs, das, dhs, dcs = (over_time(n, x) for x in zip(*every, strict=True))
    das = das if order is None else in_columns(das, order)
    found |= embedding_bwd(problem, dxs, left)
    return found | {"dxs": dxs, "das": das, "dhs": dhs, "dcs": dcs} | facts


def summed(problem, n, weights):
    """What was summed over steps, per setting; biases without the axis of examples."""
    for k, x in problem.params.items():
        if x.ndim == 1:
            weights[f"d{k}"] = weights[f"d{k}"].reshape((-1, 1, x.size))
    found = {k: per_setting(n, x) for k, x in weights.items() if k != "dE"}
    return found | {k: x[:, 0] for k, x in found.items() if problem.params[k[1:]].ndim == 1}


def in_columns(x, order):
    """Each setting's last axis in its own order, (settings, columns)."""
    order = order.reshape((len(order), *(1,) * (x.ndim - 2), -1))
    return np.take_along_axis(x, np.broadcast_to(order, x.shape), -1)


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


def elman_values(problem, settings):
    _, steps = elman_forward(problem, settings)
    return values_of(problem, len(settings), [h for _, h in steps])


def elman_run(problem, through, settings):
    n, pick = len(settings), switch(settings)
    p, steps = elman_forward(problem, settings)
    hs = [h for _, h in steps]
    recurrent, entering = gate_masks(settings, tuple(ELMAN_GATES), hs[0].shape[-1], hs[0])
    left = share_masks(settings, problem, tuple(ELMAN_GATES), hs[0].shape[-1])
    U = pick("U for its transpose", transpose_blocks(p["U"]), p["U"])
    dh_next = dh_prev = begin(problem, through, pick, "h")
    weights: dict[str, Any] = {f"d{k}": np.zeros_like(x) for k, x in problem.params.items()}
    weights |= readout_bwd(problem, hs, [h_prev for h_prev, _ in steps], pick, left)
    every: list[Any] = [None] * len(steps)
    clip, facts = clipper(settings)
    for t in reversed(range(len(steps))):
        h_prev, h = steps[t]
        dh = clip("dh", sum_at_h(problem, hs, through, pick, t, dh_next))  # (F')
        slope = among(pick, TANH, "{} in a", 1 - h * h, h)
        da = clip("da", dh * pick("slope of a", np.ones_like(h), slope))  # (2')
        back, down = (pick(f"no slope in {k}", dh, da) for k in ("dh", "dx"))
        back, down = (pick("no slope in dx and dh", dh, d) for d in (back, down))
        dh_prev = clip("carried dh", (recurrent * back) @ rows(U))  # (1')
        dx = total(entering * down) @ p["W"].T
        h_older = steps[t - 1][0] if t else hs[-1]
        x, h_before = multiplied(pick, t, problem.xs, steps[0][0], hs[-1], h_older, h, h_prev)
        weights["dW"] = weights["dW"] + rows(x) @ share(left, "dW", t, total(da))  # (F')
        weights["dU"] = weights["dU"] + rows(h_before) @ share(left, "dU", t, total(da))
        weights["db"] = weights["db"] + share(left, "db", t, total(da)).sum(-2, keepdims=True)
        every[t] = dx, total(da), total(dh)
        if t:
            dh_next = carry(through, pick, t - 1, dh_prev, "dh not carried")
    found = summed(problem, n, weights)
    dxs, das, dhs = (over_time(n, x) for x in zip(*every, strict=True))
    found["dh0"] = per_setting(n, total(dh_prev))
    found |= embedding_bwd(problem, dxs, left)
    return found | {"dxs": dxs, "das": das, "dhs": dhs} | facts


GATED = ("dW", "dU", "db", "das")  # leaves with a block per gate
BLOCKS: dict[str, tuple[str, ...]] = dict.fromkeys(GATED, tuple(NAMES.values()))
PLAIN: dict[str, tuple[str, ...]] = dict.fromkeys(GATED, ("tanh",))
STEPS = ("dhs", "dcs", "das", "dxs")  # in the order of the backward
WEIGHTS = ("dW", "dU", "db")


def table_of_gates(*more):
    """The table of a cell with four gates; `more` are its weights beside W, U and b."""
    local, gradients = functools.partial(local_to_leaves, gates=NAMES), in_groups(lstm_run)
    weights = *WEIGHTS, *more
    also = STEPS, BLOCKS, tuple(INNER), lstm_values
    return Mutants(lstm_inside, local, gradients, after_lstm, lstm_states, weights, *also)


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
        ("clip dh", "clip carried dh", "clip da"),
        elman_values,
    ),
}
