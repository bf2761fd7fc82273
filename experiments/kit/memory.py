"""An LSTM on a problem of memory: networks of several seeds side by side, and sweeps of T and of
the offset of the forget gate.

A batch is the numbers of its sequences, and each network draws them by its own key where it is
trained. No sequence comes twice, so that the loss of a batch before its update is that of unseen
sequences; the sequences of the test are drawn by a key that no training has.

`chrono` is the initialisation of Tallec & Ollivier (2018): offsets of the forget gate log u with u
uniform in [1, T - 1], so that units forget within 1 to T steps, and those of the input gate their
negatives.
"""

import dataclasses
import functools
import itertools
import math
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tyro.conf import arg

from experiments.kit import (
    check_gradients,
    evidence,
    machines,
    memory_plots,
    record,
    report,
    training,
)
from experiments.kit.clipping import clipping
from experiments.kit.config import (
    BadInput,
    Count,
    Positive,
    TrainingConfig,
    check_memory,
)
from experiments.kit.intervals import t_interval
from experiments.kit.problems import PROBLEMS
from experiments.kit.progress import seconds_of
from experiments.kit.routes import SEQUENCES, sequence_of
from experiments.kit.task import Task, guarded
from jax_lstm import init_dense, init_lstm, init_lstm_state
from jax_lstm.cells.lstm import LSTMParams
from jax_lstm.printing import table
from jax_lstm.stages.readout import DenseParams

EXAMPLES = (None, 0)  # axes of the sequences in key, numbers
TEST = 2**31 - 1  # seed of the test sequences
PLAIN = 200  # T up to which --steps is taken as it stands
AT_ONCE = 250  # test sequences in memory
Times = Annotated[str, arg(metavar="T,...")]
Curriculum = Annotated[str, arg(metavar="T,...")]
Offsets = Annotated[str, arg(metavar="HOW,...")]


@dataclass(frozen=True)
class MemoryConfig(TrainingConfig):
    """What an experiment of memory can be asked for."""

    times: Times = "200"
    """T: steps between what is to be kept and where it is asked for; a training for each"""
    forget_bias: Offsets = "chrono"
    """offset of the forget gate at the start: a number, or chrono; a training for each"""
    curriculum: Curriculum = "none"
    """T of trainings that come first, each going on from the one before, or none"""
    seeds: Count = 3
    """networks of each training side by side, one for each of so many seeds in a row"""
    hidden: Count = 24
    """H, hidden units"""
    steps: Count = 1200
    """updates; of T beyond 200, in proportion to it"""
    batch: Count = 16
    """B, sequences of an update"""
    learning_rate: Positive = 1e-2
    """Adam's, at its start; a cosine ends at zero"""
    clip: Positive = 1.0
    """bound on the global norm of the gradient"""
    judged_on: Count = 2000
    """sequences of the test, which no training sees"""

    @classmethod
    def tiny(cls):
        """two small networks and short sequences, done in seconds"""
        return cls(times="6", curriculum="none", seeds=2, hidden=8, steps=40, batch=8, judged_on=20)

    def __post_init__(self):
        super().__post_init__()
        times_of("--times", self.times)
        curriculum_of(self)
        offsets_of(self)
        if updates_of(self, max(times_of("--times", self.times))) * self.batch >= 2**31:
            raise BadInput("--steps", "times --batch must be below 2³¹, the numbers of sequences")


def times_of(option, text):
    """T of each training."""
    words = text.split(",")
    if not all(word.isdecimal() and 2 <= int(word) < 2**31 for word in words):
        raise BadInput(option, f"must be whole numbers >= 2; got {text!r:.60}")
    found = [int(word) for word in words]
    if len(set(found)) < len(found):
        raise BadInput(option, f"must name each once; got {text!r:.60}")
    return found


def curriculum_of(config):
    """T of the trainings that come before each."""
    return [] if config.curriculum == "none" else times_of("--curriculum", config.curriculum)


def updates_of(config, T):
    """How many a training has: long sequences need more."""
    return config.steps * max(T, PLAIN) // PLAIN


def offsets_of(config):
    """{how the option calls it: a number, or None for chrono}."""
    found = {}
    for word in config.forget_bias.split(","):
        try:
            value = None if word == "chrono" else float(word)
        except ValueError:
            value = math.nan
        if value is not None and not math.isfinite(value):
            raise BadInput("--forget-bias", f"must be numbers or chrono; got {word!r:.60}")
        if value in found.values():
            raise BadInput("--forget-bias", f"must name each once; got {config.forget_bias!r:.60}")
        found[word] = value
    return found


