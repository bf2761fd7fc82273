"""What a type checker makes of the public names: a user's file passes, and his slips do not.

The checker sees the package as one that is installed: then it trusts what is written in signatures
and guesses nothing.
"""

import importlib
import importlib.util
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_overloads

import pytest

import jax_lstm as jl
from jax_lstm.engine.functions import InitState, RunFunction, StepFunction
from jax_lstm.networks.functions import StackFunction, StackOptions

HERE, PACKAGE = Path(__file__).parent, Path(jl.__file__).parent
FOLDERS = ("stages", "referee", "interop.torch", "interop.flax", "interop.keras")
needs_pyright = pytest.mark.skipif(
    importlib.util.find_spec("pyright") is None, reason="pyright, of the extra `lint`, is missing"
)


@pytest.fixture(scope="module")
def checker(tmp_path_factory):
    """pyright's answer as JSON, in a project where the package is installed."""
    folder = tmp_path_factory.mktemp("project")
    settings = {"typeCheckingMode": "strict", "pythonVersion": "3.11"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    installed = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}

    def check(*arguments):
        command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
        command += ["--outputjson", *arguments]
        found = subprocess.run(
            command, cwd=folder, env=installed, capture_output=True, text=True, check=False
        )
        return json.loads(found.stdout)

    def check_file(name):
        (folder / name).write_text((HERE / name).read_text())
        answer = check(name)
        assert answer["summary"]["filesAnalyzed"] == 1
        return {d["range"]["start"]["line"]: d["message"] for d in answer["generalDiagnostics"]}

    return check, check_file


@needs_pyright
def test_a_user_s_file_passes_in_strict_mode(checker):
    _, check_file = checker
    assert check_file("typed_user.py") == {}


@needs_pyright
def test_each_slip_is_refused(checker):
    _, check_file = checker
    found = check_file("typed_misuse.py")
    lines = (HERE / "typed_misuse.py").read_text().splitlines()
    marked = {n for n, line in enumerate(lines) if "# refused" in line}
    assert {lines[n]: found.get(n) for n in marked ^ set(found)} == {}
    assert len(marked) >= 15


def public_things():
    """id of everything that people call by a public name."""
    things = [getattr(jl, name) for name in jl.__all__]
    for folder in FOLDERS:
        module = importlib.import_module(f"jax_lstm.{folder}")
        own = lambda x: str(getattr(x, "__module__", "")).startswith("jax_lstm")
        things += [x for name, x in vars(module).items() if name[0] != "_" and own(x)]
    return {id(x) for x in things if callable(x) and not inspect.ismodule(x)}


def thing_of(name):
    """What a dotted name leads to at the top of its module: of a method, its class."""
    parts = name.split(".")
    for n in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:n]))
        if module is not None:
            return getattr(module, parts[n], None)
    return None


@needs_pyright
def test_every_public_name_has_its_types(checker):
    """Of a class also its fields and methods."""
    check, _ = checker
    answer = check("--verifytypes", "jax_lstm", "--ignoreexternal")
    symbols = answer["typeCompleteness"]["symbols"]
    public = public_things()
    found = {s["name"]: s for s in symbols if id(thing_of(s["name"])) in public}
    assert len(found) > 200
    assert [name for name, s in found.items() if not s["isTypeKnown"]] == []


def shape_of(function):
    """What a caller must know of a signature, without types."""
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in parameters if p.name != "self"]


@pytest.mark.parametrize("cell", jl.CELLS)
def test_the_types_say_what_the_functions_take(cell):
    for name, kind in ((cell, RunFunction), (f"{cell}_cell", StepFunction)):
        for twin in ("", "_autodiff"):
            assert shape_of(getattr(jl, name + twin)) == shape_of(kind.__call__)
    assert shape_of(getattr(jl, f"init_{cell}_state")) == shape_of(InitState.__call__)


def test_the_types_say_what_a_stack_takes():
    own = {name for name, _, _ in shape_of(jl.stack)}
    for form in get_overloads(StackFunction.__call__):
        here = {name for name, _, _ in shape_of(form)} - {"options"}
        assert own == here | set(StackOptions.__annotations__)
