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
from jax.typing import DTypeLike

from jax_lstm.cells import lstm
from jax_lstm.doors import check_init, check_number
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.made import partial
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.notation import GATES, wide
from jax_lstm.stages import cell_state, hidden_state, linear, linear_bwd_weight

__all__ = [
    "LSTMP",
    "LSTMPParams",
    "LSTMPState",
    "init_lstmp",
    "init_lstmp_state",
    "lstmp",
    "lstmp_autodiff",
    "lstmp_cell",
    "lstmp_cell_autodiff",
]


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
    key: jax.Array,
    input_size: int,
    hidden_size: int,
    projection_size: int,
    *,
    forget_bias: float = 1.0,
    dtype: DTypeLike = jnp.float32,
) -> LSTMPParams:
    """Parameters drawn as those of `init_lstm`.

    Args:
      key: a key of `jax.random.key`.
      input_size, hidden_size, projection_size: D, H (cells) and R (what is handed on).
      forget_bias: value of the forget block of b; the other blocks are zero.
      dtype: of all four.

    Returns:
      LSTMPParams: W lecun-normal (D, 4H), U orthogonal per gate (R, 4H), b (4H,), P lecun-normal
      (H, R).

    Raises:
      ValueError: what is no key, a size that is no whole number >= 1, a dtype that is not floating
        point, a forget_bias that is no number.
    """
    sizes = {"input_size": input_size, "hidden_size": hidden_size}
    D, H, R = check_init(key, dtype, **sizes, projection_size=projection_size)
    first = jnp.asarray(check_number("forget_bias", forget_bias), dtype)
    key_W, key_U, key_P = jax.random.split(key, 3)
    normal, orthogonal = jax.nn.initializers.lecun_normal(), jax.nn.initializers.orthogonal()
    W = normal(key_W, (D, 4 * H), wide(dtype))
    U = [orthogonal(k, (R, H), wide(dtype)) for k in jax.random.split(key_U, 4)]
    P = normal(key_P, (H, R), wide(dtype))
    b = jnp.zeros((4 * H,), dtype).at[H : 2 * H].set(first)
    U = jnp.concatenate(U, axis=1)
    return LSTMPParams(W.astype(dtype), U.astype(dtype), b, P.astype(dtype))


# A step is a step of the LSTM and a projection, and the chain rule through it -------------------


class LSTMPWeights(NamedTuple):
    """What the loop over steps sees, see cells/lstm.py: also UT = Uᵀ and PT = Pᵀ, wide."""

    W: jax.Array
    U: jax.Array
    b: jax.Array
    UT: jax.Array
    P: jax.Array
    PT: jax.Array


def prepare(params, consts=None):
    W, U, b, P = params
    return LSTMPWeights(*lstm.prepare((W, U, b)), P, P.T.astype(wide(P.dtype)))


def step(w, prev, z, lstm_step=lstm.step):
    (m, c), saved = lstm_step(w, prev, z)  # (1) to (4)
    h = linear(m, w.P)  # (10)
    return LSTMPState(h.astype(m.dtype), c), saved


def step_bwd(w, prev, slopes, dstate):
    """The forward read bottom-up."""
    dh, dc_from_next = dstate
    dm = linear(dh, w.PT)  # (10'x)
    dprev, da = lstm.step_bwd(w, prev, slopes, LSTMPState(dm, dc_from_next))
    return LSTMPState(*dprev), (da, dh)


def weights_bwd(w, xs, prevs, saved, deltas):
    """dW, dU, db, dP summed over steps and examples in one product each, and dx for every step.

    m is made again of what was saved, for a whole segment at once.
    """
    das, dhs = deltas
    i, f, g, o = saved
    ms = hidden_state(o, cell_state(f, prevs.c, i, g)).astype(w.P.dtype)
    dP = linear_bwd_weight(ms, dhs)  # (10'W)
    dparams, dxs = lstm.weights_bwd(w, xs, prevs, saved, das)
    return LSTMPParams(*dparams, dP), dxs


# What people call -----------------------------------------------------------------------------


LSTMP = Cell(
    name="lstmp",
    params=LSTMPParams,
    state=LSTMPState,
    shapes=(("W", "D,4H"), ("U", "R,4H"), ("b", "4H"), ("P", "H,R")),
    fields=(("h", "R"), ("c", "wide H")),
    gates=GATES,
    init=init_lstmp,
    prepare=prepare,
    project=lstm.project,
    step=step,
    slopes=lstm.slopes,
    step_bwd=step_bwd,
    weights_bwd=weights_bwd,
    step_for_jax=partial(step, lstm_step=lstm.plain_step),
    sizes=(("R", "projection_size"),),
)
init_lstmp_state = make_init_state(LSTMP)
lstmp_cell, lstmp_cell_autodiff, lstmp, lstmp_autodiff = routes(
    LSTMP, "the LSTM with a projection, equations (1) to (4) and (10)"
)
