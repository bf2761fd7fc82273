"""TMVA: a grid of sizes, the state remembered or not, the last output or all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jax_lstm as jl
from jax_lstm.stages.losses import squared_error_bwd
from tests.cells.literature.routes import by_any_route, load, lstm_by_textbook, read
from tests.tables import CELLS, assert_close, normal_like, quick_jit


def tmva_loss(route, targets, args):
    """L = ½ Σ (h_t - y_t)², weighted: all outputs as a sequence, the last one as a state."""
    ys, all_outputs, last_output = targets
    state, hs = route(*args)
    everything, last = jl.squared_error(hs, ys).sum(), jl.squared_error(state.h, ys[-1]).sum()
    return all_outputs * everything + last_output * last, (state, hs)


@functools.partial(quick_jit, static_argnums=0)
def tmva_gradients(route, targets, args):
    """Loss, last state, and the cotangents of params, state and xs."""
    if route is not lstm_by_textbook:
        loss = functools.partial(tmva_loss, route, targets)
        (loss, (state, _)), gradients = jax.value_and_grad(loss, has_aux=True)(args)
        return loss, state, gradients
    loss, (state, hs) = tmva_loss(route, targets, args)
    ys, all_outputs, last_output = targets
    dhs, _ = squared_error_bwd((hs, ys), jnp.broadcast_to(all_outputs, ys.shape[:-1]))
    dh_T, _ = squared_error_bwd((state.h, ys[-1]), jnp.broadcast_to(last_output, ys[0].shape[:-1]))
    dy = (jl.LSTMState(dh_T, jnp.zeros_like(dh_T)), dhs)
    return loss, state, by_any_route(route, args, dy)[1]


@functools.partial(quick_jit, static_argnums=0)
def central_differences(route, targets, args, step=1e-3):
    """Four values of the loss per number, no derivative; what remains is of the order step⁴."""
    flat, tree = ravel_pytree(args)

    def slope(direction):
        def at(n):
            return tmva_loss(route, targets, tree(flat + n * step * direction))[0]

        return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)

    return tree(jax.vmap(slope)(jnp.eye(flat.size)))


def tmva_problem(cell, size, outputs, remembered, xs=None):
    """Random parameters; what is remembered is the state that the batch before has left."""
    T, B, H, D = size
    seed, row = sum(size), CELLS[cell]
    shapes = jax.eval_shape(lambda key: row.init(key, D, H, dtype=jnp.float64), jax.random.key(0))
    params = normal_like(seed, shapes, max(D, H) ** -0.5)
    batches = normal_like(seed + 1, jax.ShapeDtypeStruct((2, T, B, D), jnp.float64))
    xs = batches[0] if xs is None else xs
    ys = jnp.asarray(np.random.default_rng(seed).integers(0, 2, (T, B, H)), jnp.float64)
    all_outputs = float(outputs == "all")
    targets = (ys, jnp.asarray(all_outputs), jnp.asarray(1 - all_outputs))
    state = row.init_state(params, (B,))
    if remembered:
        _, state, _ = tmva_gradients(row.sequence, targets, (params, state, batches[1]))
    assert all(np.any(leaf) == remembered for leaf in state)
    return targets, (params, state, xs)


GRID = [tuple(size) for size in read("known_values")["tmva_grid_T_B_S_I"]]
over_states = pytest.mark.parametrize("remembered", [False, True], ids=["zeros", "remembered"])
over_outputs = pytest.mark.parametrize("outputs", ["all", "last"])


@pytest.mark.half
@over_outputs
@over_states
@pytest.mark.parametrize("size", GRID, ids=lambda size: "T{}-B{}-H{}-D{}".format(*size))
def test_tmva_grid(size, remembered, outputs):
    problem = tmva_problem("lstm", size, outputs, remembered)
    want = tmva_gradients(jl.lstm_autodiff, *problem)
    assert_close(tmva_gradients(jl.lstm, *problem), want)
    assert_close(tmva_gradients(lstm_by_textbook, *problem), want)


@pytest.mark.half
@over_outputs
@over_states
@pytest.mark.parametrize(
    ("cell", "size"),
    [("lstm", (1, 2, 1, 2)), ("lstm", (2, 2, 3, 4)), ("elman", (2, 1, 2, 3))],
    ids=["lstm-T1", "lstm-T2", "elman-T2"],
)
def test_tmva_grid_by_central_differences(cell, size, remembered, outputs):
    assert size in GRID
    problem = tmva_problem(cell, size, outputs, remembered)
    _, _, got = tmva_gradients(CELLS[cell].sequence, *problem)
    forward = lstm_by_textbook if cell == "lstm" else jl.elman_autodiff
    assert_close(got, central_differences(forward, *problem), 1e-9)


@over_outputs
def test_tmva_fixed_input(outputs):
    """(B, T, D) = (1, 3, 6), through the last row of the grid."""
    xs = jnp.transpose(load("known_values")["tmva_fixed_input"][None], (1, 0, 2))
    T, B, _, D = GRID[-1]
    assert xs.shape == (T, B, D) == (3, 1, 6)
    problem = tmva_problem("lstm", GRID[-1], outputs, True, xs)
    want = tmva_gradients(jl.lstm_autodiff, *problem)
    assert_close(tmva_gradients(jl.lstm, *problem), want)
    assert_close(tmva_gradients(lstm_by_textbook, *problem), want)
    problem = tmva_problem("elman", GRID[-1], outputs, True, xs)
    assert_close(tmva_gradients(jl.elman, *problem), tmva_gradients(jl.elman_autodiff, *problem))
