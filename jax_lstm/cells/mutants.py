"""THE MISTAKES: one slow backward per cell in which each classic mistake is a named switch.

Written apart from the engine, in NumPy and float64, so that it can accuse and be believed. A
setting is a tuple of names; none is the truth. Many settings run at once: flags stand on the first
axis, and where a switch is off nothing of it is computed. What is done to a finished gradient (the
wrong sign, a mean for a sum, clipping) knows no cell and stands in referee/changes.py; what is done
to its blocks of gates stands at the bottom of this file.

    forward     a = x W + h_prev U + b;  i, f, g, o;  c = f c_prev + i g;  h = o tanh(c)  (times P)
    backward    the same bottom-up, see textbook.py; `pick(name, wrong, right)` is the switch

Sources of the mistakes: the answer key of the Coursera exercise (nothing carried), Gomez' remembered
state (zeros in the backward), WildML (truncation), and the mutants that the tests break code with.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jax_lstm.notation import GATES

LOSSES = ("cotangents", "squared_error", "binary_cross_entropy", "softmax_cross_entropy")


class Problem(NamedTuple):
    """What a gradient is the gradient of, in float64 (or in what its rounding is to be seen in).

    params: {"W": (D, 4H), "U": (H, 4H), "b": (4H,)}; Elman without the 4; LSTMP with P (H, R).
    state: {"h": (B, H), "c": (B, H)} before the first step; xs (T, B, D).
    loss: one of LOSSES. "cotangents": dhs (T, B, H) is given. Else it follows from h and the
      targets ys (T, B, H), summed over everything and times `scale`: ½ Σ (h - y)²; h as logits of
      sigmoids; h as logits of a softmax over H.
    dlast: cotangents of the last state, as `state`.
    """

    params: dict[str, Any]
    state: dict[str, Any]
    xs: Any
    loss: str
    dhs: Any
    ys: Any
    scale: float
    dlast: dict[str, Any]


class Mutants(NamedTuple):
    """The table of a cell.

    inside(problem) -> {name: sentence}    mistakes of the recurrence and of the loss
    gradients(problem, settings) -> {leaf: (settings, ...)}
    after(problem) -> {name: (sentence, change)}    mistakes of layout; change(gradient) -> gradient
    weights, steps: leaves that belong to weights; leaves with time on axis 0.
    blocks: names along the last axis, by leaf.
    """

    inside: Callable[..., Any]
    gradients: Callable[..., Any]
    after: Callable[..., Any]
    weights: tuple[str, ...]
    steps: tuple[str, ...]
    blocks: dict[str, tuple[str, ...]]


# The tables -----------------------------------------------------------------------------------

CARRY = {
    "dh not carried": "the fork at h dropped (dh not carried to t-1)",
    "nothing carried": "nothing carried between steps (neither dh nor dc reaches t-1)",
    "own loss": "only a step's own loss (what a later step lost never reaches t)",
}
TIME = {
    "last loss": "only the loss of the last step",
    "h0 zero in backward": "zeros in the backward for the remembered h0",
    "h0 zero": "zeros for the remembered h0, forward and backward",
    "h of t": "a shifted time index: h_t for h_{t-1} in dU",
    "x of t-1": "a shifted time index: x_{t-1} for x_t in dW",
    "x of t+1": "a shifted time index: x_{t+1} for x_t in dW",
    "dh of t-1": "a shifted time index: step t gets the outside's dh of t-1",
    "dh of t+1": "a shifted time index: step t gets the outside's dh of t+1",
}
LAST = {
    "dh_T dropped": "the cotangent of the last h dropped",
}
LOSS = {
    "one half of cross-entropy": "binary cross-entropy reported, but -y log p alone (cross-entropy) "
    "differentiated",
    "softmax for sigmoid": "binary cross-entropy reported, but cross-entropy of a softmax "
    "differentiated",
    "sigmoid for softmax": "cross-entropy of a softmax reported, but binary cross-entropy "
    "differentiated",
}
MEMORY = {
    "dc not carried": "the fork at c dropped (dc not carried to t-1)",
    "dc only carried": "the fork at c dropped (dc without its share from h)",
    "dc_T dropped": "the cotangent of the last c dropped",
    "state zero in backward": "zeros in the backward for the remembered h0 and c0",
    "c0 zero in backward": "zeros in the backward for the remembered c0",
    "c0 zero": "zeros for the remembered c0, forward and backward",
    "state zero": "zeros for the remembered h0 and c0, forward and backward",
    "1 - f": "1 - f for f in dc_{t-1}",
    "tanh of c of t-1": "tanh of the wrong c: c_{t-1} for c_t",
    "c for tanh(c)": "tanh of the wrong c: c where tanh(c) belongs",
    "no slope of tanh(c)": "the factor 1 - tanh²(c) missing in dc",
    "c of t": "a shifted time index: c_t for c_{t-1} in df",
    "state of t": "a shifted time index: h_t and c_t for h_{t-1} and c_{t-1}",
    "f of t-1": "a shifted time index: f_{t-1} for f_t in dc_{t-1}",
    "i and g swapped": "the factors i and g swapped (di = dc i, dg = dc g)",
    "forget offset": "1 added to the net input of the forget gate, forward and backward",
}
NAMES = dict(zip(GATES, ("input gate", "forget gate", "candidate", "output gate"), strict=True))
PERMUTED = {
    " ".join(GATES[n] for n in order): order
    for order in itertools.permutations(range(4))
    if order != (0, 1, 2, 3)
}


def gate_table(gates):
    """What can go wrong once per gate. gates: {letter: name}."""
    return (
        {f"slope of {k}": f"the derivative factor of the {v} missing" for k, v in gates.items()}
        | {
            f"recurrence of {k}": f"the {v}'s recurrent term missing in dh_{{t-1}}"
            for k, v in gates.items()
        }
        | {f"input of {k}": f"the {v}'s term missing in dx_t" for k, v in gates.items()}
    )


def loss_table(problem):
    binary, softmax = (problem.loss == f"{k}_cross_entropy" for k in ("binary", "softmax"))
    possible = {"softmax for sigmoid": binary, "one half of cross-entropy": binary}
    possible["sigmoid for softmax"] = softmax
    return {k: LOSS[k] for k, may in possible.items() if may}


def truncations(T):
    """Each k below T, up to 32."""
    ks = range(1, min(T, 33))
    return {
        f"windows of {k}": f"truncation at k = {k}: nothing carried from one window of {k} steps "
        "to the one before"
        for k in ks
    } | {
        f"reach of {k}": f"truncation at k = {k}: each step's loss reaches {k} steps, its own among them"
        for k in ks
    }


def lstm_inside(problem):
    order = {
        f"forward in order {name}": f"the blocks of W, U and b read in the order {name}"
        for name in PERMUTED
    }
    tables = (MEMORY, CARRY, TIME, LAST, gate_table(NAMES), loss_table(problem))
    table = functools.reduce(dict.__or__, tables, {})
    first = ("dc not carried", "dh not carried", "nothing carried", "own loss")
    table = {k: table[k] for k in first} | table
    return table | truncations(len(problem.xs)) | order


def elman_inside(problem):
    tables = (CARRY, TIME, LAST, gate_table({"a": "tanh"}), loss_table(problem))
    table = functools.reduce(dict.__or__, tables, {})
    return table | truncations(len(problem.xs))


# Switches, and how cotangents flow through time ----------------------------------------------


def switch(settings):
    """pick(name, wrong, right): per setting, what it asks for; settings stand on the first axis."""

    @functools.cache
    def flags(name):
        on = np.array([name in names for names in settings])
        return on.reshape(-1, 1, 1, 1) if on.any() else None

    def pick(name, wrong, right):
        on = flags(name)
        return right if on is None else np.where(on, wrong, right)

    return pick


class Flow(NamedTuple):
    """Several runs whose gradients are added: (runs, T) each, but `ends` (runs,).

    enters: the outside's dh_t is seen. ends: the last state's cotangent is. cut: nothing comes
    from t+1 to t.
    """

    enters: Any
    ends: Any
    cut: Any


def flow(names, T):
    """Which cotangent goes where: the truth, in windows, a short reach, or its own step alone."""
    (name,) = names or ("",)
    t = np.arange(T)
    if (
        name == "own loss"
    ):  # the steps' losses alone; and what the last state's cotangent sends back
        return Flow(np.array([t >= 0, t < 0]), np.array([False, True]), np.array([t >= 0, t < 0]))
    k = int(name.rsplit(" ", 1)[-1]) if name else T
    if name.startswith("reach"):
        enters = t[:, None] == t
        return Flow(enters, t == T - 1, t[:, None] - t >= k)
    return Flow(
        (t >= 0)[None], np.array([True]), ((t + 1) % k == 0)[None] if name else (t < 0)[None]
    )


def is_flow(name):
    return name == "own loss" or name.startswith(("windows", "reach"))


def is_forward(name):
    return name in ("h0 zero", "c0 zero", "state zero", "forget offset") or name.startswith(
        "forward"
    )


def clash(a, b):
    """Two names for one thing: two flows at once, two orders of gates."""
    return any(both(a) and both(b) for both in (is_flow, lambda k: k.startswith("forward in")))


def grouped(run):
    """gradients(problem, settings), for run(problem, flow, forward mistakes, settings).

    The forward and the flow are shared by many settings: one run for each group of them.
    """

    def gradients(problem, settings):
        groups: dict[Any, list[int]] = {}
        for n, names in enumerate(settings):
            key = (tuple(filter(is_flow, names)), tuple(filter(is_forward, names)))
            groups.setdefault(key, []).append(n)
        every = {}
        for (flows, changed), members in groups.items():
            through = flow(flows, len(problem.xs))
            room = max(1, 2**20 // max(through.cut.shape[0] * problem.xs[:1].size, 1))
            for part in (members[n : n + room] for n in range(0, len(members), room)):
                found = run(problem, through, changed, [settings[n] for n in part])
                for leaf, x in found.items():
                    shape = (len(settings), *x.shape[1:])
                    every.setdefault(leaf, np.zeros(shape, x.dtype))[part] = x
        return every

    return gradients


def sigmoid(a):
    return 0.5 * (1 + np.tanh(0.5 * a))


def softmax(y):
    e = np.exp(y - y.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def from_outside(problem, hs, pick, t):
    """dL/dh_t of the loss, per setting."""
    T = len(hs)

    def of(t):
        if not 0 <= t < T:
            return np.zeros_like(hs[0])
        if problem.loss == "cotangents":
            return problem.dhs[t]
        h, y = hs[t], problem.ys[t]
        if problem.loss == "squared_error":
            dh = h - y
        elif problem.loss == "binary_cross_entropy":
            dh = pick("one half of cross-entropy", (sigmoid(h) - 1) * y, sigmoid(h) - y)
            dh = pick("softmax for sigmoid", softmax(h) * y.sum(-1, keepdims=True) - y, dh)
        else:
            dh = softmax(h) * y.sum(-1, keepdims=True) - y
            dh = pick("sigmoid for softmax", sigmoid(h) - y, dh)
        return problem.scale * dh

    dh = pick("last loss", of(t) if t == T - 1 else 0 * of(t), of(t))
    dh = pick("dh of t-1", of(t - 1), dh)
    return pick("dh of t+1", of(t + 1), dh)


def begin(problem, through, pick, field):
    """The cotangent of the last state, in the runs that see it."""
    d = pick(f"d{field}_T dropped", 0 * problem.dlast[field], problem.dlast[field])
    return np.where(through.ends[:, None, None], d, 0 * d)


def seen(problem, pick, t, xs, h, h_prev):
    """What the weight products multiply da_t with: x_t and h_{t-1}, or what is taken for them."""
    zero = np.zeros_like(xs[0])
    x = pick("x of t-1", xs[t - 1] if t > 0 else zero, xs[t])
    x = pick("x of t+1", xs[t + 1] if t + 1 < len(xs) else zero, x)
    if t == 0:
        h_prev = pick("h0 zero in backward", 0 * h_prev, h_prev)
        h_prev = pick("state zero in backward", 0 * h_prev, h_prev)
    h_prev = pick("h of t", h, h_prev)
    return x, pick("state of t", h, h_prev)


def carried(through, pick, t, d, name):
    """What step t+1 hands to step t."""
    d = np.where(through.cut[:, t, None, None], 0 * d, d)
    return pick("nothing carried", 0 * d, pick(name, 0 * d, d))


def total(d):
    """The runs of a flow added; their axis stays, with size 1."""
    return d.sum(-3, keepdims=True) if d.ndim > 2 else d


def rows(x):
    """xᵀ, so that rows(x) @ dy is a weight's cotangent."""
    return np.swapaxes(x, -1, -2)


