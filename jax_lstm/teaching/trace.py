"""The trace: every stage forward and every delta backward, by name, with the equation it came from.

The numbers are those of textbook.py; nothing is derived here a second time. What stands here is
the order in which they are told, and the equation of each as a line of text that can be read,
printed with its numbers (paper.py) and drawn (graph.py).

    forward     t = 0 ... T-1:   x, h_prev, c_prev, a_k, gates, c, tanh_c, h
    backward    t = T-1 ... 0:   dh_from_outside + dh_from_next = dh     a fork is a sum
                                 dc_from_h + dc_from_next = dc
                                 the gates; each gate's share of dx and dh_prev; dx, dh_prev
    over time   dW_k, dU_k, db_k: a weight is a fork into all steps

In the equations `@` is the matrix product, `.T` the transpose, `^2` the square, `sum` adds the
examples; everything else is element by element. "h(t=1)" is h of step 1.
"""

import re
from collections import ChainMap
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm import printing, textbook
from jax_lstm.cells.elman import ELMAN, ElmanParams, ElmanState
from jax_lstm.cells.lstm import LSTM, LSTMParams, LSTMState
from jax_lstm.doors import check_texts, is_array, refuse
from jax_lstm.engine import doors
from jax_lstm.notation import GATES, Tree
from jax_lstm.stages import bias, bias_bwd, fork_bwd, linear, linear_bwd, tanh, tanh_bwd
from jax_lstm.stages.losses import squared_error, squared_error_bwd
from jax_lstm.teaching import equations

WEIGHT = re.compile(r"d?[WUbV](\d|_[ifgo])?")


class Stage(NamedTuple):
    """One line: name = equation = value.

    part: "forward", "backward" or "over time"; t: its time step, None where there is none.
    equation: "" for what is given.
    of: what the equation names, as arrays: (B, D), (B, H), rows are examples; weights (D, H).
    branches: at a fork, the names whose sum it is. note: where the branches of the fork go.
    """

    part: str
    t: int | None
    name: str
    equation: str
    of: dict[str, jax.Array]
    value: jax.Array
    branches: tuple[str, ...] = ()
    note: str = ""


class Traced(NamedTuple):
    """All of it, twice: as arrays by name, and line by line, as a Stage.

    forward, backward: {name: (T, ..., features)}; the names are those of textbook.py.
    gradients: {"dW_i": (D, H), ...} summed over time; dxs (T, ..., D), dh0, dc0.
    loss: over steps and examples; None where only cotangents are known. stages: as computed.
    Printed are its names, equations and shapes; teaching.paper.table(traced) has every number.
    """

    forward: dict[str, jax.Array]
    backward: dict[str, jax.Array]
    gradients: dict[str, jax.Array]
    loss: jax.Array | None
    stages: tuple[Stage, ...]

    __str__ = printing.page

    def html(self, title: str = "a trace") -> str:
        """The page in which one steps through it, one file of HTML; ValueError: no such network."""
        from jax_lstm.teaching import webpage

        return webpage.html_of(self, title)

    def _repr_html_(self) -> str:
        from jax_lstm.teaching import webpage

        return webpage.notebook(self)

    def sentence(self) -> str:
        T = len({s.t for s in self.stages if s.t is not None})
        loss = "" if self.loss is None else f"; loss = {float(self.loss):.5g}"
        return f"a trace of {f'{T} steps, ' if T else ''}{len(self.stages)} stages{loss}"

    def tables(self) -> list[printing.Sheet]:
        """Arrays by name; their equations, where these are the same at every step."""
        head, found = ("", "equation", "shape", "norm"), []
        parts = {"forward": self.forward, "backward": self.backward, "over time": self.gradients}
        for part, arrays in parts.items():
            same = {(s.name, short_sum(s)): None for s in self.stages if s.part == part}
            names = [name for name, _ in same]
            told = {name: equation for name, equation in same if names.count(name) == 1}
            rows = tuple(
                (k, told.get(k, ""), str(np.shape(x)), float(np.linalg.norm(np.asarray(x))))
                for k, x in arrays.items()
            )
            found.append(printing.Sheet((part, *head[1:]), rows, sides="<<<>"))
        return found

    def table(self) -> str:
        return "\n\n".join(map(str, self.tables()))


def short_sum(s):
    """A stage's equation; of a sum over more than two steps, the first and the last."""
    long = s.part == "over time" and len(s.branches) > 2
    return f"{s.branches[0]} + ... + {s.branches[-1]}" if long else s.equation


