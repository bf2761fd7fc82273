"""The runner on a toy: ended at any moment, it goes on to the same lines and the same arrays."""

import dataclasses
import itertools
import os
import signal
import time
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.kit import checkpoints, command, record, safety, stop, training
from experiments.kit.config import BadInput, Count, CountOrZero, Failed, TrainingConfig
from experiments.kit.task import Task
from jax_lstm.training.update import make_update
from tests.experiments.kills import differences

STEPS, EVERY = 22, 5


@dataclass(frozen=True)
class Toy(TrainingConfig):
    """The options of toy."""

    steps: Count = STEPS
    """updates"""
    checkpoint_every: CountOrZero = 6
    dispatch: Count = 4


def loss_of(params, carry, x):
    carry = 0.5 * carry + x
    return ((params["w"] * x - carry) ** 2).mean() / params["d"], carry


def task_of(config, directory, signals=None, poison=()):
    """A Task; `signals`: {"batch" or "evaluation": (step, signal)} that come while it runs."""
    signals = dict(signals or {})
    optimizer = safety.guard(optax.adam(0.1), config.nonfinite)

    def start():
        params = {"w": jnp.ones(3, np.float32), "d": jnp.ones((), np.float32)}
        return params, optimizer.init(params), jnp.zeros(3, np.float32)

    def batches():
        rng = np.random.default_rng(config.seed)
        for n in itertools.count(1):
            if n == signals.get("batch", (0,))[0]:
                os.kill(os.getpid(), signals.pop("batch")[1])
                time.sleep(0.05)
            xs = rng.normal(size=3).astype(np.float32)
            yield (np.where(n in poison, np.float32(np.nan), xs),)

    def evaluate(params, check):
        if "evaluation" in signals:
            number = signals.pop("evaluation")
            os.kill(os.getpid(), number[1])
            for _ in range(200):
                check()
                time.sleep(0.01)
        return float(abs(params["w"] - 2).sum())

    def keep(params, step, loss):
        record.write_json(directory / "best.json", [step, loss, params["w"].tolist()])

    numbers = lambda nats: {"nats": nats}
    say = lambda nats: f"{nats:.3f} nats"
    update = make_update(optimizer, loss_of)
    return Task(start, update, batches, numbers, say, (0,), evaluate, keep)


PROGRAMS = {}


def program_of(config, task):
    key = (config.nonfinite, config.dispatch)
    if key not in PROGRAMS:
        PROGRAMS[key] = training.compile_updates(config, task, next(task.batches())).program
    return PROGRAMS[key]


def run(config, **task):
    directory = record.open_directory(config, "toy")
    with checkpoints.locked(directory):
        record.write_config(directory, config, "toy")
        task = task_of(config, directory, **task)
        begun = training.begin(config, task, directory)
        program = program_of(config, task)
        training.train(config, task, directory, begun, program, EVERY)
    return directory


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    results = str(tmp_path_factory.mktemp("results"))
    return run(Toy(results=results, run="whole"))


def same(one, other, monkeypatch):
    def arrays(directory):
        found = checkpoints.last_good(directory)
        best = record.read_json(directory / "best.json")
        return found.step, found.arrays | {"best": np.array(best[2]), "step": np.array(best[0])}

    monkeypatch.setattr("tests.experiments.kills.arrays", arrays)
    assert differences(one, other) == []


def test_lines_come_in_the_order_of_the_steps(whole):
    found = record.read_lines(whole / "metrics.jsonl")
    steps = [x["step"] for x in found if x["kind"] == "step"]
    assert steps == list(range(1, STEPS + 1))
    evaluated = [x["step"] for x in found if x["kind"] == "validation"]
    assert evaluated == [0, 5, 10, 15, 20, 22]
    assert [x["step"] for x in found] == sorted(x["step"] for x in found)
    assert sorted(checkpoints.manifests(whole / "checkpoints")) == [12, 18, 22]


def test_updates_a_dispatch_change_no_number(whole, tmp_path, monkeypatch):
    config = Toy(results=str(tmp_path), run="a", dispatch=7, checkpoint_every=0)
    same(run(config), whole, monkeypatch)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["evaluation", 1, 9, 22])
def test_a_signal_saves_and_ends_and_the_run_goes_on(moment, number, whole, tmp_path, monkeypatch):
    config = Toy(results=str(tmp_path), run="a", checkpoint_every=0)
    at = {"evaluation": (0, number)} if moment == "evaluation" else {"batch": (moment, number)}
    with pytest.raises(stop.Stopped) as stopped, stop.at_once():
        run(config, signals=at)
    assert stopped.value.status == 128 + number
    directory = tmp_path / "toy" / "a"
    found = checkpoints.last_good(directory)
    metrics = directory / "metrics.jsonl"
    steps = len(record.read_lines(metrics, kind="step")) if metrics.exists() else 0
    assert found.step == steps
    assert found.step == 0 if moment == "evaluation" else found.step <= STEPS
    same(run(dataclasses.replace(config, resume=str(directory))), whole, monkeypatch)


def test_lines_of_after_the_checkpoint_come_again(whole, tmp_path, monkeypatch):
    """As after a kill: lines without a checkpoint, half a line, and a damaged last checkpoint."""
    config = Toy(results=str(tmp_path), run="a")
    directory = run(config)
    manifests = checkpoints.manifests(directory / "checkpoints")
    manifests[22].write_bytes(manifests[22].read_bytes()[:-9])
    manifests[18].unlink()
    with open(directory / "metrics.jsonl", "ab") as file:
        file.write(b'{"kind": "st')
    same(run(dataclasses.replace(config, resume=str(directory))), whole, monkeypatch)
    record.cut_lines(directory / "metrics.jsonl", 100)
    with pytest.raises(Failed, match="has 100 bytes; it had"):
        run(dataclasses.replace(config, resume=str(directory)))


