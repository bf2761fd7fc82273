"""Coursera: weights on [a_prev; x_t], arrays (n, m, T)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jax_lstm as jl
from jax_lstm import textbook
from jax_lstm.notation import GATES
from tests.cells.literature.routes import (
    ROUTES,
    load,
    over,
    textbook_backward,
    textbook_forward,
    value_and_cotangents,
)
from tests.tables import assert_close, errors

COURSERA_GATES = dict(zip("ifco", GATES, strict=True))  # the candidate g is their c


def from_coursera(p, d=""):
    """Parameters or, with d="d", gradients: W_k (H, H + D) on [a_prev; x] becomes U_k and W_k."""
    H = p[f"{d}bi"].shape[0]
    W = {f"W_{k}": p[f"{d}W{c}"][:, H:].T for c, k in COURSERA_GATES.items()}
    U = {f"U_{k}": p[f"{d}W{c}"][:, :H].T for c, k in COURSERA_GATES.items()}
    b = {f"b_{k}": p[f"{d}b{c}"][:, 0] for c, k in COURSERA_GATES.items()}
    return jl.LSTMParams(*textbook.to_packed(textbook.Params(**W, **U, **b)))


def time_first(x):
    """(n, m, T) -> (T, m, n)."""
    return jnp.transpose(x, (2, 1, 0))


def one_step(cell, params, state, xs):
    state, h = cell(params, state, xs[0])
    return state, h[None]


CELL_ROUTES = {
    "lstm_cell": functools.partial(one_step, jl.lstm_cell),
    "lstm_cell_autodiff": functools.partial(one_step, jl.lstm_cell_autodiff),
}


@over(ROUTES | CELL_ROUTES)
def test_coursera_cell(route):
    f = load("coursera_cell")
    params = from_coursera(f["params"])
    args = (params, jl.LSTMState(f["a_prev"].T, f["c_prev"].T), f["xt"].T[None])
    dy = (jl.LSTMState(f["da_next"].T, f["dc_next"].T), jnp.zeros((1, *f["a_prev"].T.shape)))
    (state, hs), got = value_and_cotangents(route, args, dy)
    g = f["grads"]
    want = from_coursera(g, "d"), jl.LSTMState(g["da_prev"].T, g["dc_prev"].T), g["dxt"].T[None]
    assert_close(got, want)
    assert_close(state, jl.LSTMState(f["a_next"].T, f["c_next"].T))
    assert_close(hs[0], f["a_next"].T)
    readout = jl.DenseParams(f["params"]["Wy"].T, f["params"]["by"][:, 0])
    assert_close(jax.nn.softmax(jl.dense(readout, state.h)), f["yt"].T)


def coursera_sequence():
    """Arguments and cotangents; the exercise runs 4 of its 7 steps."""
    f = load("coursera_seq")
    state = jl.LSTMState(f["a0"].T, jnp.zeros_like(f["a0"].T))
    dhs = time_first(f["da"])
    zero = jnp.zeros_like(state.h)
    xs = time_first(f["x"])[: len(dhs)]
    return f, (from_coursera(f["params"]), state, xs), (jl.LSTMState(zero, zero), dhs)


@over(ROUTES)
def test_coursera_sequence(route):
    f, args, dy = coursera_sequence()
    _, got = value_and_cotangents(route, args, dy)
    g = f["gradients"]
    want = from_coursera(g, "d"), jl.LSTMState(g["da0"].T, g["dc0"].T), time_first(g["dx"])
    assert_close(got, want)


def test_coursera_old_answer_key_carries_nothing_from_step_to_step():
    f, args, (dstate, dhs) = coursera_sequence()
    p = textbook.from_packed(*args[0])
    steps = textbook_forward(p, args[2], *args[1])
    alone = [
        textbook_backward(p, steps[t : t + 1], dhs[t : t + 1], *dstate) for t in range(len(steps))
    ]
    dparams = jax.tree.map(lambda *ds: sum(ds), *(d.dparams for d in alone))
    mutant = coursera_entries(dparams, jnp.concatenate([d.dxs for d in alone]), alone[0].dh0)
    key = {k: jnp.asarray(v) for k, v in f["old_answer_key"].items()}
    for name, value in key.items():  # the notebook printed eight decimal places of some of them
        np.testing.assert_allclose(mutant[name], value, rtol=0, atol=1e-7)

    ours = textbook_backward(p, steps, dhs, *dstate)
    truth = coursera_entries(ours.dparams, ours.dxs, ours.dh0)
    assert min(errors(key, truth).values()) > 0.1
    assert_close(mutant["dx_1_2"][-1], truth["dx_1_2"][-1])  # nothing comes from after the end


def coursera_entries(dparams, dxs, da0):
    """The ten numbers the notebook prints, by its indices on its own layouts."""
    entries = {"dx_1_2": dxs[:, 2, 1], "da0_2_3": da0[3, 2]}
    for c, row, column in [("f", 3, 1), ("i", 1, 2), ("c", 3, 1), ("o", 1, 2)]:
        k = COURSERA_GATES[c]
        concatenated = jnp.concatenate([getattr(dparams, f"U_{k}"), getattr(dparams, f"W_{k}")])
        entries[f"dW{c}_{row}_{column}"] = concatenated[column, row]
        entries[f"db{c}_4"] = getattr(dparams, f"b_{k}")[4]
    return entries
