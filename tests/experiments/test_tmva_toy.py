"""TMVA's toy: how its events are made, the area under a curve and its error, a run."""

import dataclasses
import itertools
import json
import sys

import jax
import numpy as np
import pytest
from scipy.stats import norm

from experiments.kit import evidence, record
from experiments.kit.config import BadInput, Failed
from experiments.tmva_toy import events, plots, roc, training
from experiments.tmva_toy import run as tmva_toy

METRICS = pytest.importorskip("sklearn.metrics", reason="pip install -e '.[evidence]'")


def test_events_are_histograms_of_a_thousand_draws():
    """Shares, sums and noise, of both classes; the parts hold as many of each."""
    for wave in (np.sin, np.cos):
        p = events.shares(wave)
        mean, sigma = 5 + 0.2 * wave(np.pi * 0.3), 4 + 0.3 * wave(np.pi * 0.3)
        low, high = (norm.cdf((x - mean) / sigma) for x in (0, 10))
        first = norm.cdf((10 / 30 - mean) / sigma)
        np.testing.assert_allclose(p.sum(1), 1, rtol=1e-12)
        np.testing.assert_allclose(p[3, 0], (first - low) / (high - low), rtol=1e-9)
        xs = events.draw(np.random.default_rng(1), 4000, wave)
        # 4000 events: five of a mean's errors, below sqrt(140 / 4000) each
        np.testing.assert_allclose(xs.mean(1), 1000 * p, atol=5 * np.sqrt(140 / 4000))
        np.testing.assert_allclose(xs.var(1), 1000 * p * (1 - p) + 100, rtol=0.15)
    found = events.parts(0, 50)
    assert [p.targets.shape for p in found.values()] == [(64, 1), (16, 1), (20, 1)]
    assert all(p.targets.mean() == 0.5 for p in found.values())
    assert found["training"].xs.shape == (10, 64, 30)
    scaled = events.standardised(found)
    np.testing.assert_allclose(scaled["training"].xs.mean(1), 0, atol=1e-5)
    changed = found | {"test": found["test"]._replace(xs=9 * found["test"].xs)}
    same = events.standardised(changed)["validation"].xs
    np.testing.assert_array_equal(same, scaled["validation"].xs)


def test_the_likelihood_ratio_is_that_of_two_gaussians():
    rng = np.random.default_rng(0)
    xs = np.concatenate([events.draw(rng, 3, wave) for wave in (np.sin, np.cos)], axis=1)
    want = 0.0
    for sign, wave in ((-1, np.sin), (1, np.cos)):
        for x, p in zip(xs, events.shares(wave), strict=True):
            covariance = 100 * np.eye(30) + 1000 * (np.diag(p) - np.outer(p, p))
            inverse = np.linalg.inv(covariance)
            away = x - 1000 * p
            want += -sign * 0.5 * np.einsum("ni,ij,nj->n", away, inverse, away)
            want += -sign * 0.5 * np.log(np.linalg.det(covariance / 100))
    np.testing.assert_allclose(events.log_likelihood_ratio(xs), want, rtol=1e-6)


