"""How the gradient flows: its size at every step, and the derivative of the last step by each.

    dh_t, dc_t                what the loss feels of the nodes h_t and c_t of the graph
    ∂h_T/∂h_t, ∂c_T/∂c_t      what the last h and c feel of them: products of Jacobians over time

Both are derivatives of a node by a node, along every way there is between them. What came before
the node is held: changing h_t leaves c_t alone; changing c_t moves h_t = o_t ⊙ tanh(c_t) with it.
With the Jacobian of a step, from state to state,

    J_s = ∂(h_s, c_s) / ∂(h_{s-1}, c_{s-1})
    ∂h_T/∂h_t = [1 0] J_T ... J_{t+1} [1 0]ᵀ
    ∂c_T/∂c_t = [0 1] J_T ... J_{t+1} [o_t ⊙ (1 - tanh²(c_t))  1]ᵀ

so that row k of ∂c_T/∂c_t is what textbook.py calls dc_t, for the loss c_Tk. Along c alone this is
diag(f_T ⊙ ... ⊙ f_{t+1}): see `forget_products`.

Jᵀ u is the cell's own `step_bwd`, the hand-written rule that the engine runs; J v is the transpose
of that linear function, not a second derivation. Sources: Hochreiter & Schmidhuber (1997) for the
error that stays constant along c; Bengio, Simard & Frasconi (1994) and Pascanu, Mikolov & Bengio
(2013) for the product of Jacobians in the simple network, and its bound.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.typing import ArrayLike

from jax_lstm.analysis.opened import (
    Linearised,
    check_cotangents,
    check_run,
    every_step,
    length,
    node,
    nonzero,
    step_back,
)
from jax_lstm.cells.elman import ELMAN
from jax_lstm.cells.lstm import LSTM
from jax_lstm.doors import check_size, is_array, refuse
from jax_lstm.engine.bptt import fork_of_h
from jax_lstm.engine.programs import in_one_program
from jax_lstm.engine.segments import clear_masked, where, widen, zeros_like
from jax_lstm.notation import Tree
from jax_lstm.stages import tanh_bwd


class GradientNorms(NamedTuple):
    """Lengths by step and example, zero where a step is no step.

    dstate: ‖dh_t‖ and ‖dc_t‖, (T, ...), in the fields of a state.
    delta: ‖da_t‖ of each gate, (T, ..., gates).
    """

    dstate: Tree
    delta: jax.Array


class JacobianNorms(NamedTuple):
    """norm: ‖∂h_T/∂h_t‖₂ and ‖∂c_T/∂c_t‖₂, (n, ...), in the fields of a state, from below.
    residual: ‖JᵀJv - σ²v‖ / σ², likewise: so near to σ² is the square of some singular value."""

    norm: Tree
    residual: Tree


def gradient_norms(run: Linearised, dhs: ArrayLike, dstate: Tree = None) -> GradientNorms:
    """How long the gradient is at every step, for a loss of one's own.

        ‖dh_t‖, ‖dc_t‖, ‖da_t‖ by gate      as textbook.py's dh, dc, da_i, da_f, da_g, da_o

    Args:
      run: Linearised, say of `linearised_lstm(params, state, xs)`.
      dhs: dL/dh_t from the outside, (T, ..., H), dtype of xs.
      dstate: cotangent of the last state, like `state`; zeros if not given.

    Returns:
      GradientNorms, wide.

    Raises:
      ValueError: dhs or dstate of another shape or dtype.

    Source: Hochreiter & Schmidhuber (1997), the error that flows back; jax_lstm/textbook.py.
    """
    return in_one_program(norms, (), run, dhs, check_cotangents(run, dhs, dstate))


def norms(run, dhs, dstate):
    """`gradient_norms`, as one program."""
    mask = run.steps.mask

    def body(dstate, now):
        now, dh = now
        dstate = fork_of_h(dstate, dh)
        dprev, delta = step_back(run, now, dstate)
        delta = jax.tree.leaves(delta)[0]
        gates = jnp.stack(jnp.split(delta, len(run.gates), axis=-1), axis=-2)
        return dprev, GradientNorms(jax.tree.map(length, node(now, dstate)), length(gates))

    now = (every_step(run), clear_masked(mask, dhs))
    return clear_masked(mask, lax.scan(body, widen(dstate), now, reverse=not run.reverse)[1])


def unit(x):
    """x / ‖x‖, or zero."""
    return x / nonzero(length(x))[..., None]


# Jacobians over time --------------------------------------------------------------------------


def jacobians(run: Linearised) -> Tree:
    """What the last step feels of each step, along every way: whole Jacobians, for small H.

        ∂h_T/∂h_t,  ∂c_T/∂c_t      t = 1 ... T, H rows going back at once

    Their singular values say how far they stretch: `jnp.linalg.norm(J, 2, (-2, -1))`. The head of
    jax_lstm/analysis/flow.py says what is held and what moves.

    Args:
      run: Linearised, say of `linearised_lstm(params, state, xs)`.

    Returns:
      a state whose fields are Jacobians, (T, ..., H, H), wide: h[t, ..., k, j] = ∂h_Tk / ∂h_tj. The
      last one is 1. T is the last step run. In masked steps the node is the state handed on.

    Source: Bengio, Simard & Frasconi (1994); Pascanu, Mikolov & Bengio (2013).
    """

    check_run(run)
    return in_one_program(rows_back, (), run)


def rows_back(run):
    """`jacobians`, as one program."""

    def of(n):
        def body(dstate, now):
            here = jax.vmap(lambda d: node(now, d)[n])(dstate)
            return jax.vmap(lambda d: step_back(run, now, d)[0])(dstate), here

        rows = unit_rows(widen(run.state), n)
        J = lax.scan(body, rows, every_step(run), reverse=not run.reverse)[1]
        return jnp.moveaxis(J, 1, -2)

    return type(run.state)(*(of(n) for n in range(len(run.state))))


def unit_rows(state, n):
    """H cotangents of a state, (H, ..., H): the unit vectors of its n-th field."""
    H = state[n].shape[-1]
    eye = jnp.eye(H, dtype=state[n].dtype).reshape((H, *(1,) * (state[n].ndim - 1), H))
    return only(n, copies(state, H), jnp.broadcast_to(eye, (H, *state[n].shape)))


def copies(state, n):
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (n, *x.shape)), state)


def only(n, state, x):
    """x for the n-th field of a state, zeros for the others."""
    return type(state)(*(x if k == n else z for k, z in enumerate(zeros_like(state))))


def jacobian_norms(
    run: Linearised, at: Sequence[int] | ArrayLike, *, iterations: int = 100, seed: int = 0
) -> JacobianNorms:
    """How much the last step feels of some steps: the largest singular values, at any H.

        ‖∂h_T/∂h_t‖₂,  ‖∂c_T/∂c_t‖₂      by power iteration on JᵀJ
        u = J v,   σ = ‖u‖,   v ← Jᵀu / ‖Jᵀu‖

    No Jacobian is formed: u goes back through all steps by the hand-written rule, v goes forward by
    its transpose. One iteration costs n times a pass each way.

    Args:
      run: Linearised, say of `linearised_lstm(params, state, xs)`.
      at: places t of xs, n whole numbers in [0, T).
      iterations: of the power iteration, >= 1. Each shrinks the error of σ by (σ_2/σ_1)⁴.
      seed: of the first v.

    Returns:
      JacobianNorms: norm and residual, wide. σ is never too large; a small residual says that it
      has arrived.

    Raises:
      ValueError: places outside of [0, T); iterations < 1.

    Source: Golub & Van Loan, "Matrix Computations", the power method.
    """
    check_run(run)
    iterations = check_size("iterations", iterations, 1)
    seed = check_size("seed", seed, 0)
    at = check_places(at, run.states[0].shape[0])
    return in_one_program(iterate, (iterations,), run, at, jax.random.key(seed))


def iterate(iterations, run, at, key):
    """`jacobian_norms`, as one program."""
    T, state = run.states[0].shape[0], widen(run.state)
    every, now = copies(state, len(at)), (jnp.arange(T, dtype=jnp.int32), every_step(run))

    def forward(n, v):
        """J v for each place: v enters after its step, and goes on by the transpose of back."""

        def body(tangents, now):
            t, now = now
            on = jax.linear_transpose(lambda d: step_back(run, now, d)[0], state)
            enter = jax.linear_transpose(lambda d: node(now, d)[n], state)
            tangents = jax.vmap(lambda d: on(d)[0])(tangents)
            return where(at == t, jax.vmap(lambda x: enter(x)[0])(v), tangents), None

        return lax.scan(body, zeros_like(every), now, reverse=run.reverse)[0][n]

    def backward(n, u):
        """Jᵀ u for each place: what the step there feels of u."""

        def body(carry, now):
            dstate, found = carry
            t, now = now
            found = where(at == t, jax.vmap(lambda d: node(now, d)[n])(dstate), found)
            return (jax.vmap(lambda d: step_back(run, now, d)[0])(dstate), found), None

        start = (only(n, every, u), jnp.zeros_like(u))
        return lax.scan(body, start, now, reverse=not run.reverse)[0][1]

    def of(n):
        v = jax.random.normal(key, every[n].shape, every[n].dtype)
        v = lax.fori_loop(1, iterations, lambda _, v: unit(backward(n, unit(forward(n, v)))), v)
        v = unit(v)
        u = forward(n, v)
        norm = length(u)
        off = backward(n, unit(u)) - norm[..., None] * v  # (JᵀJv - σ²v) / σ
        return norm, length(off) / nonzero(norm)

    found = [of(n) for n in range(len(state))]
    return JacobianNorms(*(type(state)(*parts) for parts in zip(*found, strict=True)))


def check_places(at, T):
    want = "a list of whole numbers, known before the run"
    if isinstance(at, Tracer) or not (is_array(at) or isinstance(at, tuple | list | range)):
        refuse("at", want, at)
    try:
        places = np.asarray(at, int if not is_array(at) and not len(at) else None)
    except (TypeError, ValueError):  # lists of unequal length, traced numbers
        refuse("at", want, at)
    if places.ndim != 1 or places.dtype.kind not in "iu":
        refuse("at", want, at)
    if places.size and not 0 <= places.min() <= places.max() < T:
        raise ValueError(f"`at` must lie in [0, T = {T}); got {places.min()} to {places.max()}")
    return jnp.asarray(places, jnp.int32)


# What the gates alone would do ----------------------------------------------------------------


def forget_products(run: Linearised) -> jax.Array:
    """What of the cell state stays: ∂c_T/∂c_t along c alone, the error carousel of the LSTM.

        p_t = f_T ⊙ f_{T-1} ⊙ ... ⊙ f_{t+1}        p_T = 1

    The Jacobian ∂c_T/∂c_t is diag(p_t) exactly if U = 0, and its norm is max_k p_tk. The ways
    through h come on top of it, with either sign: it is no bound of the whole.

    Args:
      run: Linearised of an LSTM.

    Returns:
      p: (T, ..., H), wide, in [0, 1].

    Raises:
      ValueError: another cell, which has no forget gate.

    Source: Hochreiter & Schmidhuber (1997); with a forget gate Gers, Schmidhuber & Cummins (2000).
    """
    check_cell(run, LSTM, "an LSTM")
    return later(run, run.saved[1])


def elman_bounds(run: Linearised) -> jax.Array:
    """How much the simple network can pass on at most, by the largest singular value of U.

        ‖∂h_T/∂h_t‖₂ <= Π_{s=t+1}^{T} ‖U‖₂ max_k (1 - h_sk²)

    Args:
      run: Linearised of an Elman network.

    Returns:
      bounds: (T, ...), wide.

    Raises:
      ValueError: another cell.

    Source: Bengio, Simard & Frasconi (1994); Pascanu, Mikolov & Bengio (2013).
    """
    check_cell(run, ELMAN, "an Elman network")
    h = run.saved
    slope = tanh_bwd(h, jnp.ones_like(h)).max(-1, initial=0)
    return later(run, slope * jnp.linalg.norm(run.params.U.astype(h.dtype), 2))


def later(run, factors):
    """The product of the factors of all later steps: (T, ...). 1 where a step is no step, and 0
    from a reset on back."""
    mask, resets = run.steps.mask, run.steps.resets
    factors = where(mask, factors, jnp.ones_like(factors))
    factors = factors if resets is None else clear_masked(~resets, factors)
    one = jnp.ones_like(factors[:1])
    if run.reverse:
        return lax.cumprod(jnp.concatenate([one, factors[:-1]])[: len(factors)])
    return lax.cumprod(jnp.concatenate([factors[1:], one])[: len(factors)], reverse=True)


def check_cell(run, cell, name):
    check_run(run)
    if run.cell is not cell:
        raise ValueError(f"`run` must be {name}'s: see `linearised_...`")
