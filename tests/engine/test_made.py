"""What makers return: equal makes are equal, JAX compiles them once, pickle brings them back."""

import copy
import functools
import importlib
import inspect
import pickle
import sys
import types

import jax
import jax.numpy as jnp
import optax
import pytest

import jax_lstm as jl
from jax_lstm.training.update import language_model_loss, make_update

ADAM = optax.adam(1e-3)
FOLDERS = ("stages", "referee", "training.update", "interop.torch", "interop.flax", "interop.keras")


def auto():
    """As people write it."""
    return functools.partial(jl.lstm, residuals="auto")


MAKES = {
    "make_rnn": lambda: jl.make_rnn(jl.zoneout(jl.LSTM)),
    "make_rnn, with a name": lambda: jl.make_rnn(jl.GRU, "mine", "Mine."),
    "make_cell": lambda: jl.make_cell(jl.zoneout(jl.recurrent_dropout(jl.GRU))),
    "routes": lambda: jl.routes(jl.recurrent_dropout(jl.LSTMP), "a cell"),
    "make_states": lambda: jl.make_states(jl.LSTM),
    "make_linearised": lambda: jl.make_linearised(jl.ELMAN, ["a"]),
    "tbptt": lambda: jl.tbptt(2, 3),
    "tbptt of a partial": lambda: jl.tbptt(2, 3, auto()),
    "tbptt of a partial of a make": lambda: jl.tbptt(
        2, 3, functools.partial(jl.make_rnn(jl.zoneout(jl.LSTM))[0], unroll=2)
    ),
    "tbptt_stream": lambda: jl.tbptt_stream(2, 5, auto()),
    "over_devices": lambda: jl.over_devices(auto()),
    "over_units": lambda: jl.over_units(),
    "partial": lambda: jl.partial(jl.lstm, residuals=3, unroll=2),
    "partial of a partial": lambda: jl.partial(auto(), unroll=2),
    "a cell": lambda: jl.LSTM._replace(),
    "a cell made of a cell": lambda: jl.zoneout(jl.LSTMP),
}


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_equal_makes_are_equal_and_pickled(make):
    one, other = make(), make()
    for equal in (other, pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
        assert equal == one
        assert hash(equal) == hash(one)
    assert one != jl.make_rnn(jl.ELMAN)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (jl.make_rnn(jl.LSTM)[0], jl.make_rnn(jl.LSTM)[1]),
        (jl.make_rnn(jl.LSTM)[0], jl.make_rnn(jl.LSTM, "lstm")[0]),
        (jl.make_rnn(jl.zoneout(jl.LSTM))[0], jl.make_rnn(jl.recurrent_dropout(jl.LSTM))[0]),
        (jl.tbptt(2, 3), jl.tbptt(2, 4)),
        (jl.tbptt(2, 3), jl.tbptt(2, 3, auto())),
        (jl.tbptt_stream(2, 3).begin, jl.tbptt_stream(2, 3).advance),
        (jl.partial(jl.lstm, unroll=1), jl.partial(jl.lstm, unroll=True)),
        (jl.partial(jl.lstm, unroll=1), jl.partial(jl.lstm_autodiff, unroll=1)),
        (jl.partial(jl.lstm, lengths=jnp.ones(2)), jl.partial(jl.lstm, lengths=jnp.ones(2))),
    ],
    ids=range(9),
)
def test_what_is_not_the_same_is_not_equal(one, other):
    assert one != other
    assert len({one, other}) == 2


def test_an_update_equals_one_of_the_same_parts():
    assert make_update(ADAM, language_model_loss) == make_update(ADAM, language_model_loss)
    assert make_update(ADAM, language_model_loss) != make_update(ADAM, jl.lstm)


def test_jax_compiles_equal_makes_once():
    """As a static argument, made anew at each step."""
    traced = []

    @functools.partial(jax.jit, static_argnames="sequence")
    def step(params, state, xs, sequence):
        traced.append(sequence)
        return sequence(params, state, xs)

    params = jl.init_lstm(jax.random.key(0), 3, 5)
    args = (params, jl.init_lstm_state(params, (2,)), jnp.ones((4, 2, 3), jnp.float32))
    makes = (
        lambda: jl.make_rnn(jl.LSTM)[0],
        lambda: jl.tbptt(2, 3, auto()),
        lambda: jl.partial(jl.lstm, residuals="auto"),
        lambda: pickle.loads(pickle.dumps(jl.lstm)),
    )
    for n, make in enumerate(makes, 1):
        for _ in range(3):
            step(*args, sequence=make())
        assert len(traced) == n


# Pickles --------------------------------------------------------------------------------------


def public_functions():
    for module in (jl, *(importlib.import_module(f"jax_lstm.{name}") for name in FOLDERS)):
        own = [k for k, x in vars(module).items() if k[0] != "_" and inspect.isfunction(x)]
        names = getattr(module, "__all__", own)
        yield from ((f"{module.__name__}.{k}", getattr(module, k)) for k in names)


def test_every_public_function_is_pickled_by_name():
    found = {name: x for name, x in public_functions() if callable(x)}
    assert len(found) > 150
    for protocol in (0, pickle.HIGHEST_PROTOCOL):
        lost = [k for k, x in found.items() if pickle.loads(pickle.dumps(x, protocol)) is not x]
        assert lost == []
    back = pickle.loads(pickle.dumps(auto()))
    assert (back.func, back.keywords) == (jl.lstm, {"residuals": "auto"})
    assert len(pickle.dumps(jl.lstm)) < 100  # a name, and nothing of what it is made of


@pytest.mark.parametrize(
    "make", [jl.make_rnn, jl.make_cell, jl.make_states], ids=lambda make: make.__name__
)
def test_what_cannot_be_pickled_says_how(make):
    own = jl.ELMAN._replace(name="mine", project=lambda w, xs: jl.ELMAN.project(w, xs))
    made = make(own)
    made = made[0] if isinstance(made, tuple) else made
    for function in (made, functools.partial(made, consts=None)):
        with pytest.raises(
            pickle.PicklingError, match=f"{make.__name__} .* at the top of a module, or make"
        ):
            pickle.dumps(function)


def test_a_pickler_that_takes_more_is_let_try(monkeypatch):
    """cloudpickle pickles functions by value; that it is imported changes nothing for pickle."""
    own = jl.ELMAN._replace(name="mine", project=lambda w, xs: jl.ELMAN.project(w, xs))
    made = jl.make_rnn(own)[0]
    module = types.ModuleType("joblib.externals.cloudpickle")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec("def reduce(made):\n    return made.__reduce__()", module.__dict__)
    assert module.reduce(made)[1] == made.made
    with pytest.raises(pickle.PicklingError, match="at the top of a module"):
        pickle.dumps(made)


def test_a_made_function_is_a_function_to_everyone():
    assert str(inspect.signature(jl.lstm_cell)).startswith("(params, state, x, *, consts=None")
    assert inspect.isroutine(jl.lstm)  # so help() shows it as one
    assert "Cotangents are accepted" in inspect.getdoc(jl.lstm)
    method = type("Model", (), {"cell": jl.lstm})().cell
    assert method.__func__ is jl.lstm
    with pytest.raises(TypeError, match=r"lstm\(\) missing a required argument: 'xs'; it takes"):
        jl.lstm(1, 2)
