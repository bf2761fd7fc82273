"""THE RECORD: what a cell says of itself, once."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Cell(NamedTuple):
    """What the engine needs to know of a cell: six pure functions (and one that complains).

    The first field of a state is what the layer hands on, here called h, an array or a pytree. `w`
    is what `prepare` made of the parameters, `consts` what belongs to a whole sequence, `saved` and
    `delta` any pytrees.
    Cotangents inside the loop are `wide` (see notation.py); the engine casts them at the end.

    init_state(params, batch_shape) -> state
    prepare(params) -> w             once, before the loop
    project(w, xs) -> zs             what does not depend on the state, for any leading axes
    step(w, consts, state_prev, z) -> state, saved
    step_bwd(w, consts, state_prev, saved, dstate) -> dstate_prev, delta    only what is sequential
    weights_bwd(params, consts, xs, states_prev, saved, deltas) -> dparams, dxs   additive over time
    check(params, state, x, name, leading) -> None     a door, see engine/doors.py; optional
    linearize(w, consts, states_prev, saved) -> local  for any leading axes; optional. What
        `step_bwd` gets in place of `saved`: derivatives that need no cotangent, made for a whole
        segment before the loop back.
    takes_consts    whether the cell looks at `consts`; if not, the doors refuse them.
    """

    init_state: Callable[..., Any]
    prepare: Callable[..., Any]
    project: Callable[..., Any]
    step: Callable[..., Any]
    step_bwd: Callable[..., Any]
    weights_bwd: Callable[..., Any]
    check: Callable[..., None] | None = None
    linearize: Callable[..., Any] = lambda w, consts, states_prev, saved: saved
    takes_consts: bool = True
