"""The gradient is the sum of its parts, and each part is what it says."""

import jax
import jax.numpy as jnp
import pytest

import jax_lstm as jl
from jax_lstm import textbook
from jax_lstm.analysis import attribution as module
from jax_lstm.notation import GATES
from jax_lstm.stages import cell_state_bwd, hidden_state_bwd, sigmoid_bwd, tanh_bwd
from tests.tables import CELLS, QUICK, SIZE, TOLERANCE, assert_close, normal_like, problem, within

T, B, D, H = SIZE
HOLES = jnp.arange(T * B).reshape(T, B) % 4 != 1
LINEARISED = {
    "lstm": jl.linearised_lstm,
    "elman": jl.linearised_elman,
    "lstmp": jl.make_linearised(jl.LSTMP),
}
CASES = [
    ("lstm", {}),
    ("lstm", {"lengths": jnp.array([4, 7]), "reverse": True}),
    ("lstm", {"mask": HOLES, "resets": jnp.arange(T * B).reshape(T, B) % 3 == 2}),
    ("elman", {}),
    ("elman", {"mask": HOLES, "resets": jnp.arange(T * B).reshape(T, B) % 3 == 2}),
    ("lstmp", {"lengths": jnp.array([4, 7])}),
]


def run(function, *args):
    return jax.jit(function, compiler_options=QUICK)(*args)


def added_up(parts):
    """Parts (T, ways, gates, ...) as one gradient, gates side by side."""
    whole = jax.tree.map(lambda part: part.sum((0, 1)), parts)
    return jax.tree.map(lambda gates: jnp.concatenate(list(gates), axis=-1), whole)


def lengths_of(parts):
    return jax.tree.map(lambda part: jnp.sqrt((part**2).sum(range(3, part.ndim))), parts)


@pytest.mark.half
@pytest.mark.parametrize(
    ("cell", "options"), CASES, ids=[" ".join((cell, *options)) for cell, options in CASES]
)
def test_the_parts_add_up_to_the_gradient(cell, options):
    row = CELLS[cell]
    params, state, xs = problem(row)
    if "lengths" in options:  # padding may hold anything
        xs = jnp.where(within(options["lengths"], T)[..., None], xs, jnp.nan)
    dy = normal_like(9, jax.eval_shape(row.sequence, params, state, xs))

    def both(params, state, xs, dy):
        dstate, dhs = dy
        linear = LINEARISED[cell](params, state, xs, **options)
        sequence = lambda *args: row.sequence_autodiff(*args, **options)
        found = module.attribute(linear, dhs, dstate)
        every = module.attribute(linear, dhs, dstate, of=lambda part: part)
        return found, every, jax.vjp(sequence, params, state, xs)[1](dy)[0]

    found, every, want = run(both, params, state, xs, dy)
    assert_close(found.total, want)
    assert_close(added_up(every), want)
    assert_close(found.norm, lengths_of(every))
    ways = 1 + len(state)
    gates = 4 if cell == "lstm" else 1
    for share in found.share:
        assert share.shape == (T, ways, gates)
        assert abs(share.sum() - 1) < 1e-12


@pytest.fixture(scope="module")
def by_the_book():
    """The LSTM with every part, and the same out of textbook.py and the twins of stages/step.py."""
    params, state, xs = problem(CELLS["lstm"])
    dstate, dhs = normal_like(9, jax.eval_shape(jl.lstm, params, state, xs))

    @jax.jit
    def slowly(params, state, xs, dstate, dhs):
        packed = textbook.from_packed(*params)
        steps = textbook.forward(packed, xs, *state)
        deltas = textbook.backward(packed, steps, dhs, *dstate).deltas
        parts = []
        for s, d in zip(steps, deltas, strict=True):
            zero = jnp.zeros_like(s["h"])
            ways = [(d["dh_from_outside"], zero), (d["dh_from_next"], zero)]
            for dh, dc in [*ways, (zero, d["dc_from_next"])]:
                do, dc_from_h = hidden_state_bwd((s["o"], s["c"]), dh)
                df, _, di, dg = cell_state_bwd(
                    (s["f"], s["c_prev"], s["i"], s["g"]), dc + dc_from_h
                )
                das = (sigmoid_bwd(s["i"], di), sigmoid_bwd(s["f"], df))
                das += (tanh_bwd(s["g"], dg), sigmoid_bwd(s["o"], do))
                dW = jnp.stack([s["x"].T @ da for da in das])
                dU = jnp.stack([s["h_prev"].T @ da for da in das])
                parts.append(jl.LSTMParams(dW, dU, jnp.stack([da.sum(0) for da in das])))
        return jax.tree.map(lambda *x: jnp.stack(x).reshape((T, 3, *x[0].shape)), *parts)

    args = (params, state, xs, dstate, dhs)
    return args, slowly(*args)


def every_part(params, state, xs, dstate, dhs):
    linear = jl.linearised_lstm(params, state, xs)
    return module.attribute(linear, dhs, dstate, of=lambda part: part)


@pytest.mark.slow
def test_each_part_is_what_the_textbook_makes_of_one_branch(by_the_book):
    args, want = by_the_book
    assert_close(run(every_part, *args), want)


