"""minGRU and minLSTM: gates that do not see the state, so that time can be a parallel scan.

    min_gru         h = k ⊙ h_prev + (1 - k) ⊙ n,  k = 1 - z                  (19)
                    z = sigmoid(a_z);  a = x W + b                            (1), (2)
                                                        2 (D H + H) parameters, blocks z, n

    min_lstm        the same with k = f / (f + i)                             (19)
                    f, i = sigmoid(a_f, a_i);  a = x W + b                    (1), (2)
                                                        3 (D H + H) parameters, blocks f, i, n

n is the block of a itself: no nonlinearity. Given x, a step is affine in h, and `min_gru_parallel`,
`min_lstm_parallel` are second routes through time: a scan of log T rounds, see engine/parallel.py.

Source: Feng et al. (2024), "Were RNNs all we needed?"; the equations as in minLSTM.py of
minGRU-pytorch and hexdocs.pm/edifice on MinGRU, which were read, here without the positive
nonlinearity of the form in logarithms.
"""

from typing import NamedTuple

import jax

from jax_lstm.cells import packed
from jax_lstm.cells.initial import make_init
from jax_lstm.cells.packed import HiddenState
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.parallel import make_parallel_rnn
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.stages import bias, blend, linear, sigmoid

__all__ = ["MIN_GRU", "MinGRUParams", "init_min_gru", "init_min_gru_state", "min_gru_parallel"]
__all__ += ["min_gru", "min_gru_autodiff", "min_gru_cell", "min_gru_cell_autodiff"]
__all__ += ["MIN_LSTM", "MinLSTMParams", "init_min_lstm", "init_min_lstm_state"]
__all__ += ["min_lstm", "min_lstm_autodiff", "min_lstm_cell", "min_lstm_cell_autodiff"]
__all__ += ["min_lstm_parallel"]


class MinGRUParams(NamedTuple):
    """W (D, 2H), b (2H,): blocks z, n side by side."""

    W: jax.Array
    b: jax.Array


class MinLSTMParams(NamedTuple):
    """W (D, 3H), b (3H,): blocks f, i, n side by side."""

    W: jax.Array
    b: jax.Array


class Gates(NamedTuple):
    """k keeps, n is the candidate; f and i are what k is made of, where it is."""

    k: jax.Array
    n: jax.Array
    f: jax.Array | None = None
    i: jax.Array | None = None


def project_gru(w, xs):
    a_z, n = packed.blocks_of(bias(linear(xs, w.W), w.b), 2)  # (1)
    return Gates(sigmoid(-a_z), n)  # (2): 1 - z


def project_lstm(w, xs):
    a_f, a_i, n = packed.blocks_of(bias(linear(xs, w.W), w.b), 3)  # (1)
    f, i = sigmoid(a_f), sigmoid(a_i)  # (2)
    return Gates(f / (f + i), n, f, i)


def step(w, prev, gates):
    h = blend(gates.k, prev.h.astype(gates.n.dtype), gates.n)  # (19)
    return HiddenState(h.astype(prev.h.dtype)), gates


def affine(w, gates):
    """a, b of h = a h_prev + b."""
    return gates.k, (1 - gates.k) * gates.n


def slopes(w, prevs, gates):
    """What dh is going to be multiplied with: by block, and on its way to h_{t-1}."""
    k, n, f, i = gates
    da_k = (prevs.h.astype(n.dtype) - n) * k * (1 - k)  # (19'), (2'), as if k were a sigmoid
    # k = f / (f + i): dk/da_f = k (1 - k) (1 - f), dk/da_i = -k (1 - k) (1 - i)
    da = (-da_k,) if f is None or i is None else (da_k * (1 - f), -da_k * (1 - i))
    return packed.side_by_side(*da, 1 - k), k


def step_bwd(w, prev, slopes, dstate):
    da, kept = slopes
    return HiddenState(kept * dstate.h), packed.in_every_block(da, dstate.h)  # (19')


def weights_of(kind):
    def weights_bwd(w, xs, prevs, saved, das):
        dW, db, dxs = packed.input_bwd(w, xs, das)
        return kind(dW, db), dxs

    return weights_bwd


GRU_SHAPES = (("W", "D,2H"), ("b", "2H"))
init_min_gru = make_init("min_gru", MinGRUParams, GRU_SHAPES)
MIN_GRU = Cell(
    name="min_gru",
    params=MinGRUParams,
    state=HiddenState,
    shapes=GRU_SHAPES,
    fields=(("h", "H"),),
    gates=("z", "n"),
    init=init_min_gru,
    project=project_gru,
    step=step,
    slopes=slopes,
    step_bwd=step_bwd,
    weights_bwd=weights_of(MinGRUParams),
    affine=affine,
    diagonal=("h",),
)
init_min_gru_state = make_init_state(MIN_GRU)
min_gru_cell, min_gru_cell_autodiff, min_gru, min_gru_autodiff = routes(MIN_GRU, "the minGRU")
min_gru_parallel = make_parallel_rnn(MIN_GRU, "min_gru_parallel")

LSTM_SHAPES = (("W", "D,3H"), ("b", "3H"))
init_min_lstm = make_init("min_lstm", MinLSTMParams, LSTM_SHAPES)
MIN_LSTM = Cell(
    name="min_lstm",
    params=MinLSTMParams,
    state=HiddenState,
    shapes=LSTM_SHAPES,
    fields=(("h", "H"),),
    gates=("f", "i", "n"),
    init=init_min_lstm,
    project=project_lstm,
    step=step,
    slopes=slopes,
    step_bwd=step_bwd,
    weights_bwd=weights_of(MinLSTMParams),
    affine=affine,
    diagonal=("h",),
)
init_min_lstm_state = make_init_state(MIN_LSTM)
min_lstm_cell, min_lstm_cell_autodiff, min_lstm, min_lstm_autodiff = routes(MIN_LSTM, "the minLSTM")
min_lstm_parallel = make_parallel_rnn(MIN_LSTM, "min_lstm_parallel")
