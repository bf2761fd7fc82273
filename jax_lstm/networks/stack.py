"""LAYERS: sequences on top of each other, in one direction or in two. Composition only.

    y^0 = x        y^l = merge(sequence(y^{l-1}), sequence in reverse order of time(y^{l-1}))

This file knows no gate. The sequence function comes in as an argument, by hand or by JAX, and its
derivative comes with it. What stands between layers (sums, means, products, concatenations, masks,
learnt initial states) are stages with twins, see joints.py; JAX is left with the chain
rule from one piece to the next, and with the sum (F') where an array has several readers.

The parameters of a layer are a tuple, (forward,) or (forward, reverse), so that the numbers of
layers and of directions are read off the tree. States have the same form: layers first, forward
before reverse, as in torch. Streams run a one-way stack, in pieces of any length, or step by step
with `sequence=lstm_cell`.

Sources: Schuster & Paliwal (1997) for two directions, Graves (2013) for skip connections, Wu et al.
(2016) for residual ones, Peters et al. (2018) for two directions that stay apart.
"""

from collections.abc import Callable, Sequence
from typing import cast

import jax
import jax.numpy as jnp

from jax_lstm.cells.lstm import init_lstm, init_lstm_state, lstm, lstm_autodiff
from jax_lstm.doors import (
    check_flag,
    check_function,
    check_key,
    check_shape,
    check_size,
    refuse,
)
from jax_lstm.engine import doors, routes
from jax_lstm.networks.functions import Layers, Merge, Skip, StackFunction
from jax_lstm.networks.joints import BY_HAND, BY_JAX, Joints
from jax_lstm.networks.sizes import (
    DIRECTIONS,
    MERGES,
    StackParams,
    check_params,
    check_sizes,
    check_skip,
    check_states,
    check_takes,
    check_tree,
    input_sizes,
    is_step,
    of,
    output_sizes,
    per_layer,
)
from jax_lstm.notation import Tree


def init_stack(
    key: jax.Array,
    input_size: int,
    hidden_sizes: Sequence[int],
    *,
    init: Callable[..., Tree] = init_lstm,
    init_state: Callable[..., Tree] = init_lstm_state,
    bidirectional: bool | Sequence[bool] = False,
    merge: Merge | Sequence[Merge] = "concat",
    residual: bool | Sequence[bool] = False,
    skip: Skip | None = None,
    learn_initial: bool = False,
) -> StackParams:
    """Parameters of layers that fit together; the options are those that `stack` will get.

    Args:
      key: a key of `jax.random.key`.
      input_size: D.
      hidden_sizes: H of each layer, lowest first: their number is the number of layers.
      init: `(key, D, H) -> params` of the cell. Its options, dtype among them, by
        `functools.partial`, as R of the LSTMP: `lambda key, D, H: init_lstmp(key, D, H, R)`.
      init_state: `(params, batch_shape) -> state` of the cell; it tells the size of h.
      bidirectional: for all layers, or one bool per layer.
      merge, residual, skip: see `stack`.
      learn_initial: whether the initial states are parameters; they start at zero.

    Returns:
      StackParams.

    Raises:
      ValueError: options, or sizes that do not fit together.

    Source: this file's.
    """
    check_key("key", key)
    input_size = check_size("input_size", input_size, 1)
    want = "a tuple with H of each layer, whole numbers >= 1"
    hidden_sizes = check_shape("hidden_sizes", hidden_sizes, want)
    if not hidden_sizes or 0 in hidden_sizes:
        refuse("hidden_sizes", want, hidden_sizes)
    L = len(hidden_sizes)
    check_function("init", init, 3)
    check_function("init_state", init_state, 2)
    check_flag("learn_initial", learn_initial)
    merges = per_layer("merge", merge, L, tuple(MERGES))
    residuals = per_layer("residual", residual, L, (False, True))
    both = per_layer("bidirectional", bidirectional, L, (False, True))
    check_skip(skip)
    below, layers, initial = (input_size,), [], []
    for n, H in enumerate(hidden_sizes):
        directions = 2 if both[n] else 1
        inputs = input_sizes(n, below, input_size, skip)
        keys = jax.random.split(jax.random.fold_in(key, n), directions)
        layer = tuple(init(k, inputs[min(d, len(inputs) - 1)], H) for d, k in enumerate(keys))
        states = tuple(init_state(params, ()) for params in layer)
        outputs = [state[0].shape[-1] for state in states]
        below = output_sizes(n, below, outputs, merges[n], residuals[n])
        layers.append(layer)
        initial.append(states)
    return StackParams(tuple(layers), tuple(initial) if learn_initial else None)


