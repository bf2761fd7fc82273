"""`python -m jax_lstm trace`: every stage and every delta of a small network, with all numbers."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import NamedTuple

from jax_lstm import printing
from jax_lstm.commands.options import say, seed, several, size, speak_utf8, writable, write
from jax_lstm.interop.layouts import LAYOUTS
from jax_lstm.teaching import beside, examples, paper, webpage


def add(parsers):
    parser = parsers.add_parser(
        "trace",
        help="print every stage and every delta of a small network, with all numbers",
        description="Every stage forward and every delta backward, equation by equation with its "
        "numbers, so that it can be followed with a pocket calculator. Forks show their branches.",
        epilog="Files of your own are read as `diagnose` reads them: weights in the names of the "
        "layout, inputs, and cotangents of h_t or targets. Exit status: 0, or 2 on bad input, also "
        "when a number is NaN: it is shown and marked.",
    )
    parser.add_argument(
        "--example",
        choices=examples.EXAMPLES,
        help="what is traced; default: gomez, from zeros and from a remembered state",
    )
    parser.add_argument(
        "--size", type=size, metavar="T,B,D,H", help="of --example random; default: 3,1,2,2"
    )
    parser.add_argument("--seed", type=seed, metavar="N", help="of --example random; default: 0")
    parser.add_argument("--cell", choices=list(examples.TRACED), help="default: lstm")
    parser.add_argument("--params", metavar="FILE", help="your weights: .json, .npz, .safetensors")
    parser.add_argument(
        "--input", dest="given", metavar="FILE", help="the rest: xs, states, dhs or ys"
    )
    parser.add_argument(
        "--layout", choices=list(LAYOUTS["lstm"]), help="of your files; default: what they say"
    )
    parser.add_argument(
        "--mutant", metavar="NAME", help="truth beside a mistake, such as 'dc not carried'"
    )
    parser.add_argument(
        "--row", type=seed, metavar="N", help="which example of the batch is shown; default: 0"
    )
    for option, one, metavar, what in (
        ("--step", seed, "T,...", "show these time steps alone"),
        ("--stage", str, "NAME,...", "show these stages alone, such as c,dc"),
        ("--part", part, "NAME,...", "show forward, backward or over-time alone"),
    ):
        parser.add_argument(option, type=several(one), default=(), metavar=metavar, help=what)
    for kind, what in (
        ("json", "all arrays"),
        ("csv", "a line per number"),
        ("svg", "a graph of the first run"),
        ("html", "a page to step through in a browser"),
    ):
        parser.add_argument(
            f"--{kind}", dest=f"{kind}_file", type=writable, metavar="FILE", help=f"write {what}"
        )
    parser.add_argument("--force", action="store_true", help="write over files that exist")
    parser.set_defaults(run=run)


class Files(NamedTuple):
    """What is written where; None is nowhere."""

    json: str | None
    csv: str | None
    svg: str | None
    html: str | None


def part(text):
    """A part's name as it is printed, or with a hyphen."""
    return text.replace("-", " ")


def run(
    example=None,
    size=None,
    seed=None,
    cell=None,
    params=None,
    given=None,
    layout=None,
    mutant=None,
    row=None,
    step=(),
    stage=(),
    part=(),
    force=False,
    json_file=None,
    csv_file=None,
    svg_file=None,
    html_file=None,
):
    """Print every number of an example or of one's own network; write what files are asked for."""
    speak_utf8()
    files = [file for file in (json_file, csv_file, svg_file, html_file) if file]
    for file in files:
        check_fresh(file, force)
    if len({os.path.realpath(file) for file in files}) < len(files):
        raise ValueError("--json, --csv, --svg and --html must name different files")
    own = [file for file in (params, given) if file is not None]
    check_belongs(own, example, size=size, seed=seed, cell=cell, layout=layout)
    if own:
        runs = list(examples.own(own, layout, cell))
    else:
        size, seed, cell = size or (3, 1, 2, 2), seed or 0, cell or "lstm"
        runs = list(examples.runs(example or "gomez", size, seed, cell))
    page = paper.Page(printing.terminal_width(), 0, part, step, stage)
    out = Files(json_file, csv_file, svg_file, html_file)
    if mutant is None:
        trace_runs(runs, row or 0, page, out)
    elif row is not None:
        raise ValueError("--mutant shows every example: leave --row out")
    else:
        trace_mutant(runs, mutant, page, out)
    for file in files:
        print(f"wrote {file}", file=sys.stderr)
    for traced in (one.traced for one in runs):
        if paper.find_nan(traced):
            raise ValueError(f"NaN: {paper.find_nan(traced)}; what it reaches is marked")
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


def trace_runs(runs, row, page, out):
    """The numbers of each run; the picture is that of the first. Files are whole."""
    lines = {run.title: [(s.part, s.t, s.name) for s in run.traced.stages] for run in runs}
    shown = titles_shown(page, lines)
    picture = draw(out.svg, runs[0], row) if out.svg else None
    web = webpage.html(runs, row=row) if out.html else None
    try:
        say("\n\n\n".join(run.table(row, page) for run in runs if run.title in shown))
    except paper.TooLarge as error:
        if not (out.json or out.csv or out.html):
            raise
        print(f"not printed: {error}", file=sys.stderr)
    traces = [(run.title, run.traced) for run in runs]
    write(out.json, paper.to_json(traces) if out.json else None)
    write(out.csv, paper.to_csv(traces) if out.csv else None)
    write(out.svg, picture)
    write(out.html, web)


def titles_shown(page, lines):
    """Titles of the runs that have something of what is asked for; `lines` are those of each."""
    paper.check_shown(page, [line for some in lines.values() for line in some])
    return {k for k, some in lines.items() if any(page.shows(*line) for line in some)}


def trace_mutant(runs, mutant, page, out):
    """Truth and mistake side by side; the picture is that of the first. Files are whole."""
    if runs[0].problem is None:
        raise ValueError(f"{runs[0].title} has no time: there is no mistake of it")
    pairs = [(run.title, beside.put_beside(run.problem, run.cell, mutant)) for run in runs]
    shown = titles_shown(page, {title: [*map(beside.place_of, b.pairs)] for title, b in pairs})
    picture = draw(out.svg, runs[0], 0, pairs[0][1]) if out.svg else None
    web = webpage.html(runs, mistake=mutant) if out.html else None
    tables = ((title, b.table(page=page)) for title, b in pairs if title in shown)
    say("\n\n\n".join(f"{printing.fit(title, page.width)}\n\n{text}" for title, text in tables))
    write(out.json, beside.to_json(pairs))
    write(out.csv, beside.to_csv(pairs))
    write(out.svg, picture)
    write(out.html, web)


def draw(file, run, row, mistake=None):
    """The picture, as text of an SVG."""
    if Path(file).suffix != ".svg":
        raise ValueError(f"the picture is an SVG: name it .svg, not {file}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--svg needs matplotlib: pip install 'jax_lstm[experiments]'")
    from jax_lstm.teaching import graph as drawing

    return drawing.svg(run.traced, run.title, row=row, mistake=mistake)


def check_fresh(file, force):
    """A file that exists is kept, unless it may go."""
    if Path(file).exists() and not force:
        raise ValueError(f"{file} exists; --force writes over it")
