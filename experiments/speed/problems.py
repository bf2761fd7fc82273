"""What is asked, and the records of who answers: a case in our layout, and a contestant.

A contestant brings three things: `to`, from our numbers to its own arguments, which happens before
the clock starts; `call`, what is timed; and the axis of time. Its gradient comes back to our layout
by the transpose of `to`, so that all can be compared. One that has its own way to a tangent or to a
product with a Hessian brings that too; of the others JAX makes it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jax_lstm as jl


class Absent(Exception):
    """This contestant does not run here; the message says why."""


class Problem(NamedTuple):
    """A case in our layout: a tuple of parameters and one of states, one for each layer, or one for
    each direction where both_ways; xs (T, B, D); dhs (T, B, H), or (T, B, 2H) both ways, the
    cotangent from above; lengths (B,) int32 or None; the cell's name in `jax_lstm`."""

    layers: Any
    states: Any
    xs: Any
    dhs: Any
    lengths: Any
    cell: str = "lstm"
    both_ways: bool = False


class Contestant(NamedTuple):
    """to(layers, states, xs) -> args; call(args, lengths) -> (((h, c), ...), hs); hs has time on
    axis `time`. Rows of padding in hs may hold anything. Where it has its own derivatives:
    jvp(args, dots, lengths) -> (what call returns, its tangent), and
    hvp(args, dots, dhs, lengths) -> the Hessian of vdot(hs, dhs) times dots, like args."""

    to: Callable[..., Any]
    call: Callable[..., Any]
    time: int = 0
    jvp: Callable[..., Any] | None = None
    hvp: Callable[..., Any] | None = None


def problem(
    size, seed=0, *, layers=1, dtype=jnp.float32, lengths=False, cell="lstm", both_ways=False
):
    """Random numbers for (T, B, D = H). With lengths half of the examples are shorter, and nobody
    looks at the padding: dhs is zero there."""
    T, B, H = size
    rng = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape) / H**0.5, dtype)
    drawn = lambda tree: jax.tree.map(lambda x: normal(*x.shape).astype(x.dtype), tree)
    init, init_state = (getattr(jl, f"init_{name}") for name in (cell, f"{cell}_state"))
    one = jax.eval_shape(lambda key: init(key, H, H, dtype=dtype), jax.random.key(0))
    start = jax.eval_shape(lambda params: init_state(params, (B,)), one)
    n = 2 if both_ways else layers
    params, states = (tuple(drawn(tree) for _ in range(n)) for tree in (one, start))
    xs = jnp.asarray(rng.normal(size=(T, B, H)), dtype)
    dhs = normal(T, B, 2 * H if both_ways else H)
    made = Problem(params, states, xs, dhs, None, cell, both_ways)
    if not lengths:
        return made
    shorter = rng.integers(T // 4, T, size=B, dtype=np.int32, endpoint=False)
    n = jnp.asarray(np.where(np.arange(B) >= B // 2, shorter, T), jnp.int32)
    return made._replace(dhs=jnp.where(valid_steps(n, T), dhs, 0), lengths=n)


def map_arrays(f, problem):
    """The problem with f of every array."""
    arrays = jax.tree.map(f, problem[:5])
    return Problem(*arrays, problem.cell, problem.both_ways)


def valid_steps(lengths, T):
    return (jnp.arange(T, dtype=lengths.dtype) < lengths[:, None]).T[..., None]


def walk(both_ways, sequence, pieces, below):
    """(last states, outputs) of layers on top of each other, or of two directions side by side.

    sequence(piece, below, reverse) -> (last, above), for the piece of a layer or direction.
    """
    lasts, outputs = [], []
    for n, piece in enumerate(pieces):
        last, above = sequence(piece, below, both_ways and n == 1)
        lasts.append(last)
        outputs.append(above)
        below = below if both_ways else above
    if not both_ways:
        return tuple(lasts), below
    return tuple(lasts), jax.tree.map(lambda *hs: jnp.concatenate(hs, axis=-1), *outputs)
