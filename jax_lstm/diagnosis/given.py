"""The gradient that somebody brings: what of it is known, in our layout."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm import referee
from jax_lstm.diagnosis.brought import dtype_of, numbers
from jax_lstm.diagnosis.problem import check_finite, check_shape, is_shape, would_fit
from jax_lstm.engine.shapes import axes_of, shape_of

ENTRY = re.compile(r"(\w+)((?:\[\d+\])+)")
ENDS = ("dxs", "dh0", "dc0")  # leaves that no learning rate was ever applied to


def given_of(gradient, form, layout, sizes, *, steps=0, rate=None):
    """What is known of the gradient, in our layout, and the dtype whose rounding it has.

    steps: of the inputs, where the loss ended earlier. rate: a learning rate; what was returned for
    weights is then -rate times the gradient.
    """
    gradient = by_its_name(gradient, form)
    shapes = {
        k: shape_of(letters, sizes)
        for k, letters in form.gradient.items()
        if k_known(letters, sizes)
    }
    found = {k: np.zeros((3, *shape)) for k, shape in shapes.items()}  # values, known, unit
    named, whole, dtypes = set(), {}, []
    for key, x in gradient.items():
        match = ENTRY.fullmatch(key)
        name, index = match.groups() if match else (key, "")
        if name not in shapes:
            there = {k: np.asarray(v) for k, v in gradient.items() if v is not None}
            raise ValueError(
                f"the gradient in layout {layout} cannot have {name}; the names of that layout are "
                f"{', '.join(shapes)}{would_fit(there, layout, 'gradient', sizes)}"
            )
        named.add(name)
        if x is None:
            continue
        values, known, unit = numbers(x, key)
        known: Any = known
        check_finite(key, np.where(known, values, 0.0), "of the gradient ")
        at = tuple(int(n) for n in re.findall(r"\d+", index))
        if index:
            check_entry(key, at, values.shape, shapes[name])
        else:
            letters = axes_of(form.gradient[name])
            values, known = cut_steps(key, values, known, letters, sizes, steps)
            whole[name] = values
            values, known = (with_axes(x, shapes[name], letters) for x in (values, known))
            check_shape(name, values.shape, form.gradient[name], sizes, layout, whole, "gradient")
            values, known = (x.reshape(shapes[name]) for x in (values, known))
        for n, part in enumerate((values, known, unit)):
            found[name][(n, *at)] = part
        dtypes.append(dtype_of(x, values[known]))
    missing = [k for k in form.needed if k not in named]
    if missing:
        raise ValueError(
            f"the gradient in layout {layout} lacks {', '.join(missing)}; null (None) stands for "
            "what is not known"
        )
    if not any(x[1].any() for x in found.values()):
        raise ValueError("nothing is known of the gradient: every number of it is null")
    values, known, units = (
        form.gradient_to_ours({k: x[n] for k, x in found.items()}) for n in range(3)
    )
    numbered = {k: np.full(shape, n) for n, (k, shape) in enumerate(shapes.items())}
    parts = form.gradient_to_ours(numbered)
    given = [
        referee.Given(form.labels.get(k, k), k, x, known[k] > 0, float(units[k].max()), parts[k])
        for k, x in values.items()
        if known[k].any()
    ]
    if rate:
        given = [g if g.leaf in ENDS else of_update(g, rate) for g in given]
    return given, max(dtypes, key=lambda k: float(jnp.finfo(k).eps))


def of_update(g, rate):
    return g._replace(values=g.values / -rate, unit=g.unit / rate)


def k_known(letters, sizes):
    """Whether every letter has a size: there may be no readout."""
    try:
        shape_of(letters, sizes)
    except KeyError:
        return False
    return True


def by_its_name(gradient, form):
    """A gradient may be called what its weight is called."""
    weights = dict(zip(form.problem, form.gradient, strict=False))

    def name(key):
        bare, bracket, index = key.partition("[")
        other = weights.get(bare, f"d{bare}")
        return (
            other + bracket + index if bare not in form.gradient and other in form.gradient else key
        )

    return {name(k): x for k, x in gradient.items()}


def cut_steps(key, values, known, letters, sizes, steps):
    """Steps beyond the loss have no part in it: their gradient is zero, and is left out."""
    at = letters.index("T") if "T" in letters else None
    if (
        at is None
        or values.ndim != len(letters)
        or values.shape[at] != steps
        or steps == sizes["T"]
    ):
        return values, known
    beyond = np.take(values, np.arange(sizes["T"], steps), at)
    if beyond.any():
        raise ValueError(
            f"`{key}` has numbers at steps from t={sizes['T']} on, which the loss does not reach: "
            f"its cotangents end at t={sizes['T'] - 1}"
        )
    return tuple(np.take(x, np.arange(sizes["T"]), at) for x in (values, known))


def with_axes(x: Any, shape, letters):
    """An axis of one example where there is none."""
    missing = "B" in letters and x.ndim == len(shape) - 1 and not is_shape(x.shape, shape)
    return np.expand_dims(x, letters.index("B")) if missing else x


def check_entry(key, at, got, shape):
    """A place such as dW[3][1], and the shape of what stands there."""
    if len(at) > len(shape) or any(n >= size for n, size in zip(at, shape, strict=False)):
        raise ValueError(f"`{key}` lies outside of its array, whose shape is {shape}")
    if got not in (shape[len(at) :], ()):
        raise ValueError(f"`{key}` must have the shape {shape[len(at) :]}; got {got}")


def call(gradient, arrays):
    """The gradient by a function of the problem's arrays."""
    found = gradient({k: x.copy() for k, x in arrays.items()})  # it may write into them
    if not isinstance(found, dict):
        raise ValueError(f"the function must return a dict of arrays; got {type(found).__name__}")
    if jnp.result_type(float) != jnp.float64 and any(
        isinstance(x, jax.Array) for x in found.values()
    ):
        raise ValueError(
            "the problem is float64, and JAX rounded it: jax_enable_x64 is off. Switch it on, or "
            "bring the arrays themselves"
        )
    return found
