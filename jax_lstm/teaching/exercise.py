"""THE EXERCISE: the stages with their twins left blank, and the loop over time likewise.

    python -m jax_lstm exercise > my_lstm.py        fill in the blanks, then
    python -m jax_lstm grade my_lstm.py

The text is the source of stages/step.py and textbook.py with the answers cut out: it cannot drift
from them, and the solution is what was cut.
"""

import inspect
import re

from jax_lstm import stages, textbook
from jax_lstm.notation import GATES
from jax_lstm.stages import TWINS, twins

EXERCISED = ("linear", "bias", "sigmoid", "tanh", "cell_state", "hidden_state", "fork")
HALVES = {"linear": ("linear_bwd_input", "linear_bwd_weight")}  # of a twin, for the solution

ABOUT = '''"""The gradient of the LSTM, derived by hand: an exercise of one evening.

{picture}

Below each stage stands its twin, `stage_bwd`, which is blank, and so is the chain rule in
`backward` at the end. Derive them with paper and pencil, fill them in, in any order, and ask as
often as you like who is right:

    python -m jax_lstm grade THIS_FILE

The law of twins: dX is dL/dX and has the shape of X. A twin returns the cotangents of the forward's
arguments in their order, None for what has none. `residual` is what it may use of the forward: its
arguments, or its result. What was used more than once is a fork.

Sizes: B examples, D input features, H hidden units, M columns of a matrix, T time steps.
"""
'''
LOOP = """\
        # YOURS: the forward of one step, read bottom-up, twin by twin. Every fork is an addition.
        # Put into d every delta that is named above; what follows needs dx, and for each gate k of
        # GATES dW_k, dU_k and db_k. At the end of the body dh_from_next and dc_from_next are what
        # step t-1 needs.
        d = {}
        raise NotImplementedError
        deltas[t] = d
"""
SHORTER = {
    "jnp.matmul(x, W, preferred_element_type=wide(x.dtype))": "x @ W",
    "align(b, y)": "jnp.broadcast_to(b, y.shape)",
    "sum_of_products(x.astype(dy.dtype), dy)": (
        "x.reshape((-1, x.shape[-1])).T @ dy.reshape((-1, dy.shape[-1]))"
    ),
    ", summed in `wide` precision": "",
    "(..., M), wide.": "(..., M).",
}
IN_NUMPY = {"jax.nn.sigmoid(a)": "1 / (1 + np.exp(-a))", "jnp.": "np."}


def exercise(*, numpy=False, solution=False):
    """The exercise as the text of a Python file.

    Args:
      numpy: in NumPy, not JAX.
      solution: with the blanks filled in.

    Returns:
      Source text. It needs nothing but NumPy, or JAX.
    """
    parts = [ABOUT.format(picture=picture()), imports(numpy)]
    for name in EXERCISED:
        parts += [source(TWINS[name].stage), twin(name, solution)]
    parts += [source(x) for x in (textbook.Params, textbook.Gradients, textbook.forward)]
    parts.append(source(textbook.backward) if solution else blank_loop())
    text = "\n\n".join(part.rstrip("\n") + "\n" for part in parts)
    for old, new in (SHORTER | (IN_NUMPY if numpy else {})).items():
        text = text.replace(old, new)
    return text.replace('"""\n\n\nfrom', '"""\n\nfrom', 1)


def picture():
    """The step as textbook.py draws it."""
    lines = (textbook.__doc__ or "").splitlines()
    return "\n".join(line for line in lines if line.startswith("    "))


def imports(numpy):
    library = "import numpy as np" if numpy else "import jax\nimport jax.numpy as jnp"
    gates = repr(GATES).replace("'", '"')
    return f"from typing import Any, NamedTuple\n\n{library}\n\nGATES = {gates}\n"


def source(thing):
    """Its text; of a function without the types in its signature, whose names an exercise lacks."""
    text = inspect.getsource(thing)
    if not inspect.isfunction(thing):
        return text
    _, body = text.split(":\n", 1)
    return f"def {thing.__name__}{signature(thing)}:\n{body}"


def signature(function):
    """Without its types."""
    found = inspect.signature(function)
    bare = [p.replace(annotation=p.empty) for p in found.parameters.values()]
    return inspect.Signature(bare)


def twin(name, solution):
    """A twin with its halves; or blank, with the number of its equation."""
    rule = TWINS[name].stage_bwd
    if solution:
        halves = [source(getattr(stages, half)) for half in HALVES.get(name, ())]
        return "\n\n".join([source(rule), *halves])
    number = re.search(r"\(\w+'\w?\)", rule.__doc__ or "")
    answers = twins.answers(TWINS[name])
    equations = "    ".join(f"{answer} = ?" for answer in answers if answer)
    return (
        f"def {name}_bwd{signature(rule)}:\n"
        f'    """{equations:74}{number[0] if number else ""}\n\n'
        f'{instruction(name, rule)}\n    """\n'
        "    raise NotImplementedError\n"
    )


def instruction(name, rule):
    """What the twin is given and what it is to return, by its row and its signature."""
    row = twins.without_time(TWINS[name])
    residual, dy = inspect.signature(rule).parameters
    shapes = {k: f"{k} ({', '.join(text.split(','))})" for k, text in row.args}
    if row.residual == ("output",):
        given = f"{residual}, which the forward returned (not {row.args[0][0]})"
    else:
        given = f"{residual} = {', '.join(shapes[k] for k in row.residual) or None}"
    answers = ", ".join(str(answer) for answer in twins.answers(row))
    return (
        f"    Given {given}.\n    {dy} has the form of what the forward returned. Return {answers}."
    )


def blank_loop():
    """textbook.backward without what happens in a step."""
    head, first, rest = source(textbook.backward).partition("        s = steps[t]\n")
    _, last, tail = rest.partition("    dparams = ")
    return head + first + LOOP + last + tail
