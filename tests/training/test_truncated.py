"""TBPTT(k1, k2) against its definition: one window after the other, each by autodiff."""

import functools
import json
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jax_lstm as jl
from tests.tables import (
    CELLS,
    SIZE,
    assert_close,
    assert_same,
    errors,
    normal_like,
    problem,
    quick_jit,
    within,
)

T, B, D, H = SIZE


class Case(NamedTuple):
    k1: int
    k2: int
    cell: str = "lstm"
    flags: str = ""  # of "lengths", "holes", "resets", "fresh" (the state that resets lead to)


CASES = [
    Case(1, 1),
    Case(1, 3),
    Case(2, 5),
    Case(3, 7),
    Case(9, 9),
    Case(2, 3, "elman"),
    Case(4, 4, "elman"),
    Case(5, 6, "elman"),
    Case(2, 3, flags="lengths holes"),
    Case(3, 3, flags="lengths resets"),
    Case(2, 4, "elman", "holes resets"),
    Case(2, 3, "elman", "resets fresh"),
    Case(3, 5, "lstm", "holes resets fresh"),
]
over_cases = pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c)).strip("-"))


def flags_of(case):
    """Masks and resets; the second example has four valid steps, the first begins with a hole."""
    flags = {}
    if "lengths" in case.flags:
        flags["lengths"] = jnp.array([T, 4])
    if "holes" in case.flags:
        flags["mask"] = jnp.ones((T, B), bool).at[:3, 0].set(False).at[5, 0].set(False)
    if "resets" in case.flags:
        flags["resets"] = jnp.zeros((T, B), bool).at[(0, 3), 0].set(True).at[2, 1].set(True)
    return flags


def mask_and_resets(flags):
    """Both as arrays, `lengths` within the mask."""
    flags = dict(flags)
    mask = flags.get("mask", jnp.ones((T, B), bool))
    mask &= within(flags.get("lengths", jnp.full((B,), T)), T)
    return mask, flags.get("resets", jnp.zeros((T, B), bool))


def cotangents_like(cell, args, seed=9):
    return normal_like(seed, jax.eval_shape(CELLS[cell].sequence_autodiff, *args))


@functools.partial(quick_jit, static_argnums=0)
def vjp(sequence, args, flags, dy):
    """A fourth argument is the state that resets lead to."""

    def f(params, state, xs, *fresh):
        given = {"reset_state": fresh[0]} if fresh else {}
        return sequence(params, state, xs, **given, **flags)

    y, back = jax.vjp(f, *args)
    return y, back(dy)


def by_definition(cell, k1, k2, args, flags, dy):
    """For every block the window that ends with it, from the state before it as a constant.

    Steps outside of the window are masked, so that one program serves all of them.
    """
    params, state, xs, *fresh = args
    dlast, dhs = dy
    mask, resets = mask_and_resets(flags)

    def window(before, start, end, dy):
        inside = (start <= np.arange(T)) & (np.arange(T) < end)
        flags = {"mask": mask & inside[:, None], "resets": resets & inside[:, None]}
        return vjp(CELLS[cell].sequence_autodiff, (params, before, xs, *fresh), flags, dy)

    y, _ = window(state, 0, T, dy)
    total = jax.tree.map(jnp.zeros_like, args)
    for end in [*range(k1, T, k1), T]:
        start = max(end - k2, 0)
        (before, _), _ = window(state, 0, start, dy)
        block = np.arange(T) >= (end - 1) // k1 * k1
        last = jax.tree.map(lambda d, n=float(end == T): d * n, dlast)
        _, more = window(before, start, end, (last, dhs * jnp.asarray(block, float)[:, None, None]))
        # who has not moved stands still at the first state, or where a reset put it
        unmoved, put = ~mask[:start].any(0)[:, None], resets[:start].any(0)[:, None]
        dstate, *dfresh = (
            jax.tree.map(lambda d, who=who: jnp.where(who, d, 0.0), more[1])
            for who in (unmoved & ~put, unmoved & put)[: 1 + len(fresh)]
        )
        dfresh = jax.tree.map(jnp.add, list(more[3:]), dfresh)
        total = jax.tree.map(jnp.add, total, (more[0], dstate, more[2], *dfresh))
    return y, total


@pytest.mark.half
@over_cases
def test_every_cotangent_is_that_of_the_definition(case):
    k1, k2, cell, _ = case
    args, flags = problem(CELLS[cell], SIZE), flags_of(case)
    dy = cotangents_like(cell, args)
    if "fresh" in case.flags:
        args = (*args, normal_like(6, args[1]))
    want = by_definition(cell, k1, k2, args, flags, dy)
    if "mask" in flags:  # what padding holds reaches nothing
        mask, _ = mask_and_resets(flags)
        params, state, xs, *fresh = args
        args = (params, state, jnp.where(mask[..., None], xs, jnp.nan), *fresh)
    assert_close(vjp(jl.tbptt(k1, k2, CELLS[cell].sequence), args, flags, dy), want)


def test_the_definition_tells_its_neighbours_apart():
    args = problem(CELLS["lstm"], SIZE)
    dy = cotangents_like("lstm", args)
    of = {k: by_definition("lstm", *k, args, {}, dy)[1] for k in [(2, 4), (2, 3), (2, 5), (3, 4)]}
    of["full"] = vjp(jl.lstm_autodiff, args, flags_as_arrays(), dy)[1]
    for other in of:
        if other != (2, 4):
            assert min(errors(of[other][0], of[2, 4][0]).values()) > 1e-3, other


def flags_as_arrays():
    return dict(zip(("mask", "resets"), mask_and_resets({}), strict=True))


