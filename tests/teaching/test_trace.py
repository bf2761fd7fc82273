"""The trace: every printed number against the fixtures, every printed equation computed again."""

import json
import math
import pathlib
import re
import shlex
import shutil
import xml.etree.ElementTree as ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm import textbook
from jax_lstm.commands.main import main
from jax_lstm.notation import GATES
from jax_lstm.teaching import beside
from jax_lstm.teaching import examples as tutorials
from jax_lstm.teaching import graph as drawing
from jax_lstm.teaching import paper as worked
from tests.tables import (
    CELLS,
    QUICK,
    assert_close,
    assert_same,
    normal_like,
    problem,
    value_and_cotangents,
)

HERE = pathlib.Path(__file__).parents[1]
README = (HERE.parent / "README.md").read_text()
SIZE = (3, 2, 4, 5)  # T, B, D, H


def fixture(name):
    return json.loads((HERE / "fixtures" / f"{name}.json").read_text())


def status(*arguments):
    """Of the command, whoever it is that complains."""
    try:
        return main(["trace", *map(str, arguments)])
    except SystemExit as error:
        return error.code


@pytest.fixture(scope="module")
def runs():
    """Each example once."""
    found = {name: list(tutorials.runs(name)) for name in ("gomez", "coursera", "mazur", "wildml")}
    found["random"] = list(tutorials.runs("random", SIZE, 3))
    found["elman"] = list(tutorials.runs("random", SIZE, 3, "elman"))
    return found


# What is printed ------------------------------------------------------------------------------


def printed_numbers(text):
    """{(part, t, name): printed value} of one run's table; vectors and elements as lists."""
    found, part, name = {}, None, None
    text = re.sub(r" *\n {6}(?=\S)(?!FORK| without)", " ", text)  # what was wrapped
    for line in text.split("\n"):
        head = re.fullmatch(r"(forward|backward), t = (\d+)|(over time).*|(one step).*", line)
        if head:
            part = (head[1] or head[3] or head[4], head[2] and int(head[2]))
        line = re.split(r"   (?:Gomez|Mazur):", line)[0]
        element = re.match(r"    (?:\[\d+\])+ .* = (\S+)$", line.rstrip())
        stage = re.match(r"  (\w+)(?: |$)(.*)", line)
        if element and (*part, name) in found:
            found[*part, name].append(element[1])
        elif stage and part:
            name = stage[1]
            last = stage[2].rsplit("= ", 1)[-1].strip()
            numbers = re.fullmatch(r"\[(.*)\]", last)
            plain = re.fullmatch(r"-?[\d.]+(e-?\d+)?", last)
            found[*part, name] = numbers[1].split(", ") if numbers else [last] if plain else []
    return found


def digits(x):
    """As printed: five digits, and no sign on zero."""
    return [f"{v + 0.0:.5g}" for v in np.ravel(x)]


@pytest.fixture(scope="module")
def gomez_printed(runs):
    tables = [run.table() for run in runs["gomez"]]
    return dict(zip(("zero_state", "remembered_state"), tables, strict=True))


def test_the_command_prints_both_runs_of_gomez(gomez_printed, capsys):
    assert status("--example", "gomez") == 0
    assert capsys.readouterr().out == "\n\n\n".join(gomez_printed.values()) + "\n"


@pytest.mark.parametrize("start", ["zero_state", "remembered_state"])
def test_every_printed_number_of_gomez(gomez_printed, start):
    want, printed = fixture("gomez")[start], printed_numbers(gomez_printed[start])
    seen = 0
    for t, numbers in enumerate(want["forward"]):
        for name, x in numbers.items():
            for k, v in zip(GATES, x, strict=True) if name == "a" else [("", x)]:
                seen += 1
                assert printed["forward", t, f"{name}_{k}".strip("_")] == digits(v)
    for t, numbers in enumerate(want["backward"]):
        for name, x in numbers.items():
            name = {"dh_from_loss": "dh_from_outside"}.get(name, name)
            for k, v in zip(GATES, x, strict=True) if name == "da" else [("", x)]:
                seen += 1
                assert printed["backward", t, f"{name}_{k}".strip("_")] == digits(v)
    g, after = want["gradients"], want["after_one_sgd_step"]
    for k, n in zip(GATES, range(4), strict=True):
        for w in "WUb":
            seen += 1
            column = np.asarray(g[f"d{w}"])[..., n]
            assert printed["over time", None, f"d{w}_{k}"] == digits(column)
            new = np.ravel(np.asarray(after["params"].get(w, []))[..., n])
            for row, x in enumerate(new):
                index = rf"\[{row}\]" if w == "W" else ""
                (said,) = re.findall(rf"  {w}_{k}{index} - .* = (\S+)$", gomez_printed[start], re.M)
                assert said == digits(x)[0]
    assert printed["backward", 0, "dh_prev"] == digits(g["dh0"])
    assert printed["backward", 0, "dc_prev"] == digits(g["dc0"])
    losses = f"loss: {digits(want['loss'])[0]} before, {digits(after['loss'])[0]} after"
    assert losses in gomez_printed[start]
    assert seen == 2 * (4 + 7) + 2 * (4 + 8) + 12


