"""What a problem says beside its arrays: the loss, its reduction, and what was done at the end.

loss            "squared_error" (½ Σ (y - target)²), "binary_cross_entropy",
                "softmax_cross_entropy"; a factor on it: "scale"
reduction       "sum"; "mean" over steps and examples; "mean over T", "mean over B", "mean over
                features" and several of them; "last step": no other has a loss
weight_decay    λ: λ w is added to every weight's gradient
clip_value, clip_norm     of the weights' gradients, at the end; the norm is that of all of them
learning_rate   η: what was returned is the update, -η times the gradient of each weight
loss_value      what the loss was; with hs and cs, the forward's own numbers
forward         names of variants of the forward that the gradient is right for
"""

import re
from typing import Any

import numpy as np

from jax_lstm.diagnosis.catalogue import LOSSES
from jax_lstm.diagnosis.sentences import VARIANTS
from jax_lstm.printing import listing

NUMBERS = ("scale", "weight_decay", "clip_value", "clip_norm", "learning_rate", "loss_value")
SETTINGS = ("loss", "reduction", "forward", *NUMBERS)
SHORT = {"softmax": "softmax_cross_entropy", "cross_entropy": "softmax_cross_entropy"}
SHORT |= {"binary": "binary_cross_entropy", "squares": "squared_error", "mse": "squared_error"}
OVER = {"t": "T", "time": "T", "steps": "T", "b": "B", "batch": "B", "examples": "B"}
OVER |= {"k": "K", "h": "K", "features": "K", "outputs": "K", "everything": "TBK"}
WHAT = {"scale": "a factor on the loss", "loss_value": "the loss"}
FORWARD = {"forget offset": "", **VARIANTS}


def read_settings(problem):
    """{name: value} of what stands beside the arrays, checked."""
    found: dict[str, Any] = {}
    for k in SETTINGS:
        x = problem.get(k)
        if isinstance(x, np.ndarray | np.generic) and np.ndim(x) == 0:
            x = x.item()
        if x is not None:
            found[k] = x
    for k in NUMBERS:
        x = found.get(k, 1.0)
        if isinstance(x, bool) or not isinstance(x, int | float) or not np.isfinite(x):
            raise ValueError(f"`{k}` must be a number, {WHAT.get(k, 'or be left out')}; got {x!r}")
        if k in ("clip_value", "clip_norm", "learning_rate") and x <= 0:
            raise ValueError(f"`{k}` must be above zero; got {x!r}")
    if "loss" in found:
        loss = found["loss"]
        loss = loss.replace(" ", "_").replace("-", "_") if isinstance(loss, str) else loss
        found["loss"] = SHORT.get(loss, loss) if isinstance(loss, str) else loss
        if found["loss"] not in LOSSES:
            raise ValueError(f"`loss` must be among {', '.join(LOSSES)}; got {loss!r}")
    if "forward" in found:
        names = found["forward"]
        found["forward"] = tuple(re.split(r", *", names) if isinstance(names, str) else names)
        strange = [k for k in found["forward"] if k not in FORWARD]
        if strange:
            raise ValueError(
                f"`forward` must be among {', '.join(FORWARD)}; got {listing(map(str, strange))}"
            )
    read_reduction(found.get("reduction"))
    return found


def read_reduction(text):
    """(the axes whose mean is taken, "TBK" or part of it; whether the last step alone counts)."""
    if text is None:
        return "", False
    wrong = ValueError(
        '`reduction` must be "sum", "mean", "mean over" T, B or features, or "last step", alone or '
        f"together; got {text!r}"
    )
    if not isinstance(text, str):
        raise wrong
    last = bool(re.search(r"\blast( step)?\b", text))
    rest = re.sub(r"\b(the )?last( step)?( only| alone)?\b", " ", text)
    words = [w for w in re.split(r"[\s,]+", rest.strip()) if w and w not in ("over", "and", "the")]
    if not all(w in ("sum", "mean") or w.lower() in OVER for w in words):
        raise wrong
    axes = "".join(OVER[w.lower()] for w in words if w.lower() in OVER)
    if "mean" in words:
        axes = axes or ("B" if last else "TB")
    elif axes or ("sum" not in words and not last):
        raise wrong
    return "".join(k for k in "TBK" if k in axes and not (last and k == "T")), last
