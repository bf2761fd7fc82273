"""What is trained, and where a run of it is."""

import collections
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

import jax

from experiments.kit import machines, safety
from experiments.kit.clipping import per_example
from jax_lstm.training.update import Step, make_update


class Task(NamedTuple):
    """What is trained.

    start: () -> (params, opt_state, carry), those of step 0.
    update: (params, opt_state, carry, *batch) -> Step, pure; its optimiser is a `safety.guard`.
    batches: () -> batches without end, tuples of arrays whose shapes stay the same; always the same
      ones in the same order, since a run that goes on draws again what it has drawn.
    numbers: loss -> what a line of metrics.jsonl says of it.
    say: a loss -> words for people.
    evaluate: (params, check) -> a loss, the lower the better; it calls `check()` now and then,
      which raises where it is to end. None: nothing is held out.
    examples: the axis of the examples in each array of a batch, or None.
    keep: (params, step, loss) -> None, called where an evaluation is the best so far.
    size, unit: what one update reads, for the rate.
    """

    start: Callable[[], tuple[Any, Any, Any]]
    update: Callable[..., Step]
    batches: Callable[[], Iterator[tuple]]
    numbers: Callable[[Any], dict]
    say: Callable[[float], str]
    examples: tuple[int | None, ...]
    evaluate: Callable | None = None
    keep: Callable | None = None
    size: int = 1
    unit: str = "step"


def guarded(config, optimizer, loss, examples, bound=None, rate=None):
    """(optimiser, update) of a Task: --nonfinite, --clip-by example and --devices are seen to.

    Args:
      loss: `loss(params, carry, *batch) -> (number, carry)`, a mean over examples.
      examples: the axis of the examples in each array of the batch, or None.
      bound: on the norm of an example's gradient, in place of --clip.
      rate: `rate(*batch) -> number`, by which the update of a batch is multiplied; see
        `make_update`.
    """
    optimizer = safety.guard(optimizer, config.nonfinite)
    if config.clip_by == "example":
        loss = per_example(loss, examples, config.clip if bound is None else bound)
    loss = machines.over(machines.mesh_of(config), loss, examples)
    return optimizer, make_update(optimizer, loss, rate)


class Training(NamedTuple):
    """What one update hands to the next."""

    params: Any
    opt_state: Any
    carry: Any


class Best(NamedTuple):
    """The best evaluation so far."""

    loss: float
    step: int
    params: Any


class Steps(NamedTuple):
    """Updates under way: those up to `step`, and what they will answer."""

    step: int
    count: int
    loss: jax.Array
    norm: jax.Array


class Evaluation(NamedTuple):
    """An evaluation under way, and the training that it looks at."""

    step: int
    training: Training
    loss: Future


class Save(NamedTuple):
    """A checkpoint that is to be written when all lines before it are."""

    step: int
    training: Training


class Run:
    """Where a run is, for `train` and the functions below it."""

    def __init__(self, config, task, directory, every, events):
        self.config, self.task, self.directory, self.events = config, task, directory, events
        self.mesh, self.flags, self.agreed = None, collections.deque(), None
        self.metrics, self.training = directory / "metrics.jsonl", None
        self.pending = collections.deque()  # Steps, Evaluation and Save, in the order of the steps
        self.recent = collections.deque(maxlen=every or max(config.steps // 5, 1))
        self.best, self.bad = None, 0
        self.saved, self.saving, self.cancelled = None, None, False
        self.read, self.reading = 0, time.perf_counter()  # updates whose losses are read, since
        self.clock = self.reading

    def asked(self):
        """The signal by which the run is to end here, or None; one that all processes know of."""
        return self.request.signum if jax.process_count() == 1 else self.agreed
