"""The pages of docs/: their code runs, their commands say what is shown, their links lead on."""

import re
import shlex

import jax
import jax.numpy as jnp
import pytest

from experiments.kit import record
from experiments.speed import pages as speed_pages
from experiments.speed import tables as speed_tables
from jax_lstm import referee
from jax_lstm.commands.main import main
from jax_lstm.kernels.build import compiler
from tests.house.pages import PAGES, ROOT, blocks, measured, read, run
from tests.tables import SIZE, assert_close, normal_like, value_and_cotangents

DOCS = {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
(CELL,) = blocks(DOCS["cells.md"], "python")
EXAMPLES = [
    (name, n)
    for name, text in DOCS.items()
    for n in range(len(blocks(text, "python")))
    if name != "cells.md"  # its cell is run below, with every option
]
CONSOLE = [(name, n) for name, text in DOCS.items() for n in range(len(blocks(text, "console")))]


@pytest.mark.half
@pytest.mark.parametrize(("name", "n"), EXAMPLES)
def test_the_examples_run(name, n, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    block = blocks(DOCS[name], "python")[n]
    if "import torch as" in block:
        pytest.importorskip("torch", reason="pip install -e '.[peers]'")
    if "kernels import cpu" in block:
        needs_compiler()
    with jax.enable_x64(False):
        run(block, name)
    assert "False" not in capsys.readouterr().out


def needs_compiler():
    try:
        compiler()
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("name", "n"), CONSOLE)
def test_commands_say_what_is_shown(name, n, capsys):
    command, *shown = blocks(DOCS[name], "console")[n].splitlines()
    dollar, program, *arguments = shlex.split(command)
    assert (dollar, program) == ("$", "jax-lstm")
    main(arguments)
    said = capsys.readouterr().out
    assert shown
    assert "\n".join(shown) in said


def test_the_diagnosis_is_the_one_shown(capsys):
    source, shown = (blocks(DOCS["diagnose.md"], kind)[0] for kind in ("python", "text"))
    with jax.enable_x64(False):
        names = run(source, "diagnose.md")
    assert not names.verdict
    assert capsys.readouterr().out.partition(": largest")[0] == shown.partition(": largest")[0]


# A cell of one's own --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"reverse": True, "residuals": 3}, {"mask": True}], ids=str
)
def test_a_cell_of_ones_own(options):
    assert len([line for line in CELL.splitlines() if line.strip()]) <= 30
    own = run(CELL, "cells.md")
    T, B, D, H = SIZE
    if "mask" in options:
        options = {"mask": jnp.arange(T * B).reshape(T, B) % 3 > 0}
    shapes = own.Params(jnp.zeros((D, 2 * H)), jnp.zeros((H, 2 * H)))
    params = normal_like(0, shapes)
    args = (params, own.State(jnp.zeros((B, H))), normal_like(1, jnp.zeros((T, B, D))))
    assert_close(
        value_and_cotangents(lambda *a: own.rnn(*a, **options), args),
        value_and_cotangents(lambda *a: own.rnn_autodiff(*a, **options), args),
    )


def test_a_wrong_cell_is_found():
    """The same cell with the fork at h_prev dropped: the comparison above can fail."""
    wrong = CELL.replace("dh * (1 - z) + linear_bwd_input(w.U, da)", "dh * (1 - z)")
    assert wrong != CELL
    own = run(wrong, "cells.md")
    params = normal_like(0, own.Params(jnp.zeros((3, 10)), jnp.zeros((5, 10))))
    args = (params, own.State(jnp.zeros((2, 5))), normal_like(1, jnp.zeros((7, 2, 3))))
    with pytest.raises(AssertionError):
        assert_close(
            value_and_cotangents(own.rnn, args), value_and_cotangents(own.rnn_autodiff, args)
        )


def test_taps_say_of_a_wrong_cell_what_is_shown():
    own = run(CELL.replace("dh * (n - prev.h)", "dh * (n + prev.h)"), "cells.md")
    params = normal_like(0, own.Params(jnp.zeros((3, 10)), jnp.zeros((5, 10))))
    args = (params, own.State(jnp.zeros((2, 5))), normal_like(1, jnp.zeros((4, 2, 3))))
    gates = referee.Taps(gates=("update gate", "candidate"))
    said = referee.taps(own.cell, *args, inside=gates).sentence()
    assert said == blocks(DOCS["diagnose.md"], "text")[1].rstrip("\n")


# Tables, links, names -------------------------------------------------------------------------


@pytest.mark.parametrize("page", speed_pages.PAGES)
def test_what_pages_say_of_speed_is_what_the_command_makes_of_the_committed_run(page):
    text = read(page)
    assert speed_pages.with_result(page, text, measured()) == text


def test_the_table_of_the_loops_in_cpp_is_that_of_its_run():
    in_cpp = record.read_json(speed_pages.COMMITTED.with_name("kernel_one_core.json"))
    assert speed_tables.in_cpp(speed_tables.plain_cases(in_cpp)) in DOCS["kernels.md"]


def links(text):
    """Where a page leads, outside of its code: pages and pictures beside it."""
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.S | re.M)
    return [to for to in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in to]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for to in links(page.read_text()):
        assert (page.parent / to.partition("#")[0]).exists(), to


def test_a_link_is_seen():
    assert links("[a](b.md) ![c](d.svg)\n```\n[e](f.md)\n```\n[g](https://h)") == ["b.md", "d.svg"]


def test_the_index_leads_to_every_page():
    assert {*links(DOCS["index.md"]), "index.md"} >= set(DOCS)


def test_paths_and_commands_that_pages_name_are_there():
    commands = {path.stem for path in (ROOT / "jax_lstm" / "commands").glob("*.py")}
    for page in PAGES:
        text = page.read_text()
        said = re.findall(r"(?:jax-lstm|-m jax_lstm) ([a-z]+)\b", text)
        assert set(said) <= commands, page
        for name in re.findall(r"-m (experiments\.\w+)", text):
            path = ROOT / name.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").exists(), (page, name)
        for name in re.findall(r"`((?:tests|jax_lstm|experiments)/[\w/]+\.(?:py|md|json))`", text):
            assert (ROOT / name).exists(), (page, name)


def test_pages_are_of_the_same_width():
    """No line beyond the width of README, but for tables, code and pictures."""
    for name, text in DOCS.items():
        text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.S | re.M)
        long = [line for line in text.splitlines() if len(line) > 120 and line[0] not in "|!"]
        assert not long, name


def test_the_command_of_the_tests_is_found_by_ci():
    (command,) = re.findall(r"^python3 -m venv .* -m pytest.*$", read("README.md"), re.M)
    assert "grep -E '^python3 -m venv .* -m pytest' README.md" in read(".ci/run")
    assert command
