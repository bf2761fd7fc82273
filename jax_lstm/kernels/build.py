"""BUILDING: a file of C++ becomes a library in the user's cache folder, once, and is loaded.

The library is named by a hash of all that it is made of: the source, the compiler's command and
version, the processor, and jaxlib, whose headers it includes. What has changed is built anew beside
what there was. It is written beside its place and moved there (files/disk.py): of two processes
that build at once both may, and each loads a whole file.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import jax
import jaxlib.version

from jax_lstm import printing
from jax_lstm.files import disk

COMPILERS = ("c++", "g++", "clang++")
# No -ffast-math: NaN would vanish, and exponentials would be wrong. A product and a sum may be one
# rounding. These stand last, so that they hold whatever $CXXFLAGS says.
FLAGS = ("-std=c++17", "-O2", "-march=native", "-fno-fast-math", "-ffp-contract=fast")
FLAGS += ("-fPIC", "-shared", "-pthread", "-w")
MOST_SAID = 4000  # characters of what a compiler says


@functools.cache
def load(source: Path) -> ctypes.CDLL:
    """The library of a source, built if it is not there yet.

    Args:
      source: a file of C++ that includes XLA's `xla/ffi/api/ffi.h`.

    Returns:
      The library, loaded.

    Raises:
      RuntimeError: there is no compiler, it fails, what it made cannot be loaded, or another user
        may write to it.
      OSError: the cache folder cannot be written.
    """
    path = shared_object(source)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise RuntimeError(
            f"{path} cannot be loaded: {said(error)}. Remove it, and it is built anew; where "
            "nothing in that folder may be run, set XDG_CACHE_HOME to another"
        ) from None


def shared_object(source: Path) -> Path:
    """Where the library of a source is; built there, by $CXX with $CXXFLAGS and FLAGS, if it is
    not there yet. Raises what `load` does."""
    cxx, more = compiler(), words("CXXFLAGS")
    command = [*cxx, *more, *FLAGS, "-isystem", jax.ffi.include_dir()]
    path = cache_folder() / f"{source.stem}_{key(source.read_bytes(), cxx, command)}.so"
    try:
        if not path.is_file():
            build(source, command, path)
    except OSError as error:
        error.add_note(f"{said(path)} is to be built there; $XDG_CACHE_HOME may name another place")
        raise
    check_ours(path.parent)
    check_ours(path)
    return path


def words(name):
    """A variable of the environment as a shell splits it."""
    try:
        return shlex.split(os.environ.get(name, ""))
    except ValueError as error:
        raise RuntimeError(f"${name} cannot be split into words: {error}") from None


def compiler() -> list[str]:
    """The command of the C++ compiler: $CXX, or the first of COMPILERS that is there."""
    asked = words("CXX")
    for command in [asked] if asked else [[name] for name in COMPILERS]:
        if found := shutil.which(command[0]):
            return [found, *command[1:]]
    names = f"$CXX = {shlex.join(asked)}" if asked else f"$CXX, {', '.join(COMPILERS)}"
    raise RuntimeError(
        f"jax_lstm.kernels is compiled at its first use, and there is no C++ compiler: looked for "
        f"{said(names)}. Install one (apt-get install g++), or use jax_lstm.lstm, which needs none"
    )


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/jax_lstm, by default ~/.cache/jax_lstm."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(home) if os.path.isabs(home) else Path.home() / ".cache"  # so the standard has it
    return home / "jax_lstm"


def check_ours(path):
    """Complain where somebody else may have written what we would run: only root and we may."""
    found = os.stat(path)
    why = ""
    if found.st_uid not in (0, os.geteuid()):
        why = f"it belongs to user {found.st_uid}"
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        why = f"its mode is {stat.S_IMODE(found.st_mode):o}"
    if why:
        raise RuntimeError(
            f"{said(path)} is not loaded: others may write to it; {why}. Look at what is there, "
            "then chmod go-w, or set XDG_CACHE_HOME to a folder of yours"
        )


def key(code, cxx, command):
    """A hash of all that the library is made of."""
    version = run([*cxx, "--version"]).stdout
    parts = (code, *command, version, processor(), jaxlib.version.__version__)
    parts = (part if isinstance(part, bytes) else os.fsencode(part) for part in parts)
    return hashlib.sha256(b"\0".join(hashlib.sha256(p).digest() for p in parts)).hexdigest()[:24]


def run(command):
    """A compiler's run: it is asked nothing, and what it says is kept."""
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:  # a file that is called a program and is none
        raise RuntimeError(
            f"the C++ compiler cannot be run at {said(shlex.join(command))}: {error.strerror}"
        ) from None


def processor():
    """What -march=native goes by: another processor with the same home has a library of its own."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    of_one = (line for line in lines if line.startswith(("model name", "flags", "CPU", "Features")))
    return "\n".join(sorted(set(of_one)))


def build(source, command, path):
    """Compile a source into the path, as a whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_ours(path.parent)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / path.name
        command = [*command, str(source), "-o", str(made)]
        done = run(command)
        if done.returncode or not made.is_file():
            what = f"exit status {done.returncode}" if done.returncode else "it made no file"
            raise RuntimeError(
                f"the C++ compiler failed ({what}) at {said(shlex.join(command))}\n"
                f"{said(done.stderr.strip() or 'It said nothing.')}"
            )
        disk.write(path, made.read_bytes(), mode=0o600)


def said(text):
    """What another program says, shortened and in printable letters, line by line."""
    lines = printing.shorten(str(text), MOST_SAID).splitlines()
    return "\n".join(printing.printable(line) for line in lines)
