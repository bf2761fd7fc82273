"""WHAT IS THE DERIVATIVE OF ...? Each stage, its twin and its tangent right below it.

    step       a step of the LSTM, (1) to (4), and the fork (F)
    packed     (2) in one loop over all four gates
    between    masks, and what stands between layers, (11) to (18)
    gated      what other cells are made of, (19) to (22)
    activations  what a gate's nonlinearity may be, (29) to (36), and clipping, (37)
    readout    dense, embedding, (5) and (6)
    losses     (7) to (9)
    sums       Σ xᵀ y over steps and examples
    twins      the law of twins, as data

`TWINS` is the table of them all, {name: row}. Each file has the rows of its own
stages at its end.
"""

from jax_lstm.stages import activations, between, gated, losses, packed, readout, step
from jax_lstm.stages.activations import ACTIVATIONS as ACTIVATIONS
from jax_lstm.stages.activations import affine as affine
from jax_lstm.stages.activations import affine_bwd as affine_bwd
from jax_lstm.stages.activations import affine_jvp as affine_jvp
from jax_lstm.stages.activations import clip as clip
from jax_lstm.stages.activations import clip_bwd as clip_bwd
from jax_lstm.stages.activations import clip_jvp as clip_jvp
from jax_lstm.stages.activations import elu as elu
from jax_lstm.stages.activations import elu_bwd as elu_bwd
from jax_lstm.stages.activations import elu_jvp as elu_jvp
from jax_lstm.stages.activations import hard_sigmoid as hard_sigmoid
from jax_lstm.stages.activations import hard_sigmoid_bwd as hard_sigmoid_bwd
from jax_lstm.stages.activations import hard_sigmoid_jvp as hard_sigmoid_jvp
from jax_lstm.stages.activations import leaky_relu as leaky_relu
from jax_lstm.stages.activations import leaky_relu_bwd as leaky_relu_bwd
from jax_lstm.stages.activations import leaky_relu_jvp as leaky_relu_jvp
from jax_lstm.stages.activations import scaled_tanh as scaled_tanh
from jax_lstm.stages.activations import scaled_tanh_bwd as scaled_tanh_bwd
from jax_lstm.stages.activations import scaled_tanh_jvp as scaled_tanh_jvp
from jax_lstm.stages.activations import softplus as softplus
from jax_lstm.stages.activations import softplus_bwd as softplus_bwd
from jax_lstm.stages.activations import softplus_jvp as softplus_jvp
from jax_lstm.stages.activations import softsign as softsign
from jax_lstm.stages.activations import softsign_bwd as softsign_bwd
from jax_lstm.stages.activations import softsign_jvp as softsign_jvp
from jax_lstm.stages.activations import thresholded_relu as thresholded_relu
from jax_lstm.stages.activations import thresholded_relu_bwd as thresholded_relu_bwd
from jax_lstm.stages.activations import thresholded_relu_jvp as thresholded_relu_jvp
from jax_lstm.stages.between import add as add
from jax_lstm.stages.between import add_bwd as add_bwd
from jax_lstm.stages.between import add_jvp as add_jvp
from jax_lstm.stages.between import clear as clear
from jax_lstm.stages.between import clear_bwd as clear_bwd
from jax_lstm.stages.between import clear_jvp as clear_jvp
from jax_lstm.stages.between import concatenate as concatenate
from jax_lstm.stages.between import concatenate_bwd as concatenate_bwd
from jax_lstm.stages.between import concatenate_jvp as concatenate_jvp
from jax_lstm.stages.between import drop as drop
from jax_lstm.stages.between import drop_bwd as drop_bwd
from jax_lstm.stages.between import drop_jvp as drop_jvp
from jax_lstm.stages.between import keep as keep
from jax_lstm.stages.between import keep_bwd as keep_bwd
from jax_lstm.stages.between import keep_jvp as keep_jvp
from jax_lstm.stages.between import mean as mean
from jax_lstm.stages.between import mean_bwd as mean_bwd
from jax_lstm.stages.between import mean_jvp as mean_jvp
from jax_lstm.stages.between import product as product
from jax_lstm.stages.between import product_bwd as product_bwd
from jax_lstm.stages.between import product_jvp as product_jvp
from jax_lstm.stages.between import repeat as repeat
from jax_lstm.stages.between import repeat_bwd as repeat_bwd
from jax_lstm.stages.between import repeat_jvp as repeat_jvp
from jax_lstm.stages.gated import blend as blend
from jax_lstm.stages.gated import blend_bwd as blend_bwd
from jax_lstm.stages.gated import blend_jvp as blend_jvp
from jax_lstm.stages.gated import layer_norm as layer_norm
from jax_lstm.stages.gated import layer_norm_bwd as layer_norm_bwd
from jax_lstm.stages.gated import layer_norm_bwd_gain as layer_norm_bwd_gain
from jax_lstm.stages.gated import layer_norm_bwd_input as layer_norm_bwd_input
from jax_lstm.stages.gated import layer_norm_jvp as layer_norm_jvp
from jax_lstm.stages.gated import log_sigmoid as log_sigmoid
from jax_lstm.stages.gated import log_sigmoid_bwd as log_sigmoid_bwd
from jax_lstm.stages.gated import log_sigmoid_jvp as log_sigmoid_jvp
from jax_lstm.stages.gated import normalise as normalise
from jax_lstm.stages.gated import relu as relu
from jax_lstm.stages.gated import relu_bwd as relu_bwd
from jax_lstm.stages.gated import relu_jvp as relu_jvp
from jax_lstm.stages.packed import blocks as blocks
from jax_lstm.stages.packed import gates as gates
from jax_lstm.stages.packed import gates_bwd as gates_bwd
from jax_lstm.stages.packed import gates_bwd_jvp as gates_bwd_jvp
from jax_lstm.stages.packed import gates_jvp as gates_jvp
from jax_lstm.stages.packed import packed_gates as packed_gates
from jax_lstm.stages.packed import plain_gates as plain_gates
from jax_lstm.stages.step import align as align
from jax_lstm.stages.step import bias as bias
from jax_lstm.stages.step import bias_bwd as bias_bwd
from jax_lstm.stages.step import bias_bwd_jvp as bias_bwd_jvp
from jax_lstm.stages.step import bias_jvp as bias_jvp
from jax_lstm.stages.step import cell_state as cell_state
from jax_lstm.stages.step import cell_state_bwd as cell_state_bwd
from jax_lstm.stages.step import cell_state_bwd_jvp as cell_state_bwd_jvp
from jax_lstm.stages.step import cell_state_jvp as cell_state_jvp
from jax_lstm.stages.step import fork as fork
from jax_lstm.stages.step import fork_bwd as fork_bwd
from jax_lstm.stages.step import fork_bwd_jvp as fork_bwd_jvp
from jax_lstm.stages.step import fork_jvp as fork_jvp
from jax_lstm.stages.step import hidden_state as hidden_state
from jax_lstm.stages.step import hidden_state_bwd as hidden_state_bwd
from jax_lstm.stages.step import hidden_state_bwd_jvp as hidden_state_bwd_jvp
from jax_lstm.stages.step import hidden_state_jvp as hidden_state_jvp
from jax_lstm.stages.step import linear as linear
from jax_lstm.stages.step import linear_bwd as linear_bwd
from jax_lstm.stages.step import linear_bwd_input as linear_bwd_input
from jax_lstm.stages.step import linear_bwd_jvp as linear_bwd_jvp
from jax_lstm.stages.step import linear_bwd_weight as linear_bwd_weight
from jax_lstm.stages.step import linear_bwd_weight_jvp as linear_bwd_weight_jvp
from jax_lstm.stages.step import linear_jvp as linear_jvp
from jax_lstm.stages.step import sigmoid as sigmoid
from jax_lstm.stages.step import sigmoid_bwd as sigmoid_bwd
from jax_lstm.stages.step import sigmoid_bwd_jvp as sigmoid_bwd_jvp
from jax_lstm.stages.step import sigmoid_jvp as sigmoid_jvp
from jax_lstm.stages.step import tanh as tanh
from jax_lstm.stages.step import tanh_bwd as tanh_bwd
from jax_lstm.stages.step import tanh_bwd_jvp as tanh_bwd_jvp
from jax_lstm.stages.step import tanh_jvp as tanh_jvp

TWINS = step.ROWS | packed.ROWS | between.ROWS | gated.ROWS | activations.ROWS
TWINS |= readout.ROWS | losses.ROWS
