"""Doors: bad input gets a ValueError in the reader's letters, before anything is traced."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from tests.tables import SIZE

T, B, D, H = SIZE
# Of NumPy: nothing is compiled when this file is read.
draw = np.random.default_rng(0).normal
PARAMS = jl.LSTMParams(draw(size=(D, 4 * H)), draw(size=(H, 4 * H)), draw(size=4 * H))
STATE, XS = jl.LSTMState(draw(size=(B, H)), draw(size=(B, H))), draw(size=(T, B, D))
NOBODY = jl.LSTMState(np.zeros(H), np.zeros(H))  # the state of no batch
f32 = np.float32


def lstm(params=PARAMS, state=STATE, xs=XS, **options):
    return jl.lstm(params, state, xs, **options)


BAD = {
    "rank of xs": ({"xs": XS[0, 0, 0]}, "`xs` must be (T, ..., D)"),
    "features of xs": (
        {"xs": np.zeros((7, 2, 4))},
        "`xs` must be (T, ..., D) with D = 3 (rows of params.W); got shape (7, 2, 4)",
    ),
    "batch of the state": ({"xs": np.zeros((T, 4, D))}, "`state.h` must be (4, 5)"),
    "no batch of the state": ({"state": NOBODY}, "`state.h` must be (2, 5)"),
    "c of another shape": ({"state": STATE._replace(c=np.zeros((B, H + 1)))}, "`state.c` must be"),
    "integer xs": ({"xs": np.zeros((T, B, D), int)}, "`xs` must be floating point; got int64"),
    "mixed dtypes": ({"xs": XS.astype(f32)}, "`xs` and params must share one dtype"),
    "dtype of the state": (
        {"state": STATE._replace(h=STATE.h.astype(f32))},
        "`state.h` must be fl",
    ),
    "dtype of params": ({"params": PARAMS._replace(b=PARAMS.b.astype(f32))}, "share one dtype"),
    "shape of W": ({"params": PARAMS._replace(W=PARAMS.W[:, :-1])}, "`params.W` must be (3, 20)"),
    "shape of U": ({"params": PARAMS._replace(U=PARAMS.U[:, :-1])}, "`params.U` must be (5, 20)"),
    "rank of b": ({"params": PARAMS._replace(b=PARAMS.b[None])}, "`params` must be W (D, 4H)"),
    "not an array": ({"xs": XS.tolist()}, "`xs` must be"),
    "params as a dict": ({"params": PARAMS._asdict()}, "`params` must be a NamedTuple of arrays"),
    "no params": ({"params": None}, "`params` must be arrays; got NoneType"),
    "state as a tuple": ({"state": tuple(STATE)}, "`state` must be a NamedTuple of arrays"),
    "another cell's state": (
        {"state": jl.ElmanState(STATE.h)},
        "`state` must have the fields h, c; got ElmanState(h)",
    ),
    "another cell's state of the same fields": (
        {"state": jl.LSTMPState(*STATE)},
        "`state` must be LSTMState(h, c); got LSTMPState(h, c)",
    ),
    "another cell's params of the same fields": (
        {"params": jl.ElmanParams(*PARAMS)},
        "`params` must be LSTMParams(W, U, b); got ElmanParams(W, U, b)",
    ),
    "times for lengths": (
        {"lengths": np.ones(B, "m8[s]")},
        "`lengths` must be integers (2,); got timedelta64[s] (2,)",
    ),
    "no xs": ({"xs": None}, "`xs` must be arrays; got NoneType"),
    "reverse in words": ({"reverse": "no"}, "`reverse` must be True or False"),
    "reset state without resets": ({"reset_state": STATE}, "`resets` is not given"),
    "reset state of a number": (
        {"resets": np.ones((T, B), bool), "reset_state": 1.0},
        "`reset_state` must be like `state`",
    ),
    "residuals": ({"residuals": "none"}, '`residuals` must be "full", "auto", "log" or'),
    "residuals of 0": ({"residuals": 0}, "K >= 1; got 0"),
    "unroll": ({"unroll": 0}, "`unroll` must be an integer >= 1"),
    "unroll in words": ({"unroll": "full"}, '`unroll` must be an integer >= 1 or "auto"; got'),
    "mask of numbers": ({"mask": np.ones((T, B))}, "`mask` must be boolean (T, ...) = (7, 2)"),
    "mask of another shape": ({"mask": np.ones((B, T), bool)}, "`mask` must be boolean"),
    "resets of another shape": ({"resets": np.ones((T,), bool)}, "`resets` must be boolean"),
    "reset state": (
        {"resets": np.ones((T, B), bool), "reset_state": NOBODY},
        "`reset_state` must be like `state`",
    ),
    "float lengths": ({"lengths": np.ones(B)}, "`lengths` must be integers (2,)"),
    "negative lengths": (
        {"lengths": np.array([-1, 2])},
        "`lengths` must lie in [0, T = 7]; got -1",
    ),
    "words for lengths": ({"lengths": "a"}, "`lengths` must be integers (2,); got 'a'"),
    "objects for lengths": (
        {"lengths": np.array([1, 2], object)},
        "`lengths` must be integers (2,); got object (2,)",
    ),
    "truth values among lengths": (
        {"lengths": [True, 2]},
        "`lengths` must be integers (2,); got [True, 2]",
    ),
    "a tuple for the state, and what to give": ({"state": tuple(STATE)}, "give LSTMState(h, c)"),
    "several residuals": (
        {"residuals": np.array([1, 2])},
        '`residuals` must be "full", "auto", "log" or a number of steps K >= 1; got int64 (2,)',
    ),
    "params of integers": (
        {"params": jax.tree.map(lambda p: p.astype(int), PARAMS)},
        "`params` must be floating point; W is int64",
    ),
    "lists of unequal length": ({"lengths": [1, [2]]}, "`lengths` must be integers (2,); got [1"),
    "words for a mask": ({"mask": "all"}, "`mask` must be boolean (T, ...) = (7, 2); got 'all'"),
    "words for resets": ({"resets": "a"}, "`resets` must be boolean (T, ...) = (7, 2); got 'a'"),
    "integers in a pair": (
        {"xs": (XS, np.ones((T, B, 1), int))},
        "`xs[1]` must be floating point; got int64",
    ),
    "long lengths": ({"lengths": np.array([1, 8])}, "`lengths` must lie in [0, T = 7]; got 1 to 8"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize(
    "door", [lstm, lambda **kw: jax.jit(lambda: lstm(**kw))()], ids=["", "jit"]
)
def test_bad_input_of_a_sequence(name, door):
    change, message = BAD[name]
    with pytest.raises(ValueError, match=r"^") as error:
        door(**change)
    assert message in str(error.value)


def test_the_twin_has_the_same_door():
    with pytest.raises(ValueError, match="`xs` must be"):
        jl.lstm_autodiff(PARAMS, STATE, jnp.zeros((7, 2, 4)))


def test_bad_input_of_one_step():
    with pytest.raises(ValueError, match=r"`x` must be \(\.\.\., D\) with D = 3"):
        jl.lstm_cell(PARAMS, STATE, jnp.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"`state.h` must be \(7, 2, 5\)"):
        jl.lstm_cell(PARAMS, STATE, XS)


SCORES = np.zeros((B, D))
BAD_STAGES = {
    "tokens in a list": (jl.embedding, (SCORES, [1, 2]), "`tokens` must be an array; got list"),
    "a table of integers": (
        jl.embedding,
        (np.ones((B, D), int), np.array([0])),
        "`E` must be floating point (V, D)",
    ),
    "dense without names": (
        jl.dense,
        ((SCORES, SCORES[0]), SCORES),
        "`params` must be DenseParams",
    ),
    "an offset of size 1": (
        jl.dense,
        (jl.DenseParams(SCORES, SCORES[0, :1]), np.zeros((4, B))),
        "`params` must be W (H, V), b (V,)",
    ),
    "integer logits": (
        jl.softmax_cross_entropy,
        (np.ones((B, D), int), np.array([0, 1])),
        "`logits` must be floating point (..., V)",
    ),
    "a scalar": (
        jl.softmax_cross_entropy,
        (SCORES[0, 0], np.array(0)),
        "`logits` must be floating",
    ),
    "integers": (jl.squared_error, (np.ones(3, int), np.ones(3, int)), "`y` must be floating"),
    "tokens too large": (
        jl.embedding,
        (SCORES, np.array([0, B])),
        "`tokens` must lie in [0, V = 2)",
    ),
    "tokens negative": (jl.embedding, (SCORES, np.array([-1])), "`tokens` must lie in [0, V = 2)"),
    "tokens of floats": (
        jl.embedding,
        (SCORES, np.zeros(3)),
        "`tokens` must be integers, or one-hot",
    ),
    "dense": (
        jl.dense,
        (jl.DenseParams(SCORES, SCORES[0]), SCORES),
        "`x` must be (..., H) with H = 2",
    ),
    "classes of floats": (
        jl.softmax_cross_entropy,
        (SCORES, SCORES[:, 0]),
        "`targets` must be integers",
    ),
    "classes too large": (
        jl.softmax_cross_entropy,
        (SCORES, np.array([0, 3])),
        "[0, V = 3); got 0 to 3",
    ),
    "targets of another shape": (
        jl.squared_error,
        (SCORES, SCORES[0]),
        "`targets` must be float64 (2, 3)",
    ),
    "answers beyond 1": (
        jl.binary_cross_entropy_with_logits,
        (SCORES, SCORES + 7),
        "`targets` must lie in [0, 1]; got 7 to 7",
    ),
    "answers below 0, as JAX sees it": (
        jl.binary_cross_entropy_with_logits_autodiff,
        (SCORES, SCORES - 0.1),
        "`targets` must lie in [0, 1]; got -0.1 to -0.1",
    ),
    "targets of another dtype": (
        jl.binary_cross_entropy_with_logits,
        (SCORES, SCORES.astype(f32)),
        "`targets` must be float64",
    ),
}


@pytest.mark.parametrize("name", BAD_STAGES)
def test_bad_input_of_readout_and_losses(name):
    f, args, message = BAD_STAGES[name]
    with pytest.raises(ValueError, match=r"^") as error:
        f(*args)
    assert message in str(error.value)


def test_lengths_are_ordinary_traced_arguments():
    traces = []

    @jax.jit
    def run(lengths):
        traces.append(lengths)
        return jl.lstm(PARAMS, STATE, XS, lengths=lengths)

    for lengths in ([1, 2], [3, 0], [T, T]):
        run(jnp.asarray(lengths))
    assert len(traces) == 1


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "int64", "uint64"])
def test_lengths_of_any_integer_dtype(dtype):
    """T may be more than the dtype can hold: times would wrap there."""
    xs, lengths = jnp.ones((300, B, D)), np.array([5, 100], dtype)
    _, hs = jl.lstm(PARAMS, STATE, xs, lengths=lengths)
    assert hs.any(-1).sum(0).tolist() == [5, 100]
    _, hs = jax.jit(lambda n: jl.lstm(PARAMS, STATE, xs, lengths=n))(lengths)
    assert hs.any(-1).sum(0).tolist() == [5, 100]


def test_lists_of_numbers_and_of_booleans():
    """Also empty ones, and such as hold what is only known under jit."""
    want = jl.lstm(PARAMS, STATE, XS, lengths=np.array([3, T]))
    mask = [[t < 3, True] for t in range(T)]
    runs = [lstm(lengths=[3, T]), lstm(mask=mask), jax.jit(lambda n: lstm(lengths=[n, T]))(3)]
    for got in runs:
        jax.tree.map(np.testing.assert_array_equal, got, want)
    nobody = jl.init_lstm_state(PARAMS, (0,))
    assert lstm(state=nobody, xs=XS[:, :0], lengths=[], mask=[[]] * T)[1].shape == (T, 0, H)


COMPLAINTS = {
    "unknown": (lambda: lstm(length=[1, 2]), "lstm() got an unexpected keyword argument 'length'"),
    "one step": (lambda: jl.elman_cell(1, 2, 3, lengths=1), "elman_cell() got an unexpected keyw"),
    "missing": (lambda: jl.lstmp_autodiff(1, 2), "lstmp_autodiff() missing a required argument"),
    "too many": (lambda: jl.stack(1, 2, 3, 4), "stack() too many positional arguments; it takes ("),
    "truncated": (lambda: jl.tbptt(2, 3)(1, 2, 3, x=4), "tbptt(2, 3)() got an unexpected keyword"),
}


@pytest.mark.parametrize("name", COMPLAINTS)
def test_python_complains_by_the_name_that_was_called(name):
    call, message = COMPLAINTS[name]
    with pytest.raises(TypeError) as error:
        call()
    assert str(error.value).startswith(message)


def test_lengths_out_of_range_under_jit_count_as_the_nearest():
    run = jax.jit(lambda lengths: jl.lstm(PARAMS, STATE, XS, lengths=lengths))
    got, want = run(jnp.asarray([-3, 99])), run(jnp.asarray([0, T]))
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_integer_dtypes_of_tokens():
    for dtype in (jnp.int8, jnp.uint8, jnp.int32, jnp.int64):
        assert jl.embedding(SCORES, jnp.asarray([0, 1], dtype)).shape == (2, 3)


def test_closed_over_arrays_are_looked_at_under_jit():
    """Concrete tokens, targets and lengths inside a jitted function are checked all the same."""
    good, bad = jnp.array([0, 2]), jnp.array([0, 3])
    jax.jit(lambda y: jl.softmax_cross_entropy(y, good))(SCORES)
    with pytest.raises(ValueError, match="`targets` must lie in"):
        jax.jit(lambda y: jl.softmax_cross_entropy(y, bad))(SCORES)


@pytest.mark.parametrize("size", [(3, 0), (-3, 2), (2.5, 2), (True, 2), (np.int64(0), 2)])
@pytest.mark.parametrize("init", [jl.init_lstm, jl.init_elman])
def test_sizes_of_a_cell(init, size):
    with pytest.raises(ValueError, match=r"_size` must be a whole number >= "):
        init(jax.random.key(0), *size)


@pytest.mark.parametrize("whole", [np.int64, np.uint8, jnp.int32], ids=lambda kind: kind.__name__)
def test_sizes_as_numpy_counts_them(whole):
    sizes = whole(3), whole(70)
    params = jax.eval_shape(lambda key: jl.init_lstm(key, *sizes), jax.random.key(0))
    assert [p.shape for p in params] == [(3, 280), (70, 280), (280,)]  # 280 is no uint8


def test_answers_that_round_beyond_one_and_such_as_nobody_knows():
    scores = SCORES.astype(f32)
    targets = np.nextafter(np.ones_like(scores), f32(2))
    targets[0, 0] = np.nan
    assert np.isfinite(jl.binary_cross_entropy_with_logits(scores, targets)[1])


def test_forward_mode_is_told_of_the_twin():
    """Where JAX says so while the function is called; inside jit it is JAX's own sentence."""
    by_hand = r"lstm_jvp \(make_jvp of its cell\), or "
    cases = ((jl.lstm, (PARAMS, STATE, XS), by_hand), (jl.squared_error, (SCORES, SCORES), ""))
    for f, args, more in cases:
        with pytest.raises(TypeError, match=f"take {more}its twin, {f.__name__}_autodiff"):
            jax.jvp(f, args, args)


