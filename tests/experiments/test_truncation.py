"""The experiment that measures truncation: a tiny run of it, its files and its picture."""

import dataclasses

import numpy as np
import pytest

from experiments.kit import evidence, record
from experiments.kit.config import BadInput
from experiments.truncation import run as truncation


@pytest.mark.slow
def test_a_tiny_run_finds_errors_below_their_bounds(tmp_path):
    config = dataclasses.replace(
        truncation.Config.tiny(), results=str(tmp_path), run="a", skip_check=True
    )
    (found,) = truncation.run(config)
    directory = tmp_path / "truncation" / "a_seed0"
    assert record.read_json(directory / "truncation.json")["error"] == found["error"]
    assert (directory / "truncation.png").is_file()
    assert found["k2"] == [4, 8, 12, 16]
    assert (np.array(found["error"]) < found["bound"]).all()
    assert (np.diff(found["error"]) < 0).all()
    assert found["side_by_side"]["error"][0] == pytest.approx(found["error"][0], rel=1e-5)
    ((_, file),) = evidence.read_all(tmp_path)
    names = [row["name"] for row in file["rows"]]
    assert names[:3] == ["TBPTT(4, 4)", "TBPTT(4, 8)", "TBPTT(4, 16)"]


def test_the_places_and_a_text_that_is_too_short():
    config = truncation.Config(block=16, doublings=4)
    assert truncation.places(config) == [16, 32, 48, 64, 96, 128, 192, 256]
    with pytest.raises(BadInput, match="--measured: must be <= "):
        truncation.run(dataclasses.replace(truncation.Config.tiny(), measured=10**6))
