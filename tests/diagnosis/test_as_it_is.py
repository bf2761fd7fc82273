"""diagnose on trial: problems as people have them, and forwards that are not the LSTM's."""

import itertools
import json

import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm.commands import main as command
from jax_lstm.diagnosis.head import loss_value
from jax_lstm.diagnosis.kinds import kind_of
from jax_lstm.diagnosis.problem import problem_of, read_problem
from jax_lstm.diagnosis.sentences import VARIANTS
from jax_lstm.diagnosis.slow_backward import MUTANTS, lstm_forward
from tests.diagnosis.problems import FIXTURES, in_our_layout, leaves_of, named, random_problem

T, B, D, H, K, N = 4, 3, 2, 3, 5, 6
rng = np.random.default_rng(0)
WORDS = {"W": rng.standard_normal((D, 4 * H)), "U": rng.standard_normal((H, 4 * H))}
WORDS |= {"b": rng.standard_normal(4 * H), "E": rng.standard_normal((N, D))}
WORDS |= {"Wy": rng.standard_normal((H, K)), "by": rng.standard_normal(K), "loss": "softmax"}
WORDS |= {"tokens": rng.integers(0, N, (T, B)), "ys": rng.integers(0, K, (T, B))}


def problem_from(arrays, cell="lstm"):
    brought = read_problem(arrays, "ours", cell)
    ours = brought.form.to_ours(brought.arrays)
    return problem_of(ours, brought.settings, cell, brought.sizes)


def gradient_of(arrays, *names, cell="lstm"):
    problem = problem_from(arrays, cell)
    found = kind_of(cell).gradients(problem, [names])
    return {f"d{k}": found[f"d{k}"][0] for k in problem.params if k in arrays}


def differences(arrays):
    """The gradient by central differences of the loss that the forward makes."""
    problem, found = problem_from(arrays), {}

    def loss(name, x):
        p = problem._replace(params=problem.params | {name: x})
        p = p._replace(xs=p.params["E"][p.tokens])
        return float(np.squeeze(loss_value(p, [step[-1] for step in lstm_forward(p)[-1]])))

    for name, x in problem.params.items():
        found[f"d{name}"] = np.zeros_like(x)
        for at in np.ndindex(x.shape):
            move = np.zeros_like(x)
            move[at] = 1e-5
            found[f"d{name}"][at] = (loss(name, x + move) - loss(name, x - move)) / 2e-5
    return found


@pytest.mark.parametrize(
    "reduction", ["sum", "mean over T", "mean over B", "mean", "last step", "last step, mean"]
)
def test_the_loss_s_reduction(reduction):
    arrays = WORDS | {"reduction": reduction}
    want = differences(arrays)
    got = gradient_of(arrays)
    for k, x in want.items():
        # central differences with a step of 1e-5: its square, and the loss's rounding over it
        np.testing.assert_allclose(got[k], x, rtol=1e-8, atol=1e-9, err_msg=k)
    assert jl.diagnose(got, arrays)
    printed = {k: np.round(x, 7).tolist() for k, x in want.items()}
    assert jl.diagnose(json.loads(json.dumps(printed), parse_float=typed), arrays)


def typed(text):
    from jax_lstm.diagnosis.brought import read_number

    return read_number(f"{float(text):.7f}")


@pytest.mark.parametrize(
    "name",
    [
        "dE by tokens: step",
        "dWy overwritten: t=0 left",
        "h of t-1 in dWy",
        "target left out",
        "last dh only",
        "slope of the loss again",
        "dby averaged over time and batch",
    ],
)
def test_mistakes_above_and_below_are_named(name):
    problem = problem_from(WORDS)
    after = MUTANTS["lstm"].after(problem)
    found = gradient_of(WORDS, *(() if name in after else (name,)))
    if name in after:
        found = {k: x[0] for k, x in after[name][1]({k: x[None] for k, x in found.items()}).items()}
    assert named(jl.diagnose(found, WORDS, pairs=False), (name,))


