"""Sequences of different lengths: the same numbers with any padding, and no look at the test."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.kit import classifier, record
from experiments.kit.config import BadInput
from experiments.vowels import run as vowels
from experiments.vowels import utterances
from jax_lstm.files import checkpoint
from tests.tables import assert_same

PNG = b"\x89PNG"
WRITTEN = {"checkpoints", "config.json", "metrics.jsonl", "params.safetensors"}
WRITTEN |= {"summary.json", "curves.png"}
HEADER = "#noise\n@problemName Made\n@dimensions 3\n@classLabel true a b c\n@data\n"


def made(folder, name, seed, size=24):
    """Three kinds of slopes in noise, 5 to 11 steps of three channels."""
    rng, lines = np.random.default_rng(seed), []
    for n in range(size):
        T, kind = int(rng.integers(5, 12)), n % 3
        xs = 5 + rng.normal(size=(3, T)) * 0.3
        xs[kind] += np.linspace(0, 3, T)
        channels = (",".join(f"{x:.4f}" for x in channel) for channel in xs)
        lines.append(":".join([*channels, "abc"[kind]]))
    (folder / utterances.FILES[name]).write_text(HEADER + "\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    made(folder, "training", 1)
    made(folder, "test", 2)
    return folder


@pytest.fixture(scope="module")
def tiny(folder, tmp_path_factory):
    results = str(tmp_path_factory.mktemp("results"))
    return dataclasses.replace(vowels.Config.tiny(), data=str(folder), results=results)


@pytest.fixture(scope="module")
def done(tiny):
    """(summary, folder) of the quick form."""
    config = dataclasses.replace(tiny, run="tiny")
    return vowels.run(config), Path(tiny.results) / "vowels" / "tiny"


def numbers(directory):
    """Every line of the metrics, but for the clock's and for what the compiler says of bytes."""
    lines = record.read_lines(directory / "metrics.jsonl")
    left_out = ("seconds", "temp_bytes")
    return [{k: v for k, v in line.items() if k not in left_out} for line in lines]


def read_params(directory):
    """(arrays by name, notes)."""
    arrays, metadata = checkpoint.read_checkpoint(directory / "params.safetensors")
    return arrays, checkpoint.notes_of(metadata)


@pytest.mark.slow
def test_every_file_is_there_and_says_the_same(tiny, done):
    summary, directory = done
    assert {path.name for path in directory.iterdir()} == WRITTEN
    assert record.read_json(directory / "summary.json") == json.loads(json.dumps(summary))
    config = record.read_json(directory / "config.json")
    assert config["config"] == dataclasses.asdict(dataclasses.replace(tiny, run="tiny"))
    assert config["files"][utterances.FILES["test"]]["utterances"] == 24
    assert (directory / "curves.png").read_bytes().startswith(PNG)
    lines = record.read_lines(directory / "metrics.jsonl")
    assert [x["step"] for x in lines if x["kind"] == "step"] == list(range(1, tiny.steps + 1))
    for line in (x for x in lines if x["kind"] == "accuracy"):
        assert line["right"] + len(line["wrong"]) == line["of"] == 24
    params, notes = read_params(directory)
    assert params["params.layers.layers.0.1.W"].shape == (2, 3, 4 * tiny.hidden)
    assert notes == {"seeds": [0, 1], "labels": ["a", "b", "c"]}


@pytest.mark.slow
def test_it_learns(done):
    summary, _ = done
    assert summary["accuracy"]["test"]["least"] >= 0.85
    assert max(summary["nats"]) < 0.5 * math.log(3)


@pytest.mark.slow
def test_padding_changes_no_number(tiny, done):
    """All losses and all parameters, to the bit; padding holds NaN."""
    _, directory = done
    vowels.run(dataclasses.replace(tiny, run="padded", pad=50))
    longer = directory.with_name("padded")
    assert record.read_json(longer / "config.json")["T"] == 64
    assert record.read_json(directory / "config.json")["T"] == 32
    assert numbers(longer) == numbers(directory)
    one, other = (read_params(d) for d in (longer, directory))
    assert_same(one, other)


@pytest.mark.slow
def test_folds_never_open_the_test_file(tiny, folder, tmp_path):
    (tmp_path / utterances.FILES["training"]).write_bytes(
        (folder / utterances.FILES["training"]).read_bytes()
    )
    config = dataclasses.replace(tiny, data=str(tmp_path), folds=3, run="folds", steps=3)
    summary = vowels.run(config)
    assert set(summary["accuracy"]) == {"training", "held out"}
    assert len(summary["accuracy"]["held out"]["each"]) == 3


