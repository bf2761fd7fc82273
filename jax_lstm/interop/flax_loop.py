"""What linen and nnx share: flax's carry and flax's way through time, around our cells.

    flax: carry (c, h)                                  ours: LSTMState(h, c)
    flax: inputs (*batch, time, features)               ours: xs (T, ..., D)
    flax: reverse, the outputs as they were computed    ours: hs[t] belongs to xs[t]

Nothing is computed here. A flax cell brings `kind`, which of our cells it is, and a method
`pack_params(inputs, h) -> params, inputs, h`: its kernels side by side, all of one dtype, that of
its products. Splitting dW into flax's kernels is the transpose of that concatenation, and JAX's; so
is the cotangent of the last carry, which is looked up among the states of all steps.

Padding. flax runs on through it, and outputs there are those of one long sequence. So do we, but a
row of padding that is not finite counts as zeros, and has no way into a gradient.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

try:
    from flax.linen.recurrent import flip_sequences
except ModuleNotFoundError as error:
    raise ImportError(f"{__name__} needs flax: pip install 'jax_lstm[flax]'") from error
import jax
import jax.numpy as jnp

from jax_lstm.cells.elman import ELMAN, ElmanState, elman, elman_cell
from jax_lstm.cells.lstm import LSTM, LSTMParams, LSTMState, lstm, lstm_cell
from jax_lstm.cells.regularised import Around, surround
from jax_lstm.doors import check_array, check_flag, forward_mode_of_the_twin
from jax_lstm.engine import doors
from jax_lstm.engine.routes import make_rnn
from jax_lstm.notation import wide

SUPPORTED = {
    "gate_fn": ("sigmoid", (jax.nn.sigmoid, jax.lax.logistic)),
    "activation_fn": ("tanh", (jnp.tanh, jax.nn.tanh, jax.lax.tanh)),
}


class WholeState(NamedTuple):
    """A state whose one field is the state of a cell: what a layer hands on is all of it."""

    state: Any


def expose_state(cell):
    """The cell, handing on its whole state at every step. An output h_t and the state's h_t are
    then one array, and its fork is the engine's."""

    around = Around(
        enter=lambda mask, prev: prev.state,
        enter_bwd=lambda mask, dseen: WholeState(dseen),
        leave=lambda now, prev, new: WholeState(new),
        leave_bwd=lambda now, dstate: (None, dstate.state),
    )
    return surround(cell, around, name=f"every state of {cell.name}", state=WholeState, fields=())


class Kind(NamedTuple):
    """One of our cells, and flax's carry of it: `form` in words, of `fields` arrays. `states` is a
    sequence that hands on the whole state."""

    step: Callable[..., Any]
    sequence: Callable[..., Any]
    states: Callable[..., Any]
    state: Callable[..., Any]
    carry: Callable[..., Any]
    form: str
    fields: int


LSTM_KIND = Kind(
    lstm_cell,
    lstm,
    make_rnn(expose_state(LSTM), "lstm")[0],
    state=lambda carry, h: LSTMState(h, carry[0].astype(wide(h.dtype))),
    carry=lambda state, dtype: (state.c.astype(dtype), state.h.astype(dtype)),
    form="a pair (c, h), each",
    fields=2,
)
ELMAN_KIND = Kind(
    elman_cell,
    elman,
    make_rnn(expose_state(ELMAN), "elman")[0],
    state=lambda carry, h: ElmanState(h),
    carry=lambda state, dtype: state.h.astype(dtype),
    form="one array",
    fields=1,
)


def pack(i, h, bias):
    """One kernel per gate, in our order i, f, g, o, as W, U and b."""
    return LSTMParams(*(jnp.concatenate(blocks, axis=-1) for blocks in (i, h, bias)))


