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

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm.cells import lstm
from jax_lstm.doors import check_size
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.doors import check_fields, check_names, check_ranks
from jax_lstm.engine.routes import make_cell, make_rnn
from jax_lstm.notation import wide
from jax_lstm.stages import cell_state, hidden_state, linear, linear_bwd_weight


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
    D = check_size("input_size", input_size, 1)
    H = check_size("hidden_size", hidden_size, 1)
    R = check_size("projection_size", projection_size, 1)
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


# A step is a step of the LSTM and a projection, and the chain rule through it -------------------


class Weights(NamedTuple):
    """What the loop over steps sees, see cells/lstm.py: also UT = Uᵀ and PT = Pᵀ, wide."""

    W: jax.Array
    U: jax.Array
    b: jax.Array
    UT: jax.Array
    P: jax.Array
    PT: jax.Array


def prepare(params):
    W, U, b, P = params
    return Weights(*lstm.prepare((W, U, b)), P, P.T.astype(wide(P.dtype)))


def step(w, consts, state_prev, z, lstm_step=lstm.step):
    (m, c), saved = lstm_step(w, consts, state_prev, z)  # (1) to (4)
    h = linear(m, w.P)  # (10)
    return LSTMPState(h.astype(m.dtype), c), saved


def step_bwd(w, consts, state_prev, local, dstate):
    """The forward read bottom-up."""
    dh, dc_from_next = dstate
    dm = linear(dh, w.PT)  # (10'x)
    dprev, da = lstm.step_bwd(w, consts, state_prev, local, LSTMPState(dm, dc_from_next))
    return LSTMPState(*dprev), (da, dh)


def weights_bwd(params, consts, xs, states_prev, saved, deltas):
    """dW, dU, db, dP summed over steps and examples in one product each, and dx for every step.

    m is made again of what was saved, for a whole segment at once.
    """
    das, dhs = deltas
    i, f, g, o = saved
    ms = hidden_state(o, cell_state(f, states_prev.c, i, g)).astype(params.P.dtype)
    dP = linear_bwd_weight(ms, dhs)  # (10'W)
    dparams, dxs = lstm.weights_bwd(params, consts, xs, states_prev, saved, das)
    return LSTMPParams(*dparams, dP), dxs


# What people call -----------------------------------------------------------------------------


def check(params, state, x, name, leading):
    """The door, see engine/doors.py."""
    check_ranks(params, "WUbP", (2, 2, 1, 2), "W (D, 4H), U (R, 4H), b (4H,), P (H, R)")
    check_names("state", state, "hc")
    D, (H, R) = params.W.shape[0], params.P.shape
    wanted = {"W": (D, 4 * H), "U": (R, 4 * H), "b": (4 * H,), "P": (H, R)}
    sizes = {"h": (R, f"R = {R} (params.P)", "same"), "c": (H, f"H = {H} (params.P)", "wide")}
    legend = f"with H = {H}, R = {R} (params.P)"
    check_fields(wanted, legend, sizes, params, state, x, name, leading)


LSTMP = Cell(
    init_lstmp_state,
    prepare,
    lstm.project,
    step,
    step_bwd,
    weights_bwd,
    check,
    lstm.linearize,
    takes_consts=False,
)

by_jax = LSTMP._replace(step=functools.partial(step, lstm_step=lstm.plain_step))

lstmp_cell, lstmp_cell_autodiff = make_cell(
    LSTMP,
    "lstmp_cell",
    "One step of the LSTM with a projection, equations (1) to (4) and (10).",
    plain=by_jax,
)
lstmp, lstmp_autodiff = make_rnn(
    LSTMP,
    "lstmp",
    "The LSTM with a projection, equations (1) to (4) and (10), over a sequence.",
    plain=by_jax,
)
