"""Files beside other readers and writers, behind links, with modes, and where no file stands."""

import os
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm.files import disk, inspect

SAVE = """
import sys, time, numpy as np, jax_lstm as jl, os
def wait(*args):
    print("ready", flush=True)
    time.sleep(60)
os.replace = wait
jl.save(sys.argv[1], np.zeros(3, np.float32))
"""


def test_a_reader_beside_three_writers_sees_a_whole_file(tmp_path):
    """Its bytes are those of one save, its length never another, and nobody fails."""
    path, over, failed = tmp_path / "a.safetensors", threading.Event(), []
    jl.save(path, np.zeros(50_000), notes=0)
    size = path.stat().st_size

    def save_again(n):
        try:
            while not over.is_set():
                jl.save(path, np.full(50_000, n, float), notes=n)
        except Exception as error:
            failed.append(error)

    writers = [threading.Thread(target=save_again, args=(n,)) for n in (1, 2, 3)]
    for thread in writers:
        thread.start()
    for _ in range(40):
        found = jl.load(path)
        assert (np.asarray(found.tree) == found.notes).all()
        assert all(path.stat().st_size == size for _ in range(50))
    over.set()
    for thread in writers:
        thread.join()
    assert not failed
    assert list(tmp_path.iterdir()) == [path]


def test_a_save_that_is_killed_leaves_nothing_that_stays(tmp_path):
    path = tmp_path / "a.safetensors"
    command = [sys.executable, "-c", SAVE, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        (beside,) = tmp_path.iterdir()
        jl.save(path, np.ones(2))
        assert set(tmp_path.iterdir()) == {path, beside}  # whoever writes it is alive
        child.kill()
    mine = tmp_path / f".{path.name}.part"
    mine.write_bytes(b"mine")
    jl.save(path, np.ones(2))
    assert set(tmp_path.iterdir()) == {path, mine}


def test_a_link_is_followed(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    for _ in range(2):  # first there is nothing at its end
        link.unlink(missing_ok=True)
        link.symlink_to("target")
        jl.save(link, np.ones(3))
        assert link.is_symlink()
        assert jl.load(target).tree.shape == (3,)
    assert set(tmp_path.iterdir()) == {target, link}


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_a_mode_is_kept(mode, tmp_path):
    path = tmp_path / "a"
    path.touch()
    path.chmod(mode)
    jl.save(path, np.ones(3))
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_has_the_mode_of_all_new_files(tmp_path):
    (tmp_path / "a").touch()
    disk.write(tmp_path / "b", b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_what_is_no_file_of_bytes_is_neither_written_nor_read(tmp_path):
    os.mkfifo(tmp_path / "fifo.npz")
    # A device of this test's own: another process may have put a file in the place of /dev/null.
    ours, theirs = os.openpty()
    device = os.ttyname(theirs)
    (tmp_path / "link").symlink_to(device)
    for path in (tmp_path / "fifo.npz", tmp_path / "link", tmp_path):
        mode = path.lstat().st_mode
        for use in (lambda path: jl.save(path, np.ones(2)), jl.load):
            with pytest.raises(
                ValueError, match=r"is no regular file; it is a (FIFO|device|folder)"
            ):
                use(path)
        with pytest.raises(ValueError, match="is no file"):
            inspect.inspect(path)
        assert path.lstat().st_mode == mode
    assert stat.S_ISCHR(os.stat(device).st_mode)
    os.close(ours)
    os.close(theirs)


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "none" / "a"
    with pytest.raises(FileNotFoundError) as error:
        jl.save(path, np.ones(2))
    assert error.value.filename == str(path)


def test_a_long_name(tmp_path):
    path = tmp_path / ("é" * 127)  # 254 bytes, of 255
    jl.save(path, np.ones(2))
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_full_is_named_and_the_old_file_stays(tmp_path):
    resource = pytest.importorskip("resource")
    path, before = tmp_path / "a", resource.getrlimit(resource.RLIMIT_FSIZE)
    jl.save(path, np.ones(2), notes="old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as error:
            jl.save(path, np.ones(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.filename == str(path)
    assert jl.load(path).notes == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("behind", [b"", b'{"half', b"\0" * 9000, b"x" * 5000])
def test_a_line_is_whole_or_not_there(behind, tmp_path):
    """What an interruption left behind the last newline goes with the next line."""
    path = tmp_path / "lines"
    path.write_bytes(b"one\n" + behind)
    disk.append(path, b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"
    path.write_bytes(behind)
    disk.append(path, b"two\n")
    assert path.read_bytes() == b"two\n"


def test_a_line_that_does_not_fit_is_taken_back(tmp_path):
    resource = pytest.importorskip("resource")
    path, before = tmp_path / "lines", resource.getrlimit(resource.RLIMIT_FSIZE)
    disk.append(path, b"one\n")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as error:
            disk.append(path, b"x" * 2000 + b"\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.filename == str(path)
    assert path.read_bytes() == b"one\n"
