"""HOW WRONG IS A TRUNCATED GRADIENT? The exact error of TBPTT(k1, k2) by k2, and a bound on it.

    error(k2) = ‖g_k2 - g‖ / ‖g‖          g by all of time, g_k2 as `tbptt(k1, k2)` has it

sweep.py says how: in one sweep back over chunks of time, in constant memory. docs/truncation.md has
the theorem, and a picture. Sources: Williams & Peng (1990) for the truncation; Aicher, Foti & Fox
(2020), "Adaptively truncating backpropagation through time to control gradient bias", for a k2 that
is chosen by the error.
"""

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jax_lstm.cells.lstm import LSTM
from jax_lstm.doors import (
    check_array,
    check_flag,
    check_function,
    check_number,
    check_size,
    describe,
    is_array,
    refuse,
    unlike_a_number,
)
from jax_lstm.engine.cell import AnyCell
from jax_lstm.engine.doors import (
    check_cell,
    check_record,
    check_reset_state,
    check_resets,
    valid_steps,
)
from jax_lstm.engine.programs import in_one_program
from jax_lstm.engine.segments import Plan, Steps, zeros_like
from jax_lstm.notation import ArrayOrList, Tree
from jax_lstm.training.sweep import Cuts, go_back, measure
from jax_lstm.training.truncated import check_reach

CHUNK = 64  # steps of a chunk, at least, where nobody says
SNAPSHOTS = 16  # states that are kept at once: so 153 chunks are run at most twice
MOST, BETWEEN = 2**30, 16  # of `choose_k2`


class Truncation(NamedTuple):
    """The error of TBPTT(k1, k2) on some data, by k2.

    k1: outputs per block.
    k2: whole numbers (n,), ascending.
    error: ‖g_k2 - g‖ / ‖g‖, (n,) float64, all parameters as one vector. 0 where both are zero.
    bound: an upper bound of the error, (n,) float64, perhaps inf; or None.
    fields: likewise of each array of params, in its place, over the norm of its own part of g.
    gradient: g, like params: the exact one, through all steps.
    """

    k1: int
    k2: np.ndarray
    error: np.ndarray
    bound: np.ndarray | None
    fields: Tree
    gradient: Tree

    def k2_for(self, error: float, by: str = "error") -> int | None:
        """The least k2 that was measured from which on all errors are at most `error`; or None.

        Raises:
          ValueError: an error that is no number >= 0; `by` neither "error" nor "bound", or a bound
            that was not asked for.
        """
        check_error(error)
        if by not in ("error", "bound") or getattr(self, by) is None:
            refuse("by", '"error", or "bound" where there is one', by)
        good = np.append(True, (getattr(self, by) <= error)[::-1]).cumprod()
        found = int(good.sum()) - 1
        return int(self.k2[-found]) if found else None


