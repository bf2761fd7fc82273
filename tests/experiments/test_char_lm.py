"""The main job: what it writes, what it refuses, and what is left of it after Ctrl-C."""

import dataclasses
import functools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jax_lstm as jl
from experiments.char_lm import plots
from experiments.char_lm import run as char_lm
from experiments.char_lm.sample import sample
from experiments.kit import check_gradients, checkpoints, command, evidence, record, text
from experiments.kit import language_model as lm
from experiments.kit.config import BadInput
from jax_lstm.commands.main import main as jax_lstm_main
from jax_lstm.files.arrays import encode_tensors
from jax_lstm.files.disk import write
from jax_lstm.training.update import AUTODIFF, BITS, BY_HAND, Step, language_model_loss
from tests.experiments import kills

ROOT = Path(__file__).parents[2]
PNG = b"\x89PNG"
FILES = {
    "checkpoints",
    "config.json",
    "metrics.jsonl",
    "params.safetensors",
    "sample.txt",
    "summary.json",
    "curves.png",
    "gradients.png",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """(Config, summary, folder) of the quick form."""
    results = tmp_path_factory.mktemp("results")
    config = dataclasses.replace(char_lm.Config.tiny(), results=str(results), run="tiny")
    return config, *char_lm.run(config), results / "char_lm" / "tiny"


@pytest.mark.slow
def test_every_file_is_there_and_readable(tiny):
    config, summary, directory = tiny
    assert {path.name for path in directory.iterdir()} == FILES
    assert record.read_json(directory / "summary.json") == json.loads(json.dumps(summary))
    written = record.read_json(directory / "config.json")
    assert written["config"] == dataclasses.asdict(config)
    source = text.from_standard_library(config.megabytes)
    assert written["text"]["sha256"] == source.about["sha256"]
    assert written["vocabulary"] == "".join(sorted(set(source.characters)))
    for name in ("curves.png", "gradients.png"):
        assert (directory / name).read_bytes().startswith(PNG)
    sample = (directory / "sample.txt").read_bytes().decode()
    assert len(sample) == 40 + config.sample_length
    assert sample[:40] in source.characters


def test_metrics_and_summary_agree(tiny):
    config, summary, directory = tiny
    lines = record.read_lines(directory / "metrics.jsonl")
    steps = [line for line in lines if line["kind"] == "step"]
    assert [line["step"] for line in steps] == list(range(1, config.steps + 1))
    held_out = [line for line in lines if line["kind"] == "validation"]
    assert [line["step"] for line in held_out] == [0, 20, 40, 60]
    assert summary["validation_nats"] == min(line["nats"] for line in held_out)
    assert summary["validation_bits"] == pytest.approx(summary["validation_nats"] * BITS)
    assert summary["steps"] == config.steps
    assert summary["characters"] == config.steps * config.window * config.streams
    assert summary["validation_bits"] < 0.75 * summary["uniform_bits"]
    assert all(math.isfinite(line["nats"]) and line["seconds"] > 0 for line in steps)


def test_the_two_gradients_and_the_two_curves_agree(tiny):
    config, summary, directory = tiny
    rows = record.read_lines(directory / "metrics.jsonl", kind="gradient")
    assert {row["leaf"] for row in rows} == {
        *("embedding", "lstm.W", "lstm.U", "lstm.b", "readout.W", "readout.b"),
        *("state.h", "state.c"),
    }
    assert summary["gradients_agree"]
    assert summary["gradients_relative_float64"] < 1e-14
    repeat = summary["repeat"]
    assert repeat["steps"] == config.compare_steps
    assert repeat["bits_apart_by_hand_again"] == 0
    assert repeat["bits_apart_largest"] < 1e-4
    for route in ("by_hand", "autodiff"):
        assert 0 < repeat[route]["milliseconds_least"] <= repeat[route]["milliseconds_median"]
        assert repeat[route]["temp_bytes"] > 0


def test_the_parameters_are_those_of_the_best_validation(tiny):
    config, summary, directory = tiny
    params, notes = lm.load(directory / "params.safetensors")
    source = text.from_standard_library(config.megabytes)
    data = lm.cut(config, source.characters)
    assert notes["vocabulary"] == data.vocabulary
    assert notes["step"] == summary["validation_step"]
    nats = lm.validate(params, data.held_out, config.window)
    assert nats == notes["validation_nats"] == summary["validation_nats"]


def test_a_test_part_is_judged_once_and_a_resumed_run_is_the_same(tmp_path, capsys):
    """It is what neither training nor validation reads; seeds are rows of evidence; masks are drawn
    again; --choose leaves it closed."""
    given = "--test 0.3 --drop-outputs 0.4 --steps 8 --evaluate-every 4 --checkpoint-every 4"
    given += f" --hidden 5 --compare-steps 0 --sample-length 5 --skip-check --results {tmp_path}"
    argv = ["--tiny", *given.split()]
    assert char_lm.main([*argv, "--run", "a", "--seeds", "2"]) == 0
    config = command.parse(char_lm.Config, "char_lm", "", argv)
    source = text.from_standard_library(config.megabytes)
    data = lm.cut(config, source.characters)
    parts = [source.characters[3_000:21_000], source.characters[:3_000]]
    for part, streams in zip(parts, (data.training, data.held_out), strict=True):
        assert "".join(data.vocabulary[n] for n in streams.T.ravel()) == part[: streams.size]
    rest = source.characters[21_000:]
    assert "".join(data.vocabulary[n] for n in data.test[:, 0]) == rest
    counts = np.array([1 + parts[0].count(c) for c in data.vocabulary]) / (18_000 + 92)
    floor = -np.mean([np.log(counts[data.vocabulary.index(c)]) for c in rest[1:]])

    one, two = (tmp_path / "char_lm" / f"a_seed{n}" for n in range(2))
    (path,) = (tmp_path / "evidence").glob("char_lm-*.json")
    (row,) = record.read_json(path)["rows"]
    for value, directory in zip(row["values"], (one, two), strict=True):
        params, notes = lm.load(directory / "params.safetensors")
        nats = lm.validate(params, data.test, config.window)
        (line,) = record.read_lines(directory / "metrics.jsonl", kind="test")
        summary = record.read_json(directory / "summary.json")
        assert line["step"] == notes["step"]
        assert value["value"] == line["nats"] == summary["test_nats"] == nats
    assert row["floor"] == pytest.approx(floor)
    assert "test text, read once" in capsys.readouterr().out

    copy = shutil.copytree(one, tmp_path / "char_lm" / "copy")
    checkpoints.manifests(copy / "checkpoints")[8].unlink()
    resumed = ["--resume", str(copy), "--choose"]
    assert char_lm.main([*resumed, "--force", "--seeds", "1"]) == 0
    lines, said = kills.lines(one), capsys.readouterr().out
    (place,) = (n for n, line in enumerate(lines) if line["kind"] == "test")
    assert kills.lines(copy) == lines[:place] + lines[place + 1 :]
    assert kills.arrays(copy)[1].keys() == kills.arrays(one)[1].keys()
    for name, want in kills.arrays(one)[1].items():
        np.testing.assert_array_equal(kills.arrays(copy)[1][name], want)
    assert "goes on after step 4 of 8" in said
    assert "test text" not in said


def test_the_chosen_setting_is_that_of_the_page():
    chosen = dataclasses.replace(char_lm.Config.chosen(), text="a.txt", seed=2, seeds=3)
    assert evidence.path_of(chosen, "char_lm", ("text",)).name == "char_lm.json"
    said = "python -m experiments.char_lm --chosen --text TEXT"
    assert evidence.command_of(chosen, "char_lm", ("text",)) == said


def test_inspect_shows_the_file(tiny, capsys):
    config, _, directory = tiny
    assert jax_lstm_main(["inspect", str(directory / "params.safetensors")]) == 0
    out = capsys.readouterr().out
    assert f"lstm: jax_lstm.LSTMParams, D = {config.embedding}, H = {config.hidden}" in out
    assert "  vocabulary: " in out
    assert "the layout seems to be ours (jax_lstm.load)" in out


def test_a_file_of_before_the_format_is_refused_clearly(tmp_path):
    arrays = {"embedding": np.ones((3, 2), np.float32)}
    write(tmp_path / "old", encode_tensors(arrays, {"vocabulary": '"abc"'}))
    with pytest.raises(ValueError, match=r"was not written by jax_lstm.save; it holds embedding"):
        lm.load(tmp_path / "old")
    jl.save(tmp_path / "other", {"embedding": arrays["embedding"]})
    with pytest.raises(ValueError, match="must hold embedding, lstm, readout of a LanguageModel"):
        lm.load(tmp_path / "other")


def test_a_dropped_gradient_is_reported():
    config = char_lm.Config.tiny()
    data = lm.cut(config, text.from_standard_library(config.megabytes).characters)
    params, _, state = lm.init_training(config, data)
    batch = next(lm.batches(config, data))[1:]

    def sequence(params, state, xs):
        params = params._replace(b=jax.lax.stop_gradient(params.b))
        return BY_HAND.sequence(params, state, xs)

    routes = {"by_hand": BY_HAND._replace(sequence=sequence), "autodiff": AUTODIFF}
    losses = {k: functools.partial(language_model_loss, route=r) for k, r in routes.items()}
    rows = check_gradients.compare(losses, params, state, *batch)
    assert not check_gradients.agree(rows)
    assert [row["leaf"] for row in rows if row["float64"] > 1e-12] == ["lstm.b"]
    assert "DISAGREE" in check_gradients.table(rows)


# Bad input ------------------------------------------------------------------------------------


def files(folder):
    """Text files that cannot be used."""
    (folder / "empty.txt").write_bytes(b"")
    (folder / "latin1.txt").write_bytes("Müller".encode("latin-1") * 999)
    (folder / "short.txt").write_text("abc" * 20)
    (folder / "file").write_text("")
    (folder / "char_lm").mkdir()
    (folder / "char_lm" / "old").mkdir()


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ("--text {0}/none.txt", "argument --text: cannot read {0}/none.txt: No such file"),
        ("--text {0}", "argument --text: {0} is no regular file; it is a folder"),
        ("--text {0}/empty.txt", "argument --text: {0}/empty.txt is empty"),
        ("--text {0}/latin1.txt", "argument --text: {0}/latin1.txt is not UTF-8"),
        ("--text {0}/short.txt", "argument --text: 54 of its 60 characters are for training"),
        ("--megabytes 0.0001", "argument --megabytes: 90 of its 100 characters"),
        ("--held-out 0.0001", "argument --megabytes: 3 of its 30000 characters are held out"),
        ("--held-out 1", "argument --held-out: must be > 0 and < 1; got 1.0"),
        ("--test 0.9", "argument --test: must leave something for training beside --held-out 0.1"),
        ("--test 0.0001", "argument --megabytes: 3 of its 30000 characters are for the test"),
        ("--hidden 0", "argument --hidden: must be >= 1; got 0"),
        ("--steps many", "Error parsing --steps: invalid literal for int() with base 10: 'many'"),
        ("--learning-rate nan", "argument --learning-rate: must be > 0; got nan"),
        ("--temperature 0", "argument --temperature: must be > 0"),
        ("--residuals half", "argument --residuals: must be full, auto or a number"),
        ("--prompt é", "argument --prompt: 'é' does not occur in the text"),
        ("--run old", "argument --run: {0}/char_lm/old exists already"),
        ("--run a/b", "argument --run: must be a plain name"),
        ("--results {0}/file", "argument --results: "),
        ("--no-such-option", "Unrecognized options: --no-such-option"),
    ],
)
def test_bad_input_names_the_argument(argv, complaint, tmp_path, capsys):
    files(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as status:
        char_lm.main(["--tiny", "--results", str(tmp_path), *argv.format(tmp_path).split()])
    assert status.value.code == 2
    assert complaint.format(tmp_path) in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("agree", "status"), [(True, 0), (False, 1)])
