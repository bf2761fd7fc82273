"""HOW FAR IT REACHES, AT MOST: what a cotangent of a state can still say of the parameters.

A group is `stride` steps in a row, s-m+1 ... s. Of a cotangent λ of the state after them

    back through the group    λ' = J_gᵀ λ       J_g = ∂state_s / ∂state_{s-m}
    what its steps say        P_gᵀ λ            P_g = ∂state_s / ∂params at fixed state_{s-m}

are linear in λ, so ‖λ'‖ <= ‖J_g‖ ‖λ‖ and ‖P_gᵀ λ‖ <= ‖P_g‖ ‖λ‖, in Euclidean norms; ‖J‖ and ‖P‖ are
largest singular values. Over groups g = 1 ... n of a chunk, the last of them first, that is

    ‖Σ_g P_gᵀ J_{g+1}ᵀ ... J_nᵀ λ‖  <=  Σ_g ‖P_g‖ ‖J_n ... J_{g+1}‖ ‖λ‖

and what is left before them is at most ‖J_n ... J_1‖ ‖λ‖. The norms are those of the products, not
the products of norms, which may be far larger. No norm is estimated from below: J_g is formed,
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
    """What a cotangent of length 1 after each group of `stride` steps can say, at most.

    Args:
      opened: `Opened` (engine/loops.py) of T steps, a multiple of stride, one axis of examples.

    Returns:
      said: of the parameters in this group and all before it, (T / stride, B), wide.
      left: of the state before the first step, likewise.
    """
    n = jax.tree.leaves(opened.seen)[0].shape[0] // stride
    groups = jax.tree.map(lambda x: x.reshape((n, stride, *x.shape[1:])), opened)
    Js, Ps = lax.map(lambda group: of_group(cell, params, w, group), groups)
    places = jnp.arange(n)

    def body(products, now):
        """products[g] = J_p ... J_g; 1 for later ones."""
        p, J, P = now
        earlier = (places <= p)[:, None, None, None]
        products = jnp.where(earlier, J[None] @ products, products)
        norms = jnp.linalg.svd(products, compute_uv=False)[..., 0]
        before = (places[1:] <= p)[:, None]
        more = jnp.where(before, times(norms[1:], Ps[:-1]), 0 * Ps[:-1])
        return products, (P + more.sum(0), norms[0])

    one = jnp.broadcast_to(jnp.eye(Js.shape[-1], dtype=Js.dtype), Js.shape)
    return lax.scan(body, one, (places, Js, Ps))[1]


def times(norm, x):
    """norm x, where 0 times infinity is 0: nothing goes on."""
    return jnp.where(norm == 0, 0 * norm, norm * x)


def of_group(cell, params, w, opened):
    """J (B, S, S) and ‖P‖ (B,) of the steps of one group."""

    def body(rows, now):
        back = lambda d: step_back(cell, w, now, d)[:2]
        return jax.vmap(back)(rows)

    rows = unit_states(jax.tree.map(lambda x: x[0], widen(opened.seen)))
    rows, deltas = lax.scan(body, rows, every_step(opened), reverse=True)

    def into_params(now):
        """‖P‖ of one example, deltas (m, S, ...)."""
        steps, deltas = now

        def row(delta):
            return through_prepare(cell, params, cell.weights_bwd(w, *steps, delta)[0])

        size, P = in_units(flat(jax.vmap(row, 1)(deltas), 1), (0, 1))
        most = jnp.linalg.eigvalsh(P @ P.T)[-1]
        return size[0, 0] * jnp.sqrt(jnp.maximum(most, 0))

    steps = opened.steps.xs, opened.seen, opened.saved
    per_example = lambda tree, axis: jax.tree.map(lambda x: jnp.moveaxis(x, axis, 0), tree)
    norms = lax.map(into_params, (per_example(steps, 1), per_example(deltas, 2)))
    return flat(jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), rows), 2), norms


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
    size, x = in_units(flat(state, axes), -1)
    return size[..., 0] * jnp.linalg.norm(x, axis=-1)


def in_units(x, axes):
    """(size, x / size), of the largest number along the axes: where it is small or large, squares
    of x would be 0 or infinite."""
    most = jnp.max(jnp.abs(x), axes, keepdims=True)
    size = jnp.where((most > 0) & jnp.isfinite(most), most, jnp.ones_like(most))
    return size, x / size
