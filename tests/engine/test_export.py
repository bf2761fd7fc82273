"""Symbolic sizes: programs that are exported once and called with any batch and any time."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jax_lstm as jl
from jax_lstm.engine.segments import SEGMENT_STEPS, Steps, whole_segments
from jax_lstm.files.exported import EXPORTED
from tests.programs import loss_of, value_and_grad
from tests.tables import CELLS, assert_close, assert_same, problem

LSTM = CELLS["lstm"]


def through_bytes(f, *shapes, **options):
    return export.deserialize(export.export(jax.jit(f))(*shapes).serialize(**options))


def shapes_of(args, leading):
    """The arguments as shapes, with other sizes on their first axes."""

    def of(x, axes):
        return jax.ShapeDtypeStruct((*axes, *x.shape[len(axes) :]), x.dtype)

    return [
        jax.tree.map(functools.partial(of, axes=axes), arg)
        for arg, axes in zip(args, leading, strict=True)
    ]


def example(T, B):
    """A problem, and flags per example and step."""
    args = problem(LSTM, (T, B, 3, 2))
    lengths = jnp.asarray([(3 * n + 2) % (T + 1) for n in range(B)], jnp.uint8)
    resets = jnp.asarray(np.arange(T * B).reshape(T, B) % 5 == 3)
    return *args, lengths, resets


def run_with_flags(sequence, **options):
    def run(params, state, xs, lengths, resets):
        flags = {"lengths": lengths, "resets": resets}
        loss = loss_of(lambda p, s, x: sequence(p, s, x, **flags, **options))
        return value_and_grad(loss, (params, state, xs))

    return run


@pytest.mark.half
@pytest.mark.parametrize(
    ("sizes", "reverse", "mode"),
    [
        ("T, B", False, "full"),
        ("T, B", True, 3),  # with steps that are no steps, before the first one
        ("3*n, B", False, 3),
        ("7, B", False, "full"),
        ("T, 2", True, "auto"),
    ],
    ids=str,
)
def test_lengths_and_resets_of_any_batch_and_time(sizes, reverse, mode):
    T, B = export.symbolic_shape(sizes)
    leading = ((), (B,), (T, B), (B,), (T, B))
    shapes = shapes_of(example(7, 2), leading)
    run = run_with_flags(LSTM.sequence, residuals=mode, reverse=reverse)
    program = through_bytes(run, *shapes)
    twin = jax.jit(run_with_flags(LSTM.sequence_autodiff, reverse=reverse))
    for T_of_call, B_of_call in ((7, 2), (3, 1)):
        T_of_call = {"7, B": 7, "3*n, B": 3 * T_of_call}.get(sizes, T_of_call)
        B_of_call = 2 if sizes == "T, 2" else B_of_call
        args = example(T_of_call, B_of_call)
        assert_close(program.call(*args), twin(*args))


def test_an_exported_value_is_differentiated_after_loading():
    T, B = export.symbolic_shape("T, B")
    args = problem(LSTM, (5, 2, 3, 2))
    shapes = shapes_of(args, ((), (B,), (T, B)))
    loss = lambda sequence, *options: loss_of(functools.partial(sequence, residuals=2))
    program = through_bytes(loss(jl.lstm), *shapes, vjp_order=1)
    got = jax.grad(lambda *args: program.call(*args), (0, 1, 2))(*args)
    assert_close(got, jax.jit(jax.grad(loss_of(jl.lstm_autodiff), (0, 1, 2)))(*args))


@pytest.mark.slow
def test_a_model_of_tokens():
    """An embedding, layers in two directions, a readout, and padding: one program."""
    V, D, H = 5, 3, 2
    key, init = jax.random.key(0), functools.partial(jl.init_lstm, dtype=jnp.float64)
    layers = jl.init_stack(key, D, (H, H), init=init, bidirectional=True, learn_initial=True)
    params = {
        "E": jl.init_embedding(key, V, D, dtype=jnp.float64),
        "layers": layers,
        "readout": jl.init_dense(key, 2 * H, V, dtype=jnp.float64),
    }

    def model(stack, init_state, params, tokens, lengths):
        xs = jl.embedding(params["E"], tokens)
        states = init_state(params["layers"], tokens.shape[1:])
        _, hs = stack(params["layers"], states, xs, lengths=lengths)
        logits = jl.dense(params["readout"], hs)
        return jnp.sum(jl.softmax_cross_entropy(logits, tokens))

    ours = jax.value_and_grad(functools.partial(model, jl.stack, jl.init_stack_state))
    theirs = functools.partial(model, jl.stack_autodiff, jl.init_stack_state_autodiff)
    T, B = export.symbolic_shape("T, B")
    shapes = [
        jax.eval_shape(lambda: params),
        jax.ShapeDtypeStruct((T, B), jnp.int32),
        jax.ShapeDtypeStruct((B,), jnp.int32),
    ]
    program = through_bytes(ours, *shapes)
    twin = jax.jit(jax.value_and_grad(theirs))
    for tokens, lengths in (([[1, 2], [3, 4], [0, 1]], [3, 1]), ([[4], [2]], [2])):
        args = (params, jnp.asarray(tokens, jnp.int32), jnp.asarray(lengths, jnp.int32))
        assert_close(program.call(*args), twin(*args))


def test_truncated_in_blocks_of_a_symbolic_number():
    (n,) = export.symbolic_shape("n")
    args = problem(LSTM, (4, 2, 3, 2))
    run = lambda *args: value_and_grad(loss_of(jl.tbptt(2, 4)), args)
    program = through_bytes(run, *shapes_of(args, ((), (), (2 * n,))))
    assert_close(program.call(*args), jax.jit(run)(*args))
    with pytest.raises(ValueError, match=r"`xs` has the symbolic length n, .* T = 2\*n"):
        export.export(jax.jit(run))(*shapes_of(args, ((), (), (n,))))


@pytest.mark.parametrize("kind", EXPORTED, ids=lambda kind: kind.__name__)
def test_types_are_known_by_name(kind):
    tree = kind(*(np.float32(n) for n in range(len(kind._fields))))
    assert_same(through_bytes(lambda tree: tree, tree).call(tree), tree)


def test_a_symbolic_time_is_filled_up_to_whole_segments_only_where_it_is_not():
    T, n = export.symbolic_shape("T, n")
    steps = lambda T: jax.eval_shape(lambda: Steps(jnp.zeros((T, 2)), None, None))

    def after(T, mode):
        fill = functools.partial(whole_segments, mode, ())
        return jax.eval_shape(fill, steps(T)).xs.shape[0]

    assert after(T, "full") is T
    assert after(3 * n, 3) == 3 * n
    assert after(T, 3) == (T + 2) // 3 * 3
    assert after(T, "auto") == (T + SEGMENT_STEPS - 1) // SEGMENT_STEPS * SEGMENT_STEPS
    assert after(7, 3) == 7


UNDER_THE_FLAG = """
import jax, jax.numpy as jnp
import jax_lstm as jl

def gradient(stack, sequence, init_state):
    params = jl.init_stack(jax.random.key(0), 3, (2, 2), bidirectional=True, learn_initial=True)
    xs = jnp.cos(jnp.arange(24, dtype=jnp.float32).reshape(4, 2, 3))
    def loss(params, xs):
        states = init_state(params, (2,))
        return jnp.sum(jnp.sin(stack(params, states, xs, sequence=sequence)[1]))
    return jax.jit(jax.grad(jax.checkpoint(loss), (0, 1)))(params, xs)

got = gradient(jl.stack, jl.lstm, jl.init_stack_state)
want = gradient(jl.stack_autodiff, jl.lstm_autodiff, jl.init_stack_state_autodiff)
print(max(float(abs(a - b).max()) for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want))))
"""


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["0", "1"])
def test_layers_where_jax_s_next_custom_vjp_is_set_before_the_import(remat):
    flags = {"JAX_CUSTOM_VJP3": "1", "JAX_REMAT3": remat}
    run = [sys.executable, "-c", UNDER_THE_FLAG]
    found = subprocess.run(run, env=os.environ | flags, capture_output=True, text=True, check=False)
    assert float(found.stdout or "nan") < 1e-5, found.stderr
