"""Many devices and two processes train as one device does, and survive the loss of one of them."""

import signal
import time

import numpy as np
import pytest

from experiments.kit import checkpoints, record
from tests.engine.test_processes import free_port
from tests.experiments.kills import SMALL, start

SPLITS_ARRAYS = True

TRAINING = [
    *SMALL,
    *[
        "--streams",
        "8",
        "--steps",
        "30",
        "--evaluate-every",
        "10",
        "--checkpoint-every",
        "10",
        "--dispatch",
        "4",
    ],
]
pytestmark = pytest.mark.slow


def finish(*processes):
    said = [process.communicate(timeout=300)[0] for process in processes]
    return [process.returncode for process in processes], said


def losses(directory, kind="step"):
    return [line["nats"] for line in record.read_lines(directory / "metrics.jsonl", kind=kind)]


def together(port, *argv, devices=2):
    """Two processes that train together, of so many devices each."""
    both = ["--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--devices", str(devices)]
    return [start(*argv, *both, "--process", str(k)) for k in range(2)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    assert finish(start(*TRAINING, "--results", results, "--run", "a"))[0] == [0]
    return results / "char_lm" / "a"


def assert_close(directory, alone):
    """The losses of one device, to rounding: 30 updates apart, in float32."""
    for kind in ("step", "validation"):
        np.testing.assert_allclose(losses(directory, kind), losses(alone, kind), rtol=1e-5)


def test_eight_devices_are_one_and_go_on_as_two(alone, tmp_path):
    """A checkpoint of eight devices is read on two."""
    argv = [*TRAINING, "--results", tmp_path, "--run", "a"]
    status, said = finish(start(*argv, "--devices", "8"))
    assert status == [0], said
    directory = tmp_path / "char_lm" / "a"
    assert_close(directory, alone)
    manifests = checkpoints.manifests(directory / "checkpoints")
    manifests[30].unlink()
    manifests[20].unlink()
    status, said = finish(start("--resume", directory, "--devices", "2"))
    assert status == [0], said
    assert "goes on after step 10 of 30" in said[0]
    assert_close(directory, alone)


def test_units_over_devices_are_the_same_model(alone, tmp_path):
    argv = [*TRAINING, "--results", tmp_path, "--run", "a", "--devices", "2", "--split", "units"]
    status, said = finish(start(*argv))
    assert status == [0], said
    assert_close(tmp_path / "char_lm" / "a", alone)


def test_two_processes_are_one(alone, tmp_path):
    status, said = finish(*together(free_port(), *TRAINING, "--results", tmp_path, "--run", "a"))
    assert status == [0, 0], said
    assert_close(tmp_path / "char_lm" / "a", alone)


@pytest.mark.parametrize("dead", [pytest.param(0, marks=pytest.mark.every), 1])
def test_where_one_process_is_killed_the_other_says_so_and_the_run_goes_on(dead, tmp_path):
    argv = [*TRAINING, "--results", tmp_path, "--run", "a", "--steps", "100000"]
    both = together(free_port(), *argv, devices=1)
    for line in both[0].stdout:
        if line.startswith("step 20/"):
            break
    both[dead].kill()
    began = time.monotonic()
    assert both[1 - dead].wait(timeout=60) != 0
    said = both[1 - dead].stdout.read()  # with what the loop above has read ahead
    assert "another process is gone" in said or "distributed service detected" in said, said
    assert time.monotonic() - began < 60
    both[dead].communicate()
    for process in both:
        process.stdout.close()
    directory = tmp_path / "char_lm" / "a"
    done = len(losses(directory)) + 10
    status, said = finish(start("--resume", directory, "--force", "--steps", done))
    assert status == [0], said
    assert len(losses(directory)) == done


@pytest.mark.slow
def test_a_signal_to_one_of_two_ends_both_at_one_step(tmp_path):
    argv = [*TRAINING, "--results", tmp_path, "--run", "a", "--steps", "100000"]
    both = together(free_port(), *argv, devices=1)
    for line in both[0].stdout:
        if line.startswith("step 20/"):
            break
    both[1].send_signal(signal.SIGTERM)
    status, said = finish(*both)
    assert status == [143, 143], said
