"""Where does the gradient vanish, and where does it not?

    python -m experiments.gradient_flow

The figure that everybody draws by hand, computed: the simple (Elman) network beside LSTMs with
several forget biases, on random input and on real text, as they are drawn and after some training
as language models. For each, over a window of T steps, in float64, of several examples:

    ‖∂h_T/∂h_t‖, ‖∂c_T/∂c_t‖   the largest singular value of the exact product of Jacobians; at
                               large H by power iteration, at some steps
    max_k Π f_k                what the forget gates alone let through along c
    Π ‖U‖ max(1 - h²)          what the simple network can let through at most
    ‖dh_t‖, ‖dc_t‖, ‖da_t‖     what the loss of the last character (and of no other) feels of h_t,
                               c_t and every gate

jax_lstm/analysis/flow.py says what is held and what moves. Every derivative is a hand-written
rule's.

Writes results/gradient_flow/<run>/:
    flow.json                what was asked for, and every number of the pictures
    flow.png, flow.svg       the Jacobians and the gradient over the steps back from the last
    gates.png, gates.svg     a heat map, time x gate, of ‖da_t‖
"""

import dataclasses
import functools
import itertools
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jax_lstm as jl
from experiments import char_lm
from experiments.gradient_flow import plots as flow_plots
from experiments.kit import command, record, report, text
from experiments.kit.command import BadInput, option
from jax_lstm.training.update import (
    BITS,
    BY_HAND,
    init_language_model,
    language_model_loss,
    make_update,
)

EXACT = 96  # hidden units up to which whole Jacobians are formed
PLACES = 24  # steps at which power iteration looks instead
LONGEST = 2000  # steps: a picture has a column for each
LARGEST = 2**27  # numbers in the Jacobians of one network: 1 GiB
VANISHED = 1e-3


@dataclass(frozen=True)
class Config:
    text: str | None = option(
        None,
        "a UTF-8 text file (default: the sources of this Python's standard library)",
        metavar="FILE",
    )
    megabytes: float = option(
        1.0, "without --text: so many million characters of the library's sources", above=0
    )
    input: str | None = option(
        None, "numbers (T, B, D) in a .npy file, in place of random input", metavar="FILE"
    )
    hidden: int = option(
        64, f"H, hidden units; above {EXACT} power iteration takes the place of Jacobians", low=1
    )
    embedding: int = option(32, "D, size of a character's vector and of random input", low=1)
    window: int = option(100, f"T, time steps, at most {LONGEST}", low=2, below=LONGEST + 1)
    examples: int = option(8, "B, sequences that are looked at", low=1)
    forget_biases: str = option("0,1,3", "of each LSTM, at the start", metavar="X,...")
    steps: int = option(
        300, "updates of each network before it is looked at once more; 0: none", low=0
    )
    streams: int = option(32, "pieces of the text read side by side in training", low=1)
    learning_rate: float = option(5e-3, "Adam's, at its peak", above=0)
    iterations: int = option(100, "of the power iteration", low=1)
    seed: int = option(0, "of the parameters, of random input and of training", low=0, below=2**63)
    results: str = option("results", "where gradient_flow/<run> is written", metavar="FOLDER")
    run: str | None = option(None, "name of a run (default: date and time)")
    force: bool = option(False, "write over the files of a run that is there already")

    @classmethod
    def tiny(cls):
        return cls(
            megabytes=0.03,
            hidden=8,
            embedding=4,
            window=12,
            examples=2,
            forget_biases="0,3",
            steps=3,
            streams=4,
        )


class Network(NamedTuple):
    """A cell under the name it has in the figure. bound(linear) -> (T, B)."""

    name: str
    init: Callable[..., Any]
    init_state: Callable[..., Any]
    sequence: Callable[..., Any]
    linearised: Callable[..., Any]
    bound: Callable[..., Any]


def run(config):
    """The experiment, from a Config to what is in flow.json."""
    command.check(config)
    networks = networks_of(config)
    xs = random_input(config) if config.input is None else own_input(config.input)
    check_room(config, "--window", config.window, config.examples)
    check_room(config, "--input", *xs.shape[:2])
    if config.text is None:
        source = text.from_standard_library(config.megabytes)
    else:
        source = text.from_file(config.text)
    data = cut(config, source.characters)
    directory = directory_of(config)
    with record.telling_where(directory):
        return experiment(config, networks, xs, data, source.about, directory)


