"""Curvature from products, against whole matrices; Lyapunov exponents of systems whose values are
known: linear, orthogonal and diagonal recurrences, a scalar map at its fixed point, and a chaotic
one."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree as ravel

import jax_lstm as jl
from tests.tables import CELLS, assert_close, normal_like, problem

TIGHT = 1e-12


class Dense(NamedTuple):
    """A symmetric matrix, its product with a tree, and the tree."""

    matrix: np.ndarray
    product: object
    like: dict


@pytest.fixture(scope="module")
def dense():
    rng = np.random.default_rng(0)
    Q, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    values = np.array([9.0, -7, 5, 3, 1, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0])
    matrix = Q * values @ Q.T
    like = {"a": np.zeros((2, 4)), "b": np.zeros(4)}

    def product(v):
        flat = jnp.asarray(matrix) @ jnp.concatenate([v["a"].reshape(-1), v["b"]])
        return {"a": flat[:8].reshape((2, 4)), "b": flat[8:]}

    return Dense(matrix, product, like)


@pytest.mark.slow
def test_lanczos(dense):
    """All of the spectrum, one number more than the matrix has; and a block's own."""
    found = jl.lanczos(dense.product, dense.like, number=12, iterations=13)
    want = np.linalg.eigvalsh(dense.matrix)
    # the largest of which is 9: 1e-13 is some fifty roundings of it
    np.testing.assert_allclose(found.values, want[np.argsort(-abs(want))], atol=1e-13)
    product = jax.vmap(dense.product)(found.vectors)
    times = lambda v: v * found.values.reshape((-1, *(1,) * (v.ndim - 1)))
    assert_close(product, jax.tree.map(times, found.vectors), TIGHT)
    block = {"a": np.zeros((2, 4), bool), "b": np.ones(4, bool)}
    few = jl.lanczos(dense.product, dense.like, number=2, block=block)
    want = np.linalg.eigvalsh(dense.matrix[8:, 8:])
    np.testing.assert_allclose(few.values, want[np.argsort(-abs(want))][:2], atol=1e-13)
    assert not few.vectors["a"].any()


def test_where_lanczos_has_arrived_its_residual_says_so(dense):
    early = jl.lanczos(dense.product, dense.like, number=2, iterations=6)
    product, values = jax.vmap(dense.product)(early.vectors), np.asarray(early.values)
    flat = lambda t: np.concatenate([np.asarray(t["a"]).reshape(2, -1), np.asarray(t["b"])], 1)
    off = flat(product) - values[:, None] * flat(early.vectors)
    # norms of differences of numbers up to 9: fifty roundings again
    np.testing.assert_allclose(np.linalg.norm(off, axis=1), early.residuals, atol=1e-13)


def test_equal_eigenvalues_end_a_space_and_another_begins():
    like = np.zeros(5)
    found = jl.lanczos(lambda v: 2 * v, like, number=5)
    # a product and a square root: some roundings of 2
    np.testing.assert_allclose(found.values, np.full(5, 2.0), rtol=1e-14)


def test_hutchinson(dense):
    """Of a diagonal matrix a draw is exact; else the truth lies within some standard errors."""
    d = np.arange(5.0)
    exact = jl.hutchinson(lambda v: v * d, np.zeros(5), samples=2)
    assert (float(exact.mean), float(exact.error)) == (10.0, 0.0)
    blocks = {"a": {"a": np.ones((2, 4), bool), "b": np.zeros(4, bool)}}
    some = jl.hutchinson(dense.product, dense.like, samples=400, blocks=blocks)
    truth = np.trace(dense.matrix[:8, :8])
    assert abs(some.mean["a"] - truth) < 4 * some.error["a"] < 4.0


