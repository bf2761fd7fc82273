"""What is changed in a source: one operator, one number, one order at a time.

A term or a factor that is dropped stays in the source as `(term, dropped)[0]`: the function then
closes over the same names, and its code can be put in place of the right one.
"""

import ast
import copy
import re
from collections.abc import Iterator
from typing import NamedTuple

OTHER = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
NEIGHBOURS = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
NEGATED = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)  # by NEIGHBOURS
LEFT_ALONE = re.compile(
    "check_|init_|make_|no_door|(draw|record|variant|row|named|both_routes|shapes_of|without_time)$|"
    "(in_dtype|ones_in_block|bind)$"
)

# Calls whose first two arguments are a product or a sum of each other: swapped, they are the same.
COMMUTES = {"product", "add", "mean", "drop", "cell_state", "cell_state_jvp", "linear_jvp", "gcd"}


class Mutant(NamedTuple):
    """where: the function, as `outer.inner`; before, after: the expression; tree: of the file."""

    where: str
    line: int
    before: str
    after: str
    tree: ast.Module


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of the functions of a file that derive or are derived. Doors (`check_...`) and
    drawing (`init_...`) are left alone, and so are docstrings, annotations, complaints, defaults of
    arguments, and what runs at import."""
    tree = ast.parse(source)
    for path, where in places(tree):
        node = follow(tree, path)
        for new in changed(node):
            other = copy.deepcopy(tree)
            replace(other, path, ast.copy_location(new, node))
            ast.fix_missing_locations(other)
            yield Mutant(where, node.lineno, ast.unparse(node), ast.unparse(new), other)


def places(node, path=(), where=()) -> Iterator[tuple[tuple, str]]:
    """The path of every node that stands in a function, and the function's name."""
    inside = bool(where)
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list") or isinstance(node, ast.Raise):
            continue
        for n, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.arguments | ast.JoinedStr) or not isinstance(child, ast.AST):
                continue
            if isinstance(child, ast.keyword) and child.arg in ("strict",):
                continue
            named = (*where, child.name) if isinstance(child, ast.FunctionDef) else where
            if isinstance(child, ast.ClassDef) or LEFT_ALONE.match(
                getattr(child, "name", "") or ""
            ):
                continue
            here = (*path, (field, n))
            if inside:
                yield here, ".".join(where)
            yield from places(child, here, named)


def follow(node, path):
    for field, n in path:
        node = getattr(node, field) if n is None else getattr(node, field)[n]
    return node


def replace(tree, path, new):
    *way, (field, n) = path
    parent = follow(tree, way)
    if n is None:
        setattr(parent, field, new)
    else:
        getattr(parent, field)[n] = new


def first_of(kept, dropped):
    pair = ast.Tuple([kept, dropped], ast.Load())
    return ast.Subscript(pair, ast.Constant(0), ast.Load())


def with_fields(node, **fields):
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def changed(node) -> Iterator[ast.AST]:
    """What may stand in place of a node."""
    if isinstance(node, ast.BinOp) and type(node.op) in OTHER:
        yield with_fields(node, op=OTHER[type(node.op)]())
        yield first_of(node.left, node.right)
        if isinstance(node.op, ast.Add | ast.Mult):
            yield first_of(node.right, node.left)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        yield node.operand
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for op in NEIGHBOURS[type(node.ops[0])]:
            yield with_fields(node, ops=[op()])
    if isinstance(node, ast.BoolOp):
        yield with_fields(node, op=ast.And() if isinstance(node.op, ast.Or) else ast.Or())
    if isinstance(node, ast.IfExp | ast.If | ast.While) and not is_negated(node.test):
        yield with_fields(node, test=ast.UnaryOp(ast.Not(), node.test))
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield ast.Constant(node.value + 1)
        yield ast.Constant(node.value - 1)
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    if isinstance(node, ast.Call) and len(node.args) >= 2 and name_of(node.func) not in COMMUTES:
        yield from with_swapped(node, "args", node.args, 1)
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
        yield from with_swapped(node, "value", node.value.elts, len(node.value.elts))


def name_of(function):
    return getattr(function, "attr", getattr(function, "id", ""))


def is_negated(test):
    return isinstance(test, ast.Compare) and isinstance(test.ops[0], NEGATED)


def with_swapped(node, field, items, n):
    """The first n pairs of neighbours, each swapped."""
    for k in range(min(n, len(items) - 1)):
        if any(isinstance(x, ast.Starred | ast.Constant | ast.Lambda) for x in items[k : k + 2]):
            continue
        if ast.dump(items[k]) == ast.dump(items[k + 1]):
            continue
        new = [*items[:k], items[k + 1], items[k], *items[k + 2 :]]
        yield with_fields(node, **{field: ast.Tuple(new, ast.Load()) if field == "value" else new})
