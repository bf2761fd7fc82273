"""Strict switches for every test: eight host devices, float64, no silent promotion, no warning.

Most of the tests' time is compilation, and most programs run once: they are compiled without
optimising. What looks at optimised programs, or at their rounding, uses the fixture `optimised`.
"""

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="module")
def optimised():
    """Programs of this module as users get them."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="module", autouse=True)
def forget():
    """A worker holds the programs of one file at a time."""
    yield
    jax.clear_caches()
