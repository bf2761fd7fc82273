"""Can it keep two numbers? The adding problem at T = 200, 400 and 600.

    python -m experiments.adding --seeds 3
    python -m experiments.adding --times 200 --forget-bias 0,1,2,chrono       a sweep

Of T numbers two are marked, and the last output answers with their sum. Who always answers 1 has
the mean squared error 1/6; the 0.164 of an LSTM at T = 600 in the table of Bai, Kolter & Koltun
(2018) is that of having learned nothing. Whether an LSTM learns it is a matter of how its gates
begin: see experiments/kit/memory.py for `chrono`, which forgets within 1 to T steps.

Writes results/adding/<run>/:
    config.json         what was asked for, versions
    T<T>_<offset>/      metrics.jsonl and checkpoints of each training
    summary.json, curves.png
"""

from dataclasses import dataclass

from experiments.kit import command, memory

QUESTION = "Does an LSTM add two of T numbers, if its forget gate begins open?"


@dataclass(frozen=True)
class Config(memory.MemoryConfig):
    """The options of adding."""

    times: memory.Times = "200,400,600"


def run(config):
    """The experiment, from a Config to its summary; everything else is in the folder it names."""
    return memory.run(config, "adding", "adding", QUESTION)


def main(argv=None):
    return command.main(Config, run, "python -m experiments.adding", __doc__, argv)
