"""Who is right? A gradient that somebody brings, beside the truth and beside known mistakes.

Reads what they have (a dict, a .npz, .json or .safetensors file, a function), complains in their
letters, turns it into our layout, and hands it to the referee with the table of the cell.

    {"layout": "coursera", "problem": {"Wf": ..., "x": ..., "da": ...}, "gradient": {"dWf": ...}}

A gradient need not be whole: null (None) stands for what is not known, of an array or of one
number, and a single number can be given as it is printed: "dWf[3][1]": -0.0698198561274.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from jax_lstm import referee
from jax_lstm.diagnosis.asked import one_step_each
from jax_lstm.diagnosis.brought import read
from jax_lstm.diagnosis.forward import judge_forward
from jax_lstm.diagnosis.given import call, given_of
from jax_lstm.diagnosis.guess import guess_layout
from jax_lstm.diagnosis.kinds import kind_of
from jax_lstm.diagnosis.problem import problem_of, read_problem
from jax_lstm.diagnosis.tables import table_for, table_of
from jax_lstm.doors import check_flag, check_text, refuse

Arrays: TypeAlias = dict[str, Any] | str | Path  # by name, or the file that holds them


def diagnose(
    gradient: Arrays | Callable[[dict[str, Any]], dict[str, Any]],
    problem: Arrays | None = None,
    *,
    layout: str | dict[str, Any] | None = None,
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
        the gradient's file. States and what is not given of them are zero. It may have a readout
        Wy (H, K), by (K,), an embedding E (N, D) with tokens (T, B), the forward's own hs, cs and
        "loss_value", and "reduction", "weight_decay", "clip_value", "clip_norm", "learning_rate"
        and "forward": docs/diagnose.md.
      layout: "ours", "torch", "keras", "coursera", ... or a description, {"order": "fiog",
        "weights": "concat [h, x]", "rows": "outputs", "axes": "T,B,D", "names": {"W": "W_all"}};
        "guess" finds one that fits. Default: what the file says, or "ours".
        `python -m jax_lstm diagnose --template LAYOUT` shows the names of each.
      cell: one of CELLS. Of "lstm", "lstmp" and "elman" every mistake of the catalogue is known, of
        the others those that know no gate. Default: what the file says, or "lstm".
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
    if not isinstance(layout, dict):
        check_text("layout", "" if layout is None else layout, "None, a name or a description")
    check_text("cell", "" if cell is None else cell, "None or a name")
    check_flag("pairs", bool(pairs) if pairs is None else pairs)
    files = [read(x) if isinstance(x, str | Path) else None for x in (gradient, problem)]
    found, problem = files[0] or {}, find_problem(files, problem)
    for key, default in (("layout", "ours"), ("cell", "lstm")):
        said = [f[key] for f in files if f and key in f]
        asked = {"layout": layout, "cell": cell}[key]
        asked = asked if asked is not None else said[0] if said else default
        layout, cell = (asked, cell) if key == "layout" else (layout, asked)
    if problem is None:
        raise ValueError("the problem is missing: pass `problem`, or a file that holds it too")
    function, notes = gradient if callable(gradient) else None, ()
    if layout == "guess":
        there = {} if function else found.get("gradient", gradient)
        layout, notes = guess_layout(problem, there if isinstance(there, dict) else {}, cell or "")
    brought = read_problem(problem, layout, cell)
    ours, kind = brought.form.to_ours(brought.arrays), kind_of(brought.cell)
    forward, value = brought.form.forward, brought.settings.get("loss_value")
    whole = problem_of(ours, brought.settings, brought.cell, brought.sizes, forward)
    whole, judged = judge_forward(kind, whole, ours, value)
    absent = () if {"b", "b again"} & set(ours) else ("b",)
    table = table_of(brought.cell, whole, brought.settings, absent)  # before a function runs
    if function:
        gradient = call(function, brought.raw)
    elif files[0]:
        gradient = found.get("gradient") or {}
    if not isinstance(gradient, dict):
        refuse("gradient", "a dict, a file or a function", gradient)
    rate = brought.settings.get("learning_rate")
    of = brought.form, brought.layout, brought.sizes
    given, dtype = given_of(gradient, *of, steps=brought.steps, rate=rate)
    verdict = referee.diagnose(given, table_for(table, given), dtype=dtype, pairs=pairs)
    verdict = verdict._replace(notes=(*notes, *judged))
    unknown = function and not verdict.explanations and not verdict.lost
    if unknown and brought.plain and kind.states and len(whole.xs) > 1:
        leaves = [*zip(verdict.leaves, (g.leaf for g in given), strict=True)]
        alone = one_step_each(function, brought, leaves)
        verdict = verdict._replace(first=f"{verdict.first}; {alone}")
    open_question = not (verdict.explanations or verdict.lost or judged or function)
    if open_question and kind.forward is not None:
        asked = "hs and cs of your forward in the problem would tell whether that is another"
        verdict = verdict._replace(hint=asked)
    return verdict


def find_problem(files, problem):
    if files[1] is not None:
        return files[1].get("problem") or files[1].get("gradient")  # a file of bare names
    return problem if problem is not None else (files[0] or {}).get("problem")
