"""Equations on paper: read, filled with the numbers of one element, computed, written down.

    filled = fill("f * c_prev + i * g", arrays, place)     its tree, a number for every name
    write(filled)                                          0.85195*0 + 0.96083*0.81775
    evaluate(filled)                                       0.7857..., at full precision

An equation is a Python expression, and Python's `ast` reads it. Two things are ours: `^` is the
power, and `h(t=1)` is a name, h of step 1. It may have numbers, names, + - * / ^, `@`, `.T`, `b[0]`
(an element), `sum`, `sigmoid`, `softmax`, `exp`, `log` and `tanh`. What is filled has no more than
a pocket calculator: numbers, + - * / ^, exp, log, tanh, and sums of many terms.
"""

import ast
import functools
import operator

import numpy as np

DIGITS = 5
TERMS = 16  # of `@`, `sum` and `softmax`, that are written down
CALCULATOR = {"exp": np.exp, "log": np.log, "tanh": np.tanh}
ADD, MULTIPLY, POWER = 1, 2, 3  # how tightly an operation binds
OPERATIONS = {
    ast.Add: (operator.add, " + ", ADD),
    ast.Sub: (operator.sub, " - ", ADD),
    ast.Mult: (operator.mul, "*", MULTIPLY),
    ast.Div: (operator.truediv, " / ", MULTIPLY),
    ast.Pow: (operator.pow, "^", POWER),
}


def number(x, digits=DIGITS):
    """Five digits, as one would copy them: 0.85195, -0.0016459, 0."""
    return f"{float(x) + 0.0:.{digits}g}"


# Read -----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4096)
def read(equation):
    """The tree of an equation. It is cached, so nothing may change it.

    Raises:
      ValueError: no expression.
    """
    try:
        return ast.parse(equation.replace("^", "**"), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"no equation: {equation}") from error


def names(equation):
    """What an equation names, from left to right, each once: ["f", "c_prev", "i", "g"]."""
    return names_in(read(equation))


def names_in(tree):
    nodes = sorted(ast.walk(tree), key=lambda node: getattr(node, "col_offset", -1))
    functions = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    found = [name_of(node) for node in nodes if id(node) not in functions]
    return list(dict.fromkeys(name for name in found if name))


