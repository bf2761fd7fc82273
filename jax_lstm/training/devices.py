"""The batch split over devices, where that pays: one program, the weights' cotangents summed once.

    dW = Σ over devices of dW from their examples          a fork of the weights into devices (F)

On a CPU the devices are threads of one process: `jax.config.update("jax_num_cpu_devices", 2)`,
before anything else. Each runs its examples by itself, and no product of a step waits for two.
"""

from collections.abc import Callable, Sequence
from typing import Any, Concatenate, Protocol, TypeAlias

import jax
from jax.sharding import PartitionSpec

from jax_lstm.cells.lstm import lstm
from jax_lstm.doors import check_function, refuse
from jax_lstm.engine.functions import P, P_contra, Result, Result_co, S, S_contra, X, X_contra
from jax_lstm.engine.made import Made
from jax_lstm.notation import ArrayOrList

LEAST_EXAMPLES = 8  # per device at least: fewer leave a product's rows too short
CACHE_BYTES = 2**20  # the largest weight at most: each core streams all of it in every step

Device: TypeAlias = Any  # jax.Device, which is no type to a checker


class SplitFunction(Protocol[P_contra, S_contra, X_contra, Result_co]):
    """What `over_devices` returns."""

    def __call__(
        self,
        params: P_contra,
        state: S_contra,
        xs: X_contra,
        *,
        lengths: ArrayOrList | None = None,
        mask: ArrayOrList | None = None,
        resets: ArrayOrList | None = None,
    ) -> Result_co: ...


def pays(params, B, devices):
    """The rule: whether B examples are better split over these devices.

    On a CPU: at least 8 examples for each device, and no weight larger than 1 MiB, a core's cache
    (in float32 U fits up to H = 256), see docs/speed.md. On other devices: always.
    """
    n = len(devices)
    if n < 2 or B % n:
        return False
    if devices[0].platform != "cpu":
        return True
    largest = max(p.size * p.dtype.itemsize for p in jax.tree.leaves(params))
    return B // n >= LEAST_EXAMPLES and largest <= CACHE_BYTES


def over_devices(
    sequence: Callable[Concatenate[P, S, X, ...], Result] = lstm,
    *,
    devices: Sequence[Device] | None = None,
) -> SplitFunction[P, S, X, Result]:
    """A whole-sequence function that splits its batch over devices where that pays, see `pays`.

    Args:
      sequence: `(params, state, xs, **options) -> (state, hs)`, of any cell, by hand or by JAX.
      devices: a list of them; all there are if not given.

    Returns:
      `split(params, state, xs, *, lengths=None, mask=None, resets=None) -> (state, hs)`: the same
      numbers and cotangents to rounding (dW, dU, db are added in another order). B is the first
      batch axis. To be called under `jax.jit`; other options by `functools.partial`.

    Raises:
      ValueError: a sequence that is no function, devices that are none; by `sequence`.

    Source: `jax.shard_map`; the psum of dW is the transpose of `notation.vary_together`.
    """
    check_function("sequence", sequence)
    given, devices = devices, jax.devices() if devices is None else devices
    if not isinstance(devices, tuple | list) or not devices:
        refuse("devices", "a list of devices, say jax.devices()[:2]", devices)
    for device in devices:
        if not hasattr(device, "platform"):
            refuse("devices", "a list of devices, say jax.devices()[:2]", device)

    def split(params, state, xs, *, lengths=None, mask=None, resets=None):
        flags = {"lengths": lengths, "mask": mask, "resets": resets}
        flags = {name: flag for name, flag in flags.items() if flag is not None}
        leaves = jax.tree.leaves(state)
        B = leaves[0].shape[0] if leaves and len(getattr(leaves[0], "shape", ())) > 1 else 1
        if not pays(params, B, devices):
            return sequence(params, state, xs, **flags)
        everywhere, rows, steps = PartitionSpec(), PartitionSpec("b"), PartitionSpec(None, "b")
        of_flags = {name: rows if name == "lengths" else steps for name in flags}
        automatic = (jax.sharding.AxisType.Auto,)
        run = jax.shard_map(
            lambda params, state, xs, flags: sequence(params, state, xs, **flags),
            mesh=jax.make_mesh((len(devices),), ("b",), automatic, devices=devices),
            in_specs=(everywhere, rows, steps, of_flags),
            out_specs=(rows, steps),
        )
        return run(params, state, xs, flags)

    return Made(split, over_devices, (sequence,), (("devices", given and tuple(given)),))