def test_area_and_curve_are_scikit_learn_s():
    """With ties and without; and the curve's own area is the area."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 300)
    scores = np.stack([labels + rng.normal(size=300), np.round(labels + rng.normal(size=300))])
    areas, _ = roc.delong(scores, labels)
    for answer, area in zip(scores, areas, strict=True):
        assert area == pytest.approx(METRICS.roc_auc_score(labels, answer), abs=1e-12)
        background, signal = roc.curve(answer, labels)
        want = METRICS.roc_curve(labels, answer, drop_intermediate=False)
        np.testing.assert_allclose(background, want[0])
        np.testing.assert_allclose(signal, want[1])
        assert np.trapezoid(signal, background) == pytest.approx(area, abs=1e-12)


def test_the_error_is_delong_s_and_as_large_as_it_is():
    """By its definition, pair by pair; and beside the spread of areas of many samples."""
    rng = np.random.default_rng(3)
    m, n = 7, 9
    labels = np.r_[np.ones(m), np.zeros(n)]
    scores = np.round(rng.normal(size=(2, m + n)) + labels, 1)
    areas, covariance = roc.delong(scores, labels)
    wins = scores[:, :m, None] - scores[:, None, m:]
    wins = (wins > 0) + 0.5 * (wins == 0)
    of_signal, of_background = wins.mean(2), wins.mean(1)
    np.testing.assert_allclose(areas, wins.mean((1, 2)))
    want = np.cov(of_signal) / m + np.cov(of_background) / n
    np.testing.assert_allclose(covariance, want, atol=1e-15)
    with pytest.raises(ValueError, match="`labels` must have two of each class"):
        roc.delong(scores, np.r_[1, np.zeros(m + n - 1)])
    labels = np.repeat([1, 0], [60, 90])
    found = [roc.delong(labels + rng.normal(size=150), labels) for _ in range(400)]
    areas = np.array([area[0] for area, _ in found])
    errors = np.sqrt([covariance[0, 0] for _, covariance in found])
    by_value = roc.hanley_mcneil(norm.cdf(1 / np.sqrt(2)), 60, 90)
    # the deviation of 400 areas is known to 1 / sqrt(800): three of these
    assert errors.mean() == pytest.approx(areas.std(ddof=1), rel=0.11)
    assert by_value == pytest.approx(areas.std(ddof=1), rel=0.11)


def test_a_state_is_remembered_row_by_row_or_not_at_all():
    """Scores of three batches are those of one batch after the other; a rest is filled up."""
    config = dataclasses.replace(tmva_toy.Config.tiny(), batch=4)
    params = training.init(config, jax.random.key(0))
    found = events.standardised(events.parts(1, 50))
    part = events.Part(found["test"].xs[:, :10], found["test"].targets[:10])
    batch = jax.jit(training.logits, static_argnums=3)
    scores = {on: training.scores(config, params, part, on) for on in (False, True)}
    zeros = state = training.init_lstm_state(params.lstm, (4,))
    for start in (0, 4, 8):
        xs = part.xs[:, np.arange(start, start + 4) % 10]
        alone, _ = batch(params, zeros, xs, training.ROUTES["manual"])
        after, state = batch(params, state, xs, training.ROUTES["manual"])
        n = min(4, 10 - start)
        for on, y in ((False, alone), (True, after)):
            # float32, compiled in another program
            np.testing.assert_allclose(scores[on][start : start + n], y[:n, 0], atol=1e-6)
    assert not np.allclose(scores[False][4:], scores[True][4:])
    drawn = itertools.islice(training.batches(config, part), 2)
    rows = np.concatenate([xs[0] for xs, _ in drawn])
    assert len(np.unique(rows, axis=0)) == 8


@pytest.mark.slow
def test_the_command_checks_the_gradient_of_the_one_with_a_memory(tmp_path):
    argv = ["--tiny", "--seeds", "1", "--results", str(tmp_path), "--run", "a"]
    with jax.enable_x64(False):
        assert tmva_toy.main(argv) == 0
    directory = tmp_path / "tmva_toy" / "a_seed0"
    lines = record.read_lines(directory / "on" / "metrics.jsonl", kind="gradient")
    assert {"lstm.U", "hidden.W", "state.h"} <= {line["leaf"] for line in lines}


@pytest.mark.slow
def test_a_run_and_its_rows(tmp_path):
    """Two networks, three others, one seed; the test events are standardised by the training's."""
    config = dataclasses.replace(
        tmva_toy.Config.tiny(), seeds=1, results=str(tmp_path), run="tiny", skip_check=True
    )
    with jax.enable_x64(False):
        (summary,) = tmva_toy.run(config)
    directory = tmp_path / "tmva_toy" / "tiny_seed0"
    assert {path.name for path in directory.iterdir()} == {
        *("config.json", "off", "on", "scores.json", "roc.json", "roc.png")
    }
    assert record.read_json(directory / "scores.json") == json.loads(json.dumps(summary))
    names = [*tmva_toy.NETWORKS, *tmva_toy.OTHERS, tmva_toy.KNOWS]
    assert list(summary["classifiers"]) == names
    assert summary["classifiers"][tmva_toy.KNOWS]["auc"] > 0.85
    ((path, file),) = evidence.read_all(tmp_path)
    assert [row["name"] for row in file["rows"]] == names
    assert all(row["values"][0]["error"] > 0 for row in file["rows"])
    assert path.with_suffix(".roc.png").read_bytes() == (directory / "roc.png").read_bytes()
    (directory / "roc.json").unlink()
    plots.draw(directory)  # of a run that was interrupted
    with pytest.raises(BadInput, match="argument --batch: must be <= 128, the events"):
        tmva_toy.run(dataclasses.replace(config, batch=200))


def test_what_is_missing_is_said_before_anything_is_trained(tmp_path, monkeypatch):
    """Too few events for two of each class in the test; scikit-learn."""
    with pytest.raises(BadInput, match="argument --events: must be >= 10; got 9"):
        tmva_toy.Config(events=9)
    assert all((p.targets == 1).sum() >= 2 for p in events.parts(0, 10).values())
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(Failed, match=r"scikit-learn is needed.*evidence"):
        tmva_toy.run(dataclasses.replace(tmva_toy.Config.tiny(), results=str(tmp_path)))
    assert not any(tmp_path.iterdir())
