"""`python -m jax_lstm exercise`: the stages with blank twins, to be derived."""

from jax_lstm.commands.options import speak_utf8
from jax_lstm.teaching import exercise


def add(parsers):
    parser = parsers.add_parser(
        "exercise",
        help="write the stages with their twins left blank: derive them, then grade",
        description="Prints a Python file: each stage of the LSTM with a blank twin, and a loop "
        "over time whose chain rule is blank as well. Redirect it to a file of your own.",
    )
    parser.add_argument("--numpy", action="store_true", help="in NumPy, not JAX")
    parser.add_argument("--solution", action="store_true", help="filled in, for the teacher")
    parser.set_defaults(run=run)


def run(numpy=False, solution=False):
    """The file to fill in, on the terminal."""
    speak_utf8()
    print(exercise.exercise(numpy=numpy, solution=solution), end="")
    return 0
