"""`python -m jax_lstm check`: every hand-written gradient beside JAX's and beside differences."""

import argparse
import platform
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np

import jax_lstm
from jax_lstm import printing, referee
from jax_lstm.commands import cases
from jax_lstm.commands.options import names_of, say, seed, size, writable, write

DEFAULT = ("lstm", "elman")


def add(parsers):
    parser = parsers.add_parser(
        "check",
        help="compare every hand-written gradient with jax.vjp and differences; or yours",
        description="Every stage twin, then every cotangent of the sequence with all its options, "
        "beside jax.vjp; a tiny layer beside central differences and complex steps. With "
        "FILE.py:NAME, a function of yours instead, by jax_lstm.referee.check: the file is run.",
        epilog="Exit status: 0 when every row says PASS, 1 on any FAIL, 2 on bad input; of a "
        "function of yours 0 right, 1 wrong, 3 too noisy to say.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "function",
        nargs="?",
        metavar="FILE.py:NAME",
        default=argparse.SUPPRESS,
        help="a function of yours with a rule of its own",
    )
    for option, what in (
        ("arguments", "the tuple of its arguments in FILE.py; without it, NAME_args"),
        ("reference", "what it should be, a function in FILE.py that JAX differentiates"),
    ):
        parser.add_argument(f"--{option}", metavar="NAME", default=argparse.SUPPRESS, help=what)
    parser.add_argument(
        "--dtype",
        dest="dtypes",
        type=names_of(cases.DTYPES),
        default="float64,float32",
        metavar="NAME,...",
        help=f"of the arrays: all, or of {', '.join(cases.DTYPES)}",
    )
    parser.add_argument(
        "--size",
        type=size,
        default="7,2,3,5",
        metavar="T,B,D,H",
        help="time steps, examples, input features, hidden units",
    )
    parser.add_argument(
        "--cell",
        dest="cells",
        type=names_of(cases.CELLS),
        default=argparse.SUPPRESS,
        metavar="NAME,...",
        help=f"which cells: all, or of {', '.join(cases.CELLS)} (default: lstm,elman; lstm where "
        "another route has no other)",
    )
    parser.add_argument(
        "--route",
        choices=tuple(cases.ROUTES),
        default="xla",
        help="what runs the loops over steps: XLA, or C++ on a CPU (jax_lstm.kernels.cpu), whose "
        "sequences alone are then compared",
    )
    parser.add_argument(
        "--seed",
        type=seed,
        default="0",
        metavar="N",
        help="of all random numbers",
    )
    parser.add_argument(
        "--json",
        dest="json_file",
        type=writable,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="also write the report there, numbers in full",
    )
    parser.set_defaults(run=run)


def run(
    dtypes,
    size,
    seed,
    route,
    cells=None,
    json_file=None,
    function=None,
    arguments=None,
    reference=None,
):
    """Run every case at every dtype, print rows as they are ready; exit status 1 on any FAIL."""
    if function is not None:
        return judge(function, arguments, reference, seed, json_file)
    if arguments or reference:
        raise ValueError("--arguments and --reference are of a function: name FILE.py:NAME")
    known = cases.ROUTES[route]
    cells = [name for name in DEFAULT if name in known] if cells is None else cells
    for option, given, taken in (
        ("--cell", cells, known),
        ("--dtype", dtypes, cases.DTYPES_OF[route]),
    ):
        if strange := [name for name in given if name not in taken]:
            raise ValueError(
                f"{option} with --route {route} must be of {', '.join(taken)}; got "
                f"{', '.join(strange)}"
            )
    facts = {
        **machine(),
        "route": route,
        "cells": cells,
        "dtypes": dtypes,
        "size": dict(zip("TBDH", size, strict=True)),
        "seed": seed,
    }
    say(printing.table((), facts.items()), "", referee.header())
    rows = []
    for more in cases.rows(cells, dtypes, size, seed, route):
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


def judge(function, arguments, reference, seed, json_file):
    """A function of somebody's file; exit status 0, 1 or 3."""
    file, _, name = function.rpartition(":")
    if not file or not Path(file).is_file():
        raise ValueError(f"a function is named FILE.py:NAME; got {function!r}")
    try:
        things = runpy.run_path(file)
    except Exception as error:  # somebody's file may raise anything: it is told as bad input
        raise ValueError(f"{file} cannot be run: {referee.first_line(error)}") from None
    wanted = [name, arguments or f"{name}_args", *([reference] if reference else [])]
    missing = [k for k in wanted if k not in things]
    if missing:
        raise ValueError(f"{file} has no {', '.join(missing)}")
    f, args, *rest = (things[k] for k in wanted)
    args = args if isinstance(args, tuple) else (args,)
    report = referee.check(f, *args, reference=rest[0] if rest else None, seed=seed)
    say(report)
    write(json_file, report.to_json(function=function))
    return report.status()


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
