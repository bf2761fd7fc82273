"""The batch split over devices, where that pays: one program, the weights' cotangents summed once.

    dW = Σ over devices of dW from their examples          a fork of the weights into devices (F)

On a CPU the devices are threads of one process: `jax.config.update("jax_num_cpu_devices", 2)`,
before anything else. Each runs its examples by itself, and no product of a step waits for two.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, Protocol, TypeAlias

import jax
from jax.export import is_symbolic_dim
from jax.sharding import PartitionSpec

from jax_lstm.cells.lstm import lstm
from jax_lstm.doors import (
    as_array,
    check_flag,
    check_function,
    forward_mode_of_the_twin,
    refuse,
)
from jax_lstm.engine.doors import check_options
from jax_lstm.engine.functions import (
    P,
    P_contra,
    Residuals,
    Result,
    Result_co,
    S,
    S_contra,
    Unroll,
    X,
    X_contra,
)
from jax_lstm.engine.made import Made
from jax_lstm.engine.programs import with_sequence
from jax_lstm.notation import ArrayOrList, Tree

LEAST_EXAMPLES = 2  # per device at least
LEAST_PRODUCTS = 100e6  # multiplications forward: below, the hand-over of a call costs more
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
        consts: Tree = None,
        lengths: ArrayOrList | None = None,
        mask: ArrayOrList | None = None,
        resets: ArrayOrList | None = None,
        reset_state: S_contra | None = None,
        reverse: bool = False,
        residuals: Residuals = "full",
        unroll: Unroll = 1,
    ) -> Result_co: ...


def splits(B, devices):
    """Whether each of several devices gets as many of B examples; of a symbolic B nobody knows."""
    return len(devices) > 1 and not is_symbolic_dim(B) and B % len(devices) == 0


def pays(params, T, B, devices):
    """The rule: whether T steps of B examples are better split over these devices.

    On a CPU: at least 2 examples for each device, at least 100 million multiplications forward
    (T times B times the numbers in the weights), and no weight larger than 1 MiB, a core's cache
    (in float32 U fits up to H = 256), see docs/speed.md. On other devices: always. Symbolic sizes,
    of `jax.export`, are not split.
    """
    if not splits(B, devices) or is_symbolic_dim(T):
        return False
    if devices[0].platform != "cpu":
        return True
    weights = [p for p in jax.tree.leaves(params) if p.ndim > 1]
    largest = max(p.size * p.dtype.itemsize for p in jax.tree.leaves(params))
    products = T * B * sum(p.size for p in weights)
    return (
        B // len(devices) >= LEAST_EXAMPLES
        and products >= LEAST_PRODUCTS
        and largest <= CACHE_BYTES
    )


def check_devices(devices):
    """(what was given, as a tuple; the devices that are meant), None being all there are."""
    given, devices = devices, jax.devices() if devices is None else devices
    if not isinstance(devices, tuple | list) or not devices:
        refuse("devices", "a list of devices, say jax.devices()[:2]", devices)
    for device in devices:
        if not hasattr(device, "platform"):
            refuse("devices", "a list of devices, say jax.devices()[:2]", device)
    if len(set(devices)) < len(devices):
        refuse("devices", "a list of different devices", devices)
    return given and tuple(given), tuple(devices)


def over_devices(
    sequence: Callable[Concatenate[P, S, X, ...], Result] = lstm,
    *,
    devices: Sequence[Device] | None = None,
    always: bool = False,
) -> SplitFunction[P, S, X, Result]:
    """A whole-sequence function that splits its batch over devices where that pays, see `pays`.

    Args:
      sequence: `(params, state, xs, **options) -> (state, hs)`, of any cell, by hand or by JAX.
      devices: a list of them; all there are if not given.
      always: split wherever B is a multiple of their number, whether or not that pays.

    Returns:
      `split(params, state, xs, **options) -> (state, hs)`, options as of `jax_lstm.lstm`: the same
      numbers and cotangents to rounding (dW, dU, db are added in another order). B is the first
      batch axis; what has an axis of size 1 there, a mask of zoneout say, is whole on every device,
      and so are consts whose first axis is not B. Options that `sequence` alone knows: by
      `functools.partial`.

    Raises:
      ValueError: a sequence that is no function, devices that are none, `always` that is no bool;
        by `sequence`, in the sizes that were given.
      TypeError: for `jax.jvp` where `sequence` is by hand: its rule has no forward mode.

    Source: `jax.shard_map`; the psum of dW is the transpose of `sharding.vary_together`.
    """
    check_function("sequence", sequence)
    check_flag("always", always)
    listed, devices = check_devices(devices)

    def split(
        params,
        state,
        xs,
        *,
        consts=None,
        lengths=None,
        mask=None,
        resets=None,
        reset_state=None,
        reverse=False,
        residuals: Residuals = "full",
        unroll: Unroll = 1,
    ):
        leaves = jax.tree.leaves(state)
        B = leaves[0].shape[0] if leaves and len(getattr(leaves[0], "shape", ())) > 1 else 1
        check_options(residuals, unroll, reverse)
        fixed = {"reverse": reverse, "residuals": residuals, "unroll": unroll}
        fixed = {k: v for k, v in fixed.items() if v != USUAL[k]}
        flags = {"lengths": lengths, "mask": mask, "resets": resets}
        rows = {"lengths": 0, "mask": 1, "resets": 1, "reset_state": 0, "consts": 0}
        given = flags | {"reset_state": reset_state, "consts": consts}
        given = {k: v for k, v in given.items() if v is not None}
        whole = functools.partial(sequence, **fixed)
        T = next((x.shape[0] for x in jax.tree.leaves(xs) if len(getattr(x, "shape", ()))), 0)
        if not (splits(B, devices) if always else pays(params, T, B, devices)):
            with forward_mode_of_the_twin("over_devices", TWIN):
                return whole(params, state, xs, **given)
        jax.eval_shape(lambda *args: whole(*args, **given), params, state, xs)  # its complaints
        for name in flags.keys() & given.keys():
            given[name] = as_array(name, given[name], None, "an array")
        axes = tuple((name, rows[name]) for name in given)
        with forward_mode_of_the_twin("over_devices", TWIN):
            return with_sequence(over_rows, (devices, B, axes), whole, params, state, xs, given)

    return Made(split, over_devices, (sequence,), (("devices", listed), ("always", always)))


TWIN = "over_devices of the sequence's twin, say lstm_autodiff"
USUAL = {"reverse": False, "residuals": "full", "unroll": 1}


def over_rows(devices, B, axes, sequence, params, state, xs, given):
    """The sequence on each device's examples; `axes`: which axis of an option they are."""

    def places(tree, axis):
        def place(x):
            own = x.ndim > axis and x.shape[axis] == B
            return PartitionSpec(*[None] * axis, "b") if own else PartitionSpec()

        return jax.tree.map(place, tree)

    automatic = (jax.sharding.AxisType.Auto,)
    of_given = {name: places(given[name], axis) for name, axis in axes}
    run = jax.shard_map(
        lambda params, state, xs, given: sequence(params, state, xs, **given),
        mesh=jax.make_mesh((len(devices),), ("b",), automatic, devices=devices),
        in_specs=(PartitionSpec(), places(state, 0), places(xs, 1), of_given),
        out_specs=(PartitionSpec("b"), PartitionSpec(None, "b")),
    )
    return run(params, state, xs, given)
