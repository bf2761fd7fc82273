"""WHICH LAYOUT is it? Every one that names and shapes allow, and which of them makes the numbers.

Names tell roles (Wf, Wi, Wc, Wo are a matrix per gate), shapes tell how they lie. What shapes
cannot tell, the order of blocks above all, the forward's own numbers do (hs, cs, a loss), or a
gradient that is right under one layout alone. How sure that is, is said.
"""

import itertools
from typing import Any

import numpy as np

from jax_lstm import referee
from jax_lstm.diagnosis.brought import dtype_of
from jax_lstm.diagnosis.finish import finishing
from jax_lstm.diagnosis.given import given_of
from jax_lstm.diagnosis.kinds import kind_of
from jax_lstm.diagnosis.problem import problem_of, read_problem
from jax_lstm.diagnosis.settings import SETTINGS
from jax_lstm.diagnosis.slow_backward import lstm_values
from jax_lstm.diagnosis.tables import noise_of
from jax_lstm.interop.described import LETTERS
from jax_lstm.interop.layouts import LAYOUTS
from jax_lstm.notation import GATES
from jax_lstm.printing import listing
from jax_lstm.referee.search import eps_of

CALLED = {  # what people call what is no weight
    "xs": ("xs", "x", "X", "input", "inputs"),
    "tokens": ("tokens", "ids"),
    "dhs": (
        "dhs",
        "dh",
        "dH",
        "dout",
        "dhout",
        "dHout",
        "da",
        "dA",
        "dy",
        "doutput",
        "grad_output",
    ),
    "ys": ("ys", "y", "Y", "target", "targets", "labels"),
    "h0": ("h0", "h_0", "a0", "hprev", "h_prev", "h_init"),
    "c0": ("c0", "c_0", "cprev", "c_prev", "s0", "c_init"),
    "hs": ("hs", "h", "hidden", "a", "output", "outputs", "Hout"),
    "cs": ("cs", "c", "C", "s", "cells"),
    "Wy": ("Wy", "Why", "W_y", "W_hy", "V"),
    "by": ("by", "b_y"),
    "E": ("E", "embedding", "emb"),
    "dh_T": ("dh_T", "dhn", "dh_n"),
    "dc_T": ("dc_T", "dcn", "dc_n"),
}
OF_GRADIENTS = ("d{}", "{}", "grad_{}", "{}_grad", "{}_diff", "d_{}", "g{}")
JOINED = ("[h, x]", "[x, h]", "[1, h, x]", "[1, x, h]", "[h, x, 1]", "[x, h, 1]")
MOST = 2000  # candidates


def guess_layout(problem, gradient, cell=""):
    """(a layout, by name or by description; what is to be said of it), or a ValueError.

    problem: as `diagnose` takes it. gradient: {name: array}, perhaps empty.
    """
    if cell not in ("", "lstm"):
        raise ValueError(f"a layout can be guessed of cell lstm alone; got {cell}")
    if not isinstance(problem, dict):
        raise ValueError(f"`problem` must be a dict or a file; got {type(problem).__name__}")
    shapes = {k: np.shape(x) for k, x in problem.items() if k not in SETTINGS and x is not None}
    fits, seen = [], set()
    for layout in [*LAYOUTS["lstm"], *itertools.islice(described(shapes, gradient), MOST)]:
        try:
            brought = read_problem(problem, layout, "lstm")
            given = read_gradient(gradient, brought)
        except ValueError:
            continue
        key = tuple(sorted((k, x.shape, x.tobytes()) for k, x in problem_from(brought)[0].items()))
        if key not in seen:  # a name and its description are one
            seen.add(key)
            fits.append((layout, brought, given))
    if not fits:
        raise ValueError(
            f"no layout fits {listing(shapes)} of the shapes {listing(map(str, shapes.values()))}: "
            "describe it, see docs/diagnose.md"
        )
    made = [(layout, brought) for layout, brought, _ in fits if makes_values(brought)]
    known = made and makes_values(made[0][1]) == "values"
    if known:
        names = {str(layout) for layout, _ in made}
        fits = [x for x in fits if str(x[0]) in names]
    right = [layout for layout, brought, given in fits if given and is_right(brought, given)]
    chosen = right[0] if right else fits[0][0]
    same = len(right or fits)
    if known and same == 1:
        sure = "certain: it alone makes the forward's numbers"
    elif right:
        sure = (
            "certain: under it alone the gradient is right"
            if same == 1
            else several(same, "make the gradient right")
        )
    elif known:
        sure = several(same, "make the forward's numbers")
    elif same == 1:
        sure = "likely: no other fits names and shapes"
    else:
        sure = several(same, "fit names and shapes; the forward's hs or cs would tell")
    return chosen, (f"layout, guessed: {told(chosen)}; {sure}",)


def several(n, what):
    return f"not sure: {n} layouts {what}"


def told(layout):
    """A layout in words."""
    if isinstance(layout, str):
        return layout
    words = {k: v for k, v in layout.items() if k != "names"}
    return ", ".join(f"{k} {v}" for k, v in words.items())


def read_gradient(gradient, brought):
    some = {k: x for k, x in gradient.items() if x is not None}
    if not some:
        return ()
    form, rate = brought.form._replace(needed=()), brought.settings.get("learning_rate")
    of = form, brought.layout, brought.sizes
    given, dtype = given_of(some, *of, steps=brought.steps, rate=rate)
    return given, dtype


def problem_from(brought):
    ours = brought.form.to_ours(brought.arrays)
    forward = brought.form.forward
    return ours, problem_of(ours, brought.settings, "lstm", brought.sizes, forward)


