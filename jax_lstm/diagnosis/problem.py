"""The problem that somebody brings, as they have it: checked, and a Problem in our layout.

Names and shapes are those of a layout. A batch axis may be missing everywhere, a bias may be (H,)
or (H, 1), inputs may be whole numbers (tokens), targets likewise, and the loss may end before the
inputs do: what comes later has no part in it.
"""

from typing import Any, NamedTuple

import numpy as np

from jax_lstm.cells import CELLS
from jax_lstm.diagnosis.brought import numbers
from jax_lstm.diagnosis.catalogue import Problem
from jax_lstm.diagnosis.forms import HEAD, find_layout, not_batched, title_of, with_head
from jax_lstm.diagnosis.head import one_hot
from jax_lstm.diagnosis.settings import SETTINGS, read_reduction, read_settings
from jax_lstm.engine.shapes import axes_of, shape_of, sizes_of
from jax_lstm.interop.described import Layout
from jax_lstm.interop.layouts import LAYOUTS

SEQUENCES = ("xs", "tokens", "hs", "cs")  # what is cut where the loss ends earlier


class Brought(NamedTuple):
    """A problem as it was read.

    arrays: {their name: array}, whole numbers as such, with every axis. form: the Layout, with
    what of HEAD there is. sizes: {"T": 5, ...}; steps: of the inputs, where they are more than T.
    settings: see settings.py. plain: whether a function can be asked for single steps. raw: the
    arrays as a function is given them.
    """

    arrays: dict[str, Any]
    form: Layout
    layout: str
    cell: str
    sizes: dict[str, int]
    steps: int
    settings: dict[str, Any]
    plain: bool
    raw: dict[str, Any]


# Reading ----------------------------------------------------------------------------------------


def read_problem(problem, layout, cell):
    """A Brought, or a ValueError in the letters of the layout."""
    form = find_layout(layout, cell)
    layout = title_of(layout)
    arrays, settings = split_problem(problem)
    raw, arrays = arrays, as_tokens(arrays, form)
    above = form.named["ys"] in arrays
    unused = () if above else (form.named["Wy"], form.named["by"])  # no targets: no readout
    arrays = {k: x for k, x in arrays.items() if k not in unused or k in form.problem}
    form = with_head(form, arrays, settings)
    bare = not_batched(form, arrays)
    if bare:
        arrays = {k: with_batch(x, form.problem.get(k, "")) for k, x in arrays.items()}
    arrays, steps = cut_to_loss(arrays, form)
    sizes = check_problem(arrays, form, layout)
    arrays = {k: x.reshape(shape_of(form.problem[k], sizes)) for k, x in arrays.items()}
    gone = {k for k in form.problem if k not in arrays}
    plain = not bare and not any(form.named[k] in arrays for k in HEAD)
    plain = plain and np.ndim(arrays.get(form.named["ys"], np.zeros((1, 1, 1)))) == 3
    form = form._replace(needed=tuple(k for k in form.needed if weight_of(form, k) not in gone))
    plain = plain and not settings.get("reduction")
    indices = form.named["tokens"] not in raw and form.named["tokens"] in arrays
    indices = [form.named["xs"]] * indices + [form.named["tokens"]]
    if above and "D" not in form.problem[form.named["ys"]] and not plain:
        indices += [form.named["ys"]] * (form.problem[form.named["ys"]][-1] in "TB")
    raw = {k: x.astype(int) if k in indices else x for k, x in raw.items()}
    return Brought(arrays, form, layout, cell, sizes, steps, settings, plain, raw)


def weight_of(form, name):
    """Whose gradient a name is: by its place among the names of the weights."""
    return dict(zip(form.gradient, form.problem, strict=False)).get(name, name)


def as_tokens(arrays, form):
    """Inputs that are whole numbers without an axis of features are tokens."""
    xs, tokens = form.named["xs"], form.named["tokens"]
    x = arrays.get(xs)
    if tokens in arrays or x is None or (x != np.round(x)).any() or (x < 0).any():
        return arrays
    ours = form.to_ours({k: a for k, a in arrays.items() if k != xs})
    features = ours["W"].shape[0] if "W" in ours else None
    axes = form.problem.get(xs, "T,B,D").split(",")
    lone = np.ndim(x) < len(axes) and (np.ndim(x) == 1 or features not in np.shape(x))
    if not lone and not (np.ndim(x) < len(axes) and form.named["E"] in arrays):
        return arrays
    return {k: a for k, a in arrays.items() if k != xs} | {tokens: x}


