"""torch.nn.LSTM in float64: layers, two directions, projection, packed lengths, with and without b.

Every value and every cotangent, for a random cotangent on every output. torch keeps one flat list
per layer and direction (W_ih, W_hh, two biases, W_hr), here as everywhere: blocks i, f, g, o.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm.cells.lstmp import LSTMPParams, init_lstmp, init_lstmp_state, lstmp
from jax_lstm.networks.stack import init_stack, init_stack_state, stack
from tests.tables import assert_close, normal_like

TOLERANCE = 1e-11  # relative to the largest element of each leaf
T, B, D, H, R = 7, 4, 3, 5, 2
LENGTHS = (3, 7, 1, 5)  # unsorted

# layers, bidirectional, projection, packed, bias
CASES = {
    "1 layer": (1, False, False, False, True),
    "2 layers": (2, False, False, False, True),
    "3 layers": (3, False, False, False, True),
    "1 layer, two directions": (1, True, False, False, True),
    "1 layer, projection": (1, False, True, False, True),
    "1 layer, packed": (1, False, False, True, True),
    "1 layer, no bias": (1, False, False, False, False),
    "1 layer, two directions, packed": (1, True, False, True, True),
    "2 layers, two directions, projection": (2, True, True, False, True),
    "2 layers, two directions, projection, packed": (2, True, True, True, True),
    "2 layers, two directions, packed, no bias": (2, True, False, True, False),
    "3 layers, two directions, packed": (3, True, False, True, True),
    "3 layers, two directions, projection, packed, no bias": (3, True, True, True, False),
}


@pytest.fixture(scope="module")
def torch():
    reason = "torch is the peer of this test: install jax_lstm[peers]"
    return pytest.importorskip("torch", reason=reason)


def arguments(layers, bidirectional, projection, bias):
    def init(key, D, H):
        if projection:
            return init_lstmp(key, D, H, R, dtype=jnp.float64)
        return jl.init_lstm(key, D, H, dtype=jnp.float64)

    init_state = init_lstmp_state if projection else jl.init_lstm_state
    kit = {"init": init, "init_state": init_state, "bidirectional": bidirectional}
    params = init_stack(jax.random.key(0), D, (H,) * layers, **kit)
    params = normal_like(1, params, 0.4)
    if not bias:
        drop = lambda p: p._replace(b=jnp.zeros_like(p.b))
        params = params._replace(layers=tuple(tuple(map(drop, p)) for p in params.layers))
    states = normal_like(2, init_stack_state(params, (B,), init_state=init_state))
    xs = normal_like(3, jax.ShapeDtypeStruct((T, B, D), jnp.float64))
    return params, states, xs


def flat(tree):
    """Layer-major, forward before reverse."""
    return list(itertools.chain.from_iterable(tree))


def to_torch(p):
    """In the order of torch's parameters: the whole of b in its first bias."""
    weights = [p.W.T, p.U.T, p.b, jnp.zeros_like(p.b)]
    return [*weights, p.P.T] if isinstance(p, LSTMPParams) else weights


def of_torch(p, arrays):
    W, U, b, b_again, *P = arrays
    assert_close(b, b_again, TOLERANCE)  # both biases receive the same gradient
    return type(p)(W.T, U.T, b, *(x.T for x in P))


def by_torch(torch, args, dy, packed, bias):
    params, states, xs = args
    layer = params.layers[0][0]
    projection = layer.P.shape[1] if isinstance(layer, LSTMPParams) else 0
    module = torch.nn.LSTM(
        D,
        H,
        num_layers=len(params.layers),
        bias=bias,
        bidirectional=len(params.layers[0]) == 2,
        proj_size=projection,
        dtype=torch.float64,
    )

    def tensor(x):
        return torch.tensor(np.array(x), requires_grad=True)

    def array(t):
        return jnp.asarray(t.detach().numpy())

    given = [x for p in flat(params.layers) for x in to_torch(p)]
    if not bias:
        given = [x for x in given if x.ndim == 2]
    with torch.no_grad():
        for weight, x in zip(module.parameters(), given, strict=True):
            weight.copy_(tensor(x))
    first = [tensor(jnp.stack(field)) for field in zip(*flat(states), strict=True)]
    x = tensor(xs)
    run = x
    if packed:
        pack = torch.nn.utils.rnn.pack_padded_sequence
        run = pack(x, torch.tensor(LENGTHS), enforce_sorted=False)
    hs, last = module(run, tuple(first))
    if packed:
        hs, _ = torch.nn.utils.rnn.pad_packed_sequence(hs, total_length=T)
    dstates, dhs = dy
    dlast = [tensor(jnp.stack(field)) for field in zip(*flat(dstates), strict=True)]
    torch.autograd.backward([hs, *last], [tensor(dhs), *dlast])

    def form(fields):
        """Two arrays (layers x directions, ...) in the form of our states."""
        each = iter(zip(*(array(f) for f in fields), strict=True))
        return jax.tree.map(
            lambda s: type(s)(*next(each)), states, is_leaf=lambda s: hasattr(s, "_fields")
        )

    grads = iter([array(p.grad) for p in module.parameters()])
    dlayers = []
    for directions in params.layers:
        found = []
        for p in directions:
            W, U = next(grads), next(grads)
            b = (next(grads), next(grads)) if bias else (jnp.zeros_like(p.b),) * 2
            P = [next(grads)] if projection else []
            found.append(of_torch(p, [W, U, *b, *P]))
        dlayers.append(tuple(found))
    cotangents = params._replace(layers=tuple(dlayers)), form([s.grad for s in first])
    return (form(last), array(hs)), (*cotangents, array(x.grad))


@pytest.mark.half
@pytest.mark.parametrize("case", CASES)
def test_torch(torch, case):
    layers, bidirectional, projection, packed, bias = CASES[case]
    args = arguments(layers, bidirectional, projection, bias)
    sequence = lstmp if projection else jl.lstm
    lengths = jnp.asarray(LENGTHS) if packed else None

    def run(*args):
        return stack(*args, sequence=sequence, lengths=lengths)

    dy = normal_like(4, jax.eval_shape(run, *args))

    @jax.jit
    def ours(args, dy):
        y, vjp = jax.vjp(run, *args)
        return y, vjp(dy)

    y, cotangents = ours(args, dy)
    if not bias:  # a constant there: nobody asks for its gradient
        forget = lambda p: p._replace(b=jnp.zeros_like(p.b))
        dlayers = tuple(tuple(map(forget, p)) for p in cotangents[0].layers)
        cotangents = (cotangents[0]._replace(layers=dlayers), *cotangents[1:])
    assert_close((y, cotangents), by_torch(torch, args, dy, packed, bias), TOLERANCE)
