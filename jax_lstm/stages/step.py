"""THE DERIVATION: each functional stage of a recurrent step, its derivatives right below it.

`stage_bwd` answers in reverse, for a cotangent dL/dy. `stage_jvp` answers forward, for tangents:
ẋ is the derivative of x along a direction that the caller chose, and x_dot in the code.
`stage_bwd_jvp` is the tangent of the twin, what a second derivative needs: it gets what the twin
gets, and the tangents of both in the same order.

The forward of an LSTM step, top to bottom, and its reverse, bottom to top:

    a = x W + h_prev U + b                             (1)   linear, bias
    i, f, o = sigmoid(a_i, a_f, a_o);  g = tanh(a_g)   (2)   gates (of sigmoid and tanh)
    c = f * c_prev + i * g                             (3)   cell_state
    h = o * tanh(c)                                    (4)   hidden_state

What is used more than once is a fork; its cotangents are added (F):

    h_t             goes into the readout and into the four gates of step t+1
    c_t             goes into tanh(c_t) and into the forget product of step t+1
    x_t, h_{t-1}    go into four gates
    W, U, b         go into every time step and every example

No function here knows time. The letters are those of notation.py.
Sources: Gers, Schmidhuber & Cummins (2000) for the cell with a forget gate, Greff et al. (2017)
for its backward pass in this order, Kang & Seo for the reading as stages, chain rule and forks.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jax_lstm.notation import Numbers, wide
from jax_lstm.stages.sums import contract, sum_of_products
from jax_lstm.stages.twins import row


def linear(x: Numbers, W: Numbers) -> Array:
    """A linear map of each example: a product per row, summed in `wide` precision.

        y = x W                                                               (1)

    Args:
      x: (..., D).
      W: (D, M), dtype of x.

    Returns:
      y: (..., M), wide.
    """
    return jnp.matmul(x, W, preferred_element_type=wide(x.dtype))


def linear_bwd(residual: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    """dx = dy Wᵀ      dW = Σ_examples xᵀ dy      (two halves)                (1')"""
    x, W = residual
    return linear_bwd_input(W, dy), linear_bwd_weight(x, dy)


def linear_bwd_input(W: Array, dy: Array) -> Array:
    """dx = dy Wᵀ      the input half: sequential, it carries dh to step t-1  (1'x)"""
    return jnp.matmul(dy, W.T.astype(dy.dtype))


def linear_bwd_weight(x: Array, dy: Array) -> Array:
    """dW = Σ xᵀ dy    the weight half: one product for any number of steps   (1'W)"""
    return sum_of_products(x.astype(dy.dtype), dy)


def linear_jvp(residual: tuple[Array, Array], tangents: tuple[Array, Array]) -> Array:
    """ẏ = ẋ W + x Ẇ                                                          (1t)"""
    (x, W), (x_dot, W_dot) = residual, tangents
    return linear(x_dot, W) + linear(x, W_dot)


def linear_bwd_jvp(
    residual: tuple[Array, Array], dy: Array, residual_dot: tuple[Array, Array], dy_dot: Array
) -> tuple[Array, Array]:
    """dx_dot = dy_dot Wᵀ + dy Ẇᵀ      dW_dot = Σ ẋᵀ dy + xᵀ dy_dot           (1't)"""
    (x, W), (x_dot, W_dot) = residual, residual_dot
    dx_dot = linear_bwd_input(W, dy_dot) + linear_bwd_input(W_dot, dy)
    return dx_dot, linear_bwd_weight_jvp(x, dy, x_dot, dy_dot)


def linear_bwd_weight_jvp(x: Array, dy: Array, x_dot: Array, dy_dot: Array) -> Array:
    """dW_dot = Σ ẋᵀ dy + xᵀ dy_dot        one sum over both                  (1'Wt)"""
    x, y = jnp.stack([x_dot, x.astype(dy.dtype)]), jnp.stack([dy, dy_dot])
    return contract(x, y, range(y.ndim - 1))


def align(x: Array, y: Array) -> Array:
    """x with axes of size 1 in front, as many as y has: one says aloud where it is broadcast."""
    missing = jnp.ndim(y) - jnp.ndim(x)
    return jax.lax.expand_dims(x, range(missing)) if missing > 0 else x


def bias(y: Array, b: Array) -> Array:
    """The same offset for every example: b is a fork into all of them.

        a = y + b                                                             (1)

    Args:
      y: (..., M).
      b: (M,).

    Returns:
      a: (..., M), dtype of y.
    """
    return y + align(b, y).astype(y.dtype)


def bias_bwd(residual: object, da: Array) -> tuple[Array, Array]:
    """dy = da         db = Σ_examples da                                     (1'b)"""
    return da, da.sum(tuple(range(da.ndim - 1)))


def bias_jvp(residual: object, tangents: tuple[Array, Array]) -> Array:
    """ȧ = ẏ + ḃ                                                              (1t)"""
    y_dot, b_dot = tangents
    return bias(y_dot, b_dot)


def bias_bwd_jvp(
    residual: object, da: Array, residual_dot: object, da_dot: Array
) -> tuple[Array, Array]:
    """dy_dot = da_dot      db_dot = Σ_examples da_dot                        (1'bt)"""
    return bias_bwd(None, da_dot)


def sigmoid(a: Array) -> Array:
    """The logistic function.

        s = 1 / (1 + exp(-a))                                                 (2)

    Args:
      a: any shape.

    Returns:
      s: in (0, 1), shape and dtype of a.
    """
    return jax.nn.sigmoid(a)


def sigmoid_bwd(s: Array, ds: Array) -> Array:
    """da = ds ⊙ s ⊙ (1 - s)                                                  (2')"""
    return ds * s * (1 - s)


def sigmoid_jvp(s: Array, a_dot: Array) -> Array:
    """ṡ = ȧ ⊙ s ⊙ (1 - s)      each number by itself: the twin's equation    (2t)"""
    return sigmoid_bwd(s, a_dot)


def sigmoid_bwd_jvp(s: Array, ds: Array, s_dot: Array, ds_dot: Array) -> Array:
    """da_dot = ds_dot ⊙ s ⊙ (1 - s) + ds ⊙ ṡ ⊙ (1 - 2s)                      (2't)"""
    return sigmoid_bwd(s, ds_dot) + ds * s_dot * (1 - 2 * s)


def tanh(a: Array) -> Array:
    """The hyperbolic tangent.

        t = tanh(a)                                                           (2)

    Args:
      a: any shape.

    Returns:
      t: in (-1, 1), shape and dtype of a.
    """
    return jnp.tanh(a)


def tanh_bwd(t: Array, dt: Array) -> Array:
    """da = dt ⊙ (1 - t²), as (1 + t)(1 - t): exact where |t| is near 1       (2')"""
    return dt * (1 + t) * (1 - t)


def tanh_jvp(t: Array, a_dot: Array) -> Array:
    """ṫ = ȧ ⊙ (1 - t²)         each number by itself: the twin's equation    (2t)"""
    return tanh_bwd(t, a_dot)


def tanh_bwd_jvp(t: Array, dt: Array, t_dot: Array, dt_dot: Array) -> Array:
    """da_dot = dt_dot ⊙ (1 - t²) - 2 dt ⊙ t ⊙ ṫ                              (2't)"""
    return tanh_bwd(t, dt_dot) - 2 * dt * t * t_dot


def cell_state(f: Array, c_prev: Array, i: Array, g: Array) -> Array:
    """Keep part of the old cell, write part of the new one.

        c = f ⊙ c_prev + i ⊙ g                                                (3)

    Args:
      f, i: forget and input gates in (0, 1), (..., H).
      c_prev: cell state of the previous step, (..., H).
      g: candidate in (-1, 1), (..., H).

    Returns:
      c: cell state, (..., H).

    Source: Gers, Schmidhuber & Cummins (2000).
    """
    return f * c_prev + i * g


def cell_state_bwd(
    residual: tuple[Array, Array, Array, Array], dc: Array
) -> tuple[Array, Array, Array, Array]:
    """df = dc ⊙ c_prev    dc_prev = dc ⊙ f    di = dc ⊙ g    dg = dc ⊙ i     (3')"""
    f, c_prev, i, g = residual
    return dc * c_prev, dc * f, dc * g, dc * i


def cell_state_jvp(
    residual: tuple[Array, Array, Array, Array], tangents: tuple[Array, Array, Array, Array]
) -> Array:
    """ċ = ḟ ⊙ c_prev + f ⊙ ċ_prev + i̇ ⊙ g + i ⊙ ġ                            (3t)"""
    f, c_prev, i, g = residual
    f_dot, c_prev_dot, i_dot, g_dot = tangents
    return f_dot * c_prev + f * c_prev_dot + i_dot * g + i * g_dot


def cell_state_bwd_jvp(
    residual: tuple[Array, Array, Array, Array],
    dc: Array,
    residual_dot: tuple[Array, Array, Array, Array],
    dc_dot: Array,
) -> tuple[Array, Array, Array, Array]:
    """df_dot = dc_dot ⊙ c_prev + dc ⊙ ċ_prev, and so on: a product each      (3't)"""
    f, c_prev, i, g = residual
    f_dot, c_prev_dot, i_dot, g_dot = residual_dot
    return (
        dc_dot * c_prev + dc * c_prev_dot,
        dc_dot * f + dc * f_dot,
        dc_dot * g + dc * g_dot,
        dc_dot * i + dc * i_dot,
    )


def hidden_state(o: Array, c: Array) -> Array:
    """Show part of the cell to the outside.

        h = o ⊙ tanh(c)                                                       (4)

    Args:
      o: output gate in (0, 1), (..., H).
      c: cell state, (..., H).

    Returns:
      h: hidden state in (-1, 1), (..., H).

    Source: Hochreiter & Schmidhuber (1997).
    """
    return o * tanh(c)


def hidden_state_bwd(residual: tuple[Array, Array], dh: Array) -> tuple[Array, Array]:
    """do = dh ⊙ tanh(c)      dc = dh ⊙ o ⊙ (1 - tanh²(c))                    (4')"""
    o, c = residual
    s = tanh(c)
    return dh * s, tanh_bwd(s, dh * o)


def hidden_state_jvp(residual: tuple[Array, Array], tangents: tuple[Array, Array]) -> Array:
    """ḣ = ȯ ⊙ tanh(c) + o ⊙ (1 - tanh²(c)) ⊙ ċ                               (4t)"""
    (o, c), (o_dot, c_dot) = residual, tangents
    s = tanh(c)
    return o_dot * s + o * tanh_jvp(s, c_dot)


def hidden_state_bwd_jvp(
    residual: tuple[Array, Array], dh: Array, residual_dot: tuple[Array, Array], dh_dot: Array
) -> tuple[Array, Array]:
    """do_dot = dh_dot ⊙ s + dh ⊙ ṡ,  s = tanh(c);  dc_dot is that of dc = (dh ⊙ o) through (2')
    (4't)"""
    (o, c), (o_dot, c_dot) = residual, residual_dot
    s = tanh(c)
    s_dot = tanh_jvp(s, c_dot)
    dc_dot = tanh_bwd_jvp(s, dh * o, s_dot, dh_dot * o + dh * o_dot)
    return dh_dot * s + dh * s_dot, dc_dot


def fork(x: Array, n: int) -> tuple[Array, ...]:
    """One value, used n times: the stage that derivations forget.

        x_1 = x,  x_2 = x,  ...  x_n = x                                      (F)

    Args:
      x: any shape.
      n: number of branches.

    Returns:
      n times x.

    Source: Kang & Seo, "Understanding Backpropagation as Applied to LSTM".
    """
    return (x,) * n


def fork_bwd(residual: object, dxs: Sequence[Array]) -> tuple[Array, None]:
    """dx = dx_1 + dx_2 + ... + dx_n                                          (F')"""
    first, *rest = dxs
    return sum(rest, start=first), None


def fork_jvp(residual: object, x_dot: Array, n: int) -> tuple[Array, ...]:
    """ẋ_1 = ẋ_2 = ... = ẋ_n = ẋ                                              (Ft)"""
    return fork(x_dot, n)


def fork_bwd_jvp(
    residual: object, dxs: Sequence[Array], residual_dot: object, dxs_dot: Sequence[Array]
) -> tuple[Array, None]:
    """dx_dot = dx_1_dot + dx_2_dot + ... + dx_n_dot                          (F't)"""
    return fork_bwd(None, dxs_dot)


ROWS = {
    "linear": row(linear, linear_bwd, linear_jvp, "x:T,B,D W:D,M", "x W"),
    "bias": row(bias, bias_bwd, bias_jvp, "y:T,B,M b:M"),
    "sigmoid": row(sigmoid, sigmoid_bwd, sigmoid_jvp, "a:T,B,H", "output"),
    "tanh": row(tanh, tanh_bwd, tanh_jvp, "a:T,B,H", "output"),
    "cell_state": row(
        cell_state,
        cell_state_bwd,
        cell_state_jvp,
        "f:T,B,H c_prev:T,B,H i:T,B,H g:T,B,H",
        "f c_prev i g",
    ),
    "hidden_state": row(hidden_state, hidden_state_bwd, hidden_state_jvp, "o:T,B,H c:T,B,H", "o c"),
    "fork": row(fork, fork_bwd, fork_jvp, "x:T,B,H", n=3),
}
