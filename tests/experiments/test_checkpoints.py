"""Checkpoints that are damaged, half written, or held by another run; on a full disk, too."""

import errno
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from experiments.kit import checkpoints
from experiments.kit.config import BadInput, Failed

ROOT = Path(__file__).parents[2]


def arrays(n):
    rng = np.random.default_rng(n)
    return {
        "training.params.W": rng.normal(size=(3, 4)).astype(np.float32),
        "training.opt_state.0.count": np.int32(n),
        "training.carry.key": rng.integers(2**32, size=2, dtype=np.uint32),
    }


def save(directory, *steps):
    for step in steps:
        checkpoints.save(directory, step, arrays(step), {"batches": step})
    return directory / "checkpoints"


def assert_is(found, step):
    assert (found.step, found.notes) == (step, {"batches": step})
    for name, want in arrays(step).items():
        np.testing.assert_array_equal(found.arrays[name], want)
        assert found.arrays[name].dtype == want.dtype or want.shape == ()


def test_the_last_ones_are_kept_and_the_last_is_read(tmp_path):
    assert checkpoints.last_good(tmp_path) is None
    folder = save(tmp_path, 0, 10, 20, 30, 40)
    assert sorted(checkpoints.manifests(folder)) == [20, 30, 40]
    assert len(list(folder.iterdir())) == 6
    assert_is(checkpoints.last_good(tmp_path), 40)
    save(tmp_path, 40)  # again: another folder takes its place
    assert len(list(folder.iterdir())) == 6
    assert_is(checkpoints.last_good(tmp_path), 40)


def test_every_damage_of_every_file_is_found(tmp_path):
    """Truncated, a bit flipped, missing, or a file more: the one before it is used, and said."""
    folder = save(tmp_path, 10, 20)
    manifest = checkpoints.manifests(folder)[20]
    files = [
        manifest,
        *checkpoints.files_in(folder / checkpoints.read_manifest(manifest)["folder"]),
    ]
    assert len(files) >= 6
    for path in files:
        whole = path.read_bytes()
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        for damage in (whole[:-1], whole[:middle], b"", flipped, flipped[:-1], None):
            path.unlink() if damage is None else path.write_bytes(damage)
            said = []
            assert_is(checkpoints.last_good(tmp_path, said.append), 10)
            if damage is not None or path != manifest:
                assert "the checkpoint of step 20 is damaged: " in said[0]
                assert path.name in said[0]
                assert "the checkpoint of step 10 is used" in said[1]
            path.write_bytes(whole)
    assert_is(checkpoints.last_good(tmp_path), 20)
    (files[-1].parent / "more").write_bytes(b"")
    assert_is(checkpoints.last_good(tmp_path), 10)


def test_where_all_are_damaged_nothing_begins_anew(tmp_path):
    folder = save(tmp_path, 10, 20)
    for manifest in checkpoints.manifests(folder).values():
        manifest.write_bytes(b"{}")
    with pytest.raises(Failed, match=r"every checkpoint of .* is damaged: .*20\.json.*10\.json"):
        checkpoints.last_good(tmp_path)


def test_what_a_killed_save_left_is_no_checkpoint_and_goes(tmp_path):
    folder = save(tmp_path, 10)
    for name in ("000000020-00000000", "000000020-00000000.orbax-checkpoint-tmp"):
        (folder / name).mkdir()
        (folder / name / "d").write_bytes(b"1")
    assert_is(checkpoints.last_good(tmp_path), 10)
    save(tmp_path, 30)
    assert len(list(folder.iterdir())) == 4
    (folder / "000000040.json").write_bytes(b"damaged")  # it was passed over: its steps come again
    save(tmp_path, 35)
    assert sorted(checkpoints.manifests(folder)) == [10, 30, 35]


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("checkpointer", RuntimeError("RESOURCE_EXHAUSTED: No space left on device\nmore")),
        ("digest_and_sync", OSError(errno.ENOSPC, "No space left on device")),
    ],
)
def test_a_save_that_fails_leaves_what_was(where, error, tmp_path, monkeypatch):
    folder = save(tmp_path, 10)
    hook = sys.unraisablehook

    def fail(*args, **options):
        raise error

    monkeypatch.setattr(sys, "unraisablehook", hook)  # a save that fails leaves its own
    monkeypatch.setattr(checkpoints, where, fail)
    with pytest.raises(Failed, match=r"step 20 cannot be written: .*No space left on device; what"):
        save(tmp_path, 20)
    monkeypatch.undo()
    assert len(list(folder.iterdir())) == 2
    assert_is(checkpoints.last_good(tmp_path), 10)
    save(tmp_path, 20)
    assert sys.unraisablehook is hook


def test_what_threads_say_of_a_closed_loop_alone_is_not_heard(monkeypatch):
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    closed, other = (
        types.SimpleNamespace(exc_type=RuntimeError, exc_value=RuntimeError(says))
        for says in ("Event loop is closed", "another")
    )
    with pytest.raises(checkpoints.Unwritten), checkpoints.deaf_to_closed_loops():
        raise checkpoints.Unwritten
    sys.unraisablehook(closed)
    sys.unraisablehook(other)
    assert heard == [other]


def test_a_full_disk(tmp_path):
    """A file system of 256 KiB, where the system lets us have one: the test above takes the same
    way with a disk that only says that it is full, everywhere."""
    mounted = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
    try:
        done = subprocess.run(mounted, capture_output=True)
    except FileNotFoundError:
        pytest.skip("a full disk is a small tmpfs here, and this system has no `mount`")
    if done.returncode:
        pytest.skip("a full disk is a small tmpfs here, which this user may not mount")
    try:
        folder = save(tmp_path, 10)
        large = {"W": np.random.default_rng(0).normal(size=(400, 400))}
        with pytest.raises(Failed, match="the checkpoint of step 20 cannot be written"):
            checkpoints.save(tmp_path, 20, large, {})
        assert len(list(folder.iterdir())) == 2
        assert_is(checkpoints.last_good(tmp_path), 10)
        save(tmp_path, 20)
        assert_is(checkpoints.last_good(tmp_path), 20)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_folder_is_one_run_s_as_long_as_its_process_lives(tmp_path):
    code = (
        "import sys; from experiments.kit.checkpoints import locked\n"
        f"with locked({str(tmp_path)!r}):\n    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(BadInput, match="another run is writing in"),
            checkpoints.locked(tmp_path),
        ):
            pass
        holder.kill()
    with checkpoints.locked(tmp_path):
        pass
