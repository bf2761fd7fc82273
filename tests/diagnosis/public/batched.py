"""One matrix for everything, biases in its first row: [1, x, h], blocks i, f, o, g, time first."""

import numpy as np

LAYOUT = "karpathy"
SIZES = {"n": 4, "b": 2, "input_size": 3, "d": 4}


def draw(rng):
    n, b, input_size, d = SIZES.values()
    p = {"WLSTM": rng.standard_normal((1 + input_size + d, 4 * d)) / 2}
    p |= {"X": rng.standard_normal((n, b, input_size)), "dHout": rng.standard_normal((n, b, d))}
    p |= {"h0": rng.standard_normal((b, d)), "c0": rng.standard_normal((b, d))}
    return p | {"dhn": rng.standard_normal((b, d)), "dcn": rng.standard_normal((b, d))}


def gradient(p):
    X, WLSTM, (n, b, D), d = p["X"], p["WLSTM"], p["X"].shape, p["h0"].shape[1]
    Hin, Hout, IFOGf = np.zeros((n, b, len(WLSTM))), np.zeros((n, b, d)), np.zeros((n, b, 4 * d))
    C, Ct = np.zeros((n, b, d)), np.zeros((n, b, d))
    for t in range(n):
        Hin[t, :, 0] = 1
        Hin[t, :, 1 : 1 + D] = X[t]
        Hin[t, :, 1 + D :] = Hout[t - 1] if t > 0 else p["h0"]
        IFOG = Hin[t] @ WLSTM
        IFOGf[t, :, : 3 * d] = 1 / (1 + np.exp(-IFOG[:, : 3 * d]))
        IFOGf[t, :, 3 * d :] = np.tanh(IFOG[:, 3 * d :])
        prevc = C[t - 1] if t > 0 else p["c0"]
        C[t] = IFOGf[t, :, :d] * IFOGf[t, :, 3 * d :] + IFOGf[t, :, d : 2 * d] * prevc
        Ct[t] = np.tanh(C[t])
        Hout[t] = IFOGf[t, :, 2 * d : 3 * d] * Ct[t]
    dC, dHout, dX, dWLSTM = np.zeros_like(C), p["dHout"].copy(), np.zeros_like(X), 0 * WLSTM
    dC[n - 1] += p["dcn"].copy()
    dHout[n - 1] += p["dhn"].copy()
    for t in reversed(range(n)):
        df = np.zeros((b, 4 * d))
        i, f, o, g = (IFOGf[t, :, k * d : (k + 1) * d] for k in range(4))
        df[:, 2 * d : 3 * d] = Ct[t] * dHout[t]
        dC[t] += (1 - Ct[t] ** 2) * (o * dHout[t])
        if t > 0:
            df[:, d : 2 * d] = C[t - 1] * dC[t]
            dC[t - 1] += f * dC[t]
        else:
            df[:, d : 2 * d] = p["c0"] * dC[t]
            dc0 = f * dC[t]
        df[:, :d] = g * dC[t]
        df[:, 3 * d :] = i * dC[t]
        dIFOG = np.zeros((b, 4 * d))
        dIFOG[:, 3 * d :] = (1 - g**2) * df[:, 3 * d :]
        y = IFOGf[t, :, : 3 * d]
        dIFOG[:, : 3 * d] = y * (1.0 - y) * df[:, : 3 * d]
        dWLSTM += Hin[t].T @ dIFOG
        dHin = dIFOG @ WLSTM.T
        dX[t] = dHin[:, 1 : 1 + D]
        if t > 0:
            dHout[t - 1] += dHin[:, 1 + D :]
        else:
            dh0 = dHin[:, 1 + D :]
    return {"dX": dX, "dWLSTM": dWLSTM, "dc0": dc0, "dh0": dh0}


MISTAKES = [
    ("dC[t - 1] += f * dC[t]", "dC[t - 1] = f * dC[t]", "right"),
    ("dHout[t - 1] += dHin[:, 1 + D :]", "dHout[t - 1] = dHin[:, 1 + D :]", "last loss"),
    ("dC[t] += (1 - Ct[t] ** 2)", "dC[t] = (1 - Ct[t] ** 2)", "dc of h alone"),
    ('dC[n - 1] += p["dcn"].copy()', "pass", "dc_T dropped"),
    ('df[:, d : 2 * d] = p["c0"] * dC[t]', "df[:, d : 2 * d] = C[t - 1] * dC[t]", "c wrapped"),
    ("y * (1.0 - y) * df", "y * (y - 1.0) * df", "s (s - 1) in the sigmoids"),
    ("y * (1.0 - y) * df", "(y * (1.0 - y)) ** 2 * df", "(s (1 - s))² in the sigmoids"),
    ("dWLSTM += Hin[t].T @ dIFOG", "dWLSTM += Hin[t].T @ dIFOG / b", "weights averaged over batch"),
    ("dWLSTM += Hin[t].T @ dIFOG", "dWLSTM += Hin[t].T @ dIFOG + 0.01 * WLSTM / n", "weight decay"),
    ("dHin = dIFOG @ WLSTM.T", "dHin = df @ WLSTM.T", "no slope in dx and dh"),
    (
        'return {"dX": dX, "dWLSTM": dWLSTM',
        'return {"dX": dX, "dWLSTM": -0.1 * dWLSTM',
        "weights update",
    ),
]
