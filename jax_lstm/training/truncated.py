"""Truncated backpropagation through time: TBPTT(k1, k2), composed of any sequence function.

Every k1 steps the errors of the last k1 outputs go back, together, through at most k2 steps:

    outputs of block j    t = j k1 + 1 ... (j+1) k1
    their window          t = (j+1) k1 - k2 + 1 ... (j+1) k1      (never before the first step)
    dparams               Σ over blocks: the gradient of a block's outputs, run over its window
                          from the state before it, which is a constant: the adjoint is cut there

The forward is that of the whole sequence: only the adjoint is cut. An error goes back through k2
steps if its output is the last of its block, and through k2 - k1 + 1 if it is the first.

    TBPTT(n, n) for n steps    full backpropagation through time, and so is any k2 >= T
    TBPTT(n, n) for more       the usual training in windows, side by side
    TBPTT(1, k)                each output's error on its own, back through k steps; WildML's
                               `bptt_truncate = k` is TBPTT(1, k + 1): it counts the steps back from
                               the output's own, which is not counted

A step is run k2/k1 times. Sources: Williams & Peng (1990), "An efficient gradient-based algorithm",
whose BPTT(h; h') is TBPTT(k1 = h', k2 = h); Sutskever (2013), "Training recurrent neural networks",
2.8.6, for the letters k1 and k2.
"""

from collections.abc import Callable
from typing import Concatenate, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jax.export import is_symbolic_dim

from jax_lstm.cells.lstm import lstm
from jax_lstm.doors import (
    as_array,
    check_arrays,
    check_function,
    describe,
    forward_mode_of_the_twin,
    is_array,
    refuse,
    whole_number,
)
from jax_lstm.engine.doors import check_forward, check_reset_state, check_resets, valid_steps
from jax_lstm.engine.functions import P, P_contra, Result, Result_co, S, X, X_contra
from jax_lstm.engine.made import Made
from jax_lstm.engine.programs import with_sequence
from jax_lstm.engine.segments import Steps, where
from jax_lstm.notation import ArrayOrList, Tree
from jax_lstm.sharding import over_auto_axes, vary_together

JAX_S = "a `sequence` that JAX differentiates"


class Window(NamedTuple):
    """What a truncated stream carries, of constant size: enough to run the last steps again.

    before: the state before those steps; a constant, except at the very start of the stream.
    steps: the last k2 - k1 steps: xs, mask and resets. Before the stream they are masked.
    state: the state now, after all steps so far.
    """

    before: Tree
    steps: Steps | None
    state: Tree


class Begin(Protocol):
    """The window before the first step, see `tbptt_stream`."""

    def __call__(self, state: Tree, xs: Tree, *, resets: ArrayOrList | None = None) -> Window: ...


class Advance(Protocol):
    """A window and a chunk to the next window and the chunk's outputs, see `tbptt_stream`."""

    def __call__(
        self,
        params: Tree,
        window: Window,
        xs: Tree,
        *,
        mask: ArrayOrList | None = None,
        resets: ArrayOrList | None = None,
        reset_state: Tree = None,
    ) -> tuple[Window, jax.Array]: ...


class Stream(NamedTuple):
    """begin(state, xs) -> window, and advance(params, window, xs) -> (window, hs)."""

    begin: Begin
    advance: Advance


class TruncatedFunction(Protocol[P_contra, S, X_contra, Result_co]):
    """What `tbptt` returns."""

    def __call__(
        self,
        params: P_contra,
        state: S,
        xs: X_contra,
        *,
        lengths: ArrayOrList | None = None,
        mask: ArrayOrList | None = None,
        resets: ArrayOrList | None = None,
        reset_state: S | None = None,
    ) -> tuple[S, Result_co]: ...


