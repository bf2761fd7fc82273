"""The clock, and what it stood on."""

import gc
import importlib.metadata
import os
import platform
import random
import re
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

PACKAGES = ("jax", "jaxlib", "flax", "dm-haiku", "equinox", "keras", "torch", "numpy", "optax")
FEWEST = 2  # rounds, whatever the budget says: a median needs company


def interleave(todo, rounds, budget, title):
    """name -> seconds of each round. Everybody runs once in a round, in an order drawn anew.

    In a fixed order one would always follow torch, whose threads spin on for a while.

    Args:
      todo: name -> function of no arguments that waits for its own result.
      rounds: so many, or as many as fit into `budget` seconds.
    """
    for run in todo.values():  # the first call allocates, the second one is like the rest
        run()
        run()
    seconds, order = {name: [] for name in todo}, random.Random(0)
    start = time.perf_counter()
    gc.collect()
    gc.disable()
    try:
        for n in tqdm(range(rounds), desc=title, leave=False, disable=None):
            if n >= FEWEST and time.perf_counter() - start > budget:
                break
            for name in order.sample(list(todo), len(todo)):
                run = todo[name]
                began = time.perf_counter()
                run()
                seconds[name].append(round(time.perf_counter() - began, 8))
    finally:
        gc.enable()
    return seconds


def environment():
    """What the numbers depend on; `slug` is the name of a committed file of results."""
    name = hardware()
    return {
        "hardware": name,
        "slug": re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_"),
        "cores": os.cpu_count(),
        "affinity": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "platform": jax.default_backend(),
        "devices": [device.device_kind for device in jax.devices()],
        "versions": {"python": platform.python_version()} | versions(),
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


def versions():
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def hardware():
    """The processor's name and cores, or the accelerator's name."""
    if jax.default_backend() != "cpu":
        return jax.devices()[0].device_kind
    cores = f"{os.cpu_count()} cores"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.processor() or platform.machine()}, {cores}"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {cores}"


def load():
    """Processes that wanted to run in the last minute: beyond the cores, times are no times."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
