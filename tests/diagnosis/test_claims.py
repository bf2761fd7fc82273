"""diagnose on trial: what it claims, the data can tell."""

import functools
import subprocess
import sys
import time

import numpy as np
import pytest

from jax_lstm import diagnose
from jax_lstm.diagnosis.slow_backward import MUTANTS
from jax_lstm.interop.described import from_ours
from jax_lstm.interop.layouts import LAYOUTS
from tests.diagnosis.problems import (
    in_our_layout,
    judged,
    leaves_of,
    named,
    over_cells,
    random_problem,
)

T, B, D, H = 5, 3, 4, 4


def right_of(cell="lstm", seed=31, size=(T, B, D, H)):
    problem = random_problem(np.random.default_rng(seed), cell, size, "cotangents")
    right = MUTANTS[cell].gradients(problem, [()])
    return problem, {k: right[k][0] for k in leaves_of(problem)}


@over_cells
def test_a_mean_for_the_sum_of_one_leaf_has_its_name(cell):
    problem, right = right_of(cell)
    for leaf in right:
        for over, n in (("batch", B), ("time", T), ("time and batch", T * B)):
            if leaf not in ("dh0", "dc0") or over == "batch":
                found = judged(right | {leaf: right[leaf] / n}, problem, cell)
                assert found.explanations[0].names == (f"{leaf} averaged over {over}",)
                assert not any("clip" in e.says for e in found.explanations)


SLOW = [pytest.param(x, marks=pytest.mark.slow) for x in (0.3, 1.9)]


@pytest.mark.half
@pytest.mark.slow
@over_cells
@pytest.mark.parametrize("factor", [0.77, *SLOW])
def test_a_factor_of_one_leaf_is_told_and_not_explained(cell, factor):
    problem, right = right_of(cell)
    for leaf in right:
        found = judged(right | {leaf: factor * right[leaf]}, problem, cell)
        assert not found.explanations, (leaf, found.sentence())
        assert [(k, round(x, 12)) for k, x in found.multiples] == [(leaf, factor)]
        assert f"{leaf} is {factor} times the right one; first" in found.sentence()


@pytest.mark.slow
def test_factors_of_all_leaves_are_no_clipping():
    problem, right = right_of()
    rng = np.random.default_rng(0)
    for _ in range(3):
        factors = dict(zip(right, rng.uniform(0.1, 0.9, len(right)), strict=True))
        found = judged({k: x * factors[k] for k, x in right.items()}, problem, "lstm")
        assert not found.explanations
        assert dict(found.multiples) == pytest.approx(factors)


@pytest.mark.slow
def test_a_clip_has_one_threshold_that_every_leaf_obeys():
    problem, right = right_of()
    norms = {k: float(np.linalg.norm(x)) for k, x in right.items()}
    *_, third, _, _ = sorted(norms.values())
    clipped = {k: x * min(1.0, third / norms[k]) for k, x in right.items()}
    found = judged(clipped, problem, "lstm")
    assert found.explanations[0].names == ("clip each by norm",)
    assert f"clipping by norm at {third:.4g}, leaf by leaf" in found.sentence()
    largest = max(norms, key=lambda k: norms[k])
    one = right | {
        largest: right[largest] * (0.99 * norms[largest] + 0.01 * third) / norms[largest]
    }
    assert not judged(one, problem, "lstm", pairs=None).explanations  # one number for one fact
    loose = clipped | {largest: clipped[largest] * 1.01}
    assert not judged(loose, problem, "lstm", pairs=None).explanations


def test_a_clip_by_value_accounts_for_two_numbers():
    problem, right = right_of()
    every = np.sort(np.concatenate([np.abs(x).reshape(-1) for x in right.values()]))
    for n, says in ((1, False), (2, True), (30, True)):
        top = (every[-n] + every[-n - 1]) / 2
        clipped = {k: np.clip(x, -top, top) for k, x in right.items()}
        assert named(judged(clipped, problem, "lstm"), ("clip by value",)) is says
    assert not named(
        judged({k: 0 * x for k, x in right.items()}, problem, "lstm"), ("clip by value",)
    )


