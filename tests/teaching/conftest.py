"""Each example once, for all tests of teaching."""

import pytest

from jax_lstm.teaching import examples
from tests.teaching.kit import SIZE


@pytest.fixture(scope="session")
def runs():
    """Each example once."""
    found = {name: list(examples.runs(name)) for name in ("gomez", "coursera", "mazur", "wildml")}
    found["random"] = list(examples.runs("random", SIZE, 3))
    found["elman"] = list(examples.runs("random", SIZE, 3, "elman"))
    return found


@pytest.fixture(scope="session")
def gomez_printed(runs):
    tables = [run.table() for run in runs["gomez"]]
    return dict(zip(("zero_state", "remembered_state"), tables, strict=True))
