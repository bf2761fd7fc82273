"""Killed at random moments, a run goes on to the same numbers: `python -m tests.experiments.kills`.

    python -m tests.experiments.kills --moments 50

One run of char_lm to its end. Then the same one, killed (-9) at a random moment, again and again:
each time --resume goes on with its folder, until it is done, and once more from a new folder. At
its end all lines of metrics.jsonl but their times, and every array of the last checkpoint and of
params.safetensors, must be those of the run that nobody killed. A moment before config.json stands
is told by its own sentence, and the run is begun again.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from experiments.kit import checkpoints, record
from jax_lstm.files import checkpoint

ROOT = Path(__file__).parents[2]
TIMES = {"seconds"}
SMALL = [
    "--megabytes",
    "0.03",
    "--hidden",
    "8",
    "--embedding",
    "4",
    "--window",
    "8",
    "--compare-steps",
    "0",
    "--sample-length",
    "10",
    "--skip-check",
]
TRAINING = [
    *SMALL,
    *["--streams", "4", "--steps", "400", "--evaluate-every", "40", "--checkpoint-every", "25"],
]


def command(*argv):
    return [sys.executable, "-m", "experiments.char_lm", *map(str, argv)]


def start(*argv, **env):
    return subprocess.Popen(
        command(*argv),
        cwd=ROOT,
        env=os.environ | env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def lines(directory):
    """The lines of metrics.jsonl but for their times."""
    read = record.read_lines(directory / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k not in TIMES} for line in read]


def arrays(directory):
    """Of the last checkpoint, and of params.safetensors."""
    found = checkpoints.last_good(directory)
    kept, _ = checkpoint.read_checkpoint(directory / "params.safetensors")
    return found.step, found.arrays | {f"params.safetensors {k}": x for k, x in kept.items()}


def differences(one, other):
    """What two folders of runs do not have in common, in words."""
    found = [
        f"line {n}: {a} {b}"
        for n, (a, b) in enumerate(zip(lines(one), lines(other), strict=False))
        if a != b
    ]
    if len(lines(one)) != len(lines(other)):
        found.append(f"{len(lines(one))} and {len(lines(other))} lines")
    (step, have), (at, want) = arrays(one), arrays(other)
    if step != at or have.keys() != want.keys():
        found.append(f"checkpoints of steps {step} and {at}, {have.keys() ^ want.keys()}")
        return found
    same = {k for k in have if have[k].tobytes() == np.asarray(want[k]).tobytes()}
    return found + sorted(f"{k} differs" for k in have.keys() - same)


def finish(*argv):
    began = time.perf_counter()
    process = start(*argv)
    said, _ = process.communicate(timeout=600)
    return process.returncode, said, time.perf_counter() - began


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m tests.experiments.kills", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(argv)
    rng = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as results:
        new = [*TRAINING, "--results", results, "--run"]
        status, said, seconds = finish(*new, "whole")
        if status:
            print(said)
            return 1
        folder, done, n = Path(results) / "char_lm", 0, 0
        while done < asked.moments:
            n += 1
            argv = [*new, f"killed{n}"]
            while True:
                process = start(*argv)
                kills = done < asked.moments
                try:
                    said, _ = process.communicate(
                        timeout=rng.uniform(0, seconds) if kills else None
                    )
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.communicate()
                    done += 1
                    begun = (folder / f"killed{n}" / "config.json").exists()
                    if not begun:
                        n += 1
                        argv = [*new, f"killed{n}"]
                    else:
                        argv = ["--resume", folder / f"killed{n}"]
                    continue
                if process.returncode:
                    print(f"exit status {process.returncode}:\n{said}")
                    return 1
                break
            if wrong := differences(folder / f"killed{n}", folder / "whole"):
                print("\n".join(wrong[:20]))
                return 1
            print(f"killed {done} times so far: killed{n} ends as the run that nobody killed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
