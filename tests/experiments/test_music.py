"""Chorales and tunes: what is read, streams of whole tunes, and the metric in NumPy."""

import dataclasses
import itertools
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.io

from experiments.kit import evidence, record, tunes
from experiments.kit.config import BadInput
from experiments.music import run as music
from experiments.music import training

PNG = b"\x89PNG"


def some_tunes(n, seed, longest=30):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, longest, n)
    return [(rng.random((T, tunes.PITCHES)) < 0.1).astype(np.uint8) for T in lengths]


def written(path, **changes):
    """A MATLAB file as they are, and other variables in place of its own."""
    cells = {}
    for n, key in enumerate(tunes.PARTS.values()):
        found = some_tunes(5, n)
        cells[key] = np.empty((1, len(found)), object)
        cells[key][0] = found
    scipy.io.savemat(path, cells | changes)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(Config, summary, folder of the run) of the quick form."""
    root = tmp_path_factory.mktemp("music")
    written(root / tunes.FILES["jsb"])
    config = dataclasses.replace(
        music.Config.tiny(), data=str(root), results=str(root), run="a", skip_check=True
    )
    return config, music.run(config)["jsb"], root / "music" / "a"


@pytest.mark.slow
def test_every_file_is_there_and_says_the_same(done):
    config, summary, directory = done
    assert record.read_json(directory / "summary.json") == json.loads(json.dumps(summary))
    assert (directory / "curves.png").read_bytes().startswith(PNG)
    (row,) = evidence.read(Path(config.results) / "evidence" / evidence_file(config))["rows"]
    assert [v["value"] for v in row["values"]] == summary["nats"]["test"]
    assert (row["name"], row["published"], row["bar"]) == ("JSB chorales", 8.45, 8.45)
    assert row["floor"] == summary["floor"]
    validations = record.read_lines(directory / "metrics.jsonl", kind="validation")
    best = min(validations, key=lambda line: line["nats"])
    assert summary["step"] == best["step"]
    # a mean of float32 numbers, in float64 and in float32
    np.testing.assert_allclose(np.mean(summary["nats"]["validation"]), best["nats"], rtol=1e-6)


def evidence_file(config):
    return evidence.path_of(config, "music", ("data", "sets")).name


def test_both_sets_are_rows_of_one_file():
    """The sets say where data lie: the file's command is that of both."""
    config = music.Config(data="here")
    one = dataclasses.replace(config, sets="nottingham")
    names = {evidence_file(c) for c in (config, one)}
    assert names == {"music.json"}
    assert evidence.command_of(config, "music", ("data", "sets")) == (
        "python -m experiments.music --data DATA"
    )


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def nats_of(model, tune):
    """The sum over frames of the binary cross-entropy, summed over the pitches: NumPy, slowly."""
    (((W, U, b),),) = model.layers.layers
    h, c, total = np.zeros(len(U)), np.zeros(len(U)), 0.0
    for x, y in itertools.pairwise(tune):
        i, f, g, o = np.split(x @ W + h @ U + b, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        p = sigmoid(h @ model.readout.W + model.readout.b)
        total -= (y * np.log(p) + (1 - y) * np.log(1 - p)).sum()
    return total


def test_the_metric_is_numpys_over_frames_of_whole_tunes(done):
    """Of each model by itself, whatever the window is; the mean is over frames, not over tunes."""
    config, summary, directory = done
    params = training.best_of(directory)
    data, _ = tunes.read(config.data, "jsb")
    frames = sum(len(tune) - 1 for tune in data["test"])
    for n, got in enumerate(summary["nats"]["test"]):
        one = jax.tree.map(lambda x, n=n: np.asarray(x[n], np.float64), params)
        want = sum(nats_of(one, tune) for tune in data["test"]) / frames
        # sums of 88 float32 pitches over some hundred frames
        np.testing.assert_allclose(got, want, rtol=1e-5)


def test_the_floor_is_numpys(done):
    config, summary, _ = done
    data, _ = tunes.read(config.data, "jsb")
    learnt = np.concatenate(data["training"])
    p = (learnt.sum(0) + 1.0) / (len(learnt) + 2.0)
    total, frames = 0.0, 0
    for tune in data["test"]:
        for y in tune[1:]:
            total -= np.log(np.where(y, p, 1 - p)).sum()
            frames += 1
    np.testing.assert_allclose(summary["floor"], total / frames, rtol=1e-6)


# Data -----------------------------------------------------------------------------------------


def test_streams_hold_every_tune_once_and_say_where_it_begins():
    drawn = some_tunes(11, 3)
    streams = tunes.pack(drawn, 3, 8)
    T, B = streams.anew.shape
    assert T % 8 == 0
    assert B == 3
    assert streams.anew.sum() == len(drawn)
    assert streams.weights.sum() == sum(len(tune) - 1 for tune in drawn)
    left = [tune.tobytes() for tune in drawn]
    for b in range(B):
        for start in np.flatnonzero(streams.anew[:, b]):
            end = start + int(np.argmin(streams.weights[start:, b]))  # its last frame
            tune = np.concatenate([streams.frames[start:end, b], streams.targets[end - 1 : end, b]])
            left.remove(tune.tobytes())
    assert not left
    again = [x for window in tunes.windows(streams, 8) for x in window.frames]
    np.testing.assert_array_equal(np.stack(again), streams.frames)


def test_batches_are_means_over_frames_that_count():
    drawn = some_tunes(7, 4)
    config = dataclasses.replace(music.Config.tiny(), batch=3, window=8)
    for _, batch in zip(range(20), training.batches_of_one(config, drawn, 0), strict=False):
        frames, targets, _, weights, key = batch
        assert (frames.shape, targets.shape) == ((8, 3, 88),) * 2
        np.testing.assert_allclose(weights.mean(), 1, rtol=1e-6)
        assert key.dtype == np.uint32
        assert (weights > 0).mean() > 0.25  # no update from what is left at an epoch's end


# What goes wrong ------------------------------------------------------------------------------


def cells_of(tune):
    cells = np.empty((1, 1), object)
    cells[0, 0] = np.array(tune, float)
    return cells


BAD = {
    "no cells": ({"validdata": np.zeros((2, 88))}, "has no cells 'validdata'"),
    "pitches": ({"testdata": cells_of(np.zeros((4, 87)))}, "testdata 1: not frames of 88"),
    "short": ({"traindata": cells_of(np.zeros((1, 88)))}, "traindata 1: not two frames"),
    "no roll": ({"traindata": cells_of(np.full((4, 88), 0.5))}, "traindata 1: not two frames"),
    "nan": ({"traindata": cells_of(np.full((4, 88), np.nan))}, "traindata 1: not two frames"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_variables(case, tmp_path):
    changes, message = BAD[case]
    written(tmp_path / tunes.FILES["jsb"], **changes)
    with pytest.raises(BadInput, match=message):
        tunes.read(tmp_path, "jsb")


def test_bad_files(tmp_path):
    path = tmp_path / tunes.FILES["nottingham"]
    with pytest.raises(BadInput, match=r"--data: must name the folder with Nottingham\.mat"):
        tunes.read(None, "nottingham")
    with pytest.raises(BadInput, match=r"--data: cannot read .*Nottingham\.mat: No such file"):
        tunes.read(tmp_path, "nottingham")
    written(path)
    whole = path.read_bytes()
    for content in (b"", b"no matlab at all", whole[:200], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(BadInput, match="--data"):
            tunes.read(tmp_path, "nottingham")


def test_bad_options():
    for given, message in (
        ({"sets": "jsb,piano"}, "--sets: must be of jsb, nottingham; got 'piano'"),
        ({"hidden": 0}, "--hidden: must be >= 1; got 0"),
        ({"drop_outputs": 1.0}, "--drop-outputs: must be >= 0 and < 1; got 1.0"),
    ):
        with pytest.raises(BadInput) as error:
            music.Config(**given)
        assert message in str(error.value)
