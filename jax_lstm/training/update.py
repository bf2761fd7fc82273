"""A language model, its loss and its optax update: pure functions, with the route as an argument.

    x = embedding(E, tokens)         (6)     stages/readout.py
    state, h = sequence(lstm, state, x)      cells/, or anything with that signature
    y = dense(readout, h)            (5)     stages/readout.py
    L = mean over time and streams of softmax_cross_entropy(y, targets)     (7)   stages/losses.py

A `Route` says whose derivatives these four stages use. BY_HAND and AUTODIFF compute the same loss.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from jax_lstm.cells.lstm import LSTMParams, init_lstm, lstm, lstm_autodiff
from jax_lstm.doors import check_function, check_init, refuse
from jax_lstm.engine.made import Made
from jax_lstm.notation import Tree
from jax_lstm.stages.losses import softmax_cross_entropy, softmax_cross_entropy_autodiff
from jax_lstm.stages.readout import (
    DenseParams,
    dense,
    dense_autodiff,
    embedding,
    embedding_autodiff,
    init_dense,
    init_embedding,
)

BITS = 1 / math.log(2)  # bits per nat


class LanguageModel(NamedTuple):
    """Parameters: E (V, D), the cell's own, W (H, V) and b (V,)."""

    embedding: jax.Array
    lstm: LSTMParams
    readout: DenseParams


class Route(NamedTuple):
    """The four stages of the model, each with the derivative it brings along."""

    embedding: Callable[..., Any]
    sequence: Callable[..., Any]
    dense: Callable[..., Any]
    loss: Callable[..., Any]


BY_HAND = Route(embedding, lstm, dense, softmax_cross_entropy)
AUTODIFF = Route(embedding_autodiff, lstm_autodiff, dense_autodiff, softmax_cross_entropy_autodiff)


class Step(NamedTuple):
    """What an update hands on, and what it saw: the loss in nats and the norm of the gradient
    before clipping."""

    params: Tree
    opt_state: Tree
    state: Tree
    loss: jax.Array
    gradient_norm: jax.Array


def init_language_model(
    key: jax.Array,
    vocabulary_size: int,
    embedding_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
) -> LanguageModel:
    """LanguageModel for V symbols, with D and H as given; each part drawn as its own init does.

    Raises:
      ValueError: what is no key, a size that is no whole number >= 1, a dtype that is not floating
        point.
    """
    sizes = {"embedding_size": embedding_size, "hidden_size": hidden_size}
    V, D, H = check_init(key, dtype, vocabulary_size=vocabulary_size, **sizes)
    keys = jax.random.split(key, 3)
    return LanguageModel(
        init_embedding(keys[0], V, D, dtype=dtype),
        init_lstm(keys[1], D, H, dtype=dtype),
        init_dense(keys[2], H, V, dtype=dtype),
    )


def language_model_loss(
    params: LanguageModel,
    state: Tree,
    tokens: jax.Array,
    targets: jax.Array,
    *,
    route: Route = BY_HAND,
) -> tuple[jax.Array, Tree]:
    """Mean negative log likelihood of the next symbol.

        L = 1/(T B) Σ_t Σ_b softmax_cross_entropy(y_tb, target_tb)

    Args:
      params: LanguageModel.
      state: what the cell carries; of the stream so far, or zeros at its start. No gradient flows
        from one window into the one before: truncated backpropagation through time.
      tokens, targets: integers in [0, V), (T, ...). Usually targets[t] is tokens[t + 1].
      route: whose derivatives: BY_HAND, AUTODIFF, or stages of your own.

    Returns:
      L: in nats, dtype of the loss; state: after the last step. As `jax.value_and_grad(...,
      has_aux=True)` wants them.

    Raises:
      ValueError: what is no model or route, and what the stages raise.
    """
    check_parts("params", params, LanguageModel)
    check_parts("route", route, Route)
    xs = route.embedding(params.embedding, tokens)
    state, hs = route.sequence(params.lstm, state, xs)
    return route.loss(route.dense(params.readout, hs), targets).mean(), state


