"""Checkpoints of a training, in FOLDER/checkpoints, by orbax.

    000000400.json        the manifest: sha256 of every file of the checkpoint, and the run's notes
    000000400-1f0c92ab/   what orbax wrote, arrays by name

orbax knows no checksums, so the manifest has them, and one of itself. It is written last and as a
whole: a checkpoint counts from then on, and what a killed run left without one is removed by the
next save. Nothing here is ever unpickled.
"""

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.kit import record
from experiments.kit.config import BadInput, Failed
from jax_lstm.files import disk

if sys.platform != "win32":
    import fcntl

KEPT = 3  # the last ones; one of them may be damaged


class Checkpoint(NamedTuple):
    """What stands in one: arrays by name, and the notes that were saved with them."""

    step: int
    arrays: dict[str, np.ndarray]
    notes: dict


class Damaged(ValueError):
    """A checkpoint is not what its manifest says."""


class Unwritten(Exception):
    """orbax could not write."""


def folder_of(directory):
    return Path(directory) / "checkpoints"


@contextlib.contextmanager
def locked(directory, option="--resume", wait=False):
    """Hold the folder: the lock is the process's, and goes with it, however it ends. `wait` for
    one who holds it, or complain by the option's name."""
    if sys.platform == "win32" or jax.process_index():
        yield
        return
    file = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise BadInput(option, f"another run is writing in {directory}") from None
    except OSError as error:  # a file system without locks
        print(f"{directory} cannot be locked ({error.strerror}): start one run", file=sys.stderr)
    try:
        yield
    finally:
        os.close(file)


# Writing --------------------------------------------------------------------------------------


def checkpointer():
    """orbax's, of this process alone: what is written is whole in the memory of one."""
    import orbax.checkpoint as ocp  # it takes a second to import

    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def save(directory, step, arrays, notes):
    """One more checkpoint; of the older ones the last few are kept.

    Args:
      directory: the run's folder.
      step: updates so far.
      arrays: {name: NumPy array}.
      notes: what JSON can say.

    Raises:
      Failed: it could not be written. Those before it are as they were.
    """
    folder = folder_of(directory)
    name = f"{step:09d}-{secrets.token_hex(4)}"
    try:
        folder.mkdir(exist_ok=True)
        remove_leftovers(folder)
        write_arrays((folder / name).absolute(), arrays)
        files = {str(path.relative_to(folder / name)): path for path in files_in(folder / name)}
        content = {
            "step": step,
            "folder": name,
            "files": {at: digest_and_sync(path) for at, path in sorted(files.items())},
            "notes": notes,
        }
        for path in sorted({path.parent for path in files.values()} | {folder}):
            disk.sync_folder(path)
        sealed = {"sha256": digest(canonical(content)), "content": content}
        disk.write(folder / f"{step:09d}.json", json.dumps(sealed).encode())
    except (OSError, Unwritten) as error:
        shutil.rmtree(folder / name, ignore_errors=True)
        for left in folder.glob(f"{name}*"):
            shutil.rmtree(left, ignore_errors=True)
        raise Failed(
            f"{folder / name}: the checkpoint of step {step} cannot be written: {said(error)}; "
            f"{record.SO_FAR}"
        ) from error
    remove_others(folder, step)


def write_arrays(path, arrays):
    """By orbax, into a folder of its own.

    Raises:
      Unwritten: orbax could not.
    """
    with told_once(), deaf_to_closed_loops():
        try:
            checkpointer().save(path, arrays)
        except Exception as error:  # of this one call, for which orbax names no class
            raise Unwritten(said(error)) from error


def said(error):
    """The first line of what it says."""
    return f"{(str(error) or type(error).__name__).splitlines()[0]:.300}"


@contextlib.contextmanager
def deaf_to_closed_loops():
    """Where a write fails, threads of tensorstore still tell asyncio of other writes that failed,
    after orbax has closed its loop. What that raises can reach nobody, and Python would print it
    beside our sentence. It may come late, so a write that fails, by which a run ends, leaves the
    hook there; one that does not takes it away."""
    before = sys.unraisablehook

    def hook(found):
        closed = str(found.exc_value) == "Event loop is closed"
        if not (closed and found.exc_type is RuntimeError):
            before(found)

    sys.unraisablehook = hook
    yield
    sys.unraisablehook = before


@contextlib.contextmanager
def told_once():
    """orbax's threads write tracebacks to absl's log of what it then raises, and we say; no other
    line of that log goes."""
    logger = logging.getLogger("absl")
    of_others = lambda line: "run() raised an exception" not in line.getMessage()
    logger.addFilter(of_others)
    try:
        yield
    finally:
        logger.removeFilter(of_others)


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def canonical(content):
    return json.dumps(content, sort_keys=True).encode()


