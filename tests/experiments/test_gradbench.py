"""ADBench's LSTM: its loss against NumPy's loops, its gradient against JAX's, its protocol."""

import dataclasses
import itertools
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments.gradbench import problem, run, serve
from experiments.gradbench.wavefront import jacobian, objective
from experiments.kit import record

TOLERANCE = 1e-12  # in float64, with sums in another order


def loops(main, extra, state, sequence):
    """The loss as ADBench's text says it, of NumPy alone; complex for complex numbers."""
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    layers, b = len(main) // 2, extra.shape[1]
    hs, cs = [*state[0::2].astype(main.dtype)], [*state[1::2].astype(main.dtype)]
    loss = 0.0
    for x, target in itertools.pairwise(sequence):
        x = extra[0] * x
        for k in range(layers):
            (wf, wi, wo, wg), (bf, bi, bo, bg) = (main[2 * k + n].reshape(4, b) for n in (0, 1))
            f, i, o = sigmoid(wf * x + bf), sigmoid(wi * hs[k] + bi), sigmoid(wo * x + bo)
            cs[k] = cs[k] * f + i * np.tanh(wg * hs[k] + bg)
            x = hs[k] = o * np.tanh(cs[k])
        y = extra[1] * x + extra[2]
        loss = loss - target @ (y - np.log(2 + np.exp(y).sum()))
    return loss / ((len(sequence) - 1) * b)


@pytest.mark.half
@pytest.mark.parametrize("size", [(1, 2, 3), (2, 7, 5), (3, 3, 2), (4, 2, 1)], ids=str)
def test_loss_and_gradient(size):
    given = problem.random_problem(*size)
    both = jax.jit(lambda *args: (objective(*args), jacobian(*args)))
    loss, got = both(*given)
    np.testing.assert_allclose(loss, loops(*given), rtol=TOLERANCE)
    want = jax.jit(problem.jacobian_autodiff)(*given)
    assert run.largest_difference(got, want) < TOLERANCE
    for n, (row, column) in enumerate([(0, 0), (1, 0)]):  # by complex steps of one number each
        moved = [x.astype(complex) for x in given]
        moved[n][row, column] += 1e-30j
        np.testing.assert_allclose(got[n][row, column], loops(*moved).imag / 1e-30, rtol=TOLERANCE)


def test_a_file_of_adbench(tmp_path):
    given = problem.random_problem(2, 3, 4)
    text = "\n\n".join("\n".join(" ".join(map(repr, row)) for row in x.tolist()) for x in given)
    path = tmp_path / "lstm_l2_c3.txt"
    path.write_text(f"2 3 4\n\n{text}\n\n")
    for got, want in zip(problem.read_problem(path), given, strict=True):
        np.testing.assert_array_equal(got, want)
    path.write_text(f"2 3 4\n\n{text[:-4]}")
    with pytest.raises(ValueError, match="want 104 numbers"):
        problem.read_problem(path)


WRONG = {
    "module": ({"module": "gmm"}, "module must be 'lstm'; got 'gmm'"),
    "function": ({"function": "hessian"}, "function must be one of"),
    "input": ({"input": {}}, "input has no main_params"),
}


def message(name, given, **more):
    rows = dict(zip(serve.INPUTS, (x.tolist() for x in given), strict=True))
    return {
        "id": 7,
        "kind": "evaluate",
        "module": "lstm",
        "function": name,
        "input": rows | {"runs": 2},
    } | more


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_answered(name):
    changed, text = WRONG[name]
    answer = serve.answer(message("objective", problem.random_problem(1, 2, 2), **changed))
    assert not answer["success"]
    assert text in answer["error"]


@pytest.mark.parametrize(
    ("name", "rows", "text"),
    [
        ("main_params", [[0.0] * 8], r"main must be \(0, 8\)"),
        ("state", [[0.0, 0.0]], r"state must be \(2, 2\), of l = 1 layers; got \(1, 2\)"),
        ("sequence", [[0.0, 1.0]], "sequence must have two rows"),
        ("sequence", [[0.0, 1.0], [1.0]], "sequence must be rows of numbers"),
        ("extra_params", [[float("nan")] * 2] * 3, "extra must be rows of finite numbers"),
    ],
)
def test_wrong_arrays_are_told_by_name(name, rows, text):
    given = message("objective", problem.random_problem(1, 2, 2))
    given["input"][name] = rows
    with pytest.raises(ValueError, match=text):
        serve.evaluate(given)


@pytest.mark.slow
def test_a_client():
    """A whole talk with a process of its own, which keeps to one core."""
    given = problem.random_problem(2, 5, 3)
    talk = [
        {"id": 0, "kind": "start", "eval": "lstm"},
        {"id": 1, "kind": "define", "module": "lstm"},
        message("objective", given, id=2),
        message("jacobian", given, id=3),
        {"id": 4, "kind": "analysis", "of": 3, "valid": True},
        {"id": 5, "kind": "define", "module": "gmm"},
    ]
    lines = "".join(json.dumps(line) + "\n" for line in talk)
    served = subprocess.run(
        [sys.executable, "-m", "experiments.gradbench", "serve"],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
    )
    start, define, loss, gradient, analysis, other = map(json.loads, served.stdout.splitlines())
    assert start == {"id": 0, "tool": "jax_lstm"}
    assert define == {"id": 1, "success": True}
    assert analysis == {"id": 4}
    assert other == {"id": 5, "success": False}
    np.testing.assert_allclose(loss["output"], loops(*given), rtol=TOLERANCE)
    want = problem.jacobian_autodiff(*given)
    flat = np.concatenate([*map(np.ravel, want)])
    np.testing.assert_allclose(gradient["output"], flat, rtol=TOLERANCE)
    assert [time["name"] for time in gradient["timings"]] == ["evaluate"] * 2
    assert all(time["nanoseconds"] > 0 for time in gradient["timings"])


def test_no_message_ends_it(capsys, monkeypatch):
    monkeypatch.setattr(serve, "one_core", lambda: None)
    monkeypatch.setattr(sys, "stdin", ["hello\n"])
    assert serve.main([]) == 2
    assert "no message: hello" in capsys.readouterr().err


@pytest.mark.slow
def test_the_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(serve, "one_core", lambda: None)
    config = dataclasses.replace(run.Config.tiny(), results=str(tmp_path), run="tiny")
    found = run.run(config)
    assert record.read_json(tmp_path / "gradbench/tiny/table.json") == json.loads(json.dumps(found))
    assert [(s["layers"], s["characters"]) for s in found["sizes"]] == [(2, 8), (3, 8)]
    assert max(size["difference"] for size in found["sizes"]) < TOLERANCE
    assert "in total" in capsys.readouterr().out
