"""THE MISTAKES: their names, what they are in a sentence, and how a backward switches them on.

A setting is a tuple of names; none is the truth. Many settings run at once: they stand on the first
axis, and where a switch is off nothing of it is computed. The backwards are in slow_backward.py.

Sources of the mistakes: the answer key of the Coursera exercise (nothing carried), Gomez' example
run on from a remembered state (zeros in the backward), WildML (truncation), and the mutants that
the tests of this package break it with.
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
    states(problem) -> a state per time step, the one before it
    weights, steps: leaves that belong to weights; leaves with time on axis 0.
    blocks: names along the last axis, by leaf.
    """

    inside: Callable[..., Any]
    gradients: Callable[..., Any]
    after: Callable[..., Any]
    states: Callable[..., Any]
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
TRANSPOSED = {
    "U for its transpose": "U where its transpose belongs, gate by gate, in dh_{t-1}",
}
LAST = {
    "dh_T dropped": "the cotangent of the last h dropped",
}
LOSS = {
    "one half of cross-entropy": "binary cross-entropy reported, but cross-entropy differentiated "
    "(-y log p alone)",
    "softmax for sigmoid": "binary cross-entropy reported, but cross-entropy differentiated (of a "
    "softmax)",
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
    "slope of every gate": "the derivative factor of every gate and of the candidate missing",
    "slope of the sigmoids": "the derivative factor of the three sigmoids missing",
    "slopes at the outputs": "derivative factors taken at the outputs of the gates, s'(s(a))",
    "forget offset": "1 added to the net input of the forget gate, forward and backward",
}
NAMES: dict[str, str] = dict(
    zip(GATES, ("input gate", "forget gate", "candidate", "output gate"), strict=True)
)
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
    """Each k below T, or the usual ones where there are many; at k = 1 nothing is carried."""
    ks = [k for k in (range(2, T) if T <= 33 else (2, 3, 4, 5, 8, 10, 16, 20, 25, 32)) if k < T]
    windows = "truncation at k = {}: nothing carried from one window of {} steps to the one before"
    reach = "truncation at k = {}: each step's loss reaches {} steps, its own among them"
    return {f"windows of {k}": windows.format(k, k) for k in ks} | {
        f"reach of {k}": reach.format(k, k) for k in ks
    }


def lstm_inside(problem):
    order = {
        f"forward in order {name}": f"the blocks of W, U and b read in the order {name}"
        for name in PERMUTED
    }
    square = TRANSPOSED if problem.params["U"].shape[0] * 4 == problem.params["b"].size else {}
    tables = (MEMORY, CARRY, TIME, LAST, square, gate_table(NAMES), loss_table(problem))
    table = functools.reduce(dict.__or__, tables, {})
    first = ("dc not carried", "dh not carried", "nothing carried", "own loss")
    table = {k: table[k] for k in first} | table
    return table | truncations(len(problem.xs)) | order


def elman_inside(problem):
    tables = (CARRY, TIME, LAST, TRANSPOSED, gate_table({"a": "tanh"}), loss_table(problem))
    table = functools.reduce(dict.__or__, tables, {})
    table.pop("nothing carried")  # there is only dh
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


def in_groups(run):
    """gradients(problem, settings), for run(problem, flow, forward mistakes, settings).

    The forward and the flow are shared by many settings: one run for each group of them.
    """

    @np.errstate(all="ignore")  # a mutant may overflow
    def gradients(problem, settings):
        groups: dict[Any, list[int]] = {}
        for n, names in enumerate(settings):
            key = (tuple(filter(is_flow, names)), tuple(filter(is_forward, names)))
            groups.setdefault(key, []).append(n)
        every = {}
        for (flows, changed), members in groups.items():
            through = flow(flows, len(problem.xs))
            T, B, D = problem.xs.shape
            numbers = len(through.cut) * T * B * (D + 6 * problem.params["U"].shape[1])
            room = max(1, 2**23 // max(numbers, 1))  # settings side by side
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


def factors(problem, pick, t, xs, h, h_prev):
    """What the weight products multiply da_t with: x_t and h_{t-1}, or what is taken for them."""
    zero = np.zeros_like(xs[0])
    x = pick("x of t-1", xs[t - 1] if t > 0 else zero, xs[t])
    x = pick("x of t+1", xs[t + 1] if t + 1 < len(xs) else zero, x)
    if t == 0:
        h_prev = pick("h0 zero in backward", 0 * h_prev, h_prev)
        h_prev = pick("state zero in backward", 0 * h_prev, h_prev)
    h_prev = pick("h of t", h, h_prev)
    return x, pick("state of t", h, h_prev)


def carry(through, pick, t, d, name):
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
    return join([pick(f"{kind} of {k}", 0 * block, block) for k, block in parts])


def join(parts):
    """Side by side, though only some have an axis of settings."""
    return np.concatenate(np.broadcast_arrays(*parts), -1)


def per_setting(n, x):
    """(settings, B, ...) of what may lack the axis of settings, and has one for runs."""
    x = x.reshape((-1, *x.shape[-2:]))
    return np.broadcast_to(x, (n, *x.shape[1:]))


def over_time(n, xs):
    return np.stack([per_setting(n, x) for x in xs], axis=1)
