"""What stands above h_t and below x_t: a readout, a loss, an embedding; their mistakes as switches.

    y_t = h_t Wy + by        L = a loss of every y_t, or of the last        x_t = E[token]

Without a readout y_t is h_t. Sums over steps, means and weights of the loss are the problem's
`scale`.
"""

import numpy as np

from jax_lstm.diagnosis.factors import sigmoid

RECURRENT = ("W", "U", "b", "P")  # weights of a cell; the others stand above it or below it


def softmax(y):
    e = np.exp(y - y.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def rows(x):
    """xᵀ, so that rows(x) @ dy is a weight's cotangent."""
    return np.swapaxes(x, -1, -2)


def logits(problem, h):
    p = problem.params
    return h @ p["Wy"] + p["by"] if "Wy" in p else h


def loss_value(problem, hs):
    """L, of states (..., B, H) per step; the axes in front stay. None for cotangents."""
    if problem.loss == "cotangents":
        return None
    total = 0.0
    for t, h in enumerate(hs):
        if problem.last and t < len(hs) - 1:
            continue
        y, target = logits(problem, h), problem.ys[t]
        if problem.loss == "squared_error":
            each = 0.5 * (y - target) ** 2
        elif problem.loss == "binary_cross_entropy":
            each = np.logaddexp(0, y) - target * y
        else:
            top = y.max(-1, keepdims=True)
            each = -target * (y - top - np.log(np.exp(y - top).sum(-1, keepdims=True)))
        total = total + each.sum((-1, -2))
    return problem.scale * total


def from_above(problem, hs, pick, t):
    """dL/dy_t of the loss, per setting."""
    T = len(hs)
    if not 0 <= t < T:
        return np.zeros_like(hs[0]) if "Wy" not in problem.params else 0 * problem.ys[0]
    if problem.loss == "cotangents":
        dy = problem.dhs[t]
    else:
        y, target = logits(problem, hs[t]), problem.ys[t]
        if problem.loss == "squared_error":
            dy = y - target
            guess = y
        elif problem.loss == "binary_cross_entropy":
            guess = sigmoid(y)
            dy = pick("one half of cross-entropy", lambda: (guess - 1) * target, guess - target)
            dy = pick(
                "softmax for sigmoid",
                lambda: softmax(y) * target.sum(-1, keepdims=True) - target,
                dy,
            )
        else:
            guess = softmax(y) * target.sum(-1, keepdims=True)
            dy = pick("sigmoid for softmax", lambda: sigmoid(y) - target, guess - target)
        dy = pick("target left out", guess, dy)
        dy = pick("slope of the loss again", lambda: dy * guess * (1 - guess), dy)
        dy = problem.scale * dy
    last = t == T - 1
    return pick("last loss", dy if last else 0 * dy, 0 * dy if problem.last and not last else dy)


def from_outside(problem, hs, pick, t):
    """dL/dh_t of the loss, per setting."""
    T = len(hs)

    def of(t):
        dy = from_above(problem, hs, pick, t)
        if "Wy" not in problem.params:
            return dy
        if not 0 <= t < T:
            return np.zeros_like(hs[0])
        Wy = problem.params["Wy"]
        back = rows(Wy)
        if Wy.shape[0] == Wy.shape[1]:
            back = pick("Wy for its transpose", Wy, back)
        return dy @ back

    dh = pick("dh of t-1", lambda: of(t - 1), of(t))
    dh = pick("last dh only", dh if t == T - 1 else 0 * dh, dh)

    def every():
        end = problem.dlast["h"] if t < T - 1 else 0 * problem.dlast["h"]
        return of(T - 1) + end

    dh = pick("last dh at every step", every, dh)
    return pick("dh of t+1", lambda: of(t + 1), dh)


def readout_bwd(problem, hs, h_prevs, pick, left):
    """dWy and dby, summed over steps and examples; nothing where there is no readout.

    left: {leaf: masks} of share_masks.
    """
    if "Wy" not in problem.params:
        return {}
    dWy, dby = (np.zeros_like(problem.params[k]) for k in ("Wy", "by"))
    for t, (h, h_prev) in enumerate(zip(hs, h_prevs, strict=True)):
        dy = from_above(problem, hs, pick, t)
        h = pick("h of t-1 in dWy", h_prev, h)
        dWy = dWy + rows(h) @ share(left, "dWy", t, dy)
        dby = dby + share(left, "dby", t, dy).sum(-2, keepdims=True)
    return {"dWy": dWy, "dby": dby}


def share(masks, leaf, t, d):
    """What of the cotangent d of step t the weight's product sees."""
    return d * masks[leaf][:, None, t] if leaf in masks else d


def embedding_bwd(problem, dxs, left):
    """dE: what belongs to a token, summed over its places. dxs: (settings, T, B, D)."""
    if "E" not in problem.params:
        return {}
    dxs = dxs * left["dE"] if "dE" in left else dxs
    who = one_hot(problem.tokens, len(problem.params["E"])).astype(dxs.dtype)
    return {"dE": np.einsum("tbn,stbd->snd", who, dxs)}


def one_hot(tokens, size):
    return (tokens[..., None] == np.arange(size)).astype(np.float64)


def kept_tokens(tokens):
    """{name: booleans (T, B)}: whose share is left where fancy indexing forgets the others."""
    T, B = tokens.shape
    keep = {k: np.zeros((T, B), bool) for k in ("step", "all", "batch first", "reversed")}
    seen = np.unique(tokens)
    for t in range(T):
        for token in seen:
            places = np.flatnonzero(tokens[t] == token)
            keep["step"][t, places[-1:]] = True
    for token in seen:
        places = np.argwhere(tokens == token)
        keep["all"][tuple(places[-1])] = True
        keep["batch first"][tuple(places[np.lexsort((places[:, 0], places[:, 1]))[-1]])] = True
        first = places[places[:, 0] == places[0, 0]]
        keep["reversed"][tuple(first[-1])] = True
    return keep
