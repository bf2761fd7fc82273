"""What the converters of torch refuse, and how they say so; no torch is needed."""

import jax
import numpy as np
import pytest

from jax_lstm.interop import torch as interop

B, D, H = 4, 3, 5


def weights(blocks=4, L=1, directions=1, hidden=H):
    names = [f"l{k}{'_reverse' * r}" for k in range(L) for r in range(directions)]
    d, rng = {}, np.random.default_rng(0)
    for name in names:
        features = D if name.startswith("l0") else hidden * directions
        shapes = {"weight_ih": (blocks * hidden, features), "weight_hh": (blocks * hidden, hidden)}
        shapes |= dict.fromkeys(("bias_ih", "bias_hh"), (blocks * hidden,))
        d |= {f"{k}_{name}": rng.normal(size=shape) for k, shape in shapes.items()}
    return d


def change(d, **changes):
    d = d | changes
    return {k: x for k, x in d.items() if x is not None}


def part(d, **parts):
    """The dict with the weight of the state in parts."""
    return change(d, weight_hh_l0=None) | {f"weight_hh_l0_{k}": x for k, x in parts.items()}


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
        change(weights(), weight_hh_l0=None),
        "forward direction must be weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, as "
        "torch.nn.LSTM has them; weight_hh_l0 is missing; found weight_ih_l0, bias_ih_l0",
    ),
    "one bias missing": (change(weights(), bias_hh_l0=None), "bias_hh_l0 is missing"),
    "transposed": (
        change(weights(), weight_ih_l0=np.ones((D, 4 * H))),
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
        change(weights(), bias_hh_l0=np.zeros(4 * H, np.float32)),
        "must share one dtype; got weight_ih_l0 float64, .*bias_hh_l0 float32",
    ),
    "LSTMCells": (
        {f"{n}.{k.removesuffix('_l0')}": x for n in (10, 9) for k, x in weights().items()},
        "found 10.weight_ih, .*; LSTMs are there with prefix='9' or prefix='10'",
    ),
    "a GRUCell": (
        {k.removesuffix("_l0"): x for k, x in weights(3).items()},
        r"got \(15, 5\): 3 block\(s\) of H = 5 where an LSTM has 4 \(a GRU",
    ),
    "spectral norm": (
        part(weights(), orig=np.ones((4 * H, H)), u=np.ones(4 * H), v=np.ones(H)),
        "weight_hh_l0_orig, .*_u, .*_v are of spectral norm: .* 'weight_hh_l0': module.weight_hh",
    ),
    "pruning": (
        part(weights(), orig=np.ones((4 * H, H)), mask=np.ones((4 * H, H))),
        "weight_hh_l0_mask, weight_hh_l0_orig are of pruning: give what the module computes",
    ),
    "parametrized otherwise": (
        change(weights(), weight_hh_l0=None)
        | {"parametrizations.weight_hh_l0.original": np.ones((4 * H, H))},
        "original are of a parametrization other than weight norm: give what the module",
    ),
    "g of another shape": (
        part(weights(), g=np.ones(4 * H), v=np.ones((4 * H, H))),
        r"`weight_hh_l0` must be weight-normed: g of .* got float64 \(20,\) and float64 \(20, 5\)",
    ),
    "g of another dtype": (
        part(weights(), g=np.ones((4 * H, 1), np.float32), v=np.ones((4 * H, H))),
        r"and of v's dtype; got float32 \(20, 1\) and float64",
    ),
    "a weight beside its norm": (
        weights() | {"weight_hh_l0_g": np.ones((4 * H, 1)), "weight_hh_l0_v": np.ones((4 * H, H))},
        "found weight_hh_l0_g, weight_hh_l0_v",
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
        change(weights(), bias_hh_l0=np.zeros(4 * H, int)),
        r"`bias_hh_l0` must be floating point; got int64 \(20,\)",
    ),
    "lists": (change(weights(), bias_hh_l0=[0.0]), "`bias_hh_l0` must be an array; got list"),
    "axes": (change(weights(), weight_ih_l0=np.zeros(3)), r"must be \(4H,D\); got \(3,\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_dicts_are_explained(case):
    d, match = BAD[case]
    with pytest.raises(ValueError, match=match):
        interop.from_state_dict(d)


def test_the_gradients_of_a_norm_s_parts_are_refused():
    d = part(weights(), g=np.ones((4 * H, 1)), v=np.ones((4 * H, H)))
    with pytest.raises(ValueError, match="the gradients of its two parts are not the weight's"):
        interop.gradient_from_state_dict(d)


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
