"""THE RECORD: what a cell says of itself, once. All that is made of a cell is made of its record.

A cell is pure functions of one time step, and what people may know of it: names, shapes, gates.
From the shapes follow the doors' complaints, the state of zeros, our layout in files, the rows of
`check` and of the tests. A cell of one's own may leave out `shapes`, `fields` and `gates`; it then
has no door of its own, and brings `init_state` where somebody asks for one.

Shapes are written in the letters of notation.py, numbers, and "wide" (see shapes.py): "D,4H", "1",
"N,K,4K", "wide N,K,K". Cotangents inside the loop are `wide`; the engine casts them at the end.
The first field of a state is what the layer hands on, here called h, an array or a pytree. The
engine gives no t: a clock is a field of the state whose cotangent is zero.
"""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

Params = TypeVar("Params", bound=tuple[Any, ...])
State = TypeVar("State", bound=tuple[Any, ...])


def own_params(params, consts):
    return params


def own_saved(w, prevs, saved):
    return saved


class Second(NamedTuple):
    """Values and tangents of a cell's backward, by hand, for derivatives of second order. See
    second_order.py. xs_dot is None where xs are held.

    prepare_jvp(params, params_dot, consts) -> w_dot
    step_jvp(w, prev, slopes, prev_dot, delta_dot) -> state_dot, more_dot     as `Cell.step_jvp`;
        more_dot: whatever else of the step `slopes_jvp` wants.
    slopes_jvp(w, xs, prevs, saved, w_dot, xs_dot, prevs_dot, more_dots) -> saved_dot, slopes_dot
        for any number of steps at once.
    step_bwd_jvp(w, prev, slopes, dstate, w_dot, prev_dot, slopes_dot, dstate_dot)
        -> (dprev, delta), (dprev_dot, delta_dot)     only what is sequential
    weights_bwd_jvp(w, xs, prevs, saved, deltas, w_dot, xs_dot, prevs_dot, saved_dot, deltas_dot)
        -> dparams_dot, dxs_dot     additive over segments of time
    """

    prepare_jvp: Callable[..., Any]
    step_jvp: Callable[..., Any]
    slopes_jvp: Callable[..., Any]
    step_bwd_jvp: Callable[..., Any]
    weights_bwd_jvp: Callable[..., Any]


class Halves(NamedTuple):
    """A step in two halves, for the loops over steps: what it saves, and the state that follows.
    The loop writes down the first half's result and reads it again for the second, so that it
    stands once, and not once for the state and once for the backward.

    save(w, prev, z) -> (..., n M)        what the step saves, n blocks side by side
    follow(prev, blocks) -> state         of the tuple of n blocks, (..., M) each
    blocks: n.
    """

    save: Callable[..., Any]
    follow: Callable[..., Any]
    blocks: int


