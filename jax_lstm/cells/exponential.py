"""What sLSTM and mLSTM share: gates that are exponentials, with a stabiliser.

    l = log_sigmoid(a_f) + m_prev                                             (22), (14)
    m = max(l, a_i)                                                           (23)
    i = exp(a_i - m);  f = exp(l - m)                                         (24)

m is one more field of the state: it scales c and n down by exp(m), so that no exponential
overflows, and cancels in h. Its cotangent is what the final c, n and m are asked for; the maximum
hands it to the larger branch. A sequence begins with c = n = 0 and with m so low that the first a_i
decides; m = 0, where resets lead that name no state, is the same h.
"""

from typing import Any

import jax.numpy as jnp

from jax_lstm.engine.cell import Cell, Params, State
from jax_lstm.engine.routes import init_state
from jax_lstm.stages import fork_bwd, log_sigmoid, log_sigmoid_bwd

LOWEST = -1e30  # exp of it is 0, and nothing overflows on the way


def with_beginning(cell: Cell[Params, State]) -> Cell[Params, State]:
    """The cell, whose state begins with zeros and the lowest stabiliser."""

    def first(params: Any, batch_shape: tuple[int, ...]) -> Any:
        state: Any = init_state(cell, params, batch_shape)
        return state._replace(m=jnp.full_like(state.m, LOWEST))

    return cell._replace(init_state=first)


def exponential_gates(a_i, a_f, m_prev):
    """i, f, m, and what the twin wants: log_sigmoid(a_f), and 1 where m_{t-1} decides, else 0."""
    log_f = log_sigmoid(a_f)  # (22)
    stay = log_f + m_prev  # (14)
    stays = jnp.real(stay) > jnp.real(a_i)
    m = jnp.where(stays, stay, a_i)  # (23)
    return jnp.exp(a_i - m), jnp.exp(stay - m), m, (log_f, stays.astype(log_f.dtype))


def exponential_gates_bwd(residual, di, df, dm):
    """da_i, da_f, dm_prev                                                    (24'), (23'), (22')"""
    i, f, (log_f, stays) = residual
    di, df = di * i, df * f  # (24'): an exponential is its own derivative
    dm, _ = fork_bwd(None, (dm, -di, -df))  # (F') at m_t
    dstay, _ = fork_bwd(None, (df, stays * dm))  # (23'), (F')
    da_i, _ = fork_bwd(None, (di, (1 - stays) * dm))  # (23'), (F')
    return da_i, log_sigmoid_bwd(log_f, dstay), dstay  # (22'), (14')
