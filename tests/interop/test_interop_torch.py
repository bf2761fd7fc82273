"""torch, live: its weights, gradients and states in our form and back, over what it can be."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm.interop import torch as interop
from jax_lstm.networks.stack import stack
from tests.tables import QUICK, assert_close, assert_same, normal_like, pullback

TOLERANCE = {"float64": 1e-11, "float32": 1e-5}  # relative to the largest element of each leaf
T, B, D, H, R = 7, 4, 3, 5, 2
LENGTHS = (3, 7, 1, 5)  # unsorted

# cell, layers, bidirectional, packed, bias, dtype
CASES = {
    "1 layer": ("LSTM", 1, False, False, True, "float64"),
    "3 layers, packed": ("LSTM", 3, False, True, True, "float64"),
    "2 layers, two directions, packed": ("LSTM", 2, True, True, True, "float64"),
    "2 layers, two directions, packed, no bias": ("LSTM", 2, True, True, False, "float64"),
    "2 layers, two directions, projection, packed": ("LSTMP", 2, True, True, True, "float64"),
    "1 layer, projection, float32": ("LSTMP", 1, False, False, True, "float32"),
    "2 layers, two directions, packed, float32": ("LSTM", 2, True, True, True, "float32"),
    "RNN, 2 layers, two directions, packed": ("RNN", 2, True, True, True, "float64"),
}
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
SEQUENCES = {"LSTM": jl.lstm, "LSTMP": jl.lstmp, "RNN": jl.elman}


@pytest.fixture(scope="module")
def torch():
    reason = "torch is the peer of this test: install jax_lstm[peers]"
    return pytest.importorskip("torch", reason=reason)


def module_of(torch, cell, layers=1, bidirectional=False, bias=True, dtype="float64", seed=0):
    """A module with biases that differ."""
    options = {"proj_size": R} if cell == "LSTMP" else {}
    kind = torch.nn.RNN if cell == "RNN" else torch.nn.LSTM
    torch.manual_seed(seed)
    return kind(
        D,
        H,
        num_layers=layers,
        bidirectional=bidirectional,
        bias=bias,
        dtype=getattr(torch, dtype),
        **options,
    )


def tensor(torch, x):
    return torch.tensor(np.array(x), requires_grad=True)


class Run:
    """A module on random inputs, random cotangents on all of its outputs; everything it answers."""

    def __init__(self, torch, cell, layers, bidirectional, packed, bias, dtype):
        self.module = module_of(torch, cell, layers, bidirectional, bias, dtype)
        n = layers * (2 if bidirectional else 1)
        out = R if cell == "LSTMP" else H
        sizes = (out,) if cell == "RNN" else (out, H)
        like = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.dtype(dtype))
        fields = tuple(like((n, B, size)) for size in sizes)
        hs = like((T, B, out * n // layers))
        self.x, self.hx, self.dhs, self.dhx = normal_like(
            1, (like((T, B, D)), fields, hs, fields), 0.7
        )
        self.x_torch = tensor(torch, self.x)
        self.hx_torch = [tensor(torch, x) for x in self.hx]
        self.packed = packed
        self.hs, self.last = self.forward(torch)
        d = [tensor(torch, x) for x in (self.dhs, *self.dhx)]
        torch.autograd.backward([self.hs, *self.last], d)
        self.gradient = {k: p.grad for k, p in self.module.named_parameters()}

    def forward(self, torch):
        run = self.x_torch
        if self.packed:
            pack = torch.nn.utils.rnn.pack_padded_sequence
            run = pack(run, torch.tensor(LENGTHS), enforce_sorted=False)
        hx = tuple(self.hx_torch) if len(self.hx) == 2 else self.hx_torch[0]
        hs, last = self.module(run, hx)
        if self.packed:
            hs, _ = torch.nn.utils.rnn.pad_packed_sequence(hs, total_length=T)
        return hs, last if isinstance(last, tuple) else (last,)


@functools.cache
def reference(torch, case):
    return Run(torch, *CASES[case])


@functools.cache
def ours(torch, case):
    """What our stack answers, from the module's weights and states: outputs and cotangents."""
    cell, _, bidirectional, packed, _, _ = CASES[case]
    run = reference(torch, case)
    params = interop.from_state_dict(run.module.state_dict())
    states, dstates = (
        interop.from_hx(x if len(x) == 2 else x[0], bidirectional=bidirectional)
        for x in (run.hx, run.dhx)
    )
    lengths = jnp.asarray(LENGTHS) if packed else None

    f = lambda *args: stack(*args, sequence=SEQUENCES[cell], lengths=lengths)
    return pullback(f, (params, states, run.x), (dstates, run.dhs), QUICK)


over_cases = pytest.mark.parametrize("case", CASES)


def arrays(tree):
    return jax.tree.map(lambda x: x.detach().numpy() if hasattr(x, "detach") else x, tree)


def hx_of(states):
    hx = interop.to_hx(states)
    return hx if isinstance(hx, tuple) else (hx,)


@pytest.mark.half
@over_cases
def test_outputs_and_all_gradients(torch, case):
    *_, bias, dtype = CASES[case]
    run, (y, (dparams, dstates, dxs)) = reference(torch, case), ours(torch, case)
    states, hs = y
    theirs = arrays([run.hs, *run.last, run.x_torch.grad, *(x.grad for x in run.hx_torch)])
    assert_close([hs, *hx_of(states), dxs, *hx_of(dstates)], theirs, TOLERANCE[dtype])

    d = interop.gradient_to_state_dict(dparams, bias=bias)
    assert list(d) == list(run.gradient)
    assert_close(d, arrays(run.gradient), TOLERANCE[dtype])

    back = interop.gradient_from_state_dict(run.gradient)
    if not bias:
        assert not any(p.b.any() for layer in back.layers for p in layer)
        dparams = without_bias(dparams)
    assert_close(back, dparams, TOLERANCE[dtype])
    assert jax.tree.map(lambda x: x.dtype, back) == jax.tree.map(lambda x: x.dtype, dparams)


