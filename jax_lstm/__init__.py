"""The LSTM, its gradient derived and written by hand, checked against jax.grad."""

from jax_lstm.attribution import Attribution, attribute
from jax_lstm.bptt import Cell
from jax_lstm.cells.elman import (
    ELMAN,
    ElmanParams,
    ElmanState,
    elman,
    elman_autodiff,
    elman_cell,
    elman_cell_autodiff,
    init_elman,
    init_elman_state,
)
from jax_lstm.cells.lstm import (
    LSTM,
    LSTMParams,
    LSTMState,
    init_lstm,
    init_lstm_state,
    lstm,
    lstm_autodiff,
    lstm_cell,
    lstm_cell_autodiff,
)
from jax_lstm.cells.lstmp import (
    LSTMP,
    LSTMPParams,
    LSTMPState,
    init_lstmp,
    init_lstmp_state,
    lstmp,
    lstmp_autodiff,
    lstmp_cell,
    lstmp_cell_autodiff,
)
from jax_lstm.cells.make import make_cell, make_rnn
from jax_lstm.checkpoint import load, save
from jax_lstm.devices import over_devices
from jax_lstm.diagnosis import diagnose
from jax_lstm.flow import (
    GradientNorms,
    JacobianNorms,
    elman_bounds,
    forget_products,
    gradient_norms,
    jacobian_norms,
    jacobians,
)
from jax_lstm.inside import Trace, make_trace
from jax_lstm.layers import (
    StackParams,
    init_stack,
    init_stack_state,
    init_stack_state_autodiff,
    stack,
    stack_autodiff,
)
from jax_lstm.linearised import (
    Linearised,
    linearised_elman,
    linearised_lstm,
    make_linearised,
)
from jax_lstm.losses import (
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_autodiff,
    softmax_cross_entropy,
    softmax_cross_entropy_autodiff,
    squared_error,
    squared_error_autodiff,
)
from jax_lstm.memory import MemoryPlan, MemoryRow, memory_plan
from jax_lstm.readout import (
    DenseParams,
    dense,
    dense_autodiff,
    embedding,
    embedding_autodiff,
    init_dense,
    init_embedding,
)
from jax_lstm.regularisers import (
    drop,
    drop_autodiff,
    dropout_mask,
    recurrent_dropout,
    recurrent_dropout_masks,
    zoneout,
    zoneout_mask,
    zoneout_masks,
)
from jax_lstm.tracing import Traced, trace
from jax_lstm.truncated import Stream, Window, tbptt, tbptt_stream

__version__ = "0.1.0"
