"""Stacks: against the autodiff twins and compositions written out; algebra, streams, doors."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import jax_lstm as jl
from jax_lstm import stages, textbook
from jax_lstm.networks import joints
from jax_lstm.networks import stack as layers
from tests import tables
from tests.tables import CELLS, TOLERANCE, assert_close, assert_same, normal_like

T, B, D, H = SIZE = 6, 3, 2, 4
RNG = np.random.default_rng(0)
MASK = jnp.asarray(RNG.random((T, B)) < 0.6)
RESETS = jnp.asarray(RNG.random((T, B)) < 0.4)
LENGTHS = jnp.asarray([3, T, 0])


def some(*shape, seed=3):
    return normal_like(seed, jax.ShapeDtypeStruct(shape, jnp.float64))


value_and_cotangents = functools.partial(tables.value_and_cotangents, options=tables.QUICK)

quick_jit = functools.partial(jax.jit, compiler_options=tables.QUICK)

# Any sequence function will do; this one compiles once per shape, for the tests that run eagerly.
lstm = jax.jit(jl.lstm, static_argnames="reverse")
stack = functools.partial(jl.stack, sequence=lstm)


def problem(cell="lstm", sizes=(H, H), features=D, **options):
    """Random params, states and xs in float64, and the init_state of the cell."""
    row = CELLS[cell]
    init = lambda key, D, H: row.init(key, D, H, dtype=jnp.float64)
    kit = {"init": init, "init_state": row.init_state}
    draw = functools.partial(jl.init_stack, input_size=features, hidden_sizes=sizes)
    params = jax.eval_shape(lambda key: draw(key, **kit, **options), jax.random.key(0))
    params = normal_like(1, params, 0.5)
    states = jl.init_stack_state(params, (B,), init_state=row.init_state)
    return params, normal_like(2, states, 0.5), some(T, B, features)


def each(tree, f):
    """f of every state of a stack."""
    return jax.tree.map(f, tree, is_leaf=lambda s: hasattr(s, "_fields"))


# Every option against the twin, alone and in pairs ----------------------------------------------

# name -> (what the problem is made with, what the stack gets besides)
BOTH = {"bidirectional": True}
ONE = BOTH | {"sizes": (H,)}
OPTIONS = {
    "1 layer": ({"sizes": (5,)}, {}),
    "3 layers": ({"sizes": (5, 4, 3)}, {}),
    "elman": ({"cell": "elman"}, {}),
    "lstmp": ({"cell": "lstmp"}, {}),
    "concat": (BOTH, {}),
    "sum": (ONE | {"merge": "sum"}, {}),
    "mean": (ONE | {"merge": "mean"}, {}),
    "product": (ONE | {"merge": "product"}, {}),
    "products": (BOTH | {"merge": "product"}, {}),
    "pair": (BOTH | {"merge": "pair"}, {}),
    "pair on top": (BOTH | {"merge": ("sum", "pair")}, {}),
    "residual": ({"residual": (False, True)}, {}),
    "skip inputs": ({"skip": "inputs"}, {}),
    "skip outputs": ({"skip": "outputs"}, {}),
    "skip both": ({"skip": "both"}, {}),
    "between": ({}, {"between": True}),
    "lengths": ({}, {"lengths": LENGTHS}),
    "mask": ({}, {"mask": MASK}),
    "resets": ({}, {"resets": RESETS}),
    "reset states": ({}, {"resets": RESETS, "reset_states": True}),
    "learnt": ({"learn_initial": True}, {}),
    "residuals": ({}, {"residuals": 2}),
    "every": ({}, {"every": True}),
    "zoneout": ({}, {"regularised": (jl.zoneout, "beside")}),
    "recurrent dropout": ({}, {"regularised": (jl.recurrent_dropout, "consts")}),
    "both regularisers": (
        {},
        {"regularised": (lambda c: jl.zoneout(jl.recurrent_dropout(c)), "beside", "consts")},
    ),
}

# What the issue asks for together: name -> (options of OPTIONS, what the stack gets besides).
ALL = {
    "zoneout": ("concat", "zoneout", "lengths", "every", "residuals"),
    "zoneout of lstmp at test time": ("lstmp", "concat", "zoneout", "mask"),
    "zoneout of elman": ("elman", "sum", "zoneout", "lengths", "resets", "reset states"),
    "both regularisers": ("pair on top", "both regularisers", "lengths", "skip inputs", "learnt"),
    "recurrent dropout of lstmp": ("lstmp", "mean", "recurrent dropout", "reset states", "every"),
    "connected": ("products", "residual", "skip outputs", "lengths", "between", "reset states"),
}


def pairs(n):
    """Random pairs of options that do not settle the same thing."""

    def settled(name):
        made, besides = OPTIONS[name]
        two = {"between", "residual", "skip", "merge"} if "sizes" in made else set()
        return set(made) | set(besides) | two  # what is written for two layers

    found = [(a, b) for a, b in itertools.combinations(OPTIONS, 2) if not settled(a) & settled(b)]
    return [found[k] for k in np.random.default_rng(3).permutation(len(found))[:n]]


def stacks(*names, train=True):
    """The problem, and the stack with these options by hand and by JAX."""
    init, run = {}, {}
    for name in names:
        init, run = init | OPTIONS[name][0], run | OPTIONS[name][1]
    params, states, xs = problem(**init)
    row = CELLS[init.get("cell", "lstm")]
    run |= {k: init[k] for k in ("merge", "residual", "skip") if k in init}
    regularised, *masked = run.pop("regularised", (lambda cell: cell,))
    by_hand, by_jax = jl.make_rnn(regularised(row.cell))
    masks = {
        "beside": jl.zoneout_masks(jax.random.key(5), 0.3, states, T, train=train),
        "consts": jl.recurrent_dropout_masks(jax.random.key(6), 0.3, states),
    }
    run |= {name: masks[name] for name in masked}
    by_hand = functools.partial(by_hand, residuals=run.pop("residuals", "full"))
    args = [params, states, xs]
    if run.pop("between", False):
        run["between"] = [some(*xs.shape[:-1], p[0].W.shape[0]) for p in params.layers[1:]]
    fresh = run.pop("reset_states", False)
    if fresh:
        args.append(normal_like(7, states))

    def over(stack, init_state, sequence):
        def f(params, states, xs, *fresh):
            given = run | ({"reset_states": fresh[0]} if fresh else {})
            if params.initial is not None:
                states = jax.tree.map(jnp.add, init_state(params, (B,)), states)
            return stack(params, states, xs, sequence=sequence, **given)

        return f

    return (
        args,
        over(jl.stack, jl.init_stack_state, by_hand),
        over(jl.stack_autodiff, jl.init_stack_state_autodiff, by_jax),
    )


@pytest.mark.parametrize("names", [(n,) for n in OPTIONS] + pairs(6), ids=" & ".join)
def test_every_cotangent_of_a_stack(names):
    args, by_hand, by_jax = stacks(*names)
    got, want = value_and_cotangents(by_hand, args), value_and_cotangents(by_jax, args)
    assert_close(got, want)
    assert all(leaf.any() for leaf in jax.tree.leaves(got))  # every input has a say


@pytest.mark.parametrize("name", ALL)
def test_options_that_people_use_together(name):
    args, by_hand, by_jax = stacks(*ALL[name], train="test time" not in name)
    got, want = value_and_cotangents(by_hand, args), value_and_cotangents(by_jax, args)
    assert_close(got, want)
    assert all(leaf.any() for leaf in jax.tree.leaves(got[1]))


# Every option against the composition written out -----------------------------------------------


def two_directions(params, states, xs):
    """One layer: the states after it, and what each direction says."""
    one, forward = lstm(params[0], states[0], xs)
    two, reverse = lstm(params[1], states[1], xs, reverse=True)
    return (one, two), forward, reverse


WRITTEN_OUT = {
    "concat": lambda f, r: jnp.concatenate([f, r], -1),
    "sum": lambda f, r: f + r,
    "mean": lambda f, r: (f + r) / 2,
    "product": lambda f, r: f * r,
    "pair": lambda f, r: (f, r),
}


@pytest.mark.parametrize("merge", WRITTEN_OUT)
def test_merges(merge):
    params, states, xs = problem(bidirectional=True, merge=merge, features=H)
    if merge == "pair":  # each direction has layers of its own
        runs = []
        for d, options in enumerate(({}, {"reverse": True})):
            low, hs = lstm(params.layers[0][d], states[0][d], xs, **options)
            runs.append((low, *lstm(params.layers[1][d], states[1][d], hs, **options)))
        lasts, hs = tuple(zip(runs[0][:2], runs[1][:2], strict=True)), (runs[0][2], runs[1][2])
    else:
        low, *hs = two_directions(params.layers[0], states[0], xs)
        high, *hs = two_directions(params.layers[1], states[1], WRITTEN_OUT[merge](*hs))
        lasts, hs = (low, high), WRITTEN_OUT[merge](*hs)
    assert_close(stack(params, states, xs, merge=merge), (lasts, hs))


CONNECTED = {
    "plain": {},
    "residual": {"residual": (False, True)},
    "residual at the bottom": {"residual": True},
    "between": {"between": [some(T, B, H)]},
    "between, one for all steps": {"between": [some(B, H)]},
    "nothing between": {"between": [None]},
    "skip inputs": {"skip": "inputs"},
    "skip outputs": {"skip": "outputs"},
    "skip both, between, residual": {
        "skip": "both",
        "between": [some(T, B, H + H)],
        "residual": True,
    },
}


@pytest.mark.parametrize("name", CONNECTED)
def test_connections(name):
    options = CONNECTED[name]
    residual, skip = options.get("residual", False), options.get("skip")
    residual = residual if isinstance(residual, tuple) else (residual,) * 2
    params, states, xs = problem(features=H, residual=residual, skip=skip)
    last, low = lstm(params.layers[0][0], states[0][0], xs)
    low = low + xs if residual[0] else low
    inputs = jnp.concatenate([low, xs], -1) if skip in ("inputs", "both") else low
    if options.get("between", [None])[0] is not None:
        inputs = inputs * options["between"][0]
    end, high = lstm(params.layers[1][0], states[1][0], inputs)
    high = high + low if residual[1] else high
    hs = jnp.concatenate([low, high], -1) if skip in ("outputs", "both") else high
    assert_close(stack(params, states, xs, **options), (((last,), (end,)), hs))


def test_a_constant_of_each_layer_and_direction():
    """Recurrent dropout: one mask per layer and direction, as `consts`."""
    by_hand, _ = jl.make_rnn(jl.recurrent_dropout(jl.LSTM))
    dropped = jax.jit(by_hand, static_argnames="reverse")
    params, states, xs = problem(bidirectional=True, merge="sum", features=H)
    masks = tuple(tuple(some(B, H, seed=2 * n + d) for d in range(2)) for n in range(2))
    _, hs = stack(params, states, xs, sequence=dropped, merge="sum", consts=masks)
    for p, s, m in zip(params.layers, states, masks, strict=True):
        _, forward = dropped(p[0], s[0], xs, consts=m[0])
        _, reverse = dropped(p[1], s[1], xs, consts=m[1], reverse=True)
        xs = forward + reverse
    assert_close(hs, xs)


def test_zoneout_of_each_layer_and_direction():
    """Every layer and direction has its own masks, and reads them beside its features."""
    zoned = jax.jit(jl.make_rnn(jl.zoneout(jl.LSTM))[0], static_argnames="reverse")
    params, states, xs = problem(bidirectional=True, merge="sum", features=H)
    masks = jl.zoneout_masks(jax.random.key(0), (0.2, 0.4), states, T)
    _, hs = stack(params, states, xs, sequence=zoned, merge="sum", beside=masks, lengths=LENGTHS)
    for p, s, m in zip(params.layers, states, masks, strict=True):
        _, forward = zoned(p[0], s[0], (xs, m[0]), lengths=LENGTHS)
        _, reverse = zoned(p[1], s[1], (xs, m[1]), lengths=LENGTHS, reverse=True)
        xs = forward + reverse
    assert_close(hs, xs)


def test_the_example_in_the_docstring_runs():
    text = jl.stack.__doc__.split("Args:")[0]
    code = "\n".join(line[4:] for line in text.splitlines() if line.startswith(" " * 4))
    names = vars(jl) | {"T": T, "B": B, "D": D, "H": H, "lengths": LENGTHS}
    names |= {
        name: jax.random.key(n) for n, name in enumerate(("key", "key_zoneout", "key_dropout"))
    }
    names["xs"] = some(T, B, D).astype(jnp.float32)
    jax.eval_shape(lambda: exec(code, names))  # as it is traced: nothing is compiled
    assert names["hs"].shape == (T, B, 2 * H)
    assert [m.shape for m in names["kept"][1][1]] == [(T, B, H)] * 2
    assert names["dropped"][0][1].shape == (B, H)


def test_the_twin_of_a_stack_has_forward_derivatives():
    """JAX's own stages all the way, learnt states included; a hand-written rule has no `jvp`."""
    made = {"bidirectional": True, "merge": "product", "learn_initial": True}
    params, _, xs = problem(**made)

    def over(stack, init_state):
        def loss(params):
            states = init_state(params, (B,))
            hs = stack(params, states, xs, merge="product", lengths=LENGTHS)[1]
            return jnp.sin(hs).sum()

        return loss

    v = normal_like(3, params)
    by_jax = over(jl.stack_autodiff, jl.init_stack_state_autodiff)
    _, slope = quick_jit(lambda v: jax.jvp(by_jax, (params,), (v,)))(v)
    dparams = quick_jit(jax.grad(over(jl.stack, jl.init_stack_state)))(params)
    dots = jax.tree.map(lambda d, v: (d * v).sum(), dparams, v)
    assert_close(sum(jax.tree.leaves(dots)), slope)
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(over(jl.stack, jl.init_stack_state), (params,), (v,))


