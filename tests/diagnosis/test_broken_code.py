"""diagnose on trial: broken code, not broken numbers."""

import jax.numpy as jnp
import numpy as np
import pytest

from jax_lstm import textbook
from jax_lstm.diagnosis import diagnose as diagnosis
from jax_lstm.diagnosis.slow_backward import MUTANTS
from jax_lstm.engine.shapes import sizes_of
from jax_lstm.interop.described import from_ours
from jax_lstm.interop.layouts import LAYOUTS
from tests.diagnosis.problems import (
    in_our_layout,
    judged,
    leaves_of,
    named,
    planted,
    random_problem,
)


def by_the_textbook(problem):
    p = textbook.from_packed(*(jnp.asarray(problem.params[k]) for k in "WUb"))
    state = (jnp.asarray(problem.state[k]) for k in "hc")
    steps = textbook.forward(p, jnp.asarray(problem.xs), *state)
    last = (jnp.asarray(problem.dlast[k]) for k in "hc")
    d = textbook.backward(p, steps, jnp.asarray(problem.dhs), *last)
    weights = dict(zip(("dW", "dU", "db"), textbook.to_packed(d.dparams), strict=True))
    return weights | {"dxs": d.dxs, "dh0": d.dh0, "dc0": d.dc0}


def changed_cell_state(change):
    def cell_state_bwd(residual, dc):
        f, c_prev, i, g = residual
        return change(f, c_prev, i, g, dc)

    return cell_state_bwd


