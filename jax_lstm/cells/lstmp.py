"""The LSTM with an output projection (LSTMP): many cells, and few numbers to hand on.

    a = x W + h_prev U + b                             (1)
    i, f, o = sigmoid(a_i, a_f, a_o);  g = tanh(a_g)   (2)
    c = f * c_prev + i * g                             (3)
    h = m P,  m = o * tanh(c)                          (4), (10)

R is the size of h, H that of c: U is smaller by R / H than without. The rows of P are one more fork
over time and examples: dP = Σ mᵀ dh, so dh_t is part of what a step leaves behind for the weights.

Source: Sak, Senior & Beaufays (2014), "Long Short-Term Memory Recurrent Neural Network
Architectures for Large Scale Acoustic Modeling", without peepholes; torch.nn.LSTM with proj_size.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm.bptt import Cell
from jax_lstm.cells.make import make_cell, make_rnn
from jax_lstm.notation import wide
from jax_lstm.stages import (
    bias,
    bias_bwd,
    cell_state,
    cell_state_bwd,
    fork_bwd,
    gates,
    gates_bwd,
    hidden_state,
    hidden_state_bwd,
    linear,
    linear_bwd_input,
    linear_bwd_weight,
)


class LSTMPParams(NamedTuple):
    """W (D, 4H), U (R, 4H), b (4H,): blocks i, f, g, o side by side; P (H, R)."""

    W: jax.Array
    U: jax.Array
    b: jax.Array
    P: jax.Array


class LSTMPState(NamedTuple):
    """h (..., R) in the parameters' dtype, c (..., H) in float32 when that has 16 bits."""

    h: jax.Array
    c: jax.Array


def init_lstmp(
    key, input_size, hidden_size, projection_size, *, forget_bias=1.0, dtype=jnp.float32
):
    """Parameters drawn as those of `init_lstm`.

    Args:
      key: a key of `jax.random.key`.
      input_size, hidden_size, projection_size: D, H (cells) and R (what is handed on).
      forget_bias: value of the forget block of b; the other blocks are zero.
      dtype: of all four.

    Returns:
      LSTMPParams: W lecun-normal (D, 4H), U orthogonal per gate (R, 4H), b (4H,), P lecun-normal
      (H, R).
    """
    D, H, R = input_size, hidden_size, projection_size
    key_W, key_U, key_P = jax.random.split(key, 3)
    normal, orthogonal = jax.nn.initializers.lecun_normal(), jax.nn.initializers.orthogonal()
    W = normal(key_W, (D, 4 * H), wide(dtype))
    U = [orthogonal(k, (R, H), wide(dtype)) for k in jax.random.split(key_U, 4)]
    P = normal(key_P, (H, R), wide(dtype))
    b = jnp.zeros((4 * H,), dtype).at[H : 2 * H].set(forget_bias)
    U = jnp.concatenate(U, axis=1)
    return LSTMPParams(W.astype(dtype), U.astype(dtype), b, P.astype(dtype))


def init_lstmp_state(params, batch_shape=()):
    """LSTMPState of zeros: h (*batch_shape, R) and c (*batch_shape, H)."""
    H, R = params.P.shape
    dtype = params.P.dtype
    return LSTMPState(
        jnp.zeros((*batch_shape, R), dtype), jnp.zeros((*batch_shape, H), wide(dtype))
    )


# A step, and the chain rule through it --------------------------------------------------------


def prepare(params):
    return params


def project(w, xs):
    """z = x W: the part of (1) that does not depend on the state."""
    return linear(xs, w.W)


def step(w, consts, state_prev, z):
    h_prev, c_prev = state_prev
    a = bias(z + linear(h_prev, w.U), w.b)  # (1)
    i, f, g, o = gates(a)  # (2)
    c = cell_state(f, c_prev, i, g)  # (3)
    m = hidden_state(o, c).astype(h_prev.dtype)  # (4)
    h = linear(m, w.P)  # (10)
    return LSTMPState(h.astype(h_prev.dtype), c), (i, f, g, o)


