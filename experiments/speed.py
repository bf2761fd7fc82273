"""What does the hand-written gradient cost, beside everything else one could use?

    python -m experiments.speed

One process, warmed up, the contestants in turn, round by round; ratios are taken within a round.
Per contestant: milliseconds of the gradient of vdot(hs, dhs) in params, state and xs, of the
forward alone, temporary bytes and seconds to compile. Absolute times on a shared machine mean
little; the ratios are what to read.

    lstm      ours, residuals="full"              A0   jax.grad of a plain scan
    frugal    ours, residuals="auto"              A1   the same with x W before the loop
    F         flax nn.RNN(OptimizedLSTMCell)      A2   A0 with jax.checkpoint around its step
    P         torch.nn.LSTM, if installed         G    the bare products: the floor

Writes results/speed/<run>/speed.json; `--table FILE` prints the tables of such a file.
"""

import dataclasses
import functools
import os
import platform
import sys
import time
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from tqdm import tqdm

import jax_lstm as jl
from experiments import command, record
from experiments.command import BadInput, option

SIZES = {
    "S1": (128, 4, 32),
    "S2": (256, 16, 128),
    "S3": (256, 32, 256),
    "S4": (128, 64, 512),
    "S5": (4096, 8, 128),
    "S6": (65536, 1, 64),
}
PASSES = ("gradient", "forward")


@dataclass(frozen=True)
class Config:
    sizes: str = option("S1,S2,S3,S4", "which (T, B, D=H): " + str(SIZES)[1:-1].replace("'", ""))
    rounds: int = option(20, "rounds, in each of which every contestant runs once", low=1)
    budget: float = option(60.0, "at most so many seconds for the rounds of one size", above=0)
    only: str | None = option(None, "contestants by name, with commas (default: all there are)")
    table: str | None = option(None, "print the tables of this speed.json, run nothing")
    seed: int = option(0, "seed of the numbers", low=0, below=2**63)
    results: str = option("results", "folder that the run's folder is made in", metavar="DIR")
    run: str | None = option(None, "name of the run's folder (default: date and time)")

    @classmethod
    def tiny(cls):
        return cls(sizes="S1", rounds=2, budget=5.0)


# Contestants: (params, state, xs) -> ((h, c), hs) -----------------------------------------------