def test_his_digits_stand_beside_ours_in_his_order(gomez_printed):
    lines = gomez_printed["zero_state"].split("\n")
    his = [re.search(r"= (\S+) +Gomez: (\w+)_(\d) = (\S+)$", line) for line in lines]
    found = [m.groups() for m in his if m]
    names = ["a", "i", "f", "o", "state", "out"]
    assert [(name, t) for _, name, t, _ in found] == [(n, t) for t in "01" for n in names]
    published = fixture("gomez")["published"]
    ours = dict(zip(names, "gifoch", strict=True))
    for mine, name, t, said in found:
        assert float(said) == published[ours[name]][int(t)]
        assert abs(float(mine) - float(said)) < (2e-5 if float(said) < 1 else 5e-5)
    backward = [re.match(r"  (\w+) = ", line) for line in lines[lines.index("backward, t = 0") :]]
    order = [m[1] for m in backward if m]
    his_order = ["dh", "dc", "da_g", "da_i", "da_f", "da_o", "dx_g", "dh_prev"]
    assert [name for name in order if name in his_order][: len(his_order)] == his_order


@pytest.mark.parametrize("indent", ["  ", "    "])
def test_values_stand_in_one_column(indent):
    """Whatever the length of the text before them."""
    for n in range(1, 200):
        text = " + ".join(["0.25*(-0.5)"] * (n // 11) + ["9" * (n % 11 + 1)])
        *before, last = worked.valued(indent, text, 0.5, "")
        assert last.index("= 0.5") == worked.WIDTH + 3
        assert "".join([*before, last]).replace(" ", "") == text.replace(" ", "") + "=0.5"


def test_no_line_is_wider_than_a_page(runs):
    assert max(map(len, runs["wildml"][0].table().split("\n"))) <= worked.WIDTH + 16


@pytest.mark.parametrize("start", ["zero_state", "remembered_state"])
def test_a_reader_of_gomez_can_answer(gomez_printed, start):
    """What is dL/dc at the first step, which branches meet there, what without one of them?"""
    want = fixture("gomez")[start]["backward"][0]
    (dc,), (from_next,) = want["dc"], want["dc_from_next"]
    (from_h,) = digits(dc - from_next)
    (dc,), (from_next,) = digits(dc), digits(from_next)
    first_step = gomez_printed[start].split("backward, t = 0\n")[1].split("over time")[0]
    text = " ".join(first_step.split())
    signed = f"({from_next})" if from_next.startswith("-") else from_next
    assert f"dc = dc_from_h + dc_from_next = {from_h} + {signed} = {dc} FORK" in text
    assert "c goes into tanh(c), and so into h: dc_from_h; and into the forget product of" in text
    assert f"without dc_from_h: dc = {from_next}" in text
    assert f"without dc_from_next: dc = {from_h}" in text
    assert "dX is dL/dX; the first step is t = 0" in gomez_printed[start]


# Equations ------------------------------------------------------------------------------------

FUNCTIONS = {
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "tanh": np.tanh,
    "log": np.log,
    "softmax": lambda y: np.exp(y) / np.exp(y).sum(-1, keepdims=True),
}
EVERY = ["gomez", "coursera", "mazur", "wildml", "random", "elman"]


@pytest.mark.parametrize("example", EVERY)
def test_every_equation_is_true(runs, example):
    """The text of each line, evaluated by NumPy on what it names, is the value it stands for."""
    for run in runs[example]:
        counted = 0
        for s in run.traced.stages:
            if not s.equation:
                continue
            value = np.asarray(s.value)
            names = {re.sub(r"\W", "_", k): np.asarray(x) for k, x in s.of.items()}
            text = re.sub(r"\(t=(\d+)\)", r"_t_\1_", s.equation).replace("^", "**")
            known = {"sum": (lambda x: x.sum(0)) if value.ndim else np.sum}
            got = eval(text, FUNCTIONS | known | names)
            assert_close(np.broadcast_to(got, value.shape), value)
            counted += 1
        assert counted > 10


def last_digit(x):
    """Half a unit of the fifth digit: what printing may have rounded away."""
    return 0.5 * 10.0 ** (math.floor(math.log10(abs(x))) - 4) if x else 0.0


def computed(text):
    """As a pocket calculator does, and how far the rounding of its numbers may carry."""
    calculator = {"exp": math.exp, "tanh": math.tanh, "log": math.log, "__builtins__": {}}
    text = text.replace("^", "**")
    got, room = eval(text, calculator), 0.0
    for m in re.finditer(r"\d[\d.]*(?:e[-+]?\d+)?", text.replace("**2", "   ")):
        if m[0] not in ("1", "2"):
            other = str(float(m[0]) + last_digit(float(m[0])))
            room += abs(eval(text[: m.start()] + other + text[m.end() :], calculator) - got)
    return got, room


@pytest.mark.parametrize("example", EVERY)
def test_every_line_can_be_followed_with_a_pocket_calculator(runs, example):
    """The numbers of a line, computed as they are printed, give the value that is printed."""
    run = runs[example][-1]
    for s in run.traced.stages:
        places = worked.elements(s, 0) if s.equation else []
        for place in places[: worked.EACH]:
            text = worked.worked(s.equation, s.of, place)
            assert "..." not in text
            got, room = computed(text)
            want = float(f"{float(s.value[place]):.5g}")
            assert abs(got - want) <= 1.5 * room + 1.01 * last_digit(want) + 1e-12, (s.name, text)


@pytest.mark.parametrize("example", ["gomez", "random", "elman", "wildml"])
def test_a_fork_is_the_sum_of_its_branches(runs, example):
    (run, *_), seen = runs[example], set()
    for s in run.traced.stages:
        if s.branches:
            seen.add(s.name)
            assert_close(sum(s.of[k] for k in s.branches), s.value)
            assert s.note
    assert {"dh", "dU" if "a" in run.traced.forward else "dU_f"} <= seen


# The arrays -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["lstm", "elman"])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)], ids=str)
def test_the_arrays_by_name_are_the_gradient(cell, batch):
    """dW_i ... dxs, dh0, dc0 against JAX, for cotangents on every h_t and on the last state."""
    row = CELLS[cell]
    T, _, D, H = SIZE
    args = params, state, xs = problem(row, (T, 1, D, H), batch=batch)
    f = row.sequence_autodiff
    (_, hs), (dparams, dstate, dxs) = value_and_cotangents(f, args, 7, QUICK)
    dlast, dhs = normal_like(7, jax.eval_shape(f, *args))
    got = jl.trace(params, state, xs, dhs, dlast=dlast)
    assert_close(got.forward["h"], hs)
    assert_close({k: got.gradients[f"d{k}0"] for k in state._fields}, dstate._asdict())
    assert_close(got.gradients["dxs"], dxs)
    for w in "WUb":
        names = [f"d{w}_{k}" for k in GATES] if cell == "lstm" else [f"d{w}"]
        assert_close(jnp.concatenate([got.gradients[k] for k in names], -1), getattr(dparams, w))
        assert got.backward[names[0]].shape == (T, *got.gradients[names[0]].shape)
    assert got.backward["dh_prev"].shape == (T, *batch, H)
    assert got.loss is None
    assert_close(got.backward["dh"], dhs + got.backward["dh_from_next"])


def test_the_names_and_numbers_are_the_textbook_s(runs):
    p, traced = runs["random"][0].problem, runs["random"][0].traced
    params = textbook.from_packed(*(jnp.asarray(p.params[k]) for k in "WUb"))
    steps = textbook.forward(params, jnp.asarray(p.xs), p.state["h"], p.state["c"])
    dhs = jnp.stack([s["h"] for s in steps]) - p.ys
    want = textbook.backward(params, steps, dhs, p.dlast["h"], p.dlast["c"])
    for t, (s, d) in enumerate(zip(steps, want.deltas, strict=True)):
        assert_same({k: traced.forward[k][t] for k in s}, s)
        assert_same({k: traced.backward[k][t] for k in d}, d)
    sums = {f"d{k}": x for k, x in want.dparams._asdict().items()}
    assert_same({k: traced.gradients[k] for k in sums}, sums)


def test_targets_are_half_the_squared_error():
    params, state, xs = problem(CELLS["lstm"], SIZE)
    ys = normal_like(5, jnp.zeros((*xs.shape[:-1], SIZE[-1])))
    hs = jl.trace(params, state, xs, ys=ys)
    assert_close(hs.loss, jl.squared_error(hs.forward["h"], ys).sum())
    assert_close(hs.backward["dh_from_outside"], hs.forward["h"] - ys)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"xs": jnp.zeros((0, 2, 4))}, "no time step"),
        ({"dhs": None}, "either `dhs`"),
        ({"ys": jnp.zeros((3, 2, 5))}, "either `dhs`"),
        ({"dhs": jnp.zeros((3, 2, 4))}, r"`dhs` must be \(T, ..., H\) = \(3, 2, 5\)"),
        ({"dhs": jnp.zeros((3, 2, 5), jnp.float32)}, "in float64; got float32"),
        ({"dlast": (jnp.zeros((2, 5)),)}, "fields h, c"),
        ({"dlast": 3}, "fields h, c"),
        ({"dlast": jl.LSTMState(jnp.zeros((2, 5)), jnp.zeros(5))}, "`dlast.c` must be"),
        ({"xs": jnp.zeros((3, 0, 4)), "state": jl.LSTMState(*[jnp.zeros((0, 5))] * 2)}, "example"),
        ({"order": "ifg"}, "`order` must be"),
        ({"xs": jnp.zeros((3, 2, 5))}, "D = 4"),
        ({"xs": jnp.zeros(4)}, r"`xs` must be \(T, ..., D\); got shape \(4,\)"),
        ({"xs": [[[0.0] * 4] * 2] * 3}, "`xs` must be arrays; got float"),
        ({"state": (jnp.zeros((2, 5)), jnp.zeros((2, 5)))}, "`state` must be a NamedTuple"),
        ({"params": problem(CELLS["lstm"], SIZE, jnp.float32)[0]}, "float32"),
    ],
)
def test_what_cannot_be_traced(change, match):
    params, state, xs = problem(CELLS["lstm"], SIZE)
    given = {"params": params, "state": state, "xs": xs, "dhs": jnp.zeros((3, 2, 5))} | change
    with pytest.raises(ValueError, match=match):
        jl.trace(**given)