@forward_mode_of_the_twin("__call__", "flax's own class")
def step(cell, carry, inputs, resets=None, reset_carry=None):
    """One step, as flax's cells make it: (carry, output); a reset comes before the step."""
    check_functions(cell)
    check_inputs(inputs, 1, "(*batch, features)")
    check_carry("carry", cell, carry, inputs.shape[:-1])
    params, x, state, dtype = enter(cell, carry, inputs)
    fresh = enter_fresh(cell, reset_carry, resets, state, inputs.shape[:-1])
    state, h = cell.kind.step(params, state, x, resets=resets, reset_state=fresh)
    return cell.kind.carry(state, dtype), h.astype(dtype)


@forward_mode_of_the_twin("__call__", "flax's own class")
def sequence(
    rnn,
    inputs,
    carry,
    draw,
    seq_lengths,
    *,
    return_carry,
    time_major,
    reverse,
    keep_order,
    resets,
    reset_carry,
):
    """All steps, as flax's RNN makes them, by our engine: outputs, or (carry, outputs).

    Options that are None are those of `rnn`; a carry that is None is `draw(shape of x)`.
    """

    def given(name, value):
        flag = getattr(rnn, name) if value is None else value
        check_flag(name, flag)
        return flag

    time_major, reverse = given("time_major", time_major), given("reverse", reverse)
    check_functions(cell := rnn.cell)
    check_inputs(
        inputs, 2, "(time, *batch, features)" if time_major else "(*batch, time, features)"
    )
    axis = 0 if time_major else inputs.ndim - 2
    xs = jnp.moveaxis(inputs, axis, 0)
    T, *batch, _ = xs.shape
    carry = draw(xs.shape[1:]) if carry is None else carry
    check_carry("initial_carry", cell, carry, tuple(batch))
    lengths = check_lengths(seq_lengths, T, tuple(batch))
    params, xs, state, dtype = enter(cell, carry, xs)
    fresh = enter_fresh(cell, reset_carry, resets, state, tuple(batch))
    if resets is not None:
        resets = doors.as_array("resets", resets, bool, "boolean, or 0 and 1")
        resets = resets if time_major or not resets.ndim else jnp.moveaxis(resets, -1, 0)
        resets = doors.check_resets(resets, (T,), tuple(batch))
    flip = lambda xs: flip_sequences(xs, lengths, len(batch), time_major=True)
    keep_order, return_carry = given("keep_order", keep_order), given("return_carry", return_carry)
    if lengths is None:
        run = cell.kind.sequence
        options = {"reverse": reverse, "unroll": rnn.unroll}
        last, hs = run(params, state, xs, resets=resets, reset_state=fresh, **options)
        hs = flip(hs) if reverse and not keep_order else hs
    else:
        xs = clear_not_finite(doors.valid_steps(lengths, None, T, batch), xs, params.W)
        xs = flip(xs) if reverse else xs
        resets = flip(resets) if reverse and resets is not None else resets
        args = (cell.kind, params, state, xs, lengths, rnn.unroll, return_carry)
        last, hs = run_through_padding(*args, resets, fresh)
        hs = flip(hs) if reverse and keep_order else hs
    outputs = jnp.moveaxis(hs.astype(dtype), 0, axis)
    return (cell.kind.carry(last, dtype), outputs) if return_carry else outputs


# Padding --------------------------------------------------------------------------------------


def clear_not_finite(valid, x, weights):
    """x with zeros for the rows of padding that hold NaN or infinity, or might overflow in x W: the
    largest float, say, which is how some write that there is no number."""
    size, weights = (jnp.abs(y).astype(wide(x.dtype)) for y in (x, weights))
    limit = jnp.finfo(size.dtype).max / jnp.maximum(1, len(weights) * weights.max(initial=0))
    return jnp.where((valid | (size <= limit).all(-1))[..., None], x, jnp.zeros_like(x))


def run_through_padding(kind, params, state, xs, lengths, unroll, return_last, resets, fresh):
    """The last valid state, if it is asked for, and the outputs of all steps.

    That state is looked up among those of all steps; where no step is valid, it is the first one.
    """
    some = lengths > 0
    first = jax.tree.map(lambda x: clear_not_finite(some, x, params.U), state)
    options = {"unroll": unroll, "resets": resets}
    if not return_last:
        return None, kind.sequence(params, first, xs, reset_state=fresh, **options)[1]
    fresh = None if fresh is None else WholeState(fresh)
    _, states = kind.states(params, WholeState(first), xs, reset_state=fresh, **options)
    at = jnp.maximum(lengths - 1, 0)[None, ..., None]

    def look_up(kept, states):
        last = jnp.take_along_axis(states, at, axis=0)[0]
        return jnp.where(some[..., None], last, kept)

    return jax.tree.map(look_up, state, states), states[0]


