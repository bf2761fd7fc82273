"""The proof: every cotangent of every rule against jax.vjp in float64, random cotangents on all."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm import stages, textbook
from jax_lstm.stages import twins
from tests.tables import (
    CELLS,
    SHARE,
    SIZE,
    assert_close,
    assert_same,
    normal_like,
    problem,
    value_and_cotangents,
)

T, B, D, H = SIZE
RNG = np.random.default_rng(0)


def some(*shape):
    return RNG.normal(size=shape)


@pytest.mark.parametrize("name", stages.TWINS)
def test_twin_of_a_stage(name):
    """One answer per argument of the stage, in its order; None where there is no cotangent."""
    twin = stages.TWINS[name]
    args = twins.draw(twin, dict(zip("TBDHV", (*SIZE, 6), strict=True)), np.random.default_rng(1))
    n = len(twin.args)
    y, vjp = jax.vjp(lambda *a: twin.stage(*a, *args[n:]), *args[:n])
    dy = normal_like(11, y)  # no number of the arguments
    found = twins.cotangents(twin, args, y, dy)
    assert [d is None for d in found] == [name is None for name in twins.answers(twin)]
    assert len(found) == len(inspect.signature(twin.stage).bind(*args).args)
    for got, want in zip(found, vjp(dy), strict=False):
        if got is not None:
            assert_close(got, want)


FILES = ("step", "packed", "between", "gated", "activations", "readout", "losses")


def test_every_twin_of_the_derivation_has_a_row():
    files = [getattr(stages, name) for name in FILES]
    found = {name[:-4] for file in files for name in vars(file) if name.endswith("_bwd")}
    assert found == {name.split(" ")[0] for name in stages.TWINS}


TOKENS = RNG.integers(0, D, (T, B))
ONE_HOT = np.eye(D)[TOKENS]


def test_tokens_and_one_hot_rows_are_the_same():
    E = some(D, H)
    by_token = value_and_cotangents(lambda E: jl.embedding(E, TOKENS), (E,))
    by_row = value_and_cotangents(lambda E: jl.embedding(E, ONE_HOT), (E,))
    assert_same(by_token[0], by_row[0])
    assert_close(by_token[1], by_row[1], 1e-15)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 200, 513])
def test_weight_half_of_linear_adds_every_row_once(rows):
    x, dy = some(rows, 3), some(rows, 5)
    assert_close(stages.linear_bwd_weight(x, dy), x.T @ dy)


# Sequences: every option, every cell ------------------------------------------------------------

MASK = RNG.random((T, B)) < 0.6
RESETS = RNG.random((T, B)) < 0.4
OPTIONS = {
    "plain": {},
    "reverse": {"reverse": True},
    "unroll": {"unroll": 3},
    "residuals=2": {"residuals": 2},
    "residuals=3 reverse": {"residuals": 3, "reverse": True},
    "residuals=100": {"residuals": 100},
    "residuals=auto": {"residuals": "auto"},
    "lengths": {"lengths": np.array([0, 4])},
    "lengths reverse": {"lengths": np.array([T, 3]), "reverse": True},
    "mask": {"mask": MASK},
    "mask and lengths, auto": {"mask": MASK, "lengths": np.array([6, 2]), "residuals": "auto"},
    "resets": {"resets": RESETS},
    "resets, mask, reverse": {"resets": RESETS, "mask": MASK, "reverse": True},
    "resets, residuals": {"resets": RESETS, "residuals": 3},
    "log": {"residuals": "log"},
    "sort": {"sort": True, "lengths": np.array([2, 5]), "residuals": 2},
    "resets, mask, reverse, log": {
        "resets": RESETS,
        "mask": MASK,
        "reverse": True,
        "residuals": "log",
    },
}


def test_each_cell_has_its_turn():
    """Of the options of a sequence each cell meets one in every whole run: see conftest."""
    assert len(OPTIONS) >= SHARE


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_every_cotangent_of_a_sequence(cell, options):
    row, options = CELLS[cell], OPTIONS[options]
    args = problem(row)
    assert_close(
        value_and_cotangents(lambda *a: row.sequence(*a, **options), args),
        value_and_cotangents(lambda *a: row.sequence_autodiff(*a, **options), args),
    )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_resets_to_a_given_state(cell, reverse):
    """The reset state has a cotangent of its own, and the episodes are sequences of their own."""
    row = CELLS[cell]
    params, state, xs = problem(row)
    fresh = normal_like(5, state)

    def over(sequence):
        def f(params, state, xs, fresh):
            options = {"resets": RESETS, "reset_state": fresh, "reverse": reverse}
            return sequence(params, state, xs, mask=MASK, **options)

        return f

    args = (params, state, xs, fresh)
    want = value_and_cotangents(over(row.sequence_autodiff), args)
    assert_close(value_and_cotangents(over(row.sequence), args), want)
    one = jnp.zeros((T, B), bool).at[3].set(True)
    last, hs = row.sequence(params, state, xs, resets=one, reset_state=fresh)
    first, second = row.sequence(params, state, xs[:3]), row.sequence(params, fresh, xs[3:])
    assert_close((last, hs), (second[0], jnp.concatenate([first[1], second[1]])))


@pytest.mark.half
@pytest.mark.parametrize("batch", [(), (2, 3), (0,)], ids=str)
@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize("cell", CELLS)
def test_any_batch_axes_and_few_steps(cell, steps, batch):
    row = CELLS[cell]
    args = problem(row, (steps, B, D, H), batch=batch)
    assert_close(
        value_and_cotangents(row.sequence, args),
        value_and_cotangents(row.sequence_autodiff, args),
    )


@pytest.mark.parametrize("cell", CELLS)
def test_long_sequences_are_cut_into_segments(cell):
    """T = 67 makes several segments and a longer last one, also where the size rule decides."""
    row = CELLS[cell]
    args = problem(row, (67, 40, D, 33))
    assert_close(
        value_and_cotangents(row.sequence, args),
        value_and_cotangents(row.sequence_autodiff, args),
    )


@pytest.mark.parametrize("cell", CELLS)
def test_three_routes_to_one_gradient(cell):
    row = CELLS[cell]
    args = problem(row)

    def step_by_step(params, state, xs):
        return jax.lax.scan(lambda state, x: row.step(params, state, x), state, xs)

    want = value_and_cotangents(row.sequence_autodiff, args)
    assert_close(value_and_cotangents(step_by_step, args), want)
    assert_close(value_and_cotangents(row.sequence, args), want)


@pytest.mark.parametrize("batch", [(), (2,), (3, 2)], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_one_step(cell, batch):
    row = CELLS[cell]
    params, state, xs = problem(row, batch=batch)
    args = (params, state, xs[0])
    want = value_and_cotangents(row.step_autodiff, args)
    assert_close(value_and_cotangents(row.step, args), want)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)], ids=str)
def test_textbook_is_the_same_gradient(batch):
    args = params, state, xs = problem(CELLS["lstm"], batch=batch)
    ((last, hs), (dparams, dstate, dxs)) = value_and_cotangents(jl.lstm, args, seed=3)
    dlast, dhs = normal_like(3, (last, hs))
    slow = textbook.from_packed(*params)
    steps = textbook.forward(slow, xs, *state)
    g = textbook.backward(slow, steps, dhs, *dlast)
    assert_close(jnp.stack([s["h"] for s in steps]), hs)
    assert_close((steps[-1]["h"], steps[-1]["c"]), tuple(last))
    assert_close((*textbook.to_packed(g.dparams), g.dxs), (*dparams, dxs))
    assert_close((g.dh0, g.dc0), tuple(dstate))


def test_one_function_called_twice_agrees_to_the_bit():
    args = problem(CELLS["lstm"])
    assert_same(value_and_cotangents(jl.lstm, args), value_and_cotangents(jl.lstm, args))


def test_nothing_happens_in_no_time():
    params, state, xs = problem(CELLS["lstm"], (0, B, D, H))
    (last, hs), (dparams, dstate, dxs) = value_and_cotangents(jl.lstm, (params, state, xs), seed=4)
    assert_same(last, state)
    assert hs.shape == (0, B, H)
    assert dxs.shape == xs.shape
    assert_same(dparams, jax.tree.map(jnp.zeros_like, params))
    assert_same(dstate, normal_like(4, (last, hs))[0])


# Masks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("cell", CELLS)
def test_padding_reaches_nothing(cell, garbage):
    row = CELLS[cell]
    params, state, xs = problem(row)
    clean = value_and_cotangents(lambda *a: row.sequence(*a, mask=MASK), (params, state, xs))
    dirty = jnp.where(MASK[..., None], xs, garbage)
    got = value_and_cotangents(lambda *a: row.sequence(*a, mask=MASK), (params, state, dirty))
    assert_same(got, clean)


def test_length_zero_is_the_initial_state():
    args = (_, state, _) = problem(CELLS["lstm"])
    f = lambda *a: jl.lstm(*a, lengths=jnp.zeros(B, jnp.int32))
    (last, hs), (dparams, dstate, dxs) = value_and_cotangents(f, args, seed=5)
    assert_same(last, state)
    assert_same(dstate, normal_like(5, (last, hs))[0])
    for zero in (hs, *dparams, dxs):
        assert not zero.any()


@pytest.mark.parametrize("reverse", [False, True])
def test_lengths_are_shorter_sequences(reverse):
    params, state, xs = problem(CELLS["lstm"])
    last, hs = jl.lstm(params, state, xs, lengths=jnp.asarray([3, T]), reverse=reverse)
    short = jax.tree.map(lambda s: s[0], state)
    want, want_hs = jl.lstm(params, short, xs[:3, 0], reverse=reverse)
    assert_close(jax.tree.map(lambda s: s[0], last), want)
    assert_close(hs[:3, 0], want_hs)
    assert not hs[3:, 0].any()


@pytest.mark.parametrize("cell", CELLS)
def test_bad_rows_stay_alone(cell):
    """NaN in one row reaches no other row's outputs, dxs or dstate: they are equal to the bit."""
    row = CELLS[cell]
    params, state, xs = problem(row)
    clean = value_and_cotangents(row.sequence, (params, state, xs))
    bad = value_and_cotangents(row.sequence, (params, state, xs.at[2, 0].set(jnp.nan)))
    assert np.isnan(bad[0][1][2:, 0]).all()
    for got, want in (
        (bad[0][1], clean[0][1]),
        (bad[1][2], clean[1][2]),
    ):
        assert_same(got[:, 1], want[:, 1])
    other = lambda tree: jax.tree.map(lambda s: s[1], tree)
    assert_same(other((bad[0][0], bad[1][1])), other((clean[0][0], clean[1][1])))
