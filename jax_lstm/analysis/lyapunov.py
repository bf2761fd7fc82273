"""LYAPUNOV EXPONENTS: how fast nearby states of a run part, by QR of its Jacobians.

    λ_k = lim 1/T Σ_t log |R_t|_kk,   J_t Q_{t-1} = Q_t R_t

Sources: Benettin et al. (1980) and Eckmann & Ruelle (1985) for the method; Vogt et al. (2022), "On
Lyapunov exponents for RNNs".
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_lstm.analysis.opened import Linearised, check_run
from jax_lstm.doors import check_size
from jax_lstm.engine.segments import where, widen
from jax_lstm.engine.tangents import delta_of, step_jvp


def lyapunov_exponents(run: Linearised, number: int | None = None) -> jax.Array:
    """How fast nearby states part along a run, per step: the growth of volumes in tangent space.

        J_t Q_{t-1} = Q_t R_t,    λ_k = 1/T Σ_t log |R_t|_kk

    Positive: nearby states part, as in chaos; negative: they come together, and so does what the
    loss feels of early steps vanish. J_t v is the cell's own tangent.

    Args:
      run: Linearised, say of `linearised_lstm(params, state, xs)`, without resets: a reset ends
        every perturbation. Masked steps do not count.
      number: of exponents, at most as many as numbers in an example's state; None: all.

    Returns:
      exponents: (..., number), natural logarithms per step, the largest first; -inf for a direction
      that a step forgets. Wide.

    Raises:
      ValueError: a run with resets, or without steps; a number out of range.

    Source: Benettin et al. (1980); Eckmann & Ruelle (1985); Vogt et al. (2022), "On Lyapunov
    exponents for RNNs".
    """
    check_run(run)
    if run.steps.resets is not None:
        raise ValueError("`run` must be without resets: a reset ends every perturbation")
    if not jax.tree.leaves(run.seen)[0].shape[0]:
        raise ValueError("`run` must have a step; T is 0")
    batch = run.state[0].ndim - 1
    size = sum(int(np.prod(x.shape[batch:])) for x in jax.tree.leaves(run.state))
    number = size if number is None else check_size("number", number, 1)
    if number > size:
        raise ValueError(f"`number` must be at most {size}, the numbers of a state; got {number}")
    state = widen(run.state)
    seen, slopes = jax.tree.map(lambda x: x[0], (run.seen, run.slopes))
    delta = delta_of(run.cell, run.w, seen, slopes)
    still = jax.tree.map(lambda d: jnp.zeros(d.shape, d.dtype), delta)

    def columns(tree):
        """A tree (number, ..., fields) as matrices (..., size, number)."""
        parts = [x.reshape((*x.shape[: batch + 1], -1)) for x in jax.tree.leaves(tree)]
        return jnp.moveaxis(jnp.concatenate(parts, -1), 0, -1)

    def tree_of(matrix):
        parts, start = [], 0
        rows = jnp.moveaxis(matrix, -1, 0)
        for x in jax.tree.leaves(state):
            stop = start + int(np.prod(x.shape[batch:]))
            parts.append(rows[..., start:stop].reshape((rows.shape[0], *x.shape)))
            start = stop
        return jax.tree.unflatten(jax.tree.structure(state), parts)

    def body(carry, now):
        Q, total, steps = carry
        seen, slopes, mask = now
        forward = lambda v: widen(step_jvp(run.cell, run.w, seen, slopes, v, still))
        new, R = jnp.linalg.qr(columns(jax.vmap(forward)(tree_of(Q))))
        grown = jnp.log(jnp.abs(jnp.diagonal(R, axis1=-2, axis2=-1)))
        valid = jnp.ones(total.shape[:-1], bool) if mask is None else mask
        Q, total = where(valid, (new, total + grown), (Q, total))
        return (Q, total, steps + valid.astype(steps.dtype)), None

    first = jnp.eye(size, number, dtype=jax.tree.leaves(state)[0].dtype)
    shape = run.state[0].shape[:batch]
    carry = (
        jnp.broadcast_to(first, (*shape, size, number)),
        jnp.zeros((*shape, number), first.dtype),
        jnp.zeros(shape, int),
    )
    now = run.seen, run.slopes, run.steps.mask
    (_, total, steps), _ = lax.scan(body, carry, now, reverse=run.reverse)
    return -jnp.sort(-total / jnp.maximum(steps, 1)[..., None].astype(total.dtype))