@pytest.mark.parametrize("dtype", ["float16", "complex128"])
def test_no_trace_of_other_numbers(dtype):
    params, _, xs = problem(CELLS["lstm"], SIZE)
    params, xs = jax.tree.map(lambda x: x.astype(dtype), (params, xs))
    state = jl.init_lstm_state(params, (2,))
    with pytest.raises(ValueError, match=f"float32 or float64; got {dtype}"):
        jl.trace(params, state, xs, jnp.zeros((3, 2, 5), dtype))


def test_float32_stays_float32():
    params, state, xs = problem(CELLS["lstm"], SIZE, jnp.float32)
    got = jl.trace(params, jax.tree.map(jnp.float32, state), xs, jnp.ones((3, 2, 5), jnp.float32))
    assert {x.dtype for x in jax.tree.leaves(got[:3])} == {jnp.dtype("float32")}


# The examples ---------------------------------------------------------------------------------


def test_what_is_shipped_is_what_the_tests_hold():
    for name in ("gomez", "mazur", "wildml"):
        shipped = tutorials.settings(name)
        want = fixture({"wildml": "wildml_rnn"}.get(name, name))
        for k in set(shipped) & set(want) - {"about", "published"}:
            assert shipped[k] == want[k], (name, k)
    gomez, want = tutorials.settings("gomez"), fixture("gomez")
    assert gomez["published"] == want["published"]
    for start, state in gomez["states"].items():
        assert state == {"h": want[start]["h0"], "c": want[start]["c0"]}


