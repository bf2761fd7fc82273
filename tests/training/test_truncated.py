"""TBPTT(k1, k2) against its definition: one window after the other, each by autodiff."""

import functools
import json
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

import jax_lstm as jl
from tests.tables import CELLS, assert_close, assert_same, errors, normal_like, problem

T, B, D, H = SIZE = (7, 2, 3, 5)

# Many small programs, each of them run once.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class Case(NamedTuple):
    k1: int
    k2: int
    cell: str = "lstm"
    flags: str = ""  # of "lengths", "holes", "resets", "fresh" (the state that resets lead to)


CASES = [
    Case(1, 1),
    Case(1, 3),
    Case(2, 5),
    Case(3, 7),
    Case(9, 9),
    Case(2, 3, "elman"),
    Case(4, 4, "elman"),
    Case(5, 6, "elman"),
    Case(2, 3, flags="lengths holes"),
    Case(3, 3, flags="lengths resets"),
    Case(2, 4, "elman", "holes resets"),
    Case(2, 3, "elman", "resets fresh"),
    Case(3, 5, "lstm", "holes resets fresh"),
]
over_cases = pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c)).strip("-"))


def flags_of(case):
    """Masks and resets; the second example has four valid steps, the first begins with a hole."""
    flags = {}
    if "lengths" in case.flags:
        flags["lengths"] = jnp.array([T, 4])
    if "holes" in case.flags:
        flags["mask"] = jnp.ones((T, B), bool).at[:3, 0].set(False).at[5, 0].set(False)
    if "resets" in case.flags:
        flags["resets"] = jnp.zeros((T, B), bool).at[(0, 3), 0].set(True).at[2, 1].set(True)
    return flags


def mask_and_resets(flags):
    """Both as arrays, `lengths` within the mask."""
    flags = dict(flags)
    mask = flags.get("mask", jnp.ones((T, B), bool))
    mask &= jnp.arange(T)[:, None] < flags.get("lengths", jnp.full((B,), T))
    return mask, flags.get("resets", jnp.zeros((T, B), bool))


def cotangents_like(cell, args, seed=9):
    return normal_like(seed, jax.eval_shape(CELLS[cell].sequence_autodiff, *args))


@functools.partial(quick_jit, static_argnums=0)
def vjp(sequence, args, flags, dy):
    """A fourth argument is the state that resets lead to."""

    def f(params, state, xs, *fresh):
        given = {"reset_state": fresh[0]} if fresh else {}
        return sequence(params, state, xs, **given, **flags)

    y, back = jax.vjp(f, *args)
    return y, back(dy)


def by_definition(cell, k1, k2, args, flags, dy):
    """For every block the window that ends with it, from the state before it as a constant.

    Steps outside of the window are masked, so that one program serves all of them.
    """
    params, state, xs, *fresh = args
    dlast, dhs = dy
    mask, resets = mask_and_resets(flags)

    def window(before, start, end, dy):
        inside = (start <= np.arange(T)) & (np.arange(T) < end)
        flags = {"mask": mask & inside[:, None], "resets": resets & inside[:, None]}
        return vjp(CELLS[cell].sequence_autodiff, (params, before, xs, *fresh), flags, dy)

    y, _ = window(state, 0, T, dy)
    total = jax.tree.map(jnp.zeros_like, args)
    for end in [*range(k1, T, k1), T]:
        start = max(end - k2, 0)
        (before, _), _ = window(state, 0, start, dy)
        block = np.arange(T) >= (end - 1) // k1 * k1
        last = jax.tree.map(lambda d, n=float(end == T): d * n, dlast)
        _, more = window(before, start, end, (last, dhs * jnp.asarray(block, float)[:, None, None]))
        # who has not moved stands still at the first state, or where a reset put it
        unmoved, put = ~mask[:start].any(0)[:, None], resets[:start].any(0)[:, None]
        dstate, *dfresh = (
            jax.tree.map(lambda d, who=who: jnp.where(who, d, 0.0), more[1])
            for who in (unmoved & ~put, unmoved & put)[: 1 + len(fresh)]
        )
        dfresh = jax.tree.map(jnp.add, list(more[3:]), dfresh)
        total = jax.tree.map(jnp.add, total, (more[0], dstate, more[2], *dfresh))
    return y, total


