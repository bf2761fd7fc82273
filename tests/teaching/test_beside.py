"""Truth and mistake side by side."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

from jax_lstm.teaching import beside
from tests.tables import (
    assert_close,
)
from tests.teaching.kit import bring, digits, fixture, put_nan, status


@pytest.mark.half
@pytest.mark.parametrize(
    ("example", "name", "first"),
    [
        ("gomez", "dc not carried", ("backward", 0, "dc")),
        ("gomez", "dh not carried", ("backward", 0, "dh")),
        ("gomez", "tanh of c of t-1", ("backward", 1, "dc")),
        ("gomez", "recurrence of g", ("backward", 0, "dh")),
        ("gomez", "c of t", ("backward", 1, "da_f")),
        ("gomez", "sign of dU", ("over time", None, "dU_i")),
        ("gomez", "forget offset", ("forward", 0, "f")),
        ("elman", "slope of a", ("backward", 2, "da[0][0]")),
        ("elman", "h0 zero", ("forward", 0, "h_prev[0][0]")),
        ("wildml", "dh not carried", ("backward", 2, "dh[0][0]")),
        ("random", "x of t-1", ("over time", None, "dW_i[0][0]")),
    ],
)
def test_the_first_difference_of_a_mistake(runs, example, name, first):
    run = runs[example][0]
    got = beside.put_beside(run.problem, run.cell, name)
    assert got.first()[:3] == first
    marked = [line for line in got.table().split("\n") if "FIRST DIFFERENCE" in line]
    assert len(marked) == 1
    part, t, name = first
    assert marked[0].split()[0] == name
    assert f"{name} is {digits(got.first().truth)[0]}, and" in got.sentence()
    names = {"forward": run.traced.forward, "backward": run.traced.backward}
    truth = names.get(part, run.traced.gradients).get(name.split("[")[0])
    if truth is not None:  # two independent programs
        truth = np.ravel(truth if t is None else truth[t])[0]
        assert_close(jnp.asarray(got.first().truth), jnp.asarray(truth))


def test_of_larger_arrays_one_number_is_shown_and_that_is_said(runs):
    few, many = (
        beside.put_beside(runs[k][0].problem, "lstm", "1 - f") for k in ("gomez", "random")
    )
    assert "the one that differs most is shown" not in few.table()
    assert "more than 6 numbers, the one that differs most is shown" in many.table()
    assert len([x for x in many.table().split("\n") if x.startswith("  dW_g")]) == 1


def test_a_mistake_that_makes_no_difference_says_so(runs):
    run = runs["gomez"][0]
    got = beside.put_beside(run.problem, "lstm", "h0 zero")
    assert got.first() is None
    assert "no number differs" in got.table()


def test_truth_and_mistake_with_nan_in_one_example(runs, tmp_path, capsys):
    """It is marked, and does not hide where the other example first differs."""
    problem = runs["random"][0].problem
    xs = problem.xs.copy()
    xs[1, 0, 2] = np.nan
    got = beside.put_beside(problem._replace(xs=xs), "lstm", "dc not carried")
    assert got.first()[:3] == ("backward", 1, "dc[1][0]")
    params, given = bring(problem, "ours", tmp_path, put_nan)
    assert status("--params", params, "--input", given, "--mutant", "dc not carried") == 2
    out, err = capsys.readouterr()
    assert err == "jax-lstm: error: NaN: x[0][2] at t=1, forward; what it reaches is marked\n"
    lines = out.split("\n")
    assert [x for x in lines if re.search(r"\d nan| nan ", x)] == [
        x for x in lines if "<-- NaN" in x
    ]
    assert "<-- NaN" in out


def test_mutants_by_the_command(capsys, tmp_path):
    file = tmp_path / "m.json"
    assert status("--mutant", "dc not carried", "--json", file, "--csv", tmp_path / "m.csv") == 0
    printed = capsys.readouterr().out
    assert printed.count("FIRST DIFFERENCE") == 2
    want = fixture("gomez")["zero_state"]["backward"][0]
    (without,) = digits(want["dc"][0] - want["dc_from_next"][0])
    assert re.search(rf"dc +{digits(want['dc'])[0]} +{without} +<-- FIRST DIFFERENCE", printed)
    rows = json.loads(file.read_text())["runs"][0]["rows"]
    assert next(r for r in rows if r["differs"])["name"] == "dc"
    assert len((tmp_path / "m.csv").read_text().strip().split("\n")) == 1 + 2 * len(rows)
    assert status("--mutant", "dc not caried") == 2
    assert "did you mean 'dc not carried'" in capsys.readouterr().err
    assert status("--mutant", "1 - f", "--svg", tmp_path / "m.png") == 2
