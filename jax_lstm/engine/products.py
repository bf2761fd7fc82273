"""PRODUCTS WITH CURVATURE: the Hessian, the Gauss-Newton and the Fisher matrix of a loss of what a
sequence returns, times a direction. No matrix is formed, and of the sequence nothing is
differentiated by JAX; of the loss, a function of outputs alone, JAX takes what it takes.

    y = rnn(θ),  ẏ = J θ̇                                     one pass forward, with the tangent
    H θ̇  = Jᵀ (∇²L ẏ) + the tangent of Jᵀ at ∇L              one pass back, with the tangent
    G θ̇  = Jᵀ (∇²L ẏ)                                        one pass back
    F θ̇  = Σ_n ∇l_n (∇l_n · θ̇) = Jᵀ Kᵀ K ẏ,  K = ∂l / ∂y     one pass back

Sources: Pearlmutter (1994); Schraudolph (2002); Martens (2020), "New insights and perspectives on
the natural gradient method", for which of them are equal when.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_lstm.doors import check_function, check_text, unlike_a_number
from jax_lstm.engine import bptt
from jax_lstm.engine.cell import AnyCell
from jax_lstm.engine.doors import check_record
from jax_lstm.engine.forward_mode import forward_mode, prepare_tangents
from jax_lstm.engine.functions import Residuals, Unroll
from jax_lstm.engine.made import Made
from jax_lstm.engine.programs import in_one_program, with_sequence
from jax_lstm.engine.second_order import backward_pair, forward


def make_hvp(cell: AnyCell, name: str = "rnn_hvp") -> Callable[..., Any]:
    """The Hessian of a loss times a direction, by Pearlmutter's R-operator, for a cell.

    Args:
      cell: a `Cell`. The LSTM brings the tangents of its backward by hand; of a cell without a
        `second` JAX takes the tangents of the hand-written `slopes`, `step_bwd`, `weights_bwd`.
      name: of the function.

    Returns:
      `rnn_hvp(params, state, xs, tangents, loss, **options) -> value, gradient, product`, with the
      options of `jax_lstm.lstm`. `loss(state, hs)` is one number, of the last state and of h at
      every step; JAX takes its gradient and the tangent of that. `tangents` is (params_dot,
      state_dot, xs_dot), or those and reset_state_dot; each like what it is the direction of, or
      None for zeros, which spares its part of the work. `gradient` and `product` are tuples like
      the arguments, (params, state, xs), or these and reset_state: the derivative of the loss by
      each, and the derivative of that along `tangents`. Under `jax.shard_map` they are each
      device's own.

    Raises:
      ValueError: as `jax_lstm.lstm`; for tangents unlike what they belong to; for a loss that is no
        function, or returns no single real number.

    Source: Pearlmutter (1994), "Fast exact multiplication by the Hessian".
    """
    return made(make_hvp, cell, name, hessian, HVP)


def make_gauss_newton(cell: AnyCell, name: str = "rnn_gauss_newton") -> Callable[..., Any]:
    """The Gauss-Newton matrix of a loss times a direction, Jᵀ (∇²L) J θ̇, for a cell.

    It is positive where the loss is convex in the outputs. For a squared error, and for a softmax
    cross-entropy of scores that are linear in the outputs, it is the Fisher matrix of the model.

    Args:
      cell, name: see `make_hvp`.

    Returns:
      `rnn_gauss_newton(params, state, xs, tangents, loss, **options) -> value, product`, arguments
      as of `make_hvp`.

    Raises:
      ValueError: as `make_hvp`.

    Source: Schraudolph (2002), "Fast curvature matrix-vector products".
    """
    return made(make_gauss_newton, cell, name, gauss_newton, GAUSS_NEWTON)


def make_fisher(cell: AnyCell, name: str = "rnn_fisher") -> Callable[..., Any]:
    """The empirical Fisher matrix times a direction, Σ_n ∇l_n ∇l_nᵀ θ̇, for a cell.

    Of targets that were drawn from the model itself it is an estimate of the model's own.

    Args:
      cell, name: see `make_hvp`.

    Returns:
      `rnn_fisher(params, state, xs, tangents, loss, **options) -> values, product`, arguments as of
      `make_hvp`, but that `loss(state, hs)` is an array, l_n for each n: the negative log
      likelihoods of what is independent, say one per example, (B,).

    Raises:
      ValueError: as `make_hvp`, but for the shape of the loss.

    Source: Martens (2020), "New insights and perspectives on the natural gradient method".
    """
    return made(make_fisher, cell, name, fisher, FISHER)


def make_rop(cell: AnyCell, name: str = "rnn_rop") -> Callable[..., Any]:
    """Pearlmutter's R-operator on a cell: what is below is for losses with parameters of their own,
    for readouts and for stacks, whose second derivatives go on above and below this layer.

    Args:
      cell, name: see `make_hvp`.

    Returns:
      `rnn_rop(params, state, xs, tangents, **options) -> outputs, outputs_dot, back`, arguments as
      of `make_hvp`: (state, hs), their tangents, and `back(cotangents, cotangents_dot) -> gradient,
      gradient_dot`, a pytree that may leave a `jax.jit`. Cotangents are like the outputs.

    Raises:
      ValueError: as `make_hvp`.

    Source: Pearlmutter (1994), "Fast exact multiplication by the Hessian".
    """
    check_record("cell", cell)
    check_text("name", name)

    def run(
        params: Any,
        state: Any,
        xs: Any,
        tangents: tuple[Any, ...],
        *,
        consts: Any = None,
        lengths: Any = None,
        mask: Any = None,
        resets: Any = None,
        reset_state: Any = None,
        reverse: bool = False,
        residuals: Residuals = "full",
        unroll: Unroll = 1,
    ) -> tuple[Any, Any, Callable[..., Any]]:
        """(state, hs), their tangents, and the way back for cotangents and their tangents."""
        flags = (lengths, mask, resets, reset_state)
        given = (params, state, xs, consts, *flags, reverse, residuals, unroll)
        plan, arrays, dots = prepare(tangents, cell, *given)
        ys, ys_dot, residual = in_one_program(r_forward, (plan,), arrays, dots)
        back = functools.partial(r_backward, plan, reset_state is not None)
        return ys, ys_dot, jax.tree_util.Partial(back, residual)

    run.__name__ = run.__qualname__ = name
    return Made(run, make_rop, (cell, name))


def made(
    maker: Callable[..., Any], cell: AnyCell, name: str, route: Callable[..., Any], title: str
) -> Callable[..., Any]:
    """The function that people call, for one of the routes below."""
    check_record("cell", cell)
    check_text("name", name)

    def run(
        params: Any,
        state: Any,
        xs: Any,
        tangents: tuple[Any, ...],
        loss: Callable[..., Any],
        *,
        consts: Any = None,
        lengths: Any = None,
        mask: Any = None,
        resets: Any = None,
        reset_state: Any = None,
        reverse: bool = False,
        residuals: Residuals = "full",
        unroll: Unroll = 1,
    ) -> Any:
        check_function("loss", loss)
        flags = (lengths, mask, resets, reset_state)
        given = (params, state, xs, consts, *flags, reverse, residuals, unroll)
        plan, arrays, dots = prepare(tangents, cell, *given)
        return with_sequence(route, (plan, reset_state is not None), loss, arrays, dots)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = title
    return Made(run, maker, (cell, name))


HVP = "(value, gradient, product) of a loss of the outputs and of its Hessian; see `make_hvp`."
GAUSS_NEWTON = "(value, product) of a loss and of its Gauss-Newton matrix; see `make_gauss_newton`."
FISHER = "(values, product) of losses and of their Fisher matrix; see `make_fisher`."


def prepare(tangents, cell, *given):
    """As `prepare_tangents`; but of xs that are held the direction is None, which a cell with
    tangents of its own makes cheaper than zeros."""
    plan, arrays, (*dots, xs_dot) = prepare_tangents(tangents, cell, *given)
    return plan, arrays, (*dots, None if tangents[2] is None else xs_dot)


# Routes ---------------------------------------------------------------------------------------


def in_order(found, resets_lead):
    """(params, state, xs), and reset_state where it was given: as people give them."""
    dparams, dfresh, dstate, dxs = found
    return (dparams, dstate, dxs, dfresh) if resets_lead else (dparams, dstate, dxs)


def r_forward(plan, arrays, dots):
    return forward(plan, *arrays, dots=dots)


def r_backward(plan, resets_lead, residual, dys, dys_dot):
    found = in_one_program(backward_pair, (plan,), residual, dys, dys_dot)
    return tuple(in_order(x, resets_lead) for x in found)


def value_and_cotangents(loss, state, hs):
    """The loss, and its derivative by the last state and by h at every step."""
    if got := unlike_a_number(jax.eval_shape(loss, state, hs)):
        raise ValueError(f"`loss` must return one real number; got {got}")
    return jax.value_and_grad(loss, (0, 1))(state, hs)


def curved(loss, ys, ys_dot):
    """The loss of the outputs, its gradient ∇L, and the tangent of that, ∇²L ẏ."""
    of_outputs = functools.partial(value_and_cotangents, loss)
    (value, dys), (_, dys_dot) = jax.jvp(of_outputs, ys, ys_dot)
    return value, dys, dys_dot


def hessian(plan, resets_lead, loss, arrays, dots):
    ys, ys_dot, residual = forward(plan, *arrays, dots=dots)
    value, dys, dys_dot = curved(loss, ys, ys_dot)
    both = backward_pair(plan, residual, dys, dys_dot)
    return value, *(in_order(found, resets_lead) for found in both)


def back_from_the_middle(plan, resets_lead, middle, arrays, dots):
    """Jᵀ M J θ̇: `middle(ys, ys_dot)` is what the loss has to say, and M ẏ."""
    xs_dot = jax.tree.map(jnp.zeros_like, arrays[-1].xs) if dots[-1] is None else dots[-1]
    _, ys_dot = forward_mode(plan, *arrays, dots=(*dots[:-1], xs_dot))
    ys, residual = bptt.forward(plan, *arrays)
    value, dys = middle(ys, ys_dot)
    dparams, _, dfresh, dstate, dsteps = bptt.backward(plan, residual, dys)
    return value, in_order((dparams, dfresh, dstate, dsteps.xs), resets_lead)


def gauss_newton(plan, resets_lead, loss, arrays, dots):
    def middle(ys, ys_dot):
        value, _, dys_dot = curved(loss, ys, ys_dot)
        return value, dys_dot

    return back_from_the_middle(plan, resets_lead, middle, arrays, dots)


def fisher(plan, resets_lead, loss, arrays, dots):
    def middle(ys, ys_dot):
        values, values_dot = jax.jvp(loss, ys, ys_dot)
        return values, jax.vjp(loss, *ys)[1](values_dot)

    return back_from_the_middle(plan, resets_lead, middle, arrays, dots)
