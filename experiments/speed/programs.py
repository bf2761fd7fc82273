"""From a contestant to something with a stopwatch on it: compiled, its memory read, its answer
compared with `reference`. One that disagrees is an error: what it computes is not the question.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from experiments.kit.errors import relative_error
from experiments.speed import floor, hlo
from experiments.speed.contestants import CONTESTANTS, ours, reason_to_miss, vdot
from experiments.speed.peers_torch import threads, torch_layer
from experiments.speed.problems import Absent, map_arrays, valid_steps
from jax_lstm.sharding import on_one_device

# By norm, relative, for every output and every cotangent. float32 sums of T steps differ by order,
# 16 bits by what each library keeps in them (c and the gates are float32 in ours).
TOLERANCE = {"float64": 1e-10, "float32": 1e-4, "bfloat16": 1e-1}
ACCELERATOR = 1e-2
# What is timed, and by whom: None is everybody but AJ. Forward mode keeps nothing, so that frugal
# is not in it.
PASSES = {
    "gradient": None,
    "forward": None,
    "jvp": ("lstm", "A0", "A1"),
    "grad_of_grad": ("lstm", "frugal", "A0", "A1"),
    "eager": ("lstm", "A0", "A1", "AJ"),
}
BY_JAX = ("jvp", "grad_of_grad")  # held to A0's answer; the others to ours
OUTPUTS = ("forward", "jvp")  # these answer with what goes up, the others with what comes back


class Disagrees(Exception):
    """A contestant computes something else."""


class Runner(NamedTuple):
    """run() does the work once and waits for it; facts are what the compiler said, text is what it
    made (None: torch); errors are relative to `reference`, by name, None for what has no answer to
    compare (the bare products)."""

    run: Callable[[], Any]
    facts: dict
    text: str | None
    errors: dict | None


def names_of(lengths=False, devices=1, counts=None):
    """Everybody who might take part, in the order of a round. counts: torch's threads, where they
    are not those of this machine."""
    names = list(CONTESTANTS)
    if lengths:
        names.insert(1, "no-lengths")
    if devices > 1:
        names += [f"{name} on {devices}" for name in ("lstm", "A0")]
    return [*names, "G", *(f"P{n}" for n in counts or threads())]


def takes_part(name, kind):
    """Whether somebody of this name is timed in this pass."""
    return name != "AJ" if PASSES[kind] is None else name in PASSES[kind]


def runners(name, problem, passes, answer, *, devices=1, budget=None, size=None):
    """pass -> Runner, of those passes that this one takes part in; or Absent with a reason.

    Args:
      name: one of `names_of`.
      problem, passes: what to run.
      answer: of `reference(problem)`.
      devices: host devices that "... on N" splits the batch over.
      budget: bytes; a compiled program that needs more is absent.
      size: (T, B, H), for the counts.
    """
    passes = [kind for kind in passes if takes_part(name, kind)]
    if not passes:
        return {}
    if why := reason_to_miss(name[0] if name[0] == "P" else name, problem):
        raise Absent(why)
    if name[0] == "P":
        made, found = torch_layer(problem, int(name[1:])), {}
        for kind in passes:
            run, ours = made[kind]
            found[kind] = Runner(run, {}, None, compare(name, kind, ours(run()), answer, problem))
        return found
    if name == "G":
        return bare_products(problem, passes, budget, size)
    return jax_runners(name, problem, passes, answer, devices, budget, size)


def bare_products(problem, passes, budget, size):
    """G."""
    inputs = (problem.layers, problem.states, problem.xs, problem.dhs)
    forward_of, both_of = (
        functools.partial(f, both_ways=problem.both_ways)
        for f in (floor.products_forward, floor.products)
    )
    forwards = lambda *inputs: [hs for hs, _ in forward_of(*inputs)]
    both = {"gradient": (both_of, inputs), "forward": (forwards, inputs[:3])}
    gates = gates_of(problem)
    return {
        kind: Runner(*compile_program(*both[kind], budget, size, gates), None) for kind in passes
    }


def jax_runners(name, problem, passes, answer, devices, budget, size):
    base = name.removesuffix(f" on {devices}")
    build = ours("full", use_lengths=False) if base == "no-lengths" else CONTESTANTS[base]
    contestant = build(problem)
    put = map_arrays(jnp.asarray, problem)
    args = jax.jit(contestant.to)(put.layers, put.states, put.xs)
    dhs = jnp.moveaxis(put.dhs, 0, contestant.time)
    dots = along(contestant, put) if set(BY_JAX) & set(passes) else None
    programs = {
        "gradient": functools.partial(gradient, contestant.call),
        "forward": contestant.call,
        "jvp": contestant.jvp or functools.partial(tangent, contestant.call),
        "grad_of_grad": contestant.hvp or functools.partial(hessian_product, contestant.call),
    }
    inputs = {
        "gradient": (args, dhs, put.lengths),
        "forward": (args, put.lengths),
        "jvp": (args, dots, put.lengths),
        "grad_of_grad": (args, dots, dhs, put.lengths),
    }
    if base != name:
        programs, inputs = over_devices(contestant, devices, args, dhs)
    found = {}
    for kind in passes:
        if kind == "eager":
            f = functools.partial(programs["gradient"], *inputs["gradient"])
            run, facts, text = on_one_device()(lambda f=f: jax.block_until_ready(f())), {}, None
        else:
            with on_one_device(base == name):
                run, facts, text = compile_program(
                    programs[kind], inputs[kind], budget, size, gates_of(problem)
                )
        got = in_our_layout(kind, contestant, problem, run())
        found[kind] = Runner(run, facts, text, compare(name, kind, got, answer, problem))
    return found


def gates_of(problem):
    """The blocks of W: 4 of an LSTM."""
    return problem.layers[0].W.shape[1] // problem.layers[0].W.shape[0]


def along(contestant, problem):
    """A direction in everything, drawn once for all, in the contestant's own layout."""
    inputs = (problem.layers, problem.states, problem.xs)
    rng = np.random.default_rng(1)
    draw = lambda x: jnp.asarray(rng.normal(size=x.shape) / x.shape[-1] ** 0.5, x.dtype)
    return jax.jit(lambda *pair: jax.jvp(contestant.to, *pair)[1])(
        inputs, jax.tree.map(draw, inputs)
    )


