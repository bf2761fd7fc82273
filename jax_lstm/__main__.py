"""`python -m jax_lstm COMMAND`: arguments in, printing out. What is done stands in other files:
check.py has the tables of `check`, diagnosis.py the layouts and files of `diagnose`, exercise.py
and grade.py what a student gets and gets back, tutorials.py, worked.py and drawing.py the examples,
tables and picture of `trace`, inspection.py what `inspect` finds in a file.
"""

import argparse
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
from jax_lstm import beside as besides
from jax_lstm import check as checks
from jax_lstm import diagnosis, inspection, referee, tutorials, worked
from jax_lstm import exercise as exercises
from jax_lstm import grade as grades
from jax_lstm.layouts import LAYOUTS

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
        if worked.not_numbers(run.traced):
            raise ValueError(f"NaN: {worked.not_numbers(run.traced)}; what it reaches is marked")
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
    pairs = [(run.title, besides.beside(run.problem, run.cell, mutant)) for run in runs]
    say("\n\n\n".join(f"{title}\n\n{pair.table()}" for title, pair in pairs))
    write(json_file, besides.to_json(pairs))
    write(csv_file, besides.to_csv(pairs))


def drawn(file, run, row):
    """The picture, as text of an SVG."""
    if Path(file).suffix != ".svg":
        raise ValueError(f"the picture is an SVG: name it .svg, not {file}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--svg needs matplotlib: pip install 'jax_lstm[experiments]'")
    from jax_lstm import drawing

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


# Arguments of the commands --------------------------------------------------------------------


def size(text):
    """T,B,D,H"""
    try:
        T, B, D, H = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be four whole numbers T,B,D,H such as 7,2,3,5; got {text!r}"
        ) from None
    if min(T, B) < 0 or min(D, H) < 1:
        raise argparse.ArgumentTypeError(
            f"must have T, B >= 0 and D, H >= 1; got T={T}, B={B}, D={D}, H={H}"
        )
    return T, B, D, H


def seed(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number >= 0; got {text!r}")
    return int(text)


def names_of(known):
    def names(text):
        found = list(known) if text == "all" else text.split(",")
        for name in found:
            if name not in known:
                choices = ", ".join(known)
                raise argparse.ArgumentTypeError(f"must be all or among {choices}; got {name!r}")
        return list(dict.fromkeys(found))

    return names


def writable(path):
    """A file that can be written, found out before the work and not after it."""
    existed = os.path.exists(path)
    try:
        with open(path, "a", encoding="utf-8"):
            pass
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot be written: {error}") from None
    if not existed:
        os.remove(path)
    return path


def parser():
    top = argparse.ArgumentParser(prog="jax-lstm", description=jax_lstm.__doc__)
    commands = top.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True
    )
    command = commands.add_parser(
        "check",
        help="compare every hand-written gradient with jax.vjp and with differences",
        description="Every stage twin, then every cotangent of the sequence with all its options, "
        "beside jax.vjp; a tiny layer beside central differences and complex steps.",
        epilog="Exit status: 0 when every row says PASS, 1 on any FAIL, 2 on bad input.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.set_defaults(run=check)
    command.add_argument(
        "--dtype",
        dest="dtypes",
        type=names_of(checks.DTYPES),
        default="float64,float32",
        metavar="NAME,...",
        help=f"of the arrays: all, or of {', '.join(checks.DTYPES)}",
    )
    command.add_argument(
        "--size",
        type=size,
        default="7,2,3,5",
        metavar="T,B,D,H",
        help="time steps, examples, input features, hidden units",
    )
    command.add_argument(
        "--cell",
        dest="cells",
        type=names_of(checks.CELLS),
        default="lstm,elman",
        metavar="NAME,...",
        help=f"which cells: all, or of {', '.join(checks.CELLS)}",
    )
    command.add_argument(
        "--seed",
        type=seed,
        default="0",
        metavar="N",
        help="of all random numbers",
    )
    command.add_argument(
        "--json",
        dest="json_file",
        type=writable,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="also write the report there, numbers in full",
    )
    add_diagnose(commands)
    add_exercise(commands)
    add_trace(commands)
    add_inspect(commands)
    return top


def add_diagnose(commands):
    layouts = list(LAYOUTS["lstm"])
    command = commands.add_parser(
        "diagnose",
        help="say whether a gradient is right, and if not, which fork was dropped",
        description="Your gradient, with the problem it belongs to, beside the truth and beside a "
        "table of classic mistakes, alone and in pairs.",
        epilog="To begin: write a file with --template LAYOUT, put your numbers in it, name it "
        "again without --template. Layouts: "
        + "; ".join(f"{k}: {v.about}" for k, v in LAYOUTS["lstm"].items())
        + ". --template LAYOUT shows the names of the arrays. In .npz and .safetensors files they "
        'are named "problem/NAME" and "gradient/NAME". Exit status: 0 when the gradient is right, '
        "1 when it is not, 2 on bad input.",
    )
    command.set_defaults(run=diagnose)
    command.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="your gradient, with its problem or without: .json, .npz or .safetensors",
    )
    command.add_argument("--problem", metavar="FILE", help="the problem, if FILE has it not")
    command.add_argument(
        "--layout", choices=layouts, help="of both; default: what FILE says, or ours"
    )
    command.add_argument("--cell", choices=list(LAYOUTS), help="default: what FILE says, or lstm")
    command.add_argument(
        "--pairs",
        action="store_const",
        const=True,
        help="try two mistakes at once even where one explains",
    )
    command.add_argument(
        "--template",
        choices=layouts,
        metavar="LAYOUT",
        help="write an example to fill in, to FILE or to the terminal",
    )
    command.add_argument(
        "--example",
        choices=list(diagnosis.examples()),
        help="diagnose a gradient that was published: Coursera's old answer key, or Gomez' "
        "remembered state with zeros in the backward",
    )
    command.add_argument(
        "--json",
        dest="json_file",
        type=writable,
        metavar="FILE",
        help="also write the diagnosis there",
    )


