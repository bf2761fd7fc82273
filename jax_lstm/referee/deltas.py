"""Equation by equation: every delta of every time step, by hand and by JAX.

    by hand     t = T-1 ... 0:   dstate_t = from outside + from t+1
                                 dstate_{t-1}, delta_t = cell.step_bwd(..., dstate_t)
    by JAX      the plain loop over `cell.project` and `cell.step`, where zeros are added to each
                intermediate; the cotangent of such a zero is the delta at that place

What comes "from t+1" at the last step is the cotangent of the last state.

A cell is any record with prepare, project, step, slopes, step_bwd, weights_bwd as in
engine/cell.py.
Nobody runs the engine here: a disagreement is the cell's own. The first one in backward order is
where to look; what follows it inherits the error.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm.doors import refuse
from jax_lstm.referee.blame import blame_weights
from jax_lstm.referee.comparison import (
    EPS,
    FACTOR,
    ROUNDING,
    AnyCell,
    Tree,
    copies,
    distance,
    exactly,
    host,
    lowest_dtype,
    precisely,
    quick_jit,
    random_cotangents,
)
from jax_lstm.referee.doors import check_record
from jax_lstm.referee.tapped import Tap, TapReport, Taps


def taps(
    cell: AnyCell,
    params: Tree,
    state: Tree,
    xs: Tree,
    *,
    consts: Tree = None,
    inside: Taps | None = None,
    seed: int = 0,
) -> TapReport:
    """Compare every hand-written delta of a cell with JAX's, time step by time step.

    Args:
      cell: a `Cell`, one of the package's or one's own.
      params, state, xs: as for the cell's sequence function; xs (T, ..., D), float32 or float64.
      consts: what the cell sees at every step.
      inside: Taps, the names of its intermediates. Without it, a delta in the shapes of what
        `cell.project` returns is taken for the cotangent of that, and its blocks are numbered.
      seed: of the random cotangents on every h_t and on the last state.

    Returns:
      TapReport: `.sentence()` names the first disagreement, `.table()` has all.

    Raises:
      ValueError: no time step, 16-bit arrays, float64 where JAX has it switched off, or names of
        gates that are not one per block.
    """
    check_record(cell, seed, params=params, state=state, xs=xs)
    if inside is not None and not all(hasattr(inside, name) for name in Taps._fields):
        refuse("inside", "None or a jax_lstm.referee.Taps", inside)
    own, inside = inside, inside or Taps(gates=getattr(cell, "gates", ()))
    dtype = lowest_dtype((params, state, xs))
    if jnp.finfo(dtype).bits == 16:
        raise ValueError(f"taps are compared in float32 or float64; got {dtype}")
    if len(jax.tree.leaves(xs)[0]) == 0:
        raise ValueError("`xs` has no time step: there is nothing to tap")
    args = params, state, xs
    if inside.gates:
        check_gates(cell, inside.gates, consts, args, own is not None)
    order: dict[str, None] = {}  # of the names in a step's backward; jit sorts them

    def note_order(found):
        order.update(dict.fromkeys(name for d in found for name in d))
        return found

    hand = quick_jit(lambda args, dy: note_order(by_hand(cell, inside, consts, args, dy)))
    auto = quick_jit(lambda args, dy: by_jax(cell, inside, consts, args, dy))
    dys = random_cotangents(lambda *args: run(cell, inside, consts, args), args, seed)
    with precisely():
        exact = exactly(args), exactly(dys)
        want = [auto(exact[0], dy) for dy in exact[1]]
    beside, got = ([f(args, dy) for dy in dys] for f in (auto, hand))
    if own and own.gates and not any(name.startswith("dz") for name in order):
        raise ValueError(
            f"`gates` {own.gates} name the blocks of a delta in the shape of what `project` "
            "returns; what this `step_bwd` hands over is another: name it by `deltas`"
        )
    found = list(judge_taps(got, beside, want, dtype, inside, list(order)))
    first = next((tap.t for tap in found if not tap.ok), None)
    wrong = {tap.name for tap in found if tap.t == first and not tap.ok}
    blame = (inside.blame or blame_function)(wrong) if wrong else None
    if blame == AFTER and not inside.step_bwd:
        with precisely():
            one = exact[0], exact[1][0], first
            ways = (lambda *step: of_weights(cell, exact[0], *step)), like_z
            blame = blame_weights(cell, consts, *one, want[0][first], *ways)
    unordered = () if inside.deltas else tuple(name for name in order if name.startswith("dz"))
    return TapReport(tuple(found), str(dtype), blame or "", unordered)


def check_gates(cell, gates, consts, args, asked):
    """The gates are as many as the blocks of what `project` returns, each by a name of its own."""
    params, state, xs = args

    def project(params, xs):
        return cell.project(cell.prepare(params, copies(consts)), at(xs, 0))

    z = jax.tree.leaves(jax.eval_shape(project, params, xs))
    if len(z) != 1 and not asked:  # a record's gates: it may have more than they name
        return
    if len(z) != 1:
        raise ValueError(f"`gates` name blocks of one array; `project` returns {len(z)}")
    size, n = z[0].shape[-1], len(gates)
    sizes = {x.shape[-1] for x in jax.tree.leaves(state) if x.ndim}
    counts = sorted(size // k for k in sizes if k and size % k == 0)
    if n not in counts if counts else size % n:
        blocks = f", {' or '.join(map(str, counts))} of a state's size" if counts else ""
        raise ValueError(
            f"`gates` names {n} blocks; the last axis of z has {size} numbers{blocks}; got {gates}"
        )
    if len(set(gates)) < n:
        raise ValueError(f"`gates` must have names of their own; got {gates}")


AFTER = "in weights_bwd"


def blame_function(names):
    """Which of a cell's functions it was, as far as that shows."""
    after = [name for name in names if name == "dx" or name.startswith(("dparams", "dx["))]
    if len(after) == len(names):
        return AFTER
    before = [name for name in names if name not in after and not name.endswith("_prev")]
    return "in step_bwd, the delta" if before else "in step_bwd, what it hands to t-1"


