"""Second order by hand: products with the Hessian, the Gauss-Newton and the Fisher matrix, and the
R-operator below them, against JAX's forward over reverse of the twin, in float64 at 1e-11."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree as ravel

import jax_lstm as jl
from jax_lstm import stages
from tests.tables import CELLS, SIZE, assert_close, everything, masks_of, normal_like, problem

T, B, D, H = SIZE
TOLERANCE = 1e-11
RNG, (MASK, RESETS) = np.random.default_rng(1), masks_of()
OPTIONS = {"plain": {}, "everything": everything()}


def losses(state, hs):
    """A number per example, of every output, none of them like another."""
    T, H = hs.shape[0], hs.shape[-1]
    weights = jnp.arange(1.0, T * H + 1).reshape((T, 1, H))
    of_state = sum(jnp.sin(x).reshape((x.shape[0], -1)).sum(-1) for x in jax.tree.leaves(state))
    return (jnp.cos(hs) * weights).sum((0, 2)) + of_state


def loss(state, hs):
    return losses(state, hs).sum()


def of_arguments(loss, cell, options):
    """The loss of the twin's outputs, by (params, state, xs) or these and reset_state."""
    twin = jl.make_rnn(cell)[1]

    def plain(params, state, xs, *fresh):
        more = {"reset_state": fresh[0]} if fresh else {}
        return loss(*twin(params, state, xs, **options, **more))

    return plain


def run_of(product, args, dots, loss, options):
    more = {"reset_state": args[3]} if len(args) > 3 else {}
    return product(*args[:3], dots, loss, **options, **more)


def compare_hvp(cell, args, dots, options):
    plain = of_arguments(loss, cell, options)

    @jax.jit
    def by_jax(args, dots):
        grad = jax.value_and_grad(plain, tuple(range(len(args))))
        (value, gradient), (_, product) = jax.jvp(grad, args, dots)
        return value, gradient, product

    got = run_of(jl.make_hvp(cell), args, dots, loss, options)
    assert_close(got, by_jax(args, dots), TOLERANCE)


def slow_but(quick, names):
    return [k if k in quick else pytest.param(k, marks=pytest.mark.slow) for k in names]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("cell", slow_but(("lstm",), CELLS))
def test_hessian_vector_products(cell, options):
    row, options = CELLS[cell], OPTIONS[options]
    args = problem(row)
    args = (*args, normal_like(5, args[1])) if "resets" in options else args
    dots = tuple(normal_like(20 + n, x) for n, x in enumerate(args))
    compare_hvp(row.cell, args, dots, options)


def test_masks_are_constants():
    """Of cells made of cells, whose own tangents the wrapper does not know."""
    params, state, xs = problem(CELLS["lstm"])
    cell = jl.zoneout(jl.recurrent_dropout(jl.LSTM))
    masks = tuple((RNG.random((T, B, H)) < 0.5).astype(float) for _ in state)
    dots = normal_like(20, params), normal_like(21, state)
    zeros = jax.tree.map(np.zeros_like, masks)
    options = {"consts": 2.0 * (RNG.random((B, H)) < 0.5), "mask": MASK}
    dots = (*dots, (normal_like(22, xs), zeros))
    compare_hvp(cell, (params, state, (xs, masks)), dots, options)
    ones = jax.tree.map(np.ones_like, masks)
    run = functools.partial(jl.make_hvp(cell), params, state, (xs, masks), loss=loss, **options)
    assert_close(run((*dots[:2], (dots[2][0], ones))), run(dots))


@pytest.fixture(scope="module")
def matrices():
    """The LSTM's own Jacobian and the loss's Hessian, by JAX: all three matrices follow."""
    args = problem(CELLS["lstm"])
    options = {"mask": MASK, "resets": RESETS}
    x, back = ravel(args)
    twin = lambda x: ravel(jl.lstm_autodiff(*back(x), **options))[0]
    outputs, of_outputs = ravel(jl.lstm_autodiff(*args, **options))
    J = jax.jit(jax.jacfwd(twin))(x)
    H = jax.jit(jax.hessian(lambda y: loss(*of_outputs(y))))(outputs)
    K = jax.jit(jax.jacrev(lambda y: losses(*of_outputs(y))))(outputs)
    dots = tuple(normal_like(20 + n, x) for n, x in enumerate(args))
    return (
        args,
        options,
        dots,
        {"gauss_newton": J.T @ (H @ (J @ ravel(dots)[0]))}
        | {"fisher": J.T @ (K.T @ (K @ (J @ ravel(dots)[0])))},
    )


def test_gauss_newton_and_fisher(matrices):
    args, options, dots, want = matrices
    value, product = jl.lstm_gauss_newton(*args, dots, loss, **options)
    values, of_fisher = jl.lstm_fisher(*args, dots, losses, **options)
    outputs = jl.lstm(*args, **options)
    assert_close((value, values), (loss(*outputs), losses(*outputs)))
    flat = lambda tree: ravel(tree)[0]
    assert_close(flat(product), want["gauss_newton"], TOLERANCE)
    assert_close(flat(of_fisher), want["fisher"], TOLERANCE)


