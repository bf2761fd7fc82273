"""The GRU beside torch.nn.GRU and, where torch is missing, beside complex steps in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from tests.cells import test_peers
from tests.cells.test_peers import EDGES, RANDOM, TOLERANCE, arguments, over_sizes, product
from tests.tables import assert_close, normal_like, relaxed, value_and_cotangents

pytestmark = pytest.mark.usefixtures("checked")


def numpy_gru(params, state, xs):
    """For complex steps: tanh and exp alone."""
    (W, U, b, c), (h,), hs = params, state, []
    H = U.shape[0]
    sigmoid = lambda a: 1 / (1 + np.exp(-a))
    for x in xs:
        a, u = product(x, W) + b, product(h, U) + c
        r = sigmoid(a[..., :H] + u[..., :H])
        z = sigmoid(a[..., H : 2 * H] + u[..., H : 2 * H])
        n = np.tanh(a[..., 2 * H :] + r * u[..., 2 * H :])
        hs.append(h := (1 - z) * n + z * h)
    return [h, *hs]


@relaxed("what people write")
def plain_step(params, state, x):
    """For JAX, as people write it."""
    W, U, b, c = params
    a_r, a_z, a_n = jnp.split(x @ W + b, 3, axis=-1)
    u_r, u_z, u_n = jnp.split(state.h @ U + c, 3, axis=-1)
    z = jax.nn.sigmoid(a_z + u_z)
    n = jnp.tanh(a_n + jax.nn.sigmoid(a_r + u_r) * u_n)
    return jl.GRUState(z * state.h + (1 - z) * n)


@pytest.fixture
def oracle(monkeypatch):
    monkeypatch.setitem(test_peers.NUMPY, "gru", numpy_gru)


@pytest.mark.parametrize("batch", [(2,), ()], ids=str)
def test_complex_steps_element_by_element(oracle, batch):
    args, dy = arguments("gru", (4, 2, 3, 5), batch)
    y, got = test_peers.ours("gru", (4, 2, 3, 5), batch)
    assert_close(y, test_peers.values("gru", args), TOLERANCE)
    assert_close(got, test_peers.by_elements("gru", args, dy), TOLERANCE)


def by_torch(torch, args, dy):
    """Outputs and cotangents of torch.nn.GRU in our form: W x with blocks r, z, n, two biases."""
    tensor = lambda x: torch.tensor(np.array(x), requires_grad=True)
    params, state, xs = args
    dstate, dhs = dy
    D, H = params.W.shape[0], params.U.shape[0]
    module = torch.nn.GRU(D, H, dtype=torch.float64)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    ours = (params.W.T, params.U.T, params.b, params.c)
    module.load_state_dict({k: torch.tensor(np.array(x)) for k, x in zip(names, ours, strict=True)})
    h, x = tensor(state.h[None]), tensor(xs)
    hs, last = module(x, h)
    torch.autograd.backward([hs, last], [tensor(dhs), tensor(dstate.h[None])])
    array = lambda t: jnp.asarray(t.detach().numpy())
    W, U, b, c = (array(getattr(module, k).grad) for k in names)
    y = jl.GRUState(array(last)[0]), array(hs)
    return y, (jl.GRUParams(W.T, U.T, b, c), jl.GRUState(array(h.grad)[0]), array(x.grad))


@pytest.mark.half
@over_sizes([*RANDOM, *EDGES, (7, 2, 3, 5)])
def test_values_and_gradients_are_torch_s(size):
    torch = pytest.importorskip("torch", reason="torch is the peer: install jax_lstm[peers]")
    args, dy = arguments("gru", size)
    y, cotangents = by_torch(torch, args, dy)
    got_y, got = test_peers.ours("gru", size)
    assert_close(got_y, y, TOLERANCE)
    assert_close(got, cotangents, TOLERANCE)


@pytest.mark.parametrize(
    "change",
    [
        {"slopes": lambda w, prevs, saved: jl.GRU.slopes(w, prevs, (*saved[:3], 0 * saved[3]))},
        {"step_bwd": lambda w, prev, slopes, d: jl.GRU.step_bwd(w, prev, (*slopes[:2], 0.0), d)},
    ],
    ids=["the reset gate learns nothing", "the fork at h dropped"],
)
def test_a_wrong_rule_is_seen(change):
    row = test_peers.CELLS["gru"]
    wrong, twin = jl.make_rnn(row.cell._replace(**change))
    args = arguments("gru", (4, 2, 3, 5))[0]
    with pytest.raises(AssertionError):
        assert_close(value_and_cotangents(wrong, args), value_and_cotangents(twin, args))


def test_sizes():
    params = jl.init_gru(jax.random.key(0), 3, 5)
    assert [p.shape for p in params] == [(3, 15), (5, 15), (15,), (15,)]
    assert jl.init_gru_state(params, (2, 4)).h.shape == (2, 4, 5)
    state, xs = jl.init_gru_state(params), normal_like(0, jnp.zeros((4, 3), jnp.float32))
    wrong = params._replace(c=params.c[1:])
    with pytest.raises(ValueError, match=r"`params.c` must be \(15,\), that is \(3H,\) with H = 5"):
        jl.gru(wrong, state, xs)
