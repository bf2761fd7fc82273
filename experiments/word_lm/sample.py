"""What a trained word model writes."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.kit.config import BadInput
from experiments.kit.routes import ROUTES
from experiments.word_lm import model
from experiments.word_lm.words import END, words_of


def init_params(found):
    """Parameters of the form that a run has; `found` is its config.json."""
    config, V = found["config"], len(found["vocabulary"])
    return model.init(jax.random.key(0), V, config["hidden"], config["layers"], config["scale"])


def continue_text(config, found, params):
    """For `experiments.sample`: the prompt and what comes after it; `found` is the config.json."""
    vocabulary = found["vocabulary"]
    prompt = END if config.prompt is None else config.prompt
    place = {word: n for n, word in enumerate(vocabulary)}
    given = words_of(prompt)
    for word in given:
        if word not in place:
            raise BadInput("--prompt", f"{word!r} is not in the vocabulary")
    if not given:
        raise BadInput("--prompt", "must not be empty")
    keys = jax.random.split(jax.random.key(config.seed), config.length)
    tokens = np.array([place[word] for word in given], np.int32)
    drawn = generate(params, tokens[:, None], jnp.float32(config.temperature), keys).tolist()
    return " ".join([*given, *(vocabulary[n] for n in drawn)]).replace(END, "\n")


@jax.jit
def generate(params, tokens, temperature, keys):
    """Read the tokens (n, 1), then draw one token per key, each from softmax(y / temperature)."""
    y, states = model.logits(params, model.init_state(params, 1), tokens, ROUTES["manual"])

    def body(carry, key):
        states, y = carry
        token = jax.random.categorical(key, y / temperature).astype(tokens.dtype)
        y, states = model.logits(params, states, token[None], ROUTES["manual"])
        return (states, y[-1]), token[0]

    return jax.lax.scan(body, (states, y[-1]), keys)[1]