def test_learnt_states_get_their_gradient_summed_over_examples():
    params, given, _ = problem(bidirectional=True, learn_initial=True)
    states, vjp = jax.vjp(lambda params: jl.init_stack_state(params, (B,)), params)
    for n in range(B):
        assert_same(jax.tree.map(lambda s, n=n: s[n], states), params.initial)
    dparams = vjp(given)[0]
    assert_close(dparams.initial, jax.tree.map(lambda d: d.sum(0), given))
    assert_same(dparams.layers, jax.tree.map(jnp.zeros_like, params.layers))


def episodes():
    """hs of one run with resets before 2 and 4, and of three runs."""
    params, states, xs = problem(bidirectional=True, merge="sum", features=H)
    fresh = normal_like(5, states)
    resets = jnp.zeros((T, B), bool).at[jnp.asarray([2, 4])].set(True)
    _, hs = stack(params, states, xs, merge="sum", resets=resets, reset_states=fresh)
    runs = []
    for start in (0, 2, 4):
        first, last = states if start == 0 else fresh, states if start + 2 == T else fresh
        given = tuple((first[n][0], last[n][1]) for n in range(2))
        runs.append(stack(params, given, xs[start : start + 2], merge="sum")[1])
    return hs, jnp.concatenate(runs)


def test_episodes_are_stacks_of_their_own():
    assert_close(*episodes())


