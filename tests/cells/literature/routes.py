"""Numbers nobody here made up, and the routes to a gradient. Sources: fixtures/README.md.

Every check runs over the routes: slowly by hand (textbook), by hand, by JAX.
"""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jax_lstm as jl
from jax_lstm import textbook
from tests.tables import quick_jit

FIXTURES = pathlib.Path(__file__).parents[2] / "fixtures"


def read(name):
    """A fixture as it is written."""
    return json.loads((FIXTURES / f"{name}.json").read_text())


def load(name):
    """A fixture with its lists of numbers as arrays."""

    def arrays(x):
        if isinstance(x, dict):
            return {k: arrays(v) for k, v in x.items()}
        if isinstance(x, list):
            return [arrays(v) for v in x] if isinstance(x[0], dict) else jnp.asarray(np.array(x))
        return jnp.asarray(x) if isinstance(x, float) else x

    return arrays(read(name))


textbook_forward = quick_jit(textbook.forward)
textbook_backward = quick_jit(textbook.backward)


def lstm_by_textbook(params, state, xs):
    """The signature of `lstm`, for values only."""
    steps = textbook.forward(textbook.from_packed(*params), xs, *state)
    return jl.LSTMState(steps[-1]["h"], steps[-1]["c"]), jnp.stack([s["h"] for s in steps])


def lstm_by_steps(params, state, xs):
    """One step by hand, time by JAX."""
    return lax.scan(functools.partial(jl.lstm_cell, params), state, xs)


def by_any_route(route, args, dy):
    """What `lstm` returns, and the cotangents of its arguments, by any route."""
    if route is not lstm_by_textbook:
        y, vjp = jax.vjp(route, *args)
        return y, vjp(dy)
    params, state, xs = args
    p = textbook.from_packed(*params)
    steps = textbook.forward(p, xs, *state)
    (dh_T, dc_T), dhs = dy
    d = textbook.backward(p, steps, dhs, dh_T, dc_T)
    dparams = jl.LSTMParams(*textbook.to_packed(d.dparams))
    return route(*args), (dparams, jl.LSTMState(d.dh0, d.dc0), d.dxs)


value_and_cotangents = quick_jit(by_any_route, static_argnums=0)


ROUTES = {
    "lstm": jl.lstm,
    "lstm, every step run again": functools.partial(jl.lstm, residuals=1),
    "lstm_cell under scan": lstm_by_steps,
    "lstm_autodiff": jl.lstm_autodiff,
    "textbook": lstm_by_textbook,
}


def over(routes):
    return pytest.mark.parametrize("route", routes.values(), ids=routes.keys())
