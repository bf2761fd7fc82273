"""`python -m jax_lstm COMMAND`: arguments in, printing out.

options.py has what each command takes.
"""

import importlib.util
import io
import os
import platform
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np

import jax_lstm
from jax_lstm import referee
from jax_lstm.commands import cases as checks
from jax_lstm.commands import options as arguments
from jax_lstm.diagnosis import diagnose as diagnosis
from jax_lstm.files import inspect as inspection
from jax_lstm.teaching import beside as besides
from jax_lstm.teaching import examples as tutorials
from jax_lstm.teaching import exercise as exercises
from jax_lstm.teaching import grade as grades
from jax_lstm.teaching import paper as worked

# The commands ---------------------------------------------------------------------------------


def check(cells, dtypes, size, seed, json_file=None):
    """Run every case at every dtype, print rows as they are ready; exit status 1 on any FAIL."""
    facts = {
        **machine(),
        "cells": cells,
        "dtypes": dtypes,
        "size": dict(zip("TBDH", size, strict=True)),
        "seed": seed,
    }
    say(*(f"{name:20} {value}" for name, value in facts.items()), "", referee.header())
    rows = []
    for more in checks.rows(cells, dtypes, size, seed):
        say(*(row.line() for row in more))
        rows.extend(more)
    report = referee.Report(tuple(rows))
    bad = report.failures()
    if bad:
        say("", "What failed:", referee.header(), *(row.line() for row in bad))
    empty = f", {len(report.empty())} empty" if report.empty() else ""
    say("", f"{len(rows)} rows{empty}, {len(bad)} failed: {'PASS' if report else 'FAIL'}")
    write(json_file, report.to_json(**facts))
    return 0 if report else 1


def diagnose(
    file=None,
    problem=None,
    layout=None,
    cell=None,
    pairs=None,
    example=None,
    template=None,
    json_file=None,
):
    """Say what a gradient is; exit status 0 when it is right, 1 when it is not."""
    if template:
        text = diagnosis.template(template, cell or "lstm")
        return 0 if file is None and say(text) is None else fill_in(file, text)
    if example:
        if file or problem:
            raise ValueError(
                "--example is a gradient with its problem: leave FILE and --problem out"
            )
        file = diagnosis.examples()[example]
    if file is None:
        raise ValueError("which gradient? Name a FILE, or --example, or --template LAYOUT")
    found = diagnosis.diagnose(file, problem, layout=layout, cell=cell, pairs=pairs)
    say(found.table(), "", found.sentence())
    write(json_file, found.to_json(file=str(file)))
    return 0 if found else 1


def exercise(numpy=False, solution=False):
    """The file to fill in, on the terminal."""
    in_utf8()
    print(exercises.exercise(numpy=numpy, solution=solution), end="")
    return 0


def in_utf8():
    """Whatever the terminal speaks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")


def grade(file):
    """Say which twins are right; exit status 0 when all are, 1 when not."""
    found = grades.grade(file)
    say(grades.table(found))
    return 0 if all(g.verdict == grades.RIGHT for g in found) else 1


def trace(
    example=None,
    size=None,
    seed=None,
    cell=None,
    params=None,
    given=None,
    layout=None,
    mutant=None,
    row=None,
    force=False,
    json_file=None,
    csv_file=None,
    svg_file=None,
):
    """Print every number of an example or of one's own network; write what files are asked for."""
    in_utf8()
    files = [file for file in (json_file, csv_file, svg_file) if file]
    for file in files:
        fresh(file, force)
    if len({os.path.realpath(file) for file in files}) < len(files):
        raise ValueError("--json, --csv and --svg must name different files")
    own = [file for file in (params, given) if file is not None]
    check_belongs(own, example, size=size, seed=seed, cell=cell, layout=layout)
    if own:
        runs = list(tutorials.own(own, layout, cell))
    else:
        size, seed, cell = size or (3, 1, 2, 2), seed or 0, cell or "lstm"
        runs = list(tutorials.runs(example or "gomez", size, seed, cell))
    if mutant is None:
        trace_runs(runs, row or 0, json_file, csv_file, svg_file)
    elif row is not None or svg_file:
        raise ValueError("--mutant shows every example, and no graph: leave --row and --svg out")
    else:
        trace_mutant(runs, mutant, json_file, csv_file)
    for file in files:
        print(f"wrote {file}", file=sys.stderr)
    for run in runs:
        if worked.find_nan(run.traced):
            raise ValueError(f"NaN: {worked.find_nan(run.traced)}; what it reaches is marked")
    return 0


