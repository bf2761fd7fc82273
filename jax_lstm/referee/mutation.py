"""A cell's proof that its checks can fail: each of its numbers put wrong, each time seen.

The hand-written rule runs in a plain loop with a knob on everything that passes from one function
to the next: what comes from outside and from t+1, every block of every delta, what goes to t-1, and
each cotangent that comes out. Turned by one knob it must disagree with JAX; unturned it must agree.
The loop is compiled once: knobs are numbers.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm import printing
from jax_lstm.referee.comparison import (
    ROUNDING,
    AnyCell,
    Tree,
    along,
    exactly,
    host,
    judge,
    leaf_names,
    lowest_dtype,
    precisely,
    pullback,
    quick_jit,
    random_cotangents,
)
from jax_lstm.referee.deltas import block_count, forward, of_params, run
from jax_lstm.referee.doors import check_record
from jax_lstm.referee.tapped import Taps

TURNS = {"zero": 0.0, "sign": -1.0, "factor 1.01": 1.01}


class Mutant(NamedTuple):
    """One knob turned. by: the cotangents that disagree; relative: by how much the worst."""

    name: str
    rejected: bool
    by: tuple[str, ...]
    relative: float


class MutationReport(NamedTuple):
    """True only when the cell itself agrees with JAX and every mutant of it does not."""

    right: bool
    mutants: tuple[Mutant, ...]
    dtype: str

    def __bool__(self) -> bool:
        return self.right and bool(self.mutants) and not self.survivors()

    def survivors(self) -> tuple[Mutant, ...]:
        return tuple(m for m in self.mutants if not m.rejected)

    def sentence(self) -> str:
        n, alive = len(self.mutants), len(self.survivors())
        cell = "agrees with JAX" if self.right else "DISAGREES with JAX"
        return f"the cell {cell}; {n - alive} of {n} mutants rejected ({self.dtype})"

    __str__ = printing.page
    _repr_html_ = printing.html

    def tables(self) -> list[printing.Sheet]:
        rows = tuple(
            (m.name, m.relative, "rejected" if m.rejected else "SURVIVES") for m in self.mutants
        )
        return [printing.Sheet(("mutant", "relative", ""), rows, form=".1e", rule=True)]

    def table(self) -> str:
        return f"{self.tables()[0]}\n{self.sentence()}"

    def to_json(self, **facts: Any) -> str:
        return printing.to_json({"ok": bool(self)} | self._asdict() | {"facts": facts})


def mutation_test(
    cell: AnyCell, params: Tree, state: Tree, xs: Tree, *, consts: Tree = None, seed: int = 0
) -> MutationReport:
    """Prove that a wrong rule of this cell would be seen: break it everywhere, one at a time.

    Args:
      cell: a `Cell`, one of the package's or one's own.
      params, state, xs: as for its sequence function; xs (T, ..., D) with T >= 2. Random numbers
        are added to the state, so that nothing is zero by chance.
      consts: what the cell sees at every step.
      seed: of the random numbers.

    Returns:
      MutationReport: true when the cell agrees with JAX and each mutant is rejected. A survivor is
      a number that no gradient depends on, or one that the problem cannot show.

    Raises:
      ValueError: fewer than two time steps, or float64 where JAX has it switched off.
    """
    check_record(cell, seed, params=params, state=state, xs=xs)
    dtype = lowest_dtype((params, state, xs))
    if len(jax.tree.leaves(xs)[0]) < 2:
        raise ValueError(
            "`xs` must have two time steps or more: mutants of time need a step before"
        )
    rng = np.random.default_rng(seed)
    draw = lambda x: (host(x) + 0.5 * rng.standard_normal(x.shape)).astype(x.dtype)
    args = params, drawn_anew(cell, state, draw), xs
    plain = lambda *args: run(cell, Taps(), consts, args)
    dys = random_cotangents(plain, args, seed)
    auto = pullback(plain)
    own = along(auto, args, dys)
    with precisely():
        want = along(auto, exactly(args), exactly(dys))
    names = leaf_names(args, ("params", "state", "xs"))
    hand = quick_jit(lambda args, dy, knobs: cotangents(cell, consts, args, dy, knobs))
    shape = jax.eval_shape(lambda args: delta_of(cell, consts, args), args)
    knobs = knobs_of(args, shape)

    def rows_with(knobs):
        runs = [jax.tree.leaves(hand(args, dy, knobs)) for dy in dys]
        got = [np.stack([host(x) for x in leaf]) for leaf in zip(*runs, strict=True)]
        by = {"route": "mutant", "against": "jax.vjp", "dtype": dtype}
        return [*judge(names, got, want[1:], own[1:], ROUNDING, **by)]

    def mutant(name, knobs):
        rows = rows_with(knobs)
        by = tuple(row.array for row in rows if not row.ok)
        worst = max((r.relative for r in rows if not np.isnan(r.relative)), default=0.0)
        return Mutant(name, bool(by), by, worst)

    right = all(row.ok for row in rows_with(knobs))
    return MutationReport(right, tuple(mutant(*m) for m in turnings(knobs)), str(dtype))


def drawn_anew(cell, state, draw):
    """A random state, but for fields of a fixed size, such as a clock: no step would come there."""
    fixed = [k for k, text in cell.fields if text.removeprefix("wide ").isdigit()]
    found = jax.tree.map(draw, state)
    return found._replace(**{k: getattr(state, k) for k in fixed}) if fixed else found


# Knobs ----------------------------------------------------------------------------------------


class Knobs(NamedTuple):
    """Numbers that multiply, 1 where nothing is wrong, by what they belong to.

    deltas: per leaf, (blocks,) along its last axis. order: per leaf, the order of these blocks.
    shifts: by how many steps the inputs, the states before a step, and dh from outside are late.
    """

    outside: Any
    carried: Any
    deltas: Any
    order: Any
    previous: Any
    dparams: Any
    dxs: Any
    shifts: Any


def knobs_of(args, delta):
    params, state, xs = args
    one = lambda tree: jax.tree.map(lambda _: np.ones(()), tree)

    blocks = lambda x: block_count(x.shape[-1], state)
    return Knobs(
        np.ones(()),
        one(state),
        jax.tree.map(lambda x: np.ones(blocks(x)), delta),
        jax.tree.map(lambda x: np.arange(blocks(x)), delta),
        one(state),
        one(params),
        one(xs),
        {"xs": np.zeros((), int), "states before": np.zeros((), int), "dhs": np.zeros((), int)},
    )


def turnings(knobs):
    """(name, knobs) of every mutant: one number turned, two blocks swapped, time shifted."""
    named = {
        "outside": "dh from outside",
        "carried": "from t+1",
        "deltas": "delta",
        "previous": "to t-1",
        "dparams": "dparams",
        "dxs": "dxs",
    }
    for field, title in named.items():
        leaves, structure = jax.tree.flatten_with_path(getattr(knobs, field))
        for k, (path, x) in enumerate(leaves):
            for n in np.ndindex(x.shape):
                for turn, factor in TURNS.items():
                    new = x.copy()
                    new[n] = factor
                    block = f", block {n[0]}" if x.size > 1 else ""
                    name = f"{title}{jax.tree_util.keystr(path)}{block}: {turn}"
                    yield name, turn_one(knobs, field, leaves, structure, k, new)
    leaves, structure = jax.tree.flatten_with_path(knobs.order)
    for k, (path, x) in enumerate(leaves):
        for n in range(x.size - 1):
            new = x.copy()
            new[[n, n + 1]] = new[[n + 1, n]]
            name = f"delta{jax.tree_util.keystr(path)}, blocks {n} and {n + 1} swapped"
            yield name, turn_one(knobs, "order", leaves, structure, k, new)
    for name, zero in knobs.shifts.items():
        for by in (1, -1):
            yield (
                f"{name}: {'a step late' if by > 0 else 'a step early'}",
                knobs._replace(shifts=knobs.shifts | {name: zero + by}),
            )


def turn_one(knobs, field, leaves, structure, k, new):
    changed = [new if n == k else x for n, (_, x) in enumerate(leaves)]
    return knobs._replace(**{field: jax.tree.unflatten(structure, changed)})


# The loop by hand -----------------------------------------------------------------------------


def delta_of(cell, consts, args):
    """What `step_bwd` hands over at one step."""
    w, seen, saved, state = forward(
        cell, consts, (*args[:2], jax.tree.map(lambda x: x[:1], args[2]))
    )
    return cell.step_bwd(w, seen[0], cell.slopes(w, seen[0], saved[0]), state)[1]


def cotangents(cell, consts, args, dy, knobs):
    """Cotangents of params, state and xs by hand, every knob in its place."""
    params, _, xs = args
    dstate, dhs = dy
    times = lambda tree, knob: jax.tree.map(lambda x, k: x * k.astype(x.dtype), tree, knob)
    late = lambda tree, n: jax.tree.map(lambda x: jnp.roll(x, n, axis=0), tree)
    dhs = late(dhs, knobs.shifts["dhs"]) * knobs.outside.astype(dhs.dtype)

    def blocks(x, knob, order):
        parts = x.reshape((*x.shape[:-1], order.size, -1)) if order.size > 1 else x[..., None, :]
        knob = knob.reshape((*(1,) * (x.ndim - 1), -1, 1))
        parts = jnp.take(parts, order, axis=-2) * knob.astype(x.dtype)
        return parts.reshape(x.shape)

    w, seen, saved, _ = forward(cell, consts, args)
    deltas: list[Any] = [None] * len(seen)
    for t in reversed(range(len(seen))):
        h, *rest = times(dstate, knobs.carried)
        dstate = type(dstate)(h + dhs[t], *rest)  # (F')
        slopes = cell.slopes(w, seen[t], saved[t])
        dstate, delta = cell.step_bwd(w, seen[t], slopes, dstate)
        deltas[t] = jax.tree.map(blocks, delta, knobs.deltas, knobs.order)
        dstate = times(dstate, knobs.previous)
    stack = lambda steps: jax.tree.map(lambda *x: jnp.stack(x), *steps)
    before, now = late(stack(seen), knobs.shifts["states before"]), late(xs, knobs.shifts["xs"])
    dw, dxs = cell.weights_bwd(w, now, before, stack(saved), stack(deltas))
    return times(of_params(cell, params, dw), knobs.dparams), dstate, times(dxs, knobs.dxs)
