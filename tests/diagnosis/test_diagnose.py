"""diagnose on trial: it names what was done wrong, and never accuses what is right."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import jax_lstm as jl
from jax_lstm import referee, textbook
from jax_lstm.commands import main as command
from jax_lstm.diagnosis import brought as files
from jax_lstm.diagnosis import diagnose as diagnosis
from jax_lstm.diagnosis.catalogue import Problem, clash
from jax_lstm.diagnosis.slow_backward import MUTANTS
from jax_lstm.interop.layouts import LAYOUTS, from_ours, sizes_of
from jax_lstm.referee.comparison import ROUNDING, judge
from tests.tables import CELLS, assert_close

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"
CLIPPED = ("clip by value", "clip by norm", "clip weights by norm")


# Problems and gradients -----------------------------------------------------------------------


def random_problem(rng, cell, size=None, loss=None):
    """A problem with weights that keep gates open, and something remembered."""
    T, B, D, H = size or (rng.integers(1, 9), rng.integers(1, 5), *rng.integers(1, 7, 2))
    R, blocks = (max(H - 1, 1) if cell == "lstmp" else H), (1 if cell == "elman" else 4)

    def draw(*shape):
        return rng.standard_normal(shape)

    params = {"W": draw(D, blocks * H) / D**0.5, "U": draw(R, blocks * H) / R**0.5}
    params["b"] = draw(blocks * H) / 2
    if cell == "lstmp":
        params["P"] = draw(H, R) / H**0.5
    state = {"h": draw(B, R) / 2} | ({} if cell == "elman" else {"c": draw(B, H) / 2})
    loss = loss or str(rng.choice(["cotangents", "squared_error", "binary_cross_entropy"]))
    given = loss == "cotangents"
    last = {k: draw(*x.shape) if given else np.zeros_like(x) for k, x in state.items()}
    dhs, ys = draw(T, B, R), (draw(T, B, R) if loss == "squared_error" else rng.random((T, B, R)))
    dhs, ys = (dhs, None) if given else (np.zeros_like(dhs), ys)
    return Problem(params, state, draw(T, B, D), loss, dhs, ys, 1.0, last)


def cast(problem, dtype):
    return jax.tree.map(lambda x: x.astype(dtype) if isinstance(x, np.ndarray) else x, problem)


def in_our_layout(problem):
    arrays = problem.params | {f"{k}0": x for k, x in problem.state.items()} | {"xs": problem.xs}
    if problem.loss == "cotangents":
        last = {f"d{k}_T": x for k, x in problem.dlast.items()}
        return arrays | last | {"dhs": problem.dhs}
    return arrays | {"ys": problem.ys, "loss": problem.loss}


def leaves_of(problem):
    return [f"d{k}" for k in problem.params] + ["dxs"] + [f"d{k}0" for k in problem.state]


def planted(problem, cell, names, dtype="float64"):
    """The gradient with these mistakes, computed in the dtype."""
    kind, (T, B, _) = MUTANTS[cell], problem.xs.shape
    sizes = {"time": T, "batch": B, "features": problem.state["h"].shape[-1]}
    after = kind.after(problem) | referee.scalings(sizes, kind.weights)
    inside = tuple(k for k in names if k not in after and k not in CLIPPED)
    gradient = kind.gradients(cast(problem, dtype), [inside])
    for name in names:
        if name in after:
            gradient = after[name][1](gradient)
    gradient = {k: gradient[k][0] for k in leaves_of(problem)}
    every = np.concatenate([np.abs(x).reshape(-1) for x in gradient.values()])
    for name in names:
        if name == "clip by value":
            top = np.quantile(every, 0.8)
            gradient = {k: np.clip(x, -top, top) for k, x in gradient.items()}
        elif name in CLIPPED:
            mine = kind.weights if "weights" in name else leaves_of(problem)
            gradient = {k: x * 0.37 if k in mine else x for k, x in gradient.items()}
    return {k: np.asarray(x, dtype) for k, x in gradient.items()}


def mistakes_of(problem, cell):
    kind, (T, B, _) = MUTANTS[cell], problem.xs.shape
    sizes = {"time": T, "batch": B, "features": problem.state["h"].shape[-1]}
    changes = kind.after(problem) | referee.scalings(sizes, kind.weights)
    return [*kind.inside(problem), *changes, *CLIPPED]


def named(found, names):
    return any(set(e.names) == set(names) for e in found.explanations)


def judged(gradient, problem, cell, pairs=False):
    return diagnosis.diagnose(gradient, in_our_layout(problem), cell=cell, pairs=pairs)


# The truth, and every mistake of the table ----------------------------------------------------

ROWS = {
    "lstm": (jl.LSTMParams, jl.LSTMState),
    "lstmp": (jl.LSTMPParams, jl.LSTMPState),
    "elman": (jl.ElmanParams, jl.ElmanState),
}
over_cells = pytest.mark.parametrize("cell", ROWS)


@functools.cache
def pulled_back(cell):
    """The cotangents of the engine, compiled once per cell and dtype."""

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def cotangents(args, dy):
        return jax.vjp(CELLS[cell].sequence, *args)[1](dy)

    return cotangents


def by_the_engine(problem, cell):
    params, state = ROWS[cell]
    args = params(**problem.params), state(**problem.state), problem.xs
    args, dy = jax.tree.map(jnp.asarray, (args, (state(**problem.dlast), problem.dhs)))
    dparams, dstate, dxs = pulled_back(cell)(args, dy)
    gradient = {f"d{k}": x for k, x in dparams._asdict().items()} | {"dxs": dxs}
    return gradient | {f"d{k}0": x for k, x in dstate._asdict().items()}


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


def test_random_mistakes_alone_and_in_pairs_over_random_sizes():
    """At least 95 of 100 are in the named set; a planted one that changes nothing counts as missed
    unless it is named too."""
    rng, missed = np.random.default_rng(5), []
    for n in range(100):
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
    assert len(missed) <= 5, missed


def test_two_plain_mistakes_are_not_hidden_behind_a_fitted_clipping():
    """A factor per leaf explains any scale: pairs are tried all the same, and come first."""
    problem = random_problem(np.random.default_rng(9), "lstm", (5, 2, 2, 3))
    names = ("b doubled", "mean over time and batch")
    found = judged(planted(problem, "lstm", names), problem, "lstm", pairs=None)
    assert set(found.explanations[0].names) == set(names)
    assert ("clip each by norm",) in [e.names for e in found.explanations]
    alone = judged(planted(problem, "lstm", ("clip by norm",)), problem, "lstm", pairs=None)
    assert alone.explanations[0].names == ("clip by norm",)


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


# Broken code, not broken numbers --------------------------------------------------------------


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


@pytest.mark.parametrize("layout", ["ours", "coursera", "tmva", "keras", "torch"])
@pytest.mark.parametrize("where", ["input gate", "carried"])
def test_a_function_is_asked_step_by_step(layout, where, monkeypatch):
    """Unknown mistakes: in one gate of every step, or in what goes from step to step."""
    form = LAYOUTS["lstm"][layout]
    fork_bwd = textbook.fork_bwd
    if where == "carried":
        monkeypatch.setattr(
            textbook, "fork_bwd", lambda d: d[0] + 0.9 * d[1] if len(d) == 2 else fork_bwd(d)
        )
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


# Published numbers, and the layouts of others -------------------------------------------------


def test_coursera_s_old_answer_key(capsys):
    assert command.main(["diagnose", "--example", "coursera"]) == 1
    printed = capsys.readouterr().out
    assert (
        "\nequals BPTT with nothing carried between steps (neither dh nor dc reaches t-1): largest "
        "difference 5e-09\n" in printed
    )
    example = json.loads(diagnosis.examples()["coursera"].read_text())
    fixture = json.loads((FIXTURES / "coursera_seq.json").read_text())
    assert example["problem"]["da"] == fixture["da"]
    key = {k.replace("[", "_").replace("]", ""): x for k, x in example["gradient"].items()}
    assert key == fixture["old_answer_key"]


def test_gomez_zeros_in_the_backward(capsys):
    assert command.main(["diagnose", "--example", "gomez"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == (
        "equals BPTT with zeros in the backward for the remembered h0 and c0: largest difference "
        "1e-11"
    )


def coursera():
    f = json.loads((FIXTURES / "coursera_seq.json").read_text())
    x = [[row[:4] for row in rows] for rows in f["x"]]
    return f["params"] | {"x": x, "a0": f["a0"], "da": f["da"]}, f["gradients"]


def test_coursera_s_true_gradient_is_right():
    problem, gradient = coursera()
    found = diagnosis.diagnose(gradient, problem, layout="coursera")
    assert found, found.sentence()
    wrong = {k: np.asarray(x) for k, x in gradient.items()}
    wrong |= {"dWf": wrong["dWi"], "dWi": wrong["dWf"], "dbf": wrong["dbi"], "dbi": wrong["dbf"]}
    found = diagnosis.diagnose(wrong, problem, layout="coursera")
    assert found.explanations[0].names == ("gradient in order f i g o",)


def test_torch_s_gradient_is_right():
    torch = pytest.importorskip("torch", exc_type=ImportError)
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(3, 4)
    xs, h, c = (torch.randn(*s, requires_grad=True) for s in ((5, 2, 3), (1, 2, 4), (1, 2, 4)))
    hs, _ = lstm(xs, (h, c))
    dhs = torch.randn(*hs.shape)
    hs.backward(dhs)
    problem = {k: x.detach().numpy() for k, x in lstm.named_parameters()}
    problem |= {"input": xs.detach().numpy(), "doutput": dhs.numpy()}
    problem |= {"h_0": h.detach().numpy(), "c_0": c.detach().numpy()}
    gradient = {f"d{k}": x.grad.numpy() for k, x in lstm.named_parameters()}
    found = diagnosis.diagnose(gradient | {"dinput": xs.grad.numpy()}, problem, layout="torch")
    assert found, found.sentence()
    assert found.dtype == "float32"
    one = {k: 2 * x if "bias" in k else x for k, x in gradient.items()}
    found = diagnosis.diagnose(one, problem, layout="torch")
    assert found.explanations[0].names == ("b doubled",)


@pytest.mark.parametrize("layout", LAYOUTS["lstm"])
def test_a_template_filled_in_is_read(layout, tmp_path, capsys):
    file = tmp_path / "mine.json"
    assert command.main(["diagnose", str(file), "--template", layout]) == 0
    assert command.main(["diagnose", str(file), "--template", layout]) == 2  # not overwritten
    assert command.main(["diagnose", str(file)]) == 2
    assert "nothing is known" in capsys.readouterr().err
    filled, form = json.loads(file.read_text()), LAYOUTS["lstm"][layout]
    arrays = {k: np.asarray(x) for k, x in filled["problem"].items()}
    sizes = sizes_of(form.problem, arrays)
    problem = diagnosis.problem_of(form.to_ours(arrays), {}, "lstm", sizes)
    found = {k: x[0] for k, x in MUTANTS["lstm"].gradients(problem, [("1 - f",)]).items()}
    found |= {"db again": found["db"]}
    gradient = from_ours(form.gradient_to_ours, form.gradient, sizes, found)
    filled["gradient"] = {k: gradient[k].tolist() for k in filled["gradient"]}
    file.write_text(json.dumps(filled))
    report = tmp_path / "report.json"
    assert command.main(["diagnose", str(file), "--json", str(report)]) == 1
    assert "equals BPTT with 1 - f for f in dc_{t-1}" in capsys.readouterr().out
    told = json.loads(report.read_text())
    assert told["explanations"][0]["names"] == ["1 - f"]
    assert told["right"] is False


def test_printed_digits_are_what_they_are():
    problem, gradient = coursera()
    text = json.dumps({k: np.round(x, 4).tolist() for k, x in gradient.items()})
    rounded = json.loads(text, parse_float=files.read_number)
    assert diagnosis.diagnose(rounded, problem, layout="coursera")
    exact = {k: np.round(x, 4) for k, x in gradient.items()}  # the same numbers, as if exact
    assert not diagnosis.diagnose(exact, problem, layout="coursera", pairs=False)
    one = dict.fromkeys(gradient) | {"dWf[3][1]": gradient["dWf"][3][1]}
    assert diagnosis.diagnose(one, problem, layout="coursera")


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_binary_files(kind, tmp_path):
    problem, gradient = coursera()
    problem, gradient = ({k: np.asarray(x) for k, x in d.items()} for d in (problem, gradient))
    save = np.savez
    if kind == "safetensors":
        save = lambda path, **arrays: save_file(arrays, path)
        problem, gradient = (
            {k: np.ascontiguousarray(x) for k, x in d.items()} for d in (problem, gradient)
        )
    both = {f"problem/{k}": x for k, x in problem.items()}
    both |= {f"gradient/{k}": x for k, x in gradient.items()}
    save(tmp_path / f"both.{kind}", **both)
    save(tmp_path / f"problem.{kind}", **problem)
    save(tmp_path / f"gradient.{kind}", **gradient)
    assert diagnosis.diagnose(tmp_path / f"both.{kind}", layout="coursera")
    files = tmp_path / f"gradient.{kind}", tmp_path / f"problem.{kind}"
    assert diagnosis.diagnose(*files, layout="coursera")


# Bad input ------------------------------------------------------------------------------------


def with_(**changes):
    """The exercise's problem and gradient with entries replaced; ... takes one away."""
    problem, gradient = ({k: np.asarray(x) for k, x in d.items()} for d in coursera())
    for name, x in changes.items():
        into = gradient if name.startswith("d") and name != "da" else problem
        if x is ...:
            del into[name]
        else:
            into[name] = x(into[name]) if callable(x) else x
    return gradient, problem


