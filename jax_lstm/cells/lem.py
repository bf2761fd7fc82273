"""Long expressive memory (LEM): two states, each with a time step that it learns.

    a = x W + b;  u = h_prev U                                                (1)
    s, f = dt sigmoid(a_s + u_s, a_f + u_f)                                   (2)
    z = (1 - f) ⊙ z_prev + f ⊙ tanh(a_z + u_z)                                (2), (19)
    h = (1 - s) ⊙ h_prev + s ⊙ tanh(a_h + z V)                                (1), (2), (19)

Parameters: 4 (D H + H) + 3 H² + H². The blocks of a are s, f, z, h; those of u are s, f, z. z_t is
a fork into the product with V and into z_{t+1}.

`make_lem(dt)` gives others than dt = 1.

Source: Rusch et al. (2022), "Long expressive memory for sequence modeling"; the step as in
sMNIST/network.py of tk-rusch/LEM, which was read.
"""

import functools
from typing import NamedTuple

import jax

from jax_lstm.cells import packed
from jax_lstm.cells.initial import make_init
from jax_lstm.doors import check_number
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
    sigmoid,
    sigmoid_bwd,
    tanh,
    tanh_bwd,
)

__all__ = ["LEM", "LEMParams", "LEMState", "init_lem", "init_lem_state", "make_lem"]
__all__ += ["lem", "lem_autodiff", "lem_cell", "lem_cell_autodiff"]


class LEMParams(NamedTuple):
    """W (D, 4H), b (4H,): blocks s, f, z, h side by side; U (H, 3H): s, f, z; V (H, H)."""

    W: jax.Array
    U: jax.Array
    b: jax.Array
    V: jax.Array


class LEMState(NamedTuple):
    """h (..., H) in the parameters' dtype, z (..., H) in float32 when that has 16 bits."""

    h: jax.Array
    z: jax.Array


def project(w, xs):
    return bias(linear(xs, w.W), w.b)  # (1)


def step(dt, w, prev, a):
    a_s, a_f, a_z, a_h = packed.blocks_of(a, 4)
    u_s, u_f, u_z = packed.blocks_of(linear(prev.h, w.U), 3)  # (1)
    s, f, t_z = sigmoid(a_s + u_s), sigmoid(a_f + u_f), tanh(a_z + u_z)  # (2)
    z = blend(dt * f, t_z, prev.z)  # (19): the new one by f, the old one by 1 - f
    t_h = tanh(a_h + linear(z.astype(w.V.dtype), w.V))  # (1), (2)
    h = blend(dt * s, t_h, prev.h.astype(s.dtype))  # (19)
    return LEMState(h.astype(prev.h.dtype), z), (s, f, t_z, t_h)


def step_bwd(dt, w, prev, saved, dstate):
    """The forward read bottom-up."""
    s, f, t_z, t_h = saved
    ds, dt_h, dh_kept = blend_bwd((dt * s, t_h, prev.h.astype(s.dtype)), dstate.h)  # (19')
    da_s, da_h = sigmoid_bwd(s, dt * ds), tanh_bwd(t_h, dt_h)  # (2')
    dz, _ = fork_bwd(None, (dstate.z, linear_bwd_input(w.V, da_h)))  # (1'x), (F') at z_t
    df, dt_z, dz_prev = blend_bwd((dt * f, t_z, prev.z), dz)  # (19')
    da = packed.side_by_side(da_s, sigmoid_bwd(f, dt * df), tanh_bwd(t_z, dt_z))  # (2')
    dh_prev, _ = fork_bwd(None, (dh_kept, linear_bwd_input(w.U, da)))  # (1'x), (F') at h_{t-1}
    return LEMState(dh_prev, dz_prev), packed.side_by_side(da, da_h)


def weights_bwd(dt, w, xs, prevs, saved, das):
    dW, db, dxs = packed.input_bwd(w, xs, das)
    _, f, t_z, _ = saved
    H = t_z.shape[-1]
    zs = blend(dt * f, t_z, prevs.z).astype(w.V.dtype)
    dU = linear_bwd_weight(prevs.h, das[..., : 3 * H])  # (1'W)
    return LEMParams(dW, dU, db, linear_bwd_weight(zs, das[..., 3 * H :])), dxs  # (1'W)


SHAPES = (("W", "D,4H"), ("U", "H,3H"), ("b", "4H"), ("V", "H,H"))
init_lem = make_init("lem", LEMParams, SHAPES)


def make_lem(dt: float = 1.0) -> Cell[LEMParams, LEMState]:
    """The record with a longest time step of one's own; see `make_rnn`."""
    check_number("dt", dt)
    return record(dt)


@functools.cache
def record(dt: float) -> Cell[LEMParams, LEMState]:
    return Cell(
        name="lem",
        params=LEMParams,
        state=LEMState,
        shapes=SHAPES,
        fields=(("h", "H"), ("z", "wide H")),
        gates=("s", "f", "z", "h"),
        init=init_lem,
        project=project,
        step=partial(step, dt),
        step_bwd=partial(step_bwd, dt),
        weights_bwd=partial(weights_bwd, dt),
        options=(("dt", dt),),
    )


LEM = make_lem()
init_lem_state = make_init_state(LEM)
lem_cell, lem_cell_autodiff, lem, lem_autodiff = routes(LEM, "long expressive memory")
