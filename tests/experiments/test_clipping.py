"""What --clip bounds, number by number; and a dh that is limited, which nobody takes for true."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.char_lm import run as char_lm
from experiments.kit.clipping import (
    by_gate,
    clipping,
    h_detach,
    limit_dh,
    per_example,
    read_dh,
    shrink,
)
from experiments.kit.config import BadInput
from jax_lstm import init_lstm, init_lstm_state, lstm, lstm_cell_autodiff
from jax_lstm.cells.lstm import LSTMParams

BOUND = 0.5


def norm(x):
    return float(np.linalg.norm(np.asarray(x).ravel()))


# Norms of a dozen float32 numbers, an eps of 1.2e-7 each.
FLOAT32 = {"rtol": 1e-6}


def grads():
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape).astype(np.float32))
    rnn = LSTMParams(draw(2, 12), 0.01 * draw(3, 12), draw(12))
    return {"rnn": rnn, "readout": draw(3, 4)}


def clip_by(name, g):
    transform = clipping(types.SimpleNamespace(clip=BOUND, clip_by=name))
    params = jax.tree.map(lambda x: jnp.ones_like(x), g)
    return transform.update(g, transform.init(params), params)[0]


@pytest.mark.slow
def test_each_way_of_clipping_bounds_what_it_names():
    g = grads()
    whole = clip_by("global", g)
    np.testing.assert_allclose(
        norm(jnp.concatenate([x.ravel() for x in jax.tree.leaves(whole)])), BOUND, **FLOAT32
    )
    leaf = clip_by("leaf", g)
    for got, was in zip(jax.tree.leaves(leaf), jax.tree.leaves(g), strict=True):
        np.testing.assert_allclose(norm(got), min(norm(was), BOUND), **FLOAT32)
    np.testing.assert_array_equal(leaf["rnn"].U, g["rnn"].U)
    gate = clip_by("gate", g)
    for got, was in zip(gate["rnn"], g["rnn"], strict=True):
        for k in range(4):
            block = slice(3 * k, 3 * k + 3)
            short = min(1, BOUND / norm(was[..., block]))
            np.testing.assert_allclose(got[..., block], short * was[..., block], **FLOAT32)
    np.testing.assert_allclose(norm(gate["readout"]), BOUND, **FLOAT32)
    assert norm(clip_by("adaptive", g)["readout"]) < norm(g["readout"])
    zeros = jax.tree.map(jnp.zeros_like, g)
    for done in (by_gate(BOUND, zeros), jax.tree.map(shrink(BOUND), zeros)):
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(done))


def test_clipping_example_by_example():
    """The mean over examples of gradients each at most so long; the value is the true one."""

    def loss(w, carry, xs, scale):
        carry = carry + xs.sum(0)
        return (w[None] * carry * scale).sum(-1).mean(), carry

    rng = np.random.default_rng(1)
    xs, carry = (jnp.asarray(rng.normal(size=s).astype(np.float32)) for s in ((2, 5, 3), (5, 3)))
    w, scale = jnp.ones(3, np.float32), jnp.float32(1.5)
    run = lambda loss: jax.value_and_grad(loss, has_aux=True)(w, carry, xs, scale)
    (value, after), got = run(per_example(loss, (1, None), BOUND))
    (want, want_after), true = run(loss)
    np.testing.assert_allclose(value, want, **FLOAT32)
    np.testing.assert_allclose(after, want_after, **FLOAT32)
    each = 1.5 * np.asarray(want_after)
    short = np.minimum(1, BOUND / np.linalg.norm(each, axis=1, keepdims=True))
    np.testing.assert_allclose(got, (short * each).mean(0), **FLOAT32)
    _, unbounded = run(per_example(loss, (1, None), 1e9))
    np.testing.assert_allclose(unbounded, true, **FLOAT32)


def test_a_limited_dh_is_the_true_gradient_below_the_bound_and_not_beyond():
    params = init_lstm(jax.random.key(0), 2, 3)
    xs = jax.random.normal(jax.random.key(1), (4, 2, 2), "float32")
    state = init_lstm_state(params, (2,))

    @jax.jit
    def gradients(params):
        loss = lambda run: lambda p: (run(p, state, xs)[1] ** 2).sum()
        runs = [lstm, limit_dh("clip", 1e3), limit_dh("clip", 0.01), limit_dh("cut", 0.01)]
        return [jax.grad(loss(run))(params).U for run in runs]

    true, far, clipped, cut = map(np.asarray, gradients(params))
    np.testing.assert_array_equal(far, true)
    assert norm(cut) < norm(clipped) < 0.5 * norm(true)
    assert limit_dh("clip", 1.0) is limit_dh("clip", 1.0)


def test_h_detach_is_the_gradient_where_h_is_held():
    """Of a scan by JAX in which the gates of some steps see an h that is held."""
    params = init_lstm(jax.random.key(0), 2, 3)
    xs = jax.random.normal(jax.random.key(1), (4, 2, 2), "float32")
    state, through = init_lstm_state(params, (2,)), jnp.array([1.0, 0.0, 1.0, 0.0], "float32")

    def by_jax(params, state, xs):
        def body(state, now):
            x, open_ = now
            h = jnp.where(open_ > 0, state.h, jax.lax.stop_gradient(state.h))
            return lstm_cell_autodiff(params, state._replace(h=h), x)

        return jax.lax.scan(body, state, (xs, through))

    def ours(params, state, xs):
        return h_detach()(params, state, (xs, (through[:, None, None],)))

    @jax.jit
    def gradients(params, state, xs):
        def loss(run):
            return lambda *args: (run(*args)[1] ** 2).sum() + run(*args)[0].c.sum()

        return [jax.grad(loss(run), (0, 1, 2))(params, state, xs) for run in (ours, by_jax, lstm)]

    got, want, true = gradients(params, state, xs)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)  # float32, sums of numbers below 2
    assert norm(got[0].U - true[0].U) > 0.01 * norm(true[0].U)
    assert h_detach() is h_detach()


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (
            "--dh clip:1",
            "no longer the true one, and cannot be that of jax.grad; --skip-check says",
        ),
        ("--detach 0.25", "argument --detach: with it the gradient is no longer the true one"),
        ("--detach 0.25 --skip-check --gradient step", "it needs --gradient manual"),
        ("--detach 0.25 --skip-check --dh cut:1", "is another backward than that of --dh"),
        ("--detach 1 --skip-check", "argument --detach: must be >= 0 and < 1; got 1.0"),
        ("--dh clip:0 --skip-check", "must be clip:X or cut:X with a number X > 0; got 'clip:0'"),
        ("--dh half:1 --skip-check", "must be clip:X or cut:X"),
        ("--dh cut:1 --skip-check --gradient auto", "it needs --gradient manual"),
    ],
)
def test_a_limited_dh_is_refused_unless_somebody_owns_up_to_it(argv, complaint, tmp_path, capsys):
    with pytest.raises(SystemExit) as status:
        char_lm.main(["--tiny", "--results", str(tmp_path), *argv.split()])
    assert status.value.code == 2
    assert complaint in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    with pytest.raises(BadInput):
        read_dh("clip:nan")
