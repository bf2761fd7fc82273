"""Which notes are next? Chorales and folk tunes as piano rolls, 88 pitches a frame.

    python -m experiments.music --data FOLDER --seeds 3

JSB_Chorales.mat and Nottingham.mat (Boulanger-Lewandowski, Bengio & Vincent 2012, as Bai, Kolter &
Koltun 2018 use them): frame t + 1 is predicted from frames 1 to t. The number is theirs: the
binary cross-entropy summed over the pitches, its mean over all frames of all tunes but the first
frame of each.

Training reads streams of whole tunes, one behind the other, in windows: the state goes on from
window to window and is zero where a tune begins; the gradient ends at a window's border. Judgement
reads each tune from its first frame to its last. Tunes are in C already, so none is transposed. The
parameters are those of the evaluation whose mean over the seeds is best on the validation part; the
test part is read once, at the end. `--choose` leaves it closed, for whoever tries other options.

Writes results/music/<run>/ for each set, and its row of results/evidence/music.json:
    config.json          what was asked for, sha256 of the file, versions
    metrics.jsonl        every number as it came, by kind: gradient, compiled, step, validation,
                         nonfinite, judged
    checkpoints/         what --resume goes on from
    params.safetensors   of all seeds, stacked: the best on the validation part
    summary.json, curves.png
"""

import dataclasses
import time
from dataclasses import dataclass
from typing import Annotated

import jax
import numpy as np
from tyro.conf import arg

from experiments.kit import (
    check_gradients,
    command,
    evidence,
    machines,
    record,
    report,
    training,
    tunes,
)
from experiments.kit.classification import without_masks
from experiments.kit.config import (
    Bounds,
    Count,
    FractionOrZero,
    FreeSwitch,
    OptionalData,
    Positive,
    Size,
    check_memory,
)
from experiments.kit.layers import LayersConfig
from experiments.kit.tunes import FILES, PITCHES
from experiments.music import plots
from experiments.music.training import best_of, judge, loss_of, packed, task_of

ASKS = (
    "Which notes are next? Bach's chorales and folk tunes of Nottingham, 88 pitches a frame: the "
    "binary cross-entropy summed over the pitches, its mean over all frames but the first of each "
    "tune. The data are a folder's, which has JSB_Chorales.mat and Nottingham.mat."
)
NAMES = {"jsb": "JSB chorales", "nottingham": "Nottingham"}
PUBLISHED = {"jsb": 8.45, "nottingham": 3.29}
# of each set, by the validation part; see experiments/results/evidence/music.md
CHOSEN = {
    "jsb": {"hidden": 200, "steps": 1000, "drop_outputs": 0.5, "evaluate_every": 100},
    "nottingham": {"hidden": 256, "steps": 3000, "drop_outputs": 0.25, "evaluate_every": 500},
}


def default_of(option, words):
    each = ", ".join(f"{chosen[option]} for {name}" for name, chosen in CHOSEN.items())
    return f"{words}; None: {each}"


@dataclass(frozen=True)
class Config(LayersConfig):
    """The options of music."""

    data: OptionalData = None
    """the folder with JSB_Chorales.mat and Nottingham.mat; needed"""
    sets: Annotated[str, arg(metavar="NAMES")] = ",".join(FILES)
    """of tunes, apart by commas: each is a training of its own"""
    window: Count = 64
    """T, frames of an update"""
    choose: FreeSwitch = False
    """a setting is being chosen: the test part is not read, and no row is written"""
    evaluate_every: Annotated[
        int | None,
        Bounds(low=1),
        Size,
        arg(help=default_of("evaluate_every", "updates between two looks at the validation part")),
    ] = None
    hidden: Annotated[
        int | None, Bounds(low=1), Size, arg(help=default_of("hidden", "H, hidden units"))
    ] = None
    steps: Annotated[int | None, Bounds(low=1), Size, arg(help=default_of("steps", "updates"))] = (
        None
    )
    drop_outputs: Annotated[
        float | None,
        Bounds(low=0, below=1),
        arg(help=default_of("drop_outputs", "probability that an output is dropped, for a window")),
    ] = None
    batch: Count = 16
    drop_recurrent: FractionOrZero = 0.2
    learning_rate: Positive = 3e-3

    @classmethod
    def tiny(cls):
        """two small models in a few steps, done in seconds"""
        return cls(sets="jsb", seeds=2, hidden=5, steps=6, batch=2, window=8, evaluate_every=3)

    def __post_init__(self):
        super().__post_init__()
        command.names_in(self, "sets", FILES)


