"""Norms and Jacobians over time, against jax.jacobian and the textbook; the figure's command."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jax_lstm as jl
from experiments.gradient_flow import plots as flow_plots
from experiments.gradient_flow import run as experiment
from experiments.kit import record
from experiments.kit.command import BadInput
from experiments.plots import draw_again
from jax_lstm import textbook
from jax_lstm.analysis import flow
from tests.tables import CELLS, QUICK, SIZE, assert_close, normal_like, problem

T, B, D, H = SIZE
LINEARISED = {"lstm": jl.linearised_lstm, "elman": jl.linearised_elman}


def run(function, *args):
    return jax.jit(function, compiler_options=QUICK)(*args)


# Jacobians ------------------------------------------------------------------------------------


def moved(cell, params, state, xs, dh, dc):
    """h_T and c_T of a plain scan in which h_t and c_t are moved by dh_t and dc_t."""

    def body(state, now):
        x, dh, dc = now
        a = x @ params.W + state[0] @ params.U + params.b
        if cell == "elman":
            return (jnp.tanh(a) + dh,), None
        i, f, g, o = jnp.split(a, 4, axis=-1)
        c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g) + dc
        return (jax.nn.sigmoid(o) * jnp.tanh(c) + dh, c), None

    return lax.scan(body, tuple(state), (xs, dh, dc))[0]


def by_jax(cell, params, state, xs):
    """∂h_T/∂h_t and ∂c_T/∂c_t, (T, B, H, H), by jax.jacobian, example by example."""

    def one(state, xs):
        zero = jnp.zeros((len(xs), H), xs.dtype)
        of = lambda n: jax.jacobian(
            lambda d: moved(cell, params, state, xs, *((d, zero) if n == 0 else (zero, d)))[n]
        )(zero)
        return type(state)(*(jnp.moveaxis(of(n), 1, 0) for n in range(len(state))))

    return jax.vmap(one, in_axes=(0, 1), out_axes=1)(state, xs)


@pytest.fixture(scope="module", params=list(LINEARISED))
def both(request):
    """(args, ours, theirs) of a cell."""
    cell = request.param
    args = problem(CELLS[cell])

    def ours(params, state, xs):
        linear = LINEARISED[cell](params, state, xs)
        return jl.jacobians(linear), jl.jacobian_norms(linear, range(T), iterations=300)

    return cell, args, run(ours, *args), run(lambda *args: by_jax(cell, *args), *args)


def test_jacobians_are_those_of_jax(both):
    _, _, (found, _), want = both
    assert_close(found, want)
    for J in found:
        np.testing.assert_array_equal(J[-1], np.broadcast_to(np.eye(H), (B, H, H)))


def test_power_iteration_finds_the_largest_singular_value(both):
    _, _, (_, largest), want = both
    svd = jax.tree.map(lambda J: np.linalg.norm(np.asarray(J), 2, (-2, -1)), want)
    assert_close(largest.norm, svd)
    assert max(r.max() for r in largest.residual) < 1e-10


def forgetful(w, consts, state_prev, local, dstate):
    """The forget product of t+1 is no branch of c_t."""
    return jl.LSTM.step_bwd(w, consts, state_prev, local, dstate._replace(c=0 * dstate.c))


def turned(w, consts, state_prev, h, dstate):
    """U for Uᵀ."""
    return jl.ELMAN.step_bwd(w._replace(U=w.U.T), consts, state_prev, h, dstate)


@pytest.mark.parametrize(
    ("cell", "mutant", "wrong"),
    [
        ("lstm", jl.make_linearised(jl.LSTM._replace(step_bwd=forgetful)), "hc"),
        ("lstm", jl.make_linearised(jl.LSTM), "c"),  # h_t does not follow c_t
        ("elman", jl.make_linearised(jl.ELMAN._replace(step_bwd=turned)), "h"),
    ],
)
def test_a_wrong_step_back_is_found(cell, mutant, wrong):
    args = problem(CELLS[cell])
    found = run(lambda *args: jl.jacobians(mutant(*args)), *args)
    want = run(lambda *args: by_jax(cell, *args), *args)
    for name in found._fields:
        if name in wrong:
            with pytest.raises(AssertionError):
                assert_close(getattr(found, name), getattr(want, name))
        else:
            assert_close(getattr(found, name), getattr(want, name))


def test_large_h_by_power_iteration_alone():
    """Never above the truth, as near as the residual says, and in the end there."""
    params = jl.init_lstm(jax.random.key(0), 4, 40, dtype=jnp.float64)
    xs = normal_like(1, jnp.zeros((9, 4)))
    at = jnp.array([0, 4, 7])

    def ours(params, xs):
        linear = jl.linearised_lstm(params, jl.init_lstm_state(params), xs)
        few, many = (jl.jacobian_norms(linear, at, iterations=n) for n in (3, 600))
        return jl.jacobians(linear), few, many

    Js, few, many = run(ours, params, xs)
    for J, three, last, r in zip(Js, few.norm, many.norm, few.residual, strict=True):
        sigmas = np.linalg.svd(np.asarray(J)[np.asarray(at)], compute_uv=False)
        assert (three <= sigmas[:, 0] * (1 + 1e-12)).all()
        assert (np.abs(sigmas**2 / three[:, None] ** 2 - 1).min(-1) <= r + 1e-12).all()
        assert (three < sigmas[:, 0] * (1 - 1e-6)).all()
        # 600 iterations end where (σ2/σ1)^1200 ends; at H = 5 it is the SVD to 1e-12, see above
        np.testing.assert_allclose(last, sigmas[:, 0], rtol=1e-8)


@pytest.mark.parametrize("cell", LINEARISED)
def test_lengths_resets_and_direction(cell):
    """Backwards over the first 4 steps of an example, or over all; nothing goes beyond a reset."""
    params, state, xs = problem(CELLS[cell])
    options = {"lengths": jnp.array([4, T]), "resets": jnp.zeros((T, B), bool).at[2, 1].set(True)}

    def ours(params, state, xs):
        linear = LINEARISED[cell](params, state, xs, reverse=True, **options)
        short = jax.tree.map(lambda s: s[:1], state)
        plain = LINEARISED[cell](params, short, xs[:4, :1][::-1])
        bound = jl.forget_products if cell == "lstm" else jl.elman_bounds
        norms = jl.jacobian_norms(linear, range(T), iterations=300).norm
        return jl.jacobians(linear), norms, bound(linear), jl.jacobians(plain), bound(plain)

    J, norms, bound, J_short, bound_short = run(ours, params, state, xs)
    assert_close(jax.tree.map(lambda J: J[:4, :1], J), jax.tree.map(lambda J: J[::-1], J_short))
    assert_close(bound[:4, :1], bound_short[::-1])
    for x in J:
        assert not x[3:, 1].any()
        assert x[2, 1].any()
    assert not bound[3:, 1].any()
    assert bound[2, 1].all()
    svd = jax.tree.map(lambda J: np.linalg.norm(np.asarray(J), 2, (-2, -1)), J)
    assert_close(norms, svd)


# What the gates alone would do ----------------------------------------------------------------


def test_without_u_the_jacobian_is_the_product_of_forget_gates(both):
    cell, (params, state, xs), *_ = both
    linear = jax.jit(LINEARISED[cell])(params._replace(U=0 * params.U), state, xs)
    J = jl.jacobians(linear)
    if cell == "lstm":
        assert_close(J.c, jnp.eye(H) * jl.forget_products(linear)[..., None])
        assert not J.h[:-1].any()
    else:
        np.testing.assert_array_equal(jl.elman_bounds(linear)[:-1], 0)


def test_the_bound_of_the_simple_network_is_one(both):
    """With tanh at 0 and an orthogonal U it is reached."""
    cell, (params, state, xs), (_, largest), _ = both
    if cell == "lstm":
        with pytest.raises(ValueError, match="an Elman network's"):
            jl.elman_bounds(jl.linearised_lstm(params, state, xs))
        return
    with pytest.raises(ValueError, match="an LSTM's"):
        jl.forget_products(jl.linearised_elman(params, state, xs))
    linear = jl.linearised_elman(params, state, xs)
    bounds = jl.elman_bounds(linear)
    assert (largest.norm.h <= bounds * (1 + 1e-12)).all()
    assert (largest.norm.h[:-1] < 0.99 * bounds[:-1]).all()
    still = jl.init_elman(jax.random.key(0), D, H, dtype=jnp.float64)
    linear = jl.linearised_elman(still, jl.init_elman_state(still, (B,)), 0 * xs)
    assert_close(jl.elman_bounds(linear), jnp.ones((T, B)))
    assert_close(jnp.linalg.norm(jl.jacobians(linear).h, 2, (-2, -1)), jnp.ones((T, B)))


# Norms ----------------------------------------------------------------------------------------


def test_norms_are_those_of_the_textbook():
    params, state, xs = problem(CELLS["lstm"])
    dstate, dhs = normal_like(9, jax.eval_shape(jl.lstm, params, state, xs))

    def ours(params, state, xs, dhs, dstate):
        deltas = textbook.backward(
            packed := textbook.from_packed(*params),
            textbook.forward(packed, xs, *state),
            dhs,
            *dstate,
        ).deltas
        stack = lambda name: jnp.stack([d[name] for d in deltas])
        names = ("dh", "dc", "da_i", "da_f", "da_g", "da_o")
        linear = jl.linearised_lstm(params, state, xs)
        return jl.gradient_norms(linear, dhs, dstate), [stack(name) for name in names]

    found, deltas = run(ours, params, state, xs, dhs, dstate)
    dh, dc, *das = (jnp.linalg.norm(d, axis=-1) for d in deltas)
    assert_close(found.dstate, jl.LSTMState(dh, dc))
    assert_close(found.delta, jnp.stack(das, axis=-1))


@pytest.mark.parametrize("batch", [(), (2, 3), (0,)])
@pytest.mark.parametrize("cell", LINEARISED)
def test_any_number_of_batch_axes(cell, batch):
    params, state, xs = problem(CELLS[cell], batch=batch)

    def shapes(params, state, xs):
        linear = LINEARISED[cell](params, state, xs)
        norms = jl.gradient_norms(linear, jnp.zeros((T, *batch, H)))
        return norms, jl.jacobians(linear), jl.jacobian_norms(linear, [2, 0])

    norms, J, some = jax.eval_shape(shapes, params, state, xs)
    assert norms.delta.shape == (T, *batch, 4 if cell == "lstm" else 1)
    for field in state._fields:
        assert getattr(norms.dstate, field).shape == (T, *batch)
        assert getattr(J, field).shape == (T, *batch, H, H)
        assert getattr(some.norm, field).shape == (2, *batch)


def test_short_vectors_have_a_length():
    """Their squares would be zero in float32."""
    x = jnp.full((3, 4), 1e-30, jnp.float32)
    # float32: 1e-6 is eight of its eps
    np.testing.assert_allclose(flow.length(x), 2e-30, rtol=1e-6)
    assert not flow.length(0 * x).any()
    np.testing.assert_allclose(flow.unit(x), 0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("at", "complaint"),
    [
        ([T], r"`at` must lie in \[0, T = 7\); got 7 to 7"),
        ([-1, 2], r"\[0, T = 7\)"),
        ([0.5], "whole numbers"),
        (3, "whole numbers"),
    ],
)
def test_the_doors_name_what_is_wrong(at, complaint):
    def refused(words, function, *args, **options):
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(
                lambda *given: function(jl.linearised_elman(*given), *args, **options),
                *problem(CELLS["elman"]),
            )

    refused(complaint, jl.jacobian_norms, at)
    refused("`iterations` must be a whole number >= 1", jl.jacobian_norms, [0], iterations=0)
    refused("`dhs` must be", jl.gradient_norms, jnp.zeros((T, H)))


# The figure -----------------------------------------------------------------------------------

COMMITTED = Path(__file__).parents[2] / "experiments/results/gradient_flow/tinyshakespeare"
FILES = ("flow.json", "flow.png", "flow.svg", "gates.png", "gates.svg")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """(Config, what was found, folder) of the quick form, in JAX's own precision."""
    results = tmp_path_factory.mktemp("results")
    config = dataclasses.replace(experiment.Config.tiny(), results=str(results), run="tiny")
    with jax.enable_x64(False):
        found = experiment.run(config)
    return config, found, results / "gradient_flow" / "tiny"


