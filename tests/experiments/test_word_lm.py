"""Zaremba's setting, number by number; words; and a run that is ended and goes on."""

import dataclasses
import itertools

import jax
import numpy as np
import optax
import pytest

from experiments import sample
from experiments.kit import record
from experiments.kit.config import BadInput
from experiments.word_lm import model, words
from experiments.word_lm import run as word_lm
from experiments.word_lm.training import batches, make_optimizer, windows_per_epoch

SMALL = word_lm.Config()


def test_the_sizes_and_the_beginning_are_the_source_s():
    params = jax.eval_shape(
        lambda: model.init(jax.random.key(0), SMALL.vocabulary, SMALL.hidden, SMALL.layers, 0.1)
    )
    count = sum(x.size for x in jax.tree.leaves(params))
    assert count == 2 * 10_000 * 200 + 10_000 + 2 * (2 * 200 * 800 + 2 * 800)
    drawn = model.init(jax.random.key(0), 30, 8, 2, 0.1)
    for x in jax.tree.leaves(drawn):  # biases and embedding too
        assert 0.05 < abs(np.asarray(x)).max() <= 0.1
    assert (SMALL.window, SMALL.streams, SMALL.epochs, SMALL.dropout) == (20, 20, 13, 0)
    medium = word_lm.Config.medium()
    assert (medium.hidden, medium.window, medium.epochs, medium.dropout) == (650, 35, 39, 0.5)


def test_the_rate_is_halved_from_the_sixth_epoch_on_and_the_norm_is_bounded():
    """For the gradient of the sum over a window: rate 1, bound 5; ours is that of the mean."""
    per_epoch, T = 3, SMALL.window
    optimizer = make_optimizer(SMALL, per_epoch)
    params = {"w": np.zeros(2, np.float32)}
    state = optimizer.init(params)
    rates = [1, 1, 1, 1, 1, 1 / 2, 1 / 4, 1 / 8]
    for epoch, step in itertools.product(range(8), range(per_epoch)):
        of_sum = np.array([3.0, 4.0] if step else [30.0, 40.0], np.float32)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update({"w": of_sum / T}, state, params)
        np.testing.assert_allclose(updates["w"], -rates[epoch] * np.array([3, 4]), rtol=1e-6)
    assert isinstance(optimizer, optax.GradientTransformation)


def test_an_epoch_is_read_in_order_from_a_state_of_zero():
    config = dataclasses.replace(SMALL, window=3, streams=2)
    streams = np.arange(22, dtype=np.int32).reshape(2, 11).T
    assert windows_per_epoch(config, streams) == 3
    drawn = list(itertools.islice(batches(config, streams), 6))
    assert [bool(anew.all()) for anew, *_ in drawn] == [True, False, False] * 2
    assert [tokens[0, 0] for _, tokens, _, _ in drawn] == [0, 3, 6] * 2
    for anew, tokens, targets, key in drawn:
        assert (targets == tokens + 1).all()
        assert anew.all() or not anew.any()
        assert (key.shape, key.dtype) == ((2,), np.uint32)
    assert (drawn[0][3] != drawn[3][3]).any()


def test_words_of_three_files(tmp_path):
    for part, content in (("train", "a b a\nc a\n"), ("valid", "b d\n"), ("test", "a\n")):
        (tmp_path / f"ptb.{part}.txt").write_text(content)
    config = dataclasses.replace(SMALL, data=str(tmp_path), vocabulary=4)
    corpus = words.read(config)
    assert corpus.vocabulary == ["a", "<eos>", "b", "<unk>"]
    assert corpus.train.tolist() == [0, 2, 0, 1, 3, 0, 1]
    assert corpus.valid.tolist() == [2, 3, 1]
    assert corpus.about["words"] == {"train": 7, "valid": 3, "test": 2}
    with pytest.raises(BadInput, match="--data: 3 words of its part 'valid' are too few"):
        words.streams(config, corpus.valid, "valid", 20)
    (tmp_path / "x.test.txt").write_text("")
    with pytest.raises(BadInput, match=r"--data: .* must hold one file \*test\.txt; found 2"):
        words.read(config)


@pytest.mark.slow
def test_a_run_goes_on_and_writes_words(tmp_path, capsys):
    config = dataclasses.replace(word_lm.Config.tiny(), results=str(tmp_path), run="a", dropout=0.2)
    summary = word_lm.run(config)
    directory = tmp_path / "word_lm" / "a"
    assert summary["validation_perplexity"] < 0.8 * config.vocabulary
    lines = record.read_lines(directory / "metrics.jsonl")
    assert {"gradient", "compiled", "step", "validation", "test"} <= {x["kind"] for x in lines}
    assert (directory / "curves.png").is_file()
    again = word_lm.run(dataclasses.replace(config, resume=str(directory)))
    assert again["test_perplexity"] == summary["test_perplexity"]
    capsys.readouterr()
    assert sample.main([str(directory), "--length", "5", "--prompt", "<unk>"]) == 0
    assert len(words.words_of(capsys.readouterr().out.strip())) >= 5
