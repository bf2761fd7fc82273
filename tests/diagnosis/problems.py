"""What the tests of diagnose share: problems, gradients with planted mistakes, the engine's own."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm import referee
from jax_lstm.diagnosis import diagnose as diagnosis
from jax_lstm.diagnosis.catalogue import Problem
from jax_lstm.diagnosis.slow_backward import MUTANTS
from tests.tables import CELLS

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"
CLIPPED = ("clip by value", "clip by norm", "clip weights by norm")


def random_problem(rng, cell, size=None, loss=None):
    """A problem with weights that keep gates open, and something remembered."""
    T, B, D, H = size or (rng.integers(1, 9), rng.integers(1, 5), *rng.integers(1, 7, 2))
    R, blocks = (max(H - 1, 1) if cell == "lstmp" else H), (1 if cell == "elman" else 4)

    def draw(*shape):
        return rng.standard_normal(shape)

    params = {"W": draw(D, blocks * H) / D**0.5, "U": draw(R, blocks * H) / R**0.5}
    params["b"] = draw(blocks * H) / 2
    if cell == "lstmp":
        params["P"] = draw(H, R) / H**0.5
    state = {"h": draw(B, R) / 2} | ({} if cell == "elman" else {"c": draw(B, H) / 2})
    loss = loss or str(rng.choice(["cotangents", "squared_error", "binary_cross_entropy"]))
    given = loss == "cotangents"
    last = {k: draw(*x.shape) if given else np.zeros_like(x) for k, x in state.items()}
    dhs, ys = draw(T, B, R), (draw(T, B, R) if loss == "squared_error" else rng.random((T, B, R)))
    dhs, ys = (dhs, None) if given else (np.zeros_like(dhs), ys)
    return Problem(params, state, draw(T, B, D), loss, dhs, ys, 1.0, last)


def cast(problem, dtype):
    return jax.tree.map(lambda x: x.astype(dtype) if isinstance(x, np.ndarray) else x, problem)


def in_our_layout(problem):
    arrays = problem.params | {f"{k}0": x for k, x in problem.state.items()} | {"xs": problem.xs}
    if problem.loss == "cotangents":
        last = {f"d{k}_T": x for k, x in problem.dlast.items()}
        return arrays | last | {"dhs": problem.dhs}
    return arrays | {"ys": problem.ys, "loss": problem.loss}


def leaves_of(problem):
    return [f"d{k}" for k in problem.params] + ["dxs"] + [f"d{k}0" for k in problem.state]


def planted(problem, cell, names, dtype="float64"):
    """The gradient with these mistakes, computed in the dtype."""
    kind, (T, B, _) = MUTANTS[cell], problem.xs.shape
    sizes = {"time": T, "batch": B, "features": problem.state["h"].shape[-1]}
    after = kind.after(problem) | referee.scalings(sizes, kind.weights)
    inside = tuple(k for k in names if k not in after and k not in CLIPPED)
    gradient = kind.gradients(cast(problem, dtype), [inside])
    for name in names:
        if name in after:
            gradient = after[name][1](gradient)
    gradient = {k: gradient[k][0] for k in leaves_of(problem)}
    every = np.concatenate([np.abs(x).reshape(-1) for x in gradient.values()])
    for name in names:
        if name == "clip by value":
            top = np.quantile(every, 0.8)
            gradient = {k: np.clip(x, -top, top) for k, x in gradient.items()}
        elif name in CLIPPED:
            mine = kind.weights if "weights" in name else leaves_of(problem)
            gradient = {k: x * 0.37 if k in mine else x for k, x in gradient.items()}
    return {k: np.asarray(x, dtype) for k, x in gradient.items()}


def mistakes_of(problem, cell):
    kind, (T, B, _) = MUTANTS[cell], problem.xs.shape
    sizes = {"time": T, "batch": B, "features": problem.state["h"].shape[-1]}
    changes = kind.after(problem) | referee.scalings(sizes, kind.weights)
    return [*kind.inside(problem), *changes, *CLIPPED]


def named(found, names):
    return any(set(e.names) == set(names) for e in found.explanations)


def judged(gradient, problem, cell, pairs=False):
    return diagnosis.diagnose(gradient, in_our_layout(problem), cell=cell, pairs=pairs)


ROWS = {
    "lstm": (jl.LSTMParams, jl.LSTMState),
    "lstmp": (jl.LSTMPParams, jl.LSTMPState),
    "elman": (jl.ElmanParams, jl.ElmanState),
}
over_cells = pytest.mark.parametrize("cell", ROWS)


@functools.cache
def pulled_back(cell):
    """The cotangents of the engine, compiled once per cell and dtype."""

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def cotangents(args, dy):
        return jax.vjp(CELLS[cell].sequence, *args)[1](dy)

    return cotangents


def by_the_engine(problem, cell):
    params, state = ROWS[cell]
    args = params(**problem.params), state(**problem.state), problem.xs
    args, dy = jax.tree.map(jnp.asarray, (args, (state(**problem.dlast), problem.dhs)))
    dparams, dstate, dxs = pulled_back(cell)(args, dy)
    gradient = {f"d{k}": x for k, x in dparams._asdict().items()} | {"dxs": dxs}
    return gradient | {f"d{k}0": x for k, x in dstate._asdict().items()}


def coursera():
    f = json.loads((FIXTURES / "coursera_seq.json").read_text())
    x = [[row[:4] for row in rows] for rows in f["x"]]
    return f["params"] | {"x": x, "a0": f["a0"], "da": f["da"]}, f["gradients"]