# Every state and gate ---------------------------------------------------------------------------


@jax.jit
def slowly(params, state, xs):
    """h, c and the gates of every step, by the textbook."""
    steps = textbook.forward(textbook.from_packed(*params), xs, *state)
    return [jnp.stack([step[k] for step in steps]) for k in ("h", "c", *"ifgo")]


def test_trace_is_the_textbook_of_every_layer_and_direction():
    params, states, xs = problem(bidirectional=True, merge="sum", features=H)
    trace = jax.jit(jl.make_trace(jl.LSTM), static_argnames="reverse")
    lasts, hs, every = stack(params, states, xs, sequence=trace, merge="sum", every=True)
    assert_close((lasts, hs), stack(params, states, xs, merge="sum"))
    for n, below in enumerate((xs, every[0][0].hs + every[0][1].hs)):
        for d, order in enumerate((1, -1)):
            got = every[n][d]
            want = [y[::order] for y in slowly(params.layers[n][d], states[n][d], below[::order])]
            assert_close([got.hs, got.states.c, *got.saved], want)
            assert_same(got.hs, got.states.h)


def test_trace_has_derivatives():
    """For JAX to take; they are those of the hand-written rule."""
    options = {"mask": MASK, "reverse": True}
    params, states, xs = problem(sizes=(H,))
    args, trace = (params.layers[0][0], states[0][0], xs), jl.make_trace(jl.LSTM)

    def through_trace(*args):
        last, every = trace(*args, **options)
        return last, every.hs

    want = value_and_cotangents(lambda *a: jl.lstm(*a, **options), args)
    assert_close(value_and_cotangents(through_trace, args), want)


