"""Arrays that differ from device to device, under `jax.shard_map`."""

import jax


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
