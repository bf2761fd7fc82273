"""Losses with twins. Each returns one number per example; sums and means are the caller's.

A twin gets the cotangent dl of that number, so a mean over n examples is dl = 1/n.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jax_lstm.doors import check_array, check_floats, check_interval, check_range
from jax_lstm.notation import Numbers
from jax_lstm.stages.twins import both_routes, row


def softmax_cross_entropy(logits: Numbers, targets: Numbers) -> Array:
    """Negative log likelihood of a symbol under softmax(logits), in nats.

        l = log Σ_v exp(y_v) - y_target                                       (7)

    Args:
      logits: y, (..., V).
      targets: integers in [0, V), (...).

    Returns:
      l: (...), dtype of logits.
    """
    y_target = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - y_target


def softmax_cross_entropy_bwd(residual: tuple[Array, Array], dl: Array) -> tuple[Array, None]:
    """dy_v = dl (softmax(y)_v - [v = target])                                (7')"""
    logits, targets = residual
    one_hot = jax.nn.one_hot(targets, logits.shape[-1], dtype=logits.dtype)
    return dl[..., None] * (jax.nn.softmax(logits, axis=-1) - one_hot), None


def softmax_cross_entropy_jvp(residual: tuple[Array, Array], tangents: tuple[Array, None]) -> Array:
    """l̇ = Σ_v softmax(y)_v ẏ_v - ẏ_target                                    (7t)"""
    (logits, targets), (y_dot, _) = residual, tangents
    at_target = jnp.take_along_axis(y_dot, targets[..., None], axis=-1)[..., 0]
    return (jax.nn.softmax(logits, axis=-1) * y_dot).sum(-1) - at_target


def binary_cross_entropy_with_logits(logits: Numbers, targets: Numbers) -> Array:
    """Negative log likelihood of independent yes/no answers, in nats, summed over the last axis.

        l = Σ_k max(y_k, 0) - y_k p_k + log(1 + exp(-|y_k|))                  (8)

    Args:
      logits: y, (..., V).
      targets: p in [0, 1], (..., V), dtype of logits.

    Returns:
      l: (...), dtype of logits.
    """
    y, p = logits, targets
    return (jnp.maximum(y, 0) - y * p + jnp.log1p(jnp.exp(-jnp.abs(y)))).sum(-1)


def binary_cross_entropy_with_logits_bwd(
    residual: tuple[Array, Array], dl: Array
) -> tuple[Array, Array]:
    """dy = dl (sigmoid(y) - p)      dp = - dl y                               (8')"""
    y, p = residual
    return dl[..., None] * (jax.nn.sigmoid(y) - p), -dl[..., None] * y


def binary_cross_entropy_with_logits_jvp(
    residual: tuple[Array, Array], tangents: tuple[Array, Array]
) -> Array:
    """l̇ = Σ_k (sigmoid(y_k) - p_k) ẏ_k - y_k ṗ_k                             (8t)"""
    (y, p), (y_dot, p_dot) = residual, tangents
    return ((jax.nn.sigmoid(y) - p) * y_dot - y * p_dot).sum(-1)


def squared_error(y: Numbers, targets: Numbers) -> Array:
    """Half the squared distance, summed over the last axis.

        l = ½ Σ_k (y_k - p_k)²                                                (9)

    Args:
      y: (..., V).
      targets: p, (..., V), dtype of y.

    Returns:
      l: (...), dtype of y.
    """
    return 0.5 * ((y - targets) ** 2).sum(-1)


def squared_error_bwd(residual: tuple[Array, Array], dl: Array) -> tuple[Array, Array]:
    """dy = dl (y - p)      dp = - dy                                         (9')"""
    y, targets = residual
    dy = dl[..., None] * (y - targets)
    return dy, -dy


def squared_error_jvp(residual: tuple[Array, Array], tangents: tuple[Array, Array]) -> Array:
    """l̇ = Σ_k (y_k - p_k) (ẏ_k - ṗ_k)                                        (9t)"""
    (y, p), (y_dot, p_dot) = residual, tangents
    return ((y - p) * (y_dot - p_dot)).sum(-1)


# Doors, and decorated last: each loss with its twin, `..._autodiff` as JAX sees it


def check_classes(logits, targets):
    check_floats("logits", logits, "(..., V)", 1)
    check_array("targets", targets)
    if not jnp.issubdtype(targets.dtype, jnp.integer) or targets.shape != logits.shape[:-1]:
        raise ValueError(
            f"`targets` must be integers {logits.shape[:-1]}, one per row of logits "
            f"{logits.shape}; got {targets.dtype} {targets.shape}"
        )
    V = logits.shape[-1]
    check_range("targets", targets, V - 1, f"[0, V = {V})")


def check_answers(logits, targets):
    check_same(logits, targets, "logits")
    check_interval("targets", targets)


def check_same(y, targets, name="y"):
    check_floats(name, y, "(..., V)", 1)
    check_floats("targets", targets, "(..., V)", 1)
    if y.shape != targets.shape or y.dtype != targets.dtype:
        raise ValueError(
            f"`targets` must be {y.dtype} {y.shape} like the scores; "
            f"got {targets.dtype} {targets.shape}"
        )


ROWS = {
    "softmax_cross_entropy": row(
        softmax_cross_entropy,
        softmax_cross_entropy_bwd,
        softmax_cross_entropy_jvp,
        "logits:T,B,V targets:V_of_T,B",
        "logits targets",
    ),
    "binary_cross_entropy_with_logits": row(
        binary_cross_entropy_with_logits,
        binary_cross_entropy_with_logits_bwd,
        binary_cross_entropy_with_logits_jvp,
        "logits:T,B,V targets:T,B,V",
        "logits targets",
    ),
    "squared_error": row(
        squared_error, squared_error_bwd, squared_error_jvp, "y:T,B,V targets:T,B,V", "y targets"
    ),
}
softmax_cross_entropy, softmax_cross_entropy_autodiff = both_routes(
    softmax_cross_entropy, ROWS["softmax_cross_entropy"], check_classes
)
binary_cross_entropy_with_logits, binary_cross_entropy_with_logits_autodiff = both_routes(
    binary_cross_entropy_with_logits, ROWS["binary_cross_entropy_with_logits"], check_answers
)
squared_error, squared_error_autodiff = both_routes(
    squared_error, ROWS["squared_error"], check_same
)
