"""Arguments of `python -m jax_lstm`: what each command takes, and the complaint when it is no good.
What they mean is in __main__.py and in the files that it names.
"""

import argparse
import os

import jax_lstm
from jax_lstm.commands import cases as checks
from jax_lstm.diagnosis import diagnose as diagnosis
from jax_lstm.interop.layouts import LAYOUTS
from jax_lstm.teaching import examples as tutorials


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
    """A parser of every command; what it finds is given to the function of the command's name."""
    top = argparse.ArgumentParser(prog="jax-lstm", description=jax_lstm.__doc__)
    commands = top.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True
    )
    add_check(commands)
    add_diagnose(commands)
    add_exercise(commands)
    add_trace(commands)
    add_inspect(commands)
    return top


def add_check(commands):
    command = commands.add_parser(
        "check",
        help="compare every hand-written gradient with jax.vjp and with differences",
        description="Every stage twin, then every cotangent of the sequence with all its options, "
        "beside jax.vjp; a tiny layer beside central differences and complex steps.",
        epilog="Exit status: 0 when every row says PASS, 1 on any FAIL, 2 on bad input.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
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
    command.add_argument("--numpy", action="store_true", help="in NumPy, not JAX")
    command.add_argument("--solution", action="store_true", help="filled in, for the teacher")
    command = commands.add_parser(
        "grade",
        help="say which twins of an exercise are right, and what the wrong ones got wrong",
        description="Runs the file in this process: grade only what you would run.",
        epilog="Exit status: 0 when all is right, 1 when something is wrong or missing, 2 on bad "
        "input.",
    )
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
    command.add_argument("file", metavar="FILE", help=".safetensors or .npz")
    command.add_argument("--json", action="store_true", help="print JSON in place of the table")
