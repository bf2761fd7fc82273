"""THE DERIVATION: each functional stage of a recurrent step, its derivative right below it.

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

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jax.export import is_symbolic_dim

from jax_lstm.notation import Numbers, wide
from jax_lstm.sharding import everywhere, may_be_split
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
    """dW = Σ xᵀ dy    the weight half: one product for any number of steps   (1'W)

    The axes of steps and examples are summed over as they are: merged, an axis that is split over
    devices would be gathered on each of them first. On one device merged ones spare XLA a copy.

    A float32 product adds its terms one after the other, and the rounding grows with their number.
    Small weights are therefore added in up to 16 parts, some examples over some steps each, which
    costs nothing there and is more exact than adding step by step: of n parts of R rows in all it
    grows as n + R / n². For large ones the parts would cost more than the product.
    """
    axes, D = dy.ndim - 1, x.shape[-1]
    x = x.astype(dy.dtype)
    rows = math.prod(dy.shape[:axes])
    if axes < 2 or is_symbolic_dim(rows) or rows <= 64 or D * dy.shape[-1] > 2**14:
        if not is_symbolic_dim(rows) and not may_be_split(dy):
            x, dy = (y.reshape((rows, y.shape[-1])) for y in (x, dy))
        return sum_of_products(x, dy, range(dy.ndim - 1))
    steps, examples = dy.shape[:2]
    n = examples if examples <= 16 else math.gcd(examples, 16)  # groups of examples: each device's
    m = max(k for k in range(1, 16 // n + 1) if steps % k == 0)  # of steps

    def parts(y):
        return y.reshape((m, steps // m, n, examples // n, *y.shape[2:]))

    return sum_of_products(parts(x), parts(dy), (1, *range(3, axes + 2)), (0, 2)).sum((0, 1))


def sum_of_products(x: Array, y: Array, over: Sequence[int], apart: Sequence[int] = ()) -> Array:
    """Σ xᵀ y over some axes; those that stay `apart` come first. Whole on every device."""
    whole = everywhere(y, len(apart) + 2)
    return jax.lax.dot_general(x, y, ((over, over), (apart, apart)), out_sharding=whole)


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


ROWS = {
    "linear": row(linear, linear_bwd, "x:T,B,D W:D,M", "x W"),
    "bias": row(bias, bias_bwd, "y:T,B,M b:M"),
    "sigmoid": row(sigmoid, sigmoid_bwd, "a:T,B,H", "output"),
    "tanh": row(tanh, tanh_bwd, "a:T,B,H", "output"),
    "cell_state": row(
        cell_state, cell_state_bwd, "f:T,B,H c_prev:T,B,H i:T,B,H g:T,B,H", "f c_prev i g"
    ),
    "hidden_state": row(hidden_state, hidden_state_bwd, "o:T,B,H c:T,B,H", "o c"),
    "fork": row(fork, fork_bwd, "x:T,B,H", n=3),
}
