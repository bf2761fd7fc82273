"""Who runs: every way to an LSTM's gradient, called as its users would, with the same numbers in.

    lstm, frugal   ours, residuals="full" and "auto"    F   flax.linen nn.RNN(OptimizedLSTMCell)
    A0   a plain scan, differentiated by JAX            K   haiku, hk.dynamic_unroll
    A1   A0 with x W before the loop                    E   equinox, a scan under vmap
    A2   A0 with jax.checkpoint around its step         S   Keras on JAX, layers.LSTM
    G    the bare products: the floor                   C   cuDNN by jax.experimental.rnn
    FR   F with our RNN and cell in flax's place        FC  F with our cell in flax's loop
    kernel   ours with its loops in C++, jax_lstm.kernels.cpu

(P, torch, is in peers_torch.py.) A contestant brings three things: `to`, from our numbers to its
own arguments, which happens before the clock starts; `call`, what is timed; and the axis of time.
Its gradient comes back to our layout by the transpose of `to`, so that all can be compared.
"""

import functools
import importlib.util
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jax_lstm as jl
from jax_lstm.interop import linen
from jax_lstm.kernels import cpu
from jax_lstm.kernels.build import compiler


class Absent(Exception):
    """This contestant does not run here; the message says why."""


class Problem(NamedTuple):
    """A case in our layout: a tuple of LSTMParams and one of LSTMState, one for each layer;
    xs (T, B, D); dhs (T, B, H), the cotangent from above; lengths (B,) int32 or None."""

    layers: Any
    states: Any
    xs: Any
    dhs: Any
    lengths: Any


class Contestant(NamedTuple):
    """to(layers, states, xs) -> args; call(args, lengths) -> (((h, c), ...), hs); hs has time on
    axis `time`. Rows of padding in hs may hold anything."""

    to: Callable[..., Any]
    call: Callable[..., Any]
    time: int = 0


