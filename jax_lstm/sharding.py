"""Arrays on many devices: they differ under `jax.shard_map`, and are split over axes of a mesh."""

import contextlib
import contextvars
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
from jax.sharding import NamedSharding, PartitionSpec

Result = TypeVar("Result")


def vary_together(tree):
    """Give every array of the tree the same varying axes, for use under `jax.shard_map`.

    A hand-written rule returns a cotangent per device for a weight that all devices share. Here the
    weight becomes varying first; the transpose of that broadcast is the psum of dW. Outside of
    `shard_map` nothing is traced.
    """
    axes = set().union(*(varying_axes(leaf) for leaf in jax.tree.leaves(tree)))

    def vary(leaf):
        missing = tuple(sorted(axes - varying_axes(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(vary, tree) if axes else tree


def varying_axes(x):
    """Mesh axes over which x differs from device to device; JAX renamed the attribute once."""
    kind = jax.typeof(x)
    return kind.vma if hasattr(kind, "vma") else kind.manual_axis_type.varying


# Axes that JAX calls Explicit --------------------------------------------------------------------


def explicit_mesh(tree):
    """The mesh that arrays of the tree are split over by their type, or None."""
    for leaf in jax.tree.leaves(tree):
        mesh = jax.typeof(leaf).sharding.mesh
        if not mesh.empty and mesh.explicit_axes:
            return mesh
    return None


def everywhere(x, axes):
    """Where something with so many axes is whole on every device of x; None: JAX knows that."""
    mesh = explicit_mesh(x)
    return None if mesh is None else NamedSharding(mesh, PartitionSpec(*[None] * axes))


def may_be_split(x):
    """Whether axes of x may be split over devices where x is used: not where there is one device,
    not within `jax.shard_map` over all axes of a mesh, and not within `on_one_device`."""
    mesh = jax.typeof(x).sharding.mesh
    manual = not mesh.empty and set(mesh.manual_axes) == set(mesh.axis_names)
    return jax.device_count() > 1 and not manual and not WHOLE.get()


WHOLE = contextvars.ContextVar("WHOLE", default=False)


@contextlib.contextmanager
def on_one_device(yes: bool = True):
    """What is traced within has its arrays on one device each, though JAX knows of several; or may
    have them split, as usual."""
    token = WHOLE.set(yes)
    try:
        yield
    finally:
        WHOLE.reset(token)


def over_auto_axes(
    function: Callable[..., Result], state: Any, steps: Any, outputs: Callable[..., Any]
) -> Callable[..., Result]:
    """The function of arrays, for which Explicit axes of their mesh are Auto axes: what is where is
    XLA's choice inside, and said again of what comes out.

    Args:
      function: of some arrays, state and steps among them.
      state: (..., H) per leaf.
      steps: (T, ..., D) per leaf, time first; a batch split here or there is split in all outputs.
      outputs: `outputs(of_state, of_steps)`: the tree of what comes out, where `of_state(state)`
        are the places of a state, and `of_steps` is that of whatever has time first.
    """
    mesh = explicit_mesh((state, steps))
    if mesh is None:
        return function
    batch = jax.tree.leaves(state)[0].ndim - 1
    specs = [jax.typeof(x).sharding.spec for x in jax.tree.leaves(steps)]
    time = next((spec[0] for spec in specs if len(spec) and spec[0] is not None), None)
    specs = [spec[1:] for spec in specs]
    specs += [jax.typeof(x).sharding.spec for x in jax.tree.leaves(state)]
    split = [next((s[n] for s in specs if len(s) > n and s[n]), None) for n in range(batch)]

    def of_state(state):
        def place(x):
            own = jax.typeof(x).sharding.spec
            rest = [None if name in split else name for name in own[batch:]]
            return NamedSharding(mesh, PartitionSpec(*split, *rest))

        return jax.tree.map(place, state)

    of_steps = NamedSharding(mesh, PartitionSpec(time, *split))
    places = outputs(of_state, of_steps)
    run = jax.sharding.auto_axes(function, axes=mesh.explicit_axes, out_sharding=places)
    return cast(Callable[..., Result], run)