def with_batch(x, letters):
    """A batch of one where the axis is missing; columns, (H, 1), are one example."""
    axes = axes_of(letters)
    features = [n for n, axis in enumerate(axes) if axis not in "TB"]
    if "B" in axes and features and x.ndim == len(axes) and x.shape[features[0]] == 1:
        return np.swapaxes(x, axes.index("B"), features[0])
    return np.expand_dims(x, axes.index("B")) if "B" in axes and x.ndim == len(axes) - 1 else x


def cut_to_loss(arrays, form):
    """Inputs cut to the steps that have a loss; and how many steps they had."""

    def steps_of(name):
        axes = axes_of(form.problem.get(name, ""))
        known = name in arrays and "T" in axes and arrays[name].ndim == len(axes)
        return arrays[name].shape[axes.index("T")] if known else None

    given = [form.named[k] for k in SEQUENCES]
    before = next((n for n in map(steps_of, given) if n is not None), 0)
    after = [n for n in (steps_of(form.named[k]) for k in ("dhs", "ys")) if n is not None]
    if not after or min(after) >= before or min(after) == 0:
        return arrays, before
    at = {k: axes_of(form.problem[k]).index("T") for k in given if steps_of(k) == before}
    cut = {k: np.take(arrays[k], np.arange(min(after)), axis) for k, axis in at.items()}
    return arrays | cut, before


def split_problem(problem):
    """Its arrays, and what else it says."""
    if not isinstance(problem, dict):
        raise ValueError(f"`problem` must be a dict or a file; got {type(problem).__name__}")
    settings = read_settings(problem)
    arrays = {}
    for k, x in problem.items():
        if k not in SETTINGS and x is not None:
            values, known, _ = numbers(x, k)
            if not known.all():
                raise ValueError(f"`{k}` of the problem must be whole; it has null")
            check_finite(k, values, "of the problem ")
            arrays[k] = values
    return arrays, settings


def check_problem(arrays, form, layout):
    """Every name known, none missing, shapes that belong together; returns the sizes."""
    unknown = [k for k in arrays if k not in form.problem]
    missing = [k for k in form.problem if k not in arrays and k not in form.optional]
    biases = of_gates(form)
    if any(k in arrays for k in biases):
        missing += [k for k in biases if k not in arrays]
    what = f"the problem in layout {layout}"
    if unknown or missing:
        raise ValueError(
            f"{what} {wrong_names(unknown, missing)}; the names of that "
            f"layout are {', '.join(form.problem)}{would_fit(arrays, layout, 'problem')}"
        )
    sizes = sizes_of(form.problem, arrays)
    for k, x in arrays.items():
        check_shape(k, x.shape, form.problem[k], sizes, layout, arrays, "problem")
    if 0 in sizes.values():
        raise ValueError(f"the problem must have no axis of size 0; got {sizes}")
    return sizes


def of_gates(form):
    """The biases of the gates, where each has its own: all of them are there, or none."""
    before, star, after = form.named["b"].partition("*")
    names = (k for k in form.problem if k.startswith(before) and k.endswith(after))
    size = len(before + after) + 1
    return [k for k in names if star and len(k) == size and k not in HEAD]


def wrong_names(unknown, missing):
    said = [f"cannot have {', '.join(unknown)}"] if unknown else []
    return " and ".join(said + ([f"lacks {', '.join(missing)}"] if missing else []))


def check_shape(name, shape, letters, sizes, layout, arrays, part):
    """Axes of size 1 may be there or not."""
    try:
        want = shape_of(letters, sizes)
    except KeyError as error:
        raise ValueError(
            f"`{name}` must be ({letters}) in layout {layout}; the size {error} is unknown"
        ) from None
    if not is_shape(shape, want):
        same = "; it is transposed" if tuple(shape) == want[::-1] else ""
        raise ValueError(
            f"`{name}` must be ({letters}) = {want} in layout {layout}; got {tuple(shape)}{same}"
            f"{would_fit(arrays, layout, part, sizes)}"
        )


def is_shape(shape, want):
    return tuple(shape) == tuple(want) or [n for n in shape if n != 1] == [
        n for n in want if n != 1
    ]


