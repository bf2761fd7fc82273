"""Taps and mutation tests on trial: a wrong term of a cell has a time step, a stage and a gate."""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from jax_lstm import Cell, referee
from jax_lstm.diagnosis import taps as tables
from jax_lstm.stages import (
    linear,
    linear_bwd_input,
    linear_bwd_weight,
    sigmoid,
    sigmoid_bwd,
    tanh,
    tanh_bwd,
)
from tests.tables import CELLS, problem

SIZE = (3, 2, 3, 5)
over_cells = pytest.mark.parametrize("name", CELLS)


# The cells as they are ------------------------------------------------------------------------


@pytest.mark.parametrize("name", tables.TAPS)
def test_every_tap_agrees(name):
    row = CELLS[name]
    report = referee.taps(row.cell, *problem(row, SIZE), inside=tables.TAPS[name])
    assert report, report.table()
    names = {tap.name for tap in report.taps}
    assert names >= {"dh from outside", "dh from t+1", "dh", "dh_prev", "dx", "dparams.W"}
    gates = (
        {"da"} if name == "elman" else {"da_i", "da_f", "da_g", "da_o", "dc from t+1", "dc_prev"}
    )
    assert names >= gates
    assert len(report.taps) == 3 * len(names)
    assert [tap.t for tap in report.taps] == sorted((tap.t for tap in report.taps), reverse=True)
    assert "taps agree to the rounding of float64" in report.sentence()
    assert json.loads(report.to_json(seed=0))["ok"] is True


def test_float32_is_judged_by_its_own_rounding():
    row = CELLS["lstm"]
    report = referee.taps(row.cell, *problem(row, SIZE, jnp.float32), inside=tables.TAPS["lstm"])
    assert report, report.table()
    assert report.dtype == "float32"


NO_DZ = {"mlstm", "min_gru", "min_lstm", "multiplicative_lstm", "fast_grnn", "scrn"}


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_names_without_a_table(name):
    """The gates of the record; blocks by number where the record has none. A delta that does not
    look like what `project` hands over has no names."""
    row = CELLS[name]
    if name in NO_DZ:
        assert not {"dz"} & {tap.name for tap in referee.taps(row.cell, *problem(row, SIZE)).taps}
        return
    gates = row.cell.gates
    names = {tap.name for tap in referee.taps(row.cell, *problem(row, SIZE)).taps}
    assert names >= ({f"dz, {k}" for k in gates} if len(gates) > 1 else {"dz"})
    plain = row.cell._replace(gates=())
    names = {tap.name for tap in referee.taps(plain, *problem(row, SIZE)).taps}
    assert names >= ({f"dz, block {k}" for k in range(len(gates))} if len(gates) > 1 else {"dz"})


# A wrong term in our own cells ----------------------------------------------------------------


def changed(cell, change):
    """The cell with what `step_bwd` returns changed."""
    return cell._replace(step_bwd=lambda *args: change(*cell.step_bwd(*args)))


def block(da, k, factor):
    H = da.shape[-1] // 4
    return da.at[..., k * H : (k + 1) * H].multiply(factor)


