"""The LSTM: one step, its chain rule, and what the engine needs to run both through time.

Source: Hochreiter & Schmidhuber (1997); the forget gate: Gers, Schmidhuber & Cummins (2000).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jax_lstm.doors import check_init, check_number
from jax_lstm.engine.cell import Cell, Halves, Second
from jax_lstm.engine.made import partial
from jax_lstm.engine.products import make_fisher, make_gauss_newton, make_hvp, make_rop
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.notation import GATES, wide
from jax_lstm.stages import (
    bias,
    bias_bwd,
    bias_bwd_jvp,
    bias_jvp,
    blocks,
    cell_state,
    cell_state_bwd,
    cell_state_bwd_jvp,
    cell_state_jvp,
    fork_bwd,
    gates,
    gates_bwd,
    gates_bwd_jvp,
    gates_jvp,
    hidden_state,
    hidden_state_bwd,
    hidden_state_bwd_jvp,
    linear,
    linear_bwd_input,
    linear_bwd_weight,
    linear_bwd_weight_jvp,
    linear_jvp,
    packed_gates,
    plain_gates,
)

__all__ = [
    "LSTM",
    "LSTMParams",
    "LSTMState",
    "init_lstm",
    "init_lstm_state",
    "lstm",
    "lstm_autodiff",
    "lstm_cell",
    "lstm_cell_autodiff",
    "lstm_fisher",
    "lstm_gauss_newton",
    "lstm_hvp",
    "lstm_rop",
]


class LSTMParams(NamedTuple):
    """W (D, 4H), U (H, 4H), b (4H,): blocks i, f, g, o side by side."""

    W: jax.Array
    U: jax.Array
    b: jax.Array


class LSTMState(NamedTuple):
    """h (..., H) in the parameters' dtype, c (..., H) in float32 when that has 16 bits."""

    h: jax.Array
    c: jax.Array


def init_lstm(
    key: jax.Array,
    input_size: int,
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    dtype: DTypeLike = jnp.float32,
) -> LSTMParams:
    """Parameters drawn as most libraries draw them.

    Args:
      key: a key of `jax.random.key`.
      input_size, hidden_size: D and H.
      forget_bias: value of the forget block of b; the other blocks are zero. Jozefowicz et al.
        (2015) recommend 1.
      dtype: of all three.

    Returns:
      LSTMParams: W lecun-normal (D, 4H), U orthogonal per gate (H, 4H), b (4H,).

    Raises:
      ValueError: what is no key, a size that is no whole number >= 1, a dtype that is not floating
        point, a forget_bias that is no number.
    """
    D, H = check_init(key, dtype, input_size=input_size, hidden_size=hidden_size)
    first = jnp.asarray(check_number("forget_bias", forget_bias), dtype)
    key_W, key_U = jax.random.split(key)
    W = jax.nn.initializers.lecun_normal()(key_W, (D, 4 * H), wide(dtype))
    orthogonal = jax.nn.initializers.orthogonal()
    U = [orthogonal(k, (H, H), wide(dtype)) for k in jax.random.split(key_U, 4)]
    b = jnp.zeros((4 * H,), dtype).at[H : 2 * H].set(first)
    return LSTMParams(W.astype(dtype), jnp.concatenate(U, axis=1).astype(dtype), b)


# A step, and the chain rule through it --------------------------------------------------------


class LSTMWeights(NamedTuple):
    """What the loop over steps sees: the parameters, and UT = Uᵀ (4H, H), wide. Transposed once and
    not in every step, which costs a third of the step's product on a CPU."""

    W: jax.Array
    U: jax.Array
    b: jax.Array
    UT: jax.Array


def prepare(params, consts=None):
    W, U, b = params
    return LSTMWeights(W, U, b, U.T.astype(wide(U.dtype)))


def project(w, xs):
    """z = x W: the part of (1) that does not depend on the state."""
    return linear(xs, w.W)


def step(w, prev, z, gates=gates):
    saved = gates(net_input(w, prev, z))  # (2)
    return follow(prev, saved), saved


def net_input(w, prev, z):
    return bias(z + linear(prev.h, w.U), w.b)  # (1)


def save(w, prev, z):
    """The gates, as they stand in one array."""
    return packed_gates(net_input(w, prev, z))  # (2)


def follow(prev, saved):
    """The state that the gates lead to."""
    i, f, g, o = saved
    c = cell_state(f, prev.c, i, g)  # (3)
    h = hidden_state(o, c)  # (4)
    return LSTMState(h.astype(prev.h.dtype), c)


