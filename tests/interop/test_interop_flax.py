"""flax, live: trees of linen and nnx in our form and back; outputs and all gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("flax", reason="flax is the peer of this test: install jax_lstm[flax]")
import flax.linen as nn
from flax import nnx

import jax_lstm as jl
from jax_lstm.interop import flax as interop
from jax_lstm.networks.stack import stack
from tests.tables import QUICK, assert_close, assert_same, normal_like, pullback, relaxed, within

TOLERANCE = {"float64": 1e-11, "float32": 1e-5}
T, B, D, H = 7, 4, 3, 5
LENGTHS = (3, 7, 1, 5)  # unsorted; flax's carry at length 0 is another question

# library, cell, layers, bidirectional, lengths, dtype
CASES = {
    "linen OptimizedLSTMCell, 2 layers, two directions, lengths": (
        *("linen", "OptimizedLSTMCell", 2, True, True, "float64"),
    ),
    "linen LSTMCell": ("linen", "LSTMCell", 1, False, False, "float64"),
    "linen LSTMCell, lengths, float32": ("linen", "LSTMCell", 1, False, True, "float32"),
    "linen SimpleCell, two directions, lengths": ("linen", "SimpleCell", 1, True, True, "float64"),
    "nnx OptimizedLSTMCell, two directions, lengths": (
        *("nnx", "OptimizedLSTMCell", 1, True, True, "float64"),
    ),
    "nnx LSTMCell, lengths": ("nnx", "LSTMCell", 1, False, True, "float64"),
    "nnx OptimizedLSTMCell, float32": ("nnx", "OptimizedLSTMCell", 1, False, False, "float32"),
    "nnx SimpleCell, 2 layers": ("nnx", "SimpleCell", 2, False, False, "float64"),
}
over_cases = pytest.mark.parametrize("case", CASES)


def sizes(layers, directions):
    return [D, *(H * directions,) * (layers - 1)]


def linen(cell, layers, bidirectional, dtype):
    """(trees, run): the variables of each layer, and the layers on top of each other."""
    options = {"dtype": jnp.dtype(dtype), "param_dtype": jnp.dtype(dtype)}

    def rnn():
        return nn.RNN(getattr(nn, cell)(H, **options), time_major=True)

    kind = (lambda: nn.Bidirectional(rnn(), rnn(), time_major=True)) if bidirectional else rnn
    modules = [kind() for _ in range(layers)]
    directions = 2 if bidirectional else 1
    trees = [
        m.init(jax.random.key(k), jnp.zeros((2, B, features), dtype))
        for k, (m, features) in enumerate(zip(modules, sizes(layers, directions), strict=True))
    ]

    def run(trees, carries, xs, lengths):
        last = []
        for module, tree, carry in zip(modules, trees, carries, strict=True):
            carry, xs = module.apply(
                tree, xs, initial_carry=carry, seq_lengths=lengths, return_carry=True
            )
            last.append(carry)
        return last, xs

    return trees, run


def by_nnx(cell, layers, bidirectional, dtype):
    options = {"dtype": jnp.dtype(dtype), "param_dtype": jnp.dtype(dtype)}
    rngs, directions = nnx.Rngs(0), 2 if bidirectional else 1

    def rnn(features):
        return nnx.RNN(getattr(nnx, cell)(features, H, rngs=rngs, **options), time_major=True)

    def kind(features):
        if not bidirectional:
            return rnn(features)
        return nnx.Bidirectional(rnn(features), rnn(features), time_major=True)

    split = [nnx.split(kind(d), nnx.Param, ...) for d in sizes(layers, directions)]
    trees = [nnx.to_pure_dict(params) for _, params, _ in split]

    def run(trees, carries, xs, lengths):
        last = []
        for (graph, params, rest), tree, carry in zip(split, trees, carries, strict=True):
            params = jax.tree.map(lambda x: x, params)
            nnx.replace_by_pure_dict(params, tree)
            carry, xs = nnx.merge(graph, params, rest)(
                xs, initial_carry=carry, seq_lengths=lengths, return_carry=True
            )
            last.append(carry)
        return last, xs

    return trees, run


@functools.cache
def compare(case):
    """(theirs, ours): outputs and cotangents by flax, and by our stack from the same trees."""
    library, cell, layers, bidirectional, with_lengths, dtype = CASES[case]
    make, read = {"linen": (linen, interop.from_linen), "nnx": (by_nnx, interop.from_nnx)}[library]
    trees, run = make(cell, layers, bidirectional, dtype)
    trees = normal_like(1, trees, 0.5)
    like = jax.ShapeDtypeStruct((B, H), jnp.dtype(dtype))
    one = like if cell == "SimpleCell" else (like, like)
    carries = normal_like(2, [(one, one) if bidirectional else one for _ in range(layers)], 0.7)
    xs = normal_like(3, jax.ShapeDtypeStruct((T, B, D), jnp.dtype(dtype)))
    lengths = jnp.asarray(LENGTHS) if with_lengths else None
    valid = within(LENGTHS if with_lengths else [T] * B, T)[..., None]

    def theirs(trees, carries, xs):
        last, hs = run(trees, carries, xs, lengths)
        return last, jnp.where(valid, hs, 0)  # flax runs on in padding

    def ours(params, states, xs):
        return stack(
            params,
            states,
            xs,
            lengths=lengths,
            sequence=jl.elman if cell == "SimpleCell" else jl.lstm,
        )

    def state(carries):
        layers = [x if bidirectional else (x,) for x in carries]
        return tuple(tuple(map(interop.from_carry, layer)) for layer in layers)

    args = (trees, carries, xs)
    with relaxed("flax"):
        dy = normal_like(4, jax.eval_shape(theirs, *args))
        (last, hs), (dtrees, dcarries, dxs) = pullback(theirs, args, dy, QUICK)
    params = read(trees)
    y, cotangents = pullback(ours, (params, state(carries), xs), (state(dy[0]), dy[1]), QUICK)
    theirs = ((state(last), hs), (read(dtrees), state(dcarries), dxs))
    return trees, params, theirs, (y, cotangents), dtrees


@pytest.mark.half
@over_cases
def test_outputs_and_all_gradients(case):
    _, _, theirs, ours, _ = compare(case)
    assert_close(ours, theirs, TOLERANCE[CASES[case][-1]])


def cells_of(tree):
    """A layer's cells of its tree: (cell,) or (forward, reverse)."""
    tree = tree.get("params", tree)
    if "forward_rnn" in tree:
        return tuple(tree[k]["cell"] for k in ("forward_rnn", "backward_rnn"))
    return (tree["cell"],)


