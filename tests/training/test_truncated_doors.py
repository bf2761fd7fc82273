"""TBPTT under transforms, on eight devices, and at the door."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

import jax_lstm as jl
from tests.tables import (
    CELLS,
    SIZE,
    assert_close,
    normal_like,
    problem,
    quick_jit,
)

SPLITS_ARRAYS = True

T, B, D, H = SIZE


@pytest.mark.slow
def test_hessian_vector_product():
    args = problem(CELLS["elman"], SIZE)
    v = normal_like(4, args[0])

    @functools.partial(quick_jit, static_argnums=0)
    def hvp(sequence, params):
        loss = lambda p: (jl.tbptt(3, 4, sequence)(p, *args[1:])[1] ** 3).sum()
        return jax.jvp(jax.grad(loss), (params,), (v,))

    assert_close(hvp(jl.elman, args[0]), hvp(jl.elman_autodiff, args[0]))


@pytest.mark.slow
def test_examples_on_eight_devices():
    params, state, xs = problem(CELLS["elman"], (7, 8, D, H))

    def gradient(params, state, xs):
        return jax.grad(lambda p: (jl.tbptt(2, 3, jl.elman)(p, state, xs)[1] ** 3).sum())(params)

    mesh, specs = jax.make_mesh((8,), ("b",)), (P(), P("b"), P(None, "b"))
    spread = quick_jit(jax.shard_map(gradient, mesh=mesh, in_specs=specs, out_specs=P()))
    with jax.set_mesh(mesh):
        placed = [
            jax.tree.map(lambda x, spec=spec: jax.device_put(x, jax.NamedSharding(mesh, spec)), arg)
            for arg, spec in zip((params, state, xs), specs, strict=True)
        ]
        got = jax.device_get(spread(*placed))
    assert_close(got, quick_jit(gradient)(params, state, xs))


BAD = {
    "k1 = 0": (lambda a: jl.tbptt(0, 3), "`k1` must be a number of steps >= 1; got 0"),
    "k2 = 2.0": (lambda a: jl.tbptt(1, 2.0), "`k2` must be a number of steps >= 1; got 2.0"),
    "k1 = True": (lambda a: jl.tbptt_stream(True, 2), "`k1` must be"),
    "k2 < k1": (
        lambda a: jl.tbptt(3, 2),
        "`k2` must be >= k1: of each k1 = 3 outputs, the first 1",
    ),
    "mask": (lambda a: jl.tbptt(2, 3)(*a, mask=jnp.ones((T, 1), bool)), "`mask` must be boolean"),
    "lengths": (lambda a: jl.tbptt(2, 3)(*a, lengths=jnp.array([T + 1, 0])), "`lengths` must lie"),
    "xs": (
        lambda a: jl.tbptt(2, 3)(a[0], a[1], 3.0),
        "`xs` must be arrays with time on axis 0, (T, ..., D); got float",
    ),
    "sequence": (lambda a: jl.tbptt(2, 3, "lstm"), "`sequence` must be a function"),
    "reverse": (
        lambda a: jl.tbptt(2, 3, functools.partial(jl.lstm, reverse=True)),
        "`sequence` must run forward in time",
    ),
    "reverse within a stack": (
        lambda a: jl.tbptt(
            2, 3, functools.partial(jl.stack, sequence=functools.partial(jl.lstm, reverse=True))
        ),
        "`sequence` must run forward in time",
    ),
    "a window of another stream": (
        lambda a: jl.tbptt_stream(2, 5).advance(a[0], begun(a)[1], a[2][:4]),
        "`window` must be one of this stream, tbptt_stream(2, 5), which keeps k2 - k1 = 3 steps; "
        "got one that keeps 1",
    ),
    "a window of steps of another dtype": (
        lambda a: begun(a)[0](a[0], begun(a)[1], a[2][:4].astype(jnp.float32)),
        "`xs` must be like those that `begin` was given, float64 (T, 2, 3); got float32 (T, 2, 3)",
    ),
    "begin, the other way round": (
        lambda a: jl.tbptt_stream(2, 3).begin(a[2], a[1]),
        "`state` must be a state of the cell",
    ),
    "advance, the other way round": (
        lambda a: begun(a)[0](begun(a)[1], a[0], a[2][:4]),
        "`window` must be a Window, of begin(state, xs) at first; got LSTMParams",
    ),
    "advance, xs first": (
        lambda a: begun(a)[0](a[0], a[2][:4], begun(a)[1]),
        "`window` must be a Window",
    ),
    "reset_state": (
        lambda a: jl.tbptt(2, 3)(*a, reset_state=a[1]),
        "`reset_state` is where `resets` lead to; `resets` is not given",
    ),
    "reset_state of a stream": (
        lambda a: begun(a)[0](a[0], begun(a)[1], a[2][:4], reset_state=a[1]),
        "`resets` is not given",
    ),
    "reset_state of a number": (
        lambda a: jl.tbptt(2, 3)(*a, resets=jnp.ones((T, B), bool), reset_state=1.0),
        "`reset_state` must be like `state`",
    ),
    "D": (lambda a: jl.tbptt(2, 3)(a[0], a[1], a[2][..., :2]), "`xs` must be (T, ..., D)"),
    "chunk": (lambda a: begun(a)[0](a[0], begun(a)[1], a[2]), "a multiple of k1 = 2 steps; got 7"),
    "resets": (
        lambda a: begun(a)[0](a[0], begun(a)[1], a[2][:4], resets=jnp.zeros((4, B), bool)),
        "`resets` must be given to `begin`",
    ),
}


def begun(args):
    begin, advance = jl.tbptt_stream(2, 3)
    return advance, begin(args[1], args[2])


@pytest.mark.parametrize("case", BAD)
def test_doors(case):
    complain, message = BAD[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        complain(problem(CELLS["lstm"], SIZE))


def test_a_stack_in_two_directions_is_refused():
    params = jl.init_stack(jax.random.key(0), 2, (3,), bidirectional=True)
    state = jl.init_stack_state(params, (2,))
    with pytest.raises(ValueError, match="two directions"):
        jl.tbptt(2, 4, jl.stack)(params, state, jnp.zeros((4, 2, 2), jnp.float32))
