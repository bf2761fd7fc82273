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


def swapped(x, a, b):
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
    d[name] = swapped(d[name], *blocks)
    run.module.load_state_dict({k: torch.from_numpy(x) for k, x in d.items()})
    with torch.no_grad():
        wrong, _ = run.forward(torch)
    with pytest.raises(AssertionError):
        assert_close(hs, wrong.numpy(), TOLERANCE["float64"])
    gradient = interop.gradient_to_state_dict(dparams)
    gradient[name] = swapped(gradient[name], *blocks)
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


# Without torch --------------------------------------------------------------------------------


def weights(blocks=4, L=1, directions=1, hidden=H):
    names = [f"l{k}{'_reverse' * r}" for k in range(L) for r in range(directions)]
    d, rng = {}, np.random.default_rng(0)
    for name in names:
        features = D if name.startswith("l0") else hidden * directions
        shapes = {"weight_ih": (blocks * hidden, features), "weight_hh": (blocks * hidden, hidden)}
        shapes |= dict.fromkeys(("bias_ih", "bias_hh"), (blocks * hidden,))
        d |= {f"{k}_{name}": rng.normal(size=shape) for k, shape in shapes.items()}
    return d


def changed(d, **changes):
    d = d | changes
    return {k: x for k, x in d.items() if x is not None}


