"""ONNX's own tests of LSTM, GRU and RNN; random operators beside ONNX Runtime; models run and
written; and gradients beside complex steps of an independent model in NumPy."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm.interop import onnx as ours
from tests.tables import assert_close, normal_like, quick_jit

onnx = pytest.importorskip("onnx", reason="pip install -e '.[peers]'")
ort = pytest.importorskip("onnxruntime", reason="pip install -e '.[peers]'")

RUN = {"LSTM": ours.lstm, "GRU": ours.gru, "RNN": ours.rnn}
OPERANDS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
BLOCKS = {"LSTM": 4, "GRU": 3, "RNN": 1}


def names_of(operator):
    return OPERANDS if operator == "LSTM" else OPERANDS[:6]


def results_of(operator):
    return ("Y", "Y_h", "Y_c") if operator == "LSTM" else ("Y", "Y_h")


# ONNX's own tests -------------------------------------------------------------------------------


def own_tests():
    """{name: (node, inputs, outputs)}: what ONNX's tests hand to `expect`."""
    found = {}

    def expect(node, inputs, outputs, name, **_):
        found[name] = node, inputs, outputs

    for operator in RUN:
        module = importlib.import_module(f"onnx.backend.test.case.node.{operator.lower()}")
        right, module.expect = module.expect, expect
        for name in dir(getattr(module, operator)):
            if name.startswith("export_"):
                getattr(getattr(module, operator), name)()
        module.expect = right
    return found


OWN = own_tests()
QUICK = {"test_lstm_with_peepholes", "test_gru_seq_length", "test_simple_rnn_bidirectional"}


def test_there_are_eighteen():
    assert len(OWN) == 18
    assert set(OWN) > QUICK


@pytest.mark.parametrize(
    "name", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in OWN]
)
def test_of_onnx_itself(name):
    node, inputs, outputs = OWN[name]
    told = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    told = {k: x.decode() if isinstance(x, bytes) else x for k, x in told.items()}
    given = iter(inputs)
    got = RUN[node.op_type](*(next(given) if k else None for k in node.input), **told)
    found = dict(zip(node.output, got, strict=False))
    for k, want in zip([k for k in node.output if k], outputs, strict=True):
        # float32, and the expected numbers are another program's; 1e-7 was the largest difference
        np.testing.assert_allclose(found[k], want, rtol=1e-6, atol=1e-6)


# Random operators -------------------------------------------------------------------------------

TAKE = {"Sigmoid": 0, "Tanh": 0, "Relu": 0, "HardSigmoid": 2, "Softsign": 0, "Softplus": 0}
TAKE |= {"Elu": 1, "LeakyRelu": 1, "ThresholdedRelu": 1, "ScaledTanh": 2, "Affine": 2}


def random_operator(operator, seed, dtype=np.float32):
    """Operands and attributes. alpha and beta are given: ONNX Runtime reads 0 for some defaults."""
    rng, (T, B, D, H) = np.random.default_rng(seed), (5, 3, 2, 4)
    some = lambda share: rng.random() < share
    direction = ("forward", "reverse", "bidirectional")[seed % 3]
    N, m = 1 + (direction == "bidirectional"), BLOCKS[operator]
    draw = lambda *shape: (0.7 * rng.normal(size=shape)).astype(dtype)
    given = {"X": 2 * draw(T, B, D), "W": draw(N, m * H, D), "R": draw(N, m * H, H)}
    told = {"hidden_size": H, "direction": direction}
    if some(0.7):
        given["B"] = draw(N, 2 * m * H)
    if some(0.7):
        given["sequence_lens"] = rng.integers(1, T + 1, B).astype(np.int32)
    if some(0.7):
        given["initial_h"] = draw(N, B, H)
    if operator == "LSTM":
        given |= {"initial_c": draw(N, B, H)} if some(0.7) else {}
        given |= {"P": draw(N, 3 * H)} if some(0.6) else {}
        told |= {"input_forget": 1} if some(0.4) else {}
    if operator == "GRU":
        told["linear_before_reset"] = int(some(0.5))
    if some(0.6):
        told["clip"] = float(np.float32(rng.uniform(0.3, 1.5)))
    if some(0.8):
        count = N * {"LSTM": 3, "GRU": 2, "RNN": 1}[operator]
        told["activations"] = [str(rng.choice(list(TAKE))) for _ in range(count)]
        for letter, least in (("alpha", 1), ("beta", 2)):
            takers = [k for k in told["activations"] if TAKE[k] >= least]
            told[f"activation_{letter}"] = [float(np.float32(rng.normal())) for _ in takers]
    return given, {k: x for k, x in told.items() if x != []}