@pytest.mark.slow
def test_curvature_by_gate_of_a_hessian_and_of_gauss_newton():
    params, state, xs = problem(CELLS["lstm"], (3, 2, 1, 2))
    loss = lambda state, hs: jnp.sum(jnp.square(hs - 0.3))
    plain = lambda params: loss(*jl.lstm_autodiff(params, state, xs))
    flat, back = ravel(params)
    H = np.asarray(jax.jit(jax.hessian(lambda v: plain(back(v))))(flat))
    product = lambda v: jl.lstm_hvp(params, state, xs, (v, None, None), loss)[2][0]
    found = jl.curvature(product, params, iterations=flat.size, samples=64)
    assert found.blocks == ("all", "i", "f", "g", "o")
    assert found.sizes == (32, 8, 8, 8, 8)
    for k, block in enumerate(({}, *jl.gate_blocks(params).values())):
        keep = ravel(block)[0] if block else np.ones(flat.size, bool)
        part = H[np.ix_(keep, keep)]
        values = np.linalg.eigvalsh(part)
        # the bound of float64 in tests/tables.py
        np.testing.assert_allclose(found.values[k][0], values[np.argmax(abs(values))], rtol=1e-12)
        assert abs(found.trace[k] - np.trace(part)) < 5 * found.error[k]
    product = lambda v: jl.lstm_gauss_newton(params, state, xs, (v, None, None), loss)[1][0]
    assert jl.lanczos(product, params, number=5).values.min() > 0


def test_what_belongs_to_no_gate():
    blocks = jl.gate_blocks(problem(CELLS["lstmp"])[0], jl.LSTMP)
    assert list(blocks) == ["i", "f", "g", "o", "other"]
    assert all(x.all() if k == "P" else not x.any() for k, x in blocks["other"]._asdict().items())


# Lyapunov exponents ---------------------------------------------------------------------------


def elman_at_rest(U, T=60, B=1):
    """At h = 0 with no input tanh is the identity: the Jacobian of every step is Uᵀ."""
    H = len(U)
    params = jl.ElmanParams(jnp.zeros((1, H)), jnp.asarray(U), jnp.zeros(H))
    return params, jl.ElmanState(jnp.zeros((B, H))), jnp.zeros((T, B, 1))


def exponents(U, T=60, **options):
    found = jl.lyapunov_exponents(jl.linearised_elman(*elman_at_rest(U, T), **options))
    return np.asarray(found)[0]


def by_numpy(U, T):
    """The growth of an orthonormal basis, made orthonormal again in each step."""
    Q, total = np.eye(len(U)), 0
    for _ in range(T):
        Q, R = np.linalg.qr(U.T @ Q)
        total = total + np.log(abs(np.diag(R)))
    return np.sort(total / T)[::-1]


def test_exponents_of_linear_recurrences():
    rng = np.random.default_rng(0)
    Q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    # of zero: 60 logarithms of 1, each with the rounding of a QR of three columns
    np.testing.assert_allclose(exponents(Q), 0, atol=1e-14)
    diagonal = np.array([0.5, -2.0, 1.0])
    want = np.log([2.0, 1.0, 0.5])
    np.testing.assert_allclose(exponents(np.diag(diagonal)), want, atol=1e-14)
    mask = np.arange(60)[:, None] % 3 > 0
    np.testing.assert_allclose(exponents(np.diag(diagonal), mask=mask), want, atol=1e-14)
    normal = Q * np.array([3.0, 1, 0.3]) @ Q.T
    for T in (60, 600):
        np.testing.assert_allclose(exponents(normal, T), by_numpy(normal, T), atol=1e-14)
    # what the first steps turn into place is shared by all steps: the error falls as 1 / T
    short, long = (T * (exponents(normal, T) - np.log([3.0, 1, 0.3])) for T in (60, 600))
    # 600 times the roundings of an exponent and of its logarithm, near 1e-14 each
    np.testing.assert_allclose(long, short, rtol=0, atol=600 * 2e-14)
    volume = np.log(abs(np.linalg.det(normal)))
    # 60 logarithms, each with the rounding of a QR, and a determinant
    np.testing.assert_allclose(exponents(normal).sum(), volume, rtol=1e-13)
    assert np.isneginf(exponents(np.zeros((3, 3)))).all()