@over_cases
def test_there_and_back_at_exact_equality(case):
    library, cell, *_, dtype = CASES[case]
    trees, params, _, (_, (dparams, *_)), dtrees = compare(case)
    if library == "linen":
        read, write = interop.from_linen, interop.to_linen
    else:
        read = interop.from_nnx
        named = {} if cell == "SimpleCell" else {"cell": cell}
        write = functools.partial(interop.to_nnx, **named)
    for tree, ours in ((trees, params), (dtrees, read(dtrees))):
        want = tuple(map(cells_of, tree))
        got = write(ours)
        assert_same(got, want)
        assert {x.dtype for x in jax.tree.leaves(got)} == {np.dtype(dtype)}
        assert_same(read(got), ours)
    assert_same(read(write(dparams)), dparams)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(dtype)}


@jax.jit
def by_lstm(params):
    xs = normal_like(3, jax.ShapeDtypeStruct((T, B, D), jnp.float64))
    return jl.lstm(params, jl.init_lstm_state(params, (B,)), xs)[1]


def hs_of(tree):
    return by_lstm(interop.from_linen(tree).layers[0][0])


@pytest.mark.parametrize("gates", [("i", "f"), ("f", "g"), ("g", "o"), ("i", "o")], ids="".join)
@pytest.mark.parametrize("side", ["i", "h"])
def test_swapped_gates_are_rejected(side, gates):
    """The comparison above can fail: two kernels of a tree in each other's places."""
    trees, _, theirs, (_, (dparams, *_)), _ = compare("linen LSTMCell")
    tree = dict(cells_of(trees[0])[0])
    a, b = (side + gate for gate in gates)
    swapped = tree | {a: tree[b], b: tree[a]}
    with pytest.raises(AssertionError):
        assert_close(hs_of(swapped), hs_of(tree), TOLERANCE["float64"])
    gradient = interop.to_linen(dparams)[0][0]
    moved = interop.from_linen(gradient | {a: gradient[b], b: gradient[a]})
    with pytest.raises(AssertionError):
        assert_close(moved, theirs[1][0], TOLERANCE["float64"])


def test_what_nnx_hands_out_is_read():
    """Of nnx.state, of a filter, of to_pure_dict and of nnx.grad."""
    cell = nnx.OptimizedLSTMCell(D, H, rngs=nnx.Rngs(0))
    want = interop.from_nnx(nnx.to_pure_dict(nnx.state(cell, nnx.Param)))
    assert_same(interop.from_nnx(nnx.state(cell, nnx.Param)), want)
    assert_same(interop.from_nnx(nnx.state(nnx.RNN(cell))), want)
    carry, x = (jnp.ones((B, H), jnp.float32),) * 2, jnp.ones((B, D), jnp.float32)
    gradient = nnx.grad(lambda cell: cell(carry, x)[1].sum())(cell)
    assert interop.from_nnx(gradient).layers[0][0].U.shape == (H, 4 * H)
    tree = interop.to_nnx(normal_like(1, want))[0][0]
    state = nnx.state(cell, nnx.Param)
    nnx.replace_by_pure_dict(state, tree)
    nnx.update(cell, state)
    assert_same(nnx.to_pure_dict(nnx.state(cell, nnx.Param)), tree)


