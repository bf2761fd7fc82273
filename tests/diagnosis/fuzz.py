"""The bars of diagnose, measured: `python -m tests.diagnosis.fuzz --right 1000 --singles 100`.

right     gradients that are right, by LSTMs that know nothing of the package and in their own
          layouts, and by the slow backward, at random sizes: how many are called wrong
singles   mistakes of the table, drawn at random: how many are named
pairs     two of them at once: how many are named, both of them, or by what is the same here
edits     the public LSTMs with a line edited at random, as nobody planted it: how many that
          are wrong are named, and how many of the others are given a place; none is called right
"""

import argparse
import ast
import copy
import time

import numpy as np

import jax_lstm as jl
from jax_lstm.diagnosis.switches import clash
from tests.diagnosis import problems, test_public

CELLS = "lstm", "lstmp", "elman"


def right(rng, n):
    """(called wrong, of how many, sentences)."""
    wrong = []
    for k in range(n):
        dtype = ("float64", "float32")[k % 2]
        if k % 3:
            module = test_public.load(test_public.NAMES[k % len(test_public.NAMES)])
            problem = resized(module, rng)
            problem = {a: of_dtype(x, dtype) for a, x in problem.items()}
            gradient = {a: np.asarray(x, dtype) for a, x in module.gradient(problem).items()}
            found = jl.diagnose(gradient, problem, layout=module.LAYOUT)
        else:
            cell = CELLS[k // 3 % 3]
            problem = problems.random_problem(rng, cell)
            problem = problems.cast(problems.cast(problem, dtype), "float64")
            gradient = problems.planted(problem, cell, (), dtype)
            found = problems.judged(gradient, problem, cell)
        wrong += [] if found else [(k, found.sentence())]
    return n - len(wrong), n, wrong


def of_dtype(x, dtype):
    """The numbers that the dtype has, as float64."""
    known = isinstance(x, np.ndarray) and x.dtype.kind == "f"
    return x.astype(dtype).astype(np.float64) if known else x


def resized(module, rng):
    """A problem of the module with sizes of its own."""
    before = dict(module.SIZES)
    try:
        low = {k: (2 if k in ("V", "T", "n", "n_t", "T_da") else 1) for k in before}
        module.SIZES.update({k: int(rng.integers(low[k], 7)) for k in before})
        if "T_x" in before:
            module.SIZES["T_x"] = module.SIZES["T_da"] + int(rng.integers(0, 3))
        return module.draw(rng)
    finally:
        module.SIZES.update(before)


def planted(rng, n, several):
    """(named, of how many, what was missed, seconds of the slowest)."""
    missed, slowest = [], 0.0
    for k in range(n):
        cell = CELLS[k % 3]
        size = (int(rng.integers(3, 7)), int(rng.integers(2, 5)), *map(int, rng.integers(2, 6, 2)))
        problem = problems.random_problem(rng, cell, size)
        every = problems.mistakes_of(problem, cell)
        truth = problems.planted(problem, cell, ())
        while True:
            names = tuple(every[m] for m in sorted(rng.choice(len(every), several, replace=False)))
            if any(clash(a, b) for a in names for b in names if a != b):
                continue
            gradient = problems.planted(problem, cell, names)
            if not alike(gradient, truth):
                break
        begin = time.process_time()
        found = problems.judged(gradient, problem, cell, pairs=None)
        slowest = max(slowest, time.process_time() - begin)
        if not (problems.named(found, names) or found.explanations):
            missed.append((k, cell, names, found.sentence()))
        elif not problems.named(found, names):
            best = found.explanations[0].names  # the same gradient by another name, or simpler
            if not simpler(problem, cell, best, gradient):
                missed.append((k, cell, names, found.sentence()))
    return n - len(missed), n, missed, slowest


def simpler(problem, cell, names, gradient):
    """Whether other mistakes than those planted give the very same gradient."""
    fitted = [k for k in names if k not in problems.mistakes_of(problem, cell)]
    return bool(fitted) or alike(problems.planted(problem, cell, names), gradient)


def alike(a, b):
    """Whether two float64 gradients are one but for the order of their sums: an edit that changes
    no number is no mistake. Some thousand roundings; a mistake moves a number by far more."""
    return all(np.allclose(a[k], b[k], rtol=1e-12, atol=1e-13) for k in a)


class Edit(ast.NodeTransformer):
    """The n-th place of a backward that can be edited: a factor or a summand dropped, = for +=,
    a sign, a square, an index."""

    def __init__(self, n):
        self.left, self.says = n, ""

    def hit(self, node, new):
        self.left -= 1
        if self.left:
            return node
        new = ast.copy_location(new, node)
        self.says = f"line {node.lineno}: {ast.unparse(node)} -> {ast.unparse(new)}"
        return new

    def visit_BinOp(self, node):
        self.generic_visit(node)
        if isinstance(node.op, ast.Mult | ast.Add):
            node = self.hit(node, node.left)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Add):
            node = self.hit(node, node.right)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
            node = self.hit(node, ast.BinOp(node.left, ast.Add(), node.right))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            node = self.hit(node, node.left)
        return node

    def visit_AugAssign(self, node):
        self.generic_visit(node)
        return self.hit(node, ast.Assign([node.target], node.value))


def edits(rng, n):
    """(named, placed, wrong ones in all, called right though wrong, what was not named)."""
    named = placed = wrong = 0
    called_right, unknown = [], []
    while wrong < n:
        name = test_public.NAMES[int(rng.integers(len(test_public.NAMES)))]
        module, source = test_public.load(name), (test_public.PUBLIC / f"{name}.py").read_text()
        edit = Edit(int(rng.integers(1, 90)))
        tree = ast.fix_missing_locations(edit.visit(copy.deepcopy(ast.parse(source))))
        if not edit.says:
            continue
        problem, names = module.draw(rng), {"__name__": name}
        truth = module.gradient(problem)
        try:
            with np.errstate(all="ignore"):
                exec(compile(tree, name, "exec"), names)
                gradient = names["gradient"](problem)
                same = alike(gradient, truth)
                found = jl.diagnose(gradient, problem, layout=module.LAYOUT)
        except Exception:  # an edit may raise anything: it is no gradient, and is not counted
            continue
        if same:
            continue
        wrong += 1
        if found:
            called_right.append((name, edit.says))
        named += bool(found.explanations)
        placed += not found.explanations and bool(found.first)
        if not found.explanations:
            unknown.append((name, edit.says, found.sentence()))
    return named, placed, wrong, called_right, unknown


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("right", "singles", "pairs", "edits"):
        parser.add_argument(f"--{name}", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    if asked.right:
        good, n, wrong = right(rng, asked.right)
        print(f"right: {n - good} of {n} called wrong", *wrong, sep="\n  ", flush=True)
    for name, several in (("singles", 1), ("pairs", 2)):
        if getattr(asked, name):
            good, n, missed, slowest = planted(rng, getattr(asked, name), several)
            print(f"{name}: {good} of {n} named; the slowest {slowest:.1f} s", *missed, sep="\n  ")
    if asked.edits:
        named, placed, n, called_right, unknown = edits(rng, asked.edits)
        print(f"edits: {named} of {n} named, {placed} more placed", *unknown, sep="\n  ")
        print(f"  called right: {len(called_right)}", *called_right, sep="\n  ")


if __name__ == "__main__":
    main()