def judge_taps(got, own, want, dtype, inside, order):
    """A Tap per time step and name, in backward order."""
    bits, eps = jnp.finfo(dtype).bits, float(jnp.finfo(dtype).eps)
    for t in reversed(range(len(got[0]))):
        for name in order:
            if name not in want[0][t] or name not in got[0][t]:
                continue
            g, o, w = (np.stack([host(d[t][name]) for d in ds]) for ds in (got, own, want))
            every = np.sqrt(sum(np.sum(host(d[k][name]) ** 2) for d in want for k in range(len(d))))
            max_abs, relative, _ = distance(g, w, every, dtype)
            _, beside, _ = distance(o, w, every, dtype)
            rounding = ROUNDING.worst if bits == 64 else FACTOR * beside + EPS[bits] * eps
            ok = bool(relative <= rounding)
            says = (inside.says or {}).get(name, "")
            yield Tap(t, name, says, max_abs, relative, float(rounding), ok)


# By hand --------------------------------------------------------------------------------------


def forward(cell, consts, args):
    """The loop over steps: the states before each step, what it saved, the last state."""
    params, state, xs = args
    w, seen, saved = cell.prepare(params, copies(consts)), [], []
    for t in range(len(jax.tree.leaves(xs)[0])):
        seen.append(state)
        z = cell.project(w, at(xs, t))
        state, kept = cell.step(w, state, z)
        saved.append(kept)
    return w, seen, saved, state


def by_hand(cell, inside, consts, args, dy):
    """[{name: cotangent}] per time step: what `step_bwd` and `weights_bwd` say."""
    xs, (dstate, dhs) = args[2], dy
    w, seen, saved, _ = forward(cell, consts, args)
    found: list[dict[str, Any]] = [{}] * len(seen)
    for t in reversed(range(len(seen))):
        told: dict[str, Any] = {}
        h, *rest = dstate
        name = dstate._fields[0]
        d = {f"d{name} from outside": dhs[t]}
        d |= {f"d{k} from t+1": x for k, x in dstate._asdict().items()}
        dstate = type(dstate)(h + dhs[t], *rest)  # (F')
        d[f"d{name}"] = dstate[0]
        step = (w, seen[t], cell.slopes(w, seen[t], saved[t]), dstate)
        if inside.step_bwd:

            def tap(name, value, told=told):
                told[name] = value
                return value

            dstate, delta = inside.step_bwd(*step, tap)
        else:
            dstate, delta = cell.step_bwd(*step)
        z = jax.eval_shape(cell.project, w, at(xs, t))
        named = inside.deltas(delta) if inside.deltas else plain_deltas(inside, dstate, z, delta)
        d |= {f"d{k}": x for k, x in (told | named).items()}
        d |= {f"d{k}_prev": x for k, x in dstate._asdict().items()}
        x, before, kept = jax.tree.map(lambda x: x[None], (at(xs, t), seen[t], saved[t]))
        found[t] = d | of_weights(cell, args, w, x, before, kept, delta)
    return found


def of_weights(cell, args, w, xs, prevs, saved, delta):
    """{name: cotangent} of one step's inputs and weights, by `weights_bwd`; time is in front of all
    but delta."""
    dw, dx = cell.weights_bwd(w, xs, prevs, saved, jax.tree.map(lambda x: x[None], delta))
    dparams = of_params(cell, args[0], dw)
    return leaves_of("x", at(dx, 0)) | leaves_of("params", dparams)


