"""What makes JAX obey the law of twins: a stage, differentiated by the function below it."""

import functools
import inspect
from typing import Any

import jax

from jax_lstm.sharding import vary_together


def with_twin(stage: Any, stage_bwd: Any, door: Any) -> Any:
    """The stage, differentiated by its twin whenever JAX asks for a reverse-mode derivative.

    Args:
      stage: `stage(*args) -> y`.
      stage_bwd: `stage_bwd(args, dy) -> dargs`, None for what has no derivative (integers).
      door: `door(*args)` complains about arguments before anything is traced.
    """
    ruled = jax.custom_vjp(stage)
    ruled.defvjp(lambda *args: (stage(*args), args), stage_bwd)

    @functools.wraps(stage)
    def with_door(*args, **kwargs):
        args = inspect.signature(stage).bind(*args, **kwargs).args
        door(*args)
        return ruled(*vary_together(args))

    return with_door
