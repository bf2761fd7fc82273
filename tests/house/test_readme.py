"""README's code is run as it stands."""

import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from experiments.kit import record
from experiments.speed import tables as speed_tables
from tests.tables import SIZE, TOLERANCE, assert_close, normal_like, value_and_cotangents

TEXT = (Path(__file__).parents[2] / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.S)
COMMANDS = re.findall(r"```bash\n(.*?)```", TEXT, re.S)


def run(source):
    names = {}
    exec(compile(source, "README.md", "exec"), names)
    return SimpleNamespace(**names)


def test_the_example_has_eight_lines_and_agrees(capsys):
    example = PYTHON[0]
    assert len(example.strip().splitlines()) == 8
    with jax.enable_x64(False):
        names = run(example)
    assert "LSTMParams" in capsys.readouterr().out
    assert_close(names.by_hand, names.by_jax, TOLERANCE["float32"])


@pytest.mark.parametrize(
    "options", [{}, {"reverse": True, "residuals": 3}, {"mask": True}], ids=str
)
def test_a_cell_of_ones_own(options):
    source = PYTHON[1]
    assert len([line for line in source.splitlines() if line.strip()]) <= 30
    own = run(source)
    T, B, D, H = SIZE
    if "mask" in options:
        options = {"mask": jnp.arange(T * B).reshape(T, B) % 3 > 0}
    shapes = own.Params(jnp.zeros((D, 2 * H)), jnp.zeros((H, 2 * H)))
    params = normal_like(0, shapes)
    args = (params, own.State(jnp.zeros((B, H))), normal_like(1, jnp.zeros((T, B, D))))
    assert_close(
        value_and_cotangents(lambda *a: own.rnn(*a, **options), args),
        value_and_cotangents(lambda *a: own.rnn_autodiff(*a, **options), args),
    )


@pytest.mark.parametrize("n", range(2, len(PYTHON)))
def test_the_other_examples_run(n, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with jax.enable_x64(False):
        run(PYTHON[n])
    assert "False" not in capsys.readouterr().out


def test_a_wrong_cell_is_found():
    """The same cell with the fork at h_prev dropped: the comparison above can fail."""
    wrong = PYTHON[1].replace("dh * (1 - z) + linear_bwd_input(w.U, da)", "dh * (1 - z)")
    assert wrong != PYTHON[1]
    own = run(wrong)
    params = normal_like(0, own.Params(jnp.zeros((3, 10)), jnp.zeros((5, 10))))
    args = (params, own.State(jnp.zeros((2, 5))), normal_like(1, jnp.zeros((7, 2, 3))))
    with pytest.raises(AssertionError):
        assert_close(
            value_and_cotangents(own.rnn, args), value_and_cotangents(own.rnn_autodiff, args)
        )


def test_nothing_was_left_to_fill_in():
    assert not re.findall(r"^[A-Z]+$", TEXT, re.M)


def test_the_tables_of_speed_are_those_of_the_committed_run():
    file = Path(__file__).parents[2] / "experiments/results/speed/amd_epyc_2_cores.json"
    result = record.read_json(file)
    assert speed_tables.tables(result) in TEXT
    assert speed_tables.goals(result) in TEXT


def test_there_are_exactly_two_commands():
    assert len(COMMANDS) == 2
    assert "experiments.char_lm" in COMMANDS[0]
    assert "pytest" in COMMANDS[1]
    assert jax.config.jax_enable_x64
