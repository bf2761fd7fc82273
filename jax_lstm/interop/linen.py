"""flax.linen's LSTMCell, OptimizedLSTMCell, SimpleCell and RNN, differentiated by hand.

Change one import, and nothing else: names, options, defaults, parameter trees, initial values and
the carry (c, h) are flax's, because the classes are flax's, with another `__call__`.
"""

from typing import ClassVar

try:
    import flax.linen as nn
except ModuleNotFoundError as error:
    raise ImportError(f"{__name__} needs flax: pip install 'jax_lstm[flax]'") from error
import jax
import jax.numpy as jnp
from flax.core import FrozenDict
from flax.linen.dtypes import promote_dtype
from flax.linen.recurrent import DenseParams

from jax_lstm.cells.elman import ElmanParams
from jax_lstm.interop import flax_loop

SCAN = {
    "variable_axes": FrozenDict(),
    "variable_broadcast": "params",
    "variable_carry": False,
    "split_rngs": FrozenDict({"params": False}),
}


class OptimizedLSTMCell(nn.OptimizedLSTMCell):
    """flax.linen.OptimizedLSTMCell, a step of it differentiated by the rule of `lstm_cell`.

        carry (c, h), inputs (*batch, D)  ->  (c, h), h

    `resets` (*batch) and `reset_carry` of a call are as those of `RNN` here, before one step.
    Constructor, parameter tree (ii, if, ig, io: kernel; hi, hf, hg, ho: kernel, bias) and initial
    values are flax's. Under `nn.RNN` the loop over time, with its faults, is flax's; under `RNN` of
    this file it is ours, which is faster. In 16 bits c and the gates are float32.

    Raises:
      ValueError: a `gate_fn` or `activation_fn` other than sigmoid and tanh; shapes.

    Source: jax_lstm/cells/lstm.py.
    """

    kind: ClassVar = flax_loop.LSTM_KIND

    @nn.compact
    def pack_params(self, inputs, h):
        """W, U, b out of flax's twelve arrays, which are created under flax's names."""
        dense = {"features": self.features, "param_dtype": self.param_dtype}
        i, hh = [], []
        for gate in "ifgo":
            new = DenseParams(
                use_bias=False, kernel_init=self.kernel_init, name=f"i{gate}", **dense
            )
            i.append(new(inputs)[0])
            new = DenseParams(
                kernel_init=self.recurrent_kernel_init,
                bias_init=self.bias_init,
                name=f"h{gate}",
                **dense,
            )
            hh.append(new(h))
        params = flax_loop.pack(i, *zip(*hh, strict=True))
        inputs, h, *packed = promote_dtype(inputs, h, *params, dtype=self.dtype)
        return type(params)(*packed), inputs, h

    def __call__(self, carry, inputs, *, resets=None, reset_carry=None):
        return flax_loop.step(self, carry, inputs, resets, reset_carry)


class LSTMCell(OptimizedLSTMCell, nn.LSTMCell):
    """flax.linen.LSTMCell: the same options, parameters and numbers as `OptimizedLSTMCell`."""


class SimpleCell(nn.SimpleCell):
    """flax.linen.SimpleCell, a step of it differentiated by the rule of `elman_cell`.

        carry h, inputs (*batch, D)  ->  h, h         h' = tanh(x W + h U + b [+ h])

    `resets` (*batch) and `reset_carry` of a call are as those of `RNN` here, before one step.
    The option `residual` is U + 1 in place of U. Parameter tree (i: kernel, bias; h: kernel) and
    initial values are flax's.

    Raises:
      ValueError: an `activation_fn` other than tanh; shapes.

    Source: jax_lstm/cells/elman.py.
    """

    kind: ClassVar = flax_loop.ELMAN_KIND

    @nn.compact
    def pack_params(self, inputs, h):
        dense = {"features": self.features, "param_dtype": self.param_dtype}
        W, b = DenseParams(
            kernel_init=self.kernel_init, bias_init=self.bias_init, name="i", **dense
        )(inputs)
        U, _ = DenseParams(
            use_bias=False, kernel_init=self.recurrent_kernel_init, name="h", **dense
        )(h)
        U = U + jnp.eye(*U.shape, dtype=U.dtype) if self.residual else U
        inputs, h, *params = promote_dtype(inputs, h, W, U, b, dtype=self.dtype)
        return ElmanParams(*params), inputs, h

    def __call__(self, carry, inputs, *, resets=None, reset_carry=None):
        return flax_loop.step(self, carry, inputs, resets, reset_carry)


class RNN(nn.RNN):
    """flax.linen.RNN, the fast path: the sequence as a whole, by `lstm` or `elman`.

    With a cell of this file the forward, the backward and the sums of dW are one hand-written rule
    over all steps, and the kernels are packed once per sequence. Any other cell, a lifted one
    (`nn.remat(OptimizedLSTMCell)`), and scan options other than the defaults run by flax's loop.

    Numbers are flax's to rounding, in padding, too, except for two faults that are repaired here:
      - NaN in padding. flax runs on through the padding, and so do we; but there NaN in it reaches
        every gradient. Here a row of padding that holds NaN or infinity, or might overflow in x W,
        counts as a row of zeros, in the outputs from there on and in every gradient; its own is
        zero. So does the initial carry of a sequence of length 0.
      - The carry of a sequence of length 0. flax returns the state after all of its padding. Here
        it is the initial carry.
    Also, `return_carry` with `seq_lengths` works here for any number of batch axes. As in flax the
    carry is looked up among those of all steps, which takes an array of c more, and hardly time.

    Args:
      inputs: (*batch, time, D), or (time, *batch, D) with `time_major`.
      initial_carry, init_key, seq_lengths, return_carry, time_major, reverse, keep_order: flax's.
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
        init_key=None,
        seq_lengths=None,
        return_carry=None,
        time_major=None,
        reverse=None,
        keep_order=None,
        resets=None,
        reset_carry=None,
    ):
        if not by_engine(self):
            flax_loop.check_loop(resets, reset_carry)
            return super().__call__(
                inputs,
                initial_carry=initial_carry,
                init_key=init_key,
                seq_lengths=seq_lengths,
                return_carry=return_carry,
                time_major=time_major,
                reverse=reverse,
                keep_order=keep_order,
            )

        def draw(shape):
            key = jax.random.key(0) if init_key is None else init_key
            return self.cell.initialize_carry(key, shape)

        return flax_loop.sequence(
            self,
            inputs,
            initial_carry,
            draw,
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
    ours = any(type(rnn.cell).__call__ is cell.__call__ for cell in (OptimizedLSTMCell, SimpleCell))
    return ours and all(getattr(rnn, name) == usual for name, usual in SCAN.items())
