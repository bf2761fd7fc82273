"""What the networks read: random numbers, numbers of one's own, a text; and whether it fits."""

import math

import numpy as np

from experiments.gradient_flow.measure import EXACT
from experiments.kit.config import BadInput, check_memory
from experiments.kit.language_model import length_option
from jax_lstm.files.arrays import array_of_npy

LONGEST = 2000  # steps: a picture has a column for each
LARGEST = 2**27  # numbers in the Jacobians of one network: 1 GiB


def random_input(config):
    """Standard normal numbers, which is what a fresh embedding consists of as well."""
    shape = (config.window, config.examples, config.embedding)
    check_memory("--examples", 8 * math.prod(shape), "random input")
    return np.random.default_rng(config.seed).normal(size=shape)


def read_input(path):
    """Numbers (T, B, D) of a .npy file."""
    try:
        xs = array_of_npy(path)
    except OSError as error:
        raise BadInput("--input", f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise BadInput("--input", f"{path} is not a .npy file of numbers: {error}") from None
    if xs.dtype.kind not in "fiu" or xs.ndim != 3:
        raise BadInput(
            "--input", f"must be numbers (T, B, D), time first; {path} holds {xs.dtype} {xs.shape}"
        )
    if not all(xs.shape):
        T, B, D = xs.shape
        raise BadInput("--input", f"{path} is empty: T = {T}, B = {B}, D = {D}; each must be >= 1")
    bad = np.argwhere(~np.isfinite(xs))
    if len(bad):
        t, b, d = bad[0]
        raise BadInput(
            "--input",
            f"{path} holds {xs[t, b, d]} at t = {t}, b = {b}, d = {d} ({len(bad)} such numbers); "
            "it would reach every later step and all of its gradient",
        )
    return xs.astype(np.float64)


def check_room(config, option, T, B):
    """Complain about what is too long to draw, or too large to form Jacobians of."""
    if T < 2:
        raise BadInput(option, f"T = {T} step is no way for a gradient to go; give at least 2")
    if T > LONGEST:
        raise BadInput(
            option,
            f"T = {T} steps are more than a picture has columns; at most {LONGEST}: give fewer",
        )
    numbers = T * B * config.hidden**2
    if config.hidden <= EXACT and numbers > LARGEST:
        raise BadInput(
            option,
            f"Jacobians of T = {T}, B = {B}, H = {config.hidden} are {numbers / LARGEST:.1f} GiB, "
            f"at most 1: fewer steps or examples, or --hidden above {EXACT}, where none are formed",
        )


def examples_of(config, data):
    """B windows of the text that is held out: T tokens of each, (T, B), and their targets, (B,)."""
    T, B = config.window, config.examples
    tokens = data.held_out.T.ravel()
    if len(tokens) < B * (T + 1):
        raise BadInput(
            length_option(config),
            f"{len(tokens)} of its characters are held out, and {B} examples of {T} steps need "
            f"{B * (T + 1)}; a longer text, or a smaller --examples or --window",
        )
    tokens = tokens[: B * (T + 1)].reshape(B, T + 1).T
    return tokens[:-1], tokens[-1]
