"""How a function on trial is run: in float64 where it takes that, else as its arguments are.

What a function is inside decides what can be asked of it: how coarse it rounds, and whether it has
a loop whose end the numbers decide.
"""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm.printing import listing
from jax_lstm.referee.asked import floats
from jax_lstm.referee.closures import closed_over, inside
from jax_lstm.referee.comparison import PRECISION, copies, exactly, lowest_dtype, precisely
from jax_lstm.referee.report import first_line

EXACT = {"reference": 1e-9, "complex steps": 1e-9, "differences": 1e-7}  # of the rule in float64
LOOSE = 1e-3  # of values that an iteration approaches
EPS = 2.0**-52


class Setting(NamedTuple):
    """The arguments as they are run, and the first line of the report. wide: in float64; refused:
    what the rule said of the arguments as they are, which f takes."""

    args: tuple[Any, ...]
    wide: bool
    first: str
    refused: str | None = None

    def context(self):
        narrow = jax.default_matmul_precision(PRECISION)
        return precisely() if self.wide else narrow


class At(NamedTuple):
    """What all questions share. eps: the coarsest rounding that was seen inside of f. iterates:
    whether it has a loop whose end the numbers decide; its values are then a limit's, about."""

    setting: Setting
    reference: Callable[..., Any] | None
    eps: float
    iterates: bool
    rng: Any
    first: str

    @property
    def own(self):
        """The eps of the arguments as they are run."""
        return float(jnp.finfo(lowest_dtype(self.setting.args)).eps)

    def tolerance(self, against):
        coarse = max(self.eps, self.own)
        least = max(EXACT[against], LOOSE if self.iterates else 0.0)
        return least if coarse <= EPS else max(least, float(np.sqrt(coarse)))


def names_of(f, args, names):
    """The caller's, or those of the signature where it has one for each."""
    if names is not None:
        return tuple(names)
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = []
    with contextlib.suppress(TypeError, ValueError):  # not all that can be called has a signature
        found = [k for k, p in inspect.signature(f).parameters.items() if p.kind in kinds]
    if len(found) >= len(args):
        return tuple(found[: len(args)])
    return tuple(f"args[{n}]" for n in range(len(args)))


def find_setting(f, args, names):
    """float64 if f and its rule take it; else as the arguments are, and why."""
    dtypes: dict[str, list[str]] = {}
    for name, arg in zip(names, args, strict=True):
        for leaf in jax.tree.leaves(arg):
            if name not in dtypes.setdefault(str(leaf.dtype), []):
                dtypes[str(leaf.dtype)].append(name)
    floating = {k: v for k, v in dtypes.items() if jnp.issubdtype(jnp.dtype(k), jnp.floating)}
    others = "".join(f"; {listing(v)} stay {k}" for k, v in dtypes.items() if k not in floating)
    parts = [f"{listing(v)} ({k})" for k, v in floating.items()]
    given = copies(args)
    with precisely():
        wide = exactly(given)
        clash = why_not(f, wide)
    if clash is None:
        narrow = [k for k in floating if k != "float64"]
        how = "are run in float64" if narrow else "are run as they are, in float64"
        takes = raises(lambda: jax.eval_shape(f, *given)) is None
        refused = why_not(f, given) if narrow and takes else None
        return Setting(tuple(wide), True, f"{', '.join(parts)} {how}{others}", refused)
    with jax.default_matmul_precision(PRECISION):
        also = why_not(f, given)
    closed = [f"`{k}` ({x.dtype})" for k, x in closed_over(f).items() if str(x.dtype) != "float64"]
    because = f", because it closes over {listing(closed)}" if closed else ""
    if also is None:
        said = f"f does not take float64{because}: {clash}"
        return Setting(
            tuple(given), False, f"{', '.join(parts)} are run as they are; {said}{others}"
        )
    with precisely():
        runs = raises(lambda: jax.eval_shape(f, *wide))
    if runs is None:  # its rule raises, and so it does in any precision
        return Setting(tuple(wide), True, f"{', '.join(parts)} are run in float64{others}")
    mixed = [
        f"`{k}` ({x.dtype})" for k, x in closed_over(f).items() if str(x.dtype) not in floating
    ]
    reason = f"; it closes over {listing(mixed)}" if mixed else ""
    raise ValueError(f"`f` cannot be run at these arguments{reason}: {also}")


def why_not(f, args):
    """What f or its rule says of these arguments, or None."""

    def whole():
        leaves, rebuild = jax.tree.flatten(args)
        which = [n for n, x in enumerate(leaves) if jnp.issubdtype(x.dtype, jnp.inexact)]

        def outputs(parts):
            now = dict(zip(which, parts, strict=True))
            new = [now.get(n, x) for n, x in enumerate(leaves)]
            return floats(f(*jax.tree.unflatten(rebuild, new)))

        def pulled(parts):
            ys, vjp = jax.vjp(outputs, parts)
            return vjp([jnp.ones_like(y) for y in ys])

        jax.eval_shape(pulled, [leaves[n] for n in which])

    return raises(whole)


def raises(function):
    """What an error says, of whatever kind, or None."""
    try:
        function()
    except Exception as error:  # somebody's function may raise anything: the caller tells it
        return first_line(error)
    return None


def kind_of(eps):
    return next(
        (str(k) for k in ("float32", "float16", "bfloat16") if float(jnp.finfo(k).eps) >= eps),
        "eight bits",
    )


def look(setting, f, reference, rng):
    """An At, of what f's program shows."""
    eps, iterates = inside(f, setting.args)
    at = At(setting, reference, max(EPS, eps), iterates, rng, setting.first)
    more = f"; inside, f goes down to {kind_of(at.eps)}" if at.eps > at.own else ""
    more += f"; it iterates till something is small: {LOOSE:.0e} is allowed" if iterates else ""
    return at._replace(first=setting.first + more)
