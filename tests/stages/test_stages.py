"""Each stage's values beside NumPy, and its tangent beside `jax.jvp` of the stage.

A twin or a tangent compared with autodiff of its own stage says nothing of the stage's values.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm import stages
from jax_lstm.stages import twins
from jax_lstm.stages.sums import sum_of_products
from tests.tables import SIZE, assert_close, normal_like

SIZES = dict(zip("TBDHV", (*SIZE, 6), strict=True))


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def layer_norm(x, gain):
    centred = x - x.mean(-1, keepdims=True)
    return gain * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)


def gates(a):
    i, f, g, o = np.split(a, 4, -1)
    return sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)


def cross_entropy(y, target):
    each = np.take_along_axis(y, target[..., None], -1)[..., 0]
    return np.log(np.exp(y).sum(-1)) - each


def binary_cross_entropy(y, p):
    return -(p * np.log(sigmoid(y)) + (1 - p) * np.log(sigmoid(-y))).sum(-1)


VALUES = {
    "linear": lambda x, W: np.einsum("tbi,ij->tbj", x, W),
    "bias": lambda y, b: y + b,
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "cell_state": lambda f, c_prev, i, g: f * c_prev + i * g,
    "hidden_state": lambda o, c: o * np.tanh(c),
    "fork": lambda x, n: (x,) * n,
    "gates": gates,
    "keep": lambda mask, old, new: mask * old + (1 - mask) * new,
    "drop": lambda x, mask: x * mask,
    "concatenate": lambda x, y: np.concatenate([x, y], -1),
    "add": lambda x, y: x + y,
    "mean": lambda x, y: (x + y) / 2,
    "product": lambda x, y: x * y,
    "clear": lambda valid, x: np.where(valid[..., None], x, 0),
    "repeat": lambda x, batch_shape: np.broadcast_to(x, (*batch_shape, *x.shape)),
    "blend": lambda z, old, new: z * old + (1 - z) * new,
    "layer_norm": layer_norm,
    "relu": lambda a: np.maximum(a, 0),
    "log_sigmoid": lambda a: np.log(sigmoid(a)),
    "dense": lambda params, x: np.einsum("tbi,ij->tbj", x, params.W) + params.b,
    "embedding": lambda E, tokens: E[tokens],
    "embedding of rows": lambda E, rows: np.einsum("tbi,ij->tbj", rows, E),
    "softmax_cross_entropy": cross_entropy,
    "binary_cross_entropy_with_logits": binary_cross_entropy,
    "squared_error": lambda y, p: ((y - p) ** 2).sum(-1) / 2,
}


def test_every_stage_here_is_one():
    assert set(VALUES) <= set(stages.TWINS)


@pytest.mark.parametrize("name", stages.TWINS)
def test_value_and_tangent_of_a_stage(name):
    twin = stages.TWINS[name]
    args = twins.draw(twin, SIZES, np.random.default_rng(1))
    n = len(twin.args)
    arrays, static = args[:n], args[n:]
    constant = [not twins.has_cotangent(shape) for _, shape in twin.args]
    pairs = enumerate(zip(constant, arrays, strict=True))
    dots = tuple(None if c else normal_like(20 + k, x) for k, (c, x) in pairs)

    def stage(*moving):
        rest = iter(moving)
        given = (x if c else next(rest) for c, x in zip(constant, arrays, strict=True))
        return twin.stage(*given, *static)

    def both(moving, moving_dot):
        return jax.jvp(stage, moving, moving_dot)

    moving = tuple(x for c, x in zip(constant, arrays, strict=True) if not c)
    y, want = both(moving, tuple(d for d in dots if d is not None))
    if name in VALUES:
        assert_close(y, jax.tree.map(jnp.asarray, VALUES[name](*args)))
    got = twins.tangent(twin, args, y, dots)
    assert_close(got, want)


PUBLIC = [name for name in stages.TWINS if hasattr(jl, f"{name.partition(' ')[0]}_autodiff")]


@pytest.mark.parametrize("name", PUBLIC)
def test_what_people_call_has_the_twin_s_gradient(name):
    """Values and cotangents of the function with its rule, beside the one that JAX sees."""
    args = twins.draw(stages.TWINS[name], SIZES, np.random.default_rng(1))
    moving = [n for n, x in enumerate(args) if not hasattr(x, "dtype") or x.dtype.kind == "f"]
    moving = [n for n in moving if twins.has_cotangent(stages.TWINS[name].args[n][1])]

    def along(function):
        def run(*some):
            given = dict(zip(moving, some, strict=True))
            return function(*(given.get(n, x) for n, x in enumerate(args)))

        y, vjp = jax.vjp(run, *(args[n] for n in moving))
        return y, vjp(normal_like(11, y))

    short = name.partition(" ")[0]
    by_hand, by_jax = (along(getattr(jl, k)) for k in (short, f"{short}_autodiff"))
    assert_close(by_hand, by_jax)
    if name in VALUES:
        assert_close(by_hand[0], jnp.asarray(VALUES[name](*args)))


@pytest.mark.parametrize(
    "leading",
    [(70,), (64, 1), (5, 16), (9, 24), (7, 33), (40, 2), (6, 5, 4), (2, 3, 4, 5), (66, 1, 1)],
    ids=str,
)
def test_every_product_is_added_once(leading):
    """In parts or at once, whatever the axes."""
    x, y = (normal_like(k, jax.ShapeDtypeStruct((*leading, n), float)) for k, n in ((1, 3), (2, 5)))
    want = np.einsum("ri,rj->ij", np.reshape(x, (-1, 3)), np.reshape(y, (-1, 5)))
    assert_close(sum_of_products(x, y), jnp.asarray(want), 1e-13)
