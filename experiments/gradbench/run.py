"""ADBench's and GradBench's LSTM in JAX: the gradient by hand beside `jax.grad` of a plain scan.

    python -m experiments.gradbench               the table
    python -m experiments.gradbench serve         GradBench's protocol on stdin and stdout

float64, one sequence, one core: layers l in 2, 4, 6 and c in 1024, 4096, 8192 characters. All four
programs of a size run in turns. --data takes a folder with ADBench's own lstm_l<l>_c<c>.txt; sizes
that it lacks are drawn from the seed.

Writes results/gradbench/<run>/table.json: what was asked for, and the seconds of every round.
"""

import dataclasses
import functools
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import numpy as np

from experiments.gradbench import problem, serve, wavefront
from experiments.kit import command, record, report
from experiments.kit.config import BaseConfig, Bounds, Count, OptionalFile, Positive
from experiments.kit.timing import hardware, interleave, load

PROGRAMS = {
    "objective": wavefront.objective,
    "jacobian": wavefront.jacobian,
    "objective, plain scan": problem.objective_autodiff,
    "jax.grad": problem.jacobian_autodiff,
}


@dataclass(frozen=True)
class Config(BaseConfig):
    """The options of gradbench."""

    layers: tuple[Count, ...] = (2, 4, 6)
    characters: tuple[Annotated[int, Bounds(low=2)], ...] = (1024, 4096, 8192)
    rounds: Count = 20
    """of every program of a size, in turns"""
    budget: Positive = 60.0
    """seconds for a size: fewer rounds where these are over, but two"""
    data: OptionalFile = None
    """a folder of ADBench's files"""

    @classmethod
    def tiny(cls):
        """small sizes, done in seconds"""
        return cls(layers=(2, 3), characters=(8,), rounds=2)


def read_or_draw(config, layers, steps):
    """The problem, and where it is from."""
    name = f"lstm_l{layers}_c{steps}.txt"
    if config.data is not None and (Path(config.data) / name).exists():
        return problem.read_problem(Path(config.data) / name), name
    return problem.random_problem(layers, steps, seed=config.seed), f"seed {config.seed}"


def largest_difference(got, want):
    return max(
        float(np.linalg.norm(np.subtract(a, b)) / np.linalg.norm(b))
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    )


def measure(config, layers, steps):
    """One size: seconds of every program and round, and that both gradients are one."""
    given, source = read_or_draw(config, layers, steps)
    args = jax.device_put(given)
    calls = {name: jax.jit(f).lower(*args).compile() for name, f in PROGRAMS.items()}
    found = {name: call(*args) for name, call in calls.items()}
    todo = {
        name: functools.partial(lambda call: jax.block_until_ready(call(*args)), call)
        for name, call in calls.items()
    }
    title = f"l = {layers}, c = {steps}"
    return {
        "layers": layers,
        "characters": steps,
        "source": source,
        "objective": float(found["objective"]),
        "difference": largest_difference(found["jacobian"], found["jax.grad"]),
        "seconds": interleave(todo, config.rounds, config.budget, title),
    }


def run(config):
    """The experiment, from a Config to what is in table.json."""
    directory = record.new_directory(config.results, "gradbench", config.run)
    serve.one_core()
    found = {"config": dataclasses.asdict(config), "hardware": hardware(), **report.machine()}
    found |= {"load": load(), "sizes": []}
    with record.explain_interruption(directory), jax.enable_x64(True):
        for layers in config.layers:
            for steps in config.characters:
                found["sizes"].append(measure(config, layers, steps))
                record.write(directory / "table.json", record.compact(found))
    print(table(found))
    print(f"\n{directory}: table.json")
    return found


def table(found):
    """Milliseconds, least of the rounds, and ratios: median of the rounds' own."""
    lines = [
        f"{found['hardware']}, one core; load {found['load']} before. Least of the rounds, ms.",
        "  l     c  objective  jacobian  jax.grad  jacobian/jax.grad  jacobian/objective   differ",
    ]
    total = dict.fromkeys(PROGRAMS, 0.0)
    for size in found["sizes"]:
        seconds = size["seconds"]
        least = {name: min(times) for name, times in seconds.items()}
        total = {name: total[name] + least[name] for name in total}
        to_grad, to_objective = (
            statistics.median(
                a / b for a, b in zip(seconds["jacobian"], seconds[other], strict=True)
            )
            for other in ("jax.grad", "objective")
        )
        lines.append(
            f"{size['layers']:3d} {size['characters']:5d} {row(least)}"
            f"{to_grad:19.2f}{to_objective:20.2f}{size['difference']:11.0e}"
        )
    ratios = (total["jacobian"] / total[name] for name in ("jax.grad", "objective"))
    lines.append("  in total " + row(total) + "{:19.2f}{:20.2f}".format(*ratios))
    return "\n".join(lines)


def row(seconds):
    shown = [seconds[name] for name in ("objective", "jacobian", "jax.grad")]
    return "".join(f"{1e3 * x:10.2f}" for x in shown)


def main(argv=None):
    return command.main(Config, run, "python -m experiments.gradbench", __doc__, argv)