def test_every_c_and_gate_is_differentiable():
    params, states, xs = problem(sizes=(H,))
    args, trace = (params.layers[0][0], states[0][0], xs[:3]), jl.make_trace(jl.LSTM)

    def by_trace(*args):
        _, every = trace(*args)
        return [every.hs, every.states.c, *every.saved]

    assert_close(value_and_cotangents(by_trace, args), value_and_cotangents(slowly, args))


def test_trace_is_zero_where_a_step_is_no_step():
    params, states, xs = problem(sizes=(H,))
    _, every = jl.make_trace(jl.LSTM)(params.layers[0][0], states[0][0], xs, mask=MASK)
    for leaf in jax.tree.leaves(every):
        assert not leaf[~MASK].any()
        assert leaf[MASK].all()


def test_every_layer_of_the_hand_written_route():
    params, states, xs = problem(bidirectional=True, merge="sum", features=H)
    _, hs, every = stack(params, states, xs, merge="sum", every=True)
    assert_same(every[1][0] + every[1][1], hs)
    assert_close(every[0][0], lstm(params.layers[0][0], states[0][0], xs)[1])


# Algebra, on a bidirectional stack with lengths -------------------------------------------------

PARAMS, STATES, XS = problem(bidirectional=True)
DY = normal_like(8, jax.eval_shape(jl.stack, PARAMS, STATES, XS))


@jax.jit
def run(params, states, xs, lengths, dy):
    """Outputs and cotangents; compiled once for this section."""
    y, vjp = jax.vjp(lambda *a: jl.stack(*a, lengths=lengths), params, states, xs)
    return y, vjp(dy)


CLEAN = run(PARAMS, STATES, XS, LENGTHS, DY)


def rows(tree, index, axis):
    """Some examples of a tree whose batch stands on this axis."""
    return jax.tree.map(lambda x: jnp.take(x, jnp.asarray(index), axis), tree)


def of_examples(result, index):
    """What belongs to these examples: outputs, and the cotangents of states and xs."""
    (lasts, hs), (_, dstates, dxs) = result
    return rows((lasts, dstates), index, 0), rows((hs, dxs), index, 1)


def test_permuted_examples():
    order = [2, 0, 1]
    dlasts, dhs = DY
    got = run(
        PARAMS,
        rows(STATES, order, 0),
        rows(XS, order, 1),
        LENGTHS[jnp.asarray(order)],
        (rows(dlasts, order, 0), rows(dhs, order, 1)),
    )
    assert_close(got[1][0], CLEAN[1][0])
    assert_close(of_examples(got, [0, 1, 2]), of_examples(CLEAN, order))


def test_examples_are_independent():
    """Another example 1, NaN included, changes no bit of examples 0 and 2."""
    for other in (3.0, jnp.nan):
        got = run(PARAMS, STATES, XS.at[:, 1].set(other), LENGTHS, DY)
        assert_same(of_examples(got, [0, 2]), of_examples(CLEAN, [0, 2]))


