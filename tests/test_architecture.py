"""The ladder of design: imports only go up, and each twin stands right below its stage."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "jax_lstm"
README = PACKAGE.parent / "README.md"

# module -> what it may import of the package; a folder stands for its files
LADDER = {
    "notation": set(),
    "stages": {"notation"},
    "textbook": {"notation", "stages"},
    "bptt": {"notation"},
    "cells": {"notation", "stages", "bptt", "cells"},
    "regularisers": {"notation", "stages"},
    "truncated": {"notation", "stages", "bptt", "cells"},
    "memory": {"notation", "bptt", "cells"},
    "devices": {"cells"},
    "inside": {"notation", "bptt", "cells"},
    "tracing": {"notation", "stages", "textbook", "losses", "cells"},
    "worked": {"tracing"},
    "drawing": {"tracing", "worked"},
    "beside": {"notation", "cells", "referee", "worked"},
    "linearised": {"notation", "bptt", "cells"},
    "attribution": {"bptt", "linearised"},
    "flow": {"notation", "stages", "bptt", "cells", "linearised"},
    "joints": {"notation", "stages", "regularisers"},
    "layers": {"notation", "stages", "joints", "bptt", "cells"},
    "readout": {"notation", "stages"},
    "losses": {"notation", "stages"},
    "training": {"notation", "stages", "readout", "losses", "bptt", "cells"},
    "referee": {"referee"},
    "layouts": {"notation"},
    "interop": {"notation", "layouts", "cells", "layers", "interop"},
    "tensorfile": set(),
    "checkpoint": {"notation", "layouts", "readout", "cells", "layers", "interop", "tensorfile"},
    "files": {"tensorfile"},
    "inspection": {"notation", "layouts", "interop", "tensorfile", "checkpoint", "files"},
    "diagnosis": {"files", "layouts", "cells", "referee"},
    "tutorials": {"notation", "stages", "readout", "losses", "cells", "tracing", "worked"}
    | {"files", "diagnosis"},
    "check": {"notation", "stages", "cells", "referee"},
    "exercise": {"notation", "stages", "textbook"},
    "grade": {"stages", "textbook", "cells", "referee", "diagnosis", "exercise"},
}
COMPOSERS = {"__init__", "__main__", "arguments"}
OUTSIDE = {"optax": {"training"}, "flax": {"interop"}}
OUTSIDE |= {"matplotlib": {"drawing"}, "safetensors": {"tensorfile"}}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path):
    """Dotted names of everything a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [alias.name for alias in node.names]
            is_package = node.module == "jax_lstm"
            yield from (f"{node.module}.{n}" for n in names) if is_package else [node.module]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_go_up(path):
    rung = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if rung in COMPOSERS:
        return
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "jax_lstm":
            assert not rest or rest[0] in LADDER[rung], f"{rung} imports {name}"
        assert rung in OUTSIDE.get(top, {rung}), f"{rung} imports {name}"


def test_the_engine_knows_jax_and_the_notation_and_no_gate():
    tops = {name.split(".")[0] for name in imports(PACKAGE / "bptt.py")}
    assert tops <= {"jax", "jax_lstm", "functools", "math", "collections", "typing"}
    words = set(re.findall(r"[a-z_]+", (PACKAGE / "bptt.py").read_text().lower()))
    assert not words & {"lstm_cell", "gates", "sigmoid", "tanh", "cell_state", "hidden_state"}


def test_the_referee_knows_no_cell():
    for path in (PACKAGE / "referee").glob("*.py"):
        for name in imports(path):
            assert not name.startswith(("jax_lstm.cells", "jax_lstm.stages")), path


@pytest.mark.parametrize("file", ["stages", "readout", "losses"])
def test_twins_stand_below_their_stages(file):
    tree = ast.parse((PACKAGE / f"{file}.py").read_text())
    names = [n.name for n in tree.body if isinstance(n, ast.FunctionDef)]
    stages = [n for n in names if f"{n}_bwd" in names]
    assert len(stages) >= 2
    for name in stages:
        assert names[names.index(name) + 1] == f"{name}_bwd"


def test_every_equation_of_the_index_is_found_with_its_twin():
    """README's index: equation | function | twin | where. Each number stands in its docstring."""
    rows = re.findall(r"^\| \((\d+)\) .*?\| `(\w+)\.(\w+)` \| `(\w+)` \|", README.read_text(), re.M)
    assert len(rows) >= 9
    for number, file, function, twin in rows:
        source = (PACKAGE / f"{file}.py").read_text()
        functions = {n.name: n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)}
        assert f"({number})" in (ast.get_docstring(functions[function]) or "")
        assert f"({number}'" in (ast.get_docstring(functions[twin]) or "")


def test_public_functions_have_docstrings():
    import jax_lstm

    for name, thing in vars(jax_lstm).items():
        if not name.startswith("_") and callable(thing):
            assert len(thing.__doc__ or "") > 20, name