LINEN = {"ii/kernel": np.ones((D, H))}
BAD = {
    "nothing": ({}, "a state_dict must be {name: array}; got dict {}"),
    "a module": (
        type("LSTM", (), {"state_dict": dict})(),
        r"must be {name: array}; got LSTM; give its state_dict\(\)",
    ),
    "no mapping": ([1], r"a state_dict must be {name: array}; got list \[1\]"),
    "a GRU": (
        weights(3),
        r"`weight_hh_l0` of layer 0, forward direction must be \(4H,H\) = \(20, 5\), as "
        r"torch.nn.LSTM has it; got \(15, 5\): 3 block\(s\) of H = 5 where an LSTM has 4 \(a GRU",
    ),
    "one key missing": (
        changed(weights(), weight_hh_l0=None),
        "forward direction must be weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, as "
        "torch.nn.LSTM has them; weight_hh_l0 is missing; found weight_ih_l0, bias_ih_l0",
    ),
    "one bias missing": (changed(weights(), bias_hh_l0=None), "bias_hh_l0 is missing"),
    "transposed": (
        changed(weights(), weight_ih_l0=np.ones((D, 4 * H))),
        r"`weight_ih_l0` .* must be \(4H,D\) = .*; got \(3, 20\)",
    ),
    "one direction, then two": (
        {k: x for k, x in weights(L=2, directions=2).items() if "l0_rev" not in k},
        "layer 0, reverse direction is missing: weight_ih_l0_reverse; torch has as many",
    ),
    "two directions, then one": (
        {k: x for k, x in weights(L=2, directions=2).items() if "l1_rev" not in k},
        "layer 1, reverse direction is missing: weight_ih_l1_reverse",
    ),
    "a layer missing": (
        {k: x for k, x in weights(L=3).items() if "l1" not in k},
        "layer 1, forward direction is missing: weight_ih_l1; .*found weight_ih_l0",
    ),
    "layers that do not fit": (
        weights() | {k: x for k, x in weights(L=2, directions=2).items() if k.endswith("l1")},
        r"layer 1 must read 5 features, what layer 0 hands on; W is \(10, 20\)",
    ),
    "two sizes": (
        weights() | {k.replace("l0", "l1"): x for k, x in weights(hidden=4).items()},
        "torch has one cell and one H for all layers",
    ),
    "flax among torch": (
        weights() | LINEN,
        "weight_ih_l0, weight_hh_l0, ... and nothing else; found ii/kernel",
    ),
    "flax": (
        {f"{k}/kernel": np.ones((D, H)) for k in ("ii", "if", "ig", "io")}
        | {f"h{k}/kernel": np.ones((H, H)) for k in "ifgo"}
        | {f"h{k}/bias": np.ones(H) for k in "ifgo"},
        "some would fit jax_lstm.interop.flax.from_linen",
    ),
    "keras": (
        {"kernel": np.ones((D, 4 * H)), "recurrent_kernel": np.ones((H, 4 * H))},
        "some would fit jax_lstm.interop.keras.from_weights",
    ),
    "two dtypes": (
        changed(weights(), bias_hh_l0=np.zeros(4 * H, np.float32)),
        "must share one dtype; got weight_ih_l0 float64, .*bias_hh_l0 float32",
    ),
    "an LSTMCell": (
        {k.removesuffix("_l0"): x for k, x in weights().items()},
        "found weight_ih, .*; a torch.nn.LSTMCell's would fit with _l0 behind each name",
    ),
    "arrays beside": (
        weights() | {"fc.weight": np.ones(3)},
        "found fc.weight; an LSTM is there without a prefix: give its arrays alone",
    ),
    "keras among torch": (
        weights() | {"kernel": np.ones((D, 4 * H)), "recurrent_kernel": np.ones((H, 4 * H))},
        "found kernel, recurrent_kernel; an LSTM .* some would fit jax_lstm.interop.keras.from_we",
    ),
    "integers": (
        changed(weights(), bias_hh_l0=np.zeros(4 * H, int)),
        r"`bias_hh_l0` must be floating point; got int64 \(20,\)",
    ),
    "lists": (changed(weights(), bias_hh_l0=[0.0]), "`bias_hh_l0` must be an array; got list"),
    "axes": (changed(weights(), weight_ih_l0=np.zeros(3)), r"must be \(4H,D\); got \(3,\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_dicts_are_explained(case):
    d, match = BAD[case]
    with pytest.raises(ValueError, match=match):
        interop.from_state_dict(d)


def test_float64_with_x64_off_is_refused_and_not_rounded():
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"is float64, .*jax_enable_x64"):
        interop.from_state_dict(weights())


P = interop.from_state_dict(weights(L=2))


@pytest.mark.parametrize(
    ("params", "options", "match"),
    [
        (
            P.layers[0][0]._replace(U=np.ones((H, 4 * H), np.float32)),
            {},
            "must share one dtype; got W float64, U float32, b float64",
        ),
        (P._replace(initial=((),)), {}, "`params.initial` must be None: learnt initial states"),
        (P, {"bias": False}, "b must be zero where there is no bias; its largest element is"),
        (weights(), {}, "take LSTMParams, LSTMPParams, ElmanParams; got dict"),
        (P._replace(layers=(P.layers[0], P.layers[1] * 2)), {}, r"as many directions .* \[1, 2\]"),
        (P._replace(layers=P.layers[1:] + P.layers[:1]), {}, "layer 1 must read 5 features"),
        (
            P.layers[0][0]._replace(W=np.ones((4 * H, D))),
            {},
            r"`W` must be \(D,4H\) = \(20, 20\), as jax_lstm.LSTMParams has it; got \(20, 3\)",
        ),
    ],
    ids=range(7),
)
def test_what_torch_cannot_be_is_explained(params, options, match):
    with pytest.raises(ValueError, match=match):
        interop.to_state_dict(params, **options)


@pytest.mark.parametrize(
    ("hx", "bidirectional", "shown"),
    [
        ((np.ones((3, B, H)),) * 2, True, r"each \(2L, B, ...\), or h_0; got \(3, 4, 5\)"),
        ((np.ones((2, B, H)), np.ones((2, B + 1, H))), False, r"got \(2, 4, 5\), \(2, 5, 5\)"),
        ((np.ones((2, B, H)),) * 3, False, "must be"),
        (np.ones(H), False, r"got \(5,\)"),
    ],
    ids=range(4),
)
def test_states_that_do_not_fit(hx, bidirectional, shown):
    with pytest.raises(ValueError, match=shown):
        interop.from_hx(hx, bidirectional=bidirectional)
