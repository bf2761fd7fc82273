"""What a rule must survive: jit, remat, a second derivative; vmap, scan, shard_map and padding
where somebody says which axis, which carry and which padding.

Each is a pair of programs that must return the same numbers: (name, under it, without it). What
raises is told with its words; whether that counts is the question's own: `must`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from jax_lstm.referee.asked import Asked, floats, total
from jax_lstm.referee.ladder import moved, offsets

STEPS = 3  # of a scan
OTHER = 1.0625  # times the arguments, for a second example of vmap; exact in every dtype


class Twice(NamedTuple):
    """Two programs of (leaves, dy) that must agree.

    names: of what they return. must: whether what raises is wrong, and not only told.
    """

    name: str
    under: Callable[..., Any]
    plain: Callable[..., Any]
    names: tuple[str, ...]
    must: bool


def cotangents(function, leaves, dys):
    """Of leaves, a list, by a function that returns a list."""
    _, vjp = jax.vjp(function, list(leaves))
    return vjp([jnp.asarray(dy) for dy in dys])[0]


def drawn(function, leaves, seed):
    """Fixed cotangents in the shapes of what a function returns."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(function, leaves)
    return [np.asarray(rng.standard_normal(y.shape)).astype(y.dtype) for y in shapes]


def always(asked: Asked):
    """What needs no word of the caller's."""
    whole = asked.questions[0]
    plain = lambda leaves, dy: asked.cotangents(leaves, whole, dy)

    def remat(leaves, dy):
        return asked.cotangents(leaves, whole, dy, jax.checkpoint(asked.f))

    def one_at_a_time(leaves, dy):
        found = []
        for n, leaf in enumerate(leaves):

            def alone(x, n=n):
                return asked.outputs([*leaves[:n], x, *leaves[n + 1 :]])

            found.append(jax.vjp(alone, leaf)[1]([jnp.asarray(x) for x in dy])[0])
        return found

    yield Twice("remat", remat, plain, asked.names, True)
    if len(asked.leaves) > 1:
        yield Twice("one argument at a time", one_at_a_time, plain, asked.names, True)


def second(asked: Asked, rng, steps):
    """(d/ds <u, g(x + s w)> by JAX, and the values at all steps): the derivative of the rule."""
    whole, dy = asked.questions[0], asked.dys[0]
    draw = lambda x: np.asarray(rng.standard_normal(x.shape)).astype(x.dtype)
    u = [draw(x) for x in asked.leaves]
    w = np.concatenate([np.asarray(draw(x), np.float64).reshape(-1) for x in asked.leaves])
    w /= max(np.linalg.norm(w), 1e-30)

    def number(leaves):
        g = asked.cotangents(leaves, whole, dy)
        return sum((total(a, b) for a, b in zip(u, g, strict=True)), start=jnp.zeros(()))

    def by_jax(leaves):
        parts = jnp.split(jnp.asarray(w), np.cumsum([x.size for x in leaves])[:-1])
        g = jax.grad(number)(list(leaves))
        return sum(
            (total(p.reshape(x.shape), x) for p, x in zip(parts, g, strict=True)),
            start=jnp.zeros(()),
        )

    def by_values(leaves):
        return jax.lax.map(lambda s: number(moved(leaves, s * w)), jnp.asarray(offsets(steps)))

    return by_jax, by_values


# Where the caller says more -------------------------------------------------------------------


def axes_of(args, batch):
    """The axis of examples of every floating-point leaf, None where it has none."""
    found = []
    for arg, axis in zip(args, batch, strict=True):
        found += [axis] * len(floats(arg))
    return found


def under_vmap(asked: Asked, axes):
    """Two examples at once, and one after the other."""
    mapped = [None if axis is None else 0 for axis in axes]

    def pairs(leaves):
        return [
            x if a is None else jnp.stack([jnp.asarray(x), OTHER * x])
            for x, a in zip(leaves, mapped, strict=True)
        ]

    def at_once(leaves):
        return jax.vmap(lambda *leaves: asked.outputs(leaves), in_axes=tuple(mapped))(*leaves)

    def each(leaves):
        one = lambda k: [x if a is None else x[k] for x, a in zip(leaves, mapped, strict=True)]
        ys = [asked.outputs(one(k)) for k in range(2)]
        return [jnp.stack(y) for y in zip(*ys, strict=True)]

    def of(function):
        def answer(leaves, dy):
            two = pairs(leaves)
            return cotangents(function, two, [jnp.stack([x, -2 * x]) for x in dy])

        return answer

    return Twice("vmap", of(at_once), of(each), asked.names, True)


