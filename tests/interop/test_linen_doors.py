"""The dtypes of our linen cells are flax's; what they complain of, in flax's words."""

import jax
import jax.numpy as jnp
import pytest

pytest.importorskip("flax", reason="flax is the peer of this test: install jax_lstm[flax]")
import flax.linen as nn

from jax_lstm.interop import linen
from tests.interop.flax_cases import (
    CELLS,
    B,
    D,
    H,
    T,
    sequence,
)
from tests.interop.linen_cases import KEY, both, quick_jit, some_params
from tests.tables import relaxed


@pytest.mark.parametrize("name", CELLS[1:])
@pytest.mark.parametrize(
    ("options", "x_dtype"),
    [
        ({"dtype": "bfloat16"}, "float32"),
        ({"dtype": "float16", "param_dtype": "float16"}, "float32"),
        ({"param_dtype": "bfloat16"}, "bfloat16"),
        ({"dtype": "float64"}, "float32"),
        ({}, "int32"),
    ],
    ids=str,
)
def test_dtypes_are_those_of_flax(name, options, x_dtype):
    """Of a step; and of a sequence wherever flax's loop admits it."""
    x = jax.ShapeDtypeStruct((B, D), x_dtype)
    xs = jax.ShapeDtypeStruct((B, T, D), x_dtype)
    theirs, ours = (getattr(house, name)(H, **options) for house in (nn, linen))
    with relaxed("flax"):
        carry = theirs.initialize_carry(KEY, x.shape)
        step = lambda cell: jax.eval_shape(lambda x: cell.init_with_output(KEY, carry, x), x)
        assert step(ours) == step(theirs)
        run = lambda rnn: jax.eval_shape(lambda xs: rnn.init_with_output(KEY, xs), xs)
        try:
            want = run(nn.RNN(theirs, return_carry=True))
        except TypeError:  # the carry's dtype changes in the loop
            return
        assert run(linen.RNN(ours, return_carry=True)) == want


@pytest.mark.parametrize("name", CELLS[1:])
def test_sixteen_bits_are_near_flax(name):
    xs, params = sequence(), some_params(name, "float32")
    ours, theirs = both(name)
    ours = linen.RNN(ours.cell.clone(dtype="bfloat16"))
    with relaxed("flax"):
        got, want = (quick_jit(rnn.apply)(params, xs) for rnn in (ours, theirs))
    assert 1e-5 < jnp.abs(got.astype(want.dtype) - want).max() < 2e-2


# Doors ----------------------------------------------------------------------------------------

xs, x, carry = (jnp.ones(shape, "float32") for shape in ((B, T, D), (B, D), (B, H)))
BAD = {
    "gate": (
        lambda: linen.LSTMCell(H, gate_fn=nn.hard_sigmoid).init(KEY, (carry, carry), x),
        r"`gate_fn` must be sigmoid, whose derivative .*; got .*hard_sigmoid.* take flax's own "
        "LSTMCell",
    ),
    "activation": (
        lambda: linen.RNN(linen.SimpleCell(H, activation_fn=nn.relu)).init(KEY, xs),
        "`activation_fn` must be tanh, .*; got .*relu.* take flax's own SimpleCell",
    ),
    "no time": (
        lambda: linen.RNN(linen.LSTMCell(H)).init(KEY, xs[0, 0]),
        r"`inputs` must be \(\*batch, time, features\), an array; got \(3,\)",
    ),
    "no time, time major": (
        lambda: linen.RNN(linen.LSTMCell(H), time_major=True).init(KEY, [1.0]),
        r"`inputs` must be \(time, \*batch, features\), an array; got list",
    ),
    "a number": (
        lambda: linen.LSTMCell(H).init(KEY, (carry, carry), 1.0),
        r"`inputs` must be \(\*batch, features\), an array; got float",
    ),
    "one array for a carry": (
        lambda: linen.RNN(linen.LSTMCell(H)).init(KEY, xs, initial_carry=carry),
        r"`initial_carry` must be a pair \(c, h\), each \(2, 5\): .* cell; got \(2, 5\)",
    ),
    "a pair for one array": (
        lambda: linen.SimpleCell(H).init(KEY, (carry, carry), x),
        r"`carry` must be one array \(2, 5\): .*; got shapes \(2, 5\), \(2, 5\)",
    ),
    "a carry of another size": (
        lambda: linen.RNN(linen.LSTMCell(H)).init(KEY, xs, initial_carry=(carry[:1], carry)),
        r"`initial_carry` must be a pair .*; got shapes \(1, 5\), \(2, 5\)",
    ),
    "reverse in words": (
        lambda: linen.RNN(linen.LSTMCell(H)).init(KEY, xs, reverse="no"),
        "`reverse` must be True or False; got 'no'",
    ),
    "time major in words": (
        lambda: linen.RNN(linen.LSTMCell(H), time_major="no").init(KEY, xs),
        "`time_major` must be True or False; got 'no'",
    ),
    "unroll": (
        lambda: linen.RNN(linen.LSTMCell(H), unroll=0).init(KEY, xs),
        '`unroll` must be an integer >= 1 or "auto"; got 0',
    ),
    "lengths for no one": (
        lambda: linen.RNN(linen.LSTMCell(H)).init(KEY, xs, seq_lengths=jnp.asarray([1, 2, 3])),
        r"`seq_lengths` must be integers \(2,\); got int64 \(3,\)",
    ),
    "broken lengths": (
        lambda: linen.RNN(linen.LSTMCell(H)).init(KEY, xs, seq_lengths=jnp.asarray([1.0, 2.0])),
        r"`seq_lengths` must be integers \(2,\); got float64 \(2,\)",
    ),
    "long lengths": (
        lambda: linen.RNN(linen.LSTMCell(H)).init(KEY, xs, seq_lengths=[3, 8]),
        r"`seq_lengths` must lie in \[0, T = 7\]; got 3 to 8",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_lengths_of_32_bits():
    """As most people run it. A warning would be an error."""
    with jax.enable_x64(False):
        rnn, xs = linen.RNN(linen.LSTMCell(H)), jnp.ones((B, T, D))
        for lengths in ([3, 6], jnp.asarray([3, 6], "uint8")):
            run = lambda lengths: rnn.init_with_output(KEY, xs, seq_lengths=lengths, reverse=True)
            assert jax.eval_shape(run, lengths)[0].shape == (B, T, H)


def test_sigmoid_and_tanh_by_any_of_their_names():
    options = {"gate_fn": jax.lax.logistic, "activation_fn": jax.lax.tanh}
    rnn, xs = linen.RNN(linen.LSTMCell(H, **options)), sequence()
    assert jax.eval_shape(rnn.init_with_output, KEY, xs)[0].shape == (B, T, H)


def test_there_is_no_forward_mode():
    """As the docstring says; flax's own classes have one."""
    rnn, xs = linen.RNN(linen.SimpleCell(H)), sequence()
    params = some_params("SimpleCell", "float32")
    with pytest.raises(TypeError, match=r"goes backward only; .* take flax's own class"):
        jax.jvp(lambda xs: rnn.apply(params, xs), (xs,), (xs,))
