"""What test_linen and test_nnx share: the cases, and how two RNNs are compared."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jax_lstm as jl
from jax_lstm.interop import flax_loop
from jax_lstm.stages import clear
from tests.tables import QUICK, assert_close, normal_like, value_and_cotangents

T, B, D, H = 7, 2, 3, 5
TOLERANCE = {"float64": 1e-11, "float32": 1e-5}
CELLS = ("OptimizedLSTMCell", "LSTMCell", "SimpleCell")
NOTHING = MappingProxyType({})


class Case(NamedTuple):
    """`rnn` is given to the constructor, `call` to the call, `cell` to the constructor of the
    cell. Sequences are batch-major, unless `rnn` or `call` says otherwise."""

    name: str = "OptimizedLSTMCell"
    batch: tuple[int, ...] = (B,)
    lengths: Any = None
    rnn: Mapping[str, Any] = NOTHING
    call: Mapping[str, Any] = NOTHING
    cell: Mapping[str, Any] = NOTHING
    dtype: str = "float64"


BACK, ORDER, MAJOR = {"reverse": True}, {"keep_order": True}, {"time_major": True}
CASES = {
    "plain": Case(),
    "two batch axes, reverse, unrolled": Case(batch=(2, 3), rnn={"unroll": 2}, call=BACK),
    "lengths": Case(lengths=[3, 7]),
    "a length": Case(batch=(), lengths=4, call=MAJOR),
    "reverse, in order": Case(rnn=BACK, call=ORDER),
    "reverse, lengths": Case(lengths=[3, 6], rnn=BACK),
    "reverse, lengths, in order": Case(lengths=[1, 6], rnn=ORDER, call=BACK),
    "all at once": Case(lengths=[6, 2], rnn=MAJOR, call=BACK | ORDER),
    "all but the order": Case(lengths=[6, 2], rnn=BACK | ORDER, call=MAJOR | {"keep_order": False}),
    "float32": Case(lengths=[3, 7], dtype="float32"),
    "LSTMCell": Case("LSTMCell", lengths=[3, 6], call=BACK),
    "LSTMCell, float32": Case("LSTMCell", batch=(), dtype="float32"),
    "SimpleCell": Case("SimpleCell", lengths=[3, 6], call=BACK),
    "SimpleCell, residual": Case("SimpleCell", lengths=[3, 7], cell={"residual": True}),
    "SimpleCell, float32": Case("SimpleCell", rnn=MAJOR, dtype="float32"),
}
OVER_STEPS = ("plain", "all at once", "LSTMCell", "SimpleCell, residual", "float32")


def cell_options(case):
    return {**case.cell, "dtype": case.dtype, "param_dtype": case.dtype}


def is_time_major(case):
    return (case.rnn | case.call).get("time_major", False)


def inputs(case):
    """The carry before the first step, and the sequence."""
    state = jax.ShapeDtypeStruct((*case.batch, H), case.dtype)
    shape = (T, *case.batch, D) if is_time_major(case) else (*case.batch, T, D)
    carry = state if case.name == "SimpleCell" else (state, state)
    return normal_like(3, (carry, jax.ShapeDtypeStruct(shape, case.dtype)))


def sequence(dtype="float32", **changes):
    return inputs(Case(dtype=dtype, **changes))[1]


def call_options(case):
    lengths = case.lengths if case.lengths is None else jnp.asarray(case.lengths)
    return {**case.call, "return_carry": True, "seq_lengths": lengths}


def in_valid_steps(xs, lengths):
    """Zeros in padding. Flipped or not, it stands at the end."""
    valid = np.arange(T) < np.asarray(lengths)[..., None]
    return jnp.where(valid[..., None], xs, 0)


def break_padding(xs):
    """NaN, infinity and what overflows in x W; and what that counts as when it is padding."""
    bad = {(0, 4, 1): jnp.nan, (1, 6, 2): -jnp.inf, (0, 5): jnp.finfo(xs.dtype).max}
    good = xs
    for at, value in bad.items():
        xs, good = xs.at[at].set(value), good.at[at[:2]].set(0)
    return xs, good


def results(case, run, params):
    """Carry, outputs and every cotangent of run(params, carry, xs) -> (carry, outputs). All steps
    are looked at, padding, too."""
    return value_and_cotangents(run, (params, *inputs(case)), options=QUICK)


def assert_same_numbers(case, got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    assert [x.dtype for x in jax.tree.leaves(got)] == [x.dtype for x in jax.tree.leaves(want)]
    assert_close(got, want, TOLERANCE[case.dtype])


def in_loops(jaxpr, name, shape, inside=False):
    """How often the primitive makes an array of this shape inside of a loop over time."""
    found = 0
    for eqn in jaxpr.eqns:
        made = [v.aval.shape for v in eqn.outvars]
        found += inside and eqn.primitive.name == name and shape in made
        is_jaxpr = lambda p: hasattr(p, "jaxpr") or hasattr(p, "eqns")
        for inner in filter(is_jaxpr, jax.tree.leaves(eqn.params, is_leaf=is_jaxpr)):
            inner = getattr(inner, "jaxpr", inner)
            found += in_loops(inner, name, shape, inside or eqn.primitive.name == "scan")
    return found


# What the comparison must reject: (case, what is replaced in flax_loop, by what) ------------------


def swap_gates(i, h, bias):
    """Our blocks filled in haiku's order, i, g, f, o."""
    swap = lambda blocks: jnp.concatenate([blocks[n] for n in (0, 2, 1, 3)], axis=-1)
    return jl.LSTMParams(swap(i), swap(h), swap(bias))


def swap_carry(state, dtype):
    """(h, c) where flax has (c, h)."""
    return state.h.astype(dtype), state.c.astype(dtype)


def flip_as_a_whole(x, lengths, num_batch_dims, time_major):
    """Padding goes to the front."""
    return jnp.flip(x, 0 if time_major else num_batch_dims)


MUTANTS = {
    "gate order": ("LSTMCell", "pack", swap_gates),
    "carry order": ("plain", "LSTM_KIND", flax_loop.LSTM_KIND._replace(carry=swap_carry)),
    "padding cleared": ("lengths", "clear_not_finite", lambda valid, x, weights: clear(valid, x)),
    "padding in front": ("reverse, lengths", "flip_sequences", flip_as_a_whole),
}

# Training: sequences of bits, is their sum odd? ---------------------------------------------------

STEPS = 200


def bits():
    """All sequences of four bits (16, 4, 1), and whether their sums are odd."""
    xs = (np.arange(16)[:, None] >> np.arange(4)) & 1
    return jnp.asarray(xs[..., None], jnp.float32), jnp.asarray(xs.sum(1) % 2, jnp.int32)