def slopes(w, prevs, saved):
    """The twins of a step at the cotangent 1, for any number of steps at once: what dh and dc are
    going to be multiplied with. c is recomputed: three operations, not an array per step."""
    c_prev = prevs.c
    i, f, g, o = saved
    c = cell_state(f, c_prev, i, g)
    one = jnp.ones_like(c)
    do, dc = hidden_state_bwd((o, c), one)  # (4')
    df, dc_prev, di, dg = cell_state_bwd((f, c_prev, i, g), one)  # (3')
    return gates_bwd((i, f, g, o), (di, df, dg, do)), dc, dc_prev  # (2')


def side_by_side(dc, dh):
    """By what the gates' slopes are multiplied: i, f and g act on c, and o on h."""
    return jnp.concatenate([dc, dc, dc, dh], axis=-1)


def step_bwd(w, prev, slopes, dstate):
    """The chain rule: the forward read bottom-up, products with the local derivatives."""
    da, dc, dc_prev = slopes
    dh, dc_from_next = dstate
    dc, _ = fork_bwd(None, (dc_from_next, dh * dc))  # (4'), (F') at c_t
    da = da * side_by_side(dc, dh)  # (3'), (2')
    dh_prev = linear(da, w.UT)  # (1'x), the fork at h_{t-1} into four gates in one product
    return LSTMState(dh_prev, dc * dc_prev), da


def weights_bwd(w, xs, prevs, saved, das):
    """dW, dU, db summed over steps and examples in one product each, and dx for every step."""
    dW = linear_bwd_weight(xs, das)  # (1'W)
    dU = linear_bwd_weight(prevs.h, das)  # (1'W)
    _, db = bias_bwd(None, das)  # (1'b)
    dxs = linear_bwd_input(w.W, das)  # (1'x)
    return LSTMParams(dW, dU, db), dxs


def weights_jvp(w, xs, prevs, saved, params_dot, xs_dot):
    """ȧ but for ḣ_prev U, for any number of steps at once: what waits for no other step."""
    W_dot, U_dot, b_dot = params_dot
    z_dot = linear(xs, W_dot) if xs_dot is None else linear_jvp((xs, w.W), (xs_dot, W_dot))  # (1t)
    return bias_jvp(None, (z_dot + linear(prevs.h, U_dot), b_dot))  # (1t)


def step_jvp(w, prev, slopes, prev_dot, a_dot):
    """The forward read top-down, products with the local derivatives: the twin's, in its order."""
    return step_and_net_input_jvp(w, prev, slopes, prev_dot, a_dot)[0]


def step_and_net_input_jvp(w, prev, slopes, prev_dot, a_dot):
    da, dc, dc_prev = slopes
    h_prev_dot, c_prev_dot = prev_dot
    a_dot = a_dot + linear(h_prev_dot, w.U.astype(h_prev_dot.dtype))  # (1t)
    pairs = zip(blocks(da), blocks(a_dot), strict=True)
    i, f, g, o = (slope * a_dot for slope, a_dot in pairs)  # (2t), its share of (3t) or (4t)
    c_dot = dc_prev * c_prev_dot + i + f + g  # (3t)
    return LSTMState(o + dc * c_dot, c_dot), a_dot  # (4t)


# The tangent of the backward: each twin's own, in the twin's order ----------------------------


def prepare_jvp(params, params_dot, consts=None):
    return prepare(params_dot)  # it moves numbers


def slopes_jvp(w, xs, prevs, saved, w_dot, xs_dot, prevs_dot, a_dots):
    """The gates' tangents, and those of `slopes`, at the cotangent 1 and its tangent 0."""
    i_dot, f_dot, g_dot, o_dot = saved_dot = gates_jvp(saved, a_dots)  # (2t)
    (i, f, g, o), c_prev, c_prev_dot = saved, prevs.c, prevs_dot.c
    c = cell_state(f, c_prev, i, g)
    c_dot = cell_state_jvp((f, c_prev, i, g), (f_dot, c_prev_dot, i_dot, g_dot))  # (3t)
    one, zero = jnp.ones_like(c), jnp.zeros_like(c)
    do, _ = hidden_state_bwd((o, c), one)  # (4')
    do_dot, dc_dot = hidden_state_bwd_jvp((o, c), one, (o_dot, c_dot), zero)  # (4't)
    df, _, di, dg = cell_state_bwd((f, c_prev, i, g), one)  # (3')
    df_dot, dc_prev_dot, di_dot, dg_dot = cell_state_bwd_jvp(
        (f, c_prev, i, g), one, (f_dot, c_prev_dot, i_dot, g_dot), zero
    )  # (3't)
    at_one, at_one_dot = (di, df, dg, do), (di_dot, df_dot, dg_dot, do_dot)
    da_dot = gates_bwd_jvp(saved, at_one, saved_dot, at_one_dot)  # (2't)
    return saved_dot, (da_dot, dc_dot, dc_prev_dot)