def check_parts(name, given, kind):
    """The parts of `kind`, in a tuple of one's own perhaps."""
    if not all(hasattr(given, field) for field in kind._fields):
        refuse(name, f"a {kind.__name__}({', '.join(kind._fields)})", given)


def make_update(
    optimizer: optax.GradientTransformation,
    loss: Callable[..., Tree],
    rate: Callable[..., Any] | None = None,
) -> Callable[..., Step]:
    """One step of an optax optimizer down the gradient of a loss with a carried state.

    Args:
      optimizer: `optax.GradientTransformation`; one that takes extra arguments gets the loss as
        `value`.
      loss: `loss(params, state, *batch) -> (number, state)`, say `language_model_loss`.
      rate: `rate(*batch) -> number`, by which what the optimizer adds to params is multiplied: of
        windows of random lengths, length / mean (Merity, Keskar & Socher 2018). None: 1.

    Returns:
      update: `update(params, opt_state, state, *batch) -> Step`. Pure; to be jitted by the caller,
      with `donate_argnums=(0, 1, 2)` so that the new values take the place of the old ones.

    Raises:
      ValueError: an optimizer without `init` and `update`, a loss or a rate that is no function.
    """
    if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        refuse("optimizer", "a transformation of optax, say optax.adam(1e-3)", optimizer)
    check_function("loss", loss)
    if rate is not None:
        check_function("rate", rate)
    value_and_grad = jax.value_and_grad(loss, has_aux=True)
    step_down = optax.with_extra_args_support(optimizer).update

    def update(params, opt_state, state, *batch):
        (value, state), dparams = value_and_grad(params, state, *batch)
        with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises floats to integer powers
            norm = optax.tree.norm(dparams)
            updates, opt_state = step_down(dparams, opt_state, params, value=value)
            if rate is not None:
                updates = optax.tree.scale(rate(*batch), updates)
            params = optax.apply_updates(params, updates)
        return Step(params, opt_state, state, value, norm)

    update.__qualname__ = "update"  # by which Python complains
    return Made(update, make_update, (optimizer, loss, rate))


def make_updates(update: Callable[..., Step]) -> Callable[..., Step]:
    """Several updates in one call, so that the host is asked once for all of them.

    The loop's length is an argument of the program and no part of it: how updates are gathered into
    calls changes neither the program nor, on one machine, a bit of the result.

    Args:
      update: `update(params, opt_state, state, *batch) -> Step`, say of `make_update`.

    Returns:
      updates: `updates(params, opt_state, state, n, *batches) -> Step`; each array of `batches` has
      K batches along its first axis, n <= K (int32, may be traced) are used. loss and gradient_norm
      have an axis of K in front; from the n-th on they are zero. Pure; to be jitted by the caller,
      with `donate_argnums=(0, 1, 2)`.

    Raises:
      ValueError: an update that is no function, batches without arrays.
    """
    check_function("update", update)

    def updates(params, opt_state, state, n, *batches):
        leaves = jax.tree.leaves(batches)
        if not leaves:
            refuse("batches", "arrays with the batches along the first axis", batches)
        carried, (K, *_) = (params, opt_state, state), leaves[0].shape
        at = lambda i: jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, 0, False), batches)
        seen = jax.eval_shape(lambda: update(*carried, *at(0)))[3:]
        zeros = jax.tree.map(lambda x: jnp.zeros((K, *x.shape), x.dtype), tuple(seen))

        def body(i, loop):
            carried, seen = loop
            step = update(*carried, *at(i))
            place = lambda xs, x: jax.lax.dynamic_update_index_in_dim(xs, x, i, 0)
            return tuple(step[:3]), jax.tree.map(place, seen, tuple(step[3:]))

        carried, seen = jax.lax.fori_loop(0, n, body, (carried, zeros))
        return Step(*carried, *seen)

    updates.__qualname__ = "updates"
    return Made(updates, make_updates, (update,))