def test_no_batch_no_biases_an_update_that_was_clipped_and_decayed():
    one = {"xs": rng.standard_normal((T, D)), "by": WORDS["by"][:, None], "ys": 2}
    one |= {k: WORDS[k] for k in ("W", "U", "Wy", "loss")} | {"reduction": "last step"}
    gradient = gradient_of(one)
    assert jl.diagnose(gradient, one)
    own = {"weight_decay": 0.01, "clip_norm": 0.3, "learning_rate": 0.1}
    flat = one | {"by": WORDS["by"]}

    def update(decay=0.01, most=0.3, rate=0.1):
        d = {k: x + decay * flat[k[1:]] for k, x in gradient.items()}
        norm = np.sqrt(sum(np.sum(x * x) for x in d.values()))
        return {k: -rate * x * min(1.0, most / norm) for k, x in d.items()}

    assert jl.diagnose(update(), one | own)
    for options, name in (
        ({"most": np.inf}, "clip_norm left out"),
        ({"decay": 0.0}, "weight_decay left out"),
        ({"rate": -0.1}, "update sign"),
    ):
        assert named(jl.diagnose(update(**options), one | own, pairs=False), (name,))


def test_coursera_s_notebook_as_it_is():
    f = json.loads((FIXTURES / "coursera_seq.json").read_text())
    problem = f["params"] | {"x": f["x"], "a0": f["a0"], "da": f["da"]}
    assert np.shape(f["x"])[2] > np.shape(f["da"])[2]
    assert jl.diagnose(f["gradients"], problem, layout="coursera")
    longer = np.zeros(np.shape(f["x"]))
    longer[:, :, : np.shape(f["da"])[2]] = f["gradients"]["dx"]
    assert jl.diagnose(f["gradients"] | {"dx": longer}, problem, layout="coursera")
    with pytest.raises(ValueError, match="which the loss does not reach"):
        jl.diagnose(f["gradients"] | {"dx": longer + 1}, problem, layout="coursera")


# The forward --------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", [*VARIANTS, "forget offset", "forward in order f i g o"])
def test_a_gradient_is_judged_against_its_own_forward(variant):
    problem = random_problem(np.random.default_rng(3), "lstm", (4, 2, 3, 4), "cotangents")
    kind = MUTANTS["lstm"]
    values = {k: x[0] for k, x in kind.forward(problem, [(variant,)]).items()}
    found = kind.gradients(problem, [(variant,)])
    gradient = {k: found[k][0] for k in leaves_of(problem)}
    verdict = jl.diagnose(gradient, in_our_layout(problem) | values, pairs=False)
    assert verdict
    assert "the forward is another" in verdict.sentence()
    alone = jl.diagnose(gradient, in_our_layout(problem), pairs=False)
    assert not alone
    assert named(alone, (variant,))


def test_a_forward_that_nobody_knows_has_a_place():
    problem = random_problem(np.random.default_rng(3), "lstm", (4, 2, 3, 4), "cotangents")
    values = {k: x[0] for k, x in MUTANTS["lstm"].forward(problem, [()]).items()}
    right = MUTANTS["lstm"].gradients(problem, [()])
    gradient = {k: right[k][0] for k in leaves_of(problem)}
    found = jl.diagnose(gradient, in_our_layout(problem) | values)
    assert found
    assert found.sentence().startswith("the forward is right (hs, cs)")
    values["hs"][2:] *= 1.1
    said = jl.diagnose(gradient, in_our_layout(problem) | values).sentence()
    assert "hs differs from t=2 on" in said
    assert "no known variant explains it" in said


# Layouts ------------------------------------------------------------------------------------------


def test_a_layout_by_description_and_by_guess(tmp_path, capsys):
    arrays = {k: WORDS[k] for k in "WUb"} | {"xs": rng.standard_normal((T, B, D))}
    arrays |= {"dhs": rng.standard_normal((T, B, H))}
    gradient = gradient_of(arrays)
    order = [1, 0, 3, 2]  # f i o g
    turn = lambda x: np.concatenate([np.split(x, 4, -1)[n] for n in order], -1)
    joined = lambda U, W: np.concatenate([turn(U), turn(W)]).T
    theirs = {"W_all": joined(arrays["U"], arrays["W"]), "bias": turn(arrays["b"])[:, None]}
    theirs |= {"x": np.moveaxis(arrays["xs"], 0, -1).swapaxes(0, 1)}
    theirs |= {"dh": np.moveaxis(arrays["dhs"], 0, -1).swapaxes(0, 1)}
    grads = {"grad_W_all": joined(gradient["dU"], gradient["dW"]), "dbias": turn(gradient["db"])}
    words = {"order": "fiog", "weights": "concat [h, x]", "rows": "outputs", "axes": "D,B,T"}
    names = {"W": "W_all", "dW": "grad_W_all", "b": "bias", "xs": "x", "dhs": "dh"}
    assert jl.diagnose(grads, theirs, layout=words | {"names": names})
    guessed = jl.diagnose(grads, theirs, layout="guess")
    assert guessed
    assert "certain: under it alone the gradient is right" in guessed.sentence()
    values = MUTANTS["lstm"].forward(problem_from(arrays), [()])["hs"][0]
    theirs |= {"h": np.moveaxis(values, 0, -1).swapaxes(0, 1)}
    file = tmp_path / "mine.npz"
    wrong = {k: -x for k, x in grads.items()}
    both = {f"problem/{k}": x for k, x in theirs.items()}
    np.savez(file, **both, **{f"gradient/{k}": x for k, x in wrong.items()})
    assert command.main(["diagnose", str(file), "--layout-guess"]) == 1
    said = capsys.readouterr().out
    assert "certain: it alone makes the forward's numbers" in said
    assert "the sign" in said


