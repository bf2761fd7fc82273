"""What `python -m jax_lstm check` checks: the tables, and the comparisons they make.

The referee knows no cell: the tables here pass it functions, and arguments to try them at. A new
cell is a row of CELLS, a new stage a row of STAGES, an option of the sequence a row of `sequences`.
"""

import functools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jax_lstm
from jax_lstm import referee, stages
from jax_lstm.cells import lstmp

DTYPES = ("float64", "float32", "bfloat16", "float16")
LONG = (53, 128)  # T and B at which residuals="full" walks in more than one segment
TINY = (7, 2, 3, 5)  # at most: differences move every element of every input
ALL = ", all at once"
V = 6
constant = jax.lax.stop_gradient


class Stage(NamedTuple):
    """A stage and its twin. `args` names each argument and its sizes by letter, M being 4H;
    `twin(args, y, dy)` says which of these the derivative is computed from."""

    args: str
    stage: Callable[..., Any]
    twin: Callable[..., Any]


class Kit(NamedTuple):
    """The public functions of a cell."""

    init: Callable[..., Any]
    init_state: Callable[..., Any]
    cell: Callable[..., Any]
    cell_autodiff: Callable[..., Any]
    rnn: Callable[..., Any]
    rnn_autodiff: Callable[..., Any]


class Case(NamedTuple):
    """One comparison: `rows(dtype)` runs it."""

    title: str
    rows: Callable[[str], Iterable[referee.Row]]


STAGES = {
    "linear": Stage("x:TBD W:DM", stages.linear, lambda args, y, dy: stages.linear_bwd(args, dy)),
    "bias": Stage("y:TBM b:M", stages.bias, lambda args, y, dy: stages.bias_bwd(dy)),
    "sigmoid": Stage("a:TBH", stages.sigmoid, lambda args, y, dy: stages.sigmoid_bwd(y, dy)),
    "tanh": Stage("a:TBH", stages.tanh, lambda args, y, dy: stages.tanh_bwd(y, dy)),
    "gates": Stage("a:TBM", stages.gates, lambda args, y, dy: stages.gates_bwd(y, dy)),
    "cell_state": Stage(
        "f:TBH c_prev:TBH i:TBH g:TBH",
        stages.cell_state,
        lambda args, y, dy: stages.cell_state_bwd(args, dy),
    ),
    "hidden_state": Stage(
        "o:TBH c:TBH",
        stages.hidden_state,
        lambda args, y, dy: stages.hidden_state_bwd(args, dy),
    ),
    "fork": Stage("x:TBH", lambda x: stages.fork(x, 3), lambda args, y, dy: stages.fork_bwd(dy)),
    "keep": Stage(
        "mask:TBH old:TBH new:TBH",
        lambda mask, old, new: stages.keep(constant(mask), old, new),
        lambda args, y, dy: (0 * args[0], *stages.keep_bwd(args[0], dy)),
    ),
    "drop": Stage(
        "x:TBH mask:TBH",
        lambda x, mask: stages.drop(x, constant(mask)),
        lambda args, y, dy: (stages.drop_bwd(args[1], dy), 0 * args[1]),
    ),
    "concatenate": Stage(
        "x:TBD y:TBH",
        stages.concatenate,
        lambda args, y, dy: stages.concatenate_bwd(args, dy),
    ),
    "add": Stage("x:TBH y:TBH", stages.add, lambda args, y, dz: stages.add_bwd(dz)),
    "mean": Stage("x:TBH y:TBH", stages.mean, lambda args, y, dz: stages.mean_bwd(dz)),
    "product": Stage(
        "x:TBH y:TBH", stages.product, lambda args, y, dz: stages.product_bwd(args, dz)
    ),
    "clear": Stage(
        "valid:TB x:TBD",
        lambda valid, x: stages.clear(constant(valid) > 0, x),
        lambda args, y, dy: (0 * args[0], stages.clear_bwd(args[0] > 0, dy)),
    ),
    "repeat": Stage(
        "x:H",
        lambda x: stages.repeat(x, (3, 2)),
        lambda args, y, dxs: stages.repeat_bwd(args[0], dxs),
    ),
}

CELLS = {
    "lstm": Kit(
        jax_lstm.init_lstm,
        jax_lstm.init_lstm_state,
        jax_lstm.lstm_cell,
        jax_lstm.lstm_cell_autodiff,
        jax_lstm.lstm,
        jax_lstm.lstm_autodiff,
    ),
    "elman": Kit(
        jax_lstm.init_elman,
        jax_lstm.init_elman_state,
        jax_lstm.elman_cell,
        jax_lstm.elman_cell_autodiff,
        jax_lstm.elman,
        jax_lstm.elman_autodiff,
    ),
    "lstmp": Kit(
        # two less than hidden units, so that no transposed axis can pass
        lambda key, D, H, **kwargs: lstmp.init_lstmp(key, D, H, max(H - 2, 1), **kwargs),
        lstmp.init_lstmp_state,
        lstmp.lstmp_cell,
        lstmp.lstmp_cell_autodiff,
        lstmp.lstmp,
        lstmp.lstmp_autodiff,
    ),
}


