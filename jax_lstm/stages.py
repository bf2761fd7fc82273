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

import itertools

import jax
import jax.numpy as jnp
from jax import lax

from jax_lstm.notation import GATES, wide


def linear(x, W):
    """A linear map of each example: a product per row, summed in `wide` precision.

        y = x W                                                               (1)

    Args:
      x: (..., D).
      W: (D, M), dtype of x.

    Returns:
      y: (..., M), wide.
    """
    return jnp.matmul(x, W, preferred_element_type=wide(x.dtype))


def linear_bwd(residual, dy):
    """dx = dy Wᵀ      dW = Σ_examples xᵀ dy      (two halves)                (1')"""
    x, W = residual
    return linear_bwd_input(W, dy), linear_bwd_weight(x, dy)


def linear_bwd_input(W, dy):
    """dx = dy Wᵀ      the input half: sequential, it carries dh to step t-1  (1'x)"""
    return jnp.matmul(dy, W.T.astype(dy.dtype))


def linear_bwd_weight(x, dy):
    """dW = Σ xᵀ dy    the weight half: one product for any number of steps   (1'W)

    A float32 product adds its terms one after the other, and the rounding grows with their number.
    Small weights are therefore added in parts of 64 rows, which costs nothing there and is more
    exact than adding step by step; for large ones the parts would cost more than the product.
    """
    dy = dy.reshape((-1, dy.shape[-1]))
    x = x.reshape((dy.shape[0], x.shape[-1])).astype(dy.dtype)
    R, D = x.shape
    if R <= 64 or D * dy.shape[-1] > 2**14:
        return jnp.matmul(x.T, dy)
    parts = [jnp.pad(y, ((0, -R % 64), (0, 0))).reshape((-1, 64, y.shape[-1])) for y in (x, dy)]
    return jnp.einsum("nrd,nrm->ndm", *parts).sum(0)


def bias(y, b):
    """The same offset for every example: b is a fork into all of them.

        a = y + b                                                             (1)

    Args:
      y: (..., M).
      b: (M,).

    Returns:
      a: (..., M), dtype of y.
    """
    return y + b.astype(y.dtype)


def bias_bwd(da):
    """dy = da         db = Σ_examples da                                     (1'b)"""
    return da, da.reshape((-1, da.shape[-1])).sum(0)


def sigmoid(a):
    """The logistic function.

        s = 1 / (1 + exp(-a))                                                 (2)

    Args:
      a: any shape.

    Returns:
      s: in (0, 1), shape and dtype of a.
    """
    return jax.nn.sigmoid(a)


def sigmoid_bwd(s, ds):
    """da = ds ⊙ s ⊙ (1 - s)                                                  (2')"""
    return ds * s * (1 - s)


def tanh(a):
    """The hyperbolic tangent.

        t = tanh(a)                                                           (2)

    Args:
      a: any shape.

    Returns:
      t: in (-1, 1), shape and dtype of a.
    """
    return jnp.tanh(a)


def tanh_bwd(t, dt):
    """da = dt ⊙ (1 - t²), as (1 + t)(1 - t): exact where |t| is near 1       (2')"""
    return dt * (1 + t) * (1 - t)


def blocks(y):
    """The blocks i, f, g, o of a packed array (..., 4H): (..., H) each."""
    return tuple(jnp.split(y, 4, axis=-1))


def plain_gates(a):
    """`gates`, one after the other, for JAX to differentiate: of the one loop of `packed_gates` its
    autodiff would keep every intermediate."""
    i, f, g, o = blocks(a)
    return sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)


def packed_gates(a):
    """(2) as one array: blocks i, f, g, o side by side, (..., 4H).

        sigmoid(a) = 1 / (1 + e),  e = exp(-a)      tanh(a) = (1 - e) / (1 + e),  e = exp(-2a)
        a < 0:          e / (1 + e),  e = exp(a)              (e - 1) / (1 + e),  e = exp(2a)

    One loop with one exponential and one division per number, which XLA keeps as one kernel; three
    sigmoids and a tanh over slices are four, and not even vectorised where nothing is saved. Near
    0, where 1 - e loses digits, tanh is its continued fraction (Lambert 1761), cut after the term
    13: with it the error is at most that of `jnp.tanh`, in float32 and in float64. e is never above
    1, so that no derivative that JAX takes overflows.
    """
    if jnp.iscomplexobj(a):  # complex-step differences: there is no < for complex numbers
        return jnp.concatenate(plain_gates(a), axis=-1)
    H = a.shape[-1] // 4
    block = lax.broadcasted_iota(jnp.int32, a.shape, a.ndim - 1) // max(H, 1)
    candidate = block == GATES.index("g")
    x = jnp.where(candidate, 2 * a, a)
    low = x < 0
    e = jnp.exp(jnp.where(low, x, -x))
    s = jnp.minimum(a * a, 0.25)
    near = candidate & (s < 0.25)
    top = a * (135135 + s * (17325 + s * (378 + s)))
    bottom = 135135 + s * (62370 + s * (3150 + s * 28))
    far = jnp.where(candidate, 1 - e, jnp.ones_like(e))
    far = jnp.where(low, jnp.where(candidate, e - 1, e), far)
    return jnp.where(near, top, far) / jnp.where(near, bottom, 1 + e)


def gates(a):
    """Three gates that open and close, and the candidate that may be written.

        i, f, o = sigmoid(a_i, a_f, a_o)        g = tanh(a_g)                 (2)

    Args:
      a: net input, (..., 4H), blocks i, f, g, o.

    Returns:
      i, f, g, o: (..., H) each.

    Source: Gers, Schmidhuber & Cummins (2000), with tanh for the candidate.
    """
    return blocks(packed_gates(a))