def step(a, c):
    i, f, g, o = jnp.split(a, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def plain(params, state, xs):
    W, U, b = params

    def body(state, x):
        h, c = step(x @ W + state[0] @ U + b, state[1])
        return (h, c), h

    return lax.scan(body, tuple(state), xs)


def hoisted(params, state, xs):
    W, U, b = params

    def body(state, z):
        h, c = step(z + state[0] @ U, state[1])
        return (h, c), h

    return lax.scan(body, tuple(state), xs @ W + b)


def checkpointed(params, state, xs):
    W, U, b = params

    def body(state, x):
        h, c = step(x @ W + state[0] @ U + b, state[1])
        return (h, c), h

    return lax.scan(jax.checkpoint(body), tuple(state), xs)


def flax_rnn(params, state, xs):
    """The same numbers in flax's tree, unpacked inside so that its gradient is packed again."""
    H = params.U.shape[0]
    kernels = {}
    for n, gate in enumerate("ifgo"):
        block = slice(n * H, (n + 1) * H)
        kernels["i" + gate] = {"kernel": params.W[:, block]}
        kernels["h" + gate] = {"kernel": params.U[:, block], "bias": params.b[block]}
    rnn = nn.RNN(nn.OptimizedLSTMCell(H), time_major=True, return_carry=True)
    (c, h), hs = rnn.apply({"params": {"cell": kernels}}, xs, initial_carry=(state.c, state.h))
    return (h, c), hs


CONTESTANTS = {
    "lstm": jl.lstm,
    "frugal": functools.partial(jl.lstm, residuals="auto"),
    "A0": plain,
    "A1": hoisted,
    "A2": checkpointed,
    "F": flax_rnn,
}


def products(params, state, xs, dhs):
    """Every product of a training step and nothing else, on packed arrays: the floor."""
    W, U, _ = params
    zs = xs @ W

    def forward(h, z):
        a = h @ U
        return a[:, : h.shape[1]], a

    _, das = lax.scan(forward, state[0], zs)
    dh, _ = lax.scan(lambda dh, da: (dh + da @ U.T, None), dhs[-1], das)
    sums = [jnp.einsum("tbd,tbm->dm", x, das) for x in (xs, dhs)]
    return sums, das @ W.T, dh


def torch_lstm(params, state, xs, dhs):
    """name -> pass -> function of no arguments, on one thread and on all; None without torch."""
    try:
        import torch
    except ImportError:
        return None
    D, H = params.W.shape[0], params.U.shape[0]
    tensor = lambda x: torch.tensor(np.asarray(x))
    layer = torch.nn.LSTM(D, H)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(tensor(params.W).T)
        layer.weight_hh_l0.copy_(tensor(params.U).T)
        layer.bias_ih_l0.copy_(tensor(params.b))
        layer.bias_hh_l0.zero_()
    inputs = [tensor(x).requires_grad_() for x in (xs, state.h[None], state.c[None])]
    dhs = tensor(dhs)
    leaves = [*layer.parameters(), *inputs]

    def forward():
        with torch.no_grad():
            return layer(inputs[0], (inputs[1], inputs[2]))

    def gradient():
        hs, _ = layer(inputs[0], (inputs[1], inputs[2]))
        return torch.autograd.grad(hs, leaves, dhs)

    def on(threads, f):
        torch.set_num_threads(threads)
        return f()

    return {
        f"P{threads}": {
            "gradient": functools.partial(on, threads, gradient),
            "forward": functools.partial(on, threads, forward),
        }
        for threads in sorted({1, os.cpu_count() or 1})
    }


# Measuring --------------------------------------------------------------------------------------


def problem(size, seed):
    T, B, H = size
    rng = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape) / H**0.5, jnp.float32)
    params = jl.LSTMParams(normal(H, 4 * H), normal(H, 4 * H), normal(4 * H))
    state = jl.LSTMState(normal(B, H), normal(B, H))
    return params, state, normal(T, B, H) * H**0.5, normal(T, B, H)


def compiled(f, args):
    start = time.perf_counter()
    program = jax.jit(f).lower(*args).compile()
    seconds = time.perf_counter() - start
    temp = program.memory_analysis().temp_size_in_bytes
    runner = lambda: jax.block_until_ready(program(*args))
    return runner, {"compile_seconds": seconds, "temp_bytes": temp}


def contestants_of(size, args, only):
    """name -> pass -> function of no arguments, and name -> facts of the compiled gradient."""
    runners, facts = {}, {}
    params, state, xs, _ = args
    for name, sequence in CONTESTANTS.items():
        if only and name not in only:
            continue

        def loss(params, state, xs, dhs, sequence=sequence):
            return jnp.vdot(sequence(params, state, xs)[1], dhs)

        gradient, facts[name] = compiled(jax.grad(loss, (0, 1, 2)), args)
        forward, _ = compiled(lambda *a, f=sequence: f(*a)[1], (params, state, xs))
        runners[name] = {"gradient": gradient, "forward": forward}
    if not only or "G" in only:
        runners["G"] = {"gradient": compiled(products, args)[0]}
    if not only or "P" in only:
        runners |= torch_lstm(*args) or {}
    return runners, facts


def measure(size, config, only):
    args = problem(size, config.seed)
    runners, facts = contestants_of(size, args, only)
    todo = [(name, kind) for name, kinds in runners.items() for kind in kinds]
    for name, kind in todo:
        runners[name][kind]()
    seconds = {pair: [] for pair in todo}
    start = time.perf_counter()
    for _ in tqdm(range(config.rounds), desc=str(size), leave=False):
        for name, kind in todo:
            begin = time.perf_counter()
            runners[name][kind]()
            seconds[name, kind].append(time.perf_counter() - begin)
        if time.perf_counter() - start > config.budget:
            break
    rows = {
        name: {"temp_bytes": None, "compile_seconds": None} | facts.get(name, {})
        for name in runners
    }
    for (name, kind), values in seconds.items():
        rows[name][kind] = {"seconds": values}
    return rows


