"""What a clock stood on, and the fastest product there."""

import hashlib
import importlib.metadata
import os
import platform
import re
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jax_lstm
from experiments.kit.timing import hardware

PACKAGES = (
    *("jax", "jaxlib", "flax", "dm-haiku", "equinox", "keras", "torch", "numpy", "optax"),
    "jax_lstm",
)


def environment():
    """What the numbers depend on; `slug` is the hardware as a file can be named."""
    name = hardware()
    return {
        "hardware": name,
        "slug": re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_"),
        "cores": os.cpu_count(),
        "affinity": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "platform": jax.default_backend(),
        "devices": [device.device_kind for device in jax.devices()],
        "versions": {"python": platform.python_version()} | versions(),
        "sources": sources(),
        "variables": {
            key: os.environ[key]
            for key in ("XLA_FLAGS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY")
            if key in os.environ
        },
    }


def peak(sizes=(512, 1024, 2048), tries=10):
    """Flop per second of the fastest large float32 product seen here, XLA's or NumPy's.

    What a training step's products need at that speed nobody can undercut, whatever the program.
    """
    product, fastest = jax.jit(jnp.matmul), 0.0
    for n in sizes:
        x = np.random.default_rng(0).normal(size=(n, n)).astype(np.float32)
        on_device = jnp.asarray(x)
        for run in (lambda x=on_device: product(x, x).block_until_ready(), lambda x=x: x @ x):
            run()
            for _ in range(tries):
                began = time.perf_counter()
                run()
                fastest = max(fastest, 2 * n**3 / (time.perf_counter() - began))
    return fastest


def sources(suffixes=(".py", ".cc")):
    """sha256 over the names and the bytes of all that `jax_lstm` is made of."""
    root = Path(jax_lstm.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.suffix in suffixes):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def versions():
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found
