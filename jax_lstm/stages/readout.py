"""From symbols to vectors and from hidden states to scores: two stages with twins."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jax_lstm.doors import check_array, check_floats, check_init, check_range
from jax_lstm.notation import Numbers, wide
from jax_lstm.stages.step import (
    bias,
    bias_bwd,
    bias_jvp,
    linear,
    linear_bwd,
    linear_jvp,
)
from jax_lstm.stages.twins import Twin, both_routes, row


class DenseParams(NamedTuple):
    """W (H, V) and b (V,) of a dense readout."""

    W: jax.Array
    b: jax.Array


def init_dense(
    key: Array, input_size: int, output_size: int, *, dtype: DTypeLike = jnp.float32
) -> DenseParams:
    """A dense layer with lecun-normal W (input_size, output_size) and zero b (output_size,).

    Raises:
      ValueError: what is no key, a size that is no whole number >= 1, a dtype that is not floating
        point.
    """
    H, V = check_init(key, dtype, input_size=input_size, output_size=output_size)
    W = jax.nn.initializers.lecun_normal()(key, (H, V), dtype)
    return DenseParams(W, jnp.zeros((V,), dtype))


def dense(params: DenseParams, x: Numbers) -> Array:
    """An affine map of each example.

        y = x W + b                                                           (5)

    Args:
      params: DenseParams, W (H, V) and b (V,).
      x: (..., H), dtype of W.

    Returns:
      y: scores, (..., V), float32 for 16-bit x, else the dtype of x.
    """
    return bias(linear(x, params.W), params.b)


def dense_bwd(residual: tuple[DenseParams, Array], dy: Array) -> tuple[DenseParams, Array]:
    """dW = Σ xᵀ dy    db = Σ dy    dx = dy Wᵀ                                 (5')"""
    params, x = residual
    dy, db = bias_bwd(None, dy)
    dx, dW = linear_bwd((x, params.W), dy)
    return DenseParams(dW.astype(params.W.dtype), db.astype(params.b.dtype)), dx.astype(x.dtype)


def dense_jvp(residual: tuple[DenseParams, Array], tangents: tuple[DenseParams, Array]) -> Array:
    """ẏ = ẋ W + x Ẇ + ḃ                                                      (5t)"""
    (params, x), (params_dot, x_dot) = residual, tangents
    return bias_jvp(None, (linear_jvp((x, params.W), (x_dot, params_dot.W)), params_dot.b))


def init_embedding(
    key: Array, vocabulary_size: int, size: int, *, dtype: DTypeLike = jnp.float32
) -> Array:
    """A table E (vocabulary_size, size) of standard normal numbers: inputs of variance 1.

    Raises:
      ValueError: what is no key, a size that is no whole number >= 1, a dtype that is not floating
        point.
    """
    shape = check_init(key, dtype, vocabulary_size=vocabulary_size, size=size)
    return jax.random.normal(key, shape, dtype)


def embedding(E: Numbers, tokens: Numbers) -> Array:
    """A row of the table for each symbol: `one_hot(tokens) @ E` without the product.

        x = E[token]                                                          (6)

    Args:
      E: table, (V, D).
      tokens: integers in [0, V), any shape. Or one-hot rows (..., V) in E's dtype: the product
        then adds exact zeros, so the result is the same to the bit.

    Returns:
      x: (..., D), dtype of E.
    """
    if jnp.issubdtype(tokens.dtype, jnp.integer):
        return E[tokens]
    return linear(tokens, E).astype(E.dtype)


def embedding_bwd(residual: tuple[Array, Array], dx: Array) -> tuple[Array, Array | None]:
    """dE[v] = Σ over the places where token = v of dx; a one-hot row gets dx Eᵀ (6')"""
    E, tokens = residual
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        dtokens, dE = linear_bwd((tokens, E), dx.astype(wide(E.dtype)))
        return dE.astype(E.dtype), dtokens.astype(tokens.dtype)
    rows = dx.reshape((-1, dx.shape[-1])).astype(wide(E.dtype))
    dE = jnp.zeros(E.shape, rows.dtype).at[tokens.reshape(-1)].add(rows)
    return dE.astype(E.dtype), None


def embedding_jvp(residual: tuple[Array, Array], tangents: tuple[Array, Array | None]) -> Array:
    """ẋ = Ė[token]; of a one-hot row, which may have a tangent, ẋ = ṙow E + row Ė (6t)"""
    (E, tokens), (E_dot, tokens_dot) = residual, tangents
    if tokens_dot is None:
        return embedding(E_dot, tokens)
    return linear_jvp((tokens, E), (tokens_dot, E_dot)).astype(E.dtype)


# Doors, and decorated last: each with its twin, `..._autodiff` as JAX sees it


def check_dense(params, x):
    if not isinstance(params, DenseParams):
        raise ValueError(f"`params` must be DenseParams(W, b); got {type(params).__name__}")
    check_floats("x", x, "(..., H)", 1)
    check_floats("params.W", params.W, "(H, V)", 2)
    check_floats("params.b", params.b, "(V,)", 1)
    if params.W.ndim != 2 or params.b.shape != params.W.shape[1:]:
        raise ValueError(
            f"`params` must be W (H, V), b (V,); got {params.W.shape}, {params.b.shape}"
        )
    if x.shape[-1] != params.W.shape[0]:
        raise ValueError(
            f"`x` must be (..., H) with H = {params.W.shape[0]} (rows of params.W); got {x.shape}"
        )
    if not x.dtype == params.W.dtype == params.b.dtype:
        raise ValueError(
            f"`x` and params must share one dtype; got {x.dtype}, W {params.W.dtype}, "
            f"b {params.b.dtype}"
        )


def check_embedding(E, tokens):
    check_floats("E", E, "(V, D)", 2)
    if E.ndim != 2:
        raise ValueError(f"`E` must be (V, D); got shape {E.shape}")
    check_array("tokens", tokens)
    if jnp.issubdtype(tokens.dtype, jnp.integer):
        check_range("tokens", tokens, E.shape[0] - 1, f"[0, V = {E.shape[0]})")
    elif tokens.ndim < 1 or tokens.shape[-1] != E.shape[0] or tokens.dtype != E.dtype:
        raise ValueError(
            f"`tokens` must be integers, or one-hot rows (..., V = {E.shape[0]}) of {E.dtype}; "
            f"got {tokens.dtype} {tokens.shape}"
        )


ROWS = {
    "dense": Twin(
        dense,
        dense_bwd,
        dense_jvp,
        (("params", (DenseParams, ("W", "H,V"), ("b", "V"))), ("x", "T,B,H")),
        ("params", "x"),
    ),
    "embedding": row(embedding, embedding_bwd, embedding_jvp, "E:V,D tokens:V_of_T,B", "E tokens"),
    "embedding of rows": row(
        embedding, embedding_bwd, embedding_jvp, "E:V,D tokens:T,B,V", "E tokens"
    ),
}
dense, dense_autodiff = both_routes(dense, ROWS["dense"], check_dense)
embedding, embedding_autodiff = both_routes(embedding, ROWS["embedding"], check_embedding)
