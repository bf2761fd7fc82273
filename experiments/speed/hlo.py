"""What a compiled program contains, read off XLA's optimised HLO: no clock, no machine.

A kernel is an instruction that the loop over steps runs: everything but the names of buffers.
"""

import re
from typing import NamedTuple

# These name a buffer or a part of one; XLA runs nothing for them.
FREE = {None, "parameter", "get-tuple-element", "tuple", "constant", "bitcast", "after-all"}


class Counts(NamedTuple):
    """kernels: in the innermost loop bodies, one of each, so per step forward and backward.
    products_inside: of a weight's shape, in those bodies and what they call. products: everywhere.
    """

    kernels: int
    products_inside: int
    products: int


def count(hlo, size, gates=4):
    """Counts of a module's text, for size (T, B, D = H) and W (D, gates H)."""
    blocks = computations(hlo)
    inner = innermost_bodies(blocks)
    called = {name for body in inner for name in callees_of(body, blocks)}
    kernels = sum(operation(line) not in FREE for body in inner for line in blocks[body])
    return Counts(
        kernels,
        weight_products(blocks, called, size, gates),
        weight_products(blocks, blocks, size, gates),
    )


def computations(hlo):
    """name -> lines, for every computation of an HLO module."""
    found = {}
    name = None
    for line in hlo.splitlines():
        if re.match(r"(ENTRY )?%?[\w.\-]+ .*\{$", line):
            name = line.replace("ENTRY ", "").split()[0].lstrip("%")
            found[name] = []
        elif name and line.strip() not in ("}", ""):
            found[name].append(line)
    return found


def operation(line):
    """The opcode of an instruction: `%x = f32[2,3]{1,0} dot(...)` -> dot; shapes may be tuples."""
    right = re.sub(r"\{[^{}]*\}", "", line.split(" = ", 1)[-1])  # without layouts
    found = re.search(r"([\w\-]+)\(", right)
    return found[1] if found else None


def callees_of(start, blocks):
    """The computation and everything it calls."""
    todo, seen = [start], set()
    while todo:
        name = todo.pop()
        if name not in seen and name in blocks:
            seen.add(name)
            for line in blocks[name]:
                todo += re.findall(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)", line)
    return seen


def innermost_bodies(blocks):
    """Bodies of while loops that contain no other one."""
    bodies = {b for lines in blocks.values() for b in re.findall(r"body=%?([\w.\-]+)", str(lines))}
    return sorted(b for b in bodies if not (callees_of(b, blocks) & bodies) - {b})


def weight_products(blocks, names, size, gates):
    """Products of a weight's shape in the computations of these names: (H, M) or (M, H), also
    with an axis in front: small ones are added in parts, see `linear_bwd_weight`."""
    H, M = size[2], gates * size[2]
    shape = rf"\w+\[(?:\d+,)?({H},{M}|{M},{H})\]\S* (dot|custom-call)\("
    return sum(len(re.findall(shape, line)) for name in names for line in blocks[name])