def truncation_error(
    params: Tree,
    state: Tree,
    xs: ArrayLike,
    dhs: ArrayLike,
    *,
    k2: ArrayOrList,
    k1: int = 1,
    dstate: Tree = None,
    lengths: ArrayOrList | None = None,
    mask: ArrayOrList | None = None,
    resets: ArrayOrList | None = None,
    reset_state: Tree = None,
    cell: AnyCell = LSTM,
    bound: bool = True,
    chunk: int | None = None,
) -> Truncation:
    """How far the gradient of TBPTT(k1, k2) is from the whole one, exactly, for each k2.

        error(k2) = ‖g_k2 - g‖ / ‖g‖  <=  bound(k2)

    The gradient is that of the cell's parameters, for a loss whose derivatives by the outputs are
    dhs and dstate: they are the same for all k2, as truncation leaves the forward alone. No array
    is as long as the sequence but those given; one program serves all lengths.

    Args:
      params, state, xs: as of `jax_lstm.lstm`; xs (T, ..., D).
      dhs: dL/dh_t, (T, ..., H), dtype of state.h.
      k2: one, or a list of them: whole numbers >= k1.
      k1: outputs per block, see `tbptt`.
      dstate: cotangent of the last state, like `state`; zeros if not given.
      lengths, mask, resets, reset_state: as of `jax_lstm.lstm`.
      cell: a `Cell` without masks of its own; params and state are its.
      bound: whether to make the bound. It takes S cotangents back through every step, for a state
        of S numbers, for each group of steps and example S² products of gradients, and for each two
        groups of a chunk a product of (S, S): far more than the error itself. Groups are as long as
        the greatest common divisor of k1, of all k2 and of T is; the longer, the nearer the bound
        is to the error.
      chunk: steps of a chunk; None: as many as the largest k2, or 64. The longer, the nearer the
        bound: from chunk to chunk norms are multiplied.

    Returns:
      Truncation. Sums are wide: float32 for params of 16 bits.

    Raises:
      ValueError: shapes or dtypes that do not belong together, a k2 < k1, what is traced: the
        error is a number, measured outside of `jax.jit`.

    Source: Williams & Peng (1990); Aicher, Foti & Fox (2020) for the question.
    """
    check_plain(cell)
    check_concrete(params=params, state=state, xs=xs, dhs=dhs)
    check_cell(cell, params, state, xs, "xs", 1)
    T, *batch = np.shape(xs)[:-1]
    mask, resets = valid_steps(lengths, mask, T, batch), check_resets(resets, (T,), batch)
    check_reset_state(reset_state, state, resets)
    check_like("dhs", dhs, (T, *state[0].shape), state[0].dtype)
    if dstate is not None:
        check_state_like("dstate", dstate, state)
    question = ask(k1, k2, bound, T)
    least = max(CHUNK, min(question.k2[-1], T)) if chunk is None else check_size("chunk", chunk, 1)
    each = int(-(-least // question.stride) * question.stride)
    many = lambda tree: jax.tree.map(lambda x: examples(x, len(batch), 1), tree)
    one = lambda tree: jax.tree.map(lambda x: examples(x, len(batch), 0), tree)
    steps, dhs = many((Steps(xs, mask, resets), dhs))
    state, fresh, dstate = one((state, reset_state, dstate))
    fresh = zeros_like(state) if fresh is None and resets is not None else fresh
    starts = range(0, max(T, 1), each)
    sizes = [min(each, T - t) for t in starts]
    cut = lambda n: jax.tree.map(lambda x: x[starts[n] : starts[n] + sizes[n]], (steps, dhs))
    plan = Plan(cell, False, "full", 1)
    back = functools.partial(in_one_program, go_back, (plan, question, None))
    found = measure(plan, question, back, params, fresh, state, dstate, sizes, cut, SNAPSHOTS)
    return summary(question, params, *found)


def truncation_error_of_stream(
    params: Tree,
    state: Tree,
    chunks: Sequence[tuple[Any, ...]],
    loss: Callable[..., Any],
    *,
    k2: ArrayOrList,
    k1: int = 1,
    cell: AnyCell = LSTM,
    bound: bool = True,
    snapshots: int = SNAPSHOTS,
) -> Truncation:
    """`truncation_error` of a stream that is never in memory as a whole.

        L = Σ_n loss(hs of chunk n, *rest of chunk n)

    Args:
      params, state: of the cell, the state before the first step.
      chunks: a sequence of tuples (xs, *rest), xs (T_n, ..., D): anything with `len(chunks)` and
        `chunks[n]`, which may make them. Each is asked for more than once. All have the same
        number of steps but the last one, which may have fewer; of both, the group of the bound is
        a divisor.
      loss: `loss(hs, *rest) -> number`, hs (T_n, ..., H): the sum over the outputs of a chunk. JAX
        differentiates it by hs, and nothing else.
      k2, k1, cell, bound: see `truncation_error`.
      snapshots: states that are kept at once, >= 1. With s of them a chunk is run at most r times,
        for the least r with (s + r)! / (s! r!) >= the number of chunks.

    Returns:
      Truncation. The memory is that of a chunk, of k2/k1 states, of n + 1 gradients for n k2s and
      of the snapshots, for any T.

    Raises:
      ValueError: as `truncation_error`; no chunks, or chunks of other lengths.
      TypeError: a loss that returns anything else than one real number.

    Source: as `truncation_error`; Griewank (1992) for the snapshots.
    """
    check_plain(cell)
    check_function("loss", loss, 1)
    check_chunks(chunks)
    snapshots = check_size("snapshots", snapshots, 1)
    check_concrete(params=params, state=state)
    sizes = [steps_of(chunks, n) for n in (0, len(chunks) - 1)]
    sizes = [sizes[0]] * (len(chunks) - 1) + sizes[1:]
    xs, *rest = chunks[0]
    check_cell(cell, params, state, xs, "chunks[0][0]", 1)
    batch = np.shape(xs)[1:-1]
    question = ask(k1, k2, bound, sum(sizes), sizes[0])
    check_rest(loss, chunks[0])
    check_loss(loss, (sizes[0], *state[0].shape), state[0].dtype, rest)
    count = len(rest)

    def cut(n):
        steps = steps_of(chunks, n)
        xs, *rest = chunks[n]
        if len(rest) != count:
            refuse(f"chunks[{n}]", f"a tuple of {1 + count} like chunks[0]", chunks[n])
        if steps != sizes[n]:
            refuse("chunks", f"of {sizes[0]} steps each, but for the last", np.shape(xs))
        check_cell(cell, params, state, xs, f"chunks[{n}][0]", 1)
        return Steps(examples(xs, len(batch), 1), None, None), tuple(rest)

    def cotangent(hs, rest):
        """dhs, of examples on one axis as ours are."""
        own = hs.reshape((len(hs), *batch, *hs.shape[2:]))
        return jax.grad(loss)(own, *rest).reshape(hs.shape)

    plan = Plan(cell, False, "full", 1)
    back = jax.jit(functools.partial(go_back, plan, question, cotangent))
    first = jax.tree.map(lambda x: examples(x, len(batch), 0), state)
    found = measure(plan, question, back, params, None, first, None, sizes, cut, snapshots)
    return summary(question, params, *found)


def choose_k2(
    measure: Callable[..., Truncation], error: float, *, k1: int = 1, most: int | None = None
) -> tuple[int, Truncation]:
    """A k2 that meets an error, and what was measured last: k2 in place of a guess.

        measure = functools.partial(jl.truncation_error, params, state, xs, dhs)
        k2, _ = jl.choose_k2(measure, 0.01)
        train with jl.tbptt(1, k2), and choose again now and then, as params change

    k2 is doubled until the error is met, and then looked for between the last two: a seventeenth of
    that distance is how exact it is. An error may rise again at a larger k2: what is returned is
    the least that was measured from which on all that were measured last meet it.

    Args:
      measure: `measure(k1=, k2=, bound=) -> Truncation`, say `truncation_error` with its data.
      error: relative, >= 0, of the gradient.
      k1: outputs per block.
      most: the largest k2 to try; None: as far as it takes. From T on every error is 0.

    Returns:
      k2, Truncation: `truncation.k2_for(error)` is this k2.

    Raises:
      ValueError: an error below 0; one that is not met by `most`.

    Source: the question of Aicher, Foti & Fox (2020), who estimate the error from a decay that they
    assume; here it is measured.
    """
    check_function("measure", measure)
    error, k1 = check_error(error), check_size("k1", k1, 1)
    most = MOST if most is None else check_size("most", most, k1)
    low, high = k1 - 1, k1
    while (found := measure(k1=k1, k2=[high], bound=False)).error[0] > error:
        if high >= most:
            raise ValueError(
                f"`most` must be larger: at k2 = {high} the error is {found.error[0]:.3g}, and not "
                f"{error:g}"
            )
        low, high = high, min(2 * high, most)
    between = np.linspace(low + 1, high, min(BETWEEN, high - low)).round().astype(int)
    found = measure(k1=k1, k2=sorted(set(between.tolist())), bound=False)
    k2 = found.k2_for(error)
    return (high if k2 is None else k2), found


def summary(question, params, parts, most):
    """Truncation of the parts of the gradient from one k2 to the next."""
    parts = jax.tree.map(lambda x: np.asarray(x, np.float64), parts)
    from_here = jax.tree.map(lambda x: x[::-1].cumsum(0)[::-1], parts)
    largest = max(np.abs(x).max(initial=0) for x in jax.tree.leaves(from_here))
    unit = largest if 0 < largest < np.inf else 1.0  # else squares would be 0, or infinite
    norm = lambda x: np.sqrt(np.square(x.reshape((len(x), -1)) / unit).sum(-1))
    apart = jax.tree.map(norm, from_here)  # the first of them is the whole
    whole = np.sqrt(sum(np.square(x) for x in jax.tree.leaves(apart)))
    over = lambda x, y: np.divide(x, y, out=np.where(x > 0, np.inf, 0.0), where=y > 0)
    fields = jax.tree.map(lambda x: over(x[1:], x[0]), apart)
    bound = over(np.asarray(most, np.float64) / unit, whole[0]) if question.bound else None
    gradient = jax.tree.map(lambda x, p: jnp.asarray(x[0], p.dtype), from_here, params)
    k2 = np.array(question.k2)
    return Truncation(question.k1, k2, over(whole[1:], whole[0]), bound, fields, gradient)


# Doors ------------------------------------------------------------------------------------------


def ask(k1, k2, bound, *steps):
    """The Cuts; steps: T, and where there are chunks, those of one. A group of the bound begins
    where a window does, and where a chunk does."""
    check_flag("bound", bound)
    known = is_array(k2) and not isinstance(k2, Tracer) and np.ndim(k2) == 1
    many = k2.tolist() if known else k2
    many = list(many) if isinstance(many, list | tuple | range) else [many]
    if not many:
        refuse("k2", "a whole number >= k1, or a list of them", k2)
    for k in many:
        k1, _ = check_reach(k1, k)
    found = tuple(sorted({int(k) for k in many}))
    apart = -(-min(found[-1], steps[0]) // k1) + 1  # no window is longer than the sequence
    return Cuts(k1, found, math.gcd(k1, *found, *steps), bool(bound), apart)


def check_plain(cell):
    check_record("cell", cell)
    if cell.consts or cell.beside:
        raise ValueError(f"`cell` must be one without masks of its own; {cell.name} has them")


def check_concrete(**given):
    for name, tree in given.items():
        if any(isinstance(x, Tracer) for x in jax.tree.leaves(tree)):
            raise ValueError(f"`{name}` must be known: an error is measured outside of jax.jit")


def check_like(name, x, shape, dtype):
    check_array(name, x)
    if x.shape != shape or x.dtype != dtype:
        raise ValueError(f"`{name}` must be {shape} and {dtype}; got {describe(x)}")


def check_state_like(name, given, state):
    if type(given) is not type(state):
        refuse(name, f"None or a {type(state).__name__}", given)
    for field, x, like in zip(state._fields, given, state, strict=True):
        check_like(f"{name}.{field}", x, like.shape, like.dtype)


def check_error(error):
    error = check_number("error", error, "a number >= 0", traced=False)
    if error < 0:
        refuse("error", "a number >= 0", error)
    return float(error)


def check_chunks(chunks):
    """What has a length and a first element."""
    try:
        first = chunks[0] if len(chunks) else None
    except Exception:  # whatever it is to Python that has neither
        first = None
    if first is None:
        refuse("chunks", "a sequence of tuples (xs, *rest)", chunks)


def check_rest(loss, chunk):
    """Complain of a first chunk whose rest is not what the loss takes beside hs."""
    try:
        signature = inspect.signature(loss)
    except (TypeError, ValueError):  # a function of C may not say
        return
    try:
        signature.bind(*chunk)  # hs stands where xs is
    except TypeError as error:
        want = f"a tuple (xs, *rest) with which `loss` can be called as loss(hs, *rest): {error}"
        refuse("chunks[0]", want, chunk)


def check_loss(loss, shape, dtype, rest):
    """Complain, before anything runs, of a loss of hs of this shape that is no number.

    Raises:
      TypeError: as JAX's for such a loss.
    """
    if got := unlike_a_number(jax.eval_shape(loss, jax.ShapeDtypeStruct(shape, dtype), *rest)):
        raise TypeError(
            f"`loss` must return one real number for a chunk, the sum over its outputs; got {got}"
        )


def steps_of(chunks, n):
    """Steps of a chunk, a tuple (xs, *rest)."""
    chunk = chunks[n]
    if not isinstance(chunk, tuple) or not chunk or np.ndim(chunk[0]) < 2:
        refuse(f"chunks[{n}]", "a tuple (xs, *rest), xs (T, ..., D)", chunk)
    return np.shape(chunk[0])[0]


def examples(x, axes, at):
    """All axes of examples as one, from the axis `at` on."""
    shape = np.shape(x)
    return x.reshape((*shape[:at], math.prod(shape[at : at + axes]), *shape[at + axes :]))
