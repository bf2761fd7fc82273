"""What must hold of a stack in two directions with lengths: order, linearity, padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from tests.networks.stacks import LENGTHS, H, T, both_directions, garbage_in_padding
from tests.tables import assert_close, assert_same, normal_like, within


@pytest.fixture(scope="module")
def dy():
    return normal_like(8, jax.eval_shape(jl.stack, *both_directions()))


@jax.jit
def run(params, states, xs, lengths, dy):
    """Outputs and cotangents; compiled once for this file."""
    y, vjp = jax.vjp(lambda *a: jl.stack(*a, lengths=lengths), params, states, xs)
    return y, vjp(dy)


@pytest.fixture(scope="module")
def clean(dy):
    return run(*both_directions(), LENGTHS, dy)


def rows(tree, index, axis):
    """Some examples of a tree whose batch stands on this axis."""
    return jax.tree.map(lambda x: jnp.take(x, jnp.asarray(index), axis), tree)


def of_examples(result, index):
    """What belongs to these examples: outputs, and the cotangents of states and xs."""
    (lasts, hs), (_, dstates, dxs) = result
    return rows((lasts, dstates), index, 0), rows((hs, dxs), index, 1)


def test_permuted_examples(dy, clean):
    params, states, xs = both_directions()
    order = [2, 0, 1]
    dlasts, dhs = dy
    got = run(
        params,
        rows(states, order, 0),
        rows(xs, order, 1),
        LENGTHS[jnp.asarray(order)],
        (rows(dlasts, order, 0), rows(dhs, order, 1)),
    )
    assert_close(got[1][0], clean[1][0])
    assert_close(of_examples(got, [0, 1, 2]), of_examples(clean, order))


def test_examples_are_independent(dy, clean):
    """Another example 1, NaN included, changes no bit of examples 0 and 2."""
    params, states, xs = both_directions()
    for other in (3.0, jnp.nan):
        got = run(params, states, xs.at[:, 1].set(other), LENGTHS, dy)
        assert_same(of_examples(got, [0, 2]), of_examples(clean, [0, 2]))


def test_hidden_units_have_no_order(dy, clean):
    """Units of layer 1 in another order, in its own U and states and in the rows of layer 2's W."""
    params, states, xs = both_directions()
    order = jnp.asarray([2, 0, 3, 1])
    gates = jnp.concatenate([order + k * H for k in range(4)])
    both = jnp.concatenate([order, order + H])

    def permuted(params, states):
        below, above = params.layers
        below = tuple(jl.LSTMParams(p.W[:, gates], p.U[order][:, gates], p.b[gates]) for p in below)
        above = tuple(p._replace(W=p.W[both]) for p in above)
        moved = jax.tree.map(lambda s: s[..., order], states[0])
        return params._replace(layers=(below, above)), (moved, states[1])

    dlasts, dhs = dy
    _, moved = permuted(params, dlasts)
    got = run(*permuted(params, states), xs, LENGTHS, (moved, dhs))
    (lasts, hs), (dparams, dstates, dxs) = clean
    want = ((permuted(params, lasts)[1], hs), (*permuted(dparams, dstates), dxs))
    assert_close(got, want)


def test_linear_in_the_cotangent(dy, clean):
    params, states, xs = both_directions()
    other = normal_like(11, dy)
    mixed = jax.tree.map(lambda a, b: 2 * a - 3 * b, dy, other)
    _, one = clean
    _, two = run(params, states, xs, LENGTHS, other)
    _, got = run(params, states, xs, LENGTHS, mixed)
    assert_close(got, jax.tree.map(lambda a, b: 2 * a - 3 * b, one, two))


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e300])
def test_padding_reaches_nothing(garbage, dy, clean):
    params, states, xs = both_directions()
    valid = within(LENGTHS, T)[..., None]
    got = run(params, states, jnp.where(valid, xs, garbage), LENGTHS, dy)
    assert_same(got, clean)
    assert not jnp.where(valid, 0, got[0][1]).any()


def test_padding_goes_around_no_layer():
    clean, dirty, valid = garbage_in_padding()
    assert_same(dirty, clean)
    assert not jnp.where(valid, 0, dirty[0][1]).any()
