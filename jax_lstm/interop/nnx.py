"""flax.nnx's LSTMCell, OptimizedLSTMCell, SimpleCell and RNN, differentiated by hand.

Change one import, and nothing else: names, options, defaults, state trees, initial values and the
carry (c, h) are flax's, because the classes are flax's, with another `__call__`.
"""

from typing import Any

try:
    from flax import nnx
except ModuleNotFoundError as error:
    raise ImportError(f"{__name__} needs flax: pip install 'jax_lstm[flax]'") from error
import jax.numpy as jnp
from jax import lax

from jax_lstm.cells.elman import ElmanParams
from jax_lstm.cells.lstm import LSTMParams
from jax_lstm.interop import flax_loop


class OptimizedLSTMCell(nnx.OptimizedLSTMCell):
    """flax.nnx.OptimizedLSTMCell, a step of it differentiated by the rule of `lstm_cell`.

        carry (c, h), inputs (*batch, D)  ->  (c, h), h

    `resets` (*batch) and `reset_carry` of a call are as those of `RNN` here, before one step.
    Constructor, state tree (dense_i: kernel (D, 4H); dense_h: kernel (H, 4H), bias (4H,)) and
    initial values are flax's. Under `nnx.RNN` the loop over time, with its faults, is flax's; under
    `RNN` of this file it is ours, which is faster. In 16 bits c and the gates are float32.

    Raises:
      ValueError: a `gate_fn` or `activation_fn` other than sigmoid and tanh; shapes; something else
        put in the place of a plain `nnx.Linear`.

    Source: jax_lstm/cells/lstm.py.
    """

    kind = flax_loop.LSTM_KIND

    def pack_params(self, inputs, h):
        i, hh = plain_linear(self, "dense_i"), plain_linear(self, "dense_h")
        params = LSTMParams(i.kernel[...], hh.kernel[...], hh.bias[...])
        return promote(self, inputs, h, params)

    def __call__(self, carry, inputs, *, resets=None, reset_carry=None):
        return flax_loop.step(self, carry, inputs, resets, reset_carry)


class LSTMCell(nnx.LSTMCell):
    """flax.nnx.LSTMCell, as `OptimizedLSTMCell` here, with flax's tree of one layer per gate: ii,
    if_, ig, io: kernel (D, H); hi, hf, hg, ho: kernel (H, H), bias (H,)."""

    kind = flax_loop.LSTM_KIND

    def pack_params(self, inputs, h):
        i = [plain_linear(self, name) for name in ("ii", "if_", "ig", "io")]
        hh = [plain_linear(self, name) for name in ("hi", "hf", "hg", "ho")]
        blocks = [
            [x.kernel[...] for x in i],
            [x.kernel[...] for x in hh],
            [x.bias[...] for x in hh],
        ]
        return promote(self, inputs, h, flax_loop.pack(*blocks))

    def __call__(self, carry, inputs, *, resets=None, reset_carry=None):
        return flax_loop.step(self, carry, inputs, resets, reset_carry)


class SimpleCell(nnx.SimpleCell):
    """flax.nnx.SimpleCell, a step of it differentiated by the rule of `elman_cell`.

        carry h, inputs (*batch, D)  ->  h, h         h' = tanh(x W + h U + b [+ h])

    `resets` (*batch) and `reset_carry` of a call are as those of `RNN` here, before one step.
    The option `residual` is U + 1 in place of U. State tree (dense_i: kernel, bias; dense_h:
    kernel) and initial values are flax's.

    Raises:
      ValueError: an `activation_fn` other than tanh; shapes; something else put in the place of a
        plain `nnx.Linear`.

    Source: jax_lstm/cells/elman.py.
    """

    kind = flax_loop.ELMAN_KIND

    def pack_params(self, inputs, h):
        i, hh = plain_linear(self, "dense_i"), plain_linear(self, "dense_h")
        U = hh.kernel[...]
        U = U + jnp.eye(*U.shape, dtype=U.dtype) if self.residual else U
        return promote(self, inputs, h, ElmanParams(i.kernel[...], U, i.bias[...]))

    def __call__(self, carry, inputs, *, resets=None, reset_carry=None):
        return flax_loop.step(self, carry, inputs, resets, reset_carry)


