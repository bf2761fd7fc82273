"""What settings of a user's are worth: steps per turn of the loop, a batch split over two devices,
a batch sorted by length, and JAX's persistent cache.

    python -m experiments.speed.settings             all tables, as docs/speed.md has them
    python -m experiments.speed.settings --rounds 40

Of `unroll`: the gradient of the LSTM in params and xs, float32, the programs in turns within one
process; time over that with unroll=1, median of the ratios round by round and ratio of the least
times; and the CPU seconds that compiling takes more. Of two devices: the same gradient by
`over_devices`, always, over the undivided one. Of lengths, drawn evenly from [T/4, T] and one of T:
the same gradient with them, and with `sort=True` as well, over the one without; and torch's of
packed sequences over its own without, at its better thread count, where torch is installed. Of the
cache: wall seconds of compiling the gradient at S3 in a new process, with an empty folder and with
one that holds the program.
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
from experiments.speed.peers_torch import threads, torch_layer
from experiments.speed.problems import Absent, problem
from experiments.speed.reading import ratios
from jax_lstm.sharding import on_one_device
from jax_lstm.training.devices import pays

SIZES = ((128, 4, 32), (256, 8, 64), (256, 16, 128), (256, 32, 256))  # T, B, D = H
SPLIT_SIZES = (
    (128, 4, 32),
    (128, 8, 32),
    (256, 4, 64),
    (64, 8, 128),
    (256, 2, 128),
    (256, 8, 64),
    (128, 8, 128),
    (256, 4, 128),
    (512, 8, 64),
    (4096, 8, 32),
    (256, 8, 128),
    (256, 16, 128),
    (4096, 8, 128),
    (256, 8, 256),
    (256, 32, 256),
    (128, 8, 512),
    (128, 64, 512),
)
RAGGED_SIZES = (*SIZES[2:], (4000, 16, 128))
LONGEST_PACKED = 256  # steps beyond which torch's packed sequences would take the evening
TURNS = (1, 2, 4)
SECONDS = 0.02  # of one measurement: small programs run several times


def gradient(T, B, H, lstm=jl.lstm, **options):
    """The compiled program, its arguments, and the CPU seconds of compiling it."""
    params = jl.init_lstm(jax.random.key(0), H, H)
    xs = jnp.ones((T, B, H), params.W.dtype)
    state = jl.init_lstm_state(params, (B,))
    loss = lambda params, xs: jnp.sum(lstm(params, state, xs, **options)[1] ** 2)
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


def compare(made, base, rounds, label):
    """name -> (median ratio, ratio of least times, CPU seconds of compiling more), over `base`."""
    once = again(*made[base][:2], 1)
    once()
    began = time.perf_counter()
    once()
    times = max(1, round(SECONDS / (time.perf_counter() - began)))
    todo = {name: again(*program[:2], times) for name, program in made.items()}
    seconds = {k: np.array(s) for k, s in interleave(todo, rounds, 1e9, label).items()}
    return {
        name: (*ratios(seconds[name], seconds[base]), made[name][2] - made[base][2])
        for name in made
        if name != base
    }


def of_unroll(rounds, sizes=SIZES):
    """Pairs (size, {unroll: see `compare`})."""
    for size in sizes:
        with on_one_device():
            made = {turns: gradient(*size, unroll=turns) for turns in TURNS}
        yield size, compare(made, 1, rounds, str(size))


def of_devices(rounds, sizes=SPLIT_SIZES):
    """(size, millions of multiplications forward, what `compare` finds of the batch split over all
    devices, whether the rule splits it)."""
    split = jl.over_devices(jl.lstm, always=True)
    for T, B, H in sizes:
        with on_one_device():
            made = {"whole": gradient(T, B, H)}
        made["split"] = gradient(T, B, H, split)
        found = compare(made, "whole", rounds, str((T, B, H)))["split"]
        params = jl.init_lstm(jax.random.key(0), H, H)
        yield (T, B, H), T * B * 8 * H * H / 1e6, found, pays(params, T, B, jax.devices())


def of_lengths(rounds, sizes=RAGGED_SIZES):
    """(size, mean length / T, {name: (median ratio, ratio of least times, ...)} over the dense
    batch: lengths, sort, and packed, which is torch's over torch's own)."""
    for T, B, H in sizes:
        lengths = np.random.default_rng(0).integers(T // 4, T, size=B, endpoint=True)
        lengths[0] = T
        given = jnp.asarray(lengths, jnp.int32)
        with on_one_device():
            made = {
                "dense": gradient(T, B, H),
                "lengths": gradient(T, B, H, lengths=given),
                "sort": gradient(T, B, H, lengths=given, sort=True),
            }
        found = compare(made, "dense", rounds, f"{T, B, H}, lengths")
        if T <= LONGEST_PACKED:
            found |= of_packed(problem((T, B, H)), given, rounds)
        yield (T, B, H), lengths.mean() / T, found


def of_packed(dense, lengths, rounds):
    """{"packed": the two ratios} of torch, each at its better thread count; {} without it."""
    ragged, made = dense._replace(lengths=lengths), {}
    try:
        for name, asked in (("dense", dense), ("packed", ragged)):
            for n in threads():
                made[name, n] = torch_layer(asked, n)["gradient"][0]
    except Absent:
        return {}
    seconds = {k: np.array(s) for k, s in interleave(made, rounds, 1e9, "torch").items()}
    dense, packed = (
        min((s for k, s in seconds.items() if k[0] == name), key=min)
        for name in ("dense", "packed")
    )
    return {"packed": ratios(packed, dense)}


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
    jax.config.update("jax_num_cpu_devices", 2)
    print("| T x B x H | " + " | ".join(f"unroll={turns}" for turns in TURNS[1:]) + " |")
    print("|---" * len(TURNS) + "|", flush=True)
    for size, row in of_unroll(asked.rounds):
        cells = (f"{m:.2f} ({least:.2f}), {more:+.1f} s" for m, least, more in row.values())
        print(f"| {' x '.join(map(str, size))} | {' | '.join(cells)} |", flush=True)
    print("\n| T x B x H | products | split / whole | rule |\n|---|---|---|---|", flush=True)
    for size, products, (median, least, _), by_rule in of_devices(asked.rounds):
        cells = (f"{products:,.0f} M", f"{median:.2f} ({least:.2f})", "yes" if by_rule else "no")
        print(f"| {' x '.join(map(str, size))} | {' | '.join(cells)} |", flush=True)
    names = ("lengths", "sort", "packed")
    print(
        f"\n| T x B x H | mean length / T | {' | '.join(names)} |\n|---|---|---|---|---|",
        flush=True,
    )
    for size, mean, row in of_lengths(asked.rounds):
        cells = (f"{row[k][0]:.2f} ({row[k][1]:.2f})" if k in row else "" for k in names)
        print(f"| {' x '.join(map(str, size))} | {mean:.2f} | {' | '.join(cells)} |", flush=True)
    empty, full = of_cache()
    print(f"\ntracing and compiling S3's gradient: {empty:.2f} s, from the cache {full:.2f} s")


if __name__ == "__main__":
    main()
