"""experiments.speed.settings: every table has its rows, at sizes that are no sizes."""

import pytest

from experiments.speed import settings
from tests.tables import relaxed

SPLITS_ARRAYS = True

SIZE = (8, 8, 2)  # T, B, D = H; B splits over the tests' eight devices
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(settings, "SECONDS", 0.0)
    with relaxed("the contestants"):
        yield


def is_a_ratio(found):
    median, least, seconds = found
    return median > 0 and least > 0 and isinstance(seconds, float)


def test_turns_of_the_loop():
    ((size, row),) = settings.of_unroll(2, [SIZE])
    assert (size, list(row)) == (SIZE, [2, 4])
    assert all(map(is_a_ratio, row.values()))


def test_two_devices_and_the_rule():
    ((size, products, found, by_rule),) = settings.of_devices(2, [SIZE])
    assert (size, products, by_rule) == (SIZE, 8 * 8 * 8 * 4 / 1e6, False)
    assert is_a_ratio(found)


def test_lengths_sorted_and_packed():
    pytest.importorskip("torch", reason="packed sequences are torch's")
    ((size, mean, row),) = settings.of_lengths(2, [SIZE])
    assert (size, list(row)) == (SIZE, ["lengths", "sort", "packed"])
    assert 2 <= 8 * mean <= 8
    median, least = row.pop("packed")  # of torch nothing is compiled
    assert median > 0
    assert least > 0
    assert all(map(is_a_ratio, row.values()))


def test_a_long_one_is_not_packed(monkeypatch):
    monkeypatch.setattr(settings, "LONGEST_PACKED", 7)
    monkeypatch.setattr(settings, "of_packed", None)  # whoever calls it has an error
    ((_, _, row),) = settings.of_lengths(2, [SIZE])
    assert list(row) == ["lengths", "sort"]
