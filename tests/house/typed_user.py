"""A user's file. It is not run: a type checker reads it in strict mode and has nothing to say."""

import functools
from typing import assert_type

import jax
import numpy as np

import jax_lstm as jl
from jax_lstm import referee, stages
from jax_lstm.interop import keras, torch

T, B, D, H = 7, 2, 3, 5
key = jax.random.key(0)
xs = jax.random.normal(key, (T, B, D))
like_hs = jax.random.normal(key, (T, B, H))


def sequences() -> None:
    """A state is the cell's own, hs an array."""
    params = jl.init_lstm(key, D, H, forget_bias=2.0)
    state = jl.init_lstm_state(params, (B,))
    last, hs = jl.lstm(params, state, xs, lengths=[7, 4], residuals="auto", reverse=True)
    assert_type(last, jl.LSTMState)
    assert_type(hs, jax.Array)
    frugal = functools.partial(jl.lstm_autodiff, residuals=16)
    assert_type(frugal(params, state, xs)[1], jax.Array)
    one, h = jl.lstm_cell(params, state, xs[0])
    assert_type(one.c + h, jax.Array)
    _, (last_dot, hs_dot) = jl.lstm_jvp(params, state, xs, (params, None, None), lengths=[7, 4])
    assert_type(last_dot, jl.LSTMState)
    assert_type(hs_dot, jax.Array)
    small = jl.init_lstmp(key, D, H, 2)
    assert_type(jl.lstmp(small, jl.init_lstmp_state(small, (B,)), xs)[0], jl.LSTMPState)


def cells() -> None:
    """What is made of a cell has the cell's types, also of a cell made of a cell."""
    params = jl.init_gru(key, D, H)
    state = jl.init_gru_state(params, (B,))
    by_hand, by_jax = jl.make_rnn(jl.recurrent_dropout(jl.GRU), name="dropped")
    mask = jl.recurrent_dropout_masks(key, 0.5, state)
    assert_type(by_hand(params, state, xs, consts=mask)[0], jl.GRUState)
    assert_type(by_jax(params, state, xs, consts=mask)[1], jax.Array)
    held, _ = jl.make_rnn(jl.zoneout(jl.GRU))
    held(params, state, (xs, jl.zoneout_masks(key, 0.1, state, T)))
    assert_type(jl.make_states(jl.GRU)(params, state, xs)[1].hs, jax.Array)
    named = jl.GRU._replace(name="another")
    assert_type(jl.routes(named, "another")[2](params, state, xs)[0], jl.GRUState)


def stacks() -> None:
    layers = jl.init_stack(key, D, (H, H), bidirectional=True, merge="sum")
    states = jl.init_stack_state(layers, (B,))
    states, hs = jl.stack(layers, states, xs, merge="sum", sequence=jl.lstm, lengths=[7, 4])
    assert_type(hs, jax.Array)
    _, hs, every = jl.stack(layers, states, xs, merge="sum", every=True)
    assert_type(hs, jax.Array)
    print(every[0][1])


def training() -> None:
    params = jl.init_lstm(key, D, H)
    state = jl.init_lstm_state(params, (B,))
    readout = jl.init_dense(key, H, 4)
    last, hs = jl.tbptt(2, 4)(params, state, xs, lengths=[7, 4])
    assert_type(last, jl.LSTMState)
    scores = jl.dense(readout, jl.drop(hs, jl.dropout_mask(key, 0.5, hs.shape)))
    assert_type(
        jl.softmax_cross_entropy(scores, jax.random.randint(key, (T, B), 0, 4)).mean(), jax.Array
    )
    marks = np.full((T, B), 1)
    assert_type(jl.softmax_cross_entropy(scores, marks), jax.Array)
    split = jl.over_devices(jl.lstm)
    assert_type(split(params, state, xs)[1], jax.Array)
    begin, advance = jl.tbptt_stream(2, 4)
    assert_type(advance(params, begin(state, xs), xs)[1], jax.Array)
    plan = jl.memory_plan(2**30, T=T, B=B, D=D, H=H)
    jl.save("model.safetensors", {"params": params}, notes={"rows": len(plan.rows)})
    print(jl.load("model.safetensors").tree)


def gradients() -> None:
    """What is read off a run, and what a referee says of a gradient."""
    params = jl.init_lstm(key, D, H)
    state = jl.init_lstm_state(params, (B,))
    run = jl.linearised_lstm(params, state, xs)
    assert_type(run, jl.Linearised)
    assert_type(jl.gradient_norms(run, like_hs).delta, jax.Array)
    assert_type(jl.forget_products(run), jax.Array)
    traced = jl.trace(params, state, xs, ys=like_hs)
    assert_type(traced.backward["dc"], jax.Array)
    assert_type(bool(referee.taps(jl.LSTM, params, state, xs)), bool)
    functions = {"by hand": jl.lstm, "by JAX": jl.lstm_autodiff}
    assert_type(referee.compare(functions, params, state, xs), referee.Report)
    verdict = jl.diagnose({"dWf": like_hs}, "problem.json", layout="coursera")
    assert_type(verdict, referee.Diagnosis)
    dx, dW = stages.linear_bwd((xs, params.W), jax.random.normal(key, (T, B, 4 * H)))
    assert_type(dx + dW, jax.Array)


def elsewhere() -> None:
    params = torch.from_state_dict({"weight_ih_l0": xs, "weight_hh_l0": like_hs})
    assert_type(params, jl.StackParams)
    print(keras.to_weights(params)[0][0].shape, torch.to_state_dict(params).keys())
