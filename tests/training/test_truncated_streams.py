"""TBPTT of a stream that comes in chunks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jax_lstm as jl
from tests.tables import (
    CELLS,
    SIZE,
    assert_close,
    normal_like,
    problem,
    quick_jit,
)

T, B, D, H = SIZE


def stream_problem(batch=(B,)):
    params, state, _ = problem(CELLS["elman"], SIZE, batch=batch)
    xs = normal_like(5, jax.ShapeDtypeStruct((12, *batch, D), jnp.float64))
    return params, state, xs


def chunk_gradient(advance, params, window, xs, **flags):
    """A chunk's part of dL/dparams for L = Σ h³, and the carry."""

    def loss(params):
        after, hs = advance(params, window, xs, **flags)
        return (hs**3).sum(), after

    return jax.grad(loss, has_aux=True)(params)


@pytest.mark.half
@pytest.mark.parametrize(
    ("k1", "k2", "chunks", "resets"),
    [
        (2, 5, (2, 6, 4), False),
        (2, 5, (6, 6), True),
        (1, 3, (4, 4, 4), False),
        (3, 3, (3, 9), False),
        (4, 5, (12,), False),
    ],
)
def test_the_parts_of_a_stream_add_up(k1, k2, chunks, resets):
    params, state, xs = stream_problem()
    flags = {"resets": jnp.zeros((12, B), bool).at[5, 0].set(True)} if resets else {}
    whole = jl.tbptt(k1, k2, jl.elman)

    def given(params):
        """Where resets lead to is learnt: any function of params."""
        return {"reset_state": jl.ElmanState(jnp.ones((B, 1)) * params.b[None])} if resets else {}

    def at_once(params):
        last, hs = whole(params, state, xs, **given(params), **flags)
        return (hs**3).sum(), last

    want, last = quick_jit(jax.grad(at_once, has_aux=True))(params)
    begin, forth = jl.tbptt_stream(k1, k2, jl.elman)
    advance = lambda params, *now, **flags: forth(params, *now, **given(params), **flags)
    gradient = quick_jit(functools.partial(chunk_gradient, advance))
    window, got, start = begin(state, xs[:1], **flags), jax.tree.map(jnp.zeros_like, params), 0
    shapes = jax.tree.map(jnp.shape, window)
    for size in chunks:
        now = slice(start, start + size)
        more, window = gradient(params, window, xs[now], **{k: v[now] for k, v in flags.items()})
        got, start = jax.tree.map(jnp.add, got, more), start + size
        assert jax.tree.map(jnp.shape, window) == shapes
    assert_close(got, want)
    assert_close(window.state, last)


def test_advance_is_a_body_for_scan():
    params, state, xs = stream_problem()
    begin, advance = jl.tbptt_stream(2, 3, jl.elman)
    body = functools.partial(advance, params)
    window, hs = quick_jit(lambda: lax.scan(body, begin(state, xs), xs.reshape((3, 4, B, D))))()
    last, want = quick_jit(lambda: jl.elman(params, state, xs))()
    assert_close(hs.reshape((12, B, H)), want)
    assert_close(window.state, last)


def test_tokens_are_embedded_inside_so_that_old_ones_get_their_share():
    """A sequence function of one's own around `elman`, with tokens for xs."""
    params, state, _ = stream_problem()
    E = normal_like(3, jax.ShapeDtypeStruct((4, D), jnp.float64))
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 4, (12, B)))

    def sequence(params, state, tokens, *, mask=None):
        E, elman = params
        return jl.elman(elman, state, jl.embedding(E, tokens), mask=mask)

    def loss(params):
        return (
            jl.tbptt(3, 5, jl.elman)(params[1], state, jl.embedding(params[0], tokens))[1] ** 3
        ).sum()

    want = quick_jit(jax.grad(loss))((E, params))
    begin, advance = jl.tbptt_stream(3, 5, sequence)
    gradient = quick_jit(functools.partial(chunk_gradient, advance))
    window, got = begin(state, tokens), jax.tree.map(jnp.zeros_like, want)
    for start in range(0, 12, 3):
        more, window = gradient((E, params), window, tokens[start : start + 3])
        got = jax.tree.map(jnp.add, got, more)
    assert_close(got, want)


def long_stream(k1, k2, chunk, chunks, cell=CELLS["elman"]):
    """The truncated gradient of chunk after chunk of a stream that is made on the way."""
    begin, advance = jl.tbptt_stream(k1, k2, cell.sequence)

    def gradient(params, state):
        def body(carry, _):
            n, window, total = carry
            times = n * chunk + jnp.arange(chunk)
            xs = jnp.sin(0.1 * times.astype(state.h.dtype))[:, None, None] * jnp.ones((1, 1, D))
            more, window = chunk_gradient(advance, params, window, xs)
            return (n + 1, window, jax.tree.map(jnp.add, total, more)), None

        window = begin(state, jax.ShapeDtypeStruct((chunk, 1, D), state.h.dtype))
        carry = (0, window, jax.tree.map(jnp.zeros_like, params))
        (_, window, total), _ = lax.scan(body, carry, length=chunks)
        return window.state, total

    return jax.jit(gradient)


@pytest.mark.slow
def test_a_million_steps_in_constant_memory():
    """The same compiled bytes for ten thousand steps and for a million, and the million is run."""
    params, state, _ = problem(CELLS["elman"], (1, 1, D, H), scale=0.5)
    few, million = (
        long_stream(100, 150, 1000, n).lower(params, state).compile() for n in (10, 1000)
    )
    short, long = (c.memory_analysis() for c in (few, million))
    assert long.temp_size_in_bytes <= short.temp_size_in_bytes
    assert long.temp_size_in_bytes < 2**20
    last, total = million(params, state)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves((last, total)))
    assert float(jnp.abs(total.b).max()) > 1.0
