"""Files of our own: what comes back, what is refused and by what name, and what an interruption
leaves."""

import functools
import json
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file

import jax_lstm as jl
from jax_lstm.cells.elman import ElmanState
from jax_lstm.files import checkpoint
from jax_lstm.files.arrays import DTYPES, META, encode_tensors, read_tensors
from jax_lstm.files.disk import write
from jax_lstm.networks.stack import init_stack, init_stack_state
from tests.tables import assert_same, normal_like, relaxed

D, H, R = 3, 5, 2


def shapes():
    """Of trees as the library makes them."""
    key = jax.random.key(0)
    init = lambda key, D, H: jl.init_lstmp(key, D, H, R, dtype=jnp.bfloat16)
    params = init_stack(key, D, (H, 4), bidirectional=True, learn_initial=True)
    return {
        "lstm": jl.init_lstm(key, D, H, dtype=jnp.float64),
        "stack": params,
        "states": init_stack_state(params, (2,)),
        "bfloat16": init_stack(key, D, (H,), init=init, init_state=jl.init_lstmp_state),
        "elman": (jl.init_elman(key, D, H), ElmanState(jnp.ones(H, jnp.float16))),
        "dense": {"readout": jl.init_dense(key, H, 4), "embedding": jl.init_embedding(key, 4, D)},
        "one array": jnp.ones((2, 3), jnp.float32),
    }


@functools.cache
def trees():
    """One of everything: {name: tree}. Drawn by NumPy: nothing is compiled."""
    return normal_like(3, jax.eval_shape(shapes)) | {
        "mixed": {
            "list": [np.arange(3), np.array(True), np.float32(1)],
            "none": None,
            "empty": (np.zeros((0, 3), np.int16), (), {}),
            "é": np.array([np.nan, np.inf, -0.0]),
        },
    }


@pytest.mark.parametrize("name", trees())
def test_there_and_back_at_exact_equality(name, tmp_path):
    tree, notes = trees()[name], {"vocabulary": "aé東", "step": 3, "nats": 1.5, "none": None}
    jl.save(tmp_path / "a.safetensors", tree, notes=notes)
    got, said = jl.load(tmp_path / "a.safetensors")
    assert jax.tree.structure(got) == jax.tree.structure(tree)
    assert_same(got, tree)
    kinds = [[(type(x), x.dtype) for x in jax.tree.leaves(t)] for t in (got, tree)]
    assert [dtype for _, dtype in kinds[0]] == [dtype for _, dtype in kinds[1]]
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(got))
    assert said == notes
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


class Own(NamedTuple):
    W: jax.Array


def test_an_optimizer_s_state_and_a_cell_of_one_s_own(tmp_path):
    path, params = tmp_path / "a.safetensors", {"own": Own(jnp.ones(3)), "lstm": trees()["lstm"]}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    with relaxed("optax"):
        _, opt_state = optimizer.update(params, optimizer.init(params))
    tree = {"params": params, "opt_state": opt_state}
    jl.save(path, tree)
    got, notes = jl.load(path, like=jax.eval_shape(lambda: tree))
    assert jax.tree.structure(got) == jax.tree.structure(tree)
    assert_same(got, tree)
    assert notes is None
    with pytest.raises(ValueError, match=r"EmptyState\(\), which is not jax_lstm's: .*like="):
        jl.load(path)
    jl.save(tmp_path / "own", params)
    with pytest.raises(ValueError, match=r"holds a Own\(W\), which is not jax_lstm's: .*like="):
        jl.load(tmp_path / "own")
    other = {**tree, "params": {**params, "own": Own(jnp.ones(4))}}
    with pytest.raises(ValueError, match=r"`params.own.W` of .* is float64 \(3,\); .* \(4,\)"):
        jl.load(path, like=other)
    with pytest.raises(ValueError, match=r"`params.lstm.W` of `like` must be an array; got float"):
        jl.load(path, like={**tree, "params": {**params, "lstm": jl.LSTMParams(1.0, 1.0, 1.0)}})
    with pytest.raises(ValueError, match="has another form than `like`"):
        jl.load(path, like={"parameters": params, "opt_state": opt_state})