def nan_at(x):
    x = np.array(x, float)
    x[3, 1] = np.nan
    return x


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"dWq": np.zeros((5, 8))}, "has no dWq; it has dWf, "),
        ({"dWf": ...}, "lacks dWf; null"),
        ({"Wf": ...}, "lacks Wf"),
        ({"dWf": np.transpose}, r"\(H,H\+D\) = \(5, 8\) in layout coursera; got \(8, 5\); it is t"),
        ({"dx": lambda x: x[:, :, :3]}, r"`dx` must be \(D,B,T\) = \(3, 10, 4\)"),
        ({"dWf": nan_at}, r"`dWf` of the gradient has nan, first at \[3, 1\]"),
        ({"Wf": nan_at}, r"`Wf` of the problem has nan, first at \[3, 1\]"),
        ({"dWf": np.full((5, 8), "a")}, "real numbers"),
        ({"dWf": [[1.0, 2.0], [3.0]]}, "equal lengths"),
        ({"dWf": np.array([None, {}], object)}, "Python objects"),
        ({"dWf[9][1]": 0.5}, "outside"),
        ({"loss": "absolute"}, "`loss` must be among"),
        ({"loss": "squared_error"}, "no targets"),
        ({"scale": "two"}, "`scale`"),
        ({"da": ...}, "nothing to differentiate"),
        ({"x": lambda x: x[:, :, :0], "da": lambda x: x[:, :, :0]}, "no axis of size 0"),
    ],
)
def test_bad_arrays_are_named(changes, match):
    gradient, problem = with_(**changes)
    with pytest.raises(ValueError, match=match):
        diagnosis.diagnose(gradient, problem, layout="coursera")


