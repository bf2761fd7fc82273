"""A killed run goes on to the same numbers. At 50 moments: `python -m tests.experiments.kills`."""

import pytest

from tests.experiments import kills


@pytest.mark.slow
def test_killed_at_random_moments(capsys):
    assert kills.main(["--moments", "4"]) == 0, capsys.readouterr().out
    assert "ends as the run that nobody killed" in capsys.readouterr().out
