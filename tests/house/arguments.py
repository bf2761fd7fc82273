"""Examples of every argument of every public function, and what is wrong for it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jax_lstm as jl
from jax_lstm.engine.segments import Steps
from jax_lstm.engine.shapes import shape_of
from tests.tables import SIZE

T, B, D, H = SIZE


class Tensor:
    """As torch's: an array whose dtype is none to NumPy."""

    dtype, shape, ndim = "torch.float32", (2, 3), 2

    def numpy(self):
        return np.zeros(self.shape)


class HalfMade:
    """Has no words for itself yet."""

    def __repr__(self):
        raise RuntimeError("not yet")


class Traced(NamedTuple):
    """Stands for a traced array of this shape and dtype."""

    shape: tuple[int, ...]
    dtype: str


WRONG = {
    "a list": [1.5, 2.5],
    "a ragged list": [1, [2]],
    "a dict": {"a": 1.5},
    "a tensor": Tensor(),
    "a word": "words",
    "None": None,
    "a complex number": 1 + 2j,
    "complex numbers": np.ones((2, 3), complex),
    "True": True,
    "a NumPy bool": np.True_,
    "booleans": np.ones((2, 3, 1), bool),
    "a Python float": 0.5,
    "a NumPy float": np.float32(1.5),
    "NaN": float("nan"),
    "a negative number": -1,
    "zero": 0,
    "words in an array": np.array(["a", "b"]),
    "Python objects": np.array([None, "a"], object),
    "an empty tuple": (),
    "a traced array": Traced((9,), "float64"),
    "a traced number": Traced((), "int32"),
    "an object": object(),
    "half an object": HalfMade(),
    "lengths of time": np.ones(3, "m8[s]"),
    "a shape without numbers": jax.ShapeDtypeStruct((2, 3), np.float32),
    "a class": dict,
    "a function": len,
}
OTHER_SHAPES = {
    "a shape without numbers",
    "a traced array",
    "a NumPy float",
    "booleans",
    "complex numbers",
}


def draw(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape)


ANY = "any size is right"


class Example(NamedTuple):
    """A right value of an argument, and the kinds of WRONG that are right for it as well."""

    value: Any
    right: frozenset[str] = frozenset()
    size: Any = None  # a wrong one; None: the arrays with an element fewer per row; or ANY


def example(value, right=(), size=None):
    return Example(value, frozenset(right), size)


# Examples by the argument's name --------------------------------------------------------------


SIZES = {"D": D, "H": H, "R": 2, "K": 2}


def state_of(cell, *batch):
    """Numbers in the fields of a state, without the help of its own function."""
    return cell.state(*(draw(*batch, *shape_of(text, SIZES)) for _, text in cell.fields))


def params_of(cell):
    return cell.params(*(draw(*shape_of(text, SIZES)) for _, text in cell.shapes))


PARAMS, STATE, XS = params_of(jl.LSTM), state_of(jl.LSTM, B), draw(T, B, D)
STACK = jl.StackParams(((PARAMS,), (params_of(jl.LSTM)._replace(W=draw(H, 4 * H)),)))
KEY = np.array([0, 7], np.uint32)  # as `jax.random.PRNGKey` has it: made without JAX
SCORES, CLASSES_OF = draw(B, D), np.array([0, 2])
MODEL = jl.training.LanguageModel(draw(4, D), PARAMS, jl.DenseParams(draw(H, 4), draw(4)))
DENSE = jl.DenseParams(draw(D, H), draw(H))
SQUARE = lambda x: x * x
AS_SHAPES = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (PARAMS, STATE, XS))
RUN = jax.eval_shape(jl.linearised_lstm, *AS_SHAPES)
INFLUENCE = {"h": {"W": draw(B, D, H), "u": draw(B, H), "b": draw(B, H)}}
PAST = Steps(np.zeros((1, B, D)), np.zeros((1, B), bool), None)
PROBLEM = {"W": draw(D, 4 * H), "U": draw(H, 4 * H), "b": draw(4 * H), "xs": XS} | {
    "dhs": draw(T, B, H)
}

