"""Functions on trial may write into what they are given: nothing that the referee needs."""

import jax.numpy as jnp
import numpy as np
import pytest

from jax_lstm import referee
from tests.referee.test_taps import MINE, my_problem, wrong_keep


def masked(cell):
    """The cell with a mask on U, whose `prepare` writes into the mask after it was used."""
    mask = np.arange(1.0, 11.0)[None] / 5  # a row: ranks are not promoted

    def prepare(params, consts):
        U = params.U * consts.copy()
        consts *= 2.0
        return params._replace(U=U)

    def prepare_bwd(params, dw):
        return dw._replace(U=dw.U * mask), None

    return cell._replace(prepare=prepare, prepare_bwd=prepare_bwd), mask.copy()


@pytest.mark.slow
def test_taps_and_mutants_hand_out_copies_of_consts():
    cell, mask = masked(MINE)
    before = mask.copy()
    assert referee.taps(cell, *my_problem(), consts=mask)
    assert referee.mutation_test(cell, *my_problem(), consts=mask).right
    assert np.array_equal(mask, before)
    wrong, mask = masked(MINE._replace(step_bwd=wrong_keep))
    assert referee.taps(wrong, *my_problem(), consts=mask).first().name == "dh_prev"


def test_the_slope_test_and_compare_hand_out_copies():
    x, n = np.linspace(0.1, 0.9, 4), np.arange(4)

    def power(x, n):
        y = x ** jnp.asarray(n.copy() if isinstance(n, np.ndarray) else n, float)
        if isinstance(n, np.ndarray):
            n += 1
        return y

    assert referee.slope_test(power, x, n)
    assert referee.compare({"mine": power, "jax": power}, x, n)
    assert np.array_equal(n, np.arange(4))


def test_a_stage_may_take_from_what_it_is_given():
    def stage(args):
        return args.pop("x") * args.pop("y")

    def stage_bwd(args, y, dy):
        (args,) = args
        return args.pop("x") * 0 + dy * args["y"], dy * 1.0

    routes = {
        "by hand": referee.twins(stage, stage_bwd),
        "jax.vjp": referee.pullback(lambda args: args["x"] * args["y"]),
    }
    args = ({"x": np.linspace(1.0, 2.0, 3), "y": np.linspace(3.0, 4.0, 3)},)
    rows = {row.array: row.ok for row in referee.compare_routes(routes, args, names=("a",))}
    assert rows == {"value": True, "da['x']": True, "da['y']": False}
    assert set(args[0]) == {"x", "y"}


def test_a_change_of_a_table_may_write_into_the_gradient():
    truth = {"dx": np.linspace(1.0, 2.0, 12)[None]}

    def doubled(gradient):
        gradient["dx"] *= 2
        return gradient

    table = referee.Table(
        {},
        lambda settings: truth,
        {"double": ("dx doubled", doubled)},
        lambda a, b: False,
        {"dx": 1.0},
        ("dx",),
        (),
        {},
        {},
    )
    given = [referee.Given("dx", "dx", np.linspace(1.0, 2.0, 12), np.ones(12, bool))]
    assert referee.diagnose(given, table, pairs=True)
    twice = [given[0]._replace(values=2 * given[0].values)]
    assert referee.diagnose(twice, table).explanations[0].names == ("double",)
