"""`referee.check` on trial: custom rules as people publish them, right ones and planted bugs."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_lstm import referee
from jax_lstm.commands.main import main
from jax_lstm.referee.ladder import derivatives, offsets, rungs
from tests.referee.exam import NOISY, RIGHT, TABLE, WRONG, X
from tests.referee.rules import draw
from tests.referee.test_plugin import FILE
from tests.tables import relaxed

QUICK = {
    "clip",
    "noisy: float32 inside",
    "dense: a missing cotangent",
    "alone: lost without the other",
}
RULES = [("right", name) for name in RIGHT] + [("WRONG", name) for name in WRONG]


def judge(f, *args, **told):
    with relaxed("what people write"):
        return referee.check(f, *args, **told)


def test_there_are_twenty_of_each():
    assert min(len(RIGHT), len(WRONG)) >= 20
    assert len(NOISY) >= 2


@pytest.mark.parametrize(
    ("verdict", "name"),
    [pytest.param(*r, marks=() if r[1] in QUICK else pytest.mark.slow) for r in RULES],
)
def test_a_rule_is_judged(verdict, name):
    rule = (RIGHT if verdict == "right" else WRONG)[name]
    report = judge(rule.f, *rule.args, **rule.told)
    assert report.verdict() == verdict, report.table()
    assert rule.catches in report.evidence()
    assert bool(report) == (verdict == "right") == (report.status() == 0)
    assert report.first.startswith(str(report).split("\n")[0])
    assert json.loads(report.to_json(name=name))["verdict"] == verdict


def test_what_was_not_told_is_not_tried_and_what_was_is():
    rule = RIGHT["clip"]
    tried = lambda report: {a.asked for a in report.answers if a.verdict == "right"}
    untold = judge(rule.f, *rule.args)
    assert {a.asked for a in untold.answers if a.verdict == "not tried"} >= {
        *("vmap", "a batch of one", "shard_map", "scan", "NaN in padding", "rounding")
    }
    mask = np.array([True, True, False, False])
    told = judge(
        rule.f,
        *rule.args,
        reference=lambda x: jnp.clip(x, -1, 1),
        batch=(0,),
        carry=(0, None),
        mask=(mask,),
    )
    assert told, told.table()
    assert tried(told) >= {"vmap", "shard_map over 4", "scan", "NaN in padding", "values"}
    assert tried(told) >= {"a batch of one, the output", "rounding in float32"}


def test_a_clash_of_dtypes_is_told_by_what_is_closed_over():
    """A carry in float32, by arrays that nobody passed: judged in float32, and why is said."""

    def f(x):
        step = lambda h, _: (jnp.tanh(x @ TABLE + h), None)
        return jax.lax.scan(step, jnp.zeros((4, 5), np.float32), None, length=2)[0]

    report = judge(f, X)
    assert report.verdict() == "right", report.table()
    assert report.first.startswith("x (float32) are run as they are; f does not take float64")
    assert "because it closes over `TABLE` (float32)" in report.first
    with pytest.raises(ValueError, match=r"`f` cannot be run at these arguments.*TABLE"):
        referee.check(lambda x: jax.lax.concatenate([x, TABLE], 0), draw(4, 5, dtype=np.float16))


@pytest.mark.parametrize(
    ("f", "x", "slope"),
    [
        (lambda x: np.maximum(x, 0), np.zeros(2), 0.0),
        (lambda x: np.float64(np.float32(x) + np.float32(1e6)) - 1e6, np.array([0.5, 2.0]), 1.0),
    ],
    ids=["a kink", "a staircase"],
)
def test_what_cannot_be_known_is_not_claimed(f, x, slope):
    steps = rungs(2.0**-52)
    values = f(x[:, None] + offsets(steps)).reshape(len(x), len(steps), 7, 1)
    found, error = derivatives(values, steps, 2.0**-52)
    assert (np.abs(found - slope) <= 8 * error).all()


def test_waves_that_long_steps_jump_over():
    steps = rungs(2.0**-52)
    x = np.array([0.3, 1.7])
    values = np.sin(300 * (x[:, None] + offsets(steps))).reshape(2, len(steps), 7, 1)
    found, error = derivatives(values, steps, 2.0**-52)
    assert (np.abs(found[:, 0] - 300 * np.cos(300 * x)) < 1e-6).all()
    assert (error < 1e-5).all()


def test_what_does_not_fit_is_refused():
    for told, words in (
        ({"batch": (0, 1)}, "`batch` must be"),
        ({"batch": (None,)}, "one argument at least"),
        ({"mask": (np.ones(3, bool),)}, "`mask` must be"),
        ({"carry": (1, 0)}, "`carry` must be"),
        ({"constants": ("y",)}, "`constants` must be among x"),
        ({"reference": lambda x: x[:1]}, "returns the shapes"),
    ):
        with pytest.raises(ValueError, match=words):
            referee.check(lambda x: x * x, X, **told)
    with pytest.raises(ValueError, match="nothing of floating point"):
        referee.check(lambda x: x.argmax(), X)


def test_the_command_judges_a_function_of_a_file(tmp_path, capsys):
    file, out = tmp_path / "mine.py", tmp_path / "report.json"
    file.write_text(FILE)
    where = f"{file}:cube"
    assert main(["check", where, "--json", str(out)]) == 1
    assert "0.666667 times the right one" in capsys.readouterr().out
    assert json.loads(out.read_text())["verdict"] == "WRONG"
    for given in ([f"{file}:nothing"], ["nowhere.py:f"], ["--arguments", "x"]):
        assert main(["check", *given]) == 2
