"""THE FAMILY: each cell's import line and its row. A cell registers here, and nowhere else."""

from jax_lstm.cells.antisymmetric_rnn import *
from jax_lstm.cells.cfn import *
from jax_lstm.cells.clockwork import *
from jax_lstm.cells.cornn import *
from jax_lstm.cells.elementwise_lstm import *
from jax_lstm.cells.elman import *
from jax_lstm.cells.fast_grnn import *
from jax_lstm.cells.gated import *
from jax_lstm.cells.gru import *
from jax_lstm.cells.heads import *
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
from jax_lstm.engine.forward_mode import make_jvp as _make_jvp
from jax_lstm.engine.functions import TangentFunction as _Jvp

_ROWS = (LSTM, ELMAN, LSTMP, GRU)
_ROWS += (PEEPHOLE_LSTM, LSTM_NIG, LSTM_NFG, LSTM_NOG, LSTM_NIAF, LSTM_NOAF, LSTM_CIFG, LSTM_FGR)
_ROWS += (GRU_RESET_BEFORE, MGU, LIGHT_GRU, JANET, FAST_GRNN, MIN_GRU, MIN_LSTM)
_ROWS += (IND_RNN, INDY_LSTM, ELEMENTWISE_LSTM, ANTISYMMETRIC_RNN, MULTIPLICATIVE_LSTM)
_ROWS += (LAYER_NORM_LSTM, SLSTM, MLSTM, CORNN, LEM, UGRNN, RAN, CFN, SCRN)
_ROWS += (CLOCKWORK,)
CELLS: dict[str, _AnyCell] = {cell.name: cell for cell in _ROWS}

# Forward mode of each, `lstm_jvp` of "lstm". A type checker reads the names below.
globals().update({f"{name}_jvp": _make_jvp(cell, f"{name}_jvp") for name, cell in CELLS.items()})


lstm_jvp: _Jvp[LSTMParams, LSTMState]
elman_jvp: _Jvp[ElmanParams, ElmanState]
lstmp_jvp: _Jvp[LSTMPParams, LSTMPState]
gru_jvp: _Jvp[GRUParams, GRUState]
peephole_lstm_jvp: _Jvp[PeepholeLSTMParams, LSTMState]
lstm_nig_jvp: _Jvp[LSTMNIGParams, LSTMState]
lstm_nfg_jvp: _Jvp[LSTMNFGParams, LSTMState]
lstm_nog_jvp: _Jvp[LSTMNOGParams, LSTMState]
lstm_niaf_jvp: _Jvp[LSTMNIAFParams, LSTMState]
lstm_noaf_jvp: _Jvp[LSTMNOAFParams, LSTMState]
lstm_cifg_jvp: _Jvp[LSTMCIFGParams, LSTMState]
lstm_fgr_jvp: _Jvp[LSTMFGRParams, LSTMFGRState]
gru_reset_before_jvp: _Jvp[GRUResetBeforeParams, HiddenState]
mgu_jvp: _Jvp[MGUParams, HiddenState]
light_gru_jvp: _Jvp[LightGRUParams, HiddenState]
janet_jvp: _Jvp[JANETParams, HiddenState]
fast_grnn_jvp: _Jvp[FastGRNNParams, HiddenState]
min_gru_jvp: _Jvp[MinGRUParams, HiddenState]
min_lstm_jvp: _Jvp[MinLSTMParams, HiddenState]
ind_rnn_jvp: _Jvp[IndRNNParams, HiddenState]
indy_lstm_jvp: _Jvp[IndyLSTMParams, LSTMState]
elementwise_lstm_jvp: _Jvp[ElementwiseLSTMParams, LSTMState]
antisymmetric_rnn_jvp: _Jvp[AntisymmetricRNNParams, HiddenState]
multiplicative_lstm_jvp: _Jvp[MultiplicativeLSTMParams, LSTMState]
layer_norm_lstm_jvp: _Jvp[LayerNormLSTMParams, LSTMState]
slstm_jvp: _Jvp[SLSTMParams, SLSTMState]
mlstm_jvp: _Jvp[MLSTMParams, MLSTMState]
cornn_jvp: _Jvp[CoRNNParams, CoRNNState]
lem_jvp: _Jvp[LEMParams, LEMState]
ugrnn_jvp: _Jvp[UGRNNParams, HiddenState]
ran_jvp: _Jvp[RANParams, LSTMState]
cfn_jvp: _Jvp[CFNParams, HiddenState]
scrn_jvp: _Jvp[SCRNParams, SCRNState]
clockwork_jvp: _Jvp[ClockworkParams, ClockworkState]

# All of these names; a type checker reads them off the stars above.
__all__: list[str]
globals()["__all__"] = sorted(name for name in globals() if name[0] != "_")
