"""The truth and the mistakes of one problem, as the referee wants them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from jax_lstm import referee
from jax_lstm.diagnosis.catalogue import PERMUTED, factor_table
from jax_lstm.diagnosis.finish import finishing
from jax_lstm.diagnosis.kinds import kind_of
from jax_lstm.diagnosis.sentences import INNER
from jax_lstm.diagnosis.switches import clash

PER_STEP = ("das", "dhs", "dcs")  # leaves that few people have
LARGE = 5e4  # T B H (D + H) from which two mistakes at once take longer than people wait
SECONDS, PER_PAIR, PER_NUMBER = 2.2, 3e-5, 9e-9  # of one core, as measured
RARE = {*factor_table(), *(f"{x} in order {k}" for k in PERMUTED for x in ("forward", "deltas"))}
BELOW = {"dxs", "dE"}  # either may be given without the other
DRAWS = 4  # runs that show how large rounding is


def table_of(cell, problem, settings: Mapping[str, Any] = MappingProxyType({}), absent=()):
    """A Table; the truth in it is made here and now. absent: weights that its owner has not."""
    kind = kind_of(cell)
    (T, B, D), H = problem.xs.shape, problem.state["h"].shape[-1]
    features = H if problem.ys is None else problem.ys.shape[-1]
    sizes = {"time": T, "batch": B, "features": features}
    weights = kind.weights + tuple(f"d{k}" for k in problem.params if f"d{k}" not in kind.weights)
    changes = kind.after(problem) | referee.scalings(sizes, weights)
    truth, gates = kind.gradients(problem, [()]), kind.blocks.get("dW", ())
    noise = noise_of(kind, problem, truth)

    def gradients(settings):
        return truth if list(settings) == [()] else kind.gradients(problem, settings)

    own = {k: x for k, x in problem.params.items() if k not in absent}
    finish, finishes = finishing(own, settings)
    inside = {k: says for k, says in kind.inside(problem).items() if k not in problem.forward}
    return referee.Table(
        inside,
        gradients,
        changes,
        clash,
        noise,
        weights,
        kind.steps,
        kind.blocks,
        {"dxs": dict(zip(gates, np.split(problem.params["W"].T, len(gates)), strict=True))}
        if gates
        else {},
        T * B * H * (D + H) > LARGE,
        kind.local(problem),
        {f"d{k}": x for k, x in own.items()},
        finish=finish,
        finishes=finishes,
        inner={
            k: (says, numbered(kind, problem, k)) for k, says in INNER.items() if k in kind.inner
        },
        rare=frozenset(RARE) & frozenset(inside),
        most=int(SECONDS / (PER_PAIR + PER_NUMBER * T * B * H * (D + H))),
    )


def numbered(kind, problem, name):
    """Gradients with a mistake that has a number, for several numbers."""
    return lambda numbers: kind.gradients(problem, [(f"{name} at {float(x)!r}",) for x in numbers])


def table_for(table, given):
    """The table with the leaves that are given: torch's second bias, what belongs to each step.

    A mistake of leaves that are not given is out: nothing here could show it.
    """
    every = {g.leaf for g in given}
    own = {k: set(leaves) for k, leaves in table.local.items()}
    hidden = {k for k, x in own.items() if not (x & every and x - BELOW <= every)}
    shown = [k for k in table.inside if k not in hidden]
    table = table._replace(inside={k: v for k, v in table.inside.items() if k in shown})
    bare = table.gradients

    def gradients(settings):
        found = bare(settings)
        found = {k: x for k, x in found.items() if k in every or k not in PER_STEP}
        return found | ({"db again": found["db"]} if "db again" in every else {})

    if "db again" not in every:
        return table._replace(gradients=gradients)

    def again(change):  # what happens to db happens to both
        return lambda d: (changed := change(d)) | {"db again": changed["db"]}

    both = lambda leaves: (*leaves, "db again") if "db" in leaves else leaves
    return table._replace(
        gradients=gradients,
        after={k: (says, again(change)) for k, (says, change) in table.after.items()},
        noise=table.noise | {"db again": table.noise["db"]},
        weights=(*table.weights, "db again"),
        blocks=table.blocks | {"db again": table.blocks["db"]},
        local={k: both(leaves) for k, leaves in table.local.items()},
        inner={k: (says, twice(made)) for k, (says, made) in table.inner.items()},
    )


def twice(gradients):
    """Gradients in which db stands once more."""
    return lambda numbers: (found := gradients(numbers)) | {"db again": found["db"]}


def noise_of(kind, problem, truth):
    """{leaf: norm of the truth's rounding error per eps}, by what float32 makes of the problem.

    Every number is moved by less than its last digit, a few times; the largest error counts, up
    to a hundredth of the whole gradient: where float32 overflows it says nothing.
    """
    rng, largest = np.random.default_rng(0), {}
    eps = float(np.finfo(np.float32).eps)
    most = 0.01 * np.sqrt(sum(np.sum(x * x) for x in truth.values())) / eps

    def nudge(x):
        if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
            return x
        return (x * (1 + eps * rng.uniform(-0.5, 0.5, x.shape))).astype(np.float32)

    for _ in range(DRAWS):
        found = kind.gradients(jax.tree.map(nudge, problem), [()])
        for k, x in truth.items():
            error = np.linalg.norm(found[k].astype(np.float64) - x) / eps
            error = float(error) if error < most else float(most)
            largest[k] = max(largest.get(k, 0.0), error)
    return largest
