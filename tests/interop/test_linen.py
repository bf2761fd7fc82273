"""flax.linen's cells and RNN, and ours in their place."""

import functools
from typing import Any

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_lstm.interop import flax_loop, linen
from tests.interop.flax_cases import (
    BACK,
    CASES,
    CELLS,
    MUTANTS,
    ORDER,
    OVER_STEPS,
    STEPS,
    TOLERANCE,
    B,
    Case,
    D,
    H,
    T,
    assert_same_numbers,
    bits,
    broken,
    call_options,
    cell_options,
    in_loops,
    in_valid_steps,
    inputs,
    results,
)
from tests.tables import QUICK, assert_close, assert_same, normal_like, value_and_cotangents

WAYS = {"RNN": linen.RNN, "nn.RNN": nn.RNN}
KEY = jax.random.key(1)
quick_jit = functools.partial(jax.jit, compiler_options=QUICK)


def layer(case, RNN, house):
    return RNN(getattr(house, case.name)(H, **cell_options(case)), **case.rnn)


@functools.cache
def some_params(name, dtype):
    case = Case(name, dtype=dtype)
    tree = jax.eval_shape(layer(case, nn.RNN, nn).init, jax.random.key(0), inputs(case)[1])
    return normal_like(4, tree, 0.5)


def apply(case, rnn):
    def run(params, carry, xs):
        return rnn.apply(params, xs, initial_carry=carry, **call_options(case))

    return results(case, run, some_params(case.name, case.dtype))


@functools.cache
def by_flax(key):
    return apply(CASES[key], layer(CASES[key], nn.RNN, nn))


def both(name):
    """Ours, and flax's."""
    return linen.RNN(getattr(linen, name)(H)), nn.RNN(getattr(nn, name)(H))


def sequence(dtype="float32", **changes):
    return inputs(Case(dtype=dtype, **changes))[1]


@pytest.mark.parametrize("key", CASES)
def test_the_sequence_as_a_whole(key):
    """Outputs, last carry, and gradients in params, carry and inputs."""
    rnn = layer(CASES[key], linen.RNN, linen)
    assert linen.by_engine(rnn)
    assert_same_numbers(CASES[key], apply(CASES[key], rnn), by_flax(key))


@pytest.mark.parametrize("key", OVER_STEPS)
def test_our_step_in_the_loop_of_flax(key):
    rnn = layer(CASES[key], nn.RNN, linen)
    assert_same_numbers(CASES[key], apply(CASES[key], rnn), by_flax(key))


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_comparison_rejects(monkeypatch, mutant):
    key, name, replacement = MUTANTS[mutant]
    monkeypatch.setattr(flax_loop, name, replacement)
    if name == "LSTM_KIND":
        monkeypatch.setattr(linen.OptimizedLSTMCell, "kind", replacement)
    with pytest.raises(AssertionError):
        assert_same_numbers(
            CASES[key], apply(CASES[key], layer(CASES[key], linen.RNN, linen)), by_flax(key)
        )


# Parameters -----------------------------------------------------------------------------------

INITS = {
    "param_dtype": "float64",
    "kernel_init": nn.with_partitioning(nn.initializers.normal(), (None, "model")),
    "bias_init": nn.initializers.constant(0.5),
    "recurrent_kernel_init": nn.initializers.uniform(),
}


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in CELLS), *((name, INITS) for name in CELLS[1:])]
)
def test_trees_and_initial_values_are_those_of_flax(name, options):
    xs = sequence(options.get("param_dtype", "float32"))
    want = nn.RNN(getattr(nn, name)(H, **options)).init(KEY, xs)
    for RNN in WAYS.values():
        got = RNN(getattr(linen, name)(H, **options)).init(KEY, xs)
        assert jax.tree.structure(got) == jax.tree.structure(want)
        assert_same(got, want)


def test_the_initial_carry_is_that_of_flax():
    """Drawn by `carry_init`, from `init_key` or from key 0."""
    options = {"carry_init": nn.initializers.normal()}
    ours = linen.RNN(linen.LSTMCell(H, **options), return_carry=True)
    theirs = nn.RNN(nn.LSTMCell(H, **options), return_carry=True)
    params, xs = some_params("LSTMCell", "float32"), sequence()
    for key in (None, KEY):
        got, want = (quick_jit(rnn.apply)(params, xs, init_key=key) for rnn in (ours, theirs))
        assert_close(got, want, TOLERANCE["float32"])
    assert_same(
        linen.SimpleCell(H, **options).initialize_carry(KEY, (B, D)),
        nn.SimpleCell(H, **options).initialize_carry(KEY, (B, D)),
    )