def test_the_header_says_what_it_is(tmp_path):
    jl.save(tmp_path / "a.safetensors", {"params": trees()["bfloat16"], "lstm": trees()["lstm"]})
    said = read_tensors(tmp_path / "a.safetensors").metadata
    assert (said["format"], said["version"]) == ("jax_lstm", "1")
    assert said["gates"].startswith("i f g o, blocks side by side; x @ W")
    assert json.loads(said["cells"]) == {
        "params.layers.0.0": {"cell": "lstmp", "D": D, "H": H, "R": R},
        "lstm": {"cell": "lstm", "D": D, "H": H},
    }
    assert set(json.loads(said["sha256"])) == {
        *(f"params.layers.0.0.{k}" for k in "WUbP"),
        *(f"lstm.{k}" for k in "WUb"),
    }


def test_other_programs_read_the_arrays(tmp_path):
    """By the package safetensors alone, with arrays that do not lie in C's order."""
    x = np.arange(6.0).reshape(2, 3)
    jl.save(tmp_path / "a", {"x": x, "turned": x.T, "every second": x[:, ::2]}, notes="é")
    assert_same(load_file(tmp_path / "a"), {"x": x, "turned": x.T, "every second": x[:, ::2]})
    jl.save(tmp_path / "params", trees()["stack"])
    assert len(load_file(tmp_path / "params")) == len(jax.tree.leaves(trees()["stack"]))


@pytest.mark.parametrize("kind", DTYPES)
def test_every_dtype(kind, tmp_path):
    x = np.arange(6).reshape(2, 3).astype(DTYPES[kind])
    write(tmp_path / "a", encode_tensors({"x": x}, {"a": "b"}))
    arrays, metadata = read_tensors(tmp_path / "a")
    got = arrays["x"]
    assert metadata == {"a": "b"}
    assert (got.dtype, got.shape, got.tobytes()) == (x.dtype, x.shape, x.tobytes())


# Damage ---------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path):
    """(path, bytes, where the numbers begin, {leaf: (start, end)}) of a file of two layers."""
    path = tmp_path / "a.safetensors"
    params = normal_like(0, init_stack(jax.random.key(0), D, (H, 4)))
    jl.save(path, params, notes={"step": 3})
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    places = {k: v["data_offsets"] for k, v in header.items() if k != META}
    return path, data, begin, places


def test_a_flipped_bit_anywhere_in_the_numbers_names_the_leaf(written):
    path, data, begin, places = written
    for name, (start, end) in places.items():
        for at in {start, (start + end) // 2, end - 1}:
            path.write_bytes(flip(data, begin + at))
            with pytest.raises(ValueError, match=f"is damaged in `{name}`: not the bytes"):
                jl.load(path)


def flip(data, at, bit=1):
    return data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]


def test_two_damaged_leaves_are_both_named(written):
    path, data, begin, places = written
    first, last = places["layers.0.0.W"][0], places["layers.1.0.b"][1] - 1
    path.write_bytes(flip(flip(data, begin + last), begin + first))
    with pytest.raises(ValueError, match=r"damaged in `layers.0.0.W`, `layers.1.0.b`"):
        jl.load(path)


def test_a_flipped_bit_anywhere_in_the_header_is_refused(written):
    """No byte of it can change unnoticed; most are told as an altered header."""
    path, data, begin, _ = written
    told = []
    for at in range(0, begin, 7):
        path.write_bytes(flip(data, at))
        with pytest.raises(ValueError, match=r"a\.safetensors") as error:
            jl.load(path)
        told.append("altered in its header" in str(error.value))
    assert sum(told) > len(told) / 2


def test_a_header_that_was_edited(written):
    path, data, begin, _ = written
    wrong = (
        data[8:begin]
        .replace(b'\\"step\\": 3', b'\\"step\\": 4')
        .replace(b'"step": 3', b'"step": 4')
    )
    assert wrong != data[8:begin]
    path.write_bytes(data[:8] + wrong + data[begin:])
    with pytest.raises(ValueError, match="was altered in its header: its sha256 is another"):
        jl.load(path)


def test_cut_off_at_every_length(written):
    path, data, begin, places = written
    order = sorted(places, key=lambda name: places[name])
    for n in [*range(0, begin, 50), *range(begin, len(data), 9), len(data) - 1]:
        path.write_bytes(data[:n])
        first = next(name for name in order if begin + places[name][1] > n)
        told = "or was cut off in its header" if n < begin else f"was cut off in `{first}`: "
        with pytest.raises(ValueError, match=told):
            jl.load(path)
    path.write_bytes(data + b"0")
    with pytest.raises(ValueError, match="has 1 bytes after its last array"):
        jl.load(path)


