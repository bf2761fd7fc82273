"""The trace: its arrays against JAX and the textbook, and what cannot be traced."""

import jax
import jax.numpy as jnp
import pytest

import jax_lstm as jl
from jax_lstm import textbook
from jax_lstm.notation import GATES
from tests.tables import (
    CELLS,
    QUICK,
    assert_close,
    assert_same,
    normal_like,
    problem,
    value_and_cotangents,
)
from tests.teaching.kit import SIZE


@pytest.mark.parametrize("cell", ["lstm", "elman"])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)], ids=str)
def test_the_arrays_by_name_are_the_gradient(cell, batch):
    """dW_i ... dxs, dh0, dc0 against JAX, for cotangents on every h_t and on the last state."""
    row = CELLS[cell]
    T, _, D, H = SIZE
    args = params, state, xs = problem(row, (T, 1, D, H), batch=batch)
    f = row.sequence_autodiff
    (_, hs), (dparams, dstate, dxs) = value_and_cotangents(f, args, 7, QUICK)
    dlast, dhs = normal_like(7, jax.eval_shape(f, *args))
    got = jl.trace(params, state, xs, dhs, dlast=dlast)
    assert_close(got.forward["h"], hs)
    assert_close({k: got.gradients[f"d{k}0"] for k in state._fields}, dstate._asdict())
    assert_close(got.gradients["dxs"], dxs)
    for w in "WUb":
        names = [f"d{w}_{k}" for k in GATES] if cell == "lstm" else [f"d{w}"]
        assert_close(jnp.concatenate([got.gradients[k] for k in names], -1), getattr(dparams, w))
        assert got.backward[names[0]].shape == (T, *got.gradients[names[0]].shape)
    assert got.backward["dh_prev"].shape == (T, *batch, H)
    assert got.loss is None
    assert_close(got.backward["dh"], dhs + got.backward["dh_from_next"])


def test_the_names_and_numbers_are_the_textbook_s(runs):
    p, traced = runs["random"][0].problem, runs["random"][0].traced
    params = textbook.from_packed(*(jnp.asarray(p.params[k]) for k in "WUb"))
    steps = textbook.forward(params, jnp.asarray(p.xs), p.state["h"], p.state["c"])
    dhs = jnp.stack([s["h"] for s in steps]) - p.ys
    want = textbook.backward(params, steps, dhs, p.dlast["h"], p.dlast["c"])
    for t, (s, d) in enumerate(zip(steps, want.deltas, strict=True)):
        assert_same({k: traced.forward[k][t] for k in s}, s)
        assert_same({k: traced.backward[k][t] for k in d}, d)
    sums = {f"d{k}": x for k, x in want.dparams._asdict().items()}
    assert_same({k: traced.gradients[k] for k in sums}, sums)


def test_targets_are_half_the_squared_error():
    params, state, xs = problem(CELLS["lstm"], SIZE)
    ys = normal_like(5, jnp.zeros((*xs.shape[:-1], SIZE[-1])))
    hs = jl.trace(params, state, xs, ys=ys)
    assert_close(hs.loss, jl.squared_error(hs.forward["h"], ys).sum())
    assert_close(hs.backward["dh_from_outside"], hs.forward["h"] - ys)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"xs": jnp.zeros((0, 2, 4))}, "no time step"),
        ({"dhs": None}, "either `dhs`"),
        ({"ys": jnp.zeros((3, 2, 5))}, "either `dhs`"),
        ({"dhs": jnp.zeros((3, 2, 4))}, r"`dhs` must be \(T, ..., H\) = \(3, 2, 5\)"),
        ({"dhs": jnp.zeros((3, 2, 5), jnp.float32)}, "in float64; got float32"),
        ({"dlast": (jnp.zeros((2, 5)),)}, "fields h, c"),
        ({"dlast": 3}, "fields h, c"),
        ({"dlast": jl.LSTMState(jnp.zeros((2, 5)), jnp.zeros(5))}, "`dlast.c` must be"),
        ({"xs": jnp.zeros((3, 0, 4)), "state": jl.LSTMState(*[jnp.zeros((0, 5))] * 2)}, "example"),
        ({"order": "ifg"}, "`order` must be"),
        ({"xs": jnp.zeros((3, 2, 5))}, "D = 4"),
        ({"xs": jnp.zeros(4)}, r"`xs` must be \(T, ..., D\); got shape \(4,\)"),
        ({"xs": [[[0.0] * 4] * 2] * 3}, "`xs` must be arrays; got float"),
        ({"state": (jnp.zeros((2, 5)), jnp.zeros((2, 5)))}, "`state` must be a NamedTuple"),
        ({"params": problem(CELLS["lstm"], SIZE, jnp.float32)[0]}, "float32"),
    ],
)
def test_what_cannot_be_traced(change, match):
    params, state, xs = problem(CELLS["lstm"], SIZE)
    given = {"params": params, "state": state, "xs": xs, "dhs": jnp.zeros((3, 2, 5))} | change
    with pytest.raises(ValueError, match=match):
        jl.trace(**given)


@pytest.mark.parametrize("dtype", ["float16", "complex128"])
def test_no_trace_of_other_numbers(dtype):
    params, _, xs = problem(CELLS["lstm"], SIZE)
    params, xs = jax.tree.map(lambda x: x.astype(dtype), (params, xs))
    state = jl.init_lstm_state(params, (2,))
    with pytest.raises(ValueError, match=f"float32 or float64; got {dtype}"):
        jl.trace(params, state, xs, jnp.zeros((3, 2, 5), dtype))


def test_float32_stays_float32():
    params, state, xs = problem(CELLS["lstm"], SIZE, jnp.float32)
    got = jl.trace(params, jax.tree.map(jnp.float32, state), xs, jnp.ones((3, 2, 5), jnp.float32))
    assert {x.dtype for x in jax.tree.leaves(got[:3])} == {jnp.dtype("float32")}
