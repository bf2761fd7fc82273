"""`python -m jax_lstm grade`: which twins of an exercise are right."""

from jax_lstm import printing
from jax_lstm.commands.options import count, say, writable, write
from jax_lstm.commands.trace import draw
from jax_lstm.teaching import beside, examples, grade
from jax_lstm.teaching.apart import SECONDS

SHOWN = (3, 1, 2, 2)  # T, B, D, H of the network at which a mistake is drawn


def add(parsers):
    parser = parsers.add_parser(
        "grade",
        help="say which twins of an exercise are right, and what the wrong ones got wrong",
        description="Runs each file in a process of its own, with bounds on its time, its memory "
        "and what it prints. That is no sandbox: grade only what you would run. A right twin is "
        "a point, the loop over time three.",
        epilog="Exit status: 0 when all is right, 1 when something is wrong or missing, 2 on bad "
        "input. Of several files one that cannot be run has no points, and that is 1.",
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="exercises, filled in as far as they are"
    )
    parser.add_argument(
        "--seconds",
        type=count,
        metavar="N",
        default=int(SECONDS),
        help="what the functions of a file may take together, one of them a third of it; default: "
        f"{SECONDS:g}",
    )
    parser.add_argument(
        "--json", dest="json_file", type=writable, metavar="FILE", help="also write grades there"
    )
    parser.add_argument(
        "--svg",
        dest="svg_file",
        type=writable,
        metavar="FILE",
        help="draw the mistake of the first loop over time that makes a known one",
    )
    parser.set_defaults(run=run)


def run(files, seconds=SECONDS, json_file=None, svg_file=None):
    """Say which twins are right; exit status 0 when all are, 1 when not."""
    found, several = [], len(files) > 1
    for n, file in enumerate(files):
        if several:
            say(*([""] if n else []), f"== {file}")
        try:
            grades, why = grade.grade(file, seconds=seconds), ""
        except (ValueError, OSError) as error:
            if not several:
                raise
            grades, why = grade.Grades(), str(error)
        found.append((file, grades, why))
        points, most = grades.points()
        say(why or f"{points} of {most} points\n\n{grade.table(grades)}")
        if grades.mistake():
            shown = f"jax-lstm trace --example random --mutant '{grades.mistake()}'"
            say(f"to see it: {shown}, with --svg FILE as a picture")
    if several:
        rows = [(file, *grades.points(), why or grades.sentence()) for file, grades, why in found]
        say("", printing.table(("file", "points", "of", ""), rows))
    write(json_file, to_json(found) if json_file else None)
    if svg_file:
        write(svg_file, picture([grades.mistake() for _, grades, _ in found]))
    return 0 if all(grades for _, grades, _ in found) else 1


def to_json(found):
    """A JSON object of all files, with points, grades and what could not be run."""
    parts = []
    for file, grades, why in found:
        points, most = grades.points()
        facts = {"file": str(file), "ok": bool(grades), "points": points, "of": most}
        parts.append(facts | {"error": why, "grades": list(grades)})
    return printing.to_json({"files": parts})


def picture(mistakes):
    """The first of these mistakes, as text of an SVG."""
    mistake = next(filter(None, mistakes), None)
    if mistake is None:
        raise ValueError("--svg draws a known mistake of the loop over time; there is none")
    run = next(iter(examples.runs("random", SHOWN, 0, "lstm")))
    return draw("mistake.svg", run, 0, beside.put_beside(run.problem, run.cell, mistake))
