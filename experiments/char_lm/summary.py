"""The numbers of a run of char_lm, for programs and for people."""

import math

import numpy as np

from experiments.kit import check_gradients, record
from experiments.kit.plots import column
from experiments.kit.report import clock
from jax_lstm.training.update import BITS


def summarise(directory, seconds):
    """The run in numbers, all but the last from its metrics.jsonl."""
    lines = record.read_lines(directory / "metrics.jsonl")
    steps, validations, tests, rows, compilations, repeats = (
        [line for line in lines if line["kind"] == kind]
        for kind in ("step", "validation", "test", "gradient", "compiled", "repeat")
    )
    test = {
        name: tests[-1][of]
        for name, of in (("test_bits", "bits"), ("test_nats", "nats"), ("floor_nats", "floor_nats"))
        if tests
    }
    config = record.read_json(directory / "config.json")
    trained = "autodiff" if config["config"].get("gradient") == "auto" else "by_hand"
    best = min(validations, key=lambda line: line["nats"])
    size = config["config"]["window"] * config["config"]["streams"]
    tail = column(steps[-100:], "bits")
    return {
        "text": config["text"],
        "parameters": config["parameters"],
        "steps": len(steps),
        "characters": len(steps) * size,
        "uniform_bits": math.log2(len(config["vocabulary"])),
        "training_bits": float(np.nanmean(tail)),
        "validation_bits": best["bits"],
        "validation_nats": best["nats"],
        "validation_step": best["step"],
        "last_validation_nats": validations[-1]["nats"],
        **test,
        "characters_per_second": len(steps) * size / sum(line["seconds"] for line in steps),
        "gradients_agree": check_gradients.agree(rows) if rows else None,
        "gradients_relative": max((row["relative"] for row in rows), default=None),
        "gradients_relative_float64": max((row["float64"] for row in rows), default=None),
        "repeat": compare_repeats(trained, steps, compilations, repeats) if repeats else None,
        "seconds": seconds,
    }


def compare_repeats(trained, steps, compilations, repeats):
    """How far the two loss curves are apart, and what a step of each costs."""
    nats, seconds = (
        {
            name: np.array([line[key] for line in repeats if line["route"] == name])
            for name in ("by_hand", "autodiff")
        }
        for key in ("nats", "seconds")
    )
    first = column(steps[: len(nats["by_hand"])], "nats")
    apart = np.abs(nats["by_hand"] - nats["autodiff"]) * BITS
    costs = {
        line["route"]: {
            "milliseconds_median": float(np.median(seconds[line["route"]]) * 1e3),
            "milliseconds_least": float(seconds[line["route"]].min() * 1e3),
            "temp_bytes": line["temp_bytes"],
            "compile_seconds": line["seconds"],
        }
        for line in compilations
    }
    return {
        "steps": len(apart),
        "bits_apart_largest": float(apart.max()),
        "bits_apart_mean": float(apart.mean()),
        "bits_apart_last": float(apart[-1]),
        "bits_apart_by_hand_again": float(np.abs(nats[trained] - first).max() * BITS),
        **costs,
    }


def test_lines(summary):
    """That of the test part, where it was read."""
    if "test_nats" not in summary:
        return []
    return [
        f"test text, read once  {summary['test_bits']:.4f} bits = {summary['test_nats']:.4f} nats "
        f"per character (frequencies of training: {summary['floor_nats']:.3f} nats)"
    ]


def summary_table(summary):
    """A summary for people."""
    lines = [
        f"held-out text         {summary['validation_bits']:.4f} bits = "
        f"{summary['validation_nats']:.4f} nats per character, after step "
        f"{summary['validation_step']} (no model: {summary['uniform_bits']:.2f} bits)",
        *test_lines(summary),
        f"training, last steps  {summary['training_bits']:.4f} bits per character",
        f"speed                 {summary['characters_per_second']:,.0f} characters per second",
    ]
    if summary["gradients_agree"] is None:
        lines.append("gradients             not compared (--skip-check)")
    else:
        lines.append(
            f"gradients             {'agree' if summary['gradients_agree'] else 'DISAGREE'}; by "
            f"norm {summary['gradients_relative']:.1e} apart, "
            f"{summary['gradients_relative_float64']:.1e} in float64"
        )
    if both := summary["repeat"]:
        hand, auto = both["by_hand"], both["autodiff"]
        lines += [
            f"loss curves           over {both['steps']} steps at most "
            f"{both['bits_apart_largest']:.1e} bits apart, {both['bits_apart_mean']:.1e} in the "
            f"mean; by hand twice {both['bits_apart_by_hand_again']:.1e}",
            f"{'':22}{'by hand':>10} {'autodiff':>10} {'ratio':>7}",
        ]
        for title, key, unit in (
            ("ms per step, median", "milliseconds_median", 1),
            ("ms per step, least", "milliseconds_least", 1),
            ("temp memory, MiB", "temp_bytes", 2**20),
            ("compilation, s", "compile_seconds", 1),
        ):
            a, b = hand[key] / unit, auto[key] / unit
            lines.append(f"{title:22}{a:10.2f} {b:10.2f} {a / b:7.2f}")
    return "\n".join([*lines, f"all of it took {clock(summary['seconds'])} minutes"])