@pytest.mark.slow
def test_a_factor_of_everything_is_one_number():
    problem, right = right_of()
    for factor in (0.37, 1.7):
        found = judged({k: factor * x for k, x in right.items()}, problem, "lstm", pairs=None)
        assert [e.names for e in found.explanations if "norm" in e.says] == [("clip by norm",)]
        assert f"all of it times {factor} (by norm clipped, or a factor" in found.sentence()
    alone = judged({"dW": 0.37 * right["dW"], "dU": None, "db": None}, problem, "lstm")
    assert not alone.explanations
    assert "dW is 0.37 times the right one" in alone.sentence()


@pytest.mark.slow
def test_the_nearest_is_told_where_it_explains_most_of_the_error():
    problem, right = right_of()
    rng = np.random.default_rng(1)
    noise = {k: rng.standard_normal(x.shape) for k, x in right.items()}
    assert "nearest" not in judged(noise, problem, "lstm").sentence()
    some = {k: x + 0.5 * noise[k] for k, x in right.items()}
    assert "nearest" not in judged(some, problem, "lstm").sentence()
    wrong = {k: x[0] for k, x in MUTANTS["lstm"].gradients(problem, [("dc not carried",)]).items()}
    near = {k: wrong[k] * (1 + 1e-3 * noise[k]) for k in right}
    said = judged(near, problem, "lstm").sentence()
    assert "nearest is BPTT with the fork at c dropped (dc not carried to t-1) (0.0" in said
    little = {k: x * (1 + 1e-3 * noise[k]) for k, x in right.items()}
    assert "nearest is BPTT (0.0" in judged(little, problem, "lstm").sentence()


@pytest.mark.slow
def test_a_mistake_of_leaves_that_are_not_given_is_not_claimed():
    problem, right = right_of()
    mine = MUTANTS["lstm"].gradients(problem, [("weights overwritten: t=0 left",)])
    part = {"dW": None, "dU": mine["dU"][0], "db": mine["db"][0], "dxs": right["dxs"]}
    found = judged(part, problem, "lstm", pairs=None)
    names = [set(e.names) for e in found.explanations]
    assert {"dU overwritten: t=0 left", "db overwritten: t=0 left"} in names
    assert not any("weights overwritten: t=0 left" in e for e in names)


@pytest.mark.parametrize("given", [("dxs",), ("dhs", "dxs", "dW", "dU", "db")])
def test_no_gate_is_claimed_that_the_data_cannot_tell(given):
    """Two gates wrong at once, where D = H; and what stands before the gates."""
    problem, right = right_of()
    every = {k: x[0] for k, x in MUTANTS["lstm"].gradients(problem, [()]).items()}
    das = every["das"] * np.repeat([1.0, 1.3, 1.0, 0.8], H)
    wrong = dict.fromkeys(("dW", "dU", "db")) | {"dxs": das @ problem.params["W"].T}
    if "dhs" in given:
        wrong |= {k: right[k] * 1.01 for k in ("dW", "dU", "db")} | {"dhs": 1.1 * every["dhs"]}
    first = judged(wrong, problem, "lstm").first
    place = "dhs" if "dhs" in given else "dxs, which cannot tell one gate from another"
    assert first == f"at t={T - 1}, in {place}"


def test_dx_itself_is_looked_at_where_the_weights_are_right():
    problem, right = right_of()
    wrong = right | {"dxs": right["dxs"] ** 2}
    assert judged(wrong, problem, "lstm").first == (
        f"at t={T - 1}, in dxs; dW, dU, db right: look at dxs itself"
    )


