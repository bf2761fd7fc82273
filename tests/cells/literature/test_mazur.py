"""Mazur: two dense layers, the stages and their twins by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jax_lstm as jl
from jax_lstm.stages import bias, bias_bwd, linear, linear_bwd, sigmoid, sigmoid_bwd
from jax_lstm.stages.losses import squared_error_bwd
from tests.cells.literature.routes import load
from tests.tables import assert_close, quick_jit


def mazur_matrices(w):
    """w1 ... w8: in his order, the two weights into the first unit come first."""
    return w[:4].reshape(2, 2).T, w[4:].reshape(2, 2).T


def mazur_step(w, b, x, t):
    """Forward, top to bottom; then its reverse, bottom to top."""
    W1, W2 = mazur_matrices(w)
    b1, b2 = jnp.repeat(b[:, None], 2, axis=1)  # one offset for both units of a layer: a fork
    h = sigmoid(bias(linear(x, W1), b1))
    y = sigmoid(bias(linear(h, W2), b2))
    loss = jl.squared_error(y, t)

    dy, _ = squared_error_bwd((y, t), jnp.ones(()))
    da2, db2 = bias_bwd(None, sigmoid_bwd(y, dy))
    dh, dW2 = linear_bwd((h, W2), da2)
    da1, db1 = bias_bwd(None, sigmoid_bwd(h, dh))
    _, dW1 = linear_bwd((x, W1), da1)
    dw = jnp.concatenate([dW1.T.reshape(-1), dW2.T.reshape(-1)])
    db = jnp.stack([db1.sum(), db2.sum()])  # (F')
    return {"hidden": h, "output": y, "loss": loss, "dw": dw, "db": db}


@quick_jit
def mazur_after(steps, f):
    """The weights after so many steps of gradient descent, and what the network then says."""

    def step(_, w):
        return w - f["learning_rate"] * mazur_step(w, f["b"], f["x"], f["t"])["dw"]

    w = lax.fori_loop(0, steps, step, f["w"])
    return w, mazur_step(w, f["b"], f["x"], f["t"])


@pytest.fixture(scope="module")
def mazur():
    f = load("mazur")
    del f["about"], f["published"]["note"]
    return f


def test_mazur_one_step(mazur):
    _, got = mazur_after(0, mazur)
    assert_close(got, {k: mazur[k] for k in got})
    w, after = mazur_after(1, mazur)
    assert_close(w, mazur["w_after_1"])
    assert_close(after["loss"], mazur["loss_after_1"])
    # his rounded weights of the step before: the seventh digit is another
    np.testing.assert_allclose(after["loss"], mazur["published"]["loss_after_1"], rtol=1e-6)


def test_mazur_ten_thousand_steps(mazur):
    _, after = mazur_after(10_000, mazur)
    assert_close(after["loss"], mazur["loss_after_10000"])
    assert_close(after["output"], mazur["output_after_10000"])
    # his digits drift from float64 over 10,000 steps, by 1.9e-4; our own number is exact, above
    np.testing.assert_allclose(after["loss"], mazur["published"]["loss_after_10000"], rtol=5e-4)
