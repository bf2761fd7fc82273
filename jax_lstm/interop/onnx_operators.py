"""ONNX's operators LSTM, GRU and RNN, complete, differentiated by hand; without onnx.

    ours                       ONNX's, per direction d
    W (D, 4H)   i, f, g, o     W[d] (4H, D)   i, o, f, c      x Wᵀ, and so R for U
    b (4H,)                    B[d] (8H,)     the offsets of W, then those of R: we add them
    p (3H,)     i, f, o        P[d] (3H,)     i, o, f
    GRU         r, z, n        z, r, h;  linear_before_reset: reset after the product, `gru`;
                               otherwise before it, `gru_reset_before`

Of these layouts and of the description in activations, clip and input_forget a cell is made by
`make_gated`; time and its derivative are the engine's. Where nothing is said it is `lstm`, `gru`,
`gru_reset_before` or `elman`.

ONNX Runtime does otherwise, in three places. Rows of length 0 carry the initial state here; it
returns zeros. alpha and beta default to the numbers of the operators of that name; it reads 0 for
some. Its float64 operators do not exist for the CPU: ours take float32 and float64.

Source: the documentation of the operators LSTM, GRU and RNN of ONNX, version 22; clip as in ONNX
Runtime's rnn_helpers, which bounds the net input of each gate, offset and peephole included.
tests/interop/test_interop_onnx.py runs ONNX's own tests and ONNX Runtime.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm.cells.family import (
    ELMAN,
    GRU,
    GRU_RESET_BEFORE,
    LSTM,
    Activation,
    make_gated,
)
from jax_lstm.doors import as_array, check_array, check_number, check_range, check_size, refuse
from jax_lstm.engine.cell import AnyCell
from jax_lstm.engine.routes import make_rnn
from jax_lstm.notation import ArrayOrList, Numbers
from jax_lstm.stages import ACTIVATIONS

BY_ONNX_NAME = {name.replace("_", ""): name for name in ACTIVATIONS}
ONNX_NAMES = [name.title().replace("_", "") for name in ACTIVATIONS]
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


class Operator(NamedTuple):
    """What the three share: names of the functions, and how many blocks W has."""

    name: str
    functions: tuple[str, ...]
    blocks: int


OPERATORS = {
    "LSTM": Operator("LSTM", ("Sigmoid", "Tanh", "Tanh"), 4),
    "GRU": Operator("GRU", ("Sigmoid", "Tanh"), 3),
    "RNN": Operator("RNN", ("Tanh",), 1),
}


def lstm(
    X: Numbers,
    W: Numbers,
    R: Numbers,
    B: Numbers | None = None,
    sequence_lens: ArrayOrList | None = None,
    initial_h: Numbers | None = None,
    initial_c: Numbers | None = None,
    P: Numbers | None = None,
    *,
    hidden_size: int,
    direction: str = "forward",
    activations: Sequence[str] | None = None,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    clip: float | None = None,
    input_forget: int = 0,
    layout: int = 0,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The operator LSTM. N is 2 where it is bidirectional, else 1.

    Args:
      X: (T, B, D), of layout 1 (B, T, D), float32 or float64; all arrays share its dtype.
      W, R: (N, 4H, D) and (N, 4H, H), blocks i, o, f, c.
      B: (N, 8H): offsets of W, then of R; zeros if not given.
      sequence_lens: whole numbers (B,) in [0, T].
      initial_h, initial_c: (N, B, H), of layout 1 (B, N, H); zeros if not given.
      P: (N, 3H): peepholes i, o, f; none if not given.
      hidden_size: H.
      direction: "forward", "reverse" or "bidirectional".
      activations: names of f, g, h, for each direction: of the gates, of the candidate, of c.
      activation_alpha, activation_beta: numbers, consumed in that order by the functions that take
        that letter; those that are left over for a function default to ONNX's.
      clip: the net input of each gate is kept in [-clip, clip].
      input_forget: 1: f = 1 - i.
      layout: 1: the batch is the first axis.

    Returns:
      Y: (T, N, B, H), of layout 1 (B, T, N, H); zero beyond a row's length.
      Y_h, Y_c: (N, B, H), of layout 1 (B, N, H): after the last step of each row.

    Raises:
      ValueError: shapes, dtypes or attributes that do not belong together.

    Source: ONNX's operator LSTM.
    """
    call = Call("LSTM", X, W, R, B, sequence_lens, initial_h, hidden_size, direction, layout)
    call = checked(call)
    coupled = check_whole("input_forget", input_forget)
    peep = None if P is None else check_operand("P", P, (call.N, 3 * call.H), "(N, 3H)", call.X)
    c = first_state("initial_c", initial_c, call)

    def params(n, kind):
        i, o, f, g = (slice(k * call.H, (k + 1) * call.H) for k in range(4))
        order = (i, g, o) if coupled else (i, f, g, o)
        b = sum(both_offsets(call, n))
        arrays = [in_blocks(call.W[n].T, order), in_blocks(call.R[n].T, order)]
        arrays.append(in_blocks(b, order))
        if peep is not None:
            p_i, p_o, p_f = jnp.split(peep[n], 3)
            arrays.append(jnp.concatenate([p_i, p_o] if coupled else [p_i, p_f, p_o]))
        return kind(*arrays)

    told = functions_of("LSTM", activations, activation_alpha, activation_beta, direction)
    made = []
    for f, g, h in told:
        gates = {"i": f, "f": f, "g": g, "o": f, "c": h}
        gates = {k: x for k, x in gates.items() if k != "f" or not coupled}
        options = {"clip": clip, "peepholes": peep is not None, "coupled": bool(coupled)}
        usual = (f, g, h) == usual_of("LSTM") and clip is None and peep is None and not coupled
        made.append(LSTM if usual else make_gated("lstm", activations=gates, **options))
    Y, last = over_directions(call, made, params, lambda cell, n: cell.state(call.h[n], c[n]))
    return Y, of_layout(call, [s.h for s in last]), of_layout(call, [s.c for s in last])