def problem(size, seed=0, *, layers=1, dtype=jnp.float32, lengths=False):
    """Random numbers for (T, B, D = H). With lengths half of the examples are shorter, and nobody
    looks at the padding: dhs is zero there."""
    T, B, H = size
    rng = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape) / H**0.5, dtype)
    params = tuple(
        jl.LSTMParams(normal(H, 4 * H), normal(H, 4 * H), normal(4 * H)) for _ in range(layers)
    )
    states = tuple(like_state(normal(B, H), normal(B, H)) for _ in range(layers))
    xs, dhs = jnp.asarray(rng.normal(size=(T, B, H)), dtype), normal(T, B, H)
    if not lengths:
        return Problem(params, states, xs, dhs, None)
    shorter = rng.integers(T // 4, T, size=B, dtype=np.int32, endpoint=False)
    n = jnp.asarray(np.where(np.arange(B) >= B // 2, shorter, T), jnp.int32)
    return Problem(params, states, xs, jnp.where(valid_steps(n, T), dhs, 0), n)


def like_state(h, c):
    return jl.LSTMState(h, c.astype(jnp.float32) if c.dtype.itemsize == 2 else c)


def valid_steps(lengths, T):
    return (jnp.arange(T, dtype=lengths.dtype) < lengths[:, None]).T[..., None]


# Ours -------------------------------------------------------------------------------------------


def ours(residuals, use_lengths=True, lstm=jl.lstm):
    """`jl.lstm` or its twin of another kind, or `jl.stack` of it."""
    sequence = functools.partial(lstm, residuals=residuals)

    def build(problem):
        def call(args, lengths):
            layers, states, xs = args
            lengths = lengths if use_lengths else None
            if len(layers) == 1:
                last, hs = sequence(layers[0], states[0], xs, lengths=lengths)
                return (last,), hs
            params = jl.StackParams(tuple((layer,) for layer in layers))
            states = tuple((state,) for state in states)
            lasts, hs = jl.stack(params, states, xs, sequence=sequence, lengths=lengths)
            return tuple(last for (last,) in lasts), hs

        return Contestant(lambda *args: args, call)

    return build


def on_a_cpu(build):
    """Ours with its loops in C++, where there is a compiler, on a CPU."""

    def check(problem):
        if jax.default_backend() != "cpu":
            raise Absent("the loops in C++ are a CPU's")
        if problem.xs.dtype.itemsize == 2:
            raise Absent("the loops in C++ take float32 and float64")
        try:
            compiler()
        except RuntimeError as error:
            raise Absent(str(error)) from None
        return build(problem)

    return check


# What people write: a scan, differentiated by JAX -----------------------------------------------


def gates(a, c):
    i, f, g, o = jnp.split(a, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def scan(step, state, inputs, lengths):
    """The step over time. With lengths the state of an example stands still after its last one."""
    if lengths is None:
        return lax.scan(step, state, inputs)

    def masked_step(state, now):
        t, x = now
        new, _ = step(state, x)
        state = tuple(
            jnp.where((t < lengths)[:, None], n, s) for n, s in zip(new, state, strict=True)
        )
        return state, state[0]

    return lax.scan(masked_step, state, (jnp.arange(len(inputs), dtype=lengths.dtype), inputs))


def plain_scan(layer, state, xs, lengths, wrap=lambda step: step):
    W, U, b = layer

    def step(state, x):
        h, c = gates(x @ W + state[0] @ U + b, state[1])
        return (h, c), h

    return scan(wrap(step), state, xs, lengths)


def hoisted_scan(layer, state, xs, lengths):
    W, U, b = layer

    def step(state, z):
        h, c = gates(z + state[0] @ U, state[1])
        return (h, c), h

    return scan(step, state, xs @ W + b, lengths)


def scan_layers(sequence):
    """One layer after the other. In 16 bits everything has 16 bits, as it comes when written so."""

    def build(problem):
        def to(layers, states, xs):
            return layers, tuple(tuple(s.astype(xs.dtype) for s in state) for state in states), xs

        def call(args, lengths):
            layers, states, hs = args
            lasts = []
            for layer, state in zip(layers, states, strict=True):
                last, hs = sequence(layer, state, hs, lengths)
                lasts.append(last)
            return tuple(lasts), hs

        return Contestant(to, call)

    return build


# Libraries --------------------------------------------------------------------------------------


def blocks(x, H):
    """The gates' blocks i, f, g, o of the last axis."""
    return [x[..., n * H : (n + 1) * H] for n in range(4)]


def flax_rnn(problem, house=nn, loop=nn):
    H, dtype = problem.dhs.shape[-1], problem.xs.dtype

    def to(layers, states, xs):
        trees = []
        for W, U, b in layers:
            tree = {}
            for gate, w, u, v in zip("ifgo", blocks(W, H), blocks(U, H), blocks(b, H), strict=True):
                tree["i" + gate] = {"kernel": w}
                tree["h" + gate] = {"kernel": u, "bias": v}
            trees.append({"params": {"cell": tree}})
        return trees, [(c.astype(dtype), h) for h, c in states], xs

    def call(args, lengths):
        trees, carries, hs = args
        lasts = []
        for tree, carry in zip(trees, carries, strict=True):
            cell = house.OptimizedLSTMCell(H, dtype=dtype, param_dtype=dtype)
            rnn = loop.RNN(cell, time_major=True, return_carry=True)
            (c, h), hs = rnn.apply(tree, hs, initial_carry=carry, seq_lengths=lengths)
            lasts.append((h, c))
        return tuple(lasts), hs

    return Contestant(to, call)


def without_lengths(problem, name):
    if problem.lengths is not None:
        raise Absent(f"{name} has no lengths")


def require(module):
    if importlib.util.find_spec(module) is None:
        raise Absent(f"{module} is not installed")


def haiku(problem):
    require("haiku")
    without_lengths(problem, "haiku")
    import haiku as hk

    H, dtype = problem.dhs.shape[-1], problem.xs.dtype
    names = ["lstm", *(f"lstm_{n}" for n in range(1, len(problem.layers)))]

    def network(xs, states):
        core = hk.DeepRNN([hk.LSTM(H) for _ in names]) if len(names) > 1 else hk.LSTM(H)
        return hk.dynamic_unroll(core, xs, states)

    apply = hk.without_apply_rng(hk.transform(network)).apply

    def to(layers, states, xs):
        """Gates i, g, f, o; x and h side by side; 1 is added to the forget gate when called."""
        params = {}
        for name, (W, U, b) in zip(names, layers, strict=True):
            both = [jnp.concatenate(pair) for pair in zip(blocks(W, H), blocks(U, H), strict=True)]
            i, f, g, o = both
            b_i, b_f, b_g, b_o = blocks(b, H)
            w = jnp.concatenate([i, g, f, o], axis=1)
            params[f"{name}/linear"] = {"w": w, "b": jnp.concatenate([b_i, b_g, b_f - 1, b_o])}
        states = tuple(hk.LSTMState(h, c.astype(dtype)) for h, c in states)
        return params, states if len(names) > 1 else states[0], xs

    def call(args, lengths):
        params, states, xs = args
        hs, lasts = apply(params, xs, states)
        lasts = lasts if len(names) > 1 else (lasts,)
        return tuple((s.hidden, s.cell) for s in lasts), hs

    return Contestant(to, call)


def equinox(problem):
    require("equinox")
    without_lengths(problem, "equinox")
    import equinox as eqx

    H, dtype = problem.dhs.shape[-1], problem.xs.dtype
    blank = jax.eval_shape(
        lambda key: eqx.nn.LSTMCell(H, H, dtype=dtype, key=key), jax.random.key(0)
    )

    def to(layers, states, xs):
        get = lambda cell: (cell.weight_ih, cell.weight_hh, cell.bias)
        cells = [eqx.tree_at(get, blank, (W.T, U.T, b)) for W, U, b in layers]
        return cells, [(h, c.astype(dtype)) for h, c in states], jnp.swapaxes(xs, 0, 1)

    def one_example(cells, states, xs):
        lasts = []
        for cell, state in zip(cells, states, strict=True):

            def step(state, x, cell=cell):
                state = cell(x, state)
                return state, state[0]

            last, xs = lax.scan(step, state, xs)
            lasts.append(last)
        return tuple(lasts), xs

    def call(args, lengths):
        return jax.vmap(one_example, in_axes=(None, 0, 0))(*args)

    return Contestant(to, call, time=1)


def keras(problem):
    require("keras")
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    if keras.backend.backend() != "jax":
        raise Absent(f"Keras runs on {keras.backend.backend()} here; KERAS_BACKEND=jax")
    T, B, H = problem.dhs.shape
    dtype = problem.xs.dtype
    networks = []
    for _ in problem.layers:
        layer = keras.layers.LSTM(
            H,
            return_sequences=True,
            return_state=True,
            dtype=dtype.name,
            recurrent_initializer="zeros",  # ours come in; an orthogonal one has no bfloat16
        )
        layer.build((B, T, H))
        networks.append((layer, [v.value for v in layer.non_trainable_variables]))

    def to(layers, states, xs):
        states = [[h, c.astype(dtype)] for h, c in states]
        return [list(layer) for layer in layers], states, jnp.swapaxes(xs, 0, 1)

    def call(args, lengths):
        layers, states, hs = args
        mask = None if lengths is None else valid_steps(lengths, T)[..., 0].T
        lasts = []
        for (layer, others), params, state in zip(networks, layers, states, strict=True):
            (hs, h, c), _ = layer.stateless_call(
                params, others, hs, initial_state=state, mask=mask, training=True
            )
            lasts.append((h, c))
        return tuple(lasts), hs

    return Contestant(to, call, time=1)


def cudnn(problem):
    if jax.default_backend() != "gpu" or "NVIDIA" not in jax.devices()[0].device_kind:
        raise Absent("no NVIDIA GPU")
    if problem.xs.dtype != jnp.float32:
        raise Absent("jax.experimental.rnn is float32 only")
    from jax.experimental import rnn

    T, B, H = problem.dhs.shape
    full = jnp.full((B,), T, jnp.int32)

    def to(layers, states, xs):
        """One flat vector: W and U of every layer, then the two biases of every layer."""
        weights = [w.T.ravel() for W, U, _ in layers for w in (W, U)]
        biases = [b for layer in layers for b in (layer[2], jnp.zeros_like(layer[2]))]
        h, c = (jnp.stack([state[n] for state in states]) for n in (0, 1))
        return jnp.concatenate([*weights, *biases]), h, c, jnp.swapaxes(xs, 0, 1)

    def call(args, lengths):
        weights, h, c, xs = args
        lengths = full if lengths is None else lengths
        hs, h, c = rnn.lstm(xs, h, c, weights, lengths, H, H, len(h), 0.0, False)
        return tuple((h[n], c[n]) for n in range(len(problem.layers))), hs

    return Contestant(to, call, time=1)


CONTESTANTS = {
    "lstm": ours("full"),
    "frugal": ours("auto"),
    "kernel": on_a_cpu(ours("full", lstm=cpu.lstm)),
    "A0": scan_layers(plain_scan),
    "A1": scan_layers(hoisted_scan),
    "A2": scan_layers(functools.partial(plain_scan, wrap=jax.checkpoint)),
    "F": flax_rnn,
    "FR": functools.partial(flax_rnn, house=linen, loop=linen),
    "FC": functools.partial(flax_rnn, house=linen),
    "K": haiku,
    "E": equinox,
    "S": keras,
    "C": cudnn,
}
OURS = ("lstm", "frugal", "kernel")
