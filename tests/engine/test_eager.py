"""Without jit: a call like one before compiles nothing, and leaves nothing behind."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import jax_lstm as jl
from tests.engine.compiled import compilations
from tests.tables import CELLS, FIRST, SIZE, assert_close, normal_like, problem

T, B, D, H = SIZE
LSTM = problem(CELLS["lstm"])
DROPPED, _ = jl.make_rnn(jl.recurrent_dropout(jl.LSTM))
STACK = normal_like(
    1,
    jax.eval_shape(
        lambda: jl.init_stack(
            jax.random.key(0),
            D,
            (H, H),
            bidirectional=True,
            init=functools.partial(jl.init_lstm, dtype=jnp.float64),
        )
    ),
    0.5,
)


def value_and_gradient(run, args):
    """Of a loss that looks at everything, by all arguments; no jit anywhere."""

    def loss(*args):
        return sum(jnp.sum(y) for y in jax.tree.leaves(run(*args)))

    return run(*args), jax.grad(loss, range(len(args)))(*args)


def stack(params, xs):
    """A partial made anew at each call, as in a loop over steps."""
    states = jl.init_stack_state(params, (B,))
    sequence = functools.partial(jl.lstm, residuals="auto")
    return jl.stack(params, states, xs, sequence=sequence, lengths=[T, 3])


def tbptt(params, state, xs):
    """Made anew, and of a partial that holds an array."""
    sequence = functools.partial(jl.lstm, residuals=2)
    masked = functools.partial(DROPPED, consts=jnp.ones((B, H), xs.dtype))
    lengths = jnp.asarray([T, 3])
    return jl.tbptt(2, 3, sequence)(params, state, xs, lengths=lengths), jl.tbptt(2, 2, masked)(
        params, state, xs
    )


def zoneout(params, state, xs):
    masks = (jnp.ones((T, B, H), xs.dtype),) * 2
    return jl.make_rnn(jl.zoneout(jl.LSTM))[0](params, state, (xs, masks))


def options(params, state, xs):
    """Everything that a sequence takes."""
    resets = jnp.arange(T * B).reshape(T, B) % 3 == 0
    mask = [[True, False]] * T
    more = {"lengths": [T, 3], "mask": mask, "resets": resets, "reset_state": state}
    return jl.lstm(params, state, xs, **more, reverse=True, residuals=3, unroll=2)


PROGRAMS = {name: (CELLS[name].sequence, problem(CELLS[name])) for name in FIRST} | {
    "one step": (jl.lstm_cell, (*LSTM[:2], LSTM[2][0])),
    "the twin": (jl.lstm_autodiff, LSTM),
    "options": (options, LSTM),
    "stack": (stack, (STACK, LSTM[2])),
    "tbptt": (tbptt, LSTM),
    "zoneout": (zoneout, LSTM),
    "over devices": (
        lambda params, state, xs: jl.over_devices(devices=jax.devices()[:2], always=True)(
            params, state, xs
        ),
        problem(CELLS["lstm"], (T, 16, D, H)),
    ),
}
QUICK = ("lstm", "options")


@pytest.mark.half
@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in PROGRAMS]
)
def test_a_second_call_compiles_nothing(name):
    run, args = PROGRAMS[name]
    first = value_and_gradient(run, args)
    assert compilations(value_and_gradient, run, args) == 0
    assert_close(first, jax.jit(value_and_gradient, static_argnums=0)(run, args), 1e-9)


def read(run, dhs):
    """Everything that can be read off a run, no jit anywhere."""
    return (
        jl.attribute(run, dhs),
        jl.attribute(run, dhs, of=functools.partial(jax.tree.map, jnp.abs)),
        jl.gradient_norms(run, dhs),
        jl.jacobians(run),
        jl.jacobian_norms(run, [0, 2], iterations=3),
        jl.forget_products(run),
    )


@pytest.mark.slow
def test_what_reads_a_run_compiles_once():
    """A run of other numbers is read by the same programs, and each is one program."""
    params, state, xs = LSTM
    runs = [jl.linearised_lstm(params, state, x) for x in (xs, 2 * xs)]
    first = read(runs[0], jnp.cos(runs[0].states[0]))
    assert compilations(read, runs[1], runs[1].states[0]) == 0
    again = read(runs[0], jnp.cos(runs[0].states[0]))
    assert_close(first, again, 0)
    jax.clear_caches()
    assert compilations(jl.gradient_norms, runs[0], runs[0].states[0], runs[0].state) == 1


def test_a_call_is_one_program():
    jax.clear_caches()
    assert compilations(jl.lstm, *LSTM) == 1


@pytest.mark.slow
def test_transforms_without_jit_compile_once():
    params, state, xs = LSTM
    loss = lambda params: jnp.sum(jl.lstm(params, state, xs)[1])
    many = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)
    transformed = {
        "vmap": lambda: jax.vmap(loss)(many),
        "vmap of grad": lambda: jax.vmap(jax.grad(loss))(many),
        "hvp": lambda: jax.jvp(jax.grad(loss), (params,), (params,)),
        "checkpoint": lambda: jax.grad(jax.checkpoint(loss))(params),
    }
    for name, run in transformed.items():
        run()
        assert compilations(run) == 0, name


@pytest.mark.slow
@pytest.mark.parametrize("house", ["linen", "nnx"])
def test_modules_of_flax_compile_once(house):
    pytest.importorskip("flax", reason="flax is the peer of this test: install jax_lstm[flax]")
    xs, lengths = jnp.ones((B, T, D), jnp.float32), jnp.asarray([T, 3])
    if house == "linen":
        from jax_lstm.interop import linen

        rnn = linen.RNN(linen.OptimizedLSTMCell(H))
        params = rnn.init(jax.random.key(0), xs)
        run = lambda p: rnn.apply(p, xs, seq_lengths=lengths)
        both = lambda: (run(params), jax.grad(lambda p: jnp.sum(run(p)))(params))
    else:
        from flax import nnx

        from jax_lstm.interop import nnx as ours

        rnn = ours.RNN(ours.OptimizedLSTMCell(D, H, rngs=nnx.Rngs(0)))
        run = lambda rnn: rnn(xs, seq_lengths=lengths)
        both = lambda: (run(rnn), nnx.grad(lambda rnn: jnp.sum(run(rnn)))(rnn))
    both()
    assert compilations(both) == 0


@pytest.mark.slow
def test_what_may_change_between_two_calls_is_looked_at_each_time():
    """A sequence function that closes over arrays, or over an object that holds some."""
    params, state, xs = LSTM
    held = {"scale": 1.0}

    def scaled(params, state, xs, **flags):
        return jl.lstm(params, state, held["scale"] * xs, **flags)

    run = jl.tbptt(2, 2, scaled)
    one = run(params, state, xs)
    held["scale"] = 2.0
    assert_close(run(params, state, xs), jl.tbptt(2, 2)(params, state, 2 * xs))
    assert not jnp.array_equal(one[1], run(params, state, xs)[1])

    def through(scale):  # closes over a tracer
        return jnp.sum(jl.tbptt(2, 2, lambda p, s, x, **o: jl.lstm(p, s, scale * x, **o))(*LSTM)[1])

    want = jax.grad(lambda scale: jnp.sum(jl.tbptt(2, 2)(params, state, scale * xs)[1]))(1.0)
    assert_close(jax.grad(through)(1.0), want, 1e-9)


def test_jit_can_be_switched_off():
    with jax.disable_jit():
        got = jl.lstm(*LSTM)
    assert_close(got, jl.lstm(*LSTM))


MEMORY = """
import functools, resource, jax, jax.numpy as jnp, jax_lstm as jl
key = jax.random.key(0)
params = jl.init_stack(key, 3, (4, 4))
states = jl.init_stack_state(params, (2,))
xs = jnp.ones((7, 2, 3))
def call():
    sequence = functools.partial(jl.lstm, residuals="auto")
    loss = lambda p: jnp.sum(jl.stack(p, states, xs, sequence=sequence)[1])
    jax.block_until_ready(jax.grad(loss)(params))
    jax.block_until_ready(jl.tbptt(2, 3)(params.layers[0][0], states[0][0], xs))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
for _ in range(200):
    call()
before = peak()
for _ in range(1000):
    call()
print(peak() - before)
"""


@pytest.mark.slow
def test_a_thousand_calls_leave_nothing_behind():
    """Megabytes; a program kept per call would be some thousand."""
    run = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 10
