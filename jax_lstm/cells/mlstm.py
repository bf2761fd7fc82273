"""The mLSTM of the xLSTM: a matrix memory, written by key and value, read by a query.

    q, k = x W_qk + b_qk;  v, a_o = x W_vo + b_vo;  a_i, a_f = x W_if + b_if   (1)
    i, f, m = exponential gates of a_i, a_f, m_prev, one number per example   (22) to (24)
    C = f C_prev + i kᵀ v / √K;  n = f n_prev + i k / √K                      (26)
    h = o ⊙ (q C) / s,  s = max(|q · n|, exp(-m)),  o = sigmoid(a_o)          (2), (27)

Parameters: (D + 1) (2 K + 2 H + 2), one head. Nothing of h is read, so no step has a product with a
weight. The memory costs: residuals="full" keeps every C, T K H numbers for an example. With "auto"
it is near 2 √T K H, those at the borders of segments and of one segment: for long sequences take
that. `multiplicative_lstm` is an older cell that was also called mLSTM.

Source: Beck et al. (2024), "xLSTM: Extended long short-term memory"; the step as in
recurrent_step_stabilized_simple of NX-AI/xlstm, which was read, without its epsilon in the
denominator. The forget gate's offset begins at 3, so that a memory lasts.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jax_lstm.cells import packed
from jax_lstm.cells.exponential import exponential_gates, exponential_gates_bwd, with_beginning
from jax_lstm.doors import check_init
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.notation import wide
from jax_lstm.sharding import vary_together
from jax_lstm.stages import (
    bias,
    bias_bwd,
    fork_bwd,
    linear,
    linear_bwd_input,
    linear_bwd_weight,
    sigmoid,
    sigmoid_bwd,
)

__all__ = ["MLSTM", "MLSTMParams", "MLSTMState", "init_mlstm", "init_mlstm_state"]
__all__ += ["mlstm", "mlstm_autodiff", "mlstm_cell", "mlstm_cell_autodiff"]


class MLSTMParams(NamedTuple):
    """W_qk (D, 2K), b_qk (2K,): query and key; W_vo (D, 2H), b_vo (2H,): value and output gate;
    W_if (D, 2), b_if (2,): input and forget gate."""

    W_qk: jax.Array
    W_vo: jax.Array
    W_if: jax.Array
    b_qk: jax.Array
    b_vo: jax.Array
    b_if: jax.Array


class MLSTMState(NamedTuple):
    """h (..., H) in the parameters' dtype; the memory C (..., K, H), the normaliser n (..., K) and
    the stabiliser m (..., 1) in float32 when that has 16 bits."""

    h: jax.Array
    C: jax.Array
    n: jax.Array
    m: jax.Array


def init_mlstm(
    key: jax.Array,
    input_size: int,
    hidden_size: int,
    key_size: int | None = None,
    *,
    dtype: DTypeLike = jnp.float32,
) -> MLSTMParams:
    """Matrices lecun-normal, offsets zero but for the forget gate's, which is 3.

    Args:
      key: a key of `jax.random.key`.
      input_size, hidden_size, key_size: D, H (values) and K (queries and keys), H if not given.
      dtype: of all six.

    Returns:
      MLSTMParams: W_qk (D, 2K), W_vo (D, 2H), W_if (D, 2), b_qk (2K,), b_vo (2H,), b_if (2,).

    Raises:
      ValueError: what is no key, a size that is no whole number >= 1, a dtype that is not floating
        point.
    """
    K = hidden_size if key_size is None else key_size
    D, H, K = check_init(key, dtype, input_size=input_size, hidden_size=hidden_size, key_size=K)
    normal = jax.nn.initializers.lecun_normal()
    keys, widths = jax.random.split(key, 3), (2 * K, 2 * H, 2)
    W_qk, W_vo, W_if = (
        normal(k, (D, n), wide(dtype)).astype(dtype) for k, n in zip(keys, widths, strict=True)
    )
    b_qk, b_vo = jnp.zeros((2 * K,), dtype), jnp.zeros((2 * H,), dtype)
    return MLSTMParams(W_qk, W_vo, W_if, b_qk, b_vo, jnp.asarray([0.0, 3.0]).astype(dtype))


def project(w, xs):
    weights = ((w.W_qk, w.b_qk), (w.W_vo, w.b_vo), (w.W_if, w.b_if))
    return tuple(bias(linear(xs, W), b) for W, b in weights)  # (1)


def outer(x, y):
    return x[..., :, None] * y[..., None, :]


def write(i, f, k, v, prev):
    """C and n of this step                                                   (26)"""
    return f[..., None] * prev.C + outer(i * k, v), f * prev.n + i * k


def read(q, C, n, m):
    """q C, s, and the sign of q · n where it decides, 0 where exp(-m) does   (27)"""
    d, floor = (q * n).sum(-1, keepdims=True), jnp.exp(-m)
    sign = jnp.where(jnp.real(d) < 0, -jnp.ones_like(d), jnp.ones_like(d))
    sign = jnp.where(jnp.real(sign * d) > jnp.real(floor), sign, jnp.zeros_like(d))
    return (q[..., None] * C).sum(-2), jnp.where(sign == 0, floor, sign * d), sign


def step(w, prev, z):
    (q, k), (v, a_o), (a_i, a_f) = (packed.blocks_of(a, 2) for a in z)
    k, o = k / k.shape[-1] ** 0.5, sigmoid(a_o)  # (2)
    i, f, m, branch = exponential_gates(a_i, a_f, prev.m)  # (22) to (24)
    C, n = write(i, f, k, v, prev)
    q_C, s, _ = read(q, C, n, m)
    h = (o * q_C / s).astype(prev.h.dtype)  # (27)
    return MLSTMState(h, C, n, m), (i, f, branch, m, q, k, v, o)


def step_bwd(w, prev, saved, dstate):
    """The forward read bottom-up. C is made again of C_prev, which the engine has."""
    i, f, branch, m, q, k, v, o = saved
    dh, dC_next, dn_next, dm_next = dstate
    C, n = write(i, f, k, v, prev)
    q_C, s, sign = read(q, C, n, m)
    do, dq_C = dh * q_C / s, dh * o / s  # (27')
    ds = -(dq_C * q_C).sum(-1, keepdims=True) / s
    dd = ds * sign
    dm, _ = fork_bwd(None, (dm_next, jnp.where(sign == 0, -ds * s, jnp.zeros_like(s))))
    dC, _ = fork_bwd(None, (dC_next, outer(q, dq_C)))  # (F') at C_t
    dn, _ = fork_bwd(None, (dn_next, dd * q))  # (F') at n_t
    dq, _ = fork_bwd(None, ((C * dq_C[..., None, :]).sum(-1), dd * n))  # (F') at q
    dC_v = (dC * v[..., None, :]).sum(-1)  # (26'), and so to the end
    dk, _ = fork_bwd(None, (i * dC_v, i * dn))  # (F') at k
    dv = i * (dC * k[..., :, None]).sum(-2)
    di = (k * dC_v).sum(-1, keepdims=True) + (k * dn).sum(-1, keepdims=True)
    df = (dC * prev.C).sum((-2, -1))[..., None] + (dn * prev.n).sum(-1, keepdims=True)
    da_i, da_f, dm_prev = exponential_gates_bwd((i, f, branch), di, df, dm)
    das = (
        packed.side_by_side(dq, dk / k.shape[-1] ** 0.5),
        packed.side_by_side(dv, sigmoid_bwd(o, do)),  # (2')
        packed.side_by_side(da_i, da_f),
    )
    dh_prev, _ = vary_together((jnp.zeros_like(dh), dC))
    return MLSTMState(dh_prev, f[..., None] * dC, f * dn, dm_prev), das


def weights_bwd(w, xs, prevs, saved, deltas):
    dW = [linear_bwd_weight(xs, da) for da in deltas]  # (1'W)
    db = [bias_bwd(None, da)[1] for da in deltas]  # (1'b)
    ways = zip((w.W_qk, w.W_vo, w.W_if), deltas, strict=True)
    dxs, _ = fork_bwd(None, [linear_bwd_input(W, da) for W, da in ways])  # (1'x), (F') at x
    return MLSTMParams(*dW, *db), dxs


MLSTM = with_beginning(
    Cell(
        name="mlstm",
        params=MLSTMParams,
        state=MLSTMState,
        shapes=(
            ("W_qk", "D,2K"),
            ("W_vo", "D,2H"),
            ("W_if", "D,2"),
            ("b_qk", "2K"),
            ("b_vo", "2H"),
            ("b_if", "2"),
        ),
        fields=(("h", "H"), ("C", "wide K,H"), ("n", "wide K"), ("m", "wide 1")),
        init=init_mlstm,
        project=project,
        step=step,
        step_bwd=step_bwd,
        weights_bwd=weights_bwd,
        sizes=(("K", "key_size"),),
        kept=("h",),
    )
)
init_mlstm_state = make_init_state(MLSTM)
mlstm_cell, mlstm_cell_autodiff, mlstm, mlstm_autodiff = routes(MLSTM, "the mLSTM of the xLSTM")
