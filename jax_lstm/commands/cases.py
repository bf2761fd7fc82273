"""What `python -m jax_lstm check` checks: the comparisons it makes, of every stage and every cell.

The referee knows no cell: functions are passed to it, and arguments to try them at. Stages come
from `stages.TWINS`, cells from `cells.CELLS`; an option of the sequence is a row of `sequences`.
"""

import functools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jax_lstm
from jax_lstm import referee
from jax_lstm.cells import CELLS
from jax_lstm.engine.forward_mode import make_jvp
from jax_lstm.engine.products import make_hvp
from jax_lstm.engine.routes import init_state, make_cell, make_rnn
from jax_lstm.engine.shapes import is_wide, shape_of
from jax_lstm.kernels import cpu
from jax_lstm.notation import wide
from jax_lstm.stages import TWINS, twins

DTYPES = ("float64", "float32", "bfloat16", "float16")
ROUTES = {"xla": CELLS, "cpu": {"lstm": cpu.lstm}}  # the cells of each, or what runs them there
DTYPES_OF = {"xla": DTYPES, "cpu": cpu.DTYPES}
LONG = (53, 128)  # T and B at which residuals="full" walks in more than one segment
TINY = (7, 2, 3, 5)  # at most: differences move every element of every input
ALL = ", all at once"
V = 6


class Case(NamedTuple):
    """One comparison: `rows(dtype)` runs it."""

    title: str
    rows: Callable[[str], Iterable[referee.Row]]


# Cases ----------------------------------------------------------------------------------------


def beside(title, route, against, *, names, args, seed):
    """A route beside `jax.vjp` of the autodiff twin, at the arguments `args(dtype)`."""

    def rows(dtype):
        routes = {title: route, "jax.vjp": against}
        return referee.compare_routes(routes, args(dtype), names=names, seed=seed)

    return Case(title, rows)


def differences(sequence, args, seed):
    """A sequence beside differences of its values, at the arguments `args(dtype)`."""
    title, names, _, by_hand, by_jax, route, against, _ = sequence

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
    for title, twin in TWINS.items():
        stage, names = twins.as_jax_sees_it(twin), [name for name, _ in twin.args]
        args, static = draw_args(twin, size, seed)
        routes = (
            referee.twins(
                functools.partial(with_static, stage, static),
                functools.partial(answer, twin, static),
            ),
            referee.pullback(functools.partial(with_static, stage, static)),
        )
        args = functools.partial(twins.in_dtype, args)
        yield beside(title, *routes, names=names, args=args, seed=seed)


def draw_args(twin, size, seed):
    """Random arguments of a stage, and its static ones."""
    sizes = dict(zip("TBDH", size, strict=True)) | {"V": V}
    args = twins.draw(twin, sizes, np.random.default_rng(seed))
    n = len(twin.args)
    return args[:n], args[n:]


def with_static(stage, static, *args):
    return stage(*args, *static)


def answer(twin, static, args, y, dy):
    """The twin's answers; zeros for what has no cotangent but might have had one for JAX."""
    found = twins.cotangents(twin, (*args, *static), y, dy)[: len(args)]
    return tuple(
        0 * x if d is None and is_float(x) else d for d, x in zip(found, args, strict=True)
    )


def is_float(x):
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)


def public_cases(size, seed):
    """The readout, the embedding and the losses, as people call them."""
    for title, twin in TWINS.items():
        name = title.split(" ")[0]
        if not hasattr(jax_lstm, f"{name}_autodiff"):
            continue
        routes = [referee.pullback(getattr(jax_lstm, k)) for k in (name, f"{name}_autodiff")]
        args, _ = draw_args(twin, size, seed)
        names, args = [name for name, _ in twin.args], functools.partial(twins.in_dtype, args)
        yield beside(f"{title}, with its rule", *routes, names=names, args=args, seed=seed)


class AskedSequence(NamedTuple):
    """A sequence asked for something, by hand and by JAX, and the routes to their gradients.

    names: of the arguments. padding: the mask, where there is one. options: as they are given to
    the functions by hand.
    """

    title: str
    names: tuple[str, ...]
    padding: Any
    by_hand: Callable[..., Any]
    by_jax: Callable[..., Any]
    route: Callable[..., Any]
    against: Callable[..., Any]
    options: dict[str, Any]


