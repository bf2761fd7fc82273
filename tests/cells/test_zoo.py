"""The family beside formulas written out once more: complex steps in NumPy; and its counts."""

import ast
import functools
import importlib
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm.cells.exponential import exponential_gates, exponential_gates_bwd
from jax_lstm.cells.mlstm import read
from tests.cells import test_peers
from tests.cells.formulas import FORMULAS, JAX, numpy_run
from tests.tables import (
    CELLS,
    FIRST,
    assert_close,
    normal_like,
    problem,
    quick_jit,
    relaxed,
    value_and_cotangents,
)

T, B, D, H = SIZE = 4, 2, 2, 3
VALID = np.arange(T)[:, None] < np.array([T, 2])
RESETS = np.arange(T * B).reshape(T, B) % 3 == 1
TOLERANCE = test_peers.TOLERANCE

PARAMETERS = {
    "lstm": lambda D, H: 4 * (D * H + H * H + H),
    "elman": lambda D, H: D * H + H * H + H,
    "lstmp": lambda D, H: (H + 2) * (4 * (D + H + 1) + H),  # H + 2 cells hand on H numbers
    "gru": lambda D, H: 3 * (D * H + H * H + 2 * H),
    "peephole_lstm": lambda D, H: 4 * (D * H + H * H + H) + 3 * H,
    "lstm_nig": lambda D, H: 3 * (D * H + H * H + H) + 2 * H,
    "lstm_nfg": lambda D, H: 3 * (D * H + H * H + H) + 2 * H,
    "lstm_nog": lambda D, H: 3 * (D * H + H * H + H) + 2 * H,
    "lstm_niaf": lambda D, H: 4 * (D * H + H * H + H) + 3 * H,
    "lstm_noaf": lambda D, H: 4 * (D * H + H * H + H) + 3 * H,
    "lstm_cifg": lambda D, H: 3 * (D * H + H * H + H) + 2 * H,
    "lstm_fgr": lambda D, H: 4 * (D * H + H * H + H) + 3 * H + 9 * H * H,
    "gru_reset_before": lambda D, H: 3 * (D * H + H * H + H),
    "mgu": lambda D, H: 2 * (D * H + H * H + H),
    "light_gru": lambda D, H: 2 * (D * H + H * H + H),
    "janet": lambda D, H: 2 * (D * H + H * H + H),
    "fast_grnn": lambda D, H: D * H + H * H + 2 * H + 2,
    "min_gru": lambda D, H: 2 * (D * H + H),
    "min_lstm": lambda D, H: 3 * (D * H + H),
    "ind_rnn": lambda D, H: D * H + 2 * H,
    "indy_lstm": lambda D, H: 4 * (D * H + 2 * H),
    "elementwise_lstm": lambda D, H: 3 * (D * H + H) + H * H + 2 * H,
    "antisymmetric_rnn": lambda D, H: D * H + H * H + H,
    "multiplicative_lstm": lambda D, H: 4 * (D * H + H * H + H) + D * H + H * H,
    "layer_norm_lstm": lambda D, H: 4 * (D * H + H * H + 3 * H) + 2 * H,
    "slstm": lambda D, H: 4 * (D * H + H * H + H),
    "mlstm": lambda D, H: (D + 1) * (2 * 2 + 2 * H + 2),  # K = 2
    "cornn": lambda D, H: D * H + 2 * H * H + H,
    "lem": lambda D, H: 4 * (D * H + H) + 4 * H * H,
    "clockwork": lambda D, H: D * H + H * H + H,
    "ugrnn": lambda D, H: 2 * (D * H + H * H + H),
    "ran": lambda D, H: 3 * D * H + 2 * (H * H + H),
    "cfn": lambda D, H: 3 * (D * H + H) + 2 * H * H,
    "scrn": lambda D, H: 2 * D * H + 2 * H * H + H,
}


def test_there_are_more_than_twenty_cells_and_each_has_a_formula():
    assert len(CELLS) > 20
    assert set(CELLS) - set(FORMULAS) == {
        "lstm",
        "elman",
        "lstmp",
        "gru",
    }  # theirs: test_peers, ...
    assert set(FORMULAS) <= set(CELLS)
    assert set(PARAMETERS) == set(CELLS)


@pytest.mark.parametrize("name", CELLS)
def test_how_many_parameters(name):
    """The count that the cell's file gives."""
    drawn = jax.eval_shape(
        lambda key: CELLS[name].init(key, 4, 7, dtype=jnp.float32), jax.random.key(0)
    )
    assert sum(math.prod(x.shape) for x in drawn) == PARAMETERS[name](4, 7)


