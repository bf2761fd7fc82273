"""How far back must the errors of a trained character model go? The exact error of TBPTT by k2.

    python -m experiments.truncation --seeds 3
    python -m experiments.truncation --text tinyshakespeare.txt

A character model is trained in windows, as experiments.char_lm does it. Of the parameters that were
best on held-out text, the gradient of all of a long piece of that text is compared with that of
TBPTT(k1, k2), for each k2, and with a bound that is a theorem; likewise that of windows side by
side, TBPTT(k2, k2), as it was trained. See docs/truncation.md.

Writes results/truncation/<run>/, a folder for each seed:
    config.json          what was asked for, the text's sha256, the vocabulary, versions
    metrics.jsonl        the training, as char_lm's
    params.safetensors   the best on held-out text
    checkpoints/         what --resume goes on from
    truncation.json, truncation.png
and its rows into results/evidence/truncation.json.
"""

import dataclasses
import functools
import time
from dataclasses import dataclass

import jax
import numpy as np

import jax_lstm as jl
from experiments.kit import check_gradients, command, evidence, machines, record, report, training
from experiments.kit import language_model as lm
from experiments.kit.config import BadInput, Count
from experiments.kit.routes import ROUTES
from experiments.kit.windows import WindowsConfig
from experiments.truncation import plots
from jax_lstm.printing import table

QUESTION = """
How far is the truncated gradient of a trained character model from the whole one, and how many
steps back are enough? The error is exact, ‖g_k2 - g‖ / ‖g‖ of the LSTM's parameters on held-out
text; the bound is a theorem.
"""
CHUNK = 16  # times k1: steps of a chunk
ASKED = (0.1, 0.01, 0.001)  # errors for which a k2 is chosen


@dataclass(frozen=True)
class Config(lm.LanguageModelConfig, WindowsConfig):
    """The options of truncation."""

    seeds: Count = 3
    """runs, one for each of so many seeds from --seed on, one after the other"""
    hidden: Count = 64
    """H, hidden units of the LSTM"""
    embedding: Count = 16
    """D, size of a character's vector"""
    streams: Count = 16
    """B, pieces of the text that are read side by side"""
    steps: Count = 600
    """updates; each reads T x B characters"""
    evaluate_every: Count = 200
    """steps between validations; the best parameters so far are kept"""
    block: Count = 16
    """k1, outputs per block, whose errors go back together"""
    doublings: Count = 4
    """the largest k2 is --block times 2 to this power; between two powers there is one more"""
    measured: Count = 512
    """T, steps of the gradient that is taken apart"""
    pieces: Count = 4
    """B, pieces of the held-out text of that length, side by side"""

    @classmethod
    def tiny(cls):
        """a small text and a small model, done in seconds"""
        small = dataclasses.asdict(lm.LanguageModelConfig.tiny())
        own = {"seeds": 1, "steps": 20, "evaluate_every": 20, "hidden": 8}
        return cls(**small | own, block=4, doublings=2, measured=64, pieces=2)


def run(config):
    """The experiment, from a Config to what it found, one of each seed."""
    training.start(config)
    source = lm.read_text(config)
    data = lm.cut(config, source.characters)
    room = data.held_out.size // config.pieces
    if room < config.measured + 1:
        raise BadInput("--measured", f"must be <= {room - 1}, the held-out text has no more")
    return [run_seed(one, source, data) for one in evidence.each_seed(config)]


def run_seed(config, source, data):
    with training.folder(config, "truncation") as directory:
        params, _, _ = lm.init_training(config, data)
        facts = report.facts(source.about, data, params)
        record.write_config(directory, config, "truncation", **facts, vocabulary=data.vocabulary)
        print(report.header(config, facts, directory))

        def check(params, carry, batch):
            routes = {"by_hand": "manual", "autodiff": "auto"}
            losses = {k: lm.loss_of(config, ROUTES[route]) for k, route in routes.items()}
            check_gradients.check(losses, directory, params, carry, *batch)

        task = lm.task_of(config, data, directory)
        training.carry_out(config, task, directory, check, config.evaluate_every)
        if not machines.is_first():
            return None
        params, _ = lm.load(directory / "params.safetensors")
        began = time.perf_counter()
        found = measure(config, params, data)
        found["minutes"] = (time.perf_counter() - began) / 60
        record.write_json(directory / "truncation.json", found)
        plots.draw(directory)
        minutes = record.minutes(directory / "metrics.jsonl") + found["minutes"]
        report_seed(config, directory, found, minutes)
        return found