def test_mazur(runs):
    (run,), want = runs["mazur"], fixture("mazur")
    g, printed = run.traced.gradients, run.table()
    dw = np.concatenate([np.asarray(g[k]).T.reshape(-1) for k in ("dW1", "dW2")])
    assert_close(dw, np.asarray(want["dw"]))
    assert_close(run.traced.forward["h"][0], jnp.asarray(want["hidden"]))
    assert_close([g["db1"].sum(), g["db2"].sum()], [jnp.asarray(x) for x in want["db"]])
    for n, w in enumerate(want["w_after_1"]):
        assert re.search(rf"^  w{n + 1} = .* = {re.escape(digits(w)[0])}( |$)", printed, re.M)
    assert f"after   Mazur: 0.298371109, {want['published']['loss_after_1']}" in printed
    beside = re.findall(r"^ .* = ([\d.]+) +Mazur: ([\d.]+)$", printed, re.M)
    assert len(beside) == 5
    assert all(abs(float(a) - float(b)) < 1e-5 for a, b in beside)
    assert status("--example", "mazur", "--mutant", "dc not carried") == 2


def test_wildml(runs):
    (run,), want = runs["wildml"], fixture("wildml_rnn")
    g = run.traced.gradients
    got = {"U": g["dW"].T, "W": g["dU"].T, "V": g["dV"].T}
    assert_close(got, jax.tree.map(jnp.asarray, {k: np.asarray(want["gradients"][k]) for k in got}))
    assert_close(run.traced.loss, jnp.asarray(want["loss"]))
    assert f"loss = {digits(want['loss'])[0]}" in run.table()


