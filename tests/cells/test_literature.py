"""Numbers nobody here made up: Gomez, Mazur, Coursera, WildML, TMVA. Sources: fixtures/README.md.

Every check runs over the routes to a gradient: slowly by hand (textbook), by hand, by JAX.
"""

import functools
import itertools
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.flatten_util import ravel_pytree

import jax_lstm as jl
from jax_lstm import textbook
from jax_lstm.notation import GATES
from jax_lstm.stages import bias, bias_bwd, linear, linear_bwd, sigmoid, sigmoid_bwd
from jax_lstm.stages.losses import squared_error_bwd
from tests.tables import CELLS, assert_close, errors, normal_like

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"

# These tests compile many small functions and run each of them once.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def load(name):
    """A fixture with its lists of numbers as arrays."""

    def arrays(x):
        if isinstance(x, dict):
            return {k: arrays(v) for k, v in x.items()}
        if isinstance(x, list):
            return [arrays(v) for v in x] if isinstance(x[0], dict) else jnp.asarray(np.array(x))
        return jnp.asarray(x) if isinstance(x, float) else x

    return arrays(json.loads((FIXTURES / f"{name}.json").read_text()))


textbook_forward = quick_jit(textbook.forward)
textbook_backward = quick_jit(textbook.backward)


def lstm_by_textbook(params, state, xs):
    """The signature of `lstm`, for values only."""
    steps = textbook.forward(textbook.from_packed(*params), xs, *state)
    return jl.LSTMState(steps[-1]["h"], steps[-1]["c"]), jnp.stack([s["h"] for s in steps])


def lstm_by_steps(params, state, xs):
    """One step by hand, time by JAX."""
    return lax.scan(functools.partial(jl.lstm_cell, params), state, xs)


def by_any_route(route, args, dy):
    """What `lstm` returns, and the cotangents of its arguments, by any route."""
    if route is not lstm_by_textbook:
        y, vjp = jax.vjp(route, *args)
        return y, vjp(dy)
    params, state, xs = args
    p = textbook.from_packed(*params)
    steps = textbook.forward(p, xs, *state)
    (dh_T, dc_T), dhs = dy
    d = textbook.backward(p, steps, dhs, dh_T, dc_T)
    dparams = jl.LSTMParams(*textbook.to_packed(d.dparams))
    return route(*args), (dparams, jl.LSTMState(d.dh0, d.dc0), d.dxs)


value_and_cotangents = quick_jit(by_any_route, static_argnums=0)


ROUTES = {
    "lstm": jl.lstm,
    "lstm, every step run again": functools.partial(jl.lstm, residuals=1),
    "lstm_cell under scan": lstm_by_steps,
    "lstm_autodiff": jl.lstm_autodiff,
    "textbook": lstm_by_textbook,
}


def over(routes):
    return pytest.mark.parametrize("route", routes.values(), ids=routes.keys())


# Gomez: an LSTM with one unit -----------------------------------------------------------------


def gomez(start):
    fixture = load("gomez")
    want = fixture[start]
    params = jl.LSTMParams(**fixture["params"])
    return fixture, want, params, jl.LSTMState(want["h0"], want["c0"])


starts = pytest.mark.parametrize("start", ["zero_state", "remembered_state"])


@starts
def test_gomez_every_number_by_name(start):
    fixture, want, params, state = gomez(start)
    p, ys = textbook.from_packed(*params), fixture["ys"]
    steps = textbook_forward(p, fixture["xs"], *state)
    hs = jnp.stack([s["h"] for s in steps])
    dhs, _ = squared_error_bwd((hs, ys), jnp.ones(2))
    got = textbook_backward(p, steps, dhs, jnp.zeros(1), jnp.zeros(1))

    for s, expected in zip(steps, want["forward"], strict=True):
        a = jnp.concatenate([s["a_" + k] for k in GATES])
        assert_close({k: (s | {"a": a})[k] for k in expected}, expected)
    for d, expected in zip(got.deltas, want["backward"], strict=True):
        da = jnp.concatenate([d["da_" + k] for k in GATES])
        d = d | {"da": da, "dh_from_loss": d["dh_from_outside"]}
        assert_close({k: d[k] for k in expected}, expected)
    dW, dU, db = textbook.to_packed(got.dparams)
    gradients = {"dW": dW, "dU": dU, "db": db, "dxs": got.dxs, "dh0": got.dh0, "dc0": got.dc0}
    assert_close(gradients, want["gradients"])
    assert_close(jl.squared_error(hs, ys).sum(), want["loss"])