def tbptt(
    k1: int, k2: int, sequence: Callable[Concatenate[P, S, X, ...], tuple[S, Result]] = lstm
) -> TruncatedFunction[P, S, X, Result]:
    """A whole sequence with the forward of `sequence` and the truncated gradient TBPTT(k1, k2).

    Args:
      k1: outputs per block; their errors go back together.
      k2: steps that the error of a block goes back through, at most; k2 >= k1.
      sequence: `sequence(params, state, xs) -> (state, hs)`, for k2 > k1 also with `mask=`: `lstm`,
        `elman`, their autodiff twins, `make_rnn`'s, `jax_lstm.partial(lstm, residuals="auto")`, or
        your own around one of them, or around `stack`, whose states and reset_states are trees. xs
        may be any tree with time on axis 0, say tokens, or inputs and masks of zoneout. One that
        runs in reverse cannot be truncated; turn xs round instead.

    Returns:
      `truncated(params, state, xs, *, lengths=None, mask=None, resets=None, reset_state=None) ->
      (state, hs)`, as `lstm`. If T is no multiple of k1 the last block is shorter, and goes back k2
      steps as well. Cotangents are accepted for every output. That of the last state goes back with
      the last block. params, xs and reset_state get what all windows give them; state gets what
      those windows give it that begin at the first step: the windows of blocks that end by t = k2.
      An example whose steps so far were all masked is still where it began, and so are its windows.
      Equal makes are equal, also those of equal partials: JAX compiles once.

    Raises:
      ValueError: k1 or k2 not whole numbers with 1 <= k1 <= k2; what `sequence` raises.
    """
    begin, k1, k2 = tbptt_stream(k1, k2, sequence).begin, *check_reach(k1, k2)
    name = f"tbptt({k1}, {k2})"

    def truncated(params, state, xs, *, lengths=None, mask=None, resets=None, reset_state=None):
        check_one_way(params)
        check_begin(state, xs)
        steps = check_steps_of(state, xs, lengths, mask, resets, k2 > k1)
        check_reset_state(reset_state, state, resets)
        window = begin(state, xs, resets=resets)
        params, fresh, window, steps = vary_together((params, reset_state, window, steps))
        with forward_mode_of_the_twin(name, f"{JAX_S}, say {name[:-1]}, lstm_autodiff)"):
            return with_sequence(
                truncate, (walk_to_the_end, k1), sequence, params, fresh, window, steps
            )

    truncated.__qualname__ = name  # by which Python complains
    return Made(truncated, tbptt, (k1, k2, sequence))


def tbptt_stream(k1: int, k2: int, sequence: Callable[..., Tree] = lstm) -> Stream:
    """TBPTT(k1, k2) of a stream of any length, chunk after chunk, in constant memory.

        begin, advance = tbptt_stream(k1, k2)
        window = begin(state, xs)                            # xs: the first chunk, or one like it
        window, hs = advance(params, window, xs)             # again and again

    `functools.partial(advance, params)` is a body for `lax.scan`, and `advance` is a sequence
    function whose state is a Window: `jax.value_and_grad` of a chunk's loss with respect to params
    is that chunk's part of the truncated gradient, to be added up or followed at once (say by
    `training.make_update`). The parts of all chunks add up to the gradient of `tbptt`, wherever the
    stream is cut into chunks. What an older chunk's xs depend on must be computed by `sequence` to
    get its share from a younger chunk: give it tokens, and embed them there.

    Args:
      k1, k2, sequence: see `tbptt`.

    Returns:
      begin: `begin(state, xs, *, resets=None) -> Window`, before the first step. Only shapes and
        dtypes of xs count; `resets` must be given (of any steps) if `advance` is going to get some.
      advance: `advance(params, window, xs, *, mask=None, resets=None, reset_state=None) -> (Window,
        hs)`, with T a multiple of k1. `window.state` is the state after the chunk. `reset_state` is
        the same in every chunk: the resets of the last k2 - k1 steps lead there again.

    Raises:
      ValueError: as `tbptt`; a chunk that is not a multiple of k1; resets here and not there.
    """
    k1, k2 = check_reach(k1, k2)
    check_function("sequence", sequence, 3)
    check_forward("sequence", sequence)

    def begin(state, xs, *, resets=None):
        check_begin(state, xs)
        _, batch = size_of(state, xs)
        if resets is not None:  # of any number of steps
            flags = as_array("resets", resets, bool, "boolean (T, ...)")
            check_resets(flags, flags.shape[:1], batch)
        if k1 == k2:
            return Window(state, None, state)
        none = jnp.zeros((k2 - k1, *batch), bool)
        past = jax.tree.map(lambda x: jnp.zeros((k2 - k1, *x.shape[1:]), x.dtype), xs)
        return Window(state, Steps(past, none, None if resets is None else none), state)

    def advance(params, window, xs, *, mask=None, resets=None, reset_state=None):
        check_one_way(params)
        check_window(window, xs, k1, k2)
        steps = check_steps_of(window.state, xs, None, mask, resets, k2 > k1)
        check_reset_state(reset_state, window.state, resets)
        check_blocks(len_of(xs), k1)
        if len_of(xs) % k1:
            raise ValueError(f"a chunk must have a multiple of k1 = {k1} steps; got {len_of(xs)}")
        if window.steps is not None and (window.steps.resets is None) != (resets is None):
            raise ValueError("`resets` must be given to `begin` and to every `advance`, or to none")
        params, fresh, window, steps = vary_together((params, reset_state, window, steps))
        with forward_mode_of_the_twin("advance", f"{JAX_S}, say lstm_autodiff"):
            return with_sequence(truncate, (walk, k1), sequence, params, fresh, window, steps)

    made = (tbptt_stream, (k1, k2, sequence), ())
    return Stream(Made(begin, *made, part=0), Made(advance, *made, part=1))