def experiment(config, networks, xs, data, about, directory):
    began, V = time.perf_counter(), len(data.vocabulary)
    fresh = [model_of(config, network, V, config.embedding) for network in networks]
    facts = report.facts(about, data, fresh[0])
    print(f"text     {facts['text']}\nwriting  {directory}\n")

    tokens, targets = data.held_out[:-1], data.held_out[-1]
    others = [model_of(config, network, V, xs.shape[-1]) for network in networks]
    last = np.resize(targets, xs.shape[1])
    name = "random input" if config.input is None else Path(config.input).name
    situations = [
        situation(config, f"{name}, fresh", networks, others, lambda _: xs, last),
        situation(config, "text, fresh", networks, fresh, embedded(tokens), targets),
    ]
    if config.steps:
        trained, bits = zip(
            *(train(config, *both, data) for both in zip(networks, fresh, strict=True)),
            strict=True,
        )
        name = f"text, after {config.steps} updates"
        situations.append(situation(config, name, networks, trained, embedded(tokens), targets))
        for network, last_bits in zip(situations[-1]["networks"], bits, strict=True):
            network["training_bits"] = last_bits
    found = {
        "config": dataclasses.asdict(config),
        **facts,
        "seconds": round(time.perf_counter() - began, 1),
        "situations": situations,
    }
    record.write(directory / "flow.json", record.compact(found))
    drawn = flow_plots.draw(directory)
    print(table(found))
    print(f"\n{directory}: flow.json, {', '.join(path.name for path in drawn)}")
    return found


# What the user gave ---------------------------------------------------------------------------


def networks_of(config):
    """The Elman network, and an LSTM for each forget bias."""
    elman = Network(
        "Elman RNN",
        jl.init_elman,
        jl.init_elman_state,
        jl.elman,
        jl.linearised_elman,
        jl.elman_bounds,
    )
    networks = [elman]
    for part in config.forget_biases.split(","):
        try:
            bias = float(part)
        except ValueError:
            bias = math.nan
        if not math.isfinite(bias):
            raise BadInput("--forget-biases", f"must be numbers, such as 0,1,3; got {part!r}")
        networks.append(
            Network(
                f"LSTM, forget bias {bias:g}",
                functools.partial(jl.init_lstm, forget_bias=bias),
                jl.init_lstm_state,
                jl.lstm,
                jl.linearised_lstm,
                most_kept,
            )
        )
    if len(networks) > flow_plots.MOST:
        raise BadInput("--forget-biases", f"must be at most {flow_plots.MOST - 1} numbers")
    return networks


def most_kept(linear):
    """max_k Π f_k"""
    return jl.forget_products(linear).max(-1)


def random_input(config):
    """Standard normal numbers, which is what a fresh embedding consists of as well."""
    shape = (config.window, config.examples, config.embedding)
    return np.random.default_rng(config.seed).normal(size=shape)


def own_input(path):
    """Numbers (T, B, D) of a .npy file."""
    try:
        xs = np.load(path, allow_pickle=False)
    except OSError as error:
        raise BadInput("--input", f"cannot read {path}: {error.strerror or error}") from None
    except ValueError:
        raise BadInput("--input", f"{path} is not a .npy file of numbers") from None
    if not isinstance(xs, np.ndarray) or xs.dtype.kind not in "fiu" or xs.ndim != 3:
        kind = f"{xs.dtype} {xs.shape}" if isinstance(xs, np.ndarray) else "several arrays"
        raise BadInput("--input", f"must be numbers (T, B, D), time first; {path} holds {kind}")
    if not all(xs.shape):
        T, B, D = xs.shape
        raise BadInput("--input", f"{path} is empty: T = {T}, B = {B}, D = {D}; each must be >= 1")
    bad = np.argwhere(~np.isfinite(xs))
    if len(bad):
        t, b, d = bad[0]
        raise BadInput(
            "--input",
            f"{path} holds {xs[t, b, d]} at t = {t}, b = {b}, d = {d} ({len(bad)} such numbers); "
            "it would reach every later step and all of its gradient",
        )
    return xs.astype(np.float64)


