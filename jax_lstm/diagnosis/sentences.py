"""THE SENTENCES: each mistake by its name, and what it is in words. See catalogue.py."""

CARRY = {
    "dh not carried": "the fork at h dropped (dh not carried to t-1)",
    "nothing carried": "nothing carried between steps (neither dh nor dc reaches t-1)",
    "own loss": "only a step's own loss (what a later step lost never reaches t)",
}
TIME = {
    "last loss": "only the loss of the last step",
    "h0 zero in backward": "zeros in the backward for the remembered h0",
    "h0 zero": "zeros for the remembered h0, forward and backward",
    "h0 for every h": "h0 for every h_{t-1} in dU",
    "h wrapped": "h[-1], the last h, for h_{-1} in dU: a list's index that wraps",
    "last dh at every step": "the outside's dh of the last step added at every step",
    "h of t": "a shifted time index: h_t for h_{t-1} in dU",
    "x of t-1": "a shifted time index: x_{t-1} for x_t in dW",
    "x of t+1": "a shifted time index: x_{t+1} for x_t in dW",
    "dh of t-1": "a shifted time index: step t gets the outside's dh of t-1",
    "dh of t+1": "a shifted time index: step t gets the outside's dh of t+1",
}
TRANSPOSED = {
    "U for its transpose": "U where its transpose belongs, gate by gate, in dh_{t-1}",
}
LAST = {
    "dh_T dropped": "the cotangent of the last h dropped",
}
LOSS = {
    "one half of cross-entropy": "binary cross-entropy reported, but cross-entropy differentiated "
    "(-y log p alone)",
    "softmax for sigmoid": "binary cross-entropy reported, but cross-entropy differentiated (of a "
    "softmax)",
    "sigmoid for softmax": "cross-entropy of a softmax reported, but binary cross-entropy "
    "differentiated",
}
HEAD = {
    "target left out": "the target not subtracted: y, or its softmax or sigmoid, alone",
    "slope of the loss again": "the loss's cotangent times y (1 - y) once more",
}
READOUT = {
    "h of t-1 in dWy": "a shifted time index: h_{t-1} for h_t in dWy",
    "last dh only": "of the readout's dh, only that of the last step",
}
TOKENS = {
    "step": "fancy indexing in {}: of examples of a step with one token only the last is left",
    "all": "fancy indexing in {}: of all places of a token only the last is left",
    "batch first": "fancy indexing in {}: of all places of a token only the last example's is left",
    "reversed": "= for += in {}: of all steps with a token only the first is left",
}
FORK = {
    "mean at h": "the mean, not the sum, at the fork at h",
    "no slope in dh": "deltas without derivative factors in dh_{t-1}",
    "no slope in dx": "deltas without derivative factors in dx_t",
    "no slope in dx and dh": "deltas without derivative factors in dx_t and dh_{t-1}",
}
INNER = {  # with a number that nobody knows
    "clip dh": "dh clipped at {} at every step",
    "clip dc": "dc clipped at {} at every step",
    "clip dh and dc": "dh and dc clipped at {} at every step",
    "clip carried dh": "the dh that goes to t-1 clipped at {}",
    "clip carried dc": "the dc that goes to t-1 clipped at {}",
    "clip carried dh and dc": "the dh and dc that go to t-1 clipped at {}",
    "clip da": "the net inputs' deltas clipped at {} at every step",
}
STEP = {  # which shares go where in one step
    "dh_next twice": "dh from t+1 added twice",
    "dc_next twice": "dc from t+1 added twice",
    "dh outside twice": "the outside's dh added twice",
    "dh of the outside alone": "the fork at h dropped (dh not carried to t-1) and with the "
    "cotangent of the last h dropped",
    "dc of h alone": "the fork at c dropped (dc not carried to t-1) and with the cotangent of the "
    "last c dropped",
    "dc_prev from h alone": "dc_{t-1} from h's share of dc alone",
    "dc_prev from dc_next alone": "dc_{t-1} from the dc of t+1 alone",
    "no dc_next in the gates": "the dc of t+1 missing in di, df and dg",
    "dc for dh in do": "dc for dh in do",
    "cache of the last step": "the last step's values at every step of the backward",
    "c of t-2": "a shifted time index: c_{t-2} for c_{t-1} in df, an index that wraps",
    "h of t-2": "a shifted time index: h_{t-2} for h_{t-1} in dU, an index that wraps",
    "state of t-2": "shifted time indices: h_{t-2} and c_{t-2} for h_{t-1} and c_{t-1}; they wrap",
}
BARE = {  # a cotangent is missing: the factor is left
    "da": "the cotangent missing: the derivative factor alone, in the {}",
    "product": "dc missing in {}: the other factor alone",
    "dh": "dh missing in {}: the other factor alone",
}
UNTANHED = {  # of a forward without tanh at the output
    "tanh(c) in do": "tanh(c) for c in do",
    "o (1 - tanh²(c)) in dc": "o (1 - tanh²(c)) for o in dc",
}
VARIANTS = {  # of the forward: the gradient is right for it
    "no tanh at the output": "no tanh at the output (h = o c), forward and backward",
    "sigmoid at the output": "a sigmoid for the tanh at the output, forward and backward",
    "no output gate": "no output gate (h = tanh(c)), forward and backward",
    "no input gate": "no input gate (i = 1), forward and backward",
    "no forget gate": "no forget gate (f = 1), forward and backward",
    "coupled f": "coupled gates, f = 1 - i, forward and backward",
    "coupled i": "coupled gates, i = 1 - f, forward and backward",
    "tanh(a/2) for the sigmoid": "tanh(a/2) for the sigmoid of every gate, forward and backward",
    "hard sigmoid": "0.2 a + 0.5 within 0 and 1 for the sigmoids, forward and backward",
    "no tanh in g": "no tanh in the candidate, forward and backward",
    "sigmoid in g": "a sigmoid for the candidate's tanh, forward and backward",
    "b left out": "the bias left out, forward and backward",
    "h and c swapped": "h0 and c0 swapped, forward and backward",
}
SAME = ("no input gate", "no forget gate", "no output gate", "b left out")  # no other backward
MEMORY = {
    "dc not carried": "the fork at c dropped (dc not carried to t-1)",
    "dc only carried": "the fork at c dropped (dc without its share from h)",
    "dc_T dropped": "the cotangent of the last c dropped",
    "state zero in backward": "zeros in the backward for the remembered h0 and c0",
    "c0 zero in backward": "zeros in the backward for the remembered c0",
    "c0 zero": "zeros for the remembered c0, forward and backward",
    "state zero": "zeros for the remembered h0 and c0, forward and backward",
    "1 - f": "1 - f for f in dc_{t-1}",
    "tanh of c of t-1": "tanh of the wrong c: c_{t-1} for c_t",
    "c for tanh(c)": "tanh of the wrong c: c where tanh(c) belongs",
    "no slope of tanh(c)": "the factor 1 - tanh²(c) missing in dc",
    "c0 for every c": "c0 for every c_{t-1} in df",
    "c wrapped": "c[-1], the last c, for c_{-1} in df: a list's index that wraps",
    "state wrapped": "h[-1] and c[-1], the last ones, for h_{-1} and c_{-1}: indices that wrap",
    "mean at c": "the mean, not the sum, at the fork at c",
    "c of t": "a shifted time index: c_t for c_{t-1} in df",
    "state of t": "a shifted time index: h_t and c_t for h_{t-1} and c_{t-1}",
    "f of t-1": "a shifted time index: f_{t-1} for f_t in dc_{t-1}",
    "i and g swapped": "the factors i and g swapped (di = dc i, dg = dc g)",
    "slope of every gate": "the derivative factor of every gate and of the candidate missing",
    "slope of the sigmoids": "the derivative factor of the three sigmoids missing",
    "slopes at the outputs": "derivative factors taken at the outputs of the gates, s'(s(a))",
    "forget offset": "1 added to the net input of the forget gate, forward and backward",
}
