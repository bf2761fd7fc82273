"""Every tangent rule, broken on purpose by a tool, one operator, number or name at a time; and the
tangents of whole runs beside complex steps of forwards that are written out in NumPy.

The tool reads a rule's source, changes one thing, and runs what comes of it beside JAX's tangent of
what the rule belongs to. A mutant must be seen: by an error, or by another number.
"""

import ast
import contextlib
import copy
import functools
import importlib
import inspect
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm.engine.forward_mode import make_jvp
from jax_lstm.stages import TWINS, twins
from tests.cells import test_peers
from tests.cells.formulas import FORMULAS, numpy_run
from tests.tables import CELLS, normal_like, problem, quick_jit

SIZES = {"T": 2, "B": 3, "D": 2, "H": 2, "V": 3}
LSTM = importlib.import_module("jax_lstm.cells.lstm")
STEP = 1e-30

# What survives, and why it is the same function: {rule: {how its mutants' names begin: why}}.
CLAMPED = "JAX clamps an index that is too large"
UNREAD = "handed on to a function that does not read it"
AT_ONE = "multiplied with the tangent of the cotangent 1, which is 0"
SAME = "the same number at the cotangent 1"
EQUIVALENT = {
    "step_jvp": {"prev at 3:37": UNREAD},
    "step_and_net_input_jvp": {"h_prev_dot at 4:50": "only its dtype is read"},
    "slopes_jvp": {
        "c at 7:": "only its shape and dtype are read",
        "o at 8:30": "what it is needed for is not asked for",
        "f at 10:36": "what it is needed for is not asked for",
        "f at 12:9": AT_ONE,
        "c_prev at 12:12": AT_ONE,
        "i at 12:20": AT_ONE,
        "g at 12:23": AT_ONE,
        "di at 14:26 → g": SAME,
        "df at 14:30 → c_prev": SAME,
        "dg at 14:34 → i": SAME,
        "di_dot at 14:44 → g_dot": SAME,
        "df_dot at 14:52 → c_prev_dot": SAME,
        "dg_dot at 14:60 → i_dot": SAME,
        "dc_prev_dot at 16:39 → f_dot": SAME,
    },
    "step_bwd_jvp": {"1 + 1": CLAMPED},
    "weights_bwd_jvp": {"das at 9:35": UNREAD},
    "layer_norm_jvp": {"x at 7:": "only its rank and dtype are read, and all have the same"},
    "softmax_cross_entropy_jvp": {"0 + 1": CLAMPED},
    "embedding_jvp": {
        f"{name} at 6:": "of rows, which have a row of their own"
        for name in ("E", "E_dot", "tokens", "tokens_dot")
    },
    "embedding of rows_jvp": {
        "E at 6:63": "only its dtype is read",
        "E_dot at 5:25": "of symbols, which have a row of their own",
        "tokens at 5:32": "of symbols, which have a row of their own",
        "tokens_dot at 4:7": "what else is not None there",
    },
}


# The tool -------------------------------------------------------------------------------------

SWAPS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}


def places(tree):
    """Every place that is changed: what to do with the n-th node of `ast.walk`."""
    names = sorted({n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and stored(n)})
    names = [*names, *(a.arg for a in tree.body[0].args.args)]
    for n, node in enumerate(ast.walk(tree)):
        if isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
            yield n, f"{ast.unparse(node)}: {type(node.op).__name__} swapped", swap
            yield n, f"{ast.unparse(node)}: left alone", lambda node: node.left
            yield n, f"{ast.unparse(node)}: right alone", lambda node: node.right
        if isinstance(node, ast.UnaryOp):
            yield n, f"{ast.unparse(node)}: sign lost", lambda node: node.operand
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield n, f"{node.value} + 1", lambda node: ast.Constant(node.value + 1)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
            for other in names:
                if other != node.id:
                    change = functools.partial(renamed, other)
                    yield n, f"{node.id} at {node.lineno}:{node.col_offset} → {other}", change


def stored(node):
    return isinstance(node.ctx, ast.Store)


def swap(node):
    return ast.BinOp(node.left, SWAPS[type(node.op)](), node.right)


def renamed(other, node):
    return ast.Name(other, ast.Load())


class Change(ast.NodeTransformer):
    def __init__(self, target, change):
        self.target, self.change = target, change

    def visit(self, node):
        return self.change(node) if node is self.target else self.generic_visit(node)


