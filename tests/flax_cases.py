"""What test_linen and test_nnx share: the cases, and how two RNNs are compared."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tables import QUICK, assert_close, normal_like, value_and_cotangents

T, B, D, H = 7, 2, 3, 5
TOLERANCE = {"float64": 1e-11, "float32": 1e-5}


class Case(NamedTuple):
    """`rnn` is given to the constructor, `call` to the call, `cell` to the constructor of the
    cell. Sequences are batch-major, unless `rnn` or `call` says otherwise."""

    name: str = "OptimizedLSTMCell"
    batch: tuple[int, ...] = (B,)
    lengths: Any = None
    rnn: dict[str, Any] = {}  # noqa: RUF012
    call: dict[str, Any] = {}  # noqa: RUF012
    cell: dict[str, Any] = {}  # noqa: RUF012
    dtype: str = "float64"


BACK, ORDER, MAJOR = {"reverse": True}, {"keep_order": True}, {"time_major": True}
CASES = {
    "plain": Case(),
    "no batch axis": Case(batch=()),
    "two batch axes, unrolled": Case(batch=(2, 3), rnn={"unroll": 2}),
    "time major": Case(rnn=MAJOR),
    "lengths": Case(lengths=[3, 7]),
    "a length": Case(batch=(), lengths=4, call=MAJOR),
    "reverse": Case(call=BACK),
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


def call_options(case):
    lengths = case.lengths if case.lengths is None else jnp.asarray(case.lengths)
    return {**case.call, "return_carry": True, "seq_lengths": lengths}


def in_valid_steps(case, outputs):
    """Zeros in padding, where nobody looks: its cotangents are then zero, too. Flipped or not, the
    padding stands at the end."""
    if case.lengths is None:
        return outputs
    valid = jnp.arange(T) < jnp.asarray(case.lengths)[..., None]
    valid = jnp.moveaxis(valid, -1, 0) if is_time_major(case) else valid
    return jnp.where(valid[..., None], outputs, 0)


def results(case, run, params):
    """Carry, outputs and every cotangent of run(params, carry, xs) -> (carry, outputs)."""

    def looked_at(params, carry, xs):
        carry, outputs = run(params, carry, xs)
        return carry, in_valid_steps(case, outputs)

    return value_and_cotangents(looked_at, (params, *inputs(case)), options=QUICK)


def assert_same_numbers(case, got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    assert [x.dtype for x in jax.tree.leaves(got)] == [x.dtype for x in jax.tree.leaves(want)]
    assert_close(got, want, TOLERANCE[case.dtype])


def products_in_loops(f, *args, shape):
    """How often an array of this shape is put together inside of a loop over time."""

    def count(jaxpr, inside):
        found = 0
        for eqn in jaxpr.eqns:
            made = [v.aval.shape for v in eqn.outvars]
            found += inside and eqn.primitive.name == "concatenate" and shape in made
            for inner in jax.core.jaxprs_in_params(eqn.params):
                found += count(inner, inside or eqn.primitive.name == "scan")
        return found

    return count(jax.make_jaxpr(f)(*args).jaxpr, False)
