"""GradBench's protocol: a line of JSON comes in, a line of JSON goes out.

    python -m experiments.gradbench serve

`start`, `define` and `evaluate` of the module "lstm", functions "objective" and "jacobian"; the
output of the latter is the gradient by main and then by extra, row by row. Times are those of the
calls alone, until the result is there; the program for new sizes is compiled before. Like the JAX
of GradBench it keeps to one core, unless --multithreaded is given.
"""

import argparse
import json
import os
import sys
import time
import traceback

import jax
import numpy as np

from experiments.gradbench.problem import Problem, check
from experiments.gradbench.wavefront import jacobian, objective

FUNCTIONS = {"objective": jax.jit(objective), "jacobian": jax.jit(jacobian)}
INPUTS = ("main_params", "extra_params", "state", "sequence")


def one_core():
    """This process on the first of the cores that it may use, where the system can do that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def evaluate(message):
    if message["module"] != "lstm":
        raise ValueError(f"module must be 'lstm'; got {message['module']!r}")
    if message["function"] not in FUNCTIONS:
        raise ValueError(f"function must be one of {[*FUNCTIONS]}; got {message['function']!r}")
    given = message["input"]
    missing = [name for name in INPUTS if name not in given]
    if missing:
        raise ValueError(f"input has no {missing[0]}")
    args = jax.device_put(check(Problem(*(given[name] for name in INPUTS))))
    call = FUNCTIONS[message["function"]].lower(*args).compile()
    runs = given.get("runs", given.get("min_runs", 1))
    seconds = given.get("min_seconds", 0)
    output, timings = jax.block_until_ready(call(*args)), []
    while len(timings) < max(runs, 1) or sum(timings) < seconds * 1e9:
        began = time.perf_counter_ns()
        output = jax.block_until_ready(call(*args))
        timings.append(time.perf_counter_ns() - began)
    return {
        "success": True,
        "output": np.concatenate([np.ravel(x) for x in jax.tree.leaves(output)]).tolist()
        if message["function"] == "jacobian"
        else float(output),
        "timings": [{"name": "evaluate", "nanoseconds": n} for n in timings],
    }


def answer(message):
    """The response to a message: never an exception, but what was wrong as a text."""
    try:
        match message["kind"]:
            case "start":
                return {"tool": "jax_lstm"}
            case "define":
                return {"success": message["module"] == "lstm"}
            case "evaluate":
                return evaluate(message)
        return {}
    except Exception as error:  # the client waits for an answer, and is told whatever it is
        return {"success": False, "error": "".join(traceback.format_exception_only(error)).strip()}


def main(argv=None):
    parser = argparse.ArgumentParser("python -m experiments.gradbench serve", description=__doc__)
    parser.add_argument("--multithreaded", action="store_true", help="use every core")
    if not parser.parse_args(argv).multithreaded:
        one_core()
    jax.config.update("jax_enable_x64", True)
    for line in sys.stdin:
        try:
            message = json.loads(line)
            number = {"id": message["id"]}
        except (ValueError, KeyError, TypeError):
            print(f"gradbench: no message: {line.strip():.80}", file=sys.stderr)
            return 2
        print(json.dumps(number | answer(message)), flush=True)
    return 0