@over_cases
def test_every_cotangent_is_that_of_the_definition(case):
    k1, k2, cell, _ = case
    args, flags = problem(CELLS[cell], SIZE), flags_of(case)
    dy = cotangents_like(cell, args)
    if "fresh" in case.flags:
        args = (*args, normal_like(6, args[1]))
    want = by_definition(cell, k1, k2, args, flags, dy)
    if "mask" in flags:  # what padding holds reaches nothing
        mask, _ = mask_and_resets(flags)
        params, state, xs, *fresh = args
        args = (params, state, jnp.where(mask[..., None], xs, jnp.nan), *fresh)
    assert_close(vjp(jl.tbptt(k1, k2, CELLS[cell].sequence), args, flags, dy), want)


def test_the_definition_tells_its_neighbours_apart():
    args = problem(CELLS["lstm"], SIZE)
    dy = cotangents_like("lstm", args)
    of = {k: by_definition("lstm", *k, args, {}, dy)[1] for k in [(2, 4), (2, 3), (2, 5), (3, 4)]}
    of["full"] = vjp(jl.lstm_autodiff, args, flags_as_arrays(), dy)[1]
    for other in of:
        if other != (2, 4):
            assert min(errors(of[other][0], of[2, 4][0]).values()) > 1e-3, other


def flags_as_arrays():
    return dict(zip(("mask", "resets"), mask_and_resets({}), strict=True))