def without_bias(params):
    clear = lambda p: p._replace(b=jnp.zeros_like(p.b))
    return params._replace(layers=tuple(tuple(map(clear, layer)) for layer in params.layers))


@over_cases
def test_there_and_back_at_exact_equality(torch, case):
    _, _, bidirectional, _, bias, dtype = CASES[case]
    run = Run(torch, *CASES[case])
    theirs = {k: x.numpy().copy() for k, x in run.module.state_dict().items()}
    params = interop.from_state_dict(theirs)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    d = interop.to_state_dict(params, bias=bias)
    assert list(d) == list(theirs)
    assert {x.dtype for x in d.values()} == {np.dtype(dtype)}
    for name, x in theirs.items():
        if "bias_ih" in name:  # all in one: the sum is what the module computes with
            np.testing.assert_array_equal(d[name], x + theirs[name.replace("_ih", "_hh")])
        elif "bias_hh" in name:
            assert not d[name].any()
        else:
            np.testing.assert_array_equal(d[name], x)
    assert_same(interop.from_state_dict(d), params)
    random = normal_like(5, params)
    random = random if bias else without_bias(random)
    assert_same(interop.from_state_dict(interop.to_state_dict(random, bias=bias)), random)
    both = interop.gradient_to_state_dict(random, bias=bias)
    assert_same(interop.gradient_from_state_dict(both), random)
    hx = run.hx if len(run.hx) == 2 else run.hx[0]
    assert_same(interop.to_hx(interop.from_hx(hx, bidirectional=bidirectional)), hx)
    run.module.load_state_dict({k: torch.from_numpy(x) for k, x in d.items()})
    with torch.no_grad():
        hs, _ = run.forward(torch)
    assert_close(hs.numpy(), run.hs.detach().numpy(), TOLERANCE[dtype])


def swap_blocks(x, a, b):
    """Rows of two gates' blocks in each other's places."""
    parts = list(np.split(np.array(x), 4))
    parts[a], parts[b] = parts[b], parts[a]
    return np.concatenate(parts)


@pytest.mark.parametrize("blocks", [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)], ids=str)
@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0"])
def test_swapped_gates_are_rejected(torch, name, blocks):
    """The comparison above can fail: values, and the gradient of the same leaf."""
    case = "1 layer"
    (_, hs), (dparams, *_) = ours(torch, case)
    run = Run(torch, *CASES[case])
    d = interop.to_state_dict(interop.from_state_dict(run.module.state_dict()))
    d[name] = swap_blocks(d[name], *blocks)
    run.module.load_state_dict({k: torch.from_numpy(x) for k, x in d.items()})
    with torch.no_grad():
        wrong, _ = run.forward(torch)
    with pytest.raises(AssertionError):
        assert_close(hs, wrong.numpy(), TOLERANCE["float64"])
    gradient = interop.gradient_to_state_dict(dparams)
    gradient[name] = swap_blocks(gradient[name], *blocks)
    with pytest.raises(AssertionError):
        assert_close(gradient, arrays(run.gradient), TOLERANCE["float64"])


def test_weights_and_gradients_do_not_go_the_same_way(torch):
    """Each the other's way is wrong: db twice, and half of it lost."""
    case = "1 layer"
    run, (_, (dparams, *_)) = reference(torch, case), ours(torch, case)
    db = dparams.layers[0][0].b
    as_weights = interop.from_state_dict(run.gradient).layers[0][0].b
    assert_close(as_weights, 2 * db, TOLERANCE["float64"])
    assert not interop.to_state_dict(dparams)["bias_hh_l0"].any()
    with pytest.raises(ValueError, match=r"they have one gradient; these are .* apart"):
        interop.gradient_from_state_dict(run.module.state_dict())


def test_bfloat16_and_float16_are_kept(torch):
    for dtype in ("bfloat16", "float16"):
        module = module_of(torch, "LSTM", bias=False, dtype=dtype)
        params = interop.from_state_dict(module.state_dict())
        assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
        d = interop.to_state_dict(params, bias=False)
        for name, x in module.state_dict().items():
            assert d[name].dtype == jnp.dtype(dtype)
            np.testing.assert_array_equal(d[name].astype(np.float32), x.float().numpy())
        states = interop.from_hx((torch.ones(1, B, H, dtype=module.weight_ih_l0.dtype),) * 2)
        assert (states[0][0].h.dtype, states[0][0].c.dtype) == (jnp.dtype(dtype), jnp.float32)


def test_a_part_of_a_model(torch):
    model = torch.nn.ModuleDict({"encoder": module_of(torch, "LSTM"), "fc": torch.nn.Linear(H, 2)})
    d = model.state_dict()
    want = interop.from_state_dict(model["encoder"].state_dict())
    for prefix in ("encoder", "encoder."):
        assert_same(interop.from_state_dict(d, prefix=prefix), want)
        assert set(interop.to_state_dict(want, prefix=prefix)) < set(d)
    for prefix in ("", "decoder"):
        with pytest.raises(ValueError, match=r"LSTMs are there with prefix='encoder'"):
            interop.from_state_dict(d, prefix=prefix)


def test_no_gradient_yet(torch):
    d = {k: p.grad for k, p in module_of(torch, "LSTM").named_parameters()}
    with pytest.raises(ValueError, match="`weight_ih_l0` must be an array; got NoneType; no grad"):
        interop.gradient_from_state_dict(d)