class Outside(NamedTuple):
    """What comes after h_t: numbers by name, a dict per step, and the lines that tell them.

    weights: names of parameters of its own, which are forks over time too.
    """

    steps: list[dict[str, Any]]
    forward: list[tuple[str, ...]]
    backward: list[tuple[str, ...]]
    weights: tuple[str, ...] = ()


def trace(
    params: LSTMParams | ElmanParams,
    state: LSTMState | ElmanState,
    xs: jax.Array,
    dhs: jax.Array | None = None,
    *,
    ys: jax.Array | None = None,
    dlast: tuple[Tree, ...] | None = None,
    order: Sequence[str] = GATES,
) -> Traced:
    """Every number of a run and of its backpropagation through time, of an LSTM or Elman network.

    Args:
      params, state: LSTMParams and LSTMState, or ElmanParams and ElmanState.
      xs: (T, ..., D), T >= 1, dtype of the parameters, float32 or float64.
      dhs: dL/dh_t from the outside, (T, ..., H); or
      ys: targets (T, ..., H) of L = ½ Σ (h - y)². One of the two.
      dlast: cotangents of the last state, as `state`; default zeros.
      order: of the gates, in which they are told.

    Returns:
      Traced: `.forward["c"]` (T, ..., H), `.backward["dc_from_next"]`, `.gradients["dW_f"]`, and
      `.stages`, line by line. `.html()` is a page to step through them.

    Raises:
      ValueError: no time step, both or none of dhs and ys, shapes or dtypes that cannot be.

    Source: jax_lstm/textbook.py.
    """
    cell = LSTM if hasattr(state, "c") else ELMAN
    doors.check_cell(cell, params, state, xs, "xs", 1)
    if xs.dtype not in (jnp.float32, jnp.float64):
        raise ValueError(f"a trace is of float32 or float64; got {xs.dtype}")
    if len(xs) == 0:
        raise ValueError("`xs` has no time step (T = 0): there is nothing to trace")
    if xs.size == 0:
        raise ValueError(f"`xs` has no example: there is nothing to trace; got {xs.shape}")
    if (dhs is None) == (ys is None):
        raise ValueError("pass either `dhs`, dL/dh_t from the outside, or targets `ys`")
    check_texts("order", order, f"{', '.join(GATES)} in any order")
    if sorted(order) != sorted(GATES):
        raise ValueError(f"`order` must be {', '.join(GATES)} in any order; got {order!r}")
    last = tuple(jnp.zeros_like(x) for x in state) if dlast is None else dlast
    if not isinstance(last, tuple) or len(last) != len(state):
        raise ValueError(f"`dlast` must have the fields {', '.join(state._fields)}")
    H = params.U.shape[0]
    for name, x in (("dhs", dhs), ("ys", ys)):
        check_like(name, x, "(T, ..., H)", (*xs.shape[:-1], H), xs.dtype)
    for k, x in zip(state._fields, last, strict=True):
        check_like(f"dlast.{k}", x, "(..., H)", (*xs.shape[1:-1], H), xs.dtype)
    outside = from_cotangents(rows(dhs, 1)) if ys is None else squared_errors(rows(ys, 1))
    arrays = tuple(rows(x) for x in state), rows(xs, 1), tuple(rows(x) for x in last)
    return restore_batch(trace_rows(params, *arrays, outside, order), xs.shape[1:-1])


def check_like(name, x, form, shape, dtype):
    if x is not None and (not is_array(x) or x.shape != shape or x.dtype != dtype):
        refuse(name, f"{form} = {shape} in {dtype}", x)


def trace_rows(params, state, xs, last, outside, order=GATES):
    """Traced, of rows (B, ...): `outside(hs)` is what comes after the cell, an Outside."""
    tell_cell = lstm_lines if len(state) == 2 else elman_lines
    lines, ends = tell_cell(params, state, xs, last, outside, order)
    losses = [s.value for s in lines if s.name == "loss"]
    return collect(lines, ends, sum(losses) if losses else None)


def tell(part, t, lines, known):
    """Stages of (name, equation) or (name, equation, note at a fork); `known` has the numbers."""
    for name, equation, *note in lines:
        names = equations.names(equation) if equation else []
        of = {k: known[k] for k in names}
        yield Stage(part, t, name, equation, of, known[name], tuple(names) if note else (), *note)


def tell_sums(names, deltas):
    """dW = dW(t=0) + dW(t=1) + ...: a weight is a fork over time."""
    for name in names:
        shares = {f"d{name}(t={t})": d[f"d{name}"] for t, d in enumerate(deltas)}
        total, _ = fork_bwd(None, list(shares.values()))  # (F')
        stage = Stage("over time", None, f"d{name}", " + ".join(shares), shares, total)
        note = f"{name} goes into every time step"
        yield stage._replace(branches=tuple(shares), note=note) if len(deltas) > 1 else stage