# The networks ---------------------------------------------------------------------------------


class Network(NamedTuple):
    """An LSTM, and W (H, V), b (V,) for its outputs."""

    lstm: LSTMParams
    readout: DenseParams


def init(key, problem, T, H, offset):
    """The same numbers for every offset, but for the offset."""
    keys = jax.random.split(key, 3)
    params = init_lstm(keys[0], problem.D, H)
    f = jnp.full(H, offset, jnp.float32) if offset is not None else chrono(keys[2], T, H)
    b = params.b.at[H : 2 * H].set(f)
    if offset is None:
        b = b.at[:H].set(-f)
    return Network(params._replace(b=b), init_dense(keys[1], H, problem.V))


def chrono(key, T, H):
    """Offsets of forget gates: log u, u uniform in [1, T - 1].

    Source: Tallec & Ollivier (2018), "Can recurrent neural networks warp time?".
    """
    return jnp.log(jax.random.uniform(key, (H,), jnp.float32, 1.0, T - 1.0))


def draw(problem, T, key, numbers):
    """The sequences of these numbers, xs (steps, B, D), and what is asked of them."""
    one = lambda n: problem.draw(jax.random.fold_in(key, n), T)
    return jax.vmap(one, out_axes=(1, problem.axis))(numbers)


def loss_of(problem, T, gradient, sequence=None):
    """`loss(params, carry, key, numbers) -> (number, carry)` of one network."""
    sequence = sequence or SEQUENCES[gradient]

    def loss(params, carry, key, numbers):
        xs, targets = draw(problem, T, jax.random.wrap_key_data(key), numbers)
        dtype = params.lstm.W.dtype
        state = init_lstm_state(params.lstm, (len(numbers),))
        _, hs = sequence(params.lstm, state, xs.astype(dtype))
        if jnp.issubdtype(targets.dtype, jnp.floating):
            targets = targets.astype(dtype)
        return problem.loss(params.readout, hs, targets), carry

    return loss


def task_of(config, problem, T, begin):
    """The networks of all seeds side by side as a Task; `begin(keys)` are those of step 0."""
    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.chain(clipping(config), optax.adam(rate))
    loss = loss_of(problem, T, config.gradient, sequence_of(config))
    optimizer, update = guarded(config, optimizer, loss, EXAMPLES)
    keys = [jax.random.split(jax.random.key(config.seed + n)) for n in range(config.seeds)]
    own, data = (jnp.stack(k) for k in zip(*keys, strict=True))

    @jax.jit
    def start():
        params = begin(own)
        return params, jax.vmap(optimizer.init)(params), ()

    def batches():
        first, words = (
            np.arange(config.batch, dtype=np.int32),
            np.asarray(jax.random.key_data(data)),
        )
        for step in itertools.count():
            yield words, first + np.int32(step * config.batch)

    return Task(
        start=start,
        update=jax.vmap(update, in_axes=(0, 0, None, 0, None)),
        batches=batches,
        numbers=lambda loss: {"loss": loss},
        say=lambda loss: f"{problem.measure} {loss:.4f}",
        examples=EXAMPLES,
    )


def judge(config, problem, T, params):
    """The loss of each network on the test sequences."""
    loss, key = loss_of(problem, T, "manual"), jax.random.key_data(jax.random.key(TEST))

    @jax.jit
    def of_some(params, numbers):
        return jax.vmap(lambda params: loss(params, (), key, numbers)[0])(params)

    total = 0.0
    for start in range(0, config.judged_on, AT_ONCE):
        numbers = jnp.arange(start, min(start + AT_ONCE, config.judged_on), dtype=jnp.int32)
        total = total + len(numbers) * np.asarray(of_some(params, numbers), np.float64)
    return (total / config.judged_on).tolist()


# The run --------------------------------------------------------------------------------------


def run(config, experiment, problem, question):
    """All trainings of an experiment, one after the other; returns its summary."""
    training.start(config)
    numbers = 4 * config.hidden * (config.hidden + PROBLEMS[problem].D + 1)
    longest = max(times_of("--times", config.times))
    kept = 24 * longest * config.batch * config.hidden  # gates and states
    size = config.seeds * (16 * numbers + kept)  # with the gradient and Adam's two
    check_memory("--hidden", size, f"training {config.seeds} networks")
    with training.folder(config, experiment) as directory:
        return carry_out(config, experiment, problem, question, directory)


