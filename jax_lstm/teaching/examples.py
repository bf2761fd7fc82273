"""What `trace` is run on: the examples people learn from, random numbers, and one's own network.

    gomez       an LSTM with one unit, in his order, from zeros and from a remembered state
    coursera    the exercise `lstm_backward`, and the answer key that was printed for years
    mazur       two dense layers: the same stages, no time
    wildml      a plain recurrent network with a softmax after every step

Each is a Run: a title, its Traced, the problem it is (so that a mistake can be put beside it), and
what the author printed. The settings stand in literature/*.json, with their sources.
"""

import json
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm import printing
from jax_lstm.cells.elman import ElmanParams, ElmanState
from jax_lstm.cells.lstm import LSTMParams, LSTMState
from jax_lstm.diagnosis import brought, forms, given, templates
from jax_lstm.diagnosis import problem as problems
from jax_lstm.diagnosis.catalogue import Problem
from jax_lstm.diagnosis.head import from_outside
from jax_lstm.diagnosis.settings import SETTINGS, read_settings
from jax_lstm.diagnosis.switches import switch
from jax_lstm.engine.shapes import shape_of
from jax_lstm.notation import GATES
from jax_lstm.stages import bias, bias_bwd, linear, linear_bwd, sigmoid, sigmoid_bwd
from jax_lstm.stages.losses import (
    softmax_cross_entropy,
    softmax_cross_entropy_bwd,
    squared_error,
    squared_error_bwd,
)
from jax_lstm.stages.readout import DenseParams, dense, dense_bwd
from jax_lstm.teaching import paper, trace
from jax_lstm.teaching.equations import evaluate, fill, number, write

LITERATURE = Path(__file__).parent / "literature"
TRACED = {"lstm": (LSTMParams, LSTMState), "elman": (ElmanParams, ElmanState)}


class Run(NamedTuple):
    """A trace with its title; what stands beside and below it; the problem it is the trace of.

    note: below the title. beside: {(name, t): text}. below: lines. descent: one step of gradient
    descent, the Stages that `below` tells. cell: of the problem, which is None where nothing
    recurs.
    """

    title: str
    traced: Any
    beside: dict[Any, str] | None = None
    below: tuple[str, ...] = ()
    problem: Problem | None = None
    cell: str = "lstm"
    note: str = ""
    descent: tuple[trace.Stage, ...] = ()

    def table(self, row=0, page=paper.PAPER):
        """All of it as text, or what is shown on a Page."""
        options = {"row": row, "beside": self.beside, "page": page}
        text = paper.table(self.traced, self.title, self.note, **options)
        below = "\n".join(self.below) if page.is_whole() else ""
        return "\n\n".join([text, *([printing.fit(below, page.width)] if below else [])])


def runs(example, size=(3, 1, 2, 2), seed=0, cell="lstm"):
    """The runs of an example by name."""
    if example == "random":
        return random(size, seed, cell)
    return {"gomez": gomez, "coursera": coursera, "mazur": mazur, "wildml": wildml}[example]()


EXAMPLES = ("gomez", "coursera", "mazur", "wildml", "random")


def settings(name):
    return json.loads((LITERATURE / f"{name}.json").read_text(encoding="utf-8"))


def trace_problem(problem, cell, order=GATES):
    """The trace of a Problem, with the lines of its loss."""
    Params, State = TRACED[cell]
    params = Params(*(jnp.asarray(problem.params[k]) for k in Params._fields))
    state = State(*(jnp.asarray(problem.state[k]) for k in State._fields))
    last = State(*(jnp.asarray(problem.dlast[k]) for k in State._fields))

    def cotangents(hs):
        hs, pick = [np.asarray(h) for h in hs], switch([()])
        dhs = [jnp.asarray(from_outside(problem, hs, pick, t)) for t in range(len(hs))]
        return trace.from_cotangents(dhs)(hs)

    squares = problem.loss == "squared_error" and problem.scale == 1
    outside = trace.squared_errors(jnp.asarray(problem.ys)) if squares else cotangents
    return trace.trace_rows(params, state, jnp.asarray(problem.xs), last, outside, order)


# Gomez: an LSTM with one unit -----------------------------------------------------------------

GOMEZ_ORDER = ("g", "i", "f", "o")
GOMEZ = {"g": "a", "i": "i", "f": "f", "o": "o", "c": "state", "h": "out"}
GOMEZ_LETTERS = (
    "His letters: a is g, state is c, out is h; δout is dh, δstate is dc, Δout is dh_from_next; "
    "δa, δi, δf, δo are da_g, da_i, da_f, da_o. Of his digits, those of the forward are kept here; "
    "the last one may be off by one."
)


