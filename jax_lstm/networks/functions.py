"""`stack`, as a type checker sees it: its options are explained in stack.py.

What comes back follows from two options: `every` adds a third part, and the merge "pair" of the top
layer leaves two arrays.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias, TypedDict, Unpack, overload

import jax
from jax.typing import ArrayLike

from jax_lstm.networks.sizes import StackParams
from jax_lstm.notation import ArrayOrList, Tree

Joined: TypeAlias = Literal["concat", "sum", "mean", "product"]
Merge: TypeAlias = Literal[Joined, "pair"]
Skip: TypeAlias = Literal["inputs", "outputs", "both"]
Layers: TypeAlias = tuple[tuple[Tree, ...], ...]  # [l][direction]
AnyLayers: TypeAlias = Sequence[Sequence[Tree]]


class StackOptions(TypedDict, total=False):
    sequence: Callable[..., Tree] | None
    residual: bool | Sequence[bool]
    skip: Skip | None
    between: Sequence[jax.Array | None] | None
    beside: AnyLayers | None
    consts: AnyLayers | None
    lengths: ArrayOrList | None
    mask: ArrayOrList | None
    resets: ArrayOrList | None
    reset_states: AnyLayers | None


class StackFunction(Protocol):
    """Layers of sequences, see `jax_lstm.stack`."""

    @overload
    def __call__(
        self,
        params: StackParams,
        states: AnyLayers,
        xs: ArrayLike,
        *,
        merge: Joined | Sequence[Joined] = "concat",
        every: Literal[False] = False,
        **options: Unpack[StackOptions],
    ) -> tuple[Layers, jax.Array]: ...
    @overload
    def __call__(
        self,
        params: StackParams,
        states: AnyLayers,
        xs: ArrayLike,
        *,
        merge: Joined | Sequence[Joined] = "concat",
        every: Literal[True],
        **options: Unpack[StackOptions],
    ) -> tuple[Layers, jax.Array, Layers]: ...
    @overload
    def __call__(
        self,
        params: StackParams,
        states: AnyLayers,
        xs: ArrayLike,
        *,
        merge: Merge | Sequence[Merge] = "concat",
        every: bool = False,
        **options: Unpack[StackOptions],
    ) -> tuple[Tree, ...]: ...
