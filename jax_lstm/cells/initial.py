"""HOW PARAMETERS ARE DRAWN, from the shapes of a cell's record.

    (D, nH)   reads x:          lecun-normal
    (H, nH)   reads a state:    orthogonal per block (H, H)
    one axis  an offset:        zeros

What is drawn otherwise a cell says by the name of the array.
"""

from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jax_lstm.doors import check_init
from jax_lstm.engine.cell import Params
from jax_lstm.engine.shapes import axes_of, shape_of
from jax_lstm.notation import wide

P_co = TypeVar("P_co", covariant=True)
Draw: TypeAlias = Callable[[jax.Array, tuple[int, ...], DTypeLike], jax.Array]


class Init(Protocol[P_co]):
    """How to draw a cell's parameters, see `init_...` of the cell."""

    def __call__(
        self,
        key: jax.Array,
        input_size: int,
        hidden_size: int,
        *,
        dtype: DTypeLike = jnp.float32,
    ) -> P_co: ...


def make_init(
    name: str,
    kind: type[Params],
    shapes: tuple[tuple[str, str], ...],
    **own: Draw,
) -> Init[Params]:
    """`init_NAME(key, input_size, hidden_size, dtype=)` of a cell.

    Args:
      name, kind, shapes: of the cell's record; the letters are D and H.
      own: by the name of an array `draw(key, shape, dtype)`, where it is drawn otherwise.
    """

    def init(
        key: jax.Array, input_size: int, hidden_size: int, *, dtype: DTypeLike = jnp.float32
    ) -> Params:
        D, H = check_init(key, dtype, input_size=input_size, hidden_size=hidden_size)
        drawn = []
        for one, (array, text) in zip(jax.random.split(key, len(shapes)), shapes, strict=True):
            draw, shape = own.get(array, usual(text)), shape_of(text, {"D": D, "H": H})
            drawn.append(draw(one, shape, wide(dtype)).astype(dtype))
        return kind(*drawn)

    init.__name__, init.__module__ = f"init_{name}", kind.__module__
    init.__qualname__ = init.__name__  # as pickle finds it
    init.__doc__ = f"""{kind.__name__}, drawn from the key.

    Args:
      key: a key of `jax.random.key`.
      input_size, hidden_size: D and H, whole numbers >= 1.
      dtype: of all arrays.

    Returns:
      {kind.__name__}: {", ".join(f"{array} ({text})" for array, text in shapes)}; see
      jax_lstm/cells/initial.py for how, and the cell's file for what is drawn otherwise.

    Raises:
      ValueError: what is no key, a size that is no whole number >= 1, a dtype that is not floating
        point.
    """
    return init


def usual(text: str) -> Draw:
    if len(axes_of(text)) == 1:
        return jax.nn.initializers.zeros
    return jax.nn.initializers.lecun_normal() if text.startswith("D,") else orthogonal


def orthogonal(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    """Blocks (H, H) side by side, each orthogonal."""
    H, width = shape
    one = jax.nn.initializers.orthogonal()
    keys = jax.random.split(key, width // H)
    return jnp.concatenate([one(k, (H, H), dtype) for k in keys], axis=1)


def ones_in_block(n: int, k: int) -> Draw:
    """An offset with 1 in block k of n, 0 elsewhere: a forget gate that begins open."""

    def draw(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        (width,) = shape
        H = width // n
        return jnp.zeros(shape, dtype).at[k * H : (k + 1) * H].set(1.0)

    return draw


ones: Draw = jax.nn.initializers.ones
