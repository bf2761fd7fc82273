"""`residuals="log"`: blocks of blocks of segments; what has several levels equals what has none."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jax_lstm as jl
from jax_lstm.engine import levels
from jax_lstm.engine.levels import Levels, block_sizes, depth, levels_of, spans_of
from tests.derivatives import grad_of_grad, hvp
from tests.programs import loss_of, value_and_grad
from tests.tables import CELLS, assert_close, normal_like, problem, quick_jit

AS_SHIPPED = Levels(steps=32, parts=192)


@pytest.mark.parametrize("plan", [Levels(1, 2), Levels(2, 2), Levels(3, 5), AS_SHIPPED], ids=str)
def test_blocks_are_all_of_time_in_order(plan):
    for T in (*range(70), 2047, 2048, 6145, 10**6, 10**6 + 3):
        spans = spans_of(plan, jax.ShapeDtypeStruct((T, 1), jnp.float32))
        assert spans[0].start == 0
        ends = [span.start + span.blocks * span.sizes[0] for span in spans]
        assert ends[:-1] == [span.start for span in spans[1:]]
        assert ends[-1] == T
        for span in spans:
            assert all(a % b == 0 and a > b for a, b in itertools.pairwise(span.sizes))
            parts = [span.blocks, *(a // b for a, b in itertools.pairwise(span.sizes))]
            assert max(parts) <= 2 * plan.parts


def test_how_many_levels_there_are(monkeypatch):
    monkeypatch.setattr(levels, "LOG", AS_SHIPPED)
    assert [depth(T) for T in (0, 1, 1000, 6144, 2 * 6144, 10**6, 10**7)] == [1, 1, 1, 1, 2, 2, 3]
    assert levels_of(8, 2) == 3
    assert levels_of(9, 2) == 4
    assert block_sizes(4096, 32, 192) == (32,)
    assert block_sizes(10**6, 32, 192) == (8000, 32)


def outcomes(T, reverse, *ways):
    """Of "log" and of "full": ways of a run with flags, and of what resets lead to."""
    row, B = CELLS["elman"], 2
    params, state, xs = problem(row, (T, B, 2, 3))
    rng = np.random.default_rng(0)
    flags = {"mask": rng.random((T, B)) < 0.7, "resets": rng.random((T, B)) < 0.3}

    def run(residuals, args):
        def sequence(both, state, xs):
            params, fresh = both
            options = {**flags, "reset_state": fresh, "reverse": reverse, "residuals": residuals}
            return row.sequence(params, state, xs, **options)

        loss = loss_of(sequence)
        return [way(loss, args) for way in ways]

    args = ((params, normal_like(5, state)), state, xs)
    return quick_jit(lambda args: [run(mode, args) for mode in ("log", "full")])(args)


@pytest.mark.parametrize(
    "reverse", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["", "reverse"]
)
def test_three_levels_and_a_longer_segment(monkeypatch, reverse):
    monkeypatch.setattr(levels, "LOG", Levels(2, 2))
    spans = spans_of(levels.LOG, np.zeros((17, 1)))
    assert [span.sizes for span in spans] == [(8, 4, 2), (4, 2), (2,), (3,)]
    assert_close(*outcomes(17, reverse, value_and_grad))


@pytest.mark.slow
def test_second_derivatives(monkeypatch):
    """Forward over reverse, and reverse over reverse."""
    monkeypatch.setattr(levels, "LOG", Levels(2, 2))
    assert [span.sizes for span in spans_of(levels.LOG, np.zeros((8, 1)))] == [(4, 2)]
    assert_close(*outcomes(8, True, hvp, grad_of_grad))


def test_of_a_symbolic_time_it_is_auto():
    """Where nobody knows the number of levels."""
    (T,) = export.symbolic_shape("T")
    params, state, xs = problem(CELLS["elman"], (4, 2, 2, 3))
    xs = jax.ShapeDtypeStruct((T, *xs.shape[1:]), xs.dtype)

    def program(residuals):
        run = functools.partial(jl.elman, residuals=residuals)
        return str(jax.make_jaxpr(jax.grad(loss_of(run)))(params, state, xs))

    assert program("log") == program("auto")