@starts
@over(ROUTES)
def test_gomez_gradients_and_one_sgd_step(start, route):
    fixture, want, params, state = gomez(start)
    xs, ys = fixture["xs"], fixture["ys"]
    hs = jnp.stack([step["h"] for step in want["forward"]])
    dhs, _ = squared_error_bwd((hs, ys), jnp.ones(2))
    zero = jnp.zeros(1)
    dy = (jl.LSTMState(zero, zero), dhs)
    (_, got), (dparams, dstate, dxs) = value_and_cotangents(route, (params, state, xs), dy)
    assert_close(got, hs)
    gradients = {"dW": dparams.W, "dU": dparams.U, "db": dparams.b, "dxs": dxs}
    assert_close(gradients | {"dh0": dstate.h, "dc0": dstate.c}, want["gradients"])

    after = want["after_one_sgd_step"]
    new = jax.tree.map(lambda p, dp: p - after["learning_rate"] * dp, params, dparams)
    assert_close(new, jl.LSTMParams(**after["params"]))
    (_, hs), _ = value_and_cotangents(route, (new, state, xs), dy)
    assert_close(jl.squared_error(hs, ys).sum(), after["loss"])


@starts
@over({"lstm": jl.lstm, "lstm_autodiff": jl.lstm_autodiff})
def test_gomez_the_whole_loss_under_value_and_grad(start, route):
    fixture, want, params, state = gomez(start)

    @quick_jit
    def loss_and_gradient(params):
        return jax.value_and_grad(
            lambda p: jl.squared_error(route(p, state, fixture["xs"])[1], fixture["ys"]).sum()
        )(params)

    loss, dparams = loss_and_gradient(params)
    assert_close(loss, want["loss"])
    assert_close(dparams, jl.LSTMParams(*(want["gradients"][k] for k in ("dW", "dU", "db"))))


def test_gomez_as_published():
    """Five digits: of 1.5176 the fifth is the fourth decimal."""
    fixture, _, params, state = gomez("zero_state")
    steps = textbook_forward(textbook.from_packed(*params), fixture["xs"], *state)
    for name, published in fixture["published"].items():
        got = np.concatenate([s[name] for s in steps])
        assert np.all(np.abs(got - published) < np.where(published < 1, 2e-5, 5e-5))


def test_gomez_what_is_remembered_is_the_last_state_of_the_first_run():
    fixture, _, params, zeros = gomez("zero_state")
    *_, remembered = gomez("remembered_state")
    state, _ = quick_jit(jl.lstm)(params, zeros, fixture["xs"])
    assert_close(state, remembered)


def test_gomez_zeros_in_the_backward_are_the_published_mistake_and_not_ours():
    fixture, want, params, state = gomez("remembered_state")
    p = textbook.from_packed(*params)
    steps = textbook_forward(p, fixture["xs"], *state)
    dhs = jnp.stack([s["h"] for s in steps]) - fixture["ys"]
    forgotten = [steps[0] | {"h_prev": jnp.zeros(1), "c_prev": jnp.zeros(1)}, steps[1]]
    mutant, ours = (
        textbook_backward(p, s, dhs, jnp.zeros(1), jnp.zeros(1)).dparams for s in (forgotten, steps)
    )
    mistake = fixture["zeros_in_backward_mutant"]
    wrong = {"db_f": mutant.b_f[0], "dU_g": mutant.U_g[0, 0]}
    for name, value in wrong.items():
        assert abs(value - mistake[name]) < 5e-11  # ten decimals
    dU, db = want["gradients"]["dU"], want["gradients"]["db"]
    right = {"db_f": db[1], "dU_g": dU[0, 2]}
    assert_close({"db_f": ours.b_f[0], "dU_g": ours.U_g[0, 0]}, right)
    assert min(errors(wrong, right).values()) > 1


