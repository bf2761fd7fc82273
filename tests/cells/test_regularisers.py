"""Masks as inputs: both routes see the same bits, and their gradients are the same."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from tests import tables
from tests.tables import CELLS, SIZE, assert_close, assert_same, normal_like, problem, within

value_and_cotangents = functools.partial(tables.value_and_cotangents, options=tables.QUICK)

T, B, D, H = SIZE
OPTIONS = {
    "plain": {},
    "residuals, reverse": {"residuals": 3, "reverse": True},
    "lengths": {"lengths": np.array([3, T])},
}


@pytest.mark.half
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_dropout(cell, options):
    row, options = CELLS[cell], OPTIONS[options]
    args = _, state, _ = problem(row)
    mask = jl.dropout_mask(jax.random.key(0), 0.4, state[0].shape, jnp.float64)
    by_hand, by_jax = jl.make_rnn(jl.recurrent_dropout(row.cell))
    got, want = (
        value_and_cotangents(lambda *a, f=f: f(*a, consts=mask, **options), args)
        for f in (by_hand, by_jax)
    )
    assert_close(got, want)
    reads_h = np.any(got[1][1][0])  # nothing of the mLSTM's and the element-wise LSTM's recurs
    assert np.allclose(got[0][1], row.sequence(*args, **options)[1]) != reads_h


def test_recurrent_dropout_is_what_the_paper_says():
    """A dropped unit of h reaches no gate: the same as zero rows of U."""
    params, state, xs = problem(CELLS["lstm"])
    rnn, _ = jl.make_rnn(jl.recurrent_dropout(jl.LSTM))
    mask = jnp.ones((B, H)).at[:, 2].set(0.0)
    got = rnn(params, state, xs, consts=mask)
    assert_close(got, jl.lstm(params._replace(U=params.U.at[2].set(0)), state, xs))


@pytest.mark.half
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_zoneout(cell, train, options):
    row, options = CELLS[cell], OPTIONS[options]
    params, state, xs = problem(row)
    held = [getattr(state, k) for k in row.cell.kept or state._fields]
    keys = jax.random.split(jax.random.key(1), len(held))
    shapes = [(T, *leaf.shape) if train else (T, *(1,) * leaf.ndim) for leaf in held]
    masks = tuple(
        jl.zoneout_mask(k, 0.3, shape, jnp.float64, train=train)
        for k, shape in zip(keys, shapes, strict=True)
    )
    by_hand, by_jax = jl.make_rnn(jl.zoneout(row.cell))
    got, want = (
        value_and_cotangents(
            lambda p, s, xs, f=f: f(p, s, (xs, masks), **options), (params, state, xs)
        )
        for f in (by_hand, by_jax)
    )
    assert_close(got, want)
    assert not np.allclose(got[0][1], row.sequence(params, state, xs, **options)[1])


EVERYTHING = {
    "lengths": np.array([3, T]),
    "resets": np.arange(T * B).reshape(T, B) % 3 == 0,
    "reverse": True,
}


@pytest.mark.half
@pytest.mark.parametrize("residuals", [2, "auto"])
@pytest.mark.parametrize("cell", CELLS)
def test_both_with_everything_that_can_be_asked_of_a_sequence(cell, residuals):
    """Masks are constants on both routes, and what they hold in padding reaches nothing."""
    row = CELLS[cell]
    params, state, xs = problem(row)
    kept = jl.zoneout_masks(jax.random.key(1), 0.3, state, T, fields=row.cell.kept)
    dropped = jl.recurrent_dropout_masks(jax.random.key(2), 0.4, state)
    by_hand, by_jax = jl.make_rnn(jl.zoneout(jl.recurrent_dropout(row.cell)))

    def over(rnn, **more):
        def f(params, state, xs, kept, fresh, dropped):
            options = EVERYTHING | {"consts": dropped, "reset_state": fresh}
            return rnn(params, state, (xs, kept), **options, **more)

        return f

    args = (params, state, xs, kept, normal_like(4, state), dropped)
    got = value_and_cotangents(over(by_hand, residuals=residuals), args)
    assert_close(got, value_and_cotangents(over(by_jax), args))
    dmasks = (got[1][3], got[1][5])
    assert_same(dmasks, jax.tree.map(jnp.zeros_like, (kept, dropped)))
    valid = within(EVERYTHING["lengths"], T)[..., None]
    xs, kept = jax.tree.map(lambda x: jnp.where(valid, x, jnp.nan), (xs, kept))
    dirty = (params, state, xs, kept, *args[4:])
    assert_same(value_and_cotangents(over(by_hand, residuals=residuals), dirty), got)


def test_zoneout_at_its_ends():
    """Nothing kept is the plain cell; everything kept is the initial state."""
    params, state, xs = problem(CELLS["lstm"])
    rnn, _ = jl.make_rnn(jl.zoneout(jl.LSTM))
    zeros, ones = jnp.zeros((T, 1, 1)), jnp.ones((T, 1, 1))
    assert_close(rnn(params, state, (xs, (zeros, zeros))), jl.lstm(params, state, xs))
    assert_same(rnn(params, state, (xs, (ones, ones)))[0], state)


def test_h_comes_from_the_cell_before_zoneout():
    params, state, xs = problem(CELLS["lstm"])
    rnn, _ = jl.make_rnn(jl.zoneout(jl.LSTM))
    masks = (jnp.zeros((1, 1, 1)), jnp.ones((1, 1, 1)))
    last, hs = rnn(params, state, (xs[:1], masks))
    plain, _ = jl.lstm(params, state, xs[:1])
    assert_close(hs[0], plain.h)
    assert_same(last.c, state.c)


def test_training_means_the_expectation():
    masks = jl.zoneout_mask(jax.random.key(0), 0.3, (20000,), jnp.float64)
    assert set(np.unique(masks)) == {0.0, 1.0}
    assert abs(float(masks.mean()) - 0.3) < 0.02
    drops = jl.dropout_mask(jax.random.key(0), 0.3, (20000,), jnp.float64)
    assert abs(float(drops.mean()) - 1.0) < 0.02
    assert abs(float((drops == 0).mean()) - 0.3) < 0.02


def test_masks_of_every_state():
    """Each state has masks of its own, each field its rate; the same key draws the same."""
    states = ((jl.LSTMState(*jnp.zeros((2, B, 300), jnp.float32)),) * 2,) * 2
    masks = jl.zoneout_masks(jax.random.key(0), (0.1, 0.6), states, 100)
    assert_same(masks, jl.zoneout_masks(jax.random.key(0), (0.1, 0.6), states, 100))
    for layer in masks:
        for of_h, of_c in layer:
            assert of_h.shape == of_c.shape == (100, B, 300)
            assert abs(of_h.mean() - 0.1) < 0.01
            assert abs(of_c.mean() - 0.6) < 0.01
    assert (masks[0][0][0] != masks[0][1][0]).any()
    expected = jl.zoneout_masks(jax.random.key(0), (0.1, 0.6), states, 100, train=False)
    assert [m.shape for m in expected[1][1]] == [(100, 1, 1)] * 2
    assert_same(expected[1][1][1], jnp.full((100, 1, 1), 0.6, jnp.float32))
    (one, other), _ = jl.recurrent_dropout_masks(jax.random.key(1), 0.5, states)
    assert one.shape == (B, 300)
    assert set(np.unique(one)) == {0.0, 2.0}
    assert (one != other).any()


def test_masks_in_few_bits():
    params = jl.init_lstm(jax.random.key(0), D, H, dtype=jnp.bfloat16)
    state = jl.init_lstm_state(params, (B,))
    masks = jl.zoneout_masks(jax.random.key(0), 0.5, state, T)
    assert [m.dtype for m in masks] == [jnp.bfloat16, jnp.float32]  # those of h and of c
    rnn, _ = jl.make_rnn(jl.zoneout(jl.LSTM))
    last, hs = rnn(params, state, (jnp.ones((T, B, D), jnp.bfloat16), masks))
    assert (hs.dtype, last.c.dtype) == (jnp.bfloat16, jnp.float32)


DROPPED = {
    "between layers": lambda m, p, xs, E: (p, jl.drop(xs, m((T, B, D))), E),
    "variational on the input": lambda m, p, xs, E: (p, jl.drop(xs, m((B, D))), E),
    "weight drop on U": lambda m, p, xs, E: (p._replace(U=jl.drop(p.U, m(p.U.shape))), xs, E),
    "embedding": lambda m, p, xs, E: (p, xs, jl.drop(E, m((E.shape[0], 1)))),
}


@pytest.mark.parametrize("name", DROPPED)
def test_a_product_with_a_mask(name):
    params, state, xs = problem(CELLS["lstm"])
    E = jnp.asarray(np.random.default_rng(0).normal(size=(4, D)))
    tokens = jnp.arange(T * B).reshape(T, B) % 4

    def mask(shape):
        return jl.dropout_mask(jax.random.key(3), 0.4, shape, jnp.float64)

    def over(sequence, drop):
        def f(params, state, xs, E):
            products = {"drop": jl.drop}
            jl.drop = drop
            try:
                params, xs, E = DROPPED[name](mask, params, xs, E)
            finally:
                jl.drop = products["drop"]
            return sequence(params, state, xs + E[tokens])

        return f

    args = (params, state, xs, E)
    got = value_and_cotangents(over(jl.lstm, jl.drop), args)
    assert_close(got, value_and_cotangents(over(jl.lstm_autodiff, jl.drop_autodiff), args))


@pytest.mark.parametrize("rate", [-0.1, 1.0])
@pytest.mark.parametrize("draw", [jl.dropout_mask, jl.zoneout_mask])
def test_rates_outside_the_range(draw, rate):
    with pytest.raises(ValueError, match=r"`rate` must lie in \[0, 1\)"):
        draw(jax.random.key(0), rate, (3,))


@pytest.mark.parametrize("draw", [jl.dropout_mask, jl.zoneout_mask])
def test_a_rate_that_jit_does_not_know(draw):
    """A schedule of rates is one program."""
    jitted = jax.jit(lambda rate: draw(jax.random.key(0), rate, (30,)))
    for rate in (0.0, 0.3, 0.9):
        assert_same(jitted(rate), draw(jax.random.key(0), rate, (30,)))
    assert jitted._cache_size() == 1


def test_masks_that_do_not_fit():
    params, state, xs = problem(CELLS["lstm"])
    with pytest.raises(ValueError, match="one number, or one per field of \\('h', 'c'\\)"):
        jl.zoneout_masks(jax.random.key(0), (0.1,), state, T)
    with pytest.raises(ValueError, match="`states` must be a state"):
        jl.recurrent_dropout_masks(jax.random.key(0), 0.1, xs)
    rnn, _ = jl.make_rnn(jl.zoneout(jl.LSTM))
    with pytest.raises(ValueError, match="must be a pair"):
        rnn(params, state, xs)
    with pytest.raises(ValueError, match="one per field"):
        rnn(params, state, (xs, (jnp.zeros((T, B, H)),)))
    with pytest.raises(ValueError, match="the mask of `c` must be broadcastable to"):
        rnn(params, state, (xs, (jnp.zeros((T, B, H)), jnp.zeros((T, B, H + 1)))))
    dropped, _ = jl.make_rnn(jl.recurrent_dropout(jl.LSTM))
    for mask, got in (
        (None, "NoneType"),
        (jnp.ones((B, H + 1)), "shape"),
        (jnp.ones((T, B, H)), ""),
    ):
        with pytest.raises(ValueError, match=rf"must be its mask \(2, 5\), see .* got {got}"):
            dropped(params, state, xs, consts=mask)
    with pytest.raises(ValueError, match="`mask` must be float64, broadcastable"):
        jl.drop(xs, jnp.zeros((T, B, D + 1)))


def test_masks_that_would_be_ignored_are_refused():
    args = problem(CELLS["lstm"])
    for call in (
        lambda mask: jl.lstm(*args, consts=mask),
        lambda mask: jl.lstm_cell(args[0], args[1], args[2][0], consts=mask),
    ):
        with pytest.raises(ValueError, match="`consts` is not used by this cell"):
            call(jnp.ones((2, 5)))