# What comes after the cell --------------------------------------------------------------------


def from_cotangents(dhs):
    """The outside is known by its cotangents alone."""
    return lambda hs: Outside(
        [{"dh_from_outside": dh} for dh in dhs], [], [("dh_from_outside", "")]
    )


def squared_errors(ys):
    """L = ½ Σ (h - y)²: (9) and its twin, at every step."""

    def step(h, y):
        dh, _ = squared_error_bwd((h, y), jnp.ones(h.shape[:-1], h.dtype))  # (9')
        return {"y": y, "loss": squared_error(h, y).sum(), "dh_from_outside": dh}  # (9)

    lines = [("y", ""), ("loss", "sum((h - y)^2) / 2")]
    return lambda hs: Outside(
        [step(h, y) for h, y in zip(hs, ys, strict=True)], lines, [("dh_from_outside", "h - y")]
    )


# The cells ------------------------------------------------------------------------------------


def lstm_lines(params, state, xs, last, outside, order):
    """The LSTM's lines; all numbers are textbook.py's."""
    p = textbook.from_packed(*params)
    steps = textbook.forward(p, xs, *state)
    after = outside([s["h"] for s in steps])
    dhs = [found["dh_from_outside"] for found in after.steps]
    g = textbook.backward(p, steps, dhs, *last)
    gate = {k: ("tanh" if k == "g" else "sigmoid") for k in order}
    slope = {k: (f"(1 - {k}^2)" if k == "g" else f"{k} * (1 - {k})") for k in order}
    factor = {"i": "dc * g", "f": "dc * c_prev", "g": "dc * i", "o": "dh * tanh_c"}
    share = lambda name: (name, " + ".join(f"{name}_{k}" for k in order))

    def forward(t):
        yield from [("x", ""), ("h_prev", name_before("h", t)), ("c_prev", name_before("c", t))]
        for k in order:
            yield f"a_{k}", f"x @ W_{k} + h_prev @ U_{k} + b_{k}"  # (1)
            yield k, f"{gate[k]}(a_{k})"  # (2)
        yield "c", "f * c_prev + i * g"  # (3)
        yield from [("tanh_c", "tanh(c)"), ("h", "o * tanh_c")]  # (4)

    def backward(t, T):
        yield "dh_from_next", name_after("dh_prev", "dh_T", t, T)
        yield "dh", "dh_from_outside + dh_from_next", destination("h", t, T)
        yield "dc_from_h", "dh * o * (1 - tanh_c^2)"  # (4')
        yield "dc_from_next", name_after("dc_prev", "dc_T", t, T)
        yield "dc", "dc_from_h + dc_from_next", destination("c", t, T)
        for k in order:
            yield f"d{k}", factor[k]  # (3'), (4')
            yield f"da_{k}", f"d{k} * {slope[k]}"  # (2')
        yield "dc_prev", "dc * f"  # (3')
        yield from ((f"dx_{k}", f"da_{k} @ W_{k}.T") for k in order)  # (1')
        yield *share("dx"), "x goes into four gates, and each sends its share back"
        yield from ((f"dh_prev_{k}", f"da_{k} @ U_{k}.T") for k in order)
        yield *share("dh_prev"), "h_prev goes into four gates, and each sends its share back"
        for k in order:
            yield f"dW_{k}", f"x.T @ da_{k}"
            yield f"dU_{k}", f"h_prev.T @ da_{k}"
            yield f"db_{k}", f"sum(da_{k})"

    names = [f"{w}_{k}" for k in order for w in "WUb"]
    known = p._asdict()
    lines = tell_steps(steps, g.deltas, after, known, state, last, forward, backward, "hc")
    ends = {"dh0": g.dh0, "dc0": g.dc0}
    return lines + list(tell_sums([*names, *after.weights], add_outside(g.deltas, after))), ends


