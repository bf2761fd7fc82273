"""A GATE: what its net input goes through, as a cell is told, and back.

    y = f(clip(a))                                                            (37), (29) to (36)

y is what a step keeps, and what the derivative is made of. Where y does not tell the derivative, of
a clipped net input and of a function that folds, a clipped is kept in its place: one array per gate
in any case.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jax_lstm.doors import check_number, refuse
from jax_lstm.stages import ACTIVATIONS, clip, clip_bwd


class Activation(NamedTuple):
    """A nonlinearity by its name, with its numbers: `jl.Activation("elu", alpha=0.5)`.

    name: a key of `jax_lstm.stages.ACTIVATIONS`: sigmoid, tanh, relu, hard_sigmoid, softsign,
      softplus, elu, leaky_relu, thresholded_relu, scaled_tanh, affine.
    alpha, beta: numbers of Python; None: those of the table, or none where the function takes none.
    """

    name: str
    alpha: float | None = None
    beta: float | None = None


class Nonlinear(NamedTuple):
    """f with its numbers, as many as its stage takes, and the bound of clip; None: not clipped."""

    name: str
    numbers: tuple[float, ...] = ()
    bound: float | None = None


SIGMOID, TANH, IDENTITY = Nonlinear("sigmoid"), Nonlinear("tanh"), Nonlinear("affine", (1.0, 0.0))

# Slopes below the corner, of functions that fold where alpha < 0: there the input tells the branch.
CORNERS = {
    "elu": lambda y, alpha: y + alpha,
    "leaky_relu": lambda y, alpha: jnp.full_like(y, alpha),
    "thresholded_relu": lambda y, alpha: jnp.zeros_like(y),
}


def folds(gate: Nonlinear) -> bool:
    return gate.name in CORNERS and gate.numbers[0] < 0


def fire(gate: Nonlinear, a: Array) -> tuple[Array, Array]:
    """y of a net input, and what the derivative wants of it."""
    a = a if gate.bound is None else clip(a, gate.bound)  # (37)
    y = ACTIVATIONS[gate.name].stage(a, *gate.numbers)
    return y, y if gate.bound is None and not folds(gate) else a


def output(gate: Nonlinear, kept: Array) -> Array:
    """y, of what was kept."""
    if gate.bound is None and not folds(gate):
        return kept
    return ACTIVATIONS[gate.name].stage(kept, *gate.numbers)


def fire_bwd(gate: Nonlinear, kept: Array, dy: Array) -> Array:
    """da: through f from its output, through clip from its own."""
    y = output(gate, kept)
    if folds(gate):
        (alpha,) = gate.numbers
        above = jnp.real(kept) > (alpha if gate.name == "thresholded_relu" else 0)
        da = jnp.where(above, dy, dy * CORNERS[gate.name](y, alpha))
    else:
        rule = ACTIVATIONS[gate.name].stage_bwd
        da = rule((y, *gate.numbers), dy)[0] if gate.numbers else rule(y, dy)
    return da if gate.bound is None else clip_bwd((kept, gate.bound), da)[0]  # (37')


# The doors --------------------------------------------------------------------------------------


def check_bound(name: str, bound: Any) -> float | None:
    if bound is not None:
        bound = check_number(name, bound, "None or a number above 0", traced=False)
        if not bound > 0:
            refuse(name, "None or a number above 0", bound)
        bound = float(bound)
    return bound


def check_activations(
    given: Mapping[str, Any] | None, usual: dict[str, Nonlinear], bound: float | None
) -> tuple[tuple[str, Nonlinear], ...]:
    """(gate, Nonlinear) of every gate: those that are given, for the others the usual ones. `bound`
    is that of the net inputs; the nonlinearity of the state, "c", has none."""
    if given is None:
        given = {}
    want = f"a dict from {', '.join(usual)} to names or Activations"
    if not isinstance(given, Mapping) or any(k not in usual for k in given):
        refuse("activations", want, given)
    return tuple(
        (k, check_activation(k, given.get(k, u))._replace(bound=None if k == "c" else bound))
        for k, u in usual.items()
    )


def check_activation(gate: str, given: Any) -> Nonlinear:
    if isinstance(given, Nonlinear):
        return given
    one = Activation(given) if isinstance(given, str) else given
    known = isinstance(one, Activation) and isinstance(one.name, str) and one.name in ACTIVATIONS
    if not known:
        want = f"one of {', '.join(ACTIVATIONS)}, or an Activation of such a name"
        refuse(f"activations[{gate!r}]", want, given)
    defaults = ACTIVATIONS[one.name].defaults
    numbers = []
    for n, (letter, x) in enumerate((("alpha", one.alpha), ("beta", one.beta))):
        if x is not None and n >= len(defaults):
            refuse(f"activations[{gate!r}].{letter}", f"None: {one.name} takes none", x)
        if n < len(defaults):
            x = defaults[n] if x is None else x
            name = f"activations[{gate!r}].{letter}"
            numbers.append(float(check_number(name, x, traced=False)))
    return Nonlinear(one.name, tuple(numbers))
