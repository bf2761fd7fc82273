"""The page in a real browser: Debian's Chromium without a window, driven by playwright."""

import itertools
import json

import numpy as np
import pytest

from jax_lstm.teaching import examples, webpage
from tests.teaching.kit import put_nan
from tests.teaching.web import CHROMIUM, install

sync = pytest.importorskip("playwright.sync_api", reason="pip install 'jax_lstm[page]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]
WIDTHS = (375, 1280, 1920)
WIDER = """[...document.querySelectorAll("body *")].filter((e) =>
  !e.closest("svg, math, .hidden, .skip, .scroll:not(.right .scroll), .strip") && e.clientWidth &&
  e.scrollWidth > e.clientWidth + 1).map((e) => `${e.tagName}.${e.className}`)"""
CUT = """[...document.querySelectorAll("svg.step")].flatMap((s) => {
  const box = s.viewBox.baseVal;
  return [...s.querySelectorAll("text")].filter((t) => {
    const b = t.getBBox();
    return b.width && (b.x < -1 || b.x + b.width > box.width + 1 || b.y + b.height > box.height);
  }).map((t) => t.textContent);
})"""
COVERED = """[...document.querySelectorAll("svg.step g")].flatMap((g) => {
  const box = g.querySelector("rect.box");
  return !box ? [] : [...g.querySelectorAll("text")].filter(
    (t) => t.getBBox().width > box.getBBox().width + 2 && t.className.baseVal != "first-mark")
    .map((t) => t.textContent);
})"""

SMALL = """[...document.querySelectorAll("svg.step text, svg.step tspan")].filter((t) => {
  const svg = t.closest("svg");
  const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  return t.textContent && parseFloat(getComputedStyle(t).fontSize) * scale < 10.7;
}).map((t) => t.textContent)"""
ENDS = """[...document.querySelectorAll("svg.step")].flatMap((svg) => {
  const boxes = [...svg.querySelectorAll("g.pill")].filter((g) => /^[WU]$/.test(g.dataset.stage));
  return [...svg.querySelectorAll("path.edge")].flatMap((p) => {
    const end = p.getPointAtLength(p.getTotalLength());
    return boxes.flatMap((g) => {
      const b = g.querySelector("rect").getBBox();
      const at = end.x > b.x - 3 && end.x < b.x + b.width + 3 && end.y > b.y - 3 &&
        end.y < b.y + b.height + 3;
      return at ? [[g.dataset.stage, p.dataset.value]] : [];
    });
  });
})"""


@pytest.fixture(scope="module")
def files(tmp_path_factory, runs):
    folder = tmp_path_factory.mktemp("pages")
    (large,) = examples.runs("random", (20, 1, 8, 16), 0)
    p = runs["random"][0].problem
    nan = p._replace(xs=put_nan({"xs": p.xs})["xs"])
    made = {name: runs[name] for name in ("gomez", "coursera", "wildml", "mazur")}
    made["large"] = [large]
    made["nan"] = [runs["random"][0]._replace(traced=examples.trace_problem(nan, "lstm"))]
    for name, some in made.items():
        (folder / f"{name}.html").write_text(webpage.html(some), encoding="utf-8")
    return {name: (f"file://{folder}/{name}.html", some) for name, some in made.items()}


@pytest.fixture(scope="module")
def browser():
    with sync.sync_playwright() as p:
        found = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def visit(browser):
    """A page that is open, with what it asked for and what it complained of."""
    pages = []

    def go(address, width=1280, **options):
        page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        page.set_default_timeout(120_000)  # of a machine that does much else
        page.said, page.asked = [], []
        kinds = ("error", "warning")
        page.on("console", lambda m: page.said.append(m.text) if m.type in kinds else None)
        page.on("pageerror", lambda e: page.said.append(str(e)))
        page.on("request", lambda r: page.asked.append(r.url))
        page.goto(address)
        page.wait_for_selector(".panel")
        pages.append(page)
        return page

    yield go
    for page in pages:
        page.close()


def told(page):
    """The line that is told: its name, and all digits of the number that is worked out."""
    name = page.locator("#told code").inner_text()
    full = page.locator("[data-role=numbers] .full").get_attribute("data-value")
    return name, float(full)


@pytest.mark.parametrize("name", ["gomez", "coursera", "wildml", "mazur", "large", "nan"])
def test_it_opens_alone_and_nothing_overflows(files, visit, name):
    address, _ = files[name]
    for width, theme in zip(WIDTHS, ("dark", "light", "dark"), strict=True):
        page = visit(address, width, color_scheme=theme)
        page.keyboard.press("End")
        page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
        page.wait_for_timeout(300)
        assert page.asked == [address]
        assert page.said == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate(WIDER) == []
        assert page.evaluate(CUT) == []
        assert page.evaluate(COVERED) == []
        assert page.evaluate(SMALL) == []


def test_stepping_tells_every_line_of_gomez(files, visit):
    address, (run, *_) = files["gomez"]
    page = visit(address)
    for n, s in enumerate(run.traced.stages):
        name, value = told(page)
        assert name == s.name
        assert page.locator(".panel .nan").count() == 0
        # 1e-12 is the promise; the absolute part is for numbers that are 0 but for rounding
        np.testing.assert_allclose(value, np.ravel(s.value)[0], rtol=1e-12, atol=1e-15)
        if s.branches:
            fork = page.locator(".fork-block")
            assert "without this branch" in fork.inner_text()
            assert page.evaluate(WIDER) == []
        assert f"stage {n + 1} of {len(run.traced.stages)}" in page.locator(".count").inner_text()
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowLeft")
    assert told(page)[0] == "dW_g"
    page.keyboard.press("Home")
    assert told(page)[0] == "x"
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelector('#told code').textContent != 'x'")
    assert page.get_by_role("button", name="Pause").count() == 1


def test_a_click_in_the_graph_goes_there(files, visit):
    address, (run, *_) = files["gomez"]
    page = visit(address)
    page.get_by_role("button", name="show all numbers").click()
    page.locator("g.card[data-stage=c][data-t='1']").click()
    assert told(page) == ("c", pytest.approx(float(run.traced.forward["c"][1, 0, 0]), rel=1e-12))
    page.locator("g.card[data-stage=c][data-t='1']").click()
    assert told(page)[0] == "dc"
    shown = page.locator("svg.step [data-name=dc]").all()
    values = [float(x.get_attribute("data-value")) for x in shown]
    np.testing.assert_allclose(values, np.ravel(run.traced.backward["dc"]), rtol=1e-12)


@pytest.mark.parametrize("name", ["gomez", "large", "wildml"])
def test_all_numbers_are_those_of_the_trace(files, visit, name):
    address, (run, *_) = files[name]
    page = visit(address)
    page.locator(".all-numbers summary").click()
    lines = page.locator(".all-numbers tbody tr").evaluate_all(
        "rows => rows.map((r) => [r.dataset.part, r.dataset.t, r.dataset.name, "
        "[...r.querySelectorAll('[data-value]')].map((x) => Number(x.dataset.value))])"
    )
    known = {(s.part, "" if s.t is None else str(s.t), s.name): s.value for s in run.traced.stages}
    assert len(lines) > 9
    for part, t, stage, values in lines:
        want = np.ravel(known[part, t, stage])[: len(values)]
        np.testing.assert_allclose(values, want, rtol=1e-12, atol=1e-14)


def test_an_edit_is_computed_and_stands_in_the_address(files, visit):
    address, (run, *_) = files["gomez"]
    page = visit(address + "#example=gomez&at=117")
    field = page.locator("[data-edit='W_f[1][0]']")
    field.fill("-0.75")
    W = run.problem.params["W"].copy()
    W[1, 1] = -0.75
    p = run.problem._replace(params=run.problem.params | {"W": W})
    want = examples.trace_problem(p, "lstm", examples.GOMEZ_ORDER)
    loss = page.locator("[data-role=loss]")
    assert float(loss.get_attribute("data-value")) == pytest.approx(float(want.loss), rel=1e-12)
    assert told(page)[1] == pytest.approx(float(want.gradients["db_o"][0]), rel=1e-12)
    assert page.locator(".edited .was").inner_text().startswith("was 0.45")
    effect = page.locator("[data-role=effect] [data-value]").evaluate_all(
        "xs => xs.map((x) => Number(x.dataset.value))"
    )
    gradients = [float(x.gradients["db_o"][0]) for x in (run.traced, want)]
    losses = [float(x.loss) for x in (run.traced, want)]
    np.testing.assert_allclose(effect, losses + gradients, rtol=1e-12)
    field.fill("half")
    assert page.get_by_role("alert").inner_text() == (
        "“half” is not a number, so -0.75 still holds. Write it as 0.5, -2e-3, NaN or inf."
    )
    assert float(loss.get_attribute("data-value")) == pytest.approx(float(want.loss), rel=1e-12)
    page.wait_for_function("location.hash.includes('W_f')")
    again = visit(page.url)
    assert told(again) == told(page)
    page.get_by_role("button", name="as it was", exact=True).click()
    assert told(page)[1] == pytest.approx(float(run.traced.gradients["db_o"][0]), rel=1e-12)


def test_a_change_stands_beside_its_effect(files, visit):
    """What goes into the number that is told is changed there, and the old number stays."""
    address, _ = files["gomez"]
    page = visit(address + "#at=3")
    assert told(page)[0] == "a_g"
    keys = page.locator("[data-here]").evaluate_all("xs => xs.map((x) => x.dataset.here)")
    W = ["W_g[0][0]", "W_g[1][0]", "U_g[0][0]", "b_g[0]"]
    assert keys == ["x[0][0][0]", "x[0][0][1]", *W]
    before = told(page)[1]
    page.locator("[data-here='b_g[0]']").fill("0.7")
    assert told(page)[1] == pytest.approx(before + 0.5, rel=1e-12)
    was = page.locator("[data-role=was] [data-value]").get_attribute("data-value")
    assert float(was) == before
    page.locator(".panel").get_by_role("button", name="b_g[0] as it was").click()
    assert told(page)[1] == before


def test_a_mistake_is_set_beside_the_truth(files, visit):
    address, (run, *_) = files["gomez"]
    page = visit(address + "#at=117")
    choose(page, "dc not carried")
    page.get_by_role("button", name="It starts at dc_from_next, backward, t = 0").click()
    assert told(page)[0] == "dc_from_next"
    assert "The difference starts here" in page.locator(".mistake-block").inner_text()
    truth, wrong = (page.locator(f"[data-role={k}]") for k in ("numbers", "numbers-mistake"))
    value = truth.locator(".full").get_attribute("data-value")
    known = float(run.traced.backward["dc_from_next"][0, 0, 0])
    assert float(value) == pytest.approx(known, rel=1e-12)
    assert wrong.locator(".full").get_attribute("data-value") == "0"
    assert truth.inner_text().startswith("truth")
    assert wrong.inner_text().startswith("mistake")
    assert "The mistake is made here" in wrong.inner_text()
    page.keyboard.press("ArrowRight")  # dc: the same sum, of what the mistake left
    assert "The mistake is made here" not in wrong.inner_text()
    page.keyboard.press("End")
    assert page.locator("svg.step .first").count() == 1
    assert page.locator("svg.step .differs").count() > 5


def choose(page, text):
    """A mistake, found by what is typed."""
    page.locator("[data-role=mistake]").click()
    page.get_by_role("combobox", name="search the mistakes").fill(text)
    page.keyboard.press("Enter")


def test_mistakes_are_found_by_their_kind_and_by_words(files, visit):
    page = visit(files["gomez"][0])
    page.locator("[data-role=mistake]").click()
    page.get_by_role("combobox", name="search the mistakes").fill("carried fork")
    names = page.locator("[data-mistake]").evaluate_all("xs => xs.map((x) => x.dataset.mistake)")
    assert names == ["", "dc not carried", "dh not carried", "dc only carried"]
    page.get_by_role("combobox", name="search the mistakes").fill("")
    page.locator(".filters select").select_option("first or last state")
    names = page.locator("[data-mistake]").evaluate_all("xs => xs.map((x) => x.dataset.mistake)")
    assert {"h0 zero", "c0 zero"} & set(names)
    assert not [k for k in names if "order" in k]
    page.keyboard.press("Escape")
    assert page.locator(".choice-box").count() == 0
    assert page.evaluate("document.activeElement.dataset.role") == "mistake"
    choose(page, "xyzzy")
    assert page.locator("[data-role=mistake]").inner_text().startswith("none")


def test_any_branch_of_any_fork_can_be_left_out(files, visit):
    address, (run, *_) = files["gomez"]
    names = [s.name for s in run.traced.stages]
    for n in [n for n, s in enumerate(run.traced.stages) if s.branches][:5]:
        s = run.traced.stages[n]
        page = visit(f"{address}#at={n}")
        assert page.locator(".fork-block tbody").count() == len(s.branches)
        page.locator(".fork-block tbody").last.get_by_role("button").first.click()
        assert told(page)[0] == names[n]
        wrong = page.locator("[data-role=numbers-mistake] .full").get_attribute("data-value")
        left = [np.ravel(s.of[k])[0] for k in s.branches[:-1]]
        assert float(wrong) == pytest.approx(float(np.sum(left)), rel=1e-12, abs=1e-15)
        assert "The difference starts here" in page.locator(".panel").inner_text() or (
            float(np.ravel(s.of[s.branches[-1]])[0]) == 0
        )
        page.get_by_role("button", name="put it back").click()
        assert page.locator("[data-role=numbers-mistake]").count() == 0


def test_wires_enter_what_they_are_multiplied_with(files, visit):
    for name, wires in (("gomez", 16), ("wildml", 8)):
        page = visit(files[name][0] + "#gates=open")
        ends = page.evaluate(ENDS)
        assert len(ends) == wires
        assert {tuple(x) for x in ends} <= {("W", "x"), ("U", "h_prev")}


def test_the_slider_is_over_every_stage(files, visit):
    address, (run, *_) = files["gomez"]
    page = visit(address)
    slider = page.get_by_role("slider")
    assert slider.get_attribute("max") == str(len(run.traced.stages) - 1)
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert told(page)[0] == run.traced.stages[1].name
    said = slider.get_attribute("aria-valuetext")
    assert said.startswith(f"forward, t = 0: {run.traced.stages[1].name}, stage 2 of")


def test_nan_is_drawn_and_marked(files, visit):
    page = visit(files["nan"][0] + "#at=9999")
    assert "NaN: x[1][0][2]" in page.locator("header").inner_text()
    assert page.locator(".panel .nan").count() > 0
    assert page.locator("svg.step .q-nan").count() > 0
    page.get_by_role("button", name="open units").click()
    assert page.locator("svg.step tspan.nan").count() > 0


def test_steps_gates_and_units_open_and_close(files, visit):
    page = visit(files["large"][0])
    assert page.locator("svg.step").count() == 1
    page.locator(".fold button").last.click()
    assert page.locator("svg.step").count() == 2
    page.locator(".step-box button").first.click()
    assert page.locator("svg.step").count() == 1
    page.get_by_role("button", name="close gates").click()
    assert page.locator("g.gates").count() == 1
    page.get_by_role("button", name="gates as they fit").click()
    assert page.locator("g.gates").count() == 0
    page.get_by_role("button", name="open units").click()
    page.keyboard.press("End")
    assert page.said == []


def test_everything_is_reached_by_keyboard_alone(files, visit):
    page = visit(files["gomez"][0])
    seen = set()
    for _ in itertools.repeat(None, 90):
        page.keyboard.press("Tab")
        seen.add(page.evaluate(
            "(document.activeElement.dataset.edit ?? document.activeElement.dataset.role ?? "
            "document.activeElement.textContent.slice(0, 20))"
        ))  # fmt: skip
    assert {"example", "mistake", "W_o[1][0]", "y[1][0][0]", "c0[0][0]"} <= seen
    assert any("Next" in x for x in seen)
    assert any("All numbers" in x for x in seen)


def test_motion_is_reduced_and_print_has_no_buttons(files, visit):
    page = visit(files["gomez"][0], reduced_motion="reduce")
    style = "getComputedStyle(document.querySelector('.box')).transitionDuration"
    assert page.evaluate(style) == "0s"
    page.emulate_media(media="print")
    assert not page.locator(".controls").is_visible()
    assert page.locator(".panel").is_visible()


def test_axe_finds_no_serious_fault(files, visit, tmp_path):
    """At a fork, with a mistake, and with the mistakes' list open."""
    script = (install(tmp_path / "page") / "node_modules/axe-core/axe.min.js").read_text()
    for name, theme in itertools.product(("gomez", "large", "nan"), ("light", "dark")):
        page = visit(files[name][0] + "#at=60&mistake=dc+not+carried", color_scheme=theme)
        if name == "gomez":  # the table of all numbers is the same for all, and axe is slow
            page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
        if name == "large":
            page.locator("[data-role=mistake]").click()
        page.evaluate(script)
        found = page.evaluate("axe.run().then((r) => r.violations)")
        assert not [v for v in found if v["impact"] in ("serious", "critical")], json.dumps(found)


def test_the_page_says_what_a_fork_is(files, visit):
    page = visit(files["gomez"][0])
    assert page.locator(".legend").bounding_box()["y"] < 300  # seen before anything else
    text = page.locator(".legend").inner_text()
    assert "a value is used in more than one place" in text
    assert "they are added" in text
    page.locator(".how summary").click()
    words = page.locator(".how dt").all_inner_texts()
    assert {"Cotangent", "Fork", "Outside", "dh_T, dc_T", "h_prev, c_prev", "Keys"} <= set(words)
