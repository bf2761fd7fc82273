"""diagnose on trial: it names what was done wrong, and never accuses what is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm import referee
from jax_lstm.diagnosis import diagnose as diagnosis
from jax_lstm.diagnosis.slow_backward import MUTANTS
from jax_lstm.diagnosis.switches import clash
from jax_lstm.interop.layouts import LAYOUTS
from jax_lstm.referee.comparison import ROUNDING, judge
from tests.diagnosis.problems import (
    ROWS,
    by_the_engine,
    cast,
    in_our_layout,
    judged,
    leaves_of,
    mistakes_of,
    named,
    over_cells,
    planted,
    random_problem,
)
from tests.tables import assert_close


@over_cells
def test_the_truth_is_the_engine_s(cell):
    problem = random_problem(np.random.default_rng(0), cell, (5, 2, 3, 4), "cotangents")
    want = by_the_engine(problem, cell)
    got = MUTANTS[cell].gradients(problem, [()])
    assert_close({k: got[k][0] for k in want}, want)


@over_cells
def test_every_mutant_is_rejected_by_the_verdict_of_compare_and_check(cell):
    """Eight random cotangents, the rows that both commands print."""
    rng = np.random.default_rng(1)
    first = random_problem(rng, cell, (4, 3, 3, 4), "cotangents")
    kind, leaves = MUTANTS[cell], leaves_of(first)
    last = {k: rng.standard_normal((8, *x.shape)) for k, x in first.state.items()}
    draws = [
        first._replace(
            dhs=rng.standard_normal(first.dhs.shape), dlast={k: last[k][n] for k in last}
        )
        for n in range(8)
    ]
    settings = [(), *((name,) for name in kind.inside(first))]
    found = [kind.gradients(problem, settings) for problem in draws]
    want = [np.stack([d[k][0] for d in found]) for k in leaves]
    for n, names in enumerate(settings):
        got = [np.stack([d[k][n] for d in found]) for k in leaves]
        by = {"route": "mutant", "against": "truth", "dtype": jnp.dtype("float64")}
        rows = list(judge(leaves, got, want, want, ROUNDING, **by))
        assert all(row.ok for row in rows) is (names == ()), names
    after = kind.after(first) | referee.scalings(
        {"time": 4, "batch": 3, "features": 4}, kind.weights
    )
    for name, (_, change) in after.items():
        changed = change(dict(zip(leaves, want, strict=True)))
        got = [changed[k] for k in leaves]
        assert any(not np.allclose(g, w) for g, w in zip(got, want, strict=True)), name


@pytest.mark.slow
@pytest.mark.half
@over_cells
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_mistake_is_named(cell, dtype):
    """Sizes all different, something remembered, cotangents everywhere: nothing can coincide."""
    problem = random_problem(np.random.default_rng(2), cell, (5, 3, 4, 4), "cotangents")
    problem = cast(cast(problem, dtype), "float64")
    every = mistakes_of(problem, cell)
    every = every if dtype == "float64" else every[::3]
    form, (T, B, D) = LAYOUTS[cell]["ours"], problem.xs.shape
    sizes = {"T": T, "B": B, "D": D, "H": 4, "R": problem.state["h"].shape[-1]}
    table = diagnosis.table_of(cell, problem)
    known = {}  # the mistakes by themselves, made once

    def gradients(settings):
        key = tuple(settings)
        known[key] = known.get(key) or table.gradients(settings)
        return known[key]

    once = table._replace(gradients=gradients)
    for name in every:
        gradient = planted(problem, cell, (name,), dtype)
        given, narrow = diagnosis.given_of(gradient, form, "ours", sizes)
        found = referee.diagnose(given, once, dtype=narrow, pairs=False)
        assert named(found, (name,)), (name, found.sentence())
        assert not found, name


@pytest.mark.parametrize(
    ("loss", "name", "says"),
    [
        ("binary_cross_entropy", "one half of cross-entropy", "but cross-entropy differentiated"),
        ("binary_cross_entropy", "softmax for sigmoid", "but cross-entropy differentiated"),
        ("softmax_cross_entropy", "sigmoid for softmax", "but binary cross-entropy"),
        ("squared_error", "no half", "½ of the squared error left out"),
    ],
)
def test_mistakes_of_the_loss(loss, name, says):
    problem = random_problem(np.random.default_rng(3), "lstm", (3, 2, 2, 5), loss)
    found = judged(planted(problem, "lstm", (name,)), problem, "lstm")
    assert named(found, (name,))
    assert says in found.sentence()


def test_the_losses_are_ours():
    """Each loss with targets gives the cotangents that its twin gives."""
    for loss in ("squared_error", "binary_cross_entropy", "softmax_cross_entropy"):
        problem = random_problem(np.random.default_rng(4), "elman", (3, 2, 2, 4), loss)
        ys = problem.ys / problem.ys.sum(-1, keepdims=True) if "softmax" in loss else problem.ys

        def total(params, state, xs, ys=ys, loss=loss):
            _, hs = jl.elman_autodiff(params, state, xs)
            if loss == "squared_error":
                return jl.squared_error(hs, ys).sum()
            if loss == "binary_cross_entropy":
                return jl.binary_cross_entropy_with_logits(hs, ys).sum()
            return -(ys * jax.nn.log_softmax(hs)).sum()

        problem = problem._replace(ys=ys)
        args = jl.ElmanParams(**problem.params), jl.ElmanState(**problem.state), problem.xs
        want = jax.grad(total)(*jax.tree.map(jnp.asarray, args))
        got = MUTANTS["elman"].gradients(problem, [()])
        assert_close({k: got[f"d{k}"][0] for k in "WUb"}, want._asdict())


@pytest.mark.slow
@pytest.mark.parametrize("number", [40, pytest.param(100, marks=pytest.mark.every)])
def test_random_mistakes_alone_and_in_pairs_over_random_sizes(number):
    """At least 95 of 100 are in the named set; a planted one that changes nothing counts as missed
    unless it is named too."""
    rng, missed = np.random.default_rng(5), []
    for n in range(number):
        cell, dtype = list(ROWS)[n % 3], ("float64", "float32")[n // 3 % 2]
        problem = cast(cast(random_problem(rng, cell), dtype), "float64")
        every = mistakes_of(problem, cell)
        while True:
            several = sorted(rng.choice(len(every), 1 + (n % 5 == 0), replace=False))
            names = tuple(every[k] for k in several)
            if not any(clash(a, b) for a in names for b in names if a != b):
                break
        gradient = planted(problem, cell, names, dtype)
        found = judged(gradient, problem, cell, pairs=len(names) == 2)
        if not named(found, names):
            missed.append((n, cell, names, found.sentence()))
    assert len(missed) <= number // 20, missed


@pytest.mark.slow
def test_two_plain_mistakes_are_not_hidden_behind_a_fitted_clipping():
    """A threshold per leaf would explain any scale: there is one, or it is no clipping."""
    problem = random_problem(np.random.default_rng(9), "lstm", (5, 2, 2, 3))
    names = ("b doubled", "mean over time and batch")
    found = judged(planted(problem, "lstm", names), problem, "lstm", pairs=None)
    assert set(found.explanations[0].names) == set(names)
    assert not any("clip each by norm" in e.names for e in found.explanations)
    alone = judged(planted(problem, "lstm", ("clip by norm",)), problem, "lstm", pairs=None)
    assert alone.explanations[0].names == ("clip by norm",)


@pytest.mark.slow
def test_no_false_alarm_for_200_correct_gradients():
    """By the engine, on its own arithmetic, and in NumPy over random sizes; both dtypes."""
    rng = np.random.default_rng(6)
    for n in range(200):
        cell, dtype = list(ROWS)[n % 3], ("float64", "float32")[n // 3 % 2]
        size = (6, 2, 3, 4) if n % 2 else None
        problem = random_problem(rng, cell, size, "cotangents" if n % 2 else None)
        problem = cast(cast(problem, dtype), "float64")
        exact = cast(problem, dtype)
        gradient = by_the_engine(exact, cell) if n % 2 else planted(problem, cell, (), dtype)
        found = judged(gradient, problem, cell)
        assert found, (n, cell, dtype, problem.xs.shape, found.sentence())
        assert found.sentence().startswith("right: equals BPTT: largest difference")
        assert found.rounding == found.dtype == dtype


@pytest.mark.slow
def test_what_rounding_has_lost_is_not_accused():
    """Chaos: a float32 gradient of this problem is noise, and noise is no mistake."""
    problem = random_problem(np.random.default_rng(1), "lstm", (111, 1, 4, 36), "cotangents")
    problem = problem._replace(params=problem.params | {"U": 5 * problem.params["U"]})
    right = MUTANTS["lstm"].gradients(problem, [()])
    noise = diagnosis.table_of("lstm", problem).noise
    eps, whole = np.finfo(np.float32).eps, np.sqrt(sum(np.sum(x**2) for x in right.values()))
    assert max(noise.values()) * eps >= 0.0099 * whole
    gradient = {k: 2 * right[k][0].astype(np.float32) for k in leaves_of(problem)}
    gradient["dU"] = gradient["dU"][::-1]
    verdict = jl.diagnose(gradient, in_our_layout(problem), pairs=False)
    assert verdict.lost
    assert not verdict
    assert verdict.sentence().startswith("cannot be judged: the rounding of float32")