def add_exercise(commands):
    command = commands.add_parser(
        "exercise",
        help="write the stages with their twins left blank: derive them, then grade",
        description="Prints a Python file: each stage of the LSTM with a blank twin, and a loop "
        "over time whose chain rule is blank as well. Redirect it to a file of your own.",
    )
    command.set_defaults(run=exercise)
    command.add_argument("--numpy", action="store_true", help="in NumPy, not JAX")
    command.add_argument("--solution", action="store_true", help="filled in, for the teacher")
    command = commands.add_parser(
        "grade",
        help="say which twins of an exercise are right, and what the wrong ones got wrong",
        description="Runs the file in this process: grade only what you would run.",
        epilog="Exit status: 0 when all is right, 1 when something is wrong or missing, 2 on bad "
        "input.",
    )
    command.set_defaults(run=grade)
    command.add_argument("file", metavar="FILE", help="the exercise, filled in as far as you are")


def add_trace(commands):
    command = commands.add_parser(
        "trace",
        help="print every stage and every delta of a small network, with all numbers",
        description="Every stage forward and every delta backward, equation by equation with its "
        "numbers, so that it can be followed with a pocket calculator. Forks show their branches.",
        epilog="Files of your own are read as `diagnose` reads them: weights in the names of the "
        "layout, inputs, and cotangents of h_t or targets. Exit status: 0, or 2 on bad input, also "
        "when a number is NaN: it is shown and marked.",
    )
    command.set_defaults(run=trace)
    command.add_argument(
        "--example",
        choices=tutorials.EXAMPLES,
        help="what is traced; default: gomez, from zeros and from a remembered state",
    )
    command.add_argument(
        "--size", type=size, metavar="T,B,D,H", help="of --example random; default: 3,1,2,2"
    )
    command.add_argument("--seed", type=seed, metavar="N", help="of --example random; default: 0")
    command.add_argument("--cell", choices=list(tutorials.CELLS), help="default: lstm")
    command.add_argument("--params", metavar="FILE", help="your weights: .json, .npz, .safetensors")
    command.add_argument(
        "--input", dest="given", metavar="FILE", help="the rest: xs, states, dhs or ys"
    )
    command.add_argument(
        "--layout", choices=list(LAYOUTS["lstm"]), help="of your files; default: what they say"
    )
    command.add_argument(
        "--mutant", metavar="NAME", help="truth beside a mistake, such as 'dc not carried'"
    )
    command.add_argument(
        "--row", type=seed, metavar="N", help="which example of the batch is shown; default: 0"
    )
    for kind, what in (
        ("json", "all arrays"),
        ("csv", "a line per number"),
        ("svg", "a graph of the first run"),
    ):
        command.add_argument(
            f"--{kind}", dest=f"{kind}_file", type=writable, metavar="FILE", help=f"write {what}"
        )
    command.add_argument("--force", action="store_true", help="write over files that exist")


def add_inspect(commands):
    command = commands.add_parser(
        "inspect",
        help="say what is in a file of weights, and whose layout it seems to be",
        description="Shapes, norms by gate, forget bias and spectral radius of each recurrent "
        "block, of a file of ours or of another system: what it holds is told by the names of its "
        "arrays. NaN and infinities are marked.",
        epilog="Exit status: 0, or 2 for a file that cannot be read or was altered.",
    )
    command.set_defaults(run=inspect)
    command.add_argument("file", metavar="FILE", help=".safetensors or .npz")
    command.add_argument("--json", action="store_true", help="print JSON in place of the table")


def main(argv=None):
    """Exit status of the command: 0, 1 when a check fails, 2 on bad input."""
    given = vars(parser().parse_args(argv))
    given.pop("command")
    run = given.pop("run")
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


if __name__ == "__main__":
    sys.exit(main())