@pytest.mark.parametrize("order", [(0, 2, 1), (1, 0, 2), (0, 1, 0)], ids=str)
def test_ways_that_are_mixed_up_or_left_out_are_found(order, by_the_book, monkeypatch):
    """The first two still add up to the gradient."""
    args, want = by_the_book
    apart = module.apart

    def other(dstate, dh):
        ways = apart(dstate, dh)
        return jax.tree.map(lambda way: way[jnp.array(order)], ways)

    monkeypatch.setattr(module, "apart", other)
    found = run(lambda *args: every_part(*args), *args)  # not what jit remembers of every_part
    with pytest.raises(AssertionError):
        assert_close(found, want)


def test_what_has_nearly_vanished_is_taken_apart_as_well():
    """The squares of its parts would be zero in float32."""
    params, state, xs = problem(CELLS["elman"], dtype=jnp.float32)
    dhs = normal_like(9, jnp.zeros((T, B, H), jnp.float32))

    def of(params, state, xs, dhs):
        linear = jl.linearised_elman(params, state, xs)
        return jl.attribute(linear, dhs), jl.attribute(linear, jnp.float32(1e-25) * dhs)

    large, small = run(of, params, state, xs, dhs)
    assert_close(small.share, large.share, TOLERANCE["float32"])
    want = jax.tree.map(lambda x: x * jnp.float32(1e-25), large.norm)
    assert_close(small.norm, want, TOLERANCE["float32"])


def test_a_long_sequence_needs_no_copy_of_the_weights_per_step():
    shape = jax.eval_shape(lambda: jl.init_lstm(jax.random.key(0), 48, 48))
    state = jax.eval_shape(jl.init_lstm_state, shape)

    def bytes_at(T):
        xs = jax.ShapeDtypeStruct((T, 48), jnp.float32)
        found = jax.jit(
            lambda params, state, xs, dhs: module.attribute(
                jl.linearised_lstm(params, state, xs), dhs
            ),
            compiler_options=QUICK,
        )
        stats = found.lower(shape, state, xs, xs).compile().memory_analysis()
        return stats.temp_size_in_bytes + stats.output_size_in_bytes

    weights = sum(leaf.size * leaf.dtype.itemsize for leaf in shape)
    assert bytes_at(320) - bytes_at(64) < 256 * weights / 5


def test_what_a_linearised_sequence_keeps():
    """As its docstring says."""
    linear = jax.eval_shape(jl.linearised_lstm, *problem(CELLS["lstm"]))
    kept = (linear.states, linear.seen, linear.saved, linear.slopes, linear.factors)
    assert sum(x.size for x in jax.tree.leaves(kept)) == T * B * 15 * H
    assert "(T, ..., 15 H) numbers" in jl.linearised_lstm.__doc__


def refused(words, run, cell, *args):
    """Before anything is computed."""
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(lambda *given: jl.attribute(run(*given), *args), *problem(CELLS[cell]))


def test_the_doors_name_what_is_wrong():
    params, state, xs = problem(CELLS["lstm"])
    dhs = jnp.zeros((T, B, H))
    for wrong in (dhs[1:], dhs.astype(jnp.float32), None):
        refused(r"`dhs` must be \(T, ..., H\) = \(7, 2, 5\)", jl.linearised_lstm, "lstm", wrong)
    for wrong in (state._replace(c=state.c[0]), tuple(state)):
        words = "`dstate` must be like `state`, LSTMState"
        refused(words, jl.linearised_lstm, "lstm", dhs, wrong)
    words = "`delta.1.` of lstmp has 5 numbers, which are not 4 gates side by side"
    refused(words, jl.make_linearised(jl.LSTMP, GATES), "lstmp", dhs)
    with pytest.raises(ValueError, match=r"`xs` must be \(T, ..., D\) with D = 3"):
        jl.linearised_lstm(params, state, xs[..., 1:])
    with pytest.raises(TypeError, match=r"linearised_lstm\(\).*'residual'"):
        jl.linearised_lstm(params, state, xs, residual="full")


def test_nothing_comes_of_nothing():
    params, state, xs = problem(CELLS["elman"])

    def of(T):
        linear = jl.linearised_elman(params, state, xs[:T])
        return jl.attribute(linear, jnp.zeros((T, B, H)))

    some, none = run(lambda: (of(T), of(0)))
    assert none.norm.W.shape == (0, 2, 1)
    for share, total in zip((*some.share, *none.share), (*some.total, *none.total), strict=True):
        assert not share.any()
        assert not total.any()


@pytest.mark.parametrize("width", [5, 8])
def test_a_delta_narrower_than_its_gates_is_left_whole(width):
    """Whether its width divides by the number of gates or not."""
    two = CELLS["elman"].cell._replace(gates=("u", "n"))
    args = problem(CELLS["elman"], (T, B, D, width))
    run = jax.eval_shape(jl.make_linearised(two), *args)
    assert run.gates == ("a",)
    assert jax.eval_shape(jl.make_linearised(jl.GRU), *problem(CELLS["gru"])).gates == jl.GRU.gates