# The gradient, taken apart ----------------------------------------------------------------------


class Pieces:
    """The held-out text as chunks (xs, targets, readout): inputs are made when they are asked for.

    Its first pieces, --pieces of them, (T, B).
    """

    def __init__(self, config, params, held_out):
        symbols = held_out.T.reshape(-1)
        T, B = config.measured, config.pieces
        each = len(symbols) // B
        streams = symbols[: B * each].reshape(B, each).T[: T + 1]
        self.tokens, self.targets, self.params = streams[:-1], streams[1:], params
        self.steps = CHUNK * config.block

    def __len__(self):
        return -(-len(self.tokens) // self.steps)

    def __getitem__(self, n):
        here = slice(n * self.steps, (n + 1) * self.steps)
        xs = np.asarray(self.params.embedding)[self.tokens[here]]
        return jax.numpy.asarray(xs), self.targets[here], self.params.readout


def nats(hs, targets, readout):
    """The sum over the outputs of a chunk."""
    return jl.softmax_cross_entropy(jl.dense(readout, hs), targets).sum()


def places(config):
    """k1 times 1, 2, 3, 4, 6, 8, 12, 16, ..."""
    powers = [2**n for n in range(config.doublings + 1)]
    between = [3 * 2**n for n in range(config.doublings - 1)]
    return [config.block * n for n in sorted(powers + between)]


def measure(config, params, data):
    """Errors and bounds by k2; the k2 for some errors; windows side by side."""
    chunks = Pieces(config, params, data.held_out)
    state = jl.init_lstm_state(params.lstm, (config.pieces,))
    ask = functools.partial(
        jl.truncation_error_of_stream, params.lstm, state, chunks, nats, k1=config.block
    )
    blocks = ask(k2=places(config))
    windows = [config.block * 2**n for n in range(0, config.doublings + 1, 2)]
    side = [float(ask(k1=k, k2=k, bound=False).error[0]) for k in windows]
    listed = lambda x: np.asarray(x, float).tolist()
    return {
        "k1": config.block,
        "T": config.measured,
        "k2": blocks.k2.tolist(),
        "error": listed(blocks.error),
        "bound": [x if np.isfinite(x) else None for x in listed(blocks.bound)],
        "fields": {k: listed(x) for k, x in blocks.fields._asdict().items()},
        "side_by_side": {"k2": windows, "error": side},
        "chosen": {str(error): blocks.k2_for(error) for error in ASKED},
        "chosen_by_bound": {str(error): blocks.k2_for(error, by="bound") for error in ASKED},
    }


# Told -------------------------------------------------------------------------------------------


def report_seed(config, directory, found, minutes):
    """The rows of the table of evidence, and for people."""
    row = evidence.Row(
        name="",
        metric="relative error of the gradient, %",
        better="lower",
        floor=100.0,
        floor_how="100 % is the error of a gradient of zero",
        source="no such curve of an exact error is known to us in print",
        digits=4,
    )
    add = functools.partial(evidence.add, config, "truncation", QUESTION)
    for k2, error in zip(found["k2"], found["error"], strict=True):
        if k2 & (k2 - 1) == 0:
            path = add(row._replace(name=f"TBPTT({found['k1']}, {k2})"), 100 * error, minutes)
    for k, error in zip(*found["side_by_side"].values(), strict=True):
        add(row._replace(name=f"windows side by side, TBPTT({k}, {k})"), 100 * error, minutes)
    evidence.add_picture(config, path, "curve", directory / "truncation.png")
    bounds = [float("inf") if x is None else x for x in found["bound"]]
    rows = list(zip(found["k2"], found["error"], bounds, strict=True))
    print(f"\nk1 = {found['k1']}\n{table(('k2', 'error', 'bound'), rows, form='.3g')}\n")
    for error, k2 in found["chosen"].items():
        least = f"k2 = {k2}" if k2 else f"more than k2 = {found['k2'][-1]}"
        print(f"an error of {error} needs {least}")
    print(f"\n{record.name_files(directory)}\n")


def main(argv=None):
    return command.main(Config, run, "python -m experiments.truncation", __doc__, argv)
