"""One table, one JSON, one CSV; and nobody else prints one."""

import ast
import dataclasses
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from jax_lstm import printing

PACKAGE = Path(printing.__file__).parent
ELSEWHERE = {  # who else may, and why
    "teaching/exercise.py": {"width in {equations:74}"},  # an equation and its number
    "files/arrays.py": {"json.dumps"},  # likewise
    "teaching/student.py": {"json.dumps"},  # a message between two processes
    "files/checkpoint.py": {"json.dumps"},  # the header of a file, which nobody reads as text
}


def test_names_stand_to_the_left_and_numbers_to_the_right():
    rows = [("W", 1.5, 7, "PASS"), ("second", float("nan"), 12345, ""), ("b", None, 1, None)]
    assert printing.table(("array", "norm", "size", ""), rows, rule=True).splitlines() == [
        "array   norm   size",
        "-------------------------",
        "W        1.5      7  PASS",
        "second   nan  12345",
        "b                 1",
    ]


def test_formats_sides_and_widths():
    rows = [("a", 0.00123, 1234567), ("b", 2.0, 8)]
    assert printing.table((), rows, form=("", ".1e", ",")).splitlines() == [
        "a  1.2e-03  1,234,567",
        "b  2.0e+00          8",
    ]
    assert printing.table(("n", "x"), [(1, 0.5)], form=".2f", sides="<>", widths=(4, 6)) == (
        "n          x\n1       0.50"
    )
    assert printing.table((), [(np.int64(3), np.float32(0.5), True)]) == "3  0.5  True"


def test_a_table_row_by_row_is_the_table():
    options: dict[str, Any] = {"form": ".1e", "sides": "<>", "widths": (8, 8)}
    rows = [("one", 1.0), ("two", -2e-9)]
    parts = [printing.table(("name", "error"), (), rule=True, **options)]
    parts += [printing.table((), [row], **options) for row in rows]
    assert "\n".join(parts) == printing.table(("name", "error"), rows, rule=True, **options)


def test_nothing_makes_an_empty_table():
    assert printing.table((), ()) == ""
    assert printing.table(("a", "b"), ()) == "a  b"


@pytest.mark.parametrize("options", [{"form": ("", "")}, {"sides": "<"}])
def test_one_format_and_one_side_per_column(options):
    with pytest.raises(ValueError, match="zip"):
        printing.table(("a", "b", "c"), [(1, 2, 3)], **options)


class Pair(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass(frozen=True)
class Record:
    name: str
    pair: Pair


# Reports --------------------------------------------------------------------------------------


def test_a_table_of_its_own_has_lines_above_and_below_and_notes_below_rows():
    rows = (("W", 1.5), ("b", None))
    found = printing.Sheet(("", "x"), rows, ("above",), ("below",), rule=True, notes={0: "why"})
    bare = printing.table(("", "x"), rows, rule=True).splitlines()
    want = ["above", *bare[:3], "    why", bare[3], "below"]
    assert str(found) == "\n".join(want)
    assert str(found._replace(head=(), rule=False, above=())).splitlines()[1:] == [
        "    why",
        "b",
        "below",
    ]
    assert str(printing.Sheet((), (), ("only",))) == "only"


class Found(NamedTuple):
    says: str
    table: printing.Sheet

    __str__ = printing.page
    _repr_html_ = printing.html

    def sentence(self):
        return self.says

    def tables(self):
        return [self.table, printing.Sheet((), (), ("  last",))]


def test_a_report_is_its_sentence_and_its_tables():
    found = Found("a < b\nand c", printing.Sheet(("<x>", "n"), (("&", 0.25),), notes={0: "<i>"}))
    assert str(found) == f"{found.says}\n\n{found.table}\n\n  last"
    assert repr(found).startswith("Found(says='a < b")
    page = found._repr_html_()
    assert page.splitlines() == [
        "<p>a &lt; b<br>and c</p>",
        "<table>",
        '<thead><tr><th style="text-align: left">&lt;x&gt;</th>'
        '<th style="text-align: right">n</th></tr></thead>',
        '<tr><td style="text-align: left">&amp;</td><td style="text-align: right">0.25</td></tr>',
        '<tr><td colspan="2" style="text-align: left">&lt;i&gt;</td></tr>',
        "</table>",
        "<p>last</p>",
    ]


# The terminal ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "width"),
    [("", None), ("0", None), ("10", 60), ("60", 60), ("83", 83), ("500", 120)],
)
def test_the_width_of_the_terminal(columns, width, monkeypatch):
    monkeypatch.setattr("os.get_terminal_size", lambda *_: refuse_size())
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", "24")
    assert printing.terminal_width() == width


