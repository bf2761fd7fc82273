"""DERIVATIVES: every way to take one or two, of every cell. Each is a column of docs/support.md.

A way is `run(loss, args)`, as in programs.py, and what it returns is compared with the same of the
twin `..._autodiff`. All ways of a cell and a mode are one compiled program.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

import jax_lstm as jl
from jax_lstm.experimental import make_both
from tests.programs import flat, gradient, loss_of
from tests.tables import CELLS, TOLERANCE, errors, normal_like, problem, quick_jit

SIZE = (3, 2, 1, 2)


def jvp(loss, args):
    return jax.jvp(loss, args, normal_like(3, args))


def linearize(loss, args):
    y, tangent = jax.linearize(loss, *args)
    return y, tangent(*normal_like(3, args))


def jacfwd(loss, args):
    f, v = flat(loss, args)
    return jax.jacfwd(f)(v)


def jacrev(loss, args):
    f, v = flat(loss, args)
    return jax.jacrev(f)(v)


def hvp(loss, args):
    """Forward over reverse."""
    return jax.jvp(gradient(loss), args, normal_like(3, args))[1]


def hessian(loss, args):
    f, v = flat(loss, args)
    return jax.hessian(f)(v)


def grad_of_grad(loss, args):
    f, v = flat(loss, args)
    return jax.grad(lambda v: (jax.grad(f)(v) ** 3).sum())(v)


def jvp_of_jvp(loss, args):
    return jax.jvp(lambda *args: jvp(loss, args), args, normal_like(4, args))


def each(run):
    """`jax.vmap` of a derivative: of every example by itself."""

    def mapped(loss, args):
        params, state, xs = args
        one = lambda state, xs: run(loss, (params, state, xs))
        return jax.vmap(one, in_axes=(0, 1))(state, xs)

    return mapped


class Way(NamedTuple):
    """run(loss, args); whether it is tried of what `jax_lstm.experimental` makes."""

    run: Callable[..., Any]
    both: bool = False


def by_hand(cell, args):
    """The public forward mode, which is no transform: ((state, hs), their tangents)."""
    return jl.make_jvp(cell)(*args, normal_like(3, args))


def by_hand_of_each(cell, args):
    params, state, xs = args
    one = lambda state, xs: by_hand(cell, (params, state, xs))
    return jax.vmap(one, in_axes=(0, 1))(state, xs)


REVERSE = {"jacrev": jacrev, "hvp": hvp, "hessian": hessian, "grad of grad": grad_of_grad}
FORWARD = {"jvp": jvp, "jacfwd": jacfwd, "linearize": linearize, "jvp of jvp": jvp_of_jvp}
WAYS = {name: Way(run) for name, run in REVERSE.items()}
WAYS |= {f"{name}*": Way(run, both=True) for name, run in FORWARD.items()}
WAYS |= {"hessian*": Way(hessian, both=True), "grad of grad*": Way(grad_of_grad, both=True)}
EACH = {f"vmap of {name}": way._replace(run=each(way.run)) for name, way in WAYS.items()}
BY_HAND = {"NAME_jvp": by_hand, "vmap of NAME_jvp": by_hand_of_each}
COLUMNS = (*BY_HAND, *WAYS, *EACH)
KINDS = {"full": COLUMNS, 2: (*BY_HAND, *WAYS)}  # "auto" is a K as well; vmap sees neither


def runs_of(sequence, both, ways):
    """What one program computes: {way: result} of all ways."""
    return lambda args: {
        name: way.run(loss_of(both if way.both else sequence), args) for name, way in ways.items()
    }


@functools.cache
def wanted(cell):
    """What the twin gives."""
    row, args = CELLS[cell], problem(CELLS[cell], SIZE)
    twin = row.sequence_autodiff
    tangent = lambda args: jax.jvp(twin, args, normal_like(3, args))

    def tangent_of_each(args):
        params, state, xs = args
        return jax.vmap(lambda *a: tangent((params, *a)), in_axes=(0, 1))(state, xs)

    def run(args):
        once = {w: way for w, way in (WAYS | EACH).items() if not w.endswith("*")}
        more = {w: way for w, way in (WAYS | EACH).items() if w.removesuffix("*") not in once}
        found = runs_of(twin, twin, once | more)(args)
        found = {w: found[w if w in found else w.removesuffix("*")] for w in WAYS | EACH}
        return found | dict(zip(BY_HAND, (tangent(args), tangent_of_each(args)), strict=True))

    return quick_jit(run)(args)


def outcomes(cell, mode, ways=None):
    """{way: "works", "wrong ..." or what it is refused with} of a cell and a mode."""
    row, args = CELLS[cell], problem(CELLS[cell], SIZE)
    sequence = functools.partial(row.sequence, residuals=mode)
    both = functools.partial(make_both(row.cell), residuals=mode)

    def run(args, names):
        tried = {name: way for name, way in (WAYS | EACH).items() if name in names}
        hand = {name: f(row.cell, args) for name, f in BY_HAND.items() if name in names}
        return runs_of(sequence, both, tried)(args) | hand

    def judge(got, name):
        error, where = max((e, at) for at, e in errors(got[name], wanted(cell)[name]).items())
        return "works" if error <= TOLERANCE["float64"] else f"wrong by {error} in {where}"

    def attempt(names):
        try:
            got = quick_jit(functools.partial(run, names=names))(args)
        except Exception as complaint:  # whatever it is: it is the field's text, and no "works"
            if len(names) > 1:  # one by one
                return {k: said for name in names for k, said in attempt([name]).items()}
            said = f"{type(complaint).__name__}: {str(complaint).strip().splitlines()[0]}"
            return dict.fromkeys(names, said)
        return {name: judge(got, name) for name in names}

    return attempt(list(ways or KINDS[mode]))