@pytest.mark.parametrize("name", CELLS)
def test_a_checkpoint_of_flax_loads(name):
    """The bytes of one into the other."""
    xs, trained = sequence(), some_params(name, "float32")
    outputs = []
    for target in both(name):
        blank = jax.tree.map(jnp.zeros_like, jax.eval_shape(target.init, KEY, xs))
        loaded = flax.serialization.from_bytes(blank, flax.serialization.to_bytes(trained))
        assert_same(loaded, trained)
        outputs.append(quick_jit(target.apply)(loaded, xs))
    assert_close(*outputs, TOLERANCE["float32"])


# In other modules, under flax's transformations -----------------------------------------------


class Block(nn.Module):
    """(xs, nothing) -> (xs, nothing): a layer for `nn.scan` and `nn.vmap`."""

    RNN: Any
    Cell: Any

    @nn.compact
    def __call__(self, xs, _):
        return xs + self.RNN(self.Cell(D))(xs), None


def layers(RNN, Cell):
    options = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "length": 2}
    return nn.scan(Block, **options)(RNN, Cell)


def ensemble(RNN, Cell):
    options = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "axis_size": 2}
    return nn.vmap(Block, in_axes=(None, None), **options)(RNN, Cell)


TOGETHER = {
    "nn.Bidirectional": lambda RNN, Cell: nn.Bidirectional(RNN(Cell(H)), RNN(Cell(H))),
    "nn.jit": lambda RNN, Cell: nn.jit(RNN)(Cell(H)),
    "nn.remat": lambda RNN, Cell: nn.remat(RNN)(Cell(H)),
    "nn.remat of the cell": lambda RNN, Cell: RNN(nn.remat(Cell)(H)),
    "nn.scan over layers": layers,
    "nn.vmap": ensemble,
}


def loss_and_gradients(model, params, xs):
    nothing = (None,) if hasattr(model, "Cell") else ()

    def loss(params, xs):
        outputs = jax.tree.leaves(model.apply(params, xs, *nothing))[0]
        return jnp.sum(outputs**2), outputs

    return quick_jit(jax.grad(loss, (0, 1), has_aux=True))(params, xs)


@pytest.mark.parametrize("name", TOGETHER)
def test_together_with(name):
    """Initial values, outputs, and gradients in params and inputs."""
    make, xs = TOGETHER[name], sequence()
    theirs, ours = make(nn.RNN, nn.OptimizedLSTMCell), make(linen.RNN, linen.OptimizedLSTMCell)
    nothing = (None,) if hasattr(ours, "Cell") else ()
    params, ours_at_first = (quick_jit(m.init)(KEY, xs, *nothing) for m in (theirs, ours))
    assert_same(ours_at_first, params)
    got, want = (loss_and_gradients(model, params, xs) for model in (ours, theirs))
    assert_close(got, want, TOLERANCE["float32"])


def test_both_directions_with_lengths():
    """Also with our steps in flax's loops."""
    xs, lengths = sequence(), jnp.asarray([3, 6])
    theirs = TOGETHER["nn.Bidirectional"](nn.RNN, nn.LSTMCell)
    params = quick_jit(theirs.init)(KEY, xs)
    run = lambda model: quick_jit(functools.partial(model.apply, return_carry=True))(
        params, xs, seq_lengths=lengths
    )
    want = run(theirs)
    for RNN in WAYS.values():
        got = run(TOGETHER["nn.Bidirectional"](RNN, linen.LSTMCell))
        assert_close(got, want, TOLERANCE["float32"])


def test_other_cells_and_scans_of_ones_own_are_left_to_flax():
    xs = sequence()
    gru, theirs = linen.RNN(nn.GRUCell(H)), nn.RNN(nn.GRUCell(H))
    assert not linen.by_engine(gru)
    got, want = (quick_jit(rnn.init_with_output)(KEY, xs) for rnn in (gru, theirs))
    assert_same(got, want)
    options = {"variable_axes": {"params": 1}, "variable_broadcast": False}
    options |= {"split_rngs": {"params": True}}  # parameters of its own for every step
    ours = linen.RNN(linen.LSTMCell(H), **options)
    theirs = nn.RNN(nn.LSTMCell(H), **options)
    assert not linen.by_engine(ours)
    got, want = (quick_jit(rnn.init_with_output)(KEY, xs) for rnn in (ours, theirs))
    assert_close(got, want, TOLERANCE["float32"])
    usual = {"variable_axes": {}, "variable_broadcast": "params", "split_rngs": {"params": False}}
    assert linen.by_engine(linen.RNN(linen.LSTMCell(H), **usual))


