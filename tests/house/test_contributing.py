"""CONTRIBUTING's cell is added as the page says, one file and one row, and accepted."""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import jax_lstm

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
FILE, MUTANT = re.findall(r"```python\n(.*?)```", TEXT, re.S)
IMPORT = re.search(r"`(from jax_lstm\.cells\.leaky import \*)`", TEXT)[1]

# What follows from the record alone, for a cell that nothing else knows of.
EVERYTHING = """
import jax, numpy as np
import jax_lstm as jl
from jax_lstm import referee

params = jl.init_leaky(jax.random.key(0), 3, 5)
state = jl.init_leaky_state(params, (2,))
xs = jax.random.normal(jax.random.key(1), (4, 2, 3))
last, hs = jl.leaky(params, state, xs, lengths=[4, 2])
run = jl.make_linearised(jl.LEAKY)(params, state, xs)
assert jl.attribute(run, hs).norm.W.shape == (4, 2, 1)
assert jl.gradient_norms(run, hs).delta.shape == (4, 2, 1)
assert referee.taps(jl.LEAKY, params, state, xs)
assert referee.mutation_test(jl.LEAKY, params, state, xs)
jl.save("leaky.safetensors", params)
assert type(jl.load("leaky.safetensors").tree) is type(params)
layers = jl.init_stack(jax.random.key(2), 3, (5, 5), init=jl.init_leaky,
                       init_state=jl.init_leaky_state)
states = jl.init_stack_state(layers, (2,), init_state=jl.init_leaky_state)
jl.stack(layers, states, xs, sequence=jl.leaky)
try:
    jl.leaky(params, state, xs[..., :2])
except ValueError as error:
    assert "`xs` must be (T, ..., D) with D = 3" in str(error)
print("everything")
"""


def test_the_page_is_one_screen():
    assert len(TEXT.splitlines()) <= 60
    assert max(map(len, TEXT.splitlines())) <= 100


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The package with the cell: one new file, its import line and its row in family.py."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(Path(jax_lstm.__file__).parent, folder / "jax_lstm")
    (folder / "jax_lstm/cells/leaky.py").write_text(FILE)
    family = folder / "jax_lstm/cells/family.py"
    source = family.read_text().replace("\n_ROWS", f"{IMPORT}\n\n_ROWS", 1)
    source = source.replace("_ROWS = (", "_ROWS = (LEAKY, ", 1)
    family.write_text(source)
    return folder


def run(copy, *arguments):
    return subprocess.run(
        [sys.executable, *arguments], cwd=copy, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_all_that_follows_from_the_record_is_there(copy):
    found = run(copy, "-c", EVERYTHING)
    assert found.stdout.splitlines()[-1:] == ["everything"], found.stderr


@pytest.mark.slow
def test_the_check_accepts_it(copy):
    found = run(copy, "-m", "jax_lstm", "check", "--cell", "leaky", "--dtype", "float64")
    assert found.returncode == 0, found.stdout
    assert "leaky, all at once" in found.stdout


@pytest.mark.slow
def test_its_mutant_is_seen(copy):
    """The mutant's title names the case that must fail."""
    (title,) = re.findall(r'"(leaky[^:"]*):', MUTANT)
    source = f"""
import importlib
from jax_lstm import referee
from jax_lstm.commands import cases
leaky_file = importlib.import_module("jax_lstm.cells.leaky")
((_, (file, name, broken)),) = dict([*{{{MUTANT.split(chr(10), 1)[1]}}}.items()]).items()
setattr(file, name, broken)
case = next(c for c in cases.cell_cases("leaky", (7, 2, 3, 5), 0) if c.title == "{title}")
with referee.precisely():
    print(all(row.ok for row in case.rows("float64")))
"""
    assert run(copy, "-c", source).stdout.strip() == "False"


def test_a_cell_is_named_in_its_file_and_in_its_row_alone():
    """Places where code names the youngest cell: as an identifier, or as a text by itself."""
    package, places = Path(jax_lstm.__file__).parent, []
    for path in package.rglob("*.py"):
        tokens = re.findall(
            r"^[^#\n]*?(?:\b(?:\w*_)?(?:lem|LEM)(?:_\w*)?\b)", strip_prose(path), re.M
        )
        places += [str(path.relative_to(package))] * bool(tokens)
    assert sorted(places) == ["cells/family.py", "cells/lem.py"]
    assert importlib.import_module("jax_lstm.cells.family").CELLS["lem"] is jax_lstm.LEM


def strip_prose(path):
    """The source without docstrings and without texts of more than a word."""
    source = re.sub(r'""".*?"""', "", path.read_text(), flags=re.S)
    return re.sub(r'"[^"\n]* [^"\n]*"', '""', source)
