"""What the tests of stacks share: problems, every option, and two runs that mutants must fail."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jax_lstm as jl
from tests import tables
from tests.tables import CELLS, normal_like, within

T, B, D, H = SIZE = 6, 3, 2, 4
RNG = np.random.default_rng(0)
MASK = RNG.random((T, B)) < 0.6
RESETS = RNG.random((T, B)) < 0.4
LENGTHS = np.asarray([3, T, 0])


def some(*shape, seed=3):
    return normal_like(seed, jax.ShapeDtypeStruct(shape, jnp.float64))


value_and_cotangents = functools.partial(tables.value_and_cotangents, options=tables.QUICK)

# Any sequence function will do; this one compiles once per shape, for the tests that run eagerly.
lstm = jax.jit(jl.lstm, static_argnames="reverse")
stack = functools.partial(jl.stack, sequence=lstm)


class Given(NamedTuple):
    """What a stack is given."""

    params: jl.StackParams
    states: tuple[Any, ...]
    xs: jax.Array


def problem(cell="lstm", sizes=(H, H), features=D, **options):
    """Random params, states and xs in float64."""
    row = CELLS[cell]
    init = lambda key, D, H: row.init(key, D, H, dtype=jnp.float64)
    kit = {"init": init, "init_state": row.init_state}
    draw = functools.partial(jl.init_stack, input_size=features, hidden_sizes=sizes)
    params = jax.eval_shape(lambda key: draw(key, **kit, **options), jax.random.key(0))
    params = normal_like(1, params, 0.5)
    states = jl.init_stack_state(params, (B,), init_state=row.init_state)
    return Given(params, normal_like(2, states, 0.5), some(T, B, features))


@functools.cache
def both_directions():
    """Two layers, each in both directions."""
    return problem(bidirectional=True)


def each(tree, f):
    """f of every state of a stack."""
    return jax.tree.map(f, tree, is_leaf=lambda s: hasattr(s, "_fields"))


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
        "beside": jl.zoneout_masks(
            jax.random.key(5), 0.3, states, T, train=train, fields=row.cell.kept
        ),
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

    valid = (MASK & within(LENGTHS, T))[..., None]
    return run(xs), run(jnp.where(valid, xs, jnp.nan)), valid
