"""What save accepts, load returns; and strangers' files neither surprise nor fill the memory."""

import json
import zipfile
from typing import NamedTuple

import jax
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm.commands import main as command
from jax_lstm.diagnosis import brought
from jax_lstm.files import checkpoint, inspect
from jax_lstm.files.arrays import MOST, arrays_of_npz, read_tensors, write_tensors


def nested(x, levels, wrap):
    for _ in range(levels):
        x = wrap(x)
    return x


# What save accepts ----------------------------------------------------------------------------


def test_the_same_tree_is_the_same_bytes(tmp_path):
    tree = {f"leaf {n}": np.ones(n).astype(dtype) for n, dtype in enumerate("fdehbB?")}
    files = [tmp_path / f"{n}" for n in range(10)]
    for path in files:
        jl.save(path, {"b": tree, "a": [np.float32(1)]}, notes={"step": 3, "a": [1]})
    again = jl.load(files[0])
    jl.save(tmp_path / "again", again.tree, notes=again.notes)
    tree = dict(reversed(tree.items()))  # a dict has no order, for `==` and for JAX
    jl.save(tmp_path / "turned", {"a": [np.float32(1)], "b": tree}, notes=again.notes)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_names_of_any_length_and_trees_of_a_hundred_levels(tmp_path):
    long = {"1" * 4301: np.ones(2), "a" + "9" * 5000: np.ones(3), "a10": np.ones(1)}
    deep = nested(np.ones(1), 99, lambda x: {"a": x})
    notes = nested(1, 99, lambda x: [x])
    jl.save(tmp_path / "a", {"long": long, "deep": deep}, notes=notes)
    tree, said = jl.load(tmp_path / "a")
    assert (set(tree["long"]), said) == (set(long), notes)
    assert jax.tree.structure(tree["deep"]) == jax.tree.structure(deep)