def test_forward_mode_of_a_truncated_gradient_is_told_of_its_sequence():
    for f in (jl.tbptt(2, 2), functools.partial(advance_from_the_start, *jl.tbptt_stream(7, 7))):
        with pytest.raises(TypeError, match="take a `sequence` that JAX differentiates, say"):
            jax.jvp(lambda params, f=f: f(params, STATE, XS), (PARAMS,), (PARAMS,))


def advance_from_the_start(begin, advance, params, state, xs):
    return advance(params, begin(state, xs), xs)


def test_the_state_of_another_cell_s_parameters():
    arrays = [x[..., :H] for x in PARAMS]
    with pytest.raises(ValueError, match=r"must be LSTMParams\(W, U, b\); got ElmanParams"):
        jl.init_lstm_state(jl.ElmanParams(*arrays))
    with pytest.raises(ValueError, match=r"`params.W` must be .*got shape \(3, 5\)"):
        jl.init_lstm_state(jl.LSTMParams(*arrays))


SAME = {  # kinds that are as good as another
    "NumPy's numbers": ({"unroll": np.int8(1), "residuals": np.int64(3)}, {"residuals": 3}),
    "NumPy's truth values": ({"reverse": np.True_}, {"reverse": True}),
    "NumPy's numbers of several kinds": (
        {"lengths": [np.int64(3), np.uint8(T)]},
        {"lengths": [3, T]},
    ),
    "truth values and numbers": (
        {"resets": [[True, 0], [1.0, False], *[[0, 0]] * (T - 2)]},
        {"resets": [[True, False], [True, False], *[[False, False]] * (T - 2)]},
    ),
    "lengths in a tuple": ({"lengths": (3, np.int8(T))}, {"lengths": jnp.asarray([3, T])}),
    "JAX's arrays": ({"xs": jnp.asarray(XS), "params": jax.tree.map(jnp.asarray, PARAMS)}, {}),
}


@pytest.mark.parametrize("name", SAME)
def test_what_is_accepted_means_the_same(name):
    given, canonical = SAME[name]
    jax.tree.map(np.testing.assert_array_equal, lstm(**given), lstm(**canonical))


def test_keys_of_either_kind_draw_the_same():
    new, old = jax.random.key(7), np.array([0, 7], np.uint32)
    draws = [jl.dropout_mask(key, np.float32(0.5), [2, np.int8(3)]) for key in (new, old)]
    np.testing.assert_array_equal(*draws)


def test_what_trains_is_found_where_the_folder_says_so():
    assert jl.training.make_update is jl.training.update.make_update
    with pytest.raises(AttributeError, match=r"no attribute .adam.; it has .*make_up"):
        _ = jl.training.adam


def test_keywords_work():
    assert jl.dense(params=jl.DenseParams(SCORES, SCORES[0]), x=jnp.zeros((4, B))).shape == (4, D)
