"""WildML: a language model without bias."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from tests.cells.literature.routes import load, over
from tests.tables import assert_close, errors, quick_jit

WILDML = {
    "by hand": (jl.embedding, jl.elman, jl.dense, jl.softmax_cross_entropy),
    "autodiff": (
        jl.embedding_autodiff,
        jl.elman_autodiff,
        jl.dense_autodiff,
        jl.softmax_cross_entropy_autodiff,
    ),
}


def wildml():
    """h_t = tanh(U[:, x_t] + W h_{t-1}), logits V h_t: all transposed, for rows."""
    f = load("wildml_rnn")
    gradients = jax.tree.map(jnp.transpose, f["gradients"])
    return f, jax.tree.map(jnp.transpose, f["params"]), jl.ElmanState(jnp.zeros(10)), gradients


def wildml_losses(route, model, state, tokens, targets):
    """The loss of every step, and the states after it. The cell gets U[:, x_t] as its input."""
    embedding, elman, dense, entropy = route
    zeros = jnp.zeros(10)
    params = jl.ElmanParams(jnp.eye(10), model["W"], zeros)
    _, hs = elman(params, state, embedding(model["U"], tokens))
    return entropy(dense(jl.DenseParams(model["V"], zeros[:5]), hs), targets), hs


@functools.partial(quick_jit, static_argnums=0)
def wildml_gradients(route, model, state, tokens, targets, weights):
    """The weighted sum of the losses, differentiated."""

    def loss(model):
        losses, hs = wildml_losses(route, model, state, tokens, targets)
        return (weights * losses).sum(), hs

    return jax.value_and_grad(loss, has_aux=True)(model)


@over(WILDML)
def test_wildml_loss_and_gradients(route):
    f, model, state, want = wildml()
    (loss, _), gradients = wildml_gradients(route, model, state, f["x"], f["y"], jnp.ones(4))
    assert_close(loss, f["loss"])
    assert_close(gradients, want)
    assert_close(jax.tree.map(jnp.linalg.norm, gradients), f["frobenius"])


@over(WILDML)
def test_wildml_the_sentence_twice_is_twice_the_gradient(route):
    """A batch of two: the parameters, and each row of the table, are forks over examples."""
    f, model, _, want = wildml()
    tokens, targets = (jnp.stack([f[name]] * 2, axis=1) for name in "xy")
    state = jl.ElmanState(jnp.zeros((2, 10)))
    (loss, _), got = wildml_gradients(route, model, state, tokens, targets, jnp.ones((4, 2)))
    assert_close(loss, 2 * f["loss"])
    assert_close(got, jax.tree.map(lambda d: 2 * d, want))


@over({"elman": jl.elman, "elman_autodiff": jl.elman_autodiff})
def test_wildml_symbols_and_one_hot_rows_are_the_same_network(route):
    """The table inside the cell: one-hot inputs times W."""
    f, model, state, want = wildml()

    def loss(params, V, tokens, targets):
        _, hs = route(params, state, jax.nn.one_hot(tokens, 5, dtype=V.dtype))
        return jl.softmax_cross_entropy(hs @ V, targets).sum()

    params = jl.ElmanParams(model["U"], model["W"], jnp.zeros(10))
    value, (dparams, dV) = quick_jit(jax.value_and_grad(loss, (0, 1)))(
        params, model["V"], f["x"], f["y"]
    )
    assert_close(value, f["loss"])
    assert_close({"U": dparams.W, "W": dparams.U, "V": dV}, want)


def windowed_gradients(route, k):
    """The error of each output goes back k steps: the sum over windows of k + 1 steps.

    A window starts from the state before it as a constant, and only its last output counts.
    """
    f, model, state, _ = wildml()
    _, hs = wildml_losses(route, model, state, f["x"], f["y"])
    total = jax.tree.map(jnp.zeros_like, model)
    for t in range(4):
        now = slice(max(t - k, 0), t + 1)
        before = jl.ElmanState(hs[now.start - 1]) if now.start else state
        last = jnp.zeros(now.stop - now.start).at[-1].set(1)
        _, more = wildml_gradients(route, model, before, f["x"][now], f["y"][now], last)
        total = jax.tree.map(jnp.add, total, more)
    return total


def wildml_own_loop(k):
    """The tutorial's algorithm in numpy: norms of dU and dW."""
    f = load("wildml_rnn")
    U, V, W = (np.asarray(f["params"][name]) for name in "UVW")
    dU, dW, hs = np.zeros_like(U), np.zeros_like(W), np.zeros((5, 10))  # the last row is h_{-1}
    for t in range(4):
        hs[t] = np.tanh(U[:, f["x"][t]] + W @ hs[t - 1])
        p = np.exp(V @ hs[t])
        error = p / p.sum() - np.eye(5)[f["y"][t]]
        da = V.T @ error * (1 - hs[t] ** 2)
        for s in range(t, max(t - k, 0) - 1, -1):
            dU[:, f["x"][s]] += da
            dW += np.outer(da, hs[s - 1])
            da = W.T @ da * (1 - hs[s - 1] ** 2)
    return {"dU_norm": np.linalg.norm(dU), "dW_norm": np.linalg.norm(dW)}


@over(WILDML)
@pytest.mark.parametrize("k", [0, 1, 2])
def test_wildml_truncated_after_k_steps(route, k):
    f, *_, full = wildml()
    got = windowed_gradients(route, k)
    norms = {f"d{name}_norm": jnp.linalg.norm(got[name]) for name in "UW"}
    assert_close(norms, {name: f["truncated"][str(k)][name] for name in norms}, 1e-8)
    assert_close(norms, wildml_own_loop(k))
    assert_close(got["V"], full["V"])  # the readout sees no time
    assert errors(got["U"], full["U"])[""] > 1e-5  # the rest does


@over(WILDML)
def test_wildml_windows_as_long_as_the_sequence_truncate_nothing(route):
    *_, full = wildml()
    assert_close(windowed_gradients(route, 3), full)
