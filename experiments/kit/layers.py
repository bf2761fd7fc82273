"""Layers of LSTMs between dropout: what a model of sequences in the experiments is made of.

    x ⊙ m_x -> LSTM -> h ⊙ m -> LSTM -> ... -> h ⊙ m

Masks are locked: one for all steps of a sequence (Gal & Ghahramani 2016). What recurs is dropped
by weight, a mask on U for all steps and examples (Merity, Keskar & Socher 2018).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from experiments.kit.clipping import clipping
from experiments.kit.config import Count, FractionOrZero, Positive, PositiveOrZero, TrainingConfig
from experiments.kit.routes import SEQUENCES, sequence_of
from jax_lstm import drop, dropout_mask, init_stack_state, partial, stack, stack_autodiff


@dataclass(frozen=True)
class LayersConfig(TrainingConfig):
    """What every training of such layers can be asked for."""

    seeds: Count = 3
    """models, trained side by side: one for each of so many seeds in a row"""
    hidden: Count = 64
    """H, hidden units of a layer in each direction"""
    layers: Count = 1
    """how many there are, one above the other"""
    drop_inputs: FractionOrZero = 0.0
    """probability that a feature of the input is dropped, for all steps of a sequence"""
    drop_outputs: FractionOrZero = 0.0
    """the same of a layer's outputs"""
    drop_recurrent: FractionOrZero = 0.0
    """probability that a weight of U is dropped, for all steps and sequences of an update"""
    weight_decay: PositiveOrZero = 0.0
    """AdamW's, of every number that has more than one axis"""
    steps: Count = 1000
    """updates"""
    batch: Count = 20
    """B, sequences of an update"""
    learning_rate: Positive = 3e-3
    """Adam's, at its start; a cosine ends at zero"""
    clip: Positive = 1.0
    """bound on the global norm of the gradient"""

    def seeds_in_a_row(self):
        return [self.seed + n for n in range(self.seeds)]


def weights_only(params):
    """Which leaves are decayed: those of seeds alone, not biases."""
    return jax.tree.map(lambda x: x.ndim > 1, params)


def make_optimizer(config):
    """AdamW behind a bound on the gradient; a cosine takes the learning rate down to zero."""
    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    decay = config.weight_decay
    adam = optax.adamw(rate, weight_decay=decay, mask=weights_only) if decay else optax.adam(rate)
    return optax.chain(clipping(config), adam)


def route_of(config, gradient):
    """(stack, sequence) of a route to the gradient; --dh and --split are seen to."""
    sequence = sequence_of(config) if gradient == config.gradient else None
    return (stack_autodiff if gradient == "auto" else stack), sequence or SEQUENCES[gradient]


def mask_of(key, rate, shape):
    """One that drops with this probability, or none."""
    return dropout_mask(key, rate, shape) if key is not None and rate else None


def dropped(x, mask):
    return x if mask is None else drop(x, mask)


def run_layers(config, route, params, xs, key=None, states=None, **options):
    """(states after the last step, outputs (T, B, features)) of a stack between its dropout.

    Args:
      route: of `route_of`.
      params: StackParams.
      xs: (T, B, D).
      key: of the masks; None: nothing is dropped.
      states: before the first step; None: zeros.
      options: of the sequence, `residuals` say, and of the stack.
    """
    layers, sequence = route
    B, L, H = xs.shape[1], len(params.layers), config.hidden
    keys = [None] * (2 * L + 1) if key is None else jax.random.split(key, 2 * L + 1)
    width = H * len(params.layers[0])
    outs = [mask_of(k, config.drop_outputs, (B, width)) for k in keys[:L]]
    weights = []
    for key, layer in zip(keys[L:], params.layers, strict=False):
        masks = mask_of(key, config.drop_recurrent, (len(layer), *layer[0].U.shape))
        each = [None] * len(layer) if masks is None else masks
        weights.append(
            tuple(p._replace(U=dropped(p.U, m)) for p, m in zip(layer, each, strict=True))
        )
    residuals = options.pop("residuals", None)
    sequence = sequence if residuals is None else partial(sequence, residuals=residuals)
    states = init_stack_state(params, (B,)) if states is None else states
    xs = dropped(xs, mask_of(keys[-1], config.drop_inputs, (B, xs.shape[-1])))
    more = {"between": tuple(outs[:-1])} if L > 1 else {}
    dropped_params = params._replace(layers=tuple(weights))
    states, hs = layers(dropped_params, states, xs, sequence=sequence, **more, **options)
    return states, dropped(hs, outs[-1])


def key_data(rng):
    """Of a key, drawn by NumPy: for a batch, which is an array."""
    return rng.integers(2**32, size=2, dtype="uint32")


def key_of(data, config, *more):
    """The key of the data, or None where all of these rates are zero, and nothing is drawn."""
    rates = (config.drop_inputs, config.drop_outputs, config.drop_recurrent, *more)
    return jax.random.wrap_key_data(jnp.asarray(data)) if any(rates) else None