def plain_linear(cell, name) -> Any:
    """A layer as flax makes it: what another one would do cannot be read off its kernel."""
    layer = getattr(cell, name)
    usual = type(layer) is nnx.Linear and layer.dot_general is lax.dot_general
    if not usual or (layer.precision, layer.preferred_element_type) != (None, None):
        raise ValueError(
            f"`{name}` must be a plain nnx.Linear, as flax makes it; got {type(layer).__name__} "
            f"with {'options' if usual else 'a product'} of its own. Take flax's own cell"
        )
    return layer


def promote(cell, inputs, h, params):
    """All of one dtype, by the cell's own `promote_dtype`."""
    if inputs.shape[-1] != cell.in_features:
        raise ValueError(
            f"`inputs` must have in_features = {cell.in_features} features; got shape "
            f"{inputs.shape}"
        )
    inputs, h, *packed = cell.promote_dtype((inputs, h, *params), dtype=cell.dtype)
    return type(params)(*packed), inputs, h


class RNN(nnx.RNN):
    """flax.nnx.RNN, the fast path: the sequence as a whole, by `lstm` or `elman`.

    With a cell of this file the forward, the backward and the sums of dW are one hand-written rule
    over all steps, and the kernels are packed once per sequence. Any other cell, and `state_axes`
    or `broadcast_rngs` of one's own, run by flax's loop.

    Numbers are flax's to rounding, in padding, too, except for two faults that are repaired here,
    as in linen.RNN beside this file: NaN in padding reaches no gradient (a row of padding that
    holds NaN or infinity, or might overflow in x W, counts as zeros), and the carry of a sequence
    of length 0 is the initial one, not the state after all of its padding.

    Args:
      inputs: (*batch, time, D), or (time, *batch, D) with `time_major`.
      initial_carry, seq_lengths, return_carry, time_major, reverse, keep_order, rngs: flax's.
      resets: booleans, or 0 and 1, (*batch, time), or (time, *batch) with `time_major`; trailing
        axes of the batch may be left out. Where True, `reset_carry` takes the place of the carry
        BEFORE the step, in the direction of the run: pass done_{t-1}. Not flax's.
      reset_carry: like the carry; zeros if not given.

    Returns:
      outputs (*batch, time, H), or (carry, outputs) with `return_carry`.

    Raises:
      ValueError: shapes, lengths, or functions of the cell that do not fit, before tracing.
      TypeError: by JAX, for `jax.jvp`: a hand-written rule has no forward mode.

    Source: jax_lstm/engine/bptt.py.
    """

    def __call__(
        self,
        inputs,
        *,
        initial_carry=None,
        seq_lengths=None,
        return_carry=None,
        time_major=None,
        reverse=None,
        keep_order=None,
        resets=None,
        reset_carry=None,
        rngs=None,
    ):
        if not by_engine(self):
            flax_loop.check_loop(resets, reset_carry)
            return super().__call__(
                inputs,
                initial_carry=initial_carry,
                seq_lengths=seq_lengths,
                return_carry=return_carry,
                time_major=time_major,
                reverse=reverse,
                keep_order=keep_order,
                rngs=rngs,
            )
        rngs = self.rngs if rngs is None else rngs
        rngs = rngs.carry.fork() if isinstance(rngs, nnx.Rngs) else rngs
        return flax_loop.sequence(
            self,
            inputs,
            initial_carry,
            lambda shape: self.cell.initialize_carry(shape, rngs),
            seq_lengths,
            return_carry=return_carry,
            time_major=time_major,
            reverse=reverse,
            keep_order=keep_order,
            resets=resets,
            reset_carry=reset_carry,
        )


def by_engine(rnn):
    """Whether the cell's step is that of this file, and the scan the plain one."""
    cells = (OptimizedLSTMCell, LSTMCell, SimpleCell)
    ours = any(type(rnn.cell).__call__ is cell.__call__ for cell in cells)
    plain = rnn.state_axes == nnx.StateAxes({...: nnx.Carry})
    return ours and plain and rnn.broadcast_rngs is None