def test_hidden_units_have_no_order():
    """Units of layer 1 in another order, in its own U and states and in the rows of layer 2's W."""
    order = jnp.asarray([2, 0, 3, 1])
    gates = jnp.concatenate([order + k * H for k in range(4)])
    both = jnp.concatenate([order, order + H])

    def permuted(params, states):
        below, above = params.layers
        below = tuple(jl.LSTMParams(p.W[:, gates], p.U[order][:, gates], p.b[gates]) for p in below)
        above = tuple(p._replace(W=p.W[both]) for p in above)
        moved = jax.tree.map(lambda s: s[..., order], states[0])
        return params._replace(layers=(below, above)), (moved, states[1])

    dlasts, dhs = DY
    _, moved = permuted(PARAMS, dlasts)
    got = run(*permuted(PARAMS, STATES), XS, LENGTHS, (moved, dhs))
    (lasts, hs), (dparams, dstates, dxs) = CLEAN
    want = ((permuted(PARAMS, lasts)[1], hs), (*permuted(dparams, dstates), dxs))
    assert_close(got, want)


def test_linear_in_the_cotangent():
    other = normal_like(11, DY)
    mixed = jax.tree.map(lambda a, b: 2 * a - 3 * b, DY, other)
    _, one = CLEAN
    _, two = run(PARAMS, STATES, XS, LENGTHS, other)
    _, got = run(PARAMS, STATES, XS, LENGTHS, mixed)
    assert_close(got, jax.tree.map(lambda a, b: 2 * a - 3 * b, one, two))


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e300])
def test_padding_reaches_nothing(garbage):
    valid = (jnp.arange(T)[:, None] < LENGTHS)[..., None]
    got = run(PARAMS, STATES, jnp.where(valid, XS, garbage), LENGTHS, DY)
    assert_same(got, CLEAN)
    assert not jnp.where(valid, 0, got[0][1]).any()


def garbage_in_padding():
    """Where xs goes around the layers: residual and skip connections, a mask with holes.

    The outputs and cotangents without garbage, and with it."""
    options = {"residual": True, "skip": "both"}
    params, states, xs = problem(features=H, **options)
    f = functools.partial(jl.stack, mask=MASK, lengths=LENGTHS, between=[some(T, B, 2 * H)])
    f = functools.partial(f, **options)
    dy = normal_like(3, jax.eval_shape(f, params, states, xs))

    @jax.jit
    def run(xs):
        y, vjp = jax.vjp(f, params, states, xs)
        return y, vjp(dy)

    valid = (MASK & (jnp.arange(T)[:, None] < LENGTHS))[..., None]
    return run(xs), run(jnp.where(valid, xs, jnp.nan)), valid


def test_padding_goes_around_no_layer():
    clean, dirty, valid = garbage_in_padding()
    assert_same(dirty, clean)
    assert not jnp.where(valid, 0, dirty[0][1]).any()


# Streams ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["lstm", "lstmp"])
def test_step_by_step_is_the_whole_sequence(cell):
    """Values and cotangents of a scan of the stack of one step."""
    row = CELLS[cell]
    args = problem(cell, sizes=(5, H))

    def whole(*args):
        return jl.stack(*args, sequence=row.sequence)

    def streamed(params, states, xs):
        step = functools.partial(jl.stack, params, sequence=row.step)
        return jax.lax.scan(step, states, xs)

    assert_close(value_and_cotangents(streamed, args), value_and_cotangents(whole, args))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_steps_from_a_stored_state(dtype):
    """One call per step, the state on the host in between."""
    args = jax.tree.map(lambda x: x.astype(dtype), problem())
    params, states, xs = args
    if dtype == "bfloat16":  # c is float32 there
        states = each(states, lambda s: s._replace(c=s.c.astype(jnp.float32)))
    want = jax.jit(jl.stack)(params, states, xs)
    step, hs = jax.jit(functools.partial(jl.stack, sequence=jl.lstm_cell)), []
    for x in xs:
        states, h = step(params, jax.device_get(states), x)
        hs.append(h)
    assert hs[0].dtype == dtype
    assert_close((states, jnp.stack(hs)), want, TOLERANCE[dtype])


@functools.cache
def whole_run():
    args = problem(features=H)
    return args, value_and_cotangents(stack, args)


@pytest.mark.parametrize("at", range(T + 1))
def test_split_and_carry(at):
    """Outputs, and with the carried cotangents the same gradients: params add up, xs line up."""
    (params, states, xs), ((lasts, hs), want) = whole_run()
    dlasts, dhs = normal_like(9, (lasts, hs))
    (carried, low), back_low = jax.vjp(stack, params, states, xs[:at])
    (ends, high), back_high = jax.vjp(stack, params, carried, xs[at:])
    assert_close((ends, jnp.concatenate([low, high])), (lasts, hs))
    dhigh, dcarried, dxs_high = back_high((dlasts, dhs[at:]))
    dlow, dstates, dxs_low = back_low((dcarried, dhs[:at]))
    dparams = jax.tree.map(jnp.add, dlow, dhigh)
    assert_close((dparams, dstates, jnp.concatenate([dxs_low, dxs_high])), want)


