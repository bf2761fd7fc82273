"""Variants beside each other: which findings hold, and a small search."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import scipy.io

from experiments.kit import evidence, record, tunes
from experiments.kit.config import BadInput
from experiments.search_space import findings
from experiments.search_space import run as search_space
from experiments.search_space.training import rates_drawn
from jax_lstm import CELLS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A file of tunes in which two pitches take turns, of different lengths."""
    folder, rng, parts = tmp_path_factory.mktemp("data"), np.random.default_rng(0), {}
    for key, count in zip(tunes.PARTS.values(), (9, 3, 3), strict=True):
        cells = np.empty((1, count), object)
        for n in range(count):
            tune = np.zeros((int(rng.integers(5, 12)), tunes.PITCHES))
            tune[::2, 40], tune[1::2, 47] = 1, 1
            cells[0, n] = tune
        parts[key] = cells
    scipy.io.savemat(folder / tunes.FILES["jsb"], parts)
    return folder


def test_what_the_intervals_say():
    """Variants that are worse by a known number, as good but for noise, and better."""
    rng = np.random.default_rng(1)
    losses = 9 + rng.exponential(size=24)
    noise = lambda: 0.05 * rng.normal(size=24)
    trials = {
        findings.VANILLA: (losses, losses + noise()),
        "lstm_nfg": (losses + 0.5, losses + 0.5 + noise()),
        "lstm": (losses, losses + noise()),
        "lstm_nog": (losses - 0.5, losses - 0.5 + noise()),
    }
    found = findings.differences(trials)
    for name, apart, says in (
        ("lstm_nfg", 0.5, "worse"),
        ("lstm", 0.0, "same"),
        ("lstm_nog", -0.5, "better"),
    ):
        difference, low, high = found[name]
        assert low < difference < high
        assert low < apart < high, name
        assert findings.verdict(low, high) == says
    assert findings.holds("lstm_nfg", "worse")
    assert findings.holds("lstm_fgr", "worse")
    assert not findings.holds("lstm_nog", "better")
    every = np.arange(24)
    best = np.sort(losses)[:6].mean()
    assert findings.scores(losses, losses, every) == pytest.approx(best)


def test_the_nine_are_those_of_the_study():
    assert len(search_space.VARIANTS) == 9
    assert set(search_space.VARIANTS) <= set(CELLS)


@pytest.mark.slow
def test_a_small_search(folder, tmp_path):
    config = dataclasses.replace(
        search_space.Config.tiny(), data=str(folder), results=str(tmp_path), run="tiny"
    )
    with jax.enable_x64(False):
        summary = search_space.run(config)
    directory = tmp_path / "search_space" / "tiny"
    assert record.read_json(directory / "summary.json") == json.loads(json.dumps(summary))
    assert (directory / "variants.png").read_bytes().startswith(b"\x89PNG")
    rates = rates_drawn(config)
    assert rates.shape == (2, 3)
    assert ((rates >= config.slowest) & (rates <= config.fastest)).all()
    for name, found in summary["variants"].items():
        assert [t["learning_rate"] for t in found["trials"]] == rates.ravel().tolist()
        lines = record.read_lines(directory / name / "metrics.jsonl", kind="step")
        nats = np.array([line["nats"] for line in lines])
        assert nats.shape == (config.steps, 2, 3)
        assert (nats[-1] < nats[0]).any()
    (_, file), *_ = evidence.read_all(tmp_path)
    values = [[v["value"] for v in row["values"]] for row in file["rows"]]
    assert values == [
        [trial["test"] for trial in search_space.best_of(found)]
        for found in summary["variants"].values()
    ]


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"variants": "lstm"}, "argument --variants: must have peephole_lstm"),
        (
            {"variants": "peephole_lstm,gru"},
            "argument --variants: must be of peephole_lstm, .* 'gru'",
        ),
        ({"variants": "peephole_lstm,peephole_lstm"}, "argument --variants: must name each once"),
        ({"slowest": 1.0}, "argument --slowest: must be <= 0.05"),
        ({"gradient": "step"}, "argument --gradient: must be manual or auto"),
        ({"dh": "clip:1", "skip_check": True}, "argument --dh: is of the LSTM alone"),
        ({"devices": 2}, "argument --devices: must be 1"),
    ],
)
def test_bad_input(asked, match):
    with pytest.raises(BadInput, match=match):
        search_space.Config(**asked)
