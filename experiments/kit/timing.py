"""The clock: everybody in turn, and what it stood on."""

import gc
import os
import platform
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
from tqdm import tqdm

from experiments.kit import stop

FEWEST = 2  # rounds, whatever the budget says: a median needs company


class Compiled(NamedTuple):
    """A program, and what it costs before and while it runs."""

    program: Callable
    seconds: float
    temp_bytes: int


def compiled(function, *args):
    """The Compiled one of a jitted function for such arguments; signals are heard meanwhile."""
    began = time.perf_counter()
    program = stop.aside(function.lower(*args).compile)
    seconds = time.perf_counter() - began
    return Compiled(program, seconds, program.memory_analysis().temp_size_in_bytes)


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


def cores():
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def load():
    """Processes that wanted to run in the last minute: beyond the cores, times are no times."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
