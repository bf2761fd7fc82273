"""Where does the gradient vanish, and where does it not?

    python -m experiments.gradient_flow

The figure that everybody draws by hand, computed: the simple (Elman) network beside LSTMs with
several forget biases, on random input and on real text, as they are drawn and after some training
as language models. For each, over a window of T steps, in float64, of several examples:

    ‖∂h_T/∂h_t‖, ‖∂c_T/∂c_t‖   the largest singular value of the exact product of Jacobians; at
                               large H by power iteration, at some steps
    max_k Π f_k                what the forget gates alone let through along c
    Π ‖U‖ max(1 - h²)          what the simple network can let through at most
    ‖dh_t‖, ‖dc_t‖, ‖da_t‖     what the loss of the last character (and of no other) feels of h_t,
                               c_t and every gate

jax_lstm/analysis/flow.py says what is held and what moves. Every derivative is a hand-written
rule's.

Writes results/gradient_flow/<run>/:
    flow.json                what was asked for, and every number of the pictures
    flow.png, flow.svg       the Jacobians and the gradient over the steps back from the last
    gates.png, gates.svg     a heat map, time x gate, of ‖da_t‖
"""

import dataclasses
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import arg

from experiments.gradient_flow import plots
from experiments.gradient_flow.inputs import (
    LONGEST,
    check_room,
    examples_of,
    random_input,
    read_input,
)
from experiments.gradient_flow.measure import EXACT, situation
from experiments.gradient_flow.networks import embed_tokens, model_of, networks_of, train
from experiments.gradient_flow.summary import table
from experiments.kit import command, record, report
from experiments.kit import language_model as lm
from experiments.kit.config import BadInput, Bounds, Count, CountOrZero, OptionalFile, Positive


@dataclass(frozen=True)
class Config(lm.LanguageModelConfig):
    """The options of gradient_flow."""

    megabytes: Positive = 1.0
    input: OptionalFile = None
    """numbers (T, B, D) in a .npy file, in place of random input"""
    hidden: Annotated[
        Count,
        arg(help=f"H, hidden units; above {EXACT} power iteration takes the place of Jacobians"),
    ] = 64
    embedding: Count = 32
    """D, size of a character's vector and of random input"""
    window: Annotated[
        int, Bounds(low=2, below=LONGEST + 1), arg(help=f"T, time steps, at most {LONGEST}")
    ] = 100
    examples: Count = 8
    """B, sequences that are looked at"""
    forget_biases: Annotated[str, arg(metavar="X,...")] = "0,1,3"
    """of each LSTM, at the start"""
    steps: CountOrZero = 300
    """updates of each network before it is looked at once more; 0: none"""
    streams: Count = 32
    """pieces of the text that are read side by side in training"""
    learning_rate: Positive = 5e-3
    iterations: Count = 100
    """of the power iteration"""
    force: bool = False
    """write over the files of a run that is there already"""

    @classmethod
    def tiny(cls):
        """a small text and small networks, done in seconds"""
        return cls(
            megabytes=0.03,
            hidden=8,
            embedding=4,
            window=12,
            examples=2,
            forget_biases="0,3",
            steps=3,
            streams=4,
        )


def run(config):
    """The experiment, from a Config to what is in flow.json."""
    networks = networks_of(config)
    check_room(config, "--window", config.window, config.examples)
    xs = random_input(config) if config.input is None else read_input(config.input)
    check_room(config, "--input", *xs.shape[:2])
    source = lm.read_text(config)
    data = lm.cut(config, source.characters)
    examples = examples_of(config, data)
    directory = directory_of(config)
    with record.explain_interruption(directory):
        return experiment(config, networks, xs, data, examples, source.about, directory)


def experiment(config, networks, xs, data, examples, about, directory):
    began, V = time.perf_counter(), len(data.vocabulary)
    fresh = [model_of(config, network, V, config.embedding) for network in networks]
    facts = report.facts(about, data, fresh[0])
    print(f"text     {facts['text']}\nwriting  {directory}\n")

    tokens, targets = examples
    others = [model_of(config, network, V, xs.shape[-1]) for network in networks]
    last = np.resize(targets, xs.shape[1])
    name = "random input" if config.input is None else Path(config.input).name
    situations = [
        situation(config, f"{name}, fresh", networks, others, lambda _: xs, last),
        situation(config, "text, fresh", networks, fresh, embed_tokens(tokens), targets),
    ]
    if config.steps:
        trained, bits = zip(
            *(train(config, *both, data) for both in zip(networks, fresh, strict=True)),
            strict=True,
        )
        name = f"text, after {config.steps} updates"
        situations.append(situation(config, name, networks, trained, embed_tokens(tokens), targets))
        for network, last_bits in zip(situations[-1]["networks"], bits, strict=True):
            network["training_bits"] = last_bits
    found = {
        "config": dataclasses.asdict(config),
        **facts,
        "seconds": round(time.perf_counter() - began, 1),
        "situations": situations,
    }
    record.write(directory / "flow.json", record.compact(found))
    drawn = plots.draw(directory)
    print(table(found))
    print(f"\n{directory}: flow.json, {', '.join(path.name for path in drawn)}")
    return found


def directory_of(config):
    """A new folder; that of an earlier run only by --force."""
    there = Path(config.results) / "gradient_flow" / (config.run or "")
    if config.run is None or not there.is_dir():
        return record.new_directory(config.results, "gradient_flow", config.run)
    if not config.force:
        raise BadInput("--run", f"{there} exists already and was kept; --force writes over it")
    if not all(os.access(path, os.W_OK) for path in (there, *there.iterdir())):
        raise BadInput("--run", f"cannot write in {there}")
    return there


def main(argv=None):
    return command.main(Config, run, "python -m experiments.gradient_flow", __doc__, argv)