def mutants(rule):
    """(what was changed, the rule with that change), one after the other."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(rule)))
    function = tree.body[0]
    function.returns, function.decorator_list = None, []
    for a in function.args.args:
        a.annotation = None
    if isinstance(function.body[0], ast.Expr):  # its docstring
        function.body = function.body[1:]
    for n, name, change in places(tree):
        new = copy.deepcopy(tree)
        node = list(ast.walk(new))[n]
        new = ast.fix_missing_locations(Change(node, change).visit(new))
        scope = dict(rule.__globals__)
        exec(compile(new, name, "exec"), scope)
        yield name, scope[rule.__name__]


def survivors(rule, run, want):
    """The mutants of a rule that nobody sees: `run(rule)` still answers `want`. What raises no
    error and has the right shapes is compiled together, one program for all."""
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), want)
    left = {"unbroken": rule}
    every = list(mutants(rule))
    for name, mutant in every:
        with contextlib.suppress(Exception):  # a mutant may raise anything, and is seen by that
            found = jax.eval_shape(functools.partial(run, mutant))
            if jax.tree.map(lambda x: (x.shape, x.dtype), found) == shapes:
                left[name] = mutant
    found = quick_jit(lambda: [run(mutant) for mutant in left.values()])()
    alive = {name for name, x in zip(left, found, strict=True) if agrees(x, want)}
    assert "unbroken" in alive
    return alive - {"unbroken"}, len(every)


def agrees(found, want):
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True)
    # The unbroken rule must agree too, and what differs from it by less than this is not seen.
    return all(np.allclose(a, b, 1e-12, 1e-13) for a, b in pairs)


# The rules, each with what it belongs to ------------------------------------------------------


def number(seed):
    return lambda shape: np.random.default_rng(seed).standard_normal(shape)


def floats(tree):
    return jax.tree.map(lambda x: jnp.issubdtype(jnp.asarray(x).dtype, jnp.floating), tree)


def tangent_of_a_stage(name):
    """`run(rule)` and what JAX says."""
    twin = TWINS[name]
    args = twins.draw(twin, SIZES, np.random.default_rng(1))
    n = len(twin.args)
    stage = getattr(twin.stage, "__wrapped__", twin.stage)
    moves = [twins.has_cotangent(shape) for _, shape in twin.args]
    dots = [normal_like(7 + k, args[k]) if m else None for k, m in enumerate(moves)]
    y = stage(*jax.tree.map(jnp.asarray, args[:n]), *args[n:])

    def of_moving(*moving):
        given = iter(moving)
        return stage(
            *(next(given) if m else x for m, x in zip(moves, args, strict=False)), *args[n:]
        )

    at = tuple(jax.tree.map(jnp.asarray, x) for m, x in zip(moves, args, strict=False) if m)
    want = jax.jvp(of_moving, at, tuple(d for d in dots if d is not None))[1]
    arrays = (*jax.tree.map(jnp.asarray, args[:n]), *args[n:])
    run = lambda rule: twins.tangent(twin._replace(stage_jvp=rule), arrays, y, tuple(dots))
    return TWINS[name].stage_jvp, run, want


def tangent_of_a_twin(name):
    twin, rule = TWINS[name], getattr(jl.stages, f"{name}_bwd_jvp")
    args = twins.draw(twin, SIZES, np.random.default_rng(1))
    y = twin.stage(*args)
    given = jax.tree.map(jnp.asarray, (twins.residual_of(twin, args, y), y))
    given, dots = normal_like(9, given), normal_like(8, given)
    answers = lambda found: [x for x in found if x is not None]
    boxed = lambda found: found if isinstance(found, tuple) else (found,)

    def every(residual, dy):
        return answers(twins.every_answer(twin, residual, dy))

    want = jax.jvp(every, given, dots)[1]
    return rule, lambda rule: answers(boxed(rule(*given, *dots))), want


def rules_of_the_lstm():
    """{name: (rule, run, what JAX says of the function by hand that it belongs to)}."""
    params, state, xs = problem(CELLS["lstm"], (2, 3, 2, 2))
    w = LSTM.prepare(params)
    prevs = normal_like(3, jax.tree.map(lambda x: jnp.stack([x, x]), state))
    zs = LSTM.project(w, xs)
    saved = LSTM.step(w, prevs, zs)[1]
    slopes, dstates = LSTM.slopes(w, prevs, saved), normal_like(4, prevs)
    w_dot = LSTM.prepare(normal_like(5, params))
    prevs_dot, xs_dot, dstates_dot = (
        normal_like(6 + n, x) for n, x in enumerate((prevs, xs, dstates))
    )
    params_dot = LSTM.LSTMParams(*w_dot[:3])
    net = lambda w, prevs, xs: jl.stages.bias(
        LSTM.project(w, xs) + jl.stages.linear(prevs.h, w.U), w.b
    )
    still = jax.tree.map(jnp.zeros_like, prevs_dot)
    jvp = lambda f, at, dots: jax.jvp(f, at, dots)[1]
    a_dots = jvp(net, (w, prevs, xs), (w_dot, still, xs_dot))
    step = lambda w, prevs, xs: LSTM.step(w, prevs, LSTM.project(w, xs), LSTM.plain_gates)
    whole = (w, prevs, xs), (w_dot, prevs_dot, xs_dot)
    new_dot, saved_dot = jvp(step, *whole)
    all_of_a = jvp(net, *whole)
    of_slopes = lambda w, prevs, xs: LSTM.slopes(w, prevs, step(w, prevs, xs)[1])
    slopes_dot = jvp(of_slopes, *whole)
    back = LSTM.step_bwd(w, prevs, slopes, dstates)
    das, das_dot = back[1], normal_like(11, back[1])
    at, dots = (w, prevs, slopes, dstates), (w_dot, prevs_dot, slopes_dot, dstates_dot)
    backs = jax.jvp(LSTM.step_bwd, at, dots)
    weights = (w, xs, prevs, saved, das), (w_dot, xs_dot, prevs_dot, saved_dot, das_dot)
    held = jnp.zeros_like(xs_dot)

    def without(dots):
        return (dots[0], held, *dots[2:])

    def net_of(params_dot, xs_dot):
        return lambda rule: rule(w, xs, prevs, saved, params_dot, xs_dot)

    one = lambda rule: rule(w, prevs, slopes, prevs_dot, a_dots)
    both = lambda rule, more: rule(*weights[0], weights[1][0], more, *weights[1][2:])
    return {
        "prepare_jvp": (LSTM.prepare_jvp, lambda rule: rule(params, params_dot), w_dot),
        "weights_jvp": (
            LSTM.weights_jvp,
            lambda rule: [net_of(params_dot, x)(rule) for x in (xs_dot, None)],
            [a_dots, jvp(net, (w, prevs, xs), (w_dot, still, held))],
        ),
        "step_jvp": (LSTM.step_jvp, one, new_dot),
        "step_and_net_input_jvp": (LSTM.step_and_net_input_jvp, one, (new_dot, all_of_a)),
        "slopes_jvp": (
            LSTM.slopes_jvp,
            lambda rule: rule(w, xs, prevs, saved, w_dot, xs_dot, prevs_dot, all_of_a),
            (saved_dot, slopes_dot),
        ),
        "step_bwd_jvp": (LSTM.step_bwd_jvp, lambda rule: rule(*at, *dots), backs),
        "weights_bwd_jvp": (
            LSTM.weights_bwd_jvp,
            lambda rule: [both(rule, x) for x in (xs_dot, None)],
            [jvp(LSTM.weights_bwd, weights[0], d) for d in (weights[1], without(weights[1]))],
        ),
    }


SECOND = [name for name in TWINS if hasattr(jl.stages, f"{name}_bwd_jvp")]


def check(name, rule, run, want):
    alive, n = survivors(rule, run, want)
    explained = tuple(EQUIVALENT.get(name, ()))
    unexplained = {mutant for mutant in alive if not mutant.startswith(explained)}
    assert not unexplained, (name, n, unexplained)


@pytest.mark.slow
@pytest.mark.parametrize("name", TWINS)
def test_every_mutant_of_a_tangent_is_seen(name):
    check(f"{name}_jvp", *tangent_of_a_stage(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", SECOND)
def test_every_mutant_of_a_twin_s_tangent_is_seen(name):
    check(f"{name}_bwd_jvp", *tangent_of_a_twin(name))


@pytest.mark.slow
def test_every_mutant_of_the_lstm_s_tangents_is_seen():
    for name, row in rules_of_the_lstm().items():
        check(name, *row)


# Complex steps --------------------------------------------------------------------------------


def compare_with_complex_steps(name, forward, fresh):
    """ẏ along one direction of every argument at once."""
    args = problem(CELLS[name], (4, 2, 2, 3))
    args = (*args, normal_like(5, args[1])) if fresh else args
    dots = tuple(normal_like(20 + n, x) for n, x in enumerate(args))
    options = {"mask": VALID, "resets": RESETS, "reset_state": args[3]} if fresh else {}
    ys, ys_dot = make_jvp(CELLS[name].cell)(*args[:3], dots, **options)
    step = lambda x, v: np.asarray(x) + 1j * STEP * np.asarray(v)
    found = forward(*jax.tree.map(step, args, dots))
    flat = lambda ys: np.concatenate([np.asarray(x).reshape(-1) for x in (*ys[0], ys[1])])
    found = np.concatenate([np.asarray(x).reshape(-1) for x in found])
    scale = np.abs(found.imag / STEP).max()
    # the bound of float64 in tests/tables.py, for numbers below 1 as well
    np.testing.assert_allclose(flat(ys), found.real, rtol=1e-12, atol=1e-12)
    # of the largest tangent: a small one is a difference of large ones
    np.testing.assert_allclose(flat(ys_dot) / scale, found.imag / STEP / scale, atol=1e-12)


VALID = np.array([[1, 1], [1, 0], [1, 1], [0, 1]], bool)
RESETS = np.array([[0, 1], [0, 0], [1, 0], [0, 0]], bool)


@pytest.mark.parametrize("name", test_peers.NUMPY)
def test_complex_steps_of_a_forward_in_numpy(name):
    compare_with_complex_steps(name, test_peers.NUMPY[name], fresh=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMULAS)
def test_complex_steps_of_a_formula_with_masks_and_resets(name):
    compare_with_complex_steps(name, numpy_run(name, VALID, RESETS), fresh=True)
