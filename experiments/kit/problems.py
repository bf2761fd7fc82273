"""Problems of memory: sequences that are drawn, what is asked of them, and what a guess gets.

    adding        of T numbers two are marked; their sum is asked for after the last one
    copy_memory   ten symbols, T blanks, a sign; the ten symbols are asked for, in their order

Whoever has kept nothing is best off with a guess that no sequence changes. Its loss follows from
how the sequences are drawn: 1/6, the variance of a sum of two numbers, and 10 ln 8 / (T + 20), ten
symbols of eight kinds in T + 20 steps.

Source: Hochreiter & Schmidhuber (1997); as drawn by Bai, Kolter & Koltun (2018), who mark any two
steps. Their copying network reads a symbol as one number; ours reads it one-hot.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm.stages.losses import softmax_cross_entropy
from jax_lstm.stages.readout import dense

SYMBOLS, KEPT = 8, 10  # kinds of symbols that are to be kept, and how many of them
BLANK, SIGN = 0, SYMBOLS + 1


class Problem(NamedTuple):
    """draw: (key, T) -> xs (steps, D) float32, targets, of one sequence.
    loss: (readout, hs (steps, B, H), targets with examples along `axis`) -> the mean over examples.
    guess: T -> the loss of the best answer that no sequence changes.
    guess_how: in words.
    bar: T -> the loss from which on we say that it was learnt.
    published: pairs of T and the loss of an LSTM in print; source: where that is.
    """

    draw: Callable
    loss: Callable
    D: int
    V: int
    axis: int
    measure: str
    guess: Callable
    guess_how: str
    bar: Callable
    published: tuple[tuple[int, float], ...]
    source: str


def draw_sum(key, T):
    """Numbers in [0, 1) and marks, (T, 2); the sum of the two that are marked."""
    key_x, key_first, key_between = jax.random.split(key, 3)
    numbers = jax.random.uniform(key_x, (T,), jnp.float32)
    first = jax.random.randint(key_first, (), 0, T, jnp.int32)
    second = (first + jax.random.randint(key_between, (), 1, T, jnp.int32)) % T
    marks = jax.nn.one_hot(first, T, dtype=jnp.float32)
    marks = marks + jax.nn.one_hot(second, T, dtype=jnp.float32)
    return jnp.stack([numbers, marks], axis=-1), (numbers * marks).sum()


def squared_error(readout, hs, sums):
    """Mean over examples of (answer after the last step - sum)²."""
    return jnp.square(dense(readout, hs[-1])[:, 0] - sums).mean()


def draw_copy(key, T):
    """Ten symbols, T - 1 blanks and eleven signs, one-hot (T + 20, 10); the symbol that is asked
    for after each of them: blanks, and the ten in the end."""
    symbols = jax.random.randint(key, (KEPT,), 1, SIGN, jnp.int32)
    blanks = jnp.full((T - 1,), BLANK, jnp.int32)
    read = jnp.concatenate([symbols, blanks, jnp.full((KEPT + 1,), SIGN, jnp.int32)])
    asked = jnp.concatenate([jnp.full((T + KEPT,), BLANK, jnp.int32), symbols])
    return jax.nn.one_hot(read, SIGN + 1, dtype=jnp.float32), asked


def cross_entropy(readout, hs, targets):
    """Nats per step, mean over all of them and over examples."""
    return softmax_cross_entropy(dense(readout, hs), targets).mean()


def nats_of_nothing_kept(T):
    return KEPT * math.log(SYMBOLS) / (T + 2 * KEPT)


GUESS = 1 / 6  # mean squared error of always 1, the variance of a sum of two numbers

PROBLEMS = {
    "adding": Problem(
        draw_sum,
        squared_error,
        D=2,
        V=1,
        axis=0,
        measure="mean squared error",
        guess=lambda T: GUESS,
        guess_how="the answer 1 to every sequence",
        bar=lambda T: 0.01,
        published=((600, 0.164),),
        source="an LSTM at T = 600 in the table of Bai, Kolter & Koltun (2018), arXiv:1803.01271",
    ),
    "copy_memory": Problem(
        draw_copy,
        cross_entropy,
        D=SIGN + 1,
        V=SIGN + 1,
        axis=1,
        measure="nats per step",
        guess=nats_of_nothing_kept,
        guess_how="10 ln 8 / (T + 20), blanks and then any symbol",
        bar=lambda T: nats_of_nothing_kept(T) / 2,
        published=((1000, 0.0204),),
        source="an LSTM at T = 1000 in the table of Bai, Kolter & Koltun (2018), arXiv:1803.01271, "
        "where the floor is that number",
    ),
}
