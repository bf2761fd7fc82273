"""THE FAMILY: each cell's import line and its row. A cell registers here, and nowhere else."""

from jax_lstm.cells.antisymmetric_rnn import *
from jax_lstm.cells.cfn import *
from jax_lstm.cells.clockwork import *
from jax_lstm.cells.cornn import *
from jax_lstm.cells.elementwise_lstm import *
from jax_lstm.cells.elman import *
from jax_lstm.cells.fast_grnn import *
from jax_lstm.cells.gru import *
from jax_lstm.cells.ind_rnn import *
from jax_lstm.cells.indy_lstm import *
from jax_lstm.cells.janet import *
from jax_lstm.cells.layer_norm_lstm import *
from jax_lstm.cells.lem import *
from jax_lstm.cells.lstm import *
from jax_lstm.cells.lstm_fgr import *
from jax_lstm.cells.lstmp import *
from jax_lstm.cells.minimal import *
from jax_lstm.cells.mlstm import *
from jax_lstm.cells.multiplicative_lstm import *
from jax_lstm.cells.odyssey import *
from jax_lstm.cells.packed import *
from jax_lstm.cells.ran import *
from jax_lstm.cells.reset_before import *
from jax_lstm.cells.scrn import *
from jax_lstm.cells.slstm import *
from jax_lstm.cells.update_gate import *
from jax_lstm.engine.cell import AnyCell as _AnyCell

_ROWS = (LSTM, ELMAN, LSTMP, GRU)
_ROWS += (PEEPHOLE_LSTM, LSTM_NIG, LSTM_NFG, LSTM_NOG, LSTM_NIAF, LSTM_NOAF, LSTM_CIFG, LSTM_FGR)
_ROWS += (GRU_RESET_BEFORE, MGU, LIGHT_GRU, JANET, FAST_GRNN, MIN_GRU, MIN_LSTM)
_ROWS += (IND_RNN, INDY_LSTM, ELEMENTWISE_LSTM, ANTISYMMETRIC_RNN, MULTIPLICATIVE_LSTM)
_ROWS += (LAYER_NORM_LSTM, SLSTM, MLSTM, CORNN, LEM, UGRNN, RAN, CFN, SCRN)
_ROWS += (CLOCKWORK,)
CELLS: dict[str, _AnyCell] = {cell.name: cell for cell in _ROWS}

# All of these names; a type checker reads them off the stars above.
__all__: list[str]
globals()["__all__"] = sorted(name for name in globals() if name[0] != "_")
