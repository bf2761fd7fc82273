"""What the tests share: the table of cells, the table of tolerances, random numbers."""

import contextlib
import functools
import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jax_lstm as jl

# Tolerances by dtype, relative, calibrated once and never widened to pass.
TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 2e-2, "float16": 2e-3}

QUICK = {"xla_backend_optimization_level": 0}  # for programs that run once: LLVM takes longer
quick_jit = functools.partial(jax.jit, compiler_options=QUICK)

# What undoes conftest's flags: a program as users get it, in a module with the fixture `optimised`.
EMITTERS = "xla_cpu_use_fusion_emitters"
AS_FOR_USERS = {EMITTERS: True} if EMITTERS in os.environ.get("XLA_FLAGS", "") else {}

# Whose code does not run under the switches of conftest.py, by the one that is off around it.
RELAXED = {
    "optax": "dtype",  # Adam raises floats to integer powers, and counts its steps in int32
    "flax": "dtype",  # its casts are promotions
    "Keras": "dtype rank",  # likewise; its orthogonal start multiplies (n, m) by (m,)
    "the contestants": "dtype rank",  # of experiments/speed: libraries, and what people write
    "what people write": "rank",  # x @ W + b
}


@contextlib.contextmanager
def relaxed(whose):
    """Around calls of code that is not written for strict promotion; also a decorator."""
    with contextlib.ExitStack() as switches:
        if "dtype" in RELAXED[whose]:
            switches.enter_context(jax.numpy_dtype_promotion("standard"))
        if "rank" in RELAXED[whose]:
            switches.enter_context(jax.numpy_rank_promotion("allow"))
        yield


SIZE = (7, 2, 3, 5)  # T, B, D, H: small and all different, so that no transposed axis can pass


class CellRow(NamedTuple):
    """A cell and the public functions of it. The rows follow from `jl.CELLS`."""

    cell: jl.Cell
    init: Callable[..., Any]
    init_state: Callable[..., Any]
    sequence: Callable[..., Any]
    sequence_autodiff: Callable[..., Any]
    step: Callable[..., Any]
    step_autodiff: Callable[..., Any]


def row_of(cell):
    """The functions people call, by the cell's name. H is what is handed on: where that has a
    letter of its own, it is H here, and there are H + 2 cells; other letters are 2, 3, ..."""
    names = ("{}", "{}_autodiff", "{}_cell", "{}_cell_autodiff")
    run = [getattr(jl, name.format(cell.name)) for name in names]
    handed_on = cell.fields[0][1] if cell.fields else "H"

    def init(key, D, H, dtype):
        more = {name: H if k == handed_on else 2 + n for n, (k, name) in enumerate(cell.sizes)}
        return cell.init(key, D, H if handed_on == "H" else H + 2, dtype=dtype, **more)

    return CellRow(cell, init, getattr(jl, f"init_{cell.name}_state"), *run)


CELLS = {name: row_of(cell) for name, cell in jl.CELLS.items()}

# Those that the first tier of the tests runs; see conftest. Among them are one field of a state and
# two, an output smaller than the cell, a product inside of a gate. The engine is one for all.
FIRST = ("lstm", "elman", "gru", "lstmp")
SHARE = 16  # of each cell beyond them one case in so many is `slow`, the others are `every`


@relaxed("what people write")
def plain_scan(params, state, xs):
    """What people write: the baseline A0, differentiated by JAX."""
    W, U, b = params

    def body(state, x):
        h, c = state
        i, f, g, o = jnp.split(x @ W + h @ U + b, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return jl.LSTMState(h, c), h

    return lax.scan(body, state, xs)


def masks_of(size=SIZE):
    """(mask, resets), booleans (T, B) drawn at random."""
    rng = np.random.default_rng(0)
    return rng.random(size[:2]) < 0.6, rng.random(size[:2]) < 0.4


def everything():
    """All options of a sequence at once, but for what resets lead to; for the sizes of SIZE."""
    mask, resets = masks_of()
    flags = {"lengths": np.array([SIZE[0], 4]), "mask": mask, "resets": resets}
    return flags | {"reverse": True, "residuals": 3, "unroll": 2}


def within(lengths, T):
    """Booleans (T, B): whether a step is one of its example."""
    return jnp.arange(T)[:, None] < jnp.asarray(lengths)[None]


def normal_like(seed, tree, scale=1.0):
    """Random numbers in the shapes and dtypes of a pytree."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(scale * rng.normal(size=x.shape), x.dtype), tree)


def random_state(seed, row, params, batch):
    """Random numbers in the fields that may be held; a clock or a normaliser as the cell begins."""
    begin = functools.partial(row.init_state, batch_shape=batch)
    state = jax.eval_shape(begin, params)
    kept = row.cell.kept or state._fields
    drawn = normal_like(seed, state, 0.5)
    if set(kept) == set(state._fields):
        return drawn
    return begin(params)._replace(**{name: getattr(drawn, name) for name in kept})


def problem(row, size=SIZE, dtype=jnp.float64, seed=0, scale=1.0, batch=None):
    """Random params, state and xs; `scale` multiplies what makes the net inputs. By NumPy: nothing
    is compiled."""
    T, B, D, H = size
    batch = (B,) if batch is None else batch
    shapes = jax.eval_shape(lambda: row.init(jax.random.key(seed), D, H, dtype=dtype))
    params = normal_like(seed, shapes, scale / max(D, H) ** 0.5)
    state = random_state(seed + 1, row, params, batch)
    return params, state, normal_like(seed + 2, jax.ShapeDtypeStruct((T, *batch, D), dtype))


def pullback(f, args, dy, options=None):
    """The outputs of f, and every input's cotangent for the cotangent dy. `options` are the
    compiler's: QUICK, or its own."""

    def both(args, dy):
        y, vjp = jax.vjp(f, *args)
        return y, vjp(dy)

    return jax.jit(both, compiler_options=options)(args, dy)


def value_and_cotangents(f, args, seed=9, options=None):
    """The same for a random cotangent on every output. f is traced once."""

    def both(args):
        y, vjp = jax.vjp(f, *args)
        return y, vjp(normal_like(seed, y))

    return jax.jit(both, compiler_options=options)(args)


def errors(got, want):
    """Per leaf, the largest error relative to the leaf's largest element (1 when that is zero)."""

    def error(a, b):
        assert a.shape == b.shape, (a.shape, b.shape)
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        return float(np.max(np.abs(a - b)) / (np.max(np.abs(b)) or 1.0)) if a.size else 0.0

    leaves = jax.tree_util.tree_leaves_with_path(jax.tree.map(error, got, want))
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def assert_close(got, want, tolerance=TOLERANCE["float64"]):
    bad = {k: e for k, e in errors(got, want).items() if math.isnan(e) or e > tolerance}
    assert not bad, bad


def assert_same(got, want):
    """Equal to the bit."""
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), got, want
    )
