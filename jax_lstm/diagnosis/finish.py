"""What was done to a gradient at the end, as its owner says: weight decay, then clipping.

    dX + λ X        clip(dX, -v, v)        dX min(1, n / ‖every dX‖)        of every weight X

That is no mistake; what can go wrong in it is. See settings.py.
"""

import functools

import numpy as np

from jax_lstm.diagnosis.settings import NUMBERS

KNOWN = ("weight_decay", "clip_value", "clip_norm")
assert set(KNOWN) <= set(NUMBERS)


def finishing(params, settings):
    """(change or None, {name: (sentence, change)} of the mistakes in it).

    params: {"W": ...}. settings: see settings.py.
    """
    said = {k: settings[k] for k in KNOWN if k in settings}
    change = functools.partial(finish, params=params)
    uphill = {"update sign": (UPHILL, lambda d: negate(change(d, **said), params))}
    uphill = uphill if "learning_rate" in settings else {}
    if not said:
        return None, uphill
    wrong = uphill | {f"{k} left out": (SAYS[k], without(change, said, k)) for k in said}
    if "weight_decay" in said:
        decay = said["weight_decay"]
        other = {
            "weight_decay twice": (
                "weight decay twice (λ w² in the loss, without its ½)",
                2 * decay,
            ),
            "weight_decay sign": ("the sign of the weight decay", -decay),
        }
        for name, (says, factor) in other.items():
            wrong[name] = says, functools.partial(change, **said | {"weight_decay": factor})
        matrices = {k: x for k, x in params.items() if np.ndim(x) > 1}
        says = "weight decay of the matrices alone, not of the biases"
        wrong["weight_decay of matrices"] = (
            says,
            functools.partial(change, decayed=matrices, **said),
        )
        if len(said) > 1:
            says = "weight decay after the clipping, not before"
            wrong["weight_decay late"] = says, functools.partial(change, late=True, **said)
    if {"clip_value", "clip_norm"} & set(said):
        says = "clipping of every array, not of the weights' gradients alone"
        wrong["clip of everything"] = says, functools.partial(change, everything=True, **said)
    if "clip_norm" in said:
        says = "clipping by norm leaf by leaf, not by the norm of all"
        wrong["clip_norm of each"] = says, functools.partial(change, each=True, **said)
    return functools.partial(change, **said), wrong


UPHILL = "the sign of the update: plus, not minus, the learning rate times the gradient"


def negate(gradient, params):
    weights = {"db again", *(f"d{k}" for k in params)}
    return {k: -x if k in weights else x for k, x in gradient.items()}


SAYS = {
    "weight_decay": "the weight decay left out",
    "clip_value": "the clipping left out",
    "clip_norm": "the clipping left out",
}


def without(change, said, name):
    return functools.partial(change, **{k: x for k, x in said.items() if k != name})


def finish(
    gradient,
    params,
    weight_decay=0.0,
    clip_value=np.inf,
    clip_norm=np.inf,
    decayed=None,
    late=False,
    everything=False,
    each=False,
):
    weights = [f"d{k}" for k in params if f"d{k}" in gradient]
    some = {f"d{k}": x for k, x in (params if decayed is None else decayed).items()}
    add = lambda d: d | {k: d[k] + weight_decay * x for k, x in some.items() if k in d}
    found = gradient if late else add(gradient)
    if "db again" in found:
        found = found | {"db again": found["db"]}
    leaves = [k for k in found if everything or k in (*weights, "db again")]
    found = found | {k: np.clip(found[k], -clip_value, clip_value) for k in leaves}
    own = {k: np.sqrt(square(found[k])) for k in leaves}
    whole = np.sqrt(sum(square(found[k]) for k in leaves if k != "db again"))
    for k in leaves if np.isfinite(clip_norm) else ():
        factor = np.minimum(1.0, clip_norm / np.maximum(own[k] if each else whole, 1e-300))
        found = found | {k: found[k] * factor.reshape((-1, *(1,) * (found[k].ndim - 1)))}
    return add(found) if late else found


def square(x):
    """Per setting."""
    return np.square(x).reshape(len(x), -1).sum(1)
