"""Every state and gate of a stack: the trace, and `every`."""

import jax
import jax.numpy as jnp
import pytest

import jax_lstm as jl
from jax_lstm import textbook
from tests.networks.stacks import MASK, H, lstm, problem, stack, value_and_cotangents
from tests.tables import assert_close, assert_same

pytestmark = pytest.mark.usefixtures("checked")


@jax.jit
def slowly(params, state, xs):
    """h, c and the gates of every step, by the textbook."""
    steps = textbook.forward(textbook.from_packed(*params), xs, *state)
    return [jnp.stack([step[k] for step in steps]) for k in ("h", "c", *"ifgo")]


def test_trace_is_the_textbook_of_every_layer_and_direction():
    params, states, xs = problem(bidirectional=True, merge="sum", features=H)
    trace = jax.jit(jl.make_trace(jl.LSTM), static_argnames="reverse")
    lasts, hs, every = stack(params, states, xs, sequence=trace, merge="sum", every=True)
    assert_close((lasts, hs), stack(params, states, xs, merge="sum"))
    for n, below in enumerate((xs, every[0][0].hs + every[0][1].hs)):
        for d, order in enumerate((1, -1)):
            got = every[n][d]
            want = [y[::order] for y in slowly(params.layers[n][d], states[n][d], below[::order])]
            assert_close([got.hs, got.states.c, *got.saved], want)
            assert_same(got.hs, got.states.h)


def test_trace_has_derivatives():
    """For JAX to take; they are those of the hand-written rule."""
    options = {"mask": MASK, "reverse": True}
    params, states, xs = problem(sizes=(H,))
    args, trace = (params.layers[0][0], states[0][0], xs), jl.make_trace(jl.LSTM)

    def through_trace(*args):
        last, every = trace(*args, **options)
        return last, every.hs

    want = value_and_cotangents(lambda *a: jl.lstm(*a, **options), args)
    assert_close(value_and_cotangents(through_trace, args), want)


def test_every_c_and_gate_is_differentiable():
    params, states, xs = problem(sizes=(H,))
    args, trace = (params.layers[0][0], states[0][0], xs[:3]), jl.make_trace(jl.LSTM)

    def by_trace(*args):
        _, every = trace(*args)
        return [every.hs, every.states.c, *every.saved]

    assert_close(value_and_cotangents(by_trace, args), value_and_cotangents(slowly, args))


def test_trace_is_zero_where_a_step_is_no_step():
    params, states, xs = problem(sizes=(H,))
    _, every = jl.make_trace(jl.LSTM)(params.layers[0][0], states[0][0], xs, mask=MASK)
    for leaf in jax.tree.leaves(every):
        assert not leaf[~MASK].any()
        assert leaf[MASK].all()


def test_every_layer_of_the_hand_written_route():
    params, states, xs = problem(bidirectional=True, merge="sum", features=H)
    _, hs, every = stack(params, states, xs, merge="sum", every=True)
    assert_same(every[1][0] + every[1][1], hs)
    assert_close(every[0][0], lstm(params.layers[0][0], states[0][0], xs)[1])
