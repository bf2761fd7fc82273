"""`python -m jax_lstm grade`: which twins of an exercise are right."""

from jax_lstm.commands.options import say
from jax_lstm.teaching import grade


def add(parsers):
    parser = parsers.add_parser(
        "grade",
        help="say which twins of an exercise are right, and what the wrong ones got wrong",
        description="Runs the file in this process: grade only what you would run.",
        epilog="Exit status: 0 when all is right, 1 when something is wrong or missing, 2 on bad "
        "input.",
    )
    parser.add_argument("file", metavar="FILE", help="the exercise, filled in as far as you are")
    parser.set_defaults(run=run)


def run(file):
    """Say which twins are right; exit status 0 when all are, 1 when not."""
    found = grade.grade(file)
    say(grade.table(found))
    return 0 if found else 1