def run(config):
    """The experiment, from a Config to {set: summary}; the rest is in the folders it names."""
    training.start(config)
    ones = [settled(one) for one in command.one_by_one(config, "sets", FILES)]
    for one in ones:
        numbers = 4 * one.hidden * (one.hidden * (2 * one.layers - 1) + PITCHES + 1)
        check_memory("--hidden", 16 * one.seeds * numbers, f"training {one.seeds} models")
    files = [tunes.read(one.data, one.sets) for one in ones]
    found = {}
    for one, (data, about) in zip(ones, files, strict=True):
        with training.folder(one, "music") as directory:
            found[one.sets] = experiment(one, config, data, about, directory)
    return found


def settled(one):
    """The Config with what was chosen for its set, where nothing else is asked for."""
    chosen = CHOSEN[one.sets].items()
    return dataclasses.replace(one, **{k: v for k, v in chosen if getattr(one, k) is None})


def experiment(config, asked, data, about, directory):
    """A training on one set of tunes; `asked`: the Config of the command."""
    began = time.perf_counter()
    facts = {"files": {FILES[config.sets]: about}, **report.machine()}
    record.write_config(directory, config, "music", **facts)
    print(
        f"{about['tunes']['training']} tunes, {about['frames']['training']:,} frames; "
        f"{config.seeds} models of {config.layers} x H = {config.hidden}, {config.steps} steps of "
        f"{config.window} x {config.batch} frames; writing {directory}"
    )
    task = task_of(config, data, directory)

    def check(params, carry, batch):
        """The first model's gradient on its first batch, by hand beside jax.grad."""
        whole = without_masks(config)
        hand = "step" if config.gradient == "step" else "manual"
        losses = {"by_hand": loss_of(whole, hand), "autodiff": loss_of(whole, "auto")}
        first = jax.tree.map(lambda x: x[0], (params, carry, *batch))
        check_gradients.check(losses, directory, *first)

    training.carry_out(config, task, directory, check, config.evaluate_every)
    if not machines.is_first():
        return None
    params = best_of(directory)
    for part in ("training", "validation", *(() if config.choose else ("test",))):
        nats = judge(config, params, packed(data[part])).tolist()
        record.append(directory / "metrics.jsonl", kind="judged", part=part, nats=nats)
    summary = summarise(directory, time.perf_counter() - began)
    summary |= {"parameters": sum(x.size for x in jax.tree.leaves(params)) // config.seeds}
    summary |= {"floor": tunes.floor_of(data["training"], data["test"])}
    record.write_json(directory / "summary.json", summary)
    plots.draw(directory)
    print(summary_table(summary))
    if not config.choose:
        add_rows(config, asked, summary)
    print(f"\n{record.name_files(directory)}")
    return summary


def add_rows(config, asked, summary):
    """Nats per frame of every seed on the test part, into the experiment's evidence."""
    row = evidence.Row(
        name=NAMES[config.sets],
        metric="test nats per frame",
        better="lower",
        floor=summary["floor"],
        floor_how=tunes.FLOOR_HOW,
        published=PUBLISHED[config.sets],
        source="the LSTM of Bai, Kolter & Koltun 2018, An empirical evaluation of generic "
        "convolutional and recurrent networks for sequence modeling, table 1",
        bar=PUBLISHED[config.sets],
    )
    asked = dataclasses.replace(asked, sets=",".join(FILES))
    minutes = summary["minutes"] / config.seeds
    for seed, nats in zip(config.seeds_in_a_row(), summary["nats"]["test"], strict=True):
        one = dataclasses.replace(asked, seed=seed)
        evidence.add(one, "music", ASKS, row, nats, minutes, ("data", "sets"))


def summarise(directory, seconds):
    """The run in numbers, from its metrics.jsonl."""
    lines = record.read_lines(directory / "metrics.jsonl")
    steps = [line for line in lines if line["kind"] == "step"]
    best = min((x for x in lines if x["kind"] == "validation"), key=lambda x: x["nats"])
    return {
        "nats": {line["part"]: line["nats"] for line in lines if line["kind"] == "judged"},
        "step": best["step"],
        "steps": len(steps),
        "minutes": record.minutes(directory / "metrics.jsonl"),
        "seconds": seconds,
    }


def summary_table(summary):
    lines = [f"\nafter step {summary['step']}, nats per frame"]
    for part, nats in summary["nats"].items():
        each = ", ".join(f"{x:.3f}" for x in nats)
        lines.append(f"{part:12} {np.mean(nats):7.3f}   {each}")
    return "\n".join([*lines, f"all of it took {report.clock(summary['seconds'])} minutes"])


def main(argv=None):
    return command.main(Config, run, "python -m experiments.music", __doc__, argv)
