"""diagnose on trial: published numbers, and the layouts and files of others."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from jax_lstm.commands import main as command
from jax_lstm.diagnosis import brought as files
from jax_lstm.diagnosis import diagnose as diagnosis
from jax_lstm.diagnosis import templates
from jax_lstm.diagnosis.slow_backward import MUTANTS
from jax_lstm.engine.shapes import sizes_of
from jax_lstm.interop.described import from_ours
from jax_lstm.interop.layouts import LAYOUTS
from tests.diagnosis.problems import FIXTURES, coursera


def test_coursera_s_old_answer_key(capsys):
    assert command.main(["diagnose", "--example", "coursera"]) == 1
    printed = capsys.readouterr().out
    assert (
        "\nequals BPTT with nothing carried between steps (neither dh nor dc reaches t-1): largest "
        "difference 5e-09\n" in printed
    )
    example = json.loads(templates.examples()["coursera"].read_text())
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


def test_coursera_s_true_gradient_is_right():
    problem, gradient = coursera()
    found = diagnosis.diagnose(gradient, problem, layout="coursera")
    assert found, found.sentence()
    wrong = {k: np.asarray(x) for k, x in gradient.items()}
    wrong |= {"dWf": wrong["dWi"], "dWi": wrong["dWf"], "dbf": wrong["dbi"], "dbi": wrong["dbf"]}
    found = diagnosis.diagnose(wrong, problem, layout="coursera")
    assert found.explanations[0].names == ("gradient in order f i g o",)


@pytest.mark.slow
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
    problem = diagnosis.problem_of(form.to_ours(arrays), {}, "lstm", sizes, form.forward)
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
