"""`sort=True`: rows that are over are not run, and nothing else changes."""

import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm.engine.ragged import row_counts
from tests.derivatives import grad_of_grad, hvp
from tests.programs import loss_of, value_and_grad, vmap_of_grad
from tests.tables import CELLS, assert_close, normal_like, problem, quick_jit

T, B = 37, 7  # no whole segments: there are three of 16 steps
LENGTHS = np.array([3, 37, 0, 5, 20, 11, 1])


def both_of(loss_if, args, *ways):
    """Ways of a loss, sorted and not, by one program."""
    run = lambda args: [[way(loss_if(sort), args) for way in ways] for sort in (True, False)]
    return quick_jit(run)(args)


def with_flags(cell, **options):
    """`loss_if(sort)` of a run with all flags and of what resets lead to; its arguments."""
    row = CELLS[cell]
    params, state, xs = problem(row, (T, B, 2, 3))
    rng = np.random.default_rng(0)
    flags = {"mask": rng.random((T, B)) < 0.9, "resets": rng.random((T, B)) < 0.03}
    flags |= {"lengths": LENGTHS, **options}

    def loss_if(sort):
        def sequence(both, state, xs):
            params, fresh = both
            return row.sequence(params, state, xs, **flags, reset_state=fresh, sort=sort)

        return loss_of(sequence)

    return loss_if, ((params, normal_like(5, state)), state, xs)


@pytest.mark.parametrize(
    "options",
    [{}, pytest.param({"reverse": True, "residuals": "auto"}, marks=pytest.mark.slow)],
    ids=str,
)
def test_the_order_is_the_users_and_resets_act_in_padding_too(options):
    assert_close(*both_of(*with_flags("elman", **options), value_and_grad))


@pytest.mark.slow
def test_second_derivatives():
    """Forward over reverse, and reverse over reverse."""
    assert_close(*both_of(*with_flags("elman"), hvp, grad_of_grad))


@pytest.mark.slow
@pytest.mark.parametrize("batch", [(3, 2), (1, 1)], ids=str)
def test_several_axes_of_examples_and_masks_of_recurrent_dropout(batch):
    """A mask for each example is a row as well; one for all of them is none."""
    run = jl.make_rnn(jl.recurrent_dropout(jl.LSTM))[0]
    consts = jnp.arange(6.0).reshape(2, 3) if batch == (3, 2) else jnp.ones((1, 1, 3))
    lengths = np.arange(np.prod(batch)).reshape(batch) % 5
    options = {"lengths": lengths, "residuals": 2, "consts": consts}

    def loss_if(sort):
        return loss_of(lambda *args: run(*args, sort=sort, **options))

    args = problem(CELLS["lstm"], (5, 0, 2, 3), batch=batch)
    assert_close(*both_of(loss_if, args, value_and_grad))


@pytest.mark.slow
def test_under_vmap():
    options = {"lengths": [5, 2, 3], "residuals": 2}

    def loss_if(sort):
        return loss_of(lambda *args: jl.elman(*args, sort=sort, **options))

    args = problem(CELLS["elman"], (5, 4, 2, 3), batch=(4, 3))
    assert_close(*both_of(loss_if, args, vmap_of_grad))


def test_the_numbers_of_rows_that_have_a_loop():
    assert row_counts(16) == [(12, 16), (8, 12), (4, 8), (0, 4)]
    assert row_counts(3) == [(2, 3), (1, 2), (0, 1)]
    assert row_counts(1) == [(0, 1)]


def test_what_is_refused():
    params, state, xs = problem(CELLS["elman"], (3, 2, 2, 3))
    run = lambda **options: jl.elman(params, state, xs, lengths=[3, 1], **options)
    with pytest.raises(ValueError, match="`sort` must be True or False; got 1"):
        run(sort=1)
    with pytest.raises(ValueError, match='`sort` must be False with `residuals="log"`'):
        run(sort=True, residuals="log")
    free = jl.make_rnn(jl.ELMAN._replace(consts="any"))[0]
    with pytest.raises(ValueError, match="`sort` must be False with `consts`"):
        free(params, state, xs, lengths=[3, 1], sort=True, consts=xs)
