"""WRONG FACTORS of one step's chain rule, each once: what people write where a derivative belongs.

    s (1 - s)   1 - t²   (2')        c_prev, f, g, i   (3')        tanh(c), o (1 - tanh²(c))   (4')

`grade` multiplies a twin's cotangent by them, and the slow backward a whole sequence's. A table is
{what stands there: (what that is in words, its value)}.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

Factors: TypeAlias = dict[str, tuple[str, Callable[..., Any]]]


def sigmoid(a):
    return 0.5 * (1 + np.tanh(0.5 * a))


def slope(s):
    return s * (1 - s)


SIGMOID: Factors = {  # for s (1 - s), of s
    "1": ("the derivative factor missing", np.ones_like),
    "s": ("the factor 1 - s missing", lambda s: s),
    "1 - s": ("the factor s missing", lambda s: 1 - s),
    "s (1 + s)": ("1 + s for 1 - s", lambda s: s * (1 + s)),
    "s (s - 1)": ("s (s - 1), the derivative factor's sign", lambda s: -slope(s)),
    "1 - s²": ("the derivative factor of tanh", lambda s: 1 - s * s),
    "(s (1 - s))²": ("the derivative factor taken twice", lambda s: slope(s) ** 2),
    "s'(s)": (
        "sigmoid once more: what is given is the result already",
        lambda s: slope(sigmoid(s)),
    ),
}
TANH: Factors = {  # for 1 - t², of t
    "1": ("the derivative factor missing", np.ones_like),
    "1 - t": ("t for t²", lambda t: 1 - t),
    "1 + t²": ("1 + t² for 1 - t²", lambda t: 1 + t * t),
    "t²": ("t² for 1 - t²", lambda t: t * t),
    "t² - 1": ("t² - 1, the derivative factor's sign", lambda t: t * t - 1),
    "(1 - t)²": ("(1 - t)² for 1 - t²", lambda t: (1 - t) ** 2),
    "t (1 - t)": ("the derivative factor of the sigmoid", slope),
    "(1 - t²)²": ("the derivative factor taken twice", lambda t: (1 - t * t) ** 2),
    "tanh'(t)": (
        "tanh once more: what is given is the result already",
        lambda t: 1 - np.tanh(t) ** 2,
    ),
}

HIDDEN_O: Factors = {  # for tanh(c) in do, of o, c and t = tanh(c)
    "c": ("tanh of the wrong c: c where tanh(c) belongs", lambda o, c, t: c),
    "1": ("the factor tanh(c) missing", lambda o, c, t: np.ones_like(t)),
    "1 - tanh²(c)": ("1 - tanh²(c) for tanh(c)", lambda o, c, t: 1 - t * t),
}
HIDDEN_C: Factors = {  # for o (1 - tanh²(c)) in dc, likewise
    "1 - tanh²(c)": ("the factor o missing in dc", lambda o, c, t: 1 - t * t),
    "o (1 - tanh(c))": ("1 - tanh(c) for 1 - tanh²(c)", lambda o, c, t: o * (1 - t)),
    "o (1 - c²)": ("1 - c² for 1 - tanh²(c)", lambda o, c, t: o * (1 - c * c)),
    "o tanh²(c)": ("tanh²(c) for 1 - tanh²(c)", lambda o, c, t: o * t * t),
    "o tanh'(tanh(c))": ("tanh of tanh(c)", lambda o, c, t: o * (1 - np.tanh(t) ** 2)),
    "o tanh(c)": ("tanh(c) for 1 - tanh²(c)", lambda o, c, t: o * t),
}

PARTNERS = {"df": "c_prev", "dc_prev": "f", "di": "g", "dg": "i"}  # the right factors of (3')
OF_CELL = ("f", "c_prev", "i", "g")


def pick_out(n, *args):
    return args[n]


def cell_factors(answer) -> Factors:
    """For the partner in (3'), of f, c_prev, i and g."""
    right = PARTNERS[answer]
    table: Factors = {
        k: (f"{k} for {right}", functools.partial(pick_out, n))
        for n, k in enumerate(OF_CELL)
        if k != right
    }
    return table | {"1": (f"the factor {right} missing", lambda *args: np.ones_like(args[0]))}


CELL: dict[str, Factors] = {answer: cell_factors(answer) for answer in PARTNERS}
