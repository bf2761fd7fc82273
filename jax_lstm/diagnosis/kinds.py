"""What is known of each cell's mistakes: of three all of the catalogue, of the others what knows no
gate, by JAX's own derivative of one plain step.
"""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm import referee
from jax_lstm.cells import CELLS
from jax_lstm.diagnosis.catalogue import Mutants, loss_table, truncations
from jax_lstm.diagnosis.head import embedding_bwd, from_outside, loss_value, readout_bwd
from jax_lstm.diagnosis.misplaced import after_leaves, blocks
from jax_lstm.diagnosis.sentences import LAST, TIME
from jax_lstm.diagnosis.slow_backward import MUTANTS
from jax_lstm.diagnosis.switches import flow, is_flow, switch
from jax_lstm.engine.shapes import axes_of

SIDE = 64  # runs side by side: one program for all
SHARED = (
    "last loss",
    "dh of t-1",
    "dh of t+1",
    "last dh at every step",
)  # of TIME, no gate in them


def kind_of(cell) -> Mutants:
    """The Mutants of a cell, by its name in CELLS."""
    return MUTANTS.get(cell) or any_kind(cell)


@functools.cache
def any_kind(name):
    cell = CELLS[name]
    gates = {}
    for k, text in (*cell.shapes, *((f"{k}0", f) for k, f in cell.fields)):
        width = ("", *axes_of(text))[-1]
        if len(cell.gates) > 1 and width == f"{len(cell.gates)}H":
            gates[f"d{k}"] = cell.gates
    return Mutants(
        functools.partial(inside, cell),
        lambda problem: {},
        functools.partial(gradients, cell),
        functools.partial(after, gates),
        None,
        tuple(f"d{k}" for k, _ in cell.shapes),
        ("dxs",),
        gates,
        (),
        functools.partial(forward, cell),
    )


def inside(cell, problem):
    """The table: what goes wrong between steps, and at their ends."""
    fields = [k for k, _ in cell.fields]
    table = {f"d{k} not carried": f"d{k} not carried from t to t-1" for k in fields}
    if len(fields) > 1:
        table["nothing carried"] = "nothing carried between steps"
    table["own loss"] = "only a step's own loss (what a later step lost never reaches t)"
    table |= {k: TIME[k] for k in SHARED}
    for k in fields:
        table[f"d{k}_T dropped"] = LAST["dh_T dropped"].replace("last h", f"last {k}")
        table[f"{k}0 zero"] = f"zeros for the remembered {k}0, forward and backward"
    return table | loss_table(problem) | truncations(len(problem.xs))


def after(gates, problem):
    """Leaves mixed up: turned, counted otherwise, their blocks in another order."""
    table = after_leaves(problem)
    for k, x in problem.params.items():
        if x.ndim == 2 and x.shape[0] == x.shape[1]:
            table[f"d{k} transposed"] = (
                f"d{k} transposed",
                lambda d, k=k: d | {f"d{k}": np.swapaxes(d[f"d{k}"], -1, -2)},
            )
    names = next(iter(gates.values()), ())
    for order in itertools.permutations(range(len(names))) if len(names) < 5 else ():
        if order != tuple(range(len(names))):
            title = " ".join(names[n] for n in order)
            table[f"gradient in order {title}"] = (
                f"the gates' blocks in the order {title}",
                lambda d, order=order: d | {k: blocks(d[k], order) for k in gates if k in d},
            )
    return table


@functools.cache
def pulled_back(cell):
    """Gradients of Σ dhs h + Σ dlast state for several runs; compiled once per cell and shapes.

    enters the outside's dhs of each run, ends its dlast, carried: factors (T, fields), of which a
    zero lets nothing go back. begin: factors on the first state.
    """

    def total(params, state, xs, dhs, dlast, carried, begin):
        w, step = cell.prepare(params, None), cell.step_for_jax or cell.step

        def one(state, now):
            x, dh, keep = now
            state = cell.state(*(where_kept(k, s) for k, s in zip(keep, state, strict=True)))
            state, _ = step(w, state, cell.project(w, x))
            return state, jnp.sum(state[0] * dh)

        state = cell.state(*(b * s for b, s in zip(begin, state, strict=True)))
        last, sums = jax.lax.scan(one, state, (xs, dhs, carried))
        return jnp.sum(sums) + sum(jnp.sum(d * s) for d, s in zip(dlast, last, strict=True))

    grads = jax.grad(total, (0, 1, 2))
    return jax.jit(jax.vmap(grads, (None, None, None, 0, 0, 0, 0)))