def carry_out(config, experiment, name, question, directory):
    problem = PROBLEMS[name]
    record.write_config(directory, config, experiment, problem=name, **report.machine())
    print(
        f"{name}: T = {config.times}, forget bias {config.forget_bias}; {config.seeds} networks "
        f"with H = {config.hidden}, {config.steps} steps of {config.batch}; writing {directory}"
    )
    points = []
    for T, (word, offset) in itertools.product(
        times_of("--times", config.times), offsets_of(config).items()
    ):
        params, seconds = train(config, problem, T, offset, directory, f"T{T}_{word}")
        if not machines.is_first():
            continue
        errors = judge(config, problem, T, params)
        point = {"T": T, "forget_bias": word, "loss": errors, "guess": problem.guess(T)}
        points.append(point | {"bar": problem.bar(T), "seconds": seconds})
        add_evidence(config, experiment, question, problem, points[-1])
        record.write_json(directory / "summary.json", summarise(problem, points))
        print(table_of(points[-1:]), flush=True)
    if not machines.is_first():
        return None
    summary = summarise(problem, points)
    memory_plots.draw(directory)
    print(f"\n{record.name_files(directory)}")
    return summary


def train(config, problem, T, offset, directory, name):
    """(networks, seconds) of a training at T, and of those of the curriculum before it."""
    begin = jax.vmap(lambda key: init(key, problem, T, config.hidden, offset))
    first, seconds = [t for t in curriculum_of(config) if t != T], 0.0
    for t, part in [*((t, f"{name}_first_{t}") for t in first), (T, name)]:
        own = dataclasses.replace(config, steps=updates_of(config, t))
        task = task_of(own, problem, t, begin)
        check = check_of(config, problem, t, directory / part)
        params = training.carry_out_part(own, task, directory, part, check)
        begin = functools.partial(lambda params, keys: params, params)
        seconds += seconds_of(directory / part) if machines.is_first() else 0.0
    return params, seconds


def check_of(config, problem, T, folder):
    """The first network's gradient on its first batch, by hand beside jax.grad."""
    hand = "step" if config.gradient == "step" else "manual"
    routes = {"by_hand": hand, "autodiff": "auto"}
    losses = {name: loss_of(problem, T, how) for name, how in routes.items()}

    def check(params, carry, batch):
        first = jax.tree.map(lambda x: x[0], params)
        check_gradients.check(losses, folder, first, carry, batch[0][0], batch[1])

    return check


def add_evidence(config, experiment, question, problem, point):
    """A row for the point, with each seed's loss."""
    T, published = point["T"], dict(problem.published)
    elsewhere = f"{' and '.join(map(str, published.values()))} is of {problem.source}"
    row = evidence.Row(
        f"LSTM, T = {T}, forget bias {point['forget_bias']}",
        f"{problem.measure} of the test",
        "lower",
        problem.guess(T),
        problem.guess_how,
        published.get(T),
        problem.source if T in published else f"nothing at this T; {elsewhere}",
        problem.bar(T) if point["forget_bias"] == "chrono" else None,
        4,
    )
    minutes = point["seconds"] / 60 / config.seeds
    for k, loss in enumerate(point["loss"]):
        one = dataclasses.replace(config, seed=config.seed + k)
        evidence.add(one, experiment, question, row, loss, minutes)


def summarise(problem, points):
    """All points; and by T, each offset beside the first one, the difference of each seed's losses.

    `apart` is the mean of the differences with the ends of its 95 % interval by Student's t, None
    for a single seed.
    """
    found = []
    for T in dict.fromkeys(point["T"] for point in points):
        first, *others = (point for point in points if point["T"] == T)
        for point in others:
            between = {"T": T, "forget_bias": point["forget_bias"], "beside": first["forget_bias"]}
            found.append(between | {"apart": t_interval(np.subtract(point["loss"], first["loss"]))})
    return {"measure": problem.measure, "points": points, "differences": found}


def table_of(points):
    """A row for each point, with a mark where all seeds are below the bar."""
    heads = ("T", "forget bias", "mean", "least", "most", "guess", "bar", "learnt", "seconds")
    rows = [
        (
            *(point["T"], point["forget_bias"], float(np.mean(point["loss"]))),
            *(min(point["loss"]), max(point["loss"]), point["guess"], point["bar"]),
            f"{sum(x <= point['bar'] for x in point['loss'])} of {len(point['loss'])}",
            point["seconds"],
        )
        for point in points
    ]
    return table(heads, rows)