def gru(
    X: Numbers,
    W: Numbers,
    R: Numbers,
    B: Numbers | None = None,
    sequence_lens: ArrayOrList | None = None,
    initial_h: Numbers | None = None,
    *,
    hidden_size: int,
    direction: str = "forward",
    activations: Sequence[str] | None = None,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    clip: float | None = None,
    linear_before_reset: int = 0,
    layout: int = 0,
) -> tuple[jax.Array, jax.Array]:
    """The operator GRU. N is 2 where it is bidirectional, else 1.

    Args:
      X, sequence_lens, initial_h, hidden_size, direction, clip, layout: see `lstm`.
      W, R, B: (N, 3H, D), (N, 3H, H), (N, 6H), blocks z, r, h.
      activations, activation_alpha, activation_beta: of f, g, for each direction: of the gates, of
        the candidate.
      linear_before_reset: 1: the reset comes after the product with R, as in cuDNN.

    Returns:
      Y, Y_h: see `lstm`.

    Raises:
      ValueError: shapes, dtypes or attributes that do not belong together.

    Source: ONNX's operator GRU.
    """
    call = Call("GRU", X, W, R, B, sequence_lens, initial_h, hidden_size, direction, layout)
    call = checked(call)
    after = check_whole("linear_before_reset", linear_before_reset)

    def params(n, kind):
        z, r, h = (slice(k * call.H, (k + 1) * call.H) for k in range(3))
        order, (b_W, b_R) = (r, z, h), both_offsets(call, n)
        W, U = in_blocks(call.W[n].T, order), in_blocks(call.R[n].T, order)
        if after:
            return kind(W, U, in_blocks(b_W, order), in_blocks(b_R, order))
        return kind(W, U, in_blocks(b_W + b_R, order))

    plain, name = (GRU, "gru") if after else (GRU_RESET_BEFORE, "gru_reset_before")
    made = []
    for f, g in functions_of("GRU", activations, activation_alpha, activation_beta, direction):
        usual = (f, g) == usual_of("GRU") and clip is None
        gates = {"r": f, "z": f, "n": g}
        made.append(plain if usual else make_gated(name, activations=gates, clip=clip))
    Y, last = over_directions(call, made, params, lambda cell, n: cell.state(call.h[n]))
    return Y, of_layout(call, [s.h for s in last])