def where_kept(keep, s):
    return keep * s + (1 - keep) * jax.lax.stop_gradient(s)


@functools.cache
def run_forward(cell):
    def states(params, state, xs):
        w, step = cell.prepare(params, None), cell.step_for_jax or cell.step

        def one(state, x):
            state, _ = step(w, state, cell.project(w, x))
            return state, state

        return jax.lax.scan(one, state, xs)[1]

    return jax.jit(states)


def arguments(cell, problem):
    params = cell.params(*(np.float64(problem.params[k]) for k, _ in cell.shapes))
    return params, cell.state(*(np.float64(problem.state[k]) for k, _ in cell.fields))


def states_of(cell, problem, zero=()):
    """Every state (T, B, ...), by name."""
    params, state = arguments(cell, problem)
    state = cell.state(*(0 * x if f"{k}0 zero" in zero else x for k, x in state._asdict().items()))
    with referee.precisely():
        return jax.tree.map(np.asarray, run_forward(cell)(params, state, np.float64(problem.xs)))


def forward(cell, problem, settings):
    """hs, cs and the loss, per setting."""
    found: dict[str, list[Any]] = {}
    for names in settings:
        states = states_of(cell, problem, names)._asdict()
        field = cell.fields[0][0]
        one = {"hs": states[field]} | ({"cs": states["c"]} if "c" in states else {})
        loss = loss_value(problem, list(states[field]))
        one |= {} if loss is None else {"loss": np.reshape(loss, (1, 1, 1))}
        for k, x in one.items():
            found.setdefault(k, []).append(x)
    return {k: np.stack(x) for k, x in found.items()}


def gradients(cell, problem, settings):
    """{leaf: (settings, ...)}."""
    settings, rows, T = list(settings), [], len(problem.xs)
    fields = [k for k, _ in cell.fields]
    above: dict[str, list[Any]] = {}
    hs_of = functools.cache(lambda zero: list(states_of(cell, problem, zero)[0]))
    for n, names in enumerate(settings):
        pick, begin = switch([names]), [float(f"{k}0 zero" not in names) for k in fields]
        hs = hs_of(tuple(k for k in names if k.endswith("0 zero")))
        dlast = {k: 0 * x if f"d{k}_T dropped" in names else x for k, x in problem.dlast.items()}
        dhs = [from_outside(problem, hs, pick, t).reshape(hs[0].shape) for t in range(T)]
        before = [problem.state[fields[0]], *hs[:-1]]
        for k, x in readout_bwd(problem, hs, before, pick, {}).items():
            above.setdefault(k, []).append(x.reshape(problem.params[k[1:]].shape))
        cuts = flow(tuple(filter(is_flow, names)), T)
        for enters, ends, cut in zip(*cuts, strict=True):
            keep = np.repeat(1.0 - np.roll(cut, 1)[:, None], len(fields), 1)
            keep[0] = 1.0  # of the first state, which no step came to
            for k, field in enumerate(fields):
                if "nothing carried" in names or f"d{field} not carried" in names:
                    keep[1:, k] = 0.0
            here = np.where(enters[:, None, None], dhs, 0.0)
            rows.append((n, here, [ends * dlast[k] for k in fields], keep, begin))
    params, state = arguments(cell, problem)
    every: dict[str, Any] = {}
    for part in (rows[a : a + SIDE] for a in range(0, len(rows), SIDE)):
        whose = [row[0] for row in part]
        part = [*part, *part[-1:] * (-len(part) % (SIDE if len(rows) > 1 else 1))]
        dhs, dlast, keep, begin = (
            jax.tree.map(lambda *x: np.float64(np.stack(x)), *x)
            for x in zip(*(row[1:] for row in part), strict=True)
        )
        with referee.precisely():
            found = pulled_back(cell)(
                params, state, np.float64(problem.xs), dhs, cell.state(*dlast), keep, tuple(begin)
            )
        dparams, dstate, dxs = jax.tree.map(np.asarray, found)
        leaves = {f"d{k}": x for k, x in dparams._asdict().items()} | {"dxs": dxs}
        leaves |= {f"d{k}0": x for k, x in dstate._asdict().items()}
        for k, x in leaves.items():
            into = every.setdefault(k, np.zeros((len(settings), *x.shape[1:])))
            np.add.at(into, whose, x[: len(whose)])
    every |= {k: np.stack(x) for k, x in above.items()}
    return every | embedding_bwd(problem, every["dxs"], {})
