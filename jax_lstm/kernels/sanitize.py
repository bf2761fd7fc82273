"""`python -m jax_lstm.kernels.sanitize`: lstm.cc under g++'s sanitizers of addresses and undefined
behaviour. Each array is an allocation of its own, so that what reads or writes beside one is seen.

Exit status: 0 where nothing was found; otherwise the sanitizer says what, and where in lstm.cc.
"""

import itertools
import os
import subprocess
import sys
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm.cells.lstm import LSTMState
from jax_lstm.kernels import cpu
from jax_lstm.kernels.build import compiler, shared_object

FLAGS = "-g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
UNITS = (1, 8, 16, 35)  # less than a vector, one, and two and a part
EXAMPLES = (1, 4, 13, 29)  # one tile of rows, and several of two sizes
STEPS = (0, 1, 3)
INSIDE = "--inside"


def arguments(T, B, H, dtype, flags) -> Any:
    """Random numbers; masks and resets where `flags`."""
    rng = np.random.default_rng(T + B + H)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
    fresh = LSTMState(normal(B, H), normal(B, H)) if flags else None
    mask, resets = rng.random((2, T, B)) < 0.6 if flags else (None, None)
    weights = normal(4 * H), normal(H, 4 * H)
    return *weights, normal(B, H), normal(B, H), fresh, normal(T, B, 4 * H), mask, resets


def run(T, B, H, dtype, flags, reverse):
    """The loops, one after the other, each a program of nothing else."""
    b, U, h, c, fresh, zs, mask, resets = arguments(T, B, H, dtype, flags)
    alone, for_back = (jax.jit(cpu.loop(reverse, kind)) for kind in (False, True))
    hs = alone(b, U, h, c, fresh, zs, mask, resets).hs
    found = for_back(b, U, h, c, fresh, zs, mask, resets)
    args = U, found.slopes, found.dcs, found.hs, found.h, found.c, mask, resets
    back = jax.jit(cpu.loop_back(reverse))(*args)
    assert np.array_equal(hs, found.hs)
    assert all(np.isfinite(x).all() for x in (*found, *back)), (T, B, H, dtype, flags, reverse)


def inside():
    jax.config.update("jax_enable_x64", True)
    sizes = [*itertools.product(STEPS, EXAMPLES, UNITS), (9, 24, 130)]  # the last on two threads
    for n, (T, B, H) in enumerate(sizes):
        run(T, B, H, cpu.DTYPES[n % 2], flags=n % 3 > 0, reverse=n % 5 < 2)
    print(f"{len(sizes)} sizes, in turn float32 and float64: nothing found")
    return 0


def main():
    libraries = []  # before all others; C++'s own too, whose exceptions are looked at
    for name in ("libasan.so", "libstdc++.so.6"):
        asked = [*compiler(), f"-print-file-name={name}"]
        found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        if not os.path.isabs(found):
            raise SystemExit(f"this needs g++ with its {name}; CXX=g++ where there are others")
        libraries.append(found)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"CXXFLAGS": FLAGS, "XDG_CACHE_HOME": folder}
        shared_object(cpu.SOURCE)  # by a compiler that does not run under the sanitizers itself
        env = {"LD_PRELOAD": " ".join(libraries), "ASAN_OPTIONS": "detect_leaks=0"}
        command = [sys.executable, "-m", "jax_lstm.kernels.sanitize", INSIDE]
        return subprocess.run(command, env=os.environ | env, check=False).returncode


if __name__ == "__main__":
    sys.exit(inside() if INSIDE in sys.argv else main())
