"""Which of a cell's functions is wrong where only its weights' gradients disagree at a step.

`weights_bwd` is linear in the delta that `step_bwd` hands to it. If some delta makes it return what
JAX does, of all arrays at once, then `weights_bwd` can be right, and the delta that it got was
wrong. If none does, `weights_bwd` is wrong itself.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm.referee.comparison import copies, host

MOST = 4096  # numbers of a delta
SOLVED = 1e-6  # what is left, relative


def blame_weights(cell, consts, args, dy, t, want, weights_of, like_z):
    """The sentence's end: "in weights_bwd", or "in step_bwd" and which part of its delta.

    Args:
      cell, consts, args, dy: as `deltas.by_hand` has them, in float64.
      t: the step at which they disagree first.
      want: {name: array}, JAX's cotangents at that step.
      weights_of(w, *one, delta) -> {name: array}: what `weights_bwd` says, by the same names.
      like_z(z, delta): the part of delta that was compared as dz, which is right; or None.
    """
    w, one, delta = step_of(cell, consts, args, dy, t)
    leaves, structure = jax.tree.flatten(delta)
    sizes = [x.size for x in leaves]
    names = [name for name in weights_of(w, *one, delta) if name in want]
    z = jax.eval_shape(cell.project, w, jax.tree.map(lambda x: x[0], one[0]))
    known = sum(sizes[: len(jax.tree.leaves(like_z(z, delta)))])  # they come first
    if not known < sum(sizes) <= MOST:
        return "in weights_bwd"

    def answer(flat):
        parts = jnp.split(flat, np.cumsum(sizes)[:-1])
        parts = [p.reshape(x.shape) for p, x in zip(parts, leaves, strict=True)]
        found = weights_of(w, *one, jax.tree.unflatten(structure, parts))
        return jnp.concatenate([found[name].reshape(-1) for name in names])

    given = np.concatenate([host(x).reshape(-1) for x in leaves])
    matrix = np.asarray(jax.lax.map(answer, jnp.eye(sum(sizes)))).T
    truth = np.concatenate([host(want[name]).reshape(-1) for name in names])
    free, rest = matrix[:, known:], truth - matrix[:, :known] @ given[:known]
    right, *_ = np.linalg.lstsq(free, rest)
    if np.linalg.norm(free @ right - rest) > SOLVED * np.linalg.norm(truth):
        return "in weights_bwd"
    seen = np.linalg.lstsq(free, free @ given[known:])[0]  # without what no weight reads
    moved = np.concatenate([np.zeros(known), np.abs(right - seen)])
    off = np.split(moved, np.cumsum(sizes)[:-1])
    whole = SOLVED * max(float(np.abs(right).max()), float(np.abs(seen).max()))
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(delta)]
    wrong = [path for path, x in zip(paths, off, strict=True) if x.size and x.max() > whole]
    which = ", ".join(f"delta{path}" for path in wrong) if len(paths) > 1 and wrong else "the delta"
    return f"in step_bwd, {which}"


def step_of(cell, consts, args, dy, t):
    """(w, (x, state before, saved) of step t with time in front, the delta of step t), by hand."""
    params, state, xs = args
    at = lambda t: jax.tree.map(lambda x: x[t], xs)
    w, steps = cell.prepare(params, copies(consts)), []
    for n in range(len(jax.tree.leaves(xs)[0])):
        before = state
        state, saved = cell.step(w, before, cell.project(w, at(n)))
        steps.append((before, saved))
    dstate, dhs = dy
    delta = None
    for n in reversed(range(t, len(steps))):
        before, saved = steps[n]
        h, *rest = dstate
        dstate = type(dstate)(h + dhs[n], *rest)  # (F')
        dstate, delta = cell.step_bwd(w, before, cell.slopes(w, before, saved), dstate)
    one = jax.tree.map(lambda x: x[None], (at(t), *steps[t]))
    return w, one, delta
