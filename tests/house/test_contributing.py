"""CONTRIBUTING's cell is added as the page says, to the tables of the tests, and accepted."""

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import jax_lstm
from jax_lstm.commands import cases as check
from tests import tables
from tests.cells import test_gradients, test_peers

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
FILE, ROWS, MUTANT = re.findall(r"```python\n(.*?)```", TEXT, re.S)
ROW, KIT, FORWARD = re.split(r"^# .*\n", ROWS, flags=re.M)[1:]


def evaluated(rows, **names):
    """Rows of a table, as they stand on the page."""
    return eval(f"{{{rows}}}", names)


@pytest.fixture(scope="module")
def leaky():
    """The file of the cell, as a module; its rows stand in the tables meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        module = ModuleType("jax_lstm.cells.leaky")
        patch.setitem(sys.modules, module.__name__, module)
        exec(compile(FILE, "CONTRIBUTING.md", "exec"), vars(module))
        public = {name: thing for name, thing in vars(module).items() if "leaky" in name.lower()}
        assert len(public) == 5
        everything = SimpleNamespace(**vars(jax_lstm) | public)
        (row,) = evaluated(ROW, Row=tables.Row, jl=everything).values()
        for module_of_tests in (test_gradients, test_peers):
            patch.setitem(module_of_tests.CELLS, "leaky", row)
        exec(FORWARD, vars(test_peers).copy(), forward := {})
        patch.setitem(test_peers.NUMPY, "leaky", forward["numpy_leaky"])
        kit = evaluated(KIT, Kit=check.Kit, jax_lstm=everything)
        patch.setattr(check, "CELLS", check.CELLS | kit)
        yield module


def test_the_page_is_one_screen():
    assert len(TEXT.splitlines()) <= 60
    assert max(map(len, TEXT.splitlines())) <= 100


def test_the_tables_accept_it(leaky):
    test_gradients.test_every_cotangent_of_a_sequence("leaky", "resets, mask, reverse")
    test_peers.test_complex_steps_element_by_element("leaky", (4, 1, 3, 5), ())


def test_the_check_accepts_it_and_sees_its_mutant(leaky, monkeypatch):
    """The mutant's title names the case that must fail."""
    ((title, broken),) = evaluated(MUTANT, leaky_file=leaky).items()

    def passes():
        cases = check.cell_cases("leaky", (7, 2, 3, 5), 0)
        case = next(case for case in cases if case.title == title.split(":")[0])
        return all(row.ok for row in case.rows("float64"))

    assert passes()
    monkeypatch.setattr(*broken)
    assert not passes()
