"""A FILE RUN APART: a process that runs a student's file, and this side of the pipe to it.

What the file may use is bounded: the time of each answer and of all, processor time, memory, and
what it prints, which goes to the error stream. What comes back is read as arrays and never
executed. It bounds accidents; it is no sandbox: the file can do what its user can.
"""

import contextlib
import io
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from jax_lstm.files.arrays import arrays_of_archive
from jax_lstm.files.disk import read
from jax_lstm.printing import printable
from jax_lstm.teaching import student
from jax_lstm.teaching.exercise import exercise

SECONDS = 60.0  # of all answers together
SHARE = 3  # one of them may take so small a part,
LOADING = 2  # and what the file does before, such as importing JAX, so small a one
START = 120.0  # seconds until Python has started, on any machine
MEMORY = 4 * 2**30  # bytes
PRINTED = 2**20  # bytes
LARGEST_FILE = 2**24  # bytes of source
LARGEST_ANSWER = 2**24
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",  # an accelerator is whoever's asks
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_MATMUL_PRECISION": "highest",
    "JAX_NUMPY_RANK_PROMOTION": "allow",  # x @ W + b is what people write
    "JAX_NUMPY_DTYPE_PROMOTION": "standard",
    "PYTHONIOENCODING": "utf-8:backslashreplace",
}
BOOT = "import runpy, sys; sys.path[:] = {}; runpy.run_path({!r}, run_name='__main__')"


class Ended(Exception):
    """The process gave no answer, and why."""


class Apart:
    """A student's file in a process of its own, started anew where a function ended it.

    with Apart(path, names) as ask:
        verdict, found = ask("sigmoid_bwd", names, given)      as `student.answer` has them

    Raises:
      ValueError: a file that cannot be read, is not Python, or cannot be run to its end.
    """

    def __init__(self, path, wanted, seconds=SECONDS):
        self.wanted, self.path, self.seconds, self.left = wanted, str(path), seconds, seconds
        try:
            self.source = read(path, LARGEST_FILE)
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from None
        self.limits = int(seconds * (os.cpu_count() or 1)) + 10, MEMORY
        self.process: Any = None
        self.follows: Any = None
        self.why, self.token, self.answers = "", b"", queue.Queue()
        self.names: tuple[str, ...] = ()

    def __enter__(self):
        try:
            self.start()
        except Ended as error:
            self.end()
            raise ValueError(f"{self.path} cannot be run: it {error}") from None
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *error):
        self.end()

    def __call__(self, question, names, given):
        """(verdict, found); WRONG and the reason where the function ended the process."""
        try:
            if self.process is None:
                self.start()
            return self.ask((question, names, given))
        except (Ended, ValueError) as error:
            self.end()
            return student.WRONG, str(error)

    def start(self):
        """The process, with the file run in it."""
        if self.left <= 0:
            raise Ended(f"was not run: the file has used the {self.seconds:g} seconds that it had")
        self.why, self.process = "", self.begin()
        self.answers = queue.Queue()
        for follow in (self.follow_answers, self.follow_prints):
            self.follows = threading.Thread(target=follow, args=(self.process,), daemon=True)
            self.follows.start()
        solution, source = (
            np.frombuffer(x, np.uint8)
            for x in (exercise(numpy=True, solution=True).encode(), self.source)
        )
        self.ask((self.limits, solution), more=START)
        verdict, found = self.ask((source, self.path, self.wanted), LOADING)
        if verdict:
            self.end()
            raise ValueError(printable(found))
        self.names = tuple(k for k in self.wanted if k in found)

    def begin(self):
        script = str(Path(student.__file__))
        return subprocess.Popen(
            [sys.executable, "-c", BOOT.format(sys.path, script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | ENVIRONMENT,
            start_new_session=True,  # Ctrl-C is for us, and who it starts ends with it
        )

    # Questions

    def ask(self, tree, share=SHARE, more=0.0):
        """The answer to a question; Ended where there is none in its share of the time."""
        self.token = token = secrets.token_bytes(8)
        began = time.monotonic()
        allowed = min(self.seconds / share, self.left) + more
        data = student.encode(tree)
        try:
            self.process.stdin.write(token + len(data).to_bytes(8, "little") + data)
            self.process.stdin.flush()
            answered, data = self.answers.get(timeout=allowed)
        except OSError:
            answered, data = b"", b""
        except queue.Empty:
            self.why = self.why or f"did not end within {allowed:.3g} seconds"
            answered, data = b"", b""
        self.left -= max(0.0, time.monotonic() - began - more)
        if not answered:
            raise Ended(self.how_it_ended())
        try:
            if answered != token:
                raise ValueError("another token")
            verdict, found = student.decode(
                arrays_of_archive(io.BytesIO(data), "the answer", len(data), LARGEST_ANSWER)
            )
            if verdict not in ("", student.MISSING, student.WRONG) or (
                verdict and not isinstance(found, str)
            ):
                raise ValueError("no verdict")
        except Exception:  # whatever strange bytes lead to
            raise Ended("wrote where the answers of the grader go") from None
        return verdict, found

    def how_it_ended(self):
        """In words; a process that only closed its end of the pipe is ended."""
        if self.why:
            return self.why
        try:
            status = self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return "closed the pipe to the grader"
        if self.why or status >= 0:
            return self.why or f"ended its process, with exit status {status}"
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        if name == "SIGXCPU":
            return f"used more than {self.limits[0]} seconds of processor time"
        return f"ended its process, by {name}"

    def end(self, why=""):
        """The process and all that it started."""
        self.why = self.why or why
        process, self.process = self.process, None
        if process is None:
            return
        kill(process)
        process.wait()
        self.follows.join(1.0)  # what it printed comes before what is said of it
        with contextlib.suppress(OSError):  # of what it did not read
            process.stdin.close()

    # What comes back

    def follow_answers(self, process):
        """Put every message on the queue, and an empty one at the end."""
        answers, whole = self.answers, True
        with process.stdout as file:
            while whole:
                token = read_exactly(file.fileno(), 8)
                size, data = LARGEST_ANSWER + 1, b""
                if token == self.token:
                    size = int.from_bytes(read_exactly(file.fileno(), 8), "little")
                if size <= LARGEST_ANSWER:
                    data = read_exactly(file.fileno(), size)
                answers.put((token, data))
                whole = len(data) == size
            answers.put((b"", b""))

    def follow_prints(self, process):
        """Hand on what the file prints, up to a bound."""
        printed = 0
        with process.stderr as file:
            while part := read_some(file.fileno(), 2**16):
                printed += len(part)
                if printed > PRINTED:
                    self.why = self.why or f"printed more than {PRINTED:,} bytes"
                    return kill(process)
                print(part.decode("utf-8", "replace"), end="", file=sys.stderr, flush=True)


def kill(process):
    if sys.platform == "win32":
        return process.kill()
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()


def read_some(file, most):
    try:
        return os.read(file, most)
    except OSError:
        return b""


def read_exactly(file, size):
    parts = []
    while size > 0 and (part := read_some(file, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
