"""Each cell's equations written out once more, for numbers of two kinds: NumPy, without JAX, so
that complex steps know no derivative of ours; and jax.numpy, as people write it, so that its
autodiff is what our twins may cost. Nothing here is the package's.

A formula is `step(N, p, s, x) -> fields of the state`: N the numbers, p the parameters, s the
state.
"""

import types

import jax
import jax.numpy as jnp
import numpy as np


def numpy_sigmoid(a):
    return 1 / (1 + np.exp(-a))


def numpy_relu(a):
    return np.where(np.real(a) > 0, a, 0)


def numpy_larger(a, b):
    return np.where(np.real(a) > np.real(b), a, b)


def numpy_dot(x, W):
    """x @ W without BLAS, whose threads cost more than products as small as these."""
    return np.einsum("...i,ij->...j", x, W)


def numpy_log_sigmoid(a):
    return -np.log(1 + np.exp(-a))


NUMPY = types.SimpleNamespace(
    np=np,
    dot=numpy_dot,
    sigmoid=numpy_sigmoid,
    relu=numpy_relu,
    larger=numpy_larger,
    log_sigmoid=numpy_log_sigmoid,
)
JAX = types.SimpleNamespace(
    np=jnp,
    dot=lambda x, W: x @ W,
    sigmoid=jax.nn.sigmoid,
    relu=jax.nn.relu,
    larger=jnp.maximum,
    log_sigmoid=jax.nn.log_sigmoid,
)


# The nine of the Odyssey ------------------------------------------------------------------------


def split(N, x, n):
    return N.np.split(x, n, axis=-1)


def peephole_lstm(N, p, s, x):
    a_i, a_f, a_g, a_o = split(N, N.dot(x, p.W) + N.dot(s.h, p.U) + p.b, 4)
    p_i, p_f, p_o = split(N, p.p, 3)
    c = N.sigmoid(a_f + p_f * s.c) * s.c + N.sigmoid(a_i + p_i * s.c) * N.np.tanh(a_g)
    return N.sigmoid(a_o + p_o * c) * N.np.tanh(c), c


def lstm_nig(N, p, s, x):
    a_f, a_g, a_o = split(N, N.dot(x, p.W) + N.dot(s.h, p.U) + p.b, 3)
    p_f, p_o = split(N, p.p, 2)
    c = N.sigmoid(a_f + p_f * s.c) * s.c + N.np.tanh(a_g)
    return N.sigmoid(a_o + p_o * c) * N.np.tanh(c), c


def lstm_nfg(N, p, s, x):
    a_i, a_g, a_o = split(N, N.dot(x, p.W) + N.dot(s.h, p.U) + p.b, 3)
    p_i, p_o = split(N, p.p, 2)
    c = s.c + N.sigmoid(a_i + p_i * s.c) * N.np.tanh(a_g)
    return N.sigmoid(a_o + p_o * c) * N.np.tanh(c), c


def lstm_nog(N, p, s, x):
    a_i, a_f, a_g = split(N, N.dot(x, p.W) + N.dot(s.h, p.U) + p.b, 3)
    p_i, p_f = split(N, p.p, 2)
    c = N.sigmoid(a_f + p_f * s.c) * s.c + N.sigmoid(a_i + p_i * s.c) * N.np.tanh(a_g)
    return N.np.tanh(c), c


def lstm_niaf(N, p, s, x):
    a_i, a_f, g, a_o = split(N, N.dot(x, p.W) + N.dot(s.h, p.U) + p.b, 4)
    p_i, p_f, p_o = split(N, p.p, 3)
    c = N.sigmoid(a_f + p_f * s.c) * s.c + N.sigmoid(a_i + p_i * s.c) * g
    return N.sigmoid(a_o + p_o * c) * N.np.tanh(c), c