def test_every_file_is_there_and_drawn_again_from_the_json(tiny):
    config, found, directory = tiny
    assert sorted(path.name for path in directory.iterdir()) == sorted(FILES)
    assert record.read_json(directory / "flow.json") == json.loads(json.dumps(found))
    assert found["config"] == dataclasses.asdict(config)
    drawn = {name: (directory / name).read_bytes() for name in FILES[1:]}
    for name in drawn:
        (directory / name).unlink()
    draw_again(directory)
    assert drawn == {name: (directory / name).read_bytes() for name in FILES[1:]}
    assert drawn["flow.png"].startswith(b"\x89PNG")
    assert b"</svg>" in drawn["gates.svg"]


def test_what_is_found_is_of_every_network_and_situation(tiny):
    config, found, _ = tiny
    names = [situation["name"] for situation in found["situations"]]
    assert names == ["random input, fresh", "text, fresh", "text, after 3 updates"]
    for situation in found["situations"]:
        elman, *lstms = situation["networks"]
        assert [n["name"] for n in lstms] == ["LSTM, forget bias 0", "LSTM, forget bias 3"]
        assert list(elman["jacobian"]) == list(elman["gradient"]) == ["h"]
        assert len(elman["delta"]["a"]) == config.window
        h, bound = elman["jacobian"]["h"], elman["bound"]
        assert all(a <= 1.01 * b for a, b in zip(h["mean"], bound, strict=True))
        for network in lstms:
            assert list(network["delta"]) == ["i", "f", "g", "o"]
            assert network["delta"]["f"][0] == 0 < network["delta"]["f"][1]  # c_0 = 0
            for field in "hc":
                jacobian = network["jacobian"][field]
                assert {jacobian[k][-1] for k in ("mean", "least", "most")} == {1.0}
                least, mean, most = (np.array(jacobian[k]) for k in ("least", "mean", "most"))
                assert (least > 0).all()
                assert ((least <= mean) & (mean <= most)).all()
        forgets, keeps = (network["bound"][0] for network in lstms)
        assert forgets < 0.01 < keeps
    untrained, trained = (s["networks"][1] for s in found["situations"][1:])
    assert untrained["gradient"] != trained["gradient"]