@pytest.mark.parametrize("name", FORMULAS)
def test_a_cell_s_file_has_numbered_equations_a_count_and_a_source(name):
    cell = jl.CELLS[name]
    text = importlib.import_module(cell.params.__module__).__doc__ or ""
    assert len(re.findall(r"\(\d+\)$", text, re.M)) >= 2
    assert re.search(r"[Pp]arameters|4 \(D H", text)
    assert re.search(r"^Sources?: .*\(\d{4}\)", text, re.M)
    assert "read" in text


PACKAGE = Path(jl.__file__).parent


def files_that_name(cell):
    """The files of the package whose code, docstrings aside, says a cell's name: as a function, as
    a record, as a word."""
    own = {cell, cell.upper(), f"init_{cell}", f"{cell}_cell", f"{cell}_autodiff"}
    return {path for path, words in words_by_file().items() if own & words}


@functools.cache
def words_by_file():
    found = {}
    for path in PACKAGE.rglob("*.py"):
        words = found[str(path.relative_to(PACKAGE))] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            words |= {getattr(node, field, None) for field in ("id", "attr", "name")}
            words |= {x for x in [getattr(node, "value", None)] if isinstance(x, str)}
            words |= {(getattr(node, "module", None) or "").rpartition(".")[2]}
    return found


def test_a_cell_touches_two_places():
    """Its file, and its import line and row. What the LSTM, the GRU and the Elman network have
    besides is content that adds to a cell: literature, layouts of other libraries, mistakes; so
    are the gates of one's own, and ONNX's operators."""
    files = {
        name: f"{cell.params.__module__.removeprefix('jax_lstm.').replace('.', '/')}.py"
        for name, cell in jl.CELLS.items()
    }
    for name in jl.CELLS.keys() - set(FIRST):
        more = files_that_name(name) - {"cells/gated.py", "interop/onnx_operators.py"}
        assert more == {files[name], "cells/family.py"}, name
    assert len(files_that_name("lstm")) > 2


def numbers(name):
    """Random params, state, xs and the state that resets lead to, and a cotangent."""
    row = CELLS[name]
    args = (*problem(row, SIZE), problem(row, SIZE, seed=7)[1])
    y = jax.eval_shape(row.sequence, *args[:3])
    return row, args, normal_like(4, y)


def sequence(row, valid, resets):
    def run(params, state, xs, fresh):
        lengths = valid.sum(0)
        return row.sequence(params, state, xs, lengths=lengths, resets=resets, reset_state=fresh)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMULAS)
def test_complex_steps_of_the_formula_with_lengths_and_resets(name, monkeypatch):
    """Every element of every cotangent; the formulas know nothing of ours, nor of JAX."""
    row, args, dy = numbers(name)
    monkeypatch.setitem(test_peers.NUMPY, name, numpy_run(name, VALID, RESETS))
    f = sequence(row, VALID, RESETS)

    def both(args, dy):
        y, vjp = jax.vjp(f, *args)
        return y, vjp(dy)

    y, got = quick_jit(both)(args, dy)
    want = test_peers.NUMPY[name](*jax.tree.map(np.asarray, args))
    assert_close([*y[0], *y[1]], [jnp.asarray(x) for x in want], TOLERANCE)
    assert_close(got, test_peers.by_elements(name, args, dy), TOLERANCE)


def test_exponential_gates_in_both_branches():
    """The cotangent of the stabiliser goes to what decided, where both do in one array: a sequence
    begins with the one, and reads of h alone ask for nothing of it."""
    args = tuple(normal_like(k, jnp.zeros((4, H))) for k in range(3))
    i, f, _, branch = exponential_gates(*args)
    assert 0 < branch[1].sum() < 4 * H
    y, vjp = jax.vjp(lambda *args: exponential_gates(*args)[:3], *args)
    dy = normal_like(9, y)
    assert_close(exponential_gates_bwd((i, f, branch), *dy), vjp(dy))


def test_the_matrix_memory_is_divided_by_the_larger_of_two():
    """|q · n| or exp(-m), and the sign where the first decides: both ways round, and both signs."""
    rng, K = np.random.default_rng(0), 3
    q, n, m = rng.normal(size=(200, K)), rng.normal(size=(200, K)), rng.normal(size=(200, 1))
    d, floor = (q * n).sum(-1, keepdims=True), np.exp(-m)
    q_C, s, sign = read(jnp.asarray(q), jnp.zeros((200, K, H)), jnp.asarray(n), jnp.asarray(m))
    assert q_C.shape == (200, H)
    assert_close(s, jnp.asarray(np.maximum(abs(d), floor)))
    np.testing.assert_array_equal(sign, np.where(abs(d) > floor, np.sign(d), 0))
    assert ((d > floor) & (d < 1)).any()


