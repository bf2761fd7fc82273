"""Windows of random lengths: a shorter one is as if it were alone, and its update is scaled."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.char_lm import run as char_lm
from experiments.kit import language_model as lm
from experiments.kit import windows
from experiments.kit.routes import ROUTES
from experiments.word_lm import run as word_lm
from experiments.word_lm.training import batches
from jax_lstm.training.update import make_update
from tests.tables import assert_close

CONFIG = dataclasses.replace(
    char_lm.Config.tiny(), window=9, streams=2, hidden=3, embedding=2, random_windows=True
)


def streams(n=2000):
    tokens = np.random.default_rng(0).integers(0, 7, 2 * n).astype(np.int32)
    return tokens.reshape(2, n).T


def test_lengths_are_drawn_as_the_source_s():
    """Of 20 windows 19 are from N(70, 5), one from N(35, 5); at least 5 steps; by the seed."""
    config = dataclasses.replace(CONFIG, window=70)
    drawn = np.array(list(itertools.islice(windows.lengths(config), 20_000)))
    half = drawn < 52
    # Standard errors: 0.0015 of the share, 0.04 and 0.16 steps of the means, which are rounded down
    np.testing.assert_allclose(half.mean(), 0.05, atol=0.006)
    np.testing.assert_allclose(drawn[~half].mean(), 69.5, atol=0.15)
    np.testing.assert_allclose(drawn[half].mean(), 34.5, atol=0.6)
    np.testing.assert_allclose(drawn[~half].std(), 5, atol=0.15)
    assert drawn.max() <= windows.widest(config) == 90
    short = list(itertools.islice(windows.lengths(CONFIG), 2000))
    assert min(short) == 5
    assert short == list(itertools.islice(windows.lengths(CONFIG), 2000))


@pytest.mark.parametrize("Config", [char_lm.Config, word_lm.Config])
def test_windows_follow_each_other_and_what_fills_them_is_zero(Config):
    config = dataclasses.replace(
        Config(), window=9, streams=2, random_windows=True, detach=0.3, skip_check=True
    )
    if Config is char_lm.Config:
        drawn = lm.batches(config, lm.Data("", streams(), None))
    else:
        drawn = batches(config, streams())
    at, W = None, windows.widest(config)
    for anew, tokens, targets, *_, length, through in itertools.islice(drawn, 50):
        assert tokens.shape == targets.shape == (W, 2)
        if at is None:
            at = next(t for t in range(9) if (streams()[t : t + W] == tokens).all())
        np.testing.assert_array_equal(tokens, streams()[at : at + W])
        np.testing.assert_array_equal(targets, streams()[at + 1 : at + 1 + W])
        assert anew.shape == (2,)
        assert through.shape == (W,)
        assert set(np.unique(through)) <= {0, 1}
        at += length


@pytest.mark.slow
def test_a_shorter_window_is_as_if_it_were_alone():
    """Loss, state and gradient; and its update is times length over --window."""
    params, _, state = lm.init_training(CONFIG, lm.Data("abcdefg", streams(), None))
    state = jax.tree.map(lambda x: x + 0.3, state)
    anew, tokens, targets, length = next(lm.batches(CONFIG, lm.Data("", streams(), None)))
    assert length < len(tokens)
    plain = dataclasses.replace(CONFIG, random_windows=False)
    tokens[length:] = 5  # whatever fills it up
    sgd = optax.sgd(0.5)

    def update(config, tokens, targets, *drawn):
        loss = lm.loss_of(config, ROUTES["manual"])
        step = make_update(sgd, loss, windows.rate_of(config))
        return step(params, sgd.init(params), state, ~anew, tokens, targets, *drawn)

    got = jax.jit(lambda *batch: update(CONFIG, *batch))(tokens, targets, length)
    want = jax.jit(lambda *batch: update(plain, *batch))(tokens[:length], targets[:length])
    # float32: some eps of 1.2e-7 of numbers near 1
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-7)
    jax.tree.map(close, (got.loss, got.state), (want.loss, want.state))
    rate = float(length) / CONFIG.window
    by = lambda step: jax.tree.map(jnp.subtract, step.params, params)
    jax.tree.map(lambda a, b: close(a, rate * b), by(got), by(want))
    close(got.gradient_norm, want.gradient_norm)
    assert windows.rate_of(plain) is None


def test_a_dropped_output_is_not_read_and_recurs():
    """With one mask for both streams it is another W of the readout, in the loss and in dU."""
    config = dataclasses.replace(CONFIG, random_windows=False, drop_outputs=0.4)
    params, _, state = lm.init_training(config, lm.Data("abcdefg", streams(), None))
    drawn = lm.batches(config, lm.Data("", streams(), None))
    masks = np.stack([kept for *_, kept in itertools.islice(drawn, 500)])
    assert lm.examples(config) == (0, 1, 1, 0)
    assert masks.shape == (500, 2, 3)
    np.testing.assert_array_equal(np.unique(masks), np.float32([0, 1 / 0.6]))
    np.testing.assert_allclose(masks.mean(), 1, atol=0.06)  # four standard errors of 3000 numbers
    anew, tokens, targets, _ = next(drawn)
    kept = np.float64([[0, 1 / 0.6, 1 / 0.6]] * 2)
    params, state = jax.tree.map(lambda x: x.astype(np.float64), (params, state))
    plain = dataclasses.replace(config, drop_outputs=0)

    def both(params):
        W = params.readout.W * kept[0][:, None]
        other = params._replace(readout=params.readout._replace(W=W))
        of = lambda config: lm.loss_of(config, ROUTES["manual"])
        one, _ = of(config)(params, state, anew, tokens, targets, kept)
        return one, of(plain)(other, state, anew, tokens, targets)[0]

    losses, grads = jax.jit(lambda p: (both(p), jax.jacrev(both)(p)))(params)
    assert_close(*losses)
    assert_close(*grads)


def test_without_these_options_a_batch_is_as_it_was():
    plain = dataclasses.replace(CONFIG, random_windows=False)
    assert [
        len(b) for b in itertools.islice(lm.batches(plain, lm.Data("", streams(), None)), 2)
    ] == [
        3,
        3,
    ]
    assert lm.examples(plain) == (0, 1, 1)
    assert windows.of_window(plain, ROUTES["manual"], ()) is ROUTES["manual"]
