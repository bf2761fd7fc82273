"""What a trained character model writes."""

import jax
import jax.numpy as jnp

from experiments.kit import text
from experiments.kit.config import BadInput
from experiments.kit.language_model import training_length
from jax_lstm import init_lstm_state, lstm, lstm_cell
from jax_lstm.stages.readout import dense, embedding


def prompt_of(config, vocabulary, characters):
    """What was asked for, or the first characters that are held out."""
    if config.prompt is None:
        return characters[training_length(config, characters) :][:40]
    for character in config.prompt:
        if character not in vocabulary:
            raise BadInput("--prompt", f"{character!r} does not occur in the text")
    if not config.prompt:
        raise BadInput("--prompt", "must not be empty")
    return config.prompt


@jax.jit
def generate(params, tokens, temperature, keys):
    """Read the tokens (n,), then draw one token per key, each from softmax(y / temperature)."""
    xs = embedding(params.embedding, tokens)
    state, hs = lstm(params.lstm, init_lstm_state(params.lstm), xs)

    def body(carry, key):
        state, h = carry
        y = dense(params.readout, h) / temperature
        token = jax.random.categorical(key, y).astype(tokens.dtype)
        return lstm_cell(params.lstm, state, embedding(params.embedding, token)), token

    return jax.lax.scan(body, (state, hs[-1]), keys)[1]


def sample(config, params, vocabulary, prompt):
    """The text that the model writes after the prompt."""
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    keys = jax.random.split(key, config.sample_length)
    temperature = jnp.asarray(config.temperature, params.embedding.dtype)
    tokens = generate(params, text.tokens_of(prompt, vocabulary), temperature, keys)
    return "".join(vocabulary[token] for token in tokens.tolist())