def test_which_layout_would_fit():
    gradient, problem = with_()
    with pytest.raises(ValueError, match=r"layout ours .*; it would fit layout coursera"):
        diagnosis.diagnose(gradient, problem)
    rng = np.random.default_rng(0)
    ours = in_our_layout(random_problem(rng, "lstm", (3, 2, 4, 5), "cotangents"))
    form = LAYOUTS["lstm"]["keras"]
    keras = from_ours(form.to_ours, form.problem, {"T": 3, "B": 2, "D": 4, "H": 5}, ours)
    del keras["target"]
    gradient = {"dWi": np.zeros((5, 4))}
    with pytest.raises(ValueError, match=r"has no dWi; .*it would fit layout tmva"):
        diagnosis.diagnose(gradient, keras, layout="keras")


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.npz", b"no archive", "is no .npz archive"),
        ("a.json", b"{", "is no JSON"),
        ("a.json", b"[1]", "must hold an object"),
        ("a.json", b'{"problem": {}, "answer": {}}', "must hold about, cell, gradient"),
        ("a.safetensors", b"12345678", "is no .safetensors file"),
        ("a.pkl", b"", "must end in"),
        ("a.json", b'{"layout": "caffe", "problem": {}}', "`layout` of lstm must be among"),
        ("a.json", b'{"cell": "gru", "problem": {}}', "`cell` must be among"),
        ("a.json", b'{"cell": [], "problem": {}}', "`cell` must be among"),
        ("a.json", b'{"problem": {"W": {}}}', "`W` must be numbers"),
        ("a.json", b'{"problem": {"W": [1%s]}}' % (b"0" * 400), "`W` must be numbers"),
        ("a.json", b'{"problem": {"W": [1e999]}}', "`W` of the problem has inf"),
        ("a.json", b'{"problem": [1]}', "`problem` must be a dict"),
        ("a.json", b'{"gradient": {}}', "the problem is missing"),
    ],
)
def test_bad_files_are_exit_status_2(name, content, match, tmp_path, capsys):
    (tmp_path / name).write_bytes(content)
    assert command.main(["diagnose", str(tmp_path / name)]) == 2
    printed = capsys.readouterr()
    assert match in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_pickled_objects_are_refused(tmp_path, capsys):
    file = tmp_path / "pickled.npz"
    np.savez(file, dW=np.array([{"code": print}], object))
    assert command.main(["diagnose", str(file)]) == 2
    assert "pickled objects" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    ["", "--example no", "--template caffe", "no/such/file.json", "x.json --example gomez"],
)
def test_bad_arguments_are_exit_status_2(arguments, capsys):
    try:
        status = command.main(["diagnose", *arguments.split()])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert "error: " in capsys.readouterr().err


