"""Doors of numbers: sizes, rates, the forget bias and dtypes, of every kind and size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl


@pytest.mark.parametrize("size", [10**30, 2**31])
def test_a_size_beyond_all_there_is(size):
    with pytest.raises(ValueError, match="`hidden_size` must be a whole number <= 2147483647"):
        jl.init_lstm(jax.random.key(0), 3, size)


NUMBERS = (0, np.int8(0), np.float64(0), np.array(0), jnp.float16(0), jnp.bfloat16(0))


@pytest.mark.parametrize("number", NUMBERS, ids=lambda x: f"{type(x).__name__} {x!r}")
def test_a_number_of_any_kind_is_cast(number):
    """Rates and the forget bias, also under strict promotion, as they are and traced."""

    def draw(number):
        key = jax.random.key(0)
        masks = [f(key, number, (2,)) for f in (jl.dropout_mask, jl.zoneout_mask)]
        return [*masks, jl.init_lstm(key, 1, 2, forget_bias=number).b]

    for made in (draw(number), jax.eval_shape(draw, number)):
        assert [x.dtype for x in made] == [np.float32] * 3


def test_a_number_beyond_floats_is_refused():
    with pytest.raises(ValueError, match="`forget_bias` must be a number; got int"):
        jl.init_lstm(jax.random.key(0), 1, 2, forget_bias=10**400)


def test_a_dtype_that_jax_cannot_draw_is_refused():
    with pytest.raises(ValueError, match="`dtype` must be floating point of 16 bits or more"):
        jl.init_elman(jax.random.key(0), 1, 2, dtype=jnp.float8_e4m3fn)
