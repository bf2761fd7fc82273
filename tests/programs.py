"""PROGRAMS: every way that JAX runs a gradient. Each is a row of docs/support.md and of its test.

A program is `run(loss, args)`, args = (params, state, xs), and what it returns is compared with the
same over the twin `..._autodiff`. The subjects are all cells, and what is made of cells. The modes
are those of `residuals`: what is kept for the backward.
"""

import contextlib
import functools
import importlib.util
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jax_lstm as jl
from jax_lstm.engine import bptt, routes
from jax_lstm.sharding import on_one_device
from tests.tables import CELLS, TOLERANCE, errors, normal_like, problem

SIZE = (4, 2, 2, 3)
MODES = ("full", 2, "auto")  # of the page
ALL_MODES = (*MODES, "log")  # levels are many from few steps on, see conftest.py


def loss_of(sequence, **options):
    """Every output and the last state count, and so does which step and which unit it is."""

    def loss(params, state, xs):
        last, hs = sequence(params, state, xs, **options)
        total = sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(last))
        T, H = hs.shape[0], hs.shape[-1]
        weights = jnp.arange(T * H, dtype=hs.dtype).reshape((T, *(1,) * (hs.ndim - 2), H))
        return total + jnp.sum(jnp.cos(hs) * weights)

    return loss


def gradient(loss):
    return jax.grad(loss, (0, 1, 2))


# JAX's transforms -----------------------------------------------------------------------------


def flat(loss, args):
    leaves, tree = jax.tree.flatten(args)
    sizes = [leaf.size for leaf in leaves]

    def of_vector(v):
        parts = jnp.split(v, [sum(sizes[: n + 1]) for n in range(len(sizes) - 1)])
        shaped = [p.reshape(leaf.shape) for p, leaf in zip(parts, leaves, strict=True)]
        return loss(*jax.tree.unflatten(tree, shaped))

    return of_vector, jnp.concatenate([leaf.reshape(-1) for leaf in leaves])


def vmap(loss, args):
    params, state, xs = args
    return jax.vmap(loss, in_axes=(None, 0, 1))(params, state, xs)


def vmap_of_grad(loss, args):
    params, state, xs = args
    return jax.vmap(gradient(loss), in_axes=(None, 0, 1))(params, state, xs)


def vmap_over_params(loss, args):
    params, state, xs = args
    many = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)
    return jax.vmap(gradient(loss), in_axes=(0, None, None))(many, state, xs)


def grad_of_grad(loss, args):
    f, v = flat(loss, args)
    return jax.grad(lambda v: jnp.sum(jnp.sin(jax.grad(f)(v))))(v)


def hvp(loss, args):
    """Forward over reverse."""
    f, v = flat(loss, args)
    return jax.jvp(jax.grad(f), (v,), (normal_like(3, v),))


def hessian(loss, args):
    f, v = flat(loss, args)
    return jax.hessian(f)(v)


def checkpoint(loss, args):
    return gradient(jax.checkpoint(loss))(*args)


def inside_scan(loss, args):
    params, state, xs = args

    def total(params, state, xs):
        def body(acc, x):
            return acc + loss(params, state, x), None

        return lax.scan(body, 0.0, jnp.stack([xs, 2 * xs]))[0]

    return gradient(total)(params, state, xs)


def value_and_grad(loss, args):
    return jax.value_and_grad(loss, (0, 1, 2))(*args)


# How a program is made and run ----------------------------------------------------------------


def eager(loss, args):
    return gradient(loss)(*args)


def jit(loss, args):
    return jax.jit(gradient(loss))(*args)


def ahead_of_time(loss, args):
    shapes = jax.eval_shape(lambda args: args, args)
    return jax.jit(gradient(loss)).lower(*shapes).compile()(*args)


def eval_shape(loss, args):
    """Shapes and dtypes, for which zeros stand."""
    shapes = jax.eval_shape(gradient(loss), *args)
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def donated(loss, args):
    """All that came in is given away, and used for what goes out."""
    args = jax.tree.map(jnp.copy, args)
    found = jax.jit(gradient(loss), donate_argnums=(0, 1, 2))(*args)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(args))
    return found


