"""What people call, as a type checker sees it: the functions that routes.py makes of a cell.

Their parameters are those of `run_cell`, `step_cell` and `init_state`, where they are explained;
a test compares the two. `Params` and `State` are the cell's own NamedTuples, read off its record.
An h that is no array, but a pytree, is the business of whoever wrote such a cell.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import jax

from jax_lstm.engine.cell import Params, State
from jax_lstm.notation import ArrayOrList, ArrayOrTree, Tree

P_contra = TypeVar("P_contra", contravariant=True)
P = TypeVar("P")
S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)
S_co = TypeVar("S_co", covariant=True)
X = TypeVar("X")
X_contra = TypeVar("X_contra", contravariant=True)
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)

Residuals: TypeAlias = Literal["full", "auto", "log"] | int
Unroll: TypeAlias = Literal["auto"] | int


class RunFunction(Protocol[P_contra, S_contra, Result_co]):
    """A cell over a whole sequence and what comes of it; for the options see `jax_lstm.lstm`."""

    def __call__(
        self,
        params: P_contra,
        state: S_contra,
        xs: ArrayOrTree,
        *,
        consts: Tree = None,
        lengths: ArrayOrList | None = None,
        mask: ArrayOrList | None = None,
        resets: ArrayOrList | None = None,
        reset_state: S_contra | None = None,
        reverse: bool = False,
        residuals: Residuals = "full",
        unroll: Unroll = 1,
        sort: bool = False,
    ) -> Result_co: ...


SequenceFunction: TypeAlias = RunFunction[Params, State, tuple[State, jax.Array]]


class TangentFunction(Protocol[P_contra, S]):
    """A cell over a whole sequence and its derivative along a direction, see `make_jvp`."""

    def __call__(
        self,
        params: P_contra,
        state: S,
        xs: ArrayOrTree,
        tangents: tuple[Any, ...],
        *,
        consts: Tree = None,
        lengths: ArrayOrList | None = None,
        mask: ArrayOrList | None = None,
        resets: ArrayOrList | None = None,
        reset_state: S | None = None,
        reverse: bool = False,
        residuals: Residuals = "full",
        unroll: Unroll = 1,
    ) -> tuple[tuple[S, jax.Array], tuple[S, jax.Array]]: ...


class StepFunction(Protocol[P_contra, S]):
    """One step of a cell, see `jax_lstm.lstm_cell`."""

    def __call__(
        self,
        params: P_contra,
        state: S,
        x: ArrayOrTree,
        *,
        consts: Tree = None,
        resets: ArrayOrList | None = None,
        reset_state: S | None = None,
    ) -> tuple[S, jax.Array]: ...


class InitState(Protocol[P_contra, S_co]):
    """The state before the first step, see `jax_lstm.init_lstm_state`."""

    def __call__(self, params: P_contra, batch_shape: Sequence[int] = ()) -> S_co: ...
