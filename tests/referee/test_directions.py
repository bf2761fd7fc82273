"""A jvp and an hvp that somebody brings: the right one passes, a wrong one does not, by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_lstm import referee

ARGS = np.linspace(0.1, 1, 4), np.arange(3)


def function(x, tokens):
    return {"a": jnp.sin(x), "b": x.sum() * jnp.ones(2)}


def loss(x, tokens):
    return jnp.sum(jnp.tanh(x) ** 3) + 0.0 * jnp.sum(x[tokens])


def jvp(args, dots):
    return jax.jvp(lambda x: function(x, args[1]), args[:1], dots[:1])


def hvp(args, dots):
    gradient, product = jax.jvp(jax.grad(lambda x: loss(x, args[1])), args[:1], dots[:1])
    return (gradient, None), (product, None)


def twice(found):
    return found[0], jax.tree.map(lambda x: 2 * x, found[1])


def test_right_and_wrong():
    wrong = {"wrong": lambda *given: twice(jvp(*given)), "right": jvp, "jax": function}
    found = referee.compare_jvp(wrong, *ARGS)
    assert {(r.route, r.array) for r in found.failures()} == {
        ("wrong", "y_dot['a']"),
        ("wrong", "y_dot['b']"),
    }
    wrong = {"wrong": lambda *given: twice(hvp(*given)), "right": hvp, "jax": loss}
    found = referee.compare_hvp(wrong, *ARGS, names=("x", "tokens"))
    assert [(r.route, r.array) for r in found.failures()] == [("wrong", "H x")]


def test_doors():
    with pytest.raises(ValueError, match="`functions` must be 2 or more"):
        referee.compare_hvp({"jax": loss}, *ARGS)
    with pytest.raises(ValueError, match="`kind` must be"):
        next(referee.compare_directions("vjp", {"a": jvp, "b": loss}, ARGS))
