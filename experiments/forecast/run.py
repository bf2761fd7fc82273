"""What comes next? The stacked LSTM of the Keras tutorials on sunspots, and what leaks make of it.

    python -m experiments.forecast --seeds 3
    python -m experiments.forecast --seeds 3 --csv FILE --column NAME

Four LSTMs of 50, dropout of 0.2 behind each, a dense layer: 71,051 numbers. A window of 60 values
goes in, the next value comes out. The values are cut in the order of time: 70 of 100 to learn
from, 10 to choose by, 20 to test on; the scale is that of the first part. Adam in batches of 32,
100 epochs; validation chose the learning rate, and keeps the best epoch; the test part is read
once. Beside it stand the mean, the last value, the value of a season ago and a linear
autoregression, whose season and order the validation part chose too.

The same network is then trained twice with a leak: with the scale of all values, and with windows
that were shuffled before they were cut. What such a run reports ("as it looks") stands beside what
its forecasts of years that it had no part of are worth ("as it is").

Writes results/forecast/<run>/, a folder for each seed:
    config.json                     what was asked for, the series, versions
    honest/, scaler/, shuffled/     metrics.jsonl, params.safetensors, checkpoints/
    errors.json                     RMSE of all, and over that of the last value
    forecasts.json, forecast.png    the test part and who foresaw it
and its rows into results/evidence/forecast.json.
"""

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Annotated

import jax
from tyro.conf import arg

import jax_lstm
from experiments.forecast import plots, series
from experiments.forecast.baselines import BASELINES
from experiments.forecast.series import PROTOCOLS, rmse
from experiments.forecast.training import count, forecast, init, loss_of, task_of
from experiments.kit import check_gradients, command, evidence, machines, record, report, training
from experiments.kit.config import (
    BadInput,
    Bounds,
    Count,
    CountOrZero,
    FractionOrZero,
    OptionalFile,
    OptionalName,
    Positive,
    Size,
    TrainingConfig,
    check_memory,
)
from jax_lstm.printing import table

QUESTION = """
Does the stacked LSTM of the Keras stock tutorials (four layers of 50, dropout, 71,051 numbers)
foresee the next value of a series better than simple rules do? And how much better does it look
where the scale is fitted on all values, or where windows are shuffled before they are cut?
"""
NETWORK, LOOKS_SCALER = "LSTM", "leak: scale of all values, as it looks"
LOOKS_SHUFFLED, IS_SHUFFLED = (
    "leak: shuffled windows, as it looks",
    "leak: shuffled windows, as it is",
)
RMSE, RELATIVE = "RMSE, one step ahead", "RMSE over that of the last value"
HOW = "the mean of the training part, foretold always"
SOURCE = "no number is known to us for this network on this series"


@dataclass(frozen=True)
class Config(TrainingConfig):
    """The options of forecast."""

    csv: OptionalFile = None
    """a file of comma-separated values whose first line has names, one line for each step of time
    (default: the yearly sunspots that statsmodels brings)"""
    column: OptionalName = None
    """of that file; needed where it has several"""
    seeds: Count = 3
    """runs, one for each of so many seeds from --seed on, one after the other"""
    window: Annotated[int, Bounds(low=2), Size, arg(metavar="T")] = 60
    """T, values that a forecast is made from"""
    layers: Count = 4
    """LSTMs one above the other"""
    hidden: Count = 50
    """H, hidden units of each"""
    dropout: FractionOrZero = 0.2
    """probability that an output of a layer is dropped"""
    epochs: Count = 100
    """how often the training part is read"""
    steps: CountOrZero = 0
    """updates, if not as many as the epochs have"""
    batch: Count = 32
    """B, windows of an update"""
    learning_rate: Positive = 3e-3
    """Adam's; of 1e-3, 3e-3 and 1e-2 the one that was best on validation"""
    clip: Positive = 1000.0
    """bound on the norm of the gradient, far above what comes"""

    @classmethod
    def tiny(cls):
        """two small networks and two epochs, done in seconds"""
        return cls(seeds=2, window=12, layers=2, hidden=4, epochs=2, batch=64)


def run(config):
    """The experiment, from a Config to its summaries, one of each seed."""
    training.start(config)
    H, values = config.hidden, series.read(config)
    numbers = 4 * H * (H + 2) + (config.layers - 1) * 4 * H * (2 * H + 1) + H + 1
    activations = 8 * config.layers * config.window * config.batch * H
    check_memory("--hidden", 4 * (4 * numbers + activations), f"training {numbers:,} numbers")
    least = min(len(make(config, values.values).training) for make in PROTOCOLS.values())
    if config.batch > least:
        raise BadInput("--batch", f"must be <= {least}, the windows to learn from")
    return [run_seed(one, values, numbers) for one in evidence.each_seed(config)]


def run_seed(config, values, numbers):
    with training.folder(config, "forecast") as directory:
        found = count(jax.eval_shape(lambda: init(config, jax.random.key(0))))
        if found != numbers:
            raise AssertionError(f"the network has {found:,} numbers in place of {numbers:,}")
        sha256 = hashlib.sha256(values.values.tobytes()).hexdigest()
        files = {"name": values.name, "values": len(values.values), "sha256": sha256}
        facts = {"files": files, "parameters": numbers, **report.machine()}
        record.write_config(directory, config, "forecast", **facts)
        print(
            f"seed {config.seed}: {values.name}, {len(values.values)} values; {numbers:,} numbers; "
            f"writing {directory}"
        )
        return experiment(config, values.values, directory)


