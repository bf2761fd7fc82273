"""The figure of vanishing gradients: its numbers, its files, what its command refuses."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.gradient_flow import inputs, measure, networks, plots, summary
from experiments.gradient_flow import run as experiment
from experiments.kit import record
from experiments.kit.config import BadInput
from experiments.plots import draw_again

COMMITTED = Path(__file__).parents[2] / "experiments/results/gradient_flow/tinyshakespeare"
FILES = ("flow.json", "flow.png", "flow.svg", "gates.png", "gates.svg")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """(Config, what was found, folder) of the quick form, in JAX's own precision."""
    results = tmp_path_factory.mktemp("results")
    config = dataclasses.replace(experiment.Config.tiny(), results=str(results), run="tiny")
    with jax.enable_x64(False):
        found = experiment.run(config)
    return config, found, results / "gradient_flow" / "tiny"


@pytest.mark.slow
def test_every_file_is_there_and_drawn_again_from_the_json(tiny):
    config, found, directory = tiny
    assert sorted(path.name for path in directory.iterdir()) == sorted(FILES)
    assert record.read_json(directory / "flow.json") == json.loads(json.dumps(found))
    assert found["config"] == dataclasses.asdict(config)
    drawn = {name: (directory / name).read_bytes() for name in FILES[1:]}
    for name in drawn:
        (directory / name).unlink()
    draw_again(directory)
    assert drawn == {name: (directory / name).read_bytes() for name in FILES[1:]}
    assert drawn["flow.png"].startswith(b"\x89PNG")
    assert b"</svg>" in drawn["gates.svg"]


@pytest.mark.slow
def test_what_is_found_is_of_every_network_and_situation(tiny):
    config, found, _ = tiny
    names = [situation["name"] for situation in found["situations"]]
    assert names == ["random input, fresh", "text, fresh", "text, after 3 updates"]
    for situation in found["situations"]:
        elman, *lstms = situation["networks"]
        assert [n["name"] for n in lstms] == ["LSTM, forget bias 0", "LSTM, forget bias 3"]
        assert list(elman["jacobian"]) == list(elman["gradient"]) == ["h"]
        assert len(elman["delta"]["a"]) == config.window
        h, bound = elman["jacobian"]["h"], elman["bound"]
        assert all(a <= 1.01 * b for a, b in zip(h["mean"], bound, strict=True))
        for network in lstms:
            assert list(network["delta"]) == ["i", "f", "g", "o"]
            assert network["delta"]["f"][0] == 0 < network["delta"]["f"][1]  # c_0 = 0
            for field in "hc":
                jacobian = network["jacobian"][field]
                assert {jacobian[k][-1] for k in ("mean", "least", "most")} == {1.0}
                least, mean, most = (np.array(jacobian[k]) for k in ("least", "mean", "most"))
                assert (least > 0).all()
                assert ((least <= mean) & (mean <= most)).all()
        forgets, keeps = (network["bound"][0] for network in lstms)
        assert forgets < 0.01 < keeps
    untrained, trained = (s["networks"][1] for s in found["situations"][1:])
    assert untrained["gradient"] != trained["gradient"]


@pytest.mark.slow
def test_the_numbers_are_those_of_the_network_that_is_named(tiny):
    """The Elman network on random input, step by step in NumPy; by power iteration as well."""
    config, found, _ = tiny
    network, xs = networks.networks_of(config)[0], inputs.random_input(config)
    with jax.enable_x64(False):
        model = networks.model_of(config, network, found["text"]["vocabulary"], config.embedding)
    W, U, b = (np.asarray(p, np.float64) for p in model.lstm)
    h, slopes = np.zeros((config.examples, config.hidden)), []
    for x in xs:
        h = np.tanh(x @ W + h @ U + b)
        slopes.append(1 - h**2)
    J, norms = np.stack([np.eye(config.hidden)] * config.examples), []
    for slope in slopes[::-1]:
        norms.append(np.linalg.norm(J, 2, (-2, -1)))
        J = (J * slope[:, None]) @ U.T
    want = np.exp(np.log(norms[::-1]).mean(-1))
    shown = found["situations"][0]["networks"][0]["jacobian"]["h"]["mean"]
    digits = 5.001e-3  # three are written: 1.005 becomes 1.00 or 1.01
    np.testing.assert_allclose(shown, want, rtol=digits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "EXACT", 0)
        patch.setattr(measure, "PLACES", 4)
        other = measure.numbers(config, network, model, xs, np.zeros(config.examples, int))
    assert other["by"] == "power iteration"
    assert other["at"] == [0, 4, 7, 11]
    np.testing.assert_allclose(other["jacobian"]["h"]["mean"], want[other["at"]], rtol=digits)
    assert 0 < other["residual"] < 0.1


def test_the_figure_says_how_far_the_power_iteration_came(tiny):
    _, found, _ = tiny
    title = lambda found: plots.flow(found).get_suptitle().split("\n")[0]
    assert title(found) == "What the last step feels of each step before it (singular values)"
    other = json.loads(json.dumps(found))
    for network in other["situations"][0]["networks"]:
        network |= {"by": "power iteration", "residual": 0.0123}
    assert "power iteration" in title(other)
    assert "at most 0.01" in title(other)