def test_an_exponent_of_a_scalar_map_is_the_mean_of_its_logarithms():
    params, state, xs = elman_at_rest(np.array([[1.8]]), T=400, B=2)
    state = jl.ElmanState(jnp.array([[0.1], [-0.7]]))
    run = jl.linearised_elman(params, state, xs)
    found = jl.lyapunov_exponents(run, 1)
    h = np.asarray(run.states.h)
    # a mean of 400 logarithms, in another order
    np.testing.assert_allclose(found, np.log(1.8 * (1 - h**2)).mean(0), rtol=1e-13)
    rest = functools.reduce(lambda h, _: np.tanh(1.8 * h), range(400), 0.5)
    run = jl.linearised_elman(params, jl.ElmanState(jnp.full((2, 1), rest)), xs)
    want = np.log(1.8 * (1 - rest**2))
    np.testing.assert_allclose(jl.lyapunov_exponents(run), want, rtol=1e-13)


class Logistic(NamedTuple):
    r: jax.Array


LOGISTIC = jl.Cell(
    name="logistic",
    params=Logistic,
    state=jl.ElmanState,
    project=lambda w, xs: xs,
    step=lambda w, prev, z: (jl.ElmanState(w.r * prev.h * (1 - prev.h) + 0 * z), prev.h),
    step_bwd=lambda w, prev, h, d: (jl.ElmanState(d.h * w.r * (1 - 2 * h)), d.h),
    weights_bwd=lambda w, xs, prevs, saved, ds: (
        Logistic((ds * saved * (1 - saved)).sum()),
        0 * ds,
    ),
)


def test_chaos_has_the_exponent_it_is_known_for():
    """h ← 4 h (1 - h): ln 2, by Ulam and von Neumann."""
    T, B = 2000, 4
    state = jl.ElmanState(jnp.linspace(0.11, 0.83, B)[:, None])
    run = jl.make_linearised(LOGISTIC)(Logistic(jnp.array(4.0)), state, jnp.zeros((T, B, 1)))
    found, seen = np.asarray(jl.lyapunov_exponents(run)), np.asarray(run.seen.h)
    # a mean of 2000 logarithms, in another order
    np.testing.assert_allclose(found, np.log(abs(4 - 8 * seen)).mean(0), rtol=1e-13)
    # ln 2 is the mean over all of an orbit; the four of 2000 steps are 1e-4 away
    np.testing.assert_allclose(found.mean(), np.log(2), atol=1e-3)


def test_of_the_lstm_the_volume_is_that_of_its_jacobians():
    params, state, xs = problem(CELLS["lstm"], (5, 2, 3, 3))
    found = jl.lyapunov_exponents(jl.linearised_lstm(params, state, xs))

    def last(flat, n):
        h, c = jnp.split(flat[None], 2, -1)
        new, _ = jl.lstm_autodiff(params, jl.LSTMState(h, c), xs[:, n : n + 1])
        return jnp.concatenate(new, -1)[0]

    for n in range(2):
        J = jax.jit(jax.jacfwd(last), static_argnums=1)(jnp.concatenate([x[n] for x in state]), n)
        # J is the product of five steps: its determinant, e^-63, has lost the digits of its columns
        np.testing.assert_allclose(5 * found[n].sum(), np.log(abs(np.linalg.det(J))), rtol=1e-11)


def test_doors(dense):
    run = jl.linearised_elman(*elman_at_rest(np.eye(3)), resets=np.ones((60, 1), bool))
    bad = {
        "resets": lambda: jl.lyapunov_exponents(run),
        "`number`": lambda: jl.lanczos(dense.product, dense.like, number=3, iterations=2),
        "`block`": lambda: jl.lanczos(dense.product, dense.like, block=normal_like(0, dense.like)),
        "`blocks`": lambda: jl.hutchinson(dense.product, dense.like, blocks={"a": np.ones(3)}),
        "`params`": lambda: jl.gate_blocks(problem(CELLS["elman"])[0]),
    }
    for message, call in bad.items():
        with pytest.raises(ValueError, match=message):
            call()
