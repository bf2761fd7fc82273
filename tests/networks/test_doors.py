"""What a stack, its init and its states refuse, and what they say."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from tests.networks.stacks import B, D, H, T, both_directions, each, problem, some

# name -> (what is changed of two layers in both directions, what is said)
BAD = {
    "a state too few": (lambda two: {"states": two.states[:1]}, "`states` must be"),
    "a direction too few": (lambda two: {"states": tuple(s[:1] for s in two.states)}, "got [1, 1]"),
    "a bare state": (lambda two: {"states": two.states[0][0]}, "got LSTMState"),
    "a bare state per layer": (
        lambda two: {"states": tuple(s[0] for s in two.states)},
        "LSTMState",
    ),
    "no states": (lambda two: {"states": None}, "`states` must be"),
    "consts": (lambda two: {"consts": [None]}, "`consts` must be"),
    "reset states": (lambda two: {"reset_states": two.states[1:]}, "`reset_states` must be"),
    "no layer": (lambda two: {"params": jl.StackParams(())}, "at least one layer"),
    "xs": (lambda two: {"xs": 3.0}, "`xs` must be (T, ..., D)"),
    "features": (lambda two: {"xs": two.xs[..., :1]}, "`xs` must be (T, ..., D) with D = 2"),
    "xs in a list": (
        lambda two: {"xs": two.xs.tolist()},
        "`xs` must be (T, ..., D), an array; got list",
    ),
    "a layer's params": (
        lambda two: {"params": two.params.layers[0][0]},
        "StackParams, see jax_lstm.init_st",
    ),
    "numbers for states": (
        lambda two: {"states": ((1, 2), (3, 4))},
        "(in layer 1, forward direction)",
    ),
    "sequence": (lambda two: {"sequence": "lstm"}, "`sequence` must be a function"),
    "in reverse twice": (
        lambda two: {"sequence": functools.partial(jl.lstm, reverse=True)},
        "`sequence` must run forward in time",
    ),
    "in reverse within": (
        lambda two: {
            "sequence": functools.partial(functools.partial(jl.lstm, reverse=True), unroll=2)
        },
        "`sequence` must run forward in time",
    ),
    "every in words": (lambda two: {"every": "no"}, "`every` must be True or False; got 'no'"),
    "numbers for residual": (lambda two: {"residual": 0.0}, "`residual` must be one of False"),
    "merge of init": (
        lambda two: {"merge": "sum"},
        "`merge` and `skip` must be those of init_stack",
    ),
    "beside": (lambda two: {"beside": [None]}, "`beside` must be ((forward[, reverse]), ...)"),
    "resets unsaid": (lambda two: {"reset_states": two.states}, "`resets` is not given"),
    "words for lengths": (
        lambda two: {"lengths": "long"},
        "`lengths` must be integers (3,); got 'long'",
    ),
    "merge": (
        lambda two: {"merge": "max"},
        "`merge` must be one of 'concat', 'sum', 'mean', 'product'",
    ),
    "merge per layer": (lambda two: {"merge": ("sum",)}, "or a tuple of 2"),
    "residual": (lambda two: {"residual": "yes"}, "`residual` must be one of False, True"),
    "skip": (lambda two: {"skip": "all"}, "`skip` must be"),
    "residual sizes": (
        lambda two: {"residual": True},
        "layer 1: a residual connection needs as many",
    ),
    "another layer's": (
        lambda two: (
            problem(bidirectional=True, sizes=(5, H))._asdict() | {"residual": (False, True)}
        ),
        "got [10] in and [8] out",
    ),
    "pair onto one": (
        lambda two: {"merge": ("pair", "sum"), "residual": (False, True)},
        "layer 2: a residual connection",
    ),
    "skip of pairs": (
        lambda two: {"merge": ("pair", "sum"), "skip": "outputs"},
        'the merge "pair" in',
    ),
    "between": (lambda two: {"between": [two.xs, two.xs]}, "`between` must hold 1 array(s)"),
    "between shape": (
        lambda two: {"between": [two.xs]},
        "broadcastable to (6, 3, 8), the input of layer 2",
    ),
    "between dtype": (
        lambda two: {"between": [jnp.ones((B, 1), bool)]},
        "`between[0]` must be float64",
    ),
    "between rank": (
        lambda two: {"between": [jnp.ones((2, T, B, 1))]},
        "`between[0]` must be float64",
    ),
    "between type": (lambda two: {"between": [1.0]}, "`between[0]` must be float64"),
    "resets": (lambda two: {"resets": jnp.ones((T,), bool)}, "`resets` must be boolean (T, ...)"),
    "mask": (lambda two: {"mask": jnp.ones((T,), bool)}, "`mask` must be boolean (T, ...)"),
    "lengths": (lambda two: {"lengths": np.array([1, 2, 9])}, "`lengths` must lie in [0, T = 6]"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_of_a_stack(name):
    change, message = BAD[name]
    two = both_directions()
    with pytest.raises(ValueError, match=r"^") as error:
        jl.stack(**two._asdict() | change(two))
    assert message in str(error.value)


def test_a_door_within_says_which_layer():
    params, states, xs = both_directions()
    wrong = (states[0], (states[1][0], each(states[1][1], lambda s: s._replace(c=s.c[:1]))))
    with pytest.raises(
        ValueError, match=r"`state.c` must be \(3, 4\).* \(in layer 2 of 2, reverse"
    ):
        jl.stack(params, wrong, xs)


def is_state(x):
    return isinstance(x, jl.LSTMPState)


def lstmps_with_states_of_lstm(two):
    params = problem("lstmp").params
    states = tuple(tuple(jl.init_lstmp_state(p, (B,)) for p in layer) for layer in params.layers)
    states = jax.tree.map(lambda s: jl.LSTMState(s.c, s.c), states, is_leaf=is_state)
    return params, states, two.xs


UNFIT = {
    "one step": (
        lambda two: (two.params, two.states, two.xs[0]),
        {"sequence": jl.lstm_cell},
        "`sequence`, here lstm_cell, must take `reverse`; one step runs a stack in one direction "
        "(in layer 1 of 2, reverse direction)",
    ),
    "another cell's states": (
        lstmps_with_states_of_lstm,
        {"sequence": jl.lstmp},
        "(in layer 1 of 2, forward direction; `init_state` of init_stack_state must be the cell's)",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_does_not_fit_the_sequence(name):
    given, options, message = UNFIT[name]
    with pytest.raises(ValueError, match=r"^") as error:
        jl.stack(*given(both_directions()), **options)
    assert message in str(error.value)


BAD_INIT = {
    "no sizes": ({"hidden_sizes": ()}, "`hidden_sizes` must be a tuple with H of each layer"),
    "one size": ({"hidden_sizes": 4}, "`hidden_sizes` must be a tuple"),
    "bidirectional": ({"bidirectional": (True,)}, "`bidirectional` must be one of False, True"),
    "sizes": ({"hidden_sizes": (4, 5), "residual": (False, True)}, "layer 2: a residual"),
    "pair": ({"bidirectional": (True, False), "merge": "pair"}, "layer 2 has one direction and"),
    "skip": ({"skip": 1}, "`skip` must be"),
    "learnt in words": ({"learn_initial": "no"}, "`learn_initial` must be True or False"),
}


BAD_STATE = {
    "params": (lambda two: (two.params.layers[0][0], (B,)), "`params` must be StackParams"),
    "batch": (lambda two: (two.params, B), "`batch_shape` must be a tuple of whole numbers"),
}


@pytest.mark.parametrize("name", BAD_STATE)
def test_bad_input_of_init_state(name):
    given, message = BAD_STATE[name]
    with pytest.raises(ValueError, match=r"^") as error:
        jl.init_stack_state(*given(both_directions()))
    assert message in str(error.value)


@pytest.mark.parametrize("name", BAD_INIT)
def test_bad_input_of_init(name):
    options, message = BAD_INIT[name]
    with pytest.raises(ValueError, match=r"^") as error:
        jl.init_stack(jax.random.key(0), D, **{"hidden_sizes": (2, 2)} | options)
    assert message in str(error.value)


BAD_LSTMP = {
    "P": (
        lambda p, s, xs: {"params": p._replace(P=p.P.T)},
        "`params.W` must be (2, 16), that is (D, 4H) with",
    ),
    "U": (
        lambda p, s, xs: {"params": p._replace(U=p.U[:-1])},
        "`params.P` must be (6, 3), that is (H, R)",
    ),
    "rank": (
        lambda p, s, xs: {"params": p._replace(P=p.b)},
        "`params` must be W (D, 4H), U (R, 4H)",
    ),
    "dtype of P": (
        lambda p, s, xs: {"params": p._replace(P=p.P.astype(jnp.float32))},
        "share one dtype",
    ),
    "features": (lambda p, s, xs: {"xs": some(T, B, D + 1)}, "`xs` must be (T, ..., D) with D = 2"),
    "dtype of xs": (
        lambda p, s, xs: {"xs": xs.astype(jnp.float32)},
        "`xs` and params must share one dtype",
    ),
    "h of H": (lambda p, s, xs: {"state": s._replace(h=s.c)}, "then R = 4 (rows of params.U)"),
    "c of R": (lambda p, s, xs: {"state": s._replace(c=s.h)}, "then H = 6 (rows of params.P)"),
    "dtype of h": (
        lambda p, s, xs: {"state": s._replace(h=s.h.astype(jnp.float32))},
        "`state.h` must be float64",
    ),
}


@pytest.mark.parametrize("name", BAD_LSTMP)
def test_bad_input_of_lstmp(name):
    change, message = BAD_LSTMP[name]
    params, states, xs = problem("lstmp")
    p, s = params.layers[0][0], states[0][0]
    with pytest.raises(ValueError, match=r"^") as error:
        jl.lstmp(**{"params": p, "state": s, "xs": xs} | change(p, s, xs))
    assert message in str(error.value)


def test_flags_of_numpy_are_flags_of_a_layer():
    make = lambda **flags: jl.init_stack(jax.random.key(0), H, (H, H), **flags)
    given = {"residual": np.True_, "bidirectional": [np.True_, np.False_], "merge": "sum"}
    shapes = jax.eval_shape(lambda: make(**given))
    same = {"residual": True, "bidirectional": (True, False), "merge": "sum"}
    assert shapes == jax.eval_shape(lambda: make(**same))
    with pytest.raises(ValueError, match="`residual` must be one of False, True, or a tuple of 2"):
        make(residual=1)


def test_a_function_without_room_is_refused_by_its_name():
    key, few = jax.random.key(0), lambda x: x
    with pytest.raises(ValueError, match="`init` must be a function of 3 arguments; got"):
        jl.init_stack(key, D, (H,), init=few)
    with pytest.raises(ValueError, match="`init_state` must be a function of 2 arguments; got"):
        jl.init_stack(key, D, (H,), init_state=lambda: None)
    with pytest.raises(ValueError, match="`sequence` must be a function of 3 arguments; got"):
        jl.tbptt(2, 3, few)
