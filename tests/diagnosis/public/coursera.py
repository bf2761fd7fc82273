"""Features first, a matrix per gate on [a_prev; x_t]: functions of one cell and of a sequence."""

import numpy as np

LAYOUT = "coursera"
SIZES = {"n_x": 3, "n_a": 4, "m": 3, "T_x": 6, "T_da": 4}


def draw(rng):
    n_x, n_a, m, T_x, T_da = SIZES.values()
    p = {f"W{k}": rng.standard_normal((n_a, n_a + n_x)) / 2 for k in "fico"}
    p |= {f"b{k}": rng.standard_normal((n_a, 1)) for k in "fico"}
    p |= {"x": rng.standard_normal((n_x, m, T_x)), "a0": rng.standard_normal((n_a, m))}
    return p | {"da": rng.standard_normal((n_a, m, T_da))}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_cell_forward(xt, a_prev, c_prev, p):
    concat = np.concatenate((a_prev, xt), axis=0)
    ft = sigmoid(np.dot(p["Wf"], concat) + p["bf"])
    it = sigmoid(np.dot(p["Wi"], concat) + p["bi"])
    cct = np.tanh(np.dot(p["Wc"], concat) + p["bc"])
    c_next = ft * c_prev + it * cct
    ot = sigmoid(np.dot(p["Wo"], concat) + p["bo"])
    a_next = ot * np.tanh(c_next)
    return a_next, c_next, (a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, p)


def lstm_cell_backward(da_next, dc_next, cache):
    a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, p = cache
    n_a = a_next.shape[0]
    dot = da_next * np.tanh(c_next) * ot * (1 - ot)
    dc = dc_next + da_next * ot * (1 - np.square(np.tanh(c_next)))
    dcct = dc * it * (1 - cct**2)
    dit = dc * cct * it * (1 - it)
    dft = dc * c_prev * ft * (1 - ft)
    d = {"f": dft, "i": dit, "c": dcct, "o": dot}
    concat = np.concatenate((a_prev, xt), axis=0)
    grads = {f"dW{k}": np.dot(d[k], concat.T) for k in "fico"}
    grads |= {f"db{k}": np.sum(d[k], axis=1, keepdims=True) for k in "fico"}
    da_prev = sum(np.dot(p[f"W{k}"][:, :n_a].T, d[k]) for k in "fico")
    dxt = sum(np.dot(p[f"W{k}"][:, n_a:].T, d[k]) for k in "fico")
    return grads | {"dxt": dxt, "da_prev": da_prev, "dc_prev": dc * ft}


def gradient(p):
    a, c, caches = p["a0"], np.zeros_like(p["a0"]), []
    for t in range(p["x"].shape[2]):
        a, c, cache = lstm_cell_forward(p["x"][:, :, t], a, c, p)
        caches.append(cache)
    T = p["da"].shape[2]
    dx, found = np.zeros((*p["x"].shape[:2], T)), {}
    da_prev, dc_prev = np.zeros_like(a), np.zeros_like(c)
    for t in reversed(range(T)):
        g = lstm_cell_backward(p["da"][:, :, t] + da_prev, dc_prev, caches[t])
        da_prev, dc_prev, dx[:, :, t] = g.pop("da_prev"), g.pop("dc_prev"), g.pop("dxt")
        found = {k: found.get(k, 0) + v for k, v in g.items()}
    return found | {"dx": dx, "da0": da_prev}


MISTAKES = [
    (
        'p["da"][:, :, t] + da_prev, dc_prev, caches',
        'p["da"][:, :, t], 0 * c, caches',
        "nothing carried",
    ),
    (
        'p["da"][:, :, t] + da_prev, dc_prev, caches',
        'p["da"][:, :, t] + da_prev, 0 * c, caches',
        "dc not carried",
    ),
    ("dcct = dc * it * (1 - cct**2)", "dcct = dc * it * (1 - np.tanh(cct) ** 2)", "tanh'(t) in g"),
    (
        "dcct = dc * it * (1 - cct**2)",
        "dcct = dc * it * (1 - cct) ** 2",
        "(1 - t)² in g",
    ),
    ("dft = dc * c_prev * ft * (1 - ft)", "dft = dc * c_next * ft * (1 - ft)", "c of t"),
    (
        'da_prev = sum(np.dot(p[f"W{k}"][:, :n_a].T, d[k]) for k in "fico")',
        'da_prev = sum(np.dot(p[f"W{k}"][:, :n_a].T, d[k]) for k in "fic")',
        "recurrence of o",
    ),
    (
        "dot = da_next * np.tanh(c_next)",
        "dot = da_next * (1 - np.tanh(c_next) ** 2)",
        "1 - tanh²(c) in do",
    ),
    ("(1 - np.square(np.tanh(c_next)))", "(1 - np.tanh(c_next))", "o (1 - tanh(c)) in dc"),
    (
        "np.sum(d[k], axis=1, keepdims=True)",
        "np.mean(d[k], axis=1, keepdims=True)",
        "db averaged over batch",
    ),
    ("found.get(k, 0) + v", "v", "weights overwritten: t=0 left"),
]