def check_belongs(own, example, **options):
    """Complain about an option that would not be looked at."""
    if own and example:
        raise ValueError("--params is a network of your own: leave --example out")
    random = "--example random"
    homes = {"size": (random,), "seed": (random,), "cell": (random, "--params")}
    homes |= {"layout": ("--params",)}
    here = "--params" if own else f"--example {example}"
    for name, value in options.items():
        if value is not None and here not in homes[name]:
            raise ValueError(f"--{name} belongs to {' or '.join(homes[name])}")


def trace_runs(runs, row, json_file, csv_file, svg_file):
    """All numbers of each run; the picture is that of the first."""
    draw = drawn(svg_file, runs[0], row) if svg_file else None
    try:
        say("\n\n\n".join(run.table(row) for run in runs))
    except worked.TooLarge as error:
        if not (json_file or csv_file):
            raise
        print(f"not printed: {error}", file=sys.stderr)
    traces = [(run.title, run.traced) for run in runs]
    write(json_file, worked.to_json(traces) if json_file else None)
    write(csv_file, worked.to_csv(traces) if csv_file else None)
    write(svg_file, draw)


def trace_mutant(runs, mutant, json_file, csv_file):
    """Truth and mistake side by side."""
    if runs[0].problem is None:
        raise ValueError(f"{runs[0].title} has no time: there is no mistake of it")
    pairs = [(run.title, besides.put_beside(run.problem, run.cell, mutant)) for run in runs]
    say("\n\n\n".join(f"{title}\n\n{pair.table()}" for title, pair in pairs))
    write(json_file, besides.to_json(pairs))
    write(csv_file, besides.to_csv(pairs))


def drawn(file, run, row):
    """The picture, as text of an SVG."""
    if Path(file).suffix != ".svg":
        raise ValueError(f"the picture is an SVG: name it .svg, not {file}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--svg needs matplotlib: pip install 'jax_lstm[experiments]'")
    from jax_lstm.teaching import graph as drawing

    return drawing.svg(run.traced, run.title, row=row)


def fresh(file, force):
    """A file that exists is kept, unless it may go."""
    if Path(file).exists() and not force:
        raise ValueError(f"{file} exists; --force writes over it")


def inspect(file, json):
    """Say what is in a file of weights; exit status 0."""
    found = inspection.inspect(file)
    say(found.to_json() if json else found.table())
    return 0


def fill_in(file, text):
    """A template, written where nothing stands yet."""
    if Path(file).suffix != ".json":
        raise ValueError(f"a template is JSON: name it .json, not {file}")
    if Path(file).exists():
        raise ValueError(f"{file} exists; a template is not written over it")
    write(file, text)
    return 0


def write(file, text):
    if file:
        Path(file).write_text(text + "\n", encoding="utf-8")


def machine():
    """Where this runs and on what, for the head of a report."""
    device = jax.devices()[0]
    return {
        "device": f"{device.device_kind} ({device.platform}), {jax.device_count()} of them",
        "jax_lstm": jax_lstm.__version__,
        "jax, jaxlib": f"{jax.__version__}, {jaxlib.version.__version__}",
        "numpy": np.__version__,
        "python": platform.python_version(),
        "x64": jnp.result_type(float) == jnp.float64,
        "matmul precision": referee.PRECISION,
    }


def say(*lines):
    print(*lines, sep="\n", flush=True)


COMMANDS = {
    "check": check,
    "diagnose": diagnose,
    "exercise": exercise,
    "grade": grade,
    "trace": trace,
    "inspect": inspect,
}


def main(argv=None):
    """Exit status of the command: 0, 1 when a check fails, 2 on bad input."""
    given = vars(arguments.parser().parse_args(argv))
    run = COMMANDS[given.pop("command")]
    try:
        with referee.precisely():
            return run(**given)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `jax-lstm check | head`; Python flushes once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError) as error:
        print(f"jax-lstm: error: {error}", file=sys.stderr)
        return 2