# Cases ----------------------------------------------------------------------------------------


def beside(title, route, against, *, names, args, seed):
    """A route beside `jax.vjp` of the autodiff twin, at the arguments `args(dtype)`."""

    def rows(dtype):
        routes = {title: route, "jax.vjp": against}
        return referee.compare_routes(routes, args(dtype), names=names, seed=seed)

    return Case(title, rows)


def differences(sequence, args, seed):
    """A sequence beside differences of its values, at the arguments `args(dtype)`."""
    title, names, _, by_hand, by_jax, route, against = sequence

    def rows(dtype):
        return referee.compare_differences(
            {title: route, "jax.vjp": against},
            by_hand,
            by_jax,
            args(dtype),
            names=names,
            seed=seed,
        )

    return Case(title, rows)


def stage_cases(size, seed):
    """Every stage with its twin, by itself: JAX knows of no rule here."""
    sizes = dict(zip("TBDH", size, strict=True), M=4 * size[3])
    for title, (letters, stage, twin) in STAGES.items():
        names, shapes = zip(*(arg.split(":") for arg in letters.split()), strict=True)
        rng = np.random.default_rng(seed)
        args = tuple(rng.standard_normal([sizes[k] for k in shape]) for shape in shapes)
        routes = referee.twins(stage, twin), referee.pullback(stage)
        yield beside(title, *routes, names=names, args=functools.partial(cast, args), seed=seed)


def output_cases(size, seed):
    """The readout, the embedding and the losses, as people call them."""
    T, B, D, H = size
    rng = np.random.default_rng(seed)
    params: Any = (rng.standard_normal((H, V)), rng.standard_normal(V))
    E, x = rng.standard_normal((V, D)), rng.standard_normal((T, B, H))
    y, y_other = rng.standard_normal((2, T, B, V))
    yes = 1 / (1 + np.exp(-y_other))
    tokens = rng.integers(V, size=(T, B), dtype=np.int32)
    for name, title, args in (
        ("dense", "", {"params": jax_lstm.DenseParams(*params), "x": x}),
        ("embedding", "", {"E": E, "tokens": tokens}),
        ("embedding", " of one-hot", {"E": E, "tokens": np.eye(V)[tokens]}),
        ("softmax_cross_entropy", "", {"logits": y, "targets": tokens}),
        ("binary_cross_entropy_with_logits", "", {"logits": y, "targets": yes}),
        ("squared_error", "", {"y": y, "targets": y_other}),
    ):
        routes = [referee.pullback(getattr(jax_lstm, k)) for k in (name, f"{name}_autodiff")]
        args, names = functools.partial(cast, tuple(args.values())), tuple(args)
        yield beside(name + title, *routes, names=names, args=args, seed=seed)


class Sequence(NamedTuple):
    """A sequence asked for something, by hand and by JAX, and the routes to their gradients.

    names: of the arguments. padding: the mask, where there is one.
    """

    title: str
    names: tuple[str, ...]
    padding: Any
    by_hand: Callable[..., Any]
    by_jax: Callable[..., Any]
    route: Callable[..., Any]
    against: Callable[..., Any]


