"""READ THIS FIRST: the LSTM and its backpropagation through time, slowly.

One matrix per gate, a Python loop over time, every fork a visible sum, every number returned by
name. Forward, a step is a chain of stages; backward, the same stages in reverse order. It is what
one would do with paper and pencil, and it is the oracle: no autodiff, no engine, no tricks. The
fast version of the same equations is cells/lstm.py under engine/bptt.py.

    x_t ──┬─► a_i ─► i ──┐                    a = x W + h_prev U + b          (1)  linear, bias
          ├─► a_g ─► g ──┴─(x)─┐              i, f, o = sigmoid; g = tanh     (2)  gates
    h_prev┼─► a_f ─► f ──(x)──(+)─► c ──┬──►  c = f * c_prev + i * g          (3)  cell_state
          └─► a_o ─► o ──┐  c_prev      ▼     h = o * tanh(c)                 (4)  hidden_state
                         └────(x)── tanh      forks: x_t, h_prev, c, h, W, U, b    (F)

Does dc_t contain dc_{t+1} * f_{t+1}? Yes: c_t is a fork, into tanh(c_t) and into the forget product
of step t+1, and the cotangents of its branches are added. See `dc` below.

Sources: Kang & Seo, "Understanding Backpropagation as Applied to LSTM" (stages, chain rule, forks);
Gomez, "Backpropogating an LSTM: A Numerical Example" (2016), whose numbers a test reproduces.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jax_lstm.notation import GATES
from jax_lstm.stages import (
    bias,
    bias_bwd,
    cell_state,
    cell_state_bwd,
    fork,
    fork_bwd,
    hidden_state,
    hidden_state_bwd,
    linear,
    linear_bwd,
    sigmoid,
    sigmoid_bwd,
    tanh,
    tanh_bwd,
)


class Params(NamedTuple):
    """W_k (D, H), U_k (H, H), b_k (H,) for each gate k = i, f, g, o; also the form of gradients."""

    W_i: Any
    W_f: Any
    W_g: Any
    W_o: Any
    U_i: Any
    U_f: Any
    U_g: Any
    U_o: Any
    b_i: Any
    b_f: Any
    b_g: Any
    b_o: Any


class Gradients(NamedTuple):
    """dparams (as Params), dxs (T, ..., D), dh0 and dc0 (..., H), and the deltas of every step."""

    dparams: Params
    dxs: Any
    dh0: Any
    dc0: Any
    deltas: list[dict[str, Any]]


def forward(params, xs, h0, c0):
    """All steps forward.

    Args:
      params: Params.
      xs: (T, ..., D), time first, T >= 1, float32 or float64.
      h0, c0: (..., H), what is remembered from before.

    Returns:
      steps: a dict per time step with x, h_prev, c_prev, a_i, a_f, a_g, a_o, i, f, g, o, c, tanh_c
        and h. The last state is steps[-1]["h"], steps[-1]["c"].
    """
    p = params
    h, c = h0, c0
    steps = []
    for x in xs:
        h_prev, c_prev = h, c
        x_i, x_f, x_g, x_o = fork(x, 4)  # x_t goes into four gates            (F)
        h_i, h_f, h_g, h_o = fork(h_prev, 4)  # and so does h_{t-1}            (F)
        a_i = bias(linear(x_i, p.W_i) + linear(h_i, p.U_i), p.b_i)  # (1)
        a_f = bias(linear(x_f, p.W_f) + linear(h_f, p.U_f), p.b_f)
        a_g = bias(linear(x_g, p.W_g) + linear(h_g, p.U_g), p.b_g)
        a_o = bias(linear(x_o, p.W_o) + linear(h_o, p.U_o), p.b_o)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), tanh(a_g), sigmoid(a_o)  # (2)
        c = cell_state(f, c_prev, i, g)  # (3)
        c_to_tanh, c = fork(c, 2)  # c_t goes into h_t and into step t+1       (F)
        h = hidden_state(o, c_to_tanh)  # (4)
        h_to_outside, h = fork(h, 2)  # h_t goes outside and into step t+1     (F)
        steps.append(
            {"x": x, "h_prev": h_prev, "c_prev": c_prev}
            | {"a_i": a_i, "a_f": a_f, "a_g": a_g, "a_o": a_o, "i": i, "f": f, "g": g, "o": o}
            | {"c": c, "tanh_c": tanh(c_to_tanh), "h": h_to_outside}
        )
    return steps


def backward(params, steps, dhs, dh_T, dc_T):
    """All steps in reverse, the same stages bottom-up.

    Args:
      params: Params.
      steps: what `forward` returned.
      dhs: dL/dh_t from the outside, (T, ..., H): from a readout, or from h_t - y_t.
      dh_T, dc_T: cotangents of the last state, (..., H); zeros when the loss does not see it.

    Returns:
      Gradients. Its `deltas` hold for every time step dh_from_outside, dh_from_next, dh,
      dc_from_h, dc_from_next, dc, do, df, di, dg, da_i, da_f, da_g, da_o, the four shares of dx
      and dh_prev (dx_i ..., dh_prev_i ...), dx, dh_prev, dc_prev, and the step's outer products
      dW_i ... dU_i ... db_o.
    """
    p = params
    dh_from_next, dc_from_next = dh_T, dc_T
    deltas: list[dict[str, Any]] = [{}] * len(steps)
    for t in reversed(range(len(steps))):
        s = steps[t]
        dh, _ = fork_bwd(None, (dhs[t], dh_from_next))  # (F') at h_t
        do, dc_from_h = hidden_state_bwd((s["o"], s["c"]), dh)  # (4')
        dc, _ = fork_bwd(None, (dc_from_h, dc_from_next))  # (F') at c_t: a branch often forgotten
        df, dc_prev, di, dg = cell_state_bwd((s["f"], s["c_prev"], s["i"], s["g"]), dc)  # (3')
        da_i, da_f = sigmoid_bwd(s["i"], di), sigmoid_bwd(s["f"], df)  # (2')
        da_g, da_o = tanh_bwd(s["g"], dg), sigmoid_bwd(s["o"], do)
        d = {"dh_from_outside": dhs[t], "dh_from_next": dh_from_next, "dh": dh, "do": do}
        d |= {"dc_from_h": dc_from_h, "dc_from_next": dc_from_next, "dc": dc, "dc_prev": dc_prev}
        d |= {"df": df, "di": di, "dg": dg, "da_i": da_i, "da_f": da_f, "da_g": da_g, "da_o": da_o}
        for k in GATES:  # each gate's share
            dy, d["db_" + k] = bias_bwd(None, d["da_" + k])  # (1'b)
            d["dx_" + k], d["dW_" + k] = linear_bwd((s["x"], getattr(p, "W_" + k)), dy)  # (1')
            d["dh_prev_" + k], d["dU_" + k] = linear_bwd((s["h_prev"], getattr(p, "U_" + k)), dy)
        d["dx"], _ = fork_bwd(None, [d["dx_" + k] for k in GATES])  # (F') at x_t
        d["dh_prev"], _ = fork_bwd(None, [d["dh_prev_" + k] for k in GATES])  # (F') at h_{t-1}
        deltas[t] = d
        dh_from_next, dc_from_next = d["dh_prev"], dc_prev
    dparams = [fork_bwd(None, [d["d" + name] for d in deltas])[0] for name in p._fields]  # (F')
    dxs = jnp.stack([d["dx"] for d in deltas])
    return Gradients(Params(*dparams), dxs, dh_from_next, dc_from_next, deltas)


def from_packed(W, U, b):
    """Params (or their gradients) from W (D, 4H), U (H, 4H), b (4H,), blocks i, f, g, o."""
    return Params(*jnp.split(W, 4, -1), *jnp.split(U, 4, -1), *jnp.split(b, 4, -1))


def to_packed(params):
    """W (D, 4H), U (H, 4H), b (4H,): the inverse of `from_packed`."""
    return tuple(jnp.concatenate(params[n : n + 4], -1) for n in (0, 4, 8))
