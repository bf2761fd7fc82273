"""Batch first, blocks i, f, o, g: an LSTM as an assignment of a course wants it written."""

import numpy as np

LAYOUT = "cs231n"
SIZES = {"N": 2, "T": 4, "D": 3, "H": 5}


def draw(rng):
    N, T, D, H = SIZES.values()
    p = {"x": rng.standard_normal((N, T, D)), "h0": rng.standard_normal((N, H))}
    p |= {"Wx": rng.standard_normal((D, 4 * H)), "Wh": rng.standard_normal((H, 4 * H)) / 2}
    return p | {"b": rng.standard_normal(4 * H), "dh": rng.standard_normal((N, T, H))}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b):
    H = prev_h.shape[1]
    a = x.dot(Wx) + prev_h.dot(Wh) + b
    i, f, o = sigmoid(a[:, :H]), sigmoid(a[:, H : 2 * H]), sigmoid(a[:, 2 * H : 3 * H])
    g = np.tanh(a[:, 3 * H :])
    next_c = f * prev_c + i * g
    next_h = o * np.tanh(next_c)
    return next_h, next_c, (x, prev_h, prev_c, Wx, Wh, i, f, o, g, next_c)


def lstm_step_backward(dnext_h, dnext_c, cache):
    x, prev_h, prev_c, Wx, Wh, i, f, o, g, next_c = cache
    tc = np.tanh(next_c)
    do = dnext_h * tc
    dc = dnext_c + dnext_h * o * (1 - tc**2)
    df = dc * prev_c
    dprev_c = dc * f
    di = dc * g
    dg = dc * i
    dai = di * i * (1 - i)
    daf = df * f * (1 - f)
    dao = do * o * (1 - o)
    dag = dg * (1 - g**2)
    da = np.hstack((dai, daf, dao, dag))
    dx = da.dot(Wx.T)
    dprev_h = da.dot(Wh.T)
    return dx, dprev_h, dprev_c, x.T.dot(da), prev_h.T.dot(da), da.sum(axis=0)


def gradient(p):
    x, h = p["x"], p["h0"]
    c, caches = np.zeros_like(h), []
    for t in range(x.shape[1]):
        h, c, cache = lstm_step_forward(x[:, t], h, c, p["Wx"], p["Wh"], p["b"])
        caches.append(cache)
    dx, dWx, dWh, db = np.zeros_like(x), 0, 0, 0
    dprev_h, dprev_c = np.zeros_like(h), np.zeros_like(c)
    for t in reversed(range(x.shape[1])):
        dh = p["dh"][:, t] + dprev_h
        dx[:, t], dprev_h, dprev_c, dwx, dwh, dbt = lstm_step_backward(dh, dprev_c, caches[t])
        dWx += dwx
        dWh += dwh
        db += dbt
    return {"dx": dx, "dh0": dprev_h, "dWx": dWx, "dWh": dWh, "db": db}


MISTAKES = [  # what stands there, what was written, a name or a part of the sentence
    (
        "dc = dnext_c + dnext_h * o * (1 - tc**2)",
        "dc = dnext_c + dnext_h * o * (1 - next_c**2)",
        "o (1 - c²) in dc",
    ),
    (
        "dc = dnext_c + dnext_h * o * (1 - tc**2)",
        "dc = dnext_c + dnext_h * (1 - tc**2)",
        "1 - tanh²(c) in dc",
    ),
    ("do = dnext_h * tc", "do = dnext_h * next_c", "c in do"),
    ("dprev_c = dc * f", "dprev_c = dc", "1 for f in dc_prev"),
    ("dprev_c = dc * f", "dprev_c = dnext_c * f", "dc not carried"),
    ("dag = dg * (1 - g**2)", "dag = dg * (1 - g)", "1 - t in g"),
    ("dao = do * o * (1 - o)", "dao = do * o * (o - 1)", "s (s - 1) in o"),
    ("dprev_h = da.dot(Wh.T)", "dprev_h = np.hstack((di, df, do, dg)).dot(Wh.T)", "no slope in dh"),
    ('dh = p["dh"][:, t] + dprev_h', 'dh = p["dh"][:, t]', "dh not carried"),
    ("dWh += dwh", "dWh = dwh", "dU overwritten: t=0 left"),
    ("da.sum(axis=0)", "da.mean(axis=0)", "db averaged over batch"),
]
