"""`python -m jax_lstm museum`: wrong LSTM gradients that shipped, and what diagnose says."""

from jax_lstm import printing
from jax_lstm.commands.options import say, speak_utf8
from jax_lstm.diagnosis import museum


def add(parsers):
    names = [exhibit.name for exhibit in museum.EXHIBITS]
    parser = parsers.add_parser(
        "museum",
        help="wrong LSTM gradients that shipped in public software, and what diagnose says of each",
        description="Each is made again at a small problem and brought to `diagnose`; where it was "
        "reported and what would have caught it stand beside it.",
        epilog=f"Exhibits: {', '.join(names)}. Exit status: 0, or 2 on bad input.",
    )
    parser.add_argument(
        "name", nargs="?", choices=names, metavar="NAME", help="one exhibit; default: all"
    )
    parser.add_argument("--markdown", action="store_true", help="as the page of the documentation")
    parser.set_defaults(run=run)


def run(name=None, markdown=False):
    """Show one exhibit or all; exit status 0."""
    speak_utf8()
    shown = [x for x in museum.EXHIBITS if name in (None, x.name)]
    if markdown:
        say(museum.page(shown))
        return 0
    for n, exhibit in enumerate(shown):
        say(*([""] if n else []), f"{exhibit.name}: {exhibit.where}")
        lines = [f"  {what}: {text}" for what, text in museum.facts(exhibit)]
        say(printing.fit("\n".join(lines), printing.terminal_width()))
    return 0