def test_folds_are_balanced_and_scales_see_only_what_is_learnt(tiny, folder):
    file = utterances.read(folder, utterances.FILES["training"])
    data = utterances.pad(tiny, file, file.labels)
    split = classifier.split_sequences(dataclasses.replace(tiny, folds=4), data)
    held_out = [np.setdiff1d(np.arange(24), learns) for learns in split.learns]
    assert sorted(np.concatenate(held_out)) == list(range(24))
    for part in held_out:
        assert np.bincount(data.classes[part]).tolist() == [2, 2, 2]
    for (mean, deviation), learns in zip(classifier.scales(data, split), split.learns, strict=True):
        xs = np.concatenate([file.sequences[n] for n in learns])
        np.testing.assert_allclose(mean, xs.mean(0), rtol=1e-6)
        np.testing.assert_allclose(deviation, xs.std(0), rtol=1e-5)


def test_a_file_is_read_as_it_stands(folder):
    file = utterances.read(folder, utterances.FILES["test"])
    line = (folder / utterances.FILES["test"]).read_text().splitlines()[5]
    channels = [list(map(float, c.split(","))) for c in line.split(":")[:-1]]
    np.testing.assert_array_equal(file.sequences[0].T, np.array(channels, np.float32))
    assert (file.speakers[:4], file.labels) == (["a", "b", "c", "a"], ["a", "b", "c"])


def test_what_the_other_classifiers_do_changes_nothing(tiny):
    """Seeds side by side are seeds alone, to rounding."""
    xs = jax.random.normal(jax.random.key(0), (32, 4, 3), "float32")
    lengths = np.array([3, 32, 17, 1], np.int32)
    config = dataclasses.replace(tiny, hidden=5)
    init = lambda seed: classifier.init(config, jax.random.key(seed), 32, 3, 3)
    logits = lambda p: classifier.logits(config, p, xs, lengths)
    params = [init(seed) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *x: jax.numpy.stack(x), *params)
    both = jax.jit(jax.vmap(logits))(stacked)
    for p, y in zip(params, both, strict=True):
        # float32, products of another shape: eight of its eps on logits near 1
        np.testing.assert_allclose(jax.jit(logits)(p), y, atol=1e-6)


# What goes wrong ------------------------------------------------------------------------------


BAD = {
    "no folder": ({"data": "nowhere"}, "argument --data: cannot read nowhere"),
    "pad": ({"pad": 10}, "argument --pad: must be >= 11, the longest utterance; got 10"),
    "batch": ({"batch": 25}, "argument --batch: must be <= 24"),
    "folds": ({"folds": 1}, "argument --folds: must be 0 or between 2 and 24; got 1"),
    "seeds": ({"seeds": 0}, "argument --seeds: must be >= 1; got 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options(tiny, case):
    given, message = BAD[case]
    with pytest.raises(BadInput) as error:
        vowels.run(dataclasses.replace(tiny, **given))
    assert str(error.value).startswith(message)


FILES = {
    "empty": ("", "holds no sequences after @data"),
    "words": (HEADER + "1,2:3,4:x,6:a\n", "line 6: not channels of numbers"),
    "ragged": (HEADER + "1,2:3,4:5:a\n", "line 6: not channels of numbers"),
    "missing": (HEADER + "1,2:3,nan:5,6:a\n", "line 6: not channels of numbers"),
    "channels": (HEADER + "1,2:3,4:a\n1,2:3,4:5,6:a\n", "line 7: not channels of numbers"),
    "class": (HEADER + "1,2:3,4:5,6:d\n", "line 6: no such class, 'd'"),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_files(case, tmp_path):
    content, message = FILES[case]
    (tmp_path / "x.ts").write_text(content)
    with pytest.raises(BadInput, match="argument --data") as error:
        utterances.read(tmp_path, "x.ts")
    assert message in str(error.value)


def test_without_data_it_is_that_of_a_package():
    folder = utterances.folder_or_shipped(None)
    files = [utterances.read(folder, name) for name in utterances.FILES.values()]
    assert [f.about["utterances"] for f in files] == [270, 370]
    assert [f.about["lengths"] for f in files] == [[7, 26], [7, 29]]
    assert files[0].labels == files[1].labels == list("123456789")


def test_without_data_and_package_the_command_says_so(capsys, monkeypatch):
    monkeypatch.setattr(utterances, "PACKAGES", ("no_such_package",))
    with pytest.raises(SystemExit) as stopped:
        vowels.main(["--tiny"])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "--data: must name the folder" in said
    assert "pip install -e '.[evidence]'" in said


@pytest.mark.slow
def test_interrupted(tiny, monkeypatch, capsys):
    append = record.append_lines

    def interrupt(path, lines):
        append(path, lines)
        if lines[0]["kind"] == "step":
            raise KeyboardInterrupt

    monkeypatch.setattr(record, "append_lines", interrupt)
    argv = ["--tiny", "--data", tiny.data, "--results", tiny.results, "--run", "interrupted"]
    assert vowels.main(argv) == 130
    directory = Path(tiny.results) / "vowels" / "interrupted"
    lines = record.read_lines(directory / "metrics.jsonl", kind="step")
    assert [x["step"] for x in lines] == list(range(1, 9))
    assert "Complete and readable until here" in capsys.readouterr().err
