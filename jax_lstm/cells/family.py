"""THE FAMILY: each cell's import line and its row. A cell registers here, and nowhere else."""

from jax_lstm.cells.elman import *
from jax_lstm.cells.gru import *
from jax_lstm.cells.lstm import *
from jax_lstm.cells.lstmp import *
from jax_lstm.engine.cell import AnyCell as _AnyCell

CELLS: dict[str, _AnyCell] = {cell.name: cell for cell in (LSTM, ELMAN, LSTMP, GRU)}

# All of these names; a type checker reads them off the stars above.
__all__: list[str]
globals()["__all__"] = sorted(name for name in globals() if name[0] != "_")
