"""Does it matter by which route a gradient was computed?

    python -m experiments.compare_gradients

One language model, one seed, one text, trained once for each route: the whole sequence by hand;
one step by hand under `lax.scan`; autodiff; and truncated, TBPTT(k, k) inside each window. All
routes read the same batches and take their steps in turn, so that times can be compared.

When does a loss curve differ by more than rounding explains? A training amplifies rounding, so no
fixed tolerance can tell. Instead autodiff is trained `shaken` more times; before every update each
of its parameters is moved by one ulp, up or down at random, about what rounding does to an update
anyway. How far these curves are from autodiff's, at most and so far, is what rounding explains. A
route differs from the first step on at which it is MARGIN times as far away: other formulas round
more than once per number, and a few shaken runs are not all there could be. So a difference that is
reported is one; a smaller one is not shown to be none.

Writes results/compare_gradients/<run>/:
    config.json      what was asked for, the text's sha256, versions
    metrics.jsonl    every number as it came, by kind: compiled, step, validation
    summary.json, routes.png
"""

import dataclasses
import sys
import time
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm
from tyro.conf import arg

from experiments.kit import command, plots, record, report
from experiments.kit import language_model as lm
from experiments.kit.config import BadInput, Bounds, Count, Positive, Size
from experiments.kit.routes import ROUTES
from jax_lstm import tbptt
from jax_lstm.training.update import AUTODIFF, BITS, BY_HAND

