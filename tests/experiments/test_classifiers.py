"""Digits and MNIST-1D: their data, and the quick form of each."""

import dataclasses
import json
import random
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.digits import images
from experiments.digits import run as digits
from experiments.kit import classifier, command, evidence, record
from experiments.kit.classifier import batches, scales, split_sequences
from experiments.kit.config import BadInput, Failed
from experiments.kit.installed import folder_of
from experiments.mnist1d import run as mnist1d
from experiments.mnist1d import signals

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def pixels():
    return images.read()


def check_files(summary, directory, row):
    """What every run of a classifier leaves: one summary, a picture, the accuracies as a row."""
    assert record.read_json(directory / "summary.json") == json.loads(json.dumps(summary))
    assert (directory / "curves.png").read_bytes().startswith(PNG)
    each = [100 * a for a in summary["accuracy"]["test"]["each"]]
    assert [v["value"] for v in row["values"]] == each
    assert all(0 <= a <= 100 for a in each)
    assert row["floor"] < 15


def quick(Config, tmp_path):
    return dataclasses.replace(Config.tiny(), results=str(tmp_path), run="a", skip_check=True)


@pytest.mark.slow
def test_digits(tmp_path):
    config = quick(digits.Config, tmp_path)
    summary = digits.run(config)["rows"]
    (path,) = (tmp_path / "evidence").iterdir()
    (row,) = evidence.read(path)["rows"]
    assert (row["name"], row["bar"]) == ("pixel by pixel", 97.0)
    check_files(summary, tmp_path / "digits" / "a", row)


@pytest.mark.slow
def test_mnist1d(tmp_path):
    summary = mnist1d.run(quick(mnist1d.Config, tmp_path))
    (path,) = (tmp_path / "evidence").iterdir()
    (row,) = evidence.read(path)["rows"]
    assert (row["published"], row["bar"]) == (91.0, None)
    check_files(summary, tmp_path / "mnist1d" / "a", row)


# The digits' data -----------------------------------------------------------------------------


