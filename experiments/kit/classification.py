"""The run of an experiment that classifies: classifiers of several seeds, and what they get right.

Settings are chosen by --folds, which never opens the test part; then all training sequences are
learnt from, and the test part is judged once, at the end.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

import jax_lstm
from experiments.kit import (
    check_gradients,
    evidence,
    machines,
    plots,
    record,
    report,
    training,
)
from experiments.kit.classifier import (
    Sequences,
    Split,
    judge,
    loss_of,
    scales,
    task_of,
)


class Question(NamedTuple):
    """What is classified.

    name: of the experiment.
    asks: a sentence or two.
    row: an `evidence.Row` of the test part, whose floor is filled in here.
    data: {"training": Sequences, "test": Sequences}; the test part is left out with --folds.
    labels: names of the classes.
    split: of `classifier.split_sequences`.
    about: what config.json says of the data.
    places: options that say where data lie, see `evidence.add`.
    augment: of `classifier.batches`.
    """

    name: str
    asks: str
    row: evidence.Row
    data: dict[str, Sequences]
    labels: list
    split: Split
    about: dict
    places: tuple[str, ...] = ()
    augment: Callable | None = None


def experiment(config, question, directory, asked=None):
    """Train, judge, write, and say it. `asked`: the Config of the command, where it is another."""
    began, data, split = time.perf_counter(), question.data, question.split
    facts = {"files": question.about, "T": len(data["training"].xs), **report.machine()}
    record.write_config(directory, config, question.name, **facts)
    print(
        f"{sum(len(d.classes) for d in data.values())} sequences, padded to T = {facts['T']}; "
        f"{len(split.seeds)} classifiers with {config.layers} x H = {config.hidden} in "
        f"{config.directions} directions, "
        f"{config.steps} steps of {config.batch}; writing {directory}"
    )
    scale = scales(data["training"], split)
    V = len(question.labels)
    task = task_of(config, data["training"], V, split, scale, question.augment)

    def check(params, carry, batch):
        """The first classifier's gradient on its first batch, by hand beside jax.grad."""
        whole = without_masks(config)
        hand = "step" if config.gradient == "step" else "manual"
        losses = {"by_hand": loss_of(whole, hand), "autodiff": loss_of(whole, "auto")}
        first, (scale, xs, *rest) = jax.tree.map(lambda x: x[0], params), batch
        of_first = (scale[0], xs[:, 0], *(x[0] for x in rest))
        check_gradients.check(losses, directory, first, carry, *of_first)

    params = training.carry_out(config, task, directory, check)
    if not machines.is_first():
        return None
    notes = {"seeds": split.seeds, "labels": list(map(str, question.labels))}
    tree = {"params": params, "scale": scale}
    jax_lstm.save(directory / "params.safetensors", tree, notes=notes)
    for name, right in judge(config, data, split, scale, params).items():
        for seed, each in zip(split.seeds, right, strict=True):
            record.append(
                directory / "metrics.jsonl",
                kind="accuracy",
                sequences=name,
                seed=seed,
                right=int(each.sum()),
                of=each.size,
                wrong=np.flatnonzero(~each).tolist(),
            )
    summary = summarise(directory, time.perf_counter() - began)
    record.write_json(directory / "summary.json", summary)
    draw(directory)
    print(summary_table(summary))
    if not config.folds:
        add_rows(asked or config, question, summary)
    print(f"\n{record.name_files(directory)}")
    return summary


def without_masks(config):
    """The Config of the true function: masks and noise of float64 are others."""
    rates = ("drop_inputs", "drop_outputs", "drop_recurrent", "noise")
    return dataclasses.replace(config, **{k: 0.0 for k in rates if hasattr(config, k)})


def add_rows(config, question, summary):
    """The accuracy of every seed on the test part, into the experiment's evidence."""
    classes = question.data["test"].classes
    most = 100 * np.bincount(classes).max() / len(classes)
    row = question.row._replace(floor=most, floor_how="the most frequent class of the test part")
    minutes = summary["minutes"] / len(question.split.seeds)
    for seed, p in zip(question.split.seeds, summary["accuracy"]["test"]["each"], strict=True):
        one, error = dataclasses.replace(config, seed=seed), (p * (1 - p) / len(classes)) ** 0.5
        told = (question.name, question.asks, row, 100 * p, minutes, question.places)
        evidence.add(one, *told, error=100 * error)


def summarise(directory, seconds):
    """The run in numbers, from its metrics.jsonl."""
    lines = record.read_lines(directory / "metrics.jsonl")
    steps = [line for line in lines if line["kind"] == "step"]
    accuracies = {}
    for line in lines:
        if line["kind"] == "accuracy":
            accuracies.setdefault(line["sequences"], []).append(line["right"] / line["of"])
    return {
        "accuracy": {
            name: {"mean": sum(a) / len(a), "least": min(a), "most": max(a), "each": a}
            for name, a in accuracies.items()
        },
        "nats": steps[-1]["nats"],
        "steps": len(steps),
        "T": record.read_json(directory / "config.json")["T"],
        "minutes": record.minutes(directory / "metrics.jsonl"),
        "seconds": seconds,
    }


def summary_table(summary):
    lines = [f"\n{'accuracy, %':12} {'mean':>7} {'least':>7} {'most':>7}   each"]
    for name, a in summary["accuracy"].items():
        numbers = " ".join(f"{100 * a[key]:7.2f}" for key in ("mean", "least", "most"))
        lines.append(f"{name:12} {numbers}   {', '.join(f'{100 * x:.2f}' for x in a['each'])}")
    return "\n".join([*lines, f"all of it took {summary['seconds']:.0f} seconds"])


# The picture ------------------------------------------------------------------------------------


def draw(directory):
    """curves.png: the loss, mean over the classifiers, and what each gets wrong."""
    lines = record.read_lines(directory / "metrics.jsonl")
    plots.save(directory / "curves.png", curves, lines)


def curves(figure, lines):
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    steps = [line for line in lines if line["kind"] == "step"]
    nats = plots.column(steps, "nats").mean(1)
    plots.plot_steps_and_mean(left.semilogy, plots.column(steps, "step"), nats, "training")
    left.legend(frameon=False)
    plots.tidy(left, "Mean over the classifiers", "step", "nats per sequence")
    judged = [line for line in lines if line["kind"] == "accuracy"]
    names = list(dict.fromkeys(line["sequences"] for line in judged))
    for k, name in enumerate(names):
        wrong = [1 - x["right"] / x["of"] for x in judged if x["sequences"] == name]
        right.plot([k] * len(wrong), [100 * w for w in wrong], "o", color=plots.HAND, alpha=0.6)
    right.set_xticks(range(len(names)), names)
    right.set_xlim(-0.5, max(len(names), 1) - 0.5)
    right.set_ylim(bottom=0)
    plots.tidy(right, "Each classifier", "", "sequences wrong, %")
