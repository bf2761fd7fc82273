"""The family beside formulas written out once more: complex steps in NumPy; and its counts."""

import importlib
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from tests.cells import test_peers
from tests.cells.formulas import FORMULAS, numpy_run
from tests.tables import CELLS, assert_close, normal_like, problem, quick_jit

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


def numbers(name):
    """Random params, state, xs and the state that resets lead to, and a cotangent."""
    row = CELLS[name]
    args = (*problem(row, SIZE), problem(row, SIZE, seed=7)[1])
    y = jax.eval_shape(row.sequence, *args[:3])
    return row, args, normal_like(4, y)


def sequence(row, valid, resets):
    def run(params, state, xs, fresh):
        return row.sequence(params, state, xs, mask=valid, resets=resets, reset_state=fresh)

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
