"""What a gradient of a cell costs, by hand and by JAX: milliseconds in turn, and bytes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from experiments.kit import record, timing
from experiments.zoo.training import init_cell
from jax_lstm.engine.routes import init_state, make_rnn

SIDES = ("hand", "jax")


def program(sequence, args, dhs):
    """The gradient of vdot(hs, dhs) by params, state and xs, compiled."""

    def loss(params, state, xs, dhs):
        return jnp.vdot(sequence(params, state, xs)[1], dhs)

    return jax.jit(jax.grad(loss, (0, 1, 2))).lower(*args, dhs).compile()


def problem(cell, T, B, D, H):
    """params, state, xs, and a cotangent of hs, in float32."""
    params = init_cell(cell, jax.random.key(0), D, H)
    xs, dhs = np.random.default_rng(0).standard_normal((2, T, B, max(D, H))).astype(np.float32)
    state = init_state(cell, params, (B,))
    return (params, state, jnp.asarray(xs[..., :D])), jnp.asarray(dhs[..., : state[0].shape[-1]])


def measure(config, cell, path):
    """Append a line to `path`: median and least times, their ratio round by round, bytes."""
    T, B, D, H = config.cost_size
    args, dhs = problem(cell, T, B, D, H)
    compiled = dict(zip(SIDES, (program(f, args, dhs) for f in make_rnn(cell)), strict=True))

    def run(side):
        return jax.block_until_ready(compiled[side](*args, dhs))

    before = timing.load()
    todo = {side: functools.partial(run, side) for side in SIDES}
    seconds = timing.interleave(todo, config.rounds, config.budget, cell.name)
    ratios = np.divide(*(seconds[side] for side in SIDES))
    line = {
        "parameters": sum(math.prod(x.shape) for x in args[0]),
        "ms": {side: 1e3 * float(np.median(seconds[side])) for side in SIDES},
        "least_ms": {side: 1e3 * min(seconds[side]) for side in SIDES},
        "ratio": float(np.median(ratios)),
        "temp_bytes": {side: compiled[side].memory_analysis().temp_size_in_bytes for side in SIDES},
        "rounds": len(ratios),
        "load": [before, timing.load()],
    }
    record.append(path, kind="cost", cell=cell.name, **line)
