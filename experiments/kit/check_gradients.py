"""Is the gradient by hand that of jax.grad? Leaf by leaf, in float32 and in float64."""

from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from experiments.kit import stop
from experiments.kit.config import Failed
from experiments.kit.errors import relative_error
from experiments.kit.record import append_lines, leaves
from jax_lstm.referee.comparison import EPS, FACTOR, PRECISION, ROUNDING

RUN_ONCE = {"xla_backend_optimization_level": 0}  # compiling is what such a program costs


def compare(losses, params, state, *batch):
    """A row per leaf of params and incoming state: by hand beside autodiff, both beside float64.

    Args:
      losses: {"by_hand": loss, "autodiff": loss}, each `loss(params, state, *batch) -> (number,
        state)`.
      params, state, batch: the model and one batch.

    Returns:
      rows: dicts: leaf, shape; max_abs, relative, angle (1 - cosine) of the two on the whole batch
        in the model's dtype; by_hand_64 and autodiff_64, the error of each by norm relative to
        autodiff in float64; float64, how far apart the two are there.
    """
    args = (params, state, *batch)
    wide = jax.tree.map(widened, args)
    with jax.default_matmul_precision(PRECISION):
        lowered = [lower(loss, *args) for loss in losses.values()]
        with jax.enable_x64(True):
            lowered += [lower(loss, *wide) for loss in losses.values()]
    programs = stop.aside(compile_side_by_side, lowered)
    single = dict(zip(losses, programs, strict=False))
    double = dict(zip(losses, programs[len(losses) :], strict=True))
    got = {k: gradient(single[k], *args) for k in losses}
    with jax.enable_x64(True):
        exact = {k: gradient(double[k], *wide) for k in losses}
    by_hand, autodiff, truth = got["by_hand"], got["autodiff"], exact["autodiff"]
    return [
        {
            "leaf": leaf,
            "shape": want.shape,
            "max_abs": float(np.abs(by_hand[leaf] - autodiff[leaf]).max()),
            "relative": relative_error(by_hand[leaf], autodiff[leaf]),
            "angle": angle(by_hand[leaf], autodiff[leaf]),
            "by_hand_64": relative_error(by_hand[leaf], want),
            "autodiff_64": relative_error(autodiff[leaf], want),
            "float64": relative_error(exact["by_hand"][leaf], want),
        }
        for leaf, want in truth.items()
    ]


def widened(x):
    x = np.asarray(x)
    return x.astype(np.float64) if np.issubdtype(x.dtype, np.floating) else x


def compile_side_by_side(lowered):
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda program: program.compile(RUN_ONCE), lowered))


def lower(loss, *args):
    """The loss's gradient by params and incoming state as a program, not yet compiled."""
    return jax.jit(jax.grad(loss, (0, 1), has_aux=True)).lower(*args)


def gradient(program, *args):
    """What the compiled program answers: float64 arrays by name of the leaf."""
    (dparams, dstate), _ = program(*args)
    named = leaves(dparams) | {f"state.{k}": leaf for k, leaf in leaves(dstate).items()}
    return {k: np.asarray(leaf, np.float64) for k, leaf in named.items()}


def angle(got, want):
    """1 - cosine, as ½ ‖got/‖got‖ - want/‖want‖‖², which loses no digits."""
    got, want = (x / (np.linalg.norm(x) or 1.0) for x in (got, want))
    return float(0.5 * np.linalg.norm(got - want) ** 2)


def agree(rows):
    """By the referee's rule, by norm: to rounding in float64, and in float32 hardly further from
    float64 than autodiff is."""
    few = EPS[32] * float(np.finfo(np.float32).eps)
    return all(
        row["float64"] <= ROUNDING.relative
        and row["by_hand_64"] <= FACTOR * row["autodiff_64"] + few
        for row in rows
    )


def check(losses, directory, params, state, *batch):
    """Compare, write the rows into the run's metrics.jsonl, print them.

    Raises:
      Failed: the two do not agree.
    """
    rows = compare(losses, params, state, *batch)
    append_lines(directory / "metrics.jsonl", [{"kind": "gradient", **row} for row in rows])
    print(f"{table(rows)}\n")
    if not agree(rows):
        raise Failed("the gradient by hand is not that of jax.grad")


def table(rows):
    """For people."""
    wide = max([12, *(len(row["leaf"]) + 1 for row in rows)])
    lines = [
        "The gradient on the first batch, by hand and by jax.grad; relative errors by norm.",
        f"{'':{wide + 14}}{'by hand - autodiff, float32':29} | {'float32 - float64':19} | float64",
        f"{'leaf':{wide}}{'shape':>13} {'max abs':>9} {'relative':>9} {'1-cosine':>9} | "
        f"{'by hand':>9} {'autodiff':>9} | {'apart':>7}",
    ]
    for row in rows:
        shape = " x ".join(map(str, row["shape"]))
        first = " ".join(f"{row[k]:9.1e}" for k in ("max_abs", "relative", "angle"))
        second = " ".join(f"{row[k]:9.1e}" for k in ("by_hand_64", "autodiff_64"))
        lines.append(f"{row['leaf']:{wide}}{shape:>13} {first} | {second} | {row['float64']:7.1e}")
    verdict = "agree to rounding" if agree(rows) else "DISAGREE"
    return "\n".join([*lines, f"The two {verdict} (matrix products at precision {PRECISION!r})."])
