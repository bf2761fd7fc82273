"""Gated cells by description, beside equations written once more: every activation of the table,
peepholes, coupled gates, both kinds of clipping, heads; lengths and resets on.

The forward is NumPy's, and complex steps of it know no derivative of ours.
"""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm import stages
from jax_lstm.cells import gated
from jax_lstm.engine.forward_mode import make_jvp
from jax_lstm.engine.routes import init_state
from tests.cells import formulas, test_peers
from tests.engine.compiled import compilations
from tests.tables import (
    AS_FOR_USERS,
    CELLS,
    assert_close,
    errors,
    normal_like,
    quick_jit,
    relaxed,
    value_and_cotangents,
)

T, B, D, H = 4, 2, 2, 4
VALID = np.arange(T)[:, None] < np.array([T, 2])
RESETS = np.arange(T * B).reshape(T, B) % 3 == 1
A = jl.Activation

TOLD = {
    "lstm": {
        "peepholes": True,
        "clip": 1.1,
        "cell_clip": 0.9,
        "activations": {
            "i": "hard_sigmoid",
            "f": "softsign",
            "g": A("elu", 0.7),
            "o": "softplus",
            "c": A("scaled_tanh", 1.7, 0.6),
        },
    },
    "lstm, coupled": {
        "coupled": True,
        "activations": {"g": A("leaky_relu", -0.3), "o": A("affine", 0.8), "c": A("elu", -0.4)},
    },
    "lstm, coupled, peepholes": {
        "peepholes": True,
        "coupled": True,
        "clip": 0.8,
        "activations": {"g": "leaky_relu", "o": A("thresholded_relu", -0.2), "c": "relu"},
    },
    "lstm, heads": {"peepholes": True, "n_heads": 2, "cell_clip": 0.7},
    "gru": {
        "clip": 0.9,
        "activations": {"r": "softsign", "z": A("hard_sigmoid", 0.3, 0.4), "n": A("elu", -0.5)},
    },
    "gru, heads": {"n_heads": 2},
    "gru_reset_before": {
        "clip": 1.2,
        "activations": {"r": "softplus", "n": A("thresholded_relu", 0.3)},
    },
    "mgu": {"activations": {"f": "hard_sigmoid", "n": "softsign"}},
    "elman": {"clip": 1.0, "activations": {"a": A("scaled_tanh", -1.2, 0.8)}},
}
QUICK = ("lstm", "gru")
every = pytest.mark.parametrize(
    "told", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in TOLD]
)


def cell_of(told):
    return jl.make_gated(told.split(",")[0], **TOLD[told])


# The equations, once more -----------------------------------------------------------------------


def plain(N, gate, a):
    """A function of ONNX's list, by its documentation; `where` goes by the real part."""
    f, (alpha, beta), real = gate.name, (*gate.numbers, None, None)[:2], N.np.real(a)
    if gate.bound is not None:
        a = N.np.where(
            real > gate.bound, gate.bound, N.np.where(real < -gate.bound, -gate.bound, a)
        )
        real = N.np.real(a)
    if f in ("sigmoid", "relu"):
        return getattr(N, f)(a)
    if f == "tanh":
        return N.np.tanh(a)
    if f == "hard_sigmoid":
        line = alpha * a + beta
        return N.np.where(N.np.real(line) < 0, 0, N.np.where(N.np.real(line) > 1, 1, line))
    if f == "softsign":
        return a / (1 + N.np.where(real > 0, a, -a))
    if f == "softplus":
        return N.np.log(1 + N.np.exp(a))
    return {
        "elu": lambda: N.np.where(real > 0, a, alpha * (N.np.exp(a) - 1)),
        "leaky_relu": lambda: N.np.where(real > 0, a, alpha * a),
        "thresholded_relu": lambda: N.np.where(real > alpha, a, 0),
        "scaled_tanh": lambda: alpha * N.np.tanh(beta * a),
        "affine": lambda: alpha * a + beta,
    }[f]()


