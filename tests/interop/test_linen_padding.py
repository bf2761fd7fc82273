"""What is better in our linen.RNN than in flax's: padding, length 0, kernels packed once."""

import functools

import jax
import jax.numpy as jnp
import pytest

pytest.importorskip("flax", reason="flax is the peer of this test: install jax_lstm[flax]")
import flax.linen as nn

from jax_lstm.interop import linen
from tests.interop.flax_cases import (
    BACK,
    ORDER,
    TOLERANCE,
    Case,
    D,
    H,
    break_padding,
    in_loops,
    in_valid_steps,
    inputs,
    sequence,
)
from tests.interop.linen_cases import both, layer, quick_jit, some_params
from tests.tables import QUICK, assert_close, assert_same, value_and_cotangents

PADDED = jnp.asarray([3, 5])  # lengths


def test_nan_in_padding_reaches_every_gradient_in_flax_and_none_here():
    params, xs = some_params("LSTMCell", "float32"), sequence()
    padded = jnp.where(in_valid_steps(jnp.ones_like(xs), PADDED) == 0, jnp.nan, xs)

    def gradient_of(rnn):
        def loss(params, xs):
            valid = in_valid_steps(rnn.apply(params, xs, seq_lengths=PADDED), PADDED)
            return jnp.sum(valid**2), valid

        return quick_jit(jax.grad(loss, has_aux=True))

    ours, theirs = map(gradient_of, both("LSTMCell"))
    assert all(jnp.isnan(d).any() for d in jax.tree.leaves(theirs(params, padded)[0]))
    got = ours(params, padded)
    assert_same(got, ours(params, xs))
    assert_close(got, theirs(params, xs), TOLERANCE["float32"])


@pytest.mark.parametrize("options", [{}, BACK, BACK | ORDER], ids=str)
def test_what_is_not_finite_in_padding_counts_as_zero(options):
    """A row of it, and no other, for a loss that looks at all outputs and at the last carry."""

    def results_of(rnn, xs, clear):
        run = functools.partial(rnn.apply, seq_lengths=PADDED, return_carry=True, **options)
        args = (some_params("LSTMCell", "float32"), xs)
        return value_and_cotangents(lambda p, xs: run(p, clear(xs)), args, options=QUICK)

    ours, theirs = both("LSTMCell")
    bad, cleared = break_padding(sequence())
    kept = (cleared == bad).all(-1, keepdims=True)
    want = results_of(theirs, cleared, lambda xs: jnp.where(kept, xs, 0))
    assert_close(results_of(ours, bad, lambda xs: xs), want, TOLERANCE["float32"])


def test_nan_in_the_carry_of_a_sequence_of_length_0_reaches_no_gradient():
    """It is the carry, before and after; flax hands back what its padding made of it."""
    lengths, (carry, xs) = jnp.asarray([0, 4]), inputs(Case(dtype="float32"))
    empty = jax.tree.map(lambda x: x.at[0].set(jnp.nan), carry)
    rnn = both("LSTMCell")[0]

    def loss(params, carry):
        options = {"initial_carry": carry, "seq_lengths": lengths, "return_carry": True}
        last, outputs = rnn.apply(params, xs, **options)
        return jnp.sum(in_valid_steps(outputs, lengths) ** 2), last

    run = quick_jit(jax.grad(loss, has_aux=True))
    params = some_params("LSTMCell", "float32")
    (got, last), (want, _) = run(params, empty), run(params, carry)
    assert_same(got, want)
    assert_same(*(jax.tree.map(lambda x: x[0], c) for c in (last, empty)))


def last_carry(rnn, carry, xs, lengths):
    run = functools.partial(rnn.apply, return_carry=True)
    params = some_params("LSTMCell", "float32")
    return quick_jit(run)(params, xs, initial_carry=carry, seq_lengths=lengths)[0]


def test_the_carry_at_length_0_is_all_padding_in_flax_and_the_initial_one_here():
    lengths, (carry, xs) = jnp.asarray([0, 4]), inputs(Case(dtype="float32"))
    first = lambda carry: jax.tree.map(lambda x: x[0], carry)
    ours, theirs = both("LSTMCell")
    through_padding = last_carry(theirs, carry, xs, None)
    assert_same(first(last_carry(theirs, carry, xs, lengths)), first(through_padding))
    assert_same(first(last_carry(ours, carry, xs, lengths)), first(carry))


def test_the_carry_with_lengths_over_two_batch_axes():
    """flax indexes them as if there were one."""
    lengths = jnp.asarray([[3, 6, 1], [7, 2, 5]])
    carry, xs = inputs(Case(dtype="float32", batch=(2, 3)))
    flat = lambda tree: jax.tree.map(lambda x: x.reshape(6, *x.shape[2:]), tree)
    ours, theirs = both("LSTMCell")
    got = last_carry(ours, carry, xs, lengths)
    assert_close(flat(got), last_carry(theirs, *flat((carry, xs, lengths))), TOLERANCE["float32"])
    with pytest.raises(ValueError, match="broadcast"):
        last_carry(theirs, carry, xs, lengths)


def test_kernels_are_packed_once_per_sequence():
    """In flax's loop at every step."""
    case = Case("LSTMCell")

    def packings(RNN):
        rnn, (carry, xs) = layer(case, RNN, linen), inputs(case)
        run = lambda params: rnn.apply(params, xs, initial_carry=carry)
        jaxpr = jax.make_jaxpr(run)(some_params(case.name, case.dtype))
        return in_loops(jaxpr.jaxpr, "concatenate", (D, 4 * H))

    assert packings(linen.RNN) == 0 < packings(nn.RNN)
