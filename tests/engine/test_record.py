"""What the record promises beyond the package's own cells: optional parts, wrappers, names."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.routes import make_init_state
from jax_lstm.stages import tanh, tanh_bwd
from tests.tables import CELLS, SIZE, assert_close, normal_like, problem, value_and_cotangents

T, B, D, H = SIZE


# `prepare` as a stage: U of rank one, U = u vᵀ --------------------------------------------------


class RankParams(NamedTuple):
    W: jax.Array
    u: jax.Array
    v: jax.Array


class Dense(NamedTuple):
    W: jax.Array
    U: jax.Array


class State(NamedTuple):
    h: jax.Array


def weights_bwd(w, xs, prevs, saved, das):
    """The cotangent of what `prepare` made, not of the parameters."""
    outer = lambda x, y: jnp.einsum("tbi,tbj->ij", x, y)
    return Dense(outer(xs, das), outer(prevs.h, das)), das @ w.W.T


def prepare_bwd(params, dw):
    return RankParams(dw.W, dw.U @ params.v, params.u @ dw.U), None


def step(w, prev, z):
    h = tanh(z + prev.h @ w.U)
    return State(h), h


def step_bwd(w, prev, h, dstate):
    da = tanh_bwd(h, dstate.h)
    return State(da @ w.U.T), da


LOW_RANK = Cell(
    name="low rank",
    params=RankParams,
    state=State,
    shapes=(("W", "D,H"), ("u", "H"), ("v", "H")),
    fields=(("h", "H"),),
    prepare=lambda params, consts: Dense(params.W, jnp.outer(params.u, params.v)),
    prepare_bwd=prepare_bwd,
    project=lambda w, xs: xs @ w.W,
    step=step,
    step_bwd=step_bwd,
    weights_bwd=weights_bwd,
)


def low_rank_problem():
    shapes = RankParams(jnp.zeros((D, H)), jnp.zeros(H), jnp.zeros(H))
    params = normal_like(0, shapes)
    return params, State(normal_like(1, jnp.zeros((B, H)))), normal_like(2, jnp.zeros((T, B, D)))


@pytest.mark.parametrize("residuals", ["full", 3])
def test_back_through_prepare(residuals):
    by_hand, by_jax = jl.make_rnn(LOW_RANK)
    args = low_rank_problem()
    got = value_and_cotangents(lambda *a: by_hand(*a, residuals=residuals), args)
    assert_close(got, value_and_cotangents(by_jax, args))
    step_by_hand, step_by_jax = jl.make_cell(LOW_RANK)
    one = (*args[:2], args[2][0])
    assert_close(value_and_cotangents(step_by_hand, one), value_and_cotangents(step_by_jax, one))


# Fields that zoneout may not hold, and fields of other shapes -----------------------------------


class ClockState(NamedTuple):
    h: jax.Array
    t: jax.Array


def clock_step(w, prev, z):
    h = tanh(z + prev.h @ w.U) * jnp.cos(prev.t)
    return ClockState(h, prev.t + 1), (h, prev.t)


def clock_step_bwd(w, prev, saved, dstate):
    h, t = saved
    a = h / jnp.cos(t)
    da = tanh_bwd(a, dstate.h * jnp.cos(t))
    dt = -(dstate.h * a * jnp.sin(t)).sum(-1, keepdims=True) + dstate.t
    return ClockState(da @ w.U.T, dt), da


CLOCK = Cell(
    name="clock",
    params=Dense,
    state=ClockState,
    shapes=(("W", "D,H"), ("U", "H,H")),
    fields=(("h", "H"), ("t", "1")),
    project=lambda w, xs: xs @ w.W,
    step=clock_step,
    step_bwd=clock_step_bwd,
    weights_bwd=weights_bwd,
    kept=("h",),
)


def clock_problem():
    params = normal_like(0, Dense(jnp.zeros((D, H)), jnp.zeros((H, H))), 0.4)
    state = ClockState(normal_like(1, jnp.zeros((B, H))), jnp.zeros((B, 1)))
    return params, state, normal_like(2, jnp.zeros((T, B, D)))


@pytest.mark.parametrize("options", [{}, {"lengths": np.array([7, 3])}, {"residuals": 2}], ids=str)
def test_a_clock_is_a_field_of_the_state(options):
    by_hand, by_jax = jl.make_rnn(CLOCK)
    args = clock_problem()
    got = value_and_cotangents(lambda *a: by_hand(*a, **options), args)
    options.pop("residuals", None)
    assert_close(got, value_and_cotangents(lambda *a: by_jax(*a, **options), args))


def test_zoneout_holds_what_the_cell_lets_it_hold():
    params, state, xs = clock_problem()
    masks = jl.zoneout_masks(jax.random.key(0), 0.5, state, T, fields=CLOCK.kept)
    assert len(masks) == 1
    by_hand, by_jax = jl.make_rnn(jl.zoneout(CLOCK))
    run = lambda f: lambda params, state, xs: f(params, state, (xs, masks))
    args = (params, state, xs)
    got = value_and_cotangents(run(by_hand), args)
    assert got[0][0].t.tolist() == [[T], [T]]  # the clock went on
    assert_close(got, value_and_cotangents(run(by_jax), args))
    with pytest.raises(ValueError, match="`masks` must be a tuple of 1, for h"):
        by_hand(params, state, (xs, (masks[0], masks[0])))


# Records are compared, and made once ------------------------------------------------------------


def test_equal_makes_are_equal():
    """JAX caches by the record: a cell made anew compiles nothing again."""
    for name in CELLS:
        cell = CELLS[name].cell
        assert jl.zoneout(cell) is jl.zoneout(cell)
        assert jl.recurrent_dropout(cell) is jl.recurrent_dropout(cell)
        assert hash(cell) == hash(cell._replace())


def test_wrappers_wrap_the_plain_step_as_well():
    for wrap in (jl.zoneout, jl.recurrent_dropout):
        assert wrap(jl.LSTM).step_for_jax is not None
        assert wrap(jl.ELMAN).step_for_jax is None


@pytest.mark.parametrize("wrap", [jl.zoneout, jl.recurrent_dropout])
def test_the_same_masks_twice_are_refused(wrap):
    with pytest.raises(ValueError, match="has such masks already"):
        wrap(wrap(jl.LSTM))


# Doors from shapes ------------------------------------------------------------------------------


def test_a_cell_of_one_s_own_has_the_lstm_s_door():
    rnn, _ = jl.make_rnn(LOW_RANK)
    params, state, xs = low_rank_problem()
    own = {
        "`xs` must be (T, ..., D) with D = 3 (rows of params.W); got shape (7, 2, 2)": (
            (params, state, xs[..., 1:])
        ),
        "`params.v` must be (5,), that is (H,) with H = 5": (
            params._replace(v=params.v[1:]),
            state,
            xs,
        ),
        "`params` must be W (D, H), u (H,), v (H,)": (params._replace(u=params.u[None]), state, xs),
        "`state.h` must be (2, 5): the batch axes of xs": (params, State(state.h[:, 1:]), xs),
        "params must share one dtype; W is float64, v is float32": (
            (params._replace(v=params.v.astype(jnp.float32)), state, xs)
        ),
    }
    for message, args in own.items():
        with pytest.raises(ValueError, match=r"^") as error:
            rnn(*args)
        assert message in str(error.value)


@pytest.mark.parametrize("name", CELLS)
def test_every_leaf_of_every_cell_is_looked_at(name):
    row = CELLS[name]
    params, state, xs = problem(row)
    for key in params._fields:
        wrong = params._replace(**{key: getattr(params, key)[..., 1:]})
        with pytest.raises(ValueError, match=r"must be "):
            row.sequence(wrong, state, xs)
    for key in state._fields:
        wrong = state._replace(**{key: getattr(state, key)[..., 1:]})
        with pytest.raises(ValueError, match=rf"`state.{key}` must be "):
            row.sequence(params, wrong, xs)


def test_a_cell_without_shapes_says_what_it_lacks():
    init_state = make_init_state(LOW_RANK._replace(shapes=(), fields=()))
    params = low_rank_problem()[0]
    with pytest.raises(ValueError, match="says neither `init_state` nor `shapes` and `fields`"):
        init_state(params)


def test_letters_that_stand_in_no_shape_alone():
    """A sum gives its last letter; a letter of the fields alone is the cell's own business."""
    wide_enough = LOW_RANK._replace(
        shapes=(("W", "D,H"), ("u", "H+R"), ("v", "H")), fields=(("h", "R"),)
    )
    params = RankParams(jnp.zeros((D, H)), jnp.zeros(H + 2), jnp.zeros(H))
    assert make_init_state(wide_enough)(params, (B,)).h.shape == (B, 2)
    init_state = make_init_state(LOW_RANK._replace(fields=(("h", "Q"),)))
    params = low_rank_problem()[0]
    with pytest.raises(ValueError, match="Q in the fields of the cell low rank stands in no shape"):
        init_state(params)
    rnn, _ = jl.make_rnn(LOW_RANK)
    state = State({"not": "an array"})
    with pytest.raises(ValueError, match="must be arrays"):
        rnn(params, state, low_rank_problem()[2])


def test_tangents_of_a_step_that_was_replaced_are_left_out():
    """Those of the old step would make second derivatives and forward mode wrong, and say nothing;
    what is left out is derived."""
    tangents = ("step_jvp", "weights_jvp", "saved_jvp", "second")
    assert all(getattr(jl.LSTM, k) for k in tangents)
    assert jl.LSTM._replace(name="mine")[1:] == jl.LSTM[1:]
    changed = dict.fromkeys(
        ("prepare", "project", "step", "slopes", "step_bwd", "weights_bwd"), step
    )
    for name, function in changed.items():
        cell = jl.LSTM._replace(**{name: function})
        assert type(cell) is Cell
        assert [getattr(cell, k) for k in tangents] == [None] * 4, name
        assert (cell.step_for_jax is None) == (name == "step")
    kept = jl.LSTM._replace(step=step, step_jvp=step_bwd, step_for_jax=step)
    assert (kept.step_jvp, kept.saved_jvp, kept.step_for_jax) == (step_bwd, None, step)
    for made in (jl.in_heads(jl.LSTM, 2), jl.zoneout(jl.LSTM), jl.recurrent_dropout(jl.LSTM)):
        assert [getattr(made, k) for k in tangents] == [None] * 4, made.name
