"""`python -m jax_lstm diagnose`: is a gradient right, and if not, which mistake is it?"""

from pathlib import Path

from jax_lstm.cells import CELLS
from jax_lstm.commands.options import say, writable, write
from jax_lstm.diagnosis import diagnose, templates
from jax_lstm.interop.layouts import LAYOUTS


def add(parsers):
    layouts = list(LAYOUTS["lstm"])
    parser = parsers.add_parser(
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
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="your gradient, with its problem or without: .json, .npz or .safetensors",
    )
    parser.add_argument("--problem", metavar="FILE", help="the problem, if FILE has it not")
    parser.add_argument(
        "--layout", choices=layouts, help="of both; default: what FILE says, or ours"
    )
    parser.add_argument(
        "--layout-guess",
        action="store_true",
        help="find a layout that fits names and shapes, and the forward's numbers where FILE has "
        "some, and say how sure that is",
    )
    parser.add_argument("--cell", choices=list(CELLS), help="default: what FILE says, or lstm")
    parser.add_argument(
        "--pairs",
        action="store_const",
        const=True,
        help="try two mistakes at once even where one explains",
    )
    parser.add_argument(
        "--template",
        choices=layouts,
        metavar="LAYOUT",
        help="write an example to fill in, to FILE or to the terminal",
    )
    parser.add_argument(
        "--example",
        choices=list(templates.examples()),
        help="diagnose a gradient that was published: Coursera's old answer key, or Gomez' "
        "remembered state with zeros in the backward",
    )
    parser.add_argument(
        "--json",
        dest="json_file",
        type=writable,
        metavar="FILE",
        help="also write the diagnosis there",
    )
    parser.set_defaults(run=run)


def run(
    file=None,
    problem=None,
    layout=None,
    cell=None,
    pairs=None,
    example=None,
    template=None,
    json_file=None,
    layout_guess=False,
):
    """Say what a gradient is; exit status 0 when it is right, 1 when it is not."""
    if template:
        text = templates.template(template, cell or "lstm")
        if file is None:
            say(text)
        else:
            fill_in(file, text)
        return 0
    if example:
        if file or problem:
            raise ValueError(
                "--example is a gradient with its problem: leave FILE and --problem out"
            )
        file = templates.examples()[example]
    if file is None:
        raise ValueError("which gradient? Name a FILE, or --example, or --template LAYOUT")
    if layout_guess and layout:
        raise ValueError("--layout-guess finds a layout: leave --layout out")
    layout = "guess" if layout_guess else layout
    found = diagnose.diagnose(file, problem, layout=layout, cell=cell, pairs=pairs)
    say(found.table(), "", found.sentence())
    write(json_file, found.to_json(file=str(file)))
    return 0 if found else 1


def fill_in(file, text):
    """A template, written where nothing stands yet."""
    if Path(file).suffix != ".json":
        raise ValueError(f"a template is JSON: name it .json, not {file}")
    if Path(file).exists():
        raise ValueError(f"{file} exists; a template is not written over it")
    write(file, text)