MUTANTS = {
    "the adjoint is not cut": lambda state, mask, forget: state,
    "the state is not carried": lambda state, mask, forget: jax.tree.map(jnp.zeros_like, state),
    "the cut forgets the start": lambda state, mask, forget: lax.stop_gradient(state),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_rejected(mutant, monkeypatch):
    monkeypatch.setattr("jax_lstm.truncated.before_next", MUTANTS[mutant])
    args = problem(CELLS["elman"], SIZE)
    dy = cotangents_like("elman", args)
    want = by_definition("elman", 2, 4, args, {}, dy)
    assert max(errors(vjp(jl.tbptt(2, 4, jl.elman), args, {}, dy), want).values()) > 1e-3


ROUTES = {
    "lstm": jl.lstm,
    "lstm_autodiff": jl.lstm_autodiff,
    "elman_autodiff": jl.elman_autodiff,
    "lstm, frugal": functools.partial(jl.lstm, residuals=2),
}
FAR = [*((route, T, T) for route in ROUTES), ("lstm", 1, T), ("lstm", 3, T + 1), ("lstm", T, 3 * T)]


@pytest.mark.parametrize(("route", "k1", "k2"), FAR)
def test_as_far_back_as_the_sequence_is_long_truncates_nothing(route, k1, k2):
    cell = route.split("_")[0].split(",")[0]
    args = problem(CELLS[cell], SIZE)
    dy = cotangents_like(cell, args)
    want = vjp(CELLS[cell].sequence_autodiff, args, flags_as_arrays(), dy)
    assert_close(vjp(jl.tbptt(k1, k2, ROUTES[route]), args, {}, dy), want)


def test_layers_and_masks_of_zoneout_are_truncated_as_well():
    """A stack is a sequence function; its xs and what a cell reads beside them are trees."""
    kit = {"init_state": jl.init_elman_state}
    init = functools.partial(jl.init_elman, dtype=jnp.float64)
    params = jl.init_stack(jax.random.key(0), D, (H,), init=init, **kit)
    params = normal_like(1, params, 0.5)
    states = normal_like(2, jl.init_stack_state(params, (B,), **kit))
    xs = normal_like(3, jax.ShapeDtypeStruct((T, B, D), jnp.float64))
    args = (params, states, (xs, jl.zoneout_masks(jax.random.key(4), 0.4, states, T)))
    cells = jl.make_rnn(jl.zoneout(jl.ELMAN))

    def over(stack, cell):
        def sequence(params, states, xs_and_masks, *, reset_state=None, **flags):
            xs, masks = xs_and_masks
            flags |= {"beside": masks, "reset_states": reset_state}
            return stack(params, states, xs, sequence=cell, **flags)

        return sequence

    flags = flags_of(Case(2, 3, flags="lengths resets"))
    args = (*args, normal_like(5, states))
    by_hand, by_jax = over(jl.stack, cells[0]), over(jl.stack_autodiff, cells[1])
    dy = normal_like(6, jax.eval_shape(by_jax, *args[:3]))
    whole = vjp(by_jax, args, flags, dy)
    assert_close(vjp(jl.tbptt(3, T, by_hand), args, flags, dy), whole)
    cut = vjp(jl.tbptt(2, 3, by_hand), args, flags, dy)
    assert_close(cut[0], whole[0])
    assert max(errors(cut[1], whole[1]).values()) > 1e-3


def test_forward_values_are_those_of_the_whole_sequence():
    args = problem(CELLS["lstm"], SIZE)
    want = quick_jit(jl.lstm_autodiff)(*args)
    assert_close(quick_jit(jl.tbptt(2, 3))(*args), want)


def test_one_example_without_batch_and_no_steps_at_all():
    args = problem(CELLS["lstm"], SIZE, batch=())
    dy = cotangents_like("lstm", args)
    want = vjp(jl.lstm_autodiff, args, {}, dy)
    assert_close(vjp(jl.tbptt(4, 8), args, {}, dy), want)
    params, state, xs = args
    last, hs = jl.tbptt(2, 3)(params, state, xs[:0])
    assert_same(last, state)
    assert hs.shape == (0, H)


# WildML ---------------------------------------------------------------------------------------


def wildml():
    f = json.loads((pathlib.Path(__file__).parents[1] / "fixtures" / "wildml_rnn.json").read_text())
    U, V, W = (jnp.asarray(f["params"][name]).T for name in "UVW")
    params = jl.ElmanParams(U, W, jnp.zeros(10))
    return f, params, V, jax.nn.one_hot(jnp.array(f["x"]), 5, dtype=U.dtype)


@pytest.mark.parametrize("sequence", [jl.elman, jl.elman_autodiff], ids=["by hand", "autodiff"])
@pytest.mark.parametrize("truncate", [0, 1, 2, 3])
def test_wildml(sequence, truncate):
    """Its `bptt_truncate` counts the steps before the output's own: TBPTT(1, truncate + 1)."""
    f, params, V, xs = wildml()
    run = jl.tbptt(1, truncate + 1, sequence)

    @quick_jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradient(params, V):
        _, hs = run(params, jl.init_elman_state(params), xs)
        return jl.softmax_cross_entropy(hs @ V, jnp.array(f["y"])).sum()

    dparams, dV = gradient(params, V)
    assert_close(dV.T, jnp.asarray(f["gradients"]["V"]))
    if truncate == 3:
        got = {"U": dparams.W.T, "W": dparams.U.T}
        assert_close(got, {name: jnp.asarray(f["gradients"][name]) for name in "UW"})
    else:
        norms = {"dU_norm": jnp.linalg.norm(dparams.W), "dW_norm": jnp.linalg.norm(dparams.U)}
        want = f["truncated"][str(truncate)]
        assert_close(norms, {name: jnp.asarray(want[name]) for name in norms}, 1e-8)


# Streams --------------------------------------------------------------------------------------


def stream_problem(batch=(B,)):
    params, state, _ = problem(CELLS["elman"], SIZE, batch=batch)
    xs = normal_like(5, jax.ShapeDtypeStruct((12, *batch, D), jnp.float64))
    return params, state, xs


def chunk_gradient(advance, params, window, xs, **flags):
    """A chunk's part of dL/dparams for L = Σ h³, and the carry."""

    def loss(params):
        after, hs = advance(params, window, xs, **flags)
        return (hs**3).sum(), after

    return jax.grad(loss, has_aux=True)(params)


@pytest.mark.parametrize(
    ("k1", "k2", "chunks", "resets"),
    [
        (2, 5, (2, 6, 4), False),
        (2, 5, (6, 6), True),
        (1, 3, (4, 4, 4), False),
        (3, 3, (3, 9), False),
        (4, 5, (12,), False),
    ],
)
def test_the_parts_of_a_stream_add_up(k1, k2, chunks, resets):
    params, state, xs = stream_problem()
    flags = {"resets": jnp.zeros((12, B), bool).at[5, 0].set(True)} if resets else {}
    whole = jl.tbptt(k1, k2, jl.elman)

    def given(params):
        """Where resets lead to is learnt: any function of params."""
        return {"reset_state": jl.ElmanState(jnp.ones((B, 1)) * params.b)} if resets else {}

    def at_once(params):
        last, hs = whole(params, state, xs, **given(params), **flags)
        return (hs**3).sum(), last

    want, last = quick_jit(jax.grad(at_once, has_aux=True))(params)
    begin, forth = jl.tbptt_stream(k1, k2, jl.elman)
    advance = lambda params, *now, **flags: forth(params, *now, **given(params), **flags)
    gradient = quick_jit(functools.partial(chunk_gradient, advance))
    window, got, start = begin(state, xs[:1], **flags), jax.tree.map(jnp.zeros_like, params), 0
    shapes = jax.tree.map(jnp.shape, window)
    for size in chunks:
        now = slice(start, start + size)
        more, window = gradient(params, window, xs[now], **{k: v[now] for k, v in flags.items()})
        got, start = jax.tree.map(jnp.add, got, more), start + size
        assert jax.tree.map(jnp.shape, window) == shapes
    assert_close(got, want)
    assert_close(window.state, last)


def test_advance_is_a_body_for_scan():
    params, state, xs = stream_problem()
    begin, advance = jl.tbptt_stream(2, 3, jl.elman)
    body = functools.partial(advance, params)
    window, hs = quick_jit(lambda: lax.scan(body, begin(state, xs), xs.reshape((3, 4, B, D))))()
    last, want = quick_jit(lambda: jl.elman(params, state, xs))()
    assert_close(hs.reshape((12, B, H)), want)
    assert_close(window.state, last)


def test_tokens_are_embedded_inside_so_that_old_ones_get_their_share():
    """A sequence function of one's own around `elman`, with tokens for xs."""
    params, state, _ = stream_problem()
    E = normal_like(3, jax.ShapeDtypeStruct((4, D), jnp.float64))
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 4, (12, B)))

    def sequence(params, state, tokens, *, mask=None):
        E, elman = params
        return jl.elman(elman, state, jl.embedding(E, tokens), mask=mask)

    def loss(params):
        return (
            jl.tbptt(3, 5, jl.elman)(params[1], state, jl.embedding(params[0], tokens))[1] ** 3
        ).sum()

    want = quick_jit(jax.grad(loss))((E, params))
    begin, advance = jl.tbptt_stream(3, 5, sequence)
    gradient = quick_jit(functools.partial(chunk_gradient, advance))
    window, got = begin(state, tokens), jax.tree.map(jnp.zeros_like, want)
    for start in range(0, 12, 3):
        more, window = gradient((E, params), window, tokens[start : start + 3])
        got = jax.tree.map(jnp.add, got, more)
    assert_close(got, want)


