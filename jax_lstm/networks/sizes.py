"""What fits together in a stack: numbers of layers, directions and features, before tracing."""

import inspect
from typing import Any, NamedTuple

import jax
import numpy as np

from jax_lstm.doors import check_array, describe, is_array, refuse

MERGES = ("concat", "sum", "mean", "product", "pair")

SKIPS = (None, "inputs", "outputs", "both")

DIRECTIONS = ("forward", "reverse")


class StackParams(NamedTuple):
    """layers[l] is (forward,) or (forward, reverse), each the parameters of a cell. initial is
    None, or the learnt initial states: initial[l][direction], without batch axes."""

    layers: tuple[tuple[Any, ...], ...]
    initial: Any = None


def of(pair, d):
    """What direction d reads: its own, or what both share."""
    return pair[min(d, len(pair) - 1)]


# Sizes and doors ------------------------------------------------------------------------------


def input_sizes(n, below, D, skip):
    """Features that layer n reads, per array from below."""
    return tuple(size + D for size in below) if n > 0 and skip in ("inputs", "both") else below


def output_sizes(n, below, outputs, merge, residual):
    """Features that layer n hands on, or what does not fit."""
    here = f"layer {n + 1}"
    if len(below) > len(outputs):
        raise ValueError(f"{here} has one direction and cannot read a pair; merge below it")
    if len(outputs) == 2 and merge == "concat":
        outputs = [sum(outputs)]
    elif len(outputs) == 2 and merge != "pair":
        if outputs[0] != outputs[1]:
            raise ValueError(f'{here}: merge="{merge}" needs equal sizes of h; got {outputs}')
        outputs = outputs[:1]
    if residual:
        inputs = [of(below, d) for d in range(len(outputs))]
        if len(below) > len(outputs) or inputs != list(outputs):
            raise ValueError(
                f"{here}: a residual connection needs as many features in as out; got "
                f"{list(below)} in and {list(outputs)} out. `residual` may be a tuple per layer"
            )
    return tuple(outputs)


def check_sizes(states, xs, merge, residual, skip, between):
    """Walk up the layers with sizes only."""
    check_array("xs", xs, "(T, ..., D), an array")
    if xs.ndim < 1:
        raise ValueError(f"`xs` must be (T, ..., D), an array; got {xs.shape}")
    L, D = len(states), xs.shape[-1]
    if between is not None and (not isinstance(between, tuple | list) or len(between) != L - 1):
        got = len(between) if isinstance(between, tuple | list) else type(between).__name__
        raise ValueError(
            f"`between` must hold {L - 1} array(s), for the inputs of layers 2 to {L}; got {got}"
        )
    below, levels = (D,), []
    for n, layer in enumerate(states):
        inputs = input_sizes(n, below, D, skip)
        if n > 0 and between is not None and between[n - 1] is not None:
            for size in inputs:
                check_factor(n, between[n - 1], (*xs.shape[:-1], size), xs.dtype)
        outputs = [jax.tree.leaves(state)[0].shape[-1] for state in layer]
        below = output_sizes(n, below, outputs, merge[n], residual[n])
        levels.append(len(below))
    if skip in ("outputs", "both") and len(set(levels)) > 1:
        raise ValueError(f'skip="{skip}" needs the merge "pair" in all layers or in none')


def check_factor(n, factor, shape, dtype):
    fits = is_array(factor) and factor.dtype == dtype and factor.ndim <= len(shape)
    if not fits or any(
        m not in (1, n) for m, n in zip(factor.shape[::-1], shape[::-1], strict=False)
    ):
        raise ValueError(
            f"`between[{n - 1}]` must be {dtype}, broadcastable to {shape}, the input of layer "
            f"{n + 1}; got {describe(factor)}"
        )


def check_params(params):
    if not isinstance(params, StackParams):
        raise ValueError(
            f"`params` must be StackParams, see jax_lstm.init_stack; got {type(params).__name__}"
        )
    if not isinstance(params.layers, tuple | list) or not params.layers:
        raise ValueError("`params.layers` must hold at least one layer")
    if not all(isinstance(layer, tuple | list) and len(layer) in (1, 2) for layer in params.layers):
        raise ValueError("`params.layers` must be ((forward[, reverse]), ...), one per layer")


def check_tree(name, tree, layers):
    """One entry per layer and direction."""
    if tree is None and name != "states":
        return

    def count(entries):
        bare = not isinstance(entries, tuple | list) or hasattr(entries, "_fields")
        return type(entries).__name__ if bare else len(entries)

    outer = count(tree)
    got = [count(layer) for layer in tree or ()] if isinstance(outer, int) else outer
    want = [len(layer) for layer in layers]
    if got != want:
        raise ValueError(
            f"`{name}` must be ((forward[, reverse]), ...) with {want} direction(s) per layer, as "
            f"params.layers; got {got}. See jax_lstm.init_stack_state"
        )


def check_states(states):
    """NamedTuples of arrays with features."""
    for n, layer in enumerate(states):
        for d, state in enumerate(layer):
            leaves = jax.tree.leaves(state)
            if not leaves or not all(is_array(x) and x.ndim for x in leaves):
                raise ValueError(
                    f"`states[{n}][{d}]` must be a state of the cell, arrays (..., H); got "
                    f"{type(state).__name__} (in layer {n + 1}, {DIRECTIONS[d]} direction)"
                )


def check_takes(sequence, given):
    """Whether the sequence has the options that this stack hands to it."""
    parameters = inspect.signature(sequence).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    lacking = ", ".join(f"`{name}`" for name in given if name not in parameters)
    if lacking:
        name = getattr(sequence, "__name__", sequence)
        raise ValueError(
            f"`sequence`, here {name}, must take {lacking}; one step runs a stack in one direction"
        )


def is_step(sequence):
    """Whether it is one step of a cell, which takes resets and knows no lengths."""
    parameters = inspect.signature(sequence).parameters
    return "resets" in parameters and "lengths" not in parameters


def check_skip(skip):
    if not (skip is None or isinstance(skip, str)) or skip not in SKIPS:
        refuse("skip", '"inputs", "outputs", "both" or None', skip)


def per_layer(name, value, L, allowed):
    """One value for every layer, or a tuple with one per layer."""
    values = tuple(value) if isinstance(value, tuple | list) else (value,) * L
    values = tuple(bool(v) if isinstance(v, np.bool) else v for v in values)
    kind = type(allowed[0])  # 0.0 is not False, and an array is neither
    if len(values) != L or any(not isinstance(v, kind) or v not in allowed for v in values):
        words = ", ".join(repr(a) for a in allowed)
        raise ValueError(
            f"`{name}` must be one of {words}, or a tuple of {L}; got {describe(value)}"
        )
    return values
