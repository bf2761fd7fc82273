"""Hidden units over devices: the same numbers and cotangents, and what travels counted."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from tests.tables import CELLS, assert_close, problem, quick_jit, value_and_cotangents

SPLITS_ARRAYS = True

T, B, D, H = 7, 3, 5, 8
AT = np.arange(T * B).reshape(T, B)
OPTIONS = {
    "plain": {},
    "everything": {
        "reverse": True,
        "lengths": np.array([3, 7, 0]),
        "resets": AT % 4 == 0,
        "residuals": 3,
        "unroll": 2,
    },
    "mask, auto": {"mask": AT % 3 != 0, "residuals": "auto", "unroll": "auto"},
}


@pytest.mark.parametrize("n", [1, 2, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("options", OPTIONS)
def test_split_over_devices_nothing_changes(options, n):
    args = problem(CELLS["lstm"], (T, B, D, H))
    got, want = (
        value_and_cotangents(functools.partial(f, **OPTIONS[options]), args)
        for f in (jl.over_units(jax.devices()[:n]), jl.lstm)
    )
    assert_close(got, want)


def test_the_state_that_resets_lead_to_has_its_cotangent():
    params, state, xs = problem(CELLS["lstm"], (T, B, D, H))

    def loss(sequence, fresh):
        last, hs = sequence(params, state, xs, resets=AT % 4 == 0, reset_state=fresh)
        return jnp.sum(jnp.sin(hs)) + jnp.sum(jnp.cos(last.c))

    got, want = (
        jax.jit(jax.grad(functools.partial(loss, f)))(state)
        for f in (jl.over_units(jax.devices()[:2]), jl.lstm)
    )
    assert_close(got, want)


@pytest.mark.slow
def test_a_gradient_of_a_gradient_of_what_is_split():
    """The batch of a cell whose tangent is its twins transposed; of units that it is traced."""
    devices = jax.devices()[:2]

    def second(name, sequence):
        params, state, xs = problem(CELLS[name], (2, 2, 2, 2))
        loss = lambda params: jnp.sum(jnp.sin(sequence(params, state, xs)[1]))
        norm = lambda params: sum(jnp.sum(x**2) for x in jax.tree.leaves(jax.grad(loss)(params)))
        return jax.grad(norm), params

    split = jl.over_devices(jl.elman, devices=devices, always=True)
    (got, params), (want, _) = (second("elman", f) for f in (split, jl.elman))
    assert_close(quick_jit(got)(params), quick_jit(want)(params))
    traced, params = second("lstm", jl.over_units(devices))
    assert jax.eval_shape(traced, params).U.shape == params.U.shape


def test_what_travels(optimised):
    """One all-gather and one reduce-scatter a step; dx and the weights' cotangents at the end."""
    params, state, xs = problem(CELLS["lstm"], (64, B, D, H), dtype=jnp.float32)
    run = jl.over_units(jax.devices()[:4])
    loss = lambda params, xs: jnp.sum(run(params, state, xs, residuals=16)[1] ** 2)
    text = jax.jit(jax.grad(loss, (0, 1))).lower(params, xs).compile().as_text()
    counts = {}  # by computation, the program itself being the last one
    parts = re.split(r"\n(?=%|ENTRY)", text)
    for name in ("all-gather", "reduce-scatter", "all-reduce"):
        counts[name] = [len(re.findall(rf" {name}(?:-start)?\(", part)) for part in parts]
    assert sum(counts["reduce-scatter"]) == 1 > counts["reduce-scatter"][-1]
    assert sum(counts["all-reduce"]) == counts["all-reduce"][-1] == 1  # dx
    # h of a step forward, once more where segments are run again, h of a segment; W, U, b back
    assert sum(counts["all-gather"]) == 6
    assert counts["all-gather"][-1] == 3


def test_units_that_cannot_be_split():
    args = problem(CELLS["lstm"], (T, B, D, 5))
    with pytest.raises(ValueError, match=r"H = 5 units cannot be split over 2 devices"):
        jl.over_units(jax.devices()[:2])(*args)
    with pytest.raises(ValueError, match=r"`devices` must be a list of devices"):
        jl.over_units(2)
    with pytest.raises(ValueError, match=r"`devices` must be a list of different devices"):
        jl.over_units(jax.devices()[:1] * 2)
    with pytest.raises(ValueError, match=r"`xs` must be .*\(T, \.\.\., D\)"):
        jl.over_units()(*args[:2], args[2][..., :2])
