"""What a run leaves behind, so that an interruption at any moment leaves it readable.

A line of metrics.jsonl is whole or not there, also on a full disk. Every other file is written
beside its place and then moved there, so it is either the old one or the new one.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import jax

from experiments.kit.config import BadInput, Failed, flag, options_that_count
from jax_lstm.files import disk
from jax_lstm.files.disk import write

# Options that say nothing of a run: others go on with it, elsewhere
OF_A_PROCESS = {"resume": None, "force": False, "coordinator": None, "processes": 1, "process": 0}
SO_FAR = "what was written before it can be read"


def new_directory(results, experiment, run=None):
    """results/experiment/run, which must not exist yet; without a name, that of this second."""
    parent = Path(results) / experiment
    if not results:
        raise BadInput("--results", "must be a folder; got ''")
    if run is not None and (run in ("", "..") or not run.isprintable() or run != Path(run).name):
        raise BadInput("--run", f"must be a plain name without separators; got {run!r}")
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    names = [run] if run is not None else [now, *(f"{now}_{k}" for k in range(2, 100))]
    for name in names:
        try:
            (parent / name).mkdir(parents=True)
            return parent / name
        except FileExistsError:
            if not (parent / name).is_dir():
                raise BadInput("--results", f"{results} is not a folder") from None
        except OSError as error:
            raise BadInput("--results", f"cannot write there: {error}") from None
    raise BadInput("--run", f"{parent / names[0]} exists already; nothing was overwritten")


@contextlib.contextmanager
def explain_interruption(directory, file=None):
    """On Ctrl-C, say what there is and that it can be read: of a folder, or of one file that the
    same command goes on with."""
    try:
        yield
    except KeyboardInterrupt:
        if file is not None:
            there = (
                f"Complete and readable until here:\n  {file}" if file.exists() else f"No {file}"
            )
            print(f"\nInterrupted. {there}\nTo go on: the same command again", file=sys.stderr)
            raise
        print("\nInterrupted. Complete and readable until here:", file=sys.stderr)
        for path in sorted(directory.iterdir()):
            size = "/" if path.is_dir() else f"  ({path.stat().st_size} bytes)"
            print(f"  {path}{size}", file=sys.stderr)
        print(f"Its pictures: python -m experiments.plots {directory}", file=sys.stderr)
        if any(directory.glob("checkpoints")) or any(directory.glob("*/checkpoints")):
            print(f"To go on: --resume {directory}", file=sys.stderr)
        raise


# A run that goes on ----------------------------------------------------------------------------


def config_of(Config, directory, experiment):
    """The Config that stands in the folder of a run, for --resume."""
    path = Path(directory) / "config.json"
    try:
        found = read_json(path)
    except OSError as error:
        raise BadInput("--resume", f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise BadInput("--resume", str(error)) from None
    stored = found.get("config") if isinstance(found, dict) else None
    if not isinstance(stored, dict) or found.get("experiment") != experiment:
        raise BadInput("--resume", f"{path} is not that of a run of {experiment} that goes on")
    names = {field.name for field in dataclasses.fields(Config)}
    for name in stored.keys() - names:
        raise BadInput("--resume", f"{path}: there is no option {flag(name)} any more")
    own = {name: value for name, value in OF_A_PROCESS.items() if name in names}
    return Config(**stored | own | {"resume": str(directory)})


def open_directory(config, experiment):
    """The folder of a run: a new one, or that of --resume, whose options must be the same.

    Processes but the first have one that nobody looks at.
    """
    nobody_s = f"{experiment}_process_{config.process}_"
    if config.resume is None:
        if config.process:
            return Path(tempfile.mkdtemp(prefix=nobody_s))
        return new_directory(config.results, experiment, config.run)
    stored = config_of(type(config), config.resume, experiment)
    differ = [
        f"{flag(name)} is {getattr(stored, name)!r} there, {getattr(config, name)!r} here"
        for name in options_that_count(type(config))
        if getattr(stored, name) != getattr(config, name)
    ]
    if differ and not config.force:
        raise BadInput("--resume", f"{'; '.join(differ)}; --force takes what is asked for here")
    return Path(tempfile.mkdtemp(prefix=nobody_s)) if config.process else Path(config.resume)


def write_config(directory, config, experiment, **facts):
    """config.json of a new run; that of a run that goes on stays, and its data must be the same."""
    if config.process:
        return
    path = directory / "config.json"
    now = {"experiment": experiment, "config": dataclasses.asdict(config), **facts}
    if config.resume is not None and not config.force:
        then = read_json(path)
        for name in ("text", "files"):
            if then.get(name) != json.loads(json.dumps(now.get(name))):
                raise BadInput(
                    "--resume", f"the data are not those of {path} ({name}); --force takes them"
                )
        return
    now["config"] |= OF_A_PROCESS
    write_json(path, now)


def config_hash(config):
    """sha256 of the options that say what a run is."""
    told = {name: getattr(config, name) for name in options_that_count(type(config))}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def cut_lines(path, size):
    """Lines that a checkpoint knows nothing of go: they come again.

    Raises:
      Failed: the file is shorter than it was.
    """
    there = path.stat().st_size if path.exists() else 0
    if there < size:
        raise Failed(f"{path} has {there} bytes; it had {size} at the checkpoint")
    if there > size:
        os.truncate(path, size)


def name_files(directory):
    """For people: what a run has written; the name of a folder ends with a slash."""
    found = sorted(directory.iterdir())
    return f"{directory}: {', '.join(path.name + '/' * path.is_dir() for path in found)}"


def write_json(path, tree):
    write(path, (json.dumps(tree, indent=2, ensure_ascii=False) + "\n").encode())


def compact(tree):
    """JSON for programs: a list of numbers on a line, and not a line for each of them."""
    return (json.dumps(tree, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def read_json(path):
    """The JSON of a file, which may be anybody's."""
    with disk.reading(path):
        return json.loads(disk.read(path).decode("utf-8"))


def append(path, **line):
    """One more line of JSON, whole or not at all."""
    append_lines(path, [line])


def append_lines(path, lines):
    """More lines of JSON, all of them or none."""
    disk.append(path, "".join(json.dumps(x, allow_nan=False) + "\n" for x in lines).encode())


def sync(path):
    """Bytes of a file, which then are on the disk and not on their way; 0 where there is none."""
    if not path.exists():
        return 0
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


def read_lines(path, **kind):
    """The lines of a file of JSON lines, those with the given values; a last one may be broken."""
    lines, texts = [], disk.read(path).split(b"\n")
    while texts and not texts[-1].strip(b"\0 "):  # a power cut leaves zeros
        texts.pop()
    for n, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if isinstance(line, dict):
            lines.append(line)
        elif n < len(texts):
            raise ValueError(f"{path}, line {n}, is no object of JSON")
    return [line for line in lines if all(line.get(k) == v for k, v in kind.items())]


def minutes(path):
    """What the updates of a run took, from its metrics.jsonl, over all interruptions."""
    return sum(line["seconds"] for line in read_lines(path, kind="step")) / 60


def leaves(tree):
    """A tree's arrays by name: "lstm.W"."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}
