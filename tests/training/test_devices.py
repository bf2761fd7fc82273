"""The batch over devices: the same numbers and cotangents, and only where the rule says so."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm.training.devices import over_devices, pays
from tests.tables import CELLS, assert_close, problem, value_and_cotangents

SPLITS_ARRAYS = True

LENGTHS = np.asarray([0, 3, 7, 1, 2, 7, 5, 6] * 2)
OPTIONS = {
    "plain": {},
    "reverse, lengths as a list": {"reverse": True, "lengths": LENGTHS.tolist(), "residuals": 2},
    "lengths": {"lengths": LENGTHS},
    "mask and resets": {
        "mask": np.arange(7)[:, None] != LENGTHS,
        "resets": np.arange(7)[:, None] == LENGTHS,
    },
}


@pytest.mark.half
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("cell", ["lstm", "elman"])
def test_split_over_two_devices_nothing_changes(cell, options):
    row = CELLS[cell]
    args = problem(row, (7, 16, 3, 5))
    run = over_devices(row.sequence, devices=jax.devices()[:2], always=True)
    assert "shard_map" in str(jax.make_jaxpr(run)(*args))
    got, want = (
        value_and_cotangents(functools.partial(f, **OPTIONS[options]), args)
        for f in (run, row.sequence)
    )
    assert_close(got, want)


def test_the_rule():
    tiny, small, large = (
        jax.eval_shape(lambda H=H: jl.init_lstm(jax.random.key(0), H, H)) for H in (32, 256, 257)
    )
    cpus = jax.devices()
    rule = {  # T, B, devices, params -> pays
        (256, 16, 2, small): True,
        (256, 15, 2, small): False,  # does not divide
        (256, 4, 2, small): True,
        (256, 2, 2, small): False,  # one each
        (256, 16, 1, small): False,
        (256, 16, 8, small): True,
        (256, 16, 2, large): False,  # U is larger than a core's cache
        (128, 8, 2, tiny): False,  # done before the devices have begun
        (4096, 8, 2, tiny): True,
        (*jax.export.symbolic_shape("T, 16"), 2, small): False,
        (*jax.export.symbolic_shape("256, B"), 2, small): False,
    }
    for (T, B, n, params), wanted in rule.items():
        assert pays(params, T, B, cpus[:n]) == wanted, (T, B, n, params)


def test_where_it_does_not_pay_nothing_is_split():
    row = CELLS["lstm"]
    run = over_devices(devices=jax.devices()[:2])
    for batch in ((), (2,), (3, 2)):
        args = problem(row, batch=batch)
        assert "shard_map" not in str(jax.make_jaxpr(run)(*args))
        assert_close(jax.jit(run)(*args), jax.jit(jl.lstm)(*args))


BAD = {
    "no sequence": ((None,), {}, "`sequence` must be a function; got None"),
    "a cell": ((jl.LSTM,), {}, "`sequence` must be a function"),
    "no devices": ((), {"devices": []}, r"`devices` must be a list of devices, .*; got \[\]"),
    "numbers": ((), {"devices": [0, 1]}, "`devices` must be a list of devices, .*; got 0"),
    "a word": ((), {"always": "yes"}, "`always` must be True or False; got 'yes'"),
    "one device": ((), {"devices": "cpu"}, "`devices` must be a list of devices, .*; got 'cpu'"),
}


@pytest.mark.parametrize("name", BAD)
def test_doors(name):
    args, options, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        over_devices(*args, **options)


@pytest.mark.parametrize("always", [True, False], ids=["split", "whole"])
def test_forward_mode_is_of_the_twin(always):
    params, state, xs = problem(CELLS["lstm"], (2, 4, 2, 3))
    options = {"devices": jax.devices()[:2], "always": always}
    run = over_devices(**options)
    with pytest.raises(
        TypeError, match=r"over_devices\(\) .* backward only; .* twin, say lstm_auto"
    ):
        jax.jvp(lambda xs: run(params, state, xs)[1], (xs,), (xs,))
    run = over_devices(jl.lstm_autodiff, **options)
    got, want = (
        jax.jvp(lambda xs, f=f: f(params, state, xs)[1], (xs,), (xs,))
        for f in (run, jl.lstm_autodiff)
    )
    assert_close(got, want)


def test_without_jit():
    """Value and gradient, also of a function that JAX has never seen."""
    args = problem(CELLS["lstm"], (7, 16, 3, 5))
    resets = np.arange(7)[:, None] == LENGTHS
    own = lambda *args, **options: jl.lstm(*args, **options)
    loss = lambda f: lambda *args: jnp.sum(f(*args, resets=resets, reset_state=args[1])[1])
    want = jax.jit(jax.value_and_grad(loss(jl.lstm), (0, 1, 2)))(*args)
    for sequence in (jl.lstm, own):
        run = over_devices(sequence, devices=jax.devices()[:2], always=True)
        assert_close(jax.value_and_grad(loss(run), (0, 1, 2))(*args), want)


@pytest.mark.parametrize("own", [(0, 1), (1, 0)], ids=str)
def test_masks_that_examples_share(own):
    """Those of zoneout and of recurrent dropout, each with an axis of size 1 for the batch."""
    sequence, _ = jl.make_rnn(jl.zoneout(jl.recurrent_dropout(jl.LSTM)))
    params, state, xs = problem(CELLS["lstm"], (7, 16, 3, 5))
    every = np.arange(7 * 16 * 5).reshape(7, 16, 5) % 3 == 0
    masks = tuple(every[:, : 16 if n else 1].astype(xs.dtype) for n in own)
    dropped = 2.0 * every[0, : 16 if own[0] else 1].astype(xs.dtype)
    run = over_devices(sequence, devices=jax.devices()[:2], always=True)
    got, want = (
        value_and_cotangents(
            lambda params, state, xs, f=f: f(params, state, (xs, masks), consts=dropped),
            (params, state, xs),
        )
        for f in (run, sequence)
    )
    assert_close(got, want)


def test_complaints_are_told_in_the_sizes_that_were_given():
    params, state, xs = problem(CELLS["lstm"], (7, 16, 3, 5))
    run = over_devices(devices=jax.devices()[:2], always=True)
    wrong = {
        "`state.h` must be (12, 5): the batch axes of xs (7, 12, 3)": ((state, xs[:, :12]), {}),
        "`lengths` must be integers (16,)": ((state, xs), {"lengths": [1] * 8}),
        "`lengths` must lie in [0, T = 7]; got 0 to 8": ((state, xs), {"lengths": [0, 8] * 8}),
        "`mask` must be boolean (T, ...) = (7, 16)": ((state, xs), {"mask": [[True]] * 7}),
        "`reverse` must be True or False": ((state, xs), {"reverse": "no"}),
    }
    for message, (args, options) in wrong.items():
        with pytest.raises(ValueError, match=r"^") as error:
            run(params, *args, **options)
        assert message in str(error.value)
