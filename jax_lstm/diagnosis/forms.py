"""Which Layout it is, by name or in words, with what a problem has beside a cell: a readout."""

import numpy as np

from jax_lstm.cells import CELLS
from jax_lstm.diagnosis.settings import read_reduction
from jax_lstm.engine.shapes import sizes_of
from jax_lstm.interop.described import describe, merge, of_features, rename, transpose
from jax_lstm.interop.layouts import LAYOUTS

HEAD = ("Wy", "by", "E", "tokens", "hs", "cs")  # what a problem of any layout may have


def find_layout(layout, cell):
    """A Layout by its name, or by a description."""
    if not isinstance(cell, str) or cell not in CELLS:
        raise ValueError(f"`cell` must be among {', '.join(CELLS)}; got {cell!r}")
    if isinstance(layout, dict):
        if cell != "lstm":
            raise ValueError(f"a layout by description is of cell lstm; got cell {cell}")
        known = {"order", "weights", "rows", "axes", "names", "forward"}
        if not layout:
            raise ValueError("a layout by description must say something; got {}")
        if strange := [str(k) for k in layout if k not in known]:
            raise ValueError(
                f"a layout by description has {', '.join(sorted(known))}; got {', '.join(strange)}"
            )
        return describe(**layout)
    if not isinstance(layout, str) or layout not in LAYOUTS[cell]:
        known = ", ".join(LAYOUTS[cell])
        raise ValueError(f"`layout` of {cell} must be among {known}; got {layout!r}")
    return LAYOUTS[cell][layout]


def title_of(layout):
    return layout if isinstance(layout, str) else "by description"


def with_head(form, arrays, settings):
    """The Layout with what of HEAD the arrays have: names, shapes, the way to ours."""
    mine = {k: form.named[k] for k in HEAD if form.named[k] in arrays}
    axes = form.axes.split(",")
    grads = {k: form.named.get(f"d{k}", f"d{form.named[k]}") for k in ("Wy", "by", "E")}
    ys, last = form.named["ys"], read_reduction(settings.get("reduction"))[1]
    targets = ys in arrays
    features = "K" if "Wy" in mine and targets else form.problem[ys].split(",")[axes.index("D")]
    shape = targets_of(form, arrays, features, last) if targets else []
    turn = transpose if form.rows == "outputs" else lambda x: x
    problem, gradient = dict(form.problem), dict(form.gradient)
    flat = lambda x: x.reshape(-1)
    both = dict(problem), dict(gradient)
    if targets:
        problem[ys] = ",".join(shape)
    if "Wy" in mine and targets:
        problem |= {mine["Wy"]: "H,K" if form.rows == "inputs" else "K,H"}
        gradient |= {grads["Wy"]: problem[mine["Wy"]]}
        problem |= {mine[k]: "K" for k in ("by",) if k in mine}
        gradient |= {grads["by"]: "K"}
    if "E" in mine:
        problem |= {mine["E"]: "N,D"}
        gradient |= {grads["E"]: "N,D"}
    if "tokens" in mine:
        problem.pop(form.named["xs"], None)
        problem |= {mine["tokens"]: ",".join(k for k in axes if k != "D")}
    state = form.problem.get(form.named["dhs"], ",".join(of_features(axes, "H")))
    problem |= {mine[k]: state for k in ("hs", "cs") if k in mine}
    if (problem, gradient) == both:
        return form
    places = [k for k in "TBD" if k in axes]
    order = lambda names: [names.index(k) for k in places if k in names]

    def series(name):
        names = [("D" if k == features else k) for k in problem[name].split(",")]
        return lambda x: np.transpose(x, order(names))

    extra = [rename({mine[k]: k}, turn) for k in ("Wy",) if "Wy" in mine and targets]
    extra += [rename({mine[k]: k}, flat) for k in ("by",) if "by" in mine and targets]
    extra += [rename({mine[k]: k}) for k in ("E",) if "E" in mine]
    extra += (
        [rename({mine["tokens"]: "tokens"}, series(mine["tokens"]))] if "tokens" in mine else []
    )
    in_order = lambda x: np.transpose(x, [axes.index(k) for k in "TBD"])
    extra += [rename({mine[k]: k}, in_order) for k in ("hs", "cs") if k in mine]
    extra += [rename({ys: "ys"}, series(ys))] if targets else []
    without = lambda d: form.to_ours({k: x for k, x in d.items() if k != ys})
    above = [rename({grads["Wy"]: "dWy"}, turn), rename({grads["by"]: "dby"}, flat)]
    above += [rename({grads["E"]: "dE"})]
    return form._replace(
        problem=problem,
        gradient=gradient,
        optional=(*form.optional, ys, *(mine[k] for k in ("by", "hs", "cs") if k in mine)),
        labels={**form.labels, **{f"d{k}": v for k, v in grads.items()}},
        to_ours=merge(without, *extra),
        gradient_to_ours=merge(form.gradient_to_ours, *above),
    )


def targets_of(form, arrays, features, last):
    """The axes of the targets: without T where the last step alone has some, without features where
    they are whole numbers."""
    axes, y = of_features(form.axes.split(","), features), arrays[form.named["ys"]]
    bare = not_batched(form, arrays)
    missing = len(axes) - bare - y.ndim
    whole = bool((y == np.round(y)).all())
    if last and missing == 1:
        lone = [k for k in axes if k != features and not (bare and k == "B")]
        sizes = sizes_of(form.problem, arrays) | inputs_of(form, arrays, bare)
        fits = all(k in sizes and n == sizes[k] for k, n in zip(lone, y.shape, strict=True))
        return [k for k in axes if k != (features if whole and fits else "T")]
    if last and missing == 2:
        return [k for k in axes if k not in ("T", features)]
    return [k for k in axes if k != features] if missing == 1 else axes


def inputs_of(form, arrays, bare):
    """{"T": ..., "B": ...} by the inputs."""
    axes = [k for k in form.axes.split(",") if not (bare and k == "B")]
    tokens = form.named["tokens"] in arrays
    x = arrays.get(form.named["tokens" if tokens else "xs"], np.zeros(()))
    axes = [k for k in axes if not (tokens and k == "D")]
    return {k: n for k, n in zip(axes, x.shape, strict=False) if k != "D"}


def not_batched(form, arrays):
    """Whether the inputs have no axis of examples."""
    tokens, xs = form.named["tokens"], form.named["xs"]
    if tokens in arrays:
        return np.ndim(arrays[tokens]) == 1
    return np.ndim(arrays.get(xs, np.zeros((1, 1, 1)))) == 2
