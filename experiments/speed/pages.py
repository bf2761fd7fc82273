"""README's numbers of speed, and those of the PAGES in docs/, from one result: what `--write` does.

    python -m experiments.speed --table FILE.json --write

A page has a section between `<!-- NAME -->` and `<!-- end -->`, and a sentence where only its
numbers are replaced. A test asserts that the pages are what the committed result says.
"""

import re
from pathlib import Path

from experiments.kit.pages import wrapped
from experiments.speed import goals, tables
from experiments.speed import profile as speed_profile
from experiments.speed.cases import ALL, OF_CELLS, rounds_of, still_to_do
from experiments.speed.programs import PASSES
from experiments.speed.reading import label, line, over, pair, plain_cases
from jax_lstm.files import disk

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "experiments/results/speed/amd_epyc_2_cores.json"
PAGES = ("README.md", "docs/speed.md", "docs/interop.md", "docs/kernels.md")
ROUNDS = 20
BESIDE = ("A0", "A1", "AJ", "F", "P")  # whom `slower` looks at
IN_CPP = {"S1": 0.45, "S2": 0.85, "S3": 0.95, "S4": 0.95}  # wanted of the loops in C++ / torch
SHARE = r"\d\.\d\d to \d\.\d\d(?= of the time of `jax\.grad`)"  # of README's first paragraph


def write(result):
    """The pages, where they stand; returns their names."""
    texts = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
    for page, text in [(page, with_result(page, text, result)) for page, text in texts.items()]:
        disk.write(ROOT / page, text.encode())
    return ", ".join(PAGES)


def with_result(page, text, result):
    """The text of one of PAGES, with what this result says.

    Raises:
      ValueError: it says too little, or is not of a CPU, of which the pages speak; or the page has
        no place for it.
    """
    plain = plain_cases(result)
    if not plain:
        raise ValueError("there is no plain case in it")
    if (platform := result["environment"].get("platform", "cpu")) != "cpu":
        raise ValueError(f"it is of a {platform}; the pages speak of a CPU")
    if page == "README.md":
        text, n = re.subn(SHARE, range_of(plain, "lstm", "A0"), text)
        if n != 1:
            raise ValueError(f"the page says {n} times what share of jax.grad's time, not once")
        return put(text, "speed", f"{tables.at_a_glance(result)}\n\n{in_words(result)}")
    if page == "docs/interop.md":
        return put(text, "speed", beside_flax(result))
    if page == "docs/kernels.md":
        return put(text, "speed", on_all_cores(result))
    none = "This run has none."
    text = put(text, "run", commands(result))
    text = put(text, "tables", tables.tables(result))
    text = put(text, "variants", tables.variants(result) or none)
    text = put(text, "passes", tables.more_passes(result) or none)
    text = put(text, "profile", apart(result) or none)
    text = put(text, "slower", slower(result))
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
    """The machine, the dtype of the plain cases, and the release of JAX."""
    here = result["environment"]
    dtypes = dict.fromkeys(case["dtype"] for case in plain_cases(result).values())
    return f"{here['hardware']}; {', '.join(dtypes)}; JAX {here['versions']['jax']}"


def in_words(result):
    """Below README's table: where we are worse, and on what it was measured."""
    plain = plain_cases(result)
    torch = [pair(case["contestants"], "lstm", "P") for case in plain.values()]
    memory = [over(case["contestants"], "lstm", "A0", "temp_bytes") for case in plain.values()]
    torch, memory = ([x for x in found if x is not None] for found in (torch, memory))
    texts = []
    if torch:
        texts.append(f"Torch is faster in {sum(r[0] > 1 for r in torch)} of {len(torch)} rows.")
    if memory:
        more = sum(ratio > 1 for ratio in memory)
        texts.append(f"We need more memory than `jax.grad` in {more} of {len(memory)}.")
    if compiling := plain.get("S3"):
        ratio = over(compiling["contestants"], "lstm", "A0", "compile_seconds")
        if ratio is not None:
            sizes = ", ".join(str(compiling[letter]) for letter in "TBH")
            texts.append(f"Compiling takes {ratio:.2f} times its time ({sizes}).")
    rounds = sorted({rounds_of(case, "gradient", ()) for case in plain.values()})
    counts = " to ".join(str(n) for n in dict.fromkeys((rounds[0], rounds[-1])))
    texts.append(f"Measured on {where(result)}; {counts} rounds; nothing on a GPU.")
    return wrapped(" ".join(texts))