def test_the_numbers_are_those_of_the_network_that_is_named(tiny):
    """The Elman network on random input, step by step in NumPy; by power iteration as well."""
    config, found, _ = tiny
    network, xs = experiment.networks_of(config)[0], experiment.random_input(config)
    with jax.enable_x64(False):
        model = experiment.model_of(config, network, found["text"]["vocabulary"], config.embedding)
    W, U, b = (np.asarray(p, np.float64) for p in model.lstm)
    h, slopes = np.zeros((config.examples, config.hidden)), []
    for x in xs:
        h = np.tanh(x @ W + h @ U + b)
        slopes.append(1 - h**2)
    J, norms = np.stack([np.eye(config.hidden)] * config.examples), []
    for slope in slopes[::-1]:
        norms.append(np.linalg.norm(J, 2, (-2, -1)))
        J = (J * slope[:, None]) @ U.T
    want = np.exp(np.log(norms[::-1]).mean(-1))
    shown = found["situations"][0]["networks"][0]["jacobian"]["h"]["mean"]
    digits = 5.001e-3  # three are written: 1.005 becomes 1.00 or 1.01
    np.testing.assert_allclose(shown, want, rtol=digits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "EXACT", 0)
        patch.setattr(experiment, "PLACES", 4)
        other = experiment.numbers(config, network, model, xs, np.zeros(config.examples, int))
    assert other["by"] == "power iteration"
    assert other["at"] == [0, 4, 7, 11]
    np.testing.assert_allclose(other["jacobian"]["h"]["mean"], want[other["at"]], rtol=digits)
    assert 0 < other["residual"] < 0.1