MARGIN = 4.0
AUTO = "autodiff"
COLOURS = ("#0072B2", "#E69F00", "#000000", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#F0E442")
DASHES = ("-", "--", ":", "-", "--", "-.", "-", "--")


@dataclass(frozen=True)
class Config(lm.LanguageModelConfig):
    """The options of compare_gradients."""

    megabytes: Positive = 1.0
    hidden: Count = 128
    embedding: Count = 32
    window: Count = 50
    steps: Annotated[int, Bounds(low=2), Size] = 300
    """updates of each route; each reads T x B characters"""
    truncate: Annotated[str, arg(metavar="K,...")] = "5,10,25"
    """k of each truncated route, smaller than the window"""
    shaken: Count = 3
    """trainings by autodiff whose parameters are moved by an ulp in every step"""

    @classmethod
    def tiny(cls):
        """a small text and a small model, done in seconds"""
        return dataclasses.replace(
            super().tiny(), hidden=16, window=12, steps=40, truncate="3", shaken=2
        )


def run(config):
    """The experiment, from a Config to its summary."""
    routes = routes_of(config)
    source = lm.read_text(config)
    data = lm.cut(config, source.characters)
    directory = record.new_directory(config.results, "compare_gradients", config.run)
    with record.explain_interruption(directory):
        return experiment(config, routes, source.about, data, directory)


def experiment(config, routes, about, data, directory):
    began, metrics = time.perf_counter(), directory / "metrics.jsonl"
    facts = report.facts(about, data, lm.init_training(config, data)[0])
    record.write_json(directory / "config.json", {"config": dataclasses.asdict(config), **facts})
    print(report.header(config, facts, directory))
    batch = next(lm.batches(config, data))[1:]
    updates = {}
    for name, route in routes.items():
        updates[name], seconds, temp_bytes = lm.compile_update(config, route, data, batch)
        record.append(metrics, kind="compiled", route=name, seconds=seconds, temp_bytes=temp_bytes)
    every = updates | {
        f"shaken {n}": shake(updates[AUTO], config.seed, n) for n in range(config.shaken)
    }
    train(config, every, list(updates), data, metrics)
    summary = summarise(directory, time.perf_counter() - began)
    record.write_json(directory / "summary.json", summary)
    draw(directory)
    print(table(summary))
    print(f"\n{record.name_files(directory)}")
    return summary


# The routes -----------------------------------------------------------------------------------


def routes_of(config):
    """{name: Route}; autodiff is what the others are compared with."""
    routes = {
        "by hand": BY_HAND,
        "one step by hand": ROUTES["step"],
        AUTO: AUTODIFF,
    }
    for part in config.truncate.split(","):
        if not part.isdecimal() or not 1 <= int(part) < config.window:
            raise BadInput(
                "--truncate",
                f"must be numbers k with 1 <= k < {config.window}, the window; got {part!r}",
            )
        k = int(part)
        routes[f"truncated at {k}"] = BY_HAND._replace(sequence=tbptt(k, k))
    if len(routes) > len(COLOURS):
        raise BadInput("--truncate", f"must be at most {len(COLOURS) - 3} numbers")
    return routes


@jax.jit
def nudge(params, key):
    """Every number to the next float above or below."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    up = [jax.random.bernoulli(k, shape=x.shape) for k, x in zip(keys, leaves, strict=True)]
    ends = [
        jnp.where(u, jnp.inf, -jnp.inf).astype(x.dtype) for u, x in zip(up, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, map(jnp.nextafter, leaves, ends))


def shake(update, seed, n):
    """The update, from parameters that are off by one ulp each."""
    key, steps = jax.random.fold_in(jax.random.key(seed), n), iter(range(sys.maxsize))

    def nudge_and_update(params, *rest):
        return update(nudge(params, jax.random.fold_in(key, next(steps))), *rest)

    return nudge_and_update


# Training -------------------------------------------------------------------------------------


def train(config, updates, validated, data, metrics):
    """Step after step, every route in turn; then each on held-out text."""
    runs, last = [lm.updates_of(config, update, data) for update in updates.values()], ()
    steps = tqdm(range(1, config.steps + 1), unit="step", disable=None)
    for step, last in zip(steps, zip(*runs, strict=True), strict=False):
        for name, (_, nats, norm, seconds) in zip(updates, last, strict=True):
            line = {"route": name, "step": step, "nats": nats, "gradient_norm": norm}
            record.append(metrics, kind="step", **line, seconds=seconds)
    for name, (params, *_) in zip(updates, last, strict=True):
        if name in validated:
            nats = lm.validate(params, data.held_out, config.window)
            record.append(metrics, kind="validation", route=name, nats=nats)


# Afterwards -----------------------------------------------------------------------------------


def curves_of(lines):
    """({route: bits of each step}, {shaken run: likewise}), as far as all of them came."""
    steps = [line for line in lines if line["kind"] == "step"]
    names = list(dict.fromkeys(line["route"] for line in steps))
    bits = {k: [BITS * x["nats"] for x in steps if x["route"] == k] for k in names}
    n = min(map(len, bits.values()))
    every = {k: np.array(x[:n]) for k, x in bits.items()}
    return (
        {k: x for k, x in every.items() if not k.startswith("shaken")},
        {k: x for k, x in every.items() if k.startswith("shaken")},
    )


def rounding(routes, shaken):
    """Bits that rounding explains at each step: the farthest that any shaken run was so far.

    At least one ulp of the loss, which no comparison of two float32 numbers can be below.
    """
    apart = np.max([np.abs(x - routes[AUTO]) for x in shaken.values()], axis=0)
    ulp = np.spacing((routes[AUTO] / BITS).astype(np.float32)).astype(float) * BITS
    return np.maximum.accumulate(np.maximum(apart, ulp))


def first_beyond(apart, explained):
    """The first step, from 1, that rounding does not explain; None if there is none."""
    beyond = np.flatnonzero(apart > MARGIN * explained)
    return int(beyond[0]) + 1 if len(beyond) else None


def summarise(directory, seconds):
    """The run in numbers, from its metrics.jsonl."""
    lines = record.read_lines(directory / "metrics.jsonl")
    routes, others = curves_of(lines)
    explained = rounding(routes, others)
    found = {}
    for name, bits in routes.items():
        compiled, held_out = (
            next(x for x in lines if x["kind"] == kind and x["route"] == name)
            for kind in ("compiled", "validation")
        )
        took = [x["seconds"] for x in lines if x["kind"] == "step" and x["route"] == name]
        apart = np.abs(bits - routes[AUTO])
        found[name] = {
            "validation_bits": held_out["nats"] * BITS,
            "bits_apart_largest": float(apart.max()),
            "bits_apart_mean": float(apart.mean()),
            "bits_apart_last": float(apart[-1]),
            "first_step_beyond_rounding": first_beyond(apart, explained),
            "milliseconds_least": float(np.min(took) * 1e3),
            "milliseconds_median": float(np.median(took) * 1e3),
            "temp_bytes": compiled["temp_bytes"],
            "compile_seconds": compiled["seconds"],
        }
    return {
        "steps": len(routes[AUTO]),
        "margin": MARGIN,
        "rounding_explains_bits_last": float(explained[-1]),
        "routes": found,
        "seconds": seconds,
    }


def table(summary):
    """A summary for people."""
    head = ("held out", "apart, max", "mean", "beyond", "ms, min", "median", "temp", "compiled")
    lines = [
        f"Loss curves in bits per character, beside {AUTO}'s; rounding explains "
        f"{summary['rounding_explains_bits_last']:.1e} by the last step, x {summary['margin']:g}",
        f"{'':18}" + "".join(f"{title:>11}" for title in head),
        f"{'':18}"
        + "".join(f"{unit:>11}" for unit in ("bits", "bits", "bits", "step", "", "", "MiB", "s")),
    ]
    for name, x in summary["routes"].items():
        first = x["first_step_beyond_rounding"]
        lines.append(
            f"{name:18}{x['validation_bits']:11.4f}{x['bits_apart_largest']:11.1e}"
            f"{x['bits_apart_mean']:11.1e}{first or 'none':>11}{x['milliseconds_least']:11.2f}"
            f"{x['milliseconds_median']:11.2f}{x['temp_bytes'] / 2**20:11.2f}"
            f"{x['compile_seconds']:11.2f}"
        )
    return "\n".join([*lines, f"all of it took {report.clock(summary['seconds'])} minutes"])


def draw(directory):
    """routes.png: the curves, how far they are from autodiff's, and what a step costs."""
    lines = record.read_lines(directory / "metrics.jsonl")
    plots.save(directory / "routes.png", picture, lines)


def picture(figure, lines):
    routes, others = curves_of(lines)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.2, 1.4, 0.8))
    style = {k: {"color": COLOURS[n], "linestyle": DASHES[n]} for n, k in enumerate(routes)}
    steps = np.arange(1, len(routes[AUTO]) + 1)
    window = max(1, len(steps) // 30)
    for name, bits in routes.items():
        left.plot(steps, plots.smooth(bits, window), label=name, linewidth=1.4, **style[name])
    left.legend(frameon=False, fontsize=8)
    mean = f", mean of {window} steps" if window > 1 else ""
    plots.tidy(left, f"Loss{mean}", "step", "bits per character")

    explained = rounding(routes, others)
    floor = explained[0] / 4  # what is equal to the bit is drawn here
    middle.fill_between(steps, floor / 30, MARGIN * explained, color="#bbbbbb", alpha=0.6, lw=0)
    middle.annotate(
        "rounding explains what is grey",
        (0.03, 0.03),
        xycoords="axes fraction",
        color="#444444",
        fontsize=8,
    )
    for name, bits in routes.items():
        if name != AUTO:
            apart = np.maximum(np.abs(bits - routes[AUTO]), floor)
            middle.plot(steps, apart, linewidth=1, **style[name])
    middle.set_yscale("log")
    middle.set_ylim(bottom=floor / 30)
    plots.tidy(middle, f"Distance from {AUTO}", "step", "bits per character")

    names = list(routes)[::-1]
    took = [
        [1e3 * x["seconds"] for x in lines if x.get("route") == k and "step" in x] for k in names
    ]
    right.barh(names, [np.median(x) for x in took], color=[style[k]["color"] for k in names])
    right.plot([np.min(x) for x in took], names, "|", color="#888888", ms=12, mew=2)
    plots.tidy(right, "A step: median, | least", "milliseconds", "")
    right.tick_params(axis="y", labelsize=8)


def main(argv=None):
    return command.main(Config, run, "python -m experiments.compare_gradients", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