@pytest.mark.parametrize(
    ("tree", "notes", "match"),
    [
        ({"m": np.ma.masked_array([1.0, 2.0], [0, 1])}, None, "`m` is a masked array"),
        ({"\ud800": np.ones(1)}, None, "half a letter"),
        (nested(np.ones(1), 101, lambda x: (x,)), None, "more than 100 levels"),
        (nested(np.ones(1), 5000, lambda x: [x]), None, "more than 100 levels"),
        (np.ones(1), {1: "a", "1": "b"}, "keys of `notes` must be texts; got 1"),
        (np.ones(1), {"a": [{None: 0}]}, r"keys of `notes.a.0` must be texts; got None"),
        (np.ones(1), {"a": {True: 0}}, r"keys of `notes.a` must be texts; got True"),
        (np.ones(1), nested(1, 5000, lambda x: {"a": x}), "more than 100 levels"),
        (np.ones(1), {"a": (1, float("-inf"))}, r"`notes.a.1` is -inf"),
        (np.ones(1), 10**5000, "`notes` must be what JSON can say"),
    ],
    ids=range(10),
)
def test_what_would_come_back_as_something_else_is_refused(tree, notes, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        jl.save(tmp_path / "a", tree, notes=notes)
    assert not list(tmp_path.iterdir())


def test_tuples_in_notes_come_back_as_lists(tmp_path):
    jl.save(tmp_path / "a", np.ones(1), notes={"a": (1, (2,))})
    assert jl.load(tmp_path / "a").notes == {"a": [1, [2]]}


def test_two_classes_of_one_name_are_told_apart_by_their_place(tmp_path):
    def own():
        class Own(NamedTuple):
            a: np.ndarray

        return Own

    one, two = own(), own()
    tree = {"first": one(np.ones(1)), "second": [two(np.ones(2))]}
    jl.save(tmp_path / "a", tree)
    got = jl.load(tmp_path / "a", like=tree).tree
    assert (type(got["first"]), type(got["second"][0])) == (one, two)


# Forged headers -------------------------------------------------------------------------------

DEEP = "[" * 100_000 + "]" * 100_000
FORGED = [
    *({key: None} for key in ("notes", "sha256", "tree", "cells")),
    *({"sha256": text} for text in ("[]", "5", '{"a": 5}', '{"a": []}', "{", DEEP)),
    *({"notes": text} for text in ("{", DEEP, "1" * 5000)),
    *({"tree": text} for text in ("{", DEEP, "1" * 5000)),
]
TREES = [
    *({"tree": text} for text in ("5", "[]", '{"a": 1, "b": 2}', '{"tuple": 3}', '{"set": ["a"]}')),
    *({"tree": text} for text in ('{"type": ["a"], "fields": {}}', '{"type": "a"}', "1e99999")),
    {"tree": nested('"a"', 400, lambda x: f'{{"list": [{x}]}}')},
]


@pytest.mark.parametrize("said", FORGED + TREES, ids=lambda said: str(said)[:40])
def test_a_forged_header_is_refused_by_the_file_s_name(said, tmp_path):
    """Sums are no signature: whoever forges a header makes them right."""
    path = tmp_path / "a.safetensors"
    jl.save(path, {"a": np.ones(2)})
    arrays, metadata = read_tensors(path)
    metadata = {k: x for k, x in (metadata | said).items() if x is not None}
    metadata["header"] = checkpoint.digest_of_header(metadata)
    write_tensors(path, arrays, metadata)
    for read in (jl.load, inspect.inspect) if said in FORGED else (jl.load,):
        with pytest.raises(ValueError, match=r"a\.safetensors"):
            read(path)


# Bombs ----------------------------------------------------------------------------------------


def npz_of(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def npy(shape, dtype="<f8", data=b"1" * 80):
    head = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + data


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ({"W.npy": npy("(10000000000000,)")}, "`W`: it announces 80,000,000,000,000 bytes"),
        ({"W.npy": npy("(-1, -10)")}, "`W`: it announces 80 bytes"),
        ({"W.npy": npy("(10,)", data=b"1" * 40)}, "`W`: it announces 80 bytes .* and holds 40"),
        ({"W.npy": npy("(" * 90)}, "is no .npz archive of arrays: `W`"),
        ({"W.npy": npy("(10,)", "|O")}, "holds pickled objects"),
        ({"W.npy": npy("(10,)"), "W": npy("(10,)")}, "two arrays that are called `W`"),
        ({"W.npy": b"\x80\x04}."}, "must hold arrays; W is none"),
        ({"a\x1b[2J.npy": npy("(3,)")}, r"`a\\x1b\[2J`: it announces"),
    ],
    ids=range(8),
)
def test_an_archive_that_announces_what_it_has_not(members, match, tmp_path):
    path = npz_of(tmp_path / "a.npz", members)
    for read in (inspect.inspect, brought.read):
        with pytest.raises(ValueError, match=match) as error:
            read(path)
        assert str(path) in str(error.value)
        assert str(error.value).isprintable()


