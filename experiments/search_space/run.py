"""Which parts does an LSTM need? Eight variants beside the LSTM with peepholes, by random search.

    python -m experiments.search_space --data FOLDER --seeds 3

Greff et al. (2017) train the LSTM with peepholes and eight variants, each without or with one part,
on JSB Chorales among others: 200 trials of each, with what each draws of learning rate, size,
momentum and noise. Here a trial draws its seed and its learning rate, and Adam does the rest; all
trials of a variant train side by side, at a budget of minutes and not of years. --seeds is how many
searches there are, and each takes the trial that is best on the validation part. What the paper
finds of each variant stands beside what is found here, with intervals: see findings.py.

The data are chorales as 88 pitches that sound or do not; the next frame is to be said of those
before, and the loss is summed over the pitches. Frames are read in streams of whole chorales. The
test part is read once, after all of a variant's training.

Writes results/search_space/<run>/:
    config.json        what was asked for, sha256 of the file, versions
    <variant>/         metrics.jsonl and checkpoints of its trials
    summary.json, variants.png
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated

import jax
import numpy as np
from tyro.conf import arg

from experiments.kit import check_gradients, command, evidence, record, report, training, tunes
from experiments.kit.config import (
    BadInput,
    Count,
    OptionalData,
    Positive,
    TrainingConfig,
    check_memory,
)
from experiments.kit.progress import seconds_of
from experiments.search_space import findings, plots
from experiments.search_space.training import judge, loss_of, rates_drawn, task_of
from jax_lstm import CELLS
from jax_lstm.printing import table

QUESTION = (
    "Which parts does an LSTM need? The LSTM with peepholes and the eight variants of Greff et al. "
    "(2017) on JSB Chorales: of each search, the trial that is best on the validation part."
)
VARIANTS = (findings.VANILLA, *findings.PAPER)
SOURCE = (
    "Greff et al. (2017), arXiv:1503.04069, compare variants by their ranks and intervals; "
    "8.45 is an LSTM's in the table of Bai, Kolter & Koltun (2018), of other sizes"
)


@dataclass(frozen=True)
class Config(TrainingConfig):
    """The options of search_space."""

    data: OptionalData = None
    """the folder with JSB_Chorales.mat; needed"""
    variants: Annotated[str, arg(metavar="NAME,...")] = "all"
    """which: all, or names of cells, peephole_lstm among them"""
    seeds: Count = 3
    """random searches side by side, one for each of so many seeds in a row"""
    trials: Count = 8
    """of each search"""
    slowest: Positive = 2e-3
    """the least learning rate that is drawn"""
    fastest: Positive = 5e-2
    """the greatest"""
    hidden: Count = 32
    """H, hidden units"""
    steps: Count = 200
    """updates"""
    batch: Count = 24
    """B, streams of chorales"""
    window: Count = 64
    """T, frames of an update"""
    clip: Positive = 1.0
    """bound on the global norm of the gradient"""

    @classmethod
    def tiny(cls):
        """two variants and few small networks, done in seconds"""
        return cls(
            variants="peephole_lstm,lstm_nfg",
            seeds=2,
            trials=3,
            hidden=5,
            steps=12,
            batch=4,
            window=16,
        )

    def __post_init__(self):
        super().__post_init__()
        names = variants_of(self)
        if findings.VANILLA not in names:
            raise BadInput("--variants", f"must have {findings.VANILLA}, which others are beside")
        if self.slowest > self.fastest:
            raise BadInput("--slowest", f"must be <= {self.fastest}, the --fastest")
        if self.gradient == "step":
            raise BadInput("--gradient", "must be manual or auto: steps are the LSTM's alone")
        if self.dh is not None:
            raise BadInput("--dh", "is of the LSTM alone, and not of its variants")
        if (self.devices or 1) > 1 or self.processes > 1:
            raise BadInput("--devices", "must be 1: networks lie side by side on one")


def variants_of(config):
    """Which of VARIANTS.

    Raises:
      BadInput: another one, or one twice.
    """
    every = config.variants == "all"
    return list(VARIANTS) if every else command.names_in(config, "variants", VARIANTS)


def run(config):
    """The experiment, from a Config to its summary; everything else is in the folder it names."""
    training.start(config)
    data, about = tunes.read(config.data, "jsb")
    networks = config.seeds * config.trials
    numbers = 4 * config.hidden * (4 * config.hidden + 2 * tunes.PITCHES)
    kept = 32 * config.window * config.batch * config.hidden
    size = networks * (16 * numbers + kept)  # with the gradient, Adam's two, gates and states
    check_memory("--trials", size, f"training {networks} networks side by side")
    with training.folder(config, "search_space") as directory:
        return experiment(config, data, about, directory)


def experiment(config, data, about, directory):
    files = {tunes.FILES["jsb"]: about}
    record.write_config(directory, config, "search_space", files=files, **report.machine())
    print(
        f"{config.seeds} searches of {config.trials} trials, H = {config.hidden}, "
        f"{config.steps} steps of {config.window} x {config.batch} frames; writing {directory}"
    )
    variants = {}
    for name in variants_of(config):
        variants[name] = of_variant(config, name, data, directory)
        record.write_json(directory / "summary.json", summarise(config, variants))
        chosen = ", ".join(f"{trial['test']:.3f}" for trial in best_of(variants[name]))
        print(f"{name}: {chosen} nats per frame of the test part", flush=True)
    summary = summarise(config, variants)
    plots.draw(directory)
    print(f"\n{summary_table(summary)}\n\n{record.name_files(directory)}")
    return summary


def of_variant(config, name, data, directory):
    """All trials of a variant, and the seconds that they took; their evidence is added."""
    cell = CELLS[name]

    def check(params, states, batch):
        """The first network's gradient on its first batch, by hand beside jax.grad."""
        losses = {"by_hand": loss_of(cell, "manual"), "autodiff": loss_of(cell, "auto")}
        first = jax.tree.map(lambda x: x[0, 0], (params, states))
        check_gradients.check(losses, directory / name, *first, *(x[0] for x in batch))

    task = task_of(config, cell, data["training"])
    params = training.carry_out_part(config, task, directory, name, check)
    losses = {part: judge(config, cell, params, data[part]) for part in ("validation", "test")}
    trials = [
        {
            "seed": config.seed + n,
            "learning_rate": float(rate),
            **{part: float(loss[n, k]) for part, loss in losses.items()},
        }
        for n, rates in enumerate(rates_drawn(config))
        for k, rate in enumerate(rates)
    ]
    found = {"trials": trials, "seconds": seconds_of(directory / name)}
    row = evidence.Row(
        name,
        "nats per frame of the test",
        "lower",
        tunes.floor_of(data["training"], data["test"]),
        tunes.FLOOR_HOW,
        source=SOURCE,
    )
    for trial in best_of(found):
        one = dataclasses.replace(config, seed=trial["seed"])
        minutes = found["seconds"] / 60 / config.seeds
        evidence.add(one, "search_space", QUESTION, row, trial["test"], minutes, ("data",))
    return found