def lstm_noaf(N, p, s, x):
    a_i, a_f, a_g, a_o = split(N, N.dot(x, p.W) + N.dot(s.h, p.U) + p.b, 4)
    p_i, p_f, p_o = split(N, p.p, 3)
    c = N.sigmoid(a_f + p_f * s.c) * s.c + N.sigmoid(a_i + p_i * s.c) * N.np.tanh(a_g)
    return N.sigmoid(a_o + p_o * c) * c, c


def lstm_cifg(N, p, s, x):
    a_i, a_g, a_o = split(N, N.dot(x, p.W) + N.dot(s.h, p.U) + p.b, 3)
    p_i, p_o = split(N, p.p, 2)
    i = N.sigmoid(a_i + p_i * s.c)
    c = (1 - i) * s.c + i * N.np.tanh(a_g)
    return N.sigmoid(a_o + p_o * c) * N.np.tanh(c), c


def lstm_fgr(N, p, s, x):
    a_i, a_f, a_g, a_o = split(N, N.dot(x, p.W) + N.dot(s.h, p.U) + p.b, 4)
    e_i, e_f, e_o = split(N, N.dot(s.q, p.V), 3)
    p_i, p_f, p_o = split(N, p.p, 3)
    i, f = N.sigmoid(a_i + e_i + p_i * s.c), N.sigmoid(a_f + e_f + p_f * s.c)
    c = f * s.c + i * N.np.tanh(a_g)
    o = N.sigmoid(a_o + e_o + p_o * c)
    return o * N.np.tanh(c), c, N.np.concatenate([i, f, o], axis=-1)


# Gated units whose state is h -------------------------------------------------------------------


def gru_reset_before(N, p, s, x):
    H = s.h.shape[-1]
    a, U = N.dot(x, p.W) + p.b, p.U
    r = N.sigmoid(a[..., :H] + N.dot(s.h, U[:, :H]))
    z = N.sigmoid(a[..., H : 2 * H] + N.dot(s.h, U[:, H : 2 * H]))
    n = N.np.tanh(a[..., 2 * H :] + N.dot(r * s.h, U[:, 2 * H :]))
    return (z * s.h + (1 - z) * n,)


def mgu(N, p, s, x):
    H = s.h.shape[-1]
    a, U = N.dot(x, p.W) + p.b, p.U
    f = N.sigmoid(a[..., :H] + N.dot(s.h, U[:, :H]))
    n = N.np.tanh(a[..., H:] + N.dot(f * s.h, U[:, H:]))
    return ((1 - f) * s.h + f * n,)


def light_gru(N, p, s, x):
    a_z, a_n = split(N, N.dot(x, p.W) + N.dot(s.h, p.U) + p.b, 2)
    z = N.sigmoid(a_z)
    return (z * s.h + (1 - z) * N.relu(a_n),)


def ugrnn(N, p, s, x):
    a_z, a_n = split(N, N.dot(x, p.W) + N.dot(s.h, p.U) + p.b, 2)
    z = N.sigmoid(a_z)
    return (z * s.h + (1 - z) * N.np.tanh(a_n),)


def ran(N, p, s, x):
    a_i, a_f, a_g = split(N, N.dot(x, p.W), 3)
    u_i, u_f = split(N, N.dot(s.h, p.U) + p.b, 2)
    c = N.sigmoid(a_i + u_i) * a_g + N.sigmoid(a_f + u_f) * s.c
    return N.np.tanh(c), c


def cfn(N, p, s, x):
    a_f, a_i, a_g = split(N, N.dot(x, p.W) + p.b, 3)
    u_f, u_i = split(N, N.dot(s.h, p.U), 2)
    return (N.sigmoid(a_f + u_f) * N.np.tanh(s.h) + N.sigmoid(a_i + u_i) * N.np.tanh(a_g),)


def scrn(N, p, s, x):
    context = 0.05 * N.dot(x, p.B) + 0.95 * s.s
    return N.sigmoid(N.dot(x, p.A) + N.dot(context, p.P) + N.dot(s.h, p.R) + p.b), context


