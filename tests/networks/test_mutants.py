"""What the checks of stacks must reject."""

import functools

import jax.numpy as jnp
import pytest

import jax_lstm as jl
from jax_lstm import stages
from jax_lstm.networks import joints
from jax_lstm.networks import stack as layers
from jax_lstm.stages.twins import with_twin
from tests.networks.stacks import (
    H,
    episodes,
    garbage_in_padding,
    problem,
    stacks,
    value_and_cotangents,
)
from tests.tables import assert_close, assert_same


def lstmp_of(**change):
    return jl.make_rnn(jl.LSTMP._replace(**{k: f(getattr(jl.LSTMP, k)) for k, f in change.items()}))


def P_not_in_dm(step_bwd):
    """The output gate and the cell get dh, cut or filled up, in place of dh Pᵀ."""

    def mutant(w, prev, saved, dstate):
        return step_bwd(w._replace(PT=jnp.eye(*w.PT.shape)), prev, saved, dstate)

    return mutant


def dh_from_outside_only(step_bwd):
    """dP sees half of the fork at h_t."""

    def mutant(w, prev, saved, dstate):
        dprev, (da, dh) = step_bwd(w, prev, saved, dstate)
        return dprev, (da, 0.5 * dh)

    return mutant


def m_of_the_old_cell(weights_bwd):
    """dP is made of o * tanh(c_{t-1})."""

    def mutant(w, xs, prevs, saved, deltas):
        i, f, g, o = saved
        old = (0 * i, jnp.ones_like(f), g, o)
        dparams, dxs = weights_bwd(w, xs, prevs, saved, deltas)
        return dparams._replace(P=weights_bwd(w, xs, prevs, old, deltas)[0].P), dxs

    return mutant


@pytest.mark.parametrize(
    "change",
    [
        {"step_bwd": P_not_in_dm},
        {"step_bwd": dh_from_outside_only},
        {"weights_bwd": m_of_the_old_cell},
    ],
    ids=lambda change: next(iter(change.values())).__name__,
)
def test_mutants_of_the_projection(change):
    params, states, xs = problem("lstmp", sizes=(H,))
    args = (params.layers[0][0], states[0][0], xs)
    mutant, _ = lstmp_of(**change)
    with pytest.raises(AssertionError):
        assert_close(value_and_cotangents(mutant, args), value_and_cotangents(jl.lstmp, args))


def test_mutants_of_layers(monkeypatch):
    monkeypatch.setattr(layers, "ends_of_episodes", lambda resets: resets)
    with pytest.raises(AssertionError):
        assert_close(*episodes())
    careless = joints.BY_HAND._replace(clear=lambda valid, x: x)
    monkeypatch.setattr(jl, "stack", functools.partial(layers._stack, careless, jl.lstm))
    with pytest.raises(AssertionError):
        assert_same(*garbage_in_padding()[:2])


MUTANTS = {
    "concatenate": ("concat", lambda xs, dy: stages.concatenate_bwd(xs[::-1], dy)[::-1]),
    "add": ("sum", lambda args, dz: (dz, 0 * dz)),
    "mean": ("mean", lambda args, dz: (dz, dz)),
    "product": ("product", lambda args, dz: stages.product_bwd(args[::-1], dz)),
}


@pytest.mark.parametrize("joint", MUTANTS)
def test_mutants_of_joints(joint, monkeypatch):
    name, twin = MUTANTS[joint]
    mutant = {joint: with_twin(stages.TWINS[joint]._replace(stage_bwd=twin))}
    wrong = functools.partial(layers._stack, joints.BY_HAND._replace(**mutant), jl.lstm)
    args, by_hand, _ = stacks(name)
    want = value_and_cotangents(by_hand, args)
    monkeypatch.setattr(jl, "stack", wrong)
    _, by_hand, _ = stacks(name)
    got = value_and_cotangents(by_hand, args)
    assert_same(got[0], want[0])
    with pytest.raises(AssertionError):
        assert_close(got[1], want[1])