def test_how_far_back():
    """Two steps back are above the bound, the third is below."""
    network = {"at": [0, 1, 2, 3], "jacobian": {"h": {"mean": [0.1, 9e-4, 2e-3, 1.0]}}}
    assert summary.reach(network, "h") == 1
    network["jacobian"]["h"]["mean"][1] = 2e-3
    assert summary.reach(network, "h") == 3
    assert summary.reach(network, "c") is None


def test_the_committed_figure_shows_what_its_notes_say():
    found = record.read_json(COMMITTED / "flow.json")
    assert (COMMITTED / "flow.png").read_bytes().startswith(b"\x89PNG")
    for situation in found["situations"][:2]:
        elman, zero, one, three = situation["networks"]
        assert max(summary.reach(n, "h") for n in (elman, zero)) < 20
        assert 20 < summary.reach(one, "h") < summary.reach(three, "h") == 99
    for network in found["situations"][2]["networks"][1:]:
        assert summary.reach(network, "c") > 3 * summary.reach(network, "h")
    assert summary.table(found).count("Elman RNN") == 3


# Bad input ------------------------------------------------------------------------------------


def arrays(folder):
    """Numbers that cannot be used, and a run that is there already."""
    xs = np.zeros((5, 2, 3))
    xs[3, 1, 2] = np.nan
    np.save(folder / "nan.npy", xs)
    np.save(folder / "empty.npy", xs[:0])
    np.save(folder / "short.npy", xs[:1])
    np.save(folder / "flat.npy", xs[0])
    np.save(folder / "words.npy", np.array([[["a"]]]))
    np.save(folder / "long.npy", np.zeros((2001, 1, 1)))
    (folder / "text.npy").write_text("no array")
    (folder / "short.txt").write_text("abc" * 40)
    (folder / "file").write_text("")
    (folder / "gradient_flow" / "old").mkdir(parents=True)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ("--input {0}/nan.npy", "{0}/nan.npy holds nan at t = 3, b = 1, d = 2 (1 such numbers)"),
        ("--input {0}/empty.npy", "argument --input: {0}/empty.npy is empty: T = 0, B = 2, D = 3"),
        ("--input {0}/short.npy", "argument --input: T = 1 step is no way for a gradient to go"),
        ("--input {0}/flat.npy", "must be numbers (T, B, D), time first; {0}/flat.npy holds"),
        ("--input {0}/words.npy", "must be numbers (T, B, D), time first"),
        ("--input {0}/long.npy", "argument --input: T = 2001 steps are more than a picture"),
        ("--input {0}/text.npy", "argument --input: {0}/text.npy is not a .npy file of numbers"),
        ("--input {0}/none.npy", "argument --input: cannot read {0}/none.npy: No such file"),
        ("--window 0", "argument --window: must be >= 2 and < 2001; got 0"),
        ("--window 2001", "argument --window: must be >= 2 and < 2001; got 2001"),
        ("--window 2000 --hidden 96 --examples 9", "argument --window: Jacobians of T = 2000"),
        ("--examples 500", "held out, and 500 examples of 12 steps need 6500"),
        ("--text {0}/short.txt", "argument --text: 12 of its 120 characters are held out"),
        ("--forget-biases 0,one", "argument --forget-biases: must be numbers"),
        ("--forget-biases nan", "argument --forget-biases: must be numbers"),
        ("--forget-biases 1,2,3,4,5,6,7", "argument --forget-biases: must be at most 6 numbers"),
        ("--run old", "{0}/gradient_flow/old exists already and was kept; --force writes over it"),
        ("--run a/b", "argument --run: must be a plain name"),
        ("--results {0}/file", "argument --results: "),
    ],
)
def test_bad_input_names_the_argument(argv, complaint, tmp_path, capsys):
    arrays(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as status:
        experiment.main(["--tiny", "--results", str(tmp_path), *argv.format(tmp_path).split()])
    assert status.value.code == 2
    assert complaint.format(tmp_path) in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_is_written_over_by_force_alone(tmp_path, monkeypatch):
    config = dataclasses.replace(experiment.Config.tiny(), results=str(tmp_path), run="mine")
    made = experiment.directory_of(config)
    with pytest.raises(BadInput, match="--force"):
        experiment.directory_of(config)
    forced = dataclasses.replace(config, force=True)
    assert experiment.directory_of(forced) == made
    monkeypatch.setattr(experiment.os, "access", lambda path, mode: False)
    with pytest.raises(BadInput, match="--run: cannot write in"):
        experiment.directory_of(forced)


def test_numbers_of_ones_own_take_the_place_of_random_input(tmp_path):
    xs = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    np.save(tmp_path / "mine.npy", xs)
    np.testing.assert_array_equal(inputs.read_input(tmp_path / "mine.npy"), xs)