def clockwork(N, p, s, x):
    H = p.U.shape[0]
    period = np.array([1, 2, 4, 8])[np.arange(H) * 4 // H]
    U = N.np.where(period[:, None] >= period[None], p.U, 0 * p.U)
    n = N.np.tanh(N.dot(x, p.W) + N.dot(s.h, U) + p.b)
    t = N.np.real(s.t)
    return N.np.where(N.np.mod(t, period.astype(t.dtype)) == 0, n, s.h), s.t + 1


def janet(N, p, s, x):
    a_f, a_g = split(N, N.dot(x, p.W) + N.dot(s.h, p.U) + p.b, 2)
    return (N.sigmoid(a_f) * s.h + (1 - N.sigmoid(a_f - 1)) * N.np.tanh(a_g),)


def fast_grnn(N, p, s, x):
    a = N.dot(x, p.W) + N.dot(s.h, p.U)
    b_z, b_n = split(N, p.b, 2)
    z, n = N.sigmoid(a + b_z), N.np.tanh(a + b_n)
    return (z * s.h + (N.sigmoid(p.zeta) * (1 - z) + N.sigmoid(p.nu)) * n,)


def min_gru(N, p, s, x):
    a_z, n = split(N, N.dot(x, p.W) + p.b, 2)
    z = N.sigmoid(a_z)
    return ((1 - z) * s.h + z * n,)


def min_lstm(N, p, s, x):
    a_f, a_i, n = split(N, N.dot(x, p.W) + p.b, 3)
    f, i = N.sigmoid(a_f), N.sigmoid(a_i)
    return (f / (f + i) * s.h + i / (f + i) * n,)


def ind_rnn(N, p, s, x):
    return (N.relu(N.dot(x, p.W) + p.u * s.h + p.b),)


def antisymmetric_rnn(N, p, s, x):
    M = p.U - p.U.T - 0.01 * N.np.eye(p.U.shape[0], dtype=p.U.dtype)
    return (s.h + 0.1 * N.np.tanh(N.dot(x, p.W) + N.dot(s.h, M) + p.b),)


# Other states -----------------------------------------------------------------------------------


def indy_lstm(N, p, s, x):
    H = s.h.shape[-1]
    a = [N.dot(x, p.W)[..., k * H : (k + 1) * H] + p.u[k * H : (k + 1) * H] * s.h for k in range(4)]
    i, f, g, o = (y + p.b[k * H : (k + 1) * H] for k, y in enumerate(a))
    c = N.sigmoid(f) * s.c + N.sigmoid(i) * N.np.tanh(g)
    return N.sigmoid(o) * N.np.tanh(c), c


def elementwise_lstm(N, p, s, x):
    a_f, a_g, a_o = split(N, N.dot(x, p.W) + p.b, 3)
    u_f, u_g = split(N, p.u, 2)
    f = N.sigmoid(a_f + u_f * s.c)
    c = f * s.c + (1 - f) * N.np.tanh(a_g + u_g * s.c)
    return N.sigmoid(a_o + N.dot(c, p.V)) * c, c


def multiplicative_lstm(N, p, s, x):
    m = N.dot(x, p.M) * N.dot(s.h, p.R)
    i, f, g, o = split(N, N.dot(x, p.W) + N.dot(m, p.U) + p.b, 4)
    c = N.sigmoid(f) * s.c + N.sigmoid(i) * N.np.tanh(g)
    return N.sigmoid(o) * N.np.tanh(c), c


def layer_norm(N, x):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / N.np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5)


def layer_norm_lstm(N, p, s, x):
    a = layer_norm(N, N.dot(x, p.W)) * p.gain_x + layer_norm(N, N.dot(s.h, p.U)) * p.gain_h + p.b
    i, f, g, o = split(N, a, 4)
    c = N.sigmoid(f) * s.c + N.sigmoid(i) * N.np.tanh(g)
    return N.sigmoid(o) * N.np.tanh(layer_norm(N, c) * p.gain_c + p.shift_c), c