@pytest.mark.slow
def test_the_unknown_verdict_is_quick():
    """With every two mistakes: a second or so, and no more than five on a busy machine."""
    problem, right = right_of(size=(5, 2, 3, 4))
    rng = np.random.default_rng(2)
    begin = time.process_time()
    found = judged(
        {k: rng.standard_normal(x.shape) for k, x in right.items()}, problem, "lstm", None
    )
    assert time.process_time() - begin < 5
    assert found.pairs
    assert not found.explanations


@pytest.mark.slow
def test_the_unknown_verdict_is_quick_in_a_process_of_its_own():
    text = """
import time, numpy as np, jax_lstm as jl
draw = np.random.default_rng(3).standard_normal
problem = {"W": draw((3, 16)), "U": draw((4, 16)), "b": draw(16), "xs": draw((5, 2, 3))}
problem |= {"dhs": draw((5, 2, 4)), "h0": draw((2, 4)), "c0": draw((2, 4))}
def wrong(p):
    return {"d" + k: np.sin(9 * p[k]) for k in ("W", "U", "b", "xs", "h0", "c0")}
begin = time.process_time()
assert not jl.diagnose(wrong, problem).explanations
assert time.process_time() - begin < 5
"""
    subprocess.run([sys.executable, "-c", text], check=True)


@pytest.mark.slow
@over_cells
def test_a_leaf_of_zeros_is_called_that_and_no_two_mistakes(cell):
    problem, right = right_of(cell)
    for leaf in right:
        found = judged(right | {leaf: 0 * right[leaf]}, problem, cell)
        assert named(found, (f"{leaf} zero",))
    found = judged(right | {"dW": 0 * right["dW"]}, problem, cell, pairs=True)
    assert not any(sum("overwritten" in name for name in e.names) > 1 for e in found.explanations)
    assert not judged({k: 0 * x for k, x in right.items()}, problem, cell, None).explanations


# Leaves as their owner has them ---------------------------------------------------------------


def shrunk(leaves, most):
    return {k: x * min(1.0, most / np.linalg.norm(x)) for k, x in leaves.items()}


def test_leaves_of_the_weights_alone_are_clipped():
    problem, right = right_of()
    weights = {k: right[k] for k in ("dW", "dU", "db")}
    most = 0.9 * min(float(np.linalg.norm(x)) for x in right.values())
    found = judged(right | shrunk(weights, most), problem, "lstm")
    assert [e.names for e in found.explanations] == [("clip each weight by norm",)]
    alone = judged(shrunk(weights, most), problem, "lstm")
    assert [e.names for e in alone.explanations] == [("clip each by norm",)]


@functools.cache
def per_gate(layout):
    """The problem and its gradient where a gate has its own arrays."""
    problem, right = right_of()
    form, sizes = LAYOUTS["lstm"][layout], {"T": T, "B": B, "D": D, "H": H}
    theirs = {k: v for k, v in form.problem.items() if k not in ("y", "target")}
    arrays = from_ours(form.to_ours, theirs, sizes, in_our_layout(problem))
    return arrays, from_ours(form.gradient_to_ours, form.gradient, sizes, right)


@pytest.mark.parametrize("layout", ["coursera", "tmva"])
def test_a_leaf_is_an_array_of_its_owner(layout):
    problem, right = per_gate(layout)
    judge = lambda gradient: diagnose(gradient, problem, layout=layout, pairs=False)
    assert judge(right)
    found = judge(shrunk(right, 0.5))
    assert [e.names for e in found.explanations] == [("clip each by norm",)]
    own = {k: x * (0.3 + 0.01 * n) for n, (k, x) in enumerate(right.items())}
    assert not judge(own).explanations
    matrix = "dW and dU f" if layout == "coursera" else "dW f"
    for leaf, name in (("dWf", matrix), ("dbf", "db f")):
        found = judge(right | {leaf: right[leaf] / B})
        assert [e.names for e in found.explanations] == [(f"{name} averaged over batch",)]
    found = judge(right | {"dbo": 0.77 * right["dbo"]})
    assert "db*, output gate, is 0.77 times the right one; first" in found.sentence()