# Mazur: two dense layers, the stages and their twins by hand ----------------------------------


def mazur_matrices(w):
    """w1 ... w8: in his order, the two weights into the first unit come first."""
    return w[:4].reshape(2, 2).T, w[4:].reshape(2, 2).T


def mazur_step(w, b, x, t):
    """Forward, top to bottom; then its reverse, bottom to top."""
    W1, W2 = mazur_matrices(w)
    b1, b2 = jnp.repeat(b[:, None], 2, axis=1)  # one offset for both units of a layer: a fork
    h = sigmoid(bias(linear(x, W1), b1))
    y = sigmoid(bias(linear(h, W2), b2))
    loss = jl.squared_error(y, t)

    dy, _ = squared_error_bwd((y, t), jnp.ones(()))
    da2, db2 = bias_bwd(sigmoid_bwd(y, dy))
    dh, dW2 = linear_bwd((h, W2), da2)
    da1, db1 = bias_bwd(sigmoid_bwd(h, dh))
    _, dW1 = linear_bwd((x, W1), da1)
    dw = jnp.concatenate([dW1.T.reshape(-1), dW2.T.reshape(-1)])
    db = jnp.stack([db1.sum(), db2.sum()])  # (F')
    return {"hidden": h, "output": y, "loss": loss, "dw": dw, "db": db}


@quick_jit
def mazur_after(steps, f):
    """The weights after so many steps of gradient descent, and what the network then says."""

    def step(_, w):
        return w - f["learning_rate"] * mazur_step(w, f["b"], f["x"], f["t"])["dw"]

    w = lax.fori_loop(0, steps, step, f["w"])
    return w, mazur_step(w, f["b"], f["x"], f["t"])


@pytest.fixture(scope="module")
def mazur():
    f = load("mazur")
    del f["about"], f["published"]["note"]
    return f


def test_mazur_one_step(mazur):
    _, got = mazur_after(0, mazur)
    assert_close(got, {k: mazur[k] for k in got})
    w, after = mazur_after(1, mazur)
    assert_close(w, mazur["w_after_1"])
    assert_close(after["loss"], mazur["loss_after_1"])
    np.testing.assert_allclose(after["loss"], mazur["published"]["loss_after_1"], rtol=5e-4)


def test_mazur_ten_thousand_steps(mazur):
    _, after = mazur_after(10_000, mazur)
    assert_close(after["loss"], mazur["loss_after_10000"])
    assert_close(after["output"], mazur["output_after_10000"])
    np.testing.assert_allclose(after["loss"], mazur["published"]["loss_after_10000"], rtol=5e-4)


# Coursera: weights on [a_prev; x_t], arrays (n, m, T) -----------------------------------------

COURSERA_GATES = dict(zip("ifco", GATES, strict=True))  # the candidate g is their c


def from_coursera(p, d=""):
    """Parameters or, with d="d", gradients: W_k (H, H + D) on [a_prev; x] becomes U_k and W_k."""
    H = p[f"{d}bi"].shape[0]
    W = {f"W_{k}": p[f"{d}W{c}"][:, H:].T for c, k in COURSERA_GATES.items()}
    U = {f"U_{k}": p[f"{d}W{c}"][:, :H].T for c, k in COURSERA_GATES.items()}
    b = {f"b_{k}": p[f"{d}b{c}"][:, 0] for c, k in COURSERA_GATES.items()}
    return jl.LSTMParams(*textbook.to_packed(textbook.Params(**W, **U, **b)))


def time_first(x):
    """(n, m, T) -> (T, m, n)."""
    return jnp.transpose(x, (2, 1, 0))


def one_step(cell, params, state, xs):
    state, h = cell(params, state, xs[0])
    return state, h[None]


CELL_ROUTES = {
    "lstm_cell": functools.partial(one_step, jl.lstm_cell),
    "lstm_cell_autodiff": functools.partial(one_step, jl.lstm_cell_autodiff),
}


