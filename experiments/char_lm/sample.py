"""What a trained character model writes."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp

from experiments.kit import language_model as lm
from experiments.kit import text
from experiments.kit.config import BadInput
from jax_lstm import init_lstm_state, lstm, lstm_cell
from jax_lstm.stages.readout import dense, embedding
from jax_lstm.training.update import init_language_model


def prompt_of(config, vocabulary, characters):
    """What was asked for, or the first characters that are held out."""
    if config.prompt is None:
        return lm.held_out_of(config, characters)[:40]
    return check_prompt(config.prompt, vocabulary)


def check_prompt(prompt, vocabulary):
    for character in prompt:
        if character not in vocabulary:
            raise BadInput("--prompt", f"{character!r} does not occur in the text")
    if not prompt:
        raise BadInput("--prompt", "must not be empty")
    return prompt


def init_params(found):
    """Parameters of the form that a run has; `found` is its config.json."""
    config, V = found["config"], len(found["vocabulary"])
    return init_language_model(jax.random.key(0), V, config["embedding"], config["hidden"])


def continue_text(config, found, params):
    """For `experiments.sample`: the prompt and what comes after it; `found` is the config.json."""
    vocabulary, prompt = found["vocabulary"], config.prompt
    if prompt is None:
        then = SimpleNamespace(**found["config"])
        prompt = lm.held_out_of(then, lm.read_text(then).characters)[:40]
    prompt = check_prompt(prompt, vocabulary)
    tokens = text.tokens_of(prompt, vocabulary)
    drawn = draw(params, tokens, config.seed, config.temperature, config.length)
    return prompt + "".join(vocabulary[token] for token in drawn)


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
    tokens = text.tokens_of(prompt, vocabulary)
    drawn = draw(params, tokens, config.seed, config.temperature, config.sample_length)
    return "".join(vocabulary[token] for token in drawn)


def draw(params, tokens, seed, temperature, length):
    """Tokens after the tokens (n,), int32: a list of `length`."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1), length)
    temperature = jnp.asarray(temperature, params.embedding.dtype)
    return generate(params, tokens, temperature, keys).tolist()