def sequences(name, T, B, seed, route="xla"):
    """Everything that can be asked of a sequence. JAX gets plain options: segments and unrolling
    are nothing to it, lengths are a mask."""
    rng = np.random.default_rng(seed)
    lengths = np.resize([T // 2, T, 0, 1, T - 1], B).clip(0, T).astype(np.int32)
    valid = np.arange(T)[:, None] < lengths
    mask, resets = rng.random((2, T, B)) < [[[0.7]], [[0.3]]]
    some = {"mask": mask, "resets": resets, "reverse": True}
    three = ("params", "state", "xs")
    four = (*three, "reset_state")
    rnn, rnn_autodiff = make_rnn(CELLS[name], name)
    rnn = rnn if route == "xla" else ROUTES[route][name]
    plain = referee.pullback(rnn_autodiff)  # shared: it compiles once
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
        by_hand = with_options(rnn, hand)
        by_jax = with_options(rnn_autodiff, auto)
        route, against = referee.pullback(by_hand), referee.pullback(by_jax) if auto else plain
        asked = name + title, names, auto.get("mask"), by_hand, by_jax, route, against
        yield AskedSequence(*asked, hand)


def with_options(rnn, options):
    """The sequence with options; a fourth argument is the state that resets lead to."""

    def run(params, state, xs, reset_state=None):
        return rnn(params, state, xs, reset_state=reset_state, **options)

    return run


def cell_cases(name, size, seed, route="xla"):
    """One step, the sequence with each of its options, and a tiny sequence beside differences. Of
    another route than XLA's the sequence alone."""
    cell, (T, B, D, H) = CELLS[name], size
    step_by_hand, step_by_jax = make_cell(cell, f"{name}_cell")
    rnn, rnn_autodiff = make_rnn(cell, name)
    arguments = functools.partial(sequence_args, cell, D, H, seed=seed)

    def step(dtype):
        params, state, xs = arguments((1, B), dtype)
        return params, state, xs[0]

    if route == "xla":
        routes = referee.pullback(step_by_hand), referee.pullback(step_by_jax)
        yield beside(f"{name}_cell", *routes, names=("params", "state", "x"), args=step, seed=seed)

    every = list(sequences(name, T, B, seed, route))
    for title, names, padding, _, _, *routes, _ in every:
        args = functools.partial(arguments, (T, B), names=names, padding=padding)
        yield beside(title, *routes, names=names, args=args, seed=seed)
    args = functools.partial(arguments, (T, B), names=every[-1].names, padding=every[-1].padding)
    if route == "xla":
        yield from direction_cases(cell, every[-1], args, seed)

    def scan(params, state, xs):
        return jax.lax.scan(functools.partial(step_by_hand, params), state, xs)

    def last(rnn):
        return referee.pullback(lambda *args: rnn(*args)[0])

    _, names, _, _, _, *plain, _ = every[0]
    for title, leading, routes in (
        (f"{name}_cell in lax.scan", (T, B), (referee.pullback(scan), plain[1])),
        (f"{name}, last state alone", (T, B), (last(rnn), last(rnn_autodiff))),
        (f"{name}, no batch axis", (T,), plain),
        (f"{name}, T=53, B=128", LONG, plain),
    ):
        if route == "xla" or "_cell" not in title:
            args = functools.partial(arguments, leading)
            yield beside(title, *routes, names=names, args=args, seed=seed)

    tiny = tuple(map(min, size, TINY))
    T, B, D, H = tiny
    for sequence in every if tiny == size else sequences(name, T, B, seed, route):
        if sequence.title in (name, name + ALL):
            names = sequence.names
            args = functools.partial(sequence_args, cell, D, H, (T, B), seed=seed, names=names)
            yield differences(sequence, args, seed)


def direction_cases(cell, sequence, args, seed):
    """The tangent of a sequence, and the product of a loss's Hessian with a direction."""

    def asked(product, *more):
        def run(args, dots):
            fresh = args[3] if len(args) > 3 else None
            options = sequence.options | {"reset_state": fresh}
            return product(*args[:3], dots, *more, **options)[-2:]

        return run

    def loss(state, hs):
        return sum(jnp.sin(x).astype(wide(x.dtype)).sum() for x in jax.tree.leaves((state, hs)))

    by_jax = sequence.by_jax
    for kind, ours, function in (
        ("jvp", asked(make_jvp(cell)), by_jax),
        ("hvp", asked(make_hvp(cell), loss), lambda *args: loss(*by_jax(*args))),
    ):
        title = f"{cell.name}, {kind}"
        routes = {title: ours, f"jax.{kind}": function}
        yield Case(
            title,
            functools.partial(direction_rows, kind, routes, args, sequence.names, seed),
        )


def direction_rows(kind, routes, args, names, seed, dtype):
    return referee.compare_directions(kind, routes, args(dtype), names=names, seed=seed)


def cases(cells, size, seed, route="xla"):
    """Of the stages and the losses too, which are XLA's."""
    if route == "xla":
        yield from stage_cases(size, seed)
        yield from public_cases(size, seed)
    for name in cells:
        yield from cell_cases(name, size, seed, route)


# Arguments of the cases -----------------------------------------------------------------------


def sizes_for(cell, D, H):
    """{letter: size}: D and H, and for every other letter of the cell's shapes a number of its own,
    so that no transposed axis can pass: two less than hidden units, three less, ..."""
    extra = {letter: max(H - 2 - n, 1) for n, (letter, _) in enumerate(cell.sizes)}
    return {"D": D, "H": H} | extra


def sequence_args(cell, D, H, leading, dtype, *, seed, names=(), padding=None) -> tuple[Any, ...]:
    """params, state, xs with random numbers everywhere, also in h and c before the first step.

    Weights are scaled by 1/sqrt(rows), so that gates stay open at any size: where tanh saturates,
    1 - tanh² has no digits left to compare. Where `padding`, a mask, is False, xs holds NaN: none
    of it may reach a gradient. A fourth argument, if named, is another state.
    """
    rng, dtype, sizes = np.random.default_rng(seed), jnp.dtype(dtype), sizes_for(cell, D, H)

    def weight(text):
        shape = shape_of(text, sizes)
        scale = 0.5 / shape[0] ** 0.5 if len(shape) > 1 else 0.5
        return np.asarray(scale * rng.standard_normal(shape)).astype(dtype)

    def field(text):
        x = rng.standard_normal((*leading[1:], *shape_of(text, sizes)))
        return np.asarray(x).astype(wide(dtype) if is_wide(text) else dtype)

    def state():
        """Clocks, normalisers and stabilisers, which the cell does not let be held, begin as it
        begins them."""
        drawn = cell.state(*(field(text) for _, text in cell.fields))
        if cell.kept is None:
            return drawn
        first = init_state(cell, params, leading[1:])
        return first._replace(**{name: getattr(drawn, name) for name in cell.kept})

    params = cell.params(*(weight(text) for _, text in cell.shapes))
    xs = rng.standard_normal((*leading, D))
    if padding is not None:
        xs[~padding] = np.nan
    args = params, state(), xs.astype(dtype)
    return (*args, state()) if "reset_state" in names else args


# All of it ------------------------------------------------------------------------------------


def rows(cells, dtypes, size, seed, route="xla"):
    """Every case at every dtype, a list of rows each, as they are ready."""

    def run(job):
        case, dtype = job
        with referee.precisely():
            try:
                return list(case.rows(dtype))
            except Exception as error:  # a broken rule may raise anything: the case has failed
                note = referee.first_line(error)
                return [referee.failure(case.title, "all", "jax.vjp", dtype, note)]

    jobs = [(case, dtype) for case in cases(cells, size, seed, route) for dtype in dtypes]
    workers = ThreadPoolExecutor(max_workers=2)  # JAX compiles the next case beside this one
    try:
        yield from workers.map(run, jobs)
    finally:
        workers.shutdown(cancel_futures=True)
