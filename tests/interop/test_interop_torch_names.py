"""torch, live: 16 bits there and back, and the state dicts of what is no plain torch.nn.LSTM."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm.files import inspect as inspection
from jax_lstm.interop import torch as interop
from tests.tables import assert_close, assert_same

T, B, D, H = 4, 2, 3, 5
# Torch deprecates the older of its two weight norms, whose files are still about: both are read.
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")


@pytest.fixture(scope="module")
def torch():
    reason = "torch is the peer of this test: install jax_lstm[peers]"
    torch = pytest.importorskip("torch", reason=reason)
    torch.manual_seed(0)
    return torch


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_16_bits_go_there_and_back_to_the_bit(torch, kind, dtype):
    """By the documented way: a module, ours, and a module that answers as the first one did."""
    options = {"num_layers": 2, "bidirectional": True, "dtype": getattr(torch, dtype)}
    one, other = (getattr(torch.nn, kind)(D, H, **options) for _ in range(2))
    params = interop.from_state_dict(one.state_dict())
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    other.load_state_dict(interop.to_tensors(interop.to_state_dict(params)))
    assert_same(interop.from_state_dict(other.state_dict()), params)
    with torch.no_grad():
        _, hx = one(torch.randn(T, B, D, dtype=options["dtype"]))
    states = interop.from_hx(hx, bidirectional=True)
    wide = "float64" if dtype == "float64" else "float32"
    assert [str(x.dtype) for x in states[0][0]] == [dtype, wide][: len(states[0][0])]
    back = interop.to_tensors(interop.to_hx(states, dtype=options["dtype"]))
    assert_same(interop.to_hx(states, dtype=dtype), interop.to_hx(states, dtype=jnp.dtype(dtype)))
    for x, y in zip(*((x if isinstance(x, tuple) else (x,)) for x in (hx, back)), strict=True):
        assert x.dtype == y.dtype
        assert torch.equal(x, y)
    gradient = interop.to_tensors(interop.gradient_to_state_dict(params))
    assert_same(interop.gradient_from_state_dict(gradient), params)


def test_tensors_are_new_and_of_any_tree(torch):
    x = np.arange(6.0).reshape(2, 3).T
    one, (other,) = interop.to_tensors((x, [jnp.asarray(x, jnp.bfloat16)]))
    one += 1  # neither NumPy's array nor JAX's is written
    other += 1
    assert x[0, 0] == 0
    assert other.tolist() == one.tolist()
    for dtype in ("int32", "bfloat", 3.0):
        with pytest.raises(ValueError, match="`dtype` must be a floating dtype"):
            interop.to_hx(((jl.ElmanState(jnp.ones(H)),),), dtype=dtype)
    with pytest.raises(ValueError, match="`tree` must be floating point; got int64"):
        interop.to_tensors([np.arange(3)])


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("way", ["parametrizations", "hooks"])
def test_weight_norm_is_joined(torch, way, dim, tmp_path):
    """Parts that were moved since: w is what the module computes."""
    utils = torch.nn.utils
    norm = utils.parametrizations.weight_norm if way == "parametrizations" else utils.weight_norm
    module = torch.nn.LSTM(D, H, bidirectional=True, dtype=torch.float64)
    for name in ("weight_hh_l0", "weight_ih_l0_reverse", "bias_hh_l0"):
        norm(module, name, dim=None if "bias" in name else dim)
    module.load_state_dict({k: 1.5 * x for k, x in module.state_dict().items()})
    with torch.no_grad():
        module(torch.zeros(1, 1, D, dtype=torch.float64))  # hooks compute the weights
    want = interop.from_state_dict({k: getattr(module, k) for k in module._flat_weights_names})
    d = {f"enc.{k}": x for k, x in module.state_dict().items()}
    assert_close(interop.from_state_dict(d, prefix="enc"), want)
    np.savez(tmp_path / "a.npz", **{k: x.numpy() for k, x in d.items()})
    found = inspection.inspect(tmp_path / "a.npz")
    assert [(c.where, c.direction) for c in found.cells] == [("enc", "forward"), ("enc", "reverse")]
    norm = np.linalg.norm(want.layers[0][0].U[:, :H])  # of gate i
    np.testing.assert_allclose(found.cells[0].gates[0].U, norm)


@pytest.mark.parametrize("kind", ["LSTMCell", "RNNCell"])
def test_a_cell_s_state_dict_is_one_layer(torch, kind):
    cells = torch.nn.ModuleList([getattr(torch.nn, kind)(D, H).double() for _ in range(11)])
    ((params,),) = interop.from_state_dict(cells.state_dict(), prefix="10").layers
    x = torch.randn(B, D, dtype=torch.float64)
    with torch.no_grad():
        want = cells[10](x)
    want = want if isinstance(want, tuple) else (want,)
    step, first = (
        (jl.lstm_cell, jl.init_lstm_state)
        if kind == "LSTMCell"
        else (jl.elman_cell, jl.init_elman_state)
    )
    state, _ = step(params, first(params, (B,)), jnp.asarray(x.numpy()))
    assert_close(tuple(state), tuple(y.numpy() for y in want))
