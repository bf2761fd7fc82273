"""What an experiment found, beside what is published: rows that `python -m experiments.evidence`
makes a page of.

RESULTS/evidence/NAME.json is an experiment's file. It has a row for each thing that is measured,
and a row has a value for each seed, added as soon as it is there: what was interrupted loses none.
Other options than an experiment's own (its form `chosen`, or else its defaults) have a file of
their own, NAME-<hash>.json. A text beside it, NAME.md, says what did not reproduce and what was
tried; pictures are NAME*.png.

    for one in evidence.each_seed(config):
        value, minutes = ...  # settings chosen on validation, the test part read once
        evidence.add(one, "name", QUESTION, ROW, value, minutes)
"""

import dataclasses
import hashlib
import importlib
import json
import math
import re
import shlex
import statistics
from datetime import date
from pathlib import Path
from typing import NamedTuple

from experiments.kit import checkpoints, record, report, timing
from experiments.kit.config import BadInput, Failed, flag, options_that_count

FOLDER = "evidence"
FEWEST = 3  # seeds of a row that is done
OF_SEEDS = ("seed", "seeds")  # options that say which values there are, and not of what


class Row(NamedTuple):
    """One thing that is measured, in words and in the numbers of others.

    name: what it is measured on, say "LSTM, T = 200".
    metric: with its unit, say "accuracy, %".
    better: "higher" or "lower".
    floor: what a model that learned nothing scores; None where there is no such number.
    floor_how: how that was got.
    published: the number in print; None where there is none.
    source: of `published`, or what is in print in its place.
    bar: what the mean over seeds is to reach; None: nothing is claimed.
    digits: behind the point, for people.
    """

    name: str
    metric: str
    better: str
    floor: float | None
    floor_how: str
    published: float | None = None
    source: str = ""
    bar: float | None = None
    digits: int = 3


class Spread(NamedTuple):
    """mean and standard deviation (n - 1 in its denominator; None of one value) of n seeds."""

    mean: float
    deviation: float | None
    n: int


def needed(module, package):
    """A module that the extra `evidence` brings.

    Raises:
      Failed: it is not installed; with what to type.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        said = f"{package} is needed ({error}): pip install -e '.[evidence]'"
        raise Failed(said) from None


# Writing ----------------------------------------------------------------------------------------


def each_seed(config):
    """A config for each of --seeds, from --seed on, one after the other, each a run of its own.

    `seeds` of each counts it and those that are left, so that --resume FOLDER goes on with the seed
    of that folder, and then with those after it.
    """
    base = None if config.run is None else re.sub(r"_seed\d+$", "", config.run)
    for k in range(config.seeds):
        seed = config.seed + k
        run = None if base is None else f"{base}_seed{seed}"
        changed = {"seed": seed, "seeds": config.seeds - k, "run": run}
        if k and hasattr(config, "resume"):
            changed |= {"resume": None, "force": False}
        yield dataclasses.replace(config, **changed)


def setting(config, places=()):
    """The options that say what was measured; `places` only say where data lie."""
    left_out = (*OF_SEEDS, *places)
    return {k: getattr(config, k) for k in options_that_count(type(config)) if k not in left_out}


def own_options(Config):
    """Those whose numbers stand in NAME.json: the form `chosen`, or else the defaults."""
    return getattr(Config, "chosen", Config)()


def path_of(config, name, places=()):
    """The file of these options: NAME.json of an experiment's own."""
    if setting(config, places) == setting(own_options(type(config)), places):
        return Path(config.results) / FOLDER / f"{name}.json"
    text = json.dumps(setting(config, places), sort_keys=True, default=str).encode()
    name = f"{name}-{hashlib.sha256(text).hexdigest()[:8]}"
    return Path(config.results) / FOLDER / f"{name}.json"


def command_of(config, name, places=()):
    """What to type for these options, but for those of the seeds."""
    own, words = own_options(type(config)), ["python", "-m", f"experiments.{name}"]
    words += ["--chosen"] * hasattr(config, "chosen")
    for option, value in setting(config).items():
        if value == getattr(own, option):
            continue
        words.append(flag(option))
        if option in places:
            words.append(option.upper())
        elif not isinstance(value, bool):  # a switch, off by itself
            words.append(str(value))
    return shlex.join(words)


def machine():
    """Of this process: the processor, the cores it may use, the versions."""
    versions = report.machine()["versions"]
    return {"hardware": timing.hardware(), "cores_used": timing.cores(), "versions": versions}


def add(config, name, question, row, value, minutes, places=(), **more):
    """The value of a seed, into its row of the experiment's file; one that was there is replaced.

    Args:
      config: with `seed` and `results`, say of `each_seed`.
      name: of the experiment, experiments.NAME.
      question: what it asks, a sentence or two.
      row: a Row. Its words and numbers replace those of that name and metric in the file.
      value: of this seed, finite.
      minutes: that this seed took.
      places: options that say where data lie.
      more: numbers that belong to the value, say its standard error.

    Returns:
      path: of the file.

    Raises:
      Failed: a value that is no finite number.
      BadInput: a file that is not one of these.
    """
    if not math.isfinite(value):
        raise Failed(f"{name}, {row.name}, seed {config.seed}: {row.metric} is {value}")
    path = path_of(config, name, places)
    path.parent.mkdir(parents=True, exist_ok=True)
    of_seed = {"seed": config.seed, "value": float(value), "minutes": round(float(minutes), 3)}
    of_seed |= {"date": date.today().isoformat(), "machine": machine(), **more}
    with checkpoints.locked(path.parent, wait=True):
        found = read(path) if path.exists() else {"rows": []}
        rows = {(r["name"], r["metric"]): r for r in found["rows"]}
        old = rows.get((row.name, row.metric), {"values": []})["values"]
        values = [v for v in old if v["seed"] != config.seed] + [of_seed]
        values.sort(key=lambda v: v["seed"])
        rows[row.name, row.metric] = row._asdict() | {"values": values}
        told = {"experiment": name, "question": question}
        told |= {"command": command_of(config, name, places), "setting": setting(config, places)}
        record.write_json(path, told | {"rows": list(rows.values())})
    return path


def add_picture(config, path, name, picture):
    """A picture of this seed beside the experiment's file, as FILE.NAME.png; that of the lowest
    seed in the file stays.

    Args:
      config: as `add` has it.
      path: of the file, after `add`.
      name: of the picture there.
      picture: path of the picture.
    """
    seeds = [value["seed"] for row in read(path)["rows"] for value in row["values"]]
    if config.seed == min(seeds):
        record.write(path.with_suffix(f".{name}.png"), Path(picture).read_bytes())


# Reading ----------------------------------------------------------------------------------------


def read(path):
    """An experiment's file.

    Raises:
      BadInput: what is none.
    """
    try:
        found = record.read_json(path)
    except ValueError as error:
        raise BadInput("--results", str(error)) from None
    if not (isinstance(found, dict) and isinstance(found.get("rows"), list)):
        raise BadInput("--results", f"{path} is no file of evidence: it has no rows")
    return found


def read_all(results):
    """[(path, file)] of a folder of results, by the experiments' names."""
    return [(path, read(path)) for path in sorted((Path(results) / FOLDER).glob("*.json"))]


def spread(row):
    """The Spread of a row's values."""
    values = [v["value"] for v in row["values"]]
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), deviation, len(values))


def is_met(row):
    """Whether the mean reaches the bar; None: there is none."""
    if row["bar"] is None:
        return None
    mean = spread(row).mean
    return mean >= row["bar"] if row["better"] == "higher" else mean <= row["bar"]