def test_coursera(runs):
    (run,), f = runs["coursera"], fixture("coursera_seq")
    want = {k: np.asarray(x) for k, x in f["gradients"].items()}
    H, g = want["da0"].shape[0], run.traced.gradients
    assert_close(g["dxs"], want["dx"].transpose(2, 1, 0))
    assert_close(g["dh0"], want["da0"].T)
    assert_close(g["dc0"], want["dc0"].T)
    for c, k in zip("ifco", GATES, strict=True):
        assert_close(jnp.concatenate([g[f"dU_{k}"], g[f"dW_{k}"]]), want[f"dW{c}"].T)
        assert_close(g[f"db_{k}"], want[f"db{c}"][:, 0])
    lines = run.table().split("what the notebook printed for years")[1].split("\n")
    said = {x[0]: x[1:] for x in map(str.split, lines) if len(x) == 3}
    key = f["old_answer_key"]
    assert len(said) == 4 + len(key) - 1
    for t, x in enumerate(key["dx_1_2"]):
        truth = want["dx"][1, 2, t]
        assert said[f"dx[1][2][{t}]"] == digits([truth, x])
    for name in set(key) - {"dx_1_2"}:
        leaf, *index = name.split("_")
        index = [int(n) for n in index]
        theirs = f"{leaf}{worked.brackets(index)}"
        truth = want[leaf][*index, 0] if leaf.startswith("db") else want[leaf][*index]
        assert said[theirs] == digits([truth, key[name]])
    assert H == 5


# Truth and mistake ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("example", "name", "first"),
    [
        ("gomez", "dc not carried", ("backward", 0, "dc")),
        ("gomez", "dh not carried", ("backward", 0, "dh")),
        ("gomez", "tanh of c of t-1", ("backward", 1, "dc")),
        ("gomez", "recurrence of g", ("backward", 0, "dh")),
        ("gomez", "c of t", ("backward", 1, "da_f")),
        ("gomez", "sign of dU", ("over time", None, "dU_i")),
        ("gomez", "forget offset", ("forward", 0, "f")),
        ("elman", "slope of a", ("backward", 2, "da[0][0]")),
        ("elman", "h0 zero", ("forward", 0, "h_prev[0][0]")),
        ("wildml", "dh not carried", ("backward", 2, "dh[0][0]")),
        ("random", "x of t-1", ("over time", None, "dW_i[0][0]")),
    ],
)
def test_the_first_difference_of_a_mistake(runs, example, name, first):
    run = runs[example][0]
    got = beside.beside(run.problem, run.cell, name)
    assert got.first()[:3] == first
    marked = [line for line in got.table().split("\n") if "FIRST DIFFERENCE" in line]
    assert len(marked) == 1
    part, t, name = first
    assert marked[0].split()[0] == name
    assert f"{name} is {digits(got.first().truth)[0]}, and" in got.sentence()
    names = {"forward": run.traced.forward, "backward": run.traced.backward}
    truth = names.get(part, run.traced.gradients).get(name.split("[")[0])
    if truth is not None:  # two independent programs
        truth = np.ravel(truth if t is None else truth[t])[0]
        assert_close(jnp.asarray(got.first().truth), jnp.asarray(truth))


def test_of_larger_arrays_one_number_is_shown_and_that_is_said(runs):
    few, many = (beside.beside(runs[k][0].problem, "lstm", "1 - f") for k in ("gomez", "random"))
    assert "the one that differs most is shown" not in few.table()
    assert "more than 6 numbers, the one that differs most is shown" in many.table()
    assert len([x for x in many.table().split("\n") if x.startswith("  dW_g")]) == 1


def test_a_mistake_that_makes_no_difference_says_so(runs):
    run = runs["gomez"][0]
    got = beside.beside(run.problem, "lstm", "h0 zero")
    assert got.first() is None
    assert "no number differs" in got.table()