def test_what_grows_too_large_is_not_unpacked(tmp_path, capsys):
    """Sizes are looked at first; --max-bytes is whoever's asks."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, W=np.zeros(2**27, np.uint8))
    with pytest.raises(ValueError, match=r"a.npz has .* unpacks to 134,217,856, 10\d\d times"):
        inspect.inspect(path)
    with pytest.raises(ValueError, match=r"a.npz has .* unpacks to 134,217,856, 10\d\d times"):
        brought.read(path)
    assert command.main(["inspect", str(path), "--max-bytes", "134217855"]) == 2
    assert "unpacks to 134,217,856 bytes; at most 134,217,855" in capsys.readouterr().err
    np.savez(path, W=np.zeros(1000))
    assert command.main(["inspect", str(path), "--max-bytes", "9000"]) == 0
    assert command.main(["inspect", str(path), "--max-bytes", "8000"]) == 2
    write_tensors(tmp_path / "a.safetensors", {"W": np.zeros(1000)}, {})
    assert command.main(["inspect", str(tmp_path / "a.safetensors"), "--max-bytes", "8000"]) == 2
    assert "bytes; at most 8,000 are read" in capsys.readouterr().err
    assert MOST == 4 * 2**30
    members = {"W.npy": npy("(10,)")}
    bz2 = npz_of(tmp_path / "b.npz", members, compression=zipfile.ZIP_BZIP2)
    with pytest.raises(ValueError, match="compressed as NumPy compresses nothing"):
        arrays_of_npz(bz2)


@pytest.mark.parametrize("bytes", ["0", "-1", "four", "1" * 30])
def test_max_bytes_is_a_whole_number(bytes, capsys):
    with pytest.raises(SystemExit) as status:
        command.main(["inspect", "a.npz", f"--max-bytes={bytes}"])
    assert status.value.code == 2
    assert "--max-bytes: must be a whole number >= 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "number", ["1e-999999999999999999999", "1" * 5000, "[" * 100_000 + "]" * 100_000], ids=range(3)
)
def test_a_number_of_json_that_nobody_means(number, tmp_path, capsys):
    path = tmp_path / "a.json"
    path.write_text(f'{{"problem": {{"W": [{number}]}}}}')
    with pytest.raises(ValueError, match=r"a\.json is no JSON"):
        brought.read(path)
    for argv in (["diagnose", str(path)], ["trace", "--params", str(path)]):
        assert command.main(argv) == 2
        assert "a.json is no JSON" in capsys.readouterr().err


# What is printed ------------------------------------------------------------------------------

NAME = "lstm\x1b[2J\nNOT FINITE: W\u202e\x9b/W"


def test_what_is_printed_obeys_nobody(tmp_path, capsys):
    arrays = {NAME: np.array([np.nan]), f"{NAME[:-2]}/U": np.ones(2)}
    np.savez(tmp_path / "a.npz", **arrays)
    write_tensors(tmp_path / "a.safetensors", arrays, {"k\x1b[31m": "v\x9b"})
    for path in (tmp_path / "a.npz", tmp_path / "a.safetensors"):
        assert command.main(["inspect", str(path)]) == 0
        out = capsys.readouterr().out
        assert out.replace("\n", "").isprintable()
        assert [line for line in out.split("\n") if line.startswith("NOT FINITE")] == [
            r"NOT FINITE: lstm\x1b[2J\nNOT FINITE: W\u202e\x9b/W"
        ]
        assert command.main(["inspect", str(path), "--json"]) == 0
        out = capsys.readouterr().out
        assert out.replace("\n", "").isprintable()
        assert NAME in [row["name"] for row in json.loads(out)["arrays"]]
    with pytest.raises(ValueError, match=r"a\.safetensors was not written by") as error:
        jl.load(tmp_path / "a.safetensors")
    assert str(error.value).isprintable()


def test_names_without_end_are_shortened(tmp_path, capsys):
    """One name of a megabyte does not make a table of gigabytes, nor a page of one complaint."""
    path, none = tmp_path / "a.safetensors", np.zeros((0, 4))
    names = ["a" * 10**6, *(f"lstm_{n}/{k}" for n in range(300) for k in ("kernel", "recurrent_"))]
    write_tensors(path, dict.fromkeys(names, none), {"version": "1" * 10**6, "v" * 10**6: "1"})
    assert command.main(["inspect", str(path)]) == 0
    assert len(capsys.readouterr().out) < 300 * len(names)
    with pytest.raises(
        ValueError, match=r"a\.safetensors was not written by .*; it holds a+\.\.\.a+, "
    ) as error:
        jl.load(path)
    assert len(str(error.value)) < 3000
    write_tensors(path, {}, {"format": "jax_lstm", "version": "1" * 10**6})
    with pytest.raises(ValueError, match=r"a\.safetensors is of version 1+\.\.\.1") as error:
        jl.load(path)
    assert len(str(error.value)) < 3000
    (tmp_path / "a.json").write_text(json.dumps({"k" * 10**6: 1}))
    assert command.main(["trace", "--params", str(tmp_path / "a.json")]) == 2
    assert len(capsys.readouterr().err) < 5000