def long_stream(k1, k2, chunk, chunks, cell=CELLS["elman"]):
    """The truncated gradient of chunk after chunk of a stream that is made on the way."""
    begin, advance = jl.tbptt_stream(k1, k2, cell.sequence)

    def gradient(params, state):
        def body(carry, _):
            n, window, total = carry
            times = n * chunk + jnp.arange(chunk)
            xs = jnp.sin(0.1 * times.astype(state.h.dtype))[:, None, None] * jnp.ones((1, 1, D))
            more, window = chunk_gradient(advance, params, window, xs)
            return (n + 1, window, jax.tree.map(jnp.add, total, more)), None

        window = begin(state, jax.ShapeDtypeStruct((chunk, 1, D), state.h.dtype))
        carry = (0, window, jax.tree.map(jnp.zeros_like, params))
        (_, window, total), _ = lax.scan(body, carry, length=chunks)
        return window.state, total

    return jax.jit(gradient)


def test_a_million_steps_in_constant_memory():
    """The same compiled bytes for ten thousand steps and for a million, and the million is run."""
    params, state, _ = problem(CELLS["elman"], (1, 1, D, H), scale=0.5)
    few, million = (
        long_stream(100, 150, 1000, n).lower(params, state).compile() for n in (10, 1000)
    )
    short, long = (c.memory_analysis() for c in (few, million))
    assert long.temp_size_in_bytes <= short.temp_size_in_bytes
    assert long.temp_size_in_bytes < 2**20
    last, total = million(params, state)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves((last, total)))
    assert float(jnp.abs(total.b).max()) > 1.0


# Transforms and doors -------------------------------------------------------------------------


