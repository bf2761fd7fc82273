"""The series, and three ways to cut it into windows: one that is honest, and two that leak.

    honest      training | validation | test, in the order of time; the scale is of training alone
    scaler      the same, but for the scale, which is that of all values, those of the test too
    shuffled    the windows before the test are shuffled, and then cut: what stands between two that
                were learnt is judged. The test, which nobody has seen, says what that is worth

A window has the `window` values before its target; t is the place of the target in the series.
"""

import csv
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.kit import evidence
from experiments.kit.config import BadInput

TRAINING, VALIDATION = 7, 1  # tenths of the values; the test part is what is left
FEWEST = 8  # targets of each part


class Series(NamedTuple):
    """values (N,) float64 in the order of time, and what they are, for people."""

    values: np.ndarray
    name: str


class Protocol(NamedTuple):
    """A scale, x -> (x - low) / span, and the targets t of each part.

    training, validation: what is learnt, and what chooses.
    judged: what the protocol reports on.
    """

    low: float
    span: float
    training: np.ndarray
    validation: np.ndarray
    judged: np.ndarray


# Where it is from -------------------------------------------------------------------------------


def read(config):
    """The sunspots of each year from 1700 to 2008, or a column of a file.

    Raises:
      BadInput: a file, a column or a value that cannot be used.
      Failed: statsmodels is needed and not there.
    """
    if config.csv is None:
        if config.column is not None:
            raise BadInput("--column", "names a column of --csv, which is not given")
        sunspots = evidence.needed("statsmodels.datasets.sunspots", "statsmodels")
        data = sunspots.load_pandas().data
        series = Series(data["SUNACTIVITY"].to_numpy(float), "sunspots a year, 1700 to 2008")
    else:
        series = read_csv(Path(config.csv), config.column)
    check_length(config, series)
    return series


def read_csv(path, column):
    """A column of numbers, in the order of its lines. The first line has the names."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput("--csv", f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadInput("--csv", f"{path} is no text in UTF-8 (byte {error.start})") from None
    reader = csv.reader(text.splitlines())
    try:
        names = [name.strip() for name in next(reader, [])]
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise BadInput("--csv", f"{path}, line {reader.line_num}: {error}") from None
    at = place_of(path, names, column)
    values = []
    for line, row in rows:
        if len(row) != len(names):
            said = f"{path}, line {line}: {len(row)} cells; the first line has {len(names)}"
            raise BadInput("--csv", said)
        try:
            value = float(row[at])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            what = f"{row[at]!r:.40} is no finite number" if row[at].strip() else "no value"
            said = f"{names[at]!r} of {path}, line {line}: {what}; fill or drop such lines first"
            raise BadInput("--column", said)
        values.append(value)
    return Series(np.array(values), f"{names[at]} of {path.name}")


def place_of(path, names, column):
    """Which of the columns it is."""
    there = ", ".join(names) or "none"
    if column is None and len(names) != 1:
        raise BadInput("--column", f"must be one of those of {path}: {there}")
    column = names[0] if column is None else column
    if names.count(column) != 1:
        many = "no column" if column not in names else "more than one column"
        raise BadInput("--column", f"{path} has {many} {column!r}; it has {there}")
    return names.index(column)


def check_length(config, series):
    """Complain about a series that leaves a part too few windows, or that does not change."""
    training, before_test = borders(len(series.values))
    first = max(training - config.window, 0)
    parts = (first, before_test - training, len(series.values) - before_test)
    if min(parts) < FEWEST:
        raise BadInput(
            "--window" if config.csv is None else "--csv",
            f"{len(series.values)} values with windows of {config.window} leave {parts[0]}, "
            f"{parts[1]} and {parts[2]} targets to learn from, to choose by and to test on; "
            f"each must be >= {FEWEST}",
        )
    if np.ptp(series.values[:training]) == 0:
        raise BadInput("--column", f"{series.name}: all values of the training part are the same")


# Three protocols --------------------------------------------------------------------------------


def borders(N):
    """The first t of validation, and of the test."""
    return TRAINING * N // 10, (TRAINING + VALIDATION) * N // 10


def scale_of(values):
    """To [0, 1], as MinMaxScaler: low, span."""
    return float(values.min()), float(np.ptp(values))


def test_of(values):
    """The targets of the test, the same for everybody."""
    return np.arange(borders(len(values))[1], len(values))


def honest(config, values):
    training, before_test = borders(len(values))
    parts = np.arange(config.window, training), np.arange(training, before_test)
    return Protocol(*scale_of(values[:training]), *parts, test_of(values))


def leaky_scaler(config, values):
    low, span = scale_of(values)
    return honest(config, values)._replace(low=low, span=span)


def leaky_windows(config, values):
    """Shuffled; as many of them for each part as the values have in all."""
    _, before_test = borders(len(values))
    rng = np.random.default_rng(config.seed)
    order = rng.permutation(np.arange(config.window, before_test))
    cuts = borders(len(order))
    return Protocol(*scale_of(values[:before_test]), *np.split(order, cuts))


PROTOCOLS = {"honest": honest, "scaler": leaky_scaler, "shuffled": leaky_windows}


def windows(values, targets, window):
    """(n, window): the values before each target."""
    return values[targets[:, None] - window + np.arange(window)]


def rmse(predicted, values, targets):
    """The root of the mean squared error, in the series' own units."""
    return float(np.sqrt(np.mean((predicted - values[targets]) ** 2)))
