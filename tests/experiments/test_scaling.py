"""What is read off a trace of the runner, on events by hand."""

import pytest

from experiments import scaling


def event(name, start, end, kind="X"):
    return {"ph": kind, "name": name, "ts": start, "dur": end - start}


def test_the_share_without_an_execution_is_that_between_the_first_and_the_last_update():
    """Two dispatches with a gap of 5 in 100; what compiles and saves after them does not count."""
    events = [
        event("while.173", 2, 55),
        event("ThunkExecutor::Execute", 0, 55),  # the loop lies within it
        event("while.173", 60, 100),
        event("while.9", 70, 80),
        event("while-loop-constant-sinking", 150, 160),  # a pass of the compiler
        event("ThunkExecutor::Execute", 200, 210),  # the copy that is saved
        event("while.173", 57, 58, kind="M"),
        {"ph": "X", "ts": 0, "dur": 300},
    ]
    assert scaling.idle_share(events) == pytest.approx(0.05, abs=1e-15)
