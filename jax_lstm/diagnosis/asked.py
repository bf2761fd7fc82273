"""A function on trial is asked again, for each step by itself."""

import numpy as np

from jax_lstm import referee
from jax_lstm.diagnosis.given import call, given_of
from jax_lstm.diagnosis.kinds import kind_of
from jax_lstm.diagnosis.problem import problem_of
from jax_lstm.diagnosis.tables import table_for, table_of
from jax_lstm.engine.shapes import shape_of
from jax_lstm.interop.described import from_ours


def one_step_each(function, brought, verdict):
    """A function is asked again, for each step by itself: is a step wrong, or what is carried?

    First nothing comes from t+1. Where the problem has cotangents of the last state, each step is
    then asked with some. A function that looks at no state, where the problem has none, can be
    asked for the first step alone.
    """
    form, layout, cell, settings = brought.form, brought.layout, brought.cell, brought.settings
    arrays, forward = brought.arrays, brought.form.forward
    kind, ours = kind_of(cell), form.to_ours(arrays)
    whole, sizes = (
        problem_of(ours, settings, cell, brought.sizes, forward),
        brought.sizes | {"T": 1},
    )
    assert kind.states is not None
    before, truth = kind.states(whole), kind.gradients(whole, [()])
    last = [k for k in ("dh_T", "dc_T") if k in ours]
    unsaid = [f"{k}0" for k in whole.state if f"{k}0" not in ours]

    def arrays_of(t, beyond):
        cut = {k: ours[k][t : t + 1] for k in ("xs", "dhs", "ys") if k in ours}
        ends = {k: truth[f"{k[:2]}s"][0, t] if beyond else 0 * ours[k] for k in last}
        return ours | cut | ends | {f"{k}0": x for k, x in before[t].items()}

    def ask(one):
        known = {k: v for k, v in form.problem.items() if set(of_ours(form, k, sizes)) <= set(one)}
        return call(function, from_ours(form.to_ours, known, sizes, one))

    def sees_no_state(one):
        bare = {k: x for k, x in one.items() if k not in unsaid}
        a, b = ask(one), ask(bare)
        return all(k in b and np.array_equal(x, b[k]) for k, x in a.items())

    right, t, given = "", len(before) - 1, []
    try:
        blind = bool(unsaid) and sees_no_state(arrays_of(t, False))
        for beyond in (False, True) if last else (False,):
            for t in [0] if blind else reversed(range(len(before))):
                one = arrays_of(t, beyond)
                given, dtype = given_of(ask(one), form, layout, sizes)
                table = table_of(cell, problem_of(one, settings, cell, sizes, forward))
                found = referee.diagnose(given, table_for(table, given), dtype=dtype, pairs=False)
                if not found and beyond:
                    wrong = wrong_step(found, given, table, dtype)
                    return f"{right}; with what comes from t+1, step t={t}: {wrong}"
                if not found:
                    return f"step t={t} by itself: {wrong_step(found, given, table, dtype)}"
            names = ", ".join(g.name for g in given)
            right = f"{'step t=0' if blind else 'every step'} by itself is right ({names})"
    except Exception as error:
        # somebody's function may raise anything, and return anything, at a problem that it was not
        # made for; the verdict stands already, and the sentence beside it tells the error
        return f"step t={t} by itself could not be asked: {referee.first_line(error)}"
    if blind:
        return f"{right}; the others need {' and '.join(unsaid)}, at which the function never looks"
    return right + between(verdict, kind)


def wrong_step(found, given, table, dtype):
    """What is wrong in a step: the deltas, which the weights show gate by gate, or what follows."""
    if found.explanations:
        return found.sentence()
    wrong = [name for name, *_, ok in found.leaves if not ok]
    blocks = set(table.blocks) - set(table.steps)
    weights = [g for g in given if g.name in wrong and g.leaf in blocks]
    if weights:
        mine = referee.diagnose(weights, table_for(table, weights), dtype=dtype, pairs=False)
        return f"wrong {mine.first}"
    right = [name for name, *_, ok in found.leaves if ok]
    times = [
        f", {factor:.6g} times the right one" for _, factor in found.multiples[: len(wrong) < 2]
    ]
    beside = f"; {', '.join(right)} right" if right else ""
    return f"wrong in {', '.join(wrong)}{''.join(times)}{beside}"


def between(verdict, kind):
    """Where to look when every step is right: at what is carried, at what is summed, or at what is
    handed out at each step while the sums and the first state show that what is carried is right.
    """
    carried = [ok for (*_, ok), leaf in verdict if leaf not in kind.blocks]
    wrong = [(name, leaf) for (name, *_, ok), leaf in verdict if not ok]
    every, right = ", ".join(name for name, _ in wrong), ", and so is what is carried: look at how"
    if carried and all(carried):
        return f"{right} {every} is summed over steps"
    if {leaf for _, leaf in wrong} == {"dxs"} and {"dW", "dU"} <= {leaf for _, leaf in verdict}:
        return f"{right} {every} is put together, or made at some t"
    return ": look at what is carried from step to step, or is done otherwise at some t"


def of_ours(form, name, sizes):
    """Which of our names an array of the layout has; none for a part of one."""
    return form.to_ours({name: np.zeros(shape_of(form.problem[name], sizes))})