def test_a_cell_made_of_ours_keeps_its_own_step():
    class Doubled(linen.SimpleCell):
        def __call__(self, carry, inputs):
            return super().__call__(carry, 2 * inputs)

    rnn, xs = linen.RNN(Doubled(H)), sequence()
    params, got = quick_jit(rnn.init_with_output)(KEY, xs)[::-1]
    want = quick_jit(linen.RNN(linen.SimpleCell(H)).apply)(params, 2 * xs)
    assert_close(got, want, TOLERANCE["float32"])


def test_training_gives_the_same_losses():
    """200 steps of Adam, in float32; it learns."""

    class Model(nn.Module):
        rnn: Any

        @nn.compact
        def __call__(self, xs):
            return nn.Dense(2)(self.rnn(xs)[:, -1])

    xs, ys = bits()
    adam = optax.adam(1e-2)

    def losses(model):
        def step(carry, _):
            params, state = carry

            def loss(params):
                logits = model.apply(params, xs)
                return optax.softmax_cross_entropy_with_integer_labels(logits, ys).mean()

            value, grads = jax.value_and_grad(loss)(params)
            updates, state = adam.update(grads, state)
            return (optax.apply_updates(params, updates), state), value

        params = quick_jit(model.init)(KEY, xs)
        run = quick_jit(lambda carry: jax.lax.scan(step, carry, length=STEPS)[1])
        with jax.numpy_dtype_promotion("standard"):  # Adam counts its steps in int32
            return run((params, adam.init(params)))

    want = losses(Model(nn.RNN(nn.OptimizedLSTMCell(H))))
    assert want[-1] < want[0] / 2
    for RNN in WAYS.values():
        got = losses(Model(RNN(linen.OptimizedLSTMCell(H))))
        # the bar that was asked for: the same losses to 1e-5; float32
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


# What is better here --------------------------------------------------------------------------


PADDED = jnp.asarray([3, 5])  # lengths


def test_nan_in_padding_reaches_every_gradient_in_flax_and_none_here():
    params, xs = some_params("LSTMCell", "float32"), sequence()
    padded = jnp.where(in_valid_steps(jnp.ones_like(xs), PADDED) == 0, jnp.nan, xs)

    def gradient_of(rnn):
        def loss(params, xs):
            valid = in_valid_steps(rnn.apply(params, xs, seq_lengths=PADDED), PADDED)
            return jnp.sum(valid**2), valid

        return quick_jit(jax.grad(loss, has_aux=True))

    ours, theirs = map(gradient_of, both("LSTMCell"))
    assert all(jnp.isnan(d).any() for d in jax.tree.leaves(theirs(params, padded)[0]))
    got = ours(params, padded)
    assert_same(got, ours(params, xs))
    assert_close(got, theirs(params, xs), TOLERANCE["float32"])


@pytest.mark.parametrize("options", [{}, BACK, BACK | ORDER], ids=str)
def test_what_is_not_finite_in_padding_counts_as_zero(options):
    """A row of it, and no other, for a loss that looks at all outputs and at the last carry."""

    def results_of(rnn, xs, clear):
        run = functools.partial(rnn.apply, seq_lengths=PADDED, return_carry=True, **options)
        args = (some_params("LSTMCell", "float32"), xs)
        return value_and_cotangents(lambda p, xs: run(p, clear(xs)), args, options=QUICK)

    ours, theirs = both("LSTMCell")
    bad, cleared = broken(sequence())
    kept = (cleared == bad).all(-1, keepdims=True)
    want = results_of(theirs, cleared, lambda xs: jnp.where(kept, xs, 0))
    assert_close(results_of(ours, bad, lambda xs: xs), want, TOLERANCE["float32"])