def elman_lines(params, state, xs, last, outside, order):
    """The Elman network's lines: the stages and their twins, one after the other."""
    (h,), steps = state, []
    for x in xs:
        h_prev, a = h, bias(linear(x, params.W) + linear(h, params.U), params.b)  # (1)
        h = tanh(a)  # (2)
        steps.append({"x": x, "h_prev": h_prev, "a": a, "h": h})
    after = outside([s["h"] for s in steps])
    (dh_from_next,), deltas = last, []
    for s, found in zip(reversed(steps), reversed(after.steps), strict=True):
        d = {"dh_from_next": dh_from_next, "dh_from_outside": found["dh_from_outside"]}
        d["dh"], _ = fork_bwd(None, (d["dh_from_outside"], dh_from_next))  # (F')
        d["da"] = tanh_bwd(s["h"], d["dh"])  # (2')
        dy, d["db"] = bias_bwd(None, d["da"])  # (1'b)
        d["dx"], d["dW"] = linear_bwd((s["x"], params.W), dy)  # (1')
        d["dh_prev"], d["dU"] = linear_bwd((s["h_prev"], params.U), dy)
        dh_from_next = d["dh_prev"]
        deltas.insert(0, d)

    def forward(t):
        yield from [("x", ""), ("h_prev", name_before("h", t))]
        yield from [("a", "x @ W + h_prev @ U + b"), ("h", "tanh(a)")]

    def backward(t, T):
        yield "dh_from_next", name_after("dh_prev", "dh_T", t, T)
        yield "dh", "dh_from_outside + dh_from_next", destination("h", t, T)
        yield "da", "dh * (1 - h^2)"
        yield from [("dx", "da @ W.T"), ("dh_prev", "da @ U.T")]
        yield from [("dW", "x.T @ da"), ("dU", "h_prev.T @ da"), ("db", "sum(da)")]

    known = params._asdict()
    lines = tell_steps(steps, deltas, after, known, state, last, forward, backward, "h")
    sums = tell_sums([*"WUb", *after.weights], add_outside(deltas, after))
    return lines + list(sums), {"dh0": dh_from_next}


def tell_steps(steps, deltas, after, known, state, last, forward, backward, fields):
    """The lines of all steps, forward and then in reverse, with what comes after the cell."""
    T = len(steps)
    known = known | {f"{k}0": x for k, x in zip(fields, state, strict=True)}
    known |= {f"d{k}_T": x for k, x in zip(fields, last, strict=True)}
    for t, (s, d) in enumerate(zip(steps, deltas, strict=True)):
        known |= {f"{k}(t={t})": s[k] for k in fields}
        known |= {f"d{k}_prev(t={t})": d[f"d{k}_prev"] for k in fields}
    lines: list[Stage] = []
    for t in range(T):
        now = ChainMap(steps[t], after.steps[t], known)
        lines += tell("forward", t, [*forward(t), *after.forward], now)
    for t in reversed(range(T)):
        now = ChainMap(deltas[t], steps[t], after.steps[t], known)
        lines += tell("backward", t, [*after.backward, *backward(t, T)], now)
    return lines


def add_outside(deltas, after):
    return [d | found for d, found in zip(deltas, after.steps, strict=True)]


def name_before(name, t):
    return f"{name}(t={t - 1})" if t else f"{name}0"


def name_after(name, last, t, T):
    return f"{name}(t={t + 1})" if t + 1 < T else last


def destination(name, t, T):
    """Where a state goes, and what comes back from there."""
    first = "goes outside" if name == "h" else "goes into tanh(c), and so into h"
    step = {"h": f"into step {t + 1}", "c": f"into the forget product of step {t + 1}"}[name]
    then = step if t + 1 < T else "into the last state"
    back = "outside" if name == "h" else "h"
    return f"{name} {first}: d{name}_from_{back}; and {then}: d{name}_from_next"


# Arrays by name -------------------------------------------------------------------------------


def rows(x, time=0):
    """(T, ..., D) as (T, B, D), or (..., D) as (B, D): one axis of examples, whatever it was."""
    return x.reshape((*x.shape[:time], -1, x.shape[-1]))


def collect(lines, ends, loss=None):
    """Traced, of its lines: what has a time step is stacked, time first."""
    found: dict[str, Any] = {"forward": {}, "backward": {}, "over time": {}}
    for s in lines:
        if s.t is None:
            found[s.part][s.name] = s.value
        else:
            found[s.part].setdefault(s.name, {})[s.t] = s.value
    forward, backward, sums = (
        {
            k: jnp.stack([x[t] for t in sorted(x)]) if isinstance(x, dict) else x
            for k, x in names.items()
        }
        for names in found.values()
    )
    ends = ends | ({"dxs": backward["dx"]} if "dx" in backward else {})
    return Traced(forward, backward, sums | ends, loss, tuple(lines))


def restore_batch(traced, batch):
    """Traced, with the axes of examples as they were given."""

    def restore(names, time):
        return {
            k: x if WEIGHT.fullmatch(k) or k == "loss" else x.reshape((*x.shape[:t], *batch, -1))
            for k, x in names.items()
            for t in [time + (k == "dxs")]
        }

    forward, backward = restore(traced.forward, 1), restore(traced.backward, 1)
    gradients = restore(traced.gradients, 0)
    return traced._replace(forward=forward, backward=backward, gradients=gradients)
