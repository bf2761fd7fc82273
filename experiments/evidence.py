"""Published numbers beside ours, with the floor, the spread and the command: docs/evidence.md.

    python -m experiments.evidence               the table
    python -m experiments.evidence --write       docs/evidence.md
    python -m experiments.evidence --figures     a picture of each experiment, beside its file

It is made of the files that experiments leave in RESULTS/evidence, see experiments/kit/evidence.py.
`--results results` shows those of your own runs.
"""

import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from experiments.kit import command, evidence, plots
from experiments.kit.config import BadInput, Folder
from experiments.kit.pages import wrapped
from jax_lstm.files.disk import write
from jax_lstm.printing import table

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "evidence.md"
HEAD = (
    "experiment",
    "published",
    "floor",
    "ours",
    "bar",
    "met",
    "command",
    "minutes",
    "date",
    "machine",
)


@dataclass(frozen=True)
class Config:
    """The options of evidence."""

    results: Folder = "experiments/results"
    """where evidence/NAME.json are read"""
    write: Annotated[bool, arg(help="write docs/evidence.md in place of printing")] = False
    figures: Annotated[bool, arg(help="draw evidence/NAME.png of each experiment")] = False


def run(config):
    files = evidence.read_all(config.results)
    if not files:
        raise BadInput("--results", f"{config.results}/{evidence.FOLDER} has no file of evidence")
    if config.figures:
        for path, file in files:
            draw(path.with_suffix(".png"), file)
    if config.write:
        write(PAGE, page(Path(config.results)).encode())
        print(f"{len(files)} experiments: {PAGE}")
    else:
        print(table(HEAD, rows_of(files)))
    return files


# The table --------------------------------------------------------------------------------------


def number(value, digits):
    return "none" if value is None else f"{value:.{digits}f}"


def ours(row):
    """ "0.912 ± 0.003 (3), each ± 0.004": mean, standard deviation, seeds, the errors' mean."""
    (mean, deviation, n), digits = evidence.spread(row), row["digits"]
    around = "" if deviation is None else f" ± {deviation:.{digits}f}"
    errors = [v["error"] for v in row["values"] if "error" in v]
    each = f", each ± {statistics.fmean(errors):.{digits}f}" if errors else ""
    return f"{mean:.{digits}f}{around} ({n}){each}"


def command_of(file):
    """With its seeds: what makes this file, those that are missing too."""
    seeds = sorted({v["seed"] for row in file["rows"] for v in row["values"]})
    first = f" --seed {seeds[0]}" if seeds[0] else ""
    return f"{file['command']} --seeds {max(len(seeds), evidence.FEWEST)}{first}"


def machines_of(files):
    """The machines of all values, each once, as texts: their letters are A, B, ..."""
    found = {}
    for _, file in files:
        for row in file["rows"]:
            for value in row["values"]:
                found.setdefault(machine_text(value["machine"]), None)
    return list(found)


def machine_text(machine):
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    return f"{machine['hardware']}, {machine['cores_used']} used; {versions}"


def letters_of(row, machines):
    used = {machines.index(machine_text(v["machine"])) for v in row["values"]}
    return ", ".join(chr(ord("A") + k) for k in sorted(used))


def rows_of(files):
    """The cells of every row, as texts."""
    machines = machines_of(files)
    return [
        (
            f"{path.stem}: {row['name']}; {row['metric']}",
            number(row["published"], row["digits"]),
            number(row["floor"], row["digits"]),
            ours(row),
            sign(row) + number(row["bar"], row["digits"]) if row["bar"] is not None else "-",
            met(row),
            command_of(file),
            f"{sum(v['minutes'] for v in row['values']):.1f}",
            max(v["date"] for v in row["values"]),
            letters_of(row, machines),
        )
        for path, file in files
        for row in file["rows"]
    ]


def met(row):
    """Whether the bar is reached, of a row that has its seeds."""
    n = len(row["values"])
    if n < evidence.FEWEST:
        return f"{n} of {evidence.FEWEST} seeds"
    return {True: "yes", False: "NO", None: "-"}[evidence.is_met(row)]


def sign(row):
    return {"higher": "≥ ", "lower": "≤ "}[row["better"]]


# The page ---------------------------------------------------------------------------------------


def page(results):
    """docs/evidence.md, of the files in results/evidence."""
    files = evidence.read_all(results)
    lines = [HEAD, ("---",) * len(HEAD)]
    for cells in rows_of(files):
        name, rest = cells[0].split(": ", 1)
        shown = [f"[{name}](#{name}): {rest}", *cells[1:]]
        shown[HEAD.index("command")] = f"`{cells[HEAD.index('command')]}`"
        lines.append(shown)
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    machines = "\n".join(
        f"- {chr(ord('A') + k)}: {text}." for k, text in enumerate(machines_of(files))
    )
    sections = "\n".join(section(path, file) for path, file in files)
    return f"""# Evidence

{wrapped(INTRODUCTION.format(fewest=evidence.FEWEST))}

{rows}

The machines:

{wrapped(machines)}

{sections}"""


