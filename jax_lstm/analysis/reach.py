"""HOW FAR IT REACHES, AT MOST: what a cotangent of a state can still say of the parameters.

A group is `stride` steps in a row, s-m+1 ... s. Of a cotangent λ of the state after them

    back through the group    λ' = J_gᵀ λ       J_g = ∂state_s / ∂state_{s-m}
    what its steps say        P_gᵀ λ            P_g = ∂state_s / ∂params at fixed state_{s-m}

are linear in λ, so ‖λ'‖ <= ‖J_g‖ ‖λ‖ and ‖P_gᵀ λ‖ <= ‖P_g‖ ‖λ‖, in Euclidean norms; ‖J‖ and ‖P‖ are
largest singular values. Over groups g = 1 ... n, the last of them first, that is

    ‖Σ_g P_gᵀ J_{g+1}ᵀ ... J_nᵀ λ‖  <=  Σ_g ‖P_g‖ ‖J_{g+1}‖ ... ‖J_n‖ ‖λ‖

The longer the groups, the nearer: ‖A B‖ <= ‖A‖ ‖B‖. No norm is estimated from below: J_g is formed,
S rows going back at once by the cell's own `step_bwd` (S numbers make a state), and ‖P_g‖² is the
largest eigenvalue of P_g P_gᵀ, (S, S). Sources: Bengio, Simard & Frasconi (1994) and Pascanu,
Mikolov & Bengio (2013) for products of norms of Jacobians.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_lstm.engine.bptt import through_prepare
from jax_lstm.engine.loops import every_step, step_back
from jax_lstm.engine.segments import widen


def reach(cell, params, w, opened, stride):
    """(‖J_g‖, ‖P_g‖) of each group of `stride` steps and each example, (T / stride, B), wide.

    opened: `Opened` (engine/loops.py) of T steps, a multiple of stride, with one axis of examples.
    """
    n = jax.tree.leaves(opened.seen)[0].shape[0] // stride
    groups = jax.tree.map(lambda x: x.reshape((n, stride, *x.shape[1:])), opened)
    return lax.map(lambda group: of_group(cell, params, w, group), groups)


def of_group(cell, params, w, opened):
    """(‖J‖, ‖P‖) of the steps of one group, (B,) each."""

    def body(rows, now):
        back = lambda d: step_back(cell, w, now, d)[:2]
        return jax.vmap(back)(rows)

    rows = unit_states(jax.tree.map(lambda x: x[0], widen(opened.seen)))
    rows, deltas = lax.scan(body, rows, every_step(opened), reverse=True)

    def into_params(now):
        """P Pᵀ of one example, deltas (m, S, ...)."""
        steps, deltas = now

        def row(delta):
            return through_prepare(cell, params, cell.weights_bwd(w, *steps, delta)[0])

        P = flat(jax.vmap(row, 1)(deltas), 1)
        return P @ P.T

    steps = opened.steps.xs, opened.seen, opened.saved
    per_example = lambda tree, axis: jax.tree.map(lambda x: jnp.moveaxis(x, axis, 0), tree)
    gram = lax.map(into_params, (per_example(steps, 1), per_example(deltas, 2)))
    J = flat(jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), rows), 2)
    most = jnp.linalg.eigvalsh(gram)[..., -1]
    return jnp.linalg.svd(J, compute_uv=False)[..., 0], jnp.sqrt(jnp.maximum(most, 0))


def unit_states(state):
    """S cotangents of a state (B, ...), (S, B, ...): the unit vectors, field after field."""
    leaves, tree = jax.tree.flatten(state)
    sizes = [int(np.prod(x.shape[1:])) for x in leaves]
    eye = jnp.eye(sum(sizes), dtype=leaves[0].dtype)
    parts = jnp.split(eye, np.cumsum(sizes)[:-1], axis=1)
    rows = [
        jnp.broadcast_to(part.reshape((-1, 1, *x.shape[1:])), (len(eye), *x.shape))
        for part, x in zip(parts, leaves, strict=True)
    ]
    return tree.unflatten(rows)


def flat(tree, axes):
    """The numbers of a tree side by side, behind `axes` axes."""
    parts = [x.reshape((*x.shape[:axes], -1)) for x in jax.tree.leaves(tree)]
    return jnp.concatenate(parts, axis=-1)


def norm_of_states(state, axes):
    """Euclidean, over all fields."""
    return jnp.linalg.norm(flat(state, axes), axis=-1)
