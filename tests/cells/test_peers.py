"""Independent float64 implementations: torch, flax, and numpy with complex-step differences.

Every cotangent, for a random cotangent on every output, over random sizes. Complex steps know no
derivative and cancel nothing: Im f(x + i ε v) / ε = <df, v> to rounding, for ε as small as 1e-30.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm.stages import fork_bwd
from tests.tables import CELLS, assert_close, normal_like

TOLERANCE = 1e-11  # relative to the largest element of each leaf
STEP = 1e-30


def random_sizes(n, seed=2):
    """T, B, D, H: up to 40, 17, 9, 33."""
    rng = np.random.default_rng(seed)
    return [tuple(rng.integers(1, (41, 18, 10, 34)).tolist()) for _ in range(n)]


RANDOM = random_sizes(6)
EDGES = [(1, 1, 1, 1), (40, 17, 9, 33), (1, 17, 9, 1), (40, 1, 1, 33)]
EMPTY = [(0, 2, 3, 5), (7, 0, 3, 5), (0, 0, 3, 5)]

over_cells = pytest.mark.parametrize("name", ["lstm", "elman"])  # LSTMP: test_layers_torch


def over_sizes(sizes):
    return pytest.mark.parametrize("size", sizes, ids="T{0[0]}-B{0[1]}-D{0[2]}-H{0[3]}".format)


def arguments(name, size, batch=None):
    """Random params, state and xs, and a random cotangent for the last state and all outputs."""
    T, B, D, H = size
    batch = (B,) if batch is None else batch
    row = CELLS[name]
    shapes = jax.eval_shape(lambda key: row.init(key, D, H, dtype=jnp.float64), jax.random.key(0))
    params = normal_like(1, shapes, max(D, H) ** -0.5)
    state = normal_like(2, row.init_state(params, batch))
    xs = normal_like(3, jax.ShapeDtypeStruct((T, *batch, D), jnp.float64))
    hs = jax.ShapeDtypeStruct((T, *batch, H), jnp.float64)
    return (params, state, xs), normal_like(4, (state, hs))


@functools.partial(jax.jit, static_argnums=0)
def value_and_cotangents(f, args, dy):
    y, vjp = jax.vjp(f, *args)
    return y, vjp(dy)


@functools.cache
def ours(name, size, batch=None):
    return value_and_cotangents(CELLS[name].sequence, *arguments(name, size, batch))


# torch ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    reason = "torch is the peer of this test: install jax_lstm[peers]"
    return pytest.importorskip("torch", reason=reason)


def torch_module(torch, name, params):
    """Its layouts: W (H.., D), U (H.., H), W x, the same blocks i, f, g, o, and two biases."""
    D, H = params.W.shape[0], params.U.shape[0]
    module = {"lstm": torch.nn.LSTM, "elman": torch.nn.RNN}[name](D, H, dtype=torch.float64)
    share = np.linspace(-1, 1, params.b.size)
    given = {"weight_ih_l0": params.W.T, "weight_hh_l0": params.U.T}
    given |= {"bias_ih_l0": params.b - share, "bias_hh_l0": share}
    module.load_state_dict({k: torch.tensor(np.array(v)) for k, v in given.items()})
    return module


def by_torch(torch, name, args, dy):
    """Outputs and cotangents in our form; db from each of its two biases."""

    def tensor(x):
        return torch.tensor(np.array(x), requires_grad=True)

    params, state, xs = args
    module = torch_module(torch, name, params)
    first, x = [tensor(s[None]) for s in state], tensor(xs)
    hs, last = module(x, tuple(first) if name == "lstm" else first[0])
    last = last if name == "lstm" else (last,)
    dstate, dhs = dy
    torch.autograd.backward([hs, *last], [tensor(dhs), *(tensor(d[None]) for d in dstate)])

    def array(t):
        return jnp.asarray(t.detach().numpy())

    y = type(state)(*(array(s)[0] for s in last)), array(hs)
    W, U, b_ih, b_hh = (array(p.grad) for p in module.parameters())
    dstate = type(state)(*(array(s.grad)[0] for s in first))
    cotangents = [(type(params)(W.T, U.T, b), dstate, array(x.grad)) for b in (b_ih, b_hh)]
    return y, cotangents


@pytest.mark.half
@over_cells
@over_sizes([*RANDOM, *EDGES, (7, 0, 3, 5)])
def test_torch(torch, name, size):
    y, cotangents = by_torch(torch, name, *arguments(name, size))
    got_y, got = ours(name, size)
    assert_close(got_y, y, TOLERANCE)
    for want in cotangents:  # both biases receive the same gradient
        assert_close(got, want, TOLERANCE)


@over_cells
@pytest.mark.parametrize(("size", "residuals"), [(RANDOM[1], "auto"), (RANDOM[2], 7)], ids=str)
def test_torch_where_segments_are_run_again(torch, name, size, residuals):
    args, dy = arguments(name, size)
    y, cotangents = by_torch(torch, name, args, dy)
    sequence = functools.partial(CELLS[name].sequence, residuals=residuals)
    got_y, got = value_and_cotangents(sequence, args, dy)
    assert_close(got_y, y, TOLERANCE)
    assert_close(got, cotangents[0], TOLERANCE)


@over_cells
def test_torch_without_a_batch_axis(torch, name):
    size, batch = (7, 1, 3, 5), ()
    y, cotangents = by_torch(torch, name, *arguments(name, size, batch))
    got_y, got = ours(name, size, batch)
    assert_close(got_y, y, TOLERANCE)
    assert_close(got, cotangents[0], TOLERANCE)


# Complex steps --------------------------------------------------------------------------------


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def product(x, W):
    """x @ W without BLAS, whose threads cost more than products as small as these."""
    return np.einsum("...i,ij->...j", x, W)


def numpy_lstm(params, state, xs):
    (W, U, b), (h, c), hs = params, state, []
    for x in xs:
        i, f, g, o = np.split(product(x, W) + product(h, U) + b, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        hs.append(h)
    return [h, c, *hs]


def numpy_lstmp(params, state, xs):
    (W, U, b, P), (h, c), hs = params, state, []
    for x in xs:
        i, f, g, o = np.split(product(x, W) + product(h, U) + b, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = product(sigmoid(o) * np.tanh(c), P)
        hs.append(h)
    return [h, c, *hs]


def numpy_elman(params, state, xs):
    (W, U, b), (h,), hs = params, state, []
    for x in xs:
        h = np.tanh(product(x, W) + product(h, U) + b)
        hs.append(h)
    return [h, *hs]


NUMPY = {"lstm": numpy_lstm, "lstmp": numpy_lstmp, "elman": numpy_elman}
over_every_cell = pytest.mark.parametrize("name", NUMPY)


def slope(name, args, dy, leaf, direction):
    """The derivative of <dy, outputs> when one leaf of the arguments moves in a direction."""
    leaves, tree = jax.tree.flatten(args)
    leaves = [np.asarray(x, complex) for x in leaves]
    leaves[leaf] = leaves[leaf] + 1j * STEP * direction
    outputs = NUMPY[name](*jax.tree.unflatten(tree, leaves))
    dstate, dhs = dy
    cotangents = [np.asarray(d) for d in (*dstate, *dhs)]
    return sum(np.sum(d * y.imag) for d, y in zip(cotangents, outputs, strict=True)) / STEP


def by_elements(name, args, dy):
    """Every element of every cotangent."""
    leaves, tree = jax.tree.flatten(args)
    slopes = []
    for n, leaf in enumerate(leaves):
        directions = np.eye(leaf.size).reshape((leaf.size, *leaf.shape))
        slopes.append(np.array([slope(name, args, dy, n, v) for v in directions]))
    return tree.unflatten([s.reshape(x.shape) for s, x in zip(slopes, leaves, strict=True)])


def along_directions(name, args, dy, got, n=4):
    """Per leaf, <cotangent, v> for n random directions v: ours, and by complex steps."""
    rng = np.random.default_rng(5)
    ours, theirs = [], []
    for leaf, d in enumerate(jax.tree.leaves(got)):
        directions = rng.normal(size=(n, *d.shape))
        ours.append(np.array([np.sum(np.asarray(d) * v) for v in directions]))
        theirs.append(np.array([slope(name, args, dy, leaf, v) for v in directions]))
    tree = jax.tree.structure(got)
    return tree.unflatten(ours), tree.unflatten(theirs)


def values(name, args):
    y = [v.real for v in NUMPY[name](*jax.tree.map(np.asarray, args))]
    n = len(args[1])
    shape = (*args[2].shape[:-1], args[0].U.shape[0])
    return type(args[1])(*y[:n]), np.reshape(y[n:], shape)


@pytest.mark.half
@over_every_cell
@over_sizes([*RANDOM, *EDGES])
def test_complex_steps_along_random_directions(name, size):
    args, dy = arguments(name, size)
    y, got = ours(name, size)
    assert_close(y, values(name, args), TOLERANCE)
    assert_close(*along_directions(name, args, dy, got), TOLERANCE)


@pytest.mark.half
@over_every_cell
@pytest.mark.parametrize(
    ("size", "batch"),
    [((7, 2, 3, 5), (2,)), ((4, 1, 3, 5), ()), ((3, 6, 2, 4), (2, 3)), ((2, 0, 3, 5), (2, 0))]
    + [(size, size[1:2]) for size in EMPTY],
    ids=str,
)
def test_complex_steps_element_by_element(name, size, batch):
    args, dy = arguments(name, size, batch)
    y, got = ours(name, size, batch)
    assert_close(y, values(name, args), TOLERANCE)
    assert_close(got, by_elements(name, args, dy), TOLERANCE)


@over_every_cell
@over_sizes(EMPTY)
def test_nothing_to_do_is_the_identity_on_the_state(name, size):
    """T = 0: the last state is the first one. B = 0: no example, no gradient."""
    args, dy = arguments(name, size)
    (state, hs), (dparams, dstate, dxs) = ours(name, size)
    assert (hs.shape, dxs.shape) == (dy[1].shape, args[2].shape)
    assert not any(np.any(leaf) for leaf in dparams)
    if size[0] == 0:
        assert_close(state, args[1], 0)
        assert_close(dstate, dy[0], 0)


# flax -----------------------------------------------------------------------------------------


@over_sizes([(7, 2, 3, 5), RANDOM[0]])
def test_flax(size):
    nn = pytest.importorskip("flax.linen", reason="flax is the peer of this test")
    (params, state, xs), (dstate, dhs) = arguments("lstm", size)
    H = size[3]
    cell = nn.OptimizedLSTMCell(H, dtype=jnp.float64, param_dtype=jnp.float64)
    layer = nn.RNN(cell, time_major=True, return_carry=True)

    def flax_params(params):
        """One dense layer per gate and side; the bias stands on the side of h."""
        tree = {}
        blocks = (jnp.split(p, 4, axis=-1) for p in params)
        for gate, W, U, b in zip("ifgo", *blocks, strict=True):
            tree |= {f"i{gate}": {"kernel": W}, f"h{gate}": {"kernel": U, "bias": b}}
        return {"params": {"cell": tree}}

    def by_flax(params, state, xs):
        (c, h), hs = layer.apply(flax_params(params), xs, initial_carry=(state.c, state.h))
        return jl.LSTMState(h, c), hs

    want = value_and_cotangents(by_flax, (params, state, xs), (dstate, dhs))
    assert_close(ours("lstm", size), want, TOLERANCE)


# Mutants: what these comparisons must reject --------------------------------------------------


def fork_at_c_dropped(w, prev, saved, dstate):
    """dc_t = dc from h_t, without what comes from the forget product of t+1."""
    zero = jnp.zeros_like(dstate.c)
    return jl.LSTM.step_bwd(w, prev, saved, jl.LSTMState(dstate.h, zero))


def fork_at_h_dropped(w, prev, saved, dstate):
    """Nothing goes from the four gates of t to h_{t-1}."""
    state, da = jl.LSTM.step_bwd(w, prev, saved, dstate)
    return jl.LSTMState(jnp.zeros_like(state.h), state.c), da


def gates_swapped(w, prev, saved, dstate):
    """The deltas of the input and forget gates change places."""
    state, da = jl.LSTM.step_bwd(w, prev, saved, dstate)
    da_i, da_f, da_g, da_o = jnp.split(da, 4, axis=-1)
    return state, jnp.concatenate([da_f, da_i, da_g, da_o], axis=-1)


def one_gate_in_dx(w, xs, prevs, saved, das):
    """dx gets the share of three gates only: the fork at x_t."""
    dparams, _ = jl.LSTM.weights_bwd(w, xs, prevs, saved, das)
    W, da = jnp.split(w.W, 4, axis=-1), jnp.split(das, 4, axis=-1)
    return dparams, fork_bwd(None, [da[k] @ W[k].T for k in range(3)])[0]


def time_shifted(w, xs, prevs, saved, das):
    """dU is made of h_t, where h_{t-1} belongs."""
    dparams, dxs = jl.LSTM.weights_bwd(w, xs, prevs, saved, das)
    hs = jl.LSTMState(jnp.roll(prevs.h, -1, axis=0), prevs.c)
    wrong, _ = jl.LSTM.weights_bwd(w, xs, hs, saved, das)
    return dparams._replace(U=wrong.U), dxs


def one_step_without_bias(w, xs, prevs, saved, das):
    """db misses the first step."""
    dparams, dxs = jl.LSTM.weights_bwd(w, xs, prevs, saved, das)
    return dparams._replace(b=das[1:].reshape(-1, das.shape[-1]).sum(0)), dxs


MUTANTS = {
    "fork at c dropped": {"step_bwd": fork_at_c_dropped},
    "fork at h dropped": {"step_bwd": fork_at_h_dropped},
    "gates swapped": {"step_bwd": gates_swapped},
    "one gate missing in dx": {"weights_bwd": one_gate_in_dx},
    "time shifted in dU": {"weights_bwd": time_shifted},
    "one step missing in db": {"weights_bwd": one_step_without_bias},
}


over_mutants = pytest.mark.parametrize("mutant", MUTANTS)
SMALL = (7, 2, 3, 5)


@functools.cache
def by_mutant(mutant):
    lstm, _ = jl.make_rnn(jl.LSTM._replace(**MUTANTS[mutant]))
    return value_and_cotangents(lstm, *arguments("lstm", SMALL))


@over_mutants
def test_torch_rejects(torch, mutant):
    y, cotangents = by_torch(torch, "lstm", *arguments("lstm", SMALL))
    got_y, got = by_mutant(mutant)
    assert_close(got_y, y, TOLERANCE)  # the forward is right
    with pytest.raises(AssertionError):
        assert_close(got, cotangents[0], TOLERANCE)


def test_complex_steps_reject_a_wrong_projection():
    """One part in 1e9 of dP."""

    def wrong(w, xs, prevs, saved, deltas):
        dparams, dxs = jl.LSTMP.weights_bwd(w, xs, prevs, saved, deltas)
        return dparams._replace(P=dparams.P * (1 + 1e-9)), dxs

    lstmp, _ = jl.make_rnn(jl.LSTMP._replace(weights_bwd=wrong))
    args, dy = arguments("lstmp", SMALL)
    _, got = value_and_cotangents(lstmp, args, dy)
    with pytest.raises(AssertionError):
        assert_close(got, by_elements("lstmp", args, dy), TOLERANCE)


@over_mutants
def test_complex_steps_reject(mutant):
    args, dy = arguments("lstm", SMALL)
    _, got = by_mutant(mutant)
    with pytest.raises(AssertionError):
        assert_close(got, by_elements("lstm", args, dy), TOLERANCE)
    with pytest.raises(AssertionError):
        assert_close(*along_directions("lstm", args, dy, got), TOLERANCE)
