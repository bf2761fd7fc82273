"""CURVATURE: what a matrix that nobody forms is like, from its products with vectors.

    leading eigenvalues     Lanczos, every vector kept orthogonal to those before
    trace                   Hutchinson, E zᵀ A z with z = ±1; of a block, Σ z ⊙ A z over the block

The matrix is a function `product(vector)` on trees: of `lstm_hvp`, `lstm_gauss_newton` and
`lstm_fisher`, or of anything symmetric. By gate block it is P A P, where P keeps the columns of one
gate in every weight.

Sources: Lanczos (1950); Golub & Van Loan, "Matrix Computations", for the orthogonalisation and the
bound of an eigenvalue; Hutchinson (1990); Ghorbani, Krishnan & Xiao (2019) and Yao et al. (2020,
PyHessian) for both on networks. Lyapunov exponents stand in lyapunov.py.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

from jax_lstm.cells.lstm import LSTM
from jax_lstm.doors import check_arrays, check_function, check_size, refuse
from jax_lstm.engine.cell import AnyCell
from jax_lstm.engine.doors import check_fields, check_params, check_record
from jax_lstm.engine.shapes import axes_of
from jax_lstm.notation import Tree

REST = "other"  # the numbers that belong to no gate


class Spectrum(NamedTuple):
    """Eigenvalues, the largest in size first: values (n,), residuals (n,), vectors: a tree with
    axis 0 of n. Some eigenvalue is as near to a value as its residual ‖A v - λ v‖ is large."""

    values: jax.Array
    residuals: jax.Array
    vectors: Tree


class TraceEstimate(NamedTuple):
    """mean: of the draws. error: the standard error of it. Of a block each, where there are any."""

    mean: Any
    error: Any


class Curvature(NamedTuple):
    """What `curvature` found, by block: "all", and each gate; sizes: how many numbers it has.
    values and residuals (n,), trace and its standard error, for each block."""

    blocks: tuple[str, ...]
    sizes: tuple[int, ...]
    values: Any
    residuals: Any
    trace: Any
    error: Any


# Lanczos and Hutchinson -----------------------------------------------------------------------


def lanczos(
    product: Callable[..., Tree],
    like: Tree,
    *,
    number: int = 1,
    iterations: int = 32,
    block: Tree = None,
    seed: int = 0,
) -> Spectrum:
    """The leading eigenvalues of a symmetric matrix that is known by its products.

        A q_k = β_{k-1} q_{k-1} + α_k q_k + β_k q_{k+1}      eigenvalues of the tridiagonal matrix

    Args:
      product: `product(vector) -> A vector`, both trees like `like`, say
        `lambda v: jl.lstm_hvp(params, state, xs, (v, None, None), loss)[2][0]`.
      like: a tree of floating-point arrays, say the parameters.
      number: of eigenvalues, 1 <= number <= iterations.
      iterations: products to take; no more than there are numbers in the block are taken.
      block: a tree of booleans like `like`: those of a principal block of A; None: all of it. See
        `gate_blocks`.
      seed: of the first vector.

    Returns:
      Spectrum: values, residuals (n,), vectors like `like` with n in front; n is `number`, or less
      where the block is smaller.

    Raises:
      ValueError: a product that is no function, `like` or `block` of something else than such
        arrays, numbers out of range.

    Source: Lanczos (1950); Golub & Van Loan, "Matrix Computations".
    """
    return spectra(product, like, [block], number, iterations, seed)[0]


def spectra(product, like, blocks, number, iterations, seed):
    """A Spectrum per block; blocks of one size are one program."""
    check_lanczos(product, number, iterations, seed)
    masks = [check_like(like, block)[0] for block in blocks]
    _, back, dtype = check_like(like, None)
    run = jax.jit(functools.partial(krylov, product, back, dtype), static_argnums=0)
    found = []
    for mask in masks:
        steps = min(iterations, int(mask.sum()))
        n = min(number, steps)
        values, residuals, vectors = run(steps, mask, jax.random.key(seed))
        found.append(Spectrum(values[:n], residuals[:n], jax.vmap(back)(vectors[:n])))
    return found


def check_lanczos(product, number, iterations, seed):
    check_function("product", product, 1)
    check_size("number", number, 1)
    check_size("iterations", iterations, 1)
    if number > iterations:
        raise ValueError(f"`number` must be at most `iterations`, {iterations}; got {number}")
    check_size("seed", seed, 0)


def hutchinson(
    product: Callable[..., Tree],
    like: Tree,
    *,
    samples: int = 32,
    blocks: dict[str, Tree] | None = None,
    seed: int = 0,
) -> TraceEstimate:
    """The trace of a matrix that is known by its products, and that of its blocks.

        tr A = E zᵀ A z,  z = ±1 with equal chances

    Args:
      product, like: see `lanczos`.
      samples: products to take, >= 2.
      blocks: {name: a tree of booleans like `like`}, see `gate_blocks`; None: the whole.
      seed: of z.

    Returns:
      TraceEstimate: mean and standard error, numbers; of blocks, {name: number}.

    Raises:
      ValueError: as `lanczos`.

    Source: Hutchinson (1990), "A stochastic estimator of the trace of the influence matrix".
    """
    check_function("product", product, 1)
    _, back, dtype = check_like(like, None)
    samples = check_size("samples", samples, 2)
    check_size("seed", seed, 0)
    if blocks is not None and not isinstance(blocks, dict):
        refuse("blocks", "None or {name: booleans like `like`}", blocks)
    masks = [check_like(like, block, "blocks")[0] for block in (blocks or {"": None}).values()]
    if not masks:
        return TraceEstimate({}, {})
    masks = jnp.asarray(np.stack(masks))
    run = jax.jit(functools.partial(traces, product, back, samples, dtype))
    mean, error = run(masks, jax.random.key(seed))
    if blocks is None:
        return TraceEstimate(mean[0], error[0])
    return TraceEstimate(*(dict(zip(blocks, x, strict=True)) for x in (mean, error)))


def curvature(
    product: Callable[..., Tree],
    params: Tree,
    cell: AnyCell = LSTM,
    *,
    number: int = 1,
    iterations: int = 32,
    samples: int = 32,
    seed: int = 0,
) -> Curvature:
    """Leading eigenvalues and the trace of a matrix of a cell's parameters, whole and by gate.

    Args:
      product: see `lanczos`; on trees like params.
      params: the cell's parameters.
      cell: a `Cell`.
      number, iterations, seed: see `lanczos`. samples: see `hutchinson`.

    Returns:
      Curvature: one of each per block.

    Raises:
      ValueError: as `lanczos`, `hutchinson` and `gate_blocks`.

    Source: see `lanczos` and `hutchinson`.
    """
    check_lanczos(product, number, iterations, seed)
    check_size("samples", samples, 2)
    gates = gate_blocks(params, cell)
    whole = jax.tree.map(lambda x: np.ones(np.shape(x), bool), params)
    blocks = {"all": whole} | gates
    found = spectra(product, params, blocks.values(), number, iterations, seed)
    trace = hutchinson(product, params, samples=samples, blocks=blocks, seed=seed)
    sizes = tuple(sum(int(x.sum()) for x in jax.tree.leaves(b)) for b in blocks.values())
    values, residuals = ([s.values for s in found], [s.residuals for s in found])
    mean, error = trace
    return Curvature(tuple(blocks), sizes, values, residuals, [*mean.values()], [*error.values()])


def gate_blocks(params: Tree, cell: AnyCell = LSTM) -> dict[str, Tree]:
    """Which numbers of a cell's parameters belong to which gate.

    Args:
      params: the cell's parameters.
      cell: a `Cell` that says its `gates` and `shapes`.

    Returns:
      {gate: a tree of booleans like params}: the gate's columns of every weight whose last axis is
      the gates side by side, "4H". "other": what belongs to no gate, where there is such.

    Raises:
      ValueError: parameters of another cell; a cell without gates.
    """
    check_record("cell", cell)
    check_fields("params", params, cell.params)
    if not cell.gates or not cell.shapes:
        raise ValueError(f"`cell` must say its gates and shapes; {cell.name} does not")
    check_params(cell, params)
    n = len(cell.gates)
    found = {}
    for k, gate in enumerate((*cell.gates, REST)):
        leaves = []
        for (_, text), x in zip(cell.shapes, params, strict=True):
            *_, last = axes_of(text) or [""]
            apart = last == f"{n}H" or (n == 1 and last == "H")
            columns = np.arange(x.shape[-1]) * n // x.shape[-1]
            leaves.append(np.broadcast_to(columns == k if apart else gate == REST, x.shape))
        if any(x.any() for x in leaves):
            found[gate] = type(params)(*leaves)
    return found


def check_like(like, block, name="block"):
    """Which numbers of the tree, flat, as booleans; how a flat vector becomes a tree; its dtype."""
    check_arrays("like", like)
    leaves = jax.tree.leaves(like)
    if not leaves or not all(jnp.issubdtype(x.dtype, jnp.floating) for x in leaves):
        refuse("like", "a tree of floating-point arrays", like)
    flat, back = ravel_pytree(like)
    if block is None:
        return np.ones(flat.size, bool), back, flat.dtype
    same = jax.tree.structure(block) == jax.tree.structure(like)
    if not same or any(
        np.shape(b) != np.shape(x) or np.asarray(b).dtype != bool
        for b, x in zip(jax.tree.leaves(block), leaves, strict=True)
    ):
        refuse(name, "booleans like `like`", block)
    parts = [np.asarray(b).reshape(-1) for b in jax.tree.leaves(block)]
    return np.concatenate(parts), back, flat.dtype


def krylov(product, back, dtype, steps, mask, key):
    """Eigenvalues, residuals and vectors of P A P from so many products, the largest in size
    first. Where what is left of A q is rounding, A maps the space found so far into itself, and a
    new vector begins in what is left."""
    flat = lambda v: jnp.where(mask, ravel_pytree(product(back(v)))[0], 0)
    eps = jnp.finfo(dtype).eps

    def apart(v, basis):
        for _ in range(2):  # twice is enough (Kahan, Parlett)
            v = v - basis.T @ (basis @ v)
        return v

    def fresh(n, basis):
        v = jax.random.normal(jax.random.fold_in(key, n), mask.shape, dtype)
        v = apart(jnp.where(mask, v, 0), basis)
        return v / jnp.linalg.norm(v)

    def body(carry, n):
        basis, q, scale = carry
        basis = basis.at[n].set(q)
        v = flat(q)
        alpha = q @ v
        v = apart(v, basis)
        beta = jnp.linalg.norm(v)
        scale = jnp.maximum(scale, jnp.abs(alpha) + beta)
        lost = beta <= 16 * eps * scale
        new = jnp.where(lost, fresh(n + 1, basis), v / jnp.where(lost, 1, beta))
        return (basis, new, scale), (alpha, jnp.where(lost, 0, beta))

    basis = jnp.zeros((steps, mask.size), dtype)
    carry = basis, fresh(0, basis), jnp.zeros((), dtype)
    (basis, _, _), (alpha, beta) = lax.scan(body, carry, jnp.arange(steps))
    side = jnp.diag(beta[:-1], 1)
    values, vectors = jnp.linalg.eigh(jnp.diag(alpha) + side + side.T)
    order = jnp.argsort(-jnp.abs(values))
    residuals = jnp.abs(beta[-1] * vectors[-1])
    return values[order], residuals[order], (vectors.T @ basis)[order]


def traces(product, back, samples, dtype, masks, key):
    """Means and standard errors of Σ z ⊙ A z over each block."""

    def draw(n):
        z = jax.random.rademacher(jax.random.fold_in(key, n), masks.shape[1:], dtype)
        v = z * ravel_pytree(product(back(z)))[0]
        return jnp.where(masks, v, 0).sum(-1)

    found = lax.map(draw, jnp.arange(samples))
    return found.mean(0), found.std(0, ddof=1) / samples**0.5
