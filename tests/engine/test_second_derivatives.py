"""Derivatives of derivatives: what tangents.py makes of the loops, against JAX's of the twin."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jax_lstm as jl
from tests.engine.test_compiled import temp_bytes
from tests.programs import gradient, loss_of
from tests.tables import (
    AS_FOR_USERS,
    CELLS,
    assert_close,
    errors,
    normal_like,
    plain_scan,
    quick_jit,
)
from tests.tables import problem as problem_of

T, B, D, H = SIZE = (5, 2, 2, 3)
RESETS = np.array([[0, 1], [0, 0], [1, 0], [0, 1], [1, 0]], bool)
FLAGS = {"lengths": np.array([T, 0]), "resets": RESETS, "reverse": True}


def second(loss, args):
    """Reverse over reverse, and forward over reverse."""
    gradients = gradient(loss)
    outer = lambda *args: sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(gradients(*args)))
    return jax.grad(outer, (0, 1, 2))(*args), jax.jvp(gradients, args, normal_like(3, args))[1]


def both_of(cell, residuals):
    """Ours and the twin's, with resets, and NaN in an example of length 0."""
    params, state, xs = problem_of(CELLS[cell], SIZE)
    args = params, state, xs.at[:, 1].set(jnp.nan)
    flags = FLAGS | {"reset_state": normal_like(5, state)}
    row = CELLS[cell]
    ours = functools.partial(row.sequence, residuals=residuals)
    return [
        quick_jit(lambda args, f=f: second(loss_of(f, **flags), args))(args)
        for f in (ours, row.sequence_autodiff)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "residuals"),
    [(cell, mode) for cell in CELLS for mode in ("full", 2)],
)
def test_with_resets_and_nan_where_an_example_is_empty(cell, residuals):
    got, want = both_of(cell, residuals)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(got))
    assert_close(got, want)


LSTM_FILE = importlib.import_module("jax_lstm.cells.lstm")
MUTANTS = {
    "the step's tangent: without dc": ("step_jvp", lambda new: new._replace(h=new.h - new.c / 9)),
    "the step's tangent: c": ("step_jvp", lambda new: new._replace(c=new.c * (1 + 1e-9))),
    "what the weights put in": ("weights_jvp", lambda a_dot: a_dot * (1 + 1e-9)),
    "what the gates saved": ("saved_jvp", lambda dots: (dots[0] * (1 + 1e-9), *dots[1:])),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_tangent_is_seen(name):
    field, change = MUTANTS[name]
    right = getattr(LSTM_FILE, field)
    cell = jl.LSTM._replace(**{field: lambda *args: change(right(*args))})
    args = problem_of(CELLS["lstm"], SIZE)
    broken = jl.make_rnn(cell)[0]
    got, want = (
        quick_jit(lambda args, f=f: second(loss_of(f), args))(args) for f in (broken, jl.lstm)
    )
    assert max(errors(got, want).values()) > 1e-11


def compiled_second(sequence, size, **options):
    T, B, H = size
    f32 = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    params = jl.LSTMParams(f32(H, 4 * H), f32(H, 4 * H), f32(4 * H))
    args = params, jl.LSTMState(f32(B, H), f32(B, H)), f32(T, B, H)
    run = lambda args: second(loss_of(sequence, **options), args)[0]
    return jax.jit(run).lower(args).compile(AS_FOR_USERS)


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_grad_of_grad_needs_less_memory_than_of_a_plain_scan():
    """Wanted 1.2 of the plain scan's bytes, reached 0.48; where steps are run again, wanted 1.1 of
    the bytes of `jax.checkpoint(body)`, reached 0.88."""
    size = (1024, 8, 64)

    def checkpointed(params, state, xs):
        step = jax.checkpoint(lambda state, x: jl.lstm_cell_autodiff(params, state, x))
        return lax.scan(step, state, xs)

    full, plain = (temp_bytes(compiled_second(f, size)) for f in (jl.lstm, plain_scan))
    assert full <= 0.6 * plain
    theirs = temp_bytes(compiled_second(checkpointed, size))
    assert temp_bytes(compiled_second(jl.lstm, size, residuals=2)) <= theirs
