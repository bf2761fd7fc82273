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

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

# What is written in signatures, for type checkers. `Tree` is a pytree whose form is the user's.
Tree: TypeAlias = Any
Numbers: TypeAlias = Array | np.ndarray
ArrayOrTree: TypeAlias = ArrayLike | tuple[Tree, ...] | Mapping[str, Tree]
ArrayOrList: TypeAlias = ArrayLike | list[Any] | tuple[Any, ...]

GATES = ("i", "f", "g", "o")


def wide(dtype: DTypeLike) -> jnp.dtype:
    """The dtype of cell states, elementwise work and sums: 16-bit floats become float32."""
    return jnp.dtype(jnp.float32 if jnp.finfo(dtype).bits == 16 else dtype)
