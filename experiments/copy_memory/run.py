"""Can it keep ten symbols? The copying problem at T = 200.

    python -m experiments.copy_memory --seeds 3
    python -m experiments.copy_memory --times 50,100 --forget-bias 1,5,chrono       a sweep

Ten symbols of eight kinds, T blanks, a sign; then the ten are asked for in their order. Who has
kept none of them is best off with blanks and then any symbol: 10 ln 8 / (T + 20) nats per step. The
0.0204 of an LSTM at T = 1000 in the table of Bai, Kolter & Koltun (2018) is that number.

Writes results/copy_memory/<run>/:
    config.json         what was asked for, versions
    T<T>_<offset>/      metrics.jsonl and checkpoints of each training
    summary.json, curves.png
"""

from dataclasses import dataclass

from experiments.kit import command, memory
from experiments.kit.config import Count, Positive

QUESTION = "Does an LSTM give back ten symbols after T blanks, if its forget gate begins open?"


@dataclass(frozen=True)
class Config(memory.MemoryConfig):
    """The options of copy_memory."""

    curriculum: memory.Curriculum = "10,30,90"
    hidden: Count = 64
    steps: Count = 3000
    learning_rate: Positive = 4e-3


def run(config):
    """The experiment, from a Config to its summary; everything else is in the folder it names."""
    return memory.run(config, "copy_memory", "copy_memory", QUESTION)


def main(argv=None):
    return command.main(Config, run, "python -m experiments.copy_memory", __doc__, argv)
