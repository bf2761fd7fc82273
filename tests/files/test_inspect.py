"""`python -m jax_lstm inspect FILE`: one cell has one table in every layout; what is marked; what
is refused."""

import json
import math
import re
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import jax_lstm as jl
from jax_lstm.commands import main as command
from jax_lstm.files import inspect as inspection
from jax_lstm.interop import flax, keras, torch
from jax_lstm.interop.convert import flatten
from jax_lstm.networks.stack import init_stack
from tests.tables import normal_like

D, H, R = 3, 5, 2


def random(cell="lstm", layers=1, bidirectional=False):
    init = {
        "lstm": jl.init_lstm,
        "elman": jl.init_elman,
        "lstmp": lambda key, D, H: jl.init_lstmp(key, D, H, R),
    }[cell]
    state = {"lstm": jl.init_lstm_state, "elman": jl.init_elman_state, "lstmp": jl.init_lstmp_state}
    params = init_stack(
        *(jax.random.key(0), D, (H,) * layers),
        init=init,
        init_state=state[cell],
        bidirectional=bidirectional,
    )
    return normal_like(1, params)


def file_of(path, arrays):
    arrays = {k: np.asarray(x) for k, x in arrays.items()}
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        save_file(arrays, path)
    return path


def by_path(params):
    """As {v.path: v for v in layer.weights}."""
    weights = keras.to_weights(params)
    return {
        f"{('bidirectional/forward_', 'bidirectional/backward_')[k // 3]}lstm/lstm_cell/"
        f"{keras.KERAS_NAMES[k % 3]}": x
        for k, x in enumerate(weights[0])
    }


def in_layouts(params):
    """{what: (layout, arrays)} of a layer of two directions."""
    linen, nnx = flax.to_linen(params)[0], flax.to_nnx(params)[0]
    both = lambda trees: flatten({"forward_rnn": {"cell": trees[0]}, "backward_rnn": trees[1]})
    return {
        "ours": (
            "ours",
            {f"{d}.{k}": x for d in (0, 1) for k, x in params.layers[0][d]._asdict().items()},
        ),
        "torch": ("torch", torch.to_state_dict(params, prefix="a.lstm")),
        "linen": ("linen", flatten({"params": both(linen)})),
        "linen with dots": ("linen", {k.replace("/", "."): x for k, x in both(linen).items()}),
        "nnx": ("nnx", both(nnx)),
        "nnx LSTMCell": ("nnx", both(flax.to_nnx(params, cell="LSTMCell")[0])),
        "keras": ("keras", by_path(params)),
        "keras, numbered": (
            "keras",
            {f"arr_{k}": x for k, x in enumerate(keras.to_weights(params)[0])},
        ),
    }


@pytest.mark.parametrize("what", in_layouts(random(bidirectional=True)))
@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_one_cell_has_one_table_in_every_layout(what, kind, tmp_path):
    params = random(bidirectional=True)
    layout, arrays = in_layouts(params)[what]
    found = inspection.inspect(file_of(tmp_path / f"a.{kind}", arrays))
    assert found.layouts == (layout,)
    assert [c.sizes for c in found.cells] == [{"D": D, "H": H}] * 2
    backward = lambda cell: "backward" in cell.where or cell.direction == "reverse"
    for cell, p in zip(sorted(found.cells, key=backward), params.layers[0], strict=True):
        assert (cell.cell, cell.problem, cell.notes) == ("lstm", None, ())
        assert [g.gate for g in cell.gates] == list("ifgo")
        for k, gate in enumerate(cell.gates):
            columns = slice(k * H, (k + 1) * H)
            W, U, b = (np.asarray(x)[..., columns] for x in p)
            want = [np.sqrt((x.astype(float) ** 2).sum()) for x in (W, U, b)]
            want += [b.astype(float).mean(), np.abs(np.linalg.eigvals(U.astype(float))).max()]
            np.testing.assert_allclose(gate[1:], want, rtol=1e-12)
    shapes = {row.name: row.shape for row in found.arrays}
    assert shapes == {k: np.shape(x) for k, x in arrays.items()}


def test_layers_of_torch_in_order(tmp_path):
    d = torch.to_state_dict(random(layers=3, bidirectional=True), prefix="model.encoder")
    found = inspection.inspect(file_of(tmp_path / "a.safetensors", d | {"fc.weight": np.ones(2)}))
    places = [(c.where, c.layer, c.direction) for c in found.cells]
    assert places == [("model.encoder", k, r) for k in range(3) for r in ("forward", "reverse")]
    total = 2 * (4 * H * (D + H + 2) + 2 * 4 * H * (2 * H + H + 2)) + 2  # 25 arrays
    assert f"25 arrays, {total:,} numbers, 6 recurrent cells" in found.table()
    assert "the layout seems to be torch (jax_lstm.interop.torch.from_state" in found.table()


