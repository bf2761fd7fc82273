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
from jax_lstm.cells.activated import IDENTITY, SIGMOID, TANH, Nonlinear, fire, fire_bwd, output
from jax_lstm.cells.initial import Init, make_init, ones_in_block
from jax_lstm.cells.lstm import LSTMState
from jax_lstm.engine.cell import Cell, Params
from jax_lstm.engine.made import partial
from jax_lstm.engine.routes import make_init_state, routes
from jax_lstm.notation import GATES
from jax_lstm.stages import (
    align,
    bias_bwd,
    clip,
    clip_bwd,
    fork_bwd,
    linear_bwd_input,
    linear_bwd_weight,
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
    """What a variant has: its blocks side by side, what each goes through and c on its way out, and
    how f comes about. `make_gated` makes others."""

    blocks: tuple[str, ...] = GATES
    coupled: bool = False
    g: Nonlinear = TANH
    c: Nonlinear = TANH
    i: Nonlinear = SIGMOID
    f: Nonlinear = SIGMOID
    o: Nonlinear = SIGMOID
    peepholes: bool = True
    cell_clip: float | None = None


VARIANTS = {
    "peephole_lstm": Variant(),
    "lstm_nig": Variant(("f", "g", "o")),
    "lstm_nfg": Variant(("i", "g", "o")),
    "lstm_nog": Variant(("i", "f", "g")),
    "lstm_niaf": Variant(g=IDENTITY),
    "lstm_noaf": Variant(c=IDENTITY),
    "lstm_cifg": Variant(("i", "g", "o"), coupled=True),
}


def peepholes(v, w, c):
    """{gate: (H,)} of p, the blocks of the gates that see c, side by side; {} where none does."""
    if not v.peepholes:
        return {}
    names = [k for k in v.blocks if k != "g"]
    return dict(
        zip(names, packed.blocks_of(align(w.p, c).astype(c.dtype), len(names)), strict=True)
    )


def times(gate, x):
    """gate ⊙ x; x where there is no gate."""
    return x if gate is None else gate * x


def with_peephole(p, k, a, c):
    return a[k] + p[k] * c if k in p else a[k]  # (16)


def gates_of(v, outputs):
    """i, f, g, o; None where there is no gate."""
    i = outputs.get("i")
    f = 1 - outputs["i"] if v.coupled else outputs.get("f")
    return i, f, outputs["g"], outputs.get("o")


def gates_kept(v, saved):
    """The same, of what a step kept."""
    pairs = zip(v.blocks, saved, strict=True)
    return gates_of(v, {k: output(getattr(v, k), kept) for k, kept in pairs})


def new_cell(v, i, f, g, c_prev):
    """c, perhaps clipped.                                              (3), (37)"""
    c = times(f, c_prev) + times(i, g)
    return c if v.cell_clip is None else clip(c, v.cell_clip)


def step_from(v, w, prev, a):
    """(2) to (4) of a net input: h, c, and what is kept of the blocks in their order."""
    a, c_prev = dict(zip(v.blocks, packed.blocks_of(a, len(v.blocks)), strict=True)), prev.c
    p = peepholes(v, w, c_prev)
    fired = {k: fire(getattr(v, k), with_peephole(p, k, a, c_prev)) for k in a if k != "o"}
    i, f, g, _ = gates_of(v, {k: y for k, (y, _) in fired.items()})  # (16), (2)
    c = new_cell(v, i, f, g, c_prev)  # (3)
    if "o" in a:
        fired["o"] = fire(v.o, with_peephole(p, "o", a, c))  # (16), (2)
    h = times(fired["o"][0] if "o" in a else None, fire(v.c, c)[0])  # (4)
    return h.astype(prev.h.dtype), c, tuple(fired[k][1] for k in v.blocks)


def step(v, w, prev, z):
    h, c, saved = step_from(v, w, prev, packed.net_input(w, prev.h, z))
    return LSTMState(h, c), saved


def slopes(v, w, prevs, saved):
    """What dh is going to be multiplied with on its way to da_o and c_t, and dc on its way to the
    other blocks and c_{t-1}: da, dc, dc_prev. c is recomputed."""
    c_prev, p = prevs.c, peepholes(v, w, prevs.c)
    i, f, g, o = gates_kept(v, saved)
    kept, da = dict(zip(v.blocks, saved, strict=True)), {}
    c = new_cell(v, i, f, g, c_prev)
    one = jnp.ones_like(c)
    s, kept_c = fire(v.c, c)
    dc = times(o, fire_bwd(v.c, kept_c, one))  # (4')
    if o is not None:
        da["o"] = fire_bwd(v.o, kept["o"], s)  # (4'), (2')
        dc = fork_of_peephole(p, "o", dc, da)  # (F') at c_t: the state's tanh, peephole
    dnew = one if v.cell_clip is None else clip_bwd((c, v.cell_clip), one)[0]  # (37')
    da["g"] = fire_bwd(v.g, kept["g"], times(i, dnew))  # (3'), (2')
    dc_prev = times(f, dnew)  # (3')
    if i is not None:
        di = (g - c_prev if v.coupled else g) * dnew  # (3'), and f = 1 - i
        da["i"] = fire_bwd(v.i, kept["i"], di)  # (2')
        dc_prev = fork_of_peephole(p, "i", dc_prev, da)  # (F') at c_{t-1}
    if f is not None and not v.coupled:
        da["f"] = fire_bwd(v.f, kept["f"], c_prev * dnew)  # (3'), (2')
        dc_prev = fork_of_peephole(p, "f", dc_prev, da)  # (F') at c_{t-1}
    return packed.side_by_side(*(da[k] for k in v.blocks)), dc, dc_prev


def fork_of_peephole(p, k, dc, da):
    """dc, and what comes back through the peephole of gate k.                (F')"""
    return fork_bwd(None, (dc, p[k] * da[k]))[0] if k in p else dc


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
    dU = linear_bwd_weight(prevs.h, das)
    if not v.peepholes:
        return kind(dW, dU, db), dxs
    i, f, g, _ = gates_kept(v, saved)
    seen = {"i": prevs.c, "f": prevs.c, "o": new_cell(v, i, f, g, prevs.c)}
    da = dict(zip(v.blocks, packed.blocks_of(das, len(v.blocks)), strict=True))
    dp = [bias_bwd(None, da[k] * seen[k])[1] for k in v.blocks if k != "g"]  # (16')
    return kind(dW, dU, db, jnp.concatenate(dp)), dxs


def shapes_of(v: Variant) -> tuple[tuple[str, str], ...]:
    n = len(v.blocks)
    own = (("p", f"{n - 1}H"),) if v.peepholes else ()
    return ("W", f"D,{n}H"), ("U", f"H,{n}H"), ("b", f"{n}H"), *own


def draw(name: str, kind: type[Params], v: Variant | None = None) -> Init[Params]:
    v = VARIANTS[name] if v is None else v
    own = {"b": ones_in_block(len(v.blocks), v.blocks.index("f"))} if "f" in v.blocks else {}
    return make_init(name, kind, shapes_of(v), **own)


def variant(
    name: str, kind: type[Params], init: Init[Params], v: Variant | None = None
) -> Cell[Params, LSTMState]:
    v = VARIANTS[name] if v is None else v
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