def experiment(config, values, directory):
    test, errors, forecasts, minutes = series.test_of(values), {}, {}, {}
    honest = PROTOCOLS["honest"](config, values)
    for name, baseline in BASELINES.items():
        forecasts[name] = baseline(config, values, honest)(test)
    for part, make in PROTOCOLS.items():
        protocol = make(config, values)
        params = train(config, values, protocol, directory, part)
        if params is None:
            continue
        minutes[part] = record.minutes(directory / part / "metrics.jsonl")
        name = {"honest": NETWORK, "scaler": LOOKS_SCALER, "shuffled": IS_SHUFFLED}[part]
        forecasts[name] = forecast(config, params, values, protocol, test)
        if part == "shuffled":
            judged = protocol.judged
            shuffled = forecast(config, params, values, protocol, judged)
            last = BASELINES["last value"](config, values, protocol)(judged)
            mean = BASELINES["mean of training"](config, values, protocol)(judged)
    if not machines.is_first():
        return None
    errors = {name: rmse(answer, values, test) for name, answer in forecasts.items()}
    lasts = dict.fromkeys(errors, errors["last value"])
    floors = dict.fromkeys(errors, errors["mean of training"])
    errors[LOOKS_SHUFFLED] = rmse(shuffled, values, judged)
    lasts[LOOKS_SHUFFLED], floors[LOOKS_SHUFFLED] = (rmse(x, values, judged) for x in (last, mean))
    relative = {name: error / lasts[name] for name, error in errors.items()}
    summary = {"seed": config.seed, "rmse": errors, "relative": relative, "minutes": minutes}
    record.write_json(directory / "errors.json", summary)
    told = {"t": test.tolist(), "values": values[test].tolist()}
    told |= {"forecasts": {k: x.tolist() for k, x in forecasts.items()}, "relative": relative}
    record.write_json(directory / "forecasts.json", told)
    plots.draw(directory)
    path = add_rows(config, summary, lasts, floors)
    evidence.add_picture(config, path, "series", directory / "forecast.png")
    print(summary_table(summary))
    print(f"\n{record.name_files(directory)}\n")
    return summary


def train(config, values, protocol, directory, part):
    """The parameters that were best on the protocol's validation."""
    folder, per_epoch = directory / part, len(protocol.training) // config.batch
    config = dataclasses.replace(config, steps=config.steps or config.epochs * per_epoch)

    def check(params, carry, batch):
        """Once: the others are the same network on other windows."""
        if part != "honest":
            return
        whole = dataclasses.replace(config, dropout=0)  # masks of float64 are others
        hand = "step" if config.gradient == "step" else "manual"
        losses = {"by_hand": loss_of(whole, hand), "autodiff": loss_of(whole, "auto")}
        check_gradients.check(losses, folder, params, carry, *batch)

    task = task_of(config, values, protocol, folder)
    training.carry_out_part(config, task, directory, part, check, per_epoch)
    if not machines.is_first():
        return None
    return jax_lstm.load(folder / "params.safetensors", like=task.start()[0])[0]


def add_rows(config, summary, lasts, floors):
    """Into the table of evidence: each error, and the networks' over that of the last value."""
    errors = summary["rmse"]
    part_of = {NETWORK: "honest", LOOKS_SCALER: "scaler", LOOKS_SHUFFLED: "shuffled"}
    networks, linear = (*part_of, IS_SHUFFLED), "linear autoregression"
    for name, error in errors.items():
        how = HOW if name != LOOKS_SHUFFLED else f"{HOW}; on the windows of the last seed"
        source = SOURCE if name in networks else ""
        bar = errors[linear] if name == NETWORK else None
        floor = floors[name]
        row = evidence.Row(name, RMSE, "lower", floor, how, source=source, bar=bar, digits=2)
        minutes = summary["minutes"][part_of[name]] if name in part_of else 0.0
        path = evidence.add(config, "forecast", QUESTION, row, error, minutes)
        if name in (*networks, linear):
            floor = floors[name] / lasts[name]
            row = evidence.Row(name, RELATIVE, "lower", floor, how, source=source)
            evidence.add(config, "forecast", QUESTION, row, summary["relative"][name], 0.0)
    return path


def summary_table(summary):
    """A row for each, and what the leaks make of it."""
    errors, relative = summary["rmse"], summary["relative"]
    rows = [(name, error, relative[name]) for name, error in errors.items()]
    by = {
        "the scale of all values": 1 - errors[LOOKS_SCALER] / errors[NETWORK],
        "shuffled windows": 1 - relative[LOOKS_SHUFFLED] / relative[IS_SHUFFLED],
    }
    said = "\n".join(
        f"{name}: it looks {100 * x:.1f} % better than it is" for name, x in by.items()
    )
    return f"\n{table(('', 'RMSE', '/ last value'), rows)}\n\n{said}"


def main(argv=None):
    return command.main(Config, run, "python -m experiments.forecast", __doc__, argv)