def step_bwd(w, consts, state_prev, saved, dstate):
    """The forward read bottom-up. c is recomputed: three operations, not an array per step."""
    c_prev = state_prev.c
    i, f, g, o = saved
    dh, dc_from_next = dstate
    c = cell_state(f, c_prev, i, g)
    dm = linear_bwd_input(w.P, dh)  # (10'x)
    do, dc_from_m = hidden_state_bwd((o, c), dm)  # (4')
    dc = fork_bwd((dc_from_next, dc_from_m))  # (F') at c_t
    df, dc_prev, di, dg = cell_state_bwd((f, c_prev, i, g), dc)  # (3')
    da = gates_bwd((i, f, g, o), (di, df, dg, do))  # (2')
    dh_prev = linear_bwd_input(w.U, da)  # (1'x), the fork at h_{t-1} into four gates in one product
    return LSTMPState(dh_prev, dc_prev), (da, dh)


def weights_bwd(params, consts, xs, states_prev, saved, deltas):
    """dW, dU, db, dP summed over steps and examples in one product each, and dx for every step.

    m is made again of what was saved, for a whole segment at once.
    """
    das, dhs = deltas
    i, f, g, o = saved
    ms = hidden_state(o, cell_state(f, states_prev.c, i, g)).astype(params.P.dtype)
    dW = linear_bwd_weight(xs, das)  # (1'W)
    dU = linear_bwd_weight(states_prev.h, das)  # (1'W)
    _, db = bias_bwd(das)  # (1'b)
    dP = linear_bwd_weight(ms, dhs)  # (10'P)
    dxs = linear_bwd_input(params.W, das)  # (1'x)
    return LSTMPParams(dW, dU, db, dP), dxs


# What people call -----------------------------------------------------------------------------


def check(params, state, x, name, leading):
    """The door; `name` and `leading` are "xs" and 1 for a sequence, "x" and 0 for one step."""
    form = "(T, ..., D)" if leading else "(..., D)"
    if tuple(np.ndim(p) for p in params) != (2, 2, 1, 2):
        shapes = ", ".join(f"{k} {np.shape(p)}" for k, p in zip("WUbP", params, strict=True))
        raise ValueError(f"params must be W (D, 4H), U (R, 4H), b (4H,), P (H, R); got {shapes}")
    D, (H, R), dtype = params.W.shape[0], params.P.shape, params.W.dtype
    wanted = {"W": (D, 4 * H), "U": (R, 4 * H), "b": (4 * H,), "P": (H, R)}
    for key, shape in wanted.items():
        got = getattr(params, key)
        if got.shape != shape:
            raise ValueError(
                f"`params.{key}` must be {shape} with H = {H}, R = {R} (params.P); "
                f"got shape {got.shape}"
            )
        if got.dtype != dtype:
            raise ValueError(f"params must share one dtype; W is {dtype}, {key} is {got.dtype}")
    if x.shape[-1] != D:
        raise ValueError(
            f"`{name}` must be {form} with D = {D} (rows of params.W); got shape {x.shape}"
        )
    if x.dtype != dtype:
        raise ValueError(
            f"`{name}` and params must share one dtype; got {x.dtype} and {dtype}. "
            f"Convert one of them: {name}.astype(...)"
        )
    batch = x.shape[leading:-1]
    for key, size, kind in (("h", R, dtype), ("c", H, wide(dtype))):
        got = getattr(state, key)
        if got.shape != (*batch, size):
            raise ValueError(
                f"`state.{key}` must be {(*batch, size)}: the batch axes of {name} {x.shape}, then "
                f"{'R' if key == 'h' else 'H'} = {size} (params.P); got shape {got.shape}"
            )
        if got.dtype != kind:
            raise ValueError(f"`state.{key}` must be {kind} for {dtype} {name}; got {got.dtype}")


LSTMP = Cell(init_lstmp_state, prepare, project, step, step_bwd, weights_bwd, check)

lstmp_cell, lstmp_cell_autodiff = make_cell(
    LSTMP, "lstmp_cell", "One step of the LSTM with a projection, equations (1) to (4) and (10)."
)
lstmp, lstmp_autodiff = make_rnn(
    LSTMP, "lstmp", "The LSTM with a projection, equations (1) to (4) and (10), over a sequence."
)