def check_room(config, option, T, B):
    """Complain about what is too long to draw, or too large to form Jacobians of."""
    if T < 2:
        raise BadInput(option, f"T = {T} step is no way for a gradient to go; give at least 2")
    if T > LONGEST:
        raise BadInput(
            option,
            f"T = {T} steps are more than a picture has columns; at most {LONGEST}: give fewer",
        )
    numbers = T * B * config.hidden**2
    if config.hidden <= EXACT and numbers > LARGEST:
        raise BadInput(
            option,
            f"Jacobians of T = {T}, B = {B}, H = {config.hidden} are {numbers / LARGEST:.1f} GiB, "
            f"at most 1: fewer steps or examples, or --hidden above {EXACT}, where none are formed",
        )


def cut(config, characters):
    """char_lm's Data, of which `held_out` is B windows of T steps and their targets, (T + 1, B)."""
    data = char_lm.cut(training_of(config), characters)
    T, B = config.window, config.examples
    tokens = data.held_out.T.ravel()
    if len(tokens) < B * (T + 1):
        raise BadInput(
            "--megabytes" if config.text is None else "--text",
            f"its last tenth is {len(tokens)} characters, and {B} examples of {T} steps need "
            f"{B * (T + 1)}; a longer text, or a smaller --examples or --window",
        )
    return data._replace(held_out=tokens[: B * (T + 1)].reshape(B, T + 1).T)


def training_of(config):
    """char_lm's Config of the same training."""
    names = ("text", "megabytes", "hidden", "embedding", "window", "streams", "learning_rate")
    given = {name: getattr(config, name) for name in (*names, "seed")}
    return dataclasses.replace(char_lm.Config(), steps=max(config.steps, 1), **given)


def directory_of(config):
    """A new folder; that of an earlier run only by --force."""
    there = Path(config.results) / "gradient_flow" / (config.run or "")
    if config.run is None or not there.is_dir():
        return record.new_directory(config.results, "gradient_flow", config.run)
    if not config.force:
        raise BadInput("--run", f"{there} exists already and was kept; --force writes over it")
    if not all(os.access(path, os.W_OK) for path in (there, *there.iterdir())):
        raise BadInput("--run", f"cannot write in {there}")
    return there


# Networks -------------------------------------------------------------------------------------


def model_of(config, network, V, D):
    """A language model with the network's cell; of the same seed, so that readouts are equal."""
    model = init_language_model(jax.random.key(config.seed), V, D, config.hidden)
    return model._replace(lstm=network.init(jax.random.key(config.seed + 1), D, config.hidden))


@functools.cache
def update_of(config, sequence):
    """One update, compiled once for all LSTMs."""
    loss = functools.partial(language_model_loss, route=BY_HAND._replace(sequence=sequence))
    return jax.jit(make_update(char_lm.make_optimizer(config), loss))


