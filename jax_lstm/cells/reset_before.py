"""Gates before the recurrent product: the first GRU, and the minimal gated unit.

    gru_reset_before                                                3 (D H + H² + H) parameters
    r, z = sigmoid(x W_rz + h_prev U_rz + b_rz)               (1), (2)
    n = tanh(x W_n + (r ⊙ h_prev) U_n + b_n)                  (16), (1), (2)
    h = z ⊙ h_prev + (1 - z) ⊙ n                              (19)

    mgu             r = f and z = 1 - f of one gate f               2 (D H + H² + H) parameters

`gru` has the reset after the product, which is another network: here h_{t-1} goes into two products
one after the other. In the MGU the gate is a fork as well, into the reset and into the blend.

Sources: Cho et al. (2014), "Learning phrase representations using RNN encoder-decoder", equations
as in the cited notes of cnblogs.com/ZJUT-jiangnan, keras.layers.GRU with reset_after=False; Zhou et
al. (2016), "Minimal gated unit for recurrent neural networks", as in torchrecurrent's mgu_cell.py,
which was read.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm.cells import packed
from jax_lstm.cells.initial import make_init
from jax_lstm.cells.packed import HiddenState
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.made import partial
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.stages import (
    bias,
    blend,
    blend_bwd,
    fork_bwd,
    linear,
    linear_bwd_input,
    linear_bwd_weight,
    product,
    product_bwd,
    sigmoid,
    sigmoid_bwd,
    tanh,
    tanh_bwd,
)

__all__ = ["GRU_RESET_BEFORE", "GRUResetBeforeParams"]
__all__ += ["init_gru_reset_before", "init_gru_reset_before_state"]
__all__ += ["gru_reset_before", "gru_reset_before_autodiff"]
__all__ += ["gru_reset_before_cell", "gru_reset_before_cell_autodiff"]
__all__ += ["MGU", "MGUParams", "init_mgu", "init_mgu_state"]
__all__ += ["mgu", "mgu_autodiff", "mgu_cell", "mgu_cell_autodiff"]


class GRUResetBeforeParams(NamedTuple):
    """W (D, 3H), U (H, 3H), b (3H,): blocks r, z, n side by side."""

    W: jax.Array
    U: jax.Array
    b: jax.Array


class MGUParams(NamedTuple):
    """W (D, 2H), U (H, 2H), b (2H,): blocks f, n side by side."""

    W: jax.Array
    U: jax.Array
    b: jax.Array


class TwoProducts(NamedTuple):
    """What the loop over steps sees: U in two, of the gates and of the candidate."""

    W: jax.Array
    U_gates: jax.Array
    U_n: jax.Array
    b: jax.Array


def prepare(params, consts=None):
    W, U, b = params
    gates = U.shape[1] - U.shape[0]
    return TwoProducts(W, U[:, :gates], U[:, gates:], b)


def project(w, xs):
    """x W + b: the part of (1) that does not depend on the state."""
    return bias(linear(xs, w.W), w.b)


def step(n, w, prev, a):
    *a_gates, a_n = packed.blocks_of(a, n)
    h_prev = prev.h
    u = packed.blocks_of(linear(h_prev, w.U_gates), n - 1)  # (1)
    gates = tuple(sigmoid(a + u) for a, u in zip(a_gates, u, strict=True))  # (2)
    old = h_prev.astype(gates[0].dtype)
    seen = product(gates[0], old).astype(h_prev.dtype)  # (16)
    new = tanh(a_n + linear(seen, w.U_n))  # (1), (2)
    h = blend(gates[1], old, new) if n == 3 else blend(gates[0], new, old)  # (19)
    return HiddenState(h.astype(h_prev.dtype)), (*gates, new)


def slopes(n, w, prevs, saved):
    """What dh is going to be multiplied with on its way to the blend's gate, h_{t-1} and a_n."""
    *gates, new = saved
    old, one = prevs.h.astype(new.dtype), jnp.ones_like(new)
    if n == 3:
        dgate, dold, dnew = blend_bwd((gates[1], old, new), one)  # (19')
    else:
        dgate, dnew, dold = blend_bwd((gates[0], new, old), one)  # (19')
    return gates, old, dgate, dold, tanh_bwd(new, dnew)  # (2')


def step_bwd(n, w, prev, slopes, dstate):
    """The forward read bottom-up: the reset's cotangent comes back through the second product."""
    gates, old, dgate, dold, da_n = slopes
    dh = dstate.h
    dgate, da_n = dgate * dh, da_n * dh
    dr, dh_seen = product_bwd((gates[0], old), linear_bwd_input(w.U_n, da_n))  # (1'x), (16')
    dgates = (dr, dgate) if n == 3 else (fork_bwd(None, (dr, dgate))[0],)  # (F') at f
    da = packed.side_by_side(*map(sigmoid_bwd, gates, dgates))  # (2')
    dh_gates = linear_bwd_input(w.U_gates, da)  # (1'x)
    dh_prev, _ = fork_bwd(None, (dold * dh, dh_seen, dh_gates))  # (F') at h_{t-1}
    return HiddenState(dh_prev), packed.side_by_side(da, da_n)


def weights_bwd(kind, w, xs, prevs, saved, das):
    """dW, db and dU in two products: what the candidate's weights see is r ⊙ h_prev."""
    dW, db, dxs = packed.input_bwd(w, xs, das)
    gates = w.U_gates.shape[1]
    seen = product(saved[0], prevs.h.astype(saved[0].dtype)).astype(prevs.h.dtype)  # (16)
    dU = (
        linear_bwd_weight(prevs.h, das[..., :gates]),  # (1'W)
        linear_bwd_weight(seen, das[..., gates:]),  # (1'W)
    )
    return kind(dW, packed.side_by_side(*dU), db), dxs


def shapes_of(n):
    return ("W", f"D,{n}H"), ("U", f"H,{n}H"), ("b", f"{n}H")


init_gru_reset_before = make_init("gru_reset_before", GRUResetBeforeParams, shapes_of(3))
GRU_RESET_BEFORE = Cell(
    name="gru_reset_before",
    params=GRUResetBeforeParams,
    state=HiddenState,
    shapes=shapes_of(3),
    fields=(("h", "H"),),
    gates=("r", "z", "n"),
    init=init_gru_reset_before,
    prepare=prepare,
    project=project,
    step=partial(step, 3),
    slopes=partial(slopes, 3),
    step_bwd=partial(step_bwd, 3),
    weights_bwd=partial(weights_bwd, GRUResetBeforeParams),
)
init_gru_reset_before_state = make_init_state(GRU_RESET_BEFORE)
(
    gru_reset_before_cell,
    gru_reset_before_cell_autodiff,
    gru_reset_before,
    gru_reset_before_autodiff,
) = routes(GRU_RESET_BEFORE, "the gated recurrent unit with the reset before the product")

init_mgu = make_init("mgu", MGUParams, shapes_of(2))
MGU = Cell(
    name="mgu",
    params=MGUParams,
    state=HiddenState,
    shapes=shapes_of(2),
    fields=(("h", "H"),),
    gates=("f", "n"),
    init=init_mgu,
    prepare=prepare,
    project=project,
    step=partial(step, 2),
    slopes=partial(slopes, 2),
    step_bwd=partial(step_bwd, 2),
    weights_bwd=partial(weights_bwd, MGUParams),
)
init_mgu_state = make_init_state(MGU)
mgu_cell, mgu_cell_autodiff, mgu, mgu_autodiff = routes(MGU, "the minimal gated unit")