def test_truth_and_mistake_with_nan_in_one_example(runs, tmp_path, capsys):
    """It is marked, and does not hide where the other example first differs."""
    problem = runs["random"][0].problem
    xs = problem.xs.copy()
    xs[1, 0, 2] = np.nan
    got = beside.beside(problem._replace(xs=xs), "lstm", "dc not carried")
    assert got.first()[:3] == ("backward", 1, "dc[1][0]")
    params, given = brought(problem, "ours", tmp_path, with_nan)
    assert status("--params", params, "--input", given, "--mutant", "dc not carried") == 2
    out, err = capsys.readouterr()
    assert err == "jax-lstm: error: NaN: x[0][2] at t=1, forward; what it reaches is marked\n"
    lines = out.split("\n")
    assert [x for x in lines if re.search(r"\d nan| nan ", x)] == [
        x for x in lines if "<-- NaN" in x
    ]
    assert "<-- NaN" in out


def test_mutants_by_the_command(capsys, tmp_path):
    file = tmp_path / "m.json"
    assert status("--mutant", "dc not carried", "--json", file, "--csv", tmp_path / "m.csv") == 0
    printed = capsys.readouterr().out
    assert printed.count("FIRST DIFFERENCE") == 2
    want = fixture("gomez")["zero_state"]["backward"][0]
    (without,) = digits(want["dc"][0] - want["dc_from_next"][0])
    assert re.search(rf"dc +{digits(want['dc'])[0]} +{without} +<-- FIRST DIFFERENCE", printed)
    rows = json.loads(file.read_text())["runs"][0]["rows"]
    assert next(r for r in rows if r["differs"])["name"] == "dc"
    assert len((tmp_path / "m.csv").read_text().strip().split("\n")) == 1 + 2 * len(rows)
    assert status("--mutant", "dc not caried") == 2
    assert "did you mean 'dc not carried'" in capsys.readouterr().err
    assert status("--mutant", "1 - f", "--svg", tmp_path / "m.svg") == 2


# Files ----------------------------------------------------------------------------------------


def test_json_and_csv_hold_every_number_in_full(runs, tmp_path):
    files = tmp_path / "t.json", tmp_path / "t.csv"
    size = ",".join(map(str, SIZE))
    assert status(
        *("--example", "random", "--size", size, "--seed", 3, "--json", files[0], "--csv", files[1])
    ) == 0  # fmt: skip
    (found,), traced = json.loads(files[0].read_text())["runs"], runs["random"][0].traced
    for part in ("forward", "backward", "gradients"):
        for k, x in getattr(traced, part).items():
            np.testing.assert_array_equal(np.asarray(found[part][k]), np.asarray(x))
    forks = {s["name"]: s["branches"] for s in found["stages"] if "branches" in s}
    assert forks["dc"] == ["dc_from_h", "dc_from_next"]
    lines = files[1].read_text().strip().split("\n")
    assert len(lines) == 1 + sum(np.size(s.value) for s in traced.stages)
    value = float(np.asarray(traced.backward["dc"])[1, 1, 2])
    assert any(f",backward,1,dc,[1][2],dc_from_h + dc_from_next,{value!r}" in x for x in lines)


def brought(p, layout, tmp_path, change=lambda d: d):
    """A Problem in two files, weights and the rest, as somebody else has them."""
    weights, rest = dict(p.params), {"xs": p.xs, "ys": p.ys, "h0": p.state["h"], "c0": p.state["c"]}
    if layout == "torch":
        weights = {f"weight_{a}_l0": p.params[k].T for a, k in (("ih", "W"), ("hh", "U"))}
        weights["bias_ih_l0"] = p.params["b"]
        rest = {"input": p.xs, "target": p.ys, "h_0": rest["h0"][None], "c_0": rest["c0"][None]}
    files = tmp_path / "params.npz", tmp_path / "input.json"
    np.savez(files[0], **weights)
    rest = {k: np.asarray(x).tolist() for k, x in change(rest).items()}
    files[1].write_text(json.dumps({"layout": layout, "problem": rest}))
    return files


@pytest.mark.parametrize("layout", ["ours", "torch"])
def test_a_network_of_ones_own(runs, layout, tmp_path, capsys):
    (run,) = runs["random"]
    params, given = brought(run.problem, layout, tmp_path)
    assert status("--params", params, "--input", given, "--row", 1) == 0
    printed = capsys.readouterr().out
    assert f"params.npz, lstm, layout {layout}" in printed
    assert "Of 2 examples, example 1 is shown" in printed
    assert printed.split("step 1.")[1] == (run.table(1) + "\n").split("step 1.")[1]


