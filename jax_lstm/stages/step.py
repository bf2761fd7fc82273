"""THE DERIVATION: each functional stage of a recurrent step, its derivatives right below it.

`stage_bwd` answers in reverse, for a cotangent dL/dy. `stage_jvp` answers forward, for tangents:
ẋ is the derivative of x along a direction that the caller chose, and x_dot in the code.

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
from jax_lstm.stages.sums import sum_of_products
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
