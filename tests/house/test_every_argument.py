"""Every public function, every argument, every wrong kind: one complaint that names the argument.

The table is generated: the functions are those of `__all__`, the arguments those of their
signatures; arguments.py has an example of each by its name, and the kinds that are right for it. A
complaint comes from a door of ours, before anything is traced: nothing is compiled here.
"""

import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm.files.inspect import inspect as inspect_file
from jax_lstm.interop import flax, keras, torch
from tests.house.arguments import (
    ANY,
    NAMES,
    OTHER_SHAPES,
    OWN,
    WRONG,
    B,
    Traced,
    example,
    params_of,
    state_of,
)

HERE = str(Path(jl.__file__).parent)


def functions():
    """{name: function} of all that is public and is called by people."""
    found = {name: getattr(jl, name) for name in jl.__all__}
    found |= {f"referee.{name}": getattr(jl.referee, name) for name in jl.referee.__all__}
    for name in ("init_language_model", "language_model_loss", "make_update"):
        found[f"training.{name}"] = getattr(jl.training, name)
    for module in (torch, keras, flax):
        short = module.__name__.rpartition(".")[2]
        both_ways = {k: f for k, f in vars(module).items() if re.match("(gradient_)?(from|to)_", k)}
        found |= {
            f"{short}.{k}": f for k, f in both_ways.items() if f.__module__ == module.__name__
        }
    begin, advance = jl.tbptt_stream(2, 3)
    found |= {"tbptt()": jl.tbptt(2, 3), "begin": begin, "advance": advance}
    online = jl.make_online(jl.IND_RNN)
    found |= {"online.begin": online.begin, "online.advance": online.advance}
    one = jl.over_units(jax.devices()[:1])  # H of these arguments is odd
    found |= {"over_devices()": jl.over_devices(), "over_units()": one, "inspect": inspect_file}
    others = (type, jl.Cell, types.ModuleType)
    return {k: f for k, f in found.items() if callable(f) and not isinstance(f, others)}


# They print, or take what this package made.
NO_DOOR = {
    "referee.distances",
    "referee.failure",
    "referee.first_line",
    "referee.header",
    "referee.precisely",
}
NO_DOOR |= {"torch.to_tensors"}  # needs torch: tests/interop/ has what it refuses
FOUND = {name: f for name, f in functions().items() if name not in NO_DOOR}


CELL_NAMES = "|".join(sorted(jl.CELLS, key=len, reverse=True))  # the longest first


def example_of(name, argument):
    own = OWN.get(name, {})
    if argument in own:
        return own[argument]
    match = re.fullmatch(rf"(?:init_|linearised_)?({CELL_NAMES})(?:_\w*)?", name)
    if argument in ("params", "state") and match:
        cell = jl.CELLS[match[1]]
        return example(params_of(cell) if argument == "params" else state_of(cell, B))
    return NAMES[argument]


def is_arrays(tree):
    leaves = jax.tree.leaves(tree)
    return leaves and all(isinstance(x, np.ndarray) for x in leaves)


def smaller(tree):
    """The arrays with an element fewer per row."""
    return jax.tree.map(lambda x: x[..., :-1], tree)


def call(f, right, argument, value):
    """What comes of it; the first of it where it is a generator."""
    if isinstance(value, Traced):
        shape = jax.ShapeDtypeStruct(value.shape, value.dtype)
        return jax.eval_shape(lambda x: call(f, right, argument, x), shape)
    several = any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(f).parameters.values())
    given = right | {argument: value}
    if several:
        first, args = given.pop(next(iter(given))), given.pop("args")
        y = f(first, *(args if isinstance(args, tuple) else (args,)), **given)
    else:
        y = f(**given)
    return next(y) if isinstance(y, Iterator) else y


def fault(f, right, argument, value, blamed):
    """What is wrong with a complaint, or None."""
    try:
        call(f, right, argument, value)
    except (ValueError, TypeError) as error:
        last = error.__traceback__
        while last.tb_next:
            last = last.tb_next
        where = last.tb_frame.f_code.co_filename
        if type(error) not in (ValueError, TypeError) or not where.startswith(HERE):
            return f"{type(error).__name__} of {where}: {error}"
        if not any(re.search(rf"(?<!\w){word}(?!\w)", str(error)) for word in blamed):
            return f"does not name it: {error}"
        return None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "accepted"


@pytest.mark.parametrize("name", FOUND)
def test_every_wrong_kind_is_told_by_the_name_of_the_argument(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # `save` writes
    f = FOUND[name]
    examples = {k: example_of(name, k) for k in inspect.signature(f).parameters}
    right, faults = {argument: e.value for argument, e in examples.items()}, {}
    for argument, e in examples.items():
        for kind in WRONG.keys() - e.right:
            blamed = [argument, "`a`", "found a"]  # or the key of the dict
            if kind in OTHER_SHAPES and is_arrays(e.value):
                blamed = examples
            faults[argument, kind] = fault(f, right, argument, WRONG[kind], blamed)
        if e.size is None and is_arrays(e.value):
            blamed = [*examples, "`W`", "`kernel`"]
            faults[argument, "size"] = fault(f, right, argument, smaller(e.value), blamed)
        elif e.size is not None and e.size is not ANY:
            faults[argument, "size"] = fault(f, right, argument, e.size, [argument])
    faults = {key: says for key, says in faults.items() if says}
    assert not faults, "\n".join(f"{key}: {says}" for key, says in faults.items())
