"""Resets by one rule: in an acting loop of steps and in a training sequence, in every form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jax_lstm as jl
from jax_lstm.engine.doors import check_resets
from tests.tables import CELLS, QUICK, assert_close, normal_like, problem, value_and_cotangents

T, B, A = 4, 2, 3  # A agents in each of B environments
RESETS = np.arange(T * B).reshape(T, B) % 3 == 0


def inputs(cell, batch=(B,)):
    """params, state, xs, and where resets lead to."""
    row = CELLS[cell]
    args = problem(row, size=(T, B, 3, 5), batch=batch)
    return *args, normal_like(7, args[1])


def loop(step, params, state, xs, fresh, resets):
    """An acting loop: the environment says at each step whether an episode has ended before it."""

    def body(state, now):
        x, reset = now
        return step(params, state, x, resets=reset, reset_state=fresh)

    return lax.scan(body, state, (xs, resets))


@pytest.mark.parametrize("cell", CELLS)
def test_a_loop_of_steps_is_the_sequence(cell):
    """By hand and by JAX; dones are floats, as environments give them."""
    row, args, dones = CELLS[cell], inputs(cell), jnp.asarray(RESETS, jnp.float32)
    whole = lambda p, s, xs, fresh: row.sequence(p, s, xs, resets=RESETS, reset_state=fresh)
    want = value_and_cotangents(whole, args, options=QUICK)
    for step in (row.step, row.step_autodiff):
        f = functools.partial(loop, step, resets=dones)
        assert_close(value_and_cotangents(f, args, options=QUICK), want)


def test_a_reset_leads_to_zeros_and_lets_nothing_back():
    """NaN in the state of an ended episode reaches neither what follows nor a gradient."""
    params, state, xs, _ = inputs("lstm")
    broken = jax.tree.map(lambda x: x.at[0].set(jnp.nan), state)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def gradient(state, resets):
        def loss(params, state):
            return jl.lstm_cell(params, state, xs[0], resets=resets)[1].sum()

        return jax.grad(loss, (0, 1))(params, state)

    zeros = jax.tree.map(lambda x: x.at[0].set(0), state)
    dparams, dstate = gradient(broken, [1, 0])
    assert_close(dparams, gradient(zeros, [0, 0])[0])
    assert all((x[0] == 0).all() for x in jax.tree.leaves(dstate))


# Forms ----------------------------------------------------------------------------------------

FORMS = {
    "booleans": RESETS,
    "a list": RESETS.tolist(),
    "numbers in a list": RESETS.astype(int).tolist(),
    **{dtype: RESETS.astype(dtype) for dtype in ("int32", "uint8", "float32", "float64")},
    "bfloat16": jnp.asarray(RESETS, jnp.bfloat16),
    "negative zero": np.where(RESETS, 1.0, -0.0),
}


@pytest.mark.parametrize("form", FORMS)
def test_zeros_and_ones_are_as_good_as_booleans(form):
    got = check_resets(FORMS[form], (T,), (B,))
    assert got.dtype == bool
    np.testing.assert_array_equal(got, RESETS)
    traced = jax.jit(lambda x: check_resets(x, (T,), (B, A)))(jnp.asarray(FORMS[form]))
    np.testing.assert_array_equal(traced, np.repeat(RESETS[..., None], A, axis=-1))


BAD = {
    "two": (RESETS * 2, "`resets` must be boolean, or 0 and 1; got 2"),
    "minus one": (-RESETS.astype(int), "got -1"),
    "a half": (RESETS / 2, "or 0 and 1; got 0.5"),
    "NaN": (np.where(RESETS, np.nan, 0), "or 0 and 1; got nan"),
    "infinity": (np.where(RESETS, np.inf, 0), "or 0 and 1; got inf"),
    "complex": (RESETS.astype("complex64"), r"boolean \(T, ...\) = \(4, 2, 3\); got complex64"),
    "words": ("done", r"= \(4, 2, 3\); got 'done'"),
    "time alone": (RESETS[:, 0], r"= \(4, 2, 3\); got bool \(4,\)"),
    "agents first": (np.ones((T, A), bool), r"got bool \(4, 3\)"),
    "an axis of 1": (RESETS[..., None], r"got bool \(4, 2, 1\)"),
    "an axis more": (np.ones((T, B, A, 1), bool), r"got bool \(4, 2, 3, 1\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_other_resets_are_refused(case):
    resets, match = BAD[case]
    with pytest.raises(ValueError, match=match):
        check_resets(resets, (T,), (B, A))


def test_every_way_takes_dones_of_environments_with_agents():
    """(T, B) dones for (T, B, A, D), in the sequence, a step, a stack, and a truncated sequence."""
    params, state, xs, fresh = inputs("lstm", (B, A))
    layers = jl.StackParams(((params,),))
    whole = np.repeat(RESETS[..., None], A, axis=-1)
    ways = {
        "lstm": lambda r: jl.lstm(params, state, xs, resets=r, reset_state=fresh),
        "lstm_cell": lambda r: jl.lstm_cell(params, state, xs[0], resets=r[0], reset_state=fresh),
        "stack": lambda r: jl.stack(layers, ((state,),), xs, resets=r, reset_states=((fresh,),)),
        "a step of a stack": lambda r: jl.stack(
            *(layers, ((state,),), xs[0]),
            resets=r[0],
            reset_states=((fresh,),),
            sequence=jl.lstm_cell,
        ),
        "tbptt": lambda r: jl.tbptt(1, 2)(params, state, xs, resets=r, reset_state=fresh),
    }
    both = {name: jax.jit(run, compiler_options=QUICK) for name, run in ways.items()}
    for name, run in both.items():
        got, want = run(jnp.asarray(RESETS, jnp.int32)), run(jnp.asarray(whole))
        assert_close(got, want), name
        with pytest.raises(ValueError, match="`resets` must be boolean, or 0 and 1; got 3"):
            ways[name](3 * RESETS)


def test_a_step_says_what_is_wrong():
    params, state, xs, _ = inputs("lstm")
    with pytest.raises(ValueError, match=r"boolean \(...\) = \(2,\); got bool \(4, 2\)"):
        jl.lstm_cell(params, state, xs[0], resets=RESETS)
    with pytest.raises(ValueError, match="`reset_state` is where `resets` lead to"):
        jl.lstm_cell(params, state, xs[0], reset_state=state)
    one = jax.tree.map(lambda x: x[0], state)
    assert jl.lstm_cell(params, one, xs[0, 0], resets=True)[1].shape == (5,)
    with pytest.raises(ValueError, match=r"= \(\); got bool \(2,\)"):
        jl.lstm_cell(params, one, xs[0, 0], resets=RESETS[0])
