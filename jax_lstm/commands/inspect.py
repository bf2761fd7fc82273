"""`python -m jax_lstm inspect`: what is in a file of weights."""

from jax_lstm.commands.options import count, say
from jax_lstm.files import inspect


def add(parsers):
    parser = parsers.add_parser(
        "inspect",
        help="say what is in a file of weights, and whose layout it seems to be",
        description="Shapes, norms by gate, forget bias and spectral radius of each recurrent "
        "block, of a file of ours or of another system: what it holds is told by the names of its "
        "arrays. NaN and infinities are marked.",
        epilog="Exit status: 0, or 2 for a file that cannot be read or was altered.",
    )
    parser.add_argument("file", metavar="FILE", help=".safetensors or .npz")
    parser.add_argument(
        "--max-bytes",
        type=count,
        metavar="N",
        help="what the file may have, and what it may unpack to; default: 4 GiB, and no .npz "
        "unpacks to a hundred times its size",
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.set_defaults(run=run)


def run(file, json, max_bytes=None):
    """Say what is in a file of weights; exit status 0."""
    found = inspect.inspect(file, max_bytes=max_bytes)
    say(found.to_json() if json else found.table())
    return 0
