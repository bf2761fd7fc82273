"""The picture: its numbers and its labels."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from jax_lstm.teaching import beside, examples, graph
from tests.teaching.kit import GRAPH, fixture, status


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
            assert (short(forward[name][0]), graph.FORWARD.lower()) in found
        for name in ("dh_from_loss", "dh_from_next", "dc_from_next"):
            assert (short(back[name][0]), graph.BACK.lower()) in found
        for x in (*forward["a"],):
            assert (short(x), graph.FORWARD.lower()) in found
        for x in back["da"]:
            assert (short(x), graph.BACK.lower()) in found
        from_h, from_next = (short(x) for x in (
            back["dc"][0] - back["dc_from_next"][0], back["dc_from_next"][0]))  # fmt: skip
        signed = f"({from_next})" if from_next.startswith("-") else from_next
        fork = f"dc = {from_h} + {signed} = {short(back['dc'][0])}"
        assert (fork, graph.BACK.lower()) in found
    assert [text for text, _ in words(GRAPH.read_text())] == [text for text, _ in found]
    assert GRAPH.stat().st_size < 150_000


def check_apart(picture):
    """No two texts overlap; answers how many there are."""
    picture.draw_without_rendering()
    texts = [text for text in picture.axes[0].texts if text.get_text()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    for n, (one, a) in enumerate(boxes):
        for other, b in boxes[:n]:
            width = min(a.x1, b.x1) - max(a.x0, b.x0)
            height = min(a.y1, b.y1) - max(a.y0, b.y0)
            assert not (width > 2 and height > 2), (one, other)
    return len(boxes)


LARGEST = (graph.STEPS, 1, graph.INPUTS, graph.UNITS)


@pytest.mark.parametrize(
    ("cell", "size", "labels"),
    [("lstm", (3, 1, 2, 2), 150), ("lstm", LARGEST, 200), ("elman", LARGEST, 50)],
)
def test_no_label_covers_another(cell, size, labels):
    """Neither at the command's default nor at the largest size: no two texts overlap."""
    (run,) = examples.runs("random", size, 0, cell)
    picture = graph.figure(run.traced, run.title)
    assert check_apart(picture) > labels


@pytest.mark.parametrize(
    ("cell", "name"),
    [("lstm", "dc not carried"), ("lstm", "forget offset"), ("elman", "slope of a")],
)
def test_a_mistake_has_a_picture(cell, name):
    """A mark at what differs, its numbers below, and the truth as it was; no two texts overlap."""
    (run,) = examples.runs("random", (2, 1, 2, 2), 0, cell)
    wrong = beside.put_beside(run.problem, cell, name)
    picture = graph.figure(run.traced, run.title, mistake=wrong)
    says = [text.get_text() for text in picture.axes[0].texts if text.get_text()]
    truth = graph.figure(run.traced, run.title)
    assert {t.get_text() for t in truth.axes[0].texts} <= {"", *says}
    assert any(wrong.sentence() in text for text in says)
    first = wrong.first()
    (start,) = (text for text in says if text.endswith("starts here"))
    assert start.startswith(f"{first.name.split('[')[0]} ≠ ")
    assert graph.number(first.mistake, graph.DIGITS) in start
    marked = sum(text == "≠" for text in says)
    places = graph.MARKS if cell == "lstm" else graph.ELMAN_MARKS
    assert marked == sum(len(graph.differing(wrong, t, 0, places)) for t in range(2)) > 1
    check_apart(picture)
