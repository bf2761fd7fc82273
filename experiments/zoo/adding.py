"""The adding problem: of T numbers two are marked, and their sum is asked for after the last one.

Who always answers 1 is wrong by 1/6 on average, squared. Source: Hochreiter & Schmidhuber (1997);
uniform in [0, 1], one mark in each half.
"""

import jax
import jax.numpy as jnp

from experiments.kit.problems import GUESS as GUESS


def draw(key, T, B):
    """xs (T, B, 2), numbers and marks, and sums (B,)."""
    key_x, key_first, key_second = jax.random.split(key, 3)
    numbers, half = jax.random.uniform(key_x, (T, B)), T // 2
    first = jax.random.randint(key_first, (B,), 0, half)
    second = jax.random.randint(key_second, (B,), half, T)
    marks = jax.nn.one_hot(first, T, axis=0) + jax.nn.one_hot(second, T, axis=0)
    return jnp.stack([numbers, marks], axis=-1), (numbers * marks).sum(0)
