"""What a run leaves behind on a full disk, and what it refuses before it begins."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.char_lm import run as char_lm
from experiments.kit import command, config, record, text
from experiments.kit.config import BadInput

ROOT = Path(__file__).parents[2]


def test_lines_are_read_up_to_a_broken_last_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for n in range(3):
        record.append(path, kind="step", n=n)
    whole = path.read_bytes()
    for behind in (b"", b'{"kind": "st', b'{"kind": "st\n', b"\0" * 5000, b"\xc3"):
        path.write_bytes(whole + behind)
        assert [line["n"] for line in record.read_lines(path, kind="step")] == [0, 1, 2]
    record.append(path, kind="step", n=3)
    assert [line["n"] for line in record.read_lines(path)] == [0, 1, 2, 3]
    for broken in (b'{"n', b"5", b"null", b"[" * 100_000):
        path.write_bytes(b'{"n": 0}\n' + broken)
        assert record.read_lines(path, n=0) == [{"n": 0}]
        path.write_bytes(b'{"n": 0}\n' + broken + b'\n{"n": 2}\n')
        with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2, is no object of JSON"):
            record.read_lines(path)


def test_a_folder_is_named_with_a_slash_and_has_no_size(tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "metrics.jsonl").write_bytes(b"{}\n")
    with pytest.raises(KeyboardInterrupt), record.explain_interruption(tmp_path):
        raise KeyboardInterrupt
    lines = capsys.readouterr().err.splitlines()
    assert f"  {tmp_path / 'checkpoints'}/" in lines
    assert f"  {tmp_path / 'metrics.jsonl'}  (3 bytes)" in lines
    assert record.name_files(tmp_path) == f"{tmp_path}: checkpoints/, metrics.jsonl"


def test_a_full_disk_is_one_sentence_and_status_1(capsys):
    def run(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results/a/metrics.jsonl")

    assert command.main(config.BaseConfig, run, "program", "does nothing", []) == 1
    said = capsys.readouterr().err
    assert said == (
        "program: results/a/metrics.jsonl: No space left on device; what was written before it can "
        "be read\n"
    )


@pytest.mark.slow
def test_a_run_on_a_full_disk(tmp_path):
    """The first file that does not fit ends it; what was written before is whole."""
    pytest.importorskip("resource")
    code = (
        "import resource, sys; from experiments.char_lm.run import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY)); "
        f"sys.exit(main(['--tiny', '--results', {str(tmp_path)!r}, '--run', 'a']))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "0"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 1
    assert found.stderr.startswith("python -m experiments.char_lm: ")
    assert "the checkpoint of step 0 cannot be written" in found.stderr
    assert found.stderr.endswith("; what was written before it can be read\n")
    directory = tmp_path / "char_lm" / "a"
    assert {path.name for path in directory.iterdir()} == {"config.json", "checkpoints"}
    assert not list((directory / "checkpoints").iterdir())


@pytest.mark.parametrize("run", ["", ".", "..", "a/b", "/a", "a/", "a\0b"])
def test_a_run_s_name_is_a_folder_of_its_own(run, tmp_path):
    with pytest.raises(BadInput, match="--run: must be a plain name"):
        record.new_directory(tmp_path, "e", run)
    with pytest.raises(BadInput, match="--results: must be a folder"):
        record.new_directory("", "e", "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "argv",
    [
        "--hidden 1000000000000",
        f"--hidden 1{'0' * 400}",
        "--hidden 100000000",
        "--embedding 2000000000",
        "--steps 3000000000",
    ],
)
def test_sizes_that_no_machine_has(argv, tmp_path, capsys):
    with pytest.raises(SystemExit) as status:
        char_lm.main(["--tiny", "--results", str(tmp_path), *argv.split()])
    assert status.value.code == 2
    said = capsys.readouterr().err
    assert f"argument {argv.split()[0]}: " in said
    assert len(said.splitlines()) == 2
    assert not list(tmp_path.iterdir())


def test_memory_that_does_not_suffice_is_one_sentence(capsys):
    def run(_):
        raise MemoryError("Unable to allocate 7 TiB")

    assert command.main(config.BaseConfig, run, "program", "does nothing", []) == 1
    assert "not enough memory (Unable to allocate 7 TiB)" in capsys.readouterr().err


@pytest.mark.parametrize("run", ["a\nb", "\x1b[31m", "a\0"])
def test_a_name_of_a_run_is_printable(run, tmp_path):
    with pytest.raises(config.BadInput, match="--run"):
        record.new_directory(tmp_path, "e", run)
    assert not list(tmp_path.iterdir())


def test_a_device_is_no_text():
    with pytest.raises(config.BadInput, match=r"--text.* is no regular file; it is a device"):
        text.from_file("/dev/zero")