# Block after block ----------------------------------------------------------------------------


def truncate(way, k1, sequence, params, fresh, window, steps):
    """`walk`, to the next window, or `walk_to_the_end`, to the last state; and the outputs."""

    def run(params, fresh, window, steps):
        return way(k1, runner(sequence, params, fresh), window, steps)

    def places(state_at, hs_at):
        if way is walk_to_the_end:
            return state_at(window.state), hs_at
        past = None if window.steps is None else jax.tree.map(lambda _: hs_at, window.steps)
        return Window(state_at(window.before), past, state_at(window.state)), hs_at

    return over_auto_axes(run, window.state, steps.xs, places)(params, fresh, window, steps)


def walk(k1, run, window, steps):
    """Whole blocks of k1 steps, one after the other."""

    def body(window, now):
        return block(k1, run, window, now)

    blocks = jax.tree.map(lambda x: x.reshape((x.shape[0] // k1, k1, *x.shape[1:])), steps)
    window, hs = lax.scan(body, window, blocks)
    return window, jax.tree.map(lambda h: h.reshape((h.shape[0] * k1, *h.shape[2:])), hs)


def walk_to_the_end(k1, run, window, steps):
    """Blocks of k1 steps and a shorter last one, whose window has k2 steps nevertheless.

    It begins so many steps after the window of the block before it as it has outputs.
    """
    T = len_of(steps.xs)
    check_blocks(T, k1)
    more = T % k1
    walked = T - more if more == 0 or k1 > T else T - more - k1
    window, hs = walk(k1, run, window, take_time(steps, slice(walked)))
    if more and walked + more < T:
        now = take_time(steps, slice(walked, walked + k1))
        window, next_hs = block(more, run, window, now)
        hs = join_time(hs, next_hs)
    if more:
        now = take_time(steps, slice(T - more, T))
        window, next_hs = block(more, run, window, now)
        hs = join_time(hs, next_hs)
    return window.state, hs


def block(forget, run, window, now):
    """The outputs of the steps of now, run from before the window: their errors reach that far.

    The next window begins `forget` steps later.
    """
    seen = join_time(window.steps, now)
    size = len_of(seen.xs)
    state, hs = run(window.before, take_time(seen, slice(forget)))
    before, late = before_next(state, seen.mask, forget), None
    if forget < size:
        late = take_time(seen, slice(forget, None))
        state, more = run(state, late)
        hs = take_time(join_time(hs, more), slice(size - len_of(now.xs), None))
    return Window(before, late, state), hs


def before_next(state, mask, forget):
    """The adjoint is cut here. But an example that has not moved, since all its steps so far were
    masked, is still at the start of its stream."""
    moved = None if mask is None else mask[:forget].any(0)
    return where(moved, lax.stop_gradient(state), state)


def runner(sequence, params, fresh):
    """The sequence function from a state over some steps, with the masks and resets there are."""

    def from_state(state, steps):
        flags = {"mask": steps.mask, "resets": steps.resets, "reset_state": fresh}
        return sequence(
            params, state, steps.xs, **{k: v for k, v in flags.items() if v is not None}
        )

    return from_state


def take_time(steps, span):
    return jax.tree.map(lambda x: x[span], steps)


def join_time(earlier, later):
    if earlier is None:
        return later
    return jax.tree.map(lambda x, y: jnp.concatenate([x, y]), earlier, later)


# Doors ----------------------------------------------------------------------------------------


def check_reach(k1, k2):
    for name, k in (("k1", k1), ("k2", k2)):
        if (whole_number(k) or 0) < 1:
            refuse(name, "a number of steps >= 1", k)
    k1, k2 = int(k1), int(k2)
    if k2 < k1:
        raise ValueError(
            f"`k2` must be >= k1: of each k1 = {k1} outputs, the first {k1 - k2} would teach the "
            f"cell nothing if their errors went back only as far as k2 = {k2} steps from the last"
        )
    return k1, k2


def check_begin(state, xs):
    """A state, and what has time on axis 0; these two are easily swapped."""
    check_arrays("state", state, "the state before the first step, arrays (..., H)")
    if is_array(state):
        raise ValueError(
            "`state` must be a state of the cell, say of jax_lstm.init_lstm_state, or a tree of "
            f"them; got {describe(state)}"
        )
    leaves = jax.tree.leaves(xs)
    if not leaves or not all(isinstance(x, jax.ShapeDtypeStruct) for x in leaves):  # shapes will do
        check_arrays("xs", xs, "arrays with time on axis 0, (T, ..., D)")


def check_window(window, xs, k1, k2):
    """A Window of this stream, begun for steps like these."""
    if not isinstance(window, Window):
        kind = describe(window) if is_array(window) else type(window).__name__
        raise ValueError(f"`window` must be a Window, of begin(state, xs) at first; got {kind}")
    check_arrays("xs", xs, "arrays with time on axis 0, (T, ..., D)")
    kept = 0 if window.steps is None else len_of(window.steps.xs)
    if kept != k2 - k1:
        raise ValueError(
            f"`window` must be one of this stream, tbptt_stream({k1}, {k2}), which keeps k2 - k1 = "
            f"{k2 - k1} steps; got one that keeps {kept}"
        )
    if window.steps is None:
        return
    form = lambda x: f"{x.dtype} (T, {', '.join(map(str, x.shape[1:]))})"
    kind = lambda tree: jax.tree.map(form, tree)
    begun, given = kind(window.steps.xs), kind(xs)
    if begun != given:
        raise ValueError(f"`xs` must be like those that `begin` was given, {begun}; got {given}")


def check_one_way(params):
    """A stack in two directions has no adjoint to cut: its reverse half starts at the end."""
    if not any(is_array(leaf) for leaf in jax.tree.leaves(params)) or is_array(params):
        raise ValueError(f"`params` must be those of `sequence`; got {describe(params)}")
    if any(len(layer) > 1 for layer in getattr(params, "layers", ())):
        raise ValueError("`params` is a stack in two directions, which cannot be truncated in time")


def check_blocks(T, k1):
    """Whole blocks, where the number of steps is not known."""
    if is_symbolic_dim(T) and T % k1 != 0:
        raise ValueError(
            f"`xs` has the symbolic length {T}, which may be no multiple of k1 = {k1}; export it "
            f"with T = {k1}*n"
        )


def len_of(xs):
    return jax.tree.leaves(xs)[0].shape[0]


def size_of(state, xs):
    """T, and the batch axes."""
    leaves = jax.tree.leaves(xs)
    if not leaves or any(len(getattr(x, "shape", ())) == 0 for x in leaves):
        raise ValueError("`xs` must have time on axis 0: (T, ..., D)")
    return leaves[0].shape[0], jax.tree.leaves(state)[0].shape[:-1]


def check_steps_of(state, xs, lengths, mask, resets, needs_mask):
    """Steps; those of a stream with a past have a mask, which tells it from the time before it."""
    T, batch = size_of(state, xs)
    mask, resets = valid_steps(lengths, mask, T, batch), check_resets(resets, (T,), batch)
    return Steps(xs, jnp.ones((T, *batch), bool) if mask is None and needs_mask else mask, resets)
