"""docs/support.md: what works, tried. From the checkout:

python -m tests.support                                  every program, printed as it is tried
python -m tests.support --write                          and written to the page
python -m tests.support --write --subject gru            one column anew, the others as they are
python -m tests.support --write --program vmap --subject gru
"""

import argparse
import re
from pathlib import Path

import jax

from tests.conftest import compile_faster

PAGE = Path(__file__).parents[1] / "docs" / "support.md"
NOTE = re.compile(r"^(\d+)\. `(.*)`$", re.M)


def label(mode):
    return f"K={mode}" if isinstance(mode, int) else mode


def read(text, modes):
    """{(subject, program, mode): outcome} of the page's table."""
    notes = dict(NOTE.findall(text))
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    found = {}
    for program, *cells in rows[2:]:
        for subject, cell in zip(rows[0][1:], cells, strict=True):
            for part in map(label, modes) if cell == "works" else cell.split():
                mode, _, note = part.partition("[")
                found[subject, program, mode] = notes[note.rstrip("]")] if note else "works"
    return found


def table(outcomes, subjects, programs, modes):
    """A row per program, a column per subject; in a field the modes, with the note of a refusal, or
    one word for all of them."""
    notes: dict[str, int] = {}

    def cell(subject, program):
        said = {mode: outcomes[subject, program, mode] for mode in map(label, modes)}
        number = {s: notes.setdefault(s, len(notes) + 1) for s in said.values() if s != "works"}
        marked = (f"{mode}[{number[s]}]" if s in number else mode for mode, s in said.items())
        return " ".join(marked) if number else "works"

    lines = [f"| program | {' | '.join(subjects)} |", "|---" * (len(subjects) + 1) + "|"]
    for program in programs:
        row = (cell(subject, program) for subject in subjects)
        lines.append(f"| {program} | {' | '.join(row)} |")
    listed = "\n".join(f"{number}. `{said}`" for said, number in notes.items())
    return "\n".join(lines), listed or "Nothing is refused."


def page(text, outcomes, subjects, programs, modes):
    """The page with its table and its notes put in place; the rest is written by hand."""
    rows, notes = table(outcomes, subjects, programs, modes)
    text = re.sub(r"(?<=<!-- table -->\n).*?(?=\n<!-- end -->)", lambda _: rows, text, flags=re.S)
    return re.sub(
        r"(?<=<!-- refusals -->\n).*?(?=\n<!-- end -->)", lambda _: notes, text, flags=re.S
    )


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.support", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/support.md")
    parser.add_argument("--subject", action="append", help="this one alone; may be repeated")
    parser.add_argument("--program", action="append", help="this one alone; may be repeated")
    asked = parser.parse_args()
    compile_faster()
    from tests.programs import MODES, PROGRAMS, SUBJECTS, outcome  # once JAX has its switches

    outcomes = read(PAGE.read_text(), MODES)
    for subject in asked.subject or SUBJECTS:
        for program in asked.program or PROGRAMS:
            for mode in MODES:
                said = outcome(subject, program, mode)
                outcomes[subject, program, label(mode)] = said
                print(f"{subject:18}{program:30}{label(mode):8}{said}", flush=True)
        jax.clear_caches()
    if asked.write:
        PAGE.write_text(page(PAGE.read_text(), outcomes, SUBJECTS, PROGRAMS, MODES))


if __name__ == "__main__":
    main()
