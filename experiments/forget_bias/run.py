"""Does it matter where the forget gate begins? Offsets 0, 1 and 2, with several seeds.

    python -m experiments.forget_bias --seeds 10

Jozefowicz, Zaremba & Sutskever (2015) find that an LSTM whose forget gate begins with the offset 1
does better on their tasks than one that begins with 0, whose memory halves with every step. Here
the networks of a seed begin with the same numbers but for that offset and see the same sequences,
so that differences are taken seed by seed, with 95 % intervals. The problem is --problem's; those
of experiments/kit/problems.py ask for memory and for nothing else, so that it shows.

Writes results/forget_bias/<run>/:
    config.json         what was asked for, versions
    T<T>_<offset>/      metrics.jsonl and checkpoints of each training
    summary.json, curves.png
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import arg

from experiments.kit import command, memory
from experiments.kit.config import Count

QUESTION = (
    "Does an LSTM learn sooner if its forget gate begins with the offset 1 or 2, and not with 0?"
)


@dataclass(frozen=True)
class Config(memory.MemoryConfig):
    """The options of forget_bias."""

    problem: Annotated[Literal["adding", "copy_memory"], arg(metavar="NAME")] = "adding"
    """adding or copy_memory"""
    times: memory.Times = "30"
    forget_bias: memory.Offsets = "0,1,2"
    seeds: Count = 10
    steps: Count = 300


def run(config):
    """The experiment, from a Config to its summary; everything else is in the folder it names."""
    return memory.run(config, "forget_bias", config.problem, QUESTION)


def main(argv=None):
    return command.main(Config, run, "python -m experiments.forget_bias", __doc__, argv)