def of_params(cell, params, dw):
    """dparams of what `weights_bwd` returned, back through `prepare` where that is a stage."""
    back = getattr(cell, "prepare_bwd", None)
    return back(params, dw)[0] if back else dw


def plain_deltas(inside, state, z, delta):
    """{name: block} of what looks like z; of any other delta nothing is known."""
    found = like_z(z, delta)
    return {} if found is None else blocks_of(inside, state, found)


def like_z(z, delta):
    """A delta that looks like z is taken for dz, and so is the first of several; or None."""
    want = [x.shape for x in jax.tree.leaves(z)]
    first = delta[0] if isinstance(delta, tuple) and delta else delta
    alike = [d for d in (delta, first) if [x.shape for x in jax.tree.leaves(d)] == want]
    return alike[0] if want and alike else None


def blocks_of(inside, state, z):
    """{"z, block 0": array}, or by the names of the gates; other pytrees leaf by leaf."""
    if len(jax.tree.leaves(z)) > 1:
        return {k[1:]: x for k, x in leaves_of("z", z).items()}
    (x,) = jax.tree.leaves(z)
    size = x.shape[-1]
    n = len(inside.gates) or block_count(size, state)
    if size % n:
        raise ValueError(f"`gates` names {n} blocks; the last axis of z has {size} numbers")
    names = inside.gates or [f"block {k}" for k in range(n)]
    parts = jnp.split(x, n, axis=-1)
    return {f"z, {name}" if n > 1 else "z": part for name, part in zip(names, parts, strict=True)}


def block_count(size, state):
    """How many blocks of a state's size make up an axis; 1 if that does not fit."""
    sizes = [x.shape[-1] for x in state if x.shape[-1] and size % x.shape[-1] == 0]
    return size // sizes[0] if sizes else 1


# By JAX ---------------------------------------------------------------------------------------


def run(cell, inside, consts, args, tap_of=lambda t: no_tap):
    """The plain loop, in which everything that has a name goes through `tap_of(t)(name, value)`.

    The params of each step are tapped too: their cotangent is the step's share of dW.
    """
    params, state, xs = args
    hs = []
    for t in range(len(jax.tree.leaves(xs)[0])):
        tap = tap_of(t)
        w = cell.prepare(tap_leaves(tap, "params", params), copies(consts))
        z = tap_blocks(tap, inside, state, cell.project(w, tap_leaves(tap, "x", at(xs, t))))
        seen = fields(state, lambda k, x, tap=tap: tap(f"{k}_prev", x))
        if inside.step:
            h, *rest = inside.step(w, seen, z, tap)
        else:
            (h, *rest), _ = cell.step(w, seen, z)
        h = tap(state._fields[0], h)
        hs.append(tap(f"{state._fields[0]} from outside", h))
        state = type(state)(h, *rest)
        state = fields(state, lambda k, x, tap=tap: tap(f"{k} from t+1", x))
    return state, jnp.stack(hs)


def no_tap(name, value):
    return value


def by_jax(cell, inside, consts, args, dy):
    """[{name: cotangent}] per time step, of zeros added to the same intermediates."""
    shapes = [{} for _ in jax.tree.leaves(args[2])[0]]

    def recorder(t):
        def record(name, value):
            if name in shapes[t]:
                raise ValueError(f"two intermediates of a step have the name {name!r}")
            shapes[t][name] = jax.ShapeDtypeStruct(value.shape, value.dtype)
            return value

        return record

    jax.eval_shape(lambda *args: run(cell, inside, consts, args, recorder), *args)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def run_with(zeros):
        return run(cell, inside, consts, args, lambda t: lambda k, x: x + zeros[t][k])

    _, vjp = jax.vjp(run_with, zeros)
    (found,) = vjp(dy)
    return [{f"d{k}": x for k, x in d.items()} for d in found]


# Trees ----------------------------------------------------------------------------------------


def fields(state, change):
    return type(state)(*(change(k, x) for k, x in state._asdict().items()))


def at(tree, t):
    return jax.tree.map(lambda x: x[t], tree)


def leaves_of(name, tree):
    """{"dx": leaf}, or {"dparams.W": leaf, ...}."""
    return {
        f"d{name}{jax.tree_util.keystr(path)}": leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def tap_leaves(tap, name, tree):
    return jax.tree_util.tree_map_with_path(
        lambda path, x: tap(name + jax.tree_util.keystr(path), x), tree
    )


def tap_blocks(tap, inside, state, z):
    """z through the taps of its blocks."""
    if len(jax.tree.leaves(z)) > 1:
        return tap_leaves(tap, "z", z)
    parts = [tap(k, x) for k, x in blocks_of(inside, state, z).items()]
    return jax.tree.map(lambda _: jnp.concatenate(parts, axis=-1), z)