OPTIONAL, WORDS, FLAGS = {"None"}, {"a word"}, {"True", "a NumPy bool"}
CALLABLE = {"a function", "a class"}
BOUND = OPTIONAL | {"a Python float", "a NumPy float"}
REAL = {"a Python float", "a NumPy float", "a negative number", "zero", "a traced number"}
NUMBERS, ARRAYS = {"complex numbers", "booleans", "a traced array"}, {"a traced array"}
NAMES = {
    "key": example(KEY),
    "input_size": example(D, size=-1),
    "hidden_size": example(H, size=-1),
    "projection_size": example(2, size=-1),
    "output_size": example(4, size=-1),
    "embedding_size": example(4, size=-1),
    "vocabulary_size": example(4, size=-1),
    "size": example(4, size=-1),
    "hidden_sizes": example((2, 2), size=(2, -2)),
    "periods": example((1, 2), size=(2, -2)),
    "directions": example(4, size=-1),
    "forget_bias": example(1.0, REAL),
    "alpha": example(0.5, REAL),
    "dt": example(1.0, REAL),
    "gamma": example(1.0, REAL),
    "epsilon": example(1.0, REAL),
    "dtype": example(jnp.float32),
    "batch_shape": example((B,), {"an empty tuple"}, size=(-1,)),
    "shape": example((T, B, H), {"an empty tuple"}, size=(2, -1)),
    "rate": example(0.5, {"a Python float", "zero", "a traced number"}, size=1.5),
    "reverse": example(False, FLAGS),
    "always": example(False, FLAGS),
    "train": example(True, FLAGS),
    "unroll": example(1, size=0),
    "sort": example(False, FLAGS),
    "residuals": example("full", size=-3),
    "consts": example(None, OPTIONAL),
    "mask": example(None, OPTIONAL, np.ones((T, B + 1), bool)),
    "resets": example(None, OPTIONAL, np.ones((T + 1, B), bool)),
    "lengths": example(None, OPTIONAL, np.array([1, T + 1])),
    "reset_state": example(None, OPTIONAL),
    "params": example(PARAMS),
    "state": example(STATE),
    "xs": example(XS),
    "tangents": example((None, None, None), size=(None, None)),
    "x": example(draw(B, D)),
    "cell": example(jl.LSTM),
    "name": example("rnn", WORDS),
    "title": example("A title.", WORDS),
    "about": example("a cell", WORDS),
    "seed": example(0, {"zero"}, size=-1),
    "sequence": example(jl.lstm, CALLABLE),
    "init": example(jl.init_lstm, CALLABLE),
    "init_state": example(jl.init_lstm_state, CALLABLE),
    "states": example(((STATE,), (STATE,))),
    "path": example("nothing.safetensors", WORDS),
    "max_bytes": example(None, OPTIONAL, size=-1),
    "logits": example(SCORES),
    "targets": example(SCORES / 9 + 0.5),
    "y": example(SCORES),
    "dhs": example(draw(T, B, H)),
    "dstate": example(None, OPTIONAL),
    "k1": example(2, size=-1),
    "k2": example(3, size=-1),
    "bias": example(True, FLAGS),
    "prefix": example("", WORDS),
    "run": example(RUN, size=ANY),
    "names": example(None, OPTIONAL | {"an empty tuple"}),
    "args": example((XS,), {"a NumPy float", "a traced array"}, ANY),
    "routes": example({"a": SQUARE, "b": SQUARE}, size={"a": SQUARE}),
    "function": example(SQUARE, CALLABLE),
    "analytic": example(SQUARE, CALLABLE),
    "stage": example(SQUARE, CALLABLE),
    "stage_bwd": example(SQUARE, CALLABLE),
    "optimizer": example(optax.sgd(0.1), size=ANY),
    "loss": example(jl.training.language_model_loss, CALLABLE),
    "route": example(jl.training.BY_HAND, size=ANY),
    "bound": example(False, FLAGS),
    "chunk": example(None, OPTIONAL, 0),
    "chunks": example([(XS,)], size=ANY),
    "snapshots": example(16, size=0),
    "measure": example(SQUARE, CALLABLE),
    "error": example(0.1, {"a Python float", "a NumPy float", "zero"}, -0.1),
    "most": example(None, OPTIONAL, 0),
}