def test_carries_are_the_other_way_round():
    c, h = np.ones((B, H)), np.zeros((B, H))
    assert_same(interop.from_carry((c, h)), jl.LSTMState(h, c))
    assert_same(interop.to_carry(interop.from_carry((c, h))), (c, h))
    assert_same(interop.to_carry(interop.from_carry(h)), h)
    with pytest.raises(ValueError, match=r"`carry` must be \(c, h\), or h of a SimpleCell; got d"):
        interop.from_carry({"c": c})
    with pytest.raises(ValueError, match=r"h and c of carry must be .* got \(5,\) and \(4, 5\)"):
        interop.from_carry((c, h[0]))


# What does not fit ----------------------------------------------------------------------------


def tree(cell="LSTMCell", blocks="ifgo"):
    if cell == "OptimizedLSTMCell":
        n = len(blocks) * H
        return {
            "dense_i": {"kernel": np.ones((D, n))},
            "dense_h": {"kernel": np.ones((H, n)), "bias": np.ones(n)},
        }
    found = {f"i{k}": {"kernel": np.ones((D, H))} for k in blocks}
    return found | {f"h{k}": {"kernel": np.ones((H, H)), "bias": np.ones(H)} for k in blocks}


def drop(tree, name):
    return {k: x for k, x in tree.items() if k != name}


BAD = {
    "nothing": ("linen", {}, "is missing; found nothing"),
    "no tree": ("linen", 3, r"`tree` must be that of a cell, or \[\(forward\[, reverse\]\), ...\]"),
    "a gate missing": (
        *("linen", drop(tree(), "hf"), "hf/kernel, hf/bias is missing; found ii/kernel"),
    ),
    "a GRU of nnx": (
        *("nnx", tree("OptimizedLSTMCell", "rzn"), r"15\): 3 block\(s\) of H = 5 .* \(a GRU has 3"),
    ),
    "nnx in linen": (
        *("linen", tree("OptimizedLSTMCell"), "would fit jax_lstm.interop.flax.from_nnx"),
    ),
    "linen in nnx": ("nnx", tree(), "would fit jax_lstm.interop.flax.from_linen"),
    "torch in linen": (
        "linen",
        {"weight_ih_l0": np.ones((4 * H, D)), "weight_hh_l0": np.ones((4 * H, H))},
        "would fit jax_lstm.interop.torch.from_state_dict",
    ),
    "torch among flax": (
        "linen",
        tree() | {"weight_ih_l0": np.ones((4 * H, D))},
        "weight_ih_l0 does not belong there; found",
    ),
    "torch's beside flax's": (
        "linen",
        tree() | {"weight_ih_l0": np.ones((4 * H, D)), "weight_hh_l0": np.ones((4 * H, H))},
        "weight_ih_l0, weight_hh_l0 does not belong there; found",
    ),
    "a whole model": (
        "linen",
        {"params": {"LSTMCell_0": tree(), "LSTMCell_1": tree(), "Dense_0": {"kernel": np.ones(3)}}},
        "found cells at 'LSTMCell_0', 'LSTMCell_1', beside Dense_0/kernel; give them as",
    ),
    "transposed": (
        "linen",
        tree() | {"ig": {"kernel": np.ones((H, D))}},
        r"`ig/kernel` of layer 0 must be \(D,H\) = \(3, 5\), as flax.linen.* it is transposed",
    ),
    "three directions": (
        "linen",
        [(tree(),) * 3],
        r"`tree\[0\]` must be \(forward,\) or \(forward",
    ),
    "a Bidirectional in a pair": (
        "linen",
        [({"forward_rnn": tree(), "backward_rnn": tree()}, tree())],
        "a Bidirectional is a layer by itself",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_trees_are_explained(case):
    library, given, match = BAD[case]
    with pytest.raises(ValueError, match=match):
        {"linen": interop.from_linen, "nnx": interop.from_nnx}[library](given)


def test_under_jit_it_says_so():
    with pytest.raises(ValueError, match="is traced: weights are converted outside"):
        jax.jit(interop.from_linen)(tree())


def test_what_flax_cannot_be_is_explained():
    params = jl.init_lstmp(jax.random.key(0), D, H, 2)
    with pytest.raises(ValueError, match="take LSTMParams, ElmanParams; got LSTMPParams"):
        interop.to_linen(params)
    with pytest.raises(ValueError, match="`cell` must be OptimizedLSTMCell or LSTMCell; got 'GRU"):
        interop.to_nnx(params, cell="GRUCell")
