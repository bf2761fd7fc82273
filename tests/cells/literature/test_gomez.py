"""Gomez: an LSTM with one unit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm import textbook
from jax_lstm.notation import GATES
from jax_lstm.stages.losses import squared_error_bwd
from tests.cells.literature.routes import (
    ROUTES,
    load,
    over,
    textbook_backward,
    textbook_forward,
    value_and_cotangents,
)
from tests.tables import assert_close, errors, quick_jit


def gomez(start):
    fixture = load("gomez")
    want = fixture[start]
    params = jl.LSTMParams(**fixture["params"])
    return fixture, want, params, jl.LSTMState(want["h0"], want["c0"])


starts = pytest.mark.parametrize("start", ["zero_state", "remembered_state"])


@starts
def test_gomez_every_number_by_name(start):
    fixture, want, params, state = gomez(start)
    p, ys = textbook.from_packed(*params), fixture["ys"]
    steps = textbook_forward(p, fixture["xs"], *state)
    hs = jnp.stack([s["h"] for s in steps])
    dhs, _ = squared_error_bwd((hs, ys), jnp.ones(2))
    got = textbook_backward(p, steps, dhs, jnp.zeros(1), jnp.zeros(1))

    for s, expected in zip(steps, want["forward"], strict=True):
        a = jnp.concatenate([s["a_" + k] for k in GATES])
        assert_close({k: (s | {"a": a})[k] for k in expected}, expected)
    for d, expected in zip(got.deltas, want["backward"], strict=True):
        da = jnp.concatenate([d["da_" + k] for k in GATES])
        d = d | {"da": da, "dh_from_loss": d["dh_from_outside"]}
        assert_close({k: d[k] for k in expected}, expected)
    dW, dU, db = textbook.to_packed(got.dparams)
    gradients = {"dW": dW, "dU": dU, "db": db, "dxs": got.dxs, "dh0": got.dh0, "dc0": got.dc0}
    assert_close(gradients, want["gradients"])
    assert_close(jl.squared_error(hs, ys).sum(), want["loss"])


@starts
@over(ROUTES)
def test_gomez_gradients_and_one_sgd_step(start, route):
    fixture, want, params, state = gomez(start)
    xs, ys = fixture["xs"], fixture["ys"]
    hs = jnp.stack([step["h"] for step in want["forward"]])
    dhs, _ = squared_error_bwd((hs, ys), jnp.ones(2))
    zero = jnp.zeros(1)
    dy = (jl.LSTMState(zero, zero), dhs)
    (_, got), (dparams, dstate, dxs) = value_and_cotangents(route, (params, state, xs), dy)
    assert_close(got, hs)
    gradients = {"dW": dparams.W, "dU": dparams.U, "db": dparams.b, "dxs": dxs}
    assert_close(gradients | {"dh0": dstate.h, "dc0": dstate.c}, want["gradients"])

    after = want["after_one_sgd_step"]
    new = jax.tree.map(lambda p, dp: p - after["learning_rate"] * dp, params, dparams)
    assert_close(new, jl.LSTMParams(**after["params"]))
    (_, hs), _ = value_and_cotangents(route, (new, state, xs), dy)
    assert_close(jl.squared_error(hs, ys).sum(), after["loss"])


@starts
@over({"lstm": jl.lstm, "lstm_autodiff": jl.lstm_autodiff})
def test_gomez_the_whole_loss_under_value_and_grad(start, route):
    fixture, want, params, state = gomez(start)

    @quick_jit
    def loss_and_gradient(params):
        return jax.value_and_grad(
            lambda p: jl.squared_error(route(p, state, fixture["xs"])[1], fixture["ys"]).sum()
        )(params)

    loss, dparams = loss_and_gradient(params)
    assert_close(loss, want["loss"])
    assert_close(dparams, jl.LSTMParams(*(want["gradients"][k] for k in ("dW", "dU", "db"))))


def test_gomez_as_published():
    """Five digits: of 1.5176 the fifth is the fourth decimal."""
    fixture, _, params, state = gomez("zero_state")
    steps = textbook_forward(textbook.from_packed(*params), fixture["xs"], *state)
    for name, published in fixture["published"].items():
        got = np.concatenate([s[name] for s in steps])
        assert np.all(np.abs(got - published) < np.where(published < 1, 2e-5, 5e-5))


def test_gomez_what_is_remembered_is_the_last_state_of_the_first_run():
    fixture, _, params, zeros = gomez("zero_state")
    *_, remembered = gomez("remembered_state")
    state, _ = quick_jit(jl.lstm)(params, zeros, fixture["xs"])
    assert_close(state, remembered)


def test_gomez_zeros_in_the_backward_are_the_published_mistake_and_not_ours():
    fixture, want, params, state = gomez("remembered_state")
    p = textbook.from_packed(*params)
    steps = textbook_forward(p, fixture["xs"], *state)
    dhs = jnp.stack([s["h"] for s in steps]) - fixture["ys"]
    forgotten = [steps[0] | {"h_prev": jnp.zeros(1), "c_prev": jnp.zeros(1)}, steps[1]]
    mutant, ours = (
        textbook_backward(p, s, dhs, jnp.zeros(1), jnp.zeros(1)).dparams for s in (forgotten, steps)
    )
    mistake = fixture["zeros_in_backward_mutant"]
    wrong = {"db_f": mutant.b_f[0], "dU_g": mutant.U_g[0, 0]}
    for name, value in wrong.items():
        assert abs(value - mistake[name]) < 5e-11  # ten decimals
    dU, db = want["gradients"]["dU"], want["gradients"]["db"]
    right = {"db_f": db[1], "dU_g": dU[0, 2]}
    assert_close({"db_f": ours.b_f[0], "dU_g": ours.U_g[0, 0]}, right)
    assert min(errors(wrong, right).values()) > 1
