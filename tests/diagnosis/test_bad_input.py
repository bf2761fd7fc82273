"""What diagnose refuses, and what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_lstm.commands import main as command
from jax_lstm.diagnosis import diagnose as diagnosis
from jax_lstm.interop.described import from_ours
from jax_lstm.interop.layouts import LAYOUTS
from tests.diagnosis.problems import coursera, in_our_layout, random_problem


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
        ({"dWq": np.zeros((5, 8))}, "cannot have dWq; the names of that layout are dWf, "),
        ({"dWf": ...}, "lacks dWf; null"),
        ({"Wf": ...}, "the problem in layout coursera lacks Wf; the names of that layout are Wf, "),
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
    with pytest.raises(
        ValueError,
        match=r"cannot have dWi; the names of that layout are dk.*it would fit layout tmva",
    ):
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
        ("a.json", b'{"cell": "qrnn", "problem": {}}', "`cell` must be among"),
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
