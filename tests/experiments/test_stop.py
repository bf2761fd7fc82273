"""Signals: the first one is heard while something long is done, the second one ends the process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.kit import stop

ROOT = Path(__file__).parents[2]


def test_a_signal_is_heard_while_something_long_is_done():
    def work():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(3)

    began = time.monotonic()
    with pytest.raises(stop.Stopped) as stopped, stop.at_once():
        stop.aside(work)
    assert stopped.value.status == 143
    assert time.monotonic() - began < 2.5
    assert stop.aside(lambda x: x + 1, 2) == 3
    with pytest.raises(ZeroDivisionError):
        stop.aside(lambda: 1 // 0)


def test_handlers_are_put_back():
    before = [signal.getsignal(signum) for signum in stop.SIGNALS]
    with stop.at_once(), stop.later() as request:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        assert request.signum == signal.SIGINT
        with pytest.raises(stop.Stopped):
            request.check()
    assert [signal.getsignal(signum) for signum in stop.SIGNALS] == before


@pytest.mark.parametrize(("first", "second"), [("SIGTERM", "SIGTERM"), ("SIGTERM", "SIGINT")])
def test_a_second_signal_ends_the_process_at_once(first, second):
    """Even where Python runs no handler: in a long call of C."""
    code = (
        "import hashlib; from experiments.kit import stop\n"
        "with stop.at_once(), stop.later():\n"
        "    print('ready', flush=True); hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    with process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(getattr(signal, first))
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(getattr(signal, second))
        assert process.wait(timeout=20) == 128 + getattr(signal, second)
