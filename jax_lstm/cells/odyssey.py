"""The LSTM with peepholes and its variants: the nine of "LSTM: A Search Space Odyssey".

    a = x W + h_prev U + b                                                    (1)
    i, f = sigmoid(a_i + p_i ⊙ c_prev, a_f + p_f ⊙ c_prev);  g = tanh(a_g)    (16), (2)
    c = f * c_prev + i * g                                                    (3)
    h = o * tanh(c),  o = sigmoid(a_o + p_o ⊙ c)                              (4), (16), (2)

    peephole_lstm   all of it: the vanilla LSTM of the study     4 (D H + H² + H) + 3 H
    lstm_nig        no input gate, i = 1                         3 (D H + H² + H) + 2 H
    lstm_nfg        no forget gate, f = 1                        3 (D H + H² + H) + 2 H
    lstm_nog        no output gate, o = 1                        3 (D H + H² + H) + 2 H
    lstm_niaf       no input activation function, g = a_g        4 (D H + H² + H) + 3 H
    lstm_noaf       no output activation function, h = o c       4 (D H + H² + H) + 3 H
    lstm_cifg       coupled input and forget gate, f = 1 - i     3 (D H + H² + H) + 2 H

The eighth, without peepholes (NP), is `lstm`; the ninth, full gate recurrence, is lstm_fgr.py. c_t
is a fork into tanh(c_t), the output gate's peephole, and up to four places of step t+1. All have
the chain rule of the LSTM, with other factors: see `slopes`.

Source: Greff et al. (2017), "LSTM: A Search Space Odyssey"; the equations of the peepholes as in
OpenVINO's documentation of LSTMCell, the variants as in the code of RNNLayers and of a
class SpaceOdisseyLSTM, which were read. The forget gate's offset begins at 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm.cells import packed
from jax_lstm.cells.initial import Init, make_init, ones_in_block
from jax_lstm.cells.lstm import LSTMState
from jax_lstm.engine.cell import Cell, Params
from jax_lstm.engine.made import partial
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.notation import GATES
from jax_lstm.stages import (
    align,
    bias_bwd,
    fork_bwd,
    linear_bwd_input,
    linear_bwd_weight,
    sigmoid,
    sigmoid_bwd,
    tanh,
    tanh_bwd,
)

__all__ = ["PEEPHOLE_LSTM", "PeepholeLSTMParams", "init_peephole_lstm", "init_peephole_lstm_state"]
__all__ += ["peephole_lstm", "peephole_lstm_autodiff"]
__all__ += ["peephole_lstm_cell", "peephole_lstm_cell_autodiff"]
__all__ += ["LSTM_NIG", "LSTMNIGParams", "init_lstm_nig", "init_lstm_nig_state"]
__all__ += ["lstm_nig", "lstm_nig_autodiff", "lstm_nig_cell", "lstm_nig_cell_autodiff"]
__all__ += ["LSTM_NFG", "LSTMNFGParams", "init_lstm_nfg", "init_lstm_nfg_state"]
__all__ += ["lstm_nfg", "lstm_nfg_autodiff", "lstm_nfg_cell", "lstm_nfg_cell_autodiff"]
__all__ += ["LSTM_NOG", "LSTMNOGParams", "init_lstm_nog", "init_lstm_nog_state"]
__all__ += ["lstm_nog", "lstm_nog_autodiff", "lstm_nog_cell", "lstm_nog_cell_autodiff"]
__all__ += ["LSTM_NIAF", "LSTMNIAFParams", "init_lstm_niaf", "init_lstm_niaf_state"]
__all__ += ["lstm_niaf", "lstm_niaf_autodiff", "lstm_niaf_cell", "lstm_niaf_cell_autodiff"]
__all__ += ["LSTM_NOAF", "LSTMNOAFParams", "init_lstm_noaf", "init_lstm_noaf_state"]
__all__ += ["lstm_noaf", "lstm_noaf_autodiff", "lstm_noaf_cell", "lstm_noaf_cell_autodiff"]
__all__ += ["LSTM_CIFG", "LSTMCIFGParams", "init_lstm_cifg", "init_lstm_cifg_state"]
__all__ += ["lstm_cifg", "lstm_cifg_autodiff", "lstm_cifg_cell", "lstm_cifg_cell_autodiff"]


class Variant(NamedTuple):
    """What a variant has: its blocks side by side, and how f, g and h come about."""

    blocks: tuple[str, ...] = GATES
    coupled: bool = False
    input_tanh: bool = True
    output_tanh: bool = True


VARIANTS = {
    "peephole_lstm": Variant(),
    "lstm_nig": Variant(("f", "g", "o")),
    "lstm_nfg": Variant(("i", "g", "o")),
    "lstm_nog": Variant(("i", "f", "g")),
    "lstm_niaf": Variant(input_tanh=False),
    "lstm_noaf": Variant(output_tanh=False),
    "lstm_cifg": Variant(("i", "g", "o"), coupled=True),
}


def peepholes(v, p, c):
    """{gate: (H,)} of p, the blocks of the gates that see c, side by side."""
    names = [k for k in v.blocks if k != "g"]
    return dict(zip(names, packed.blocks_of(align(p, c).astype(c.dtype), len(names)), strict=True))


def times(gate, x):
    """gate ⊙ x; x where there is no gate."""
    return x if gate is None else gate * x


def gates_of(v, saved):
    """i, f, g, o; None where there is no gate."""
    gates = dict(zip(v.blocks, saved, strict=True))
    i = gates.get("i")
    f = 1 - gates["i"] if v.coupled else gates.get("f")
    return i, f, gates["g"], gates.get("o")


def step_from(v, w, prev, a):
    """(2) to (4) of a net input: h, c, and the blocks in their order."""
    a, c_prev = dict(zip(v.blocks, packed.blocks_of(a, len(v.blocks)), strict=True)), prev.c
    p = peepholes(v, w.p, c_prev)
    gates = {k: sigmoid(a[k] + p[k] * c_prev) for k in ("i", "f") if k in a}  # (16), (2)
    gates["g"] = tanh(a["g"]) if v.input_tanh else a["g"]  # (2)
    i, f, g, _ = gates_of(v, [gates.get(k) for k in v.blocks])
    c = times(f, c_prev) + times(i, g)  # (3)
    if "o" in a:
        gates["o"] = sigmoid(a["o"] + p["o"] * c)  # (16), (2)
    h = times(gates.get("o"), tanh(c) if v.output_tanh else c)  # (4)
    return h.astype(prev.h.dtype), c, tuple(gates[k] for k in v.blocks)


def step(v, w, prev, z):
    h, c, saved = step_from(v, w, prev, packed.net_input(w, prev.h, z))
    return LSTMState(h, c), saved


def slopes(v, w, prevs, saved):
    """What dh is going to be multiplied with on its way to da_o and c_t, and dc on its way to the
    other blocks and c_{t-1}: da, dc, dc_prev. c is recomputed."""
    c_prev, p = prevs.c, peepholes(v, w.p, prevs.c)
    i, f, g, o = gates_of(v, saved)
    c = times(f, c_prev) + times(i, g)
    one = jnp.ones_like(c)
    s = tanh(c) if v.output_tanh else c
    dc, da = times(o, tanh_bwd(s, one) if v.output_tanh else one), {}  # (4')
    if o is not None:
        da["o"] = sigmoid_bwd(o, s)  # (4'), (2')
        dc, _ = fork_bwd(None, (dc, p["o"] * da["o"]))  # (F') at c_t: tanh(c_t), peephole
    dg = times(i, one)  # (3')
    da["g"] = tanh_bwd(g, dg) if v.input_tanh else dg  # (2')
    dc_prev = times(f, one)  # (3')
    if i is not None:
        da["i"] = sigmoid_bwd(i, g - c_prev if v.coupled else g)  # (3'), (2')
        dc_prev = dc_prev + p["i"] * da["i"]  # (F') at c_{t-1}
    if f is not None and not v.coupled:
        da["f"] = sigmoid_bwd(f, c_prev)  # (3'), (2')
        dc_prev = dc_prev + p["f"] * da["f"]  # (F') at c_{t-1}
    return packed.side_by_side(*(da[k] for k in v.blocks)), dc, dc_prev


def step_bwd(v, w, prev, slopes, dstate):
    da, dc_prev = net_input_bwd(v, slopes, dstate)
    return LSTMState(linear_bwd_input(w.U, da), dc_prev), da  # (1'x)


def net_input_bwd(v, slopes, dstate):
    """da and dc_prev: a step in reverse, but for the product with U."""
    da, dc, dc_prev = slopes
    dc, _ = fork_bwd(None, (dstate.c, dstate.h * dc))  # (F') at c_t
    da = da * packed.side_by_side(*(dstate.h if k == "o" else dc for k in v.blocks))
    return da, dc * dc_prev


def weights_bwd(v, kind, w, xs, prevs, saved, das):
    """dW, dU, db, and dp: each peephole is a fork over steps and examples, as an offset is."""
    dW, db, dxs = packed.input_bwd(w, xs, das)
    i, f, g, _ = gates_of(v, saved)
    seen = {"i": prevs.c, "f": prevs.c, "o": times(f, prevs.c) + times(i, g)}
    da = dict(zip(v.blocks, packed.blocks_of(das, len(v.blocks)), strict=True))
    dp = [bias_bwd(None, da[k] * seen[k])[1] for k in v.blocks if k != "g"]  # (16')
    return kind(dW, linear_bwd_weight(prevs.h, das), db, jnp.concatenate(dp)), dxs


def shapes_of(v: Variant) -> tuple[tuple[str, str], ...]:
    n = len(v.blocks)
    return ("W", f"D,{n}H"), ("U", f"H,{n}H"), ("b", f"{n}H"), ("p", f"{n - 1}H")


def draw(name: str, kind: type[Params]) -> Init[Params]:
    v = VARIANTS[name]
    own = {"b": ones_in_block(len(v.blocks), v.blocks.index("f"))} if "f" in v.blocks else {}
    return make_init(name, kind, shapes_of(v), **own)


def variant(name: str, kind: type[Params], init: Init[Params]) -> Cell[Params, LSTMState]:
    v = VARIANTS[name]
    return Cell(
        name=name,
        params=kind,
        state=LSTMState,
        shapes=shapes_of(v),
        fields=(("h", "H"), ("c", "wide H")),
        gates=v.blocks,
        init=init,
        project=packed.project,
        step=partial(step, v),
        slopes=partial(slopes, v),
        step_bwd=partial(step_bwd, v),
        weights_bwd=partial(weights_bwd, v, kind),
    )


# What people call -----------------------------------------------------------------------------


class PeepholeLSTMParams(NamedTuple):
    """W (D, 4H), U (H, 4H), b (4H,): blocks i, f, g, o side by side; p (3H,): i, f, o."""

    W: jax.Array
    U: jax.Array
    b: jax.Array
    p: jax.Array


init_peephole_lstm = draw("peephole_lstm", PeepholeLSTMParams)
PEEPHOLE_LSTM = variant("peephole_lstm", PeepholeLSTMParams, init_peephole_lstm)
init_peephole_lstm_state = make_init_state(PEEPHOLE_LSTM)
peephole_lstm_cell, peephole_lstm_cell_autodiff, peephole_lstm, peephole_lstm_autodiff = routes(
    PEEPHOLE_LSTM, "the LSTM with peepholes"
)


class LSTMNIGParams(NamedTuple):
    """W (D, 3H), U (H, 3H), b (3H,): blocks f, g, o side by side; p (2H,): f, o."""

    W: jax.Array
    U: jax.Array
    b: jax.Array
    p: jax.Array


init_lstm_nig = draw("lstm_nig", LSTMNIGParams)
LSTM_NIG = variant("lstm_nig", LSTMNIGParams, init_lstm_nig)
init_lstm_nig_state = make_init_state(LSTM_NIG)
lstm_nig_cell, lstm_nig_cell_autodiff, lstm_nig, lstm_nig_autodiff = routes(
    LSTM_NIG, "the LSTM without input gate"
)


class LSTMNFGParams(NamedTuple):
    """W (D, 3H), U (H, 3H), b (3H,): blocks i, g, o side by side; p (2H,): i, o."""

    W: jax.Array
    U: jax.Array
    b: jax.Array
    p: jax.Array


init_lstm_nfg = draw("lstm_nfg", LSTMNFGParams)
LSTM_NFG = variant("lstm_nfg", LSTMNFGParams, init_lstm_nfg)
init_lstm_nfg_state = make_init_state(LSTM_NFG)
lstm_nfg_cell, lstm_nfg_cell_autodiff, lstm_nfg, lstm_nfg_autodiff = routes(
    LSTM_NFG, "the LSTM without forget gate"
)


class LSTMNOGParams(NamedTuple):
    """W (D, 3H), U (H, 3H), b (3H,): blocks i, f, g side by side; p (2H,): i, f."""

    W: jax.Array
    U: jax.Array
    b: jax.Array
    p: jax.Array


init_lstm_nog = draw("lstm_nog", LSTMNOGParams)
LSTM_NOG = variant("lstm_nog", LSTMNOGParams, init_lstm_nog)
init_lstm_nog_state = make_init_state(LSTM_NOG)
lstm_nog_cell, lstm_nog_cell_autodiff, lstm_nog, lstm_nog_autodiff = routes(
    LSTM_NOG, "the LSTM without output gate"
)


class LSTMNIAFParams(NamedTuple):
    """W (D, 4H), U (H, 4H), b (4H,): blocks i, f, g, o side by side; p (3H,): i, f, o."""

    W: jax.Array
    U: jax.Array
    b: jax.Array
    p: jax.Array


init_lstm_niaf = draw("lstm_niaf", LSTMNIAFParams)
LSTM_NIAF = variant("lstm_niaf", LSTMNIAFParams, init_lstm_niaf)
init_lstm_niaf_state = make_init_state(LSTM_NIAF)
lstm_niaf_cell, lstm_niaf_cell_autodiff, lstm_niaf, lstm_niaf_autodiff = routes(
    LSTM_NIAF, "the LSTM without input activation function"
)


class LSTMNOAFParams(NamedTuple):
    """W (D, 4H), U (H, 4H), b (4H,): blocks i, f, g, o side by side; p (3H,): i, f, o."""

    W: jax.Array
    U: jax.Array
    b: jax.Array
    p: jax.Array


init_lstm_noaf = draw("lstm_noaf", LSTMNOAFParams)
LSTM_NOAF = variant("lstm_noaf", LSTMNOAFParams, init_lstm_noaf)
init_lstm_noaf_state = make_init_state(LSTM_NOAF)
lstm_noaf_cell, lstm_noaf_cell_autodiff, lstm_noaf, lstm_noaf_autodiff = routes(
    LSTM_NOAF, "the LSTM without output activation function"
)


class LSTMCIFGParams(NamedTuple):
    """W (D, 3H), U (H, 3H), b (3H,): blocks i, g, o side by side; p (2H,): i, o."""

    W: jax.Array
    U: jax.Array
    b: jax.Array
    p: jax.Array


init_lstm_cifg = draw("lstm_cifg", LSTMCIFGParams)
LSTM_CIFG = variant("lstm_cifg", LSTMCIFGParams, init_lstm_cifg)
init_lstm_cifg_state = make_init_state(LSTM_CIFG)
lstm_cifg_cell, lstm_cifg_cell_autodiff, lstm_cifg, lstm_cifg_autodiff = routes(
    LSTM_CIFG, "the LSTM with coupled input and forget gate"
)
