"""README's table of speed, and the tables of docs/speed.md, from one result: what `--write` does.

    python -m experiments.speed --table FILE.json --write

A page has a section between `<!-- NAME -->` and `<!-- end -->`, and a sentence where only its
numbers are replaced. A test asserts that the pages are what the committed result says.
"""

import re
from pathlib import Path

from experiments.kit.pages import wrapped
from experiments.speed import goals, tables
from experiments.speed.cases import VARIANTS, jobs_of, rounds_of
from experiments.speed.programs import PASSES
from experiments.speed.reading import over, pair, plain_cases
from jax_lstm.files import disk

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "experiments/results/speed/amd_epyc_2_cores.json"
PAGES = ("README.md", "docs/speed.md", "docs/interop.md")
ROUNDS = 20
SHARE = r"\d\.\d\d to \d\.\d\d(?= of the time of `jax\.grad`)"  # of README's first paragraph


def write(result):
    """The pages, where they stand; returns their names."""
    texts = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
    for page, text in [(page, with_result(page, text, result)) for page, text in texts.items()]:
        disk.write(ROOT / page, text.encode())
    return ", ".join(PAGES)


def with_result(page, text, result):
    """The text of one of PAGES, with what this result says; ValueError where it says too little."""
    plain = plain_cases(result)
    if not plain:
        raise ValueError("there is no plain case in it")
    if page == "README.md":
        text = re.sub(SHARE, range_of(plain, "lstm", "A0"), text)
        return put(text, "speed", f"{tables.at_a_glance(result)}\n\n{in_words(result)}")
    if page == "docs/interop.md":
        return put(text, "speed", swapped(result))
    none = "This run has none."
    text = put(text, "run", made_by(result))
    text = put(text, "tables", tables.tables(result))
    text = put(text, "variants", tables.variants(result) or none)
    text = put(text, "passes", tables.more_passes(result) or none)
    text = put(text, "gaps", gaps(result))
    return put(text, "goals", goals.table(result))


def put(text, name, written):
    """The page with that in the place of the section."""
    marks = rf"(?<=<!-- {name} -->\n).*?(?=\n<!-- end -->)"
    found, n = re.subn(marks, lambda _: written, text, flags=re.S)
    if n != 1:
        raise ValueError(f"the page has {n} sections <!-- {name} -->, and must have one")
    return found


def range_of(plain, name, other):
    """The least and the largest ratio over all sizes."""
    found = [pair(case["contestants"], name, other) for case in plain.values()]
    ratios = [ratio[0] for ratio in found if ratio]
    if not ratios:
        raise ValueError(f"there is no plain case with {name} and {other} in it")
    return f"{min(ratios):.2f} to {max(ratios):.2f}"


def where(result):
    """The machine, and the release of JAX."""
    here = result["environment"]
    return f"{here['hardware']}; float32; JAX {here['versions']['jax']}"


def in_words(result):
    """Below README's table: where we are worse, and on what it was measured."""
    plain = plain_cases(result)
    beside = lambda other: [pair(case["contestants"], "lstm", other) for case in plain.values()]
    memory = [over(case["contestants"], "lstm", "A0", "temp_bytes") for case in plain.values()]
    slower = sum(found is not None and found[0] > 1 for found in beside("P"))
    more = sum(found is not None and found > 1 for found in memory)
    n = len(plain)
    text = f"We are slower than torch in {slower} of {n} rows"
    text += f" and need more memory than `jax.grad` in {more}."
    if compiling := plain.get("S3"):
        ratio = over(compiling["contestants"], "lstm", "A0", "compile_seconds")
        if ratio is not None:
            text += f" Compiling takes {ratio:.2f} times as long as for `jax.grad` (256, 32, 256)."
    return wrapped(f"{text} Measured on {where(result)}; nothing on a GPU.")


def made_by(result):
    """Above the tables of docs/speed.md: the machine, and the commands."""
    file = f"experiments/results/speed/{result['environment']['slug']}.json"
    return (
        wrapped(
            f"The tables are of a run on {where(result)}. The first command makes its file, and "
            "goes on with it after an interruption or on another day; the second writes the pages."
        )
        + f"""

```bash
python -m experiments.speed --all --devices 2 --end-to-end --profile --add {file}
python -m experiments.speed --table {file} --write
```"""
    )


def gaps(result):
    """What the run has less of than it could have."""
    few = {}
    for job in jobs_of(result):
        case = next(c for c in result["cases"] if (c["size"], c["variant"]) == job[:2])
        for kind in job.passes:
            n = rounds_of(case, kind, ())
            if n < ROUNDS:
                few.setdefault(f"{job.size} {job.variant}", []).append(f"{n} of {kind}")
    held = jobs_of(result)
    variants = [name for name in VARIANTS if name not in {job.variant for job in held}]
    passes = [name for name in PASSES if name not in {kind for job in held for kind in job.passes}]
    texts = []
    if few:
        listed = "; ".join(f"{case}: {', '.join(n)}" for case, n in few.items())
        texts.append(f"Fewer than {ROUNDS} rounds: {listed}.")
    for what, missing in (("variants", variants), ("passes", passes)):
        if missing:
            texts.append(f"Not in the run are the {what} {', '.join(missing)}.")
    return wrapped(" ".join(texts) or f"Every case has at least {ROUNDS} rounds.")


def swapped(result):
    """Of docs/interop.md: our RNN and cell, and our cell alone, in flax's place."""
    plain = plain_cases(result)
    found = {size: pair(case["contestants"], "FR", "F") for size, case in plain.items()}
    listed = ", ".join(f"{ratio[0]:.2f} at {size}" for size, ratio in found.items() if ratio)
    return wrapped(
        f"The gradient of the swapped model takes {listed} of flax's time, at the sizes of "
        "[speed.md](speed.md). With our cell in flax's own loop it takes "
        f"{range_of(plain, 'FC', 'F')}. These are FR and FC against F in the committed run: "
        f"{where(result)}."
    )
