"""A language model of layers: embedding, LSTM with blocks f, g, i, o, affine, softmax with loss."""

import numpy as np

LAYOUT = "dlfs2"
SIZES = {"N": 3, "T": 4, "V": 5, "D": 3, "H": 4}


def draw(rng):
    N, T, V, D, H = SIZES.values()
    p = {"Wx": rng.standard_normal((D, 4 * H)), "Wh": rng.standard_normal((H, 4 * H)) / 2}
    p |= {"b": rng.standard_normal(4 * H), "E": rng.standard_normal((V, D))}
    p |= {"Wy": rng.standard_normal((H, V)), "by": rng.standard_normal(V)}
    p |= {"tokens": rng.integers(0, V, (N, T)), "ys": rng.integers(0, V, (N, T))}
    return p | {"loss": "softmax", "reduction": "mean"}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def gradient(p):
    ids, (N, T), H = p["tokens"], p["tokens"].shape, p["Wh"].shape[0]
    xs = p["E"][ids]
    h, c, layers, hs = np.zeros((N, H)), np.zeros((N, H)), [], np.empty((N, T, H))
    for t in range(T):
        A = np.dot(xs[:, t], p["Wx"]) + np.dot(h, p["Wh"]) + p["b"]
        f, g = sigmoid(A[:, :H]), np.tanh(A[:, H : 2 * H])
        i, o = sigmoid(A[:, 2 * H : 3 * H]), sigmoid(A[:, 3 * H :])
        c_next = f * c + g * i
        h_next = o * np.tanh(c_next)
        layers.append((xs[:, t], h, c, i, f, g, o, c_next))
        h, c = h_next, c_next
        hs[:, t] = h
    rhs = hs.reshape(N * T, H)
    dys = softmax(rhs @ p["Wy"] + p["by"])
    dys[np.arange(N * T), p["ys"].reshape(-1)] -= 1
    dys /= N * T
    dWy, dby = rhs.T @ dys, dys.sum(axis=0)
    dhs = (dys @ p["Wy"].T).reshape(N, T, H)
    dWx, dWh, db = (np.zeros_like(p[k]) for k in ("Wx", "Wh", "b"))
    dxs, dh, dc = np.empty_like(xs), 0, 0
    for t in reversed(range(T)):
        x, h_prev, c_prev, i, f, g, o, c_next = layers[t]
        tanh_c_next = np.tanh(c_next)
        dh_next = dhs[:, t] + dh
        ds = dc + (dh_next * o) * (1 - tanh_c_next**2)
        dc = ds * f
        di, df, do, dg = ds * g, ds * c_prev, dh_next * tanh_c_next, ds * i
        di *= i * (1 - i)
        df *= f * (1 - f)
        do *= o * (1 - o)
        dg *= 1 - g**2
        dA = np.hstack((df, dg, di, do))
        dWh += np.dot(h_prev.T, dA)
        dWx += np.dot(x.T, dA)
        db += dA.sum(axis=0)
        dxs[:, t] = np.dot(dA, p["Wx"].T)
        dh = np.dot(dA, p["Wh"].T)
    dE = np.zeros_like(p["E"])
    np.add.at(dE, ids, dxs)
    return {"dWx": dWx, "dWh": dWh, "db": db, "dWy": dWy, "dby": dby, "dE": dE}


MISTAKES = [
    ("np.add.at(dE, ids, dxs)", "dE[ids] += dxs", "dE by tokens"),
    (
        "np.add.at(dE, ids, dxs)",
        "for t in range(T): dE[ids[:, t]] += dxs[:, t]",
        "dE by tokens: step",
    ),
    ("dys /= N * T", "dys /= N", "the sum over time, not the mean"),
    ("dys /= N * T", "pass", "the sum over time and batch, not the mean"),
    ('dys[np.arange(N * T), p["ys"].reshape(-1)] -= 1', "pass", "target left out"),
    (
        "dby = rhs.T @ dys, dys.sum(axis=0)",
        "dby = rhs.T @ dys, dys.mean(axis=0)",
        "dby averaged over time and batch",
    ),
    ("dA = np.hstack((df, dg, di, do))", "dA = np.hstack((df, di, dg, do))", "deltas in order"),
    ("dg *= 1 - g**2", "dg *= g * (1 - g)", "t (1 - t) in g"),
    ("dWx += np.dot(x.T, dA)", "dWx = np.dot(x.T, dA)", "dW overwritten: t=0 left"),
    ("dh_next = dhs[:, t] + dh", "dh_next = dhs[:, t]", "dh not carried"),
    ("di, df, do, dg = ds * g,", "di, df, do, dg = ds * c_prev,", "c_prev for g in di"),
]
