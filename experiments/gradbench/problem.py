"""The LSTM of ADBench and GradBench: what it is given, and its objective as a plain scan.

Per step t, every product element-wise, b numbers wide:

    x = in_weight x_t                                   then for each of the l layers
    f = sigmoid(w_f x + b_f)        i = sigmoid(w_i h + b_i)      f and o see the layer's input,
    o = sigmoid(w_o x + b_o)        g = tanh(w_g h + b_g)         i and g its own h of before
    c <- c f + i g                  h <- o tanh(c)                and the next layer's x is h
    y = out_weight h + out_bias
    loss = -Σ_{t<c-1} <x_{t+1}, y_t - log(2 + Σ exp y_t)> / ((c-1) b)

Source: GradBench's evals/lstm and ADBench's file format, which were read.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_lstm.files import disk

WIDTH = 14  # b of ADBench's own files: the bits of a character


class Problem(NamedTuple):
    """Arrays of float64.

    main (2l, 4b): a row of weights and a row of biases per layer, blocks f, i, o, g.
    extra (3, b): in_weight, out_weight, out_bias.
    state (2l, b): h and c per layer; not differentiated.
    sequence (c, b).
    """

    main: np.ndarray
    extra: np.ndarray
    state: np.ndarray
    sequence: np.ndarray


def shapes(layers, steps, width):
    return Problem((2 * layers, 4 * width), (3, width), (2 * layers, width), (steps, width))


def random_problem(layers, steps, width=WIDTH, seed=0):
    """As ADBench draws its files: uniform in [0, 1), and bits for the sequence."""
    rng = np.random.default_rng([seed, layers, steps])
    *drawn, bits = shapes(layers, steps, width)
    return Problem(*(rng.random(shape) for shape in drawn), rng.integers(0, 2, bits).astype(float))


def read_problem(path):
    """A file in ADBench's format: "l c b", then the rows of main, extra, state and sequence.

    Raises:
      ValueError: the file and what is wrong in it.
    """
    with disk.reading(path):
        words = disk.read(path).decode("utf-8").split()
        layers, steps, width = (int(word) for word in words[:3])
        wanted = shapes(layers, steps, width)
        numbers = np.array(words[3:], float)
        sizes = [rows * columns for rows, columns in wanted]
        if len(numbers) != sum(sizes):
            raise ValueError(
                f"l = {layers}, c = {steps}, b = {width} want {sum(sizes)} numbers; "
                f"{len(numbers)} are there"
            )
    parts = np.split(numbers, np.cumsum(sizes)[:-1])
    return check(Problem(*(part.reshape(s) for part, s in zip(parts, wanted, strict=True))))


def check(problem):
    """The problem, whose shapes belong together and whose numbers are finite.

    Raises:
      ValueError: what is wrong, by the array's name.
    """
    problem = Problem(*(matrix(*pair) for pair in zip(Problem._fields, problem, strict=True)))
    layers, width = len(problem.main) // 2, problem.extra.shape[1]
    for name, x, shape in zip(
        Problem._fields, problem, shapes(layers, len(problem.sequence), width), strict=True
    ):
        if x.shape != shape or not layers or not width:
            raise ValueError(f"{name} must be {shape}, of l = {layers} layers; got {x.shape}")
    if len(problem.sequence) < 2:
        raise ValueError("sequence must have two rows at least: each is compared with the next")
    return problem


def matrix(name, rows):
    try:
        x = np.asarray(rows, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be rows of numbers, all of one length") from error
    if x.ndim != 2 or not np.isfinite(x).all():
        raise ValueError(f"{name} must be rows of finite numbers, all of one length")
    return x


def objective_autodiff(main, extra, state, sequence):
    """The loss as people write it, for JAX to differentiate."""
    layers, width = main.shape[0] // 2, extra.shape[1]
    rows, state = main.reshape(layers, 2, 4, width), state.reshape(layers, 2, width)
    in_weight, out_weight, out_bias = extra

    def body(state, x):
        x, after = in_weight * x, []
        for (weights, biases), (h, c) in zip(rows, state, strict=True):
            f, o = (jax.nn.sigmoid(weights[k] * x + biases[k]) for k in (0, 2))
            i, g = jax.nn.sigmoid(weights[1] * h + biases[1]), jnp.tanh(weights[3] * h + biases[3])
            c = c * f + i * g
            x = o * jnp.tanh(c)
            after.append((x, c))
        y = out_weight * x + out_bias
        return after, y - jnp.log(2 + jnp.sum(jnp.exp(y)))

    _, answers = lax.scan(body, [tuple(layer) for layer in state], sequence[:-1])
    return -jnp.vdot(sequence[1:], answers) / ((len(sequence) - 1) * width)


jacobian_autodiff = jax.grad(objective_autodiff, (0, 1))