# Sizes and dtypes -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0, B, H), (T, 0, H), (T, H), (T, 2, B, H)], ids=str)
def test_any_batch_axes_and_no_time(shape):
    options = {"merge": "mean", "residual": True}
    params, _, _ = problem(bidirectional=True, features=H, **options)
    states = normal_like(1, jl.init_stack_state(params, shape[1:-1]))
    lasts, hs = stack(params, states, some(*shape), **options)
    assert hs.shape == shape
    if 0 in shape:
        assert_same(lasts, states)
    valid = jnp.ones(shape[:-1], bool)
    assert_close(stack(params, states, some(*shape), mask=valid, **options), (lasts, hs))


def test_init_draws_layers_that_fit():
    options = {"bidirectional": (True, False), "skip": "both", "merge": "concat"}
    init = functools.partial(jl.init_lstm, dtype=jnp.float32)
    params = jl.init_stack(jax.random.key(0), D, (5, H), init=init, **options)
    shapes = [[p.W.shape for p in layer] for layer in params.layers]
    assert shapes == [[(D, 20)] * 2, [(10 + D, 16)]]
    assert params.initial is None
    assert {p.W.dtype for layer in params.layers for p in layer} == {jnp.dtype("float32")}
    one, two = params.layers[0]
    assert (one.W != two.W).all()
    run = functools.partial(jl.stack, skip="both")
    states = jl.init_stack_state(params, (B,))
    _, hs = jax.eval_shape(run, params, states, XS.astype(jnp.float32))
    assert hs.shape == (T, B, 10 + H)


def test_lstmp_draws_what_it_says():
    params = jl.init_lstmp(jax.random.key(0), D, 5, 3, forget_bias=2.0, dtype=jnp.bfloat16)
    assert [p.shape for p in params] == [(D, 20), (3, 20), (20,), (5, 3)]
    assert {p.dtype for p in params} == {jnp.dtype("bfloat16")}
    assert_same(params.b, np.repeat([0, 2, 0, 0], 5))
    state, hs = jl.lstmp(params, jl.init_lstmp_state(params), jnp.ones((T, D), jnp.bfloat16))
    assert (hs.dtype, state.h.dtype, state.c.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)


def test_shard_map_of_a_stack_with_learnt_states():
    """Params replicated, the batch split over eight devices: dparams are summed over them."""
    made = {"bidirectional": True, "residual": (False, True), "learn_initial": True}
    params, _, _ = problem(**made)
    xs = some(4, 16, D)

    def local(params, xs):
        def loss(params, xs):
            states = jl.init_stack_state(params, xs.shape[1:2])
            return jnp.sum(jnp.sin(jl.stack(params, states, xs, residual=(False, True))[1]))

        return jax.grad(loss, (0, 1))(params, xs)

    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    specs = (P(), P(None, "data"))
    sharded = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=specs)
    assert_close(jax.device_get(jax.jit(sharded)(params, xs)), jax.jit(local)(params, xs))


# Mutants: what these checks must reject ---------------------------------------------------------


def lstmp_of(**change):
    return jl.make_rnn(jl.LSTMP._replace(**{k: f(getattr(jl.LSTMP, k)) for k, f in change.items()}))


def P_not_in_dm(step_bwd):
    """The output gate and the cell get dh, cut or filled up, in place of dh Pᵀ."""

    def mutant(w, consts, prev, saved, dstate):
        return step_bwd(w._replace(PT=jnp.eye(*w.PT.shape)), consts, prev, saved, dstate)

    return mutant


def dh_from_outside_only(step_bwd):
    """dP sees half of the fork at h_t."""

    def mutant(w, consts, prev, saved, dstate):
        dprev, (da, dh) = step_bwd(w, consts, prev, saved, dstate)
        return dprev, (da, 0.5 * dh)

    return mutant


def m_of_the_old_cell(weights_bwd):
    """dP is made of o * tanh(c_{t-1})."""

    def mutant(params, consts, xs, prevs, saved, deltas):
        i, f, g, o = saved
        old = (0 * i, jnp.ones_like(f), g, o)
        dparams, dxs = weights_bwd(params, consts, xs, prevs, saved, deltas)
        return dparams._replace(P=weights_bwd(params, consts, xs, prevs, old, deltas)[0].P), dxs

    return mutant


@pytest.mark.parametrize(
    "change",
    [
        {"step_bwd": P_not_in_dm},
        {"step_bwd": dh_from_outside_only},
        {"weights_bwd": m_of_the_old_cell},
    ],
    ids=lambda change: next(iter(change.values())).__name__,
)
def test_mutants_of_the_projection(change):
    params, states, xs = problem("lstmp", sizes=(H,))
    args = (params.layers[0][0], states[0][0], xs)
    mutant, _ = lstmp_of(**change)
    with pytest.raises(AssertionError):
        assert_close(value_and_cotangents(mutant, args), value_and_cotangents(jl.lstmp, args))