def test_a_gradient_that_disagrees_is_a_failure(agree, status, monkeypatch, capsys):
    """Exit status 1, so that a check that runs the main job can fail."""
    monkeypatch.setattr(char_lm, "run", lambda config: [{"gradients_agree": agree}])
    assert char_lm.main([]) == status
    assert ("is not that of jax.grad" in capsys.readouterr().err) is not agree


def test_tokens_out_of_range_are_named():
    with pytest.raises(ValueError, match=r"`tokens` must lie in \[0, V = 3\); got 0 to 3"):
        text.streams(np.arange(4), 2, 3)
    with pytest.raises(ValueError, match="'z' is not in the vocabulary"):
        text.tokens_of("abz", "abc")


def test_a_loss_that_is_no_number_ends_the_run(capsys):
    config = char_lm.Config.tiny()
    data = lm.cut(config, text.from_standard_library(config.megabytes).characters)

    def update(*args):
        return Step(*args[:3], np.float32(np.nan), np.float32(np.nan))

    def run(config):
        next(lm.updates_of(config, update, data))

    assert command.main(char_lm.Config, run, "a", "b", ["--tiny"]) == 1
    assert "the loss is nan; try a lower --learning-rate" in capsys.readouterr().err


# A text of one's own, and Ctrl-C --------------------------------------------------------------


