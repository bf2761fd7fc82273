"""THE PLAN of a run: what is static in it, of the options that a user gave and of the sizes."""

import jax
from jax.export import is_symbolic_dim

from jax_lstm.doors import check_flag
from jax_lstm.engine import levels
from jax_lstm.engine.segments import Plan, bytes_of_step, sorted_segment_length, time_of
from jax_lstm.engine.shapes import axes_of
from jax_lstm.sharding import may_be_split

TURNS = 64  # steps from which on unroll="auto" is more than 1
SMALL_STEP_BYTES = 2**14  # of a step's projected input, up to which it is


def plan_run(cell, params, xs, consts, mask, sizes, reverse, residuals, unroll, sort):
    """The plan; `residuals`, `unroll` and `reverse` have passed their door.

    mask: of the valid steps, or None. sizes: (T, *batch), perhaps symbolic ones: of these nobody
    knows the number of levels, nor which examples are over.
    """
    check_flag("sort", sort)
    T, *batch = sizes
    if residuals == "log":
        residuals = "auto" if is_symbolic_dim(T) else levels.LOG
    if unroll == "auto":
        unroll = steps_per_turn(cell, params, consts, xs)
    plan = Plan(cell, reverse, residuals, unroll)
    if not sort or mask is None or not batch:
        return plan
    if isinstance(residuals, levels.Levels):
        raise ValueError(
            '`sort` must be False with `residuals="log"`, whose blocks are of all examples; K and '
            '"auto" go with it'
        )
    if cell.consts == "any" and consts is not None:
        raise ValueError(
            f"`sort` must be False with `consts` of the cell {cell.name}: they may be anything, so "
            "nobody knows which of their axes are those of the examples"
        )
    if any(is_symbolic_dim(n) or n == 0 for n in sizes):
        return plan
    w = jax.eval_shape(cell.prepare, params, consts)
    return plan._replace(sort=sorted_segment_length(plan, w, xs))


def steps_per_turn(cell, params, consts, xs):
    """`unroll="auto"`: 2 where arrays may be split over devices, a turn of the loop costs about as
    much as a step does, and there are turns enough to earn the compilation of a second step;
    otherwise, and for symbolic sizes, 1. On one device a step by itself has so few kernels that
    they are run in plain sequence (loops.py), and two have not."""
    T = time_of(xs)
    if is_symbolic_dim(T) or T < TURNS or not may_be_split(jax.tree.leaves(xs)[0]):
        return 1
    step_bytes = bytes_of_step(lambda p, x: cell.project(cell.prepare(p, consts), x), params, xs)
    return 2 if not is_symbolic_dim(step_bytes) and step_bytes <= SMALL_STEP_BYTES else 1


def batch_axes(cell, state):
    """How many axes of examples the state has."""
    h = jax.tree.leaves(state)[0]
    return h.ndim - (len(axes_of(cell.fields[0][1])) if cell.fields else 1)
