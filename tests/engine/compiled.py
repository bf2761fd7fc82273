"""What tests read off compiled programs, and how they count compilations."""

import collections
import math
import re

import jax

from experiments.speed import hlo

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
SEEN = collections.Counter()
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: SEEN.update([event])  # JAX has no public way to take a listener back
)


def compilations(function, *args):
    """How many programs are compiled while the function is called."""
    before = SEEN["/jax/core/compile/backend_compile_duration"]
    jax.block_until_ready(function(*args))
    return SEEN["/jax/core/compile/backend_compile_duration"] - before


def collectives(text):
    """{name: how many stand in the program's text}, of those that do."""
    starts = [hlo.operation(line) for line in text.splitlines() if " = " in line]
    names = collections.Counter(str(name).removesuffix("-start") for name in starts)
    return {name: names[name] for name in COLLECTIVES if names[name]}


def product_flops(text):
    """2 x rows x columns x terms of every matrix product, as often as it runs, on one device."""
    blocks = hlo.computations(text)
    entry = re.search(r"^ENTRY %?([\w.\-]+)", text, re.MULTILINE)
    assert entry is not None

    def of(name):
        total, shapes = 0, {}
        for line in blocks[name]:
            found = re.search(r"%?([\w.\-]+) = \w+\[([\d,]*)\]", line)
            if found:
                shapes[found[1]] = [int(n) for n in found[2].split(",") if n]
            if found and hlo.operation(line) == "dot":
                left = re.search(r" dot\((?:\w+\[[^]]*\]\S* )?%?([\w.\-]+)", line)
                over = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", line)
                assert left
                assert over
                terms = [shapes[left[1]][int(n)] for n in over[1].split(",") if n]
                total += 2 * math.prod(shapes[found[1]]) * math.prod(terms)
            trips = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
            called = re.findall(r"(?:calls|to_apply|body)=%?([\w.\-]+)", line)
            assert trips or "body=" not in line, line
            total += sum(of(inner) for inner in called if inner in blocks) * int(
                trips[1] if trips else 1
            )
        return total

    return of(entry[1])
