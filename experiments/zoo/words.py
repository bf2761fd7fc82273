"""What no record says: what each cell is for, and equations where a file has several cells."""

LSTM = """\
a = x W + h_prev U + b                                                    (1)
i, f, o = sigmoid(a_i, a_f, a_o);  g = tanh(a_g)                          (2)
c = f * c_prev + i * g                                                    (3)
h = o * tanh(c)                                                           (4)"""
PEEPHOLES = """\
a = x W + h_prev U + b                                                    (1)
i, f = sigmoid(a_i + p_i * c_prev, a_f + p_f * c_prev);  g = tanh(a_g)    (16), (2)
c = f * c_prev + i * g                                                    (3)
h = o * tanh(c),  o = sigmoid(a_o + p_o * c)                              (4), (16), (2)"""

EQUATIONS = {
    "lstm": LSTM,
    "elman": "h = tanh(x W + h_prev U + b)                                              (1), (2)",
    "peephole_lstm": PEEPHOLES,
    "lstm_nig": f"{PEEPHOLES}\nwith i = 1",
    "lstm_nfg": f"{PEEPHOLES}\nwith f = 1",
    "lstm_nog": f"{PEEPHOLES}\nwith o = 1",
    "lstm_niaf": f"{PEEPHOLES}\nwith g = a_g",
    "lstm_noaf": f"{PEEPHOLES}\nwith h = o * c",
    "lstm_cifg": f"{PEEPHOLES}\nwith f = 1 - i",
    "gru_reset_before": """\
r, z = sigmoid(x W_rz + h_prev U_rz + b_rz)                               (1), (2)
n = tanh(x W_n + (r * h_prev) U_n + b_n)                                  (16), (1), (2)
h = z * h_prev + (1 - z) * n                                              (19)""",
    "mgu": """f = sigmoid(x W_f + h_prev U_f + b_f)                                     (1), (2)
n = tanh(x W_n + (f * h_prev) U_n + b_n)                                  (16), (1), (2)
h = (1 - f) * h_prev + f * n                                              (19)""",
    "min_gru": """\
z = sigmoid(a_z);  a_z, n = x W + b                                       (1), (2)
h = (1 - z) * h_prev + z * n                                              (19)""",
    "min_lstm": """\
f, i = sigmoid(a_f, a_i);  a_f, a_i, n = x W + b                          (1), (2)
h = k * h_prev + (1 - k) * n,  k = f / (f + i)                            (19)""",
}

ONE_GATE = """\
a = x W + h_prev U + b                                                    (1)
z = sigmoid(a_z);  n = {}(a_n)                                          (2){}
h = z * h_prev + (1 - z) * n                                              (19)"""
EQUATIONS |= {
    "ugrnn": ONE_GATE.format("tanh", ""),
    "light_gru": ONE_GATE.format("relu", ", (21)"),
}

USES = {
    "lstm": "The first to try: it keeps values over many steps, and every framework has it.",
    "elman": "To learn and to teach on, and as the baseline that gates must beat.",
    "lstmp": "Many cells with few numbers to hand on: speech, and language models with a large c.",
    "gru": "Three quarters of the LSTM's weights and one state; weights from cuDNN and torch fit.",
    "peephole_lstm": "Timing and counting: the gates see the cell itself. Weights of older speech "
    "models.",
    "lstm_nig": "Ablation: how much does the input gate do?",
    "lstm_nfg": "Ablation: as in 1997 it cannot forget; c may grow without bound.",
    "lstm_nog": "Ablation: how much does the output gate do?",
    "lstm_niaf": "Ablation: is the candidate's tanh needed?",
    "lstm_noaf": "Ablation: is the tanh of c needed? h may grow without bound.",
    "lstm_cifg": "A quarter fewer weights; in the study no worse than the whole.",
    "lstm_fgr": "Gates that see the last gates, as in the first LSTM; no better in the study.",
    "gru_reset_before": "The GRU as published and as in older Keras and ONNX models.",
    "mgu": "One gate: half of an LSTM's weights.",
    "light_gru": "Speech recognition with normalised inputs; h has no bound.",
    "ugrnn": "One gate and a tanh: half of an LSTM's weights, and easy to train.",
    "ran": "Asking what h adds: c is a weighted sum of inputs, so one can see what it holds.",
    "cfn": "Dynamics without chaos: without input the state decays, whatever the weights.",
    "scrn": "A slow context beside a fast state: topics of a text.",
    "clockwork": "Signals at several rates: slow modules are read and written at their own clock.",
    "janet": "Long memory with half of an LSTM's weights, where initialised for its length.",
    "fast_grnn": "Microcontrollers: hardly more weights than an Elman network.",
    "min_gru": "Very long sequences: time is a parallel scan, see `min_gru_parallel`.",
    "min_lstm": "The same with two gates that are normalised, see `min_lstm_parallel`.",
    "ind_rnn": "Very long sequences and many layers; no product with U in a step.",
    "indy_lstm": "An LSTM whose steps have no product with U: wide layers are cheap.",
    "elementwise_lstm": "Online learning: its exact real-time gradient is cheap.",
    "antisymmetric_rnn": "Stability by construction: gradients neither vanish nor explode at first "
    "order.",
    "multiplicative_lstm": "Character models: each input has its own transition of h.",
    "layer_norm_lstm": "Steadier training with small batches and long sequences.",
    "slstm": "State tracking with sharp decisions: exponential gates revise what is stored.",
    "mlstm": "Recall by key: a matrix for memory, nothing of h recurs.",
    "cornn": "Long sequences of oscillating signals, with bounded gradients.",
    "lem": "Signals with several time scales, each unit with its own step.",
}
