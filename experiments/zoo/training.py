"""One cell on the adding problem, for several seeds side by side."""

import functools
import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.kit import record
from experiments.zoo import adding
from jax_lstm import init_dense
from jax_lstm.engine.routes import init_state, make_rnn
from jax_lstm.stages.readout import DenseParams, dense
from jax_lstm.training.update import make_update

JUDGED_ON = 512  # sequences that no training sees, the same for all


class Model(NamedTuple):
    """A cell's parameters, and W (H, 1), b (1,) for its last output."""

    cell: Any
    readout: DenseParams


def init_cell(cell, key, D, H):
    """Parameters of a cell; sizes that it has besides are half of H."""
    return cell.init(key, D, H, **{name: max(H // 2, 1) for _, name in cell.sizes})


def init(config, cell, seed):
    key_cell, key_readout = jax.random.split(jax.random.key(seed))
    params = init_cell(cell, key_cell, 2, config.hidden)
    width = init_state(cell, params)[0].shape[-1]
    return Model(params, init_dense(key_readout, width, 1))


def squared_error(cell, model, xs, sums):
    """Mean over the examples of (answer - sum)²."""
    state = init_state(cell, model.cell, xs.shape[1:-1])
    last, _ = make_rnn(cell, cell.name)[0](model.cell, state, xs)
    return jnp.square(dense(model.readout, last[0])[:, 0] - sums).mean()


def make_optimizer(config):
    """Adam with a bound on the gradient; a cosine takes the learning rate down to zero."""
    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    return optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))


def train(config, cell, path):
    """Append a line to `path` for every judgement of a cell: the error of each seed."""
    loss, optimizer = functools.partial(squared_error, cell), make_optimizer(config)
    seeds = jnp.arange(config.seeds) + config.seed
    step_down = make_update(optimizer, lambda model, seed, *batch: (loss(model, *batch), seed))

    def update(carry, step):
        key = jax.random.fold_in(jax.random.key(carry[2]), step)  # of the seed, which stays
        *carry, mean, _ = step_down(*carry, *adding.draw(key, config.time, config.batch))
        return tuple(carry), mean

    @jax.jit
    def begin(seeds):
        models = jax.vmap(lambda seed: init(config, cell, seed))(seeds)
        return models, jax.vmap(optimizer.init)(models), seeds

    @functools.partial(jax.jit, donate_argnums=0)
    def some_steps(carry, steps):
        return jax.vmap(lambda carry: jax.lax.scan(update, carry, steps))(carry)

    @jax.jit
    def judge(models):
        unseen = adding.draw(jax.random.key(2**31 - 1), config.time, JUDGED_ON)
        return jax.vmap(lambda model: loss(model, *unseen))(models)

    carry, every = begin(seeds), max(config.steps // config.judgements, 1)
    for start in range(0, config.steps, every):
        began = time.perf_counter()
        steps = jnp.arange(start, min(start + every, config.steps))
        carry, losses = some_steps(carry, steps)
        seconds = time.perf_counter() - began if losses.block_until_ready().size else 0.0
        error = np.asarray(judge(carry[0])).tolist()
        if not all(map(math.isfinite, error)):
            raise FloatingPointError(
                f"{cell.name}: an error is {error}; try a lower --learning-rate"
            )
        record.append(
            path,
            kind="judged",
            cell=cell.name,
            step=int(steps[-1]) + 1,
            error=error,
            training=np.asarray(losses).mean(1).tolist(),
            seconds=seconds,
        )
