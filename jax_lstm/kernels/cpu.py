"""THE LSTM ON A CPU, its loops in C++: `lstm` with the same gradient, chosen by import.

    from jax_lstm.kernels import cpu
    state, hs = cpu.lstm(params, state, xs)                     # as jax_lstm.lstm, on a CPU

    forward     z = x W of every step                           XLA, one product
                states, slopes   = the loop of lstm.cc          (1) to (4), and their twins at 1
    backward    dstate_0, da     = the loop back of lstm.cc     (F'), (4'), (3'), (2'), (1'x)
    weights     dW, dU, db, dxs  = `weights_bwd` of cells/lstm.py     XLA, one product each

The loops are compiled at the first call (build.py). What JAX asks beyond one derivative in reverse
mode is answered by the loops of `jax_lstm.lstm`: tangents of forward and backward are theirs.
"""

import functools
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import custom_batching

from jax_lstm.cells.lstm import LSTM, LSTMParams, LSTMState
from jax_lstm.engine import bptt
from jax_lstm.engine.functions import SequenceFunction
from jax_lstm.engine.routes import bind, by_hand, run_cell
from jax_lstm.engine.segments import (
    Steps,
    clear_masked,
    cut,
    flatten_steps,
    join,
    over_segments,
    segment_length,
    segment_of,
    shift,
    where,
    zeros_like,
)
from jax_lstm.kernels.build import load
from jax_lstm.rules import with_rule
from jax_lstm.sharding import vary_together

__all__ = ["lstm"]

SOURCE = Path(__file__).with_name("lstm.cc")
DTYPES = ("float32", "float64")


# What is called in C++ ------------------------------------------------------------------------


@functools.cache
def target(symbol):
    """What XLA calls a function of lstm.cc by: a name that goes with the library it was built into,
    so that a program in JAX's cache of compiled programs never meets another."""
    library = load(SOURCE)
    name = f"jax_{Path(library._name).stem}_{symbol}"
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, symbol)), platform="cpu")
    return name


def call(symbol, reverse, shapes, args, in_place):
    """A function of lstm.cc. What is None goes as an array of no numbers."""
    args = vary_together(tuple(jnp.zeros((0,), bool) if x is None else x for x in args))
    zeros = lambda x: [vary_together((jnp.zeros(shape, x.dtype), x))[0] for shape in shapes]
    results = jax.eval_shape(zeros, args[0])  # which differ over the axes of a mesh that args do
    run = jax.ffi.ffi_call(target(symbol), results, input_output_aliases=in_place)
    return run(*args, reverse=reverse)


def flat(x):
    """(T B, M): as XLA's product has it. Of another shape it would be copied before it is written
    to in place."""
    return x.reshape((x.shape[0] * x.shape[1], x.shape[2]))


class Looped(NamedTuple):
    """What a loop forward returns: hs (T, B, H), the state after it, and what the way back wants:
    `slopes` (T, B, 4H), of the gates, and `dcs` (T, B, 2H), of c_t; None where nobody goes back."""

    hs: Any
    h: Any
    c: Any
    slopes: Any = None
    dcs: Any = None


@functools.cache
def loop(reverse, for_back):
    """All steps forward, of arrays with one axis of examples."""

    def run(b, U, h, c, fresh, zs, mask, resets):
        T, B, H = *zs.shape[:2], U.shape[0]
        fresh = (None, None) if fresh is None else fresh
        args = (flat(zs), b, U, h, c, *fresh, mask, resets)
        shapes = [(T, B, H), (B, H), (B, H)]
        if not for_back:
            return Looped(*call("lstm_forward", reverse, shapes, args, None))
        shapes += [(T * B, 4 * H), (T, B, 2 * H)]
        found = Looped(*call("lstm_forward_for_back", reverse, shapes, args, {0: 3}))
        return found._replace(slopes=found.slopes.reshape(zs.shape))

    of_back = (1, 1) if for_back else (None, None)
    return over_examples(run, (None, None, 0, 0, 0, 1, 1, 1), Looped(1, 0, 0, *of_back))


@functools.cache
def loop_back(reverse):
    """All steps back: das (T, B, 4H), dh and dc before the first of them, and those of `fresh`."""

    def run(U, slopes, dcs, dhs, dh, dc, mask, resets):
        T, B, H = *slopes.shape[:2], U.shape[0]
        fresh = (0, H) if resets is None else (B, H)
        shapes = [(T * B, 4 * H), (B, H), (B, H), fresh, fresh]
        args = (flat(slopes), dcs, U, dhs, dh, dc, mask, resets)
        das, *found = call("lstm_backward", reverse, shapes, args, {0: 0})
        return das.reshape(slopes.shape), *found

    return over_examples(run, (None, 1, 1, 1, 0, 0, 1, 1), (1, 0, 0, 0, 0))


