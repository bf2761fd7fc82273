"""HEADS: a cell whose U is block-diagonal, of any cell. This file knows no gate.

    U = diag(U_1, ..., U_N):  h U = [h_1 U_1, ..., h_N U_N]                   (38)

N blocks on the diagonal are N cells of H / N units side by side that read the same x. So the rules
of a cell in heads are those of the cell, for each head, and one fork: dx is the sum over heads. A
step multiplies by N (H/N)² numbers per block instead of H².

Each array of the parameters has an axis more, of heads, in front: U (N, H/N, 4H/N) for the LSTM.
A field of the state that is one row of units has the units of head 1, then those of head 2; one of
another form has an axis of heads in front.

All of a cell is its head's own: a layer norm is over the units of a head, a projection is a
head's. Source: Beck et al. (2024), "xLSTM: Extended long short-term memory", whose sLSTM has heads.
"""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from jax_lstm.doors import check_init, check_size, refuse
from jax_lstm.engine.cell import AnyCell
from jax_lstm.engine.doors import check_record
from jax_lstm.engine.made import partial
from jax_lstm.engine.shapes import axes_of, is_wide
from jax_lstm.stages import fork_bwd

__all__ = ["in_heads"]

UNITS = -2  # the axis of heads where one axis of units is behind it


def in_heads(cell: AnyCell, n_heads: int) -> AnyCell:
    """The cell with a block-diagonal U: so many cells side by side that read the same x.

    Args:
      cell: a `Cell` with shapes, fields and `init`, whose steps take no masks: wrap recurrent
        dropout and zoneout around what comes back.
      n_heads: N, a whole number >= 1.

    Returns:
      A `Cell` named "... in N heads". Its parameters are the cell's, each array with an axis of
      heads in front; h (..., H) as ever. Its `init` takes H, which must be a multiple of N, and
      what else the cell's own takes. Equal makes are equal.

    Raises:
      ValueError: no record, or one without shapes or with masks; n_heads that is no number >= 1.

    Source: Beck et al. (2024), "xLSTM: Extended long short-term memory".
    """
    check_record("cell", cell)
    n = check_size("n_heads", n_heads, 1)
    if not cell.shapes or not cell.fields or cell.init is None:
        refuse("cell", "a Cell with shapes, fields and init", cell.name)
    if cell.consts is not None or cell.beside:
        refuse("cell", "a Cell without masks, dropout and zoneout around its heads", cell.name)
    told = (cell, n)
    return cell._replace(
        name=f"{cell.name} in {n} heads",
        shapes=tuple((name, in_front(n, text)) for name, text in cell.shapes),
        fields=tuple((name, of_all(n, text)) for name, text in cell.fields),
        init=partial(init, *told),
        init_state=cell.init_state and partial(init_state, *told),
        prepare=partial(prepare, *told),
        prepare_bwd=cell.prepare_bwd and partial(prepare_bwd, *told),
        project=partial(project, *told),
        step=partial(step, *told, cell.step),
        step_for_jax=cell.step_for_jax and partial(step, *told, cell.step_for_jax),
        slopes=partial(slopes, *told),
        step_bwd=partial(step_bwd, *told),
        weights_bwd=partial(weights_bwd, *told),
        affine=None,
        diagonal=None,
        options=(*cell.options, ("n_heads", n)),
    )


# Shapes -----------------------------------------------------------------------------------------


def in_front(n, text):
    """The shape with an axis of heads: "H,4H" is "2,H,4H"."""
    axes = ",".join((str(n), *axes_of(text)))
    return f"wide {axes}" if is_wide(text) else axes


def of_all(n, text):
    """The field of all heads: one axis of units is n times as long, "wide H" is "wide 2H"."""
    axes = axes_of(text)
    if len(axes) > 1:
        return in_front(n, text)
    terms = re.fullmatch(r"(\d*)(\w*)", "".join(axes))
    if terms is None:
        raise ValueError(f"a field of heads must be a multiple of a letter; got {text!r}")
    more = f"{n * int(terms[1] or 1)}{terms[2]}"
    return f"wide {more}" if is_wide(text) else more