def gomez():
    f = settings("gomez")
    one = lambda x: np.asarray(x, np.float64)[..., None, :]  # one example
    beside = {
        (name, t): f"Gomez: {GOMEZ[name]}_{t} = {digits}"
        for name, published in f["published"].items()
        for t, digits in enumerate(published)
    }
    for name, starts in (("zero_state", "zeros"), ("remembered_state", "the state it ended in")):
        state = {k: one(x) for k, x in f["states"][name].items()}
        params = {k: np.asarray(x, np.float64) for k, x in f["params"].items()}
        zeros = {k: 0 * x for k, x in state.items()}
        xs, ys = one(f["xs"]), one(f["ys"])
        problem = Problem(params, state, xs, "squared_error", 0 * ys, ys, 1.0, zeros)
        traced = trace_problem(problem, "lstm", GOMEZ_ORDER)
        below, descent = descend_gomez(traced, problem, f["learning_rate"])
        yield Run(
            f"Gomez' example from {starts}",
            traced,
            beside if name == "zero_state" else None,
            below,
            problem,
            note=GOMEZ_LETTERS if name == "zero_state" else "",
            descent=descent,
        )


def descend_gomez(traced, problem, rate):
    """One step of gradient descent, as he ends: lines and Stages."""
    d = {w: np.concatenate([traced.gradients[f"d{w}_{k}"] for k in GATES], axis=-1) for w in "WUb"}
    params = {w: problem.params[w] - rate * d[w] for w in "WUb"}
    after = trace_problem(problem._replace(params=params), "lstm").loss
    descent = []
    for n, k in enumerate(GATES):
        for w in "WUb":
            old, slope, new = (np.atleast_2d(x[w])[:, n] for x in (problem.params, d, params))
            of = {f"{w}_{k}": old, f"d{w}_{k}": slope}
            for row in range(len(new)):
                index = f"[{row}]" if w == "W" else ""
                descent.append(descend(f"{w}_{k}", index, rate, of, new[row : row + 1]))
    lines = [f"one step of gradient descent, w - {rate:g} * dw"]
    for s in descent:
        text = paper.join(s.equation, write(fill(s.equation, s.of, (0,))))
        lines += paper.write_value("  ", text, s.value[0])
    lines.append(f"  loss: {number(traced.loss)} before, {number(after)} after")
    return tuple(lines), tuple(descent)


def descend(name, index, rate, of, value):
    """The Stage of one weight: w - rate * dw."""
    equation = f"{name}{index} - {rate:g} * d{name}{index}"
    return trace.Stage("one step of gradient descent", None, name + index, equation, of, value)


# Coursera: the exercise, and what its notebook printed for years ------------------------------


def coursera():
    found = brought.read(templates.examples()["coursera"])
    problem = problem_of(found["problem"], "coursera", "lstm")
    traced = trace_problem(problem, "lstm")
    g = {k: np.asarray(x) for k, x in traced.gradients.items()}
    rows = []
    H = problem.params["U"].shape[0]
    letters = dict(zip("ifco", GATES, strict=True))
    for name, printed in found["gradient"].items():
        match = given.ENTRY.fullmatch(name)
        if printed is None or match is None:
            continue
        index = [int(n) for n in match[2].strip("[]").split("][")]
        kind, k = match[1][:2], letters.get(match[1][-1], "")
        if kind == "dx":
            truth = g["dxs"][:, index[1], index[0]]
        elif kind == "da":
            truth = g["dh0"][index[1], index[0]]
        elif kind == "db":
            truth = g[f"db_{k}"][index[0]]
        else:
            row, column = index
            truth = g[f"dU_{k}"][column, row] if column < H else g[f"dW_{k}"][column - H, row]
        for t, (a, b) in enumerate(zip(np.ravel(truth), np.ravel(printed), strict=True)):
            what = f"{name}[{t}]" if np.size(truth) > 1 else name
            rows.append((what, number(a), number(b)))
    below = [
        "what the notebook printed for years, in its own names",
        textwrap.indent(printing.table(("", "truth", "printed"), rows), "  "),
        "",
        "The key carries neither dh nor dc from step to step: --mutant 'nothing carried'.",
    ]
    yield Run("Coursera's exercise lstm_backward", traced, None, tuple(below), problem)


# Mazur: two dense layers ----------------------------------------------------------------------