@over(ROUTES | CELL_ROUTES)
def test_coursera_cell(route):
    f = load("coursera_cell")
    params = from_coursera(f["params"])
    args = (params, jl.LSTMState(f["a_prev"].T, f["c_prev"].T), f["xt"].T[None])
    dy = (jl.LSTMState(f["da_next"].T, f["dc_next"].T), jnp.zeros((1, *f["a_prev"].T.shape)))
    (state, hs), got = value_and_cotangents(route, args, dy)
    g = f["grads"]
    want = from_coursera(g, "d"), jl.LSTMState(g["da_prev"].T, g["dc_prev"].T), g["dxt"].T[None]
    assert_close(got, want)
    assert_close(state, jl.LSTMState(f["a_next"].T, f["c_next"].T))
    assert_close(hs[0], f["a_next"].T)
    readout = jl.DenseParams(f["params"]["Wy"].T, f["params"]["by"][:, 0])
    assert_close(jax.nn.softmax(jl.dense(readout, state.h)), f["yt"].T)


def coursera_sequence():
    """Arguments and cotangents; the exercise runs 4 of its 7 steps."""
    f = load("coursera_seq")
    state = jl.LSTMState(f["a0"].T, jnp.zeros_like(f["a0"].T))
    dhs = time_first(f["da"])
    zero = jnp.zeros_like(state.h)
    xs = time_first(f["x"])[: len(dhs)]
    return f, (from_coursera(f["params"]), state, xs), (jl.LSTMState(zero, zero), dhs)


@over(ROUTES)
def test_coursera_sequence(route):
    f, args, dy = coursera_sequence()
    _, got = value_and_cotangents(route, args, dy)
    g = f["gradients"]
    want = from_coursera(g, "d"), jl.LSTMState(g["da0"].T, g["dc0"].T), time_first(g["dx"])
    assert_close(got, want)


def test_coursera_old_answer_key_carries_nothing_from_step_to_step():
    f, args, (dstate, dhs) = coursera_sequence()
    p = textbook.from_packed(*args[0])
    steps = textbook_forward(p, args[2], *args[1])
    alone = [
        textbook_backward(p, steps[t : t + 1], dhs[t : t + 1], *dstate) for t in range(len(steps))
    ]
    dparams = jax.tree.map(lambda *ds: sum(ds), *(d.dparams for d in alone))
    mutant = coursera_entries(dparams, jnp.concatenate([d.dxs for d in alone]), alone[0].dh0)
    key = {k: jnp.asarray(v) for k, v in f["old_answer_key"].items()}
    for name, value in key.items():
        np.testing.assert_allclose(mutant[name], value, rtol=0, atol=1e-7)

    ours = textbook_backward(p, steps, dhs, *dstate)
    truth = coursera_entries(ours.dparams, ours.dxs, ours.dh0)
    assert min(errors(key, truth).values()) > 0.1
    assert_close(mutant["dx_1_2"][-1], truth["dx_1_2"][-1])  # nothing comes from after the end


def coursera_entries(dparams, dxs, da0):
    """The ten numbers the notebook prints, by its indices on its own layouts."""
    entries = {"dx_1_2": dxs[:, 2, 1], "da0_2_3": da0[3, 2]}
    for c, row, column in [("f", 3, 1), ("i", 1, 2), ("c", 3, 1), ("o", 1, 2)]:
        k = COURSERA_GATES[c]
        concatenated = jnp.concatenate([getattr(dparams, f"U_{k}"), getattr(dparams, f"W_{k}")])
        entries[f"dW{c}_{row}_{column}"] = concatenated[column, row]
        entries[f"db{c}_4"] = getattr(dparams, f"b_{k}")[4]
    return entries


# WildML: a language model without bias --------------------------------------------------------


WILDML = {
    "by hand": (jl.embedding, jl.elman, jl.dense, jl.softmax_cross_entropy),
    "autodiff": (
        jl.embedding_autodiff,
        jl.elman_autodiff,
        jl.dense_autodiff,
        jl.softmax_cross_entropy_autodiff,
    ),
}


def wildml():
    """h_t = tanh(U[:, x_t] + W h_{t-1}), logits V h_t: all transposed, for rows."""
    f = load("wildml_rnn")
    gradients = jax.tree.map(jnp.transpose, f["gradients"])
    return f, jax.tree.map(jnp.transpose, f["params"]), jl.ElmanState(jnp.zeros(10)), gradients