def axes_of_heads(cell):
    """Where a state that is cut has its heads, field by field."""
    return cell.state(*(-1 - len(axes_of(text)) for _, text in cell.fields))


def cut(cell, n, state):
    """Units (..., NH) as (..., N, H); where there is an axis of heads it stays."""
    return cell.state(
        *(
            x.reshape((*x.shape[:-1], n, x.shape[-1] // n)) if axis == UNITS else x
            for x, axis in zip(state, axes_of_heads(cell), strict=True)
        )
    )


def join(cell, state):
    return cell.state(
        *(
            x.reshape((*x.shape[:-2], x.shape[-2] * x.shape[-1])) if axis == UNITS else x
            for x, axis in zip(state, axes_of_heads(cell), strict=True)
        )
    )


# The rules, for each head -----------------------------------------------------------------------


def prepare(cell, n, params, consts=None):
    return jax.vmap(lambda params: cell.prepare(params, None))(params)


def prepare_bwd(cell, n, params, dw):
    return jax.vmap(lambda *args: cell.prepare_bwd(*args)[0])(params, dw), None


def project(cell, n, w, xs):
    return jax.vmap(cell.project, (0, None), UNITS)(w, xs)  # a fork: every head reads x


def step(cell, n, one, w, prev, z):
    axes = axes_of_heads(cell)
    state, saved = jax.vmap(one, (0, axes, UNITS), (axes, UNITS))(w, cut(cell, n, prev), z)
    return join(cell, state), saved


def slopes(cell, n, w, prevs, saved):
    axes = axes_of_heads(cell)
    return jax.vmap(cell.slopes, (0, axes, UNITS), UNITS)(w, cut(cell, n, prevs), saved)


def step_bwd(cell, n, w, prev, slopes, dstate):
    axes = axes_of_heads(cell)
    prev, dstate = cut(cell, n, prev), cut(cell, n, dstate)
    each = jax.vmap(cell.step_bwd, (0, axes, UNITS, axes), (axes, UNITS))
    dprev, delta = each(w, prev, slopes, dstate)
    return join(cell, dprev), delta


def weights_bwd(cell, n, w, xs, prevs, saved, deltas):
    """Head by head: as many products, for on a CPU a batched one takes longer."""
    prevs, axes = cut(cell, n, prevs), axes_of_heads(cell)
    found = []
    for head in range(n):
        take = functools.partial(lax.index_in_dim, index=head, keepdims=False)
        seen = cell.state(*(take(x, axis=k) for x, k in zip(prevs, axes, strict=True)))
        own = jax.tree.map(functools.partial(take, axis=UNITS), (saved, deltas))
        found.append(cell.weights_bwd(jax.tree.map(take, w), xs, seen, *own))
    dparams = jax.tree.map(lambda *parts: jnp.stack(parts), *(d for d, _ in found))
    return dparams, fork_bwd(None, [dx for _, dx in found])[0]  # (F') at x


# What the record says besides -------------------------------------------------------------------


def init(
    cell: AnyCell,
    n: int,
    key: jax.Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    **sizes: Any,
) -> Any:
    """The parameters of each head, drawn as those of the cell.

    Args:
      cell, n: whose parameters, and how many heads.
      key, input_size, hidden_size, dtype: as of the cell's `init`; hidden_size is that of all.
      sizes: what the cell's `init` takes besides; of one head.

    Raises:
      ValueError: a hidden_size that is no multiple of n; what the cell's `init` raises.
    """
    D, H = check_init(key, dtype, input_size=input_size, hidden_size=hidden_size)
    if H % n:
        refuse("hidden_size", f"a multiple of n_heads = {n}", hidden_size)
    draw: Any = cell.init
    heads = [draw(k, D, H // n, dtype=dtype, **sizes) for k in jax.random.split(key, n)]
    return jax.tree.map(lambda *parts: jnp.stack(parts), *heads)


def init_state(cell: AnyCell, n: int, params: Any, batch_shape: tuple[int, ...]) -> Any:
    """The state before the first step, of each head."""
    begin: Any = cell.init_state
    each = jax.vmap(lambda params: begin(params, batch_shape), 0, axes_of_heads(cell))
    return join(cell, each(params))