def over_examples(run, axes, places):
    """`run`, for which `jax.vmap` over examples is more examples; over weights, one after another.

    Args:
      run: a function of arrays.
      axes: of each argument where its examples are; None for a weight.
      places: the same of what it returns.
    """
    function = custom_batching.custom_vmap(run)

    @function.def_vmap
    def over(n, mapped, *args):
        weights = [m for m, axis in zip(mapped, axes, strict=True) if axis is None]
        if any(weights):
            found = one_by_one(function, mapped, args)
        else:
            args = (merge(n, *x) for x in zip(axes, args, mapped, strict=True))
            found = part(n, places, function(*args))
        return found, jax.tree.map(lambda _: True, found)

    return function


def one_by_one(function, mapped, args):
    """The function at each place of the arrays that are mapped, in a loop."""
    leaves, tree = jax.tree.flatten(args)
    mapped = jax.tree.leaves(mapped)
    own = [x for x, m in zip(leaves, mapped, strict=True) if m]

    def at(own):
        left = iter(own)
        each = zip(leaves, mapped, strict=True)
        return function(*tree.unflatten(next(left) if m else x for x, m in each))

    return jax.lax.map(at, own)


def merge(n, axis, tree, mapped):
    """n times B examples, of an argument that is mapped or is the same n times."""

    def fold(x, mapped):
        x = jnp.moveaxis(x if mapped else jnp.broadcast_to(x, (n, *x.shape)), 0, axis)
        return x.reshape((*x.shape[:axis], n * x.shape[axis + 1], *x.shape[axis + 2 :]))

    return tree if axis is None else jax.tree.map(fold, tree, mapped)