def test_a_projection_s_radius_is_that_of_what_leads_from_step_to_step(tmp_path):
    params = random("lstmp")
    found = inspection.inspect(file_of(tmp_path / "a.npz", torch.to_state_dict(params)))
    (cell,), ((p,),) = found.cells, params.layers
    assert cell.sizes == {"D": D, "H": H, "R": R}
    for k, gate in enumerate(cell.gates):
        square = np.asarray(p.P @ p.U[:, k * H : (k + 1) * H], float)
        assert gate.radius == pytest.approx(np.abs(np.linalg.eigvals(square)).max(), rel=1e-5)


def test_a_rotation_and_a_simple_cell(tmp_path):
    """Known radii: 0.9 of a turn by any angle, and 0 of what forgets after two steps."""
    turn = 0.9 * np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    blocks = [turn, 2 * turn, np.array([[0.0, 5.0], [0.0, 0.0]]), np.eye(2)]
    params = {"W": np.ones((3, 8)), "U": np.concatenate(blocks, 1), "b": np.arange(8.0)}
    found = inspection.inspect(file_of(tmp_path / "a.npz", params))
    assert [g.radius for g in found.cells[0].gates] == pytest.approx([0.9, 1.8, 0.0, 1.0])
    assert [g.mean_b for g in found.cells[0].gates] == [0.5, 2.5, 4.5, 6.5]
    simple = {"W": np.ones((3, 2)), "U": turn, "b": np.ones(2)}
    found = inspection.inspect(file_of(tmp_path / "b.npz", simple))
    ((gate,),) = (c.gates for c in found.cells)
    assert (found.cells[0].cell, gate.gate) == ("elman", "a")
    assert gate.radius == pytest.approx(0.9)


