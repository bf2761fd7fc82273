"""Ctrl-C and SIGTERM: the first one ends a run where nothing is lost, a second one at once.

Python runs handlers between two of its own instructions, so a compilation would keep both waiting.
What takes long is done in a thread (`aside`) for which the main thread waits with open ears, and
the second signal is read off a pipe, by a thread of its own.
"""

import contextlib
import importlib
import os
import signal
import sys
import threading

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal asked the run to end; `status` is the exit status for it: 130 or 143."""

    def __init__(self, signum=signal.SIGINT):
        super().__init__()
        self.status = 128 + signum


class Request:
    """Whether a signal has asked, and which one."""

    signum: int | None = None

    def check(self):
        if self.signum is not None:
            raise Stopped(self.signum)


@contextlib.contextmanager
def handled(handler):
    """Both signals go to the handler; nothing is done where this is no main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, handler) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)


@contextlib.contextmanager
def at_once():
    """A signal is raised as Stopped; a second one ends the process at once, whatever it does."""

    def stop(signum, _):
        raise Stopped(signum)

    with second_ends(), handled(stop):
        yield


@contextlib.contextmanager
def later():
    """A Request that a signal sets: for code that asks it where nothing is lost."""
    request = Request()

    def note(signum, _):
        request.signum = signum

    with handled(note):
        yield request


@contextlib.contextmanager
def second_ends():
    """From the second signal on, the process ends in a thread that hears it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    listening, told = os.pipe()
    os.set_blocking(told, False)

    def listen():
        heard = b""
        while byte := os.read(listening, 1):
            heard += byte if byte[0] in SIGNALS else b""
            if len(heard) == 2:
                os._exit(128 + byte[0])
        os.close(listening)

    threading.Thread(target=listen, daemon=True).start()
    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(told)


def aside(work, *args):
    """What `work(*args)` returns, done in a thread, so that signals are heard meanwhile."""
    found, done = {}, threading.Event()

    def do():
        try:
            found["result"] = work(*args)
        except BaseException as error:  # whatever it is, the caller gets it
            found["error"] = error
        done.set()

    threading.Thread(target=do, daemon=True).start()
    done.wait()
    if "error" in found:
        raise found["error"]
    return found["result"]


def run_main(module):
    """The module's `main()` as this process: signals are heard while it is imported, too."""
    try:
        with at_once():
            status = importlib.import_module(module).main()
    except KeyboardInterrupt as error:
        print(f"{module}: interrupted", file=sys.stderr)
        status = getattr(error, "status", 130)
    leave(status)


def leave(status):
    """End the process: at once where a signal asked for it, since threads may still compile, and
    where other processes would be waited for that are gone."""
    jax = sys.modules.get("jax")
    together = jax is not None and jax.distributed.is_initialized()
    if status in [128 + signum for signum in SIGNALS] or (status and together):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # a pipe or a stream that is closed
                stream.flush()
        os._exit(status)
    sys.exit(status)