def test_hessian_vector_product():
    args = problem(CELLS["elman"], SIZE)
    v = normal_like(4, args[0])

    @functools.partial(quick_jit, static_argnums=0)
    def hvp(sequence, params):
        loss = lambda p: (jl.tbptt(3, 4, sequence)(p, *args[1:])[1] ** 3).sum()
        return jax.jvp(jax.grad(loss), (params,), (v,))

    assert_close(hvp(jl.elman, args[0]), hvp(jl.elman_autodiff, args[0]))


def test_examples_on_eight_devices():
    params, state, xs = problem(CELLS["elman"], (7, 8, D, H))

    def gradient(params, state, xs):
        return jax.grad(lambda p: (jl.tbptt(2, 3, jl.elman)(p, state, xs)[1] ** 3).sum())(params)

    mesh, specs = jax.make_mesh((8,), ("b",)), (P(), P("b"), P(None, "b"))
    spread = quick_jit(jax.shard_map(gradient, mesh=mesh, in_specs=specs, out_specs=P()))
    with jax.set_mesh(mesh):
        placed = [
            jax.tree.map(lambda x, spec=spec: jax.device_put(x, jax.NamedSharding(mesh, spec)), arg)
            for arg, spec in zip((params, state, xs), specs, strict=True)
        ]
        got = jax.device_get(spread(*placed))
    assert_close(got, quick_jit(gradient)(params, state, xs))


BAD = {
    "k1 = 0": (lambda a: jl.tbptt(0, 3), "`k1` must be a number of steps >= 1; got 0"),
    "k2 = 2.0": (lambda a: jl.tbptt(1, 2.0), "`k2` must be a number of steps >= 1; got 2.0"),
    "k1 = True": (lambda a: jl.tbptt_stream(True, 2), "`k1` must be"),
    "k2 < k1": (
        lambda a: jl.tbptt(3, 2),
        "`k2` must be >= k1: of each k1 = 3 outputs, the first 1",
    ),
    "mask": (lambda a: jl.tbptt(2, 3)(*a, mask=jnp.ones((T, 1), bool)), "`mask` must be boolean"),
    "lengths": (lambda a: jl.tbptt(2, 3)(*a, lengths=jnp.array([T + 1, 0])), "`lengths` must lie"),
    "xs": (lambda a: jl.tbptt(2, 3)(a[0], a[1], 3.0), "`xs` must have time on axis 0"),
    "sequence": (lambda a: jl.tbptt(2, 3, "lstm"), "`sequence` must be a function"),
    "reverse": (
        lambda a: jl.tbptt(2, 3, functools.partial(jl.lstm, reverse=True)),
        "`sequence` must run forward in time",
    ),
    "reset_state": (
        lambda a: jl.tbptt(2, 3)(*a, reset_state=a[1]),
        "`reset_state` is where `resets` lead to; `resets` is not given",
    ),
    "reset_state of a stream": (
        lambda a: begun(a)[0](a[0], begun(a)[1], a[2][:4], reset_state=a[1]),
        "`resets` is not given",
    ),
    "reset_state of a number": (
        lambda a: jl.tbptt(2, 3)(*a, resets=jnp.ones((T, B), bool), reset_state=1.0),
        "`reset_state` must be like `state`",
    ),
    "D": (lambda a: jl.tbptt(2, 3)(a[0], a[1], a[2][..., :2]), "`xs` must be (T, ..., D)"),
    "chunk": (lambda a: begun(a)[0](a[0], begun(a)[1], a[2]), "a multiple of k1 = 2 steps; got 7"),
    "resets": (
        lambda a: begun(a)[0](a[0], begun(a)[1], a[2][:4], resets=jnp.zeros((4, B), bool)),
        "`resets` must be given to `begin`",
    ),
}


def begun(args):
    begin, advance = jl.tbptt_stream(2, 3)
    return advance, begin(args[1], args[2])


@pytest.mark.parametrize("case", BAD)
def test_doors(case):
    complain, message = BAD[case]
    with pytest.raises(ValueError) as error:  # noqa: PT011
        complain(problem(CELLS["lstm"], SIZE))
    assert message in str(error.value)


def test_a_stack_in_two_directions_is_refused():
    params = jl.init_stack(jax.random.key(0), 2, (3,), bidirectional=True)
    state = jl.init_stack_state(params, (2,))
    with pytest.raises(ValueError, match="two directions"):
        jl.tbptt(2, 4, jl.stack)(params, state, jnp.zeros((4, 2, 2), jnp.float32))
