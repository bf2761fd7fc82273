"""A file that misbehaves is graded all the same, and never as right without a verdict."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from jax_lstm.commands import main as command
from jax_lstm.teaching import student
from jax_lstm.teaching.apart import Apart
from jax_lstm.teaching.exercise import exercise

SOLUTION = exercise(numpy=True, solution=True)
STRANGE = """
import os, sys
print("printed at the start")

def linear_bwd(residual, dy):
    os._exit(0)

def bias_bwd(residual, dy):
    while True:
        pass

def sigmoid_bwd(s, ds):
    raise KeyboardInterrupt

def tanh_bwd(t, dt):
    while True:
        print("x" * 10_000)

def cell_state_bwd(residual, dc):
    for file in range(3, 32):
        try:
            os.write(file, b"8 of 8 right")
        except OSError:
            pass
    while True:
        pass

def hidden_state_bwd(residual, dh):
    return np.ones(10**13), dh

def fork_bwd(residual, dxs):
    raise type("E\x1b[2J", (BaseException,), {"__str__": lambda self: 3})
"""


def grade(folder, text, *options):
    file = folder / "my_lstm.py"
    file.write_text(text, encoding="utf-8")
    return command.main(["grade", str(file), *options])


@pytest.mark.slow
def test_what_a_function_does_to_its_process_is_a_verdict(tmp_path, capsys):
    """Each is named, the next are graded, and nothing that it prints is taken for the grader's."""
    assert grade(tmp_path, SOLUTION + STRANGE, "--seconds", "6") == 1
    said = capsys.readouterr()
    for name, says in (
        ("linear_bwd", "WRONG    ended its process, with exit status 0"),
        ("bias_bwd", "WRONG    did not end within 2 seconds"),
        ("sigmoid_bwd", "WRONG    raises KeyboardInterrupt"),
        ("tanh_bwd", "WRONG    printed more than 1,048,576 bytes"),
        ("cell_state_bwd", "WRONG    wrote where the answers of the grader go"),
        ("hidden_state_bwd", "WRONG    raises MemoryError"),
        ("fork_bwd", r"WRONG    raises E\x1b[2J"),
        ("backward", "right    with all twins right"),
    ):
        (line,) = [line for line in said.out.splitlines() if line.startswith(name)]
        assert says in line
    assert said.out.endswith("1 of 8 right, 7 wrong\n")
    assert "printed" not in said.out.replace("WRONG    printed", "")
    assert "printed at the start" in said.err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import os; os._exit(0)", "cannot be run: it ended its process, with exit status 0"),
        ("while True: pass", "cannot be run: it did not end within 1.5 seconds"),
        ("raise KeyboardInterrupt", "cannot be run: KeyboardInterrupt"),
        ("import ctypes; ctypes.string_at(0)", "cannot be run: it ended its process, by SIGSEGV"),
    ],
)
def test_a_file_that_does_not_come_to_its_end(text, says, tmp_path, capsys):
    assert grade(tmp_path, text, "--seconds", "3") == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


@pytest.mark.slow
def test_a_patched_grader_changes_no_verdict(tmp_path, capsys):
    patch = """
import jax_lstm.teaching.grade as grader, jax_lstm.teaching.student as own, jax_lstm.stages
grader.fault = lambda *given: ""
grader.Grade = lambda *given: ("x", "right", "")
own.number = lambda x: x
sys = __import__("sys"); sys.modules["__main__"].__dict__.update(call=lambda run: ("", 3))

def tanh_bwd(t, dt):
    return 0 * dt
"""
    assert grade(tmp_path, SOLUTION + patch) == 1
    assert "tanh_bwd          WRONG    " in capsys.readouterr().out


def test_no_file_of_bytes(tmp_path, capsys):
    os.mkfifo(tmp_path / "fifo.py")
    assert command.main(["grade", str(tmp_path / "fifo.py")]) == 2
    assert "is no regular file; it is a FIFO" in capsys.readouterr().err


def test_messages_there_and_back():
    tree = {"a": (np.arange(3), None, "text"), "b": [np.float32(1.5), 2]}
    with np.load(student.io.BytesIO(student.encode(tree)), allow_pickle=False) as file:
        got = student.decode(dict(file))
    assert got["a"][0].tolist() == [0, 1, 2]
    assert (got["a"][1:], got["b"][1]) == ((None, "text"), 2)
    assert (got["b"][0].dtype, got["b"][0].shape) == (np.float32, ())


def test_an_answer_that_is_too_large_is_not_sent():
    module = student.load_module(b"import numpy as np\ndef f(a, b): return np.zeros(10**6)", "f.py")
    verdict, said = student.answer(module, None, "f", (), (None, np.ones(2)))
    assert (verdict, said) == (
        "WRONG",
        "raises ValueError: an answer of the shape (1000000,) is not looked at",
    )


LIMITED = """
import sys, time
sys.path[:] = {path!r}
from jax_lstm.teaching.student import limit, np
limit(int(time.process_time()) + 2, 2**30)
try:
    np.ones(2**28)
except MemoryError:
    print("no memory", flush=True)
while True:
    pass
"""


@pytest.mark.slow
def test_memory_and_processor_time_are_bounded():
    pytest.importorskip("resource")
    code = LIMITED.format(path=sys.path)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.stdout, found.returncode) == ("no memory\n", -signal.SIGXCPU)


def test_a_file_runs_under_the_promotion_of_jax_itself(tmp_path, monkeypatch):
    """x @ W + b is what people write, whatever the grader's own process refuses."""
    monkeypatch.setenv("JAX_NUMPY_RANK_PROMOTION", "raise")
    monkeypatch.setenv("JAX_NUMPY_DTYPE_PROMOTION", "strict")
    file = tmp_path / "my_lstm.py"
    file.write_text("import jax.numpy as jnp\ndef f(x, b): return x + b + jnp.float32(1)\n")
    with Apart(file, ("f",)) as ask:
        verdict, found = ask("f", (), (np.ones((2, 3)), np.ones(3)))
    assert (verdict, found.tolist()) == ("", [[3.0] * 3] * 2)
