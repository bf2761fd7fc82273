"""README fits on two screens, and what it shows is what there is."""

import inspect
import re

import jax

from jax_lstm.stages import step
from tests.house.pages import ROOT, blocks, read, run
from tests.tables import TOLERANCE, assert_close

TEXT = read("README.md")
EXAMPLE, STAGE = blocks(TEXT, "python")
COMMANDS = [line for block in blocks(TEXT, "bash") for line in block.splitlines()]
NUMBER = r"\d\.\d+e-\d+"


def test_it_has_two_screens():
    lines = TEXT.splitlines()
    assert len(lines) <= 140
    assert not [line for line in lines if len(line) > 140 and not line.startswith("|")]


def test_the_example_has_eight_lines_and_agrees(capsys):
    assert len(EXAMPLE.strip().splitlines()) == 8
    with jax.enable_x64(False):
        names = run(EXAMPLE, "README.md")
    assert_close(names.by_hand, names.by_jax, TOLERANCE["float32"])
    printed, (shown,) = capsys.readouterr().out, blocks(TEXT, "text")
    assert re.sub(rf"{NUMBER}|0\.0?", "", printed) == re.sub(NUMBER, "", shown)
    assert all(float(number) < 1e-6 for number in re.findall(NUMBER, shown))
    assert len(re.findall(NUMBER, shown)) == 3


def test_the_stage_stands_in_the_source_as_it_is_shown():
    assert f"\n{STAGE}\n" in inspect.getsource(step)
    names = re.findall(r"^def (\w+)", STAGE, re.M)
    assert names == ["hidden_state", "hidden_state_bwd"]


def test_nothing_was_left_to_fill_in():
    assert not re.findall(r"^[A-Z]+$", TEXT, re.M)


def test_it_counts_no_rows_of_a_plan():
    assert not re.findall(r"\brows? \d|^\| #|^\| \d+ \| [^\d]", TEXT, re.M)


def test_it_names_two_commands_for_a_checkout():
    job, tests = [line for line in COMMANDS if line.startswith("python3 -m venv")]
    assert job.endswith(".venv/bin/python -m experiments.char_lm")
    assert tests.endswith(".venv/bin/python -m pytest -q -n auto")
    assert all("pip install" in line for line in COMMANDS)
    assert jax.config.jax_enable_x64


def test_every_folder_is_in_the_tree_and_every_page_of_a_door_is_there():
    folders = {path.parent.name for path in (ROOT / "jax_lstm").glob("*/__init__.py")}
    assert set(re.findall(r"^    jax_lstm/(\w+)/", TEXT, re.M)) == folders
    doors = TEXT.split("## Five doors")[1].split("\n## ")[0]
    items = re.split(r"^- ", doors, flags=re.M)[1:]
    assert len(items) == 5
    assert all("](docs/" in item for item in items)