def rnn(
    X: Numbers,
    W: Numbers,
    R: Numbers,
    B: Numbers | None = None,
    sequence_lens: ArrayOrList | None = None,
    initial_h: Numbers | None = None,
    *,
    hidden_size: int,
    direction: str = "forward",
    activations: Sequence[str] | None = None,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    clip: float | None = None,
    layout: int = 0,
) -> tuple[jax.Array, jax.Array]:
    """The operator RNN. N is 2 where it is bidirectional, else 1.

    Args:
      X, sequence_lens, initial_h, hidden_size, direction, clip, layout: see `lstm`.
      W, R, B: (N, H, D), (N, H, H), (N, 2H).
      activations, activation_alpha, activation_beta: of f, for each direction.

    Returns:
      Y, Y_h: see `lstm`.

    Raises:
      ValueError: shapes, dtypes or attributes that do not belong together.

    Source: ONNX's operator RNN.
    """
    call = Call("RNN", X, W, R, B, sequence_lens, initial_h, hidden_size, direction, layout)
    call = checked(call)

    def params(n, kind):
        return kind(call.W[n].T, call.R[n].T, sum(both_offsets(call, n)))

    made = []
    for (f,) in functions_of("RNN", activations, activation_alpha, activation_beta, direction):
        usual = (f,) == usual_of("RNN") and clip is None
        made.append(ELMAN if usual else make_gated("elman", activations={"a": f}, clip=clip))
    Y, last = over_directions(call, made, params, lambda cell, n: cell.state(call.h[n]))
    return Y, of_layout(call, [s.h for s in last])


# What the three share ---------------------------------------------------------------------------


class Call(NamedTuple):
    """The arguments that the three have. After the doors X has time first, B and h are given."""

    operator: str
    X: Any
    W: Any
    R: Any
    B: Any
    lengths: Any
    h: Any
    H: int
    direction: str
    layout: int
    N: int = 1


def over_directions(call, cells: list[AnyCell], params, state):
    """Y in its layout, and the last state of each direction."""
    outputs, last = [], []
    for n, (cell, reverse) in enumerate(zip(cells, DIRECTIONS[call.direction], strict=True)):
        run, _ = make_rnn(cell)
        options = {"lengths": call.lengths, "reverse": reverse}
        end, hs = run(params(n, cell.params), state(cell, n), call.X, **options)
        outputs.append(hs)
        last.append(end)
    Y = jnp.stack(outputs, axis=1)  # (T, N, B, H)
    return (jnp.transpose(Y, (2, 0, 1, 3)) if call.layout else Y), last


def of_layout(call, states):
    return jnp.stack(states, axis=1 if call.layout else 0)


def in_blocks(x, order):
    """The blocks of the last axis, in our order."""
    return jnp.concatenate([x[..., block] for block in order], axis=-1)


def both_offsets(call, n):
    return jnp.split(call.B[n], 2)


def usual_of(operator):
    return tuple(Activation(name.lower()) for name in OPERATORS[operator].functions)


# Doors ------------------------------------------------------------------------------------------