# Programs ---------------------------------------------------------------------------------------


def gradient(call, args, dhs, lengths):
    """Of vdot(hs, dhs), in everything: parameters, states, xs. All of it comes out, so that
    nothing of it can be left undone. `eager` is the same, called a second time without a jit."""
    return jax.grad(lambda args: vdot(call(args, lengths)[1], dhs))(args)


def tangent(call, args, dots, lengths):
    """`jax.jvp` in everything: (what comes out, its tangent)."""
    return jax.jvp(lambda args: call(args, lengths), (args,), (dots,))


def hessian_product(call, args, dots, dhs, lengths):
    """The Hessian of vdot(hs, dhs) times a direction, in everything, by JAX: forward over reverse,
    which is the faster of its ways, so that it keeps one backward's numbers and no more. Ours has
    `lstm_hvp` for it, see contestants.py; nobody differentiates a gradient by `jax.grad`."""
    return jax.jvp(lambda args: gradient(call, args, dhs, lengths), (args,), (dots,))[1]


def over_devices(contestant, n, args, dhs):
    """The same with the batch split over n devices; weight cotangents are summed at the end."""
    if len(jax.devices()) < n:
        raise Absent(f"{len(jax.devices())} device(s)")
    if dhs.shape[1] % n:
        raise Absent(f"B = {dhs.shape[1]} does not divide by {n}")
    mesh = jax.make_mesh((n,), ("batch",), devices=jax.devices()[:n])
    everywhere, rows, steps = (PartitionSpec(*axes) for axes in ((), ("batch",), (None, "batch")))
    layout = (everywhere, rows, steps)
    shard = functools.partial(jax.shard_map, mesh=mesh)

    def sharded_forward(call, args):
        return shard(lambda *a: call(a, None), in_specs=layout, out_specs=(rows, steps))(*args)

    def sharded_gradient(call, args, dhs):
        def local(layers, states, xs, dhs):
            layers = jax.tree.map(lambda x: lax.pcast(x, "batch", to="varying"), layers)
            dlayers, dstates, dxs = gradient(call, (layers, states, xs), dhs, None)
            return lax.psum(dlayers, "batch"), dstates, dxs

        return shard(local, in_specs=(*layout, steps), out_specs=layout)(*args, dhs)

    def place(trees, specs):
        return tuple(
            jax.device_put(tree, NamedSharding(mesh, spec))
            for tree, spec in zip(trees, specs, strict=True)
        )

    args, (dhs,) = place(args, layout), place((dhs,), (steps,))
    of = lambda f: functools.partial(f, contestant.call)
    programs = {"gradient": of(sharded_gradient), "forward": of(sharded_forward)}
    return programs, {"gradient": (args, dhs), "forward": (args,)}