INTRODUCTION = """
What is printed elsewhere, and what this library gives: one command for each row. A command wrote
this page, of the files in experiments/results/evidence:

```text
python -m experiments.evidence --figures --write
```

- **published** is the number in print, and its source stands in the section of the experiment.
  "none": nobody printed this one.
- **floor** is what a model that learned nothing scores.
- **ours** is the mean over seeds ± their standard deviation, with the number of seeds in brackets.
  "each ±" is the standard error of one of them, from the events or examples that it was tested on.
- **bar** is what we ask of that mean, and **met** says whether it is reached. What did not
  reproduce stays in the table; its section says what was tried. A row with fewer than {fewest}
  seeds is not done, and nothing is said of it.
- **minutes** are those of all seeds of the row together, with other work on the machine.

Settings are chosen on a validation part, and the test part is read once, unless a section says
otherwise. The commands write into `results/`; `python -m experiments.evidence --results results`
shows yours in this form.
"""


def section(path, file):
    """An experiment's question, its numbers' sources, what was tried, its pictures."""
    parts = [f"## {path.stem}", wrapped(file["question"])]
    parts += [wrapped(words_of(file))]
    notes = path.with_suffix(".md")
    if notes.exists():
        parts += [wrapped(notes.read_text())]
    for picture in pictures_of(path):
        to = Path(os.path.relpath(picture.absolute(), PAGE.parent)).as_posix()
        what = picture.stem.removeprefix(path.stem).strip(".").replace("_", " ")
        parts += [f"![{path.stem}: {what or 'each seed beside floor, bar and print'}]({to})"]
    return "\n\n".join(parts) + "\n"


def pictures_of(path):
    """NAME.png and NAME.WHAT.png."""
    return sorted([*path.parent.glob(f"{path.stem}.png"), *path.parent.glob(f"{path.stem}.*.png")])


def words_of(file):
    """Where the published numbers and the floors are from; what several rows share stands once."""
    said: dict = {}
    for row in file["rows"]:
        digits = row["digits"]
        published = "" if row["published"] is None else f"{number(row['published'], digits)} is of "
        text = f"Published: {published}{row['source']}." if row["source"] else "Nothing published."
        if row["floor"] is not None:
            text += f" Floor: {row['floor_how']}."
        said.setdefault(text, []).append(row["name"])
    return "\n".join(f"- {'; '.join(dict.fromkeys(names))}. {text}" for text, names in said.items())


# The picture ------------------------------------------------------------------------------------


def draw(path, file):
    """NAME.png: each row's seeds, with the floor, what is published, and the bar."""
    metrics = list(dict.fromkeys(row["metric"] for row in file["rows"]))
    groups = [[row for row in file["rows"] if row["metric"] == m] for m in metrics]
    height = sum(0.8 + 0.34 * len(group) for group in groups) + 0.6
    plots.save(path, rows_and_seeds, groups, size=(9, height))


def rows_and_seeds(figure, groups):
    heights = [0.8 + 0.34 * len(group) for group in groups]
    grid = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, group in zip(grid, groups, strict=True):
        for y, row in enumerate(group):
            values = [v["value"] for v in row["values"]]
            axes.plot(
                values, [y] * len(values), "o", color=plots.HAND, alpha=0.6, label="ours, a seed"
            )
            marks = {
                "floor": ("x", "0.5"),
                "published": ("D", plots.AUTO),
                "bar": ("|", plots.TRUTH),
            }
            for name, (mark, color) in marks.items():
                if row[name] is not None:
                    size = 14 if mark == "|" else 6
                    axes.plot([row[name]], [y], mark, color=color, markersize=size, label=name)
        axes.set_yticks(range(len(group)), [row["name"] for row in group])
        axes.set_ylim(len(group) - 0.5, -0.5)
        plots.tidy(axes, "", f"{group[0]['metric']} ({group[0]['better']} is better)", "")
    labels = {}
    for axes in grid:
        handles, names = axes.get_legend_handles_labels()
        labels |= dict(zip(names, handles, strict=True))
    figure.legend(labels.values(), labels.keys(), loc="outside upper right", ncols=4, frameon=False)


def main(argv=None):
    return command.main(Config, run, "python -m experiments.evidence", __doc__, argv)


if __name__ == "__main__":
    raise SystemExit(main())