def environment():
    return {
        "hardware": hardware(),
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def hardware():
    if jax.default_backend() != "cpu":
        return jax.devices()[0].device_kind
    try:
        lines = record.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


# Tables -----------------------------------------------------------------------------------------


def ratio(rows, name, other, kind="gradient"):
    """(median, least) of ours over theirs, round by round."""
    a, b = (np.asarray(rows[n][kind]["seconds"]) for n in (name, other))
    return float(np.median(a / b)), float(a.min() / b.min())


def tables(result):
    """Markdown: time of the gradient as ratios, then memory."""
    others = ["A1", "A0", "F", "P", "G"]
    lines = [
        "| (T, B, D = H) | rounds | ms of `lstm` | "
        + " | ".join(f"/ {o}" for o in others)
        + " | forward / F | frugal / `lstm` |",
        "|---" * (len(others) + 5) + "|",
    ]
    for name, rows in result["sizes"].items():
        cells = []
        for other in others:
            names = [n for n in rows if n == other or (other == "P" and n[0] == "P")]
            if names and "lstm" in rows:
                best = min(names, key=lambda n: min(rows[n]["gradient"]["seconds"]))
                cells.append("{:.2f} ({:.2f})".format(*ratio(rows, "lstm", best)))
            else:
                cells.append("")
        have = lambda *names: all(n in rows for n in names)  # noqa: B023
        cells.append(
            "{:.2f} ({:.2f})".format(*ratio(rows, "lstm", "F", "forward"))
            if have("lstm", "F")
            else ""
        )
        cells.append(
            "{:.2f} ({:.2f})".format(*ratio(rows, "frugal", "lstm"))
            if have("lstm", "frugal")
            else ""
        )
        ours = rows.get("lstm") or next(iter(rows.values()))
        values = ours["gradient"]["seconds"]
        lines.append(
            f"| {name} {SIZES[name]} | {len(values)} | {1e3 * min(values):.2f} | "
            + " | ".join(cells)
            + " |"
        )
    names = ["A0", "A1", "A2", "F", "lstm", "frugal"]
    lines += ["", "| temporary MB | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for name, rows in result["sizes"].items():
        cells = [f"{rows[n]['temp_bytes'] / 1e6:.1f}" if n in rows else "" for n in names]
        lines.append(f"| {name} {SIZES[name]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


# The command ------------------------------------------------------------------------------------


def run(config):
    command.check(config)
    if config.table:
        try:
            print(tables(record.read_json(record.Path(config.table))))
        except (OSError, ValueError, KeyError) as error:
            raise BadInput("--table", f"{config.table} is not a result of this: {error}") from None
        return None
    names = config.sizes.split(",")
    if unknown := [n for n in names if n not in SIZES]:
        raise BadInput("--sizes", f"knows {', '.join(SIZES)}; got {', '.join(unknown)}")
    only = config.only.split(",") if config.only else None
    known = [*CONTESTANTS, "G", "P"]
    if only and (unknown := [n for n in only if n not in known]):
        raise BadInput("--only", f"knows {', '.join(known)}; got {', '.join(unknown)}")
    directory = record.new_directory(config.results, "speed", config.run)
    result = {"config": dataclasses.asdict(config), "environment": environment(), "sizes": {}}
    print(f"{result['environment']}\nwriting {directory / 'speed.json'}")
    for name in names:
        result["sizes"][name] = measure(SIZES[name], config, only)
        record.write_json(directory / "speed.json", result)
    print(tables(result))
    return result


if __name__ == "__main__":
    sys.exit(command.main(Config, run, "experiments.speed", __doc__))
