"""Who is right? A gradient that somebody brings, beside the truth and beside known mistakes.

Reads what they have (a dict, a .npz, .json or .safetensors file, a function), complains in their
letters, turns it into our layout, and hands it to the referee with the table of the cell.

    {"layout": "coursera", "problem": {"Wf": ..., "x": ..., "da": ...}, "gradient": {"dWf": ...}}

A gradient need not be whole: null (None) stands for what is not known, of an array or of one
number, and a single number can be given as it is printed: "dWf[3][1]": -0.0698198561274.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm import referee
from jax_lstm.cells import CELLS
from jax_lstm.diagnosis.brought import dtype_of, numbers, read
from jax_lstm.diagnosis.catalogue import LOSSES, Problem
from jax_lstm.diagnosis.slow_backward import MUTANTS
from jax_lstm.diagnosis.tables import table_for, table_of
from jax_lstm.doors import check_flag, check_text, refuse
from jax_lstm.engine.shapes import shape_of, sizes_of
from jax_lstm.interop.described import from_ours
from jax_lstm.interop.layouts import LAYOUTS

SETTINGS = ("loss", "scale")  # of a problem, beside its arrays
ENTRY = re.compile(r"(\w+)((?:\[\d+\])+)")

Arrays: TypeAlias = dict[str, Any] | str | Path  # by name, or the file that holds them


def diagnose(
    gradient: Arrays | Callable[[dict[str, Any]], dict[str, Any]],
    problem: Arrays | None = None,
    *,
    layout: str | None = None,
    cell: str | None = None,
    pairs: bool | None = None,
) -> referee.Diagnosis:
    """Say whether a gradient is right, and if not, which classic mistake it makes.

    Args:
      gradient: {name: array}, None where an array is not known; or the path of a .npz, .json or
        .safetensors file; or a function that is given copies of the problem's arrays, {name:
        array}, and returns such a dict. Where no mistake explains it, it is asked again for each
        time step by itself.
      problem: {name: array}, or the path of a file: weights, states, inputs, and either cotangents
        of h_t or targets with "loss" ("squared_error", ½ Σ (h - y)²; "binary_cross_entropy" and
        "softmax_cross_entropy" of h as logits) and "scale", a factor on the sum. None: it stands in
        the gradient's file. States and what is not given of them are zero.
      layout: "ours", "torch", "keras", "coursera" or "tmva". Default: what the file says, or
        "ours". `python -m jax_lstm diagnose --template LAYOUT` shows the names of each.
      cell: "lstm", "lstmp" or "elman". Default: what the file says, or "lstm".
      pairs: whether two mistakes at once are tried; None: where no single one explains and the
        problem is small.

    Returns:
      Diagnosis: true only when the gradient is right; `.sentence()`, `.table()`, `.to_json()`.

    Raises:
      ValueError: names, shapes or numbers that cannot be, or a file that is not what it claims.
    """
    if not isinstance(gradient, dict | str | Path) and not callable(gradient):
        refuse("gradient", "a dict, a file or a function", gradient)
    if not isinstance(problem, dict | str | Path | None):
        refuse("problem", "a dict or a file", problem)
    for name, text in (("layout", layout), ("cell", cell)):
        check_text(name, "" if text is None else text, "None or a name")
    check_flag("pairs", bool(pairs) if pairs is None else pairs)
    asked = {"layout": layout, "cell": cell}
    files = [read(x) if isinstance(x, str | Path) else None for x in (gradient, problem)]
    found, problem = files[0] or {}, find_problem(files, problem)
    for key, default in (("layout", "ours"), ("cell", "lstm")):
        said = [f[key] for f in files if f and key in f]
        asked[key] = asked[key] or (said[0] if said else default)
    if problem is None:
        raise ValueError("the problem is missing: pass `problem`, or a file that holds it too")
    layout, cell = asked["layout"], asked["cell"]
    form = find_layout(layout, cell)
    arrays, settings = split_problem(problem)
    sizes = check_problem(arrays, form, layout)
    function = gradient if callable(gradient) else None
    ours = problem_of(form.to_ours(arrays), settings, cell, sizes)
    table = table_of(cell, ours)  # the truth, before a function that is on trial runs
    if function:
        gradient = call(function, arrays)
    elif files[0]:
        gradient = found.get("gradient") or {}
    if not isinstance(gradient, dict):
        refuse("gradient", "a dict, a file or a function", gradient)
    given, dtype = given_of(gradient, form, layout, sizes)
    verdict = referee.diagnose(given, table_for(table, given), dtype=dtype, pairs=pairs)
    if function and not verdict.explanations and not verdict.lost and len(ours.xs) > 1:
        leaves = [*zip(verdict.leaves, (g.leaf for g in given), strict=True)]
        asked = layout, cell, sizes
        alone = one_step_each(function, arrays, settings, form, asked, leaves)
        verdict = verdict._replace(first=f"{verdict.first}; {alone}")
    return verdict


def one_step_each(function, arrays, settings, form, asked, verdict):
    """A function is asked again, for each step by itself: is a step wrong, or what is carried?

    First nothing comes from t+1. Where the problem has cotangents of the last state, each step is
    then asked with some. A function that looks at no state, where the problem has none, can be
    asked for the first step alone.
    """
    layout, cell, sizes = asked
    kind, ours = MUTANTS[cell], form.to_ours(arrays)
    whole, sizes = problem_of(ours, settings, cell, sizes), sizes | {"T": 1}
    before, truth = kind.states(whole), kind.gradients(whole, [()])
    last = [k for k in ("dh_T", "dc_T") if k in ours]
    unsaid = [f"{k}0" for k in whole.state if f"{k}0" not in ours]

    def arrays_of(t, beyond):
        cut = {k: ours[k][t : t + 1] for k in ("xs", "dhs", "ys") if k in ours}
        ends = {k: truth[f"{k[:2]}s"][0, t] if beyond else 0 * ours[k] for k in last}
        return ours | cut | ends | {f"{k}0": x for k, x in before[t].items()}

    def ask(one):
        known = {k: v for k, v in form.problem.items() if set(of_ours(form, k, sizes)) <= set(one)}
        return call(function, from_ours(form.to_ours, known, sizes, one))

    def sees_no_state(one):
        bare = {k: x for k, x in one.items() if k not in unsaid}
        a, b = ask(one), ask(bare)
        return all(k in b and np.array_equal(x, b[k]) for k, x in a.items())

    right, t, given = "", len(before) - 1, []
    try:
        blind = bool(unsaid) and sees_no_state(arrays_of(t, False))
        for beyond in (False, True) if last else (False,):
            for t in [0] if blind else reversed(range(len(before))):
                one = arrays_of(t, beyond)
                given, dtype = given_of(ask(one), form, layout, sizes)
                table = table_of(cell, problem_of(one, settings, cell, sizes))
                found = referee.diagnose(given, table_for(table, given), dtype=dtype, pairs=False)
                if not found and beyond:
                    wrong = wrong_step(found, given, table, dtype)
                    return f"{right}; with what comes from t+1, step t={t}: {wrong}"
                if not found:
                    return f"step t={t} by itself: {wrong_step(found, given, table, dtype)}"
            names = ", ".join(g.name for g in given)
            right = f"{'step t=0' if blind else 'every step'} by itself is right ({names})"
    except Exception as error:  # it may have been made for this problem alone
        return f"step t={t} by itself could not be asked: {referee.first_line(error)}"
    if blind:
        return f"{right}; the others need {' and '.join(unsaid)}, at which the function never looks"
    return right + between(verdict, kind)


def wrong_step(found, given, table, dtype):
    """What is wrong in a step: the deltas, which the weights show gate by gate, or what follows."""
    if found.explanations:
        return found.sentence()
    wrong = [name for name, *_, ok in found.leaves if not ok]
    blocks = set(table.blocks) - set(table.steps)
    weights = [g for g in given if g.name in wrong and g.leaf in blocks]
    if weights:
        mine = referee.diagnose(weights, table_for(table, weights), dtype=dtype, pairs=False)
        return f"wrong {mine.first}"
    right = [name for name, *_, ok in found.leaves if ok]
    times = [
        f", {factor:.6g} times the right one" for _, factor in found.multiples[: len(wrong) < 2]
    ]
    beside = f"; {', '.join(right)} right" if right else ""
    return f"wrong in {', '.join(wrong)}{''.join(times)}{beside}"


def between(verdict, kind):
    """Where to look when every step is right: at what is carried, at what is summed, or at what is
    handed out at each step while the sums and the first state show that what is carried is right.
    """
    carried = [ok for (*_, ok), leaf in verdict if leaf not in kind.blocks]
    wrong = [(name, leaf) for (name, *_, ok), leaf in verdict if not ok]
    every, right = ", ".join(name for name, _ in wrong), ", and so is what is carried: look at how"
    if carried and all(carried):
        return f"{right} {every} is summed over steps"
    if {leaf for _, leaf in wrong} == {"dxs"} and {"dW", "dU"} <= {leaf for _, leaf in verdict}:
        return f"{right} {every} is put together, or made at some t"
    return ": look at what is carried from step to step, or is done otherwise at some t"


def of_ours(form, name, sizes):
    """Which of our names an array of the layout has; none for a part of one."""
    return form.to_ours({name: np.zeros(shape_of(form.problem[name], sizes))})


# The problem ----------------------------------------------------------------------------------


def find_layout(layout, cell):
    if not isinstance(cell, str) or cell not in MUTANTS:
        raise ValueError(f"`cell` must be among {', '.join(MUTANTS)}; got {cell!r}")
    if not isinstance(layout, str) or layout not in LAYOUTS[cell]:
        known = ", ".join(LAYOUTS[cell])
        raise ValueError(f"`layout` of {cell} must be among {known}; got {layout!r}")
    return LAYOUTS[cell][layout]


def find_problem(files, problem):
    if files[1] is not None:
        return files[1].get("problem") or files[1].get("gradient")  # a file of bare names
    return problem if problem is not None else (files[0] or {}).get("problem")


def split_problem(problem):
    """Its arrays, and what else it says."""
    if not isinstance(problem, dict):
        raise ValueError(f"`problem` must be a dict or a file; got {type(problem).__name__}")
    settings = {k: problem[k] for k in SETTINGS if problem.get(k) is not None}
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
    what = f"the problem in layout {layout}"
    if unknown or missing:
        raise ValueError(
            f"{what} {wrong_names(unknown, missing)}; the names of that layout are "
            f"{', '.join(form.problem)}"
            f"{would_fit(arrays, layout, 'problem')}"
        )
    sizes = sizes_of(form.problem, arrays)
    for k, x in arrays.items():
        check_shape(k, x.shape, form.problem[k], sizes, layout, arrays, "problem")
    if 0 in sizes.values():
        raise ValueError(f"the problem must have no axis of size 0; got {sizes}")
    return sizes


def wrong_names(unknown, missing):
    said = [f"cannot have {', '.join(unknown)}"] if unknown else []
    return " and ".join(said + ([f"lacks {', '.join(missing)}"] if missing else []))


def check_shape(name, shape, letters, sizes, layout, arrays, part):
    try:
        want = shape_of(letters, sizes)
    except KeyError as error:
        raise ValueError(
            f"`{name}` must be ({letters}) in layout {layout}; the size {error} is unknown"
        ) from None
    if tuple(shape) != want:
        same = "; it is transposed" if tuple(shape) == want[::-1] else ""
        raise ValueError(
            f"`{name}` must be ({letters}) = {want} in layout {layout}; got {tuple(shape)}{same}"
            f"{would_fit(arrays, layout, part, sizes)}"
        )


def would_fit(arrays, layout, part, sizes=None):
    """Which other layouts these names and shapes would belong to."""
    fits = []
    for name, form in LAYOUTS["lstm"].items():
        shapes = getattr(form, part)
        if name == layout or not arrays or not set(arrays) <= set(shapes):
            continue
        try:
            found = sizes_of(shapes, arrays) if part == "problem" else sizes
            right = all(x.shape == shape_of(shapes[k], found) for k, x in arrays.items())
        except (KeyError, TypeError):
            continue
        fits += [name] if right else []
    return f"; it would fit layout {', '.join(fits)}" if fits else ""


def problem_of(ours, settings, cell, sizes):
    """A Problem of what is known, zeros for the rest."""
    record = CELLS[cell]
    params = {k: ours[k] for k, _ in record.shapes if k in ours}
    if "b again" in ours:
        params["b"] = ours.get("b", 0.0) + ours["b again"]
    letters = sizes_of(record.shapes, params)
    for k, text in record.shapes:  # what the layout may leave out
        params.setdefault(k, np.zeros(shape_of(text, letters)))
    fields = [k for k, _ in record.fields]
    shapes = {k: (sizes["B"], *shape_of(text, letters)) for k, text in record.fields}
    state = {k: ours.get(f"{k}0", np.zeros(shapes[k])) for k in fields}
    last = {k: ours.get(f"d{k}_T", np.zeros(shapes[k])) for k in fields}
    ends = any(f"d{k}_T" in ours for k in fields)
    loss = settings.get("loss")
    loss = loss or ("cotangents" if "ys" not in ours else "squared_error")
    if loss not in LOSSES:
        raise ValueError(f"`loss` must be among {', '.join(LOSSES)}; got {loss!r}")
    if loss != "cotangents" and "ys" not in ours:
        raise ValueError(f"the problem has the loss {loss} and no targets")
    if loss == "cotangents" and "dhs" not in ours and not ends:
        raise ValueError("the problem has neither cotangents nor targets: nothing to differentiate")
    if loss != "cotangents" and "dhs" in ours:
        raise ValueError(f"the problem has cotangents of h_t and the loss {loss}: which is it?")
    dhs = ours.get("dhs", np.zeros((len(ours["xs"]), *shapes["h"])))
    scale = settings.get("scale", 1.0)
    if not isinstance(scale, int | float) or not np.isfinite(scale):
        raise ValueError(f"`scale` must be a number, a factor on the loss; got {scale!r}")
    return Problem(params, state, ours["xs"], loss, dhs, ours.get("ys"), float(scale), last)


# The gradient ---------------------------------------------------------------------------------


def given_of(gradient, form, layout, sizes):
    """What is known of the gradient, in our layout, and the dtype whose rounding it has."""
    shapes = {k: shape_of(letters, sizes) for k, letters in form.gradient.items()}
    found = {k: np.zeros((3, *shape)) for k, shape in shapes.items()}  # values, known, unit
    named, whole, dtypes = set(), {}, []
    for key, x in gradient.items():
        match = ENTRY.fullmatch(key)
        name, index = match.groups() if match else (key, "")
        if name not in shapes:
            there = {k: np.asarray(v) for k, v in gradient.items() if v is not None}
            raise ValueError(
                f"the gradient in layout {layout} cannot have {name}; the names of that layout are "
                f"{', '.join(form.gradient)}{would_fit(there, layout, 'gradient', sizes)}"
            )
        named.add(name)
        if x is None:
            continue
        values, known, unit = numbers(x, key)
        check_finite(key, np.where(known, values, 0.0), "of the gradient ")
        at = tuple(int(n) for n in re.findall(r"\d+", index))
        if index:
            check_entry(key, at, values.shape, shapes[name])
        else:
            whole[name] = values
            check_shape(name, values.shape, form.gradient[name], sizes, layout, whole, "gradient")
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
    return given, max(dtypes, key=lambda k: float(jnp.finfo(k).eps))


def check_entry(key, at, got, shape):
    """A place such as dW[3][1], and the shape of what stands there."""
    if len(at) > len(shape) or any(n >= size for n, size in zip(at, shape, strict=False)):
        raise ValueError(f"`{key}` lies outside of its array, whose shape is {shape}")
    if got not in (shape[len(at) :], ()):
        raise ValueError(f"`{key}` must have the shape {shape[len(at) :]}; got {got}")


def check_finite(name, x, where):
    if not np.isfinite(x).all():
        first = tuple(int(n) for n in np.argwhere(~np.isfinite(x))[0])
        raise ValueError(f"`{name}` {where}has {x[first]}, first at {list(first)}")


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