def _init_stack_state(
    joints: Joints,
    params: StackParams,
    batch_shape: Sequence[int] = (),
    *,
    init_state: Callable[..., Tree] = init_lstm_state,
) -> Layers:
    """A function of `params.initial`: what is learnt gets its gradient, summed over examples.

    Args:
      params: StackParams.
      batch_shape: of the examples, say (B,).
      init_state: `(params, batch_shape) -> state` of the cell.

    Returns:
      states[l][direction], fields (*batch_shape, H).

    Raises:
      ValueError: no StackParams; a batch_shape that is no tuple.
    """
    check_params(params)
    batch_shape = check_shape("batch_shape", batch_shape)
    check_function("init_state", init_state, 2)
    if params.initial is None:
        return tuple(tuple(init_state(p, batch_shape) for p in layer) for layer in params.layers)
    return jax.tree.map(lambda x: joints.repeat(x, batch_shape), params.initial)


def _stack(
    joints,
    usual,
    params,
    states,
    xs,
    *,
    sequence=None,
    merge="concat",
    residual=False,
    skip=None,
    between=None,
    beside=None,
    consts=None,
    lengths=None,
    mask=None,
    resets=None,
    reset_states=None,
    every=False,
):
    """Cotangents are accepted for every output and returned for params, states and xs.

        params = init_stack(key, D, (H, H), bidirectional=True)
        states = init_stack_state(params, (B,))
        states, hs = stack(params, states, xs, lengths=lengths)                # hs (T, B, 2H)

    Zoneout and recurrent dropout in every layer and direction: a cell made of the cell, and masks
    drawn outside, before the loop.

        cell = zoneout(recurrent_dropout(LSTM))
        sequence, sequence_autodiff = make_rnn(cell)
        kept = zoneout_masks(key_zoneout, (0.05, 0.5), states, T, train=True)     # of h and of c
        dropped = recurrent_dropout_masks(key_dropout, 0.3, states)
        states, hs = stack(params, states, xs, sequence=sequence, beside=kept, consts=dropped)

    Args:
      params: StackParams, see `init_stack`.
      states: states[l][direction], given or from `init_stack_state`; for a layer's reverse
        direction the state before its first step, which is the last one in time.
      xs: (T, ..., D); (..., D) if `sequence` is one step.
      sequence: `(params, state, xs, **options) -> (state, hs)`: of any cell, hand-written or
        `..._autodiff`, with its own options by `jax_lstm.partial(lstm, residuals="auto")`. Only
        options that are given reach it, and `reverse=True` for the reverse direction. If None,
        `lstm`, and in `stack_autodiff` its twin.
      merge: what two directions hand on: "concat", "sum", "mean" or "product" on the features, or
        a "pair", where each direction of the next layer reads its own. One for all layers, or a
        tuple with one per layer: ("concat", "pair").
      residual: add a layer's input to its output, before `between` touches it. A bool, or one per
        layer: (False, True, True).
      skip: "inputs": every layer also reads xs, after the features from below; "outputs": hs are
        those of all layers, side by side; or "both".
      between: L - 1 arrays (or None) that the inputs of layers 2 to L are multiplied by, dtype of
        xs, broadcastable to that input: dropout masks, drawn outside. See `jax_lstm.dropout_mask`.
        They are constants: zero cotangents.
      beside: beside[l][direction], what the cell reads beside its features at every step, time
        first: its xs are then the pair (features, beside[l][direction]). For `zoneout` its masks.
      consts: consts[l][direction], what the cell wants to see at every step. For
        `recurrent_dropout` its mask.
      lengths, mask: see `jax_lstm.lstm`; xs is cleared in padding, before anything reads it. The
        reverse direction starts at each example's own end.
      resets: booleans (T, ...), or 0 and 1, as `jax_lstm.lstm` takes them: an episode starts at
        this step, in both directions: the reverse one is reset when it leaves the episode, which is
        one step earlier in time. Also beyond `lengths`: there it replaces what the reverse
        direction starts from; pass resets & valid.
      reset_states: like states: where `resets` lead to; zeros if not given.
      every: also return what each layer's sequence returned beside its state.

    Returns:
      states: the states after the last step of each direction; a one-way stack carries on there.
      hs: the top layer's outputs, (T, ..., features); a pair of them after the merge "pair".
      every: if asked for, every[l][direction]: hs (T, ..., H) before any merge; with
        `sequence=make_states(cell)` its States, with every state and gate too.

    Raises:
      ValueError: options, numbers of states, or sizes that do not fit, before tracing; it names the
        layer and the direction.

    Source: this file's.
    """
    check_params(params)
    L = len(params.layers)
    sequence = usual if sequence is None else sequence
    check_function("sequence", sequence, 3)
    check_flag("every", every)
    merge = per_layer("merge", merge, L, MERGES)
    residual = per_layer("residual", residual, L, (False, True))
    check_skip(skip)
    trees = {"states": states, "beside": beside, "consts": consts, "reset_states": reset_states}
    for name, tree in trees.items():
        check_tree(name, tree, params.layers)
    check_states(states)
    check_sizes(states, xs, merge, residual, skip, between)
    if any(len(layer) > 1 for layer in params.layers):
        doors.check_forward("sequence", sequence)
    T, *batch = xs.shape[:-1] or (1,)  # one step of one example
    time, rest = ((), xs.shape[:-1]) if is_step(sequence) else ((T,), batch)
    resets = doors.check_resets(resets, time, rest)
    valid = doors.valid_steps(lengths, mask, T, batch)
    xs = xs if valid is None else joints.clear(valid, xs)
    options = {"lengths": lengths, "mask": mask}

    def direction(n, d, inputs):
        more = options | {
            "resets": ends_of_episodes(resets) if d else resets,
            "reset_state": reset_states and reset_states[n][d],
            "consts": consts and consts[n][d],
            "reverse": True if d else None,
        }
        given = {name: value for name, value in more.items() if value is not None}
        if beside is not None and beside[n][d] is not None:
            inputs = (inputs, beside[n][d])
        try:
            check_takes(sequence, given)
            return sequence(params.layers[n][d], states[n][d], inputs, **given)
        except ValueError as error:
            where = f"layer {n + 1} of {L}, {DIRECTIONS[d]} direction"
            fits = "; `merge` and `skip` must be those of init_stack" if n > 0 else ""
            if str(error).startswith("`state"):
                fits += "; `init_state` of init_stack_state must be the cell's"
            raise ValueError(f"{error} (in {where}{fits})") from error

    below, levels, lasts, outputs = (xs,), [], [], []
    for n, layer in enumerate(params.layers):
        inputs = below
        if n > 0 and skip in ("inputs", "both"):
            inputs = tuple(joints.concatenate(x, xs) for x in inputs)
        if n > 0 and between is not None and between[n - 1] is not None:
            inputs = tuple(joints.drop(x, between[n - 1]) for x in inputs)
        came_out = [direction(n, d, of(inputs, d)) for d in range(len(layer))]
        lasts_of_layer, outputs_of_layer = zip(*came_out, strict=True)
        hs = merge_directions(joints, merge[n], tuple(first(y) for y in outputs_of_layer))
        around = tuple(of(below, d) for d in range(len(hs)))
        below = tuple(map(joints.add, hs, around)) if residual[n] else hs
        levels.append(below)
        lasts.append(lasts_of_layer)
        outputs.append(outputs_of_layer)
    if skip in ("outputs", "both"):
        below = tuple(joints.concatenate(*hs) for hs in zip(*levels, strict=True))
    hs = below if len(below) == 2 else below[0]
    return (tuple(lasts), hs, tuple(outputs)) if every else (tuple(lasts), hs)


