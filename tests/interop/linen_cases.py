"""What the tests of linen share: flax's modules and ours, and parameters for both."""

import functools

import flax.linen as nn
import jax

from jax_lstm.interop import linen
from tests.interop.flax_cases import (
    Case,
    H,
    cell_options,
    inputs,
)
from tests.tables import QUICK, normal_like

KEY = jax.random.key(1)
quick_jit = functools.partial(jax.jit, compiler_options=QUICK)


def layer(case, RNN, house):
    return RNN(getattr(house, case.name)(H, **cell_options(case)), **case.rnn)


@functools.cache
def some_params(name, dtype):
    case = Case(name, dtype=dtype)
    tree = jax.eval_shape(layer(case, nn.RNN, nn).init, jax.random.key(0), inputs(case)[1])
    return normal_like(4, tree, 0.5)


def both(name):
    """Ours, and flax's."""
    return linen.RNN(getattr(linen, name)(H)), nn.RNN(getattr(nn, name)(H))
