"""What grows with the number of devices, and what does the host cost? char_lm's update, compiled.

    python -m experiments.scaling --devices 1,2,4,8
    python -m experiments.scaling --devices 1 --profile

For each number of devices: examples and multiplications of one device in one update, the bytes that
its all-reduces carry (read off the compiled program), and the time of an update. The bytes are
those of the parameters, whatever the number of devices is; the multiplications shrink. On devices
that share cores the time cannot.

With --profile a profile is taken (jax.profiler) while the runner trains, and the share of the time
between the first dispatch and the last in which none is being executed is read off it: what the
host adds.
"""

import dataclasses
import gzip
import json
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
from tyro.conf import arg

from experiments.kit import command, machines, record, stop, training
from experiments.kit import language_model as lm
from experiments.kit.config import BadInput, Count, TrainingConfig
from experiments.kit.task import Training

BYTES = {"f32": 4, "f64": 8, "s32": 4, "u32": 4, "bf16": 2, "f16": 2, "pred": 1}


@dataclass(frozen=True)
class Config(lm.LanguageModelConfig, TrainingConfig):
    """The options of scaling."""

    devices: Annotated[str, arg(metavar="N,...")] = "1,2,4,8"
    """how many, each in turn"""
    hidden: Count = 128
    window: Count = 64
    streams: Count = 32
    rounds: Count = 10
    """dispatches of each that are timed, in turn"""
    steps: Count = 40
    """with --profile: updates; a profile holds about a million events"""
    profile: bool = False
    """read the host's share off a profile of the runner"""

    @classmethod
    def tiny(cls):
        return dataclasses.replace(super().tiny(), devices="1,2", rounds=2, steps=16)


def run(config):
    try:
        numbers = [int(n) for n in config.devices.split(",")]
    except ValueError:
        raise BadInput("--devices", f"must be numbers; got {config.devices!r}") from None
    configs = {n: dataclasses.replace(config, devices=n) for n in numbers}
    machines.start(configs[max(numbers)])
    data = lm.cut(config, lm.read_text(config).characters)
    if config.profile:
        return [profile(configs[n], data) for n in numbers]
    return table(config, configs, data)


def table(config, configs, data):
    """A row for each number of devices."""
    rows, todo = [], {}
    for n, own in configs.items():
        task = lm.task_of(own, data, Path())
        program, seconds, _ = training.compile_updates(own, task, next(task.batches()))
        T, B, D, H, V = (
            *(own.window, own.streams // n, own.embedding, own.hidden),
            len(data.vocabulary),
        )
        rows.append(
            {
                "devices": n,
                "examples": B,
                "multiplications": 3 * T * B * (4 * H * (D + H) + H * V),
                "all_reduce_bytes": all_reduce_bytes(program.as_text()),
                "compile_seconds": seconds,
            }
        )
        todo[n] = (own, task, program)
    times = {n: [] for n in todo}
    started = {n: begun(*todo[n][:2]) for n in todo}
    for _ in range(config.rounds + 1):
        for n, (_, _, program) in todo.items():
            carried, batch = started[n]
            began = time.perf_counter()
            answer = jax.block_until_ready(program(*carried, *batch))
            times[n].append((time.perf_counter() - began) / config.dispatch)
            started[n] = Training(*answer[:3]), batch
    print(f"{'devices':>7} {'examples':>8} {'multiplications':>15} {'bytes reduced':>13} ms/update")
    for row in rows:
        row["seconds"] = min(times[row["devices"]][1:])
        print(
            f"{row['devices']:7} {row['examples']:8} {row['multiplications']:15.3e} "
            f"{row['all_reduce_bytes']:13,} {row['seconds'] * 1e3:9.2f}"
        )
    return rows


def begun(config, task):
    """A training on its devices, and one full dispatch of batches."""
    mesh = machines.mesh_of(config)
    _, _, batch = next(training.dispatches(config, task, 0, ()))
    return Training(*machines.put_training(mesh, jax.tree.map(np.array, task.start()))), batch


def all_reduce_bytes(hlo):
    """Bytes that one device hands to the all-reduces of one update."""
    total = 0
    for line in hlo.splitlines():
        found = re.search(r" = (.*?) all-reduce(?:-start)?\(", line)
        for kind, shape in re.findall(r"(\w+)\[([\d,]*)\]", found[1]) if found else ():
            total += BYTES[kind] * int(np.prod([int(n) for n in shape.split(",") if n]))
    return total


# The host ---------------------------------------------------------------------------------------


def profile(config, data):
    """The share of the time in which no dispatch runs, while the runner trains: from the first to
    the end of the last one's loop. What is saved after it delays nothing."""
    with tempfile.TemporaryDirectory() as folder:
        config = dataclasses.replace(config, results=folder, checkpoint_every=0)
        directory = record.open_directory(config, "scaling")
        task = lm.task_of(config, data, directory)._replace(evaluate=None)
        begin = training.begin(config, task, directory)
        program, *_ = training.compile_updates(config, task, next(task.batches()))
        with jax.profiler.trace(folder):
            training.train(config, task, directory, begin, program)
        lines = record.read_lines(directory / "metrics.jsonl", kind="step")
        (trace,) = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    idle = idle_share(events)
    size = config.window * config.streams
    speed = size * len(lines) / sum(line["seconds"] for line in lines)
    print(f"H = {config.hidden}: {idle:.1%} of the time no dispatch runs; {speed:,.0f} chars/s")
    return {"idle": idle, "characters_per_second": speed}


def idle_share(events):
    """Of the events of a trace: the share of the time without an execution, from the first one to
    the end of the last loop."""
    spans = sorted(
        (e["ts"], e["ts"] + e["dur"], e["name"])
        for e in events
        if e.get("ph") == "X" and EXECUTION.search(e.get("name", ""))
    )
    first, last = spans[0][0], max(end for _, end, name in spans if LOOP.match(name))
    busy, reached = 0.0, first
    for start, end, _ in spans:
        busy += max(0.0, min(end, last) - max(start, reached))
        reached = max(reached, min(end, last))
    return 1 - busy / (last - first)


LOOP = re.compile(r"while(\.\d+)?$")  # the updates of a dispatch are one
EXECUTION = re.compile(r"ThunkExecutor::Execute|TfrtCpuExecutable::Execute|" + LOOP.pattern)


def main(argv=None):
    return command.main(Config, run, "python -m experiments.scaling", __doc__, argv)


if __name__ == "__main__":
    stop.leave(main())