def sequences(name, T, B, seed):
    """Everything that can be asked of a sequence. JAX gets plain options: segments and unrolling
    are nothing to it, lengths are a mask."""
    rng = np.random.default_rng(seed)
    lengths = np.resize([T // 2, T, 0, 1, T - 1], B).clip(0, T).astype(np.int32)
    valid = np.arange(T)[:, None] < lengths
    mask, resets = rng.random((2, T, B)) < [[[0.7]], [[0.3]]]
    some = {"mask": mask, "resets": resets, "reverse": True}
    three = ("params", "state", "xs")
    four = (*three, "reset_state")
    plain = referee.pullback(CELLS[name].rnn_autodiff)  # shared: it compiles once
    for title, names, hand, auto in (
        ("", three, {}, {}),
        (", unroll=3", three, {"unroll": 3}, {}),
        (", residuals=3", three, {"residuals": 3}, {}),
        (', residuals="auto"', three, {"residuals": "auto"}, {}),
        (", reverse", three, {"reverse": True}, {"reverse": True}),
        (", lengths", three, {"lengths": lengths}, {"mask": valid}),
        (", mask", three, {"mask": mask}, {"mask": mask}),
        (", resets", three, {"resets": resets}, {"resets": resets}),
        (
            ALL,
            four,
            {**some, "lengths": lengths, "residuals": 2, "unroll": 2},
            {**some, "mask": mask & valid},
        ),
    ):
        by_hand = asked(CELLS[name].rnn, hand)
        by_jax = asked(CELLS[name].rnn_autodiff, auto)
        route, against = referee.pullback(by_hand), referee.pullback(by_jax) if auto else plain
        yield Sequence(name + title, names, auto.get("mask"), by_hand, by_jax, route, against)


def asked(rnn, options):
    """The sequence with options; a fourth argument is the state that resets lead to."""

    def with_options(params, state, xs, reset_state=None):
        return rnn(params, state, xs, reset_state=reset_state, **options)

    return with_options


def cell_cases(name, size, seed):
    """One step, the sequence with each of its options, and a tiny sequence beside differences."""
    kit, (T, B, D, H) = CELLS[name], size
    arguments = functools.partial(sequence_args, kit, D, H, seed=seed)

    def step(dtype):
        params, state, xs = arguments((1, B), dtype)
        return params, state, xs[0]

    routes = referee.pullback(kit.cell), referee.pullback(kit.cell_autodiff)
    yield beside(f"{name}_cell", *routes, names=("params", "state", "x"), args=step, seed=seed)

    every = list(sequences(name, T, B, seed))
    for title, names, padding, _, _, *routes in every:
        args = functools.partial(arguments, (T, B), names=names, padding=padding)
        yield beside(title, *routes, names=names, args=args, seed=seed)

    def scanned(params, state, xs):
        return jax.lax.scan(functools.partial(kit.cell, params), state, xs)

    def last(rnn):
        return referee.pullback(lambda *args: rnn(*args)[0])

    _, names, _, _, _, *plain = every[0]
    for title, leading, routes in (
        (f"{name}_cell in lax.scan", (T, B), (referee.pullback(scanned), plain[1])),
        (f"{name}, last state alone", (T, B), (last(kit.rnn), last(kit.rnn_autodiff))),
        (f"{name}, no batch axis", (T,), plain),
        (f"{name}, T=53, B=128", LONG, plain),
    ):
        args = functools.partial(arguments, leading)
        yield beside(title, *routes, names=names, args=args, seed=seed)

    tiny = tuple(map(min, size, TINY))
    T, B, D, H = tiny
    for sequence in every if tiny == size else sequences(name, T, B, seed):
        if sequence.title in (name, name + ALL):
            names = sequence.names
            args = functools.partial(sequence_args, kit, D, H, (T, B), seed=seed, names=names)
            yield differences(sequence, args, seed)


def cases(cells, size, seed):
    yield from stage_cases(size, seed)
    yield from output_cases(size, seed)
    for name in cells:
        yield from cell_cases(name, size, seed)


# Arguments of the cases -----------------------------------------------------------------------


def cast(tree, dtype):
    """Floating-point arrays in the dtype, all others as they are."""
    dtype = jnp.dtype(dtype)
    return jax.tree.map(lambda x: x.astype(dtype) if x.dtype == float else x, tree)


def sequence_args(kit, D, H, leading, dtype, *, seed, names=(), padding=None) -> tuple[Any, ...]:
    """params, state, xs with random numbers everywhere, also in h and c before the first step.

    Weights are scaled by 1/sqrt(rows), so that gates stay open at any size: where tanh saturates,
    1 - tanh² has no digits left to compare. Where `padding`, a mask, is False, xs holds NaN: none
    of it may reach a gradient. A fourth argument, if named, is another state.
    """
    rng = np.random.default_rng(seed)
    params = jax.eval_shape(lambda: kit.init(jax.random.key(0), D, H, dtype=jnp.dtype(dtype)))
    state = jax.eval_shape(lambda params: kit.init_state(params, leading[1:]), params)

    def draw(x, scale=1.0):
        return np.asarray(scale * rng.standard_normal(x.shape)).astype(x.dtype)

    params = jax.tree.map(lambda x: draw(x, 0.5 / x.shape[0] ** 0.5 if x.ndim > 1 else 0.5), params)
    xs = rng.standard_normal((*leading, D))
    if padding is not None:
        xs[~padding] = np.nan
    args = params, jax.tree.map(draw, state), xs.astype(jnp.dtype(dtype))
    return (*args, jax.tree.map(draw, state)) if "reset_state" in names else args


# All of it ------------------------------------------------------------------------------------


def rows(cells, dtypes, size, seed):
    """Every case at every dtype, a list of rows each, as they are ready."""

    def run(job):
        case, dtype = job
        with referee.precisely():
            try:
                return list(case.rows(dtype))
            except Exception as error:
                note = referee.first_line(error)
                return [referee.failure(case.title, "all", "jax.vjp", dtype, note)]

    jobs = [(case, dtype) for case in cases(cells, size, seed) for dtype in dtypes]
    workers = ThreadPoolExecutor(max_workers=2)  # JAX compiles the next case beside this one
    try:
        yield from workers.map(run, jobs)
    finally:
        workers.shutdown(cancel_futures=True)