def part(n, places, found):
    """The inverse, of what is found: n in front."""

    def unfold(x, axis):
        x = x.reshape((*x.shape[:axis], n, x.shape[axis] // n, *x.shape[axis + 1 :]))
        return jnp.moveaxis(x, axis, 0)

    return jax.tree.map(unfold, found, places)


# Time, in segments ----------------------------------------------------------------------------


def keep_all(plan):
    return plan.residuals == "full"


def pieces_of(plan, w, steps, tree):
    """Time as one piece where every step is kept; as segments where they are run again."""
    T = steps.xs.shape[0]
    return cut(tree, max(T, 1) if keep_all(plan) else segment_length(plan, w, steps.xs))


def run_segment(plan, params, w, fresh, state, steps, for_back):
    zs = LSTM.project(w, clear_masked(steps.mask, steps.xs))
    run = loop(plan.reverse, for_back)
    return run(params.b, params.U, *state, fresh, zs, steps.mask, steps.resets)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def forward_kept(plan, for_back, params, fresh, state, steps):
    """The last state, hs, and what is kept: the state before each segment; perhaps all steps."""
    w = LSTM.prepare(params)
    all_steps = for_back and keep_all(plan)

    def segment(state, piece):
        now = segment_of(steps, piece)
        run = run_segment(plan, params, w, fresh, state, now, all_steps)
        kept = (run.hs, run.slopes, run.dcs) if all_steps else (run.hs, None, None)
        return LSTMState(run.h, run.c), (flatten_steps(kept), state)

    last, found = over_segments(segment, state, pieces_of(plan, w, steps, steps), plan.reverse)
    kept, firsts = zip(*found, strict=True)
    B, H = state.h.shape
    of_a_step = (B, H), *(((B, 4 * H), (B, 2 * H)) if all_steps else (None, None))
    like = (None if s is None else jax.ShapeDtypeStruct(s, state.h.dtype) for s in of_a_step)
    hs, slopes, dcs = join(list(kept), tuple(like))
    return (last, clear_masked(steps.mask, hs)), (firsts, (hs, slopes, dcs) if all_steps else None)


@forward_kept.defjvp
def forward_kept_jvp(plan, for_back, primals, tangents):
    """The tangent of the engine's forward. What is kept goes to `back` alone, whose tangent is not
    made of it: it is a constant."""
    run = functools.partial(by_the_engine, plan)
    _, dots = jax.jvp(run, primals, tangents)
    found = forward_kept(plan, for_back, *primals)
    return found, (dots, zeros_like(found[1]))


def by_the_engine(plan, params, fresh, state, steps):
    return bptt.sequence(plan, params, None, fresh, state, steps)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def back(plan, params, fresh, state, steps, kept, dlast, dhs):
    """Cotangents of params, fresh, state and xs; dhs is None where nobody looks at hs."""
    w = LSTM.prepare(params)
    firsts, kept = kept

    def segment(carry, now):
        (dlast, dfresh), dparams = carry
        piece, first = now
        now, dh, seen = segment_of((steps, dhs, kept), piece)
        if seen is None:
            run = run_segment(plan, params, w, fresh, first, now, True)
            seen = run.hs, run.slopes, run.dcs
        hs, *slopes = seen
        run_back = loop_back(plan.reverse)
        das, dh, dc, *more = run_back(params.U, *slopes, dh, *dlast, now.mask, now.resets)
        h_prev = shift(first.h, hs, plan.reverse)
        if fresh is not None:
            h_prev = where(now.resets, fresh.h[None], h_prev)
            dfresh = jax.tree.map(jnp.add, dfresh, LSTMState(*more))
        xs, h_prev = clear_masked(now.mask, (now.xs, h_prev))
        prevs = LSTMState(h_prev, h_prev)  # of which weights_bwd looks at h alone
        of_segment, dxs = LSTM.weights_bwd(w, xs, prevs, None, das)
        carry = (LSTMState(dh, dc), dfresh), jax.tree.map(jnp.add, dparams, of_segment)
        return carry, flatten_steps(dxs)

    carry = (dlast, None if fresh is None else zeros_like(fresh)), zeros_like(params)
    pieces = pieces_of(plan, w, steps, (steps, dhs, kept))
    pieces = list(zip(pieces, firsts, strict=True))
    carry = vary_together((carry, steps.xs))[0]
    ((dfirst, dfresh), dparams), dxs = over_segments(segment, carry, pieces, not plan.reverse)
    x = jax.ShapeDtypeStruct(steps.xs.shape[1:], steps.xs.dtype)
    return dparams, dfresh, dfirst, join(dxs, x)


@back.defjvp
def back_jvp(plan, primals, tangents):
    """The tangent of the engine's backward, from what came in."""
    *args, _, dlast, dhs = primals
    *dots, _, dlast_dot, dhs_dot = tangents
    both = (*args, dlast, dhs), (*dots, dlast_dot, dhs_dot)
    _, found = jax.jvp(functools.partial(back_by_the_engine, plan), *both)
    return back(plan, *primals), found


def back_by_the_engine(plan, params, fresh, state, steps, dlast, dhs):
    _, residual = bptt.forward(plan, params, None, fresh, state, steps)
    dparams, _, dfresh, dstate, dsteps = bptt.backward(plan, residual, (dlast, dhs))
    return dparams, dfresh, dstate, dsteps.xs


# The rule -------------------------------------------------------------------------------------


def sequence(plan, params, fresh, state, steps):
    return forward_kept(plan, False, params, fresh, state, steps)[0]


def forward(plan, params, fresh, state, steps):
    out, kept = forward_kept(plan, True, params, fresh, state, steps)
    return out, (params, fresh, state, steps, kept)


def backward(plan, residual, dy):
    *_, state, _, _ = residual
    (dh, dc), dhs = dy
    zero = lambda d, x: jnp.zeros_like(x) if bptt.is_zero(d) else d
    dlast = LSTMState(zero(dh, state.h), zero(dc, state.c))
    found = back(plan, *residual, dlast, None if bptt.is_zero(dhs) else dhs)
    dparams, dfresh, dstate, dxs = found
    return dparams, dfresh, dstate, Steps(dxs, None, None)


by_rule = with_rule(sequence, forward, backward, static=(0,), symbolic_zeros=True)


# What people call -----------------------------------------------------------------------------


def check_taken(dtype):
    """What the loops in C++ do not take, jax_lstm.lstm does."""
    if dtype.name not in DTYPES:
        raise ValueError(
            f"`params` of jax_lstm.kernels.cpu.lstm must be {' or '.join(DTYPES)}; got "
            f"{dtype.name}. jax_lstm.lstm takes it"
        )


def by_kernel(plan, params, consts, fresh, state, steps):
    """The route of a sequence: any batch axes are one axis of examples in it. Segments within
    segments are the engine's."""
    check_taken(params.W.dtype)
    if plan.residuals not in ("full", "auto") and not isinstance(plan.residuals, int):
        return by_hand(plan, params, consts, fresh, state, steps)
    batch = state.h.shape[:-1]
    B = math.prod(batch)
    every = lambda tree: jax.tree.map(lambda x: x.reshape((B, *x.shape[len(batch) :])), tree)
    in_time = lambda x: x.reshape((x.shape[0], B, *x.shape[len(batch) + 1 :]))
    flat = every(fresh), every(state), jax.tree.map(in_time, steps)
    last, hs = by_rule(plan, params, *flat)
    apart = lambda x, at: x.reshape((*x.shape[:at], *batch, *x.shape[at + 1 :]))
    return jax.tree.map(lambda x: apart(x, 0), last), apart(hs, 1)


TITLE = "The LSTM, equations (1) to (4), over a sequence, its loops in C++ on a CPU."
lstm: SequenceFunction[LSTMParams, LSTMState] = bind(run_cell, (LSTM, by_kernel), "lstm", TITLE)