def name_of(node):
    """`h` or `h(t=1)`, the name of an array; "" of everything else."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Call(ast.Name(id=name), [], [ast.keyword(arg="t", value=ast.Constant(value=t))]):
            return f"{name}(t={t})"
    return ""


def summands(node):
    """a, b and c of a + b + c. The tree of a long sum is deep: nothing here recurs along it."""
    found = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        found.append(node.right)
        node = node.left
    return [node, *reversed(found)]


# Fill -----------------------------------------------------------------------------------------


def fill(equation, arrays, place):
    """The tree of one element, with numbers instead of names.

    Args:
      equation: text.
      arrays: {name: array}; rows are examples, (B, D) and (B, H); weights are (D, H).
      place: index of the element in the result.

    Returns:
      ast.expr: what `evaluate` and `write` take.

    Raises:
      ValueError: the equation has something that is not in the list above.
      KeyError: it has a name that `arrays` has not.
    """
    return fill_node(read(equation), arrays, place)


def fill_node(node, arrays, place):
    fill_in = functools.partial(fill_node, arrays=arrays, place=place)
    if name := name_of(node):
        return constant(element(arrays[name], place))
    match node:
        case ast.Constant(value=int() | float()):
            return node
        case ast.Subscript():
            return constant(element(array_of(node, arrays), place))
        case ast.UnaryOp(op=ast.USub(), operand=x):
            return ast.UnaryOp(ast.USub(), fill_in(x))
        case ast.BinOp(left, ast.MatMult(), right):
            row, column = array_of(left, arrays)[place[0]], array_of(right, arrays)[:, place[1]]
            pairs = zip(map(constant, row), map(constant, column), strict=True)
            return call("sum", *(ast.BinOp(a, ast.Mult(), b) for a, b in pairs))
        case ast.BinOp(op=ast.Add()):
            return functools.reduce(
                lambda a, b: ast.BinOp(a, ast.Add(), b), map(fill_in, summands(node))
            )
        case ast.BinOp(left, op, right) if type(op) in OPERATIONS:
            return ast.BinOp(fill_in(left), op, fill_in(right))
        case ast.Call(ast.Name(id="sum"), [x], []):
            size = np.shape(arrays[names_in(x)[0]])
            places = np.ndindex(size) if place == () else ((n, *place) for n in range(size[0]))
            return call("sum", *(fill_node(x, arrays, p) for p in places))
        case ast.Call(ast.Name(id="sigmoid"), [x], []):  # 1 / (1 + exp(-x))
            turned = call("exp", constant(-evaluate(fill_in(x))))
            one = constant(1)
            return ast.BinOp(one, ast.Div(), ast.BinOp(one, ast.Add(), turned))
        case ast.Call(ast.Name(id="softmax"), [x], []):  # exp(x) / sum(exp(x))
            every = (call("exp", constant(v)) for v in array_of(x, arrays)[place[:-1]])
            return ast.BinOp(call("exp", fill_in(x)), ast.Div(), call("sum", *every))
        case ast.Call(ast.Name(id=function), [x], []) if function in CALCULATOR:
            return call(function, fill_in(x))
    raise ValueError(f"an equation has no {ast.unparse(node)}")


def constant(x):
    return ast.Constant(float(x))


def call(function, *arguments):
    return ast.Call(ast.Name(function), list(arguments), [])


def array_of(node, arrays):
    """The array behind `x`, `x.T` or `x[0]`."""
    match node:
        case ast.Attribute(x, "T"):
            return array_of(x, arrays).T
        case ast.Subscript(x, ast.Constant(value=int(n))):
            return array_of(x, arrays)[n]
    if name := name_of(node):
        return np.asarray(arrays[name])
    raise ValueError(f"an equation has no array {ast.unparse(node)}")


def element(x, place):
    """Of an array that may have fewer axes than the result, the number that counts."""
    x = np.asarray(x)
    return x[tuple(place[len(place) - x.ndim :])] if x.ndim <= len(place) else x[place]


# Compute --------------------------------------------------------------------------------------


def evaluate(filled):
    """The number that a filled tree is, in float64; a logarithm of zero is -inf.

    Raises:
      ValueError: the tree has something that a pocket calculator has not.
    """
    with np.errstate(all="ignore"):
        return float(evaluate_node(filled))


def evaluate_node(node):
    match node:
        case ast.Constant(value=int() | float() as x):
            return np.float64(x)
        case ast.UnaryOp(op=ast.USub(), operand=x):
            return -evaluate_node(x)
        case ast.BinOp(op=ast.Add()):
            return sum(map(evaluate_node, summands(node)))
        case ast.BinOp(left, op, right) if type(op) in OPERATIONS:
            compute, *_ = OPERATIONS[type(op)]
            return compute(evaluate_node(left), evaluate_node(right))
        case ast.Call(ast.Name(id="sum"), terms, []):
            return sum(map(evaluate_node, terms))
        case ast.Call(ast.Name(id=function), [x], []) if function in CALCULATOR:
            return CALCULATOR[function](evaluate_node(x))
    raise ValueError(f"a pocket calculator has no {ast.unparse(node)}")


# Write ----------------------------------------------------------------------------------------


def write(filled):
    """A filled tree as text: numbers of five digits, the negative ones in parentheses.

    Raises:
      ValueError: the tree has something that a pocket calculator has not.
    """
    return write_node(filled)


def write_node(node, around=0, first=True):
    """Text. around: how tightly the operation outside binds; first: no sign is before the text."""
    match node:
        case ast.Constant(value=int() | float() as x):
            text = number(x)
            return f"({text})" if text.startswith("-") and not first else text
        case ast.UnaryOp(op=ast.USub(), operand=x):
            text = f"-{write_node(x, MULTIPLY, first=False)}"
            return text if first else f"({text})"
        case ast.Call(ast.Name(id="sum"), terms, []):
            return write_sum(terms, around, first, TERMS)
        case ast.BinOp(op=ast.Add()):
            return write_sum(summands(node), around, first)
        case ast.BinOp(left, op, right) if type(op) in OPERATIONS:
            _, sign, own = OPERATIONS[type(op)]
            inner = own < around
            power = own == POWER  # of a negative number: (-0.5)^2
            one = write_node(left, own + power, (first or inner) and not power)
            other = write_node(right, own + (not power), first=False)
            return f"({one}{sign}{other})" if inner else f"{one}{sign}{other}"
        case ast.Call(ast.Name(id=function), [x], []) if function in CALCULATOR:
            return f"{function}({write_node(x)})"
    raise ValueError(f"a pocket calculator has no {ast.unparse(node)}")


def write_sum(terms, around, first, most=None):
    """a + b + c; of very many terms the first three and the last."""
    if len(terms) == 1:
        return write_node(terms[0], around, first)
    inner = around > ADD
    texts = [
        write_node(term, ADD, (first or inner) and n == 0)
        for n, term in enumerate(terms)
        if not most or len(terms) <= most or n < 3 or n == len(terms) - 1
    ]
    if len(texts) < len(terms):
        texts.insert(3, "...")
    text = " + ".join(texts) or "0"
    return f"({text})" if inner else text