def test_a_file_of_ours_with_notes(tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    tree = {"params": random(layers=2), "state": jl.LSTMState(jnp.ones(H), jnp.ones(H))}
    jl.save(path, tree, notes={"step": 3, "vocabulary": "é" * 99})
    assert command.main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    for line in (
        "jax_lstm.save, version 1, every sum right",
        "  step: 3\n",
        f'  vocabulary: "{"é" * 59}...\n',
        "params.layers.1.0: jax_lstm.LSTMParams, D = 5, H = 5\n",
        "2 recurrent cells; the layout seems to be ours (jax_lstm.load)",
    ):
        assert line in out, line
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert command.main(["inspect", str(path)]) == 2
    assert "is damaged in `" in capsys.readouterr().err


def test_columns_stand_below_their_heads(tmp_path):
    lines = (
        inspection.inspect(
            file_of(tmp_path / "a.npz", in_layouts(random(bidirectional=True))["torch"][1])
        )
        .table()
        .splitlines()
    )
    for head in (n for n, line in enumerate(lines) if "|W|" in line or "norm" in line):
        rows = lines[head : head + 5]
        ends = [
            [n for n, c in enumerate(row) if c != " " and row[n + 1 : n + 2] in ("", " ")]
            for row in rows
        ]
        last = {row[-1] for row in ends}
        assert len(last) == 1, rows
    assert all(line == line.rstrip() and len(line) < 140 for line in lines)


def test_what_is_not_finite_is_marked_and_said_in_json(tmp_path, capsys):
    params = random().layers[0][0]._asdict()
    params = {k: np.array(x) for k, x in params.items()}
    params["U"][0, 0], params["b"][-1], params["b"][-2] = np.nan, np.inf, -np.inf
    path = file_of(tmp_path / "a.npz", params | {"words": np.array(["a"])})
    assert command.main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "NOT FINITE: U, b" in out
    assert "<- 1 NaN" in out
    assert "<- 2 inf" in out
    gates = [line for line in out.splitlines() if line.split()[:1] in (["i"], ["f"], ["g"], ["o"])]
    assert [line.endswith("<-") for line in gates] == [True, False, False, True]
    assert command.main(["inspect", str(path), "--json"]) == 0

    def refuse(constant):
        raise AssertionError(constant)

    said = json.loads(capsys.readouterr().out, parse_constant=refuse)
    rows = {row["name"]: row for row in said["arrays"]}
    assert rows["U"]["nans"] == 1
    assert rows["U"]["norm"] == "NaN"
    assert rows["b"]["largest"] == "Infinity"
    assert rows["words"]["norm"] is None
    assert [g["radius"] == "NaN" for g in said["cells"][0]["gates"]] == [True, False, False, False]
    assert said["layouts"] == ["ours"]


def test_large_numbers_do_not_overflow():
    assert inspection.norm(np.array([3e200, 4e200])) == pytest.approx(5e200)
    assert inspection.norm(np.zeros((0, 3))) == 0.0
    assert math.isnan(inspection.norm(np.array([np.nan, 1])))


def test_another_order_of_gates_shows_in_the_forget_bias(tmp_path):
    params = jl.init_lstm(jax.random.key(0), D, H)._asdict()
    plain = inspection.inspect(file_of(tmp_path / "a.npz", params))
    assert plain.cells[0].notes == ()
    params["b"] = np.roll(params["b"], H)  # i, g, f, o
    (cell,) = inspection.inspect(file_of(tmp_path / "b.npz", params)).cells
    assert "only the block of g has a bias with a mean of 1.00" in cell.notes[0]


def test_what_looks_like_a_cell_and_is_none_is_explained(tmp_path):
    gru = {"weight_ih_l0": np.ones((3 * H, D)), "weight_hh_l0": np.ones((3 * H, H))}
    out = inspection.inspect(file_of(tmp_path / "a.npz", gru)).table()
    assert "not read: `weight_hh_l0` must be (4H,H) = (20, 5)" in out
    assert "3 block(s) of H = 5 where an LSTM has 4 (a GRU has 3)" in out
    assert "the layout seems to be torch by its names, not its shapes" in out
    turned = {k: np.asarray(x).T for k, x in random().layers[0][0]._asdict().items()}
    out = inspection.inspect(file_of(tmp_path / "b.npz", turned)).table()
    assert "not read: the weights fit jax_lstm.LSTMParams when they are transposed" in out
    out = inspection.inspect(file_of(tmp_path / "c.npz", {"weight": np.ones(3)})).table()
    assert "no recurrent cell by its names. Known are ours: W, U, b; torch: weight_ih_l0" in out


def test_two_systems_in_one_file(tmp_path):
    """Also where they stand beside each other, without a name above."""
    params = random(bidirectional=True)
    beside = dict(zip(keras.KERAS_NAMES, keras.to_weights(params)[0][:3], strict=True))
    for n, arrays in enumerate((by_path(params), beside)):
        file = file_of(tmp_path / f"{n}.npz", torch.to_state_dict(params) | arrays)
        assert inspection.inspect(file).layouts == ("torch", "keras")


MISSING = {
    "ours": ("0.W", "W is missing; found U, b"),
    "torch": ("a.lstm.weight_hh_l0", "weight_hh_l0 is missing; found weight_ih_l0, bias_ih_l0"),
    "linen": ("params/forward_rnn/cell/hg/kernel", "hg/kernel is missing; found ii/kernel"),
    "nnx": ("forward_rnn/cell/dense_i/kernel", "dense_i/kernel is missing; found dense_h/kernel"),
    "keras": (
        "bidirectional/forward_lstm/lstm_cell/kernel",
        "kernel is missing; found recurrent_k",
    ),
}


@pytest.mark.parametrize("layout", MISSING)
def test_a_missing_array_is_named(layout, tmp_path):
    name, says = MISSING[layout]
    arrays = in_layouts(random(bidirectional=True))[layout][1]
    del arrays[name]
    out = inspection.inspect(file_of(tmp_path / "a.npz", arrays)).table()
    assert re.search(f"not read: .*{re.escape(says)}", out)
    assert f"{layout} by its names, not its shapes" in out


def test_order_is_that_of_numbers(tmp_path):
    """The package gives arrays in no order at all."""
    names = [f"{m}_l{n}" for m in ("bias", "weight") for n in range(12)]
    path = file_of(tmp_path / "a.safetensors", dict.fromkeys(names[::-1], np.ones(1)))
    assert [x.name for x in inspection.inspect(path).arrays] == names


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.npz", None, "none.npz is no file"),
        ("a.pt", b"", "a.pt must end in .safetensors or .npz; what torch.save wrote fits after"),
        ("a.npz", b"", "a.npz is no .npz archive"),
        (
            "a.safetensors",
            b"",
            "a.safetensors is no .safetensors file, or was cut off in its header",
        ),
        ("b.safetensors", b"text text", "b.safetensors is no .safetensors file"),
    ],
)
def test_bad_files_are_one_line_and_status_2(name, content, says, tmp_path, capsys):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert command.main(["inspect", str(tmp_path / name)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert captured.err.startswith("jax-lstm: error: ")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("do", ["inspect", "diagnose"])
def test_an_archive_of_something_else_is_refused(do, tmp_path, capsys):
    """What torch.save writes is an archive too."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("archive/data.pkl", b"0")
    assert command.main([do, str(tmp_path / "a.npz")]) == 2
    assert "a.npz must hold arrays; archive/data.pkl is none; what torch" in capsys.readouterr().err


def test_pickled_objects_are_refused(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", W=np.array([{}], dtype=object))
    assert command.main(["inspect", str(tmp_path / "a.npz")]) == 2
    assert "pickled objects, which are not loaded" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["torch", "keras"])
def test_a_cell_without_bias_has_its_gates(layout, tmp_path):
    kernels, torch = (
        {"kernel": (3, 8), "recurrent_kernel": (2, 8)},
        ("weight_ih_l0", "weight_hh_l0"),
    )
    if layout == "torch":
        kernels = dict(zip(torch, (shape[::-1] for shape in kernels.values()), strict=True))
    np.savez(tmp_path / "a.npz", **{k: np.ones(shape) for k, shape in kernels.items()})
    found = inspection.inspect(tmp_path / "a.npz")
    (cell,) = found.cells
    assert (cell.layout, cell.sizes, cell.problem) == (layout, {"D": 3, "H": 2}, None)
    assert [(g.gate, g.b, g.mean_b, g.radius) for g in cell.gates] == [
        (k, None, None, pytest.approx(2)) for k in "ifgo"
    ]
    assert "forget bias" not in found.table()
