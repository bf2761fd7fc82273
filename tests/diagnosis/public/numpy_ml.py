"""A matrix per gate on [A_prev, Xt], examples first and time last, lists that grow with time."""

import numpy as np

LAYOUT = "numpy-ml"
SIZES = {"n_ex": 3, "n_in": 2, "n_t": 4, "n_out": 4}


def draw(rng):
    n_ex, n_in, n_t, n_out = SIZES.values()
    p = {f"W{k}": rng.standard_normal((n_out + n_in, n_out)) / 2 for k in "fuco"}
    p |= {f"b{k}": rng.standard_normal((1, n_out)) for k in "fuco"}
    p["X"] = rng.standard_normal((n_ex, n_in, n_t))
    return p | {"dLdA": rng.standard_normal((n_ex, n_out, n_t))}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gradient(p):
    X, (n_ex, _, n_t), n_out = p["X"], p["X"].shape, p["Wf"].shape[1]
    A, C = [np.zeros((n_ex, n_out))], [np.zeros((n_ex, n_out))]
    Z, Gf, Gu, Go, Cc = [], [], [], [], []
    for t in range(n_t):
        Zt = np.hstack([A[-1], X[:, :, t]])
        Gf.append(sigmoid(Zt @ p["Wf"] + p["bf"]))
        Gu.append(sigmoid(Zt @ p["Wu"] + p["bu"]))
        Go.append(sigmoid(Zt @ p["Wo"] + p["bo"]))
        Cc.append(np.tanh(Zt @ p["Wc"] + p["bc"]))
        C.append(Gf[-1] * C[-1] + Gu[-1] * Cc[-1])
        A.append(Go[-1] * np.tanh(C[-1]))
        Z.append(Zt)
    grads = {k: np.zeros_like(x) for k, x in p.items() if k[0] in "Wb"}
    dX, dA, dC = np.zeros_like(X), np.zeros((n_ex, n_out)), np.zeros((n_ex, n_out))
    for t in reversed(range(n_t)):
        dA = dA + p["dLdA"][:, :, t]
        Ct, Cprev = C[t + 1], C[t]
        dC = dC + dA * Go[t] * (1 - np.tanh(Ct) ** 2)
        dGo = dA * np.tanh(Ct) * Go[t] * (1 - Go[t])
        dCc = dC * Gu[t] * (1 - Cc[t] ** 2)
        dGu = dC * Cc[t] * Gu[t] * (1 - Gu[t])
        dGf = dC * Cprev * Gf[t] * (1 - Gf[t])
        dZ = dGf @ p["Wf"].T + dGu @ p["Wu"].T + dCc @ p["Wc"].T + dGo @ p["Wo"].T
        for k, d in (("f", dGf), ("u", dGu), ("c", dCc), ("o", dGo)):
            grads[f"W{k}"] += Z[t].T @ d
            grads[f"b{k}"] += d.sum(axis=0, keepdims=True)
        dA, dX[:, :, t] = dZ[:, :n_out], dZ[:, n_out:]
        dC = dC * Gf[t]
    return {**grads, "dLdX": dX}


MISTAKES = [
    ("Ct, Cprev = C[t + 1], C[t]", "Ct, Cprev = C[t + 1], C[t - 1]", "c of t-2"),
    ("Ct, Cprev = C[t + 1], C[t]", "Ct, Cprev = C[t + 1], C[t + 1]", "c of t"),
    ("Ct, Cprev = C[t + 1], C[t]", "Ct, Cprev = C[t + 1], C[0]", "c0 for every c"),
    ("dC = dC * Gf[t]", "dC = 0 * dC", "dc not carried"),
    ("dCc = dC * Gu[t] * (1 - Cc[t] ** 2)", "dCc = dC * Gu[t]", "slope of g"),
    ("dGu = dC * Cc[t] * Gu[t] * (1 - Gu[t])", "dGu = dC * Cc[t] * Gu[t]", "s in i"),
    ('+ dCc @ p["Wc"].T + dGo', "+ dGo", "recurrence and input of g"),
    (
        'grads[f"W{k}"] += Z[t].T @ d',
        'grads[f"W{k}"] += Z[t].T @ d / len(d)',
        "dW and dU averaged over batch",
    ),
    ('dA = dA + p["dLdA"][:, :, t]', 'dA = dA + p["dLdA"][:, :, -1]', "last dh at every step"),
    ('return {**grads, "dLdX": dX}', 'return {**grads, "dLdX": dX[:, :, ::-1]}', "dxs reversed"),
]