def test_the_figure_says_how_far_the_power_iteration_came(tiny):
    _, found, _ = tiny
    title = lambda found: flow_plots.flow(found).get_suptitle().split("\n")[0]
    assert title(found) == "What the last step feels of each step before it (singular values)"
    other = json.loads(json.dumps(found))
    for network in other["situations"][0]["networks"]:
        network |= {"by": "power iteration", "residual": 0.0123}
    assert "power iteration" in title(other)
    assert "at most 0.01" in title(other)


def test_how_far_back():
    """Two steps back are above the bound, the third is below."""
    network = {"at": [0, 1, 2, 3], "jacobian": {"h": {"mean": [0.1, 9e-4, 2e-3, 1.0]}}}
    assert experiment.reach(network, "h") == 1
    network["jacobian"]["h"]["mean"][1] = 2e-3
    assert experiment.reach(network, "h") == 3
    assert experiment.reach(network, "c") is None


def test_the_committed_figure_shows_what_its_notes_say():
    found = record.read_json(COMMITTED / "flow.json")
    assert (COMMITTED / "flow.png").read_bytes().startswith(b"\x89PNG")
    for situation in found["situations"][:2]:
        elman, zero, one, three = situation["networks"]
        assert max(experiment.reach(n, "h") for n in (elman, zero)) < 20
        assert 20 < experiment.reach(one, "h") < experiment.reach(three, "h") == 99
    for network in found["situations"][2]["networks"][1:]:
        assert experiment.reach(network, "c") > 3 * experiment.reach(network, "h")
    assert experiment.table(found).count("Elman RNN") == 3


