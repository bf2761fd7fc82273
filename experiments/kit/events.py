"""Numbers for TensorBoard, beside the lines of metrics.jsonl: event files by tensorboardX."""

import contextlib
import importlib.util
import os

from experiments.kit.config import BadInput


class Events:
    """A writer of event files: one curve for each number."""

    def __init__(self, writer):
        self.writer = writer

    def write(self, step, part, numbers):
        for name, number in numbers.items():
            each = {f"/{k}": x for k, x in enumerate(number)} if isinstance(number, list) else {}
            for behind, x in (each or {"": number}).items():
                self.writer.add_scalar(f"{part}/{name}{behind}", x, step)


def check_events(config):
    """Complain, before anything is written, where what writes them is not installed."""
    if config.tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise BadInput("--tensorboard", "needs the package tensorboardX: pip install tensorboardX")


@contextlib.contextmanager
def opened(config, directory, step=0):
    """Events in the run's folder, or None where they were not asked for."""
    if not config.tensorboard:
        yield None
        return
    import tensorboardX

    writer = tensorboardX.SummaryWriter(
        str(directory / "events"), purge_step=step + 1, filename_suffix=f".{step}.{os.getpid()}"
    )
    try:
        yield Events(writer)
    finally:
        writer.close()
