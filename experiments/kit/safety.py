"""Numbers that are none: found within the update, where they do no harm, and told by step and leaf.

stop    the update is not made, and the run ends; its last checkpoint is a good one
skip    the update is not made, and the training goes on
clip    what is no number in the gradient is zero, and the rest of the update is made
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.kit.record import leaves
from jax_lstm.training.update import Step


class Guard(NamedTuple):
    """The optimiser's own state; how many updates were made; how many had a loss or a gradient that
    is no number; step and leaf of the first of them, from 1 and from 0 (-1: the loss)."""

    inner: optax.OptState
    steps: jax.Array
    bad: jax.Array
    first_step: jax.Array
    first_leaf: jax.Array


def guard(optimizer, policy):
    """The optimiser, which applies nothing that is no number."""
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params):
        numbers = (jnp.full((), n, jnp.int32) for n in (0, 0, 0, -1))
        return Guard(optimizer.init(params), *numbers)

    def update(grads, state, params=None, *, value, **extra):
        fine = jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(grads)])
        bad = ~(fine.all() & jnp.isfinite(value))
        leaf = jnp.where(fine.all(), -1, jnp.argmin(fine)).astype(jnp.int32)
        cleared = jax.tree.map(lambda g: jnp.where(jnp.isfinite(g), g, 0), grads)
        updates, inner = optimizer.update(cleared, state.inner, params, value=value, **extra)
        if policy != "clip":
            updates = jax.tree.map(lambda x: jnp.where(bad, 0, x), updates)
            inner = choose(bad, state.inner, inner)
        first = bad & (state.bad == 0)
        return updates, Guard(
            inner,
            state.steps + 1,
            state.bad + bad,
            jnp.where(first, state.steps + 1, state.first_step),
            jnp.where(first, leaf, state.first_leaf),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def choose(bad, old, new):
    return jax.tree.map(lambda old, new: jnp.where(bad, old, new), old, new)


def guard_carry(update):
    """The update; what it carries on is the old one where the new one has what is no number."""

    def guarded(params, opt_state, carry, *batch):
        step = update(params, opt_state, carry, *batch)
        carried = jax.tree.leaves(step.state)
        fine = [jnp.isfinite(x).all() for x in carried if jnp.issubdtype(x.dtype, jnp.inexact)]
        bad = ~jnp.all(jnp.stack(fine)) if fine else False
        return Step(*step[:2], choose(bad, carry, step.state) if fine else step.state, *step[3:])

    return guarded


def first_bad(opt_state, params):
    """ "the gradient of lstm.U", say: where the first number that is none was found; and its step.

    Of several trainings side by side, the first of them that has one.
    """
    guards = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, Guard))
    found = next(jax.device_get(x[1:]) for x in guards if isinstance(x, Guard))
    _, bad, steps, places = (x.reshape(-1) for x in map(jnp.asarray, found))
    which = int(jnp.argmax(bad > 0))
    if not bad[which]:
        return None, None
    leaf, step = int(places[which]), int(steps[which])
    names = list(leaves(params))
    return step, "the loss" if leaf < 0 else f"the gradient of {names[leaf]}"