WRONG = {
    "forget gate": (lambda d, da: (d, block(da, 1, 1.1)), "da_f, forget gate", "gates (2')"),
    "output gate": (lambda d, da: (d, block(da, 3, -1)), "da_o, output gate", "hidden_state (4')"),
    "dc not carried": (lambda d, da: (d._replace(c=0 * d.c), da), "dc_prev", "cell_state (3')"),
    "dh not carried": (lambda d, da: (d._replace(h=0 * d.h), da), "dh_prev", "linear (1'x)"),
    "three gates": (
        lambda d, da: (d, block(block(block(da, 0, 1.1), 1, 1.1), 2, 1.1)),
        "da_f",
        "the fork at c (F')",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_term_of_the_lstm_has_a_step_a_stage_and_a_gate(name):
    change, where, stage = WRONG[name]
    row = CELLS["lstm"]
    report = referee.taps(
        changed(row.cell, change), *problem(row, SIZE), inside=tables.TAPS["lstm"]
    )
    assert not report
    assert report.sentence().startswith(f"first disagreement at t=2: {where}")
    assert stage in report.sentence()
    assert json.loads(report.to_json())["ok"] is False


def test_a_wrong_weight_product_is_not_blamed_on_a_step():
    row = CELLS["lstm"]

    def weights_bwd(*args):
        dparams, dxs = row.cell.weights_bwd(*args)
        return dparams._replace(U=2 * dparams.U), dxs

    wrong = row.cell._replace(weights_bwd=weights_bwd)
    report = referee.taps(wrong, *problem(row, SIZE), inside=tables.TAPS["lstm"])
    assert {tap.name for tap in report.failures()} == {"dparams.U"}
    assert "after the loop" in report.sentence()
    assert "in weights_bwd" in referee.taps(wrong, *problem(row, SIZE)).sentence()


def test_a_delta_of_several_parts_is_blamed_on_who_made_it():
    """The GRU hands over da and the candidate's du: nothing names du, and the weights show it."""
    gru, args = CELLS["gru"].cell, problem(CELLS["gru"], SIZE)

    def broken_step(*given):
        dprev, (da, du) = gru.step_bwd(*given)
        return dprev, (da, 1.5 * du)

    def broken_weights(*given):
        dparams, dxs = gru.weights_bwd(*given)
        return dparams._replace(U=1.5 * dparams.U), dxs

    report = referee.taps(gru._replace(step_bwd=broken_step), *args)
    assert report.sentence().endswith("in step_bwd, delta[1]")
    assert (
        referee.taps(gru._replace(weights_bwd=broken_weights), *args)
        .sentence()
        .endswith("in weights_bwd")
    )


# A cell of one's own --------------------------------------------------------------------------


class Params(NamedTuple):
    W: jax.Array  # (D, 2H): update gate, candidate
    U: jax.Array  # (H, 2H)


class State(NamedTuple):
    h: jax.Array


def step(w, prev, z):
    a_u, a_n = jnp.split(z + linear(prev.h, w.U), 2, axis=-1)
    u, n = sigmoid(a_u), tanh(a_n)
    return State(prev.h + u * (n - prev.h)), (u, n)


def step_bwd(w, prev, saved, dstate):
    (u, n), dh = saved, dstate.h
    da = jnp.concatenate([sigmoid_bwd(u, dh * (n - prev.h)), tanh_bwd(n, dh * u)], axis=-1)
    return State(dh * (1 - u) + linear_bwd_input(w.U, da)), da


def weights_bwd(w, xs, prev, saved, da):
    dparams = Params(linear_bwd_weight(xs, da), linear_bwd_weight(prev.h, da))
    return dparams, linear_bwd_input(w.W, da)


project = lambda w, xs: linear(xs, w.W)
MINE = Cell("mine", Params, State, project, step, step_bwd, weights_bwd)


def my_problem():
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = (3, 10), (5, 10), (2, 5), (4, 2, 3)
    W, U, h, xs = (
        jax.random.normal(k, s, jnp.float64) / 2 for k, s in zip(keys, shapes, strict=True)
    )
    return Params(W, U), State(h), xs


def wrong_candidate(w, prev, saved, dstate):
    """(1 - n²) forgotten: one wrong term."""
    (u, n), dh = saved, dstate.h
    da = jnp.concatenate([sigmoid_bwd(u, dh * (n - prev.h)), dh * u], axis=-1)
    return State(dh * (1 - u) + linear_bwd_input(w.U, da)), da


def wrong_keep(w, prev, saved, dstate):
    (u, n), dh = saved, dstate.h
    da = jnp.concatenate([sigmoid_bwd(u, dh * (n - prev.h)), tanh_bwd(n, dh * u)], axis=-1)
    return State(dh * u + linear_bwd_input(w.U, da)), da


def test_a_wrong_term_of_one_s_own_cell_has_a_step_and_a_gate():
    gates = referee.Taps(gates=("update gate", "candidate"))
    args = my_problem()
    assert referee.taps(MINE, *args, inside=gates)
    report = referee.taps(MINE._replace(step_bwd=wrong_candidate), *args, inside=gates)
    assert report.sentence().startswith("first disagreement at t=3: dz, candidate (relative error")
    assert report.sentence().endswith("in step_bwd, the delta")
    report = referee.taps(MINE._replace(step_bwd=wrong_keep), *args, inside=gates)
    assert report.first().name == "dh_prev"
    assert report.sentence().endswith("in step_bwd, what it hands to t-1")


def tapped_step(w, prev, z, tap):
    a_u, a_n = jnp.split(z + linear(prev.h, w.U), 2, axis=-1)
    u, n = tap("u", sigmoid(a_u)), tap("n", tanh(a_n))
    return State(prev.h + u * (n - prev.h))


def tapped_step_bwd(w, prev, saved, dstate, tap):
    (u, n), dh = saved, dstate.h
    du, dn = tap("u", dh * n), tap("n", dh * u)  # du lacks - h_prev
    da = jnp.concatenate([sigmoid_bwd(u, du), tanh_bwd(n, dn)], axis=-1)
    return State(dh * (1 - u) + linear_bwd_input(w.U, da)), da


def test_a_rule_that_tells_its_inside_has_a_stage_too():
    inside = referee.Taps(
        step=tapped_step, step_bwd=tapped_step_bwd, says={"du": "update gate, its product"}
    )
    report = referee.taps(MINE, *my_problem(), inside=inside)
    assert report.sentence().startswith(
        "first disagreement at t=3: du, update gate, its product (relative error"
    )
    assert {tap.name for tap in report.failures() if tap.t == 3} >= {"du", "dz, block 0"}
    assert "dn" not in {tap.name for tap in report.failures() if tap.t == 3}


def test_blocks_that_disagree_together_are_all_named():
    """Nobody said which block comes first, as it would matter where one feeds another."""
    gates = referee.Taps(gates=("update gate", "candidate"))

    def both(*args):
        dstate, da = step_bwd(*args)
        return dstate, 1.1 * da

    report = referee.taps(MINE._replace(step_bwd=both), *my_problem(), inside=gates)
    assert report.sentence() == (
        "first disagreement at t=3: dz, update gate (relative error 1.0e-01) beside "
        "dz, candidate (1.0e-01), whose order is not told; in step_bwd, the delta"
    )


@pytest.mark.parametrize(
    ("args", "inside", "match"),
    [
        (lambda p, s, xs: (p, s, xs[:0]), None, "no time step"),
        (
            lambda *args: jax.tree.map(lambda x: x.astype(jnp.bfloat16), args),
            None,
            "float32 or float64",
        ),
        (lambda *args: args, referee.Taps(gates=("a", "b", "c")), "3 blocks"),
        (lambda *args: args, referee.Taps(gates=("a",)), "names 1 blocks; .*, 2 of a state's"),
        (lambda *args: args, referee.Taps(gates=tuple("abcde")), "names 5 blocks"),
        (lambda *args: args, referee.Taps(gates=("a", "a")), "names of their own"),
        (
            lambda *args: args,
            referee.Taps(step=lambda w, prev, z, tap: State(tap("h", prev.h))),
            "two intermediates",
        ),
    ],
)
def test_bad_input_is_named(args, inside, match):
    with pytest.raises(ValueError, match=match):
        referee.taps(MINE, *args(*my_problem()), inside=inside)


def test_gates_that_nothing_would_have_are_refused():
    """A delta in another shape than what `project` returns has no blocks to name."""

    def folded(*args):
        dstate, da = step_bwd(*args)
        return dstate, da.reshape((*da.shape[:-1], 2, -1))

    def unfolded(w, xs, prev, saved, da):
        return weights_bwd(w, xs, prev, saved, da.reshape((*da.shape[:-2], -1)))

    cell, gates = MINE._replace(step_bwd=folded, weights_bwd=unfolded), ("update gate", "candidate")
    assert referee.taps(cell, *my_problem())
    with pytest.raises(ValueError, match="is another: name it by `deltas`"):
        referee.taps(cell, *my_problem(), inside=referee.Taps(gates=gates))


def test_float64_with_x64_off_is_refused():
    args = my_problem()
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match="jax_enable_x64"):
            referee.taps(MINE, *args)
        with pytest.raises(ValueError, match="jax_enable_x64"):
            referee.mutation_test(MINE, *args)


# Mutation tests -------------------------------------------------------------------------------


# What no gradient depends on: an h that no step reads has the cotangent 0, and where no weight
# reads the state it does not matter which. By the beginning of a mutant's name.
EQUIVALENT = {
    "elementwise_lstm": ("to t-1.h",),
    "mlstm": ("to t-1.h", "states before"),
    "min_gru": ("states before",),
    "min_lstm": ("states before",),
}


@pytest.mark.half
@over_cells
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_every_mutant_of_a_cell_is_rejected(name, dtype):
    row = CELLS[name]
    report = referee.mutation_test(row.cell, *problem(row, SIZE, dtype))
    assert report.right, report.table()
    alive = {mutant.name for mutant in report.survivors()}
    here = {m.name for m in report.mutants if m.name.startswith(EQUIVALENT.get(name, ("-",)))}
    assert alive == here, report.table()
    assert len(report.mutants) >= 30
    assert json.loads(report.to_json(seed=0))["ok"] is (not here)
    assert report.sentence().startswith("the cell agrees with JAX")


def test_a_wrong_cell_and_a_survivor_are_told():
    wrong = MINE._replace(step_bwd=wrong_candidate)
    report = referee.mutation_test(wrong, *my_problem())
    assert not report
    assert "DISAGREES" in report.sentence()
    assert referee.mutation_test(MINE, *my_problem())

    def with_a_spare(*args):  # a delta that nobody reads: no gradient depends on it
        dstate, da = step_bwd(*args)
        return dstate, (da, da)

    def without_it(w, xs, prev, saved, deltas):
        return weights_bwd(w, xs, prev, saved, deltas[0])

    spare = MINE._replace(step_bwd=with_a_spare, weights_bwd=without_it)
    report = referee.mutation_test(spare, *my_problem())
    assert not report
    assert report.right
    assert {m.name.split(",")[0].split(":")[0] for m in report.survivors()} == {"delta[1]"}
    assert "SURVIVES" in report.table()


def test_one_step_has_no_mutants_of_time():
    params, state, xs = my_problem()
    with pytest.raises(ValueError, match="two time steps"):
        referee.mutation_test(MINE, params, state, xs[:1])