def lstm(N, told, p, s, x):
    gates, H, blocks = dict(told.gates), s.h.shape[-1], "igo" if told.coupled else "ifgo"
    a = N.dot(x, p.W) + N.dot(s.h, p.U) + p.b
    a = {k: a[..., n * H : (n + 1) * H] for n, k in enumerate(blocks)}
    names = blocks.replace("g", "") if told.peepholes else ""
    peep = {k: p.p[n * H : (n + 1) * H] for n, k in enumerate(names)}
    see = lambda k, c: a[k] + peep[k] * c if k in peep else a[k]
    i = plain(N, gates["i"], see("i", s.c))
    f = 1 - i if told.coupled else plain(N, gates["f"], see("f", s.c))
    c = f * s.c + i * plain(N, gates["g"], a["g"])
    if told.cell_clip is not None:
        bound, real = told.cell_clip, N.np.real(c)
        c = N.np.where(real > bound, bound, N.np.where(real < -bound, -bound, c))
    return plain(N, gates["o"], see("o", c)) * plain(N, gates["c"], c), c


def gru(N, told, p, s, x):
    gates, H = dict(told.gates), s.h.shape[-1]
    a, u = N.dot(x, p.W) + p.b, N.dot(s.h, p.U) + p.c
    r = plain(N, gates["r"], a[..., :H] + u[..., :H])
    z = plain(N, gates["z"], a[..., H : 2 * H] + u[..., H : 2 * H])
    n = plain(N, gates["n"], a[..., 2 * H :] + r * u[..., 2 * H :])
    return ((1 - z) * n + z * s.h,)


def gru_reset_before(N, told, p, s, x):
    gates, H, a = dict(told.gates), s.h.shape[-1], N.dot(x, p.W) + p.b
    r = plain(N, gates["r"], a[..., :H] + N.dot(s.h, p.U[:, :H]))
    z = plain(N, gates["z"], a[..., H : 2 * H] + N.dot(s.h, p.U[:, H : 2 * H]))
    n = plain(N, gates["n"], a[..., 2 * H :] + N.dot(r * s.h, p.U[:, 2 * H :]))
    return ((1 - z) * n + z * s.h,)


def mgu(N, told, p, s, x):
    gates, H, a = dict(told.gates), s.h.shape[-1], N.dot(x, p.W) + p.b
    f = plain(N, gates["f"], a[..., :H] + N.dot(s.h, p.U[:, :H]))
    n = plain(N, gates["n"], a[..., H:] + N.dot(f * s.h, p.U[:, H:]))
    return ((1 - f) * s.h + f * n,)


def elman(N, told, p, s, x):
    return (plain(N, dict(told.gates)["a"], N.dot(x, p.W) + N.dot(s.h, p.U) + p.b),)


