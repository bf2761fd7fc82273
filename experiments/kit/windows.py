"""WINDOWS of a text in training: of random lengths, and with errors that h does not let through.

    --random-windows   the window is drawn from N(W, 5), or with probability 0.05 from N(W/2, 5),
                       and the rate of its update is times its length over W
    --detach P         at each step, with probability P, no error goes from the gates back into
                       h_{t-1}; that through c goes on
    --drop-outputs P   in training a unit of h is zero for the readout with probability P, in all
                       steps of a window of a stream, and 1 / (1 - P) times itself otherwise; what
                       recurs is not touched. Of those experiments that have the option

They are drawn beside the batch, so that a run that goes on draws them again. A shorter window is
filled up, and what fills it is no step: programs have one shape. Sources: Merity, Keskar & Socher
(2018), "Regularizing and optimizing LSTM language models"; Kanuparthi, Arpit et al. (2019),
"h-detach: modifying the LSTM gradient towards better optimization".
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from experiments.kit import text
from experiments.kit.config import FractionOrZero, TrainingConfig
from jax_lstm import drop, drop_autodiff
from jax_lstm.training.update import AUTODIFF

DEVIATION, SHORTEST, HALF = 5, 5, 0.05  # steps, steps, probability: those of the source's code
BEYOND = 4 * DEVIATION  # what is longer than W by more is drawn again: 3 in 100,000


@dataclass(frozen=True)
class WindowsConfig(TrainingConfig):
    """The options of a training on windows of a text."""

    random_windows: bool = False
    """draw each window's length from N(--window, 5), one of 20 from N(half of it, 5), and scale the
    rate of its update by length / --window"""
    detach: FractionOrZero = 0.0
    """h-detach: probability that no error goes back into h_{t-1} from the gates of step t; it is no
    longer the true gradient, so it needs --skip-check"""


def is_random(config):
    return getattr(config, "random_windows", False)


def detaches(config):
    return getattr(config, "detach", 0) > 0


def drops(config):
    return getattr(config, "drop_outputs", 0) > 0


def widest(config):
    """Steps of the arrays of a batch."""
    return config.window + BEYOND * is_random(config)


def lengths(config):
    """Lengths of windows without end, in an order that the seed decides."""
    rng, W = np.random.default_rng((config.seed, 1)), config.window
    while True:
        length = int(rng.normal(W if rng.random() >= HALF else W / 2, DEVIATION))
        if length <= W + BEYOND:
            yield max(length, min(SHORTEST, W))


def cutter(config, streams):
    """`cut(start) -> (tokens, targets, *drawn)`, those of one epoch: see `drawn_names`."""
    W, drawn = widest(config), lengths(config)
    rng, masks = (np.random.default_rng((config.seed, n)) for n in (2, 3))

    def filled(x):
        return np.pad(x, ((0, W - len(x)), (0, 0)))

    def cut(start):
        if not is_random(config):
            for window in text.whole_windows(streams, W, start):
                yield *window, *through(), *kept()
            return
        while start + (length := next(drawn)) < len(streams):
            tokens, targets = streams[start : start + W], streams[start + 1 : start + 1 + W]
            yield filled(tokens), filled(targets), np.int32(length), *through(), *kept()
            start += length

    def through():
        if detaches(config):
            yield (rng.random(W) >= config.detach).astype(np.float32)

    def kept():
        if drops(config):
            stays = masks.random((streams.shape[1], config.hidden)) >= config.drop_outputs
            yield stays.astype(np.float32) / np.float32(1 - config.drop_outputs)

    return cut


def drawn_names(config):
    """What is drawn for a window, behind tokens and targets in a batch: `length`, of the steps that
    count, `through`, (T,), 0 where h lets nothing through, and `kept`, (B, H), the mask of h."""
    asked = {"length": is_random, "through": detaches, "kept": drops}
    return [name for name, is_asked in asked.items() if is_asked(config)]


def examples(config, *axes):
    """The axes of the examples in a batch with what is drawn for a window at its end."""
    return (*axes, *(0 if name == "kept" else None for name in drawn_names(config)))


def of_window(config, route, drawn):
    """The route on one window: only its own steps count, and h lets through what it may. The mean
    of its loss is that over these steps."""
    given = dict(zip(drawn_names(config), drawn, strict=True))
    if not given:
        return route
    length, through, kept = (given.get(name) for name in ("length", "through", "kept"))

    def sequence(params, state, xs):
        options = {} if length is None else {"lengths": jnp.full(xs.shape[1:-1], length)}
        if through is not None and route.sequence is not AUTODIFF.sequence:
            xs = xs, (through[:, None, None],)
        return route.sequence(params, state, xs, **options)

    def loss(y, targets):
        each = route.loss(y, targets)
        if length is None:
            return each
        inside = jnp.arange(len(each), dtype=length.dtype)[:, None] < length
        return jnp.where(inside, each, 0) * (len(each) / length.astype(each.dtype))

    def dense(params, hs):
        dropped = drop_autodiff if route.dense is AUTODIFF.dense else drop
        return route.dense(params, hs if kept is None else dropped(hs, kept.astype(hs.dtype)))

    return route._replace(sequence=sequence, dense=dense, loss=loss)


def rate_of(config):
    """`rate(*batch)`, of an update: its window's length over --window; or None, which is 1."""
    if not is_random(config):
        return None
    place = len(drawn_names(config))
    return lambda *batch: batch[-place].astype(jnp.float32) / config.window