def gates_bwd(residual, dgates):
    """da = [di, df, dg, do], each through the derivative of its nonlinearity (2')"""
    i, f, g, o = residual
    di, df, dg, do = dgates
    return jnp.concatenate(
        [sigmoid_bwd(i, di), sigmoid_bwd(f, df), tanh_bwd(g, dg), sigmoid_bwd(o, do)], axis=-1
    )


def cell_state(f, c_prev, i, g):
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


def cell_state_bwd(residual, dc):
    """df = dc ⊙ c_prev    dc_prev = dc ⊙ f    di = dc ⊙ g    dg = dc ⊙ i     (3')"""
    f, c_prev, i, g = residual
    return dc * c_prev, dc * f, dc * g, dc * i


def hidden_state(o, c):
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


def hidden_state_bwd(residual, dh):
    """do = dh ⊙ tanh(c)      dc = dh ⊙ o ⊙ (1 - tanh²(c))                    (4')"""
    o, c = residual
    s = tanh(c)
    return dh * s, tanh_bwd(s, dh * o)


def fork(x, n):
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


def fork_bwd(dxs):
    """dx = dx_1 + dx_2 + ... + dx_n                                          (F')"""
    return sum(dxs[1:], start=dxs[0])


def keep(mask, old, new):
    """Keep part of the old value, take the rest from the new one: zoneout.

        y = m ⊙ old + (1 - m) ⊙ new                                          (11)

    Args:
      mask: m in [0, 1], 1 where the old value stays; its probability for the expectation.
      old, new: (..., H).

    Returns:
      y: (..., H).

    Source: Krueger et al. (2017), "Zoneout".
    """
    return mask * old + (1 - mask) * new


def keep_bwd(mask, dy):
    """dold = m ⊙ dy        dnew = (1 - m) ⊙ dy       the mask is a constant  (11')"""
    return mask * dy, (1 - mask) * dy


def drop(x, mask):
    """Dropout with a mask drawn outside: zero, or 1 / (1 - rate).

        y = x ⊙ m                                                            (12)

    Args:
      x: any shape.
      mask: m, broadcastable to x, dtype of x.

    Returns:
      y: shape and dtype of x.

    Source: Srivastava et al. (2014).
    """
    return x * mask


def drop_bwd(mask, dy):
    """dx = dy ⊙ m                                the mask is a constant      (12')"""
    return dy * mask


# Between layers -------------------------------------------------------------------------------


def concatenate(*xs):
    """Features side by side.

        y = [x_1, x_2, ... x_n]                                              (13)

    Args:
      xs: (..., D_1), (..., D_2), ... of one dtype.

    Returns:
      y: (..., D_1 + D_2 + ...).

    Source: Schuster & Paliwal (1997) for two directions, Graves (2013) for skip connections.
    """
    return jnp.concatenate(xs, axis=-1)


def concatenate_bwd(xs, dy):
    """dx_1, dx_2, ... dx_n = dy, cut where the features meet                (13')"""
    ends = list(itertools.accumulate(x.shape[-1] for x in xs))
    return tuple(jnp.split(dy, ends[:-1], axis=-1))


def add(x, y):
    """A sum: two directions, or a layer and the way around it.

        z = x + y                                                            (14)

    Args:
      x, y: (..., H).

    Returns:
      z: (..., H).

    Source: He et al. (2016) for residual connections.
    """
    return x + y


def add_bwd(dz):
    """dx = dz      dy = dz      a fork, read from right to left             (14')"""
    return dz, dz


def mean(x, y):
    """Half of each.

        z = (x + y) / 2                                                      (15)

    Args:
      x, y: (..., H).

    Returns:
      z: (..., H).
    """
    return (x + y) / 2


def mean_bwd(dz):
    """dx = dz / 2      dy = dz / 2                                          (15')"""
    return dz / 2, dz / 2


def product(x, y):
    """Each a gate for the other.

        z = x ⊙ y                                                            (16)

    Args:
      x, y: (..., H).

    Returns:
      z: (..., H).
    """
    return x * y


def product_bwd(residual, dz):
    """dx = dz ⊙ y      dy = dz ⊙ x                                          (16')"""
    x, y = residual
    return dz * y, dz * x


def clear(valid, x):
    """Zero where a step is no step. Chosen, not multiplied: 0 times NaN is NaN.

        y = x where valid, 0 elsewhere                                       (17)

    Args:
      valid: booleans (...).
      x: (..., D).

    Returns:
      y: shape and dtype of x.
    """
    return jnp.where(valid[..., None], x, jnp.zeros_like(x))


def clear_bwd(valid, dy):
    """dx = dy where valid, 0 elsewhere                                      (17')"""
    return clear(valid, dy)


def repeat(x, batch_shape):
    """The same for every example: a fork into all of them, as (F) for a learnt initial state.

        x_n = x for every example n                                          (18)

    Args:
      x: (...).
      batch_shape: of the examples.

    Returns:
      xs: (*batch_shape, ...).
    """
    return jnp.broadcast_to(x, (*batch_shape, *x.shape))


def repeat_bwd(x, dxs):
    """dx = Σ_n dx_n                                                         (18')"""
    axes = tuple(range(dxs.ndim - x.ndim))
    return dxs.astype(wide(x.dtype)).sum(axes).astype(x.dtype)