def under_scan(asked: Asked, carry):
    """A few steps of f by lax.scan, and by a loop of Python."""
    argument, output = carry

    def step(args, state):
        y = asked.f(*[state if n == argument else arg for n, arg in enumerate(args)])
        new, rest = (y, ()) if output is None else (y[output], (*y[:output], *y[output + 1 :]))
        return jax.tree.map(lambda a, b: b.astype(jnp.asarray(a).dtype), state, new), floats(rest)

    def scanned(leaves):
        args = asked.rebuild(leaves)
        state = jax.tree.map(jnp.asarray, args[argument])
        last, ys = jax.lax.scan(lambda s, _: step(args, s), state, None, length=STEPS)
        return floats(last) + ys

    def looped(leaves):
        args, every = asked.rebuild(leaves), []
        state = jax.tree.map(jnp.asarray, args[argument])
        for _ in range(STEPS):
            state, rest = step(args, state)
            every.append(rest)
        return floats(state) + [jnp.stack(y) for y in zip(*every, strict=True)]

    dys: list[Any] = []

    def of(function):
        def answer(leaves, dy):
            dys[:] = dys or drawn(looped, leaves, 0)
            return cotangents(function, leaves, dys)

        return answer

    return Twice("scan", of(scanned), of(looped), asked.names, True)


def output_axes(f, args, batch):
    """The axis of examples of every floating-point output, by doubling the examples."""

    def shapes(times):
        def grown(arg, axis):
            if axis is None:
                return arg
            longer = lambda x: tuple(
                n * times if k == axis % x.ndim else n for k, n in enumerate(x.shape)
            )
            return jax.tree.map(lambda x: jax.ShapeDtypeStruct(longer(x), x.dtype), arg)

        args_of = [grown(arg, axis) for arg, axis in zip(args, batch, strict=True)]
        return floats(jax.eval_shape(f, *args_of))

    found = []
    for one, two in zip(shapes(1), shapes(2), strict=True):
        differ = [k for k, (a, b) in enumerate(zip(one.shape, two.shape, strict=True)) if a != b]
        found.append(differ[0] if differ else None)
    return found


def under_shard_map(asked: Asked, args, batch):
    """The examples split over the devices that are there.

    Raises:
      ValueError: an output has no axis of examples.
    """
    ends = output_axes(asked.f, args, batch)
    if None in ends:
        raise ValueError("an output has no axis of examples: what the devices return would differ")
    axes = axes_of(args, batch)
    examples = next(x.shape[a] for x, a in zip(asked.leaves, axes, strict=True) if a is not None)
    count = max(n for n in range(1, jax.device_count() + 1) if examples % n == 0)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:count]), ("examples",))

    def spec(axis, ndim):
        here = None if axis is None else axis % ndim
        return PartitionSpec(*("examples" if k == here else None for k in range(ndim)))

    flat, structure = jax.tree.flatten(tuple(args))
    where = [a for arg, a in zip(args, batch, strict=True) for _ in jax.tree.leaves(arg)]
    inside = tuple(spec(a, np.ndim(x)) for x, a in zip(flat, where, strict=True))
    outside = [spec(a, y.ndim) for a, y in zip(ends, asked.dys[0], strict=True)]
    whole = asked.questions[0]

    def f(*flat):
        return floats(asked.f(*jax.tree.unflatten(structure, flat)))

    def under(leaves, dy):
        split = jax.shard_map(f, mesh=mesh, in_specs=inside, out_specs=outside)
        function = lambda *args: split(*jax.tree.leaves(args))
        return asked.cotangents(leaves, whole, dy, function)

    plain = lambda leaves, dy: asked.cotangents(leaves, whole, dy)
    return Twice(f"shard_map over {count}", under, plain, asked.names, False)


def under_padding(asked: Asked, args, mask):
    """NaN where there is padding, and zeros; outputs that NaN reaches get no cotangent."""
    masks = []
    for arg, known in zip(args, mask, strict=True):
        masks += [known] * len(floats(arg))

    def fill(leaves, value):
        found = []
        for x, known in zip(leaves, masks, strict=True):
            if known is None:
                found.append(x)
                continue
            known = jnp.asarray(known)
            wide = known.reshape(known.shape + (1,) * (np.ndim(x) - known.ndim))
            found.append(jnp.where(wide, x, jnp.full_like(x, value)))
        return found

    def of(value):
        def answer(leaves, dy):
            seen = [jnp.isfinite(y) for y in asked.outputs(fill(leaves, jnp.nan))]
            known = [jnp.where(s, d, jnp.zeros_like(d)) for s, d in zip(seen, dy, strict=True)]
            return cotangents(asked.outputs, fill(leaves, value), known)

        return answer

    return Twice("NaN in padding", of(jnp.nan), of(0.0), asked.names, True)
