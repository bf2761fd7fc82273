"""Custom rules as people publish them; each takes the place in it where a bug is planted."""

from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Rule(NamedTuple):
    """f, its arguments, and what `check` is told besides. catches: words of the verdict."""

    f: Any
    args: tuple[Any, ...]
    told: Any = MappingProxyType({})
    catches: str = ""


def draw(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def with_rule(f, fwd, bwd, **options):
    g = jax.custom_vjp(f, **options)
    g.defvjp(fwd, bwd)
    return g


def kept(f):
    """A forward whose residual is its arguments."""
    return lambda *args: (f(*args), args)


# Elementwise ----------------------------------------------------------------------------------


def softplus(x):
    return jnp.logaddexp(x, jnp.zeros_like(x))


def softplus_by(slope):
    return with_rule(softplus, kept(softplus), lambda r, dy: (dy * slope(r[0]),))


def swish(x, beta):
    return x * jax.nn.sigmoid(beta * x)


def swish_by(of_beta):
    def bwd(residual, dy):
        x, beta = residual
        s = jax.nn.sigmoid(beta * x)
        return dy * (s + beta * x * s * (1 - s)), of_beta(dy * x * x * s * (1 - s))

    return with_rule(swish, kept(swish), bwd)


def clipped_by(edge):
    """The forward of a clip, with a slope inside."""
    f = lambda x: jnp.clip(x, -1, 1)
    return with_rule(f, kept(f), lambda r, dy: (jnp.where(jnp.abs(r[0]) < edge, dy, 0 * dy),))


@jax.custom_jvp
def log1pexp(x):
    return jnp.log1p(jnp.exp(x))


@log1pexp.defjvp
def _(primals, tangents):
    return log1pexp(*primals), jax.nn.sigmoid(primals[0]) * tangents[0]


@jax.custom_jvp
def log1pexp_wrong(x):
    return jnp.log1p(jnp.exp(x))


@log1pexp_wrong.defjvp
def _(primals, tangents):
    s = jax.nn.sigmoid(primals[0])
    return log1pexp_wrong(*primals), s * (1 - s) * tangents[0]


# Reductions -----------------------------------------------------------------------------------


def norm(x):
    return jnp.sqrt((x * x).sum())


def norm_by(change):
    return with_rule(
        norm, lambda x: (y := norm(x), (x, y)), lambda r, dy: (change(dy * r[0] / r[1]),)
    )


def softmax(x):
    e = jnp.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_by(jacobian):
    return with_rule(softmax, lambda x: (y := softmax(x), y), lambda y, dy: (jacobian(y, dy),))


def cross_entropy(logits, labels):
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)
    return -picked.mean()


def cross_entropy_by(scale, of_labels=lambda labels: None):
    def bwd(residual, dy):
        logits, labels = residual
        hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        return dy * (jax.nn.softmax(logits) - hot) * scale(len(labels)), of_labels(labels)

    return with_rule(cross_entropy, kept(cross_entropy), bwd)


def layer_norm(x, gain):
    d = x - x.mean(-1, keepdims=True)
    r = jax.lax.rsqrt((d * d).mean(-1, keepdims=True) + 1e-5)
    return d * r * jnp.broadcast_to(gain, x.shape)


def layer_norm_by(through):
    def fwd(x, gain):
        d = x - x.mean(-1, keepdims=True)
        r = jax.lax.rsqrt((d * d).mean(-1, keepdims=True) + 1e-5)
        return d * r * jnp.broadcast_to(gain, x.shape), (d * r, r, gain)

    def bwd(residual, dy):
        n, r, gain = residual
        dn = dy * jnp.broadcast_to(gain, dy.shape)
        return through(n, r, dn), (dy * n).sum(0)

    return with_rule(layer_norm, fwd, bwd)


def through_layer_norm(n, r, dn):
    return r * (dn - dn.mean(-1, keepdims=True) - n * (dn * n).mean(-1, keepdims=True))


def cumulative(x):
    return jnp.cumsum(x, 0)


def cumulative_by(back):
    return with_rule(cumulative, lambda x: (cumulative(x), None), lambda _, dy: (back(dy),))


# Matrices -------------------------------------------------------------------------------------


def dense(x, W, b):
    return jnp.tanh(x @ W + jnp.broadcast_to(b, (x.shape[0], b.shape[0])))


