"""The page: what it is given, that it needs nothing else, and that its numbers are the trace's."""

import json
import re

import numpy as np
import pytest

from jax_lstm.teaching import beside, examples, webpage
from jax_lstm.teaching.equations import number
from tests.teaching.kit import put_nan, status
from tests.teaching.web import ask, needs_node, numbers

CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def own_of(page):
    return json.loads(re.search(r'id="own">(.*?)</script>', page)[1])


@pytest.fixture(scope="module")
def packed(runs):
    return {
        f"{name} {n}": (run, webpage.pack(run, name))
        for name, some in runs.items()
        for n, run in enumerate(some)
    }


# The file -------------------------------------------------------------------------------------


def test_a_page_needs_nothing_else_and_is_small(runs):
    for name in ("gomez", "coursera", "mazur", "wildml"):
        page = webpage.html(runs[name])
        assert len(page.encode()) <= 300_000
        assert not re.findall(r'(?:src|href)="(?!data:)', page.split("<script")[0])
        assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", page)
        assert own_of(page)["runs"] == []  # it is inside already
        assert own_of(page)["start"]["example"] == name


def test_a_number_costs_at_most_twelve_bytes(runs):
    """A problem's numbers are all that a larger page has more, and names of truncations."""
    x = np.random.default_rng(0).normal(size=(40, 25))
    assert len(webpage.embed(webpage.pack_array(x))) <= 12 * x.size
    (run,) = runs["random"]
    arrays, _ = webpage.given(run.traced)
    assert set(webpage.pack(run, "own")["arrays"]) == set(arrays)
    assert all(s.name not in arrays for s in run.traced.stages if s.equation)


def test_the_examples_inside_are_those_of_today(packed):
    """They are written by `python -m jax_lstm.teaching.webpage`."""
    inside = json.loads((webpage.PAGE / "examples.json").read_text("utf-8"))
    assert [x["id"] for x in inside] == [
        "gomez", "gomez-remembered", "coursera", "mazur", "wildml", "random",
    ]  # fmt: skip
    names = ["gomez 0", "gomez 1", "coursera 0", "mazur 0", "wildml 0"]
    for x, name in zip(inside[:-1], names, strict=True):
        assert packed[name][1] | {"id": x["id"]} == x
    page = (webpage.PAGE / "page.html").read_text("utf-8")
    assert (webpage.PAGE / "examples.json").read_text("utf-8").strip() in page


def test_the_built_example_of_the_docs_is_of_today(runs):
    built = (webpage.PAGE.parents[2] / "docs" / "gomez.html").read_text("utf-8")
    assert built.rstrip("\n") == webpage.html(runs["gomez"]).rstrip("\n")


def test_a_title_cannot_leave_its_element(runs):
    (run,) = runs["random"]
    page = webpage.html([run._replace(title="</script><b>")])
    assert "</script><b>" not in page
    assert own_of(page)["runs"][0]["title"] == "</script><b>"


def test_a_notebook_shows_the_page_and_the_tables(runs):
    traced = runs["elman"][0].traced
    shown = traced._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert "<table>" in shown
    assert traced.html("mine") != traced.html()
    nothing = traced._replace(forward={})
    assert nothing._repr_html_().startswith("<p>")
    with pytest.raises(ValueError, match="the page is of an LSTM"):
        nothing.html()


def test_the_command_writes_a_page(tmp_path, capsys):
    file = tmp_path / "p.html"
    assert status("--html", file) == 0
    assert own_of(file.read_text())["start"] == {"example": "gomez", "mistake": "", "row": 0}
    assert status("--mutant", "dc not carried", "--html", file, "--force") == 0
    assert own_of(file.read_text())["start"]["mistake"] == "dc not carried"
    assert status("--html", file) == 2
    assert "--force writes over it" in capsys.readouterr().err


def test_what_the_page_cannot_show_is_said(runs):
    with pytest.raises(ValueError, match="did you mean 'dc not carried'"):
        webpage.html(runs["gomez"], mistake="dc not caried")
    with pytest.raises(ValueError, match="`row` must be an example of the batch, 0 to 0; got 1"):
        webpage.html(runs["gomez"], row=1)


# The numbers, by the page's own script --------------------------------------------------------


def compare(found, traced):
    """Every line with its equation, its fork and its numbers."""
    assert len(found["stages"]) == len(traced.stages)
    for a, s in zip(found["stages"], traced.stages, strict=True):
        told = a["part"], a["t"], a["name"], a["equation"], tuple(a["branches"]), a["note"]
        assert told == (s.part, s.t, s.name, s.equation, s.branches, s.note)
        np.testing.assert_allclose(numbers(a["value"]), np.ravel(s.value), err_msg=s.name, **CLOSE)
    if traced.loss is not None:
        np.testing.assert_allclose(float(found["loss"]), traced.loss, **CLOSE)


@needs_node
def test_the_numbers_are_those_of_the_trace(packed, tmp_path):
    found = ask(tmp_path, [("lines", x) for _, x in packed.values()])
    for one, (run, _) in zip(found, packed.values(), strict=True):
        compare(one, run.traced)


