"""The autodiff twin beside what a careful person would write for JAX: time and temporary bytes.

python -m tests.fair                every cell
python -m tests.fair lstm gru       these

Both gradients run in turn, in one process; the ratio is that of a round, twin over plain scan. The
bytes are also a test, tests/engine/test_fair_twins.py; times are of a machine in an hour.
"""

import functools
import sys

import jax
import numpy as np

from experiments.kit import timing
from jax_lstm.printing import table
from tests.engine.test_fair_twins import gradient, plain_scan, twin
from tests.tables import CELLS, normal_like

ROUNDS, SECONDS = 20, 10.0  # at most, for a cell


def measure(name):
    """(cell, median ratio of time, ratio of least times, ratio of bytes)."""
    both = {"twin": twin(name, False, False), "plain": plain_scan(name, False, False)}
    programs = {side: gradient(run, name) for side, run in both.items()}
    args = normal_like(0, programs["twin"][1], 0.3)
    run = lambda side: jax.block_until_ready(programs[side][0](*args))
    todo = {side: functools.partial(run, side) for side in programs}
    seconds = timing.interleave(todo, ROUNDS, SECONDS, name)
    found = {side: p.memory_analysis().temp_size_in_bytes for side, (p, _) in programs.items()}
    times = [seconds[side] for side in ("twin", "plain")]
    least = min(times[0]) / min(times[1])
    return name, float(np.median(np.divide(*times))), least, found["twin"] / found["plain"]


def main():
    heads = ("cell", "time", "least time", "bytes")
    print(f"twin over a plain scan, on {timing.hardware()}, load {timing.load()}")
    rows = []
    for name in sys.argv[1:] or CELLS:
        rows.append(measure(name))
        print(*rows[-1], flush=True)
    print(f"\n{table(heads, rows, form='.2f')}")


if __name__ == "__main__":
    main()
