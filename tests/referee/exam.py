"""The exam of `referee.check`: twenty right rules and more, and as many with a planted bug.

RIGHT, WRONG: {name: Rule}. What is in NOISY comes to its values through float32.
"""

import jax
import jax.numpy as jnp
import numpy as np

from tests.referee.rules import (
    Rule,
    clipped_by,
    coarse_dense_by,
    cross_entropy_by,
    cumulative_by,
    dense,
    dense_by,
    draw,
    far_away_by,
    kept,
    layer_norm_by,
    leaky_by,
    log1pexp,
    log1pexp_wrong,
    norm_by,
    of_dense,
    rnn_by,
    softmax_by,
    softplus_by,
    solve_by,
    swish_by,
    through_layer_norm,
    two_heads_by,
    with_rule,
)

X, W, B = draw(4, 3), draw(3, 5), draw(5)
SEQUENCE = draw(3, 5), draw(5, 5) / 2, draw(2, 5), draw(4, 2, 3)
LABELS, TIMES = np.array([0, 2, 1, 2]), np.array([[1, 1], [1, 1], [1, 0], [0, 0]], bool)
TABLE = draw(3, 5)
ONCE: list[int] = []

CLOSED = jnp.asarray(draw(3, 4, seed=1))
closed = with_rule(
    lambda x: jax.lax.dot(x, CLOSED),
    lambda x: (jax.lax.dot(x, CLOSED), None),
    lambda _, dy: (dy @ CLOSED.T,),
)


def no_state(*grads):
    dW, dU, dh0, dxs = grads
    return dW, dU, 0 * dh0, dxs


def no_first(*grads):
    dW, dU, dh0, dxs = grads
    return dW, dU, dh0, dxs.at[0].multiply(0)


def drifting():
    """Another number at every call of the rule."""

    def bwd(residual, dy):
        seen = lambda: np.float32(ONCE.append(1) or 1 + 1e-3 * (len(ONCE) % 7))
        off = jax.pure_callback(seen, jax.ShapeDtypeStruct((), np.float32))
        return (2 * residual[0] * dy * off.astype(dy.dtype),)

    f = lambda x: x * x
    return with_rule(f, kept(f), bwd)


def eager_only():
    """The rule looks at numbers: it cannot be traced."""
    f = lambda x: x * x * x
    bwd = lambda r, dy: (3 * r[0] ** 2 * dy if float(r[0].sum()) > -1e9 else dy,)
    return with_rule(f, kept(f), bwd)


def wide_alone():
    """Right in float64; of x in float32 the rule multiplies two dtypes."""
    f, twos = lambda x: 2 * x, np.full((4, 3), 2.0)
    return with_rule(f, kept(f), lambda r, dy: (jax.lax.mul(dy, twos),))


def only_both():
    """The rule reads all of the first cotangent's sign from the second: alone it is lost."""
    f = lambda x: (jnp.sin(x), jnp.cos(x))
    bwd = lambda r, dy: (
        jnp.where(dy[1] == 0, 0 * dy[0], jnp.cos(r[0]) * dy[0] - jnp.sin(r[0]) * dy[1]),
    )
    return with_rule(f, kept(f), bwd)


def stopped(x):
    """Right once, wrong twice: what the rule multiplies with is cut off."""
    return x**3


stop = with_rule(stopped, kept(stopped), lambda r, dy: (3 * jax.lax.stop_gradient(r[0]) ** 2 * dy,))
AXES = {"batch": (0, None, None)}
identity_of = lambda x: x