@needs_node
def test_an_edit_computes_everything_again(runs, packed, tmp_path):
    (run, x), edits = packed["random 0"], {"W_f[1][2]": 0.25, "x[1][0][3]": -2.5, "c0[1][0]": 3.0}
    p = run.problem
    W, xs, c0 = p.params["W"].copy(), p.xs.copy(), p.state["c"].copy()
    W[1, c0.shape[1] + 2], xs[1, 0, 3], c0[1, 0] = edits.values()
    changed = p._replace(params=p.params | {"W": W}, xs=xs, state=p.state | {"c": c0})
    wrong = {"W_f[9][9]": 1.0, "constructor": 1.0, "x[0]": 1.0}
    given = webpage.pack(run._replace(problem=changed), "own")
    kept, again, none = ask(
        tmp_path, [("lines", x, edits), ("lines", given, wrong), ("lines", x, wrong)]
    )
    compare(kept, examples.trace_problem(changed, "lstm"))
    compare(again, run.traced)
    compare(none, run.traced)
    nan = put_nan({"xs": p.xs})["xs"]
    (found,) = ask(tmp_path, [("lines", x, {"x[1][0][2]": float("nan")})])
    compare(found, examples.trace_problem(p._replace(xs=nan), "lstm"))


@needs_node
def test_a_loss_of_one_s_own_follows_h(runs, tmp_path):
    """Of binary cross-entropy and of a scale, the cotangent is computed again, not kept."""
    p = runs["random"][0].problem
    for loss in ("binary_cross_entropy", "softmax_cross_entropy", "squared_error"):
        one = p._replace(loss=loss, ys=abs(p.ys), scale=0.5)
        run = examples.Run("own", examples.trace_problem(one, "lstm"), problem=one)
        x, state = webpage.pack(run, "own"), one.state | {"h": one.state["h"].copy()}
        state["h"][0, 1] = 0.75
        changed = one._replace(state=state)
        (found,) = ask(tmp_path, [("lines", x, {"h0[0][1]": 0.75})])
        compare(found, examples.trace_problem(changed, "lstm"))


@needs_node
@pytest.mark.parametrize(
    "name",
    [
        "gomez 1",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("random 0", "elman 0", "wildml 0")
        ),
    ],
)
def test_every_mistake_is_that_of_the_catalogue(packed, name, tmp_path):
    run, x = packed[name]
    found = ask(tmp_path, [("lines", x, {}, mistake) for mistake in x["mistakes"]])
    assert len(found) > 35
    for mistake, one in zip(x["mistakes"], found, strict=True):
        known = {
            (s["part"], s["t"], s["name"]): numbers(s["value"]).reshape(s["shape"])
            for s in one["stages"]
        }
        for k, values in one["ends"].items():
            known["over time", None, k] = numbers(values).reshape(np.shape(run.problem.state["h"]))
        b = beside.put_beside(run.problem, run.cell, mistake)
        for pair in b.pairs:
            leaf, *index = pair.name.replace("]", "").split("[")
            place = tuple(map(int, index)) or ...
            value = float(np.squeeze(known[pair.part, pair.t, leaf][place]))
            np.testing.assert_allclose(value, pair.mistake, err_msg=f"{mistake}: {pair}", **CLOSE)
        first = b.first()
        if first is not None and first.part != "over time":
            assert one["first"] is not None, mistake


@needs_node
def test_a_fork_without_a_branch_is_the_catalogue_s_mistake(packed, tmp_path):
    """Where the catalogue has the same one; at one step alone, the other steps are the truth's."""
    _, x = packed["gomez 1"]
    same = {
        "without dc_from_next": "dc not carried",
        "without dh_from_next": "dh not carried",
        "without dc_from_h": "dc only carried",
        "without dh_prev_f": "recurrence of f",
        "without dx_g": "input of g",
    }
    jobs = [("lines", x, {}, name) for name in [*same, *same.values()]]
    one = ("lines", x, {}, "without dx_g at t=1"), ("lines", x, {}, "without dW_i(t=0)")
    *found, here, share, right, none = ask(
        tmp_path, [*jobs, *one, ("lines", x), ("lines", x, {}, "of no name")]
    )
    assert none is None  # nothing is computed for a name that no switch has
    for cut, known in zip(found[: len(same)], found[len(same) :], strict=True):
        for a, b in zip(cut["stages"], known["stages"], strict=True):
            if a["name"] in ("dh", "dc", "dx", "dh_prev") or a["part"] == "over time":
                np.testing.assert_allclose(a["value"], b["value"], err_msg=a["name"], **CLOSE)
    differs = [
        (a["t"], a["name"])
        for a, b in zip(here["stages"], right["stages"], strict=True)
        if a["value"] != b["value"]
    ]
    assert differs == [(1, "dx")]
    sums = [s for s in share["stages"] if s["name"] == "dW_i"]
    assert sums[-1]["value"] == sums[0]["value"]  # of t=1, told first
    assert sums[-1]["equation"] == "dW_i(t=1)"


@needs_node
def test_digits_are_written_as_on_paper(tmp_path):
    values = [0.851949, -0.00164591, 0.0, 1e-5, 123456.7, 99999.6, 3.0, 1e22, -6.1e-5, 0.00012345]
    found = ask(tmp_path, [("digits", x) for x in values])
    assert found == [number(x) for x in values]


def test_a_page_is_of_what_a_trace_was_given(runs):
    """Without a Problem, from the lines alone; float32 is said to be."""
    (run,) = runs["random"]
    single = tuple(
        s._replace(value=np.float32(s.value), of={k: np.float32(x) for k, x in s.of.items()})
        for s in run.traced.stages
    )
    packed = webpage.pack(examples.Run("mine", run.traced._replace(stages=single)), "own")
    assert packed["single"]
    assert packed["mistakes"] == webpage.pack(run, "own")["mistakes"]
    W = webpage.given(run.traced._replace(stages=single))[0]["W_f"]
    np.testing.assert_array_equal(W, np.float32(np.split(run.problem.params["W"], 4, -1)[1]))
