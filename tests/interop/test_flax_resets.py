"""`resets` of our flax modules, linen and nnx: an episode is a sequence of its own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("flax", reason="flax is the peer of this test: install jax_lstm[flax]")
import flax.linen as nn
from flax import nnx as flax_nnx

from jax_lstm.interop import linen, nnx
from tests.tables import QUICK, assert_close, normal_like

T, B, D, H = 7, 2, 3, 5
AT = 4  # a new episode begins at this step
CELLS = ("OptimizedLSTMCell", "SimpleCell")
MAJOR, BACK, ORDER = {"time_major": True}, {"reverse": True}, {"keep_order": True}
jit = functools.partial(jax.jit, compiler_options=QUICK)


@functools.cache
def module(house, name):
    """(xs, **options) -> outputs, of a module with random weights; and its cell's step."""
    if house == "linen":
        rnn = linen.RNN(getattr(linen, name)(H, dtype="float64", param_dtype="float64"))
        tree = jax.eval_shape(rnn.init, jax.random.key(0), jnp.zeros((B, T, D)))
        params = normal_like(1, tree, 0.5)
        cell = {"params": params["params"]["cell"]}
        return functools.partial(rnn.apply, params), functools.partial(rnn.cell.apply, cell)
    cell = getattr(nnx, name)(
        D, H, dtype=jnp.float64, param_dtype=jnp.float64, rngs=flax_nnx.Rngs(0)
    )
    return nnx.RNN(cell), cell


def carry_like(name, seed):
    one = jax.ShapeDtypeStruct((B, H), jnp.float64)
    return normal_like(seed, one if name == "SimpleCell" else (one, one))


@pytest.mark.half
@pytest.mark.parametrize("options", [{}, MAJOR, BACK | ORDER], ids=str)
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("house", ["linen", "nnx"])
def test_an_episode_is_a_sequence_of_its_own(house, name, options):
    rnn, cell = module(house, name)
    first, fresh = carry_like(name, 2), carry_like(name, 3)
    xs = normal_like(4, jax.ShapeDtypeStruct((B, T, D), jnp.float64))
    dones = np.zeros((B, T), np.int32)
    back = "reverse" in options
    dones[:, AT - 1 if back else AT] = 1  # before the step, in the direction of the run
    axis = 0 if "time_major" in options else 1
    turn = lambda x: jnp.swapaxes(x, 0, 1) if axis == 0 else x
    run = functools.partial(rnn, return_carry=True, **options)

    @jit
    def both(xs):
        parts = [turn(xs[:, :AT]), turn(xs[:, AT:])]
        carries = (fresh, first) if back else (first, fresh)
        (early, one), (late, two) = (
            run(x, initial_carry=c) for x, c in zip(parts, carries, strict=True)
        )
        want = early if back else late, jnp.concatenate([one, two], axis)
        options = {"resets": turn(jnp.asarray(dones)), "reset_carry": fresh}
        return run(turn(xs), initial_carry=first, **options), want

    got, want = both(xs)
    assert_close(got, want)
    if not options:  # one rule for acting and for training
        carry = first
        for t in range(T):
            carry, _ = cell(carry, xs[:, t], resets=dones[:, t], reset_carry=fresh)
        assert_close(carry, want[0])


def example(b, carry):
    return jax.tree.map(lambda x: x[b : b + 1], carry)


@pytest.mark.parametrize("options", [{}, BACK, BACK | ORDER], ids=str)
@pytest.mark.parametrize("house", ["linen", "nnx"])
def test_resets_within_lengths(house, options):
    """Beyond its length an example's resets change nothing that is not padding."""
    rnn, _ = module(house, "OptimizedLSTMCell")
    lengths, first = jnp.asarray([6, 3]), carry_like("", 2)
    xs = normal_like(4, jax.ShapeDtypeStruct((B, T, D), jnp.float64))
    resets = np.zeros((B, T), bool)
    resets[0, 2], resets[1, 5] = True, True

    @jit
    def both(xs):
        run = functools.partial(rnn, initial_carry=first, return_carry=True, **options)
        got = run(xs, seq_lengths=lengths, resets=resets)
        each = [
            run(xs[b : b + 1, :n], resets=resets[b : b + 1, :n], initial_carry=example(b, first))
            for b, n in ((0, 6), (1, 3))
        ]
        return got, each

    (carry, hs), each = both(xs)
    for b, (last, want) in enumerate(each):
        assert_close(hs[b : b + 1, : want.shape[1]], want)
        assert_close(example(b, carry), last)


@pytest.mark.parametrize("house", ["linen", "nnx"])
def test_what_is_refused(house):
    rnn, cell = module(house, "OptimizedLSTMCell")
    xs = jnp.zeros((B, T, D))
    for options, match in (
        ({"resets": np.full((B, T), 2)}, "`resets` must be boolean, or 0 and 1; got 2"),
        ({"resets": np.zeros((T, B))}, r"boolean \(T, ...\) = \(7, 2\); got float64 \(2, 7\)"),
        ({"reset_carry": carry_like("", 0)}, "`reset_carry` is where `resets` lead to"),
        ({"resets": np.zeros((B, T)), "reset_carry": xs}, "`reset_carry` must be a pair"),
    ):
        with pytest.raises(ValueError, match=match):
            rnn(xs, **options)
    with pytest.raises(ValueError, match=r"boolean \(...\) = \(2,\)"):
        cell(carry_like("", 0), xs[:, 0], resets=np.zeros((B, T)))


def test_flax_s_loop_knows_no_resets():
    rnn = linen.RNN(nn.OptimizedLSTMCell(H))
    with pytest.raises(ValueError, match="`resets` need a cell of this file, not lifted"):
        rnn.init(jax.random.key(0), jnp.zeros((B, T, D)), resets=np.zeros((B, T)))
    rnn = nnx.RNN(flax_nnx.OptimizedLSTMCell(D, H, rngs=flax_nnx.Rngs(0)))
    with pytest.raises(ValueError, match="any other runs by flax's loop, which knows none"):
        rnn(jnp.zeros((B, T, D)), resets=np.zeros((B, T)))