def test_mutants_of_layers(monkeypatch):
    monkeypatch.setattr(layers, "ends_of_episodes", lambda resets: resets)
    with pytest.raises(AssertionError):
        assert_close(*episodes())
    careless = joints.BY_HAND._replace(clear=lambda valid, x: x)
    monkeypatch.setattr(jl, "stack", functools.partial(layers._stack, careless, jl.lstm))
    with pytest.raises(AssertionError):
        assert_same(*garbage_in_padding()[:2])


MUTANTS = {
    "concatenate": ("concat", lambda xs, dy: stages.concatenate_bwd(xs[::-1], dy)[::-1]),
    "add": ("sum", lambda args, dz: (dz, 0 * dz)),
    "mean": ("mean", lambda args, dz: (dz, dz)),
    "product": ("product", lambda args, dz: stages.product_bwd(args[::-1], dz)),
}


@pytest.mark.parametrize("joint", MUTANTS)
def test_mutants_of_joints(joint, monkeypatch):
    name, twin = MUTANTS[joint]
    mutant = {joint: joints.ruled(getattr(stages, joint), twin)}
    wrong = functools.partial(layers._stack, joints.BY_HAND._replace(**mutant), jl.lstm)
    args, by_hand, _ = stacks(name)
    want = value_and_cotangents(by_hand, args)
    monkeypatch.setattr(jl, "stack", wrong)
    _, by_hand, _ = stacks(name)
    got = value_and_cotangents(by_hand, args)
    assert_same(got[0], want[0])
    with pytest.raises(AssertionError):
        assert_close(got[1], want[1])


# Doors ------------------------------------------------------------------------------------------

