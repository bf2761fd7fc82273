"""The classic mistakes of each stage of the exercise, as the numbers that come of them.

A table is `(args, y, dy) -> {answer: {a mistake: what comes of it}}`, arrays without time.
"""

from typing import Any

import numpy as np

from jax_lstm.diagnosis.catalogue import MEMORY


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


def wrong_sigmoid(args, s, ds):
    again = 1 / (1 + np.exp(-s))
    return {
        "da": {
            "the derivative factor missing": ds,
            "the factor 1 - s missing": ds * s,
            "the factor s missing": ds * (1 - s),
            "ds missing": s * (1 - s),
            "1 + s for 1 - s": ds * s * (1 + s),
            "the derivative factor of tanh": ds * (1 - s * s),
            "sigmoid once more: what is given is the result already": ds * again * (1 - again),
        }
    }


def wrong_tanh(args, t, dt):
    again = np.tanh(t)
    return {
        "da": {
            "the derivative factor missing": dt,
            "dt missing": 1 - t * t,
            "t for t²": dt * (1 - t),
            "1 + t² for 1 - t²": dt * (1 + t * t),
            "t² for 1 - t²": dt * t * t,
            "(1 - t)² for 1 - t²": dt * (1 - t) ** 2,
            "the derivative factor of the sigmoid": dt * t * (1 - t),
            "tanh once more: what is given is the result already": dt * (1 - again**2),
        }
    }


def wrong_cell_state(args, y, dc):
    factor: dict[str, Any] = dict(zip(("f", "c_prev", "i", "g"), args, strict=True))
    partner = {"df": "c_prev", "dc_prev": "f", "di": "g", "dg": "i"}
    table = {}
    for answer, right in partner.items():
        table[answer] = {f"{k} for {right}": dc * x for k, x in factor.items() if k != right}
        table[answer][f"the factor {right} missing"] = dc
        table[answer]["dc missing"] = factor[right]
    table["di"][MEMORY["i and g swapped"]] = table["di"].pop("i for g")
    table["dg"][MEMORY["i and g swapped"]] = table["dg"].pop("g for i")
    table["dc_prev"][MEMORY["1 - f"]] = dc * (1 - args[0])
    return table


def wrong_hidden_state(args, y, dh):
    o, c = args
    t = np.tanh(c)
    return {
        "do": {
            MEMORY["c for tanh(c)"]: dh * c,
            "dh missing": t,
            "the factor tanh(c) missing": dh,
            "1 - tanh²(c) for tanh(c)": dh * (1 - t * t),
        },
        "dc": {
            MEMORY["no slope of tanh(c)"]: dh * o,
            "the factor o missing in dc": dh * (1 - t * t),
            "dh missing": o * (1 - t * t),
            "1 - tanh(c) for 1 - tanh²(c)": dh * o * (1 - t),
            "1 - c² for 1 - tanh²(c)": dh * o * (1 - c * c),
            "tanh²(c) for 1 - tanh²(c)": dh * o * t * t,
            "tanh of tanh(c)": dh * o * (1 - np.tanh(t) ** 2),
            "tanh(c) for 1 - tanh²(c)": dh * o * t,
        },
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
