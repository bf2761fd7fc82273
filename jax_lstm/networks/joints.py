"""What stands between layers: stages of stages/between.py, with their twins or as JAX sees them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax_lstm.stages import TWINS
from jax_lstm.stages.twins import as_jax_sees_it, with_twin


class Joints(NamedTuple):
    """The stages by name; the doors are those of the stack."""

    concatenate: Callable[..., Any]
    add: Callable[..., Any]
    mean: Callable[..., Any]
    product: Callable[..., Any]
    clear: Callable[..., Any]
    drop: Callable[..., Any]
    repeat: Callable[..., Any]


BY_HAND = Joints(*(with_twin(TWINS[name]) for name in Joints._fields))
BY_JAX = Joints(*(as_jax_sees_it(TWINS[name]) for name in Joints._fields))
