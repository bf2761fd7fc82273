"""A user's slips. The file is not run: a type checker refuses the marked lines and no other."""

import jax

import jax_lstm as jl

params = jl.init_lstm(jax.random.key(0), 3, 5)
state = jl.init_lstm_state(params, (2,))
xs = jax.random.normal(jax.random.key(1), (7, 2, 3))
layers = jl.init_stack(jax.random.key(0), 3, (5, 5))
states = jl.init_stack_state(layers, (2,))
last, hs = jl.lstm(params, state, xs)

jl.lstm(params, state, xs, lenghts=[7, 4])  # refused: no such option
jl.lstm(params, state, xs, residuals="ful")  # refused: no such choice
jl.lstm(params, state, "xs")  # refused: no array
jl.lstm(state, params, xs)  # refused: the wrong way round
jl.gru(params, state, xs)  # refused: of another cell
jl.lstm_cell(params, state, xs[0], mask=None)  # refused: one step has no such option
number: float = hs  # refused: an array is no number
hs.upper()  # refused: an array is no text
print(last.cell)  # refused: no such field
jl.stack(layers, states, xs, lenghts=[7, 4])  # refused: no such option
jl.stack(layers, states, xs, merge="sums")  # refused: no such choice
jl.init_stack(jax.random.key(0), 3, 5)  # refused: H of each layer
jl.softmax_cross_entropy(hs)  # refused: no targets
jl.drop(hs, masks=hs)  # refused: no such argument
jl.tbptt(2, 4)(params, state, xs, residuals="auto")  # refused: no such option
jl.over_devices(jl.lstm)(params, state, xs, revers=True)  # refused: no such option
jl.memory_plan(2**30, T=7, B=2, D=3, hidden=5)  # refused: no such size
jl.diagnose({}, lay_out="torch")  # refused: no such option
