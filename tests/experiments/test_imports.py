"""Experiments import the kit and themselves: no circle, and no experiment that needs another."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def name_module(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph():
    """module -> modules of experiments/ that it imports, at its top or later."""
    files = {name_module(path): path for path in (ROOT / "experiments").rglob("*.py")}
    graph = {}
    for module, path in files.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= names | {node.module}
        graph[module] = found & set(files)
    return graph


def check_order(graph):
    """Raises graphlib.CycleError where modules import each other in a circle."""
    return list(graphlib.TopologicalSorter(graph).static_order())


def test_no_module_imports_itself_by_way_of_others():
    graph = import_graph()
    assert "experiments.kit.command" in graph["experiments.char_lm.run"]
    assert set(check_order(graph)) == set(graph)
    graph["experiments.kit.plots"] |= {"experiments.plots"}
    with pytest.raises(graphlib.CycleError):
        check_order(graph)


def test_no_experiment_needs_another():
    """Only the commands that draw any run's pictures, and continue any run's text, know others."""
    for module, others in import_graph().items():
        if module in ("experiments.plots", "experiments.sample"):
            continue
        _, mine, *_ = (*module.split("."), "")
        for other in others - {"experiments"}:
            assert other.split(".")[1] in (mine, "kit"), f"{module} imports {other}"
