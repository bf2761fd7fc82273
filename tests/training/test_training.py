"""The language model's gradient by hand and by JAX, and its update."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_lstm import dense, embedding, init_lstm_state, lstm, lstm_cell, softmax_cross_entropy
from jax_lstm.training.update import (
    AUTODIFF,
    BY_HAND,
    init_language_model,
    language_model_loss,
    make_update,
    make_updates,
)
from tests.tables import TOLERANCE, assert_close, assert_same, normal_like

T, B, D, H, V = 7, 2, 3, 5, 11


def model(dtype=jnp.float64):
    params = init_language_model(jax.random.key(0), V, D, H, dtype=dtype)
    state = normal_like(1, init_lstm_state(params.lstm, (B,)), 0.5)
    tokens, targets = np.random.default_rng(2).integers(V, size=(2, T, B), dtype=np.int32)
    return normal_like(3, params, 0.5), state, tokens, targets


def gradient(route, params, state, *batch):
    """The loss, the new state, and the cotangents of params and state for a random dstate."""

    def weighed(params, state):
        nats, last = language_model_loss(params, state, *batch, route=route)
        dots = jax.tree.map(lambda x, dx: (x * dx).sum(), last, normal_like(4, last))
        return nats + sum(jax.tree.leaves(dots)), (nats, last)

    dparams, outputs = jax.jit(jax.grad(weighed, (0, 1), has_aux=True))(params, state)
    return outputs, dparams


def scan_of_cell(params, state, xs):
    return jax.lax.scan(functools.partial(lstm_cell, params), state, xs)


def wrong(params, state, xs):
    """A sequence that drops the gradient of its incoming state."""
    return lstm(params, jax.lax.stop_gradient(state), xs)


@pytest.mark.half
@pytest.mark.parametrize(
    ("dtype", "route"),
    [
        (jnp.float64, BY_HAND),
        (jnp.float32, BY_HAND),
        (jnp.float64, BY_HAND._replace(sequence=functools.partial(lstm, residuals=3))),
        (jnp.float64, BY_HAND._replace(sequence=scan_of_cell)),
        (jnp.float64, AUTODIFF._replace(loss=softmax_cross_entropy)),
        (jnp.float64, AUTODIFF._replace(dense=dense)),
        (jnp.float64, AUTODIFF._replace(embedding=embedding)),
    ],
    ids=["float64", "float32", "residuals=3", "cell in scan", "loss", "dense", "embedding"],
)
def test_the_gradient_is_that_of_autodiff(dtype, route):
    args = model(dtype)
    tolerance = TOLERANCE[jnp.dtype(dtype).name]
    assert_close(gradient(route, *args), gradient(AUTODIFF, *args), tolerance)


def test_a_dropped_gradient_is_seen():
    args = model()
    route = BY_HAND._replace(sequence=wrong)
    with pytest.raises(AssertionError, match=r"\.h"):
        assert_close(gradient(route, *args), gradient(AUTODIFF, *args))


def test_the_loss_is_the_mean_of_log_probabilities_and_the_state_goes_on():
    params, state, tokens, targets = model()
    loss = jax.jit(language_model_loss)
    nats, last = loss(params, state, tokens, targets)
    step, total, now = jax.jit(lstm_cell), 0.0, state
    for t in range(T):
        now, h = step(params.lstm, now, params.embedding[tokens[t]])
        scores = np.asarray(h @ params.readout.W) + np.asarray(params.readout.b)
        p = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        total -= np.log(p[np.arange(B), targets[t]]).sum()
    assert_close((nats, last), (np.float64(total / (T * B)), now))

    first, between = loss(params, state, tokens[:4], targets[:4])
    second, again = loss(params, between, tokens[4:], targets[4:])
    assert_close(((4 * first + 3 * second) / T, again), (nats, last))


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_updates_learn_and_keep_dtypes(dtype):
    params, state, *batch = model(dtype)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.05))
    update = jax.jit(make_update(optimizer, language_model_loss))
    now, opt_state, losses = params, optimizer.init(params), []
    for _ in range(30):
        now, opt_state, _, nats, norm = update(now, opt_state, state, *batch)
        losses.append(float(nats))
        assert 0 < float(norm) < np.inf
    assert losses[-1] < 0.5 * losses[0]
    assert jax.tree.map(lambda p: p.dtype, now) == jax.tree.map(lambda p: p.dtype, params)


def test_an_update_is_the_optimizer_on_the_gradient():
    params, state, *batch = model()
    optimizer = optax.sgd(0.1)
    update = jax.jit(make_update(optimizer, language_model_loss))
    step = update(params, optimizer.init(params), state, *batch)
    dparams, last = jax.jit(jax.grad(language_model_loss, has_aux=True))(params, state, *batch)
    assert_close(step.params, jax.tree.map(lambda p, d: p - 0.1 * d, params, dparams))
    squares = [(np.asarray(d) ** 2).sum() for d in jax.tree.leaves(dparams)]
    assert_close((step.state, step.gradient_norm), (last, np.sqrt(np.float64(sum(squares)))))


def test_donated_buffers_change_no_bit():
    params, state, *batch = model()
    optimizer = optax.adam(0.05)
    update = make_update(optimizer, language_model_loss)
    plain, donated = jax.jit(update), jax.jit(update, donate_argnums=(0, 1, 2))
    args = (params, optimizer.init(params), state)
    copies = jax.tree.map(jnp.copy, args)
    assert_same(donated(*copies, *batch), plain(*args, *batch))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(copies))


@pytest.mark.parametrize("name", ["tokens", "targets"])
@pytest.mark.parametrize("symbol", [-1, V])
def test_symbols_out_of_range_are_named(name, symbol):
    params, state, *batch = model()
    batch[name == "targets"][T - 1, 0] = symbol
    with pytest.raises(ValueError, match=rf"`{name}` must lie in \[0, V = {V}\)"):
        language_model_loss(params, state, *batch)


def test_updates_in_one_call_are_updates_one_by_one():
    """To the bit, however they are gathered; who wants extra arguments gets the loss."""
    seen = optax.GradientTransformationExtraArgs(
        lambda params: jnp.zeros((), np.float32),
        lambda grads, state, params=None, *, value: (grads, value),
    )

    def loss(params, state, x):
        state = 0.9 * state + x
        return ((params * x - state) ** 2).mean(), state

    optimizer = optax.chain(seen, optax.sgd(0.1))
    update = make_update(optimizer, loss)
    assert make_updates(update) == make_updates(make_update(optimizer, loss))
    program = jax.jit(make_updates(update))
    xs = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)

    def run(*counts):
        params, state = jnp.ones(4, np.float32), jnp.zeros(4, np.float32)
        carried, losses, at = (params, optimizer.init(params), state), [], 0
        for n in counts:
            stack = np.zeros((4, 4), np.float32)
            stack[:n] = xs[at : at + n]
            *carried, nats, _ = program(*carried, np.int32(n), stack)
            assert not np.asarray(nats[n:]).any()
            losses, at = [*losses, *np.asarray(nats)[:n]], at + n
        return (*carried, np.array(losses))

    assert_same(run(1, 1, 1, 1, 1, 1), run(4, 2))
    assert_same(run(2, 3, 1), run(4, 2))
    params, opt_state, _, losses = run(4, 2)
    assert float(opt_state[0]) == losses[-1]
    by_hand, at = np.ones(4), np.zeros(4)  # in float64; six updates in float32 beside them
    for x, got in zip(xs, losses, strict=True):
        at = 0.9 * at + x
        np.testing.assert_allclose(got, ((by_hand * x - at) ** 2).mean(), rtol=1e-6)
        by_hand = by_hand - 0.1 * (2 * x * (by_hand * x - at) / 4)
    np.testing.assert_allclose(params, by_hand, rtol=1e-6)
    with pytest.raises(ValueError, match="`batches`"):
        make_updates(update)(*run(1)[:3], 1)