def mazur():
    f = settings("mazur")
    w, b, x, target = (jnp.asarray(f[k], float) for k in ("w", "b", "x", "t"))
    x, target = x[None], target[None]
    traced = trace_mazur(w, b, x, target)
    g = traced.gradients
    dw = np.concatenate([np.asarray(g[k]).T.reshape(-1) for k in ("dW1", "dW2")])
    new = w - f["learning_rate"] * dw
    after, said = trace_mazur(new, b, x, target).loss, f["published"]
    beside = {
        (name, None): "Mazur: " + ", ".join(v for v in np.ravel(said[name]) if v)
        for name in ("a1", "h", "a2", "y", "loss")
    }
    rate = f["learning_rate"]
    below = [f"one step of gradient descent, w - {rate:g} * dw, in his order"]
    descent = tuple(
        descend(f"w{n}", "", rate, {f"w{n}": w[n - 1], f"dw{n}": dw[n - 1]}, new[n - 1])
        for n in range(1, len(w) + 1)
    )
    for s, digits in zip(descent, said["w_after_1"], strict=True):
        text = paper.join(s.name, write(fill(s.equation, s.of, ())))
        below += paper.write_value("  ", text, s.value, f"Mazur: {digits}" if digits else "")
    below.append(
        f"  loss: {number(traced.loss)} before, {number(after)} after"
        f"   Mazur: {said['loss']}, {said['loss_after_1']}"
    )
    note = (
        "W1 has his w1 and w2 in its first column, the weights into the first hidden unit; W2 "
        "likewise w5 and w6. h is his out_h, y his out_o, a1 and a2 his net inputs. He has one "
        "offset per layer: the derivative by it would be the sum of the two numbers of db."
    )
    title = "Mazur's network of two layers"
    yield Run(title, traced, beside, tuple(below), note=note, descent=descent)


def trace_mazur(w, b, x, target):
    """The stages and their twins, one after the other."""
    W1, W2 = w[:4].reshape(2, 2).T, w[4:].reshape(2, 2).T
    b1, b2 = jnp.repeat(b[:, None], 2, axis=1)
    a1 = bias(linear(x, W1), b1)
    h = sigmoid(a1)
    a2 = bias(linear(h, W2), b2)
    y = sigmoid(a2)
    dy, _ = squared_error_bwd((y, target), jnp.ones(1))
    da2, db2 = bias_bwd(None, sigmoid_bwd(y, dy))
    dh, dW2 = linear_bwd((h, W2), da2)
    da1, db1 = bias_bwd(None, sigmoid_bwd(h, dh))
    dx, dW1 = linear_bwd((x, W1), da1)
    known = {"W1": W1, "W2": W2, "b1": b1, "b2": b2, "x": x, "target": target, "a1": a1, "h": h}
    known |= {"a2": a2, "y": y, "loss": squared_error(y, target).sum(), "dy": dy, "da2": da2}
    ends = {"dW1": dW1, "db1": db1, "dW2": dW2, "db2": db2}
    known |= ends | {"dh": dh, "da1": da1, "dx": dx}
    forward = [("x", ""), ("target", ""), ("W1", ""), ("b1", ""), ("W2", ""), ("b2", "")]
    forward += [("a1", "x @ W1 + b1"), ("h", "sigmoid(a1)")]
    forward += [("a2", "h @ W2 + b2"), ("y", "sigmoid(a2)"), ("loss", "sum((y - target)^2) / 2")]
    backward = [("dy", "y - target"), ("da2", "dy * y * (1 - y)"), ("dW2", "h.T @ da2")]
    backward += [("db2", "sum(da2)"), ("dh", "da2 @ W2.T"), ("da1", "dh * h * (1 - h)")]
    backward += [("dW1", "x.T @ da1"), ("db1", "sum(da1)"), ("dx", "da1 @ W1.T")]
    lines = [
        *trace.tell("forward", None, forward, known),
        *trace.tell("backward", None, backward, known),
    ]
    return trace.collect(lines, ends, known["loss"])


# WildML: a recurrent language model -----------------------------------------------------------


def wildml():
    f = settings("wildml")
    U, V, W = (jnp.asarray(f["params"][k], float).T for k in "UVW")
    params = ElmanParams(U, W, jnp.zeros(len(W)))
    xs = jax.nn.one_hot(jnp.asarray(f["x"]), len(U), dtype=U.dtype)[:, None]
    h0 = jnp.zeros((1, len(W)))
    outside = softmaxes(V, jnp.asarray(f["y"])[:, None])
    traced = trace.trace_rows(params, (h0,), xs, (h0,), outside)
    dhs = np.asarray(traced.backward["dh_from_outside"])
    arrays = {k: np.asarray(x) for k, x in params._asdict().items()}
    zero = {"h": np.asarray(h0)}
    guess = f"{len(xs)} * log({len(U)})"
    problem = Problem(arrays, zero, np.asarray(xs), "cotangents", dhs, None, 1.0, zero)
    note = (
        "His letters: s is h, o is p; his U is W here, his W is U, and V is V, all transposed. x "
        f"is the word as a one-hot row. Guessing evenly among {len(U)} words would lose "
        f"{guess} = {number(evaluate(fill(guess, {}, ())))}."
    )
    yield Run("WildML's recurrent network", traced, problem=problem, cell="elman", note=note)