def formula_of(cell):
    """`(N, p, s, x) -> fields`; heads are cells side by side."""
    options = dict(cell.options)
    heads = options.pop("n_heads", None)
    told = gated.Gated(**options)
    one = functools.partial(globals()[told.kind])

    def step(N, p, s, x):
        if heads is None:
            return one(N, told, p, s, x)
        units = lambda y, n: y[..., n * (y.shape[-1] // heads) : (n + 1) * (y.shape[-1] // heads)]
        found = [
            one(N, told, type(p)(*(y[n] for y in p)), type(s)(*(units(y, n) for y in s)), x)
            for n in range(heads)
        ]
        return tuple(N.np.concatenate(parts, axis=-1) for parts in zip(*found, strict=True))

    return step


def arguments(cell, size=(T, B, D, H), dtype=jnp.float64):
    """params, state, xs and where resets lead, with numbers large enough for every branch."""
    T, B, D, H = size
    shapes = jax.eval_shape(lambda key: cell.init(key, D, H, dtype=dtype), jax.random.key(0))
    params = normal_like(1, shapes, 0.8)
    state = jax.eval_shape(lambda: init_state(cell, params, (B,)))
    xs = normal_like(3, jax.ShapeDtypeStruct((T, B, D), dtype), 1.5)
    return params, normal_like(2, state), xs, normal_like(4, state)


def sequence(run, **options):
    def with_resets(params, state, xs, fresh):
        return run(params, state, xs, mask=VALID, resets=RESETS, reset_state=fresh, **options)

    return with_resets


# Tests ------------------------------------------------------------------------------------------


def test_every_activation_of_the_table_is_tried():
    used = {gate.name for told in TOLD for _, gate in dict(cell_of(told).options)["gates"]}
    assert used == set(stages.ACTIVATIONS)


@every
def test_complex_steps_of_the_equations(told, monkeypatch):
    """Every element of every cotangent, lengths and resets on, in segments."""
    cell = cell_of(told)
    args = arguments(cell)
    monkeypatch.setitem(formulas.FORMULAS, told, formula_of(cell))
    monkeypatch.setitem(test_peers.NUMPY, told, formulas.numpy_run(told, VALID, RESETS))
    f = sequence(jl.make_rnn(cell)[0], residuals=3)
    dy = normal_like(5, jax.eval_shape(f, *args))

    def both(args, dy):
        y, vjp = jax.vjp(f, *args)
        return y, vjp(dy)

    y, got = quick_jit(both)(args, dy)
    want = test_peers.NUMPY[told](*jax.tree.map(np.asarray, args))
    assert_close([*y[0], *y[1]], [jnp.asarray(x) for x in want], test_peers.TOLERANCE)
    assert_close(got, test_peers.by_elements(told, args, dy), test_peers.TOLERANCE)


@pytest.mark.half
@every
@pytest.mark.slow
def test_every_cotangent_and_tangent_against_autodiff(told):
    """In reverse, in every mode of saving; by the transposed rules, forward mode."""
    cell = cell_of(told)
    args = arguments(cell)
    run, autodiff = jl.make_rnn(cell)
    want = value_and_cotangents(sequence(autodiff, reverse=True), args)
    for mode in ("full", 2, "auto"):
        assert_close(value_and_cotangents(sequence(run, reverse=True, residuals=mode), args), want)
    dots = tuple(normal_like(20 + n, x) for n, x in enumerate(args))
    flags = {"mask": VALID, "resets": RESETS, "reset_state": args[3]}
    got = make_jvp(cell)(*args[:3], dots, **flags)
    assert_close(got, quick_jit(lambda: jax.jvp(sequence(autodiff), args, dots))())


@every
@pytest.mark.slow
def test_per_example_gradients_and_few_bits(told):
    cell = cell_of(told)
    run, autodiff = jl.make_rnn(cell)
    params, state, xs, _ = arguments(cell)

    def each(run):
        loss = lambda p, s, x: (run(p, s, x)[1] ** 2).sum()
        return quick_jit(jax.vmap(jax.grad(loss), (None, 0, 1)))(params, state, xs)

    assert_close(each(run), each(autodiff))
    few = arguments(cell, dtype=jnp.bfloat16)[:3]
    got, want = (value_and_cotangents(lambda *a, run=run: run(*a), few) for run in (run, autodiff))
    assert jax.tree.map(lambda x: x.dtype, got) == jax.tree.map(lambda x: x.dtype, want)
    assert max(errors(got, want).values()) < 0.1


def test_a_description_is_a_record_once():
    """Equal makes are equal and compile once; unlike ones are not; each comes out of a pickle."""
    make = lambda clip: jl.make_gated("elman", activations={"a": A("elu", 0.5)}, clip=clip)
    one, same, other = make(3), make(3.0), make(4.0)
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert pickle.loads(pickle.dumps(one)) == one
    heads = jl.in_heads(jl.LSTM, 2)
    assert pickle.loads(pickle.dumps(heads)) == heads == jl.in_heads(jl.LSTM, 2)
    params, state, xs, _ = arguments(one)
    assert compilations(lambda: jl.make_rnn(make(3.0))[0](params, state, xs)) > 0
    assert compilations(lambda: jl.make_rnn(make(3))[0](params, state, xs)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lstm", "gru", "gru_reset_before", "mgu", "elman"])
def test_where_nothing_is_said_it_is_the_cell_of_that_name(kind):
    row, cell = CELLS[kind], jl.make_gated(kind)
    assert (cell.params, cell.shapes, cell.fields, cell.gates) == (
        row.cell.params,
        row.cell.shapes,
        row.cell.fields,
        row.cell.gates,
    )
    params, state, xs, _ = arguments(cell)
    w, ours = row.cell.prepare(params, None), cell.prepare(params, None)
    got, _ = cell.step(ours, state, cell.project(ours, xs[0]))
    want, _ = row.cell.step(w, state, row.cell.project(w, xs[0]))
    assert_close(got, want)


BAD = {
    "kind": (("rnn",), {}, "`kind` must be one of lstm, gru"),
    "gate": (("gru",), {"activations": {"i": "relu"}}, "`activations` must be a dict from r, z, n"),
    "function": (
        (),
        {"activations": {"g": "gelu"}},
        r"`activations\['g'\]` must be one of sigmoid",
    ),
    "beta": ((), {"activations": {"g": A("elu", 1.0, 2.0)}}, r"\['g'\].beta` must be None: elu"),
    "alpha": ((), {"activations": {"g": A("elu", "1")}}, r"\['g'\].alpha` must be a number"),
    "no f": ((), {"coupled": True, "activations": {"f": "relu"}}, "a dict from i, g, o, c to"),
    "another's": (("gru",), {"peepholes": True}, "`peepholes` must be left out: the kind gru"),
    "a list": ((), {"activations": {"g": A(["elu"])}}, r"`activations\['g'\]` must be one of"),
    "clip": ((), {"clip": 0.0}, "`clip` must be None or a number above 0"),
}


@pytest.mark.parametrize("bad", BAD)
def test_complaints(bad):
    args, options, says = BAD[bad]
    with pytest.raises(ValueError, match=says):
        jl.make_gated(*args, **options)


def test_heads_have_an_axis_in_front_and_a_hidden_size_that_can_be_shared():
    cell = jl.in_heads(jl.LSTM, 2)
    params = jax.eval_shape(lambda key: cell.init(key, D, H), jax.random.key(0))
    assert [x.shape for x in params] == [(2, D, 2 * H), (2, H // 2, 2 * H), (2, 2 * H)]
    with pytest.raises(ValueError, match="`hidden_size` must be a multiple of n_heads = 2; got 5"):
        cell.init(jax.random.key(0), D, 5)
    with pytest.raises(ValueError, match="a Cell without masks, dropout and zoneout around its"):
        jl.in_heads(jl.zoneout(jl.LSTM), 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_every_cell_in_heads_is_so_many_cells_side_by_side(name):
    """Values, and every cotangent, against the cell's own twin run head by head."""
    row = CELLS[name]
    one, size = row.cell, (3, B, D, 3)
    more = {k: 2 for k in ("projection_size",) if ("R", k) in one.sizes}
    cell = jl.in_heads(one, 2)
    shapes = jax.eval_shape(
        lambda key: cell.init(key, D, 2 * size[3], dtype=jnp.float64, **more), jax.random.key(0)
    )
    params, xs = normal_like(1, shapes, 0.6), normal_like(2, jnp.zeros((3, B, D)))
    state = init_state(cell, params, (B,))

    def side_by_side(params, xs):
        heads = [type(params)(*(x[n] for x in params)) for n in range(2)]
        states = [row.init_state(p, (B,)) for p in heads]
        hs = [row.sequence_autodiff(p, s, xs)[1] for p, s in zip(heads, states, strict=True)]
        return jnp.concatenate(hs, axis=-1)

    run = jl.make_rnn(cell)[0]
    got = value_and_cotangents(lambda params, xs: run(params, state, xs)[1], (params, xs))
    assert_close(got, value_and_cotangents(side_by_side, (params, xs)))


@pytest.mark.half
@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("told", ["lstm", "gru", "gru_reset_before", "lstm, heads", "gru, heads"])
def test_the_twin_takes_no_more_than_a_plain_scan(told):
    """Temporary bytes of the gradient, at most 1.1 of what people write."""
    cell = cell_of(told)
    formula = formula_of(cell)
    params, state, xs, _ = arguments(cell, (128, 16, 96, 128), jnp.float32)

    def scan(params, state, xs):
        def body(state, x):
            state = type(state)(*formula(formulas.JAX, params, state, x))
            return state, state.h

        return jax.lax.scan(body, state, xs)

    def bytes_of(run):
        def loss(*args):
            return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(run(*args)))

        with relaxed("what people write"):
            lowered = jax.jit(jax.grad(loss, (0, 1, 2))).lower(params, state, xs)
        return lowered.compile(AS_FOR_USERS).memory_analysis().temp_size_in_bytes

    assert bytes_of(jl.make_rnn(cell)[1]) <= 1.1 * bytes_of(scan)
