"""Is a run slower than an older one? What is flagged, and what is noise."""

import json

import pytest

from experiments.speed import compare as speed_compare
from experiments.speed import run as speed
from tests.experiments.speed_results import ENVIRONMENT, noisy


def flags(old, new, threshold=0.1):
    return [row.what for row in speed_compare.compare(old, new, threshold) if row.slower]


def test_a_planted_slowdown_is_flags():
    """A quarter slower, while the machine happens to be twice as fast."""
    old, new = noisy(0), noisy(1, ours=1.25, machine=0.5)
    assert len(flags(old, new)) == 8  # two sizes, two modes, two passes
    (first, *_) = speed_compare.compare(old, new, 0.1)
    assert first.what == "S1 plain, lstm, gradient"
    assert first.slowdown == pytest.approx(1.25, rel=0.06)


@pytest.mark.slow
def test_noise_is_not_flags():
    for seed in range(40):
        assert flags(noisy(seed), noisy(1000 + seed, machine=3.0)) == []


def test_a_faster_baseline_is_not_our_slowdown():
    assert flags(noisy(0), noisy(1, A0=0.7)) == []


def test_what_has_no_g_is_compared_with_a0_alone():
    """A new pass of a cell, say: it is flagged all the same, and the table says against whom."""
    old, new = noisy(0), noisy(1, ours=1.4)
    for result in (old, new):
        for case in result["cases"]:
            case["variant"] = "mgu"
            del case["contestants"]["G"]
            for row in case["contestants"].values():
                row["jvp"] = row["forward"]
    rows = speed_compare.compare(old, new, 0.1)
    assert len(rows) == 12  # two sizes, two modes, three passes
    assert all(row.slower and row.base == "A0 alone" for row in rows)
    text = speed_compare.table(rows, 0.1)
    assert "| S1 mgu, lstm, jvp | A0 alone |" in text
    assert text.endswith(speed_compare.NOTE)  # A0 of a cell is ours, and can change too
    assert speed_compare.NOTE not in speed_compare.table(rows[:0], 0.1)


def test_too_few_rounds_are_no_evidence():
    rows = speed_compare.compare(noisy(0), noisy(1, ours=2.0, rounds=4), 0.1)
    assert [row.slower for row in rows] == [None] * 8
    assert "fewer than 5 rounds" in speed_compare.table(rows, 0.1)


def test_the_bootstrap_is_the_same_each_time_and_needs_two_rounds():
    old, new = noisy(0), noisy(1)
    rows = speed_compare.compare(old, new, 0.1)
    assert rows == speed_compare.compare(old, new, 0.1)
    assert all(row.low < row.slowdown for row in rows)
    single = speed_compare.compare(old, noisy(1, rounds=1), 0.1)
    assert all(row.low == row.slowdown and row.slower is None for row in single)


@pytest.mark.parametrize(("ours", "status"), [(1.0, 0), (1.3, 1)])
def test_the_comparison_is_an_exit_status(tmp_path, capsys, ours, status):
    for name, result in (("old", noisy(0)), ("new", noisy(1, ours=ours))):
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    argv = ["--table", f"{tmp_path}/new.json", "--compare", f"{tmp_path}/old.json"]
    assert speed.main(argv) == status
    assert ("slower than" in capsys.readouterr().err) is (status == 1)


def test_nothing_in_common_is_no_agreement(tmp_path, capsys):
    (tmp_path / "old.json").write_text(json.dumps(noisy(0)))
    (tmp_path / "new.json").write_text(json.dumps({"environment": ENVIRONMENT, "cases": []}))
    argv = ["--table", f"{tmp_path}/new.json", "--compare", f"{tmp_path}/old.json"]
    assert speed.main(argv) == 1
    assert "nothing was compared" in capsys.readouterr().err
