"""The slope test: no autodiff in the truth, at any size.

    R(t) = φ(x + t v) - φ(x) - t <g, v>,   φ = <dy, f>

For the right g the remainder R shrinks as t², for a wrong one as t: the line does not touch. A few
random directions v stand for all, so a mistake in one small element can hide; at tiny sizes take
differences, which move every element.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm import printing
from jax_lstm.doors import check_size
from jax_lstm.referee.comparison import (
    Route,
    Tree,
    exactly,
    floating,
    lowest_dtype,
    precisely,
    pullback,
    quick_jit,
    random_cotangents,
)
from jax_lstm.referee.doors import check_callables, check_judged

STEPS = 2.0 ** -np.arange(2, 18)
FLOOR = 2.0**10  # a remainder is looked at where it is so many times larger than its rounding
LEAST = 1.9  # slope; 2 in the limit, 1 for a wrong gradient


class Slope(NamedTuple):
    """One direction. slope: of log R over log t at the smallest t above rounding; 2 is right.

    remainders: |R(t)| at t = 1/4, 1/8, ...
    """

    slope: float
    ok: bool
    remainders: tuple[float, ...]


class SlopeReport(NamedTuple):
    """True only when the remainder shrinks as t² in every direction."""

    slopes: tuple[Slope, ...]

    def __bool__(self) -> bool:
        return bool(self.slopes) and all(s.ok for s in self.slopes)

    __str__ = printing.page
    _repr_html_ = printing.html

    def sentence(self) -> str:
        n, bad = len(self.slopes), [s.slope for s in self.slopes if not s.ok]
        if not n:
            return "no direction was tried"
        if bad:
            worst = min(bad, key=lambda slope: -1.0 if math.isnan(slope) else slope)
            return (
                f"a different gradient: in {len(bad)} of {n} directions the remainder does not "
                f"shrink as t²; smallest slope {worst:.3f}, and {LEAST} is asked for"
            )
        least = min(s.slope for s in self.slopes)
        if math.isinf(least):
            return f"the gradient is right: in all {n} directions the function is linear"
        return (
            f"the gradient is right: in all {n} directions the remainder shrinks as t²; "
            f"smallest slope {least:.3f}"
        )

    def tables(self) -> list[printing.Sheet]:
        rows = tuple(
            (n, s.slope, s.remainders[0], s.remainders[-1], "PASS" if s.ok else "FAIL")
            for n, s in enumerate(self.slopes)
        )
        head = "direction", "slope", "R(1/4)", "last", ""
        return [printing.Sheet(head, rows, form=("", ".3f", ".1e", ".1e", ""))]

    def table(self) -> str:
        return str(self.tables()[0])

    def to_json(self, **facts: Any) -> str:
        return printing.to_json({"ok": bool(self), "facts": facts, "slopes": self.slopes})


def slope_test(
    function: Callable[..., Tree],
    *args: Tree,
    route: Route | None = None,
    directions: int = 4,
    seed: int = 0,
) -> SlopeReport:
    """Judge a gradient of any size by values alone: the Taylor remainder must shrink as t².

    Args:
      function: maps args to a pytree of floating-point arrays.
      args: pytrees of arrays. The test is made in float64 whatever their dtype.
      route: `(args, dy) -> (y, dargs)`, the gradient on trial; default `pullback(function)`.
      directions: how many random directions, each with its own random cotangent.
      seed: of both.

    Returns:
      SlopeReport: true when every slope is at least 1.9, or the function is linear to rounding.

    Raises:
      ValueError: no floating-point argument, or float64 arguments with JAX's float64 switched off.
    """
    check_callables(function=function, route=pullback if route is None else route)
    check_judged(args, None, seed)
    directions = check_size("directions", directions, 1)
    lowest_dtype(args)
    route, rng = route or pullback(function), np.random.default_rng(seed)
    with precisely():
        x = exactly(args)
        leaves, rebuild = floating(x)
        dys = random_cotangents(lambda *args: route(args, None)[0], x, seed)[:directions]

        def phi(leaves, dy, v, t):
            y = function(*rebuild([x + t * d for x, d in zip(leaves, v, strict=True)]))
            return sum(jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (dy, y)), strict=True))

        along = quick_jit(lambda x, dy, v, ts: jax.lax.map(lambda t: phi(x, dy, v, t), ts))
        gradient = quick_jit(lambda x, dy: route(rebuild(x), dy)[1])
        slopes = []
        for dy in dys:
            v = [rng.standard_normal(leaf.shape) / math.sqrt(max(leaf.size, 1)) for leaf in leaves]
            values = np.asarray(along(leaves, dy, v, np.concatenate([[0.0], STEPS])))
            first = float(sum(np.vdot(g, d) for g, d in zip(gradient(leaves, dy), v, strict=True)))
            slopes.append(judge_slope(values, first, size_of(dy, values)))
    return SlopeReport(tuple(slopes))


def size_of(dy: Any, values):
    """What the rounding of φ is relative to: a sum of terms of either sign."""
    return float(max(np.abs(values).max(), *(np.linalg.norm(x) for x in jax.tree.leaves(dy))))


def judge_slope(values, first, size):
    remainders = np.abs(values[1:] - values[0] - STEPS * first)
    floor = FLOOR * float(np.finfo(np.float64).eps) * size
    clear = [n for n in range(1, len(STEPS)) if remainders[n] > floor]
    if not np.isfinite(remainders).all():
        return Slope(math.nan, False, tuple(remainders.tolist()))
    if not clear:
        return Slope(math.inf, True, tuple(remainders.tolist()))
    slope = math.log2(remainders[clear[-1] - 1] / remainders[clear[-1]])
    return Slope(slope, slope >= LEAST, tuple(remainders.tolist()))
