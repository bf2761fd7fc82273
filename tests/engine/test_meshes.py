"""Meshes: the batch split over eight devices by XLA, over Auto axes and over Explicit ones."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jax_lstm as jl
from tests.engine.compiled import collectives, product_flops
from tests.tables import CELLS, FIRST, assert_close, problem

SPLITS_ARRAYS = True

pytestmark = pytest.mark.usefixtures("optimised")

T, B, D, H = SIZE = (7, 16, 3, 5)  # residuals=3: a segment of three steps, and one of four
SPECS = (P(), P("data"), P(None, "data"))
LENGTHS = [7, 0, 3, 1] * 4


def mesh_of(kind):
    return jax.make_mesh((8,), ("data",), axis_types=(kind,))


def placed(mesh, args):
    """Parameters everywhere, the batch split."""
    return tuple(
        jax.tree.map(lambda x, spec=spec: jax.device_put(x, jax.NamedSharding(mesh, spec)), arg)
        for arg, spec in zip(args, SPECS, strict=True)
    )


def gradient(sequence, **options):
    """Value and gradient of a loss that looks at everything."""

    def loss(params, state, xs):
        return sum(
            jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(sequence(params, state, xs, **options))
        )

    return jax.value_and_grad(loss, (0, 1, 2))


def stack(sequence):
    return lambda params, state, xs: jl.stack(params, state, xs, sequence=sequence)


def stack_problem():
    params = jl.init_stack(jax.random.key(0), D, (H, H), bidirectional=True)
    return params, jl.init_stack_state(params, (B,)), jnp.ones((T, B, D), jnp.float32)


def zoneout(rnn):
    """With masks of each example's own, and of one for all."""
    own = jnp.arange(T * B * H).reshape(T, B, H) % 3 == 0

    def run(params, state, xs):
        masks = own.astype(xs.dtype), own[:, :1].astype(xs.dtype)
        return rnn(params, state, (xs, masks))

    return run


ZONEOUT, ZONEOUT_AUTODIFF = jl.make_rnn(jl.zoneout(jl.LSTM))
PROGRAMS = {  # by hand, the twin, arguments, weights
    name: (row.sequence, row.sequence_autodiff, lambda row=row: problem(row, SIZE, jnp.float32))
    for name, row in CELLS.items()
} | {
    "zoneout": (
        zoneout(ZONEOUT),
        zoneout(ZONEOUT_AUTODIFF),
        lambda: problem(CELLS["lstm"], SIZE, jnp.float32),
    ),
    "stack": (stack(jl.lstm), stack(jl.lstm_autodiff), stack_problem),
}
MODES = ({}, {"residuals": 3}, {"residuals": "auto"}, {"lengths": LENGTHS}, {"reverse": True})


def looked_at(name, options):
    """No array is gathered, each device multiplies its own examples, and dW is summed over devices
    once for each piece of time (equal segments, and a longer last one) of each direction."""
    by_hand, by_jax, arguments = PROGRAMS[name]
    split = placed(mesh_of(AxisType.Auto), args := arguments())
    program, twin = (
        jax.jit(gradient(run, **options)).lower(*split).compile() for run in (by_hand, by_jax)
    )
    found = collectives(program.as_text())
    assert set(found) == {"all-reduce"}, found
    pieces = 2 if "residuals" in options else 1  # 3 + 4 steps, or 2 + 2 and 3
    assert found["all-reduce"] <= pieces * (4 if name == "stack" else 1), found
    again = 4 / 3 if "residuals" in options else 1  # frugal: the forward runs twice
    assert product_flops(program.as_text()) <= 1.06 * again * product_flops(twin.as_text())
    got, want = program(*split), jax.jit(gradient(by_jax, **options))(*args)
    assert_close(jax.device_get(got), jax.device_get(want), 1e-5)


def test_auto_axes_cost_one_sum_over_devices():
    looked_at("lstm", {"residuals": 3, "lengths": LENGTHS})


OTHERS = [(name, {}) for name in PROGRAMS]
OTHERS += [(name, options) for name in FIRST for options in MODES[1:]]


@pytest.mark.half
@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), OTHERS, ids=str)
def test_auto_axes_cost_one_sum_over_devices_everywhere(name, options):
    looked_at(name, options)


def test_the_counter_of_flops_can_count():
    """A product in a loop counts as often as it runs; a gathered axis is not split."""

    def run(x, w):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=7)[0]

    text = jax.jit(run).lower(jnp.ones((4, 5)), jnp.ones((5, 5))).compile().as_text()
    assert product_flops(text) == 7 * 2 * 4 * 5 * 5


# Explicit axes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lstm", pytest.param("stack", marks=pytest.mark.slow)])
def test_explicit_axes_as_make_mesh_gives_them(name):
    """Value and gradient are those of one device; what comes out is split as the batch was."""
    run, _, arguments = PROGRAMS[name]
    args = arguments()
    mesh = jax.make_mesh((8,), ("data",))
    want = jax.jit(gradient(run))(*args)
    split = placed(mesh, args)
    got = jax.jit(gradient(run))(*split)
    assert_close(jax.device_get(got), jax.device_get(want), 1e-5)
    assert jax.typeof(got[1][2]).sharding.spec == P(None, "data", None)
    assert jax.typeof(jax.tree.leaves(got[1][0])[0]).sharding.is_fully_replicated
    with jax.set_mesh(mesh):
        last, hs = run(*split)
    assert jax.typeof(hs).sharding.spec == P(None, "data", None)
    assert jax.typeof(jax.tree.leaves(last)[0]).sharding.spec == P("data", None)


@pytest.mark.slow
def test_explicit_axes_where_the_state_is_everywhere_and_time_is_cut():
    """All of it in one program: options, one step, a truncated run; the state is that of zeros."""
    params, _, xs = problem(CELLS["lstm"], SIZE, jnp.float32)
    state = jl.init_lstm_state(params, (B,))
    mesh = jax.make_mesh((8,), ("data",))
    resets = jnp.arange(T * B).reshape(T, B) % 5 == 0

    def everything(params, state, xs):
        one, h = jl.lstm_cell(params, state, xs[0])
        a = jl.lstm(params, one, xs, resets=resets, reset_state=state, residuals=3)
        b = jl.lstm(params, state, xs, lengths=LENGTHS, reverse=True)
        c = jl.tbptt(2, 3)(params, state, xs)
        window = jl.tbptt_stream(2, 3).begin(state, xs)
        d = jl.tbptt_stream(2, 3).advance(params, window, xs[:6])
        return h, a, b, c, d

    with jax.set_mesh(mesh):
        split = placed(mesh, (params, state, xs))
        got = jax.jit(gradient(everything))(split[0], state, split[2])
    want = jax.jit(gradient(everything))(params, state, xs)
    assert_close(jax.device_get(got), jax.device_get(want), 1e-5)
