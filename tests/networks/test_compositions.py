"""Every option of a stack against the composition written out."""

import jax
import jax.numpy as jnp
import pytest

import jax_lstm as jl
from tests.networks.stacks import LENGTHS, B, D, H, T, episodes, lstm, problem, some, stack
from tests.tables import assert_close, assert_same, normal_like, quick_jit


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


# where it says `between`, the shapes of what stands there
CONNECTED = {
    "plain": {},
    "residual": {"residual": (False, True)},
    "residual at the bottom": {"residual": True},
    "between": {"between": [(T, B, H)]},
    "between, one for all steps": {"between": [(B, H)]},
    "nothing between": {"between": [None]},
    "skip inputs": {"skip": "inputs"},
    "skip outputs": {"skip": "outputs"},
    "skip both, between, residual": {
        "skip": "both",
        "between": [(T, B, H + H)],
        "residual": True,
    },
}


@pytest.mark.parametrize("name", CONNECTED)
def test_connections(name):
    options = dict(CONNECTED[name])
    if "between" in options:
        options["between"] = [shape and some(*shape) for shape in options["between"]]
    residual, skip = options.get("residual", False), options.get("skip")
    residual = residual if isinstance(residual, tuple) else (residual,) * 2
    params, states, xs = problem(features=H, residual=residual, skip=skip)
    last, low = lstm(params.layers[0][0], states[0][0], xs)
    low = low + xs if residual[0] else low
    inputs = jnp.concatenate([low, xs], -1) if skip in ("inputs", "both") else low
    if options.get("between", [None])[0] is not None:
        inputs = inputs * jnp.broadcast_to(options["between"][0], inputs.shape)
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
    for init_state in (jl.init_stack_state, jl.init_stack_state_autodiff):
        twin = "init_stack_state" if init_state is jl.init_stack_state else "stack"
        with pytest.raises(TypeError, match=f"take its twin, {twin}_autodiff"):
            jax.jvp(over(jl.stack, init_state), (params,), (v,))


def test_learnt_states_get_their_gradient_summed_over_examples():
    params, given, _ = problem(bidirectional=True, learn_initial=True)
    states, vjp = jax.vjp(lambda params: jl.init_stack_state(params, (B,)), params)
    for n in range(B):
        assert_same(jax.tree.map(lambda s, n=n: s[n], states), params.initial)
    dparams = vjp(given)[0]
    assert_close(dparams.initial, jax.tree.map(lambda d: d.sum(0), given))
    assert_same(dparams.layers, jax.tree.map(jnp.zeros_like, params.layers))


def test_episodes_are_stacks_of_their_own():
    assert_close(*episodes())
