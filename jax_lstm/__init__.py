"""The LSTM, its gradient derived and written by hand, checked against jax.grad."""

from jax_lstm import interop, referee, stages, training
from jax_lstm.analysis.attribution import Attribution, attribute
from jax_lstm.analysis.curvature import (
    Curvature,
    Spectrum,
    TraceEstimate,
    curvature,
    gate_blocks,
    hutchinson,
    lanczos,
)
from jax_lstm.analysis.flow import (
    GradientNorms,
    JacobianNorms,
    elman_bounds,
    forget_products,
    gradient_norms,
    jacobian_norms,
    jacobians,
)
from jax_lstm.analysis.lyapunov import lyapunov_exponents
from jax_lstm.analysis.opened import Linearised, linearised_elman, linearised_lstm, make_linearised
from jax_lstm.analysis.states import States, Trace, make_states, make_trace
from jax_lstm.cells import family
from jax_lstm.cells.family import *
from jax_lstm.cells.regularised import recurrent_dropout, zoneout
from jax_lstm.diagnosis.diagnose import diagnose
from jax_lstm.engine.cell import Cell
from jax_lstm.engine.forward_mode import make_jvp
from jax_lstm.engine.made import partial
from jax_lstm.engine.online import Online, OnlineStream, make_online
from jax_lstm.engine.parallel import make_parallel_rnn
from jax_lstm.engine.products import make_fisher, make_gauss_newton, make_hvp, make_rop
from jax_lstm.engine.routes import make_cell, make_rnn, routes
from jax_lstm.files import exported
from jax_lstm.files.checkpoint import load, save
from jax_lstm.networks.masks import (
    drop,
    drop_autodiff,
    dropout_mask,
    recurrent_dropout_masks,
    zoneout_mask,
    zoneout_masks,
)
from jax_lstm.networks.sizes import StackParams
from jax_lstm.networks.stack import (
    init_stack,
    init_stack_state,
    init_stack_state_autodiff,
    stack,
    stack_autodiff,
)
from jax_lstm.stages.losses import (
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_autodiff,
    softmax_cross_entropy,
    softmax_cross_entropy_autodiff,
    squared_error,
    squared_error_autodiff,
)
from jax_lstm.stages.readout import (
    DenseParams,
    dense,
    dense_autodiff,
    embedding,
    embedding_autodiff,
    init_dense,
    init_embedding,
)
from jax_lstm.teaching.trace import Traced, trace
from jax_lstm.training.devices import over_devices
from jax_lstm.training.memory import MemoryPlan, MemoryRow, memory_plan
from jax_lstm.training.truncated import Stream, Window, tbptt, tbptt_stream
from jax_lstm.training.truncation_error import (
    Truncation,
    choose_k2,
    truncation_error,
    truncation_error_of_stream,
)
from jax_lstm.training.units import over_units

__version__ = "0.1.0"
__all__ = [
    "Attribution",
    "Cell",
    "Curvature",
    "DenseParams",
    "GradientNorms",
    "JacobianNorms",
    "Linearised",
    "MemoryPlan",
    "MemoryRow",
    "Online",
    "OnlineStream",
    "Spectrum",
    "StackParams",
    "States",
    "Stream",
    "Trace",
    "TraceEstimate",
    "Traced",
    "Truncation",
    "Window",
    "attribute",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_autodiff",
    "choose_k2",
    "curvature",
    "dense",
    "dense_autodiff",
    "diagnose",
    "drop",
    "drop_autodiff",
    "dropout_mask",
    "elman_bounds",
    "embedding",
    "embedding_autodiff",
    "forget_products",
    "gate_blocks",
    "gradient_norms",
    "hutchinson",
    "init_dense",
    "init_embedding",
    "init_stack",
    "init_stack_state",
    "init_stack_state_autodiff",
    "interop",
    "jacobian_norms",
    "jacobians",
    "lanczos",
    "linearised_elman",
    "linearised_lstm",
    "load",
    "lyapunov_exponents",
    "make_cell",
    "make_fisher",
    "make_gauss_newton",
    "make_hvp",
    "make_jvp",
    "make_linearised",
    "make_online",
    "make_parallel_rnn",
    "make_rnn",
    "make_rop",
    "make_states",
    "make_trace",
    "memory_plan",
    "over_devices",
    "over_units",
    "partial",
    "recurrent_dropout",
    "recurrent_dropout_masks",
    "referee",
    "routes",
    "save",
    "softmax_cross_entropy",
    "softmax_cross_entropy_autodiff",
    "squared_error",
    "squared_error_autodiff",
    "stack",
    "stack_autodiff",
    "stages",
    "tbptt",
    "tbptt_stream",
    "trace",
    "training",
    "truncation_error",
    "truncation_error_of_stream",
    "zoneout",
    "zoneout_mask",
    "zoneout_masks",
]

__all__ += family.__all__  # the cells' names come from their rows


def __dir__():
    """The public names; `from jax_lstm.engine import bptt` and its like work as ever."""
    return list(__all__)
