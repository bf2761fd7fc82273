"""FILES AS A WHOLE: written beside their place and moved there, read once, and regular files alone.

A reader beside writers sees the old or the new file. A writer holds a lock on the file that it
writes until it stands in its place: what another finds there without a lock was left by a save that
was killed, and is removed.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
import sys
from pathlib import Path

from jax_lstm import printing

if sys.platform != "win32":
    import fcntl

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
MOST_SAID = 2000  # characters of a complaint: a name or a version may have millions
LONGEST = 200  # bytes of a name that the name beside it repeats: a file system takes 255


@contextlib.contextmanager
def reading(path):
    """Whatever a file leads its reader to is a ValueError that names it, in printable letters."""
    try:
        yield
    except Exception as error:  # strange bytes may lead a parser to any of them
        if isinstance(error, OSError) and error.filename is not None:
            raise
        said = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        said = said if str(path) in said else f"{path} cannot be read: {said}"
        raise ValueError(printing.printable(printing.shorten(said, MOST_SAID))) from None


def check_regular(path, mode):
    """Complain about what is no file of bytes: a device has no end, and a FIFO waits."""
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "something else")
        raise ValueError(f"{path} is no regular file; it is {kind}")


@contextlib.contextmanager
def open_regular(path):
    """(the file, opened for reading, its size in bytes)."""
    check_regular(path, os.stat(path).st_mode)  # first: to open a FIFO is to wait
    with open(path, "rb") as file:
        found = os.fstat(file.fileno())
        check_regular(path, found.st_mode)
        yield file, found.st_size


def read(path, most=None):
    """The bytes of a file, read once.

    Args:
      path: of a regular file.
      most: bytes that it may have; None: any number.

    Returns:
      bytes.

    Raises:
      ValueError: no regular file, or a larger one.
      OSError: no such file, or one that cannot be read.
    """
    with open_regular(path) as (file, size):
        check_size(path, size, most)
        parts = []
        while size > 0 and (part := file.read(min(size, 2**30))):  # one call reads 2 GiB at most
            parts.append(part)
            size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def check_size(path, size, most):
    if most is not None and size > most:
        raise ValueError(f"{path} has {size:,} bytes; at most {most:,} are read")


def write(path, data, mode=0o666):
    """The bytes as a whole, or the file as it was: written beside it, then moved into its place.

    Args:
      path: of the file. A link is followed; what stands there keeps its mode and, where that is
        allowed, its owner.
      data: bytes.
      mode: of a file that is new, less what the umask takes.

    Raises:
      ValueError: something stands there that is no regular file.
      OSError: it cannot be written; the old file is whole then, and nothing is left beside it.
    """
    try:
        old = os.stat(path)
        check_regular(path, old.st_mode)
    except FileNotFoundError:
        old = None
    path = Path(os.path.realpath(path))
    remove_leftovers(path)
    mode = mode if old is None else stat.S_IMODE(old.st_mode) & 0o777
    try:
        beside, file = open_beside(path, mode)
    except OSError as error:
        raise named(error, path) from None
    try:
        with file:
            keep_owner_and_mode(file.fileno(), old)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if sys.platform == "win32":  # there an open file cannot be moved
                file.close()
            os.replace(beside, path)
    except OSError as error:
        raise named(error, path) from None
    finally:
        beside.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not every system can sync a folder
        sync_folder(path.parent)


def named(error, path):
    """An OSError that says of which file it is."""
    return OSError(error.errno, error.strerror, str(path))


def open_beside(path, mode):
    """(path, file) of a new file in the same folder, locked."""
    while True:
        beside = path.with_name(f"{stem_beside(path)}{secrets.token_hex(8)}.part")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with contextlib.suppress(FileExistsError):
            file = os.fdopen(os.open(beside, flags, mode), "wb")
            if sys.platform == "win32" or holds_lock(file.fileno()):
                return beside, file
            file.close()  # who looked for leftovers was faster, and removed it


def stem_beside(path):
    return f".{os.fsdecode(os.fsencode(path.name)[:LONGEST])}."


if sys.platform != "win32":

    def holds_lock(file):
        """Lock a file of ours that is not there yet; whether it still has a name."""
        with contextlib.suppress(OSError):  # a file system without locks has no leftovers removed
            fcntl.flock(file, fcntl.LOCK_EX)
        return os.fstat(file).st_nlink > 0

    def remove_leftovers(path):
        """Remove what a killed save left beside the path: nobody holds its lock."""
        ours = re.compile(re.escape(stem_beside(path)) + r"[0-9a-f]{16}\.part", re.DOTALL)
        with contextlib.suppress(OSError):
            for name in os.listdir(path.parent):
                if ours.fullmatch(name):
                    with contextlib.suppress(OSError):
                        remove_unlocked(path.with_name(name))

    def remove_unlocked(leftover):
        file = os.open(leftover, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(leftover)
        finally:
            os.close(file)

    def keep_owner_and_mode(file, old):
        if old is not None:
            with contextlib.suppress(PermissionError):
                os.fchown(file, old.st_uid, old.st_gid)
            if os.fstat(file).st_mode != old.st_mode:
                os.fchmod(file, stat.S_IMODE(old.st_mode))

    def sync_folder(folder):
        """What was moved stays moved when the power fails."""
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)

else:

    def remove_leftovers(path):
        """There is no lock to tell them by."""

    def keep_owner_and_mode(file, old):
        """The folder says who may read."""

    def sync_folder(folder):
        """It cannot be opened."""


# Lines ----------------------------------------------------------------------------------------


def append(path, line):
    """One more line at the end of a file, whole or not at all.

    Args:
      path: of a regular file, or of none yet. What stands behind its last newline was left by an
        interruption, and goes.
      line: bytes that end in a newline.

    Raises:
      OSError: not all of it could be written; the file ends in its last whole line then.
    """
    with open(path, "a+b", buffering=0) as file:
        check_regular(path, os.fstat(file.fileno()).st_mode)
        end, size = end_of_lines(file)
        if end < size:
            file.truncate(end)
        left = memoryview(line)
        try:
            while left:  # a full disk takes a part, and complains about the rest
                wrote = file.write(left)
                if not wrote:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                left = left[wrote:]
        except BaseException as error:  # also Ctrl-C between two parts
            file.truncate(end)
            if isinstance(error, OSError):
                raise named(error, path) from None
            raise


def end_of_lines(file):
    """Where the last newline of a file ends, and where the file does."""
    at = size = file.seek(0, os.SEEK_END)
    step = 1  # in most files the last byte is the newline
    while at > 0:
        step = min(at, step)
        file.seek(at - step)
        newline = file.read(step).rfind(b"\n")
        if newline >= 0:
            return at - step + newline + 1, size
        at, step = at - step, 4096
    return 0, size