def refuse_size():
    raise OSError("no terminal")


def test_long_lines_go_on_below():
    text = "short\n  a = b + (-0.5)          = 7\n" + "    x" * 4
    assert printing.fit(text, None) == text
    assert printing.fit(text, 16).splitlines() == [
        "short",
        "  a = b + (-0.5)",
        "      = 7",
        "    x x x x",
    ]
    assert printing.fit("unbreakable-word", 5) == "unbreakable-word"


def refuse(constant):
    raise AssertionError(constant)


def test_json_of_records_and_arrays():
    tree = {
        "record": Record('ÿ "[1,   2]"', Pair(np.array([[1.0, np.nan], [-np.inf, 0.1]]), None)),
        "jax": (jnp.float32(0.5), jnp.bfloat16(1.5), jnp.arange(2)),
        "numpy": [np.int32(2), np.bool_(True), np.float64("inf"), np.zeros((0, 3))],
        "empty": [{}, [], ()],
        3: True,
    }
    want = {
        "record": {"name": 'ÿ "[1,   2]"', "pair": {"x": [[1.0, "NaN"], ["-Infinity", 0.1]]}},
        "jax": [0.5, 1.5, [0, 1]],
        "numpy": [2, True, "Infinity", []],
        "empty": [{}, [], []],
        "3": True,
    }
    want["record"]["pair"]["y"] = None
    for indent in (None, 1, 2):
        text = printing.to_json(tree, indent=indent)
        assert json.loads(text, parse_constant=refuse) == want
        assert "ÿ" in text
    assert "\n" not in printing.to_json(tree, indent=None)


def test_json_has_a_row_of_numbers_on_a_line():
    assert printing.to_json({"a": np.eye(2), "b": ["x", "y"]}, indent=2) == (
        '{\n  "a": [\n    [1.0, 0.0],\n    [0.0, 1.0]\n  ],\n  "b": ["x", "y"]\n}'
    )


def test_json_of_something_else_is_refused():
    with pytest.raises(TypeError):
        printing.to_json({"f": len})


@pytest.mark.parametrize("word", printing.WORDS.values())
def test_words_for_what_json_has_not_are_numbers_to_python(word):
    assert json.loads(printing.to_json(float(word)), parse_constant=refuse) == word


def test_csv_has_numbers_in_full():
    rows = [("a, b", 0.1 + 0.2, None), ('"', np.float32(0.5), 3)]
    assert printing.to_csv(("name", "x", "n"), rows) == (
        'name,x,n\n"a, b",0.30000000000000004,\n"""",0.5,3'
    )


def printers(source):
    """What stands in a source that belongs to printing.py: columns, JSON, CSV."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in ("ljust", "rjust", "center"):
            yield node.attr
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in ("json.dumps", "json.dump"):
            yield ast.unparse(node)
        elif isinstance(node, ast.Import) and "csv" in [alias.name for alias in node.names]:
            yield "csv"
        elif isinstance(node, ast.FormattedValue) and isinstance(node.format_spec, ast.JoinedStr):
            parts = (v.value if isinstance(v, ast.Constant) else 9 for v in node.format_spec.values)
            if re.match(r"(.?[<>=^])?[-+ ]?\d", "".join(map(str, parts))):
                yield f"width in {ast.unparse(node)}"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("x.rjust(3)", ["rjust"]),
        ("json.dumps(x)", ["json.dumps"]),
        ("import csv", ["csv"]),
        ("f'{x:>8}'", 1),
        ("f'{x:20}'", 1),
        ("f'{x:<{w}}'", 1),
        ("f'{x:8.1e}'", 1),
        ("f'{x:.1e} {y:,} {z!r} {w:+.2f} {v}'", []),
        ("json.loads(x)", []),
        ("from jax_lstm.printing import to_csv", []),
    ],
)
def test_a_printer_is_seen(source, found):
    seen = list(printers(source))
    assert (len(seen) if isinstance(found, int) else seen) == found


def test_nobody_else_prints_a_table():
    for path in PACKAGE.rglob("*.py"):
        name = str(path.relative_to(PACKAGE))
        if name != "printing.py":
            assert set(printers(path.read_text())) == ELSEWHERE.get(name, set()), name