def checked(call: Call) -> Call:
    name, _, blocks = OPERATORS[call.operator]
    if not isinstance(call.direction, str) or call.direction not in DIRECTIONS:
        refuse("direction", f"one of {', '.join(DIRECTIONS)}", call.direction)
    layout = check_whole("layout", call.layout)
    H, N = check_size("hidden_size", call.H, 1), len(DIRECTIONS[call.direction])
    axes = "(B, T, D)" if layout else "(T, B, D)"
    check_array("X", call.X)
    if np.ndim(call.X) != 3 or call.X.dtype not in (np.float32, np.float64):
        refuse("X", f"float32 or float64 {axes}", call.X)
    X = jnp.asarray(call.X)
    X = jnp.swapaxes(X, 0, 1) if layout else X
    D, M = X.shape[2], blocks * H
    call = call._replace(X=X, H=H, N=N, layout=layout)
    return call._replace(
        W=check_operand("W", call.W, (N, M, D), f"(N, {blocks}H, D) of the {name}", X),
        R=check_operand("R", call.R, (N, M, H), f"(N, {blocks}H, H) of the {name}", X),
        B=jnp.zeros((N, 2 * M), X.dtype)
        if call.B is None
        else check_operand("B", call.B, (N, 2 * M), f"(N, {2 * blocks}H) of the {name}", X),
        h=first_state("initial_h", call.h, call),
        lengths=None if call.lengths is None else check_lens(call.lengths, X.shape),
    )


def check_operand(name, x, shape, letters, X):
    check_array(name, x)
    if np.shape(x) != shape or x.dtype != X.dtype:
        refuse(name, f"{X.dtype} {shape}, that is {letters}", x)
    return jnp.asarray(x)


def first_state(name, x, call):
    """(N, B, H), whatever the layout; zeros if not given."""
    B = call.X.shape[1]
    if x is None:
        return jnp.zeros((call.N, B, call.H), call.X.dtype)
    shape = (B, call.N, call.H) if call.layout else (call.N, B, call.H)
    x = check_operand(name, x, shape, "(B, N, H)" if call.layout else "(N, B, H)", call.X)
    return jnp.swapaxes(x, 0, 1) if call.layout else x


def check_lens(lengths, shape):
    T, B, _ = shape
    listed = isinstance(lengths, list | tuple)
    given: Any = (
        as_array("sequence_lens", lengths, int, f"whole numbers {(B,)}") if listed else lengths
    )
    check_array("sequence_lens", given)
    if np.shape(given) != (B,) or not jnp.issubdtype(given.dtype, jnp.integer):
        refuse("sequence_lens", f"whole numbers {(B,)}", given)
    check_range("sequence_lens", given, T, f"[0, T = {T}]")
    return given


def check_whole(name, x):
    """0 or 1."""
    x = int(x) if isinstance(x, bool | np.bool) else x
    if not isinstance(x, int | np.integer) or x not in (0, 1):
        refuse(name, "0 or 1", x)
    return int(x)


def functions_of(operator, names, alpha, beta, direction):
    """The functions of each direction as Activations: (f, g, h) of the LSTM."""
    usual, n = OPERATORS[operator].functions, len(DIRECTIONS[direction])
    names = list(usual) * n if names is None else names
    want = f"{len(usual) * n} of {', '.join(ONNX_NAMES)}"
    if not isinstance(names, list | tuple) or len(names) != len(usual) * n:
        refuse("activations", want, names)
    if any(not isinstance(k, str) or k.lower() not in BY_ONNX_NAME for k in names):
        refuse("activations", want, names)
    left = {"alpha": numbers("activation_alpha", alpha), "beta": numbers("activation_beta", beta)}
    found = []
    for name in names:
        one = Activation(BY_ONNX_NAME[name.lower()])
        takes = ("alpha", "beta")[: len(ACTIVATIONS[one.name].defaults)]
        found.append(one._replace(**{k: left[k].pop(0) for k in takes if left[k]}))
    for letter, rest in left.items():
        if rest:
            refuse(f"activation_{letter}", "a number for each function that takes one", rest)
    return [tuple(found[k * len(usual) : (k + 1) * len(usual)]) for k in range(n)]


def numbers(name, given):
    if given is None:
        return []
    if not isinstance(given, list | tuple):
        refuse(name, "a list of numbers", given)
    return [float(check_number(name, x, traced=False)) for x in given]
