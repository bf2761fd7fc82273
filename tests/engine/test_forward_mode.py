"""Forward mode by hand: values and tangents against `jax.jvp` of the twin, in float64 at 1e-12."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from tests.tables import (
    CELLS,
    SIZE,
    assert_close,
    assert_same,
    everything,
    masks_of,
    normal_like,
    problem,
)

T, B, D, H = SIZE
RNG, (MASK, _) = np.random.default_rng(1), masks_of()
OPTIONS = {"plain": {}, "everything": everything()}


def compare(cell, params, state, xs, dots, fixed, fresh=()):
    """Ours and JAX's, of the cell's twin, for directions of all that has one."""
    public = getattr(jl, f"{cell.name}_jvp", jl.make_jvp(cell))
    run, twin = public, jl.make_rnn(cell)[1]
    more = {"reset_state": fresh[0]} if fresh else {}

    def plain(params, state, xs, *fresh):
        return twin(params, state, xs, **fixed, **({"reset_state": fresh[0]} if fresh else {}))

    got = run(params, state, xs, dots, **fixed, **more)
    args = (params, state, xs, *fresh)
    want = jax.jit(functools.partial(jax.jvp, plain))(args, dots)
    assert_close(got, want)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_tangents_of_a_sequence(cell, options):
    row, options = CELLS[cell], OPTIONS[options]
    params, state, xs = problem(row)
    fresh = (normal_like(5, state),) if "resets" in options else ()
    dots = tuple(normal_like(20 + n, x) for n, x in enumerate((params, state, xs, *fresh)))
    compare(row.cell, params, state, xs, dots, options, fresh)


def test_the_transposes_of_the_twins_are_the_tangents():
    """Where a cell brings no tangent: `step_bwd` and `weights_bwd`, read from the other side."""
    args = problem(CELLS["lstm"])
    dots = tuple(normal_like(20 + n, x) for n, x in enumerate(args))
    by_transpose = jl.make_jvp(jl.LSTM._replace(step_jvp=None, weights_jvp=None))
    assert_close(by_transpose(*args, dots), jl.make_jvp(jl.LSTM)(*args, dots))


def test_masks_are_constants():
    params, state, xs = problem(CELLS["lstm"])
    cell = jl.zoneout(jl.recurrent_dropout(jl.LSTM))
    masks = tuple((RNG.random((T, B, H)) < 0.5).astype(float) for _ in state)
    xs = (xs, masks)
    consts = 2.0 * (RNG.random((B, H)) < 0.5)
    zeros = jax.tree.map(np.zeros_like, masks)
    dots = (normal_like(20, params), normal_like(21, state), (normal_like(22, xs[0]), zeros))
    compare(cell, params, state, xs, dots, {"consts": consts, "mask": MASK})


def test_no_direction_is_one_of_zeros():
    params, state, xs = problem(CELLS["lstm"])
    run, dot = jl.make_jvp(jl.LSTM), normal_like(3, xs)
    zeros = jax.tree.map(jnp.zeros_like, (params, state))
    assert_same(run(params, state, xs, (None, None, dot)), run(params, state, xs, (*zeros, dot)))


def test_what_is_masked_may_be_nan():
    params, state, xs = problem(CELLS["lstm"])
    dot, valid = normal_like(3, xs), MASK[..., None]
    run = functools.partial(jl.make_jvp(jl.LSTM), params, state, mask=MASK)
    clean = run(xs, (None, None, dot))
    assert_same(run(jnp.where(valid, xs, jnp.nan), (None, None, dot)), clean)
    assert_same(run(xs, (None, None, jnp.where(valid, dot, jnp.nan))), clean)


BAD = {
    "a list": (lambda p, s, x: [p, s, x], "`tangents` must be (params_dot"),
    "two": (lambda p, s, x: (p, s), "`tangents` must be (params_dot"),
    "swapped": (lambda p, s, x: (s, p, x), "`tangents[0]` must be like `params`"),
    "a shape": (lambda p, s, x: (p, s, x[1:]), "`tangents[2]` must be like `xs`"),
    "no resets": (lambda p, s, x: (p, s, x, s), "`tangents[3]` is the direction of `reset_state`"),
    "a plain tuple": (lambda p, s, x: (tuple(p), s, x), "`tangents[0]` must be like `params`"),
}


@pytest.mark.parametrize("name", BAD)
def test_doors(name):
    args = problem(CELLS["lstm"])
    tangents, message = BAD[name]
    with pytest.raises(ValueError, match=r"^") as error:
        jl.make_jvp(jl.LSTM)(*args, tangents(*args))
    assert message in str(error.value)