def enter(cell, carry, inputs):
    """Our arguments, and the dtype of flax's outputs: products have one, c and h may be wider."""
    carry = jax.tree.map(jnp.asarray, carry)
    fields = carry if cell.kind.fields == 2 else (carry,)
    params, inputs, h = cell.pack_params(inputs, fields[-1])
    keeps = cell.kind.fields == 2 or cell.residual
    dtype = jnp.promote_types(h.dtype, fields[0].dtype) if keeps else h.dtype
    return params, inputs, cell.kind.state(carry, h), dtype


def enter_fresh(cell, carry, resets, state, batch):
    """The state that resets lead to, from a carry of flax's; None is zeros."""
    if carry is None:
        return None
    if resets is None:
        raise ValueError("`reset_carry` is where `resets` lead to; `resets` is not given")
    check_carry("reset_carry", cell, carry, batch)
    carry = jax.tree.map(jnp.asarray, carry)
    h = carry[-1] if cell.kind.fields == 2 else carry
    return cell.kind.state(carry, h.astype(state.h.dtype))


# Doors, in flax's words -----------------------------------------------------------------------


def check_functions(cell):
    """The derivation is that of sigmoid gates and of tanh."""
    for name, (supported, functions) in SUPPORTED.items():
        function = getattr(cell, name, functions[0])
        if function not in functions:
            ours = next(c for c in type(cell).__mro__ if c.__module__.startswith("jax_lstm."))
            raise ValueError(
                f"`{name}` must be {supported}, whose derivative stands in jax_lstm/stages/; got "
                f"{getattr(function, '__name__', function)}. For any other take flax's own "
                f"{ours.__name__}"
            )


def check_loop(resets, reset_carry):
    """flax's own loop, which other cells run by, knows no resets."""
    if resets is not None or reset_carry is not None:
        raise ValueError(
            "`resets` need a cell of this file, not lifted, and the options of its scan as usual: "
            "any other runs by flax's loop, which knows none"
        )


def check_inputs(inputs, least, form):
    check_array("inputs", inputs, f"{form}, an array")
    if inputs.ndim < least:
        raise ValueError(f"`inputs` must be {form}, an array; got {inputs.shape}")
    if jnp.issubdtype(inputs.dtype, jnp.complexfloating):  # flax would drop the imaginary part
        raise ValueError(f"`inputs` must be {form}, of real numbers; got {inputs.dtype}")


def check_carry(name, cell, carry, batch):
    shape = (*batch, features(cell))
    leaves = jax.tree.leaves(carry)
    pair = isinstance(carry, tuple | list)
    got = [getattr(leaf, "shape", type(leaf).__name__) for leaf in leaves]
    if pair != (cell.kind.fields == 2) or got != [shape] * cell.kind.fields:
        raise ValueError(
            f"`{name}` must be {cell.kind.form} {shape}: the batch axes of the inputs, then the "
            f"features of the cell; got {'shapes ' if pair else ''}{', '.join(map(str, got))}"
        )


def features(cell):
    """H, by its name in linen or in nnx."""
    return cell.features if hasattr(cell, "features") else cell.hidden_features


def check_lengths(seq_lengths, T, batch):
    """Whole numbers in [0, T] in the default dtype, or None, also where there is no step; the door
    is the engine's."""
    if seq_lengths is None:
        return None
    try:
        lengths = doors.check_lengths(seq_lengths, T, batch)
    except ValueError as error:
        raise ValueError(str(error).replace("`lengths`", "`seq_lengths`")) from None
    return jnp.clip(lengths.astype(int), 0, T) if T else None