def wildml_losses(route, model, state, tokens, targets):
    """The loss of every step, and the states after it. The cell gets U[:, x_t] as its input."""
    embedding, elman, dense, entropy = route
    zeros = jnp.zeros(10)
    params = jl.ElmanParams(jnp.eye(10), model["W"], zeros)
    _, hs = elman(params, state, embedding(model["U"], tokens))
    return entropy(dense(jl.DenseParams(model["V"], zeros[:5]), hs), targets), hs


@functools.partial(quick_jit, static_argnums=0)
def wildml_gradients(route, model, state, tokens, targets, weights):
    """The weighted sum of the losses, differentiated."""

    def loss(model):
        losses, hs = wildml_losses(route, model, state, tokens, targets)
        return (weights * losses).sum(), hs

    return jax.value_and_grad(loss, has_aux=True)(model)


@over(WILDML)
def test_wildml_loss_and_gradients(route):
    f, model, state, want = wildml()
    (loss, _), gradients = wildml_gradients(route, model, state, f["x"], f["y"], jnp.ones(4))
    assert_close(loss, f["loss"])
    assert_close(gradients, want)
    assert_close(jax.tree.map(jnp.linalg.norm, gradients), f["frobenius"])


@over(WILDML)
def test_wildml_the_sentence_twice_is_twice_the_gradient(route):
    """A batch of two: the parameters, and each row of the table, are forks over examples."""
    f, model, _, want = wildml()
    tokens, targets = (jnp.stack([f[name]] * 2, axis=1) for name in "xy")
    state = jl.ElmanState(jnp.zeros((2, 10)))
    (loss, _), got = wildml_gradients(route, model, state, tokens, targets, jnp.ones((4, 2)))
    assert_close(loss, 2 * f["loss"])
    assert_close(got, jax.tree.map(lambda d: 2 * d, want))


@over({"elman": jl.elman, "elman_autodiff": jl.elman_autodiff})
def test_wildml_symbols_and_one_hot_rows_are_the_same_network(route):
    """The table inside the cell: one-hot inputs times W."""
    f, model, state, want = wildml()

    def loss(params, V, tokens, targets):
        _, hs = route(params, state, jax.nn.one_hot(tokens, 5, dtype=V.dtype))
        return jl.softmax_cross_entropy(hs @ V, targets).sum()

    params = jl.ElmanParams(model["U"], model["W"], jnp.zeros(10))
    value, (dparams, dV) = quick_jit(jax.value_and_grad(loss, (0, 1)))(
        params, model["V"], f["x"], f["y"]
    )
    assert_close(value, f["loss"])
    assert_close({"U": dparams.W, "W": dparams.U, "V": dV}, want)


def windowed_gradients(route, k):
    """The error of each output goes back k steps: the sum over windows of k + 1 steps.

    A window starts from the state before it as a constant, and only its last output counts.
    """
    f, model, state, _ = wildml()
    _, hs = wildml_losses(route, model, state, f["x"], f["y"])
    total = jax.tree.map(jnp.zeros_like, model)
    for t in range(4):
        now = slice(max(t - k, 0), t + 1)
        before = jl.ElmanState(hs[now.start - 1]) if now.start else state
        last = jnp.zeros(now.stop - now.start).at[-1].set(1)
        _, more = wildml_gradients(route, model, before, f["x"][now], f["y"][now], last)
        total = jax.tree.map(jnp.add, total, more)
    return total


def wildml_own_loop(k):
    """The tutorial's algorithm in numpy: norms of dU and dW."""
    f = load("wildml_rnn")
    U, V, W = (np.asarray(f["params"][name]) for name in "UVW")
    dU, dW, hs = np.zeros_like(U), np.zeros_like(W), np.zeros((5, 10))  # the last row is h_{-1}
    for t in range(4):
        hs[t] = np.tanh(U[:, f["x"][t]] + W @ hs[t - 1])
        p = np.exp(V @ hs[t])
        error = p / p.sum() - np.eye(5)[f["y"][t]]
        da = V.T @ error * (1 - hs[t] ** 2)
        for s in range(t, max(t - k, 0) - 1, -1):
            dU[:, f["x"][s]] += da
            dW += np.outer(da, hs[s - 1])
            da = W.T @ da * (1 - hs[s - 1] ** 2)
    return {"dU_norm": np.linalg.norm(dU), "dW_norm": np.linalg.norm(dW)}


