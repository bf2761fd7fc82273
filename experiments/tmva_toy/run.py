"""Signal or background? TMVA's toy of ten noisy histograms, with the state remembered and not.

    python -m experiments.tmva_toy --seeds 3

The events are those of ROOT's tutorial TMVA_RNN_Classification: 10 steps of 30 bins, see events.py.
LSTM(10) at every step -> flatten -> 64 tanh -> 1; cross-entropy, Adam at 1e-3, batches of 100, 20
epochs; the epoch that is best on validation is kept. With TMVA's option to remember the state, a
batch starts from the state after the batch before it; without, from zeros. Beside them stand
scikit-learn's logistic regression and MLP, whose settings the validation part chose too, and the
likelihood ratio of one who knows how the events are made. Each seed has events of its own; the test
part is read once.

Writes results/tmva_toy/<run>/, a folder for each seed:
    config.json         what was asked for, versions
    off/, on/           metrics.jsonl, params.safetensors, checkpoints/: state not remembered, and
                        remembered
    scores.json         AUC of each classifier, with its standard errors and the covariances
    roc.json, roc.png   the ROC curves
and its rows into results/evidence/tmva_toy.json.
"""

import dataclasses
import time
from dataclasses import dataclass
from typing import Annotated

import numpy as np

import jax_lstm
from experiments.kit import check_gradients, command, evidence, machines, record, report, training
from experiments.kit.config import (
    BadInput,
    Bounds,
    Count,
    CountOrZero,
    Positive,
    Size,
    TrainingConfig,
)
from experiments.tmva_toy import baselines, events, plots, roc
from experiments.tmva_toy.training import loss_of, scores, task_of
from jax_lstm.printing import table

QUESTION = """
Does an LSTM tell TMVA's two classes of noisy histograms apart, and does it help to carry its state
from one batch of events into the next? The errors of an area are DeLong's, of the test events; the
spread is that of seeds, each with events of its own.
"""
ROW = evidence.Row(
    name="",
    metric="AUC",
    better="higher",
    floor=0.5,
    floor_how="0.5 is the area of any score that does not look at the event",
    source="the tutorial (TMVA_RNN_Classification.C of ROOT) draws the curve and prints no number",
    digits=4,
)
NETWORKS = {"LSTM, state not remembered": "off", "LSTM, state remembered": "on"}
OTHERS = {
    "logistic regression": baselines.logistic_regression,
    "MLP, 64 tanh": baselines.mlp,
}
KNOWS = "likelihood ratio (knows the generator)"


@dataclass(frozen=True)
class Config(TrainingConfig):
    """The options of tmva_toy."""

    seeds: Count = 3
    """runs, one for each of so many seeds from --seed on, one after the other"""
    events: Annotated[int, Bounds(low=10), Size] = 10_000
    """of each class; 64, 16 and 20 of 100 are for training, validation and test"""
    hidden: Count = 10
    """H, hidden units of the LSTM"""
    dense: Count = 64
    """units between it and the answer, and of the MLP"""
    epochs: Count = 20
    """how often the training part is read"""
    steps: CountOrZero = 0
    """updates, if not as many as the epochs have"""
    batch: Count = 100
    """B, events of an update"""
    learning_rate: Positive = 1e-3
    """Adam's"""
    clip: Positive = 1000.0
    """bound on the norm of the gradient, far above what comes"""

    @classmethod
    def tiny(cls):
        """few events, two seeds and an epoch, done in seconds"""
        return cls(seeds=2, events=100, hidden=3, dense=5, epochs=1, batch=20)


def run(config):
    """The experiment, from a Config to its summaries, one of each seed."""
    training.start(config)
    evidence.needed("sklearn", "scikit-learn")  # before minutes of training
    return [run_seed(one) for one in evidence.each_seed(config)]


def run_seed(config):
    training_events = 2 * round(0.64 * config.events)
    if config.batch > training_events:
        raise BadInput("--batch", f"must be <= {training_events}, the events of training")
    with training.folder(config, "tmva_toy") as directory:
        return experiment(config, directory)


