"""The coupled oscillatory network (coRNN): a network of driven, damped oscillators.

    a = x W + h_prev U + z_prev V + b                                         (1)
    z = z_prev + dt (tanh(a) - γ h_prev - ε z_prev)                           (2), (14)
    h = h_prev + dt z                                                         (14)

Parameters: D H + 2 H² + H. h is the position, z the velocity; γ is the squared frequency, ε the
damping. h_{t-1} goes into a, into its own restoring force and into h_t.

`make_cornn(dt, gamma, epsilon)` gives others; the defaults are those of the authors' sequential
digits, and they differ by task.

Source: Rusch & Mishra (2021), "Coupled oscillatory recurrent neural network (coRNN)"; the step as
in adding/model.py, the defaults as in sMNIST/sMNIST_task.py of tk-rusch/coRNN, which were read.
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
    fork_bwd,
    linear,
    linear_bwd_input,
    linear_bwd_weight,
    tanh,
    tanh_bwd,
)

__all__ = ["CORNN", "CoRNNParams", "CoRNNState", "init_cornn", "init_cornn_state", "make_cornn"]
__all__ += ["cornn", "cornn_autodiff", "cornn_cell", "cornn_cell_autodiff"]


class CoRNNParams(NamedTuple):
    """W (D, H), U (H, H) of h, V (H, H) of z, b (H,)."""

    W: jax.Array
    U: jax.Array
    V: jax.Array
    b: jax.Array


class CoRNNState(NamedTuple):
    """h (..., H) in the parameters' dtype, z (..., H) in float32 when that has 16 bits."""

    h: jax.Array
    z: jax.Array


class Constants(NamedTuple):
    dt: float
    gamma: float
    epsilon: float


def step(k, w, prev, x_W):
    h_prev, z_prev = prev.h.astype(x_W.dtype), prev.z
    t = tanh(bias(x_W + linear(prev.h, w.U) + linear(z_prev.astype(w.V.dtype), w.V), w.b))
    z = z_prev + k.dt * (t - k.gamma * h_prev - k.epsilon * z_prev)  # (14)
    return CoRNNState((h_prev + k.dt * z).astype(prev.h.dtype), z), t  # (14)


def step_bwd(k, w, prev, t, dstate):
    dh, dz_next = dstate
    dz, _ = fork_bwd(None, (dz_next, k.dt * dh))  # (14'), (F') at z_t
    da = tanh_bwd(t, k.dt * dz)  # (2')
    dh_ways = (dh, -k.dt * k.gamma * dz, linear_bwd_input(w.U, da))
    dz_ways = (dz, -k.dt * k.epsilon * dz, linear_bwd_input(w.V, da))
    return CoRNNState(fork_bwd(None, dh_ways)[0], fork_bwd(None, dz_ways)[0]), da  # (F')


def weights_bwd(w, xs, prevs, saved, das):
    dW, db, dxs = packed.input_bwd(w, xs, das)
    dU = linear_bwd_weight(prevs.h, das)  # (1'W)
    dV = linear_bwd_weight(prevs.z.astype(w.V.dtype), das)  # (1'W)
    return CoRNNParams(dW, dU, dV, db), dxs


SHAPES = (("W", "D,H"), ("U", "H,H"), ("V", "H,H"), ("b", "H"))
init_cornn = make_init("cornn", CoRNNParams, SHAPES)


def make_cornn(
    dt: float = 0.042, gamma: float = 2.7, epsilon: float = 4.7
) -> Cell[CoRNNParams, CoRNNState]:
    """The record with a time step, a stiffness and a damping of one's own; see `make_rnn`."""
    check_number("dt", dt)
    check_number("gamma", gamma)
    check_number("epsilon", epsilon)
    return record(dt, gamma, epsilon)


@functools.cache
def record(dt: float, gamma: float, epsilon: float) -> Cell[CoRNNParams, CoRNNState]:
    constants = Constants(dt, gamma, epsilon)
    return Cell(
        name="cornn",
        params=CoRNNParams,
        state=CoRNNState,
        shapes=SHAPES,
        fields=(("h", "H"), ("z", "wide H")),
        gates=("a",),
        init=init_cornn,
        project=packed.project,
        step=partial(step, constants),
        step_bwd=partial(step_bwd, constants),
        weights_bwd=weights_bwd,
        options=tuple(constants._asdict().items()),
    )


CORNN = make_cornn()
init_cornn_state = make_init_state(CORNN)
cornn_cell, cornn_cell_autodiff, cornn, cornn_autodiff = routes(
    CORNN, "the coupled oscillatory network"
)