def with_nan(rest):
    xs = rest["xs"].copy()
    xs[1, 0, 2] = np.nan
    return rest | {"xs": xs}


def test_nan_is_shown_and_marked(runs, tmp_path, capsys):
    params, given = brought(runs["random"][0].problem, "ours", tmp_path, with_nan)
    assert status("--params", params, "--input", given, "--json", tmp_path / "n.json") == 2
    out, err = capsys.readouterr()
    assert "NaN: x[0][2] at t=1, forward. Every number that it reaches is marked." in out
    assert "NaN: x[0][2] at t=1, forward" in err
    before, after = out.split("forward, t = 1")
    assert "<-- NaN" not in before
    lines = after.split("\n")
    assert all("<-- NaN" in x for x in lines if re.search(r"= nan( |$)|= \[.*nan", x))
    assert sum("<-- NaN" in x for x in lines) > 50
    found = json.loads((tmp_path / "n.json").read_text())["runs"][0]
    assert found["forward"]["x"][1][0][2] == "NaN"
    assert isinstance(found["forward"]["c"][0][0][0], float)


# Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--example", "random", "--size", "0,1,2,2"], "T=0"),
        (["--example", "random", "--size", "3,1,2"], "four whole numbers"),
        (["--example", "random", "--size", "3,1,2,x"], "four whole numbers"),
        (["--example", "random", "--size", "30,2,4,5"], "too large to print"),
        (["--example", "random", "--size", "30,2,4,5"], "--csv FILE"),
        (["--example", "random", "--size", "9999,1,99,999"], "a trace keeps at most 5,000,000"),
        (["--example", "random", "--size", "5,1,2,1", "--svg", "{}/a.svg"], "4 steps, 3 inputs"),
        (["--example", "mazur", "--svg", "{}/a.svg"], "graph is that of a recurrent network"),
        (["--svg", "{}/a.png"], "name it .svg"),
        (["--json", "{}/no/such/folder.json"], "cannot be written"),
        (["--json", "{}"], "cannot be written"),
        (["--json", "{}/kept.json"], "--force"),
        (["--example", "gomez", "--size", "3,1,2,2"], "--size"),
        (["--example", "gomez", "--params", "{}/kept.json"], "leave --example"),
        (["--params", "{}/nothing.json"], "is no file"),
        (["--params", "{}/kept.json"], "no JSON"),
        (["--params", "{}/empty.npz"], "size 0"),
        (["--params", "{}/half.json"], "lacks"),
        (["--example", "gomes"], "invalid choice"),
        (["--row", "1"], "`row` must be an example of the batch, 0 to 0"),
        (["--mutant", ""], "no mistake ''"),
        (["--mutant", "1 - f", "--row", "0"], "leave --row and --svg out"),
        (["--seed", "3"], "--seed belongs to --example random"),
        (["--layout", "torch"], "--layout belongs to --params"),
        (["--cell", "elman"], "--cell belongs to --example random or --params"),
        (["--json", "{}/a.json", "--csv", "{}/a.json"], "must name different files"),
        (["--params", ""], "is no file"),
        (["--params", "{}/list.json"], "list.json must hold arrays by name; got list"),
        (["--params", "{}/torch.json", "--input", "{}/keras.json"], "two layouts, keras and torch"),
    ],
)
def test_bad_input_is_exit_status_2(runs, arguments, says, tmp_path, capsys):
    kept = tmp_path / "kept.json"
    kept.write_text("mine")
    whole = {k: x.tolist() for k, x in runs["random"][0].problem.params.items()}
    (tmp_path / "half.json").write_text(json.dumps({"problem": whole}))
    (tmp_path / "list.json").write_text('{"problem": [1, 2]}')
    for layout in ("torch", "keras"):
        (tmp_path / f"{layout}.json").write_text(json.dumps({"layout": layout, "problem": whole}))
    np.savez(tmp_path / "empty.npz", **whole, xs=np.zeros((0, 2, 4)), dhs=np.zeros((0, 2, 5)))
    assert status(*(x.format(tmp_path) for x in arguments)) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.out == ""
    assert kept.read_text() == "mine"


def test_force_writes_over_a_file(tmp_path, capsys):
    file = tmp_path / "kept.json"
    file.write_text("mine")
    assert status("--json", file, "--force") == 0
    assert json.loads(file.read_text())["runs"][1]["title"].startswith("Gomez")


