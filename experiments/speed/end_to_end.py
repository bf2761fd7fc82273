"""The same question about a whole job: a language model's training step, and what fits in memory.

char_lm    characters per second of experiments.char_lm's update, at three sizes, with its
           LSTM replaced by flax's, by a plain scan, by one with jax.checkpoint, and by
           over_devices(lstm) (char_lm --devices splits the batch of the whole update instead)
largest    the longest T and the largest B whose forward and backward fit into a budget,
           arguments and outputs included, read off compiled programs
growth     temporary bytes of the frugal gradient at S6's T and a quarter, loss on h_T alone
rounding   float32 gradients against float64, ours beside the plain scan's
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

import jax_lstm as jl
from experiments.kit import timing
from experiments.kit.errors import relative_error
from experiments.kit.language_model import LanguageModelConfig, make_optimizer
from experiments.speed.contestants import CONTESTANTS, OURS
from experiments.speed.problems import Problem, map_arrays, problem
from experiments.speed.programs import Disagrees, gradient, name_leaves
from jax_lstm.training.update import (
    AUTODIFF,
    BY_HAND,
    init_language_model,
    language_model_loss,
    make_update,
)

WHO = ("lstm", "frugal", "A0", "A2", "F")
SYMBOLS = 100  # of a text's vocabulary: near tinyshakespeare's 65 and the library's 500
AGREE = 1e-4  # relative: the loss and the gradient's norm on the first step


def parts(tiny):
    """name -> function of a Config to its numbers, cheapest first; at sizes for a test if tiny."""
    if tiny:
        return {
            "growth": lambda config: growth(T=64, B=1, H=8),
            "rounding": lambda config: rounding((8, 2, 4), seeds=2, scales=(1,)),
            "char_lm": lambda config: {
                "tiny": training(LanguageModelConfig.tiny(), config, who=("lstm", "F"))
            },
        }
    sizes = {f"H = {H}": LanguageModelConfig(hidden=H) for H in (128, 256, 384)}
    return {
        "growth": lambda config: growth(T=65536, B=1, H=64),
        "rounding": lambda config: rounding((48, 6, 16), seeds=16),
        "char_lm": lambda config: {name: training(c, config) for name, c in sizes.items()},
        "largest": lambda config: largest(budget=2**30, T=1024, B=32, H=256),
    }


def single_layer(name, dtype, T, B, D, H):
    """A contestant of one layer as `(params, state, xs) -> (state, hs)`, state as ours has it, and
    from LSTMParams to its own params."""
    shape = lambda *n: jax.ShapeDtypeStruct(n, dtype)
    contestant = CONTESTANTS[name](Problem((None,), (None,), shape(T, B, D), shape(T, B, H), None))

    def own(params):
        return contestant.to((params,), (), jnp.zeros((1, 1, D), dtype))[0]

    def sequence(params, state, xs, **_):
        _, states, _ = contestant.to((), (state,), xs)
        lasts, hs = contestant.call((params, states, xs), None)
        return jl.LSTMState(*lasts[0]), hs

    return sequence, own


# The update of a language model -----------------------------------------------------------------


def training(model, config, who=WHO):
    """Every route's update of char_lm's model, in turn; ours tells what the first must give."""
    T, B, D, H = model.window, model.streams, model.embedding, model.hidden
    sizes = {"T": T, "B": B, "D": D, "H": H, "V": SYMBOLS}
    rng = np.random.default_rng(config.seed)
    tokens, targets = jnp.asarray(rng.integers(SYMBOLS, size=(2, T, B)), jnp.int32)
    todo, rows, want = {}, {}, None
    who = (*who, f"lstm on {config.devices}") if config.devices > 1 else who
    for name in who:
        if name.startswith("lstm on "):  # by over_devices' rule, which splits where that pays
            devices = jax.devices()[: config.devices]
            sequence, own = jl.over_devices(jl.lstm, devices=devices), lambda params: params
        else:
            sequence, own = single_layer(name, jnp.float32, T, B, D, H)
        base = BY_HAND if name.split(" on ")[0] in OURS else AUTODIFF
        todo[name], rows[name], got = update_of(
            model, base._replace(sequence=sequence), own, tokens, targets
        )
        want = got if want is None else want
        must_agree(name, got, want)
    title = f"char_lm, H = {H}"
    for name, seconds in timing.interleave(todo, config.rounds, config.budget, title).items():
        rows[name]["seconds"] = seconds
    return {**sizes, "routes": rows}


def must_agree(name, got, want):
    if not np.allclose(got, want, rtol=AGREE, atol=0):
        raise Disagrees(f"{name}: loss and gradient norm {got}, ours {want}")


def update_of(model, route, own, tokens, targets):
    """(one more update, facts, (loss, gradient norm) of the first). Buffers are donated, as in
    char_lm, so the state goes on from call to call."""
    optimizer = make_optimizer(model)

    @jax.jit
    def start(key):
        params = init_language_model(key, SYMBOLS, model.embedding, model.hidden)
        state = jl.init_lstm_state(params.lstm, (model.streams,))
        params = params._replace(lstm=own(params.lstm))
        return params, optimizer.init(params), state

    carry = list(start(jax.random.key(model.seed)))

    def loss(params, state, tokens, targets):
        return language_model_loss(params, state, tokens, targets, route=route)

    jax.clear_caches()
    began = time.perf_counter()
    update = jax.jit(make_update(optimizer, loss), donate_argnums=(0, 1, 2))
    program = update.lower(*carry, tokens, targets).compile()
    facts = {
        "compile_seconds": time.perf_counter() - began,
        "temp_bytes": program.memory_analysis().temp_size_in_bytes,
    }

    def run():
        *carry[:], value, norm = jax.block_until_ready(program(*carry, tokens, targets))
        return value, norm

    return run, facts, tuple(float(x) for x in run())


# Memory -----------------------------------------------------------------------------------------


def largest(budget, T, B, H, who=("lstm", "frugal", "A2", "F"), limit=64):
    """The longest T at B, and the largest B at T, for a loss on all h_t and one on h_T alone."""
    losses, asked = {}, {"T": T, "B": B, "D": H, "H": H}
    for loss, last_only in (("all h", False), ("h_T alone", True)):
        losses[loss] = {}
        for name in who:
            residuals = "auto" if name == "frugal" else "full"
            sequence, own = jl.lstm, lambda params: params
            if name not in ("lstm", "frugal"):
                sequence, own = single_layer(name, jnp.float32, T, B, H, H)
            (row,) = jl.memory_plan(
                budget,
                **asked,
                sequence=sequence,
                init=lambda *args, own=own, **options: own(jl.init_lstm(*args, **options)),
                init_state=lambda params, batch: zeros((*batch, H)),
                residuals=(residuals,),
                last_only=last_only,
                limit=limit,
            ).rows
            losses[loss][name] = {"T": row.largest_T, "B": row.largest_B}
    return {"budget": budget, "asked": asked, "losses": losses}


def zeros(shape):
    return jl.LSTMState(jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32))


def growth(T, B, H):
    """Temporary bytes at a quarter of T and at T."""

    def temp_bytes(T):
        (params,), (state,) = jax.eval_shape(lambda: problem((1, B, H))[:2])
        xs = jax.ShapeDtypeStruct((T, B, H), jnp.float32)
        last = lambda params, state, xs: jl.lstm(params, state, xs, residuals="auto")[0].h.sum()
        program = jax.jit(jax.grad(last)).lower(params, state, xs).compile()
        return program.memory_analysis().temp_size_in_bytes

    return {"T": [T // 4, T], "bytes": [temp_bytes(T // 4), temp_bytes(T)]}


# Rounding ---------------------------------------------------------------------------------------


def rounding(size, seeds, scales=(1, 4, 10)):
    """Ours over A0's error against float64, geometric means over seeds, of the worst leaf: by norm,
    and by the median element. scale multiplies what makes the net inputs."""
    made = problem(size)
    calls = [CONTESTANTS[name](made) for name in ("lstm", "A0")]
    routes = [jax.jit(functools.partial(gradient_of, contestant)) for contestant in calls]
    ratios = {}
    for scale in scales:
        logs = []
        for seed in range(seeds):
            made = problem(size, seed)
            made = made._replace(layers=jax.tree.map(lambda x, s=scale: s * x, made.layers))
            logs.append(errors_of(routes, made))
        mean = np.exp(np.mean(logs, axis=0))  # (2, leaves)
        for kind, numbers in zip(("norm", "element"), mean, strict=True):
            ratios[f"x{scale} {kind}"] = float(numbers.max())
    return {"size": size, "seeds": seeds, "ratios": ratios}


def errors_of(routes, made):
    """log(ours / A0's), (norm or element, leaf)."""
    with jax.enable_x64(True):
        wide = map_arrays(lambda x: np.asarray(x, np.float64), made)
        exact = name_leaves("gradient", routes[1](*wide[:4]))
    found = []
    for route in routes:
        got = name_leaves("gradient", route(*made[:4]))
        norm = [relative_error(got[k], exact[k]) for k in exact]
        element = [np.median(np.abs(got[k] - exact[k]) / np.abs(exact[k])) for k in exact]
        found.append(np.log(np.asarray([norm, element]) + 1e-12))
    return found[0] - found[1]


def gradient_of(contestant, layers, states, xs, dhs):
    return gradient(contestant.call, contestant.to(layers, states, xs), dhs, None)