def merge_directions(joints, merge, hs):
    """What a layer hands on: one array, or one for each direction of the next layer."""
    if len(hs) == 1 or merge == "pair":
        return hs
    join = {
        "concat": joints.concatenate,
        "sum": joints.add,
        "mean": joints.mean,
        "product": joints.product,
    }
    return (join[merge](*hs),)


def first(outputs):
    """The outputs, or the first field of States."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def ends_of_episodes(resets):
    """True at t where an episode starts at t + 1: there the reverse direction enters an episode."""
    if resets is None:
        return None
    return jnp.concatenate([resets[1:], jnp.zeros_like(resets[:1])])


STACK, STATES = "Layers of sequences.", "The states before the first step: learnt, or zeros."
stack = cast(
    StackFunction,
    routes.bind(_stack, (BY_HAND, lstm), "stack", f"{STACK} Differentiated by hand-written rules."),
)
stack_autodiff = cast(
    StackFunction,
    routes.bind(
        _stack, (BY_JAX, lstm_autodiff), "stack_autodiff", f"{STACK} Differentiated by JAX."
    ),
)
init_stack_state = routes.bind(_init_stack_state, (BY_HAND,), "init_stack_state", STATES)
init_stack_state_autodiff = routes.bind(
    _init_stack_state, (BY_JAX,), "init_stack_state_autodiff", f"{STATES} Differentiated by JAX."
)
