"""The error of a truncated gradient, against the gradient taken apart by pairs of steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm.engine.programs import in_one_program
from jax_lstm.training import sweep
from tests.tables import CELLS, FIRST, normal_like, problem, quick_jit, relaxed

T, B, D, H = 8, 2, 3, 4  # of blocks of 3 the last one is shorter, of 2 it is not


def flat(tree, axes=0):
    parts = [np.asarray(x).reshape((*x.shape[:axes], -1)) for x in jax.tree.leaves(tree)]
    return np.concatenate(parts, -1)


@functools.partial(quick_jit, static_argnums=0)
def by_pairs(cell, params, state, xs, dhs, flags):
    """dL_t/dparams_s, (T, T, ...): params of step s are another argument for each s."""

    def outputs(each):
        def body(state, now):
            params, x, dh, flags = now
            flags = jax.tree.map(lambda flag: flag[None], flags)
            state, hs = cell.sequence_autodiff(params, state, x[None], **flags)
            return state, jnp.sum(hs[0] * dh)

        return jax.lax.scan(body, state, (each, xs, dhs, flags))[1]

    each = jax.tree.map(lambda x: jnp.broadcast_to(x, (T, *x.shape)), params)
    return jax.jacrev(outputs)(each)


def by_definition(pairs, k1, k2):
    """‖g_k2 - g‖ / ‖g‖ of the pairs (t, s): s in the window of t's block. By NumPy."""
    steps = np.arange(1, T + 1)
    ends = np.minimum(-(-steps // k1) * k1, T)
    inside = steps[None] > ends[:, None] - k2
    whole = pairs.sum((0, 1))
    return np.linalg.norm(pairs[~inside].sum(0)) / np.linalg.norm(whole), whole


def given(name, seed=0, scale=1.0):
    args = problem(CELLS[name], (T, B, D, H), seed=seed, scale=scale)
    h = jax.eval_shape(lambda: args[1][0])
    return args, normal_like(seed + 7, jax.ShapeDtypeStruct((T, *h.shape), h.dtype))


def check(name, k1, k2, chunk, flags, seeds, scales):
    """Errors as by the definition, none of them above its bound; one program for all."""
    for seed, scale in zip(seeds, scales, strict=True):
        args, dhs = given(name, seed, scale)
        cell = CELLS[name].cell
        found = jl.truncation_error(*args, dhs, k1=k1, k2=k2, cell=cell, chunk=chunk, **flags)
        pairs = flat(by_pairs(CELLS[name], *args, dhs, flags), 2)
        want = [by_definition(pairs, k1, k) for k in k2]
        # An error is a ratio of sums of some hundred products: 1e-11 of the largest, 1
        np.testing.assert_allclose(found.error, [error for error, _ in want], atol=1e-11)
        size = np.abs(want[0][1]).max()
        np.testing.assert_allclose(flat(found.gradient) / size, want[0][1] / size, atol=1e-12)
        assert (found.error <= found.bound).all(), (name, seed, scale, found)


def some_flags():
    rng = np.random.default_rng(3)
    return {"mask": rng.random((T, B)) < 0.8, "resets": rng.random((T, B)) < 0.2}


SCALES = (1.0, 0.1, 3.0, 10.0, 30.0)


@pytest.mark.parametrize(
    ("k1", "k2", "chunk", "flags"),
    [
        (1, range(1, T + 2), 3, {}),
        (3, (3, 4, 7, 9), 5, some_flags()),
        (2, (2, 4, 6), 4, {}),  # groups of two steps
    ],
    ids=["each output", "blocks, masks and resets", "groups"],
)
def test_the_error_is_that_of_the_definition_and_below_its_bound(k1, k2, chunk, flags):
    check("lstm", k1, k2, chunk, flags, range(len(SCALES)), SCALES)


@relaxed("what people write")
def of_cell(name):
    check(name, 2, (2, 4, 6), T, {}, range(3), (1.0, 5.0, 20.0))


@pytest.mark.parametrize("name", [name for name in FIRST if name != "lstm"])
def test_the_first_cells(name):
    of_cell(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CELLS if name not in FIRST])
def test_every_other_cell(name):
    of_cell(name)


def positive():
    """One unit whose gradients all point the same way."""
    params = jl.ElmanParams(*(jnp.full(shape, 0.3) for shape in ((1, 1), (1, 1), (1,))))
    return params, jl.ElmanState(jnp.zeros((1, 1))), jnp.ones((T, 1, 1)), jnp.ones((T, 1, 1))


def test_the_bound_is_sharp_and_a_smaller_one_would_be_violated(monkeypatch):
    ask = functools.partial(
        jl.truncation_error, *positive()[:3], k2=[1, 2, 4], cell=jl.ELMAN, k1=1, chunk=T
    )
    ask = functools.partial(ask, dhs=positive()[3])
    found = ask()
    assert (found.error <= found.bound).all()
    assert (found.bound <= 1.02 * found.error).all()
    for scale in (1e-200, 1e200):  # whose squares are 0 and infinite
        scaled = ask(dhs=scale * jnp.ones((T, 1, 1)))
        np.testing.assert_allclose(scaled.error, found.error)
        np.testing.assert_allclose(scaled.bound, found.bound)
    right = sweep.reach
    monkeypatch.setattr(sweep, "reach", lambda *a: (0.9 * right(*a)[0], right(*a)[1]))
    in_one_program.clear_cache()
    assert not (found.error <= ask().bound).any()
    in_one_program.clear_cache()


def test_no_step_at_all_and_a_window_far_longer_than_the_sequence():
    params, state, xs, dhs = positive()
    for n in (0, T):
        found = jl.truncation_error(
            params, state, xs[:n], dhs[:n], k2=[10**12], cell=jl.ELMAN, chunk=T
        )
        assert found.k2.tolist() == [10**12]
        assert found.error.tolist() == found.bound.tolist() == [0]


class Chunks:
    """Chunks made when they are asked for; the most bytes that were alive at such a moment."""

    def __init__(self, n):
        self.n, self.most, self.asked = n, 0, []

    def __len__(self):
        return self.n

    def __getitem__(self, n):
        self.most = max(self.most, sum(x.nbytes for x in jax.live_arrays()))
        self.asked.append(n)
        rng = np.random.default_rng(n % self.n)
        return tuple(rng.normal(size=(4, B, size)) for size in (D, H))


def inner(hs, dhs):
    return jnp.sum(hs * dhs)


@pytest.mark.slow
def test_a_stream_is_as_the_whole_and_its_memory_is_the_same_for_any_length():
    (params, state, _), _ = given("lstm")
    options = {"k1": 2, "k2": (2, 4, 6)}
    chunks, most = Chunks(2), []
    found = jl.truncation_error_of_stream(params, state, chunks, inner, **options)
    xs, dhs = (
        np.concatenate(parts) for parts in zip(*map(chunks.__getitem__, (0, 1)), strict=True)
    )
    want = jl.truncation_error(params, state, xs, dhs, **options, chunk=4)
    np.testing.assert_allclose(found.error, want.error, rtol=1e-10)  # small ones are sums of less
    np.testing.assert_allclose(found.bound, want.bound, rtol=1e-10)
    programs = in_one_program._cache_size()
    for n in (20, 40):
        chunks = Chunks(n)
        jl.truncation_error_of_stream(params, state, chunks, inner, **options, snapshots=3)
        most.append(chunks.most)
    assert most[1] <= most[0]
    assert in_one_program._cache_size() == programs  # so those of the other lengths


def test_states_are_kept_and_run_again_as_promised():
    """Of 153 chunks each is run at most twice with 16 snapshots, and 16 are kept at most."""
    for n, kept, times in ((153, 16, 2), (154, 16, 3), (7, 1, 6), (40, 3, 5)):
        runs, order = [0] * n, []

        def on(k, state, runs=runs):
            assert state == k
            runs[k] += 1
            return k + 1

        for k, state in sweep.backwards(n, 0, on, kept):
            assert state == k
            order.append(k)
        assert order == list(range(n))[::-1]
        assert max(runs) <= times


@pytest.mark.slow
def test_a_k2_is_chosen_that_meets_the_error():
    (params, state, xs), dhs = given("lstm", scale=3.0)
    measure = functools.partial(jl.truncation_error, params, state, xs, dhs, chunk=T)
    every = jl.truncation_error(params, state, xs, dhs, k2=range(1, T + 1), bound=False, chunk=T)
    for error in (0.3, 0.03):
        k2, found = jl.choose_k2(measure, error)
        assert found.error[list(found.k2).index(k2)] <= error
        assert k2 == every.k2_for(error)
    assert every.k2_for(0) == T
    with pytest.raises(ValueError, match="`most` must be larger: at k2 = 2 the error is"):
        jl.choose_k2(measure, 1e-9, most=2)


def test_a_loss_of_a_stream_is_one_real_number():
    (params, state, _), _ = given("lstm")
    for wrong in (
        lambda hs, dhs: jnp.sum(hs * dhs, -1),
        lambda hs, dhs: jnp.sum(hs * dhs)[None],
        lambda hs, dhs: None,
        lambda hs, dhs: (jnp.sum(hs), jnp.sum(dhs)),
        lambda hs, dhs: 1,
        lambda hs, dhs: jnp.sum(hs).astype(complex),
    ):
        with pytest.raises(TypeError, match="`loss` must return one real number for a chunk"):
            jl.truncation_error_of_stream(params, state, Chunks(2), wrong, k2=2)


def test_the_doors_name_what_is_wrong():
    (params, state, xs), dhs = given("lstm")
    ask = functools.partial(jl.truncation_error, params, state, xs)
    found = jl.Truncation(1, np.array([1]), np.array([0.5]), None, None, None)
    stream = lambda chunks: jl.truncation_error_of_stream(params, state, chunks, inner, k2=2)
    uneven = [xs, xs[:3], xs[:2]]
    for words, call in (
        ("`k2` must be >= k1", lambda: ask(dhs, k1=3, k2=[2])),
        ("`k2` must be a whole number >= k1", lambda: ask(dhs, k2=[])),
        (r"`dhs` must be \(8, 2, 4\)", lambda: ask(dhs[:3], k2=2)),
        ("`dhs` must be known", lambda: jax.jit(lambda d: ask(d, k2=2))(dhs)),
        ("without masks of its own", lambda: ask(dhs, k2=2, cell=jl.zoneout(jl.LSTM))),
        ('`by` must be "error"', lambda: found.k2_for(0.1, by="bound")),
        ("`chunks` must be", lambda: stream([])),
        (r"`chunks\[0\]` must be a tuple", lambda: stream([xs])),
        (r"`chunks\[0\]` must be .* missing a required argument", lambda: stream([(xs,)])),
        (r"`chunks\[0\]` must be .* too many pos", lambda: stream([(xs, dhs, dhs)])),
        (r"`chunks\[2\]` must be a tuple of 2 like", lambda: stream([(xs, dhs)] * 2 + [(xs[:3],)])),
        ("`chunks` must be of 8 steps each", lambda: stream([(x, dhs[: len(x)]) for x in uneven])),
    ):
        with pytest.raises(ValueError, match=words):
            call()