def experiment(config, directory):
    record.write_config(directory, config, "tmva_toy", **report.machine())
    found = events.parts(config.seed, config.events)
    ratio = events.log_likelihood_ratio(found["test"].xs)
    found = events.standardised(found)
    print(f"seed {config.seed}: {config.events} events of each class; writing {directory}")
    answers, minutes = {}, {}
    for name, part in NETWORKS.items():
        answers[name] = train(config, found, directory, part)
        minutes[name] = record.minutes(directory / part / "metrics.jsonl")
    if not machines.is_first():
        return None
    for name, fit in OTHERS.items():
        began = time.perf_counter()
        with baselines.one_thread():
            answers[name] = fit(config, found)
        minutes[name] = (time.perf_counter() - began) / 60
    answers[KNOWS], minutes[KNOWS] = ratio, 0.0
    return report_seed(config, directory, answers, minutes, found["test"].targets[:, 0])


def train(config, found, directory, part):
    """Scores of the test events by the network that was best on validation."""
    remembered, folder = part == "on", directory / part
    per_epoch = len(found["training"].targets) // config.batch
    config = dataclasses.replace(config, steps=config.steps or config.epochs * per_epoch)

    def check(params, carry, batch):
        """The gradient of the one with a memory, which has that of the state too."""
        if not remembered:
            return
        hand = "step" if config.gradient == "step" else "manual"
        losses = {"by_hand": loss_of(hand, remembered), "autodiff": loss_of("auto", remembered)}
        check_gradients.check(losses, folder, params, carry, *batch)

    task = task_of(config, found, remembered, folder)
    training.carry_out_part(config, task, directory, part, check, per_epoch)
    if not machines.is_first():
        return None
    params, _ = jax_lstm.load(folder / "params.safetensors", like=task.start()[0])
    return scores(config, params, found["test"], remembered)


def report_seed(config, directory, answers, minutes, labels):
    """The areas and their errors: into the run's folder, the table of evidence, and for people."""
    areas, covariance = roc.delong(np.stack(list(answers.values())), labels)
    errors, m = np.sqrt(np.diag(covariance)), int(labels.sum())
    by_value = roc.hanley_mcneil(areas, m, len(labels) - m)
    summary = {"seed": config.seed, "covariance": covariance.tolist(), "classifiers": {}}
    curves = {}
    for k, (name, answer) in enumerate(answers.items()):
        more = {"error": errors[k], "hanley_mcneil": by_value[k]}
        more = {key: round(float(x), 6) for key, x in more.items()}
        row, value = ROW._replace(name=name), float(areas[k])
        path = evidence.add(config, "tmva_toy", QUESTION, row, value, minutes[name], **more)
        summary["classifiers"][name] = {"auc": value, "minutes": minutes[name], **more}
        background, signal = (
            np.interp(GRID, np.linspace(0, 1, len(x)), x) for x in roc.curve(answer, labels)
        )
        curves[name] = {"auc": value, "error": more["error"]}
        curves[name] |= {"background": background.tolist(), "signal": signal.tolist()}
    record.write_json(directory / "scores.json", summary)
    record.write_json(directory / "roc.json", curves)
    plots.draw(directory)
    evidence.add_picture(config, path, "roc", directory / "roc.png")
    print(summary_table(summary))
    print(f"\n{record.name_files(directory)}\n")
    return summary


GRID = np.linspace(0, 1, 201)  # places along a curve that a picture needs


def summary_table(summary):
    """A row per classifier: its area, its errors, and how far it is from the first one."""
    covariance, rows = np.array(summary["covariance"]), []
    classifiers = summary["classifiers"]
    first = next(iter(classifiers.values()))["auc"]
    for k, (name, each) in enumerate(classifiers.items()):
        apart = np.sqrt(max(covariance[0, 0] + covariance[k, k] - 2 * covariance[0, k], 0))
        difference = f"{each['auc'] - first:+.4f} ± {apart:.4f}" if k else "-"
        rows.append((name, each["auc"], each["error"], each["hanley_mcneil"], difference))
    heads = ("classifier", "AUC", "DeLong", "Hanley-McNeil", "from the first, paired")
    return f"\n{table(heads, rows, form='.4f')}"


def main(argv=None):
    return command.main(Config, run, "python -m experiments.tmva_toy", __doc__, argv)
