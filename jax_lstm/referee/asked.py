"""A function on trial as JAX sees it: its floating-point leaves in, its floating-point leaves out.

A question is a set of outputs that get a cotangent; the others get none at all, as where a loss
does not use them. Answers are cotangents of all leaves, a list per draw of the cotangents.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm.referee.comparison import floating, quick_jit
from jax_lstm.referee.report import first_line

DRAWS = 2  # cotangents of every question


class Question(NamedTuple):
    """asked: for the table. outputs: which of the floating-point outputs get a cotangent."""

    asked: str
    outputs: tuple[int, ...]


class Asked(NamedTuple):
    """A function at arguments.

    f: of the arguments. leaves: the floating-point ones, NumPy arrays. rebuild(leaves): arguments.
    names: of the leaves' cotangents. questions: see there. dys: per draw, a list of arrays, one for
    each floating-point output.
    """

    f: Callable[..., Any]
    leaves: list[Any]
    rebuild: Callable[..., Any]
    names: tuple[str, ...]
    questions: tuple[Question, ...]
    dys: list[Any]

    def outputs(self, leaves, f=None):
        """The floating-point outputs, a list."""
        return floats((f or self.f)(*self.rebuild(leaves)))

    def cotangents(self, leaves, question, dy, f=None):
        """Of every leaf, for one draw."""

        def chosen(leaves):
            ys = self.outputs(leaves, f)
            return [ys[n] for n in question.outputs]

        _, vjp = jax.vjp(chosen, list(leaves))
        return vjp([jnp.asarray(dy[n]) for n in question.outputs])[0]

    def numbers(self, leaves):
        """<dy, f> of every question and draw, in one vector; of complex leaves, complex."""
        ys = self.outputs(leaves)
        found = []
        for question in self.questions:
            for dy in self.dys:
                terms = [total(dy[n], ys[n]) for n in question.outputs]
                found.append(sum(terms[1:], start=terms[0]))
        return jnp.stack(found)


def total(dy, y):
    wide = y.dtype if jnp.issubdtype(y.dtype, jnp.complexfloating) else jnp.result_type(float)
    return (jnp.asarray(dy).astype(wide) * y.astype(wide)).sum()


def floats(tree):
    return floating(tree)[0]


def ask(f, args, names, rng, every=True):
    """An Asked of f at args, as they are.

    every: each output by itself as well.

    Raises:
      ValueError: an output is complex, or none is floating point.
    """
    leaves, rebuild = floating(args)
    ys = jax.eval_shape(f, *args)
    paths = [
        (jax.tree_util.keystr(path), y)
        for path, y in jax.tree.leaves_with_path(ys)
        if jnp.issubdtype(y.dtype, jnp.inexact)
    ]
    if not paths:
        raise ValueError("`f` returns nothing of floating point: there is no cotangent to give it")
    if any(jnp.issubdtype(y.dtype, jnp.complexfloating) for _, y in paths):
        raise ValueError("`f` returns complex numbers; a real function is asked for")
    questions = [Question("all outputs" if len(paths) > 1 else "the output", (*range(len(paths)),))]
    if every and len(paths) > 1:
        questions += [Question(f"output{path} alone", (n,)) for n, (path, _) in enumerate(paths)]
    draw = lambda y: np.asarray(rng.standard_normal(y.shape)).astype(y.dtype)
    dys = [[draw(y) for _, y in paths] for _ in range(DRAWS)]
    return Asked(f, leaves, rebuild, tuple(names), tuple(questions), dys)


# Programs -------------------------------------------------------------------------------------


def run(pieces, *args):
    """Several functions of the same arguments as one program, run twice.

    Args:
      pieces: {name: function}. One that cannot be traced is left out.
      args: of all of them.

    Returns:
      found, again: {name: what it returned, as NumPy}, of the first call and of the second.
      why: {name: what a piece that could not be traced or run said}.
    """
    why, sound = {}, {}
    for name, piece in pieces.items():
        try:
            jax.eval_shape(piece, *args)
            sound[name] = piece
        except Exception as error:  # somebody's function may raise anything: `why` tells it
            why[name] = first_line(error)
    if not sound:
        return {}, {}, why
    program = quick_jit(lambda *args: {name: piece(*args) for name, piece in sound.items()})
    try:
        found, again = (jax.tree.map(np.asarray, program(*args)) for _ in range(2))
        return found, again, why
    except Exception as error:  # likewise, where it is compiled or runs
        if len(sound) == 1:
            return {}, {}, why | dict.fromkeys(sound, first_line(error))
    found, again = {}, {}
    for name, piece in sound.items():  # which one raised? Alone it says so, in `why`
        one, twice, said = run({name: piece}, *args)
        found, again, why = found | one, again | twice, why | said
    return found, again, why