def test_the_parts_of_the_digits_are_apart_and_balanced(pixels):
    _, classes, about = pixels
    parts = images.parts_of(classes)
    assert (len(parts["training"]), len(parts["test"])) == (1433, 364)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(about["images"]))
    counts = np.bincount(classes[parts["test"]])
    assert (counts == -(-np.bincount(classes) // images.TEST_PART)).all()


def test_a_pixel_a_step_in_the_order_asked_for(pixels):
    xs, classes, _ = pixels
    rows, permuted = (images.order_of(name) for name in images.ORDERS)
    assert sorted(permuted) == sorted(rows)
    assert (permuted != rows).mean() > 0.9
    for order in (rows, permuted):
        data = images.sequences_of(xs[:5], classes[:5], order)
        assert data.xs.shape == (64, 5, 1)
        np.testing.assert_array_equal(data.xs[:, 3, 0], xs[3][order])


def test_images_are_shifted_before_they_are_permuted(pixels):
    xs, _, _ = pixels
    order = images.order_of("permuted")
    augment = images.make_augment(order, 2)
    got = augment(np.random.default_rng(5), xs[:40, order].T[:, :, None])
    by = np.random.default_rng(5).integers(-2, 2, (40, 2), endpoint=True)
    for n, (down, right) in enumerate(by):
        want = np.zeros((8, 8), np.float32)
        for y in range(8):
            for x in range(8):
                if 0 <= y - down < 8 and 0 <= x - right < 8:
                    want[y, x] = xs[n].reshape(8, 8)[y - down, x - right]
        np.testing.assert_array_equal(got[:, n, 0], want.reshape(-1)[order])
    assert images.make_augment(order, 0) is None


def test_a_batch_is_each_classifiers_own(pixels):
    """No image of its own fold, and the test part nowhere."""
    xs, classes, _ = pixels
    data = images.sequences_of(xs[:60], classes[:60], images.order_of("rows"))
    config = dataclasses.replace(digits.Config.tiny(), folds=3, batch=8)
    split = split_sequences(config, data)
    drawn = batches(config, data, split, scales(data, split))
    for _, (_, seen, _, labels, keys) in zip(range(6), drawn, strict=False):
        assert (seen.shape, labels.shape, keys.shape) == ((64, 3, 8, 1), (3, 8), (3, 2))
        for s, learns in enumerate(split.learns):
            own = {data.xs[:, n].tobytes() for n in learns}
            assert all(seen[:, s, b].tobytes() in own for b in range(8))


@pytest.mark.slow
def test_the_outputs_of_all_steps_with_equal_weights_are_their_mean():
    """Also with lengths: an output behind a sequence's end is zero."""
    T, B, D, V = 32, 3, 2, 4
    mean = dataclasses.replace(digits.Config.tiny(), readout="mean", directions=2)
    every = dataclasses.replace(mean, readout="all")
    xs = np.random.default_rng(0).normal(size=(T, B, D)).astype(np.float32)
    lengths = np.array([32, 32, 9], np.int32)
    params = classifier.init(mean, jax.random.key(0), T, D, V)
    tiled = params.readout._replace(W=jnp.tile(params.readout.W, (T, 1)) / T)
    ys = jax.jit(lambda p: classifier.logits(mean, p, xs, lengths))(params)
    ys_all = jax.jit(lambda p: classifier.logits(every, p, xs, lengths))(
        params._replace(readout=tiled)
    )
    b = np.asarray(params.readout.b)
    want = (np.asarray(ys) - b) * (lengths / T)[:, None] + b
    np.testing.assert_allclose(ys_all, want, atol=1e-6)  # float32, sums in another order
    shape = classifier.init(every, jax.random.key(0), T, D, V).readout.W.shape
    assert shape == (T * 2 * mean.hidden, V)


# The signals ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_signals_are_the_packages_and_leave_random_numbers_alone():
    np.random.seed(3)
    random.seed(3)
    want = np.random.get_state()[1][:3].tolist(), random.Random(3).random()
    data, about = signals.read()
    assert (np.random.get_state()[1][:3].tolist(), random.random()) == want
    assert {k: v.xs.shape for k, v in data.items()} == {
        "training": (48, 4000, 1),
        "test": (48, 1000, 1),
    }
    assert (data["test"].lengths == 40).all()
    again, same = signals.read()
    assert same == about
    np.testing.assert_array_equal(again["test"].classes, data["test"].classes)


# What goes wrong ------------------------------------------------------------------------------


def test_bad_options():
    for given, message in (
        ({"orders": "rows,columns"}, "--orders: must be of rows, permuted; got 'columns'"),
        ({"orders": "rows,rows"}, "--orders: must name each once; got 'rows,rows'"),
        ({"shift": 8}, "--shift: must be < 8, the side; got 8"),
        ({"directions": 3}, "--directions: must be >= 1 and < 3; got 3"),
        ({"noise": -0.5}, "--noise: must be >= 0; got -0.5"),
    ):
        with pytest.raises(BadInput) as error:
            digits.Config(**given)
        assert message in str(error.value)


def test_a_package_that_is_missing_is_named(monkeypatch):
    cases = (
        ("sklearn.datasets", images.read, "scikit-learn"),
        ("mnist1d.data", signals.read, "mnist1d"),
    )
    for module, read, package in cases:
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(Failed, match=f"{package} is needed"):
            read()


def test_a_run_for_each_name():
    config = digits.Config(run="a")
    ones = list(command.one_by_one(config, "orders", images.ORDERS))
    assert [(one.orders, one.run) for one in ones] == [
        ("rows", "a_rows"),
        ("permuted", "a_permuted"),
    ]
    (alone,) = command.one_by_one(ones[0], "orders", images.ORDERS)
    assert alone == ones[0]


def test_folders_of_packages_are_found_without_importing_them():
    """The first package that has it; one that is not installed is passed over."""
    assert folder_of(("no_such_package", "jax_lstm"), "cells") == Path("jax_lstm/cells").absolute()
    assert folder_of(("no_such_package", "jax_lstm"), "cells", "nowhere") is None
