"""Who else runs: an LSTM of each library, called as its users would, with the same numbers in.

    F   flax.linen nn.RNN(OptimizedLSTMCell), nn.Bidirectional of two, nn.RNN(GRUCell)
    K   haiku, hk.dynamic_unroll            E   equinox, a scan under vmap
    S   Keras on JAX, layers.LSTM           C   cuDNN by jax.experimental.rnn

(P, torch, is in peers_torch.py.)
"""

import importlib.util
import os

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from experiments.speed.problems import Absent, Contestant, valid_steps


def blocks(x, H):
    """The gates' blocks of the last axis: i, f, g, o of an LSTM and r, z, n of a GRU."""
    return [x[..., n * H : (n + 1) * H] for n in range(x.shape[-1] // H)]


def flax_lstm(layer, H):
    tree = {}
    for gate, w, u, v in zip("ifgo", *(blocks(x, H) for x in layer), strict=True):
        tree["i" + gate] = {"kernel": w}
        tree["h" + gate] = {"kernel": u, "bias": v}
    return tree


def flax_gru(layer, H):
    """One bias a gate, and a second one of the candidate, inside its reset."""
    W, U, b, c = (blocks(x, H) for x in layer)
    tree = {}
    for k, gate in enumerate("rzn"):
        tree["i" + gate] = {"kernel": W[k], "bias": b[k] if gate == "n" else b[k] + c[k]}
        tree["h" + gate] = {"kernel": U[k]} | ({"bias": c[k]} if gate == "n" else {})
    return tree


def flax_rnn(problem, house=nn, loop=nn):
    """A layer, layers on top of each other, or a forward and a backward one side by side."""
    H = problem.dhs.shape[-1] // (2 if problem.both_ways else 1)
    dtype, is_gru = problem.xs.dtype, problem.cell == "gru"
    carry_of = (lambda s: s[0]) if is_gru else (lambda s: (s[1].astype(dtype), s[0]))
    state_of = (lambda carry: (carry,)) if is_gru else (lambda carry: carry[::-1])

    def one_way():
        cell = nn.GRUCell if is_gru else house.OptimizedLSTMCell
        return loop.RNN(cell(H, dtype=dtype, param_dtype=dtype), time_major=True, return_carry=True)

    def to(layers, states, xs):
        trees = [{"cell": (flax_gru if is_gru else flax_lstm)(layer, H)} for layer in layers]
        carries = [carry_of(state) for state in states]
        if problem.both_ways:
            tree = {"params": dict(zip(("forward_rnn", "backward_rnn"), trees, strict=True))}
            return tree, tuple(carries), xs
        return [{"params": tree} for tree in trees], carries, xs

    def call(args, lengths):
        trees, carries, hs = args
        if problem.both_ways:
            both = nn.Bidirectional(one_way(), one_way(), time_major=True, return_carry=True)
            lasts, hs = both.apply(trees, hs, initial_carry=carries, seq_lengths=lengths)
            return tuple(map(state_of, lasts)), hs
        lasts = []
        for tree, carry in zip(trees, carries, strict=True):
            last, hs = one_way().apply(tree, hs, initial_carry=carry, seq_lengths=lengths)
            lasts.append(state_of(last))
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