def commands(result):
    """Above the tables of docs/speed.md: the machine, and the commands."""
    file = COMMITTED.relative_to(ROOT)
    text = wrapped(
        f"The tables are of a run on {where(result)}. The first command makes its file; the second "
        "writes the pages. Asked again, the first goes on where it was interrupted, and adds "
        "rounds or passes that FILE lacks, as long as the machine, the versions, the sources of "
        "`jax_lstm` and the seed are those of FILE. To measure anew, remove FILE or name another."
    )
    if "sources" not in result["environment"]:
        text += "\n\n" + wrapped(
            "The committed file does not say of which sources it is, so nothing can be added to it."
        )
    return f"""{text}

```bash
python -m experiments.speed --all --devices 2 --end-to-end --profile --add {file}
python -m experiments.speed --table {file} --write
```"""


def apart(result, size="S2"):
    """The traced run of one size by kind of kernel, and our part that is the largest."""
    case = plain_cases(result).get(size, {})
    if "profiles" not in case:
        return ""
    shares = speed_profile.shares(case["profiles"]["lstm"])
    kind, share = max(shares.items(), key=lambda row: row[1])
    products = sum(n for name, n in shares.items() if name.startswith("product"))
    text = f'The largest part of `lstm` is "{kind}", {share:.0%} of the traced run. All products '
    text += f"are {products:.0%}."
    table = speed_profile.by_kind(label(case), case["profiles"])
    return f"{table}\n\n{wrapped(text)}"


def slower(result):
    """Where another one takes less time than `lstm`, by the median round by round."""
    found = {}
    for case in result["cases"]:
        for kind in PASSES:
            for other in BESIDE:
                ratio = pair(case["contestants"], "lstm", other, kind)
                if ratio and ratio[0] > 1:
                    size = "" if case["variant"] == "plain" else f" {case['variant']}"
                    text = f"{ratio[0]:.2f} ({case['size']}{size})"
                    found.setdefault((kind, other), []).append(text)
    lines = [
        f"- {kind}, time over that of {other}: {', '.join(ratios)}."
        for (kind, other), ratios in found.items()
    ]
    return wrapped("\n".join(lines)) if lines else "Nobody is faster in this run."


def gaps(result):
    """What of `--all` the run lacks, or has in fewer rounds than it asks for."""
    few = {}
    for job in ALL:
        for lacking, n in still_to_do(result, job, ROUNDS, devices=2):
            few.setdefault((job.variant, lacking.passes, ROUNDS - n), []).append(job.size)
    text = f"Every case of `--all` has at least {ROUNDS} rounds."
    listed = "; ".join(
        f"{', '.join(sizes)} {variant}, {n or 'none'} of {', '.join(passes)}"
        for (variant, passes, n), sizes in few.items()
    )
    if few:
        text = (
            f"Of `--all` the run has fewer than {ROUNDS} rounds with everybody in them: {listed}."
        )
    return wrapped(f"{text}{without_a1(result)}")


def without_a1(result):
    """Of a run that is older than A1 of the cells."""
    cells = [case["variant"] for case in result["cases"] if case["variant"] in OF_CELLS]
    with_it = {case["variant"] for case in result["cases"] if "A1" in case["contestants"]}
    lacking = [cell for cell in dict.fromkeys(cells) if cell not in with_it]
    return f" It has no A1 of {', '.join(lacking)}: the run is older." if lacking else ""


def beside_flax(result):
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


def on_all_cores(result):
    """Of docs/kernels.md: the loops in C++ in this run, where torch has all cores too."""
    text = (
        "The second is of the run that [speed.md](speed.md) shows, where P is torch at its better "
    )
    text += f"thread count: {where(result)}."
    plain = plain_cases(result)
    lines = [line("beside torch, with all cores", "wanted", "reached", "met"), "|---" * 4 + "|"]
    for size, bar in IN_CPP.items():
        found = pair(plain.get(size, {}).get("contestants", {}), "kernel", "P")
        if found:
            met = "yes" if found[0] <= bar else "no"
            lines.append(line(size, f"<= {bar}", f"{found[0]:.2f}", met))
    parts = [wrapped(text), tables.in_cpp(plain), "\n".join(lines)]
    for key, what in (("temp_bytes", "Temporary memory"), ("compile_seconds", "Compiling time")):
        ratios = {size: over(c["contestants"], "kernel", "lstm", key) for size, c in plain.items()}
        listed = ", ".join(f"{x:.2f} ({size})" for size, x in ratios.items() if x is not None)
        parts += [wrapped(f"{what} over that of `lstm`: {listed}.")] if listed else []
    return "\n\n".join(parts)
