"""Rounding: float32 and 16-bit gradients against the float64 answer, beside jax.grad's own error.

A single draw compares two roundings, which is a toss; the figures are geometric means over seeds.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm import stages
from tests.tables import (
    AS_FOR_USERS,
    CELLS,
    TOLERANCE,
    assert_close,
    normal_like,
    plain_scan,
    problem,
)

pytestmark = pytest.mark.usefixtures("optimised")

SIZE = (48, 6, 9, 16)
SEEDS = 16


def as_dtype(tree, dtype):
    return jax.tree.map(lambda x: x.astype(dtype), tree)


@functools.cache
def errors_beside_autodiff(dtype, scale, size=SIZE, name="lstm", seeds=SEEDS):
    """Per leaf: (ours / autodiff's), by norm and by the median element, over seeds.

    Autodiff of the LSTM is A0, `jax.grad` of a plain scan with jax.nn.sigmoid and jnp.tanh; the
    twin shares our gates, which are more exact. For 16 bits, where c is float32, and for other
    cells it is the twin.
    """
    row, dtype = CELLS[name], jnp.dtype(dtype)
    plain = name == "lstm" and dtype == jnp.float32
    autodiff = plain_scan if plain else row.sequence_autodiff

    def grads(sequence):
        def f(args, dy):
            return jax.vjp(sequence, *args)[1](dy)

        return jax.jit(jax.vmap(f), compiler_options=AS_FOR_USERS)

    draws = [problem(row, size, dtype, seed, scale) for seed in range(seeds)]
    args = jax.tree.map(lambda *x: jnp.stack(x), *draws)
    dy = normal_like(7, jax.eval_shape(jax.vmap(row.sequence), *args))
    exact = grads(row.sequence_autodiff)(as_dtype(args, jnp.float64), as_dtype(dy, jnp.float64))

    def measure(got):
        def of_leaf(x, y):
            x = np.asarray(x.astype(jnp.float64)).reshape(seeds, -1)
            y = np.asarray(y).reshape(seeds, -1)
            norm = np.linalg.norm(x - y, axis=1) / (np.linalg.norm(y, axis=1) + (x == y).all(1))
            element = np.median(np.abs(x - y) / (np.abs(y) + (x == y)), axis=1)
            return np.exp(np.log(np.stack([norm, element]) + 1e-12).mean(axis=1))

        return [of_leaf(*pair) for pair in zip(*map(jax.tree.leaves, (got, exact)), strict=True)]

    ours = measure(grads(row.sequence)(args, dy))
    theirs = measure(grads(autodiff)(args, dy))
    return np.asarray(ours) / np.asarray(theirs), np.asarray(ours)


@pytest.mark.half
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("float32", 1), ("float32", 4), ("float32", 10)]
    + [(dtype, scale) for dtype in ("bfloat16", "float16") for scale in (1, 4)],
)
def test_as_exact_as_autodiff(dtype, scale):
    """Row 14: at most 1.2 of autodiff's error, by norm and element by element, on every leaf."""
    ratio, _ = errors_beside_autodiff(dtype, scale)
    assert ratio.max() <= 1.2, ratio


@pytest.mark.half
@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_every_cell_rounds_as_autodiff_does(name):
    """The same bound for each cell, at a size that compiles in seconds; the error of a parameter
    that is one number is a toss for each seed, so they are many."""
    ratio, _ = errors_beside_autodiff("float32", 1, (24, 3, 4, 8), name, 256)
    assert ratio.max() <= 1.2, ratio


def test_float32_is_near_float64():
    _, ours = errors_beside_autodiff("float32", 1)
    assert ours.max() <= TOLERANCE["float32"]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_dtypes_are_those_of_the_design(dtype):
    """params, xs and h share a dtype, c is float32 when that has 16 bits, dX has X's dtype."""
    row, dtype = CELLS["lstm"], jnp.dtype(dtype)
    args = _, state, _ = problem(row, dtype=dtype)
    assert state.c.dtype == (jnp.float32 if dtype.itemsize == 2 else dtype)
    for sequence in (row.sequence, row.sequence_autodiff):

        def both(*args, sequence=sequence):
            y, vjp = jax.vjp(sequence, *args)
            return y, vjp(y)

        y, cotangents = jax.eval_shape(both, *args)
        assert y[1].dtype == dtype
        assert [s.dtype for s in y[0]] == [s.dtype for s in state]
        for x, dx in zip(jax.tree.leaves(args), jax.tree.leaves(cotangents), strict=True):
            assert dx.dtype == x.dtype
    assert jl.init_lstm(jax.random.key(0), 2, 3, dtype=dtype).b.dtype == dtype


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits_only_round_what_has_sixteen_bits(dtype):
    """c, gates and sums are float32: a long sum does not stop growing where 16 bits would."""
    dtype = jnp.dtype(dtype)
    params = jl.LSTMParams(*(jnp.zeros(s, dtype) for s in ((1, 4), (1, 4), (4,))))
    params = params._replace(b=jnp.asarray([30, 30, 30, 30], dtype))
    state = jl.init_lstm_state(params)
    last, _ = jl.lstm(params, state, jnp.zeros((600, 1), dtype))
    assert float(last.c[0]) == 600  # i = f = g = 1: one is added at every step
    dxs = jnp.ones((5000, 1), dtype)
    assert float(stages.linear_bwd_weight(dxs, dxs.astype(jnp.float32))[0, 0]) == 5000


@pytest.mark.parametrize("a", [-8.0, -12.0, -20.0, -80.0, 0.0, 1e-4, 9.0])
def test_gates_are_exact_at_the_ends(a):
    """(1 + tanh(a/2))/2 would be wrong by 1e-4 at -8 and zero at -20."""
    x = np.float32(a)
    i, _, g, _ = stages.gates(jnp.full((4,), x))
    assert_close(i, 1 / (1 + np.exp(-np.float64([x]))), 4e-7)
    assert_close(g, np.tanh(np.float64([x])), 4e-7)
    assert (float(i[0]) > 0) is True


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_derivatives_of_gates_by_jax_are_right_everywhere(dtype):
    """First and second: where a gate is shut, at 0, where one formula follows on another."""
    a = [-1e4, -100.0, -50.0, -3.0, -0.5, -0.1, 0.0, 1e-3, 0.5, 2.0, 100.0, 1e4]
    a = jnp.asarray(a, dtype)
    gate = lambda k: lambda x: stages.gates(jnp.full((4,), x))[k]
    for k, plain in ((0, jax.nn.sigmoid), (2, jnp.tanh)):
        for order in (1, 2):
            got, want = gate(k), plain
            for _ in range(order):
                got, want = jax.grad(lambda x, f=got: f(x).sum()), jax.grad(want)
            got, want = jax.jit(jax.vmap(got))(a), jax.jit(jax.vmap(want))(a)
            assert np.isfinite(got).all()
            # derivatives are at most 1; both sides round each of some eight operations
            np.testing.assert_allclose(got, want, rtol=0, atol=float(8 * jnp.finfo(dtype).eps))


@pytest.mark.parametrize("precision", ["default", "highest"])
def test_matrix_products_honour_the_default_precision(precision):
    params, state, xs = problem(CELLS["lstm"], dtype=jnp.float32)
    with jax.default_matmul_precision(precision):
        text = str(jax.make_jaxpr(jax.grad(lambda p: jl.lstm(p, state, xs)[1].sum()))(params))
    assert text.count("dot_general") >= 5
    assert ("HIGHEST" in text) is (precision == "highest")
