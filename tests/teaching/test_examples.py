"""The examples: what people published, and what is shipped."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm.notation import GATES
from jax_lstm.teaching import examples, paper
from tests.tables import (
    assert_close,
)
from tests.teaching.kit import digits, fixture, status


def test_what_is_shipped_is_what_the_tests_hold():
    for name in ("gomez", "mazur", "wildml"):
        shipped = examples.settings(name)
        want = fixture({"wildml": "wildml_rnn"}.get(name, name))
        for k in set(shipped) & set(want) - {"about", "published"}:
            assert shipped[k] == want[k], (name, k)
    gomez, want = examples.settings("gomez"), fixture("gomez")
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
        theirs = f"{leaf}{paper.brackets(index)}"
        truth = want[leaf][*index, 0] if leaf.startswith("db") else want[leaf][*index]
        assert said[theirs] == digits([truth, key[name]])
    assert H == 5