def lem_of(dt, N, p, s, x):
    """LEM with a time step that is not 1."""
    H = s.h.shape[-1]
    a, u = N.dot(x, p.W) + p.b, N.dot(s.h, p.U)
    slow = dt * N.sigmoid(a[..., :H] + u[..., :H])
    fast = dt * N.sigmoid(a[..., H : 2 * H] + u[..., H : 2 * H])
    z = (1 - fast) * s.z + fast * N.np.tanh(a[..., 2 * H : 3 * H] + u[..., 2 * H :])
    return (1 - slow) * s.h + slow * N.np.tanh(a[..., 3 * H :] + N.dot(z, p.V)), z


def antisymmetric_of(epsilon, gamma, N, p, s, x):
    M = p.U - p.U.T - gamma * N.np.eye(p.U.shape[0], dtype=p.U.dtype)
    return (s.h + epsilon * N.np.tanh(N.dot(x, p.W) + N.dot(s.h, M) + p.b),)


def cornn_of(dt, gamma, epsilon, N, p, s, x):
    a = N.dot(x, p.W) + N.dot(s.h, p.U) + N.dot(s.z, p.V) + p.b
    z = s.z + dt * (N.np.tanh(a) - gamma * s.h - epsilon * s.z)
    return s.h + dt * z, z


MADE = {
    "lem": (jl.make_lem, lem_of, (0.4,)),
    "antisymmetric_rnn": (jl.make_antisymmetric_rnn, antisymmetric_of, (0.3, 0.7)),
    "cornn": (jl.make_cornn, cornn_of, (0.2, 1.3, 0.6)),
}


@pytest.mark.parametrize("name", MADE)
def test_constants_of_one_s_own(name):
    """Neither the defaults nor 1: values and every cotangent, beside the formula."""
    make, formula, constants = MADE[name]
    (params, state, xs), kind = problem(CELLS[name], (1, B, D, H)), CELLS[name].cell.state
    step, _ = jl.make_cell(make(*constants))

    def by_formula(params, state, x):
        new = kind(*formula(*constants, JAX, params, state, x))
        return new, new.h

    args = (params, state, xs[0])
    with relaxed("what people write"):
        want = value_and_cotangents(by_formula, args)
    assert_close(value_and_cotangents(step, args), want)


# The parallel route -----------------------------------------------------------------------------

PARALLEL = {"min_gru": jl.min_gru_parallel, "min_lstm": jl.min_lstm_parallel}


@pytest.mark.slow
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", PARALLEL)
def test_the_parallel_route_is_the_sequential_one(name, reverse):
    row, args, dy = numbers(name)

    def both(f):
        def run(params, state, xs, fresh):
            more = {"mask": VALID, "resets": RESETS, "reset_state": fresh, "reverse": reverse}
            return f(params, state, xs, **more)

        def value_and_cotangents(args, dy):
            y, vjp = jax.vjp(run, *args)
            return y, vjp(dy)

        return quick_jit(value_and_cotangents)(args, dy)

    assert_close(both(PARALLEL[name]), both(row.sequence))


def test_the_parallel_route_is_for_affine_cells():
    with pytest.raises(ValueError, match="the cell gru must say `affine` of a state that is h"):
        jl.make_parallel_rnn(jl.GRU)
    params, state, xs = problem(CELLS["min_gru"], SIZE)
    with pytest.raises(ValueError, match=r"`xs` must be \(T, ..., D\) with D = 2"):
        jl.min_gru_parallel(params, state, xs[..., :1])
    last, hs = jl.min_gru_parallel(params, state, xs[:0])
    assert hs.shape == (0, B, H)
    np.testing.assert_array_equal(last.h, state.h)


# The matrix memory ------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_frugal_mode_of_the_matrix_memory():
    """ "full" keeps a memory per step, "auto" one per segment and those of one segment."""
    T, H = 256, 32
    params = jl.init_mlstm(jax.random.key(0), H, H, dtype=jnp.float64)
    state = jl.init_mlstm_state(params, (1,))
    xs = jnp.zeros((T, 1, H))

    def bytes_of(residuals):
        loss = lambda p, s, x: jl.mlstm(p, s, x, residuals=residuals)[1].sum()
        compiled = jax.jit(jax.grad(loss)).lower(params, state, xs).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    memories = T * H * H * 8
    assert bytes_of("full") > memories
    assert bytes_of("auto") < memories / 2
