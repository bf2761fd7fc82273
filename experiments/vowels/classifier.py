"""The classifier: one LSTM forward, one in reverse, the mean of their outputs read out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm import init_dense, init_lstm, init_lstm_state, lstm
from jax_lstm.cells.lstm import LSTMParams
from jax_lstm.stages.losses import softmax_cross_entropy
from jax_lstm.stages.readout import DenseParams, dense

SEGMENT = 16  # steps that share a weight product: sums over time are the same for any padding


class Classifier(NamedTuple):
    """Two LSTMs, and W (2H, V), b (V,) for the means of their outputs."""

    forward: LSTMParams
    reverse: LSTMParams
    readout: DenseParams


def init(key, D, H, V):
    keys = jax.random.split(key, 3)
    return Classifier(
        init_lstm(keys[0], D, H), init_lstm(keys[1], D, H), init_dense(keys[2], 2 * H, V)
    )


def logits(params, xs, lengths, sequence=lstm):
    """y = mean over an utterance's own steps of [forward; reverse], times W, plus b.

    `sequence` is `lstm`, or another route to its gradient with these options.

    Segments of a fixed length, and padding to a multiple of it: every sum over time has the same
    terms in the same order for any padding, but for zeros.
    """
    state = init_lstm_state(params.forward, xs.shape[1:-1])
    options = {"lengths": lengths, "residuals": SEGMENT}
    _, forward = sequence(params.forward, state, xs, **options)
    _, reverse = sequence(params.reverse, state, xs, reverse=True, **options)
    hs = jnp.concatenate([forward, reverse], axis=-1)
    parts = hs.reshape((-1, SEGMENT, *hs.shape[1:])).sum(1)
    return dense(params.readout, parts.sum(0) / lengths.astype(hs.dtype)[:, None])


def loss(params, xs, lengths, speakers, sequence=lstm):
    return softmax_cross_entropy(logits(params, xs, lengths, sequence), speakers).mean()
