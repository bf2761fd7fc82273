"""Every transform of JAX over the hand-written rules, equal to the same over autodiff."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

import jax_lstm as jl
from tests.tables import CELLS, assert_close, normal_like, problem

SIZE = (4, 2, 2, 3)


def loss_of(sequence, **options):
    def loss(params, state, xs):
        last, hs = sequence(params, state, xs, **options)
        total = sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(last))
        return total + jnp.sum(jnp.cos(hs) * jnp.arange(hs.size, dtype=hs.dtype).reshape(hs.shape))

    return loss


def flat(loss, args):
    leaves, tree = jax.tree.flatten(args)
    sizes = [leaf.size for leaf in leaves]

    def of_vector(v):
        parts = jnp.split(v, [sum(sizes[: n + 1]) for n in range(len(sizes) - 1)])
        shaped = [p.reshape(leaf.shape) for p, leaf in zip(parts, leaves, strict=True)]
        return loss(*jax.tree.unflatten(tree, shaped))

    return of_vector, jnp.concatenate([leaf.reshape(-1) for leaf in leaves])


def jit_(loss, args):
    return jax.jit(jax.grad(loss, (0, 1, 2)))(*args)


def vmap_(loss, args):
    params, state, xs = args
    return jax.vmap(loss, in_axes=(None, 0, 1))(params, state, xs)


def vmap_of_grad(loss, args):
    params, state, xs = args
    return jax.vmap(jax.grad(loss, (0, 1, 2)), in_axes=(None, 0, 1))(params, state, xs)


def vmap_over_params(loss, args):
    params, state, xs = args
    many = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)
    return jax.vmap(jax.grad(loss, (0, 1, 2)), in_axes=(0, None, None))(many, state, xs)


def grad_of_grad(loss, args):
    f, v = flat(loss, args)
    return jax.grad(lambda v: jnp.sum(jnp.sin(jax.grad(f)(v))))(v)


def hvp(loss, args):
    """Forward over reverse."""
    f, v = flat(loss, args)
    return jax.jvp(jax.grad(f), (v,), (normal_like(3, v),))


def hessian(loss, args):
    f, v = flat(loss, args)
    return jax.hessian(f)(v)


def checkpoint(loss, args):
    return jax.grad(jax.checkpoint(loss), (0, 1, 2))(*args)


def inside_scan(loss, args):
    params, state, xs = args

    def total(params, state, xs):
        def body(acc, x):
            return acc + loss(params, state, x), None

        return jax.lax.scan(body, 0.0, jnp.stack([xs, 2 * xs]))[0]

    return jax.grad(total, (0, 1, 2))(params, state, xs)


TRANSFORMS = [
    jit_,
    vmap_,
    vmap_of_grad,
    vmap_over_params,
    grad_of_grad,
    hvp,
    hessian,
    checkpoint,
    inside_scan,
]


@pytest.mark.parametrize("residuals", ["full", 2], ids=str)
@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("cell", CELLS)
def test_transform(cell, transform, residuals):
    row = CELLS[cell]
    args = problem(row, SIZE)
    got = jax.jit(lambda args: transform(loss_of(row.sequence, residuals=residuals), args))(args)
    want = jax.jit(lambda args: transform(loss_of(row.sequence_autodiff), args))(args)
    assert_close(got, want)


@pytest.mark.parametrize("transform", [vmap_of_grad, hvp], ids=lambda f: f.__name__)
def test_transform_of_one_step(transform):
    row = CELLS["lstm"]
    args = problem(row, SIZE)

    def over(step):
        def sequence(params, state, xs):
            return jax.lax.scan(lambda s, x: step(params, s, x), state, xs)

        return loss_of(sequence)

    assert_close(transform(over(row.step), args), transform(over(row.step_autodiff), args))


@pytest.mark.parametrize("options", [{}, {"residuals": 2}, {"masked": True}], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_shard_map_over_eight_devices(cell, options):
    """Params are replicated and the batch is split, with the default check_vma=True."""
    row = CELLS[cell]
    T, B, D, H = 4, 16, 2, 3
    params, state, xs = problem(row, (T, B, D, H))
    masked = options.get("masked", False)
    rest = {k: v for k, v in options.items() if k != "masked"}
    lengths = jnp.arange(B) % (T + 1)
    mesh = jax.make_mesh((8,), ("data",))

    def grads(sequence, **options):
        def local(params, state, xs, lengths):
            more = options | ({"lengths": lengths} if masked else {})

            def loss(params, state, xs):
                last, hs = sequence(params, state, xs, **more)
                return jnp.sum(jnp.sin(last.h)) + jnp.sum(jnp.cos(hs))

            return jax.grad(loss, (0, 1, 2))(params, state, xs)

        return local

    specs = (P(), P("data"), P(None, "data"), P("data"))
    sharded = jax.shard_map(
        grads(row.sequence, **rest), mesh=mesh, in_specs=specs, out_specs=specs[:3]
    )
    with jax.set_mesh(mesh):
        args = (params, state, xs, lengths)
        placed = [
            jax.tree.map(lambda x, spec=spec: jax.device_put(x, jax.NamedSharding(mesh, spec)), arg)
            for arg, spec in zip(args, specs, strict=True)
        ]
        got = jax.device_get(jax.jit(sharded)(*placed))
    want = jax.jit(grads(row.sequence_autodiff))(*args)
    assert_close(got, want)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("cell", CELLS)
def test_the_jitted_gradient_lowers_elsewhere(cell, platform):
    row = CELLS[cell]
    args = problem(row, dtype=jnp.float32)
    grad = jax.jit(jax.grad(lambda *a: jnp.sum(row.sequence(*a)[1]), (0, 1, 2)))
    assert "while" in grad.trace(*args).lower(lowering_platforms=(platform,)).as_text()


def test_forward_mode_is_an_error_of_jax_and_works_on_the_twin():
    params, state, xs = problem(CELLS["lstm"])
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda xs: jl.lstm(params, state, xs)[1], (xs,), (xs,))
    jax.jvp(lambda xs: jl.lstm_autodiff(params, state, xs)[1], (xs,), (xs,))