def test_float64_asked_for_with_x64_off():
    problem, gradient = coursera()
    by_jax = lambda arrays: {k: jnp.asarray(x, jnp.float32) for k, x in gradient.items()}
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        diagnosis.diagnose(by_jax, problem, layout="coursera")


def test_what_rounding_has_lost_is_not_accused():
    """Chaos: a float32 gradient of this problem is noise, and noise is no mistake."""
    problem = random_problem(np.random.default_rng(1), "lstm", (111, 1, 4, 36), "cotangents")
    problem = problem._replace(params=problem.params | {"U": 5 * problem.params["U"]})
    right = MUTANTS["lstm"].gradients(problem, [()])
    noise = diagnosis.noise_of(MUTANTS["lstm"], problem)
    eps, whole = np.finfo(np.float32).eps, np.sqrt(sum(np.sum(x**2) for x in right.values()))
    assert max(noise.values()) * eps >= 0.0099 * whole
    gradient = {k: 2 * right[k][0].astype(np.float32) for k in leaves_of(problem)}
    gradient["dU"] = gradient["dU"][::-1]
    verdict = jl.diagnose(gradient, in_our_layout(problem), pairs=False)
    assert verdict.lost
    assert not verdict
    assert verdict.sentence().startswith("cannot be judged: the rounding of float32")
