"""Without --devices an update is split over two threads where `jl.over_devices` would split it."""

import dataclasses

import jax
import pytest

from experiments.char_lm.run import Config
from experiments.copy_memory.run import Config as OfCopyMemory
from experiments.kit import machines
from experiments.search_space.run import Config as OfSearchSpace

SPLITS_ARRAYS = True

LARGE = Config()  # T, B, D, H = 64, 32, 64, 256: 671 million multiplications forward


@pytest.mark.parametrize(
    ("config", "devices"),
    [
        (LARGE, 2),
        (dataclasses.replace(LARGE, streams=31), 1),  # not so many for each
        (dataclasses.replace(LARGE, streams=2), 1),  # one for each
        (dataclasses.replace(LARGE, hidden=257), 1),  # U is larger than 1 MiB
        (dataclasses.replace(LARGE, window=9), 1),  # 94 million
        (dataclasses.replace(LARGE, window=10), 2),  # 105 million
        (dataclasses.replace(LARGE, devices=1), 1),
        (dataclasses.replace(LARGE, devices=4), 4),
        (dataclasses.replace(LARGE, split="units"), 1),
        (dataclasses.replace(LARGE, gradient="auto"), 1),  # measured by hand alone
        (dataclasses.replace(LARGE, drop_outputs=0.5), 1),
        (Config.tiny(), 1),
        (OfCopyMemory(), 1),  # nobody has measured it
        (OfSearchSpace(), 1),
    ],
)
def test_how_many(config, devices, monkeypatch):
    monkeypatch.setattr(machines, "cores", lambda: 2)
    machines.start(config)
    assert machines.devices_of(config) == devices
    mesh = machines.mesh_of(config)
    assert (mesh.size if mesh else 1) == (1 if config.split == "units" else devices)


def test_one_core_has_one_thread(monkeypatch):
    monkeypatch.setattr(machines, "cores", lambda: 1)
    assert machines.devices_of(LARGE) == 1
    assert machines.devices_of(dataclasses.replace(LARGE, devices=2)) == 2


def test_a_jax_that_has_started_with_one_device_keeps_it(monkeypatch):
    one = jax.devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: one)
    machines.start(LARGE)
    assert machines.devices_of(LARGE) == 1
    with pytest.raises(machines.BadInput, match="has started with 1"):
        machines.start(dataclasses.replace(LARGE, devices=2))


def test_several_processes_have_one_each():
    assert machines.devices_of(dataclasses.replace(LARGE, processes=2)) == 1
