"""Streams through a stack: step by step, and split anywhere with the state carried."""

import functools

import jax
import jax.numpy as jnp
import pytest

import jax_lstm as jl
from tests.networks.stacks import H, T, each, problem, stack, value_and_cotangents
from tests.tables import CELLS, TOLERANCE, assert_close, normal_like


@pytest.mark.parametrize("cell", ["lstm", "lstmp"])
def test_step_by_step_is_the_whole_sequence(cell):
    """Values and cotangents of a scan of the stack of one step."""
    row = CELLS[cell]
    args = problem(cell, sizes=(5, H))

    def whole(*args):
        return jl.stack(*args, sequence=row.sequence)

    def streamed(params, states, xs):
        step = functools.partial(jl.stack, params, sequence=row.step)
        return jax.lax.scan(step, states, xs)

    assert_close(value_and_cotangents(streamed, args), value_and_cotangents(whole, args))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_steps_from_a_stored_state(dtype):
    """One call per step, the state on the host in between."""
    args = jax.tree.map(lambda x: x.astype(dtype), problem())
    params, states, xs = args
    if dtype == "bfloat16":  # c is float32 there
        states = each(states, lambda s: s._replace(c=s.c.astype(jnp.float32)))
    want = jax.jit(jl.stack)(params, states, xs)
    step, hs = jax.jit(functools.partial(jl.stack, sequence=jl.lstm_cell)), []
    for x in xs:
        states, h = step(params, jax.device_get(states), x)
        hs.append(h)
    assert hs[0].dtype == dtype
    assert_close((states, jnp.stack(hs)), want, TOLERANCE[dtype])


@functools.cache
def whole_run():
    args = problem(features=H)
    return args, value_and_cotangents(stack, args)


@pytest.mark.parametrize("at", range(T + 1))
def test_split_and_carry(at):
    """Outputs, and with the carried cotangents the same gradients: params add up, xs line up."""
    (params, states, xs), ((lasts, hs), want) = whole_run()
    dlasts, dhs = normal_like(9, (lasts, hs))
    (carried, low), back_low = jax.vjp(stack, params, states, xs[:at])
    (ends, high), back_high = jax.vjp(stack, params, carried, xs[at:])
    assert_close((ends, jnp.concatenate([low, high])), (lasts, hs))
    dhigh, dcarried, dxs_high = back_high((dlasts, dhs[at:]))
    dlow, dstates, dxs_low = back_low((dcarried, dhs[:at]))
    dparams = jax.tree.map(jnp.add, dlow, dhigh)
    assert_close((dparams, dstates, jnp.concatenate([dxs_low, dxs_high])), want)