def model_of(operator, given, told):
    """A graph of one operator."""
    names = [k if k in given else "" for k in names_of(operator)]
    node = onnx.helper.make_node(operator, names, results_of(operator), **told)
    info = onnx.helper.make_tensor_value_info
    kind = lambda x: onnx.helper.np_dtype_to_tensor_dtype(x.dtype)
    ins = [info(k, kind(x), x.shape) for k, x in given.items()]
    outs = [info(k, kind(given["X"]), None) for k in results_of(operator)]
    return finished([node], ins, outs)


def finished(nodes, ins, outs, weights=()):
    graph = onnx.helper.make_graph(nodes, "one", ins, outs, weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def by_runtime(model, given):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [x.name for x in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def assert_near(got, want, tolerance=5e-6):
    assert np.linalg.norm(np.asarray(got) - want) <= tolerance * max(np.linalg.norm(want), 1e-30)


@pytest.mark.parametrize("operator", RUN)
@pytest.mark.parametrize(
    "seed", [n if n == 1 else pytest.param(n, marks=pytest.mark.slow) for n in range(9)]
)
def test_beside_onnx_runtime(operator, seed):
    given, told = random_operator(operator, seed)
    got = ours.run_model(model_of(operator, given, told), given)
    for k, want in by_runtime(model_of(operator, given, told), given).items():
        assert_near(got[k], want)


# An independent model, and its derivative -------------------------------------------------------


def function(name, alpha, beta, a):
    r = np.real(a)
    return {
        "Sigmoid": lambda: 1 / (1 + np.exp(-a)),
        "Tanh": lambda: np.tanh(a),
        "Relu": lambda: np.where(r > 0, a, 0),
        "HardSigmoid": lambda: np.where(
            alpha * r + beta < 0, 0, np.where(alpha * r + beta > 1, 1, alpha * a + beta)
        ),
        "Softsign": lambda: a / (1 + np.where(r > 0, a, -a)),
        "Softplus": lambda: np.log(1 + np.exp(a)),
        "Elu": lambda: np.where(r > 0, a, alpha * (np.exp(a) - 1)),
        "LeakyRelu": lambda: np.where(r > 0, a, alpha * a),
        "ThresholdedRelu": lambda: np.where(r > alpha, a, 0),
        "ScaledTanh": lambda: alpha * np.tanh(beta * a),
        "Affine": lambda: alpha * a + beta,
    }[name]()


def functions(operator, told):
    """f, g, h of each direction, clip in front of those that see a net input."""
    usual = ["Sigmoid", "Tanh", "Tanh"] if operator != "RNN" else ["Tanh"]
    usual = usual[:2] if operator == "GRU" else usual
    N = 1 + (told["direction"] == "bidirectional")
    alpha, beta = (list(told.get(f"activation_{k}", [])) for k in ("alpha", "beta"))
    found, bound = [], told.get("clip", np.inf)

    def cut(a):
        return np.where(np.real(a) > bound, bound, np.where(np.real(a) < -bound, -bound, a))

    for n, name in enumerate(told.get("activations", usual * N)):
        x = alpha.pop(0) if TAKE[name] > 0 else None
        y = beta.pop(0) if TAKE[name] > 1 else None
        free = operator == "LSTM" and n % 3 == 2
        run = lambda a, k=name, x=x, y=y, free=free: function(k, x, y, a if free else cut(a))
        found.append(run)
    return [found[n * len(usual) : (n + 1) * len(usual)] for n in range(N)]


def one_step(operator, told, fs, n, g, x, h, c):
    H, W, R = h.shape[-1], g["W"][n].T, g["R"][n].T
    bW, bR = np.split(g["B"][n], 2)
    a, f = x @ W + h @ R + bW + bR, fs[0]
    block = lambda y, k: y[..., k * H : (k + 1) * H]
    if operator == "RNN":
        return f(a), c
    if operator == "GRU":
        z, r = f(block(a, 0)), f(block(a, 1))
        seen = h @ block(R, 2) + block(bR, 2)
        seen = r * seen if told["linear_before_reset"] else (r * h) @ block(R, 2) + block(bR, 2)
        return (1 - z) * fs[1](block(x @ W, 2) + block(bW, 2) + seen) + z * h, c
    p_i, p_o, p_f = np.split(g["P"][n], 3)
    i = f(block(a, 0) + p_i * c)
    forget = 1 - i if told.get("input_forget") else f(block(a, 2) + p_f * c)
    c = forget * c + i * fs[1](block(a, 3))
    return f(block(a, 1) + p_o * c) * fs[2](c), c


def by_numpy(operator, given, told):
    """Y, Y_h, Y_c of all operands; complex numbers are as good."""
    X, lens, outputs, ends = given["X"], given["sequence_lens"], [], []
    for n, fs in enumerate(functions(operator, told)):
        reverse = n == 1 or told["direction"] == "reverse"
        h, c, Y = given["initial_h"][n], given["initial_c"][n], np.zeros(0)
        Y = np.zeros((X.shape[0], *h.shape), complex)
        for t in range(X.shape[0])[:: -1 if reverse else 1]:
            new = one_step(operator, told, fs, n, given, X[t], h, c)
            valid = (t < lens)[:, None]
            h, c = np.where(valid, new[0], h), np.where(valid, new[1], c)
            Y[t] = np.where(valid, h, 0)
        outputs.append(Y)
        ends.append((h, c))
    h, c = (np.stack(k) for k in zip(*ends, strict=True))
    return (np.stack(outputs, 1), h, c)[: len(results_of(operator))]


def all_of(operator, given, T=5):
    """Every operand, zeros where none was given."""
    N, B, H = given["R"].shape[0], given["X"].shape[1], given["R"].shape[2]
    m, zeros = BLOCKS[operator], lambda *shape: np.zeros(shape)
    rest = {"B": zeros(N, 2 * m * H), "initial_h": zeros(N, B, H), "initial_c": zeros(N, B, H)}
    rest |= {"P": zeros(N, 3 * H), "sequence_lens": np.array([T, 0, 3])}  # a row of no steps
    return rest | given | {"sequence_lens": rest["sequence_lens"]}


@pytest.mark.half
@pytest.mark.parametrize("operator", RUN)
@pytest.mark.parametrize(
    "seed", [n if n == 1 else pytest.param(n, marks=pytest.mark.slow) for n in range(6)]
)
def test_gradients_beside_complex_steps(operator, seed):
    """float64, a row of length 0, four random directions in every operand."""
    given, told = random_operator(operator, seed, np.float64)
    given = all_of(operator, given)
    names = [k for k in names_of(operator) if k != "sequence_lens"]

    def run(operands):
        operands = [operands.get(k, given["sequence_lens"]) for k in names_of(operator)]
        return RUN[operator](*operands, **told)

    operands = {k: jnp.asarray(given[k]) for k in names}
    dy = normal_like(3, jax.eval_shape(run, operands))

    def both(operands):
        y, vjp = jax.vjp(run, operands)
        return y, vjp(dy)[0]

    y, got = quick_jit(both)(operands)
    want = by_numpy(operator, given, told)
    assert_close(list(y), [jnp.asarray(x.real) for x in want])
    rng, ours_along, theirs = np.random.default_rng(7), {}, {}
    for k in names:
        directions = rng.normal(size=(4, *given[k].shape))
        moved = [given | {k: given[k] + 1e-30j * v} for v in directions]
        found = [by_numpy(operator, x, told) for x in moved]
        slope = lambda y: sum(np.sum(d * a.imag) for d, a in zip(dy, y, strict=True)) / 1e-30
        theirs[k] = jnp.array([slope(y) for y in found])
        ours_along[k] = jnp.array([np.sum(np.asarray(got[k]) * v) for v in directions])
    assert_close(ours_along, theirs, 1e-11)


# Models -----------------------------------------------------------------------------------------


def written():
    """{name: params}: what is written, and run by ONNX Runtime."""
    init = lambda draw: jax.eval_shape(lambda key: draw(key, 3, 4), jax.random.key(0))
    cells = ("lstm", "peephole_lstm", "lstm_cifg", "gru", "gru_reset_before", "elman")
    found = {k: normal_like(n, init(jl.CELLS[k].init)) for n, k in enumerate(cells)}
    coupled = jl.make_gated("lstm", coupled=True)
    found["coupled"] = normal_like(8, init(coupled.init))
    draw = lambda key, D, H: jl.init_stack(key, D, (H, H), bidirectional=(True, False))
    found["stack"] = normal_like(9, init(draw))
    return found


@pytest.mark.parametrize(
    "name", ["lstm_cifg", *(pytest.param(k, marks=pytest.mark.slow) for k in written())]
)
def test_what_is_written_runs_elsewhere_and_comes_back(name, tmp_path):
    params = written()[name]
    xs = normal_like(5, jnp.zeros((5, 2, 3), jnp.float32))
    model = ours.to_onnx(params, tmp_path / "model.onnx")
    theirs = by_runtime(model, {"xs": np.asarray(xs)})
    back = ours.run_model(tmp_path / "model.onnx", {"xs": xs})
    for k, want in theirs.items():
        assert_near(back[k], want)
    if name == "stack":
        _, hs = jl.stack(params, jl.init_stack_state(params, (2,)), xs)
    else:
        coupled = jl.make_gated("lstm", coupled=True)
        cell = coupled if name == "coupled" else jl.CELLS[name]
        run, _ = jl.make_rnn(cell)
        state = cell.state(*(jnp.zeros((2, 4), jnp.float32) for _ in cell.fields))
        _, hs = run(params, state, xs)
    assert_near(theirs["hs"], np.asarray(hs))


def test_operators_around_them_and_others_are_refused_by_name():
    """Shapes and constants stay known, so that all of it stands under jit."""
    make, kind = onnx.helper.make_node, onnx.TensorProto.FLOAT
    whole = lambda name, *n: make("Constant", [], [name], value_ints=list(n))
    nodes = [
        make("Shape", ["x"], ["sizes"]),
        whole("one", 1),
        whole("two", 2),
        make("Gather", ["sizes", "one"], ["B"]),
        whole("rest", -1),
        make("Concat", ["B", "rest"], ["to"], axis=0),
        make("Cast", ["to"], ["to64"], to=onnx.TensorProto.INT64),
        make("Transpose", ["x"], ["turned"], perm=(1, 0, 2)),
        make("Reshape", ["turned", "to64"], ["flat"]),
        make("Slice", ["flat", "one", "two", "one"], ["cut"]),
        make("Unsqueeze", ["cut", "two"], ["more"]),
        make("Squeeze", ["more", "two"], ["less"]),
        make("Identity", ["less"], ["y"]),
    ]
    info = onnx.helper.make_tensor_value_info
    model = finished(nodes, [info("x", kind, (3, 2, 4))], [info("y", kind, None)])
    x = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    got = jax.jit(lambda x: ours.run_model(model, {"x": x})["y"])(x)
    np.testing.assert_array_equal(got, by_runtime(model, {"x": x})["y"])
    with pytest.raises(ValueError, match="`inputs` lacks x and has the unknown z"):
        ours.run_model(model, {"z": x})
    other = finished(
        [make("Softmax", ["x"], ["y"], "last")], *(model.graph.input,), model.graph.output
    )
    with pytest.raises(ValueError, match="the operator Softmax of last is none of those that are"):
        ours.run_model(other, {"x": x})


# torch's older exporter writes the operators; the newer one wants a package more. What it says is
# that it is older, that it traces torch's own checks of shapes, and that it keeps the sizes of x.
@pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript-based:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Converting a tensor to a Python boolean")
@pytest.mark.filterwarnings("ignore:Exporting a model to ONNX with a batch_size other than 1")
@pytest.mark.slow
def test_a_model_of_torch_is_run_and_differentiated(tmp_path):
    reason = "torch is the peer of this test: install jax_lstm[peers]"
    torch = pytest.importorskip("torch", reason=reason)
    net, x = torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True), torch.randn(5, 2, 3)
    path = tmp_path / "torch.onnx"
    torch.onnx.export(net, (x,), str(path), dynamo=False, input_names=["x"], output_names=["y"])
    leaf = x.clone().requires_grad_()
    want = net(leaf)[0]
    (want**2).sum().backward()
    run = lambda x: ours.run_model(path, {"x": x})["y"]
    assert_near(run(x.numpy()), want.detach().numpy())
    got = jax.grad(lambda x: (run(x) ** 2).sum())(jnp.asarray(x.numpy()))
    assert_near(got, leaf.grad.numpy(), 2e-5)
