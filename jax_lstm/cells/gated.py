"""GATED CELLS by description: which gates, what each goes through, what is clipped, how many heads.

    "lstm"              i, f, g, o, and c on its way to h    peepholes, coupled i and f, cell_clip
    "gru"               r, z, n                              reset after the product
    "gru_reset_before"  r, z, n                              reset before the product
    "mgu"               f, n                                 one gate for both
    "elman"             a

`make_gated` gives the record of one, of which all else is made: `make_rnn(make_gated("lstm",
activations={"g": "softsign"}, clip=3.0))`. Each gate goes through

    y = f(clip(a))                                                            (37), (29) to (36)

A record of the same description is the same record, so that JAX compiles once. Where nothing is
said of them the functions are those of the cell of that name.

Parameters: those of the cell of that name; of coupled gates 3 (D H + H² + H), 2 H more with
peepholes. Source: the operators LSTM, GRU and RNN of ONNX, whose documentation was read (2024):
the list of functions, clip and input_forget; Sak et al. (2014) for clipping c.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm.cells import gru, odyssey, packed
from jax_lstm.cells.activated import (
    SIGMOID,
    TANH,
    Activation,
    Nonlinear,
    check_activations,
    check_bound,
    fire,
    fire_bwd,
    output,
)
from jax_lstm.cells.elman import ELMAN, ElmanState
from jax_lstm.cells.gru import GRU, GRUState
from jax_lstm.cells.heads import in_heads
from jax_lstm.cells.lstm import LSTMParams
from jax_lstm.cells.odyssey import LSTMCIFGParams, PeepholeLSTMParams, Variant
from jax_lstm.cells.reset_before import (
    Form,
    GRUResetBeforeParams,
    MGUParams,
    init_gru_reset_before,
    init_mgu,
    unit,
)
from jax_lstm.doors import check_flag, check_size, refuse
from jax_lstm.engine.cell import AnyCell
from jax_lstm.engine.made import partial
from jax_lstm.notation import GATES
from jax_lstm.stages import (
    add,
    add_bwd,
    bias,
    fork_bwd,
    linear,
    linear_bwd_input,
    product,
    product_bwd,
)

__all__ = ["Activation", "CoupledLSTMParams", "make_gated"]


class CoupledLSTMParams(NamedTuple):
    """W (D, 3H), U (H, 3H), b (3H,): blocks i, g, o side by side; f = 1 - i."""

    W: jax.Array
    U: jax.Array
    b: jax.Array


class Gated(NamedTuple):
    """The description of a gated cell: hashable, and equal to its like."""

    kind: str
    gates: tuple[tuple[str, Nonlinear], ...]
    peepholes: bool = False
    coupled: bool = False
    cell_clip: float | None = None


# The plain network ------------------------------------------------------------------------------


def elman_step(gate, w, prev, z):
    h, kept = fire(gate, packed.net_input(w, prev.h, z))  # (1), (2)
    return ElmanState(h.astype(prev.h.dtype)), kept


def elman_step_bwd(gate, w, prev, kept, dstate):
    da = fire_bwd(gate, kept, dstate.h)  # (2')
    return ElmanState(linear_bwd_input(w.U, da)), da  # (1'x)


def elman_of(gates: dict[str, Nonlinear]) -> AnyCell:
    gate = gates["a"]
    return ELMAN._replace(step=partial(elman_step, gate), step_bwd=partial(elman_step_bwd, gate))


# The GRU whose reset comes after the product ----------------------------------------------------


def gru_step(r, z, n, w, prev, a):
    u_r, u_z, u_n = gru.cut(bias(linear(prev.h, w.U), w.c))  # (1)
    a_r, a_z, a_n = gru.cut(a)
    (y_r, kept_r), (y_z, kept_z) = fire(r, a_r + u_r), fire(z, a_z + u_z)  # (2)
    y_n, kept_n = fire(n, a_n + product(y_r, u_n))  # (16), (2)
    h = add(y_n, product(y_z, prev.h.astype(y_z.dtype) - y_n))  # (16), (14)
    return GRUState(h.astype(prev.h.dtype)), (kept_r, kept_z, kept_n, u_n)


def gru_slopes(r, z, n, w, prevs, saved):
    """The twins of a step at the cotangent 1, as those of gru.py."""
    kept_r, kept_z, kept_n, u_n = saved
    y_r, y_z, y_n = output(r, kept_r), output(z, kept_z), output(n, kept_n)
    dn, dzd = add_bwd(None, jnp.ones_like(y_z))  # (14')
    dz, dd = product_bwd((y_z, prevs.h.astype(y_z.dtype) - y_n), dzd)  # (16')
    dn, _ = fork_bwd(None, (dn, -dd))  # (F') at n: into h, and into d = h_prev - n
    da_n = fire_bwd(n, kept_n, dn)  # (2')
    dr, du_n = product_bwd((y_r, u_n), da_n)  # (16')
    return packed.side_by_side(fire_bwd(r, kept_r, dr), fire_bwd(z, kept_z, dz), da_n), du_n, dd


def gru_of(gates: dict[str, Nonlinear]) -> AnyCell:
    three = (gates["r"], gates["z"], gates["n"])
    return GRU._replace(step=partial(gru_step, *three), slopes=partial(gru_slopes, *three))


# The others, whose files take a description -----------------------------------------------------


def reset_before_of(gates: dict[str, Nonlinear]) -> AnyCell:
    form = Form(gates["r"], gates["z"], gates["n"])
    return unit("gru_reset_before", GRUResetBeforeParams, tuple(gates), form, init_gru_reset_before)


def mgu_of(gates: dict[str, Nonlinear]) -> AnyCell:
    return unit("mgu", MGUParams, tuple(gates), Form(gates["f"], None, gates["n"]), init_mgu)


def lstm_of(told: Gated) -> AnyCell:
    name, kind = {
        (False, False): ("lstm", LSTMParams),
        (False, True): ("coupled_lstm", CoupledLSTMParams),
        (True, False): ("peephole_lstm", PeepholeLSTMParams),
        (True, True): ("lstm_cifg", LSTMCIFGParams),
    }[told.peepholes, told.coupled]
    v = Variant(
        tuple(k for k in GATES if k != "f" or not told.coupled),
        told.coupled,
        peepholes=told.peepholes,
        cell_clip=told.cell_clip,
        **dict(told.gates),
    )
    return odyssey.variant(name, kind, odyssey.draw(name, kind, v), v)


# Which gates there are, and what they go through where nothing is said
USUAL: dict[str, dict[str, Nonlinear]] = {
    "lstm": {"i": SIGMOID, "f": SIGMOID, "g": TANH, "o": SIGMOID, "c": TANH},
    "gru": {"r": SIGMOID, "z": SIGMOID, "n": TANH},
    "gru_reset_before": {"r": SIGMOID, "z": SIGMOID, "n": TANH},
    "mgu": {"f": SIGMOID, "n": TANH},
    "elman": {"a": TANH},
}
OF_GATES = {"gru": gru_of, "gru_reset_before": reset_before_of, "mgu": mgu_of, "elman": elman_of}


def make_gated(
    kind: str = "lstm",
    *,
    activations: Mapping[str, str | Activation] | None = None,
    clip: float | None = None,
    cell_clip: float | None = None,
    peepholes: bool = False,
    coupled: bool = False,
    n_heads: int = 1,
) -> AnyCell:
    """The record of a gated cell by description; `make_rnn` and all else take it.

    Args:
      kind: "lstm", "gru" (reset after the product), "gru_reset_before", "mgu" or "elman".
      activations: {gate: function}: a name, say "relu", or an `Activation` with its numbers. The
        gates are i, f, g, o and c, which is h = o ⊙ f(c), of the LSTM (no f where it is coupled);
        r, z, n of the GRU; f, n of the MGU; a of the plain network. Gates that are left out keep
        sigmoid or tanh.
      clip: the net input of each gate is kept in [-clip, clip], peepholes included, as ONNX has it;
        where it is cut the gradient is 0. None: it is not clipped.
      cell_clip: likewise the new c of the LSTM, before anything sees it.
      peepholes: whether i, f and o of the LSTM see c, by p.
      coupled: f = 1 - i of the LSTM: 3 blocks instead of 4.
      n_heads: U is block-diagonal: so many heads of H / n_heads units, see `in_heads`.

    Returns:
      A `Cell` whose parameters are those of the cell of that name: `LSTMParams`,
      `PeepholeLSTMParams`, `LSTMCIFGParams`, `CoupledLSTMParams` (coupled, no peepholes),
      `GRUParams`, `GRUResetBeforeParams`, `MGUParams`, `ElmanParams`; its `init` draws them. The
      same description gives the same record.

    Raises:
      ValueError: an unknown kind, gate or function, alpha or beta where the function takes none, a
        bound that is not above 0, options of the LSTM for another kind, n_heads < 1.

    Source: ONNX's operators LSTM, GRU and RNN.
    """
    if not isinstance(kind, str) or kind not in USUAL:
        refuse("kind", f"one of {', '.join(USUAL)}", kind)
    check_flag("peepholes", peepholes)
    check_flag("coupled", coupled)
    bound, cell_bound = check_bound("clip", clip), check_bound("cell_clip", cell_clip)
    for name, x in (("peepholes", peepholes), ("coupled", coupled), ("cell_clip", cell_bound)):
        if kind != "lstm" and x:
            refuse(name, f"left out: the kind {kind} has none", x)
    usual = {k: gate for k, gate in USUAL[kind].items() if k != "f" or not coupled}
    gates = check_activations(activations, usual, bound)
    n_heads = check_size("n_heads", n_heads, 1)
    return record(Gated(kind, gates, bool(peepholes), bool(coupled), cell_bound), n_heads)


@functools.cache
def record(told: Gated, n_heads: int) -> AnyCell:
    gates = dict(told.gates)
    cell = lstm_of(told) if told.kind == "lstm" else OF_GATES[told.kind](gates)
    cell = cell._replace(options=tuple(told._asdict().items()))
    return cell if n_heads == 1 else in_heads(cell, n_heads)
