"""The forecast: what a part may know, the leaks, 71,051 numbers, columns of files, a run."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments.forecast import baselines, plots, series, training
from experiments.forecast import run as forecast
from experiments.kit import evidence, record
from experiments.kit.config import BadInput

CONFIG = dataclasses.replace(forecast.Config.tiny(), batch=16)
VALUES = np.sin(np.arange(200) / 3) + np.random.default_rng(0).normal(size=200) / 9


def test_the_network_of_the_tutorial_has_71051_numbers():
    shapes = jax.eval_shape(lambda: training.init(forecast.Config(), jax.random.key(0)))
    assert training.count(shapes) == 71_051


def test_what_each_protocol_knows():
    """Honest: training, validation, test in the order of time, and what comes later is nowhere."""
    honest, scaler, shuffled = (make(CONFIG, VALUES) for make in series.PROTOCOLS.values())
    for one in (honest, scaler):
        assert one.training.max() < one.validation.min()
        assert one.validation.max() < one.judged.min()
        np.testing.assert_array_equal(np.concatenate(one[2:]), np.arange(12, 200))
    later = np.r_[VALUES[:140], 50 + VALUES[140:]]
    assert series.honest(CONFIG, later)[:2] == honest[:2]
    assert series.leaky_scaler(CONFIG, later)[:2] != scaler[:2]
    assert (scaler.low, scaler.span) == (VALUES.min(), np.ptp(VALUES))
    test = series.test_of(VALUES)
    np.testing.assert_array_equal(test, honest.judged)
    before = np.sort(np.concatenate(shuffled[2:]))
    np.testing.assert_array_equal(before, np.arange(12, test[0]))
    beside = np.isin(shuffled.judged + 1, shuffled.training)  # what was learnt has seen the answer
    assert beside.mean() > 0.5
    assert not np.isin(honest.judged + 1, honest.training).any()
    xs = series.windows(VALUES, honest.training, 12)
    np.testing.assert_array_equal(xs[0], VALUES[:12])
    np.testing.assert_array_equal(xs[:, -1], VALUES[honest.training - 1])


def test_baselines():
    """On a series that they know: a period of 7, and a recursion of two values."""
    honest = series.honest(CONFIG, VALUES)
    period = np.tile([3.0, 1, 4, 1, 5, 9, 2], 29)[:200]
    answer = baselines.seasonal(CONFIG, period, honest)
    np.testing.assert_array_equal(answer(honest.judged), period[honest.judged])
    line = [0.0, 1.0]
    for _ in range(198):
        line.append(1.8 * line[-1] - 0.95 * line[-2] + 0.3)
    answer = baselines.linear_autoregression(CONFIG, np.array(line), honest)
    # least squares finds a recursion that its lags hold, to some roundings of float64
    np.testing.assert_allclose(answer(honest.judged), np.array(line)[honest.judged], rtol=1e-13)
    last = baselines.last_value(CONFIG, VALUES, honest)(honest.judged)
    np.testing.assert_array_equal(last, VALUES[honest.judged - 1])
    want = np.sqrt(np.mean(np.diff(VALUES)[honest.judged - 1] ** 2))
    assert series.rmse(last, VALUES, honest.judged) == pytest.approx(want)


def test_batches_are_windows_of_the_training_part():
    protocol = series.honest(CONFIG, VALUES)
    scaled = ((VALUES - protocol.low) / protocol.span).astype(np.float32)
    known = {tuple(scaled[t - 12 : t + 1]) for t in protocol.training}
    for (xs, targets, _), _ in zip(
        training.batches(CONFIG, VALUES, protocol), range(16), strict=False
    ):
        assert {tuple(x) for x in np.r_[xs[..., 0], targets.T].T} <= known


# Columns of files -------------------------------------------------------------------------------


CANNOT = (
    (None, "b", "argument --csv: cannot read .*: No such file"),
    ("a,b\n1,2\n", None, "argument --column: must be one of those of .*: a, b"),
    ("a,b\n1,2\n", "c", "argument --column: .* has no column 'c'; it has a, b"),
    ("a,a\n1,2\n", "a", "argument --column: .* has more than one column 'a'"),
    ("", "a", "argument --column: .* has no column 'a'; it has none"),
    ("a,b\n1,2\n3\n", "b", "argument --csv: .*, line 3: 1 cells; the first line has 2"),
    ("a,b\n1,2\n3,\n", "b", "argument --column: 'b' of .*, line 3: no value; fill or drop"),
    ("a,b\n1,NA\n", "b", "line 2: 'NA' is no finite number"),
    ("a,b\n1,inf\n", "b", "line 2: 'inf' is no finite number"),
    (b"a\n\xff\n", "a", r"argument --csv: .* is no text in UTF-8 \(byte 2\)"),
    ("a\n" + "1\n" * 40, "a", "40 values with windows of 12 leave 16, 4 and 8 targets"),
    ("a\n1\n", "a", "1 values with windows of 12 leave 0, 0 and 1 targets"),
    ("a\n" + "1\n" * 140 + "2\n" * 60, "a", "a of .*: all values of the training part are"),
)


@pytest.mark.parametrize(("text", "column", "match"), CANNOT, ids=[case[2] for case in CANNOT])
def test_columns_that_cannot_be_used(text, column, match, tmp_path):
    path = tmp_path / "file.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput, match=match):
        series.read(dataclasses.replace(CONFIG, csv=str(path), column=column))


def test_a_column_and_what_names_none(tmp_path):
    path = tmp_path / "file.csv"
    lines = [f'"{k}", {x}' for k, x in enumerate(VALUES)]
    path.write_text("\ufeffday, level \n" + "\n\n".join(lines) + "\n", encoding="utf-8")
    found = series.read(dataclasses.replace(CONFIG, csv=str(path), column="level"))
    np.testing.assert_array_equal(found.values, VALUES)
    assert found.name == "level of file.csv"
    with pytest.raises(BadInput, match="argument --window: must be >= 2; got 1"):
        dataclasses.replace(CONFIG, window=1)  # no season is that short
    with pytest.raises(BadInput, match="argument --column: names a column of --csv"):
        series.read(dataclasses.replace(CONFIG, column="level"))


# A run ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_and_its_rows(tmp_path):
    """Three networks, one seed, of a column; and the rows of the table."""
    path = tmp_path / "file.csv"
    path.write_text("level\n" + "\n".join(map(str, VALUES)) + "\n")
    config = dataclasses.replace(
        CONFIG, seeds=1, csv=str(path), results=str(tmp_path), run="tiny", skip_check=True
    )
    with jax.enable_x64(False):
        (summary,) = forecast.run(config)
    directory = tmp_path / "forecast" / "tiny_seed0"
    assert {p.name for p in directory.iterdir()} == {
        *("config.json", "honest", "scaler", "shuffled"),
        *("errors.json", "forecasts.json", "forecast.png"),
    }
    assert record.read_json(directory / "errors.json") == json.loads(json.dumps(summary))
    assert record.read_json(directory / "config.json")["parameters"] == 4 * 4 * (6 + 9) + 5
    last = np.diff(VALUES)[series.test_of(VALUES) - 1]
    assert summary["rmse"]["last value"] == pytest.approx(np.sqrt(np.mean(last**2)))
    ((path, file),) = evidence.read_all(tmp_path)
    assert {row["name"] for row in file["rows"]} == set(summary["rmse"])
    (bar,) = {row["bar"] for row in file["rows"] if row["bar"] is not None}
    assert bar == summary["rmse"]["linear autoregression"]
    assert path.with_suffix(".series.png").exists()
    (directory / "forecasts.json").unlink()
    plots.draw(directory)  # of a run that was interrupted
    with pytest.raises(BadInput, match="argument --batch: must be <= 103, the windows to learn"):
        forecast.run(dataclasses.replace(config, batch=150))


@pytest.mark.slow
def test_the_command_checks_the_gradient_and_goes_on(tmp_path, capsys):
    """The gradient of the first network beside jax.grad's; --resume of a seed that is done goes on
    to the next one."""
    path = tmp_path / "file.csv"
    path.write_text("level\n" + "\n".join(map(str, VALUES)) + "\n")
    argv = ["--tiny", "--csv", str(path), "--batch", "16", "--results", str(tmp_path)]
    with jax.enable_x64(False):
        assert forecast.main([*argv, "--run", "a", "--seeds", "2"]) == 0
        second = tmp_path / "forecast" / "a_seed1"
        lines = record.read_lines(second / "honest" / "metrics.jsonl", kind="gradient")
        assert {"readout.W", "layers.layers.1.0.U"} <= {line["leaf"] for line in lines}
        ((_, before),) = evidence.read_all(tmp_path)
        for file in second.iterdir():
            if file.is_file() and file.name != "config.json":
                file.unlink()
        assert forecast.main(["--resume", str(second)]) == 0
    ((_, after),) = evidence.read_all(tmp_path)
    values = [
        [(v["seed"], v["value"]) for row in f["rows"] for v in row["values"]]
        for f in (before, after)
    ]
    assert values[0] == values[1]
    assert {seed for seed, _ in values[0]} == {0, 1}
    assert "it looks" in capsys.readouterr().out


def test_the_sunspots_are_those_of_statsmodels():
    pytest.importorskip("statsmodels", reason="pip install -e '.[evidence]'")
    found = series.read(forecast.Config())
    assert len(found.values) == 309
    assert found.values[[0, -1]].tolist() == [5.0, 2.9]
    assert [len(part) for part in series.honest(forecast.Config(), found.values)[2:]] == [
        156,
        31,
        62,
    ]