class Cell(NamedTuple, Generic[Params, State]):
    """What a cell says of itself. Hashable, as JAX caches by it: tuples of pairs, no dicts. It can
    be pickled where its functions can be.

    name: the key everywhere, say "lstm".
    params, state: NamedTuple types.

    project(w, xs) -> zs                  what does not depend on the state, for any leading axes
    step(w, prev, z) -> state, saved      saved: any pytree
    halves: the same as a `Halves`, where saved is a tuple of blocks that do not depend on the new
        state; None: the loops have `step` alone.
    step_bwd(w, prev, slopes, dstate) -> dprev, delta     only what is sequential
    weights_bwd(w, xs, prevs, saved, deltas) -> dparams, dxs     additive over segments of time

    shapes: of the parameters in letters, (("W", "D,4H"), ("U", "H,4H"), ("b", "4H")).
    fields: of the state without its batch axes, (("h", "H"), ("c", "wide H")).
    gates: names of the blocks of a delta's last axis, side by side.
    init(key, D, H, ..., dtype=) -> params.
    init_state(params, batch_shape) -> state; None: zeros of `fields`.
    prepare(params, consts) -> w          once, before the loop; the default is w = params. consts,
        what belongs to a whole sequence (masks of recurrent dropout), fold into w here, and
        nothing else ever sees them.
    slopes(w, prevs, saved) -> slopes     derivatives that need no cotangent, for any leading axes,
        a segment at once; always what `step_bwd` gets. The default is `saved`.
    step_for_jax: the plain step for JAX to differentiate, where the fast one would be unfair to
        it; None: `step`.
    step_jvp(w, prev, slopes, prev_dot, delta_dot) -> state_dot, and
    weights_jvp(w, xs, prevs, saved, params_dot, xs_dot) -> delta_dots: forward mode, see
        forward_mode.py; None: the transposes of `step_bwd` and `weights_bwd`.
    saved_jvp(w, prevs, saved, prevs_dot, delta_dots) -> saved_dot, for any leading axes: what a
        second derivative wants besides, see tangents.py; None: JAX's, of `step`.
    second: a `Second`; None: JAX's tangents of the cell's own hand-written functions.
        `_replace` leaves out all of these where it changes the step, see `replaced`.
    prepare_bwd(params, dw) -> dparams, None     the twin of `prepare`, where that is a stage; what
        `weights_bwd` returns as dparams is then dw.
    affine(w, zs) -> a, b                 of h_t = a h_{t-1} + b: time in parallel, see parallel.py.
    diagonal: the fields of the state through which a unit sees its own past, and that of no other
        unit: the exact gradient of an endless stream is then cheap, see online.py. Every parameter
        whose influence lasts has the units in its last axis alone. None: units see each other.
    consts: the field of the state over which consts are a mask, (..., H) broadcastable to it;
        "any": whatever the cell likes; None: it takes none, and the doors refuse them.
    beside: fields of the state for each of which a mask per step comes beside xs, which are then a
        pair (xs, masks), masks a tuple in this order.
    options: pairs (name, value) of a cell that `make_...` made: two of unlike options are unlike.
    sizes: letters beyond D and H, and the argument of `init` that sets each,
        (("R", "projection_size"),).
    kept: the fields that zoneout may hold; None: all of them.
    """

    name: str
    params: type[Params]
    state: type[State]
    project: Callable[..., Any]
    step: Callable[..., Any]
    step_bwd: Callable[..., Any]
    weights_bwd: Callable[..., Any]
    shapes: tuple[tuple[str, str], ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    gates: tuple[str, ...] = ()
    init: Callable[..., Params] | None = None
    init_state: Callable[..., State] | None = None
    prepare: Callable[..., Any] = own_params
    slopes: Callable[..., Any] = own_saved
    halves: Halves | None = None
    step_for_jax: Callable[..., Any] | None = None
    step_jvp: Callable[..., Any] | None = None
    weights_jvp: Callable[..., Any] | None = None
    saved_jvp: Callable[..., Any] | None = None
    second: Second | None = None
    prepare_bwd: Callable[..., Any] | None = None
    affine: Callable[..., Any] | None = None
    consts: str | None = None
    beside: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    sizes: tuple[tuple[str, str], ...] = ()
    kept: tuple[str, ...] | None = None
    diagonal: tuple[str, ...] | None = None


# What the tangents of a step belong to: where one of these changes, they are another step's
OF_A_STEP = ("prepare", "project", "step", "slopes", "step_bwd", "weights_bwd", "prepare_bwd")
TANGENTS = ("step_jvp", "weights_jvp", "saved_jvp", "second")
same_but = Cell._replace


def replaced(cell: Cell[Params, State], **changes: Any) -> Cell[Params, State]:
    """`cell._replace`: the record with some fields changed. Where a function of the step changes,
    the tangents that are not given are left out, and so derived; with `step`, `step_for_jax` and
    `halves`."""
    old = TANGENTS if any(name in changes for name in OF_A_STEP) else ()
    old = (*old, "step_for_jax", "halves") if "step" in changes else old
    return same_but(cell, **{**dict.fromkeys(old), **changes})


for method in ("_replace", "__replace__"):  # the second is that of `copy.replace`
    setattr(Cell, method, replaced)


AnyCell: TypeAlias = Cell[Any, Any]