def would_fit(arrays, layout, part, sizes=None):
    """Which other layouts and cells these names and shapes would belong to."""
    every = [("layout", name, form) for name, form in LAYOUTS["lstm"].items()]
    every += [("cell", name, forms["ours"]) for name, forms in LAYOUTS.items() if name != "lstm"]
    fits: dict[str, list[str]] = {}
    for what, name, form in every:
        shapes = getattr(form, part)
        if name == layout or not arrays or not set(arrays) <= set(shapes):
            continue
        if what == "cell" and (layout != "ours" or part != "problem"):
            continue
        try:
            found = sizes_of(shapes, arrays) if part == "problem" else sizes
            right = all(x.shape == shape_of(shapes[k], found) for k, x in arrays.items())
        except (KeyError, TypeError):
            continue
        if right:
            fits.setdefault(what, []).append(name)
    return "".join(f"; it would fit {what} {', '.join(names)}" for what, names in fits.items())


def check_finite(name, x, where):
    if not np.isfinite(x).all():
        first = tuple(int(n) for n in np.argwhere(~np.isfinite(x))[0])
        raise ValueError(f"`{name}` {where}has {x[first]}, first at {list(first)}")


# Ours -------------------------------------------------------------------------------------------


def problem_of(ours, settings, cell, sizes, forward=()):
    """A Problem of what is known, zeros for the rest."""
    record, T = CELLS[cell], sizes["T"]
    params = {k: ours[k] for k, _ in record.shapes if k in ours}
    if "b again" in ours:
        params["b"] = ours.get("b", 0.0) + ours["b again"]
    letters = sizes_of(record.shapes, params)
    for k, text in record.shapes:  # what the layout may leave out
        params.setdefault(k, np.zeros(shape_of(text, letters)))
    params = {k: params[k] for k, _ in record.shapes}
    fields = [k for k, _ in record.fields]
    shapes = {k: (sizes["B"], *shape_of(text, letters)) for k, text in record.fields}
    state = {k: ours.get(f"{k}0", np.zeros(shapes[k])) for k in fields}
    last = {k: ours.get(f"d{k}_T", np.zeros(shapes[k])) for k in fields}
    ends = any(f"d{k}_T" in ours for k in fields)
    xs, tokens = ours.get("xs"), None
    if "tokens" in ours:
        tokens, rows = ours["tokens"].astype(int), ours.get("E", params["W"])
        check_whole("tokens", ours["tokens"], len(rows))
        xs = rows[tokens] if "E" in ours else one_hot(tokens, len(rows))
    if "E" in ours:
        if tokens is None:
            raise ValueError("the problem has an embedding E and no tokens")
        params["E"] = ours["E"]
    if "Wy" in ours:
        params |= {"Wy": ours["Wy"], "by": ours.get("by", np.zeros(ours["Wy"].shape[1]))}
    loss = check_loss(ours, settings, ends)
    width = ours["Wy"].shape[1] if "Wy" in ours else shapes["h"][-1]
    means, only = read_reduction(settings.get("reduction"))
    ys = ours.get("ys")
    if ys is not None:
        whole = ys.ndim == (1 if only else 2) or (
            only and ys.shape == (T, sizes["B"]) and width > 1
        )
        if whole and loss != "softmax_cross_entropy":
            raise ValueError(f"targets that are whole numbers want the loss softmax; got {loss}")
        if whole:
            check_whole("targets", ys, width)
            ys = one_hot(ys.astype(int), width)
        ys = np.broadcast_to(ys, (T, *ys.shape[-2:])) if ys.ndim == 2 else ys
    many = {"T": T, "B": sizes["B"], "K": width}
    scale = float(settings.get("scale", 1.0)) / np.prod([many[k] for k in means] or [1])
    dhs = ours.get("dhs", np.zeros((T, *shapes["h"])))
    told = params, state, xs, loss, dhs, ys, float(scale), last, only
    return Problem(*told, tokens, (*forward, *settings.get("forward", ())))


def check_whole(name, x, most):
    if (x != np.round(x)).any() or x.min() < 0 or x.max() >= most:
        raise ValueError(f"`{name}` must be whole numbers from 0 to {most - 1}")


def check_loss(ours, settings, ends):
    """The loss's name, where it and what is given belong together."""
    loss = settings.get("loss")
    loss = loss or ("cotangents" if "ys" not in ours else "squared_error")
    if loss != "cotangents" and "ys" not in ours:
        raise ValueError(f"the problem has the loss {loss} and no targets")
    if loss == "cotangents" and "dhs" not in ours and not ends:
        raise ValueError("the problem has neither cotangents nor targets: nothing to differentiate")
    if loss != "cotangents" and "dhs" in ours:
        raise ValueError(f"the problem has cotangents of h_t and the loss {loss}: which is it?")
    return loss
