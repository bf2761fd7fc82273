"""THE MISTAKES: their names, what they are in a sentence, and how a backward switches them on.

A setting is a tuple of names; none is the truth. The switches are in switches.py, the backwards in
slow_backward.py.

Sources of the mistakes: the answer key of the Coursera exercise (nothing carried), Gomez' example
run on from a remembered state (zeros in the backward), WildML (truncation), and the mutants that
the tests of this package break it with.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jax_lstm.diagnosis import factors
from jax_lstm.diagnosis.head import RECURRENT, kept_tokens
from jax_lstm.diagnosis.sentences import (
    BARE,
    CARRY,
    FORK,
    HEAD,
    LAST,
    LOSS,
    MEMORY,
    READOUT,
    SAME,
    STEP,
    TIME,
    TOKENS,
    TRANSPOSED,
    UNTANHED,
    VARIANTS,
)
from jax_lstm.notation import GATES

LOSSES = ("cotangents", "squared_error", "binary_cross_entropy", "softmax_cross_entropy")


class Problem(NamedTuple):
    """What a gradient is the gradient of, in float64 (or in what its rounding is to be seen in).

    params: {"W": (D, 4H), "U": (H, 4H), "b": (4H,)}; Elman without the 4; LSTMP with P (H, R). With
      a readout, "Wy" (H, K) and "by" (K,); with an embedding, "E" (N, D).
    state: {"h": (B, H), "c": (B, H)} before the first step; xs (T, B, D).
    loss: one of LOSSES. "cotangents": dhs (T, B, H) is given. Else it follows from h and the
      targets ys (T, B, H), summed over everything and times `scale`: ½ Σ (h - y)²; h as logits of
      sigmoids; h as logits of a softmax over H. With a readout, of its K outputs in h's place.
    dlast: cotangents of the last state, as `state`.
    last: whether the last step alone has a loss.
    tokens: whole numbers (T, B), whose one-hot vectors, or rows of E, are xs; None.
    forward: names of the table that hold of the forward, and of whose gradient it is.
    """

    params: dict[str, Any]
    state: dict[str, Any]
    xs: Any
    loss: str
    dhs: Any
    ys: Any
    scale: float
    dlast: dict[str, Any]
    last: bool = False
    tokens: Any = None
    forward: tuple[str, ...] = ()


class Mutants(NamedTuple):
    """The table of a cell.

    inside(problem) -> {name: sentence}    mistakes of the recurrence and of the loss
    local(problem) -> {name: leaves}    those of them that change these leaves and no others
    gradients(problem, settings) -> {leaf: (settings, ...)}
    after(problem) -> {name: (sentence, change)}    mistakes of layout; change(gradient) -> gradient
    states(problem) -> a state per time step, the one before it
    weights, steps: leaves that belong to weights; leaves with time on axis 0.
    blocks: names along the last axis, by leaf.
    inner: mistakes within that have a number, keys of INNER.
    forward(problem, settings) -> {"hs": (settings, T, B, H), "cs": ..., "loss": (settings, 1, 1,
      1)}, what there is of them
    """

    inside: Callable[..., Any]
    local: Callable[..., Any]
    gradients: Callable[..., Any]
    after: Callable[..., Any]
    states: Callable[..., Any] | None
    weights: tuple[str, ...]
    steps: tuple[str, ...]
    blocks: dict[str, tuple[str, ...]]
    inner: tuple[str, ...] = ()
    forward: Callable[..., Any] | None = None


NAMES: dict[str, str] = dict(
    zip(GATES, ("input gate", "forget gate", "candidate", "output gate"), strict=True)
)
ELMAN_GATES = {"a": "tanh"}
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
        | {
            f"recurrence and input of {k}": f"the {v}'s term missing in dx_t and dh_{{t-1}}"
            for k, v in gates.items()
        }
    )


def branch_table(gates):
    """A fork into the gates whose branches are not added: one is left. gates: {letter: name}."""
    says = "{} overwritten by gate after gate (= for +=): only the {}'s share is left"
    return (
        {f"dx of {k} alone": says.format("dx_t", v) for k, v in gates.items()}
        | {f"dh of {k} alone": says.format("dh_{t-1}", v) for k, v in gates.items()}
        | {f"dx and dh of {k} alone": says.format("dx_t and dh_{t-1}", v) for k, v in gates.items()}
    )


class Overwritten(NamedTuple):
    """A sum of which one summand is left, `=` where `+=` belongs; or one is left out.

    leaves: of the gradient. gate: whose block, None for all. axis: 0 for time, 1 for examples.
    left: whose share is left, or, where it is skipped, left out.
    """

    leaves: tuple[str, ...]
    gate: str | None
    axis: int
    left: int
    skipped: bool = False

    def sentence(self):
        every = ", ".join(self.leaves[:-1])
        what = " and ".join([*([every] if every else []), self.leaves[-1]])
        what += f" of the {NAMES[self.gate]}" if self.gate else ""
        step, share = (("step", "t="), ("example", "example "))[self.axis]
        if self.skipped:
            return f"the share of {share}{self.left} left out of {what}"
        what += f" overwritten at each {step} (= for +=)"
        return f"{what}: only the share of {share}{self.left} is left"


@functools.cache
def overwritten(weights, gates, T, B):
    """{name: Overwritten} for the sums over steps, gate by gate as well, and over examples."""
    table = {}
    for leaves in (weights, *((k,) for k in weights)):
        for gate in (None, *(gates if len(gates) > 1 and leaves != ("dP",) else ())):
            for axis, size in ((0, T), (1, 1 if gate else B)):
                for left in (0, size - 1) if size > 1 else ():
                    name = " ".join(["weights" if leaves == weights else leaves[0], *(gate or "")])
                    title = f"{name} overwritten: {'t' if axis == 0 else 'example'}={left} left"
                    gated = tuple(k for k in leaves if not gate or k != "dP")
                    table[title] = Overwritten(gated, gate, axis, left)
        for t in (0, T - 1) if T > 2 else ():
            if (leaves, t) != (("dU",), 0):  # that is a zero for the remembered h0
                name = "weights" if leaves == weights else leaves[0]
                table[f"{name} skipped: t={t}"] = Overwritten(leaves, None, 0, t, True)
    return table


def overwritten_in(problem, gates):
    weights = tuple(f"d{k}" for k in problem.params if k in RECURRENT)
    found = overwritten(weights, tuple(gates), *problem.xs.shape[:2])
    if "Wy" in problem.params:
        above = overwritten(("dWy", "dby"), ("a",), *problem.xs.shape[:2])
        found = found | {k.replace("weights", "readout"): x for k, x in above.items()}
    return found


def tokens_in(problem):
    """{name: (leaf, what is left)}: sums over the places of a token that fancy indexing loses."""
    if problem.tokens is None:
        return {}
    leaf = "dE" if "E" in problem.params else "dW"
    kept = kept_tokens(problem.tokens)
    return {f"{leaf} by tokens: {k}": (leaf, x) for k, x in kept.items() if not x.all()}


def local_to_leaves(problem, gates):
    """{name: leaves} of the mistakes after which every other leaf is what it was."""
    table = {"x of t-1": ("dW",), "x of t+1": ("dW",), "h of t": ("dU",)}
    table |= {f"{what} of {k}{end}": ("dxs",) for what, end in BRANCH for k in gates}
    below = ("dxs", "dE") if "E" in problem.params else ("dxs",)
    table |= {k: below for k in table if table[k] == ("dxs",)}
    table |= {"no slope in dx": below, "h of t-1 in dWy": ("dWy",)}
    table |= dict.fromkeys(("h0 for every h", "h wrapped", "h of t-2"), ("dU",))
    table |= {k: (leaf,) for k, (leaf, _) in tokens_in(problem).items()}
    return table | {k: x.leaves for k, x in overwritten_in(problem, gates).items()}


def factor_table():
    """{name: sentence} of the wrong factors of (2'), (3') and (4'), see factors.py."""
    table = {}
    for name, (says, _) in factors.SIGMOID.items():
        for k in "ifo" if name != "1" else "":
            table[f"{name} in {k}"] = f"{says}, in the {NAMES[k]}"
        if name != "1":
            table[f"{name} in the sigmoids"] = f"{says}, in the three sigmoids"
    table |= slope_table({"g": "candidate"})
    table["slopes twice"] = "the derivative factor of every gate and of the candidate taken twice"
    for answer, each in {"do": factors.HIDDEN_O, "dc": factors.HIDDEN_C}.items():
        for name, (says, _) in each.items():
            table[f"{name} in {answer}"] = f"{says}, in {answer}".replace("in dc, in dc", "in dc")
    for answer, each in factors.CELL.items():
        for name, (says, _) in each.items():
            table[f"{name} for {factors.PARTNERS[answer]} in {answer}"] = f"{says}, in {answer}"
    table |= {f"da_{k} bare": BARE["da"].format(v) for k, v in NAMES.items()}
    table |= {f"{k} bare": BARE["product"].format(k) for k in ("df", "di", "dg")}
    return table | {f"{k} bare": BARE["dh"].format(k) for k in ("do", "dc")}


def slope_table(gates):
    """The wrong factors of a tanh. gates: {letter: name}."""
    return {
        f"{name} in {k}": f"{says}, in the {gate}"
        for k, gate in gates.items()
        for name, (says, _) in factors.TANH.items()
        if name != "1"
    }


BRANCH = (("input", ""), ("dx", " alone"))


def loss_table(problem):
    binary, softmax = (problem.loss == f"{k}_cross_entropy" for k in ("binary", "softmax"))
    possible = {"softmax for sigmoid": binary, "one half of cross-entropy": binary}
    possible["sigmoid for softmax"] = softmax
    found = {k: LOSS[k] for k, may in possible.items() if may}
    targets = HEAD if problem.loss != "cotangents" else {}
    shape = np.shape(problem.params.get("Wy", [[]]))
    above = READOUT if "Wy" in problem.params else {}
    square = {"Wy for its transpose": "Wy where its transpose belongs, in dh_t"}
    tokens = {
        k: TOKENS[k.split(": ")[1]].format(leaf) for k, (leaf, _) in tokens_in(problem).items()
    }
    return found | targets | above | (square if shape[0] == shape[1] else {}) | tokens


def truncations(T):
    """Each k below T, or the usual ones where there are many; at k = 1 nothing is carried."""
    ks = [k for k in (range(2, T) if T <= 33 else (2, 3, 4, 5, 8, 10, 16, 20, 25, 32)) if k < T]
    windows = "truncation at k = {}: nothing carried from one window of {} steps to the one before"
    reach = "truncation at k = {}: each step's loss reaches {} steps, its own among them"
    return {f"windows of {k}": windows.format(k, k) for k in ks} | {
        f"reach of {k}": reach.format(k, k) for k in ks
    }


def alone(says):
    return says.replace("forward and backward", "in the forward alone")


def lstm_inside(problem):
    order = {
        f"forward in order {name}": f"the blocks of W, U and b read in the order {name}"
        for name in PERMUTED
    }
    square = TRANSPOSED if problem.params["U"].shape[0] * 4 == problem.params["b"].size else {}
    sums = {k: x.sentence() for k, x in overwritten_in(problem, NAMES).items()}
    variants = dict(VARIANTS)
    if problem.state["h"].shape != problem.state["c"].shape:
        variants.pop("h and c swapped")
    tables = (MEMORY, CARRY, TIME, LAST, square, gate_table(NAMES), loss_table(problem))
    backward = {f"{k}, forward alone": alone(v) for k, v in variants.items() if k not in SAME}
    deltas = {f"deltas in order {k}": f"the deltas' blocks in the order {k}" for k in PERMUTED}
    tables += (sums, branch_table(NAMES), FORK, STEP, factor_table(), variants, backward, deltas)
    tables += (UNTANHED,) if "no tanh at the output" in problem.forward else ()
    table = functools.reduce(dict.__or__, tables, {})
    if problem.forward:
        table["forward alone"] = "the LSTM's own backward, though the forward is another"
    first = ("dc not carried", "dh not carried", "nothing carried", "own loss")
    table = {k: table[k] for k in first} | table
    return table | truncations(len(problem.xs)) | order


def elman_inside(problem):
    sums = {k: x.sentence() for k, x in overwritten_in(problem, ELMAN_GATES).items()}
    tables = (CARRY, TIME, LAST, TRANSPOSED, gate_table(ELMAN_GATES), loss_table(problem), sums)
    own = ("dh_next twice", "dh outside twice", "dh of the outside alone", "h of t-2")
    tables += (FORK, slope_table(ELMAN_GATES), {k: STEP[k] for k in own})
    table = functools.reduce(dict.__or__, tables, {})
    table.pop("nothing carried")  # there is only dh
    return table | truncations(len(problem.xs))


def not_drawn():
    """Names that trace, grade and diagnose have, and a page that computes on its own has not."""
    late = "h0 for every h", "h wrapped", "last dh at every step", "c0 for every c", "c wrapped"
    late += ("state wrapped", "mean at c", "weights sign", *HEAD, *FORK, *STEP, *VARIANTS)
    late += tuple(f"recurrence and input of {k}" for k in "ifgoa")
    late += tuple(f"deltas in order {k}" for k in PERMUTED)
    late += tuple(f"{k}, forward alone" for k in VARIANTS)
    sums = [f"sum over {a} and {b}" for a, b in (("time", "batch"), ("time", "features"))]
    sums += [f"dW and dU averaged over {k}" for k in ("time", "batch", "time and batch")]
    sums += ["sum over batch and features", "sum over time and batch and features"]
    return {*late, *sums, *factor_table(), *slope_table(ELMAN_GATES)}
