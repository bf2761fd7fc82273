"""A model of characters: columns, no batch, tokens, a readout, a softmax at every step, a clip."""

import numpy as np

LAYOUT = {"order": "fico", "weights": "per gate, concat [h, x]", "rows": "outputs"}
LAYOUT |= {"axes": "T,D,B", "names": {"Wy": "Why"}}
SIZES = {"T": 5, "H": 4, "V": 6}


def draw(rng):
    T, H, V = SIZES.values()
    p = {f"W{k}": rng.standard_normal((H, H + V)) / 2 for k in "fico"}
    p |= {f"b{k}": rng.standard_normal((H, 1)) for k in "fico"}
    p |= {"Why": rng.standard_normal((V, H)), "by": rng.standard_normal((V, 1))}
    p |= {"tokens": rng.integers(0, V, T), "ys": rng.integers(0, V, T)}
    return p | {"loss": "softmax", "clip_value": 0.5}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gradient(p):
    V, H = p["Why"].shape
    h, c, caches = np.zeros((H, 1)), np.zeros((H, 1)), []
    for token in p["tokens"]:
        x = np.zeros((V, 1))
        x[token] = 1
        z = np.vstack((h, x))
        f, i = sigmoid(p["Wf"] @ z + p["bf"]), sigmoid(p["Wi"] @ z + p["bi"])
        cb, o = np.tanh(p["Wc"] @ z + p["bc"]), sigmoid(p["Wo"] @ z + p["bo"])
        c_old, c = c, f * c + i * cb
        h = o * np.tanh(c)
        e = np.exp(p["Why"] @ h + p["by"])
        caches.append((z, f, i, cb, o, c_old, c, h, e / e.sum()))
    d = {f"d{k}": np.zeros_like(x) for k, x in p.items() if k[0] in "Wb"}
    dhnext, dcnext = np.zeros((H, 1)), np.zeros((H, 1))
    for t in reversed(range(len(caches))):
        z, f, i, cb, o, c_old, c, h, ps = caches[t]
        dy = np.copy(ps)
        dy[p["ys"][t]] -= 1
        d["dWhy"] += dy @ h.T
        d["dby"] += dy
        dh = p["Why"].T @ dy + dhnext
        dc = dcnext + dh * o * (1 - np.tanh(c) ** 2)
        da = {"o": dh * np.tanh(c) * o * (1 - o), "c": dc * i * (1 - cb * cb)}
        da |= {"f": dc * c_old * f * (1 - f), "i": dc * cb * i * (1 - i)}
        for k, a in da.items():
            d[f"dW{k}"] += a @ z.T
            d[f"db{k}"] += a
        dz = sum(p[f"W{k}"].T @ a for k, a in da.items())
        dhnext, dcnext = dz[:H], dc * f
    for x in d.values():
        np.clip(x, -0.5, 0.5, out=x)
    return d


MISTAKES = [
    ("np.clip(x, -0.5, 0.5, out=x)", "pass", "clip_value left out"),
    ('dh = p["Why"].T @ dy + dhnext', 'dh = p["Why"].T @ dy', "dh not carried"),
    ('d["dWhy"] += dy @ h.T', 'd["dWhy"] += dy @ z[:H].T', "h of t-1 in dWy"),
    ('dy[p["ys"][t]] -= 1', 'dy[p["ys"][t]] -= 1; dy *= ps * (1 - ps)', "slope of the loss again"),
    ('d["dby"] += dy', 'd["dby"] = dy', "dby overwritten: t=0 left"),
    ('"o": dh * np.tanh(c) * o', '"o": dh * o', "1 in do"),
    ("dc = dcnext + dh * o", "dc = dh * o", "dc not carried"),
    (
        "dhnext, dcnext = dz[:H], dc * f",
        "dhnext, dcnext = np.clip(dz[:H], -0.02, 0.02), dc * f",
        "clip carried dh",
    ),
    ('{"f": dc * c_old', '{"f": dc * c', "c of t"),
]
