"""THE FAMILY: each cell's import line and its row. A cell registers here, and nowhere else."""

from jax_lstm.cells.elman import *
from jax_lstm.cells.gru import *
from jax_lstm.cells.lstm import *
from jax_lstm.cells.lstmp import *
from jax_lstm.engine.cell import AnyCell as _AnyCell

CELLS: dict[str, _AnyCell] = {cell.name: cell for cell in (LSTM, ELMAN, LSTMP, GRU)}
