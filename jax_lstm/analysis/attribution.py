"""Where the weight gradient comes from: by time step, by gate, and by the way its error came.

The gradient of a weight is a sum over steps, examples and gates (the forks at W, U and b). Each of
its terms is linear in the cotangent that the step got, and that is a sum as well: the fork at h_t
and the fork at c_t meet in it,

    dstate_t = (dh_outside, 0)  +  (dh_from_next, 0)  +  (0, dc_from_next)
                 direct               through h             through c

    direct      the loss's own dL/dh_t at this step
    through h   what step t+1 said of h_t by its four gates: U
    through c   what step t+1 said of c_t by its forget product: f_{t+1}

Each of the three goes back through step t alone, by the cell's own hand-written `step_bwd`; the sum
of the three deltas is the delta, and the sum over steps, ways and gates is the gradient, exactly.

    da_t = da_t(direct) + da_t(h) + da_t(c)
    dW = Σ_t Σ_way x_tᵀ da_t(way)     dU = Σ_t Σ_way h_{t-1}ᵀ da_t(way)     db = Σ_t Σ_way da_t(way)

The way is that of the last edge: an error that went from c_{t+2} to c_{t+1} and then through the
gates into h_t came through h. What the loss knows of the last state, `dstate`, comes from after
it: dh_T through h, dc_T through c. The names are textbook.py's.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jax_lstm.analysis.opened import (
    Linearised,
    check_cotangents,
    every_step,
    length,
    nonzero,
    step_back,
)
from jax_lstm.doors import check_function
from jax_lstm.engine.bptt import through_prepare
from jax_lstm.engine.programs import in_one_program, with_sequence
from jax_lstm.engine.segments import cast_like, clear_masked, widen, zeros_like
from jax_lstm.notation import Tree


class Attribution(NamedTuple):
    """A gradient by its parts, in the fields of params.

    norm: ‖part‖, (T, ways, gates).
    share: <part, total> / <total, total>, (T, ways, gates): signed, all of a field's add up to 1.
    total: the gradient.

    The ways are direct, then the fields of the state: h, and for the LSTM c.
    """

    norm: Tree
    share: Tree
    total: Tree


def attribute(
    run: Linearised,
    dhs: ArrayLike,
    dstate: Tree = None,
    *,
    of: Callable[[Tree], Tree] | None = None,
) -> Attribution:
    """The weight gradient, taken apart by time step, way and gate.

        dW = Σ_t Σ_way Σ_gate part      direct, through h, through c; likewise dU, db

    The head of jax_lstm/analysis/attribution.py says what the ways are. The part of one step is
    made at a time: a sequence needs room for its states, as its gradient does, not for T copies of
    the weights.

    Args:
      run: Linearised, say of `linearised_lstm(params, state, xs)`.
      dhs: dL/dh_t from the outside, (T, ..., H), dtype of xs.
      dstate: cotangent of the last state, like `state`; zeros if not given. It counts as through h
        and through c.
      of: `of(part) -> tree`, what is wanted of the part of one step, way and gate: params with W
        (D, H), U (H, H), b (H,), summed over examples. `of=lambda part: part` keeps every part.

    Returns:
      Attribution; with `of` what it returned, stacked: (T, ways, gates, ...).

    Raises:
      ValueError: dhs or dstate of another shape or dtype; deltas that are not gates side by
        side.

    Source: the forks of jax_lstm/textbook.py; Kanuparthi et al. (2019), "h-detach", for the way
    through c, which they call the linear temporal path, beside the others.
    """
    dstate = check_cotangents(run, dhs, dstate)
    if of is not None:
        check_function("of", of, 1)
        return with_sequence(take_apart, (), of, run, dhs, dstate)
    return in_one_program(take_apart, (None,), run, dhs, dstate)


def take_apart(of, run, dhs, dstate):
    """`attribute`, as one program."""
    gates, steps = len(run.gates), run.steps

    def body(dstate, now):
        now, dh = now
        back = jax.vmap(lambda d: step_back(run, now, d))
        dprevs, deltas = back(apart(dstate, dh))
        return jax.tree.map(lambda d: d.sum(0), dprevs), deltas  # (F') at h and at c of t-1

    now = (every_step(run), clear_masked(steps.mask, dhs))
    deltas = lax.scan(body, widen(dstate), now, reverse=not run.reverse)[1]
    width = jax.tree.leaves(deltas)[0].shape[-1]
    check_blocks(run, deltas, width)
    side_by_side = all(leaf.shape[-1:] == (width,) for leaf in jax.tree.leaves(run.params))

    def gradient(now, deltas):
        """Of some steps, gates on axis 0: cut where they lie side by side in every weight; else of
        the deltas of one gate at a time, in which the gradient is linear."""
        if side_by_side:
            dparams = of_weights(run, now, deltas)
            return jax.tree.map(lambda d: jnp.stack(jnp.split(d, gates, axis=-1)), dparams)
        each = [of_weights(run, now, only_gate(deltas, n, gates)) for n in range(gates)]
        return jax.tree.map(lambda *d: jnp.stack(d), *each)

    now = (steps.xs, run.seen, run.saved)
    total = gradient(now, jax.tree.map(lambda d: d.sum(1), deltas))
    duals = jax.tree.map(dual, total)

    def at(step):
        *now, deltas = jax.tree.map(lambda x: x[None], step)
        parts = jax.vmap(lambda d: gradient(now, d), in_axes=1)(deltas)
        return jax.vmap(jax.vmap(of))(parts) if of else measure(parts, duals)

    found = lax.map(at, (*now, deltas))
    if of:
        return found
    pack = (lambda d: jnp.concatenate(list(d), axis=-1)) if side_by_side else (lambda d: d.sum(0))
    packed = jax.tree.map(pack, total)
    norm, share = found
    return Attribution(norm, share, cast_like(packed, run.params))


def apart(dstate, dh):
    """The cotangent of a state as the sum of its ways, (ways, ...): from outside, then by field."""
    first, *_ = dstate
    zeros = list(zeros_like(dstate))
    ways = [[dh.astype(first.dtype), *zeros[1:]]]
    ways += [[*zeros[:n], d, *zeros[n + 1 :]] for n, d in enumerate(dstate)]
    return jax.tree.map(lambda *x: jnp.stack(x), *(type(dstate)(*way) for way in ways))


def measure(parts, duals):
    """‖part‖ and <part, total> / <total, total> of parts (ways, gates, ...)."""
    flat = lambda x: x.reshape((*x.shape[:2], -1))
    share = lambda part, whole: flat(part * whole[None]).sum(-1)
    norm = jax.tree.map(lambda part: length(flat(part)), parts)
    return norm, jax.tree.map(share, parts, duals)


def dual(total):
    """total / <total, total>, or zero. Scaled, as `length` is."""
    top = nonzero(jnp.abs(total).max(initial=0))
    scaled = total / top
    return scaled / nonzero(jnp.square(scaled).sum()) / top


def of_weights(run, now, deltas):
    """The weight gradient of some steps by the cell's own rule."""
    dw, _ = run.cell.weights_bwd(run.w, *now, deltas)
    return through_prepare(run.cell, run.params, dw)


def only_gate(deltas, n, gates):
    """The deltas with all blocks zero but the n-th."""

    def only(delta):
        block = jnp.arange(delta.shape[-1]) // (delta.shape[-1] // gates)
        return jnp.where(block == n, delta, jnp.zeros_like(delta))

    return jax.tree.map(only, deltas)


def check_blocks(run, deltas, width):
    """Deltas that are gates side by side, or there is nothing to cut into gates."""
    gates = len(run.gates)
    if gates == 1:
        return
    for path, leaf in jax.tree.leaves_with_path(deltas):
        if leaf.shape[-1] != width or width % gates:
            here = "delta" + jax.tree_util.keystr(path)
            raise ValueError(
                f"`{here}` of {run.cell.name} has {leaf.shape[-1]} numbers, which are not {gates} "
                f"gates side by side, {width} in all; "
                'make_linearised(cell, gates=("a",)) leaves them together'
            )
