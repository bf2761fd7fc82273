"""ONNX: its operators LSTM, GRU and RNN, differentiated by hand, and models made of them.

lstm, gru, rnn       the operators, without onnx            onnx_operators.py
run_model, to_onnx   a model run here, and one written      onnx_graphs.py
"""

from jax_lstm.interop.onnx_graphs import run_model as run_model
from jax_lstm.interop.onnx_graphs import to_onnx as to_onnx
from jax_lstm.interop.onnx_operators import gru as gru
from jax_lstm.interop.onnx_operators import lstm as lstm
from jax_lstm.interop.onnx_operators import rnn as rnn
