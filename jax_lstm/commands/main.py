"""`python -m jax_lstm COMMAND`: which command, and its exit status."""

import argparse
import os
import sys

import jax_lstm
from jax_lstm import referee
from jax_lstm.commands import check, diagnose, exercise, grade, inspect, museum, trace
from jax_lstm.commands.options import plainly
from jax_lstm.printing import shorten

MOST_SAID = 4000  # characters of a complaint, which may name what is in a file
COMMANDS = check, diagnose, museum, exercise, grade, trace, inspect


def parser():
    """A parser of every command; what it finds is given to the command's `run`."""
    top = argparse.ArgumentParser(prog="jax-lstm", description=jax_lstm.__doc__)
    parsers = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(parsers)
    return top


def main(argv=None):
    """Exit status of the command: 0, 1 when a check fails, 2 on bad input."""
    given = vars(parser().parse_args(argv))
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
        print(f"jax-lstm: error: {plainly(shorten(str(error), MOST_SAID))}", file=sys.stderr)
        return 2
