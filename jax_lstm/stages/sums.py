"""Σ xᵀ y over steps and examples, as exactly as step by step and where the arrays are."""

import math
from collections.abc import Sequence

from jax import Array, lax
from jax.export import is_symbolic_dim

from jax_lstm.sharding import everywhere, may_be_split

PART = 64  # so many products are added one after the other, as they come
PARTS = 16  # at most
SMALL = 2**14  # numbers of a weight for which parts cost nothing


def sum_of_products(x: Array, y: Array) -> Array:
    """Σ xᵀ y over all axes but the last: one product for any number of steps.

    The axes of steps and examples are summed over as they are: merged, an axis that is split over
    devices would be gathered on each of them first. On one device merged ones spare XLA a copy.

    A float32 product adds its terms one after the other, and the rounding grows with their number.
    Small sums are therefore made in up to 16 parts, some examples over some steps each, which
    costs nothing there and is more exact than adding step by step: of n parts of R rows in all it
    grows as n + R / n². For large ones the parts would cost more than the product.

    Args:
      x: (..., D).
      y: (..., M), dtype of x.

    Returns:
      (D, M), dtype of x; whole on every device.
    """
    axes, D = y.ndim - 1, x.shape[-1]
    rows = math.prod(y.shape[:axes])
    merged = not is_symbolic_dim(rows) and not may_be_split(y)
    if merged:
        x, y, axes = *(z.reshape((rows, z.shape[-1])) for z in (x, y)), 1
    few = is_symbolic_dim(rows) or rows <= PART
    if few or D * y.shape[-1] > SMALL or (axes < 2 and not merged):
        return contract(x, y, range(axes))
    best = min(PARTS, math.cbrt(2 * int(rows)))  # where n + R / n² is least
    if merged:
        m = largest_divisor(int(rows), best)
        x, y = (z.reshape((m, rows // m, z.shape[-1])) for z in (x, y))
        return contract(x, y, (1,), (0,)).sum(0)
    steps, examples = y.shape[:2]
    n = examples if examples <= PARTS else math.gcd(examples, PARTS)  # groups: each device's
    m = largest_divisor(int(steps), best / n)

    def parts(z):
        return z.reshape((m, steps // m, n, examples // n, *z.shape[2:]))

    return contract(parts(x), parts(y), (1, *range(3, axes + 2)), (0, 2)).sum((0, 1))


def largest_divisor(size: int, at_most: float) -> int:
    """The largest divisor of a size that is not above a bound; 1 where the bound is below 2."""
    return max(k for k in range(1, max(1, int(at_most)) + 1) if size % k == 0)


def contract(x: Array, y: Array, over: Sequence[int], apart: Sequence[int] = ()) -> Array:
    """Σ xᵀ y over some axes; those that stay `apart` come first."""
    whole = everywhere(y, len(apart) + 2)
    return lax.dot_general(x, y, ((over, over), (apart, apart)), out_sharding=whole)