TWO = {"params": PARAMS, "states": STATES, "xs": XS}
ODD = dict(zip(("params", "states", "xs"), problem(bidirectional=True, sizes=(5, H)), strict=True))
BAD = {
    "a state too few": (TWO | {"states": STATES[:1]}, "`states` must be"),
    "a direction too few": (TWO | {"states": tuple(s[:1] for s in STATES)}, "got [1, 1]"),
    "a bare state": (TWO | {"states": STATES[0][0]}, "got LSTMState"),
    "a bare state per layer": (TWO | {"states": tuple(s[0] for s in STATES)}, "LSTMState"),
    "no states": (TWO | {"states": None}, "`states` must be"),
    "consts": (TWO | {"consts": [None]}, "`consts` must be"),
    "reset states": (TWO | {"reset_states": STATES[1:]}, "`reset_states` must be"),
    "no layer": (TWO | {"params": jl.StackParams(())}, "at least one layer"),
    "xs": (TWO | {"xs": 3.0}, "`xs` must be (T, ..., D)"),
    "features": (TWO | {"xs": XS[..., :1]}, "`xs` must be (T, ..., D) with D = 2"),
    "xs in a list": (TWO | {"xs": XS.tolist()}, "`xs` must be (T, ..., D), an array; got list"),
    "a layer's params": (
        TWO | {"params": PARAMS.layers[0][0]},
        "StackParams, see jax_lstm.init_st",
    ),
    "numbers for states": (TWO | {"states": ((1, 2), (3, 4))}, "(in layer 1, forward direction)"),
    "sequence": (TWO | {"sequence": "lstm"}, "`sequence` must be a function"),
    "merge of init": (TWO | {"merge": "sum"}, "`merge` and `skip` must be those of init_stack"),
    "beside": (TWO | {"beside": [None]}, "`beside` must be ((forward[, reverse]), ...)"),
    "resets unsaid": (TWO | {"reset_states": STATES}, "`resets` is not given"),
    "words for lengths": (TWO | {"lengths": "long"}, "`lengths` must be integers (3,); got 'long'"),
    "merge": (TWO | {"merge": "max"}, "`merge` must be one of 'concat', 'sum', 'mean', 'product'"),
    "merge per layer": (TWO | {"merge": ("sum",)}, "or a tuple of 2"),
    "residual": (TWO | {"residual": "yes"}, "`residual` must be one of False, True"),
    "skip": (TWO | {"skip": "all"}, "`skip` must be"),
    "residual sizes": (TWO | {"residual": True}, "layer 1: a residual connection needs as many"),
    "another layer's": (ODD | {"residual": (False, True)}, "got [10] in and [8] out"),
    "pair onto one": (
        TWO | {"merge": ("pair", "sum"), "residual": (False, True)},
        "layer 2: a residual connection",
    ),
    "skip of pairs": (TWO | {"merge": ("pair", "sum"), "skip": "outputs"}, 'the merge "pair" in'),
    "between": (TWO | {"between": [XS, XS]}, "`between` must hold 1 array(s)"),
    "between shape": (TWO | {"between": [XS]}, "broadcastable to (6, 3, 8), the input of layer 2"),
    "between dtype": (TWO | {"between": [jnp.ones((B, 1), bool)]}, "`between[0]` must be float64"),
    "between rank": (TWO | {"between": [jnp.ones((2, T, B, 1))]}, "`between[0]` must be float64"),
    "between type": (TWO | {"between": [1.0]}, "`between[0]` must be float64"),
    "resets": (TWO | {"resets": jnp.ones((T,), bool)}, "`resets` must be boolean (T, ...)"),
    "mask": (TWO | {"mask": jnp.ones((T,), bool)}, "`mask` must be boolean (T, ...)"),
    "lengths": (TWO | {"lengths": np.array([1, 2, 9])}, "`lengths` must lie in [0, T = 6]"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_of_a_stack(name):
    options, message = BAD[name]
    with pytest.raises(ValueError, match=r"^") as error:
        jl.stack(**options)
    assert message in str(error.value)


def test_a_door_within_says_which_layer():
    wrong = (STATES[0], (STATES[1][0], each(STATES[1][1], lambda s: s._replace(c=s.c[:1]))))
    with pytest.raises(
        ValueError, match=r"`state.c` must be \(3, 4\).* \(in layer 2 of 2, reverse"
    ):
        jl.stack(PARAMS, wrong, XS)


LSTMPS = problem("lstmp")[0]
UNFIT = {
    "one step": (
        (PARAMS, STATES, XS[0]),
        {"sequence": jl.lstm_cell},
        "`sequence`, here lstm_cell, must take `reverse`; one step runs a stack in one direction "
        "(in layer 1 of 2, reverse direction)",
    ),
    "another cell's states": (
        (LSTMPS, jl.init_stack_state(LSTMPS, (B,)), XS),
        {"sequence": jl.lstmp},
        "(in layer 1 of 2, forward direction; `init_state` of init_stack_state must be the cell's)",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_does_not_fit_the_sequence(name):
    args, options, message = UNFIT[name]
    with pytest.raises(ValueError, match=r"^") as error:
        jl.stack(*args, **options)
    assert message in str(error.value)


BAD_INIT = {
    "no sizes": ({"hidden_sizes": ()}, "`hidden_sizes` must be a tuple with H of each layer"),
    "one size": ({"hidden_sizes": 4}, "`hidden_sizes` must be a tuple"),
    "bidirectional": ({"bidirectional": (True,)}, "`bidirectional` must be one of False, True"),
    "sizes": ({"hidden_sizes": (4, 5), "residual": (False, True)}, "layer 2: a residual"),
    "pair": ({"bidirectional": (True, False), "merge": "pair"}, "layer 2 has one direction and"),
    "skip": ({"skip": 1}, "`skip` must be"),
}


BAD_STATE = {
    "params": ((PARAMS.layers[0][0], (B,)), "`params` must be StackParams"),
    "batch": ((PARAMS, B), "`batch_shape` must be a tuple, say (3,); got 3"),
}


@pytest.mark.parametrize("name", BAD_STATE)
def test_bad_input_of_init_state(name):
    args, message = BAD_STATE[name]
    with pytest.raises(ValueError, match=r"^") as error:
        jl.init_stack_state(*args)
    assert message in str(error.value)


@pytest.mark.parametrize("name", BAD_INIT)
def test_bad_input_of_init(name):
    options, message = BAD_INIT[name]
    with pytest.raises(ValueError, match=r"^") as error:
        jl.init_stack(jax.random.key(0), D, **{"hidden_sizes": (2, 2)} | options)
    assert message in str(error.value)


LSTMP, LSTMP_STATE = (tree[0][0] for tree in (problem("lstmp")[0].layers, problem("lstmp")[1]))
BAD_LSTMP = {
    "P": ({"params": LSTMP._replace(P=LSTMP.P.T)}, "`params.W` must be (2, 16) with H = 4, R = 6"),
    "U": ({"params": LSTMP._replace(U=LSTMP.U[:-1])}, "`params.U` must be (4, 24)"),
    "rank": ({"params": LSTMP._replace(P=LSTMP.b)}, "`params` must be W (D, 4H), U (R, 4H)"),
    "dtype of P": ({"params": LSTMP._replace(P=LSTMP.P.astype(jnp.float32))}, "share one dtype"),
    "features": ({"xs": some(T, B, D + 1)}, "`xs` must be (T, ..., D) with D = 2"),
    "dtype of xs": ({"xs": XS.astype(jnp.float32)}, "`xs` and params must share one dtype"),
    "h of H": ({"state": LSTMP_STATE._replace(h=LSTMP_STATE.c)}, "then R = 4 (params.P)"),
    "c of R": ({"state": LSTMP_STATE._replace(c=LSTMP_STATE.h)}, "then H = 6 (params.P)"),
    "dtype of h": (
        {"state": LSTMP_STATE._replace(h=LSTMP_STATE.h.astype(jnp.float32))},
        "`state.h` must be float64",
    ),
}


@pytest.mark.parametrize("name", BAD_LSTMP)
def test_bad_input_of_lstmp(name):
    change, message = BAD_LSTMP[name]
    with pytest.raises(ValueError, match=r"^") as error:
        jl.lstmp(**{"params": LSTMP, "state": LSTMP_STATE, "xs": XS} | change)
    assert message in str(error.value)
