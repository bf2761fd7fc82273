"""Whose gradient: of the LSTM over time, and of the language model's four stages."""

import jax
import jax.numpy as jnp

from experiments.kit.clipping import limited
from experiments.kit.machines import devices_of
from jax_lstm import lstm, lstm_autodiff, lstm_cell, over_units
from jax_lstm.training.update import AUTODIFF, BY_HAND


def one_step_at_a_time(
    params, state, xs, *, lengths=None, resets=None, reverse=False, residuals=None
):
    """A sequence of steps by hand: JAX's scan, our step. `residuals` are JAX's own."""

    def step(state, at):
        t, x = at
        if resets is not None:
            state = jax.tree.map(lambda old: jnp.where(resets[t][:, None], 0, old), state)
        if lengths is None:
            return lstm_cell(params, state, x)
        inside = (t < lengths)[:, None]
        new, h = lstm_cell(params, state, jnp.where(inside, x, 0))
        state = jax.tree.map(lambda new, old: jnp.where(inside, new, old), new, state)
        return state, jnp.where(inside, h, 0)

    return jax.lax.scan(step, state, (jnp.arange(len(xs)), xs), reverse=reverse)


SEQUENCES = {"manual": lstm, "step": one_step_at_a_time, "auto": lstm_autodiff}
ROUTES = {
    "manual": BY_HAND,
    "step": BY_HAND._replace(sequence=one_step_at_a_time),
    "auto": AUTODIFF,
}


def sequence_of(config):
    """The LSTM over a whole sequence as --split, --dh or --detach want it; None: they do not."""
    if config.split == "units" and devices_of(config) > 1:
        return over_units(jax.local_devices()[: devices_of(config)])
    return limited(config)
