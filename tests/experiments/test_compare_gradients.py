"""Every route of a training, beside what rounding explains."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import compare_gradients as experiment
from experiments.kit import record
from experiments.kit.config import BadInput
from experiments.plots import draw_again
from jax_lstm.training.update import BITS

EXACT = ("by hand", "one step by hand")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """(Config, summary, folder) of the quick form."""
    results = tmp_path_factory.mktemp("results")
    config = dataclasses.replace(experiment.Config.tiny(), results=str(results), run="tiny")
    return config, experiment.run(config), results / "compare_gradients" / "tiny"


@pytest.mark.slow
def test_every_file_is_there_and_readable(tiny):
    config, summary, directory = tiny
    files = {"config.json", "metrics.jsonl", "summary.json", "routes.png"}
    assert {path.name for path in directory.iterdir()} == files
    assert record.read_json(directory / "summary.json") == json.loads(json.dumps(summary))
    assert record.read_json(directory / "config.json")["config"] == dataclasses.asdict(config)
    lines = record.read_lines(directory / "metrics.jsonl", kind="step")
    routes = [*summary["routes"], *(f"shaken {n}" for n in range(config.shaken))]
    assert [(x["step"], x["route"]) for x in lines] == [
        (step, route) for step in range(1, config.steps + 1) for route in routes
    ]
    (directory / "routes.png").unlink()
    draw_again(directory)
    assert (directory / "routes.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_exact_routes_differ_by_rounding_and_truncated_ones_by_more(tiny):
    config, summary, _ = tiny
    routes = summary["routes"]
    assert list(routes) == [*EXACT, "autodiff", f"truncated at {config.truncate}"]
    assert routes["autodiff"]["bits_apart_largest"] == 0
    for name in EXACT:
        assert routes[name]["first_step_beyond_rounding"] is None
        assert routes[name]["bits_apart_largest"] < 1e-4
    truncated = routes[f"truncated at {config.truncate}"]
    # at step 1 all have seen the same parameters: the gradient cannot show before step 2
    assert 2 <= truncated["first_step_beyond_rounding"] <= 5
    assert truncated["bits_apart_largest"] > 1e-3
    for route in routes.values():
        assert 0 < route["milliseconds_least"] <= route["milliseconds_median"]
        assert route["temp_bytes"] > 0
        assert route["compile_seconds"] > 0
        assert math.isfinite(route["validation_bits"])


@pytest.mark.slow
def test_the_summary_is_that_of_the_metrics(tiny):
    _, summary, directory = tiny
    lines = record.read_lines(directory / "metrics.jsonl", kind="step")
    by_hand, auto = (
        np.array([x["nats"] for x in lines if x["route"] == name]) * BITS
        for name in ("by hand", "autodiff")
    )
    found = summary["routes"]["by hand"]
    assert found["bits_apart_largest"] == pytest.approx(np.abs(by_hand - auto).max())
    assert found["bits_apart_last"] == pytest.approx(abs(by_hand[-1] - auto[-1]))
    for name in summary["routes"]:
        assert name in experiment.table(summary)


def test_what_rounding_explains():
    """The farthest so far, and never less than an ulp; a route may be MARGIN times as far away."""
    auto = np.full(4, 2.0)
    shaken = {
        "shaken 0": np.add(auto, [0, 1e-3, 0, 0]),
        "shaken 1": auto - np.array([0, 0, 5e-4, 4e-3]),
    }
    explained = experiment.rounding({"autodiff": auto}, shaken)
    ulp = np.spacing(np.float32(2.0 / BITS)) * BITS
    np.testing.assert_allclose(explained, [ulp, 1e-3, 1e-3, 4e-3])
    assert experiment.first_beyond(0.99 * experiment.MARGIN * explained, explained) is None
    assert experiment.first_beyond(np.array([0, 0, 1.01, 0]), explained) == 3


def test_nudged_by_one_ulp_each():
    params = {"W": jnp.linspace(-1, 1, 99, dtype=jnp.float32), "b": jnp.zeros(3, jnp.float32)}
    other = experiment.nudge(params, jax.random.key(0))
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(other), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        up = np.nextafter(a, np.float32(np.inf))
        down = np.nextafter(a, np.float32(-np.inf))
        assert ((b == up) | (b == down)).all()
    assert 20 < (np.asarray(other["W"]) > np.asarray(params["W"])).sum() < 80


@pytest.mark.parametrize("text", ["", "0", "3,x", "12", "1,2,3,4,5,6"])
def test_bad_truncations_are_named_before_any_work(text, tmp_path):
    config = dataclasses.replace(
        experiment.Config.tiny(), truncate=text, results=str(tmp_path / "results")
    )
    with pytest.raises(BadInput, match="--truncate"):
        experiment.run(config)
    assert not (tmp_path / "results").exists()


def test_the_command_exits_with_2(capsys):
    with pytest.raises(SystemExit) as stop:
        experiment.main(["--tiny", "--truncate", "none"])
    assert stop.value.code == 2
    assert "--truncate" in capsys.readouterr().err
