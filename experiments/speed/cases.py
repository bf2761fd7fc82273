"""Which cases a run has, what of them a file lacks yet, and how measured ones are added to it.

Rounds are pairs: everybody ran once in each. So rounds are added to a case's pass only where the
same contestants ran in it; where one is new, the pass is measured again as a whole. Where one is
missing that ran before, nothing is added: his rounds would go.

A case says who is absent and why, pass by pass: {name: {pass: reason}}.
"""

from typing import NamedTuple

import jax.numpy as jnp

from experiments.speed.peers_torch import threads
from experiments.speed.programs import PASSES, names_of, takes_part

SIZES = {
    "S0": (12, 2, 8),  # the tests'
    "S1": (128, 4, 32),
    "S2": (256, 16, 128),
    "S3": (256, 32, 256),
    "S4": (128, 64, 512),
    "S5": (4096, 8, 128),
    "S6": (65536, 1, 64),
    "N1": (1024, 16, 256),  # for a GPU
    "N2": (1024, 32, 512),
    "N3": (1024, 64, 1024),
}
OF_CELLS = ("gru", "peephole_lstm", "mgu", "ind_rnn")
VARIANTS = {
    "plain": {},
    "lengths": {"lengths": True},
    "stack": {"layers": 2},
    "bidirectional": {"both_ways": True},
    "bfloat16": {"dtype": jnp.bfloat16},
    **{cell: {"cell": cell} for cell in OF_CELLS},
}


class Job(NamedTuple):
    """Passes of a size and a variant, timed in the same rounds."""

    size: str
    variant: str
    passes: tuple[str, ...]


def product(sizes, variants, passes):
    """Every size with every variant: a list of Jobs."""
    return [Job(size, variant, tuple(passes)) for variant in variants for size in sizes]


# All there is: the large sizes for the two passes that everybody has. Two quiet cores take about
# 35 minutes for it in 20 rounds.
BOTH, MORE = ("gradient", "forward"), ("jvp", "grad_of_grad", "eager")
ALL = [
    *product(("S1", "S2", "S3", "S4", "S5", "S6"), ("plain",), BOTH),
    *product(("S1", "S2"), ("lengths", "stack", "bidirectional", "bfloat16"), BOTH),
    *product(("S2", "S3"), OF_CELLS, BOTH),
    *product(("S1", "S2", "S3"), ("plain",), MORE),
    *product(("S2",), OF_CELLS, MORE),
]


def jobs_of(result):
    """The Jobs that a result holds."""
    found = []
    for case in result["cases"]:
        kinds = {kind for row in case["contestants"].values() for kind in row}
        found.append(Job(case["size"], case["variant"], tuple(k for k in PASSES if k in kinds)))
    return found


class Missing(ValueError):
    """Somebody ran in the file and does not run now."""


def find(result, size, variant):
    """The case of a result, or None."""
    same = [c for c in result["cases"] if (c["size"], c["variant"]) == (size, variant)]
    return same[0] if same else None


def still_to_do(result, job, rounds, devices=1):
    """[(Job, rounds), ...]: the passes of this job that the result lacks or has in fewer rounds.

    Who might take part is read off the machine that the result is of.
    """
    case, here = find(result, job.size, job.variant), result["environment"]
    counts = threads(here.get("platform"), here.get("affinity"))
    names = names_of("lengths" in VARIANTS[job.variant], devices_of(job.variant, devices), counts)
    todo = {}
    for kind in job.passes:
        if lacking := rounds - rounds_of(case, kind, names):
            todo.setdefault(max(lacking, 0), []).append(kind)
    return [(job._replace(passes=tuple(kinds)), n) for n, kinds in todo.items() if n]


def devices_of(variant, devices):
    """The batch is split in the plain variant alone."""
    return devices if variant == "plain" else 1


def rounds_of(case, kind, names):
    """In how many rounds all of these ran this pass; those that are absent count as there."""
    if case is None:
        return 0
    rows, absent = seconds_of(case, kind), case["absent"]
    wanted = [name for name in names if takes_part(name, kind)]
    if any(name not in rows and kind not in absent.get(name, {}) for name in wanted):
        return 0
    return min(map(len, rows.values()), default=0)


def seconds_of(case, kind):
    """name -> seconds of this pass."""
    return {
        name: row[kind]["seconds"]
        for name, row in case["contestants"].items()
        if "seconds" in row.get(kind, {})
    }


def add(result, case):
    """Put a measured case into the result: a new one, or more passes or rounds of an old one.

    Raises:
      Missing: somebody ran in the old case's pass and not in the new one's; nothing was added.
    """
    old = find(result, case["size"], case["variant"])
    if old is None:
        result["cases"].append(case)
        return
    rows = old["contestants"]
    kinds = {kind for row in case["contestants"].values() for kind in row}
    kinds |= {kind for reasons in case["absent"].values() for kind in reasons}
    seconds = {kind: (seconds_of(old, kind), seconds_of(case, kind)) for kind in kinds}
    for kind, (before, now) in seconds.items():
        if missing := [name for name in before if name not in now]:
            raise Missing(
                f"{case['size']} {case['variant']}, {kind}: {explain(missing, case, kind)}; "
                "their rounds stay, and nothing was added"
            )
    for kind, (before, now) in seconds.items():
        before = before if before.keys() == now.keys() else {}
        for name in now:
            found = case["contestants"][name][kind]
            found["seconds"] = [*before.get(name, []), *now[name]]
            rows.setdefault(name, {})[kind] = found
        for reasons in old["absent"].values():
            reasons.pop(kind, None)
    for name, reasons in case["absent"].items():
        old["absent"].setdefault(name, {}).update(reasons)
    old["absent"] = {name: reasons for name, reasons in old["absent"].items() if reasons}
    old["load"] = [*old.get("load", []), *case["load"]]
    if "profiles" in case:
        old["profiles"] = case["profiles"]


def explain(missing, case, kind):
    """Who ran in the file and not now, and why where it is known."""
    why = lambda name: case["absent"].get(name, {}).get(kind, "not asked")
    return "the file has rounds of " + ", ".join(f"{name} (now: {why(name)})" for name in missing)