def step_bwd_jvp(w, prev, slopes, dstate, w_dot, prev_dot, slopes_dot, dstate_dot):
    """`step_bwd` and its tangent, line by line: of each product, both factors move."""
    (da, dc, dc_prev), (da_dot, dc_dot, dc_prev_dot) = slopes, slopes_dot
    (dh, dc_from_next), (dh_dot, dc_from_next_dot) = dstate, dstate_dot
    dc_dot = dc_from_next_dot + dh_dot * dc + dh * dc_dot  # (4't), (F't) at c_t
    dc, _ = fork_bwd(None, (dc_from_next, dh * dc))  # (4'), (F')
    four, four_dot = side_by_side(dc, dh), side_by_side(dc_dot, dh_dot)
    da, da_dot = da * four, da_dot * four + da * four_dot  # (3't), (2't)
    both = linear(jnp.stack([da, da_dot]), w.UT)  # (1'x), of both in one product
    dprev = LSTMState(both[0], dc * dc_prev)
    dprev_dot = LSTMState(both[1] + linear(da, w_dot.UT), dc_dot * dc_prev + dc * dc_prev_dot)
    return (dprev, da), (dprev_dot, da_dot)  # (1't)


def weights_bwd_jvp(w, xs, prevs, saved, das, w_dot, xs_dot, prevs_dot, saved_dot, das_dot):
    """The tangents of dW, dU and db, summed over steps and examples, and of dx for every step."""
    if xs_dot is None:
        dW_dot = linear_bwd_weight(xs, das_dot)  # (1't)
    else:
        dW_dot = linear_bwd_weight_jvp(xs, das, xs_dot, das_dot)  # (1't)
    dU_dot = linear_bwd_weight_jvp(prevs.h, das, prevs_dot.h, das_dot)  # (1't)
    dxs_dot = linear_bwd_input(w.W, das_dot) + linear_bwd_input(w_dot.W, das)  # (1't)
    _, db_dot = bias_bwd_jvp(None, das, None, das_dot)  # (1'bt)
    return LSTMParams(dW_dot, dU_dot, db_dot), dxs_dot


def saved_jvp(w, prevs, saved, prevs_dot, das_dot):
    """The tangents of the gates, for any number of steps at once."""
    U = w.U.astype(prevs_dot.h.dtype)
    return gates_jvp(saved, das_dot + linear(prevs_dot.h, U))  # (1t), (2t)


# What people call -----------------------------------------------------------------------------

plain_step = partial(step, gates=plain_gates)

LSTM = Cell(
    name="lstm",
    params=LSTMParams,
    state=LSTMState,
    shapes=(("W", "D,4H"), ("U", "H,4H"), ("b", "4H")),
    fields=(("h", "H"), ("c", "wide H")),
    gates=GATES,
    init=init_lstm,
    prepare=prepare,
    project=project,
    step=step,
    slopes=slopes,
    step_bwd=step_bwd,
    weights_bwd=weights_bwd,
    halves=Halves(save, follow, len(GATES)),
    step_for_jax=plain_step,
    step_jvp=step_jvp,
    weights_jvp=weights_jvp,
    saved_jvp=saved_jvp,
    second=Second(prepare_jvp, step_and_net_input_jvp, slopes_jvp, step_bwd_jvp, weights_bwd_jvp),
)
init_lstm_state = make_init_state(LSTM)
lstm_cell, lstm_cell_autodiff, lstm, lstm_autodiff = routes(LSTM, "the LSTM, equations (1) to (4)")
lstm_hvp = make_hvp(LSTM, "lstm_hvp")
lstm_gauss_newton = make_gauss_newton(LSTM, "lstm_gauss_newton")
lstm_fisher = make_fisher(LSTM, "lstm_fisher")
lstm_rop = make_rop(LSTM, "lstm_rop")