def makes_values(brought):
    """ "values" where hs, cs or the loss are there and come out; "none" where none is there."""
    ours, problem = problem_from(brought)
    want = {k: ours[k] for k in ("hs", "cs") if k in ours}
    if "loss_value" in brought.settings:
        want["loss"] = np.full((1, 1, 1), float(brought.settings["loss_value"]))
    if not want:
        return "none"
    got = lstm_values(problem, [()])
    if set(want) - set(got):
        return ""
    loose = 1e-4 if any(dtype_of(x, x) != "float64" for x in want.values()) else 1e-8
    near = (np.linalg.norm(got[k][0] - x) <= loose * np.linalg.norm(x) for k, x in want.items())
    return "values" if all(near) else ""


def is_right(brought, given):
    """Whether the gradient is the truth's under this layout."""
    ours, problem = problem_from(brought)
    given, dtype = given
    kind = kind_of("lstm")
    truth = kind.gradients(problem, [()])
    noise = noise_of(kind, problem, truth)
    own = {k: x for k, x in problem.params.items() if k != "b" or {"b", "b again"} & set(ours)}
    finish, _ = finishing(own, brought.settings)
    truth = finish(truth) if finish else truth
    truth |= {"db again": truth["db"]}
    noise |= {"db again": noise["db"]}
    rounding = max(eps_of("float32"), eps_of(dtype))
    return bool(referee.distances(given, noise, truth).agrees(rounding).all())


# What names and shapes allow ----------------------------------------------------------------------


def described(shapes, gradient):
    """Every description that the names and shapes might have."""
    roles = {role: next((k for k in names if k in shapes), None) for role, names in CALLED.items()}
    rest = {k: s for k, s in shapes.items() if k not in roles.values()}
    for head in heads(rest) if roles["ys"] and not roles["Wy"] else ({},):
        left = {k: s for k, s in rest.items() if k not in head.values()}
        every: list[dict[str, Any]] = [*per_gate(left), *packed(left)]
        for weights in every:
            names = weights["names"] | {k: v for k, v in roles.items() if v} | head
            names |= of_gradient(names, gradient)
            for axes in map(",".join, itertools.permutations("TBD")):
                yield weights | {"axes": axes, "names": names}


def heads(shapes):
    """A readout by any name: none, or a matrix and a bias of which there are not four."""
    lone = {k: s for k, s in shapes.items() if [*shapes.values()].count(s) < len(GATES)}
    yield {}
    for Wy, shape in lone.items():
        if len(shape) == 2 and 1 not in shape:
            sizes = [(n,) for n in shape] + [(n, 1) for n in shape]
            by = [k for k, s in lone.items() if s in sizes]
            yield from ({"Wy": Wy, "by": k} for k in by)
            yield {"Wy": Wy}


def of_gradient(names, gradient):
    """What the gradients are called, where that is not a d before the name."""
    found = {}
    for role, name in names.items():
        plain = name.replace("*", "{0}")
        letters = [v for v in "".join(LETTERS.values()) if "*" in name] or [""]
        for form in OF_GRADIENTS:
            keys = (form.format(name.replace("*", v)) for v in letters)
            if plain and any(k in gradient for k in keys):
                found[f"d{role}"] = form.format(name)
                break
    return found


def per_gate(shapes):
    """A matrix per gate: names that differ in the letter of a gate."""
    groups: dict[str, dict[str, str]] = {}
    for name in shapes:
        for n, letter in enumerate(name):
            groups.setdefault(f"{name[:n]}*{name[n + 1 :]}", {})[letter] = name
    whole: dict[str, Any] = {}
    for pattern, members in groups.items():
        letters = {g: next((v for v in LETTERS[g] if v in members), None) for g in GATES}
        if all(letters.values()):
            whole[pattern] = letters, shapes[members[str(letters["i"])]]
    matrices = {k: v for k, v in whole.items() if len(v[1]) == 2 and 1 not in v[1]}
    biases = [k for k in whole if k not in matrices] or [None]
    for pattern, (letters, shape) in matrices.items():
        order = "".join(str(letters[g]) for g in GATES)
        bias = {"b": biases[0]} if biases[0] else {}
        for joined in JOINED:
            rows = "outputs" if shape[0] < shape[1] else "inputs"
            words = {"order": order, "weights": f"per gate, concat {joined}", "rows": rows}
            yield words | {"names": {"W": pattern} | ({} if "1" in joined else bias)}
        for other in matrices:
            if other != pattern:
                for rows in ("outputs", "inputs"):
                    words = {"order": order, "weights": "per gate", "rows": rows}
                    yield words | {"names": {"W": pattern, "U": other} | bias}


def packed(shapes):
    """Blocks of gates side by side, in every order."""
    matrices = [k for k, s in shapes.items() if len(s) == 2 and 1 not in s]
    flat = [k for k, s in shapes.items() if len([n for n in s if n != 1]) <= 1]
    bias = {"b": flat[0]} if flat else {}
    orders = ["".join(order) for order in itertools.permutations(GATES)]
    for rows, order in itertools.product(("inputs", "outputs"), sorted(orders, key=usual)):
        words: dict[str, Any] = {"order": order, "rows": rows}
        if any(shapes[k][rows == "inputs"] % len(GATES) for k in matrices):
            continue
        for W, U in itertools.permutations(matrices, 2):
            yield words | {"weights": "separate", "names": {"W": W, "U": U} | bias}
        for W in matrices if len(matrices) == 1 else ():
            for joined in JOINED:
                own = {} if "1" in joined else bias
                yield words | {"weights": f"concat {joined}", "names": {"W": W} | own}


def usual(order):
    known = ("ifgo", "ifog", "igfo", "fgio", "figo", "fiog", "iofg")
    return known.index(order) if order in known else len(known)
