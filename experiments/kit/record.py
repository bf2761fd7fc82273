"""What a run leaves behind, so that an interruption at any moment leaves it readable.

A line of metrics.jsonl is whole or not there, also on a full disk. Every other file is written
beside its place and then moved there, so it is either the old one or the new one.
"""

import contextlib
import json
import sys
from datetime import datetime
from pathlib import Path

import jax

from experiments.kit.config import BadInput
from jax_lstm.files import disk
from jax_lstm.files.disk import write


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
def explain_interruption(directory):
    """On Ctrl-C, say what there is and that it can be read."""
    try:
        yield
    except KeyboardInterrupt:
        print("\nInterrupted. Complete and readable until here:", file=sys.stderr)
        for path in sorted(directory.iterdir()):
            print(f"  {path}  ({path.stat().st_size} bytes)", file=sys.stderr)
        print(f"Its pictures: python -m experiments.plots {directory}", file=sys.stderr)
        raise


def name_files(directory):
    """For people: what a run has written."""
    return f"{directory}: {', '.join(sorted(path.name for path in directory.iterdir()))}"


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
    disk.append(path, (json.dumps(line, allow_nan=False) + "\n").encode())


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


def leaves(tree):
    """A tree's arrays by name: "lstm.W"."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}
