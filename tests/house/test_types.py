"""What a type checker makes of the public names: a user's file passes, and his slips do not.

The checker sees the package as one that is installed: then it trusts what is written in signatures
and guesses nothing.
"""

import functools
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
    """A project where the package is installed, and {line: what pyright says} of a file in it."""
    folder = tmp_path_factory.mktemp("project")
    settings = {"typeCheckingMode": "strict", "pythonVersion": "3.11"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    installed = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}

    def check(name):
        command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
        found = subprocess.run(
            [*command, "--outputjson", name],
            cwd=folder,
            env=installed,
            capture_output=True,
            text=True,
            check=False,
        )
        answer = json.loads(found.stdout)
        assert answer["summary"]["filesAnalyzed"] == 1
        return {d["range"]["start"]["line"]: d["message"] for d in answer["generalDiagnostics"]}

    for name in ("typed_user.py", "typed_misuse.py"):
        (folder / name).write_text((HERE / name).read_text())
    return folder, check


@pytest.mark.slow
@needs_pyright
def test_a_user_s_file_passes_in_strict_mode(checker):
    _, check = checker
    assert check("typed_user.py") == {}


@pytest.mark.slow
@needs_pyright
def test_each_slip_is_refused(checker):
    _, check = checker
    found = check("typed_misuse.py")
    lines = (HERE / "typed_misuse.py").read_text().splitlines()
    marked = {n for n, line in enumerate(lines) if "# refused" in line}
    assert {lines[n]: found.get(n) for n in marked ^ set(found)} == {}
    assert len(marked) >= 15


def public_names():
    """What people call, and the methods of what they get, as they would write it."""
    modules = {"jax_lstm": jl.__all__}
    for folder in FOLDERS:
        module = importlib.import_module(f"jax_lstm.{folder}")
        own = [name for name, x in vars(module).items() if is_public(module, name, x)]
        modules[module.__name__] = getattr(module, "__all__", own)
    for module, names in modules.items():
        for name in names:
            thing = getattr(sys.modules[module], name)
            if callable(thing):
                yield f"{module}.{name}"
            if inspect.isclass(thing):
                own = (k for k, x in vars(thing).items() if inspect.isfunction(x))
                methods = [k for k in own if k[0] != "_" or k in ("__bool__", "__str__")]
                yield from (f"{module}.{name}.{method}" for method in methods)


def is_public(module, name, thing):
    """Of a folder its functions; of a file of interop those that go from a framework or to it."""
    if name[0] == "_" or not inspect.isfunction(thing):
        return False
    return "interop" not in module.__name__ or name.startswith(("from_", "to_", "gradient_"))


def test_every_public_function_says_its_types():
    """Those that `bind` makes have theirs by the name of what makes them: see the next test."""
    lacking = []
    for name in public_names():
        thing = functools.reduce(getattr, name.split(".")[1:], jl)
        if inspect.isclass(thing) or "__signature__" in vars(thing):
            continue
        signature = inspect.signature(thing)
        kinds = [p.annotation for k, p in signature.parameters.items() if k != "self"]
        if inspect.Signature.empty in (*kinds, signature.return_annotation):
            lacking.append(name)
    assert lacking == []


@pytest.mark.slow
@needs_pyright
def test_every_public_name_has_its_types(checker):
    """In strict mode it is an error to name what is known in part."""
    folder, check = checker
    names = sorted(public_names())
    assert len(names) > 180
    imports = [f"import jax_lstm.{name}" for name in FOLDERS]
    lines = ["import jax_lstm", *imports, *(f"print({name})" for name in names)]
    (folder / "names.py").write_text("\n".join(lines))
    assert {lines[n]: message for n, message in check("names.py").items()} == {}


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
