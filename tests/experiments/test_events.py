"""Event files for TensorBoard, where what writes them is there."""

import importlib.util
import types

import pytest

from experiments.kit import events
from experiments.kit.config import BadInput

ASKED = types.SimpleNamespace(tensorboard=True)


def test_who_asks_in_vain_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        BadInput, match="--tensorboard: needs the package tensorboardX: pip install"
    ):
        events.check_events(ASKED)
    events.check_events(types.SimpleNamespace(tensorboard=False))


def test_numbers_are_curves(tmp_path):
    """Of a run that went on after step 2: what it wrote behind that is purged."""
    with events.opened(types.SimpleNamespace(tensorboard=False), tmp_path) as none:
        assert none is None
    for begun, steps in ((0, range(1, 5)), (2, range(3, 6))):
        with events.opened(ASKED, tmp_path, begun) as written:
            for step in steps:
                written.write(step, "training", {"nats": [1.0, float(step)], "bits": 2.0})
    data = b"".join(path.read_bytes() for path in (tmp_path / "events").iterdir())
    for name in (b"training/nats/0", b"training/nats/1", b"training/bits"):
        assert data.count(name) == 7
