"""The trace on paper: every printed number against the fixtures."""

import re

import numpy as np
import pytest

from jax_lstm.notation import GATES
from jax_lstm.teaching import paper
from tests.teaching.kit import PAGE, digits, fixture, status


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
        *before, last = paper.write_value(indent, text, 0.5, "")
        assert last.index("= 0.5") == paper.WIDTH + 3
        assert "".join([*before, last]).replace(" ", "") == text.replace(" ", "") + "=0.5"


def test_no_line_is_wider_than_a_page(runs):
    assert max(map(len, runs["wildml"][0].table().split("\n"))) <= paper.WIDTH + 16


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


def test_the_page_s_table_is_what_the_command_prints(gomez_printed):
    blocks = re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.S)
    assert blocks
    for block in blocks:
        assert block.rstrip("\n") in gomez_printed["zero_state"]