@pytest.mark.slow
def test_ctrl_c_leaves_everything_readable(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes("Zürich – 東京 🙂\r\n".encode() * 99)
    argv = ["--tiny", "--text", str(path), "--steps", "1000000", "--compare-steps", "0"]
    argv += ["--residuals", "2", "--results", str(tmp_path), "--run", "a"]
    # A job in the background is born deaf to Ctrl-C; this one must hear it in any case
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += f"from experiments.char_lm.run import main; sys.exit(main({argv}))"
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    directory = tmp_path / "char_lm" / "a"
    with child:
        for line in child.stdout:
            if line.startswith("step 40/"):
                break
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "Traceback" not in err
    assert f"{directory / 'metrics.jsonl'}" in err
    assert {path.name for path in directory.iterdir()} == {
        *("checkpoints", "config.json", "metrics.jsonl", "params.safetensors")
    }
    vocabulary = "\n\r Zchirü–京東🙂"
    assert record.read_json(directory / "config.json")["vocabulary"] == vocabulary
    steps = [x["step"] for x in record.read_lines(directory / "metrics.jsonl", kind="step")]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= 40

    plots.draw(directory)
    assert (directory / "curves.png").read_bytes().startswith(PNG)
    params, notes = lm.load(directory / "params.safetensors")
    assert notes["step"] > 0
    sampled = sample(char_lm.Config.tiny(), params, notes["vocabulary"], "東京 🙂")
    assert len(sampled) == char_lm.Config.tiny().sample_length
    assert set(sampled) <= set(vocabulary)


# The command and the text ---------------------------------------------------------------------


def test_runs_without_a_name_never_share_a_folder(tmp_path):
    made = {record.new_directory(tmp_path, "e") for _ in range(3)}
    assert len(made) == 3
    record.new_directory(tmp_path, "e", "mine")
    with pytest.raises(BadInput, match="--run"):
        record.new_directory(tmp_path, "e", "mine")


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    record.write(path, b"old")

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        record.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_standard_library_is_the_same_text_each_time():
    one, two = text.from_standard_library(0.2), text.from_standard_library(0.2)
    assert one == two
    assert len(one.characters) == 200_000
    assert text.from_standard_library(0.3).characters.startswith(one.characters)


def test_streams_and_windows_are_the_text_in_order():
    streams = text.streams(np.arange(23), 2, 23)
    assert streams.T.tolist() == [list(range(11)), list(range(11, 22))]
    cut = list(text.windows(streams, 4))
    assert [len(tokens) for tokens, _ in cut] == [4, 4, 2]
    for tokens, targets in cut:
        assert (targets == tokens + 1).all()
    assert np.concatenate([tokens for tokens, _ in cut]).tolist() == streams[:-1].tolist()


def test_epochs_start_at_an_offset_and_then_go_on_without_a_gap():
    streams = text.streams(np.arange(40), 2, 40)
    stream, starts = text.epochs(streams, 4, 0), []
    follows = None
    for anew, tokens, targets in (next(stream) for _ in range(40)):
        assert tokens.shape == (4, 2)
        assert (targets == tokens + 1).all()
        if anew.all():
            starts.append(int(tokens[0, 0]))
        else:
            assert tokens[0, 0] == follows
            assert not anew.any()
        follows = targets[-1, 0]
    assert set(starts) == {0, 1, 2, 3}


def test_streams_start_anew_as_often_as_asked():
    streams = text.streams(np.arange(4000), 10, 4000)
    stream = text.epochs(streams, 4, 0, restart=0.2)
    anew = np.stack([next(stream)[0] for _ in range(90)])
    assert anew[0].all()
    assert not anew[1:].all(1).any()
    assert 0.15 < anew[1:].mean() < 0.25