def dense_by(change, **options):
    def fwd(x, W, b):
        y = dense(x, W, b)
        return y, (x, W, y)

    def bwd(residual, dy):
        x, W, y = residual
        da = dy * (1 - y * y)
        return change(x, W, da)

    return with_rule(dense, fwd, bwd, **options)


def of_dense(x, W, da):
    return da @ W.T, x.T @ da, da.sum(0)


def two_heads(x, W):
    return {"mean": (x @ W).mean(0), "square": (x @ W) ** 2}


def two_heads_by(use):
    def bwd(residual, dy):
        x, W = residual
        da = use(
            jnp.broadcast_to(dy["mean"] / len(x), (len(x), W.shape[1])), 2 * (x @ W) * dy["square"]
        )
        return da @ W.T, x.T @ da

    return with_rule(two_heads, kept(two_heads), bwd)


def solve(A, b):
    return jnp.linalg.solve(A, b)


def solve_by(other):
    def bwd(residual, dy):
        A, y = residual
        db = jnp.linalg.solve(other(A), dy)
        return -jnp.outer(db, y), db

    return with_rule(solve, lambda A, b: (y := solve(A, b), (A, y)), bwd)


# In time --------------------------------------------------------------------------------------


def rnn(W, U, h0, xs):
    def step(h, x):
        h = jnp.tanh(x @ W + h @ U)
        return h, h

    return jax.lax.scan(step, h0, xs)


def rnn_by(change=lambda *grads: grads, last=lambda dh: dh, carry=lambda dh: dh, first=lambda h: h):
    def fwd(W, U, h0, xs):
        out = rnn(W, U, h0, xs)
        return out, (W, U, h0, xs, out[1])

    def bwd(residual, dy):
        (W, U, h0, xs, hs), (dlast, dhs) = residual, dy
        before = jnp.concatenate([first(h0)[None], hs[:-1]])

        def step(carried, now):
            dh, dW, dU = carried
            h_prev, h, x, d = now
            da = (d + dh) * (1 - h * h)
            return (carry(da @ U.T), dW + x.T @ da, dU + h_prev.T @ da), da @ W.T

        zero = last(dlast), jnp.zeros_like(W), jnp.zeros_like(U)
        (dh, dW, dU), dxs = jax.lax.scan(step, zero, (before, hs, xs, dhs), reverse=True)
        return change(dW, dU, dh, dxs)

    return with_rule(rnn, fwd, bwd)


def leaky(xs, mask, keep):
    def step(h, now):
        x, m = now
        h = jnp.where(m[:, None], keep * h + jnp.where(m[:, None], x, 0 * x), h)
        return h, h

    return jax.lax.scan(step, jnp.zeros_like(xs[0]), (xs, mask))[1]


def leaky_by(padding):
    def bwd(residual, dy):
        xs, mask, keep = residual
        hs = jnp.concatenate([jnp.zeros_like(xs[:1]), leaky(xs, mask, keep)[:-1]])

        def step(carried, now):
            dh, dkeep = carried
            d, m, h, x = now
            dh = dh + d
            live = jnp.where(m[:, None], dh, 0 * dh)
            dkeep = dkeep + (live * h).sum() + padding(x, m)
            return (jnp.where(m[:, None], keep * dh, dh), dkeep), live

        zero = jnp.zeros_like(xs[0]), jnp.zeros_like(keep)
        (_, dkeep), dxs = jax.lax.scan(step, zero, (dy, mask, hs, xs), reverse=True)
        return dxs, None, dkeep

    return with_rule(leaky, kept(leaky), bwd)


# Coarse inside --------------------------------------------------------------------------------


def far_away(x):
    """Through float32, with a cancellation: three digits are left."""
    return ((x.astype(jnp.float32) + 1000) - 1000).astype(x.dtype) ** 2


def far_away_by(factor):
    return with_rule(far_away, kept(far_away), lambda r, dy: (factor * r[0] * dy,))


def coarse_dense(x, W):
    y = jnp.einsum("bd,dh->bh", x.astype(jnp.float32), W.astype(jnp.float32))
    return jnp.sin(y).astype(x.dtype)


def coarse_dense_by(change):
    def bwd(residual, dy):
        x, W = (r.astype(jnp.float32) for r in residual)
        da = dy.astype(jnp.float32) * jnp.cos(x @ W)
        kinds = [r.dtype for r in residual]
        return tuple(d.astype(k) for d, k in zip(change(x, W, da), kinds, strict=True))

    return with_rule(coarse_dense, kept(coarse_dense), bwd)
