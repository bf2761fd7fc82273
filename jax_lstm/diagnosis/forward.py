"""The forward is judged first: somebody's hs, cs and loss beside the truth, and beside variants.

A gradient that is right for another forward is no wrong gradient: where hs, cs or the loss are
given and a variant makes them, the gradient is judged against that.
"""

import itertools

import numpy as np

from jax_lstm import referee
from jax_lstm.diagnosis.brought import dtype_of
from jax_lstm.diagnosis.switches import is_forward
from jax_lstm.diagnosis.tables import noise_of
from jax_lstm.referee.search import eps_of

STATES = ("hs", "cs")


def judge_forward(kind, problem, ours, loss_value=None):
    """(the problem with the variants that explain what is given, what is to be said).

    kind: Mutants. ours: arrays by our names; hs and cs (T, B, H), where somebody has them.
    """
    want = {k: ours[k] for k in STATES if k in ours}
    if loss_value is not None:
        want["loss"] = np.full((1, 1, 1), float(loss_value))
    if not want or kind.forward is None:
        return problem, ()
    every = lambda p, settings: {k: x for k, x in kind.forward(p, settings).items() if k in want}
    right = every(problem, [()])
    if lacking := [k for k in want if k not in right]:
        raise ValueError(f"the problem has no {' and no '.join(lacking)} to compare with")
    given = [referee.Given(k, k, x, np.ones(x.shape, bool)) for k, x in want.items()]
    noise = noise_of(kind._replace(gradients=every), problem, right)
    dtypes = [dtype_of(x, x) for x in want.values()]
    eps = max(map(eps_of, dtypes))
    agrees = lambda found: referee.distances(given, noise, found).agrees(eps).all(0)
    names = ", ".join(want)
    if agrees(right)[0]:
        return problem, (f"the forward is right ({names})",)
    whose = [k for k in kind.inside(problem) if is_forward(k) and "forward alone" not in k]
    alone = [(k,) for k in whose]
    fit: list[tuple[str, ...]] = []
    for settings in (alone, [*itertools.combinations(whose, 2)]):
        for n in range(0, len(settings), 512):
            part = settings[n : n + 512]
            fit += [part[k] for k in np.flatnonzero(agrees(every(problem, part)))]
        if fit:
            break
    said = place(want, right, noise, eps)
    if not fit:
        return problem, (
            f"the forward is another: {said}; no known variant explains it, and the gradient is "
            "judged against the truth (another cell, such as peephole_lstm, is named by `cell`)",
        )
    says = kind.inside(problem)
    which = " or ".join(" and ".join(bare(says[k]) for k in names) for names in fit[:3])
    more = f" or {len(fit) - 3} more" if len(fit) > 3 else ""
    return problem._replace(forward=(*problem.forward, *fit[0])), (
        f"the forward is another: {said}; it is that with {which}{more}, and the gradient "
        "is judged against it",
    )


def bare(sentence):
    return sentence.replace(", forward and backward", "")


def place(want, right, noise, eps):
    """Where the forward is left first: in time, then by name."""
    series = {k: x for k, x in want.items() if k in STATES}
    for t in range(max((len(x) for x in series.values()), default=0)):
        for k in ("cs", "hs"):
            if k not in series:
                continue
            part = [referee.Given(k, k, series[k][t], np.ones(series[k][t].shape, bool))]
            found = referee.distances(part, noise, {k: right[k][:, t]})
            if not found.agrees(eps)[0, 0]:
                return f"{k} differs from t={t} on, by up to {found.max_abs[0]:.1g} there"
    got, true = float(want["loss"].reshape(-1)[0]), float(right["loss"].reshape(-1)[0])
    return f"the loss is {got:.6g} where it must be {true:.6g}"
