"""The exam: LSTMs as other people write them, each in its own layout, right and with one mistake.

The files in public/ are written in the manner of public code, by nobody's hand but ours, and know
nothing of this package. A mistake is a line of them that is replaced.
"""

import importlib
import pathlib

import numpy as np
import pytest

import jax_lstm as jl

PUBLIC = pathlib.Path(__file__).parent / "public"
NAMES = sorted(path.stem for path in PUBLIC.glob("*.py") if path.stem != "__init__")
ALLOWED = 0.1  # of the wrong ones: neither named nor placed


def load(name):
    return importlib.import_module(f"tests.diagnosis.public.{name}")


def broken(name, old, new):
    """The function `gradient` of the file with a line replaced."""
    source = (PUBLIC / f"{name}.py").read_text()
    assert source.count(old) >= 1, old
    names = {"__name__": name}
    exec(compile(source.replace(old, new, 1), f"{name} with {new}", "exec"), names)
    return names["gradient"]


def is_told(found, want):
    """Whether an explanation has the name, or the sentence the words."""
    names = [k for e in found.explanations for k in e.names]
    return any(k.startswith(want) for k in names) or want in found.sentence()


@pytest.mark.parametrize("name", NAMES)
def test_a_right_gradient_is_right_in_its_own_layout(name):
    module = load(name)
    for seed in range(3):
        problem = module.draw(np.random.default_rng(seed))
        found = jl.diagnose(module.gradient(problem), problem, layout=module.LAYOUT)
        assert found, found.sentence()
        single = {k: np.float32(x) for k, x in module.gradient(problem).items()}
        assert jl.diagnose(single, problem, layout=module.LAYOUT)


@pytest.mark.half
@pytest.mark.parametrize("name", NAMES)
def test_one_mistake_is_named_or_placed(name):
    module = load(name)
    problem, missed = module.draw(np.random.default_rng(7)), []
    for old, new, want in module.MISTAKES:
        gradient = broken(name, old, new)(problem)
        found = jl.diagnose(gradient, problem, layout=module.LAYOUT, pairs=False)
        assert bool(found) is (want == "right"), (new, found.sentence())
        if not is_told(found, want):
            missed.append((new, want, found.sentence()))
    assert len(missed) <= ALLOWED * len(module.MISTAKES), missed