BROKEN = {
    "1 - f": (
        "cell_state_bwd",
        changed_cell_state(lambda f, c, i, g, dc: (dc * c, dc * (1 - f), dc * g, dc * i)),
    ),
    "i and g swapped": (
        "cell_state_bwd",
        changed_cell_state(lambda f, c, i, g, dc: (dc * c, dc * f, dc * i, dc * g)),
    ),
    "slope of g": ("tanh_bwd", lambda t, dt: dt),
    "slope of the sigmoids": ("sigmoid_bwd", lambda s, ds: ds),
    "c for tanh(c)": (
        "hidden_state_bwd",
        lambda residual, dh: (
            dh * residual[1],
            dh * residual[0] * (1 - residual[1] * residual[1]),
        ),
    ),
    "sign of dU": None,
    "unknown": (
        "cell_state_bwd",
        changed_cell_state(lambda f, c, i, g, dc: (dc * c, dc * f, 1.3 * dc * g, dc * i)),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_stage_is_named(name, monkeypatch):
    problem = random_problem(np.random.default_rng(7), "lstm", (3, 2, 2, 3), "cotangents")
    if BROKEN[name]:
        monkeypatch.setattr(textbook, *BROKEN[name])
    gradient = by_the_textbook(problem)
    if name == "sign of dU":
        gradient["dU"] = -gradient["dU"]
    found = judged(gradient, problem, "lstm")
    assert not found
    assert bool(found.explanations) == named(found, (name,)) == (name != "unknown")
    if name == "unknown":
        assert found.sentence().startswith("no known mistake explains it")
        assert "first disagreement at t=2" in found.sentence()


OTHERS = [pytest.param(x, marks=pytest.mark.slow) for x in ("coursera", "tmva", "keras")]


@pytest.mark.half
@pytest.mark.parametrize("layout", ["ours", "torch", *OTHERS])
@pytest.mark.parametrize("where", ["input gate", "carried"])
def test_a_function_is_asked_step_by_step(layout, where, monkeypatch):
    """Unknown mistakes: in one gate of every step, or in what goes from step to step."""
    form = LAYOUTS["lstm"][layout]
    fork_bwd = textbook.fork_bwd
    if where == "carried":

        def less(residual, d):
            return (d[0] + 0.9 * d[1], None) if len(d) == 2 else fork_bwd(residual, d)

        monkeypatch.setattr(textbook, "fork_bwd", less)
    else:
        monkeypatch.setattr(textbook, *BROKEN["unknown"])

    def gradient(arrays):
        sizes = sizes_of(form.problem, arrays)
        problem = diagnosis.problem_of(form.to_ours(arrays), {}, "lstm", sizes)
        d = {k: np.asarray(x) for k, x in by_the_textbook(problem).items()}
        if layout == "ours":
            return d
        return from_ours(form.gradient_to_ours, form.gradient, sizes, d | {"db again": d["db"]})

    problem = random_problem(np.random.default_rng(8), "lstm", (3, 2, 2, 3), "cotangents")
    sizes = {"T": 3, "B": 2, "D": 2, "H": 3}
    arrays = from_ours(form.to_ours, form.problem, sizes, in_our_layout(problem))
    arrays = {k: x for k, x in arrays.items() if k not in ("ys", "y", "target")}
    sentence = diagnosis.diagnose(gradient, arrays, layout=layout, pairs=False).sentence()
    if where == "carried":
        assert "every step by itself is right" in sentence
    else:
        assert "step t=2 by itself: wrong" in sentence
        assert sentence.endswith("input gate")


@pytest.mark.slow
def test_unknown_mistakes_have_a_place():
    problem = random_problem(np.random.default_rng(9), "lstm", (5, 2, 3, 4), "cotangents")
    right = {k: x[0] for k, x in MUTANTS["lstm"].gradients(problem, [()]).items()}
    das = right["das"].copy()
    das[3, :, 4:8] *= 1.5
    found = judged(right | {"das": das, "dxs": das @ problem.params["W"].T}, problem, "lstm")
    assert found.first == "at t=3, forget gate, in das"
    dxs = das @ problem.params["W"].T
    found = judged(right | {"dxs": dxs}, problem, "lstm")
    assert found.first.startswith("at t=3")
    db = right["db"] * np.repeat([1, 1, 1.7, 1], 4)
    some = {k: right[k] for k in ("dW", "dU", "dxs")}
    assert judged(some | {"db": db}, problem, "lstm").first == (
        "in db, candidate; dxs right at every step"
    )
    assert not judged(some | {"db": db}, problem, "lstm")


@pytest.mark.slow
def test_what_is_in_no_table_is_called_unknown():
    """A factor on one gate: at every step, at one step, or in dU alone."""
    rng = np.random.default_rng(11)
    for n in range(12):
        problem = random_problem(rng, "lstm")
        right = {k: x[0] for k, x in MUTANTS["lstm"].gradients(problem, [()]).items()}
        (T, _, _), H = problem.xs.shape, problem.state["h"].shape[-1]
        factor = np.repeat(np.where(np.arange(4) == n % 4, 1.3, 1.0), H)
        das, t = right["das"].copy(), T // 2
        das[slice(None) if n % 3 == 0 else t] *= factor
        wrong = {k: right[k] for k in leaves_of(problem)}
        if n % 3 == 2:
            wrong["dU"] = wrong["dU"] * factor
            place = f"in dU, {MUTANTS['lstm'].blocks['dU'][n % 4]}"
        else:
            wrong["dW"], wrong["db"] = np.einsum("tbd,tbk->dk", problem.xs, das), das.sum((0, 1))
            wrong["dxs"] = das @ problem.params["W"].T
            place = f"at t={T - 1 if n % 3 == 0 else t}, {MUTANTS['lstm'].blocks['dU'][n % 4]}"
        found = judged(wrong, problem, "lstm")
        assert not found.explanations
        assert found.first.startswith(place), (n, found.first)


def test_what_went_through_float32_says_so():
    problem = random_problem(np.random.default_rng(12), "lstm", (4, 2, 3, 4), "cotangents")
    gradient = planted(problem, "lstm", ("1 - f",), "float32")
    doubled = {k: x.astype(np.float64) * (1 + 1e-12) for k, x in gradient.items()}
    found = judged(doubled, problem, "lstm")
    assert named(found, ("1 - f",))
    assert "which is the rounding of float32, not of float64" in found.sentence()


def test_one_gate_alone_shows_in_a_wide_input():
    problem = random_problem(np.random.default_rng(10), "lstm", (4, 2, 6, 3), "cotangents")
    right = {k: x[0] for k, x in MUTANTS["lstm"].gradients(problem, [()]).items()}
    das = right["das"].copy()
    das[2, :, 9:] *= 1.5
    weights = {k: right[k] * 1.01 for k in ("dW", "dU", "db")}
    found = judged(weights | {"dxs": das @ problem.params["W"].T}, problem, "lstm")
    assert found.first == "at t=2, output gate, in dxs"
