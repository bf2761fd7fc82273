"""`jax_lstm.experimental`, and the page's table of derivatives."""

import importlib
import sys
import types

import pytest

from jax_lstm import experimental
from tests import derivatives
from tests.support import PAGE, derivatives_table, read_derivatives
from tests.tables import CELLS, FIRST

FEW = ("NAME_jvp", "jvp*", "linearize*", "hvp")


@pytest.mark.slow
def test_forward_and_reverse_of_one_function():
    assert set(derivatives.outcomes("lstm", 2, FEW).values()) == {"works"}


# Each takes ten seconds or more: of the later cells these, and with -m every the others.
SOME = (*FIRST, "slstm", "peephole_lstm", "min_gru", "cornn")
EACH = [name if name in SOME else pytest.param(name, marks=pytest.mark.every) for name in CELLS]


@pytest.mark.half
@pytest.mark.slow
@pytest.mark.parametrize("mode", derivatives.KINDS)
@pytest.mark.parametrize("cell", EACH)
def test_every_derivative_of_every_cell(cell, mode):
    """As the page says, and it says that it works."""
    found = derivatives.outcomes(cell, mode)
    assert {way: said for way, said in found.items() if said != "works"} == {}


def test_the_page_has_a_row_for_every_cell():
    """Where it has not: `python -m tests.support --write --derivatives`."""
    text = PAGE.read_text()
    found = read_derivatives(text)
    assert set(found) == set(CELLS)
    assert {word for said in found.values() for word in said.values()} == {"works"}
    assert derivatives_table(found, derivatives.COLUMNS) in text


def test_another_jax_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax.experimental.hijax", types.ModuleType("hijax"))
    monkeypatch.delitem(sys.modules, "jax_lstm.experimental")
    with pytest.raises(ImportError, match=r"needs `VJPHiPrimitive` .*; this is JAX .*lstm_jvp"):
        importlib.import_module("jax_lstm.experimental")
    monkeypatch.undo()
    assert sys.modules["jax_lstm.experimental"] is experimental
