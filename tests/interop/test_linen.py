"""flax.linen's cells and RNN, and ours in their place."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

pytest.importorskip("flax", reason="flax is the peer of this test: install jax_lstm[flax]")
import flax.linen as nn
import flax.serialization

from jax_lstm.interop import flax_loop, linen
from tests.interop.flax_cases import (
    CASES,
    CELLS,
    MUTANTS,
    OVER_STEPS,
    STEPS,
    TOLERANCE,
    B,
    D,
    H,
    assert_same_numbers,
    bits,
    call_options,
    results,
    sequence,
)
from tests.interop.linen_cases import KEY, both, layer, quick_jit, some_params
from tests.tables import assert_close, assert_same, relaxed

WAYS = {"RNN": linen.RNN, "nn.RNN": nn.RNN}


def apply(case, rnn):
    def run(params, carry, xs):
        return rnn.apply(params, xs, initial_carry=carry, **call_options(case))

    return results(case, run, some_params(case.name, case.dtype))


@functools.cache
def by_flax(key):
    return apply(CASES[key], layer(CASES[key], nn.RNN, nn))


@pytest.mark.half
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


@pytest.mark.half
@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
        with relaxed("optax"):
            return run((params, adam.init(params)))

    want = losses(Model(nn.RNN(nn.OptimizedLSTMCell(H))))
    assert want[-1] < want[0] / 2
    for RNN in WAYS.values():
        got = losses(Model(RNN(linen.OptimizedLSTMCell(H))))
        # the bar that was asked for: the same losses to 1e-5; float32
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