def test_two_leaves_in_each_other_s_places(tmp_path):
    path = tmp_path / "a.safetensors"
    jl.save(path, {"a": jnp.zeros(4), "b": jnp.ones(4)})
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    path.write_bytes(data[:begin] + data[begin + 32 :] + data[begin : begin + 32])
    with pytest.raises(ValueError, match="damaged in `a`, `b`"):
        jl.load(path)


def test_other_files_are_refused_clearly(tmp_path):
    path = tmp_path / "a.safetensors"
    write(path, encode_tensors({"weight": np.ones(3)}, {}))
    with pytest.raises(ValueError, match=r"not written by jax_lstm.save; it holds weight. `python"):
        jl.load(path)
    jl.save(path, jnp.ones(3))
    arrays, metadata = read_tensors(path)
    write(path, encode_tensors(arrays, metadata | {"version": "2"}))
    with pytest.raises(ValueError, match="is of version 2; this jax_lstm reads 1"):
        jl.load(path)
    for data in (b"", b"text", b'{"a": 1}' * 9):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"is no \.safetensors file"):
            jl.load(path)
    with pytest.raises(FileNotFoundError):
        jl.load(tmp_path / "none")


def header_of(text):
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("header", "match"),
    [
        (b"[]", "invalid type: sequence"),
        (b'{"a": 3}', "invalid type: integer"),
        (b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}}', "invalid shape"),
        (b'{"a": {"dtype": "X", "shape": [1], "data_offsets": [0, 8]}}', "unknown variant `X`"),
        (b'{"a": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}', "C64; known are F64"),
        (b'{"a": {"dtype": "F64", "shape": [-1], "data_offsets": [0, 8]}}', "invalid value"),
        (b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}', "offset for tensor `a`"),
        (b'{"__metadata__": {"a": 1}}', "expected a string"),
        (b'{"a": \xff}', "invalid UTF-8"),
        (b"[" * 100000, "invalid type: sequence"),
    ],
    ids=range(10),
)
def test_headers_that_make_no_sense(header, match, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(header_of(header) + bytes(8))
    with pytest.raises(ValueError, match=match):
        read_tensors(path)


# What cannot be saved, and interruptions ------------------------------------------------------


@pytest.mark.parametrize(
    ("tree", "notes", "match"),
    [
        ({"a": 3.0}, None, "`a` must be an array, in NamedTuples, .*; got float"),
        ({"a": [np.ones(2), "b"]}, None, "`a.1` must be an array"),
        (3.0, None, "`tree` must be an array, in NamedTuples, .*; got float"),
        ({3: np.ones(2)}, None, "the keys of a dict must be texts; got 3"),
        ({"a": {"b": np.ones(2)}, "a.b": np.ones(2)}, None, "two leaves would be called `a.b`"),
        ({"a": jax.random.key(0)}, None, "`a` is a key; save jax.random.key_data of it"),
        ({"a": np.array(["b"])}, None, "`a` is <U1; safetensors has F64"),
        (np.ones(2), {"x": np.ones(2)}, "`notes` must be what JSON can say"),
        (np.ones(2), float("nan"), "`notes` must be what JSON can say"),
    ],
    ids=range(9),
)
def test_what_cannot_be_saved(tree, notes, match, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match=match):
        jl.save(path, tree, notes=notes)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("where", ["replace", "fsync"])
def test_an_interruption_leaves_the_old_file(where, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    jl.save(path, jnp.ones(3), notes="old")

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        jl.save(path, jnp.zeros(3), notes="new")
    assert jl.load(path).notes == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_float64_with_x64_off_is_refused_and_not_rounded(tmp_path):
    path = tmp_path / "a.safetensors"
    jl.save(path, trees()["lstm"])
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"`W` is float64, .*enable_x64"):
        jl.load(path)
    assert checkpoint.read_checkpoint(path)[0]["W"].dtype == np.float64


def test_a_tree_that_is_none_is_refused(tmp_path):
    """Sums are no signature: right sums around a header that somebody made up."""
    path = tmp_path / "a.safetensors"
    jl.save(path, {"a": jnp.ones(2)})
    arrays, metadata = read_tensors(path)
    for tree in ('"b"', '{"set": ["a"]}', "[3]", '{"type": "LSTMParams", "fields": {}}'):
        said = metadata | {"tree": tree}
        said["header"] = checkpoint.digest_of_header(said)
        write(path, encode_tensors(arrays, said))
        with pytest.raises(ValueError, match=r"says of its tree what is none|is not jax_lstm's"):
            jl.load(path)