@over(WILDML)
@pytest.mark.parametrize("k", [0, 1, 2])
def test_wildml_truncated_after_k_steps(route, k):
    f, *_, full = wildml()
    got = windowed_gradients(route, k)
    norms = {f"d{name}_norm": jnp.linalg.norm(got[name]) for name in "UW"}
    assert_close(norms, {name: f["truncated"][str(k)][name] for name in norms}, 1e-8)
    assert_close(norms, wildml_own_loop(k))
    assert_close(got["V"], full["V"])  # the readout sees no time
    assert errors(got["U"], full["U"])[""] > 1e-5  # the rest does


@over(WILDML)
def test_wildml_windows_as_long_as_the_sequence_truncate_nothing(route):
    *_, full = wildml()
    assert_close(windowed_gradients(route, 3), full)


# Closed forms and counts ----------------------------------------------------------------------


def count(init, *sizes):
    params = jax.eval_shape(lambda key: init(key, *sizes), jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_parameter_counts():
    keras = load("known_values")["keras_stock_parameters"]
    sizes = [keras["input"], *keras["layers"].tolist()]
    layers = [count(jl.init_lstm, D, H) for D, H in itertools.pairwise(sizes)]
    assert layers == [keras["first"], keras["next"], keras["next"], keras["next"]]
    assert sum(layers) + count(jl.init_dense, sizes[-1], keras["dense"]) == keras["total"]
    tmva = load("known_values")["tmva_lstm_parameters"]
    assert count(jl.init_lstm, tmva["input"], tmva["hidden"]) == tmva["total"]


@pytest.mark.parametrize("entropy", ["softmax_cross_entropy", "softmax_cross_entropy_autodiff"])
def test_a_uniform_answer_costs_log_V_per_step(entropy):
    known = load("known_values")
    entropy = getattr(jl, entropy)
    for T, V, want in [
        (11, 27, known["uniform_27_over_11_steps"]["cross_entropy"]),
        (1, 8000, known["wildml_random_loss_8000"]),
    ]:
        got = entropy(jnp.zeros((T, V)), jnp.arange(T)).sum()
        assert math.isclose(got, want, rel_tol=1e-15)


@pytest.mark.parametrize(
    "entropy", ["binary_cross_entropy_with_logits", "binary_cross_entropy_with_logits_autodiff"]
)
def test_a_uniform_answer_element_by_element(entropy):
    """sigmoid(y) = 1/27 for each of 27 symbols, one of which is right, in 11 steps."""
    want = load("known_values")["uniform_27_over_11_steps"]["elementwise_bce"]
    logits = jnp.full((11, 27), -math.log(26))
    got = getattr(jl, entropy)(logits, jax.nn.one_hot(jnp.arange(11), 27, dtype=logits.dtype)).sum()
    assert math.isclose(got, want, rel_tol=1e-15)


# TMVA: a grid of sizes, the state remembered or not, the last output or all -------------------


def tmva_loss(route, targets, args):
    """L = ½ Σ (h_t - y_t)², weighted: all outputs as a sequence, the last one as a state."""
    ys, all_outputs, last_output = targets
    state, hs = route(*args)
    everything, last = jl.squared_error(hs, ys).sum(), jl.squared_error(state.h, ys[-1]).sum()
    return all_outputs * everything + last_output * last, (state, hs)


@functools.partial(quick_jit, static_argnums=0)
def tmva_gradients(route, targets, args):
    """Loss, last state, and the cotangents of params, state and xs."""
    if route is not lstm_by_textbook:
        loss = functools.partial(tmva_loss, route, targets)
        (loss, (state, _)), gradients = jax.value_and_grad(loss, has_aux=True)(args)
        return loss, state, gradients
    loss, (state, hs) = tmva_loss(route, targets, args)
    ys, all_outputs, last_output = targets
    dhs, _ = squared_error_bwd((hs, ys), jnp.broadcast_to(all_outputs, ys.shape[:-1]))
    dh_T, _ = squared_error_bwd((state.h, ys[-1]), jnp.broadcast_to(last_output, ys[0].shape[:-1]))
    dy = (jl.LSTMState(dh_T, jnp.zeros_like(dh_T)), dhs)
    return loss, state, by_any_route(route, args, dy)[1]


@functools.partial(quick_jit, static_argnums=0)
def central_differences(route, targets, args, step=1e-3):
    """Four values of the loss per number, no derivative; what remains is of the order step⁴."""
    flat, tree = ravel_pytree(args)

    def slope(direction):
        def at(n):
            return tmva_loss(route, targets, tree(flat + n * step * direction))[0]

        return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)

    return tree(jax.vmap(slope)(jnp.eye(flat.size)))


