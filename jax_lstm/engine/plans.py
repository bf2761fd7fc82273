"""THE PLAN of a run: what is static in it, of the options that a user gave and of the sizes."""

import jax
from jax.export import is_symbolic_dim

from jax_lstm.doors import check_flag
from jax_lstm.engine import levels
from jax_lstm.engine.segments import Plan, sorted_segment_length


def plan_run(cell, params, xs, consts, mask, sizes, reverse, residuals, unroll, sort):
    """The plan; `residuals`, `unroll` and `reverse` have passed their door.

    mask: of the valid steps, or None. sizes: (T, *batch), perhaps symbolic ones: of these nobody
    knows the number of levels, nor which examples are over.
    """
    check_flag("sort", sort)
    T, *batch = sizes
    if residuals == "log":
        residuals = "auto" if is_symbolic_dim(T) else levels.LOG
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