def digest(data):
    return hashlib.sha256(data).hexdigest()


def digest_and_sync(path):
    """[bytes, sha256] of a file, which then is on the disk and not on its way."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        found = hashlib.file_digest(file, "sha256").hexdigest()
        return [file.tell(), found]


def manifests(folder):
    """{step: path}, the last one first."""
    found = {int(path.stem): path for path in folder.glob("*.json") if path.stem.isdecimal()}
    return dict(sorted(found.items(), reverse=True))


def remove_others(folder, step):
    """Older ones than the last few, and later ones, which were damaged and passed over."""
    found = manifests(folder)
    older = [at for at in found if at <= step]
    for at in found.keys() - set(older[:KEPT]):
        found[at].unlink(missing_ok=True)
    remove_leftovers(folder)


def remove_leftovers(folder):
    """What no manifest names: left by a save that was killed, or of a manifest that is gone."""
    named = set()
    for path in manifests(folder).values():
        try:
            named.add(read_manifest(path)["folder"])
        except Damaged:
            named |= {other.name for other in folder.glob(f"{path.stem}-*")}
    for path in folder.iterdir():
        if path.is_dir() and path.name not in named:
            shutil.rmtree(path, ignore_errors=True)


# Reading --------------------------------------------------------------------------------------


def read_manifest(path):
    try:
        sealed = record.read_json(path)
        content = sealed["content"]
        if sealed["sha256"] != digest(canonical(content)):
            raise Damaged(f"{path}: its sha256 is not the one it names")
        return content
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise Damaged(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def read(path):
    """The Checkpoint of a manifest.

    Raises:
      Damaged: a file is missing, or has another sha256, or cannot be read.
    """
    content = read_manifest(path)
    folder = path.parent / content["folder"]
    there = {str(p.relative_to(folder)): p for p in files_in(folder)} if folder.is_dir() else {}
    for name, (size, sha256) in content["files"].items():
        if name not in there:
            raise Damaged(f"{folder / name} is missing")
        try:
            found = digest_and_sync(there[name])
        except OSError as error:
            raise Damaged(f"{folder / name}: {error.strerror}") from None
        if found[0] != size:
            raise Damaged(f"{folder / name} has {found[0]} bytes in place of {size}")
        if found[1] != sha256:
            raise Damaged(f"{folder / name}: its sha256 differs")
    for name in there.keys() - content["files"].keys():
        raise Damaged(f"{folder / name} is not in the manifest")
    try:
        arrays = checkpointer().restore(folder.absolute())
    except Exception as error:  # of this one call, for which orbax names no class
        raise Damaged(f"{folder}: {said(error)}") from None
    arrays = {name: np.asarray(x) for name, x in arrays.items()}
    return Checkpoint(content["step"], arrays, content["notes"])


def last_good(directory, say=None):
    """The last whole Checkpoint of a run, or None where none was ever finished.

    Args:
      directory: the run's folder.
      say: called with a sentence about each one that is damaged and passed over.

    Raises:
      Failed: there are checkpoints, and all of them are damaged.
    """
    complaints = []
    for step, path in manifests(folder_of(directory)).items():
        try:
            found = read(path)
            if complaints and say:
                say(f"the checkpoint of step {step} is used, the last one that is whole")
            return found
        except Damaged as error:
            complaints.append(str(error))
            if say:
                say(f"the checkpoint of step {step} is damaged: {error}")
    if complaints:
        raise Failed(f"every checkpoint of {directory} is damaged: {'; '.join(complaints)}")
    return None


# Trees ----------------------------------------------------------------------------------------


def arrays_of(tree):
    """{name: NumPy array} of a tree on one device; PRNG keys as their numbers."""
    return {name: np.asarray(numbers_of(x)) for name, x in record.leaves(tree).items()}


def numbers_of(x):
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def tree_of(arrays, like, where):
    """The tree of `like` with the arrays of those names.

    Raises:
      Failed: other names, shapes or dtypes.
    """
    wanted = record.leaves(like)
    for name in wanted.keys() ^ arrays.keys():
        raise Failed(f"{where}: the checkpoint {'lacks' if name in wanted else 'has'} {name}")
    found = []
    for name, want in wanted.items():
        have, numbers = arrays[name], numbers_of(want)
        have = have.astype(numbers.dtype) if have.shape == () else have
        if (have.shape, have.dtype) != (numbers.shape, numbers.dtype):
            raise Failed(
                f"{where}: {name} is {have.dtype} {have.shape} in the checkpoint; the options "
                f"want {numbers.dtype} {numbers.shape}"
            )
        is_key = numbers is not want
        found.append(jax.random.wrap_key_data(have) if is_key else have)
    return jax.tree.unflatten(jax.tree.structure(like), found)
