"""The referee on trial: it must see what is wrong, and only that."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_lstm import referee
from jax_lstm.referee.comparison import along, distance, exactly, pullback, random_cotangents
from jax_lstm.referee.differences import central_differences, complex_step, contract
from jax_lstm.referee.report import NOT_ANALYTIC


def f(x, W):
    return jnp.tanh(x @ W)


def f_bwd(args, y, dy):
    (x, W), da = args, dy * (1 - y * y)
    return da @ W.T, x.T @ da


def problem(dtype=np.float64, n=4):
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal(s).astype(dtype) for s in ((n, 3), (3, 3)))


def judged(twin, args):
    routes = {"by hand": referee.twins(f, twin), "jax.vjp": referee.pullback(f)}
    return referee.Report(tuple(referee.compare_routes(routes, args, names=("x", "W"))))


DTYPES = ["float64", "float32", "bfloat16", "float16"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_right_derivative_passes(dtype):
    report = judged(f_bwd, problem(jnp.dtype(dtype)))
    assert report, report.table()
    assert [row.array for row in report.rows] == ["value", "dx", "dW"]
    assert {row.dtype for row in report.rows} == {dtype}


def changed(change):
    return lambda args, y, dy: change(*f_bwd(args, y, dy))


MUTANTS = {
    "sign": changed(lambda dx, dW: (-dx, dW)),
    "factor": changed(lambda dx, dW: (dx, 2 * dW)),
    "swapped": changed(lambda dx, dW: (dW, dx)),  # same shapes, with three examples
    "zero": changed(lambda dx, dW: (0 * dx, dW)),
    "transposed": changed(lambda dx, dW: (dx, dW.T)),
    "one example": changed(lambda dx, dW: (dx.at[0].multiply(0), dW)),
    "NaN": changed(lambda dx, dW: (dx, dW.at[0, 0].set(jnp.nan))),
    "one output missing": changed(lambda dx, dW: (dx,)),
    "another shape": changed(lambda dx, dW: (dx[:1], dW)),
    "sum for product": lambda args, y, dy: f_bwd(args, y, dy * (1 + y * y)),
    "y for 1 - y²": lambda args, y, dy: f_bwd(args, y, dy * y),
    "raises": lambda args, y, dy: 1 / 0,
}


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])  # the narrowest verdict and the widest
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_derivative_fails(mutant, dtype):
    report = judged(MUTANTS[mutant], problem(jnp.dtype(dtype), n=3))
    assert not report, report.table()
    assert "FAIL" in report.table()


@pytest.mark.parametrize(("dtype", "off"), [("float64", 1e-11), ("float32", 1e-5)])
def test_a_small_factor_fails(dtype, off):
    off = np.dtype(dtype).type(1 + off)
    report = judged(changed(lambda dx, dW: (dx, dW * off)), problem(dtype))
    assert [row.array for row in report.failures()] == ["dW"]


def test_an_element_too_small_for_the_norm_is_seen():
    def g(x):
        return x * jnp.array([1.0, 1e-14])

    def g_bwd(args, y, dy):
        return dy * jnp.array([1.0, 0.0])

    routes = {"by hand": referee.twins(g, g_bwd), "jax.vjp": referee.pullback(g)}
    (_, row) = referee.compare_routes(routes, (np.ones(2),))
    assert row.relative < 1e-13
    assert not row.ok


def test_fewer_bits_than_the_array_fail():
    report = judged(changed(lambda dx, dW: (dx, dW.astype(jnp.float32))), problem())
    assert "bits" in report.failures()[0].note


def test_compare_judges_each_function_by_the_last():
    @jax.custom_vjp
    def wrong(x, W):
        return f(x, W)

    wrong.defvjp(lambda x, W: (f(x, W), (x, W)), lambda args, dy: (0 * args[0], 0 * args[1]))
    functions = {"right": lambda x, W: f(x, W), "wrong": wrong, "auto": f}
    report = referee.compare(functions, *problem())
    assert [(row.route, row.array, row.ok) for row in report.rows] == [
        ("right", "value", True),
        ("right", "dargs[0]", True),
        ("right", "dargs[1]", True),
        ("wrong", "value", True),
        ("wrong", "dargs[0]", False),
        ("wrong", "dargs[1]", False),
    ]
    assert not report
    assert json.loads(report.to_json(seed=0))["ok"] is False


def test_verdicts_in_words():
    """Right, right to half of the digits, and not at all."""
    words = {"as exact as autodiff": 0.0, "worse than autodiff by a factor of": 1e-9}
    for said, off in (words | {"a different gradient": 1e-2}).items():
        report = judged(changed(lambda dx, dW, off=off: (dx, dW * (1 + off))), problem())
        row = report.rows[-1]
        assert row.verdict().startswith(said)
        assert row.ratio == pytest.approx(1 + off, rel=1e-14)
        assert row.cosine == pytest.approx(1, rel=1e-14)
        assert said in report.table().splitlines()[-1]
        assert json.loads(report.to_json())["rows"][-1]["verdict"] == row.verdict()
    narrow = judged(changed(lambda dx, dW: (dx, dW * np.float32(1.00001))), problem(np.float32))
    assert narrow.rows[-1].verdict().startswith("worse than autodiff by a factor of")


def test_where_a_gradient_is_worst():
    report = judged(changed(lambda dx, dW: (dx.at[2, 1].multiply(2), -dW)), problem())
    _, dx, dW = report.rows
    assert dx.worst_at == (2, 1)
    assert dx.worst == pytest.approx(1)
    assert dW.cosine == pytest.approx(-1)
    assert dW.ratio == pytest.approx(1)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_remainder_of_the_right_gradient_shrinks_as_t_squared(dtype):
    args = problem(dtype, n=300)
    report = referee.slope_test(f, *args)
    assert report, report.table()
    assert all(abs(s.slope - 2) < 0.1 for s in report.slopes)
    assert json.loads(report.to_json(seed=0))["ok"] is True
    assert referee.slope_test(lambda x, W: (x, 2 * W), *args)  # linear: no remainder at all


@pytest.mark.parametrize("off", [1e-2, 1e-4])
def test_the_remainder_of_a_wrong_gradient_shrinks_as_t(off):
    route = referee.twins(f, changed(lambda dx, dW: (dx * (1 + off), dW)))
    report = referee.slope_test(f, *problem(n=300), route=route)
    assert not report
    assert "FAIL" in report.table()


def test_compare_works_where_float64_is_switched_off():
    with jax.enable_x64(False):
        assert referee.compare({"again": lambda x, W: f(x, W), "auto": f}, *problem(np.float32))
        with pytest.raises(ValueError, match="jax_enable_x64"):
            referee.compare({"again": f, "auto": f}, *problem())


@pytest.mark.parametrize(
    ("functions", "args", "match"),
    [
        ({"auto": f}, problem(), "`functions`"),
        ({"a": f, "b": f}, (1.0, 2.0), "arrays"),
        ({"a": f, "b": f}, (np.ones((1, 1), int),) * 2, "floating-point"),
        ({"a": f, "b": f}, (np.ones((1, 1), complex),) * 2, "real"),
    ],
)
def test_bad_input_is_named(functions, args, match):
    with pytest.raises(ValueError, match=match):
        referee.compare(functions, *args)


def test_names_are_one_per_argument():
    with pytest.raises(ValueError, match="`names`"):
        referee.compare({"a": f, "b": f}, *problem(), names=("x",))


def test_empty_and_zero_leaves():
    zero, some = np.zeros((8, 3)), np.ones((8, 3))
    assert distance(np.zeros((8, 0)), np.zeros((8, 0)), 0.0, "float64") == (0, 0, 0)
    assert distance(zero, zero, 0.0, "float64") == (0, 0, 0)
    assert distance(some, zero, 1.0, "float64")[1] > 1
    assert distance(1e-320 * some, zero, 0.0, "float64")[1] < 1e-12  # no full precision down there
    assert math.isnan(distance(some, some * np.nan, 1.0, "float64")[1])
    assert judged(f_bwd, problem(n=0))


def test_a_report_of_nothing_is_not_true():
    assert not referee.Report(())


def test_json_has_no_nan():
    row = referee.failure("f", "all", "jax.vjp", "float64", "ValueError: no")
    found = json.loads(referee.Report((row,)).to_json(seed=3), parse_constant=pytest.fail)
    assert found["facts"] == {"seed": 3}
    assert found["rows"][0]["relative"] == "NaN"
    assert found["rows"][0]["beside"] is None
    assert found["rows"][0]["ok"] is False


# Differences ----------------------------------------------------------------------------------


@pytest.mark.parametrize("derivatives", [central_differences, complex_step])
def test_differences_of_known_derivatives(derivatives):
    x, n = np.array([0.3, -1.2, 2.5]), np.array([1, 2, 3])  # integers are left alone
    J = derivatives(lambda x, n: {"a": jnp.sin(x), "b": (x**2)[:2]}, x, n)
    want = np.concatenate([np.diag(np.cos(x)), np.diag(2 * x)[:, :2]], axis=1)
    np.testing.assert_allclose(J, want, rtol=0, atol=1e-11)


def test_contraction_is_the_cotangent():
    args = problem()
    dys = random_cotangents(f, args, seed=0)
    _, *cotangents = along(pullback(f), args, dys)
    derivatives = contract(complex_step(f, *args), args, dys)
    for got, want in zip(derivatives, cotangents, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("mutant", [None, "sign", "zero", "one example"])
def test_differences_judge(mutant, dtype):
    args = problem(dtype)
    twin = MUTANTS[mutant] if mutant else f_bwd
    routes = {"by hand": referee.twins(f, twin), "jax.vjp": referee.pullback(f)}
    rows = list(referee.compare_differences(routes, f, f, args, names=("x", "W")))
    assert [row.against for row in rows] == ["central"] * 2 + ["complex step"] * 2
    assert [row.ok for row in rows] == [mutant is None, True] * 2


def test_exactly_changes_no_number():
    x = np.asarray([0.1, 3.0]).astype(jnp.bfloat16)
    (same,) = exactly((x,))
    assert same.dtype == np.float64
    assert (same.astype(jnp.bfloat16) == x).all()


@pytest.mark.parametrize("factor", [1.0, 1.01], ids=["right", "wrong"])
def test_complex_steps_judge_no_maximum(factor):
    """They are shown to judge nothing, and central differences judge all the same."""
    f = lambda x: x * x + jnp.abs(x).astype(x.dtype)  # |x + iv| has no imaginary part
    scaled = lambda args, dy: tuple(factor * d for d in jax.vjp(f, *args)[1](dy))
    routes = {"mine": referee.twins(f, lambda args, y, dy: scaled(args, dy))}
    routes["jax.vjp"] = referee.pullback(f)
    args = (np.array([0.7, -0.4, 1.3]),)
    rows = list(referee.compare_differences(routes, f, f, args, names=("x",), seed=0))
    verdicts = {row.against: row.line().split()[-1] for row in rows if row.array != "value"}
    assert [r.note for r in rows if r.against == "complex step"] == [NOT_ANALYTIC]
    assert verdicts["central"] == ("PASS" if factor == 1 else "FAIL")
    assert bool(referee.Report(tuple(rows))) is (factor == 1)