def test_nan_in_the_carry_of_a_sequence_of_length_0_reaches_no_gradient():
    """It is the carry, before and after; flax hands back what its padding made of it."""
    lengths, (carry, xs) = jnp.asarray([0, 4]), inputs(Case(dtype="float32"))
    empty = jax.tree.map(lambda x: x.at[0].set(jnp.nan), carry)
    rnn = both("LSTMCell")[0]

    def loss(params, carry):
        options = {"initial_carry": carry, "seq_lengths": lengths, "return_carry": True}
        last, outputs = rnn.apply(params, xs, **options)
        return jnp.sum(in_valid_steps(outputs, lengths) ** 2), last

    run = quick_jit(jax.grad(loss, has_aux=True))
    params = some_params("LSTMCell", "float32")
    (got, last), (want, _) = run(params, empty), run(params, carry)
    assert_same(got, want)
    assert_same(*(jax.tree.map(lambda x: x[0], c) for c in (last, empty)))


def last_carry(rnn, carry, xs, lengths):
    run = functools.partial(rnn.apply, return_carry=True)
    params = some_params("LSTMCell", "float32")
    return quick_jit(run)(params, xs, initial_carry=carry, seq_lengths=lengths)[0]


def test_the_carry_at_length_0_is_all_padding_in_flax_and_the_initial_one_here():
    lengths, (carry, xs) = jnp.asarray([0, 4]), inputs(Case(dtype="float32"))
    first = lambda carry: jax.tree.map(lambda x: x[0], carry)
    ours, theirs = both("LSTMCell")
    through_padding = last_carry(theirs, carry, xs, None)
    assert_same(first(last_carry(theirs, carry, xs, lengths)), first(through_padding))
    assert_same(first(last_carry(ours, carry, xs, lengths)), first(carry))


def test_the_carry_with_lengths_over_two_batch_axes():
    """flax indexes them as if there were one."""
    lengths = jnp.asarray([[3, 6, 1], [7, 2, 5]])
    carry, xs = inputs(Case(dtype="float32", batch=(2, 3)))
    flat = lambda tree: jax.tree.map(lambda x: x.reshape(6, *x.shape[2:]), tree)
    ours, theirs = both("LSTMCell")
    got = last_carry(ours, carry, xs, lengths)
    assert_close(flat(got), last_carry(theirs, *flat((carry, xs, lengths))), TOLERANCE["float32"])
    with pytest.raises(ValueError, match="broadcast"):
        last_carry(theirs, carry, xs, lengths)


def test_kernels_are_packed_once_per_sequence():
    """In flax's loop at every step."""
    case = Case("LSTMCell")

    def packings(RNN):
        rnn, (carry, xs) = layer(case, RNN, linen), inputs(case)
        run = lambda params: rnn.apply(params, xs, initial_carry=carry)
        jaxpr = jax.make_jaxpr(run)(some_params(case.name, case.dtype))
        return in_loops(jaxpr.jaxpr, "concatenate", (D, 4 * H))

    assert packings(linen.RNN) == 0 < packings(nn.RNN)


# Dtypes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CELLS[1:])
@pytest.mark.parametrize(
    ("options", "x_dtype"),
    [
        ({"dtype": "bfloat16"}, "float32"),
        ({"dtype": "float16", "param_dtype": "float16"}, "float32"),
        ({"param_dtype": "bfloat16"}, "bfloat16"),
        ({"dtype": "float64"}, "float32"),
        ({}, "int32"),
    ],
    ids=str,
)
def test_dtypes_are_those_of_flax(name, options, x_dtype):
    """Of a step; and of a sequence wherever flax's loop admits it."""
    x = jax.ShapeDtypeStruct((B, D), x_dtype)
    xs = jax.ShapeDtypeStruct((B, T, D), x_dtype)
    theirs, ours = (getattr(house, name)(H, **options) for house in (nn, linen))
    with jax.numpy_dtype_promotion("standard"):
        carry = theirs.initialize_carry(KEY, x.shape)
        step = lambda cell: jax.eval_shape(lambda x: cell.init_with_output(KEY, carry, x), x)
        assert step(ours) == step(theirs)
        run = lambda rnn: jax.eval_shape(lambda xs: rnn.init_with_output(KEY, xs), xs)
        try:
            want = run(nn.RNN(theirs, return_carry=True))
        except TypeError:  # the carry's dtype changes in the loop
            return
        assert run(linen.RNN(ours, return_carry=True)) == want


@pytest.mark.parametrize("name", CELLS[1:])
def test_sixteen_bits_are_near_flax(name):
    xs, params = sequence(), some_params(name, "float32")
    ours, theirs = both(name)
    ours = linen.RNN(ours.cell.clone(dtype="bfloat16"))
    with jax.numpy_dtype_promotion("standard"):
        got, want = (quick_jit(rnn.apply)(params, xs) for rnn in (ours, theirs))
    assert 1e-5 < jnp.abs(got.astype(want.dtype) - want).max() < 2e-2