RIGHT = {
    "softplus": Rule(softplus_by(jax.nn.sigmoid), (X,)),
    "swish, a learned slope": Rule(swish_by(jnp.sum), (X, np.float32(0.7))),
    "clip": Rule(clipped_by(1), (X,)),
    "log1pexp by custom_jvp": Rule(log1pexp, (X,)),
    "norm": Rule(norm_by(identity_of), (X,)),
    "softmax": Rule(softmax_by(lambda y, dy: y * (dy - (y * dy).sum(-1, keepdims=True))), (X,)),
    "cross-entropy of labels": Rule(cross_entropy_by(lambda n: 1 / n), (X, LABELS)),
    "layer norm": Rule(
        layer_norm_by(through_layer_norm), (draw(2, 6), draw(6)), {"batch": (0, None)}
    ),
    "cumulative sum": Rule(cumulative_by(lambda dy: jnp.cumsum(dy[::-1], 0)[::-1]), (X,)),
    "dense layer": Rule(dense_by(of_dense), (X, W, B), AXES),
    "dense layer with its reference": Rule(dense_by(of_dense), (X, W, B), {"reference": dense}),
    "two heads": Rule(two_heads_by(jnp.add), (X, W)),
    "solve": Rule(
        solve_by(jnp.transpose), (np.eye(3, dtype=np.float32) * 3 + draw(3, 3) / 2, draw(3))
    ),
    "recurrent network": Rule(rnn_by(), SEQUENCE, {"batch": (None, None, 0, 1), "carry": (2, 0)}),
    "masked leak": Rule(
        leaky_by(lambda x, m: 0.0),
        (draw(4, 2, 3), TIMES, np.float32(0.8)),
        {"mask": (TIMES, None, None)},
    ),
    "closed over float32": Rule(closed, (X,)),
    "a constant": Rule(
        dense_by(
            lambda x, W, da: (0 * x, *of_dense(x, W, da)[1:]),
        ),
        (0 * X, 0 * W, B),
        {"constants": ("x",)},
    ),
    "plain JAX": Rule(lambda x, W: jnp.tanh(x @ W).sum(0), (X, W)),
    "noisy: far from zero": Rule(far_away_by(2), (X,)),
    "noisy: float32 inside": Rule(coarse_dense_by(lambda x, W, da: (da @ W.T, x.T @ da)), (X, W)),
}
NOISY = {name for name in RIGHT if name.startswith("noisy")}

WRONG = {
    "softplus: slope of tanh": Rule(softplus_by(lambda x: 1 - jnp.tanh(x) ** 2), (X,)),
    "swish: beta not summed but averaged": Rule(
        swish_by(jnp.mean), (X, np.float32(0.7)), {}, "dbeta"
    ),
    "clip: the wrong edge": Rule(clipped_by(0.5), (X,)),
    "log1pexp: a slope twice": Rule(log1pexp_wrong, (X,)),
    "norm: a factor of 2": Rule(norm_by(lambda d: 2 * d), (X,), {}, "2 times"),
    "softmax: the diagonal alone": Rule(softmax_by(lambda y, dy: y * (1 - y) * dy), (X,)),
    "cross-entropy: a sum for the mean": Rule(
        cross_entropy_by(lambda n: 1.0), (X, LABELS), {}, "4 times"
    ),
    "layer norm: mean taken as constant": Rule(
        layer_norm_by(lambda n, r, dn: r * (dn - n * (dn * n).mean(-1, keepdims=True))),
        (draw(2, 6), draw(6)),
    ),
    "cumulative sum: forward once more": Rule(cumulative_by(lambda dy: jnp.cumsum(dy, 0)), (X,)),
    "dense: db of the last example": Rule(
        dense_by(lambda x, W, da: (*of_dense(x, W, da)[:2], da[-1])), (X, W, B), {}, "db"
    ),
    "dense: a missing cotangent": Rule(
        dense_by(lambda x, W, da: of_dense(x, W, da)[:2]), (X, W, B), {}, "raises"
    ),
    "two heads: one is ignored": Rule(two_heads_by(lambda a, b: b), (X, W)),
    "solve: A for its transpose": Rule(
        solve_by(identity_of), (np.eye(3, dtype=np.float32) * 3 + draw(3, 3) / 2, draw(3))
    ),
    "recurrent: dh0 left at zero": Rule(rnn_by(no_state), SEQUENCE, {}, "dh0"),
    "recurrent: a wrong first dx": Rule(rnn_by(no_first), SEQUENCE, {}, "dxs"),
    "recurrent: the last state's cotangent": Rule(rnn_by(last=lambda dh: 0 * dh), SEQUENCE),
    "masked leak: NaN in padding": Rule(
        leaky_by(lambda x, m: (jnp.where(m[:, None], 0 * x, 0 * x)).sum()),
        (draw(4, 2, 3), TIMES, np.float32(0.8)),
        {"mask": (TIMES, None, None)},
        "padding",
    ),
    "alone: lost without the other": Rule(only_both(), (X,), {}, "alone"),
    "other bits at every call": Rule(drifting(), (X,)),
    "noisy: a factor of 1.5": Rule(far_away_by(3), (X,)),
    "rule that cannot be traced": Rule(eager_only(), (X,), {}, "raises"),
    "rule that raises but in float64": Rule(wide_alone(), (X,), {}, "the arguments as they are"),
    "right once, wrong twice": Rule(stop, (X,), {}, "grad of grad"),
}
