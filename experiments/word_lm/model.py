"""Zaremba's model: an embedding, LSTMs one above the other, a readout; dropout between them.

    x = E[word];   h1 = lstm(x);   h2 = lstm(h1);   y = h2 W + b

Each LSTM has two bias vectors, as in the source's code: b = b1 + b2 moves twice as fast. Dropout is
where nothing recurs: on x, between the layers, and on the last h.
"""

import jax
import jax.numpy as jnp

from jax_lstm import init_lstm_state
from jax_lstm.cells.lstm import LSTMParams
from jax_lstm.stages.readout import DenseParams


def init(key, V, H, layers, scale):
    """Every number from U(-scale, scale): embedding, weights and biases."""
    keys = iter(jax.random.split(key, 3 + 4 * layers))
    draw = lambda *shape: jax.random.uniform(next(keys), shape, jnp.float32, -scale, scale)
    return {
        "embedding": draw(V, H),
        "layers": [
            {"lstm": LSTMParams(draw(H, 4 * H), draw(H, 4 * H), draw(4 * H)), "b": draw(4 * H)}
            for _ in range(layers)
        ],
        "readout": DenseParams(draw(H, V), draw(V)),
    }


def init_state(params, B):
    return [init_lstm_state(layer["lstm"], (B,)) for layer in params["layers"]]


def drop(key, p, x):
    """Zero with probability p, and 1 / (1 - p) times what is left."""
    if key is None or not p:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - p, x.shape), x / (1 - p), 0)


def logits(params, states, tokens, route, key=None, p=0.0):
    """(y (T, B, V), the states after the last step); without a key nothing is dropped."""
    keys = [None] * (len(states) + 1) if key is None else jax.random.split(key, len(states) + 1)
    hs, after = drop(keys[0], p, route.embedding(params["embedding"], tokens)), []
    for layer, state, key in zip(params["layers"], states, keys[1:], strict=True):
        own = layer["lstm"]._replace(b=layer["lstm"].b + layer["b"])
        state, hs = route.sequence(own, state, hs)
        hs = drop(key, p, hs)
        after.append(state)
    return route.dense(params["readout"], hs), after


def loss(params, states, tokens, targets, route, key=None, p=0.0):
    """Nats per word, and the states after the last step."""
    y, states = logits(params, states, tokens, route, key, p)
    return route.loss(y, targets).mean(), states