# Doors ----------------------------------------------------------------------------------------

xs, x, carry = (jnp.ones(shape, "float32") for shape in ((B, T, D), (B, D), (B, H)))
BAD = {
    "gate": (
        lambda: linen.LSTMCell(H, gate_fn=nn.hard_sigmoid).init(KEY, (carry, carry), x),
        r"`gate_fn` must be sigmoid, whose derivative .*; got .*hard_sigmoid.* take flax's own "
        "LSTMCell",
    ),
    "activation": (
        lambda: linen.RNN(linen.SimpleCell(H, activation_fn=nn.relu)).init(KEY, xs),
        "`activation_fn` must be tanh, .*; got .*relu.* take flax's own SimpleCell",
    ),
    "no time": (
        lambda: linen.RNN(linen.LSTMCell(H)).init(KEY, xs[0, 0]),
        r"`inputs` must be \(\*batch, time, features\), an array; got \(3,\)",
    ),
    "no time, time major": (
        lambda: linen.RNN(linen.LSTMCell(H), time_major=True).init(KEY, [1.0]),
        r"`inputs` must be \(time, \*batch, features\), an array; got list",
    ),
    "a number": (
        lambda: linen.LSTMCell(H).init(KEY, (carry, carry), 1.0),
        r"`inputs` must be \(\*batch, features\), an array; got float",
    ),
    "one array for a carry": (
        lambda: linen.RNN(linen.LSTMCell(H)).init(KEY, xs, initial_carry=carry),
        r"`initial_carry` must be a pair \(c, h\), each \(2, 5\): .* cell; got \(2, 5\)",
    ),
    "a pair for one array": (
        lambda: linen.SimpleCell(H).init(KEY, (carry, carry), x),
        r"`carry` must be one array \(2, 5\): .*; got shapes \(2, 5\), \(2, 5\)",
    ),
    "a carry of another size": (
        lambda: linen.RNN(linen.LSTMCell(H)).init(KEY, xs, initial_carry=(carry[:1], carry)),
        r"`initial_carry` must be a pair .*; got shapes \(1, 5\), \(2, 5\)",
    ),
    "unroll": (
        lambda: linen.RNN(linen.LSTMCell(H), unroll=0).init(KEY, xs),
        "`unroll` must be an integer >= 1; got 0",
    ),
    "lengths for no one": (
        lambda: linen.RNN(linen.LSTMCell(H)).init(KEY, xs, seq_lengths=jnp.asarray([1, 2, 3])),
        r"`seq_lengths` must be integers \(2,\); got int64 \(3,\)",
    ),
    "broken lengths": (
        lambda: linen.RNN(linen.LSTMCell(H)).init(KEY, xs, seq_lengths=jnp.asarray([1.0, 2.0])),
        r"`seq_lengths` must be integers \(2,\); got float64 \(2,\)",
    ),
    "long lengths": (
        lambda: linen.RNN(linen.LSTMCell(H)).init(KEY, xs, seq_lengths=[3, 8]),
        r"`seq_lengths` must lie in \[0, T = 7\]; got 3 to 8",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_lengths_of_32_bits():
    """As most people run it. A warning would be an error."""
    with jax.enable_x64(False):
        rnn, xs = linen.RNN(linen.LSTMCell(H)), jnp.ones((B, T, D))
        for lengths in ([3, 6], jnp.asarray([3, 6], "uint8")):
            run = lambda lengths: rnn.init_with_output(KEY, xs, seq_lengths=lengths, reverse=True)
            assert jax.eval_shape(run, lengths)[0].shape == (B, T, H)


def test_sigmoid_and_tanh_by_any_of_their_names():
    options = {"gate_fn": jax.lax.logistic, "activation_fn": jax.lax.tanh}
    rnn, xs = linen.RNN(linen.LSTMCell(H, **options)), sequence()
    assert jax.eval_shape(rnn.init_with_output, KEY, xs)[0].shape == (B, T, H)


def test_there_is_no_forward_mode():
    """As the docstring says; flax's own classes have one."""
    rnn, xs = linen.RNN(linen.SimpleCell(H)), sequence()
    params = some_params("SimpleCell", "float32")
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda xs: rnn.apply(params, xs), (xs,), (xs,))
