"""`python -m jax_lstm grade`: which twins of an exercise are right."""

from jax_lstm.commands.options import count, say
from jax_lstm.teaching import grade
from jax_lstm.teaching.apart import SECONDS


def add(parsers):
    parser = parsers.add_parser(
        "grade",
        help="say which twins of an exercise are right, and what the wrong ones got wrong",
        description="Runs the file in a process of its own, with bounds on its time, its memory "
        "and what it prints. That is no sandbox: grade only what you would run.",
        epilog="Exit status: 0 when all is right, 1 when something is wrong or missing, 2 on bad "
        "input.",
    )
    parser.add_argument("file", metavar="FILE", help="the exercise, filled in as far as you are")
    parser.add_argument(
        "--seconds",
        type=count,
        metavar="N",
        default=int(SECONDS),
        help="what its functions may take together, one of them a third of it; default: "
        f"{SECONDS:g}",
    )
    parser.set_defaults(run=run)


def run(file, seconds=SECONDS):
    """Say which twins are right; exit status 0 when all are, 1 when not."""
    found = grade.grade(file, seconds=seconds)
    say(grade.table(found))
    return 0 if found else 1