def train(config, network, params, data):
    """The model after the updates, and its bits per character over the last tenth of them."""
    config = training_of(config)
    update = update_of(config, network.sequence)
    opt_state = char_lm.make_optimizer(config).init(params)
    state, nats = network.init_state(params.lstm, (config.streams,)), []
    batches = text.epochs(data.training, config.window, config.seed, config.restart)
    for anew, tokens, targets in itertools.islice(batches, config.steps):
        state = char_lm.begun(state, anew)
        params, opt_state, state, loss, _ = update(params, opt_state, state, tokens, targets)
        nats.append(float(loss))
    bits = BITS * np.mean(nats[-max(1, config.steps // 10) :])
    if not math.isfinite(bits):
        raise FloatingPointError(f"the loss is {bits}; try a lower --learning-rate")
    print(f"{network.name}: {bits:.2f} bits per character after {config.steps} updates")
    return params, float(bits)


def embedded(tokens):
    return lambda params: np.asarray(params.embedding)[tokens]


# Measuring ------------------------------------------------------------------------------------


def situation(config, name, networks, models, xs_of, targets):
    """Every number of a column of the figure. Lists are by time step."""
    return {
        "name": name,
        "networks": [
            {"name": network.name, **numbers(config, network, model, xs_of(model), targets)}
            for network, model in zip(networks, models, strict=True)
        ],
    }


def numbers(config, network, model, xs, targets):
    """Those of one network, in float64: over its examples the geometric mean, least and most."""
    exact, T = config.hidden <= EXACT, len(xs)
    at = np.arange(T) if exact else np.unique(np.linspace(0, T - 1, PLACES).round().astype(int))
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        wide = jax.tree.map(lambda x: np.asarray(x, np.float64), (model.lstm, model.readout, xs))
        cell = (network.init_state, network.linearised, network.bound)  # of all LSTMs the same
        how = (exact, tuple(at.tolist()), config.iterations)
        found = measure(*cell, *how, *wide, targets)
        norms, residual, gradient, bound = jax.tree.map(np.asarray, found)
    fields = norms._fields
    return {
        "at": at.tolist(),
        "jacobian": {k: over_examples(getattr(norms, k)) for k in fields},
        "by": "singular values" if exact else "power iteration",
        "residual": 0.0 if exact else digits(residual),
        "bound": over_examples(bound)["mean"],
        "gradient": {k: over_examples(getattr(gradient.dstate, k))["mean"] for k in fields},
        "delta": {
            gate: over_examples(gradient.delta[..., n])["mean"]
            for n, gate in enumerate("ifgo" if len(fields) > 1 else "a")
        },
    }


@functools.partial(jax.jit, static_argnums=range(6))
def measure(init_state, linearised, bound, exact, at, iterations, params, readout, xs, targets):
    """(T or n, B) norms of Jacobians, the worst residual, GradientNorms, and the gates' bound."""
    linear = linearised(params, init_state(params, xs.shape[1:2]), xs)
    hs = linear.states[0]

    def loss(h):
        return jl.softmax_cross_entropy(jl.dense(readout, h), targets).sum()

    dhs = jnp.zeros_like(hs).at[-1].set(jax.grad(loss)(hs[-1]))
    if exact:
        norms = jax.tree.map(
            lambda J: jnp.linalg.svd(J, compute_uv=False)[..., 0], jl.jacobians(linear)
        )
        residual = jnp.zeros(())
    else:
        norms, residuals = jl.jacobian_norms(linear, at, iterations=iterations)
        residual = jnp.max(jnp.stack(residuals))
    return norms, residual, jl.gradient_norms(linear, dhs), bound(linear)


def over_examples(x):
    """(n, B) as lists of n: geometric mean, least and most. Zero if one is zero."""
    with np.errstate(divide="ignore"):
        mean = np.exp(np.log(x).mean(-1))
    found = {"mean": mean, "least": x.min(-1), "most": x.max(-1)}
    return {k: [digits(v) for v in values] for k, values in found.items()}


def digits(x):
    """Three of them: a picture shows no more."""
    return float(f"{x:.2e}")


# For people -----------------------------------------------------------------------------------


def reach(network, field):
    """Steps back over which a Jacobian's norm stays above VANISHED; None where it has no field."""
    if field not in network["jacobian"]:
        return None
    T = network["at"][-1] + 1
    gone = [
        t
        for t, norm in zip(network["at"], network["jacobian"][field]["mean"], strict=True)
        if norm <= VANISHED
    ]
    return T - 2 - max(gone) if gone else T - 1


def table(found):
    """How far back each network's last step feels anything."""
    lines = [f"Steps back over which the norm stays above {VANISHED:g}, geometric mean of examples"]
    for situation in found["situations"]:
        T = situation["networks"][0]["at"][-1]
        lines.append(f"{situation['name'] + f' (of {T})':36}  ∂h_T/∂h_t  ∂c_T/∂c_t")
        for network in situation["networks"]:
            h, c = (reach(network, field) for field in "hc")
            lines.append(f"  {network['name']:34}{h:11}{'' if c is None else c:>11}")
    return "\n".join([*lines, f"all of it took {report.clock(found['seconds'])} minutes"])


def main(argv=None):
    return command.main(Config, run, "python -m experiments.gradient_flow", __doc__, argv)
