"""G, the floor: the products of a training step and nothing else, on packed arrays. Of an LSTM, and
of the cells that have its products, x W and h U, with M = 4 H, or 3 H of a GRU.

    forward     z = x W for a segment of steps; h U step by step
    backward    da Uᵀ step by step; dW, dU and dx for a segment

No gates. z stands for da: it is kept as the gates would be, and nothing else is. In segments,
because then z is in cache when it is used: all T at once, as one would write it first, took 1.7
times as long in the forward at S3, and a floor is the lowest there is. (Of the forward alone there
is a lower one at some sizes: [x, h] times W over U, one product a step, as haiku has it.)
"""

import jax.numpy as jnp
from jax import lax

CELLS = ("lstm", "gru", "peephole_lstm")
SEGMENT_STEPS, SEGMENT_BYTES = 16, 2**20


def segments(xs, M):
    """(n, K, B, D): K divides T, has at least 16 steps and about a MiB of z; or is T."""
    T, B, D = xs.shape
    low = max(SEGMENT_STEPS, SEGMENT_BYTES // (B * M * xs.dtype.itemsize))
    K = next((k for k in range(low, T) if T % k == 0), T)
    return xs.reshape(T // K, K, B, D)


def products_forward(layers, states, xs, both_ways=False):
    """The products of a forward pass. (hs and zs, in segments), ... of each layer, or of each of
    two directions: both read xs, and a product knows no direction.

    A step begins with a slice of what the one before it made, so that none can begin early, and of
    z: the only addition. The slice is taken of the carry: one of the product would shrink it.
    """
    outputs = []
    for (W, U, *_), (h, *_) in zip(layers, states, strict=True):
        (B, H), M = h.shape, U.shape[1]

        def step(a, z, U=U, H=H):
            h = a[:, :H] + z[:, :H]
            return h @ U, h

        def segment(a, xs, W=W, step=step):
            zs = xs @ W
            a, hs = lax.scan(step, a, zs)
            return a, (hs, zs)

        first = jnp.concatenate([h, jnp.zeros((B, M - H), h.dtype)], axis=1)
        _, (hs, zs) = lax.scan(segment, first, segments(xs, M))
        outputs.append((hs, zs))
        xs = xs if both_ways else hs.reshape(len(xs), B, H)
    return outputs


def products(layers, states, xs, dhs, both_ways=False):
    """Those, and the products of the backward."""
    results = []
    forwards = products_forward(layers, states, xs, both_ways)
    for n, ((W, U, *_), (hs, zs)) in enumerate(zip(layers, forwards, strict=True)):
        H = U.shape[0]
        first = n * H if both_ways else 0

        def segment(carry, now, W=W, U=U):
            dh, dW, dU = carry
            xs, hs, das = now
            dh, _ = lax.scan(lambda dh, da: (da @ U.T, None), dh, das, reverse=True)
            dW, dU = (d + jnp.einsum("tbd,tbm->dm", x, das) for d, x in ((dW, xs), (dU, hs)))
            return (dh, dW, dU), das @ W.T

        carry = (dhs[-1, :, first : first + H], jnp.zeros_like(W), jnp.zeros_like(U))
        below = segments(xs, U.shape[1])
        results.append(lax.scan(segment, carry, (below, hs, zs), reverse=True))
        xs = xs if both_ways else hs.reshape(dhs.shape)
    return results, xs