def best_of(variant):
    """The trial of each search that is best on the validation part."""
    seeds = dict.fromkeys(trial["seed"] for trial in variant["trials"])
    of_seed = lambda seed: [trial for trial in variant["trials"] if trial["seed"] == seed]
    return [min(of_seed(seed), key=lambda trial: trial["validation"]) for seed in seeds]


def summarise(config, variants):
    """All trials, and what is found of each variant beside what the paper finds."""
    columns = {
        name: [np.array([t[part] for t in found["trials"]]) for part in ("validation", "test")]
        for name, found in variants.items()
    }
    apart = findings.differences(columns)
    return {
        "variants": variants,
        "findings": {
            name: {
                "difference": difference,
                "interval": ends,
                "here": findings.verdict(*ends),
                "paper": findings.PAPER[name],
                "holds": findings.holds(name, findings.verdict(*ends)),
            }
            for name, (difference, *ends) in apart.items()
        },
    }


def summary_table(summary):
    """A row per variant: its best trials, how far from the vanilla LSTM's, and what is in print."""
    heads = ("variant", "test", "apart", "low", "high", "here", "paper", "holds", "seconds")
    rows = []
    for name, found in summary["variants"].items():
        test = float(np.mean([trial["test"] for trial in best_of(found)]))
        own = summary["findings"].get(name)
        middle = ("-",) * 6
        if own is not None:
            holds = "yes" if own["holds"] else "no"
            middle = (own["difference"], *own["interval"], own["here"], own["paper"], holds)
        rows.append((name, test, *middle, found["seconds"]))
    return table(heads, rows)


def main(argv=None):
    return command.main(Config, run, "python -m experiments.search_space", __doc__, argv)
