"""The same loss through this library's engine, its gradient by hand: all layers in one step.

Layer k at step t needs layer k - 1 at step t and itself at step t - 1. So at beat d layer k takes
step d - k: every layer's input is what the layer below left at the beat before. c + l - 1 beats of
(l, b) numbers take the place of c l steps of b, and their products are element-wise, so that the
beats' number is the time. The first l - 1 beats, in which the upper layers still wait, are a run of
their own with a mask.

    seen = h, below(h) + x          below: each layer's h goes to the one above it
    (1)  a = w seen + b             in the blocks f, i, o, g; seen is x for f and o, h for i and g
    (2)  to (4)                     those of the LSTM

One state is kept per beat and its input; the gates are made again for all beats at once.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jax_lstm as jl
from jax_lstm.cells.lstm import LSTMState
from jax_lstm.stages import (
    align,
    cell_state,
    cell_state_bwd,
    fork_bwd,
    hidden_state,
    hidden_state_bwd,
    product,
    product_bwd,
    sigmoid,
    sigmoid_bwd,
    tanh,
    tanh_bwd,
)


class Rows(NamedTuple):
    """w, b (4, l, b): blocks f, i, o, g of every layer."""

    w: jax.Array
    b: jax.Array


def below(h):
    """What each layer is handed by the one below it; the first one nothing: (..., l, b)."""
    return jnp.concatenate([jnp.zeros_like(h[..., :1, :]), h[..., :-1, :]], axis=-2)


def below_bwd(residual, dx):
    return (jnp.concatenate([dx[..., 1:, :], jnp.zeros_like(dx[..., :1, :])], axis=-2),)


def seen_by_gates(h_prev, x):
    x = x + below(h_prev)
    return x, h_prev, x, h_prev


def gates(w, h_prev, x):
    f, i, o, g = (
        product(align(weight, seen), seen) + align(bias, seen)
        for weight, bias, seen in zip(w.w, w.b, seen_by_gates(h_prev, x), strict=True)
    )  # (1)
    return sigmoid(f), sigmoid(i), sigmoid(o), tanh(g)  # (2)


def project(w, xs):
    return xs


def step(w, prev, x):
    f, i, o, g = gates(w, prev.h, x)
    c = cell_state(f, prev.c, i, g)  # (3)
    return LSTMState(hidden_state(o, c), c), x  # (4)


def slopes(w, prevs, xs):
    """The twins of a beat at the cotangent 1, for any number of beats at once."""
    f, i, o, g = gates(w, prevs.h, xs)
    c = cell_state(f, prevs.c, i, g)
    one = jnp.ones_like(c)
    do, dc = hidden_state_bwd((o, c), one)  # (4')
    df, dc_prev, di, dg = cell_state_bwd((f, prevs.c, i, g), one)  # (3')
    da = sigmoid_bwd(f, df), sigmoid_bwd(i, di), sigmoid_bwd(o, do), tanh_bwd(g, dg)  # (2')
    return da, dc, dc_prev


def step_bwd(w, prev, slopes, dstate):
    (df, di, do, dg), dc, dc_prev = slopes
    dc, _ = fork_bwd(None, (dstate.c, dstate.h * dc))  # (4'), (F') at c
    da = df * dc, di * dc, do * dstate.h, dg * dc
    f, i, o, g = (weight * d for weight, d in zip(w.w, da, strict=True))  # (1')
    (from_above,) = below_bwd(None, f + o)
    dh, _ = fork_bwd(None, (i, g, from_above))  # (F') at h: this layer's next step, and the next
    return LSTMState(dh, dc * dc_prev), da


def weights_bwd(w, xs, prevs, saved, das):
    seen = seen_by_gates(prevs.h, xs)
    dw = [jnp.sum(product_bwd((s, s), d)[0], 0) for s, d in zip(seen, das, strict=True)]  # (1'w)
    f, _, o, _ = (align(weight, d) * d for weight, d in zip(w.w, das, strict=True))
    return Rows(jnp.stack(dw), jnp.stack([jnp.sum(d, 0) for d in das])), f + o


WAVEFRONT = jl.Cell(
    name="wavefront",
    params=Rows,
    state=LSTMState,
    project=project,
    step=step,
    slopes=slopes,
    step_bwd=step_bwd,
    weights_bwd=weights_bwd,
)
run, run_autodiff = jl.make_rnn(WAVEFRONT)


def outputs(rows, xs, state):
    """The last layer's h of every step, (T, b), of xs (T, b)."""
    l, T = rows.w.shape[1], xs.shape[0]
    beats = jnp.zeros((T + l - 1, l, xs.shape[1])).at[:T, 0].set(xs)
    begun = np.arange(l - 1)[:, None] >= np.arange(l)
    state, _ = run(rows, state, beats[: l - 1], mask=jnp.asarray(begun))
    _, hs = run(rows, state, beats[l - 1 :])
    return hs[:, -1]


def read_state(main, extra, state):
    l, b = main.shape[0] // 2, extra.shape[1]
    w, bias = main.reshape(l, 2, 4, b).transpose(1, 2, 0, 3)
    return Rows(w, bias), LSTMState(*state.reshape(l, 2, b).transpose(1, 0, 2))


def loss_of(hs, extra, targets):
    """The loss, and its cotangents by hs and by out_weight, out_bias at the cotangent 1."""
    _, out_weight, out_bias = extra[:, None]
    y = hs * out_weight + out_bias
    log_sum = jnp.logaddexp(jax.nn.logsumexp(y, -1, keepdims=True), jnp.log(2.0)[None, None])
    loss = -jnp.vdot(targets, y - log_sum) / targets.size
    # Σ_k t_k (y_k - log S): by y_j  t_j - (Σ t) e^{y_j} / S
    share = jnp.sum(targets, -1, keepdims=True) * jnp.exp(y - log_sum)
    dy = (share - targets) / targets.size
    return loss, dy * out_weight, jnp.sum(dy * hs, 0), jnp.sum(dy, 0)


def objective(main, extra, state, sequence):
    """The loss, a float64 without axes. Arguments: see `Problem`."""
    rows, state = read_state(main, extra, state)
    hs = outputs(rows, extra[:1] * sequence[:-1], state)
    return loss_of(hs, extra, sequence[1:])[0]


def jacobian(main, extra, state, sequence):
    """The loss's derivatives by main and by extra, in their shapes, by hand."""
    rows, state = read_state(main, extra, state)
    steps = sequence[:-1]
    hs, back = jax.vjp(lambda rows, xs: outputs(rows, xs, state), rows, extra[:1] * steps)
    _, dhs, dweight, dbias = loss_of(hs, extra, sequence[1:])
    drows, dxs = back(dhs)
    dmain = jnp.stack(drows).transpose(2, 0, 1, 3).reshape(main.shape)
    return dmain, jnp.stack([jnp.sum(dxs * steps, 0), dweight, dbias])
