"""Where the time goes, kernel by kernel: ours beside the bare products G, by XLA's own trace.

A traced run is slower than a timed one, most of all where kernels are small: compare shares. A
kernel is what XLA calls by its own name in the loop over steps ("step") or outside of it
("segment"); what it is for is read off the optimised HLO:

    product    a matrix product          write      into an array of the sequence, in place
    counter    the loop's integer        other      gates, states, derivatives, zeros, copies

"between" is the time of the whole run in which no kernel was on record: the executor, one thread
waiting for another, and the rest of Eigen's products, which are on record only until their threads
have started. At large sizes that is most of it: dW and dU are such products.
"""

import collections
import gzip
import json
import re
import tempfile
from pathlib import Path

import jax

from experiments.speed import hlo

WHERE, KINDS = ("step", "segment"), ("product", "write", "counter", "other")
RUNS = 3
LISTED = 8  # kernels by name
LONGEST = 4096  # steps: of a longer run XLA's trace loses most events


def profile(run, text):
    """Seconds and calls of a compiled program, by kind and by kernel, means of some runs.

    Args:
      run: does the work once and waits for it.
      text: the program's optimised HLO.
    """
    kernels = kernels_of(text)
    run()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(RUNS):
                with jax.profiler.TraceAnnotation("one whole run"):
                    run()
        events = [
            event
            for path in Path(folder).rglob("*.trace.json.gz")
            for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
            if event.get("ph") == "X"
        ]
    wholes = [span(e) for e in events if e["name"] == "one whole run"]
    mine = [e for e in events if e["name"] in kernels]
    rows = collections.defaultdict(lambda: [0.0, 0])
    for event in mine:
        row = rows[event["name"]]
        row[0] += event["dur"] * 1e-6 / RUNS
        row[1] += 1
    found = [
        {"kernel": name, "where": kernels[name][0], "kind": kernels[name][1]}
        | {"seconds": seconds, "calls": calls / RUNS}
        for name, (seconds, calls) in rows.items()
    ]
    whole = sum(end - start for start, end in wholes)
    return {
        "seconds": whole * 1e-6 / RUNS,
        "between": (whole - coverage([span(e) for e in mine], wholes)) * 1e-6 / RUNS,
        "kernels": sorted(found, key=lambda row: -row["seconds"]),
    }


def kernels_of(text):
    """name -> (step or segment, kind), for everything that is a call of its own."""
    blocks = hlo.computations(text)
    bodies = {b for lines in blocks.values() for b in re.findall(r"body=%?([\w.\-]+)", str(lines))}
    inner = hlo.innermost_bodies(blocks)
    entry = re.search(r"^ENTRY %?([\w.\-]+)", text, re.MULTILINE)
    found = {}
    for block in [*bodies, entry[1]] if entry else bodies:
        for line in blocks[block]:
            operation = hlo.operation(line)
            if operation not in hlo.FREE | {"while"}:
                name = line.split(" = ")[0].replace("ROOT", "").strip().lstrip("%")
                found[name] = ("step" if block in inner else "segment", kind_of(line, operation))
    return found


def kind_of(line, operation):
    if operation in ("dot", "custom-call") or "dot_general" in line or "kind=kCustom" in line:
        return "product"
    if re.search(r"= [su]\d+\[\]", line):
        return "counter"
    return "write" if "dynamic-update-slice" in line.split("(")[0] else "other"


def span(event):
    return event["ts"], event["ts"] + event["dur"]


def coverage(spans, wholes):
    """How much of the runs lies in one of the spans, whichever thread it is on."""
    total, reached = 0.0, float("-inf")
    low, high = min(w[0] for w in wholes), max(w[1] for w in wholes)
    for start, end in sorted(spans):
        start, end = max(start, reached, low), min(end, high)
        if end > start:
            total, reached = total + end - start, end
    return total


def total(found, where, kind, key="seconds"):
    """Of all kernels of that kind."""
    rows = [r for r in found["kernels"] if (r["where"], r["kind"]) == (where, kind)]
    return sum(row[key] for row in rows)


def shares(found):
    """ "KIND, by the WHERE" -> its share of the traced run."""
    return {
        f"{kind}, by the {where}": total(found, where, kind) / found["seconds"]
        for where in WHERE
        for kind in KINDS
    }


def by_kind(label, found):
    """Milliseconds, shares and calls of a traced run by kind, ours and G's."""
    names = list(found)
    lines = [f"| {label}, traced | " + " | ".join(f"{n} ms | calls" for n in names) + " |"]
    lines.append("|---" * (2 * len(names) + 1) + "|")
    for where in WHERE:
        for kind in KINDS:
            cells = []
            for name in names:
                seconds, calls = (
                    total(found[name], where, kind, key) for key in ("seconds", "calls")
                )
                cells += [share(seconds, found[name]), f"{calls:,.0f}"]
            lines.append(f"| {kind}, by the {where} | " + " | ".join(cells) + " |")
    for key, what in (("between", "no kernel on record"), ("seconds", "the whole run")):
        cells = [cell for name in names for cell in (share(found[name][key], found[name]), "")]
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def table(label, found):
    """`by_kind`, then our dearest kernels."""
    name, ours = next(iter(found.items()))
    lines = [
        by_kind(label, found),
        "",
        f"| {name}, dearest kernels | kind | calls | us each | ms |",
        "|---" * 5 + "|",
    ]
    for row in ours["kernels"][:LISTED]:
        each = 1e6 * row["seconds"] / row["calls"]
        lines.append(
            f"| {row['kernel']} | {row['kind']}, by the {row['where']} | {row['calls']:,.0f} "
            f"| {each:.1f} | {share(row['seconds'], ours)} |"
        )
    return "\n".join(lines)


def share(seconds, found):
    return f"{1e3 * seconds:.2f} ({seconds / found['seconds']:.0%})"
