"""docs/support.md: what works, tried. From the checkout:

python -m tests.support                                  every program, printed as it is tried
python -m tests.support --write                          and written to the page
python -m tests.support --write --subject gru            one row anew, the others as they are
python -m tests.support --write --program vmap --subject gru
python -m tests.support --write --derivatives            the second table alone
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


def section(text, name):
    """What the page has between the marks of this name, or all of a text without any."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", text, re.S)
    return found[1] if found else text


def put(text, name, written):
    """The page with that in the place of the section."""
    marks = rf"(?<=<!-- {name} -->\n).*?(?=\n<!-- end -->)"
    return re.sub(marks, lambda _: written, text, flags=re.S)


def cells_of(text):
    """The rows of a table, the one under its head left out."""
    lines = (line for line in text.splitlines() if line.startswith("|"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [rows[0], *rows[2:]] if rows else [[]]


def read_derivatives(text):
    """{cell: {way: what is said of it}} of the second table."""
    head, *rows = cells_of(section(text, "derivatives"))
    return {name: dict(zip(head[1:], said, strict=True)) for name, *said in rows}


def derivatives_table(found, ways):
    """A row per cell, a column per way."""
    lines = [f"| cell | {' | '.join(ways)} |", "|---" * (len(ways) + 1) + "|"]
    for cell, said in found.items():
        lines.append(f"| {cell} | {' | '.join(said.get(way, 'not tried') for way in ways)} |")
    return "\n".join(lines)


def try_derivatives(cells):
    """{cell: {way: "works", or what is said in which modes}}, printed as they are tried."""
    from tests.derivatives import COLUMNS, KINDS, outcomes, wanted

    for cell in cells:
        said: dict[str, set[str]] = {way: set() for way in COLUMNS}
        for mode in KINDS:
            for way, outcome in outcomes(cell, mode).items():
                said[way] |= {outcome} if outcome == "works" else {f"{label(mode)}: {outcome}"}
        found = {w: " ".join(sorted(x - {"works"})) or "works" for w, x in said.items()}
        print(f"{cell:24}{sum(x == 'works' for x in found.values())} of {len(found)}", flush=True)
        yield cell, found
        wanted.cache_clear()
        jax.clear_caches()


def read(text, modes):
    """{(subject, program, mode): outcome} of the page's table."""
    notes = dict(NOTE.findall(text))
    head, *rows = cells_of(section(text, "table"))
    found = {}
    for subject, *cells in rows:
        for program, cell in zip(head[1:], cells, strict=True):
            for part in map(label, modes) if cell == "works" else cell.split():
                mode, _, note = part.partition("[")
                found[subject, program, mode] = notes[note.rstrip("]")] if note else "works"
    return found


def table(outcomes, subjects, programs, modes):
    """A row per subject, a column per program; in a field the modes, with the note of a refusal, or
    one word for all of them."""
    notes: dict[str, int] = {}

    def cell(subject, program):
        said = {mode: outcomes[subject, program, mode] for mode in map(label, modes)}
        number = {s: notes.setdefault(s, len(notes) + 1) for s in said.values() if s != "works"}
        marked = (f"{mode}[{number[s]}]" if s in number else mode for mode, s in said.items())
        return " ".join(marked) if number else "works"

    lines = [f"| cell | {' | '.join(programs)} |", "|---" * (len(programs) + 1) + "|"]
    for subject in subjects:
        row = (cell(subject, program) for program in programs)
        lines.append(f"| {subject} | {' | '.join(row)} |")
    listed = "\n".join(f"{number}. `{said}`" for said, number in notes.items())
    return "\n".join(lines), listed or "Nothing is refused."


def page(text, outcomes, subjects, programs, modes):
    """The page with its table and its notes put in place; the rest is written by hand."""
    rows, notes = table(outcomes, subjects, programs, modes)
    return put(put(text, "table", rows), "refusals", notes)


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.support", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/support.md")
    parser.add_argument("--subject", action="append", help="this one alone; may be repeated")
    parser.add_argument("--program", action="append", help="this one alone; may be repeated")
    parser.add_argument("--derivatives", action="store_true", help="the second table alone")
    asked = parser.parse_args()
    compile_faster()
    from tests.derivatives import COLUMNS  # once JAX has its switches
    from tests.programs import MODES, PROGRAMS, SUBJECTS, outcome
    from tests.tables import CELLS

    subjects = asked.subject or list(dict.fromkeys([*SUBJECTS, *CELLS]))
    outcomes = read(PAGE.read_text(), MODES)
    for subject in [] if asked.derivatives else [s for s in subjects if s in SUBJECTS]:
        for program in asked.program or PROGRAMS:
            for mode in MODES:
                said = outcome(subject, program, mode)
                outcomes[subject, program, label(mode)] = said
                print(f"{subject:18}{program:30}{label(mode):8}{said}", flush=True)
        jax.clear_caches()
        if asked.write:
            tried = {
                name: row for name, row in SUBJECTS.items() if (name, "jit", "full") in outcomes
            }
            PAGE.write_text(page(PAGE.read_text(), outcomes, tried, PROGRAMS, MODES))
    for cell, said in try_derivatives([] if asked.program else [s for s in subjects if s in CELLS]):
        text = PAGE.read_text()
        found = read_derivatives(text) | {cell: said}
        found = {name: found[name] for name in CELLS if name in found}
        if asked.write:
            PAGE.write_text(put(text, "derivatives", derivatives_table(found, COLUMNS)))


if __name__ == "__main__":
    main()
