"""The legend. Everything else in this package is written in these letters.

Sizes (capitals are used for sizes only)
    T   time steps                 B   examples (any number of batch axes, also none)
    D   input features             H   hidden units
    V   symbols of a vocabulary    K   time steps of one segment

Arrays: rows are examples, products are ``x @ W``, time is axis 0 of a sequence
    x, h, c         input, hidden state, cell state of one step   (..., D), (..., H), (..., H)
    xs, hs, cs      the same for a whole sequence                 (T, ..., D), (T, ..., H)
    h_prev, c_prev  the states of step t-1
    a               net input, before the nonlinearity; a_i is its block for gate i
    i, f, g, o      input gate, forget gate, candidate, output gate, ALWAYS in this order
    W, U, b         (D, 4H), (H, 4H), (4H,): blocks i, f, g, o side by side

The law of twins
    ``dX`` is the cotangent dL/dX. It has the shape and the dtype of X.
    The derivative of ``stage`` is ``stage_bwd(residual, dy)``, the next function in the file.
    It returns cotangents in the order of the forward's arguments.
    ``residual`` names what the derivative needs, inputs or outputs, whichever is cheaper to keep.
    What is used twice is a fork, and the cotangents of its branches are added: see stages.fork.
    ``with_twin`` makes JAX obey the law; ``stage_autodiff`` is the same stage without it.

Precision
    Parameters, xs and h share one dtype. The cell state, elementwise work and sums over time and
    examples are `wide`: float32 where that dtype has 16 bits, the dtype itself otherwise.
"""

import functools
import inspect
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

GATES = ("i", "f", "g", "o")


def wide(dtype):
    """The dtype of cell states, elementwise work and sums: 16-bit floats become float32."""
    return jnp.dtype(jnp.float32 if jnp.finfo(dtype).bits == 16 else dtype)


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


def vary_together(tree):
    """Give every array of the tree the same varying axes, for use under `jax.shard_map`.

    A hand-written rule returns a cotangent per device for a weight that all devices share. Here the
    weight becomes varying first; the transpose of that broadcast is the psum of dW. Outside of
    `shard_map` nothing is traced.
    """
    axes = set().union(*(varying_axes(leaf) for leaf in jax.tree.leaves(tree)))

    def vary(leaf):
        missing = tuple(sorted(axes - varying_axes(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(vary, tree) if axes else tree


def varying_axes(x):
    """Mesh axes over which x differs from device to device; JAX renamed the attribute once."""
    kind = jax.typeof(x)
    return kind.vma if hasattr(kind, "vma") else kind.manual_axis_type.varying


def check_range(name, values, highest, legend):
    """Complain about integers outside [0, highest]. Under jit their values cannot be looked at."""
    if isinstance(values, Tracer) or np.size(values) == 0:
        return
    values = np.asarray(values)
    if values.min() < 0 or values.max() > highest:
        raise ValueError(f"`{name}` must lie in {legend}; got {values.min()} to {values.max()}")


def check_floats(name, x, form, least):
    """Complain about what is no floating point array with at least so many axes."""
    if not hasattr(x, "dtype"):
        raise ValueError(f"`{name}` must be an array; got {type(x).__name__}")
    if not jnp.issubdtype(x.dtype, jnp.inexact) or x.ndim < least:
        raise ValueError(f"`{name}` must be floating point {form}; got {x.dtype} {x.shape}")


def check_size(name, size, least):
    """The size as a Python integer (NumPy's would wrap in 4H), or a complaint."""
    try:
        whole = operator.index(size)
    except TypeError:
        whole = None
    if whole is None or isinstance(size, bool) or whole < least:
        raise ValueError(f"`{name}` must be a whole number >= {least}; got {size!r}")
    return whole
