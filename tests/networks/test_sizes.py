"""Sizes and dtypes of a stack: batch axes, no time, what init draws, eight devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import jax_lstm as jl
from tests.networks.stacks import B, D, H, T, both_directions, problem, some, stack
from tests.tables import assert_close, assert_same, normal_like

SPLITS_ARRAYS = True


@pytest.mark.parametrize("shape", [(0, B, H), (T, 0, H), (T, H), (T, 2, B, H)], ids=str)
def test_any_batch_axes_and_no_time(shape):
    options = {"merge": "mean", "residual": True}
    params, _, _ = problem(bidirectional=True, features=H, **options)
    states = normal_like(1, jl.init_stack_state(params, shape[1:-1]))
    lasts, hs = stack(params, states, some(*shape), **options)
    assert hs.shape == shape
    if 0 in shape:
        assert_same(lasts, states)
    valid = jnp.ones(shape[:-1], bool)
    assert_close(stack(params, states, some(*shape), mask=valid, **options), (lasts, hs))


def test_init_draws_layers_that_fit():
    options = {"bidirectional": (True, False), "skip": "both", "merge": "concat"}
    init = functools.partial(jl.init_lstm, dtype=jnp.float32)
    params = jl.init_stack(jax.random.key(0), D, (5, H), init=init, **options)
    shapes = [[p.W.shape for p in layer] for layer in params.layers]
    assert shapes == [[(D, 20)] * 2, [(10 + D, 16)]]
    assert params.initial is None
    assert {p.W.dtype for layer in params.layers for p in layer} == {jnp.dtype("float32")}
    one, two = params.layers[0]
    assert (one.W != two.W).all()
    run = functools.partial(jl.stack, skip="both")
    states = jl.init_stack_state(params, (B,))
    _, hs = jax.eval_shape(run, params, states, both_directions().xs.astype(jnp.float32))
    assert hs.shape == (T, B, 10 + H)


def test_lstmp_draws_what_it_says():
    params = jl.init_lstmp(jax.random.key(0), D, 5, 3, forget_bias=2.0, dtype=jnp.bfloat16)
    assert [p.shape for p in params] == [(D, 20), (3, 20), (20,), (5, 3)]
    assert {p.dtype for p in params} == {jnp.dtype("bfloat16")}
    assert_same(params.b, np.repeat([0, 2, 0, 0], 5))
    state, hs = jl.lstmp(params, jl.init_lstmp_state(params), jnp.ones((T, D), jnp.bfloat16))
    assert (hs.dtype, state.h.dtype, state.c.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)


@pytest.mark.slow
def test_shard_map_of_a_stack_with_learnt_states():
    """Params replicated, the batch split over eight devices: dparams are summed over them."""
    made = {"bidirectional": True, "residual": (False, True), "learn_initial": True}
    params, _, _ = problem(**made)
    xs = some(4, 16, D)

    def local(params, xs):
        def loss(params, xs):
            states = jl.init_stack_state(params, xs.shape[1:2])
            return jnp.sum(jnp.sin(jl.stack(params, states, xs, residual=(False, True))[1]))

        return jax.grad(loss, (0, 1))(params, xs)

    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    specs = (P(), P(None, "data"))
    sharded = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=specs)
    assert_close(jax.device_get(jax.jit(sharded)(params, xs)), jax.jit(local)(params, xs))
