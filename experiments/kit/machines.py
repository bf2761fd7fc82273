"""Many devices, many machines: data parallel, by jax.distributed and named shardings.

    dW = mean over devices of dW from their examples: one all-reduce for each update

Parameters and optimiser are whole on every device; what an update reads and carries is split over
the examples, and each process gives its own part to its own devices. Process 0 alone evaluates and
writes, from copies that are whole on each device. Checkpoints are whole, so that they are read on
any number of devices.
"""

import contextlib
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from experiments.kit import windows
from experiments.kit.config import BadInput
from experiments.kit.timing import cores
from jax_lstm.training.devices import pays

HEARTBEAT = 10  # seconds without a sign of life after which a process is taken for dead
BEFORE = "gives devices to JAX before it starts; in this process it has started with {}"


def start(config):
    """As many host devices, and the other processes, before JAX's backend starts.

    Raises:
      BadInput: what cannot be, and a coordinator that is out of reach.
    """
    ask_for_devices(config.devices or (2 if pays_on_two_threads(config) else 1))
    check_units(config)
    if config.process >= config.processes:
        raise BadInput("--process", f"must be < {config.processes}, the --processes")
    if config.processes > 1:
        if config.coordinator is None:
            raise BadInput(
                "--coordinator", "is needed for several processes: HOST:PORT of the first"
            )
        meet(config)
    if len(jax.local_devices()) < devices_of(config):
        raise BadInput("--devices", BEFORE.format(len(jax.local_devices())))


def devices_of(config):
    """--devices; where nobody says it, two threads of a CPU where that pays and JAX has them."""
    if config.devices is not None or not pays_on_two_threads(config):
        return config.devices or 1
    found = jax.local_devices()
    return 2 if len(found) > 1 and found[0].platform == "cpu" else 1


class Thread(NamedTuple):
    """A device of a CPU, before JAX has started with any."""

    platform: str = "cpu"


def pays_on_two_threads(config):
    """Whether the rule of `jl.over_devices` splits an update of these options over two threads."""
    sizes = config.sizes()
    if sizes is None or config.processes > 1 or config.split == "units" or cores() < 2:
        return False
    T, B, D, H = sizes
    weights = [jax.ShapeDtypeStruct((n, 4 * H), np.float32) for n in (D, H)]
    return pays(weights, T, B, 2 * [Thread()])


def check_units(config):
    """Complain about --split units where that cannot be."""
    if config.split != "units":
        return
    if config.gradient != "manual" or config.dh is not None or windows.detaches(config):
        raise BadInput(
            "--split", "units is the rule by hand: it needs --gradient manual, no --dh, no --detach"
        )
    if config.processes > 1:
        raise BadInput("--split", "units is for the devices of one process; it has --processes")
    if config.hidden % devices_of(config):
        raise BadInput(
            "--split", f"{config.hidden} units cannot be split over {config.devices} devices"
        )


def ask_for_devices(n):
    """At least as many host devices; it is for the caller to count them."""
    if n > max(jax.config.jax_num_cpu_devices, 1):
        with contextlib.suppress(RuntimeError):  # the backend runs already, with what it has
            jax.config.update("jax_num_cpu_devices", n)


def meet(config):
    """All processes know of each other; one that dies is missed within some seconds."""
    if jax.distributed.is_initialized():
        return
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from us
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            config.coordinator,
            config.processes,
            config.process,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=6 * HEARTBEAT,  # the first one still writes
        )
    except (RuntimeError, ValueError, OSError) as error:
        said = str(error).splitlines()[0]
        raise BadInput("--coordinator", f"{config.coordinator}: {said:.300}") from None


def is_first():
    """Whether this process writes, and speaks for all."""
    return jax.process_index() == 0


def mesh_of(config):
    """The mesh of --devices devices of every process that examples are split over; None: each
    example is seen by all there are."""
    if config.split == "units":
        return None
    devices, of_process = [], {}
    for device in jax.devices():
        of_process.setdefault(device.process_index, []).append(device)
    for own in of_process.values():
        devices += own[: devices_of(config)]
    if len(devices) == 1:
        return None
    return jax.make_mesh((len(devices),), ("b",), (AxisType.Auto,), devices=devices)


def at(mesh, axis=None, before=0):
    """Split over the examples along an axis; None: whole on every device."""
    spec = () if axis is None else (None,) * (before + axis) + ("b",)
    return NamedSharding(mesh, PartitionSpec(*spec))


def check_split(mesh, batch, examples):
    """Complain about examples that are not so many for every device."""
    for x, axis in zip(batch, examples, strict=True):
        if mesh is not None and axis is not None and x.shape[axis] % mesh.size:
            raise BadInput(
                "--devices", f"{x.shape[axis]} examples cannot be split over {mesh.size} devices"
            )


def over(mesh, loss, examples):
    """The loss, a mean over examples, with the examples of each device on that device.

    Args:
      mesh: of `mesh_of`; None: the loss as it is.
      loss: `loss(params, carry, *batch) -> (number, carry)`; carry has examples along axis 0.
      examples: the axis of the examples in each array of the batch, or None.
    """
    if mesh is None:
        return loss

    def mean(params, carry, *batch):
        value, carry = loss(params, carry, *batch)
        return jax.lax.pmean(value, "b"), carry

    specs = tuple(at(mesh, axis).spec for axis in examples)
    rows, whole = PartitionSpec("b"), PartitionSpec()
    return jax.shard_map(mean, mesh=mesh, in_specs=(whole, rows, *specs), out_specs=(whole, rows))


def put(mesh, tree, axis=None, before=0):
    """Arrays onto the devices; each process gives those of its own."""
    if mesh is None:
        return tree

    def place(x):
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, at(mesh, axis, before), lambda i: x[i])

    return jax.tree.map(place, tree)


def put_training(mesh, training):
    params, opt_state, carry = training
    return put(mesh, params), put(mesh, opt_state), put(mesh, carry, 0)


def put_batches(mesh, batches, examples):
    """K batches along axis 0."""
    both = zip(batches, examples, strict=True)
    return tuple(put(mesh, x, axis, 0 if axis is None else 1) for x, axis in both)


@functools.cache
def copier(mesh):
    """A copy of a tree, whole, on one device of this process."""
    copy = lambda tree: jax.tree.map(jnp.copy, tree)
    if mesh is None:
        return jax.jit(copy)
    gather = jax.jit(copy, out_shardings=at(mesh))
    return lambda tree: jax.tree.map(lambda x: x.addressable_data(0), gather(tree))


@functools.cache
def largest(mesh):
    return jax.jit(jnp.max, out_shardings=at(mesh))


def agree(mesh, number):
    """The largest of every process's numbers, as an array that is read later on."""
    each = jax.make_array_from_callback(
        (mesh.size,), at(mesh, 0), lambda i: np.full(mesh.size, number, np.int32)[i]
    )
    return largest(mesh)(each)


def check_same(name, number):
    """Complain where processes do not have the same number, say of the step they go on from."""
    from jax.experimental import multihost_utils

    if jax.process_count() > 1:
        found = np.asarray(multihost_utils.process_allgather(np.int64(number).astype(np.int32)))
        if (found != number).any():
            raise BadInput("--resume", f"{name} differs between processes: {found.tolist()}")


def leave_together():
    """No process goes while another one still computes: what they compute together would break."""
    from jax.experimental import multihost_utils

    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("the end of a training")