def test_what_is_too_large_to_print_is_written_all_the_same(tmp_path, capsys):
    file = tmp_path / "t.csv"
    assert status("--example", "random", "--size", "30,2,4,5", "--csv", file) == 0
    said = capsys.readouterr()
    assert "too large to print" in said.err
    assert said.out == ""
    assert len(file.read_text().split("\n")) > 10_000


def test_without_matplotlib_the_picture_is_a_clear_message(monkeypatch, tmp_path, capsys):
    found = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *a: None if name == "matplotlib" else found(name, *a),
    )
    assert status("--svg", tmp_path / "a.svg") == 2
    assert "pip install 'jax_lstm[experiments]'" in capsys.readouterr().err
    assert not (tmp_path / "a.svg").exists()


# The picture ----------------------------------------------------------------------------------

COMMITTED = HERE.parent / "docs" / "gomez.svg"


def words(svg):
    """[(text, colour)] of a picture."""
    tree = ElementTree.fromstring(svg)
    for text in tree.iter("{http://www.w3.org/2000/svg}text"):
        fill = re.search(r"fill: (#\w+)", text.get("style", ""))
        yield "".join(text.itertext()).strip(), fill[1] if fill else "#000000"


def test_the_graph_has_values_and_cotangents_on_its_edges(tmp_path, capsys):
    file = tmp_path / "g.svg"
    assert status("--svg", file) == 0
    found = list(words(file.read_text()))
    want = fixture("gomez")["zero_state"]
    short = lambda x: f"{x + 0.0:.4g}"
    for t in range(2):
        forward, back = want["forward"][t], want["backward"][t]
        for name in "ifgo":
            assert (short(forward[name][0]), drawing.FORWARD.lower()) in found
        for name in ("dh_from_loss", "dh_from_next", "dc_from_next"):
            assert (short(back[name][0]), drawing.BACK.lower()) in found
        for x in (*forward["a"],):
            assert (short(x), drawing.FORWARD.lower()) in found
        for x in back["da"]:
            assert (short(x), drawing.BACK.lower()) in found
        from_h, from_next = (short(x) for x in (
            back["dc"][0] - back["dc_from_next"][0], back["dc_from_next"][0]))  # fmt: skip
        signed = f"({from_next})" if from_next.startswith("-") else from_next
        fork = f"dc = {from_h} + {signed} = {short(back['dc'][0])}"
        assert (fork, drawing.BACK.lower()) in found
    assert [text for text, _ in words(COMMITTED.read_text())] == [text for text, _ in found]
    assert COMMITTED.stat().st_size < 150_000


LARGEST = (drawing.STEPS, 1, drawing.INPUTS, drawing.UNITS)


@pytest.mark.parametrize(
    ("cell", "size", "labels"),
    [("lstm", (3, 1, 2, 2), 150), ("lstm", LARGEST, 200), ("elman", LARGEST, 50)],
)
def test_no_label_covers_another(cell, size, labels):
    """Neither at the command's default nor at the largest size: no two texts overlap."""
    (run,) = tutorials.runs("random", size, 0, cell)
    picture = drawing.figure(run.traced, run.title)
    picture.draw_without_rendering()
    texts = [text for text in picture.axes[0].texts if text.get_text()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    assert len(boxes) > labels
    for n, (one, a) in enumerate(boxes):
        for other, b in boxes[:n]:
            width = min(a.x1, b.x1) - max(a.x0, b.x0)
            height = min(a.y1, b.y1) - max(a.y0, b.y0)
            assert not (width > 2 and height > 2), (one, other)


# README ---------------------------------------------------------------------------------------


def test_readme_s_table_is_what_the_command_prints(gomez_printed):
    section = README.split("## See it")[1].split("\n## ")[0]
    blocks = re.findall(r"```text\n(.*?)```", section, re.S)
    assert blocks
    for block in blocks:
        assert block.rstrip("\n") in gomez_printed["zero_state"]


def test_readme_s_commands_run_where_the_files_are_already(tmp_path, monkeypatch, capsys):
    section = README.split("## See it")[1].split("\n## ")[0]
    commands = re.findall(r"`\.venv/bin/python -m jax_lstm trace( [^`]*)?`", section)
    assert any("--svg docs/gomez.svg" in command for command in commands)
    (tmp_path / "docs").mkdir()
    shutil.copy(COMMITTED, tmp_path / "docs")
    monkeypatch.chdir(tmp_path)
    for command in commands:
        assert status(*shlex.split(command)) == 0