def softmaxes(V, targets):
    """What comes after h_t: logits y = h V, and L = -log softmax(y) of the target."""

    def step(h, target):
        readout = DenseParams(V, jnp.zeros(V.shape[1], V.dtype))
        y = dense(readout, h)  # (5)
        dy, _ = softmax_cross_entropy_bwd((y, target), jnp.ones(len(h), h.dtype))  # (7')
        dreadout, dh = dense_bwd((readout, h), dy)  # (5')
        loss = softmax_cross_entropy(y, target).sum()  # (7)
        one_hot = jax.nn.one_hot(target, V.shape[1], dtype=h.dtype)
        found = {"y": y, "p": jax.nn.softmax(y), "target": one_hot, "loss": loss, "dy": dy}
        return found | {"V": V, "dV": dreadout.W, "dh_from_outside": dh}

    forward = [("y", "h @ V"), ("p", "softmax(y)"), ("target", "")]
    forward += [("loss", "-sum(target * log(p))")]
    backward = [("dy", "p - target"), ("dV", "h.T @ dy"), ("dh_from_outside", "dy @ V.T")]
    return lambda hs: trace.Outside(
        [step(h, target) for h, target in zip(hs, targets, strict=True)],
        forward,
        backward,
        ("V",),
    )


# Random numbers, and one's own ----------------------------------------------------------------


def random(size, seed=0, cell="lstm"):
    """Normal numbers of any size."""
    T, B, D, H = size
    if min(T, B) < 1:
        raise ValueError(
            f"--size must have T, B >= 1, or there is nothing to trace; got T={T}, B={B}"
        )
    n = {"lstm": 4, "elman": 1}[cell]
    paper.check_size(T, B, D, H, n)
    rng = np.random.default_rng(seed)
    normal = lambda *shape: rng.normal(size=shape).round(2)
    params = {"W": normal(D, n * H), "U": normal(H, n * H), "b": normal(n * H)}
    fields = TRACED[cell][1]._fields
    state, zeros = ({k: x(B, H) for k in fields} for x in (normal, lambda *s: np.zeros(s)))
    xs, ys = normal(T, B, D), normal(T, B, H)
    problem = Problem(params, state, xs, "squared_error", 0 * ys, ys, 1.0, zeros)
    title = f"random numbers, {cell}, T={T}, B={B}, D={D}, H={H}, seed {seed}"
    yield Run(title, trace_problem(problem, cell), problem=problem, cell=cell)


def own(paths, layout=None, cell=None):
    """One's own network: files as `diagnose` reads them, weights in one and the rest in another.

    Args:
      paths: of .json, .npz or .safetensors brought. The names are those of the layout.
      layout, cell: default: what a file says, or "ours" and "lstm".
    """
    found = [brought.read(path) for path in paths]
    arrays: dict[str, Any] = {}
    cell = cell or read_setting(found, "cell", "lstm")
    layout = layout or read_setting(found, "layout", "ours")
    for path, f in zip(paths, found, strict=True):
        more = f.get("problem") or f.get("gradient") or {}
        if not isinstance(more, dict):
            raise ValueError(f"{path} must hold arrays by name; got {type(more).__name__}")
        arrays |= more
    problem = problem_of(arrays, layout, cell)
    title = f"{paths[0]}, {cell}, layout {layout}"
    yield Run(title, trace_problem(problem, cell), problem=problem, cell=cell)


def read_setting(found, name, default):
    """What the files say of themselves, if they agree."""
    said = {str(f[name]) for f in found if name in f}
    if len(said) > 1:
        raise ValueError(f"the files are of two {name}s, {' and '.join(sorted(said))}")
    return next(iter(said), default)


def problem_of(arrays, layout, cell):
    """A Problem of arrays in a layout; NaN is let through, to be shown."""
    if cell not in TRACED:
        raise ValueError(f"`cell` must be among {', '.join(TRACED)}; got {cell!r}")
    form, told = forms.find_layout(layout, cell), read_settings(arrays)
    whole: dict[str, Any] = {}
    for k, x in arrays.items():
        if k in SETTINGS or x is None:
            continue
        whole[k], known, _ = brought.numbers(x, k)
        if not known.all():
            raise ValueError(f"`{k}` must be whole; it has null")
    sizes = problems.check_problem(whole, form, layout)
    whole = {k: x.reshape(shape_of(form.problem[k], sizes)) for k, x in whole.items()}
    problem = problems.problem_of(form.to_ours(whole), told, cell, sizes, form.forward)
    T, B, D = problem.xs.shape
    paper.check_size(T, B, D, problem.params["U"].shape[0], len(GATES) if cell == "lstm" else 1)
    return problem