@pytest.mark.parametrize(
    ("layout", "match"),
    [
        ({"order": "fig"}, "`order` of a layout must have each gate once"),
        ({"weights": "stacked"}, "`weights` of a layout must be"),
        ({"rows": "columns"}, "`rows` of a layout must be"),
        ({"axes": "B,D"}, "`axes` of a layout must be"),
        ({"names": {"Q": "q"}}, "knows no Q"),
        ({"colour": "red"}, "a layout by description has"),
        ({}, "must say something"),
    ],
)
def test_words_that_are_none_of_a_layout(layout, match):
    with pytest.raises(ValueError, match=match):
        jl.diagnose({}, {"W": [[1.0]]}, layout=layout)


# Any cell -----------------------------------------------------------------------------------------


def test_any_cell_can_be_the_truth():
    sizes = {"W": (D, 3 * H), "U": (H, 3 * H), "b": (3 * H,), "c": (3 * H,), "h0": (B, H)}
    arrays = {k: rng.standard_normal(shape) for k, shape in sizes.items()}
    arrays |= {"xs": rng.standard_normal((T, B, D)), "dhs": rng.standard_normal((T, B, H))}
    gradient = gradient_of(arrays, cell="gru")
    assert jl.diagnose(gradient, arrays, cell="gru")
    for name in ("dh not carried", "windows of 2", "last loss"):
        wrong = gradient_of(arrays, name, cell="gru")
        assert named(jl.diagnose(wrong, arrays, cell="gru", pairs=False), (name,))
    order = next(itertools.islice(itertools.permutations(range(3)), 1, None))
    blocks = lambda x: np.concatenate([np.split(x, 3, -1)[n] for n in order], -1)
    found = jl.diagnose({k: blocks(x) for k, x in gradient.items()}, arrays, cell="gru")
    assert "the gates' blocks in the order r n z" in found.sentence()


def test_columns_of_one_example_and_a_readout_of_any_name():
    """Axes without B, states (H, 1), and `Vo`, `bo`, which no list of names holds."""
    one = {k: x[:, 0] if k in ("tokens", "ys") else x for k, x in WORDS.items() if k != "E"}
    one |= {"W": rng.standard_normal((N, 4 * H)), "h0": rng.standard_normal((1, H))}
    gradient = gradient_of(one)
    turned = one | {"h0": one["h0"].T, "b": one["b"][:, None]}
    for axes in ("T", "T,D", "T,B,D"):
        assert jl.diagnose(gradient, turned, layout={"axes": axes})
    called = {"Wy": "Vo", "by": "bo", "dWy": "dVo", "dby": "dbo"}
    renamed = ({called.get(k, k): x for k, x in d.items()} for d in (gradient, turned))
    found = jl.diagnose(*renamed, layout="guess")
    assert found
    assert "certain" in found.sentence()


def test_a_gradient_of_an_unknown_forward_is_told_what_would_decide():
    arrays = {k: x for k, x in WORDS.items() if k in ("W", "U", "b")}
    arrays |= {"xs": rng.standard_normal((T, B, D)), "dhs": rng.standard_normal((T, B, H))}
    gradient = {f"d{k}": rng.standard_normal(arrays[k].shape) for k in ("W", "U", "b")}
    assert (
        jl.diagnose(gradient, arrays, pairs=False)
        .sentence()
        .endswith("hs and cs of your forward in the problem would tell whether that is another")
    )
    found = jl.diagnose(gradient, arrays | {"hs": rng.standard_normal((T, B, H))}, pairs=False)
    assert "peephole_lstm" in found.sentence()
    assert "would tell" not in found.sentence()
