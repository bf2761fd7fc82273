"""The command on trial: it passes on the package as it is, and fails on every mutant of it."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

import jax_lstm
from jax_lstm import stages
from jax_lstm.commands import cases, check, options
from jax_lstm.commands import main as command
from jax_lstm.engine import bptt, loops, segments
from jax_lstm.engine.cell import Cell
from jax_lstm.stages import losses, readout
from jax_lstm.stages.twins import with_twin

lstm_cell_file = importlib.import_module("jax_lstm.cells.lstm")
PACKAGE = Path(jax_lstm.__file__).parent


# The package as it is -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        "--cell elman --dtype float64",
        "--cell elman --dtype float64 --size 0,0,1,1",
    ],
)
def test_the_package_passes(arguments, capsys, tmp_path):
    file = tmp_path / "check.json"
    assert command.main(["check", *arguments.split(), "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "FAIL" not in printed
    for fact in ("device", "jax, jaxlib", "numpy", "python", "highest"):
        assert fact in printed
    assert ["x64", "True"] in [line.split() for line in printed.splitlines()]
    found = json.loads(file.read_text())
    assert found["ok"] is True
    empty = printed.count("EMPTY\n")
    assert (empty > 0) is ("0,0" in arguments)  # what compares nothing does not count as a pass
    assert printed.count("PASS\n") == len(found["rows"]) - empty + 1
    assert {row["against"] for row in found["rows"]} == {
        *("jax.vjp", "central", "complex step", "jax.jvp", "jax.hvp")
    }
    sequence = [row["array"] for row in found["rows"] if row["route"] == "elman, all at once"]
    leaves = ["dparams.W", "dparams.U", "dparams.b", "dstate.h", "dxs", "dreset_state.h"]
    assert sequence == ["value", *leaves, *leaves, *leaves]


@pytest.fixture
def only(monkeypatch):
    """The command with the cases of one title alone."""

    def run(title, *arguments):
        every = cases.cases
        monkeypatch.setattr(
            cases, "cases", lambda *args: [c for c in every(*args) if c.title == title]
        )
        return command.main(["check", *arguments])

    return run


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_lstm_passes_in_few_bits(dtype, only, capsys):
    assert only("lstm, all at once", "--dtype", dtype, "--seed", "3") == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.endswith("PASS")]
    assert len(rows) == 1 + 8 + 8 + 8 + 1  # value, cotangents beside three referees, the verdict


def test_every_stage_and_every_public_rule_has_a_case():
    titles = {case.title for case in cases.cases((), (7, 2, 3, 5), 0)}
    assert titles >= set(stages.TWINS)
    public = {name for name in jax_lstm.__all__ if f"{name}_autodiff" in jax_lstm.__all__}
    ruled = {title.split(",")[0].split(" ")[0] for title in titles if "with its rule" in title}
    cells = {f"{name}{end}" for name in jax_lstm.CELLS for end in ("", "_cell")}
    assert ruled == public - cells - {"stack", "init_stack_state"}


def test_every_cell_of_a_file_has_a_row():
    files = [
        importlib.import_module(f"jax_lstm.cells.{f.stem}") for f in PACKAGE.glob("cells/*.py")
    ]
    cells = {value for file in files for value in vars(file).values() if type(value) is Cell}
    assert cells == set(cases.CELLS.values())


# Mutants --------------------------------------------------------------------------------------


def of(function, change):
    """The function, with its result changed."""
    return lambda *args: change(function(*args))


def segment(**change):
    """bptt.segment_bwd with dstate or dxs changed."""
    right = bptt.segment_bwd

    def changed(*args):
        (dstate, dfresh), dparams, dxs = right(*args)
        dstate = change.get("dstate", lambda d: d)(dstate)
        return (dstate, dfresh), dparams, change.get("dxs", lambda d: d)(dxs)

    return changed


def one_minus_f(residual, dc):
    f, c_prev, i, g = residual
    return dc * c_prev, dc * (1 - f), dc * g, dc * i


def tanh_of_wrong_c(residual, dh):
    o, c = residual
    return dh * c, dh * o * (1 - c * c)


def swapped_gates(residual, dgates):
    i, f, g, o = residual
    di, df, dg, do = dgates
    return stages_gates_bwd((f, i, g, o), (df, di, dg, do))


def without_the_mean(residual, dy):
    x, gain = residual
    n, scale = stages.normalise(x)
    dn = dy * gain
    dx = scale * (dn - n * (dn * n).mean(-1, keepdims=True))
    return dx, stages.layer_norm_bwd_gain((n, scale), dy)


def broken(name, stage_bwd):
    """A row of TWINS with another twin."""
    return stages.TWINS, name, stages.TWINS[name]._replace(stage_bwd=stage_bwd)


def ruled(name, stage_bwd):
    """The public function with another twin."""
    return jax_lstm, name, with_twin(stages.TWINS[name]._replace(stage_bwd=stage_bwd))


def put(monkeypatch, target, name, value):
    """Into a table, or into a module."""
    (monkeypatch.setitem if isinstance(target, dict) else monkeypatch.setattr)(target, name, value)


stages_gates_bwd = stages.gates_bwd
DENSE_BWD, SQUARED_BWD, CROSS_BWD = (
    readout.dense_bwd,
    losses.squared_error_bwd,
    losses.softmax_cross_entropy_bwd,
)

MUTANTS = {
    # stages by themselves
    "linear: sign of dx": broken("linear", of(stages.linear_bwd, lambda d: (-d[0], d[1]))),
    "linear: outputs swapped": broken("linear", of(stages.linear_bwd, lambda d: d[::-1])),
    "bias: factor": broken("bias", of(stages.bias_bwd, lambda d: (d[0], 2 * d[1]))),
    "sigmoid: 1 + s": broken("sigmoid", lambda s, ds: ds * s * (1 + s)),
    "sigmoid: s alone": broken("sigmoid", lambda s, ds: ds * s),
    "tanh: 1 - t": broken("tanh", lambda t, dt: dt * (1 - t)),
    "gates: i and f swapped": broken("gates", swapped_gates),
    "cell_state: 1 - f": broken("cell_state", one_minus_f),
    "cell_state: outputs swapped": broken(
        "cell_state", of(stages.cell_state_bwd, lambda d: (d[0], d[1], d[3], d[2]))
    ),
    "hidden_state: c for tanh(c)": broken("hidden_state", tanh_of_wrong_c),
    "fork: a branch dropped": broken("fork", lambda _, dxs: (dxs[0] + dxs[1], None)),
    "blend: z and 1 - z": broken("blend", of(stages.blend_bwd, lambda d: (d[0], d[2], d[1]))),
    "layer_norm: the mean's share dropped": broken("layer_norm", without_the_mean),
    "relu: always open": broken("relu", lambda y, dy: dy),
    "log_sigmoid: of the gate": broken("log_sigmoid", lambda y, dy: dy * jnp.exp(y)),
    "hard_sigmoid: always open": broken("hard_sigmoid", lambda r, dy: (r[1] * dy, None, None)),
    "softsign: not squared": broken("softsign", lambda y, dy: dy * (1 - jnp.abs(y))),
    "softplus: 1 - s": broken("softplus", lambda y, dy: dy * jnp.exp(-y)),
    "elu: alpha dropped": broken("elu", lambda r, dy: (jnp.where(r[0] > 0, dy, dy * r[0]), None)),
    "leaky_relu: shut": broken("leaky_relu", lambda r, dy: (jnp.where(r[0] > 0, dy, 0 * dy), None)),
    "thresholded_relu: always open": broken("thresholded_relu", lambda r, dy: (dy, None)),
    "scaled_tanh: y for t": broken(
        "scaled_tanh", lambda r, dy: (r[1] * r[2] * dy * (1 - r[0] ** 2), None, None)
    ),
    "affine: alpha dropped": broken("affine", lambda r, dy: (dy, None, None)),
    "clip: always open": broken("clip", lambda r, dy: (dy, None)),
    # the chain rule of a step
    "lstm: dc not carried": (lstm_cell_file, "fork_bwd", lambda _, dxs: (dxs[1], None)),
    "lstm: dc only carried": (lstm_cell_file, "fork_bwd", lambda _, dxs: (dxs[0], None)),
    "lstm: 1 - f": (lstm_cell_file, "cell_state_bwd", one_minus_f),
    "lstm: dh not carried": (
        lstm_cell_file,
        "linear_bwd_input",
        of(lstm_cell_file.linear_bwd_input, lambda d: 0 * d),
    ),
    # time
    "lstm: shifted time": (loops, "shift", lambda first, states, reverse: states),
    "lstm: zero dh0": (bptt, "segment_bwd", segment(dstate=lambda d: d._replace(h=0 * d.h))),
    "lstm: zero dc0": (bptt, "segment_bwd", segment(dstate=lambda d: d._replace(c=0 * d.c))),
    "lstm: first dx": (bptt, "segment_bwd", segment(dxs=lambda d: d.at[0].multiply(1 + 1e-9))),
    "lstm: dxs reversed": (bptt, "segment_bwd", segment(dxs=lambda d: d[::-1])),
    "lstm: dy dropped": (loops, "fork_of_h", lambda dstate, dh: dstate),
    "lstm, last state alone: dy of h dropped": (
        bptt,
        "widen",
        lambda tree: segments.zeros_like(tree),
    ),
    "lstm, lengths: no mask": (bptt, "clear_masked", lambda mask, tree: tree),
    # the ends
    "dense, with its rule: sign": ruled("dense", of(DENSE_BWD, lambda d: (d[0], -d[1]))),
    "squared_error, with its rule: no dp": ruled(
        "squared_error", of(SQUARED_BWD, lambda d: (d[0], 0 * d[1]))
    ),
    "softmax_cross_entropy, with its rule: factor": ruled(
        "softmax_cross_entropy", of(CROSS_BWD, lambda d: (0.5 * d[0], None))
    ),
}


@pytest.mark.half
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_fails(mutant, only, monkeypatch, capsys):
    put(monkeypatch, *MUTANTS[mutant])
    title = mutant.split(":")[0]
    dtypes = "float64" if title.startswith("lstm") else "float64,float32"
    assert only(title, "--cell", "all", "--dtype", dtypes) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(title) and line.endswith("FAIL") for line in lines)
    assert lines[-1].endswith("FAIL")


@pytest.mark.parametrize(
    ("mutant", "dtype"),
    [
        ("lstm: dc not carried", "float32"),
        ("lstm: shifted time", "bfloat16"),
        ("lstm: zero dh0", "float16"),
    ],
)
def test_a_mutant_fails_in_few_bits(mutant, dtype, only, monkeypatch, capsys):
    put(monkeypatch, *MUTANTS[mutant])
    assert only("lstm", "--dtype", dtype) == 1
    failed = {line.split()[2] for line in capsys.readouterr().out.splitlines() if "FAIL" in line}
    assert failed >= {"jax.vjp", "central", "complex"}


def test_a_mutant_of_segments_fails_where_there_are_some(only, monkeypatch, capsys):
    monkeypatch.setattr(bptt, "segment_bwd", segment(dstate=lambda d: d._replace(c=0 * d.c)))
    assert only("lstm, residuals=3", "--dtype", "float64") == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.endswith("FAIL")]
    assert any("dparams.W" in line for line in failed)  # a segment lost what the later one knew


def test_a_rule_that_raises_is_a_failure(only, monkeypatch, capsys):
    def raises(residual, dc):
        raise IndexError("no such gate")

    put(monkeypatch, *broken("cell_state", raises))
    assert only("cell_state", "--dtype", "float64") == 1
    assert "IndexError: no such gate" in capsys.readouterr().out


# As a program ---------------------------------------------------------------------------------


def program(*arguments, cwd=None, **kwargs):
    environment = os.environ | {"PYTHONPATH": str(cwd)} if cwd else None
    return subprocess.run(
        [sys.executable, "-m", "jax_lstm", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        **kwargs,
    )


@pytest.mark.slow
def test_a_sign_changed_in_the_source_fails(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "jax_lstm")
    file = tmp_path / "jax_lstm" / "cells" / "elman.py"
    right = "return ElmanState(linear_bwd_input(w.U, da)), da"
    assert right in file.read_text()
    file.write_text(file.read_text().replace(right, right.replace("(w.U, da)", "(w.U, -da)")))
    run = program("check", "--cell", "elman", "--dtype", "float64", cwd=tmp_path)
    assert run.returncode == 1, run.stderr
    assert run.stdout.splitlines()[-1].endswith("FAIL")
    assert run.stderr == ""


def test_piping_to_head_leaves_no_traceback():
    program = f"{sys.executable} -m jax_lstm check --cell elman --dtype float64 | head -3"
    run = subprocess.run(program, shell=True, capture_output=True, text=True, check=True)
    assert run.stdout.startswith("device")
    assert run.stderr == ""


# Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("", "COMMAND"),
        ("chekc", "chekc"),
        ("check --size 7,2,3", "--size"),
        ("check --size 7,2,3,five", "--size"),
        ("check --size -1,2,3,5", "--size"),
        ("check --size 7,2,0,5", "--size"),
        ("check --size 7,2,3,0", "--size"),
        ("check --dtype float8", "--dtype"),
        ("check --dtype=", "--dtype"),
        ("check --cell gur", "--cell"),
        ("check --seed -1", "--seed"),
        ("check --seed one", "--seed"),
        ("check --json .", "--json"),
        ("check --json no/such/folder/file.json", "--json"),
        ("check --tolerance 1", "--tolerance"),
    ],
)
def test_bad_input_is_named_before_any_work(arguments, named, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check, "run", lambda **kwargs: pytest.fail("it ran"))
    with pytest.raises(SystemExit) as stop:
        command.main(arguments.split())
    assert stop.value.code == 2
    assert named in capsys.readouterr().err


def test_a_door_of_the_library_is_exit_status_2(monkeypatch, capsys):
    def refuse(**kwargs):
        raise ValueError("`xs` must be (T, ..., D)")

    monkeypatch.setattr(check, "run", refuse)
    assert command.main(["check"]) == 2
    assert capsys.readouterr().err == "jax-lstm: error: `xs` must be (T, ..., D)\n"


def test_asking_whether_a_file_can_be_written_leaves_none(tmp_path):
    file = tmp_path / "report.json"
    assert options.writable(str(file)) == str(file)
    assert not file.exists()
    file.write_text("kept")
    assert options.writable(str(file)) == str(file)
    assert file.read_text() == "kept"


def test_every_option_has_help(capsys):
    with pytest.raises(SystemExit):
        command.main(["check", "--help"])
    printed = capsys.readouterr().out
    for option in ("--dtype", "--size", "--cell", "--seed", "--json"):
        (line, *_) = (line for line in printed.split("options:")[1].splitlines() if option in line)
        assert len(line.split()) > 3