def pickled(loss, args):
    return jax.jit(gradient(loss))(*pickle.loads(pickle.dumps(args)))


def exported(loss, args):
    """Symbolic batch and time, value and gradient, as bytes, called with two sizes of each."""
    T, B = export.symbolic_shape("T, B")

    def with_sizes(axes):
        return lambda x: jax.ShapeDtypeStruct((*axes, *x.shape[len(axes) :]), x.dtype)

    shapes = [jax.tree.map(with_sizes(s), a) for s, a in zip(((), (B,), (T, B)), args, strict=True)]
    program = export.export(jax.jit(jax.value_and_grad(loss, (0, 1, 2))))(*shapes)
    program = export.deserialize(program.serialize())
    return program.call(*args), program.call(*smaller(args))


def called_twice(loss, args):
    run = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))
    return run(*args), run(*smaller(args))


def smaller(args):
    params, state, xs = args
    return params, jax.tree.map(lambda x: x[:1], state), xs[:3, :1]


# Flags of JAX ---------------------------------------------------------------------------------


def under(run, *flags):
    """The program with these flags of JAX set, `name` to True or `name=value`, traced anew."""

    def flagged(loss, args):
        jax.clear_caches()
        with contextlib.ExitStack() as stack:
            for flag in flags:
                name, _, value = flag.partition("=")
                before = getattr(jax.config, name)
                jax.config.update(name, value or True)
                stack.callback(jax.config.update, name, before)
            return run(loss, args)

    return flagged


def rule_of_vjp3():
    """The hand-written rule as it is where `jax_custom_vjp3` was set before the import."""
    before = jax.config.jax_custom_vjp3
    jax.config.update("jax_custom_vjp3", True)
    spec = importlib.util.spec_from_file_location("bptt_of_vjp3", bptt.__file__)
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    jax.config.update("jax_custom_vjp3", before)
    return again.by_hand


# Meshes ---------------------------------------------------------------------------------------

SPECS = (P(), P("data"), P(None, "data"))


def placed(mesh, args):
    """The batch split over the mesh, the parameters everywhere."""
    return [
        jax.tree.map(lambda x, spec=spec: jax.device_put(x, NamedSharding(mesh, spec)), arg)
        for arg, spec in zip(args, SPECS, strict=True)
    ]


def on_mesh(kind):
    def run(loss, args):
        mesh = jax.make_mesh((2,), ("data",), (kind,), devices=jax.devices()[:2])
        with jax.set_mesh(mesh), on_one_device(False):
            return jax.device_get(jax.jit(gradient(loss))(*placed(mesh, args)))

    return run


def in_shard_map(loss, args):
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    run = jax.shard_map(gradient(loss), mesh=mesh, in_specs=SPECS, out_specs=SPECS)
    with jax.set_mesh(mesh):
        return jax.device_get(jax.jit(run)(*placed(mesh, args)))


# The tables -----------------------------------------------------------------------------------


class Program(NamedTuple):
    """run(loss, args); whether it stands under `jit` here; what it is compared with, `like` over
    the twin; whether its rule is that of `jax_custom_vjp3`."""

    run: Callable[..., Any]
    jitted: bool = False
    like: Callable[..., Any] = jit
    vjp3: bool = False


def transform(run):
    """A transform stands under jit, and is compared with itself over the twin."""
    return Program(run, jitted=True, like=run)


