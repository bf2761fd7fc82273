"""docs/zoo.md: of each cell what its file says, and what a run measured."""

import importlib
import re
import textwrap

import numpy as np

from experiments.kit import record
from experiments.kit.pages import wrapped
from experiments.zoo.words import EQUATIONS, USES
from jax_lstm import CELLS
from jax_lstm.engine.shapes import axes_of, form_of


def count(cell):
    """The number of parameters in letters, "4DH + 4H² + 4H"."""
    total: dict[str, int] = {}
    for _, text in cell.shapes:
        terms = {"": 1}
        for axis in axes_of(text):
            parts = [re.fullmatch(r"(\d*)([A-Za-z]*)", part).groups() for part in axis.split("+")]
            products: dict[str, int] = {}
            for letters, n in terms.items():
                for number, letter in parts:
                    key = "".join(sorted(letters + letter))
                    products[key] = products.get(key, 0) + n * int(number or 1)
            terms = products
        for letters, n in terms.items():
            total[letters] = total.get(letters, 0) + n
    order = sorted(total, key=lambda letters: (-len(letters), letters))
    return " + ".join(f"{total[k] if total[k] > 1 or not k else ''}{power(k)}" for k in order)


def power(letters):
    """ "HH" as "H²"."""
    return re.sub(r"(.)\1", r"\1²", letters)


def docstring(cell):
    return importlib.import_module(cell.params.__module__).__doc__


def equations(cell):
    """Those of the cell's file, where it has them for this cell alone."""
    if cell.name in EQUATIONS:
        return EQUATIONS[cell.name]
    blocks = [b for b in docstring(cell).split("\n\n") if b.startswith("    ")]
    return textwrap.dedent(blocks[0]).replace("⊙", "*")


def source(cell):
    """The paragraph that begins with Source."""
    found = re.search(r"Sources?: (.*?)(\n\n|$)", docstring(cell), re.S)
    return " ".join(found[1].split())


def row(name, cell, found):
    """A line of the table; a dash where nothing was measured."""
    cells = [f"[`{name}`](#{name})", count(cell), *"------"]
    if "ms" in found:
        temp = found["temp_bytes"]
        cells[2:4] = f"{found['ms']['hand']:.1f}", f"{found['ratio']:.2f}"
        cells[4:6] = f"{temp['hand'] / 1e6:.1f}", f"{temp['hand'] / temp['jax']:.2f}"
    if "error" in found:
        errors = sorted(found["error"])
        cells[6:] = f"{np.median(errors):.4f}", f"{errors[-1]:.4f}"
    return f"| {' | '.join(cells)} |"


def section(name, cell):
    """What one cell is, from its file."""
    file = f"{cell.params.__module__.rpartition('.')[2]}.py"
    shapes = ", ".join(f"{k} {form_of(text)}" for k, text in cell.shapes)
    return f"""### {name}

{USES[name]}

```text
{equations(cell)}
```

{wrapped(f"Parameters: {shapes}; {count(cell)} numbers. File: [{file}](../jax_lstm/cells/{file}).")}

{wrapped(f"Source: {source(cell)}")}
"""


def of_run(directory):
    """The page, from a run's folder."""
    about = record.read_json(directory / "config.json")
    summary = record.read_json(directory / "summary.json")
    config, found = about["config"], summary["cells"]
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items() if k != "python")
    T, B, D, H = config["size"].split(",")
    rows = "\n".join(row(name, cell, found.get(name, {})) for name, cell in CELLS.items())
    sections = "\n".join(section(name, cell) for name, cell in CELLS.items())
    words = INTRODUCTION.format(
        cells=len(CELLS),
        hardware=about["hardware"],
        versions=versions,
        size=", ".join((T, B, D, H)),
        H=H,
        guess=summary["guess"],
        **{f"our_{k}": v for k, v in config.items()},
    )
    return f"""# The zoo

{wrapped(words)}

| cell | parameters | ms | / JAX | MB | / JAX | error | worst seed |
|---|---|---|---|---|---|---|---|
{rows}

![Error of each cell while it learns](../{directory.as_posix()}/learning.png)

`python -m experiments.zoo` measures all of this again; `--cells lstm,gru` some of it.

## Each cell

{sections}"""


INTRODUCTION = """
All {cells} cells side by side: what each is for, its equations, its parameters, its source, what
its gradient costs, and how it does on one task. [cells.md](cells.md) says in a line what each is,
and how to write another one. A command wrote this page:

```text
python -m experiments.zoo --page experiments/results/zoo/RUN > docs/zoo.md
```

D is the input size, H the hidden size; R and K are further sizes of a cell. Numbers in brackets
behind equations are those of [equations.md](equations.md).

## Cost, and one task

The machine: {hardware}, of which one was used, with other work beside this. Read ratios, not
milliseconds. {versions}.

- **ms** is the median time of the hand-written gradient by params, state and xs, at T, B, D, H =
  {size}, in float32. **/ JAX** divides it by the time of the autodiff twin, round by round, in
  turn, in one process.
- **MB** is what its program allocates for intermediates, with `residuals="full"`. **/ JAX**
  divides that by the twin's. `mlstm` keeps a matrix for every step there; "auto" keeps few. R and
  K are H / 2.
- **error** is the mean squared error on unseen sequences of the adding problem after {our_steps}
  updates, the median of {our_seeds} seeds. Two of T = {our_time} numbers are marked, and their
  sum is asked for at the end. To say 1 always gives {guess:.4f}. Every cell had H = {our_hidden},
  {our_batch} sequences an update, Adam at {our_learning_rate:g} with a cosine, and no setting of
  its own.

So few updates tell who learns this fast, and nothing else. Adding is a task of memory and says
little about text or speech. A dash stands where the run that is committed has no number.
"""