def tmva_problem(cell, size, outputs, remembered, xs=None):
    """Random parameters; what is remembered is the state that the batch before has left."""
    T, B, H, D = size
    seed, row = sum(size), CELLS[cell]
    shapes = jax.eval_shape(lambda key: row.init(key, D, H, dtype=jnp.float64), jax.random.key(0))
    params = normal_like(seed, shapes, max(D, H) ** -0.5)
    batches = normal_like(seed + 1, jax.ShapeDtypeStruct((2, T, B, D), jnp.float64))
    xs = batches[0] if xs is None else xs
    ys = jnp.asarray(np.random.default_rng(seed).integers(0, 2, (T, B, H)), jnp.float64)
    all_outputs = float(outputs == "all")
    targets = (ys, jnp.asarray(all_outputs), jnp.asarray(1 - all_outputs))
    state = row.init_state(params, (B,))
    if remembered:
        _, state, _ = tmva_gradients(row.sequence, targets, (params, state, batches[1]))
    assert all(np.any(leaf) == remembered for leaf in state)
    return targets, (params, state, xs)


GRID = [tuple(size) for size in load("known_values")["tmva_grid_T_B_S_I"].tolist()]
over_states = pytest.mark.parametrize("remembered", [False, True], ids=["zeros", "remembered"])
over_outputs = pytest.mark.parametrize("outputs", ["all", "last"])


@over_outputs
@over_states
@pytest.mark.parametrize("size", GRID, ids=lambda size: "T{}-B{}-H{}-D{}".format(*size))
def test_tmva_grid(size, remembered, outputs):
    problem = tmva_problem("lstm", size, outputs, remembered)
    want = tmva_gradients(jl.lstm_autodiff, *problem)
    assert_close(tmva_gradients(jl.lstm, *problem), want)
    assert_close(tmva_gradients(lstm_by_textbook, *problem), want)


@over_outputs
@over_states
@pytest.mark.parametrize(
    ("cell", "size"),
    [("lstm", (1, 2, 1, 2)), ("lstm", (2, 2, 3, 4)), ("elman", (2, 1, 2, 3))],
    ids=["lstm-T1", "lstm-T2", "elman-T2"],
)
def test_tmva_grid_by_central_differences(cell, size, remembered, outputs):
    assert size in GRID
    problem = tmva_problem(cell, size, outputs, remembered)
    _, _, got = tmva_gradients(CELLS[cell].sequence, *problem)
    forward = lstm_by_textbook if cell == "lstm" else jl.elman_autodiff
    assert_close(got, central_differences(forward, *problem), 1e-9)


@over_outputs
def test_tmva_fixed_input(outputs):
    """(B, T, D) = (1, 3, 6), through the last row of the grid."""
    xs = jnp.transpose(load("known_values")["tmva_fixed_input"][None], (1, 0, 2))
    T, B, _, D = GRID[-1]
    assert xs.shape == (T, B, D) == (3, 1, 6)
    problem = tmva_problem("lstm", GRID[-1], outputs, True, xs)
    want = tmva_gradients(jl.lstm_autodiff, *problem)
    assert_close(tmva_gradients(jl.lstm, *problem), want)
    assert_close(tmva_gradients(lstm_by_textbook, *problem), want)
    problem = tmva_problem("elman", GRID[-1], outputs, True, xs)
    assert_close(tmva_gradients(jl.elman, *problem), tmva_gradients(jl.elman_autodiff, *problem))