# Bad input ------------------------------------------------------------------------------------


def arrays(folder):
    """Numbers that cannot be used, and a run that is there already."""
    xs = np.zeros((5, 2, 3))
    xs[3, 1, 2] = np.nan
    np.save(folder / "nan.npy", xs)
    np.save(folder / "empty.npy", xs[:0])
    np.save(folder / "short.npy", xs[:1])
    np.save(folder / "flat.npy", xs[0])
    np.save(folder / "words.npy", np.array([[["a"]]]))
    np.save(folder / "long.npy", np.zeros((2001, 1, 1)))
    (folder / "text.npy").write_text("no array")
    (folder / "short.txt").write_text("abc" * 40)
    (folder / "file").write_text("")
    (folder / "gradient_flow" / "old").mkdir(parents=True)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ("--input {0}/nan.npy", "{0}/nan.npy holds nan at t = 3, b = 1, d = 2 (1 such numbers)"),
        ("--input {0}/empty.npy", "argument --input: {0}/empty.npy is empty: T = 0, B = 2, D = 3"),
        ("--input {0}/short.npy", "argument --input: T = 1 step is no way for a gradient to go"),
        ("--input {0}/flat.npy", "must be numbers (T, B, D), time first; {0}/flat.npy holds"),
        ("--input {0}/words.npy", "must be numbers (T, B, D), time first"),
        ("--input {0}/long.npy", "argument --input: T = 2001 steps are more than a picture"),
        ("--input {0}/text.npy", "argument --input: {0}/text.npy is not a .npy file of numbers"),
        ("--input {0}/none.npy", "argument --input: cannot read {0}/none.npy: No such file"),
        ("--window 0", "argument --window: must be >= 2 and < 2001; got 0"),
        ("--window 2001", "argument --window: must be >= 2 and < 2001; got 2001"),
        ("--window 2000 --hidden 96 --examples 9", "argument --window: Jacobians of T = 2000"),
        ("--examples 500", "its last tenth is"),
        ("--text {0}/short.txt", "argument --text: 12 of its 120 characters are held out"),
        ("--forget-biases 0,one", "argument --forget-biases: must be numbers"),
        ("--forget-biases nan", "argument --forget-biases: must be numbers"),
        ("--forget-biases 1,2,3,4,5,6,7", "argument --forget-biases: must be at most 6 numbers"),
        ("--run old", "{0}/gradient_flow/old exists already and was kept; --force writes over it"),
        ("--run a/b", "argument --run: must be a plain name"),
        ("--results {0}/file", "argument --results: "),
    ],
)
def test_bad_input_names_the_argument(argv, complaint, tmp_path, capsys):
    arrays(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as status:
        experiment.main(["--tiny", "--results", str(tmp_path), *argv.format(tmp_path).split()])
    assert status.value.code == 2
    assert complaint.format(tmp_path) in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_is_written_over_by_force_alone(tmp_path, monkeypatch):
    config = dataclasses.replace(experiment.Config.tiny(), results=str(tmp_path), run="mine")
    made = experiment.directory_of(config)
    with pytest.raises(BadInput, match="--force"):
        experiment.directory_of(config)
    forced = dataclasses.replace(config, force=True)
    assert experiment.directory_of(forced) == made
    monkeypatch.setattr(experiment.os, "access", lambda path, mode: False)
    with pytest.raises(BadInput, match="--run: cannot write in"):
        experiment.directory_of(forced)


def test_numbers_of_ones_own_take_the_place_of_random_input(tmp_path):
    xs = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    np.save(tmp_path / "mine.npy", xs)
    np.testing.assert_array_equal(experiment.own_input(tmp_path / "mine.npy"), xs)
