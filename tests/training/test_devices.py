"""The batch over devices: the same numbers and cotangents, and only where the rule says so."""

import functools

import jax
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm.training.devices import over_devices, pays
from tests.tables import CELLS, assert_close, problem, value_and_cotangents

LENGTHS = np.asarray([0, 3, 7, 1, 2, 7, 5, 6] * 2)
OPTIONS = {
    "plain": {},
    "lengths": {"lengths": LENGTHS},
    "mask and resets": {
        "mask": np.arange(7)[:, None] != LENGTHS,
        "resets": np.arange(7)[:, None] == LENGTHS,
    },
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("cell", ["lstm", "elman"])
def test_split_over_two_devices_nothing_changes(cell, options):
    row = CELLS[cell]
    args = problem(row, (7, 16, 3, 5))
    run = over_devices(row.sequence, devices=jax.devices()[:2])
    assert "shard_map" in str(jax.make_jaxpr(run)(*args))
    got, want = (
        value_and_cotangents(functools.partial(f, **OPTIONS[options]), args)
        for f in (run, row.sequence)
    )
    assert_close(got, want)


def test_the_rule():
    small, large = (
        jax.eval_shape(lambda H=H: jl.init_lstm(jax.random.key(0), H, H)) for H in (256, 257)
    )
    cpus = jax.devices()
    rule = {  # B, devices, params -> pays
        (16, 2, small): True,
        (15, 2, small): False,  # does not divide
        (14, 2, small): False,  # seven each
        (16, 1, small): False,
        (64, 8, small): True,
        (16, 2, large): False,  # U is larger than a core's cache
    }
    for (B, n, params), wanted in rule.items():
        assert pays(params, B, cpus[:n]) == wanted, (B, n, params)


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
    "one device": ((), {"devices": "cpu"}, "`devices` must be a list of devices, .*; got 'cpu'"),
}


@pytest.mark.parametrize("name", BAD)
def test_doors(name):
    args, options, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        over_devices(*args, **options)
