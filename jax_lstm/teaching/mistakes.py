"""The classic mistakes of each stage of the exercise, as the numbers that come of them.

A table is `(args, y, dy) -> {answer: {a mistake: what comes of it}}`, arrays without time.
"""

from typing import Any

import numpy as np

from jax_lstm.diagnosis.factors import CELL, HIDDEN_C, HIDDEN_O, OF_CELL, PARTNERS, SIGMOID, TANH
from jax_lstm.diagnosis.sentences import MEMORY


def sums(each):
    """What was to be added over the examples, (B, ...)."""
    return {
        "the sum over the examples missing": each,
        "the mean over the examples where their sum belongs": each.mean(0),
        "the first example alone": each[0],
        "the last example alone": each[-1],
    }


def wrong_linear(args, y, dy):
    x, W = args
    return {
        "dx": {"dy missing: a sum of Wᵀ": np.broadcast_to(W.sum(1), x.shape)},
        "dW": sums(x[:, :, None] * dy[:, None, :])
        | {"x missing: dy alone, summed": np.broadcast_to(dy.sum(0), W.shape)},
    }


def wrong_bias(args, y, dy):
    return {"dy": {"b where dy belongs": args[1] + 0 * dy}, "db": sums(dy)}


def times(dy, table, *args):
    """Each wrong factor of a table, times the cotangent; the sign is anywhere's."""
    return {says: dy * factor(*args) for says, factor in table.values() if "sign" not in says}


def wrong_sigmoid(args, s, ds):
    return {"da": times(ds, SIGMOID, s) | {"ds missing": s * (1 - s)}}


def wrong_tanh(args, t, dt):
    return {"da": times(dt, TANH, t) | {"dt missing": 1 - t * t}}


def wrong_cell_state(args, y, dc):
    factor: dict[str, Any] = dict(zip(OF_CELL, args, strict=True))
    table = {}
    for answer, right in PARTNERS.items():
        table[answer] = times(dc, CELL[answer], *args)
        table[answer]["dc missing"] = factor[right]
    table["di"][MEMORY["i and g swapped"]] = table["di"].pop("i for g")
    table["dg"][MEMORY["i and g swapped"]] = table["dg"].pop("g for i")
    table["dc_prev"][MEMORY["1 - f"]] = dc * (1 - args[0])
    return table


def wrong_hidden_state(args, y, dh):
    o, c = args
    t = np.tanh(c)
    dc = {MEMORY["no slope of tanh(c)"]: dh * o} | times(dh, HIDDEN_C, o, c, t)
    return {
        "do": times(dh, HIDDEN_O, o, c, t) | {"dh missing": t},
        "dc": dc | {"dh missing": o * (1 - t * t)},
    }


def wrong_fork(args, y, dxs):
    return {
        "dx": {
            "the first branch alone": dxs[0],
            "the last branch alone: the others dropped": dxs[-1],
            "the first branch dropped": dxs[1] + dxs[2],
            "the mean of the branches where their sum belongs": sum(dxs) / 3,
            "the product of the branches where their sum belongs": dxs[0] * dxs[1] * dxs[2],
        }
    }


WRONG_BY_STAGE = {  # (args, y, dy) -> {answer: {a mistake: what comes of it}}
    "linear": wrong_linear,
    "bias": wrong_bias,
    "sigmoid": wrong_sigmoid,
    "tanh": wrong_tanh,
    "cell_state": wrong_cell_state,
    "hidden_state": wrong_hidden_state,
    "fork": wrong_fork,
}


def anywhere(answer, truths, examples):
    """Mistakes that any twin can make."""
    truth = truths[answer]
    return {
        "the sign": -truth,
        "zero": 0 * truth,
        "half of it": truth / 2,
        "twice it": 2 * truth,
        "divided by the number of examples": truth / examples,
    } | {f"{k} in its place: the answers in another order": x for k, x in truths.items()}