PROGRAMS = {
    "eager": Program(eager),
    "jit": Program(jit),
    "value and grad": transform(value_and_grad),
    "vmap": transform(vmap),
    "vmap of grad": transform(vmap_of_grad),
    "vmap over params": transform(vmap_over_params),
    "grad of grad": transform(grad_of_grad),
    "hvp": transform(hvp),
    "hessian": transform(hessian),
    "checkpoint": transform(checkpoint),
    "inside scan": transform(inside_scan),
    "ahead of time": Program(ahead_of_time),
    "eval_shape": Program(eval_shape, like=eval_shape),
    "donated arguments": Program(donated),
    "pickle": Program(pickled),
    "export, symbolic T and B": Program(exported, like=called_twice),
    "mesh, Auto axes": Program(on_mesh(AxisType.Auto)),
    "mesh, Explicit axes": Program(on_mesh(AxisType.Explicit)),
    "shard_map": Program(in_shard_map),
    "jax_disable_jit": Program(under(eager, "jax_disable_jit")),
    "jax_enable_checks": Program(under(jit, "jax_enable_checks")),
    "jax_check_tracer_leaks": Program(under(jit, "jax_check_tracer_leaks")),
    "jax_debug_nans": Program(under(jit, "jax_debug_nans")),
    "jax_numpy_rank_promotion": Program(under(jit, "jax_numpy_rank_promotion=raise")),
    "jax_remat3": Program(under(checkpoint, "jax_remat3")),
    "jax_custom_vjp3": Program(jit, vjp3=True),
    "jax_custom_vjp3, checkpoint": Program(checkpoint, vjp3=True),
    "jax_custom_vjp3, jax_remat3": Program(under(checkpoint, "jax_remat3"), vjp3=True),
}


class Subject(NamedTuple):
    """A cell, and `around(run)`: a sequence function made of that of the cell."""

    cell: jl.Cell
    around: Callable[..., Any] = lambda run: run
    args: Callable[..., Any] | None = None


def with_masks(run):
    """Zoneout's masks, drawn from nothing: every third unit of h and every second of c is held."""

    def sequence(params, state, xs, **options):
        T, H = xs.shape[0], state[0].shape[-1]
        units = jnp.arange(T * H).reshape((T, *(1,) * (xs.ndim - 2), H))
        masks = ((units % 3 == 0).astype(xs.dtype), (units % 2 == 0).astype(xs.dtype))
        return run(params, state, (xs, masks), **options)

    return sequence


def stack_args():
    _, B, D, H = SIZE
    init = functools.partial(jl.init_lstm, dtype=jnp.float64)
    params = jl.init_stack(jax.random.key(0), D, (H, H), init=init, bidirectional=(True, False))
    states = jl.init_stack_state(params, (B,))
    return normal_like(1, params, 0.5), normal_like(2, states, 0.5), problem(CELLS["lstm"], SIZE)[2]


SUBJECTS = {name: Subject(row.cell) for name, row in CELLS.items()} | {
    "zoneout of lstm": Subject(jl.zoneout(jl.LSTM), with_masks),
    "stack of lstm": Subject(
        jl.LSTM, lambda run: functools.partial(jl.stack, sequence=run), stack_args
    ),
}


@functools.cache
def args_of(subject):
    row = SUBJECTS[subject]
    return row.args() if row.args else problem(CELLS[row.cell.name.split()[0]], SIZE)


@functools.cache
def wanted(subject, like, jitted):
    """What the twin gives; for all programs that give the plain gradient it is computed once."""
    row = SUBJECTS[subject]
    loss = loss_of(row.around(jl.make_rnn(row.cell)[1]))
    run = lambda args: like(loss, args)
    return (jax.jit(run) if jitted else run)(args_of(subject))


def found(subject, program, mode):
    """The error of a program, and where its leaf is; what JAX raises goes through."""
    row, how = SUBJECTS[subject], PROGRAMS[program]
    ours = functools.partial(routes.run_cell, row.cell, rule_of_vjp3()) if how.vjp3 else None
    sequence = functools.partial(ours or jl.make_rnn(row.cell)[0], residuals=mode)
    run = lambda args: how.run(loss_of(row.around(sequence)), args)
    got = (jax.jit(run) if how.jitted else run)(args_of(subject))
    want = wanted(subject, how.like, how.jitted)
    kinds = lambda tree: jax.tree.map(lambda x: np.asarray(x).dtype, tree)
    assert kinds(got) == kinds(want)
    return max((error, where) for where, error in errors(got, want).items())


def outcome(subject, program, mode):
    """ "works", "wrong ..." or what it is refused with."""
    try:
        error, where = found(subject, program, mode)
    except Exception as complaint:
        return f"{type(complaint).__name__}: {str(complaint).strip().splitlines()[0]}"
    return "works" if error <= TOLERANCE["float64"] else f"wrong by {error} in {where}"
