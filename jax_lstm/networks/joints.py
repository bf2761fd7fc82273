"""What stands between layers: stages of stages/between.py, with twins or as JAX sees them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import lax

from jax_lstm import stages
from jax_lstm.networks.masks import drop, drop_autodiff
from jax_lstm.stages.twins import with_twin


class Joints(NamedTuple):
    """The stages by name; `repeat(batch_shape)` is a function of x alone."""

    concatenate: Callable[..., Any]
    add: Callable[..., Any]
    mean: Callable[..., Any]
    product: Callable[..., Any]
    clear: Callable[..., Any]
    drop: Callable[..., Any]
    repeat: Callable[..., Any]


def ruled(stage, stage_bwd):
    """The stage with its twin; doors are those of the stack."""
    return with_twin(stage, stage_bwd, lambda *args: None)


def repeat(batch_shape):
    return lambda x: stages.repeat(x, batch_shape)


def repeat_by_hand(batch_shape):
    return ruled(repeat(batch_shape), lambda args, dxs: (stages.repeat_bwd(args[0], dxs),))


BY_HAND = Joints(
    concatenate=ruled(stages.concatenate, stages.concatenate_bwd),
    add=ruled(stages.add, lambda args, dz: stages.add_bwd(dz)),
    mean=ruled(stages.mean, lambda args, dz: stages.mean_bwd(dz)),
    product=ruled(stages.product, stages.product_bwd),
    clear=ruled(stages.clear, lambda args, dy: (None, stages.clear_bwd(args[0], dy))),
    drop=drop,
    repeat=repeat_by_hand,
)
BY_JAX = Joints(
    concatenate=stages.concatenate,
    add=stages.add,
    mean=stages.mean,
    product=stages.product,
    clear=stages.clear,
    drop=lambda x, mask: drop_autodiff(x, lax.stop_gradient(mask)),
    repeat=repeat,
)