MUTANTS = {
    "the adjoint is not cut": lambda state, mask, forget: state,
    "the state is not carried": lambda state, mask, forget: jax.tree.map(jnp.zeros_like, state),
    "the cut forgets the start": lambda state, mask, forget: lax.stop_gradient(state),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_rejected(mutant, monkeypatch):
    monkeypatch.setattr("jax_lstm.training.truncated.before_next", MUTANTS[mutant])
    args = problem(CELLS["elman"], SIZE)
    dy = cotangents_like("elman", args)
    want = by_definition("elman", 2, 4, args, {}, dy)
    assert max(errors(vjp(jl.tbptt(2, 4, jl.elman), args, {}, dy), want).values()) > 1e-3


ROUTES = {
    "lstm": jl.lstm,
    "lstm_autodiff": jl.lstm_autodiff,
    "elman_autodiff": jl.elman_autodiff,
    "lstm, frugal": functools.partial(jl.lstm, residuals=2),
}
FAR = [*((route, T, T) for route in ROUTES), ("lstm", 1, T), ("lstm", 3, T + 1), ("lstm", T, 3 * T)]


@pytest.mark.half
@pytest.mark.parametrize(("route", "k1", "k2"), FAR)
def test_as_far_back_as_the_sequence_is_long_truncates_nothing(route, k1, k2):
    cell = route.split("_")[0].split(",")[0]
    args = problem(CELLS[cell], SIZE)
    dy = cotangents_like(cell, args)
    want = vjp(CELLS[cell].sequence_autodiff, args, flags_as_arrays(), dy)
    assert_close(vjp(jl.tbptt(k1, k2, ROUTES[route]), args, {}, dy), want)


@pytest.mark.slow
def test_layers_and_masks_of_zoneout_are_truncated_as_well():
    """A stack is a sequence function; its xs and what a cell reads beside them are trees."""
    kit = {"init_state": jl.init_elman_state}
    init = functools.partial(jl.init_elman, dtype=jnp.float64)
    params = jl.init_stack(jax.random.key(0), D, (H,), init=init, **kit)
    params = normal_like(1, params, 0.5)
    states = normal_like(2, jl.init_stack_state(params, (B,), **kit))
    xs = normal_like(3, jax.ShapeDtypeStruct((T, B, D), jnp.float64))
    args = (params, states, (xs, jl.zoneout_masks(jax.random.key(4), 0.4, states, T)))
    cells = jl.make_rnn(jl.zoneout(jl.ELMAN))

    def over(stack, cell):
        def sequence(params, states, xs_and_masks, *, reset_state=None, **flags):
            xs, masks = xs_and_masks
            flags |= {"beside": masks, "reset_states": reset_state}
            return stack(params, states, xs, sequence=cell, **flags)

        return sequence

    flags = flags_of(Case(2, 3, flags="lengths resets"))
    args = (*args, normal_like(5, states))
    by_hand, by_jax = over(jl.stack, cells[0]), over(jl.stack_autodiff, cells[1])
    dy = normal_like(6, jax.eval_shape(by_jax, *args[:3]))
    whole = vjp(by_jax, args, flags, dy)
    assert_close(vjp(jl.tbptt(3, T, by_hand), args, flags, dy), whole)
    cut = vjp(jl.tbptt(2, 3, by_hand), args, flags, dy)
    assert_close(cut[0], whole[0])
    assert max(errors(cut[1], whole[1]).values()) > 1e-3


def test_forward_values_are_those_of_the_whole_sequence():
    args = problem(CELLS["lstm"], SIZE)
    want = quick_jit(jl.lstm_autodiff)(*args)
    assert_close(quick_jit(jl.tbptt(2, 3))(*args), want)


def test_one_example_without_batch_and_no_steps_at_all():
    args = problem(CELLS["lstm"], SIZE, batch=())
    dy = cotangents_like("lstm", args)
    want = vjp(jl.lstm_autodiff, args, {}, dy)
    assert_close(vjp(jl.tbptt(4, 8), args, {}, dy), want)
    params, state, xs = args
    last, hs = jl.tbptt(2, 3)(params, state, xs[:0])
    assert_same(last, state)
    assert hs.shape == (0, H)


# WildML ---------------------------------------------------------------------------------------


def wildml():
    f = json.loads((pathlib.Path(__file__).parents[1] / "fixtures" / "wildml_rnn.json").read_text())
    U, V, W = (jnp.asarray(f["params"][name]).T for name in "UVW")
    params = jl.ElmanParams(U, W, jnp.zeros(10))
    return f, params, V, jax.nn.one_hot(jnp.array(f["x"]), 5, dtype=U.dtype)


@pytest.mark.half
@pytest.mark.parametrize("sequence", [jl.elman, jl.elman_autodiff], ids=["by hand", "autodiff"])
@pytest.mark.parametrize("truncate", [0, 1, 2, 3])
def test_wildml(sequence, truncate):
    """Its `bptt_truncate` counts the steps before the output's own: TBPTT(1, truncate + 1)."""
    f, params, V, xs = wildml()
    run = jl.tbptt(1, truncate + 1, sequence)

    @quick_jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradient(params, V):
        _, hs = run(params, jl.init_elman_state(params), xs)
        return jl.softmax_cross_entropy(hs @ V, jnp.array(f["y"])).sum()

    dparams, dV = gradient(params, V)
    assert_close(dV.T, jnp.asarray(f["gradients"]["V"]))
    if truncate == 3:
        got = {"U": dparams.W.T, "W": dparams.U.T}
        assert_close(got, {name: jnp.asarray(f["gradients"][name]) for name in "UW"})
    else:
        norms = {"dU_norm": jnp.linalg.norm(dparams.W), "dW_norm": jnp.linalg.norm(dparams.U)}
        want = f["truncated"][str(truncate)]
        assert_close(norms, {name: jnp.asarray(want[name]) for name in norms}, 1e-8)
