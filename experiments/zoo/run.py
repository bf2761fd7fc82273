"""Which cell? Each on one task at one budget, and what its gradient costs.

    python -m experiments.zoo                       every cell
    python -m experiments.zoo --cells lstm,gru      these
    python -m experiments.zoo --page FOLDER         docs/zoo.md of an earlier run, printed

The task is the adding problem (Hochreiter & Schmidhuber 1997): two of T numbers are marked, and the
last output answers with their sum. Who always says 1 has the error 1/6. All cells have the same H,
as many updates, the same sequences, the same optimiser, and no setting of their own, so a cell that
fails here fails at these settings. Seeds train side by side under vmap. Then each gradient is timed
beside that of its autodiff twin, in turn, in one process.

Writes results/zoo/<run>/:
    config.json      what was asked for, the machine, versions
    metrics.jsonl    every number as it came, by kind: cost, judged
    summary.json, learning.png
"""

import dataclasses
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import arg

from experiments.kit import checkpoints, command, record, report, timing
from experiments.kit.config import BadInput, BaseConfig, Count, OptionalName, Positive
from experiments.zoo import adding, cost, page, plots, training
from jax_lstm import CELLS
from jax_lstm.printing import table


@dataclass(frozen=True)
class Config(BaseConfig):
    """The options of the zoo."""

    cells: Annotated[str, arg(metavar="NAME,...")] = "all"
    """which cells: all, or names"""
    parts: Annotated[str, arg(metavar="NAME,...")] = "cost,training"
    """what to do for each: cost, training, or both"""
    time: Count = 200
    """T, steps of a sequence"""
    hidden: Count = 24
    """H, hidden units of each cell"""
    seeds: Count = 3
    """networks of each cell, one for each of so many seeds from --seed on, trained side by side"""
    steps: Count = 400
    """updates"""
    batch: Count = 16
    """B, sequences of an update"""
    learning_rate: Positive = 1e-2
    """Adam's, at its start; a cosine ends at zero"""
    clip: Positive = 1.0
    """bound on the global norm of the gradient"""
    judgements: Count = 16
    """how often the error on unseen sequences is looked at"""
    size: Annotated[str, arg(metavar="T,B,D,H")] = "128,16,128,128"
    """at which the cost of a gradient is measured"""
    rounds: Count = 10
    """of that measurement; both sides run once in each"""
    budget: Positive = 5.0
    """seconds after which it stops"""
    resume: OptionalName = None
    """a folder that an interrupted run wrote: go on with what is missing, as asked for there but
    for --parts and --cells"""
    page: OptionalName = None
    """a folder that an earlier run wrote: print docs/zoo.md and do nothing else"""

    @classmethod
    def tiny(cls):
        """two cells in a few steps, done in seconds"""
        return cls(
            cells="elman,min_gru",
            time=8,
            hidden=8,
            seeds=2,
            steps=60,
            batch=16,
            learning_rate=2e-2,
            judgements=3,
            size="4,2,3,5",
            rounds=2,
        )

    @property
    def cost_size(self):
        """T, B, D, H of the cost."""
        return tuple(map(int, self.size.split(",")))

    def __post_init__(self):
        super().__post_init__()
        if self.time < 2:
            raise BadInput("--time", f"must be >= 2: a mark in each half; got {self.time}")
        other = set(parts_of(self)) - set(PARTS)
        if other:
            raise BadInput("--parts", f"must be of {', '.join(PARTS)}; got {min(other)!r}")
        unknown = set(names_of(self)) - set(CELLS)
        if unknown:
            raise BadInput("--cells", f"there is no cell {min(unknown)!r}; {', '.join(CELLS)}")
        parts = self.size.split(",")
        if len(parts) != 4 or not all(p.isdecimal() and int(p) for p in parts):
            raise BadInput("--size", f"must be four whole numbers >= 1; got {self.size!r}")


def names_of(config):
    return list(CELLS) if config.cells == "all" else config.cells.split(",")


def parts_of(config):
    return config.parts.split(",")


PARTS = {"cost": cost.measure, "training": training.train}


def run(config):
    """The experiment, from a Config to its summary; everything else is in the folder it names."""
    if config.page is not None:
        print(page.of_run(Path(config.page)), end="")
        return None
    if config.resume is not None:
        directory = Path(config.resume)
        stored = record.config_of(Config, directory, "zoo")
        config = dataclasses.replace(stored, parts=config.parts, cells=config.cells)
    else:
        directory = record.new_directory(config.results, "zoo", config.run)
        facts = {"hardware": timing.hardware(), "cores used": timing.cores(), **report.machine()}
        asked = dataclasses.asdict(config)
        about = {"experiment": "zoo", "config": asked, **facts}
        record.write_json(directory / "config.json", about)
    with checkpoints.locked(directory), record.explain_interruption(directory):
        return experiment(config, directory)


def done(metrics):
    """{(part, cell)}: of what everything is there."""
    lines = record.read_lines(metrics, kind="done") if metrics.exists() else []
    return {(line["part"], line["cell"]) for line in lines}


def experiment(config, directory):
    metrics = directory / "metrics.jsonl"
    there = done(metrics)
    todo = [(p, n) for n in names_of(config) for p in parts_of(config) if (p, n) not in there]
    print(
        f"{len(names_of(config))} cells on the adding problem, T = {config.time}, "
        f"H = {config.hidden}, {config.steps} steps of {config.batch}, {config.seeds} seeds; "
        f"writing {directory}"
    )
    for part, name in todo:
        start = time.perf_counter()
        PARTS[part](config, CELLS[name], metrics)
        seconds = time.perf_counter() - start
        record.append(metrics, kind="done", part=part, cell=name, seconds=seconds)
        plots.draw(directory)
        summary = summarise(directory)
        record.write_json(directory / "summary.json", summary)
        print(f"{name:22}{part:10}{seconds:6.0f} s", flush=True)
    summary = summarise(directory)
    print(summary_table(summary))
    print(f"\n{record.name_files(directory)}")
    return summary


def summarise(directory):
    """The run in numbers: of each cell its cost and its errors at the end, of what is done."""
    lines = record.read_lines(directory / "metrics.jsonl")
    ends = [line for line in lines if line["kind"] == "done"]
    kept = {
        "cost": ("parameters", "ms", "ratio", "temp_bytes", "rounds"),
        "judged": ("error",),
    }
    finished = {(KIND[line["part"]], line["cell"]) for line in ends}
    names = {cell for _, cell in finished}
    cells: dict = {name: {} for name in [*CELLS, *names] if name in names}
    for line in lines:
        if (line["kind"], line.get("cell")) in finished:
            cells[line["cell"]] |= {k: line[k] for k in kept[line["kind"]]}
    return {
        "guess": adding.GUESS,
        "cells": cells,
        "seconds": sum(line["seconds"] for line in ends),
    }


KIND = {"cost": "cost", "training": "judged"}  # the lines of each part


def summary_table(summary):
    """A row per cell, the best first."""
    rows = []
    for name, cell in summary["cells"].items():
        errors = sorted(cell.get("error", [math.nan]))
        ms = cell["ms"]["hand"] if "ms" in cell else math.nan
        rows.append((name, float(np.median(errors)), errors[-1], ms, cell.get("ratio", math.nan)))
    heads = ("cell", "error", "worst seed", "ms", "/ twin")
    rows.sort(key=lambda row: (math.isnan(row[1]), row[1]))
    return f"\n{table(heads, rows)}\nall of it took {summary['seconds']:.0f} seconds"


def main(argv=None):
    return command.main(Config, run, "python -m experiments.zoo", __doc__, argv)
