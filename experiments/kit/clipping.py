"""What --clip bounds, and the three ways in which a backward may lie about dh.

    global     ‖g‖ of all parameters                       optax.clip_by_global_norm
    leaf       ‖g‖ of each array
    gate       ‖g‖ of each array of the LSTM, gate by gate; of each other array
    adaptive   ‖g‖ of each unit over that of its weights    optax.adaptive_grad_clip
    example    ‖g‖ of all parameters, example by example    optax.per_example_global_norm_clip

A dh that is clipped or cut within the backward (`limit_dh`), or that is not let through from the
gates (`h_detach`), is another thing: what comes out is no longer the true gradient of anything, so
that no comparison with jax.grad can hold.
"""

import functools
import math

import jax
import jax.numpy as jnp
import optax

from experiments.kit import windows
from experiments.kit.config import BadInput
from jax_lstm.cells.lstm import LSTM, LSTMParams
from jax_lstm.engine.routes import make_rnn


def clipping(config, bound=None):
    """The optax transformation that --clip-by names, with the bound --clip or another one."""
    bound = config.clip if bound is None else bound
    return {
        "global": lambda: optax.clip_by_global_norm(bound),
        "leaf": lambda: optax.stateless(lambda g, _: jax.tree.map(shrink(bound), g)),
        "gate": lambda: optax.stateless(lambda g, _: by_gate(bound, g)),
        "adaptive": lambda: optax.adaptive_grad_clip(bound),
        "example": optax.identity,  # done before the mean over examples: see `per_example`
    }[config.clip_by]()


def shrink(bound, axes=None):
    """To a norm of at most `bound`, over all axes or over these."""

    def shrunk(g):
        norm = jnp.sqrt(jnp.sum(g * g, axis=axes, keepdims=axes is not None))
        return g * jnp.minimum(1, bound / jnp.maximum(norm, jnp.finfo(g.dtype).tiny)).astype(
            g.dtype
        )

    return shrunk


def by_gate(bound, grads):
    """Blocks i, f, g, o of an LSTM's arrays each by itself; other arrays as a whole."""

    def each(g):
        if not isinstance(g, LSTMParams):
            return shrink(bound)(g)
        return LSTMParams(*(blocks(x) for x in g))

    def blocks(x):
        parts = x.reshape(*x.shape[:-1], len(LSTM.gates), -1)
        axes = (*range(x.ndim - 1), x.ndim)
        return shrink(bound, axes)(parts).reshape(x.shape)

    return jax.tree.map(each, grads, is_leaf=lambda g: isinstance(g, LSTMParams))


def per_example(loss, axes, bound):
    """The loss, whose gradient by params is the mean over examples of gradients that are clipped.

    Args:
      loss: `loss(params, carry, *batch) -> (number, carry)`, a mean over examples.
      axes: which axis of each array of the batch the examples are; None: it is all of theirs.
      bound: on the global norm of an example's gradient.

    Returns:
      a loss of the same form. The value is the true one: `value + <params - params, g>`, with all
      but the first params held fixed, has the gradient g.
    """

    def clipped(params, carry, *batch):
        fixed = jax.lax.stop_gradient(params)

        def of_one(carry, *one):
            carry = jax.tree.map(lambda x: x[None], carry)
            one = [
                x if a is None else jnp.expand_dims(x, a) for x, a in zip(one, axes, strict=True)
            ]
            (value, carry), g = jax.value_and_grad(loss, has_aux=True)(fixed, carry, *one)
            return value, jax.tree.map(lambda x: x[0], carry), g

        values, carries, grads = jax.vmap(of_one, in_axes=(0, *axes))(carry, *batch)
        leaves, tree = jax.tree.flatten(grads)
        with jax.numpy_dtype_promotion("standard"):
            sums, _ = optax.per_example_global_norm_clip(leaves, bound)
        grads = jax.tree.unflatten(tree, [g / len(values) for g in sums])
        apart = jax.tree.map(lambda p, q, g: jnp.sum((p - q) * g), params, fixed, grads)
        return values.mean() + sum(jax.tree.leaves(apart)), carries

    return clipped