def compile_program(f, inputs, budget, size, gates=4):
    """(function of no arguments, facts, optimised HLO). Traced, lowered and compiled anew: nothing
    is cached."""
    jax.clear_caches()
    start = time.perf_counter()
    program = jax.jit(f).lower(*inputs).compile()
    seconds = time.perf_counter() - start
    facts = {"compile_seconds": seconds}
    stats = program.memory_analysis()
    if stats is not None:
        facts |= {
            "temp_bytes": stats.temp_size_in_bytes,
            "argument_bytes": stats.argument_size_in_bytes,
            "output_bytes": stats.output_size_in_bytes,
        }
        total = sum(facts[k] for k in ("temp_bytes", "argument_bytes", "output_bytes"))
        if budget is not None and total > budget:
            raise Absent(f"needs {total / 2**20:,.0f} MiB, the budget is {budget / 2**20:,.0f} MiB")
    if size is not None and size[0] > 1:
        facts |= hlo.count(program.as_text(), size, gates)._asdict()
    return lambda: jax.block_until_ready(program(*inputs)), facts, program.as_text()


# Answers ----------------------------------------------------------------------------------------


def reference(problem, passes=("gradient", "forward")):
    """pass -> its answer in float32 (float64 where the problem is), by name of the leaf: our own
    gradient and forward, and of BY_JAX what JAX makes of A0, so that our rules for them are held to
    something that is not ours."""
    dtype = jnp.promote_types(problem.xs.dtype, jnp.float32)
    wide = map_arrays(lambda x: x.astype(dtype) if x.dtype != jnp.int32 else x, problem)
    args = (wide.layers, wide.states, wide.xs)
    call, plain = ours("full")(wide).call, CONTESTANTS["A0"](wide)
    own, dots = plain.to(*args), along(plain, wide)

    def run(args, own, dots, dhs, n):
        answers = {}
        if {"gradient", "eager"} & set(passes):
            answers["gradient"] = answers["eager"] = gradient(call, args, dhs, n)
        if "forward" in passes:
            answers["forward"] = call(args, n)
        if "jvp" in passes:
            answers["jvp"] = tangent(plain.call, own, dots, n)[1]
        if "grad_of_grad" in passes:
            answers["grad_of_grad"] = hessian_product(plain.call, own, dots, dhs, n)
        return answers

    return jax.tree.map(np.asarray, jax.jit(run)(args, own, dots, wide.dhs, problem.lengths))


def in_our_layout(kind, contestant, problem, result):
    """A JAX contestant's answer as ours has it: a gradient by the transpose of `to`."""
    if kind in OUTPUTS:
        lasts, hs = result if kind == "forward" else result[1]
        return lasts, jnp.moveaxis(hs, contestant.time, 0)
    result = jax.tree.map(np.asarray, result)
    inputs = (problem.layers, problem.states, problem.xs)
    return jax.jit(lambda inputs, d: jax.vjp(contestant.to, *inputs)[1](d))(inputs, result)


def compare(name, kind, got, answer, problem):
    """Relative errors by norm, leaf by leaf; Disagrees where one is beyond the tolerance."""
    got, want = name_leaves(kind, got), name_leaves(kind, answer[kind])
    if name == "no-lengths" and kind == "forward":  # it goes on through the padding
        got, want = {"hs": got["hs"]}, {"hs": want["hs"]}
    if problem.lengths is not None:
        rows = np.asarray(valid_steps(problem.lengths, len(problem.xs)))
        got, want = ({k: v * rows if k == "hs" else v for k, v in t.items()} for t in (got, want))
    errors = {k: relative_error(got[k], want[k]) for k in want}
    tolerance = TOLERANCE[problem.xs.dtype.name]
    if jax.default_backend() != "cpu":  # there float32 products have fewer bits by default
        tolerance = max(tolerance, ACCELERATOR)
    if wrong := {k: f"{e:.1e}" for k, e in errors.items() if not e <= tolerance}:
        whose = "A0" if kind in BY_JAX else "ours"
        raise Disagrees(f"{name} ({kind}) is not what {whose} computes, to {tolerance:g}: {wrong}")
    return errors


def name_leaves(kind, tree):
    """Arrays by name: hs, h1, c1 of a forward; dW1, dU1, db1, dh1, dc1, dxs of a gradient. The
    second of two directions has a 2, as a second layer has."""
    array = lambda x: np.asarray(x).astype(np.float64)
    d = "" if kind in OUTPUTS else "d"
    if kind in OUTPUTS:
        lasts, hs = tree
        found = {"hs": array(hs)}
    else:
        layers, lasts, dxs = tree
        found = {"dxs": array(dxs)}
        for n, layer in enumerate(layers, 1):
            found |= {f"d{k}{n}": array(x) for k, x in layer._asdict().items()}
    for n, last in enumerate(lasts, 1):
        names = getattr(last, "_fields", "hc"[: len(last)])
        found |= {f"{d}{k}{n}": array(x) for k, x in zip(names, last, strict=True)}
    return found
