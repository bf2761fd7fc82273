"""The house: which folders there are, imports that only go up, twins right below their stages."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import jax_lstm

PACKAGE = Path(__file__).parents[2] / "jax_lstm"
INDEX = PACKAGE.parent / "docs" / "equations.md"

# floor -> the floors it stands on; a floor is a folder, or a file of the package's own
LADDER = {
    "notation": (),
    "doors": (),
    "rules": (),
    "sharding": (),
    "printing": (),
    "stages": ("notation", "doors", "rules", "sharding"),
    "textbook": ("stages",),
    "engine": ("notation", "doors", "rules", "sharding"),
    "cells": ("stages", "engine"),
    "experimental": ("cells",),
    "networks": ("cells",),
    "analysis": ("cells",),
    "training": ("networks", "analysis", "printing"),
    "referee": ("doors", "printing"),
    "interop": ("networks", "printing"),
    "files": ("interop", "training"),
    "diagnosis": ("files", "referee", "training"),
    "teaching": ("diagnosis", "textbook"),
    "kernels": ("files",),
    "commands": ("teaching", "kernels"),
}
FOLDERS = {
    "stages",
    "engine",
    "cells",
    "networks",
    "training",
    "analysis",
    "referee",
    "diagnosis",
    "teaching",
    "interop",
    "files",
    "kernels",
    "commands",
}
# another package -> the only files that import it
OUTSIDE = {
    "optax": {"training/update.py"},
    "flax": {"interop/linen.py", "interop/nnx.py", "interop/flax_loop.py"},
    "matplotlib": {"teaching/graph.py"},
    "safetensors": {"files/arrays.py"},
    "onnx": {"interop/onnx_graphs.py"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def below(floor):
    """The floor and all that it stands on, the cellar included."""
    found = {floor}
    for other in LADDER[floor]:
        found |= below(other)
    return found


def imports(path):
    """Dotted names of everything a file imports, at its top or later."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [alias.name for alias in node.names]
            is_package = node.module == "jax_lstm"
            yield from (f"{node.module}.{n}" for n in names) if is_package else [node.module]


def test_the_folders_are_those_of_the_plan():
    found = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert found == FOLDERS
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert files <= set(LADDER) - FOLDERS
    tests = {path.name for path in (PACKAGE.parent / "tests").iterdir() if path.is_dir()}
    tests -= {"__pycache__", "fixtures", "mutation"}
    assert tests <= FOLDERS | {"experiments", "house"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_go_up(path):
    here = path.relative_to(PACKAGE)
    floor = here.parts[0].removesuffix(".py")
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "jax_lstm" and floor not in ("__init__", "__main__"):
            if floor == "commands" and not rest:
                continue  # its version and public names
            assert rest, f"{here} imports the package as a whole"
            assert rest[0] in below(floor), f"{here} imports {name}"
        assert str(here) in OUTSIDE.get(top, {str(here)}), f"{here} imports {name}"


def test_the_engine_knows_no_gate():
    for file in ("segments", "bptt", "shapes", "doors"):
        path = PACKAGE / "engine" / f"{file}.py"
        words = set(re.findall(r"[a-z_]+", path.read_text().lower()))
        assert not words & {"lstm_cell", "gates", "sigmoid", "tanh", "cell_state", "hidden_state"}


@pytest.mark.parametrize("file", ["step", "packed", "between", "readout", "losses"])
def test_twins_stand_below_their_stages(file):
    tree = ast.parse((PACKAGE / "stages" / f"{file}.py").read_text())
    names = [n.name for n in tree.body if isinstance(n, ast.FunctionDef)]
    stages = [n for n in names if f"{n}_bwd" in names]
    assert stages
    for name in stages:
        assert names[names.index(name) + 1] == f"{name}_bwd"


def test_every_equation_of_the_index_is_found_with_its_twin_and_its_tangent():
    """The index: equation | function | twin | tangent | where. Each number stands in its docstring,
    with a dash where it is a twin's, with a t where it is a tangent's."""
    row = r"^\| \((\d+)\) .*?\| `(\w+)\.(\w+)` \| `(\w+)` \| `(\w+)` \|"
    rows = re.findall(row, INDEX.read_text(), re.M)
    assert len(rows) >= 9
    functions = {
        node.name: node
        for path in (PACKAGE / "stages").glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    for number, _, function, twin, tangent in rows:
        assert f"({number}t)" in (ast.get_docstring(functions[tangent]) or ""), tangent
        assert f"({number})" in (ast.get_docstring(functions[function]) or "")
        assert f"({number}'" in (ast.get_docstring(functions[twin]) or "")


def test_the_public_names_are_those_of_all():
    """No module leaks into `dir(jax_lstm)` beyond the folders people import by name."""
    assert set(dir(jax_lstm)) == set(jax_lstm.__all__)
    assert len(jax_lstm.__all__) == len(set(jax_lstm.__all__))
    modules = {name for name in dir(jax_lstm) if hasattr(getattr(jax_lstm, name), "__path__")}
    assert modules == {"interop", "referee", "stages", "training"}
    for name in jax_lstm.__all__:
        thing = getattr(jax_lstm, name)
        if callable(thing):
            assert len(thing.__doc__ or "") > 20, name


def test_no_function_takes_the_name_of_its_module():
    """`from jax_lstm.folder import name` is the file of that name, and never a function of it."""
    for path in FILES:
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        if path.stem in ("__init__", "__main__") or "linen" in name or "nnx" in name:
            continue
        parent, _, last = name.rpartition(".")
        module = importlib.import_module(name)
        if parent != "jax_lstm":
            assert getattr(importlib.import_module(parent), last) is module, name


MOST_LINES = 400


@pytest.mark.parametrize("folder", ["jax_lstm", "experiments", "tests"])
def test_no_file_is_longer_than_five_screens(folder):
    lengths = {p: len(p.read_text().splitlines()) for p in (PACKAGE.parent / folder).rglob("*.py")}
    assert {str(p): n for p, n in lengths.items() if n > MOST_LINES} == {}


def test_two_classes_never_share_a_name():
    """But for those of flax that linen and nnx both stand in for."""
    found = [
        node.name
        for path in FILES
        if path.stem not in ("linen", "nnx")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    ]
    assert sorted(found) == sorted(set(found))


def test_the_names_of_cells_are_those_of_the_records_alone():
    """LSTM is one object, and so is every other name of CELLS in capitals, each in cells/."""
    names = {name.upper() for name in jax_lstm.CELLS}
    found = [
        (target.id, str(path.relative_to(PACKAGE).parent))
        for path in FILES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in names
    ]
    assert sorted(found) == sorted((name.upper(), "cells") for name in jax_lstm.CELLS)
