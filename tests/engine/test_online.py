"""Exact online gradients: equal to backpropagation through all of time, in constant memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm.engine.online import owned
from tests.tables import CELLS, assert_close, normal_like, problem, quick_jit

TOLERANCE = 1e-10
T, B, D, H = SIZE = 6, 2, 3, 4
MASK = np.arange(T)[:, None] < np.array([T, 4])
RESETS = np.arange(T * B).reshape(T, B) % 5 == 3
DIAGONAL = [name for name, row in CELLS.items() if row.cell.diagonal]
QUICK = ("indy_lstm",)
every = pytest.mark.parametrize(
    "name", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in DIAGONAL]
)


def in_chunks(K, x):
    return jnp.asarray(x).reshape(T // K, K, *x.shape[1:])


def online_gradient(cell, K, params, state, xs, dy):
    """Σ of the gradients of the chunks, and dxs of each through its own chunk."""
    begin, advance = jl.make_online(cell)

    def chunk(carry, now):
        online, total = carry
        x, d, mask, resets = now

        def loss(params, x):
            flags = {"mask": mask, "resets": resets, "reset_state": state}
            after, hs = advance(params, online, x, **flags)
            return jnp.vdot(hs, d), (after, hs)

        (dparams, dx), (online, hs) = jax.grad(loss, (0, 1), has_aux=True)(params, x)
        return (online, jax.tree.map(jnp.add, total, dparams)), (hs, dx)

    chunks = [in_chunks(K, x) for x in (xs, dy, MASK, RESETS)]
    zeros = jax.tree.map(jnp.zeros_like, params)
    carry, (hs, dxs) = jax.lax.scan(chunk, (begin(params, state), zeros), chunks)
    return *carry, hs.reshape(T, B, H), dxs.reshape(xs.shape)


def problem_of(name):
    return *problem(CELLS[name], SIZE, scale=2.0), normal_like(8, jnp.zeros((T, B, H)))


@every
def test_equal_to_backpropagation_through_time(name):
    """In chunks of one step and of three, lengths and resets on."""
    row = CELLS[name]
    params, state, xs, dy = problem_of(name)

    def whole(params):
        flags = {"mask": MASK, "resets": RESETS, "reset_state": state}
        last, hs = row.sequence(params, state, xs, **flags)
        return jnp.vdot(hs, dy), (last, hs)

    def everything(params, state, xs, dy):
        chunks = [online_gradient(row.cell, K, params, state, xs, dy) for K in (1, 3)]
        return chunks, jax.grad(whole, has_aux=True)(params)

    chunks, (dparams, (last, hs)) = quick_jit(everything)(params, state, xs, dy)
    for online, total, outputs, _ in chunks:
        assert_close(total, dparams, TOLERANCE)
        assert_close((online.state, outputs), (last, hs), TOLERANCE)
    assert_close(chunks[0][0].influence, chunks[1][0].influence, TOLERANCE)


def test_which_parameters_have_an_influence():
    """A unit's own columns; what units share, as V of the element-wise LSTM, has no past."""
    assert set(DIAGONAL) == {"ind_rnn", "indy_lstm", "elementwise_lstm", "min_gru", "min_lstm"}
    assert owned(jl.ELEMENTWISE_LSTM) == {"W": 3, "b": 3, "u": 2}
    assert owned(jl.IND_RNN) == {"W": 1, "u": 1, "b": 1}
    params, state, *_ = problem_of("elementwise_lstm")
    online = jl.make_online(jl.ELEMENTWISE_LSTM).begin(params, state)
    assert online.influence["c"]["W"].shape == (B, D, 3 * H)


def test_memory_does_not_grow_with_the_stream():
    """Temporary bytes of the program; the counter of steps is in the carry."""
    begin, advance = jl.make_online(jl.IND_RNN)
    params, state, *_ = problem_of("ind_rnn")

    def run(steps, params, state):
        def step(carry, _):
            online, total, t = carry

            def loss(params):
                x = jnp.broadcast_to(jnp.sin(t), (1, B, D))
                after, hs = advance(params, online, x)
                return (hs**2).sum(), after

            dparams, online = jax.grad(loss, has_aux=True)(params)
            return (online, jax.tree.map(jnp.add, total, dparams), t + 1), None

        carry = (begin(params, state), jax.tree.map(jnp.zeros_like, params), jnp.zeros(()))
        return jax.lax.scan(step, carry, None, length=steps)[0][1]

    def bytes_of(steps):
        program = quick_jit(functools.partial(run, steps)).lower(params, state).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert bytes_of(100_000) <= bytes_of(10)


def test_doors():
    params, state, xs, _ = problem_of("ind_rnn")
    with pytest.raises(ValueError, match="`cell` must be a Cell whose units see their own past"):
        jl.make_online(jl.LSTM)
    begin, advance = jl.make_online(jl.IND_RNN)
    with pytest.raises(ValueError, match=r"`state.h` must be \(2, 4\)"):
        begin(params, state._replace(h=state.h[:, :3]))
    online = begin(params, state)
    with pytest.raises(ValueError, match="`online` must be an Online"):
        advance(params, state, xs)
    less = online.influence["h"] | {"u": jnp.zeros(3)}
    with pytest.raises(ValueError, match=r"`online.influence\['h'\]\['u'\]` must be float64"):
        advance(params, online._replace(influence={"h": less}), xs)
    assert jl.make_online(jl.IND_RNN) == jl.make_online(jl.IND_RNN)
    with pytest.raises(TypeError, match="goes backward only"):
        jax.jvp(lambda p: advance(p, online, xs)[1], (params,), (params,))