def test_a_run_without_a_checkpoint_begins_aloud_or_not_at_all(
    whole, tmp_path, capsys, monkeypatch
):
    config = Toy(results=str(tmp_path), run="a")
    directory = record.open_directory(config, "toy")
    with pytest.raises(BadInput, match=r"--resume: cannot read .*config\.json: No such file"):
        run(dataclasses.replace(config, resume=str(directory)))
    record.write_config(directory, config, "toy")
    same(run(dataclasses.replace(config, resume=str(directory))), whole, monkeypatch)
    assert "no checkpoint was finished yet: it begins at step 0" in capsys.readouterr().out
    for path in checkpoints.manifests(directory / "checkpoints").values():
        path.unlink()
    with pytest.raises(Failed, match=r"has steps in metrics\.jsonl, and no checkpoint"):
        run(dataclasses.replace(config, resume=str(directory)))


def test_a_run_of_parts_goes_on_with_the_one_that_was_interrupted(tmp_path, monkeypatch):
    """The first part is done and only read, the second goes on; both end as if nothing was."""
    config = Toy(results=str(tmp_path), run="a", checkpoint_every=0, skip_check=True)
    directory = record.open_directory(config, "toy")
    record.write_config(directory, config, "toy")

    def go(config, signals=None):
        for part, sent in (("first", None), ("second", signals)):
            task = task_of(config, directory / part, sent)
            training.carry_out_part(config, task, directory, part, None, EVERY)

    with pytest.raises(stop.Stopped), stop.at_once():
        go(config, {"batch": (9, signal.SIGTERM)})
    steps = record.read_lines(directory / "second" / "metrics.jsonl", kind="step")
    assert 0 < len(steps) < STEPS
    done = (directory / "first" / "metrics.jsonl").read_bytes()
    go(dataclasses.replace(config, resume=str(directory)))
    assert (directory / "first" / "metrics.jsonl").read_bytes() == done
    same(directory / "second", directory / "first", monkeypatch)


def test_options_that_differ_are_refused_unless_forced(tmp_path):
    config = Toy(results=str(tmp_path), run="a", steps=4)
    directory = run(config)
    again = dataclasses.replace(config, resume=str(directory))
    with pytest.raises(BadInput, match="--steps is 4 there, 6 here; --force takes"):
        run(dataclasses.replace(again, steps=6))
    run(dataclasses.replace(again, steps=6, force=True))
    assert len(record.read_lines(directory / "metrics.jsonl", kind="step")) == 6
    assert record.read_json(directory / "config.json")["config"]["steps"] == 6
    with pytest.raises(BadInput, match="is not that of a run of other"):
        record.config_of(Toy, directory, "other")


def test_resume_needs_nothing_else(tmp_path):
    config = Toy(results=str(tmp_path), run="a", seed=3, steps=2, coordinator="a:1", processes=2)
    directory = record.open_directory(config, "toy")
    record.write_config(directory, config, "toy")

    def parse(*argv):
        return command.parse(Toy, "python -m experiments.toy", "", argv)

    stored = dataclasses.replace(config, resume=str(directory), coordinator=None, processes=1)
    assert parse("--resume", str(directory)) == stored
    free = parse(f"--resume={directory}", "--dispatch", "2", "--nonfinite", "skip")
    assert free == dataclasses.replace(stored, dispatch=2, nonfinite="skip")
    assert record.open_directory(free, "toy") == directory
    with pytest.raises(BadInput, match="--seed is 3 there, 0 here"):
        record.open_directory(parse("--tiny", "--resume", str(directory)), "toy")


# Numbers that are none -------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["stop", "skip", "clip"])
def test_a_number_that_is_none(policy, tmp_path, monkeypatch):
    """It is told by step and leaf; the run ends, or goes on with finite parameters."""
    config = Toy(results=str(tmp_path), run="a", nonfinite=policy)
    directory = tmp_path / "toy" / "a"
    if policy == "stop":
        with pytest.raises(FloatingPointError, match=r"step 11: .* gradient of d of step 11"):
            run(config, poison={11, 15})
        assert checkpoints.last_good(directory).step == 6
        lines = record.read_lines(directory / "metrics.jsonl")
        assert [x["step"] for x in lines if x["kind"] == "step"] == list(range(1, 11))
        return
    run(config, poison={11, 15})
    lines = record.read_lines(directory / "metrics.jsonl")
    bad = [x for x in lines if x["kind"] == "nonfinite"]
    assert [(x["step"], x["count"], x["first_step"]) for x in bad] == [(11, 1, 11), (15, 2, 11)]
    assert {x["first"] for x in bad} == {"the gradient of d"}
    steps = [x["nats"] for x in lines if x["kind"] == "step"]
    assert [n for n, nats in enumerate(steps, 1) if nats is None] == [11, 15]
    found = checkpoints.last_good(directory)
    assert all(np.isfinite(x).all() for x in found.arrays.values())
    assert found.notes["bad"] == 2
    count = next(x for name, x in found.arrays.items() if name.endswith("inner.0.count"))
    assert int(count) == (STEPS - 2 if policy == "skip" else STEPS)
