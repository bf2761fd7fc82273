"""What two settings of a user's are worth: steps per turn of the loop, and JAX's persistent cache.

    python -m experiments.speed.settings             both tables, as docs/speed.md has them
    python -m experiments.speed.settings --rounds 40

Of `unroll`: the gradient of the LSTM in params and xs, float32, the programs in turns within one
process; time over that with unroll=1, median of the ratios round by round and ratio of the least
times; and the CPU seconds that compiling takes more. Of the cache: wall seconds of compiling the
gradient at S3 in a new process, with an empty folder and with one that holds the program.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

import jax_lstm as jl
from experiments.kit.timing import interleave

SIZES = ((128, 4, 32), (256, 8, 64), (256, 16, 128), (256, 32, 256))  # T, B, D = H
TURNS = (1, 2, 4, "auto")
SECONDS = 0.02  # of one measurement: small programs run several times


def gradient(T, B, H, **options):
    """The compiled program, its arguments, and the CPU seconds of compiling it."""
    params, xs = jl.init_lstm(jax.random.key(0), H, H), jnp.ones((T, B, H))
    state = jl.init_lstm_state(params, (B,))
    loss = lambda params, xs: jnp.sum(jl.lstm(params, state, xs, **options)[1] ** 2)
    lowered = jax.jit(jax.grad(loss, (0, 1))).lower(params, xs)
    began = time.process_time()
    program = lowered.compile()
    return program, (params, xs), time.process_time() - began


def again(program, args, times):
    """A function of no arguments that runs the program so often and waits for it."""

    def run():
        for _ in range(times):
            out = program(*args)
        jax.block_until_ready(out)

    return run


def of_unroll(rounds, sizes=SIZES):
    """A row per size: {unroll: (median ratio, ratio of least times, CPU seconds more)}."""
    for size in sizes:
        made = {turns: gradient(*size, unroll=turns) for turns in TURNS}
        once = again(*made[1][:2], 1)
        once()
        began = time.perf_counter()
        once()
        times = max(1, round(SECONDS / (time.perf_counter() - began)))
        todo = {turns: again(*made[turns][:2], times) for turns in TURNS}
        seconds = {k: np.array(s) for k, s in interleave(todo, rounds, 1e9, str(size)).items()}
        yield (
            size,
            {
                turns: (
                    float(np.median(seconds[turns] / seconds[1])),
                    float(seconds[turns].min() / seconds[1].min()),
                    made[turns][2] - made[1][2],
                )
                for turns in TURNS[1:]
            },
        )


def of_cache(size=SIZES[-1]):
    """Wall seconds of compiling, in processes of their own: (folder empty, folder full)."""
    code = (
        "import time; from experiments.speed import settings; began = time.perf_counter();"
        f"settings.gradient{tuple(size)}; print(time.perf_counter() - began)"
    )
    with tempfile.TemporaryDirectory() as folder:
        more = {
            "JAX_COMPILATION_CACHE_DIR": folder,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }

        def once():
            done = subprocess.run(
                [sys.executable, "-c", code],
                env=os.environ | more,
                check=True,
                capture_output=True,
                text=True,
            )
            return float(done.stdout)

        return once(), once()


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m experiments.speed.settings",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=20, help="of each size (default: 20)")
    asked = parser.parse_args(argv)
    print("| T x B x H | " + " | ".join(f"unroll={turns}" for turns in TURNS[1:]) + " |")
    print("|---" * len(TURNS) + "|", flush=True)
    for size, row in of_unroll(asked.rounds):
        cells = (f"{m:.2f} ({least:.2f}), {more:+.1f} s" for m, least, more in row.values())
        print(f"| {' x '.join(map(str, size))} | {' | '.join(cells)} |", flush=True)
    empty, full = of_cache()
    print(f"\ntracing and compiling S3's gradient: {empty:.2f} s, from the cache {full:.2f} s")


if __name__ == "__main__":
    main()
