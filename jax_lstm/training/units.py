"""The hidden units split over devices: each keeps its columns of W, U and b, and only h travels.

    h_{t-1} = all_gather(h_{t-1} of each device's units)                 before (1), once a step
    dh_{t-1} = reduce_scatter(da_t U_kᵀ of each device's columns U_k)    (1'x), once a step
    dx = Σ over devices of da W_kᵀ                                       (1'x), once at the end

Where U does not fit into one device's cache, or memory, each device streams 1/n of it in every
step, and makes its part of dW, dU and db alone. Each block of a gate is split, so that the gates of
a unit stand on one device, and (2), (3), (4) need no other.
"""

from collections.abc import Sequence

import jax
from jax import lax
from jax.sharding import PartitionSpec

from jax_lstm.cells.lstm import LSTM, LSTMParams, LSTMState
from jax_lstm.engine.functions import SequenceFunction
from jax_lstm.engine.made import partial
from jax_lstm.engine.routes import bind, by_hand, run_cell
from jax_lstm.notation import GATES
from jax_lstm.sharding import vary_together
from jax_lstm.training.devices import Device, check_devices

AXIS = "units"


def gather(h):
    """h of all units, of those of each device."""
    return lax.all_gather(h, AXIS, axis=h.ndim - 1, tiled=True)


def gather_bwd(dh):
    """The twin of `gather`: every device used all of h, and each gets the sum for its units."""
    return lax.psum_scatter(dh, AXIS, scatter_dimension=dh.ndim - 1, tiled=True)


def step(w, prev, z):
    """(1) wants all of h_{t-1}; the state that is handed on is of this device's units."""
    return LSTM.step(w, prev._replace(h=gather(prev.h)), z)


def step_bwd(w, prev, slopes, dstate):
    dprev, da = LSTM.step_bwd(w, prev, slopes, dstate)
    return dprev._replace(h=gather_bwd(dprev.h)), da


def weights_bwd(w, xs, prevs, saved, das):
    """dx of this device's units; `vary_together` sums them."""
    return LSTM.weights_bwd(w, xs, prevs._replace(h=gather(prevs.h)), saved, das)


UNITS = LSTM._replace(step=step, step_bwd=step_bwd, weights_bwd=weights_bwd)


def over_units(
    devices: Sequence[Device] | None = None,
) -> SequenceFunction[LSTMParams, LSTMState]:
    """The LSTM over a whole sequence with its hidden units split over devices, weights at rest.

    For large H: during the loops each device holds and reads 1/n of W, U and b. Per step one
    all-gather of h, B H numbers, goes forward and one reduce-scatter of as many comes back; small
    networks are slower so. `over_devices` splits the batch instead.

    Args:
      devices: a list of them; all there are if not given.

    Returns:
      `split(params, state, xs, **options) -> (state, hs)`, arguments, options and cotangents as of
      `jax_lstm.lstm`, equal to it to rounding.

    Raises:
      ValueError: devices that are none; H that is no multiple of their number; what
        `jax_lstm.lstm` refuses.

    Source: `jax.shard_map`; the twin of an all-gather is a reduce-scatter.
    """
    listed, devices = check_devices(devices)

    title = "The LSTM over a whole sequence, its hidden units over devices."
    made = (over_units, (listed,), None)
    return bind(run_cell, (LSTM, partial(on_units, devices)), "lstm_over_units", title, made)


def on_units(devices, plan, params, consts, fresh, state, steps):
    """The run, each device with its units of every gate: a route of `run_cell`."""
    H = params.U.shape[0]
    if H % len(devices):
        raise ValueError(
            f"`params`: H = {H} units cannot be split over {len(devices)} devices; H must be a "
            "multiple of their number"
        )
    automatic = (jax.sharding.AxisType.Auto,)
    units = lambda x: PartitionSpec(*[None] * (x.ndim - 1), AXIS)
    gates = len(GATES)

    def local(params, fresh, state, steps):
        params = jax.tree.map(lambda x: x.reshape((*x.shape[:-2], -1)), params)
        args = vary_together((params, None, fresh, state, steps))
        return by_hand(plan._replace(cell=UNITS), *args)

    apart = jax.tree.map(lambda x: x.reshape((*x.shape[:-1], gates, -1)), params)
    args = apart, fresh, state, steps
    specs = *(jax.tree.map(units, arg) for arg in args[:3]), PartitionSpec()
    run = jax.shard_map(
        local,
        mesh=jax.make_mesh((len(devices),), (AXIS,), automatic, devices=devices),
        in_specs=specs,
        out_specs=(specs[2], units(jax.tree.leaves(steps.xs)[0])),
    )
    return run(*args)
