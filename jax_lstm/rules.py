"""A FUNCTION AND ITS RULE: `jax.custom_vjp`, whichever of two JAX means by it.

With the flag `jax_custom_vjp3` it is another one, made when `jax_lstm` is imported: of symbolic
zeros it has no tangent, and it counts tangents by argument where it should count them by leaf. Both
would stop `jax.checkpoint`. It is therefore given leaves, and asked for no zeros.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.custom_derivatives import custom_vjp_primal_tree_values


def with_rule(
    function: Callable[..., Any],
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    static: tuple[int, ...] = (),
    symbolic_zeros: bool = False,
) -> Callable[..., Any]:
    """The function, differentiated by its rule whenever JAX asks for a reverse-mode derivative.

    Args:
      function: of trees of arrays, and of what is static.
      forward: of the same, to (output, residual).
      backward: `(*static, residual, dy)` to a cotangent per argument that is not static; None where
        there is none.
      static: places of the arguments that are static, in order.
      symbolic_zeros: whether the backward can do with a symbolic zero where nobody looks at an
        output.
    """
    ruled = jax.custom_vjp(function, nondiff_argnums=static)
    if not isinstance(ruled, jax.custom_vjp):
        return leaf_by_leaf(function, forward, backward, static)

    def forward_of_values(*args):  # JAX says of every leaf whether somebody differentiates by it
        values = custom_vjp_primal_tree_values
        return forward(*(x if n in static else values(x) for n, x in enumerate(args)))

    first = forward_of_values if symbolic_zeros else forward
    ruled.defvjp(first, backward, symbolic_zeros=symbolic_zeros)
    return ruled


def leaf_by_leaf(function, forward, backward, static):
    """`with_rule` for the custom_vjp to come; a rule per value of what is static."""

    @functools.cache
    def rule(fixed, tree):
        def arguments(leaves):
            args = tree.unflatten(leaves)
            for place, value in zip(static, fixed, strict=True):
                args.insert(place, value)
            return args

        def back(residual, dy):
            every = tree.unflatten([0] * tree.num_leaves)
            found = list(backward(*fixed, residual, dy))
            found = jax.tree.broadcast(found, every, is_leaf=lambda x: x is None)
            return tuple(tree.flatten_up_to(found))

        ruled = jax.custom_vjp(lambda *leaves: function(*arguments(leaves)))
        ruled.defvjp(lambda *leaves: forward(*arguments(leaves)), back)
        return ruled

    @functools.wraps(function)
    def call(*args):
        fixed = tuple(args[n] for n in static)
        leaves, tree = jax.tree.flatten([x for n, x in enumerate(args) if n not in static])
        return rule(fixed, tree)(*leaves)

    return call