# Of a function where its argument is another's, {function: {argument: Example}}.
OF_STACK = {
    "params": example(STACK),
    "sequence": example(None, OPTIONAL | CALLABLE),
    "merge": example("concat"),
    "residual": example(False, FLAGS),
    "skip": example(None, OPTIONAL),
    "between": example(None, OPTIONAL),
    "beside": example(None, OPTIONAL),
    "reset_states": example(None, OPTIONAL),
    "every": example(False, FLAGS),
}
OF_INIT = {"params": example(STACK)}
OF_CLASSES = {"targets": example(CLASSES_OF)}
OF_EMBEDDING = {
    "E": example(draw(4, D), size=draw(4)),
    "tokens": example(np.array([0, 3]), {"a traced number"}, np.array([0, 4])),
}
OF_DENSE = {"params": example(DENSE, size=ANY)}
OF_DROP = {"mask": example(draw(B, D))}
OF_TORCH = {"d": example({"weight_hh_l0": draw(4 * H, H)}, size=ANY)}
OF_ELMAN = (params_of(jl.ELMAN), state_of(jl.ELMAN, B), XS)
# The referee runs cells of one's own, whose shapes nobody knows.
OF_REFEREE = {name: example(x, size=ANY) for name, x in (("params", PARAMS), ("state", STATE))}
OF_REFEREE |= {"consts": example(None, WRONG), "xs": example(XS, NUMBERS, ANY)}
OF_SECOND = {
    "tangents": example((None, None, None), size=(None, STATE._replace(c=STATE.h[:1]), None)),
    "loss": example(lambda state, hs: hs.sum(), CALLABLE),
}
OF_MATRIX = {
    "product": example(SQUARE, CALLABLE),
    "like": example(PARAMS, {"a NumPy float", "a traced array"}, ANY),
    "number": example(1, size=0),
    "iterations": example(1, size=0),
    "samples": example(2, size=1),
    "block": example(None, OPTIONAL),
    "blocks": example(None, OPTIONAL),
}
OF_DIRECTIONS = {
    "kind": example("jvp"),
    "functions": example({"a": SQUARE, "b": SQUARE}, size={"a": SQUARE}),
}
OWN: dict[str, dict[str, Example]] = {
    **dict.fromkeys(("lstm_hvp", "lstm_gauss_newton", "lstm_fisher", "lstm_rop"), OF_SECOND),
    **dict.fromkeys(("lanczos", "hutchinson"), OF_MATRIX),
    "curvature": OF_MATRIX | {"params": example(PARAMS)},
    "gate_blocks": {"params": example(PARAMS)},
    "lyapunov_exponents": {"number": example(None, OPTIONAL, size=0)},
    **dict.fromkeys(
        [f"referee.compare_{name}" for name in ("jvp", "hvp", "directions")], OF_DIRECTIONS
    ),
    "make_parallel_rnn": {"cell": example(jl.MIN_GRU)},
    "init_ind_rnn_state": {"params": example(params_of(jl.IND_RNN), size=ANY)},  # H - 1 units
    "make_gated": {
        "kind": example("lstm"),
        "activations": example({"g": "relu"}, OPTIONAL, {"z": "relu"}),
        "clip": example(3.0, BOUND, 0.0),
        "cell_clip": example(3.0, BOUND, 0.0),
        "peepholes": example(False, FLAGS),
        "coupled": example(False, FLAGS),
        "n_heads": example(1, size=0),
    },
    "in_heads": {"n_heads": example(2, size=0)},
    "init_mlstm": {"key_size": example(2, OPTIONAL)},
    "stack": OF_STACK,
    "stack_autodiff": OF_STACK,
    "init_stack": {
        "bidirectional": example(False, FLAGS),
        "merge": example("concat"),
        "residual": example(False, FLAGS),
        "skip": example(None, OPTIONAL),
        "learn_initial": example(False, FLAGS),
    },
    "init_stack_state": OF_INIT,
    "init_stack_state_autodiff": OF_INIT,
    "softmax_cross_entropy": OF_CLASSES,
    "softmax_cross_entropy_autodiff": OF_CLASSES,
    **dict.fromkeys(("embedding", "embedding_autodiff"), OF_EMBEDDING),
    **dict.fromkeys(("dense", "dense_autodiff"), OF_DENSE),
    **dict.fromkeys(("drop", "drop_autodiff"), OF_DROP),
    "zoneout_masks": {
        "states": example(STATE, size=ANY),
        "T": example(T, {"zero"}, size=-1),
        "fields": example(None, OPTIONAL | {"an empty tuple"}),
    },
    "recurrent_dropout_masks": {"states": example(STATE, size=ANY)},
    "make_linearised": {
        "gates": example(None, OPTIONAL | {"an empty tuple"}),
        "follows": example(None, OPTIONAL | CALLABLE),
    },
    "training.make_update": {"rate": example(None, OPTIONAL | CALLABLE)},
    "training.language_model_loss": {
        "params": example(MODEL, size=ANY),
        "tokens": example(np.zeros((T, B), int), {"a traced number"}),
        "targets": example(np.zeros((T, B), int)),
    },
    **{key: {"devices": example(None, OPTIONAL)} for key in ("over_devices", "over_units")},
    "memory_plan": {
        "budget": example(1e6, {"a Python float", "a NumPy float"}, size=-1),
        **{name: example(2, size=-1) for name in ("T", "B", "D", "H", "limit")},
        "residuals": example(("full",), size=("full", -1)),
        "last_only": example(False, FLAGS),
        "progress": example(None, OPTIONAL | CALLABLE),
    },
    "trace": {
        "ys": example(None, OPTIONAL),
        "dlast": example(None, OPTIONAL),
        "order": example(("i", "f", "g", "o"), size=("i", "f")),
    },
    "diagnose": {
        "gradient": example({"dW": draw(D, 4 * H)}, CALLABLE | {"a dict", "a word"}, ANY),
        "problem": example(PROBLEM, {"a dict", "a word"}, ANY),
        "layout": example("ours", OPTIONAL),
        "cell": example("lstm", OPTIONAL),
        "pairs": example(None, OPTIONAL | FLAGS),
    },
    "save": {
        "tree": example({"W": draw(2)}, WRONG, ANY),  # see tests/files/
        "notes": example(None, WRONG),
    },
    "load": {"like": example(None, WRONG)},
    "attribute": {"of": example(None, OPTIONAL | CALLABLE)},
    "jacobian_norms": {
        "at": example([0, 1], {"an empty tuple"}, [0, T]),
        "iterations": example(3, size=0),
    },
    "elman_bounds": {"run": example(jax.eval_shape(jl.linearised_elman, *OF_ELMAN), size=ANY)},
    "begin": {
        "state": example(STATE, size=ANY),
        "xs": example(XS, NUMBERS | {"a shape without numbers"}, ANY),
        "resets": example(None, OPTIONAL, ANY),  # of any steps
    },
    "make_online": {"cell": example(jl.IND_RNN)},
    "online.begin": {
        "params": example(params_of(jl.IND_RNN), size=ANY),  # H - 1 units
        "state": example(state_of(jl.IND_RNN, B)),
    },
    "online.advance": {
        "params": example(params_of(jl.IND_RNN)),
        "online": example(jl.Online(state_of(jl.IND_RNN, B), INFLUENCE), size=ANY),
    },
    "advance": {
        "window": example(jl.Window(STATE, PAST, STATE), size=ANY),
        "xs": example(XS[:4]),
        "params": example(PARAMS),
    },
    "referee.check": {
        "f": example(SQUARE, CALLABLE),
        "reference": example(None, OPTIONAL | CALLABLE),
        "batch": example(None, OPTIONAL, (None, 0)),
        "carry": example(None, OPTIONAL, (1, 0)),
        "mask": example(None, OPTIONAL, (np.ones(T + 1, bool),)),
        "constants": example((), {"an empty tuple"}, ("nobody",)),
    },
    "referee.compare": {"functions": example({"a": SQUARE, "b": SQUARE}, size={"a": SQUARE})},
    "referee.pullback": {"f": example(SQUARE, CALLABLE)},
    "referee.slope_test": {"route": example(None, OPTIONAL | CALLABLE)},
    "referee.scalings": {
        "sizes": example({"time": 2, "batch": 2}, size={"time": -1, "batch": 2}),
        "weights": example(("dW",), {"an empty tuple"}),
    },
    "referee.taps": OF_REFEREE | {"inside": example(None, OPTIONAL)},
    "referee.mutation_test": OF_REFEREE,
    "referee.diagnose": {
        "given": example((), {"an empty tuple"}),
        "table": example(jl.referee.Table({}, len, {}, len, {}, (), (), {}, {})),
        "dtype": example("float64"),
        "pairs": example(None, OPTIONAL | FLAGS),
    },
    "torch.from_state_dict": OF_TORCH,
    "torch.gradient_from_state_dict": OF_TORCH,
    "torch.gradient_to_state_dict": {"dparams": example(PARAMS)},
    "torch.to_hx": {
        "states": example(((STATE,),), size=ANY),
        "dtype": example(None, OPTIONAL | {"a NumPy float", "a traced array"}),  # theirs is taken
    },
    "torch.from_hx": {
        "hx": example((draw(1, B, H), draw(1, B, H)), size=draw(H)),
        "bidirectional": example(False, FLAGS),
    },
    "keras.from_weights": {"weights": example([*PARAMS])},
    "keras.to_weights": {"use_bias": example(True, FLAGS)},
    "keras.from_states": {"states": example([*STATE], size=[STATE.h, STATE.c[:1]])},
    "keras.to_states": {"state": example(STATE, size=ANY)},
    "flax.from_linen": {"tree": example({"i": draw(2)}, size=ANY)},
    "flax.from_nnx": {"tree": example({"i": draw(2)}, size=ANY)},
    "flax.to_nnx": {"cell": example("LSTMCell")},
    "flax.from_carry": {"carry": example((STATE.c, STATE.h), ARRAYS, (STATE.c, STATE.h[:1]))},
    "flax.to_carry": {"state": example(STATE, size=ANY)},
}
