"""The antisymmetric network: a stable differential equation, in steps of ε.

    M = U - Uᵀ - γ I                                                          (28)
    h = h_prev + ε tanh(x W + h_prev M + b)                                   (1), (2), (14)

Parameters: D H + H² + H. The eigenvalues of U - Uᵀ are imaginary, so the state neither dies out nor
grows at first order; γ damps it. U is a fork into U and Uᵀ: dU = dM - dMᵀ.

`make_antisymmetric_rnn(epsilon, gamma)` gives others; the paper tunes both for each task.

Source: Chang et al. (2019), "AntisymmetricRNN: A dynamical system view on recurrent neural
networks"; the equations as in torchrecurrent's antisymmetricrnn_cell.py, which was read. The
defaults of ε and γ are ours.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm.cells import packed
from jax_lstm.cells.initial import make_init
from jax_lstm.cells.packed import HiddenState
from jax_lstm.doors import check_number
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.made import partial
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.stages import fork_bwd, linear_bwd_input, tanh, tanh_bwd

__all__ = ["ANTISYMMETRIC_RNN", "AntisymmetricRNNParams", "make_antisymmetric_rnn"]
__all__ += ["init_antisymmetric_rnn", "init_antisymmetric_rnn_state"]
__all__ += ["antisymmetric_rnn", "antisymmetric_rnn_autodiff"]
__all__ += ["antisymmetric_rnn_cell", "antisymmetric_rnn_cell_autodiff"]


class AntisymmetricRNNParams(NamedTuple):
    """W (D, H), U (H, H), b (H,)."""

    W: jax.Array
    U: jax.Array
    b: jax.Array


def prepare(gamma, params, consts=None):
    U = params.U
    return params._replace(U=U - U.T - gamma * jnp.eye(U.shape[0], dtype=U.dtype))


def prepare_bwd(params, dw):
    """dU = dM - dMᵀ: the fork of U, read bottom-up."""
    return AntisymmetricRNNParams(dw.W, dw.U - dw.U.T, dw.b), None


def step(epsilon, w, prev, z):
    t = tanh(packed.net_input(w, prev.h, z))  # (1), (2)
    h = prev.h.astype(t.dtype) + epsilon * t  # (14)
    return HiddenState(h.astype(prev.h.dtype)), t


def step_bwd(epsilon, w, prev, t, dstate):
    da = tanh_bwd(t, epsilon * dstate.h)  # (14'), (2')
    dh_prev, _ = fork_bwd(None, (dstate.h, linear_bwd_input(w.U, da)))  # (1'x), (F') at h_{t-1}
    return HiddenState(dh_prev), da


SHAPES = (("W", "D,H"), ("U", "H,H"), ("b", "H"))
init_antisymmetric_rnn = make_init("antisymmetric_rnn", AntisymmetricRNNParams, SHAPES)


def make_antisymmetric_rnn(
    epsilon: float = 0.1, gamma: float = 0.01
) -> Cell[AntisymmetricRNNParams, HiddenState]:
    """The record with a step ε and a damping γ of one's own; see `make_rnn`."""
    check_number("epsilon", epsilon)
    check_number("gamma", gamma)
    return record(epsilon, gamma)


@functools.cache
def record(epsilon: float, gamma: float) -> Cell[AntisymmetricRNNParams, HiddenState]:
    return Cell(
        name="antisymmetric_rnn",
        params=AntisymmetricRNNParams,
        state=HiddenState,
        shapes=SHAPES,
        fields=(("h", "H"),),
        gates=("a",),
        init=init_antisymmetric_rnn,
        prepare=partial(prepare, gamma),
        prepare_bwd=prepare_bwd,
        project=packed.project,
        step=partial(step, epsilon),
        step_bwd=partial(step_bwd, epsilon),
        weights_bwd=packed.weights_of(AntisymmetricRNNParams),
        options=(("epsilon", epsilon), ("gamma", gamma)),
    )


ANTISYMMETRIC_RNN = make_antisymmetric_rnn()
init_antisymmetric_rnn_state = make_init_state(ANTISYMMETRIC_RNN)
(
    antisymmetric_rnn_cell,
    antisymmetric_rnn_cell_autodiff,
    antisymmetric_rnn,
    antisymmetric_rnn_autodiff,
) = routes(ANTISYMMETRIC_RNN, "the antisymmetric network")
