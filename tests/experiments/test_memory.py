"""Problems of memory: what is drawn, what a guess gets, and a small run of each experiment."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest

from experiments.adding import run as adding
from experiments.copy_memory import run as copy_memory
from experiments.forget_bias import run as forget_bias
from experiments.kit import evidence, memory, problems, record
from experiments.kit.config import BadInput
from experiments.kit.intervals import t_interval

COUNT = 2000


@pytest.fixture(scope="module")
def drawn():
    """Many sequences of both problems at T = 7, by two keys."""
    keys = jax.random.split(jax.random.key(3), 2)
    numbers = np.arange(COUNT, dtype=np.int32)
    draw = jax.jit(memory.draw, static_argnums=(0, 1))
    return {
        name: [jax.tree.map(np.asarray, draw(problem, 7, key, numbers)) for key in keys]
        for name, problem in problems.PROBLEMS.items()
    }


def test_the_adding_problem(drawn):
    """Two marks at any two steps, the sum of what they mark, and the loss of always 1."""
    (xs, sums), (others, _) = drawn["adding"]
    numbers, marks = np.moveaxis(xs, -1, 0)
    assert (numbers.shape, sums.shape) == ((7, COUNT), (COUNT,))
    assert set(np.unique(marks)) == {0, 1}
    np.testing.assert_array_equal(marks.sum(0), 2)
    np.testing.assert_array_equal((numbers * marks).sum(0), sums)
    assert (numbers >= 0).all()
    assert (numbers < 1).all()
    pairs = {tuple(np.flatnonzero(column)) for column in marks.T}
    assert len(pairs) == 7 * 6 / 2
    spread = np.square(sums - 1).std() / math.sqrt(COUNT)
    assert abs(np.square(sums - 1).mean() - problems.PROBLEMS["adding"].guess(7)) < 4 * spread
    assert not np.array_equal(xs, others)


def test_the_copying_problem(drawn):
    """Ten symbols and where they are asked for; the loss of who knows when and not what."""
    (xs, asked), (others, _) = drawn["copy_memory"]
    assert (xs.shape, asked.shape) == ((27, COUNT, 10), (27, COUNT))
    np.testing.assert_array_equal(xs.sum(-1), 1)
    read = xs.argmax(-1)
    assert (read[10:16] == problems.BLANK).all()
    assert (read[16:] == problems.SIGN).all()
    assert (asked[:17] == problems.BLANK).all()
    np.testing.assert_array_equal(asked[17:], read[:10])
    assert set(np.unique(read[:10])) == set(range(1, 9))
    nats = np.where(np.arange(27) < 17, 0, math.log(8))
    guess = problems.PROBLEMS["copy_memory"].guess(7)
    assert math.isclose(nats.mean(), guess)
    assert math.isclose(guess, 10 * math.log(8) / 27)
    assert not np.array_equal(xs, others)


def test_chrono_forgets_within_one_to_T_steps():
    T, problem = 40, problems.PROBLEMS["adding"]
    params = memory.init(jax.random.key(0), problem, T, 60, None).lstm
    i, f, g, o = np.split(np.asarray(params.b), 4)
    np.testing.assert_array_equal(i, -f)
    assert not g.any()
    assert not o.any()
    u = np.exp(f)
    assert ((u >= 1) & (u <= T - 1 + 1e-3)).all()
    assert abs(u.mean() - T / 2) < 4 * (T - 2) / math.sqrt(12 * 60)
    plain = memory.init(jax.random.key(0), problem, T, 60, 2.0).lstm
    np.testing.assert_array_equal(plain.b[60:120], 2)
    np.testing.assert_array_equal(plain.U, params.U)


def test_an_interval_is_student_s():
    """Against a table: t of 4 degrees of freedom is 2.776 at 97.5 %."""
    mean, low, high = t_interval([1, 2, 3, 4, 5])
    assert mean == 3
    for side in (high - mean, mean - low):
        # the table has seven digits
        assert math.isclose(side, 2.776445 * math.sqrt(2.5 / 5), rel_tol=1e-6)
    assert t_interval([7]) == (7, None, None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "asked"),
    [
        (adding, {"forget_bias": "1,chrono"}),
        pytest.param(copy_memory, {"curriculum": "3"}, marks=pytest.mark.slow),
        pytest.param(forget_bias, {"problem": "copy_memory"}, marks=pytest.mark.slow),
    ],
    ids=["adding", "copy_memory", "forget_bias"],
)
def test_a_small_run(experiment, asked, tmp_path):
    """Its files and what they say; a run that is done goes on to the same numbers."""
    config = experiment.Config.tiny()
    config = dataclasses.replace(config, **asked, results=str(tmp_path), run="tiny")
    with jax.enable_x64(False):
        summary = experiment.run(config)
    directory = tmp_path / experiment.__name__.split(".")[1] / "tiny"
    assert record.read_json(directory / "summary.json") == json.loads(json.dumps(summary))
    assert (directory / "curves.png").read_bytes().startswith(b"\x89PNG")
    for point in summary["points"]:
        lines = record.read_lines(
            directory / f"T6_{point['forget_bias']}" / "metrics.jsonl", kind="step"
        )
        assert [x["step"] for x in lines] == list(range(1, config.steps + 1))
        losses = np.array([x["loss"] for x in lines])
        assert losses.shape == (config.steps, config.seeds)
        assert (losses[-5:].mean(0) < losses[:5].mean(0)).all()
        assert np.isfinite(point["loss"]).all()
    assert len(summary["differences"]) == len(summary["points"]) - 1
    (_, found), *_ = evidence.read_all(tmp_path)
    assert [[v["value"] for v in row["values"]] for row in found["rows"]] == [
        point["loss"] for point in summary["points"]
    ]


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"times": "200,1"}, "argument --times: must be whole numbers >= 2"),
        ({"times": "20,020"}, "argument --times: must name each once"),
        ({"forget_bias": "1,1.0"}, "argument --forget-bias: must name each once"),
        ({"curriculum": "10,1"}, "argument --curriculum: must be whole numbers >= 2"),
        ({"forget_bias": "chronos"}, "argument --forget-bias: must be numbers or chrono; got 'ch"),
        ({"forget_bias": "inf"}, "argument --forget-bias: must be numbers or chrono"),
        ({"steps": 2**30}, "argument --steps: times --batch must be below"),
    ],
)
def test_bad_input(asked, match):
    with pytest.raises(BadInput, match=match):
        adding.Config(**asked)
