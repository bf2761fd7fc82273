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
from jax_lstm.cells.activated import SIGMOID, TANH, Nonlinear, fire, fire_bwd, output
from jax_lstm.cells.initial import Init, make_init
from jax_lstm.cells.packed import HiddenState
from jax_lstm.engine.cell import Cell, Params
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


class Form(NamedTuple):
    """What the gates and the candidate go through; z is None where it is 1 - r: one gate."""

    r: Nonlinear = SIGMOID
    z: Nonlinear | None = SIGMOID
    n: Nonlinear = TANH


def gates_of(form):
    return (form.r,) if form.z is None else (form.r, form.z)


def blend_of(form, gates, old, new):
    """h, and the arguments that the blend was given."""
    args = (gates[0], new, old) if form.z is None else (gates[1], old, new)
    return blend(*args), args  # (19)


def step(form, w, prev, a):
    *a_gates, a_n = packed.blocks_of(a, len(gates_of(form)) + 1)
    h_prev = prev.h
    u = packed.blocks_of(linear(h_prev, w.U_gates), len(a_gates))  # (1)
    fired = [fire(k, a + u) for k, a, u in zip(gates_of(form), a_gates, u, strict=True)]  # (2)
    gates = [y for y, _ in fired]
    old = h_prev.astype(gates[0].dtype)
    seen = product(gates[0], old).astype(h_prev.dtype)  # (16)
    new, kept = fire(form.n, a_n + linear(seen, w.U_n))  # (1), (2)
    h, _ = blend_of(form, gates, old, new)
    return HiddenState(h.astype(h_prev.dtype)), (*(kept for _, kept in fired), kept)


def slopes(form, w, prevs, saved):
    """What dh is going to be multiplied with on its way to the blend's gate, h_{t-1} and a_n; and
    of each gate by itself."""
    *kept, kept_n = saved
    gates = [output(k, x) for k, x in zip(gates_of(form), kept, strict=True)]
    new = output(form.n, kept_n)
    old, one = prevs.h.astype(new.dtype), jnp.ones_like(new)
    dgate, dold, dnew = blend_bwd(blend_of(form, gates, old, new)[1], one)  # (19')
    dold, dnew = (dnew, dold) if form.z is None else (dold, dnew)
    own = [fire_bwd(k, x, one) for k, x in zip(gates_of(form), kept, strict=True)]  # (2')
    return gates[0], old, dgate, dold, fire_bwd(form.n, kept_n, dnew), own  # (2')


def step_bwd(form, w, prev, slopes, dstate):
    """The forward read bottom-up: the reset's cotangent comes back through the second product."""
    r, old, dgate, dold, da_n, own = slopes
    dh = dstate.h
    dgate, da_n = dgate * dh, da_n * dh
    dr, dh_seen = product_bwd((r, old), linear_bwd_input(w.U_n, da_n))  # (1'x), (16')
    dgates = (fork_bwd(None, (dr, dgate))[0],) if form.z is None else (dr, dgate)  # (F') at f
    da = packed.side_by_side(*(s * d for s, d in zip(own, dgates, strict=True)))  # (2')
    dh_gates = linear_bwd_input(w.U_gates, da)  # (1'x)
    dh_prev, _ = fork_bwd(None, (dold * dh, dh_seen, dh_gates))  # (F') at h_{t-1}
    return HiddenState(dh_prev), packed.side_by_side(da, da_n)


def weights_bwd(form, kind, w, xs, prevs, saved, das):
    """dW, db and dU in two products: what the candidate's weights see is r ⊙ h_prev."""
    dW, db, dxs = packed.input_bwd(w, xs, das)
    gates, r = w.U_gates.shape[1], output(form.r, saved[0])
    seen = product(r, prevs.h.astype(r.dtype)).astype(prevs.h.dtype)  # (16)
    dU = (
        linear_bwd_weight(prevs.h, das[..., :gates]),  # (1'W)
        linear_bwd_weight(seen, das[..., gates:]),  # (1'W)
    )
    return kind(dW, packed.side_by_side(*dU), db), dxs


def shapes_of(n):
    return ("W", f"D,{n}H"), ("U", f"H,{n}H"), ("b", f"{n}H")


def unit(
    name: str, kind: type[Params], gates: tuple[str, ...], form: Form, init: Init[Params]
) -> Cell[Params, HiddenState]:
    return Cell(
        name=name,
        params=kind,
        state=HiddenState,
        shapes=shapes_of(len(gates)),
        fields=(("h", "H"),),
        gates=gates,
        init=init,
        prepare=prepare,
        project=project,
        step=partial(step, form),
        slopes=partial(slopes, form),
        step_bwd=partial(step_bwd, form),
        weights_bwd=partial(weights_bwd, form, kind),
    )


init_gru_reset_before = make_init("gru_reset_before", GRUResetBeforeParams, shapes_of(3))
GRU_RESET_BEFORE = unit(
    "gru_reset_before", GRUResetBeforeParams, ("r", "z", "n"), Form(), init_gru_reset_before
)
init_gru_reset_before_state = make_init_state(GRU_RESET_BEFORE)
(
    gru_reset_before_cell,
    gru_reset_before_cell_autodiff,
    gru_reset_before,
    gru_reset_before_autodiff,
) = routes(GRU_RESET_BEFORE, "the gated recurrent unit with the reset before the product")

init_mgu = make_init("mgu", MGUParams, shapes_of(2))
MGU = unit("mgu", MGUParams, ("f", "n"), Form(z=None), init_mgu)
init_mgu_state = make_init_state(MGU)
mgu_cell, mgu_cell_autodiff, mgu, mgu_autodiff = routes(MGU, "the minimal gated unit")