def slstm(N, p, s, x):
    a_i, a_f, a_z, a_o = split(N, N.dot(x, p.W) + N.dot(s.h, p.U) + p.b, 4)
    stay = N.log_sigmoid(a_f) + s.m
    m = N.larger(stay, a_i)
    i, f = N.np.exp(a_i - m), N.np.exp(stay - m)
    c, n = f * s.c + i * N.np.tanh(a_z), f * s.n + i
    return N.sigmoid(a_o) * c / n, c, n, m


def mlstm(N, p, s, x):
    q, k = split(N, N.dot(x, p.W_qk) + p.b_qk, 2)
    v, a_o = split(N, N.dot(x, p.W_vo) + p.b_vo, 2)
    a_i, a_f = split(N, N.dot(x, p.W_if) + p.b_if, 2)
    k = k / k.shape[-1] ** 0.5
    stay = N.log_sigmoid(a_f) + s.m
    m = N.larger(stay, a_i)
    i, f = N.np.exp(a_i - m), N.np.exp(stay - m)
    C = f[..., None] * s.C + i[..., None] * k[..., :, None] * v[..., None, :]
    n = f * s.n + i * k
    read = (q[..., None] * C).sum(-2)
    d = (q * n).sum(-1, keepdims=True)
    d = N.larger(N.larger(d, -d), N.np.exp(-m))
    return N.sigmoid(a_o) * read / d, C, n, m


def cornn(N, p, s, x):
    z = s.z + 0.042 * (
        N.np.tanh(N.dot(x, p.W) + N.dot(s.h, p.U) + N.dot(s.z, p.V) + p.b) - 2.7 * s.h - 4.7 * s.z
    )
    return s.h + 0.042 * z, z


def lem(N, p, s, x):
    H = s.h.shape[-1]
    a, u = N.dot(x, p.W) + p.b, N.dot(s.h, p.U)
    slow = N.sigmoid(a[..., :H] + u[..., :H])
    fast = N.sigmoid(a[..., H : 2 * H] + u[..., H : 2 * H])
    z = (1 - fast) * s.z + fast * N.np.tanh(a[..., 2 * H : 3 * H] + u[..., 2 * H :])
    return (1 - slow) * s.h + slow * N.np.tanh(a[..., 3 * H :] + N.dot(z, p.V)), z


FORMULAS = {
    f.__name__: f
    for f in (
        *(peephole_lstm, lstm_nig, lstm_nfg, lstm_nog, lstm_niaf, lstm_noaf, lstm_cifg, lstm_fgr),
        *(gru_reset_before, mgu, light_gru, janet, fast_grnn, min_gru, min_lstm, ind_rnn),
        *(antisymmetric_rnn, indy_lstm, elementwise_lstm, multiplicative_lstm, layer_norm_lstm),
        *(slstm, mlstm, cornn, lem, ugrnn, ran, cfn, scrn, clockwork),
    )
}


def numpy_run(name, valid=None, resets=None):
    """`(params, state, xs) -> [*last state, *hs]` in NumPy alone, for complex steps.

    valid, resets: booleans (T, B): a step that is no step, and where the state is that of a
    sequence's beginning, which is the fourth argument.
    """

    def choose(flag, yes, no):
        pairs = zip(yes, no, strict=True)
        return [np.where(flag.reshape(-1, *(1,) * (y.ndim - 1)), y, n) for y, n in pairs]

    def run(params, state, xs, fresh=None):
        hs, kind = [], type(state)
        for t, x in enumerate(xs):
            seen = state if resets is None else kind(*choose(resets[t], fresh, state))
            new = kind(*FORMULAS[name](NUMPY, params, seen, x))
            state = new if valid is None else kind(*choose(valid[t], new, seen))
            hs.append(new[0] if valid is None else np.where(valid[t][:, None], new[0], 0))
        return [*state, *hs]

    return run


def plain_step(name):
    """`(params, state, x) -> state` in jax.numpy, as people write it."""
    return lambda params, state, x: type(state)(*FORMULAS[name](JAX, params, state, x))