@pytest.mark.slow
def test_of_a_likelihood_gauss_newton_is_the_expected_fisher():
    """Softmax over V = 3: the mean of Σ ∇l ∇lᵀ over targets drawn by the model, summed in full."""
    params, state, xs = problem(CELLS["lstm"], (2, 1, 2, 3))
    dots = normal_like(3, params), None, None

    def at(target):
        def losses(state, hs):
            return -jax.nn.log_softmax(hs[-1])[:, target]

        return losses

    summed = lambda state, hs: at(0)(state, hs).sum()
    _, (want, *_) = jl.lstm_gauss_newton(params, state, xs, dots, summed)
    probabilities = jax.nn.softmax(jl.lstm(params, state, xs)[1][-1, 0])
    every = [jl.lstm_fisher(params, state, xs, dots, at(k))[1][0] for k in range(3)]
    mean = jax.tree.map(
        lambda *g: sum(p * x for p, x in zip(probabilities, g, strict=True)), *every
    )
    assert_close(mean, want, TOLERANCE)


def test_the_r_operator_goes_on_above_a_layer():
    """A readout with parameters of its own; `back` leaves the jit that made it."""
    args = problem(CELLS["lstm"])
    head = normal_like(7, jax.ShapeDtypeStruct((H, 2), np.float64))
    dots = tuple(normal_like(20 + n, x) for n, x in enumerate((*args, head)))

    def above(head, outputs):
        return jnp.sum(jnp.sin(outputs[1] @ head)) + jnp.sum(outputs[0].c)

    ys, ys_dot, back = jax.jit(jl.lstm_rop)(*args, dots[:3])
    grads, products = jax.jvp(jax.grad(above, (0, 1)), (head, ys), (dots[3], ys_dot))
    got = back(grads[1], products[1])

    @jax.jit
    def by_jax(args, head):
        whole = lambda params, state, xs, head: above(head, jl.lstm_autodiff(params, state, xs))
        return jax.jvp(jax.grad(whole, (0, 1, 2, 3)), (*args, head), dots)

    (*first, dhead), (*second, dhead_dot) = by_jax(args, head)
    want = tuple(first), tuple(second)
    assert_close((*got, grads[0], products[0]), (*want, dhead, dhead_dot), TOLERANCE)


def test_what_is_masked_may_be_nan_and_many_directions_at_once():
    params, state, xs = problem(CELLS["lstm"])
    lengths = np.array([0, 4])
    bad = jnp.asarray(xs).at[:, 0].set(jnp.nan).at[4:].set(jnp.nan)
    dots = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), (normal_like(3, params), None, bad))

    @jax.jit
    def many(xs, dots):
        run = lambda dots: jl.lstm_hvp(params, state, xs, dots, loss, lengths=lengths)
        return jax.vmap(run)(dots)[2]

    got = many(bad, dots)
    clean = jnp.nan_to_num(xs, nan=0.0)
    assert_close(got, many(clean, (dots[0], None, jnp.nan_to_num(dots[2]))))
    assert_close(jax.tree.map(lambda x: x[1], got), jax.tree.map(lambda x: 2 * x[0], got))


@pytest.mark.slow
def test_xs_that_are_held_cost_nothing_and_change_nothing():
    args = problem(CELLS["lstm"])
    dot, zeros = normal_like(3, args[0]), jnp.zeros_like(args[2])
    run = functools.partial(jl.lstm_hvp, *args, loss=loss, residuals=2)
    assert_close(run(tangents=(dot, None, None)), run(tangents=(dot, None, zeros)))


# The stages' own ------------------------------------------------------------------------------

SECOND = {
    name: (twin, getattr(stages, f"{name}_bwd_jvp"))
    for name, twin in stages.TWINS.items()
    if hasattr(stages, f"{name}_bwd_jvp")
}


def tangents_of_the_twin(name, seed=0):
    """What the rule says and what JAX says of the twin, at random numbers in place of everything
    that the twin is given."""
    twin, rule = SECOND[name]
    sizes = dict(zip("TBDH", SIZE, strict=True))
    args = stages.twins.draw(twin, sizes, np.random.default_rng(seed))
    y = twin.stage(*args)
    residual = stages.twins.residual_of(twin, args, y)
    numbers = jax.tree.map(jnp.asarray, (residual, y))
    given = normal_like(seed + 1, numbers)
    dots = normal_like(seed + 2, numbers)

    def answer(residual, dy):
        return [x for x in stages.twins.every_answer(twin, residual, dy) if x is not None]

    found = rule(*given, *dots)
    found = [x for x in (found if isinstance(found, tuple) else (found,)) if x is not None]
    return found, jax.jvp(answer, given, dots)[1]


@pytest.mark.parametrize("name", SECOND)
def test_the_tangent_of_a_twin(name):
    assert_close(*tangents_of_the_twin(name))


BAD = {
    "no function": (lambda args: (*args, (None, None, None), 1.0), "`loss` must be"),
    "a vector": (lambda args: (*args, (None, None, None), losses), "`loss` must return one real"),
    "a shape": (lambda args: (*args, (None, args[1].h, None), loss), "`tangents[1]` must be like"),
}


@pytest.mark.parametrize("name", BAD)
def test_doors(name):
    given, message = BAD[name]
    with pytest.raises(ValueError, match=r"^") as error:
        jl.lstm_hvp(*given(problem(CELLS["lstm"])))
    assert message in str(error.value)
