"""The museum: every exhibit is wrong, the page is the command's, and what has a switch is named."""

import pytest

from jax_lstm.commands.main import main
from jax_lstm.diagnosis import museum
from tests.house.pages import read

NAMED = {
    "coursera": "nothing carried between steps",
    "remembered": "zeros in the backward for the remembered h0 and c0",
    "no-bias": "db left at zero",
    "assigned": "dc not carried to t-1",
    "last-cell": "the cotangent of the last c dropped",
    "cleared": "dh not carried to t-1",
    "weight-dropout": "dU left at zero",
}
PLACED = {
    "dropout": "in dW",
    "batch-first": "dxs itself",
    "copied": "in db, input gate, output gate",
}


def test_there_are_eight_and_more_and_each_has_a_source():
    assert len(museum.EXHIBITS) >= 8
    assert len({x.name for x in museum.EXHIBITS}) == len(museum.EXHIBITS)
    assert [x.name for x in museum.EXHIBITS if not (x.threads or x.source)] == ["coursera"]


@pytest.mark.slow
def test_the_page_is_what_the_command_writes(capsys):
    """After a change of what diagnose says: jax-lstm museum --markdown > docs/museum.md."""
    assert main(["museum", "--markdown"]) == 0
    page = capsys.readouterr().out
    assert read("docs/museum.md") == page
    for exhibit in museum.EXHIBITS:
        (_, part) = page.split(f"## {exhibit.name}: ")
        said = " ".join(part.split("## ")[0].split())
        assert NAMED.get(exhibit.name, PLACED.get(exhibit.name, "diagnose says")) in said
        assert "diagnose says: equals BPTT:" not in said


def test_one_exhibit_by_its_name(capsys):
    assert main(["museum", "assigned"]) == 0
    said = capsys.readouterr().out
    assert "https://github.com/apache/mxnet/issues/4057" in said
    assert said.count("diagnose says") == 1
    with pytest.raises(SystemExit):
        main(["museum", "nobody"])