# dh ---------------------------------------------------------------------------------------------


def read_dh(words):
    """("clip" or "cut", bound) of "clip:X" or "cut:X"."""
    how, _, number = words.partition(":")
    try:
        bound = float(number)
    except ValueError:
        bound = math.nan
    if how not in ("clip", "cut") or not bound > 0 or bound == math.inf:
        raise BadInput("--dh", f"must be clip:X or cut:X with a number X > 0; got {words!r}")
    return how, bound


def check_dh(config):
    """Complain about a --dh or a --detach that nobody has owned up to."""
    if config.dh is not None:
        read_dh(config.dh)
    untrue = ["--dh"] * (config.dh is not None) + ["--detach"] * windows.detaches(config)
    for option in untrue:
        if config.gradient != "manual":
            raise BadInput(
                option, "is done within the backward by hand: it needs --gradient manual"
            )
        if not config.skip_check:
            raise BadInput(
                option,
                "with it the gradient is no longer the true one, and cannot be that of jax.grad; "
                "--skip-check says that you know",
            )
    if len(untrue) > 1:
        raise BadInput("--detach", "is another backward than that of --dh: take one of them")


def limited(config):
    """The LSTM over a whole sequence with the backward of --dh or of --detach, whose xs are a pair;
    None: its own."""
    if windows.detaches(config):
        return h_detach()
    return None if config.dh is None else limit_dh(*read_dh(config.dh))


@functools.cache
def limit_dh(how, bound):
    """The LSTM over a whole sequence with another backward: each number of dh_t is clipped to
    [-bound, bound], or cut to zero beyond. No longer the true gradient."""

    def step_bwd(w, prev, slopes, dstate):
        dh = dstate.h
        beyond = jnp.clip(dh, -bound, bound) if how == "clip" else jnp.zeros_like(dh)
        dh = jnp.where(jnp.abs(dh) > bound, beyond, dh)
        return LSTM.step_bwd(w, prev, slopes, dstate._replace(h=dh))

    name = f"lstm_with_dh_{how}_{bound:g}"
    cell = LSTM._replace(name=name, step_bwd=step_bwd, step_jvp=None, weights_jvp=None)
    return make_rnn(cell, name, f"The LSTM, dh {how} at {bound:g}: no longer the true gradient.")[0]


@functools.cache
def h_detach():
    """The LSTM over a whole sequence with another backward. Its xs are a pair (xs, (through,)),
    through broadcastable to (T, B, H): dh_{t-1} from the gates of step t is times through_t, 0 or
    1. What the loss itself says of h, and the way through c, are as ever, and so are the weights'
    shares of every step. No longer the true gradient.

    Source: Kanuparthi, Arpit et al. (2019), "h-detach: modifying the LSTM gradient towards better
    optimization".
    """

    def project(w, xs):
        xs, (through,) = xs
        return LSTM.project(w, xs), through

    def step(w, prev, z):
        z, through = z
        state, saved = LSTM.step(w, prev, z)
        return state, (saved, through)

    def slopes(w, prevs, saved):
        saved, through = saved
        return LSTM.slopes(w, prevs, saved), through

    def step_bwd(w, prev, slopes, dstate):
        slopes, through = slopes
        dprev, delta = LSTM.step_bwd(w, prev, slopes, dstate)
        return dprev._replace(h=dprev.h * through.astype(dprev.h.dtype)), delta

    def weights_bwd(w, xs, prevs, saved, deltas):
        xs, through = xs
        dparams, dxs = LSTM.weights_bwd(w, xs, prevs, saved[0], deltas)
        return dparams, (dxs, jax.tree.map(jnp.zeros_like, through))

    functions = {f.__name__: f for f in (project, step, slopes, step_bwd, weights_bwd)}
    name = "lstm_with_h_detach"
    cell = LSTM._replace(name=name, beside=("h",), affine=None, diagonal=None, **functions)
    return make_rnn(cell, name, "The LSTM with h-detach: no longer the true gradient.")[0]
