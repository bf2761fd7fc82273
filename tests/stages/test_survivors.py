"""Tests that were missing: each kills a mutant that a mutation tool left alive.

A twin compared with autodiff of its own stage says nothing of the stage's values: s = 1 / (1 - e)
also has s' = s (1 - s). See MUTANTS.md.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm import stages

pytestmark = pytest.mark.usefixtures("checked")

H = 5


@pytest.mark.parametrize("axes", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("scale", [1e-3, 0.4, 3.0, 100.0])
def test_gates_are_sigmoids_and_a_tanh(axes, scale):
    """packed_gates: both of its forms of tanh, its clip, the place of its blocks."""
    a = scale * np.random.default_rng(0).standard_normal((*axes, 4 * H))
    i, f, g, o = np.split(a, 4, -1)
    with np.errstate(over="ignore"):
        want = [1 / (1 + np.exp(-i)), 1 / (1 + np.exp(-f)), np.tanh(g), 1 / (1 + np.exp(-o))]
    for got, right in zip(stages.gates(jnp.asarray(a)), want, strict=True):
        # where exp(-a) overflows NumPy says 0 and we a number below 1e-300: both round the truth
        np.testing.assert_allclose(got, right, rtol=1e-14, atol=1e-300)


def test_gates_of_complex_numbers():
    """For complex steps; with one unit as well, and with any batch axes."""
    rng = np.random.default_rng(0)
    for shape in ((4,), (3, 4), (2, 3, 20)):
        a = rng.standard_normal(shape) + 1e-20j * rng.standard_normal(shape)
        i, f, g, o = np.split(a, 4, -1)
        want = [1 / (1 + np.exp(-i)), 1 / (1 + np.exp(-f)), np.tanh(g), 1 / (1 + np.exp(-o))]
        for get in (stages.gates, stages.plain_gates):
            for got, right in zip(get(jnp.asarray(a)), want, strict=True):
                np.testing.assert_allclose(got.real, right.real, rtol=1e-14)
                # a product of three factors, each rounded
                np.testing.assert_allclose(got.imag, right.imag, rtol=1e-14)
        np.testing.assert_allclose(stages.gates(jnp.asarray(a.real))[2], want[2].real, rtol=1e-14)


def test_where_a_value_is_chosen():
    """On both sides of where a branch begins, far from it, and at it: values, twins, tangents."""
    a = jnp.asarray([-1e4, -800.0, -1.5, -0.5, 0.0, 0.5, 1.5, 800.0, 1e4])
    one = jnp.ones_like(a)
    for stage, value, slope in (
        (stages.relu, np.maximum(a, 0), a > 0),
        (stages.log_sigmoid, -np.logaddexp(0, -a), 0.5 - 0.5 * np.tanh(a / 2)),
    ):
        y = stage(a)
        name = stage.__name__
        np.testing.assert_allclose(y, value, rtol=1e-14)
        twin, tangent = getattr(stages, f"{name}_bwd"), getattr(stages, f"{name}_jvp")
        for got in (twin(y, one), tangent(y, one), jax.grad(lambda a, f=stage: f(a).sum())(a)):
            # half an eps of 1, which 1 - s is made of where a slope is small
            np.testing.assert_allclose(got, slope, rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("axes", [(), (3,), (2, 3)], ids=str)
def test_three_things_side_by_side(axes):
    rng = np.random.default_rng(0)
    xs = tuple(jnp.asarray(rng.standard_normal((*axes, D))) for D in (2, 4, 3))
    y, vjp = jax.vjp(stages.concatenate, *xs)
    np.testing.assert_array_equal(y, np.concatenate(xs, -1))
    dy = jnp.asarray(rng.standard_normal(y.shape))
    for got, want in zip(stages.concatenate_bwd(xs, dy), vjp(dy), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("init", "sizes", "name"),
    [
        (jl.init_lstm, (3, 0), "hidden_size"),
        (jl.init_elman, (3, 0), "hidden_size"),
        (jl.init_lstmp, (3, 0, 2), "hidden_size"),
        (jl.init_lstmp, (3, 5, 0), "projection_size"),
        (jl.init_lstm, (-1, 5), "input_size"),
        (jl.init_elman, (-1, 5), "input_size"),
        (jl.init_lstmp, (-1, 5, 2), "input_size"),
    ],
)
def test_sizes_that_cannot_be(init, sizes, name):
    with pytest.raises(ValueError, match=f"`{name}` must be a whole number"):
        init(jax.random.key(0), *sizes)


def test_options_of_init_are_named():
    with pytest.raises(TypeError):
        jl.init_lstm(jax.random.key(0), 3, 5, 1.0)