def without(pick, kind, da, gates):
    """da with the block of one gate left out."""
    parts = zip(gates, np.split(da, len(gates), -1), strict=True)
    return joined([pick(f"{kind} of {k}", 0 * block, block) for k, block in parts])


def joined(parts):
    """Side by side, though only some have an axis of settings."""
    return np.concatenate(np.broadcast_arrays(*parts), -1)


def per_setting(n, x):
    """(settings, B, ...) of what may lack the axis of settings, and has one for runs."""
    x = x.reshape((-1, *x.shape[-2:]))
    return np.broadcast_to(x, (n, *x.shape[1:]))


def over_time(n, xs):
    return np.stack([per_setting(n, x) for x in xs], axis=1)


# The LSTM, with and without projection --------------------------------------------------------


def blocks(x, order):
    """The blocks of the last axis in another order; order[n] is the block that comes n-th."""
    parts = np.split(x, len(order), -1)
    return np.concatenate([parts[n] for n in order], -1)


def lstm_forward(problem, changed):
    """All steps, and the params and gate order they were made with."""
    p, (h, c) = dict(problem.params), (problem.state["h"], problem.state["c"])
    order = next(
        (PERMUTED[k.rsplit("order ", 1)[-1]] for k in changed if "order" in k), (0, 1, 2, 3)
    )
    p |= {k: blocks(p[k], np.argsort(order)) for k in "WUb"}
    if "forget offset" in changed:
        H = p["b"].size // 4
        p["b"] = p["b"] + (np.arange(4 * H) // H == 1).astype(p["b"].dtype)
    h = 0 * h if {"h0 zero", "state zero"} & set(changed) else h
    c = 0 * c if {"c0 zero", "state zero"} & set(changed) else c
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


def lstm_run(problem, through, changed, settings):
    """All steps in reverse; every `pick` is one place where people went wrong."""
    n, pick = len(settings), switch(settings)
    p, order, steps = lstm_forward(problem, changed)
    hs = [step[-1] for step in steps]
    dh_next, dc_next = (begin(problem, through, pick, k) for k in "hc")
    dh_prev, dc_prev = dh_next, dc_next  # of no step at all
    weights: dict[str, Any] = {f"d{k}": np.zeros_like(x[None]) for k, x in p.items()}
    every: list[Any] = [None] * len(steps)
    for t in reversed(range(len(steps))):
        h_prev, c_prev, i, f, g, o, c, m, h = steps[t]
        dh_outside = from_outside(problem, hs, pick, t)
        dh = (
            np.where(through.enters[:, t, None, None], dh_outside, 0 * dh_outside) + dh_next
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
        slopes = {"i": i * (1 - i), "f": f * (1 - f), "g": 1 - g * g, "o": o * (1 - o)}
        da = [
            d * pick(f"slope of {k}", np.ones_like(slopes[k]), slopes[k])  # (2')
            for k, d in zip(GATES, (di, df, dg, do), strict=True)
        ]
        da = joined(da)
        dh_prev = without(pick, "recurrence", da, GATES) @ p["U"].T  # (1')
        dx = total(without(pick, "input", da, GATES)) @ p["W"].T
        x, h_before = seen(problem, pick, t, problem.xs, h, h_prev)
        weights["dW"] = weights["dW"] + rows(x) @ total(da)
        weights["dU"] = weights["dU"] + rows(h_before) @ total(da)
        weights["db"] = weights["db"] + total(da).sum(-2, keepdims=True)
        if "P" in p:
            weights["dP"] = weights["dP"] + rows(m) @ total(dh)
        every[t] = dx, total(da), total(dh), total(dc)
        if t:
            dh_next = carried(through, pick, t - 1, dh_prev, "dh not carried")
            dc_next = carried(through, pick, t - 1, dc_prev, "dc not carried")
    weights["db"] = weights["db"].reshape((-1, 1, p["b"].size))
    found = {k: per_setting(n, x) for k, x in weights.items()}
    found["db"] = found["db"][:, 0]
    found |= {k: blocks(found[k], order) for k in ("dW", "dU", "db")}
    found |= {"dh0": per_setting(n, total(dh_prev)), "dc0": per_setting(n, total(dc_prev))}
    dxs, das, dhs, dcs = (over_time(n, x) for x in zip(*every, strict=True))
    return found | {"dxs": dxs, "das": blocks(das, order), "dhs": dhs, "dcs": dcs}


def after_lstm(problem):
    """Layout: blocks in another order, transposed, the offset counted twice, leaves mixed up."""
    H = problem.params["b"].size // 4
    table: dict[str, Any] = {
        f"gradient in order {name}": (
            f"the gates' blocks in the order {name}",
            functools.partial(reordered, order=order),
        )
        for name, order in PERMUTED.items()
    }
    if problem.params["U"].shape[0] == H:
        table["dU transposed"] = (
            "dU transposed, gate by gate",
            functools.partial(transposed, leaf="dU"),
        )
    if problem.params["W"].shape[0] == H:
        table["dW transposed"] = (
            "dW transposed, gate by gate",
            functools.partial(transposed, leaf="dW"),
        )
    if "P" in problem.params and len(set(problem.params["P"].shape)) == 1:
        table["dP transposed"] = "dP transposed", lambda d: d | {"dP": rows(d["dP"])}
    if problem.state["h"].shape == problem.state["c"].shape:
        table["dh0 and dc0 swapped"] = (
            "dh0 and dc0 swapped (the others' order of the state)",
            lambda d: d | {"dh0": d["dc0"], "dc0": d["dh0"]},
        )
    return table | after_any(problem)


def reordered(d, order):
    leaves = [k for k in ("dW", "dU", "db", "das") if k in d]
    return d | {k: blocks(d[k], order) for k in leaves}


def transposed(d, leaf):
    n = d[leaf].shape[-1] // d[leaf].shape[-2]
    return d | {leaf: np.concatenate([rows(x) for x in np.split(d[leaf], n, -1)], -1)}


def after_any(problem):
    """What can happen to the gradient of any cell."""
    leaves = [f"d{k}" for k in problem.params] + ["dxs"] + [f"d{k}0" for k in problem.state]
    ends = [f"d{k}0" for k in problem.state]
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
        | {f"sign of {k}": (f"the sign of {k}", functools.partial(negated, leaf=k)) for k in leaves}
        | {f"{k} zero": (f"{k} left at zero", functools.partial(zeroed, leaf=k)) for k in ends}
    )


def negated(d, leaf):
    return d | {leaf: -d[leaf]}


def zeroed(d, leaf):
    return d | {leaf: 0 * d[leaf]}


# Elman's network ------------------------------------------------------------------------------


def elman_forward(problem, changed):
    p, h = problem.params, problem.state["h"]
    h = 0 * h if "h0 zero" in changed else h
    steps = []
    for x in problem.xs:
        h_prev, h = h, np.tanh(x @ p["W"] + h @ p["U"] + p["b"])
        steps.append((h_prev, h))
    return p, steps


def elman_run(problem, through, changed, settings):
    n, pick = len(settings), switch(settings)
    p, steps = elman_forward(problem, changed)
    hs = [h for _, h in steps]
    dh_next = dh_prev = begin(problem, through, pick, "h")
    weights: dict[str, Any] = {f"d{k}": np.zeros_like(x[None]) for k, x in p.items()}
    every: list[Any] = [None] * len(steps)
    for t in reversed(range(len(steps))):
        h_prev, h = steps[t]
        dh_outside = from_outside(problem, hs, pick, t)
        dh = (
            np.where(through.enters[:, t, None, None], dh_outside, 0 * dh_outside) + dh_next
        )  # (F')
        da = dh * pick("slope of a", np.ones_like(h), 1 - h * h)  # (2')
        dh_prev = pick("recurrence of a", 0 * da, da) @ p["U"].T  # (1')
        dx = total(pick("input of a", 0 * da, da)) @ p["W"].T
        x, h_before = seen(problem, pick, t, problem.xs, h, h_prev)
        weights["dW"] = weights["dW"] + rows(x) @ total(da)
        weights["dU"] = weights["dU"] + rows(h_before) @ total(da)
        weights["db"] = weights["db"] + total(da).sum(-2, keepdims=True)
        every[t] = dx, total(da), total(dh)
        if t:
            dh_next = carried(through, pick, t - 1, dh_prev, "dh not carried")
    weights["db"] = weights["db"].reshape((-1, 1, p["b"].size))
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
                functools.partial(transposed, leaf=f"d{k}"),
            )
    return table | after_any(problem)


BLOCKS = dict.fromkeys(("dW", "dU", "db", "das"), tuple(NAMES.values()))
PLAIN = dict.fromkeys(("dW", "dU", "db", "das"), ("tanh",))
STEPS = ("dhs", "dcs", "das", "dxs")  # in the order of the backward
LSTM = Mutants(lstm_inside, grouped(lstm_run), after_lstm, ("dW", "dU", "db"), STEPS, BLOCKS)
LSTMP = LSTM._replace(weights=("dW", "dU", "db", "dP"))
ELMAN = Mutants(elman_inside, grouped(elman_run), after_elman, ("dW", "dU", "db"), STEPS, PLAIN)
MUTANTS = {"lstm": LSTM, "lstmp": LSTMP, "elman": ELMAN}
