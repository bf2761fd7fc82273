"""THE LAW OF TWINS, as data: what a stage takes, what its twin may use, and what it answers.

    stage_bwd(residual, dy) -> one cotangent per argument of the stage, in its order; None for what
                               has none: masks, integers, numbers of branches. A stage of one
                               argument has one cotangent, bare.
    stage_jvp(residual, tangents, *static) -> the tangent of the result. There is one tangent per
                               argument that is an array, None for what is constant; the tangent of
                               a stage of one argument is bare.

`TWINS` of stages/ has a row for every stage. From it the checks draw their arguments, `with_twin`
makes JAX obey the law, the exercise says what a twin is given, and joints are made.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp

from jax_lstm.doors import forward_mode_of_the_twin
from jax_lstm.rules import with_rule
from jax_lstm.sharding import vary_together

Stage = TypeVar("Stage", bound=Callable[..., Any])

CONSTANT = "constant "  # in front of a shape: floating point, and no cotangent
BOOLEAN = "boolean "
BELOW = " of "  # "V of T,B": whole numbers in [0, V)


class Twin(NamedTuple):
    """A stage, its twin, and its tangent.

    args: (name, shape) of each argument that is an array, "T,B,D" in the letters of notation.py,
      perhaps "constant T,B,H", "boolean T,B", "V of T,B"; or (name, (type, (name, shape), ...)) for
      a NamedTuple of arrays. M is 4H.
    residual: the names of the arguments that the twin is given, in order, static ones among them;
      "output" is the stage's own result. One is given bare, several as a tuple, none as None.
    static: (name, an example of it) of arguments that are no arrays; they come last.
    """

    stage: Callable[..., Any]
    stage_bwd: Callable[..., Any]
    stage_jvp: Callable[..., Any]
    args: tuple[tuple[str, Any], ...]
    residual: tuple[str, ...] = ()
    static: tuple[tuple[str, Any], ...] = ()


def row(
    stage: Callable[..., Any],
    stage_bwd: Callable[..., Any],
    stage_jvp: Callable[..., Any],
    args: str,
    residual: str = "",
    **static: Any,
) -> Twin:
    """A Twin from words: args "x:T,B,D mask:constant_T,B,D", residual "mask"."""
    pairs = (arg.split(":") for arg in args.split())
    return Twin(
        stage,
        stage_bwd,
        stage_jvp,
        tuple((name, shape.replace("_", " ")) for name, shape in pairs),
        tuple(residual.split()),
        tuple(static.items()),
    )


# What a twin is given, and what it answers ----------------------------------------------------


def answers(twin):
    """The names of its cotangents, in the order of the arguments; None for what has none."""
    found = [f"d{name}" if has_cotangent(shape) else None for name, shape in twin.args]
    return (*found, *(None for _ in twin.static))


def has_cotangent(shape):
    return not isinstance(shape, str) or not (
        shape.startswith((CONSTANT, BOOLEAN)) or BELOW in shape
    )


def residual_of(twin, args, y):
    """What the twin may use, of the arguments and of the result."""
    names = (name for name, _ in (*twin.args, *twin.static))
    there = dict(zip(names, args, strict=False)) | {"output": y}
    kept = tuple(there[name] for name in twin.residual)
    return kept[0] if len(kept) == 1 else kept or None


def cotangents(twin, args, y, dy):
    """All that the twin answers, as a tuple."""
    return every_answer(twin, residual_of(twin, args, y), dy)


def every_answer(twin: Twin, residual: Any, dy: Any) -> tuple[Any, ...]:
    """What the twin answers; the one answer of a stage of one argument is boxed."""
    found = twin.stage_bwd(residual, dy)
    return found if len(answers(twin)) > 1 else (found,)


def no_door(*args):
    """For stages behind another door."""


def tangent(twin: Twin, args: tuple[Any, ...], y: Any, tangents: tuple[Any, ...]) -> Any:
    """What the third member answers, for one tangent per argument that is an array."""
    n = len(twin.args)
    given = tangents if n > 1 else tangents[0]
    return twin.stage_jvp(residual_of(twin, args, y), given, *args[n:])


def as_jax_sees_it(twin: Twin, door: Callable[..., None] = no_door) -> Callable[..., Any]:
    """The stage for JAX to differentiate: what is constant to the twin is constant to JAX.

    Args:
      twin, door: see `with_twin`.
    """
    constant = [isinstance(s, str) and s.startswith(CONSTANT) for _, s in twin.args]

    @functools.wraps(twin.stage)
    def stage(*args, **kwargs):
        args = inspect.signature(twin.stage).bind(*args, **kwargs).args
        door(*args)
        n = len(args) - len(twin.static)
        args = (*jax.tree.map(jnp.asarray, args[:n]), *args[n:])
        held = (*constant, *(False for _ in args[len(constant) :]))
        pairs = zip(held, args, strict=True)
        return twin.stage(*(jax.lax.stop_gradient(x) if c else x for c, x in pairs))

    return stage


def named(function: Stage, name: str, module: str) -> Stage:
    """The function, as pickle finds it."""
    function.__module__, function.__qualname__ = module, name
    return function


def with_twin(twin: Twin, door: Callable[..., None] = no_door) -> Callable[..., Any]:
    """The stage, differentiated by its twin whenever JAX asks for a reverse-mode derivative.

    Args:
      twin: a row of `TWINS`.
      door: `door(*args)` complains about arguments before anything is traced.
    """
    n = len(twin.args)

    def forward(*args):
        y = twin.stage(*args)
        return y, residual_of(twin, args, y)

    def backward(*args):
        return every_answer(twin, *args[-2:])[: -len(twin.static) or None]

    ruled = with_rule(twin.stage, forward, backward, static=tuple(range(n, n + len(twin.static))))

    @functools.wraps(twin.stage)
    def with_door(*args, **kwargs):
        args = inspect.signature(twin.stage).bind(*args, **kwargs).args
        door(*args)
        static = args[len(args) - len(twin.static) :]
        arrays = args[: len(args) - len(twin.static)]
        with forward_mode_of_the_twin(twin.stage.__name__):
            return ruled(*vary_together(arrays), *static)

    return with_door


def both_routes(stage: Stage, twin: Twin, door: Callable[..., None]) -> tuple[Stage, Stage]:
    """The stage by its twin, and `..._autodiff` as JAX sees it, behind one door; as pickle finds
    them."""
    name, module = twin.stage.__name__, twin.stage.__module__
    by_hand = named(with_twin(twin, door), name, module)
    by_jax = named(as_jax_sees_it(twin, door), f"{name}_autodiff", module)
    return cast(Stage, by_hand), cast(Stage, by_jax)


def without_time(twin):
    """The stage at one step: its arguments without the axis T."""

    def cut(shape):
        if not isinstance(shape, str):
            return (shape[0], *((name, cut(part)) for name, part in shape[1:]))
        return shape.replace("T,", "")

    return twin._replace(args=tuple((name, cut(shape)) for name, shape in twin.args))


# Arguments to try it at -----------------------------------------------------------------------


def draw(twin, sizes, rng, number=None):
    """Random arguments, static ones included.

    Args:
      twin: a row of `TWINS`.
      sizes: {letter: size}; M is 4H unless it is said.
      rng: `numpy.random.Generator`.
      number: `number(shape)` draws floats; standard normal ones if None. All are float64.
    """
    sizes = {"M": 4 * sizes["H"]} | sizes
    number = number or rng.standard_normal

    def array(shape):
        if not isinstance(shape, str):
            kind, *parts = shape
            return kind(*(array(part) for _, part in parts))
        top, _, below = shape.partition(BELOW)
        if below:
            return rng.integers(sizes[top], size=axes(below), dtype="int32")
        if shape.startswith(BOOLEAN):
            return rng.random(axes(shape.removeprefix(BOOLEAN))) < 0.6
        return number(axes(shape.removeprefix(CONSTANT)))

    def axes(text):
        return tuple(sizes[letter] for letter in text.split(","))

    return (*(array(shape) for _, shape in twin.args), *(value for _, value in twin.static))


def in_dtype(args, dtype):
    """The arguments with their float64 arrays in another dtype."""
    cast = lambda x: jnp.asarray(x, dtype) if getattr(x, "dtype", None) == "float64" else x
    return jax.tree.map(cast, args)
