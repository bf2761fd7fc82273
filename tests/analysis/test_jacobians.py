"""Norms and Jacobians over time, against jax.jacobian and the textbook."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jax_lstm as jl
from jax_lstm import textbook
from jax_lstm.analysis import flow
from tests.tables import CELLS, QUICK, SIZE, assert_close, normal_like, problem

T, B, D, H = SIZE
LINEARISED = {"lstm": jl.linearised_lstm, "elman": jl.linearised_elman}


def run(function, *args):
    return jax.jit(function, compiler_options=QUICK)(*args)


# Jacobians ------------------------------------------------------------------------------------


def move(cell, params, state, xs, dh, dc):
    """h_T and c_T of a plain scan in which h_t and c_t are moved by dh_t and dc_t."""

    def body(state, now):
        x, dh, dc = now
        a = x @ params.W + state[0] @ params.U
        a = a + jnp.broadcast_to(params.b, a.shape)
        if cell == "elman":
            return (jnp.tanh(a) + dh,), None
        i, f, g, o = jnp.split(a, 4, axis=-1)
        c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g) + dc
        return (jax.nn.sigmoid(o) * jnp.tanh(c) + dh, c), None

    return lax.scan(body, tuple(state), (xs, dh, dc))[0]


def by_jax(cell, params, state, xs):
    """∂h_T/∂h_t and ∂c_T/∂c_t, (T, B, H, H), by jax.jacobian, example by example."""

    def one(state, xs):
        zero = jnp.zeros((len(xs), H), xs.dtype)
        of = lambda n: jax.jacobian(
            lambda d: move(cell, params, state, xs, *((d, zero) if n == 0 else (zero, d)))[n]
        )(zero)
        return type(state)(*(jnp.moveaxis(of(n), 1, 0) for n in range(len(state))))

    return jax.vmap(one, in_axes=(0, 1), out_axes=1)(state, xs)


@pytest.fixture(scope="module", params=list(LINEARISED))
def both(request):
    """(args, ours, theirs) of a cell."""
    cell = request.param
    args = problem(CELLS[cell])

    def ours(params, state, xs):
        linear = LINEARISED[cell](params, state, xs)
        return jl.jacobians(linear), jl.jacobian_norms(linear, range(T), iterations=300)

    return cell, args, run(ours, *args), run(lambda *args: by_jax(cell, *args), *args)


def test_jacobians_are_those_of_jax(both):
    _, _, (found, _), want = both
    assert_close(found, want)
    for J in found:
        np.testing.assert_array_equal(J[-1], np.broadcast_to(np.eye(H), (B, H, H)))


def test_power_iteration_finds_the_largest_singular_value(both):
    _, _, (_, largest), want = both
    svd = jax.tree.map(lambda J: np.linalg.norm(np.asarray(J), 2, (-2, -1)), want)
    assert_close(largest.norm, svd)
    assert max(r.max() for r in largest.residual) < 1e-10


def forget_c(w, prev, slopes, dstate):
    """The forget product of t+1 is no branch of c_t."""
    return jl.LSTM.step_bwd(w, prev, slopes, dstate._replace(c=0 * dstate.c))


def transpose_u(w, prev, h, dstate):
    """U for Uᵀ."""
    return jl.ELMAN.step_bwd(w._replace(U=w.U.T), prev, h, dstate)


def holds(slopes):
    """h_t does not follow c_t."""
    return ()


@pytest.mark.parametrize(
    ("cell", "mutant", "wrong"),
    [
        ("lstm", jl.make_linearised(jl.LSTM._replace(step_bwd=forget_c)), "hc"),
        ("lstm", jl.make_linearised(jl.LSTM, follows=holds), "c"),
        ("elman", jl.make_linearised(jl.ELMAN._replace(step_bwd=transpose_u)), "h"),
    ],
)
def test_a_wrong_step_back_is_found(cell, mutant, wrong):
    args = problem(CELLS[cell])
    found = run(lambda *args: jl.jacobians(mutant(*args)), *args)
    want = run(lambda *args: by_jax(cell, *args), *args)
    for name in found._fields:
        if name in wrong:
            with pytest.raises(AssertionError):
                assert_close(getattr(found, name), getattr(want, name))
        else:
            assert_close(getattr(found, name), getattr(want, name))


@pytest.mark.slow
def test_large_h_by_power_iteration_alone():
    """Never above the truth, as near as the residual says, and in the end there."""
    params = jl.init_lstm(jax.random.key(0), 4, 40, dtype=jnp.float64)
    xs = normal_like(1, jnp.zeros((9, 4)))
    at = jnp.array([0, 4, 7])

    def ours(params, xs):
        linear = jl.linearised_lstm(params, jl.init_lstm_state(params), xs)
        few, many = (jl.jacobian_norms(linear, at, iterations=n) for n in (3, 600))
        return jl.jacobians(linear), few, many

    Js, few, many = run(ours, params, xs)
    for J, three, last, r in zip(Js, few.norm, many.norm, few.residual, strict=True):
        sigmas = np.linalg.svd(np.asarray(J)[np.asarray(at)], compute_uv=False)
        assert (three <= sigmas[:, 0] * (1 + 1e-12)).all()
        assert (np.abs(sigmas**2 / three[:, None] ** 2 - 1).min(-1) <= r + 1e-12).all()
        assert (three < sigmas[:, 0] * (1 - 1e-6)).all()
        # 600 iterations end where (σ2/σ1)^1200 ends; at H = 5 it is the SVD to 1e-12, see above
        np.testing.assert_allclose(last, sigmas[:, 0], rtol=1e-8)


@pytest.mark.parametrize("cell", LINEARISED)
def test_lengths_resets_and_direction(cell):
    """Backwards over the first 4 steps of an example, or over all; nothing goes beyond a reset."""
    params, state, xs = problem(CELLS[cell])
    options = {"lengths": jnp.array([4, T]), "resets": jnp.zeros((T, B), bool).at[2, 1].set(True)}

    def ours(params, state, xs):
        linear = LINEARISED[cell](params, state, xs, reverse=True, **options)
        short = jax.tree.map(lambda s: s[:1], state)
        plain = LINEARISED[cell](params, short, xs[:4, :1][::-1])
        bound = jl.forget_products if cell == "lstm" else jl.elman_bounds
        norms = jl.jacobian_norms(linear, range(T), iterations=300).norm
        return jl.jacobians(linear), norms, bound(linear), jl.jacobians(plain), bound(plain)

    J, norms, bound, J_short, bound_short = run(ours, params, state, xs)
    assert_close(jax.tree.map(lambda J: J[:4, :1], J), jax.tree.map(lambda J: J[::-1], J_short))
    assert_close(bound[:4, :1], bound_short[::-1])
    for x in J:
        assert not x[3:, 1].any()
        assert x[2, 1].any()
    assert not bound[3:, 1].any()
    assert bound[2, 1].all()
    svd = jax.tree.map(lambda J: np.linalg.norm(np.asarray(J), 2, (-2, -1)), J)
    assert_close(norms, svd)


# What the gates alone would do ----------------------------------------------------------------


def test_without_u_the_jacobian_is_the_product_of_forget_gates(both):
    cell, (params, state, xs), *_ = both
    linear = jax.jit(LINEARISED[cell])(params._replace(U=0 * params.U), state, xs)
    J = jl.jacobians(linear)
    if cell == "lstm":
        assert_close(J.c, jnp.eye(H)[None, None] * jl.forget_products(linear)[..., None])
        assert not J.h[:-1].any()
    else:
        np.testing.assert_array_equal(jl.elman_bounds(linear)[:-1], 0)


def test_the_bound_of_the_simple_network_is_one(both):
    """With tanh at 0 and an orthogonal U it is reached."""
    cell, (params, state, xs), (_, largest), _ = both
    if cell == "lstm":
        with pytest.raises(ValueError, match="an Elman network's"):
            jl.elman_bounds(jl.linearised_lstm(params, state, xs))
        return
    with pytest.raises(ValueError, match="an LSTM's"):
        jl.forget_products(jl.linearised_elman(params, state, xs))
    linear = jl.linearised_elman(params, state, xs)
    bounds = jl.elman_bounds(linear)
    assert (largest.norm.h <= bounds * (1 + 1e-12)).all()
    assert (largest.norm.h[:-1] < 0.99 * bounds[:-1]).all()
    still = jl.init_elman(jax.random.key(0), D, H, dtype=jnp.float64)
    linear = jl.linearised_elman(still, jl.init_elman_state(still, (B,)), 0 * xs)
    assert_close(jl.elman_bounds(linear), jnp.ones((T, B)))
    assert_close(jnp.linalg.norm(jl.jacobians(linear).h, 2, (-2, -1)), jnp.ones((T, B)))


# Norms ----------------------------------------------------------------------------------------


def test_norms_are_those_of_the_textbook():
    params, state, xs = problem(CELLS["lstm"])
    dstate, dhs = normal_like(9, jax.eval_shape(jl.lstm, params, state, xs))

    def ours(params, state, xs, dhs, dstate):
        deltas = textbook.backward(
            packed := textbook.from_packed(*params),
            textbook.forward(packed, xs, *state),
            dhs,
            *dstate,
        ).deltas
        stack = lambda name: jnp.stack([d[name] for d in deltas])
        names = ("dh", "dc", "da_i", "da_f", "da_g", "da_o")
        linear = jl.linearised_lstm(params, state, xs)
        return jl.gradient_norms(linear, dhs, dstate), [stack(name) for name in names]

    found, deltas = run(ours, params, state, xs, dhs, dstate)
    dh, dc, *das = (jnp.linalg.norm(d, axis=-1) for d in deltas)
    assert_close(found.dstate, jl.LSTMState(dh, dc))
    assert_close(found.delta, jnp.stack(das, axis=-1))


@pytest.mark.parametrize("batch", [(), (2, 3), (0,)])
@pytest.mark.parametrize("cell", LINEARISED)
def test_any_number_of_batch_axes(cell, batch):
    params, state, xs = problem(CELLS[cell], batch=batch)

    def shapes(params, state, xs):
        linear = LINEARISED[cell](params, state, xs)
        norms = jl.gradient_norms(linear, jnp.zeros((T, *batch, H)))
        return norms, jl.jacobians(linear), jl.jacobian_norms(linear, [2, 0])

    norms, J, some = jax.eval_shape(shapes, params, state, xs)
    assert norms.delta.shape == (T, *batch, 4 if cell == "lstm" else 1)
    for field in state._fields:
        assert getattr(norms.dstate, field).shape == (T, *batch)
        assert getattr(J, field).shape == (T, *batch, H, H)
        assert getattr(some.norm, field).shape == (2, *batch)


def test_short_vectors_have_a_length():
    """Their squares would be zero in float32."""
    x = jnp.full((3, 4), 1e-30, jnp.float32)
    # float32: 1e-6 is eight of its eps
    np.testing.assert_allclose(flow.length(x), 2e-30, rtol=1e-6)
    assert not flow.length(0 * x).any()
    np.testing.assert_allclose(flow.unit(x), 0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("at", "complaint"),
    [
        ([T], r"`at` must lie in \[0, T = 7\); got 7 to 7"),
        ([-1, 2], r"\[0, T = 7\)"),
        ([0.5], "whole numbers"),
        (3, "whole numbers"),
    ],
)
def test_the_doors_name_what_is_wrong(at, complaint):
    def refuse(words, function, *args, **options):
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(
                lambda *given: function(jl.linearised_elman(*given), *args, **options),
                *problem(CELLS["elman"]),
            )

    refuse(complaint, jl.jacobian_norms, at)
    refuse("`iterations` must be a whole number >= 1", jl.jacobian_norms, [0], iterations=0)
    refuse("`dhs` must be", jl.gradient_norms, jnp.zeros((T, H)))
